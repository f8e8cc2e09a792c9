//! Who owns what: the subagent, or the run itself, in whose lane a thing was opened.

use std::collections::HashMap;

use super::OrderError;
use super::open::OpenKind;
use crate::event::EventKind;
use crate::message::Message;

/// The subagent that owns something; `None` is the run itself.
pub(super) type Owner = Option<String>;

/// Owners by kind of thing, kept for the whole run: a late continuation may come after the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners {
    messages: HashMap<String, Owner>,
    calls: HashMap<String, Owner>,
    activities: HashMap<String, Owner>,
    reasoning: HashMap<String, Owner>,
}

/// A kind of thing; ids are unique within one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bucket {
    Message,
    Call,
    Activity,
    /// Spans and messages together: neither may be claimed from the other's owner.
    Reasoning,
}

impl Bucket {
    /// Where owners of this kind of bracket are kept; steps and subagents own themselves.
    pub(super) fn of(kind: OpenKind) -> Option<Self> {
        match kind {
            OpenKind::TextMessage => Some(Self::Message),
            OpenKind::ToolCall => Some(Self::Call),
            OpenKind::ReasoningMessage | OpenKind::ReasoningSpan => Some(Self::Reasoning),
            OpenKind::Step | OpenKind::Subagent => None,
        }
    }

    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Call => "tool call",
            Self::Activity => "activity",
            Self::Reasoning => "reasoning message",
        }
    }
}

impl Owners {
    fn map(&self, bucket: Bucket) -> &HashMap<String, Owner> {
        match bucket {
            Bucket::Message => &self.messages,
            Bucket::Call => &self.calls,
            Bucket::Activity => &self.activities,
            Bucket::Reasoning => &self.reasoning,
        }
    }

    fn map_mut(&mut self, bucket: Bucket) -> &mut HashMap<String, Owner> {
        match bucket {
            Bucket::Message => &mut self.messages,
            Bucket::Call => &mut self.calls,
            Bucket::Activity => &mut self.activities,
            Bucket::Reasoning => &mut self.reasoning,
        }
    }

    pub(super) fn get(&self, bucket: Bucket, id: &str) -> Option<&Owner> {
        self.map(bucket).get(id)
    }

    /// Sets the owner, whoever it was.
    pub(super) fn set(&mut self, bucket: Bucket, id: &str, owner: Owner) {
        self.map_mut(bucket).insert(id.to_owned(), owner);
    }

    /// Sets the owner if there is none: the first opener's tag stays.
    pub(super) fn claim(&mut self, bucket: Bucket, id: &str, owner: Owner) {
        self.map_mut(bucket).entry(id.to_owned()).or_insert(owner);
    }

    /// Refuses a tag that names another owner than the one known. No tag agrees with any.
    pub(super) fn agree(&self, event: EventKind, bucket: Bucket, id: &str, tag: &Owner) -> Result<(), OrderError> {
        match self.get(bucket, id) {
            Some(owner) if tag.is_some() && tag != owner => Err(OrderError::mismatch(event, bucket, id, owner)),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes over the owners of messages that came as a whole; `restated` ones replace what was known.
    pub(super) fn seed(&mut self, messages: &[Message], restated: bool) {
        for message in messages {
            let (bucket, owner) = match message {
                Message::Developer(message) => (Bucket::Message, &message.subagent_run_id),
                Message::System(message) => (Bucket::Message, &message.subagent_run_id),
                Message::Assistant(message) => (Bucket::Message, &message.subagent_run_id),
                Message::User(message) => (Bucket::Message, &message.subagent_run_id),
                Message::Tool(message) => (Bucket::Message, &message.subagent_run_id),
                Message::Activity(message) => (Bucket::Activity, &message.subagent_run_id),
                Message::Reasoning(message) => (Bucket::Reasoning, &message.subagent_run_id),
            };
            let calls = match message {
                Message::Assistant(message) => message.tool_calls.as_deref().unwrap_or_default(),
                _ => &[],
            };
            let ids = calls.iter().map(|call| (Bucket::Call, call.id.as_str()));
            for (bucket, id) in ids.chain([(bucket, message.id().as_str())]) {
                if restated {
                    self.set(bucket, id, owner.clone())
                } else {
                    self.claim(bucket, id, owner.clone())
                }
            }
        }
    }
}
