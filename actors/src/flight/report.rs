//! What a timeline says: phases, moments, and how much of the time they explain.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use kronos_protocol::{
    event::TokenUsage,
    ids::{RunId, SessionId},
};
use serde::Serialize;

use super::{Call, Moment, Phase, Timeline};
use crate::clock::Millis;

/// What follows the end: each from one moment to the next.
const TAIL: [(&str, Moment, Moment); 3] = [
    ("final_commit", Moment::End, Moment::EndDurable),
    ("final_write", Moment::EndDurable, Moment::EndWritten),
    ("ack", Moment::EndWritten, Moment::Acked),
];

/// Tokens of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Read by the model, cached ones included.
    pub input: u64,
    /// Of those, from the cache.
    pub cached: u64,
    /// Written by the model.
    pub output: u64,
    /// Of those, thoughts.
    pub reasoning: u64,
}

impl Tokens {
    pub(super) fn of(usage: &[TokenUsage]) -> Self {
        let sum = |of: fn(&TokenUsage) -> Option<u64>| usage.iter().filter_map(of).sum();
        Self {
            input: sum(|usage| usage.input_tokens),
            cached: sum(|usage| usage.cached_input_tokens),
            output: sum(|usage| usage.output_tokens),
            reasoning: sum(|usage| usage.reasoning_tokens),
        }
    }
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: &'static str,
    /// All of it, in milliseconds.
    pub ms: f64,
    /// How often.
    pub count: u32,
    /// The longest time.
    pub longest_ms: f64,
    /// The run did nothing else meanwhile: such phases add up to the time that is explained.
    pub exclusive: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MomentReport {
    /// What.
    pub name: &'static str,
    /// When, in milliseconds since the start.
    pub at_ms: f64,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallReport {
    /// The tool.
    pub tool: String,
    /// When it left, in milliseconds since the start.
    pub began_ms: f64,
    /// When it was over.
    pub ended_ms: Option<f64>,
    /// What came of it.
    pub outcome: Option<&'static str>,
}

/// Pauses between two texts that readers may see.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gaps {
    /// How many.
    pub count: u32,
    /// Half of them are shorter than this.
    pub median_below_ms: Option<f64>,
    /// The longest.
    pub longest_ms: f64,
}

/// A run in one line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TurnSummary {
    /// The run.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// When it began, in milliseconds since the Unix epoch.
    #[serde(skip)]
    pub started_ms: Millis,
    /// `finished`, `waiting`, `failed`, `cancelled`, `interrupted`; absent while it goes on.
    pub outcome: Option<&'static str>,
    /// Why it failed.
    pub code: Option<&'static str>,
    /// The model that was asked last.
    pub model: Option<String>,
    /// From its start to the last that is known of it.
    pub wall_ms: f64,
    /// From its start to the first text that readers may see.
    pub first_token_ms: Option<f64>,
    /// The exclusive phase that took most.
    pub largest: Option<&'static str>,
}

/// Everything that is known of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TurnReport {
    /// In short.
    #[serde(flatten)]
    pub summary: TurnSummary,
    /// The number of this attempt at its turn, after crashes.
    pub attempt: u32,
    /// Requests for an answer of the model.
    pub generations: u32,
    /// Requests to the model, those that failed too.
    pub attempts: u32,
    /// Of those, requests that repeated one.
    pub retries: u32,
    /// Texts of the model.
    pub deltas: u32,
    /// Tokens, once it is over.
    pub tokens: Option<Tokens>,
    /// Devices that were written the end.
    pub devices: u32,
    /// Of those, devices that have read it.
    pub devices_acked: u32,
    /// The part of the time that exclusive phases explain, from 0 to 1.
    pub explained: f64,
    /// Where the time went.
    pub phases: Vec<PhaseReport>,
    /// What happened, in its order.
    pub moments: Vec<MomentReport>,
    /// Pauses between texts.
    pub gaps: Gaps,
    /// Calls of tools, the first of them.
    pub calls: Vec<CallReport>,
}

#[expect(clippy::cast_precision_loss, reason = "times of a run")]
fn millis(nanos: u64) -> f64 {
    (nanos / 1000) as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "times of a run")]
