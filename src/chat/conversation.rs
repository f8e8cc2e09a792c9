//! One conversation over any number of connections: what to send when, and what it means that something came. Pure.
//!
//! A connection goes through `hello`, `attach` and everything that has no answer yet, in this order; the same after every
//! cut, with the same message ids and the cursor of the transcript. Sockets, clocks and screens are `drive.rs`'s business.

mod asks;
mod step;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use kronos_protocol::client::{Answer, Hello, Send, SendMode};
use kronos_protocol::{
    Attach, AttachTarget, Cancel, ClientFrame, Command, Detach, InterruptId, MessageId, Ref, RunId, SessionId,
};
use serde_json::{Map, Value};

use super::frame::{Attached, Begun, EventsFrame, Incoming, Refusal, Sent, Set, Welcome, body};
use super::transcript::{End, News, Transcript};
use super::view::Remark;
use step::Asked;
pub(super) use step::{Identity, Step};

/// How many of the user's messages of an older conversation are shown when it is opened.
const HISTORY: usize = 10;

/// Waiting time before a message that was refused for now is sent again, when the server names none.
const SEND_AGAIN: Duration = Duration::from_secs(1);

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Offline,
    Greeting,
    Attaching,
    Attached,
}

/// A message that the server has not confirmed.
#[derive(Debug)]
struct Outgoing {
    id: MessageId,
    text: String,
    /// What to do with it while a run is active.
    mode: SendMode,
    /// Whether it is on its way on this connection.
    sent: bool,
}

/// A conversation, online or not.
#[derive(Debug)]
pub(super) struct Conversation {
    identity: Identity,
    target: AttachTarget,
    session: Option<SessionId>,
    transcript: Transcript,
    stage: Stage,
    asked: HashMap<Ref, Asked>,
    next_ref: u64,
    outbox: VecDeque<Outgoing>,
    /// Messages of this client that were confirmed and have no run yet, and whether they are queued.
    waiting: HashMap<MessageId, bool>,
    /// The run that answers this client.
    own_run: Option<RunId>,
    /// A run that this client asked for, of which nothing was seen yet.
    expected: Option<RunId>,
    outcome: Option<End>,
    /// Answers to questions that the server has not confirmed.
    answers: HashMap<InterruptId, Answer>,
    /// What this connection is called, to tell its own answers from those of other devices.
    connection: Option<String>,
    settings: Map<String, Value>,
    /// What came before the first `caught_up`.
    history: Option<Vec<News>>,
    /// Whether only what answers this client is to be shown.
    only_own: bool,
    gaps: u32,
    lost: bool,
    /// The conversation before, until this one is known to exist.
    previous: Option<Box<Self>>,
}

impl Conversation {
    /// Returns a conversation that was never connected.
    pub(super) fn new(identity: Identity, target: AttachTarget, only_own: bool) -> Self {
        let history = matches!(target, AttachTarget::Existing(_)).then(Vec::new);
        Self {
            identity,
            target,
            session: None,
            transcript: Transcript::default(),
            stage: Stage::Offline,
            asked: HashMap::new(),
            next_ref: 0,
            outbox: VecDeque::new(),
            waiting: HashMap::new(),
            own_run: None,
            expected: None,
            outcome: None,
            answers: HashMap::new(),
            connection: None,
            settings: Map::new(),
            history,
            only_own,
            gaps: 0,
            lost: false,
            previous: None,
        }
    }

    /// Whether an answer to this client is running, or a message has not found its run yet.
    pub(super) fn is_busy(&self) -> bool {
        self.own_run.is_some() || !self.waiting.is_empty() || !self.outbox.is_empty() || self.awaits_a_run()
    }

    /// Whether a run was asked for that has not begun.
    fn awaits_a_run(&self) -> bool {
        let asked = |asked: &Asked| matches!(asked, Asked::Edit | Asked::Regenerate);
        self.expected.is_some() || !self.answers.is_empty() || self.asked.values().any(asked)
    }

