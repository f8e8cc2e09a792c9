//! The conversation as this client holds it: events in, what is new to the eye out. Pure.
//!
//! Two things are kept apart: the fold of the log, and what was already shown. A replay or a snapshot may build the fold
//! again; only what goes beyond the shown text is news. So nothing is shown twice, whatever the way it came.

mod asked;
mod calls;
mod paths;
mod told;

use std::collections::HashMap;

use kronos_protocol::event::{RunFinished, RunStarted, TextMessageEnd, TextRole};
use kronos_protocol::{Cursor, EpochId, Event, InterruptId, Message, MessageId, Outcome, RunErrorCode, RunId, Seq};
use serde_json::{Map, Value};

use super::frame::{Entry, EventsFrame};
pub(super) use asked::{About, By, Question, Verdict};
use calls::Calls;
use paths::Paths;
pub(super) use paths::Queued;

/// Something to show.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    /// A run began; these user messages are what it answers.
    Started { run: RunId, messages: Vec<MessageId> },
    /// A user said something, here or elsewhere.
    Said { id: MessageId, text: String },
    /// More text of an answer.
    Text { id: MessageId, delta: String },
    /// An answer's text is not what was shown; `text` is all of it.
    Rewritten { id: MessageId, text: String },
    /// The model calls a tool.
    Called { tool: String, arguments: String },
    /// How a call gets on: `running`, `waiting` (for an account) or `unknown`.
    Progress {
        tool: String,
        status: String,
        why: Option<String>,
    },
    /// What a call returned.
    Returned { tool: String, text: String, failed: bool },
    /// A question was answered, here or elsewhere.
    Answered { tool: String, verdict: Verdict, own: bool },
    /// A queued message was taken back.
    Unqueued { id: MessageId, text: String },
    /// The conversation goes another way after a message; how that begins.
    Branched { branch: String, after: Option<String> },
    /// Another branch is the conversation now; how its last message begins.
    Selected { branch: String, last: Option<String> },
    /// Settings changed.
    Settings { changed: Map<String, Value> },
    /// The model stopped before it was done.
    CutOff { reason: String },
    /// The server has something to say.
    Notice { text: String },
    /// A run ended.
    Ended { run: Option<RunId>, end: End },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Well.
    Done,
    /// Somebody stopped it.
    Cancelled,
    /// It waits for answers.
    Asks,
    /// It failed.
    Failed { message: String, code: Option<String> },
}

impl End {
    /// Whether the server may try the same turn again by itself.
    pub(super) fn may_be_tried_again(&self) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if code == RunErrorCode::Interrupted.as_str())
    }
}

/// Positions are missing: the client must attach again with its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// The last position there is.
    pub(super) after: Seq,
    /// The position that came.
    pub(super) found: Seq,
}

/// A session's log, folded and shown.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    epoch: Option<EpochId>,
    seq: Seq,
    /// Whether the next snapshot frame starts a new position.
    await_snapshot: bool,
    folded: HashMap<MessageId, String>,
    shown: HashMap<MessageId, String>,
    /// Messages that are told as text and are not the assistant's: what was said before the conversation came here.
    past: HashMap<MessageId, (TextRole, String)>,
    ended: HashMap<RunId, End>,
    run: Option<RunId>,
    calls: Calls,
    questions: Vec<Question>,
    queue: Vec<Queued>,
    paths: Paths,
}

