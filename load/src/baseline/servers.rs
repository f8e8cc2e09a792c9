//! The processes that a measurement compares, each started once.

use super::Baseline;
use crate::process::{self, Process};
use crate::stream::Way;

/// The simulator and everything in front of it.
pub(super) struct Servers {
    pub(super) simulator: Process,
    bare: Process,
    commit: Process,
    relaxed: Option<Process>,
}

impl Servers {
    /// Starts all of them; `env` is for the server.
    pub(super) async fn start(bench: &Baseline, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let place = &bench.place;
        let simulator = process::simulator(place, 50.0).await?;
        let upstream = simulator.address();
        let relaxed = if bench.relaxed {
            Some(process::kronos(place, upstream, &[env, &[("DURABILITY", "relaxed")]].concat()).await?)
        } else {
            None
        };
        Ok(Self {
            bare: process::bare(place, upstream).await?,
            commit: process::kronos(place, upstream, env).await?,
            relaxed,
            simulator,
        })
    }

    /// Returns the ways in the order of a round.
    pub(super) fn ways(&self) -> impl Iterator<Item = (Way, Option<&Process>)> {
        [(Way::Direct, None)]
            .into_iter()
            .chain(self.served().map(|(way, server)| (way, Some(server))))
    }

    /// Returns the ways that are a process.
    pub(super) fn served(&self) -> impl Iterator<Item = (Way, &Process)> {
        let relaxed = self.relaxed.as_ref().map(|server| (Way::Relaxed, server));
        [(Way::Bare, &self.bare), (Way::Commit, &self.commit)]
            .into_iter()
            .chain(relaxed)
    }
}
