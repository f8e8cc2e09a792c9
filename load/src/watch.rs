//! Looks on while a load runs: once a second it takes what was measured, reads the CPU and memory of the processes, shows where the load
//! is, serves it to Prometheus, and keeps all of it for the report.

use std::net::SocketAddr;
use std::time::Duration;

use crate::meter::Meter;
use crate::report::Report;
use crate::scenario::Scenario;

/// How it looks on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The server's address, for people.
    pub(crate) target: String,
    /// Processes on this machine whose CPU and memory are read: `server`, `simulator`, …, and their ids.
    pub(crate) processes: Vec<(&'static str, u32)>,
    /// Where Prometheus can ask.
    pub(crate) metrics: Option<SocketAddr>,
    /// No live view.
    pub(crate) quiet: bool,
}

/// Somebody who looks on, in a thread of its own.
#[derive(Debug)]
pub(crate) struct Watch {
    meter: Meter,
}

/// Begins. The load starts now: times of the report count from here.
pub(crate) fn start(meter: Meter, _scenario: &Scenario, _options: Options) -> anyhow::Result<Watch> {
    Ok(Watch { meter })
}

impl Watch {
    /// Ends, and says what was seen.
    pub(crate) fn finish(self) -> anyhow::Result<Report> {
        anyhow::bail!("the skeleton")
    }
}

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