    /// Whether the user has to wait before the next line: an answer to him is on its way, and nothing is in its way.
    pub(super) fn is_answering(&self) -> bool {
        let sending = self.outbox.iter().any(|outgoing| outgoing.sent);
        let accepted = self.waiting.values().any(|queued| !queued);
        self.stage != Stage::Offline && (self.own_run.is_some() || sending || accepted || self.awaits_a_run())
    }

    /// Whether it is being opened, so that nobody knows yet what there is to answer to.
    pub(super) fn is_opening(&self) -> bool {
        match self.stage {
            Stage::Offline => false,
            Stage::Greeting | Stage::Attaching => true,
            Stage::Attached => self.history.is_some(),
        }
    }

    /// Whether a run can be cancelled.
    pub(super) fn is_running(&self) -> bool {
        self.stage == Stage::Attached && self.transcript.run().is_some()
    }

    /// Whether messages have not left this client.
    pub(super) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Returns how the last run of this client ended.
    pub(super) fn outcome(&self) -> Option<&End> {
        self.outcome.as_ref()
    }

    /// A connection is open.
    pub(super) fn opened(&mut self) -> Vec<Step> {
        self.stage = Stage::Greeting;
        let Identity { token, client } = self.identity.clone();
        vec![self.ask(
            Asked::Hello,
            Hello {
                token,
                client,
                codec: None,
            },
        )]
    }

    /// The connection is gone. Says so once, if there was one.
    pub(super) fn lost(&mut self) -> Vec<Step> {
        let was_online = self.stage == Stage::Attached;
        self.stage = Stage::Offline;
        self.asked.clear();
        self.outbox.iter_mut().for_each(|outgoing| outgoing.sent = false);
        if was_online && !self.lost {
            self.lost = true;
            return vec![Step::Remark(Remark::Lost)];
        }
        Vec::new()
    }

    /// The user says something: it goes out now, or when the connection is back.
    pub(super) fn say(&mut self, id: MessageId, text: String, mode: SendMode) -> Vec<Step> {
        self.outcome = None;
        self.outbox.push_back(Outgoing {
            id,
            text,
            mode,
            sent: false,
        });
        self.send_pending()
    }

    /// The user wants the running answer to stop.
    pub(super) fn cancel(&mut self) -> Vec<Step> {
        let Some(session) = self.session.clone().filter(|_| self.stage == Stage::Attached) else {
            return Vec::new();
        };
        let cancel = Cancel {
            run: self.transcript.run().cloned(),
            ..Cancel::new(session)
        };
        vec![self.ask(Asked::Cancel, cancel)]
    }

    /// The user goes to another conversation; when that is refused, he is back in this one.
    pub(super) fn switch(&mut self, target: AttachTarget) -> Vec<Step> {
        let mut next = Self::new(self.identity.clone(), target, self.only_own);
        next.next_ref = self.next_ref;
        next.stage = self.stage;
        let old = std::mem::replace(self, next);
        let mut steps = Vec::new();
        if let Some(session) = old.session.clone().filter(|_| old.stage == Stage::Attached) {
            steps.push(self.ask(Asked::Detach, Detach::new(session)));
        }
        match old.stage {
            Stage::Attaching | Stage::Attached => steps.push(self.attach()),
            // The reply to `hello` will do it.
            Stage::Greeting => self.asked.extend(old.asked.clone()),
            Stage::Offline => {}
        }
        self.previous = old.session.is_some().then(|| Box::new(old));
        steps
    }

    fn go_back(&mut self, previous: Self, refusal: Refusal) -> Vec<Step> {
        let next_ref = self.next_ref;
        *self = previous;
        self.next_ref = next_ref;
        self.asked.clear();
        vec![complaint("not opened", refusal), self.attach()]
    }

