//! What a session says about itself to operators and tests: numbers and ids, never what was said in it.
//!
//! Costs nothing while nobody asks: everything here is read off what the session has anyway.

use kronos_protocol::ids::{ConnectionId, UserId};

use super::*;
use crate::{
    clock::Millis,
    session::{message::RunStatus, state::Step},
};

/// Reads the small state of a session.
#[derive(Debug, Message)]
#[rtype(result = "Observed")]
pub struct Observe;

/// Where a session is in its life, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its log is being read.
    Loading,
    /// It works.
    Live,
    /// It does not exist.
    Missing,
    /// Its log cannot be read now.
    Unavailable,
}

/// The small state of a session.
#[derive(Debug, Clone, MessageResponse)]
pub struct Observed {
    /// Whose it is.
    pub owner: Option<UserId>,
    /// Where it is in its life.
    pub phase: Phase,
    /// The newest event.
    pub last: Seq,
    /// The newest durable event.
    pub committed: Seq,
    /// The last event that lives in a segment.
    pub packed: Seq,
    /// The active run, or the one that waits for people.
    pub run: Option<ObservedRun>,
    /// Messages that wait.
    pub queued: usize,
    /// Questions that nobody has answered.
    pub questions: usize,
    /// Cursors.
    pub readers: Vec<ObservedReader>,
    /// Bytes of the log that are in memory.
    pub tail_bytes: usize,
    /// Answers that wait for a commit.
    pub waiting: usize,
    /// A commit is on its way.
    pub committing: bool,
    /// How often the log was folded.
    pub incarnation: u64,
    /// Panics since something was last committed.
    pub panics: u32,
    /// Commits that failed since the last that did not.
    pub commit_failures: u32,
    /// Time since it was last asked for something.
    pub idle: Duration,
}

/// A run as its session sees it.
#[derive(Debug, Clone)]
pub struct ObservedRun {
    /// Its id.
    pub id: RunId,
    /// When it started.
    pub started_ms: Millis,
    /// The number of its attempt since the turn last got on.
    pub attempt: u32,
    /// Steps that the turn has taken.
    pub steps: u32,
    /// The model that answers, once it does.
    pub model: Option<String>,
    /// It has ended with questions, and goes on when they are answered.
    pub waits: bool,
    /// What it waits for now: `model`, `tool`, `link`, `catalogue`, `summary`, `commit`, `people`, `client`.
    pub waits_for: Vec<&'static str>,
}

/// A cursor as its session sees it.
#[derive(Debug, Clone)]
pub struct ObservedReader {
    /// The connection; of REST one that is no websocket.
    pub connection: ConnectionId,
    /// Everything up to here it has taken.
    pub seq: Seq,
    /// Events that it has not taken yet.
    pub lag: u64,
    /// It has asked for more and waits for news; false: it is busy with what it got.
    pub waits: bool,
    /// For how long it has been busy with what it got.
    pub quiet: Duration,
}

impl Handler<Observe> for Session {
    type Result = Observed;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Observed {
        let now = self.deps.clock.instant();
        let visible = self.log.visible();
        let readers = self.readers.all.iter().map(|(id, reader)| ObservedReader {
            connection: id.connection.clone(),
            seq: reader.seen,
            lag: visible.saturating_sub(reader.seen),
            waits: reader.pull.is_some(),
            quiet: reader.place.rests_for(now),
        });
        let mut readers: Vec<_> = readers.collect();
        readers.sort_by(|a, b| a.connection.cmp(&b.connection));
        let open = |step: &Step| {
            let questions = step.questions();
            questions.filter(|question| question.verdict.is_none()).count()
        };
        Observed {
            owner: self.meta.as_ref().map(|meta| meta.owner.clone()),
            phase: match self.life {
                Life::Loading => Phase::Loading,
                Life::Live => Phase::Live,
                Life::Missing => Phase::Missing,
                Life::Unavailable(_) => Phase::Unavailable,
            },
            last: self.log.last(),
            committed: self.log.committed(),
            packed: self.log.packed(),
            run: self.observe_run(),
            queued: self.state.queue.len(),
            questions: self.state.step.as_ref().map_or(0, open),
            readers,
            tail_bytes: self.log.tail_bytes(),
            waiting: self.waiting.len(),
            committing: self.in_flight.is_some(),
            incarnation: self.incarnation,
            panics: self.panics,
            commit_failures: self.commit_failures,
            idle: now.saturating_duration_since(self.last_input),
        }
    }
}

impl Session {
    fn observe_run(&self) -> Option<ObservedRun> {
        if let Some(run) = &self.state.run {
            return Some(ObservedRun {
                id: run.id.clone(),
                started_ms: run.started_ms,
                attempt: run.record.attempt,
                steps: run.record.steps,
                model: self.running.model.clone(),
                waits: false,
                waits_for: self.waits_for(),
            });
        }
        if !self.state.waits() {
            return None;
        }
        let waiting = |past: &&state::PastRun| past.status == RunStatus::Waiting;
        let run = self.state.runs.iter().rfind(waiting)?;
        let step = self.state.step.as_ref()?;
        let people = step.has_open_questions().then_some("people");
        let client = step.calls.iter().any(|call| call.stage == state::Stage::Client);
        Some(ObservedRun {
            id: run.id.clone(),
            started_ms: run.started_ms,
            attempt: step.turn.1.attempt,
            steps: run.steps,
            model: None,
            waits: true,
            waits_for: people.into_iter().chain(client.then_some("client")).collect(),
        })
    }
}