fn of_micros(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn read(cell: &AtomicU32) -> u32 {
    cell.load(Ordering::Relaxed)
}

impl Timeline {
    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Microseconds from the start to a moment, if it came.
    fn moment(&self, moment: Moment) -> Option<u64> {
        self.moments[moment as usize].load(Ordering::Relaxed).checked_sub(1)
    }

    /// Microseconds from the start to the last that is known; until now while it goes on.
    fn wall(&self, now: Instant) -> u64 {
        let tail = [Moment::End, Moment::EndDurable, Moment::EndWritten, Moment::Acked];
        let ended = tail.into_iter().filter_map(|moment| self.moment(moment)).max();
        ended.unwrap_or_else(|| self.micros(now))
    }

    fn phases(&self) -> Vec<PhaseReport> {
        let phase = |phase: &Phase| {
            let spent = &self.phases[*phase as usize];
            PhaseReport {
                name: phase.as_str(),
                ms: millis(spent.nanos.load(Ordering::Relaxed)),
                count: read(&spent.count),
                longest_ms: millis(spent.longest.load(Ordering::Relaxed)),
                exclusive: phase.is_exclusive(),
            }
        };
        let tail = TAIL.iter().filter_map(|(name, from, to)| {
            let ms = of_micros(self.moment(*to)?.saturating_sub(self.moment(*from)?));
            Some(PhaseReport {
                name,
                ms,
                count: 1,
                longest_ms: ms,
                exclusive: true,
            })
        });
        let all = Phase::ALL.iter().map(phase).chain(tail);
        all.filter(|phase| phase.count > 0).collect()
    }

    fn summarize(&self, phases: &[PhaseReport], now: Instant) -> TurnSummary {
        let exclusive = phases.iter().filter(|phase| phase.exclusive);
        let largest = exclusive.max_by(|a, b| a.ms.total_cmp(&b.ms));
        let end = self.end.get();
        TurnSummary {
            run: self.run.clone(),
            session: self.session.clone(),
            started_ms: self.started_ms,
            outcome: end.map(|end| end.outcome),
            code: end.and_then(|end| end.code),
            model: self.words().model.as_deref().map(str::to_owned),
            wall_ms: of_micros(self.wall(now)),
            first_token_ms: self.moment(Moment::FirstToken).map(of_micros),
            largest: largest.map(|phase| phase.name),
        }
    }

    /// The run in one line.
    #[must_use]
    pub fn summary(&self, now: Instant) -> TurnSummary {
        self.summarize(&self.phases(), now)
    }

    fn gaps(&self) -> Gaps {
        let count: u32 = self.gaps.iter().map(read).sum();
        let mut seen = 0;
        let median = self.gaps.iter().position(|bucket| {
            seen += read(bucket);
            count > 0 && seen >= count.div_ceil(2)
        });
        Gaps {
            count,
            median_below_ms: median.map(|bucket| of_micros(1000 << bucket)),
            longest_ms: millis(self.longest_gap.load(Ordering::Relaxed)),
        }
    }

    /// Everything that is known of the run.
    #[must_use]
    pub fn report(&self, now: Instant) -> TurnReport {
        let phases = self.phases();
        let summary = self.summarize(&phases, now);
        let known: f64 = phases
            .iter()
            .filter(|phase| phase.exclusive)
            .map(|phase| phase.ms)
            .sum();
        let mut moments: Vec<_> = Moment::ALL
            .iter()
            .filter_map(|moment| {
                Some(MomentReport {
                    name: moment.as_str(),
                    at_ms: of_micros(self.moment(*moment)?),
                })
            })
            .collect();
        moments.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
        let call = |call: &Call| CallReport {
            tool: call.tool.as_ref().to_owned(),
            began_ms: of_micros(call.began),
            ended_ms: call.ended.map(|(at, _)| of_micros(at)),
            outcome: call.ended.map(|(_, outcome)| outcome),
        };
        let calls = self.words().calls.iter().map(call).collect();
        TurnReport {
            explained: if summary.wall_ms > 0.0 {
                (known / summary.wall_ms).min(1.0)
            } else {
                1.0
            },
            summary,
            attempt: self.attempt,
            generations: read(&self.generations),
            attempts: read(&self.attempts),
            retries: read(&self.retries),
            deltas: read(&self.deltas),
            tokens: self.end.get().map(|end| end.tokens),
            devices: read(&self.written),
            devices_acked: read(&self.acked),
            phases,
            moments,
            gaps: self.gaps(),
            calls,
        }
    }
}