    /// Sends what has not been sent on this connection.
    pub(super) fn send_pending(&mut self) -> Vec<Step> {
        // Not amid an older history: the answer must be told apart from it.
        let ready = self.stage == Stage::Attached && self.history.is_none();
        let Some(session) = self.session.clone().filter(|_| ready) else {
            return Vec::new();
        };
        let pending: Vec<_> = self.outbox.iter_mut().filter(|outgoing| !outgoing.sent).collect();
        let sends: Vec<_> = pending
            .into_iter()
            .map(|outgoing| {
                outgoing.sent = true;
                let mut send = Send::new(session.clone(), outgoing.id.clone(), outgoing.text.clone());
                send.mode = outgoing.mode;
                send
            })
            .collect();
        sends
            .into_iter()
            .map(|send| self.ask(Asked::Say(send.id.clone()), send))
            .collect()
    }

    /// A frame came.
    pub(super) fn received(&mut self, frame: Incoming) -> Vec<Step> {
        match frame {
            Incoming::Ok { reference, body } => match self.asked.remove(reference.as_str()) {
                Some(asked) => self.done(asked, body),
                None => Vec::new(),
            },
            Incoming::Error(refusal) => {
                match refusal
                    .reference
                    .as_deref()
                    .and_then(|reference| self.asked.remove(reference))
                {
                    Some(asked) => self.refused(asked, refusal),
                    None => vec![complaint("the server", refusal)],
                }
            }
            Incoming::Events(frame) if self.session.as_ref() == Some(&frame.session) => self.events(frame),
            Incoming::CaughtUp(frame) if self.session.as_ref() == Some(&frame.session) => self.caught_up(frame.seq),
            Incoming::Goaway(goaway) => vec![Step::ComeBack(Duration::from_millis(goaway.reconnect_after_ms))],
            Incoming::Events(_) | Incoming::CaughtUp(_) | Incoming::Ignored => Vec::new(),
        }
    }

    fn done(&mut self, asked: Asked, reply: Value) -> Vec<Step> {
        match asked {
            Asked::Hello => {
                let welcome: Option<Welcome> = body(reply);
                let ping = welcome
                    .as_ref()
                    .and_then(|welcome| welcome.ping_seconds)
                    .map(Duration::from_secs);
                self.connection = welcome.as_ref().and_then(|welcome| welcome.connection.clone());
                let simulated = welcome.is_some_and(|welcome| welcome.server.simulated);
                let mut steps = vec![Step::Healthy { ping }];
                if !self.lost && self.session.is_none() {
                    steps.push(Step::Remark(Remark::Welcome { simulated }));
                }
                steps.push(self.attach());
                steps
            }
            Asked::Attach { from_start } => match body::<Attached>(reply) {
                Some(attached) => self.attached(attached, from_start),
                None => vec![Step::Fail("the server's reply to attach cannot be read".to_owned())],
            },
            Asked::Say(id) => self.confirmed(id, body::<Sent>(reply)),
            Asked::Resume(id) => {
                self.answers.remove(&id);
                self.transcript.close(&id);
                self.begun(body::<Begun>(reply))
            }
            Asked::Edit | Asked::Regenerate => self.begun(body::<Begun>(reply)),
            Asked::Settings => {
                self.settings
                    .extend(body::<Set>(reply).into_iter().flat_map(|set| set.settings));
                Vec::new()
            }
            Asked::Cancel | Asked::Detach | Asked::Unqueue => Vec::new(),
        }
    }

