//! Looks on while a load runs: once a second it takes what was measured, reads the CPU and memory of the processes, shows where the load
//! is, serves it to Prometheus, and keeps all of it for the report.

mod expose;
pub(crate) mod metrics;
mod seen;
mod system;
mod view;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::bail;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::baseline::machine::Machine;
use crate::clock;
use crate::meter::{Level, Meter};
use crate::report::{self, Both, Report, Settings};
use crate::scenario::{CodecMix, Model, Scenario};
use crate::threshold::Threshold;
use expose::Exposed;
use seen::{Seen, Tick};
use system::System;
use view::View;

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
    end: SyncSender<()>,
    thread: JoinHandle<anyhow::Result<Report>>,
}

/// Begins. The load starts now: times of the report count from here.
///
/// # Errors
///
/// Nobody can listen at the address of the metrics, or the system gives no thread.
pub(crate) fn start(meter: Meter, scenario: &Scenario, options: Options) -> anyhow::Result<Watch> {
    let exposed = options.metrics.map(Exposed::start).transpose()?;
    // What is done is not needed here, and may be large.
    let mut scenario = scenario.clone();
    let settings = settings(&scenario);
    scenario.mix.clear();
    let versions = format!("kronos-load {}", env!("CARGO_PKG_VERSION"));
    let (begun_at, machine) = (clock::micros(), Machine::here(versions)?);
    let onlooker = Onlooker {
        meter,
        system: System::new(&options.processes),
        view: View::new(options.quiet),
        seen: Seen::default(),
        target: options.target,
        exposed,
        scenario,
        settings,
        machine,
        begun_at,
        begun: clock::instant(),
    };
    let (end, ended) = sync_channel(1);
    let thread = std::thread::Builder::new().name("watch".to_owned());
    let thread = thread.spawn(move || onlooker.run(&ended))?;
    Ok(Watch { end, thread })
}

impl Watch {
    /// Ends, and says what was seen, thresholds judged.
    ///
    /// # Errors
    ///
    /// The thread that looked on has panicked.
    pub(crate) fn finish(self) -> anyhow::Result<Report> {
        // A thread that is gone says why below.
        self.end.send(()).ok();
        match self.thread.join() {
            Ok(report) => report,
            // What it panicked with is on stderr.
            Err(_panicked) => bail!("whoever looked on has panicked"),
        }
    }
}

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);

/// The thread.
struct Onlooker {
    meter: Meter,
    system: System,
    view: View,
    seen: Seen,
    target: String,
    exposed: Option<Exposed>,
    scenario: Scenario,
    settings: Settings,
    machine: Machine,
    /// Microseconds since 1970.
    begun_at: u64,
    begun: Instant,
}

impl Onlooker {
    fn run(mut self, ended: &Receiver<()>) -> anyhow::Result<Report> {
        let mut last = self.begun;
        self.expose();
        loop {
            let wait = (last + TICK).saturating_duration_since(clock::instant());
            let is_over = !matches!(ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
            let now = clock::instant();
            self.look(now, now.saturating_duration_since(last));
            last = now;
            if is_over {
                self.view.clear();
                return self.report(now);
            }
            self.view.show(&self.seen, &self.settings);
        }
    }

    fn look(&mut self, now: Instant, took: Duration) {
        let at = now.saturating_duration_since(self.begun);
        let tick = Tick {
            at: at.as_secs_f64(),
            seconds: took.as_secs_f64(),
            wanted: self.scenario.wanted(at),
            users: self.meter.at(Level::Users),
            sockets: self.meter.at(Level::Sockets),
        };
        let reading = self.system.read();
        self.seen.second(tick, self.meter.take(), &reading);
        self.expose();
    }

    fn expose(&self) {
        if let Some(exposed) = &self.exposed {
            exposed.show(expose::render(&self.seen, &self.settings));
        }
    }

    fn report(self, now: Instant) -> anyhow::Result<Report> {
        let warnings = self.seen.warnings();
        let totals = self.seen.totals;
        let started = OffsetDateTime::from_unix_timestamp(i64::try_from(self.begun_at / 1_000_000)?)?;
        let mut report = Report {
            kronos_load: report::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings,
            target: self.target,
            server: self.meter.who(),
            machine: self.machine.finish()?,
            started_at: started.format(&Rfc3339)?,
            seconds: now.saturating_duration_since(self.begun).as_secs_f64(),
            passed: false,
            void: self.seen.void,
            interrupted: self.meter.interrupted(),
            warnings,
            thresholds: Vec::new(),
            broken: totals
                .broken
                .into_iter()
                .map(|(check, count)| (check.to_owned(), count))
                .collect(),
            errors: totals.errors,
            breaches: self.meter.violations().into_iter().map(Into::into).collect(),
            counts: totals.counts,
            latencies: totals
                .latencies
                .iter()
                .map(|(latency, pair)| (*latency, Both::of(pair)))
                .collect(),
            processes: self.seen.processes,
            series: self.seen.series,
        };
        judge(&mut report, &self.scenario.thresholds)?;
        Ok(report)
    }
}

/// Judges what must hold. Broken promises always fail; a scenario that says nothing else wants no errors either.
fn judge(report: &mut Report, thresholds: &[Threshold]) -> anyhow::Result<()> {
    let mut judged: Vec<_> = thresholds.iter().map(|threshold| threshold.judge(report)).collect();
    if thresholds.is_empty() {
        judged.push("errors == 0".parse::<Threshold>()?.judge(report));
    }
    if !thresholds.iter().any(Threshold::is_about_all_broken) {
        judged.push("broken == 0".parse::<Threshold>()?.judge(report));
    }
    report.thresholds = judged;
    report.passed = report.exit_code() == 0;
    Ok(())
}

fn settings(scenario: &Scenario) -> Settings {
    let network = &scenario.network;
    let mut said = Vec::new();
    if let Some(every) = network.cut_every {
        said.push(format!(
            "each device is cut every {every:?} on average, back after {:?}",
            network.away
        ));
    }
    if let Some(at) = network.storm_at {
        said.push(format!("everybody is cut at {at:?}, back after {:?}", network.away));
    }
    if network.devices > 1 {
        said.push(format!("{} devices for each user", network.devices));
    }
    if network.slow_share > 0.0 {
        let (share, bytes) = (network.slow_share * 100.0, network.slow_bytes_per_second);
        said.push(format!("{share} % of the devices read {bytes} bytes a second"));
    }
    let stage = |stage: &crate::scenario::Stage| report::Stage {
        seconds: stage.over.as_secs_f64(),
        to: stage.to,
    };
    Settings {
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        seed: scenario.seed,
        model: match scenario.model {
            Model::Open => "open".to_owned(),
            Model::Closed => "closed".to_owned(),
        },
        stages: scenario.stages.iter().map(stage).collect(),
        speed: scenario.speed,
        codec: match scenario.codec {
            CodecMix::Json => "json".to_owned(),
            CodecMix::Msgpack => "msgpack".to_owned(),
            CodecMix::Mixed => "mixed".to_owned(),
        },
        mix: scenario
            .mix
            .iter()
            .map(|part| (part.script.name.clone(), part.weight))
            .collect(),
        network: said,
    }
}

#[cfg(test)]
mod tests;
