//! What a client shows: the fold of a session's events into messages.

use kronos_protocol::{Event, LogEntry, Message};

/// One message as a client shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownMessage {
    /// The message's id.
    pub id: String,
    /// `user`, `assistant`, `system`, `developer` or `tool`.
    pub role: String,
    /// The text so far.
    pub text: String,
}

/// The messages of a session, in the order in which a client shows them; the same on every device that has seen the
/// same events, whether one by one, merged, or as a snapshot. Reasoning and activities are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    /// The messages, oldest first.
    pub messages: Vec<ShownMessage>,
}

impl Transcript {
    /// Returns `role: text` of each message, for short comparisons.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.messages
            .iter()
            .map(|message| format!("{}: {}", message.role, message.text))
            .collect()
    }

    /// Returns the text of the last message of the assistant; empty when there is none.
    #[must_use]
    pub fn last_answer(&self) -> &str {
        self.messages
            .iter()
            .rev()
            .find(|message| message.role == "assistant")
            .map_or("", |message| &message.text)
    }

    /// Returns the message with this id.
    #[must_use]
    pub fn message(&self, id: &str) -> Option<&ShownMessage> {
        self.messages.iter().find(|message| message.id == id)
    }
}

/// The fold: a transcript, and which message a tool call belongs to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fold {
    pub(crate) transcript: Transcript,
    /// Tool call id and the message it is in.
    calls: Vec<(String, String)>,
}

impl Fold {
    pub(crate) fn apply(&mut self, entry: &LogEntry) {
        match &entry.event {
            Event::RunStarted(event) => {
                for message in event.input.iter().flat_map(|input| &input.messages) {
                    self.add(message);
                }
            }
            Event::TextMessageStart(event) => {
                let role = event.role.map_or("assistant", |role| role.as_str());
                self.open(event.message_id.as_str(), role);
            }
            Event::TextMessageContent(event) => self.append(event.message_id.as_str(), &event.delta),
            Event::ToolCallStart(event) => {
                let parent = event
                    .parent_message_id
                    .as_ref()
                    .map_or(event.tool_call_id.as_str(), |id| id.as_str());
                self.open(parent, "assistant");
                self.calls.push((event.tool_call_id.clone(), parent.to_owned()));
            }
            Event::ToolCallResult(event) => {
                self.result(
                    event.message_id.as_str(),
                    &event.tool_call_id,
                    event.content.text().into_owned(),
                );
            }
            Event::MessagesSnapshot(event) => {
                self.transcript.messages.clear();
                self.calls.clear();
                for message in &event.messages {
                    self.add(message);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, message: &Message) {
        let (role, text) = match message {
            Message::Developer(message) => ("developer", message.content.clone()),
            Message::System(message) => ("system", message.content.clone()),
            Message::User(message) => ("user", message.content.text().into_owned()),
            Message::Tool(message) => ("tool", message.content.text().into_owned()),
            Message::Assistant(message) => {
                for call in message.tool_calls.iter().flatten() {
                    self.calls.push((call.id.clone(), message.id.as_str().to_owned()));
                }
                ("assistant", message.content.clone().unwrap_or_default())
            }
            Message::Activity(_) | Message::Reasoning(_) => return,
        };
        let id = message.id().as_str();
        if self.transcript.message(id).is_none() {
            self.transcript.messages.push(ShownMessage {
                id: id.to_owned(),
                role: role.to_owned(),
                text,
            });
        }
    }

    fn open(&mut self, id: &str, role: &str) {
        if self.transcript.message(id).is_none() {
            let message = ShownMessage {
                id: id.to_owned(),
                role: role.to_owned(),
                text: String::new(),
            };
            self.transcript.messages.push(message);
        }
    }

    fn append(&mut self, id: &str, delta: &str) {
        if let Some(message) = self.transcript.messages.iter_mut().find(|message| message.id == id) {
            message.text.push_str(delta);
        }
    }

    /// Puts a tool's result behind the message with its call, after the results that are there already.
    fn result(&mut self, id: &str, call: &str, text: String) {
        if self.transcript.message(id).is_some() {
            return;
        }
        let parent = self
            .calls
            .iter()
            .find(|(known, _)| known == call)
            .map(|(_, parent)| parent.as_str());
        let messages = &mut self.transcript.messages;
        let at = messages
            .iter()
            .position(|message| Some(message.id.as_str()) == parent)
            .map_or(messages.len(), |at| {
                let results = messages
                    .iter()
                    .skip(at + 1)
                    .take_while(|message| message.role == "tool")
                    .count();
                at + 1 + results
            });
        messages.insert(
            at,
            ShownMessage {
                id: id.to_owned(),
                role: "tool".to_owned(),
                text,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fold(events: Value) -> Transcript {
        let mut fold = Fold::default();
        for (at, event) in (1_u64..).zip(events.as_array().unwrap()) {
            let event: Event = serde_json::from_value(event.clone()).unwrap();
            fold.apply(&LogEntry::new(at, event));
        }
        fold.transcript
    }

    #[test]
    fn events_one_by_one_and_a_snapshot_give_the_same() {
        let by_events = fold(json!([
            {"type": "RUN_STARTED", "threadId": "t", "runId": "r", "input": {"threadId": "t", "runId": "r",
                "messages": [{"id": "u", "role": "user", "content": "hi"}], "tools": [], "context": []}},
            {"type": "TEXT_MESSAGE_START", "messageId": "a", "role": "assistant"},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": "let me "},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": "see"},
            {"type": "TEXT_MESSAGE_END", "messageId": "a"},
            {"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "f", "parentMessageId": "a"},
            {"type": "TOOL_CALL_START", "toolCallId": "c2", "toolCallName": "f", "parentMessageId": "a"},
            {"type": "TEXT_MESSAGE_START", "messageId": "b"},
            {"type": "TOOL_CALL_RESULT", "messageId": "t1", "toolCallId": "c1", "content": "one"},
            {"type": "TOOL_CALL_RESULT", "messageId": "t2", "toolCallId": "c2", "content": [{"type": "text", "text": "two"}]},
        ]));
        let by_snapshot = fold(json!([{"type": "MESSAGES_SNAPSHOT", "messages": [
            {"id": "u", "role": "user", "content": "hi"},
            {"id": "a", "role": "assistant", "content": "let me see", "toolCalls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"id": "t1", "role": "tool", "toolCallId": "c1", "content": "one"},
            {"id": "t2", "role": "tool", "toolCallId": "c2", "content": "two"},
            {"id": "b", "role": "assistant"},
            {"id": "x", "role": "reasoning", "content": "hm"},
        ]}]));
        assert_eq!(by_events, by_snapshot);
        assert_eq!(
            by_events.lines(),
            [
                "user: hi",
                "assistant: let me see",
                "tool: one",
                "tool: two",
                "assistant: "
            ]
        );
        assert_eq!(by_events.last_answer(), "");
    }
}