impl Transcript {
    /// Returns where the client is; `None` before anything came.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        Some(Cursor {
            epoch: self.epoch.clone()?,
            seq: self.seq,
        })
    }

    /// Returns the active run.
    pub(super) fn run(&self) -> Option<&RunId> {
        self.run.as_ref()
    }

    /// Returns how a run ended that has.
    pub(super) fn end_of(&self, run: &RunId) -> Option<&End> {
        self.ended.get(run)
    }

    /// Returns the questions that nobody has answered.
    pub(super) fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// A question is no longer open.
    pub(super) fn close(&mut self, id: &InterruptId) -> bool {
        let before = self.questions.len();
        self.questions.retain(|question| question.id != *id);
        self.questions.len() < before
    }

    /// Returns the messages that wait.
    pub(super) fn queue(&self) -> &[Queued] {
        &self.queue
    }

    /// Returns the user's last message.
    pub(super) fn last_said(&self) -> Option<&MessageId> {
        self.paths.last_said()
    }

    /// Returns each branch that was seen, the user's last message in it, and whether it is the conversation now.
    pub(super) fn branches(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        let text = |id: &MessageId| self.shown.get(id).map(String::as_str);
        self.paths
            .all()
            .map(move |(branch, last, chosen)| (branch, last.and_then(text).unwrap_or_default(), chosen))
    }

    /// Takes note of the branch that the server says is chosen.
    pub(super) fn chosen(&mut self, branch: &str) {
        self.paths.choose(branch);
    }

    /// Whether a tool is being called.
    pub(super) fn is_calling(&self) -> bool {
        self.calls.is_running()
    }

    /// Whether a message was shown, here or as part of a snapshot.
    pub(super) fn knows(&self, id: &MessageId) -> bool {
        self.shown.contains_key(id)
    }

    /// Takes note of the reply to `attach`: the gap follows (`recovered`), else a snapshot.
    pub(super) fn attached(&mut self, epoch: EpochId, recovered: bool, from_start: bool) {
        if self.epoch.as_ref() != Some(&epoch) || (recovered && from_start) {
            self.seq = 0;
            self.folded.clear();
            self.paths.clear();
        }
        self.await_snapshot = !recovered;
        self.epoch = Some(epoch);
    }

    /// Takes note that everything up to `seq` has come; a tail of nothing comes without events.
    pub(super) fn caught_up(&mut self, seq: Seq) {
        self.seq = self.seq.max(seq);
    }

    /// Takes a frame in. Entries that were seen before are skipped.
    pub(super) fn events(&mut self, frame: EventsFrame) -> Result<Vec<News>, Gap> {
        if self.epoch.as_ref() != Some(&frame.epoch) {
            let found = frame.entries.first().map_or(0, |entry| entry.first);
            return Err(Gap { after: self.seq, found });
        }
        if frame.snapshot && self.await_snapshot {
            self.await_snapshot = false;
            self.seq = 0;
            self.run = None;
            self.queue.clear();
        }
        let mut news = Vec::new();
        for entry in frame.entries {
            if frame.snapshot {
                self.seq = self.seq.max(entry.seq);
            } else if entry.seq <= self.seq {
                continue;
            } else if entry.first != self.seq.saturating_add(1) {
                // Positions are missing, or a merged entry overlaps what is here: its text cannot be told apart.
                return Err(Gap {
                    after: self.seq,
                    found: entry.first,
                });
            } else {
                self.seq = entry.seq;
            }
            self.apply(entry, &mut news);
        }
        Ok(news)
    }

    fn apply(&mut self, entry: Entry, news: &mut Vec<News>) {
        let Entry { run, event, .. } = entry;
        match event {
            Some(Event::RunStarted(event)) => self.started(event, news),
            Some(Event::TextMessageStart(event)) => {
                let role = event.role.filter(|role| *role != TextRole::Assistant);
                self.past
                    .extend(role.map(|role| (event.message_id, (role, String::new()))));
            }
            Some(Event::TextMessageContent(event)) => match self.past.get_mut(&event.message_id) {
                Some((_, text)) => text.push_str(&event.delta),
                None => self.append(event.message_id, &event.delta, news),
            },
            Some(Event::TextMessageEnd(event)) => match self.past.remove(&event.message_id) {
                Some((TextRole::User, text)) => self.said(event.message_id, text, news),
                Some(_) => {}
                None => news.extend(cut_off(&event)),
            },
            Some(Event::MessagesSnapshot(event)) => {
                self.folded.clear();
                self.paths.clear();
                event.messages.iter().for_each(|message| self.message(message, news));
            }
            Some(Event::RunFinished(event)) => {
                self.questions_of(&event);
                self.end(run.or(Some(event.run_id.clone())), end(&event), news);
            }
            Some(Event::RunError(event)) => {
                let end = End::Failed {
                    message: event.message,
                    code: event.code,
                };
                self.end(run, end, news);
            }
            Some(Event::Custom(event)) => self.custom(&event, news),
            Some(event) => news.extend(self.call(event)),
            None => {}
        }
    }

    fn started(&mut self, event: RunStarted, news: &mut Vec<News>) {
        self.run = Some(event.run_id.clone());
        // Whatever was asked is answered, or something else was said.
        self.questions.clear();
        let messages = event.input.map(|input| input.messages).unwrap_or_default();
        let users = messages.iter().filter(|message| matches!(message, Message::User(_)));
        news.push(News::Started {
            run: event.run_id,
            messages: users.map(|user| user.id().clone()).collect(),
        });
        messages.iter().for_each(|message| self.message(message, news));
    }

    fn message(&mut self, message: &Message, news: &mut Vec<News>) {
        let id = message.id().clone();
        self.paths.push(&id, matches!(message, Message::User(_)));
        match message {
            Message::User(user) => {
                let text = user.content.text().into_owned();
                self.said(id, text, news);
            }
            Message::Assistant(answer) => {
                let text = answer.content.clone().unwrap_or_default();
                self.folded.insert(id.clone(), text);
                self.compare(id, news);
                for call in answer.tool_calls.iter().flatten() {
                    let (tool, arguments) = (&call.function.name, &call.function.arguments);
                    news.extend(self.calls.whole(&call.id, tool, arguments));
                }
            }
            Message::Tool(result) => {
                news.extend(self.calls.result(&result.tool_call_id, &result.content.text()));
            }
            Message::Developer(_) | Message::System(_) | Message::Activity(_) | Message::Reasoning(_) => {}
        }
    }

    fn said(&mut self, id: MessageId, text: String, news: &mut Vec<News>) {
        self.take_from_queue(&id);
        self.paths.push(&id, true);
        if self.shown.insert(id.clone(), text.clone()).as_ref() != Some(&text) {
            news.push(News::Said { id, text });
        }
    }

    fn append(&mut self, id: MessageId, delta: &str, news: &mut Vec<News>) {
        self.paths.push(&id, false);
        self.folded.entry(id.clone()).or_default().push_str(delta);
        self.compare(id, news);
    }

    /// Tells what of a message's text was not shown yet.
    fn compare(&mut self, id: MessageId, news: &mut Vec<News>) {
        let folded = self.folded.entry(id.clone()).or_default();
        let shown = self.shown.entry(id.clone()).or_default();
        if shown.starts_with(folded.as_str()) {
            return;
        }
        match folded.strip_prefix(shown.as_str()) {
            Some(delta) => match news.last_mut() {
                Some(News::Text { id: last, delta: text }) if *last == id => text.push_str(delta),
                _ => news.push(News::Text {
                    id,
                    delta: delta.to_owned(),
                }),
            },
            None => news.push(News::Rewritten {
                id,
                text: folded.clone(),
            }),
        }
        shown.clone_from(folded);
    }

    fn end(&mut self, run: Option<RunId>, end: End, news: &mut Vec<News>) {
        let run = run.or_else(|| self.run.clone());
        self.run = None;
        self.calls.rest();
        let ended = run.clone().and_then(|run| self.ended.insert(run, end.clone()));
        if ended.is_none() {
            news.push(News::Ended { run, end });
        }
    }
}

fn end(event: &RunFinished) -> End {
    match &event.outcome {
        None if finish_reason(event.metadata.as_ref()) == Some("cancelled") => End::Cancelled,
        None | Some(Outcome::Success { .. }) => End::Done,
        Some(Outcome::Cancelled) => End::Cancelled,
        Some(Outcome::Interrupt { .. }) => End::Asks,
    }
}

/// Errors and cancels have their own ends; any other reason but a good one means that the text is not complete.
fn cut_off(event: &TextMessageEnd) -> Option<News> {
    let reason = finish_reason(event.metadata.as_ref())?;
    let complete = [
        "stop",
        "STOP",
        "end_turn",
        "tool_calls",
        "tool_use",
        "error",
        "cancelled",
        "interrupted",
    ];
    let reason = match reason {
        reason if complete.contains(&reason) => return None,
        "length" | "max_tokens" | "MAX_TOKENS" => "the token limit was reached",
        reason => reason,
    };
    Some(News::CutOff {
        reason: reason.to_owned(),
    })
}

fn finish_reason(metadata: Option<&Map<String, Value>>) -> Option<&str> {
    metadata?.get("finishReason")?.as_str()
}

#[cfg(test)]
mod tests;