    fn refused(&mut self, asked: Asked, refusal: Refusal) -> Vec<Step> {
        let after = refusal.after_ms.map(Duration::from_millis);
        match asked {
            Asked::Hello | Asked::Attach { .. } if refusal.retry => vec![Step::Reconnect(after.unwrap_or(SEND_AGAIN))],
            Asked::Attach { .. } if self.previous.is_some() => match self.previous.take() {
                Some(previous) => self.go_back(*previous, refusal),
                None => Vec::new(),
            },
            Asked::Hello | Asked::Attach { .. } => {
                vec![Step::Fail(format!("{} ({})", refusal.message, refusal.code))]
            }
            Asked::Say(id) if refusal.retry => {
                let refused = self.outbox.iter_mut().find(|outgoing| outgoing.id == id);
                refused.into_iter().for_each(|outgoing| outgoing.sent = false);
                vec![
                    complaint("not sent yet", refusal),
                    Step::SendLater(after.unwrap_or(SEND_AGAIN)),
                ]
            }
            Asked::Say(id) => {
                self.outbox.retain(|outgoing| outgoing.id != id);
                self.outcome = Some(End::Failed {
                    message: refusal.message.clone(),
                    code: Some(refusal.code.clone()),
                });
                vec![complaint("not sent", refusal)]
            }
            Asked::Resume(id) => self.not_answered(&id, refusal),
            Asked::Cancel => vec![complaint("not cancelled", refusal)],
            Asked::Unqueue => vec![complaint("not taken back", refusal)],
            Asked::Edit => vec![complaint("not changed", refusal)],
            Asked::Regenerate => vec![complaint("not answered again", refusal)],
            Asked::Settings => vec![complaint("not set", refusal)],
            Asked::Detach => Vec::new(),
        }
    }

    fn attach(&mut self) -> Step {
        self.stage = Stage::Attaching;
        let session = self
            .session
            .clone()
            .map_or_else(|| self.target.clone(), AttachTarget::of);
        // After gaps that attaching again did not close, read the history anew; what is on the screen stays.
        let after = self.transcript.cursor().filter(|_| self.gaps < 2);
        self.ask(
            Asked::Attach {
                from_start: after.is_none(),
            },
            Attach {
                after,
                ..Attach::new(session)
            },
        )
    }

    fn attached(&mut self, reply: Attached, from_start: bool) -> Vec<Step> {
        let before = self.transcript.cursor();
        let mut steps = Vec::new();
        if self.session.is_none() && matches!(self.target, AttachTarget::New { .. }) {
            steps.push(Step::Remark(Remark::Opened {
                title: format!("conversation {}", reply.session),
            }));
        }
        if std::mem::take(&mut self.lost) {
            steps.push(Step::Remark(match before {
                Some(cursor) if reply.recovered => Remark::Resumed { after: cursor.seq },
                _ => Remark::Restarted,
            }));
        }
        self.session = Some(reply.session);
        self.previous = None;
        self.settings = reply.settings;
        self.transcript.attached(reply.epoch, reply.recovered, from_start);
        self.stage = Stage::Attached;
        steps.extend(self.send_pending());
        steps
    }

    fn confirmed(&mut self, id: MessageId, reply: Option<Sent>) -> Vec<Step> {
        self.outbox.retain(|outgoing| outgoing.id != id);
        let queued = reply.and_then(|reply| reply.queued.filter(|_| reply.run.is_none()));
        // The run may have begun, and even ended, before its reply came.
        if self.transcript.knows(&id) {
            return Vec::new();
        }
        self.waiting.insert(id.clone(), queued.is_some());
        match queued {
            Some(place) => vec![Step::ShowAgain(id), Step::Remark(Remark::Queued { place })],
            None => Vec::new(),
        }
    }

    fn events(&mut self, frame: EventsFrame) -> Vec<Step> {
        if self.stage != Stage::Attached {
            return Vec::new();
        }
        match self.transcript.events(frame) {
            Ok(news) => {
                let news = news.into_iter().map(|news| self.tell_own(news));
                let news: Vec<_> = news.collect();
                let wanted: Vec<_> = news.into_iter().filter(|news| self.follow(news)).collect();
                match &mut self.history {
                    Some(history) => {
                        history.extend(wanted);
                        Vec::new()
                    }
                    None => wanted.into_iter().map(Step::News).collect(),
                }
            }
            Err(gap) if self.gaps > 3 => {
                vec![Step::Fail(format!(
                    "the server leaves out events (after {}: {})",
                    gap.after, gap.found
                ))]
            }
            Err(gap) => {
                self.gaps = self.gaps.saturating_add(1);
                tracing::warn!(
                    after = gap.after,
                    found = gap.found,
                    "events are missing, attaching again"
                );
                vec![self.attach()]
            }
        }
    }

    /// Keeps account of the runs that answer this client; returns whether the news is to be shown.
    fn follow(&mut self, news: &News) -> bool {
        let before = self.own_run.is_some();
        self.account(news);
        !self.only_own || before || self.own_run.is_some()
    }

    fn account(&mut self, news: &News) {
        match news {
            News::Started { run, messages } => {
                let confirmed = messages.iter().any(|id| self.waiting.remove(id).is_some());
                let own = confirmed || self.outbox.iter().any(|outgoing| messages.contains(&outgoing.id));
                let again = self.outcome.as_ref().is_some_and(End::may_be_tried_again);
                // Goes on with what was asked, whoever answered.
                let resumed = messages.is_empty() && self.outcome == Some(End::Asks);
                if own || again || resumed || self.expected.as_ref() == Some(run) {
                    self.outcome = None;
                    self.expected = None;
                    self.own_run = Some(run.clone());
                }
            }
            News::Unqueued { id, .. } => {
                self.waiting.remove(id);
            }
            News::Answered { verdict, .. } => {
                self.answers.remove(&verdict.interrupt_id);
            }
            News::Settings { changed } => self.settings.extend(changed.clone()),
            News::Ended { run, end } if run == &self.own_run => {
                self.own_run = None;
                self.outcome = Some(end.clone());
            }
            // Handed to a run that was active already.
            News::Said { id, .. } if self.waiting.remove(id).is_some() => self.own_run = self.transcript.run().cloned(),
            _ => {}
        }
    }

    fn caught_up(&mut self, seq: u64) -> Vec<Step> {
        self.transcript.caught_up(seq);
        self.gaps = 0;
        if self.transcript.run().is_none() {
            // A snapshot has no ends of runs.
            let transcript = &self.transcript;
            let waiting = self.waiting.len();
            self.waiting.retain(|id, _| !transcript.knows(id));
            let asks = !transcript.questions().is_empty();
            self.expected = None;
            if self.own_run.take().is_some() || self.waiting.len() < waiting {
                self.outcome.get_or_insert(if asks { End::Asks } else { End::Done });
            }
        }
        if let Some(branch) = self.settings.get("branch").and_then(Value::as_str) {
            self.transcript.chosen(branch);
        }
        let mut steps = self.history.take().map(shorten).unwrap_or_default();
        steps.extend(self.send_pending());
        steps.extend(self.answer_again());
        steps
    }

    #[expect(clippy::expect_used, reason = "the digits of a number are a ref")]
    fn ask(&mut self, asked: Asked, command: impl Into<Command>) -> Step {
        self.next_ref = self.next_ref.saturating_add(1);
        let reference: Ref = self.next_ref.to_string().parse().expect("digits are a ref");
        self.asked.insert(reference.clone(), asked);
        Step::Send(ClientFrame::new(reference, command))
    }
}

fn complaint(what: &'static str, refusal: Refusal) -> Step {
    Step::Remark(Remark::Refused {
        what,
        message: refusal.message,
        code: refusal.code,
    })
}

/// Keeps the end of a history, from one of the user's messages on.
fn shorten(history: Vec<News>) -> Vec<Step> {
    let said: Vec<_> = history
        .iter()
        .enumerate()
        .filter(|(_, news)| matches!(news, News::Said { .. }))
        .map(|(at, _)| at)
        .collect();
    let hidden = said.len().saturating_sub(HISTORY);
    let from = if hidden == 0 {
        0
    } else {
        said.get(hidden).copied().unwrap_or(0)
    };
    let earlier = (hidden > 0).then_some(Step::Remark(Remark::Earlier { messages: hidden }));
    let kept = history.into_iter().skip(from).filter(|news| {
        !matches!(
            news,
            News::Notice { .. } | News::Progress { .. } | News::Settings { .. }
        )
    });
    earlier.into_iter().chain(kept.map(Step::News)).collect()
}

#[cfg(test)]
mod tests;
