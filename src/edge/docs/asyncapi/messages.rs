//! The messages of the AsyncAPI document: one for each command, frame and event, each with its schema and a golden example.

use kronos_protocol::{
    client::Op,
    event::EventKind,
    ids::{EpochId, SessionId},
    schema::{self, Example},
    server::{EventsRef, OkKind, ServerOp},
};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// What an event of ours means, by `name` of CUSTOM.
const CUSTOM: &str = "\
Those of Kronos, by `name`:

* `kronos.message_accepted`: a message waits behind the active run.
* `kronos.message_unqueued`: it was taken back.
* `kronos.queue_snapshot`: in a snapshot, the messages that wait.
* `kronos.retry`: the model is asked again; nothing was shown yet.
* `kronos.notice`: something about the answer, such as that it reached `max_tokens`.
* `kronos.tool_calls`: what becomes of the model's calls.
* `kronos.context_trimmed`: the model reads a summary in place of the beginning.
* `kronos.interrupt_answered`: a question of a run was answered, by whom, and how.
* `kronos.run_cancelled`: a run that waited for answers was given up.
* `kronos.branched`, `kronos.branch_selected`: the conversation goes another way.
* `kronos.settings_changed`, `kronos.title_changed`: of the conversation.
* `kronos.conversation_created`, `kronos.conversation_updated`, `kronos.conversation_deleted`: in the feed `@me`.
* `kronos.connection_changed` in the feed `@me`: a connected account has another status now: `{connectionId, toolkit, status, \
reason?, change?}`; `TIMED_OUT`: it was not connected in time, its link still works. The same `change` may come twice after a crash.
* `kronos.trigger_fired`, `kronos.trigger_disabled` in the feed `@me`: what a trigger of an account found, `{triggerId, triggerSlug, \
toolkit, data}`; that it was turned off, with its `reason`.";

/// Who writes a message: its schema says what is read of it, or what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Client,
    Server,
}

/// A message to be described.
pub(super) struct Message {
    name: String,
    title: String,
    summary: String,
    description: Option<&'static str>,
    writer: Writer,
    schema: Box<dyn FnOnce(&mut SchemaGenerator) -> Schema>,
    examples: Vec<Example>,
}

/// The messages so far, and the schemas that they refer to.
pub(super) struct Messages {
    messages: Map<String, Value>,
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Default for Messages {
    fn default() -> Self {
        // AsyncAPI's own schemas are those of draft 7.
        let settings = || {
            SchemaSettings::draft07().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            messages: Map::new(),
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }
}

impl Messages {
    /// Adds a message, unless it is there, and returns its name.
    pub(super) fn add(&mut self, message: Message) -> String {
        if self.messages.contains_key(&message.name) {
            return message.name;
        }
        let generator = match message.writer {
            Writer::Client => &mut self.read,
            Writer::Server => &mut self.written,
        };
        let examples: Vec<_> = message
            .examples
            .into_iter()
            .map(|example| json!({"name": example.name, "payload": example.frame}))
            .collect();
        let mut value = json!({
            "name": message.name,
            "title": message.title,
            "summary": message.summary,
            "payload": (message.schema)(generator),
            "examples": examples,
        });
        if let Some(description) = message.description {
            value["description"] = json!(description);
        }
        self.messages.insert(message.name.clone(), value);
        message.name
    }

    /// Adds messages and returns their names.
    pub(super) fn add_all(&mut self, messages: Vec<Message>) -> Vec<String> {
        messages.into_iter().map(|message| self.add(message)).collect()
    }

    /// Returns the names of all.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.messages.keys().map(String::as_str)
    }

    /// Returns messages and schemas. A type that clients write and the server too has the same schema for both.
    pub(super) fn finish(mut self) -> (Map<String, Value>, Map<String, Value>) {
        let mut schemas = self.read.take_definitions(true);
        schemas.append(&mut self.written.take_definitions(true));
        (self.messages, schemas)
    }
}

/// A client's frame with a command.
pub(super) fn for_command(op: Op) -> Message {
    Message {
        name: op.to_string(),
        title: op.to_string(),
        summary: op.about(),
        description: None,
        writer: Writer::Client,
        schema: Box::new(move |generator| op.schema(generator)),
        examples: schema::examples_of_command(op),
    }
}

/// What `ok` carries in answer to a command.
pub(super) const fn reply_to(op: Op) -> OkKind {
    match op {
        Op::Hello => OkKind::Welcome,
        Op::Attach => OkKind::Attached,
        Op::Send | Op::Resume | Op::Edit | Op::Regenerate => OkKind::Sent,
        Op::Cancel => OkKind::Cancelled,
        Op::Settings => OkKind::Settings,
        Op::TokenUpdate => OkKind::TokenAccepted,
        Op::Ping => OkKind::Pong,
        Op::Detach | Op::Unqueue | Op::Typing => OkKind::Done,
    }
}

/// The server's `ok` with a body of a kind.
pub(super) fn message_of_ok(kind: OkKind) -> Message {
    Message {
        name: format!("ok.{kind}"),
        title: format!("ok: {kind}"),
        summary: kind.about(),
        description: None,
        writer: Writer::Server,
        schema: Box::new(move |generator| kind.schema(generator)),
        examples: schema::examples_of_ok(kind),
    }
}

/// A frame of the server.
pub(super) fn message_of_frame(op: ServerOp) -> Message {
    Message {
        name: op.to_string(),
        title: op.to_string(),
        summary: op.about(),
        description: None,
        writer: Writer::Server,
        schema: Box::new(move |generator| op.schema(generator)),
        examples: schema::examples_of_frame(op),
    }
}

/// The frame `events`, and the same with each kind of event in it.
pub(super) fn for_events() -> Vec<Message> {
    let with_event = |kind: EventKind| Message {
        name: format!("events.{kind}"),
        title: format!("events: {kind}"),
        summary: kind.about(),
        description: (kind == EventKind::Custom).then_some(CUSTOM),
        writer: Writer::Server,
        schema: Box::new(move |generator| with_event(kind, generator)),
        examples: example_with(kind).into_iter().collect(),
    };
    let mut messages = vec![message_of_frame(ServerOp::Events)];
    messages.extend(EventKind::ALL.iter().copied().map(with_event));
    messages
}

/// The schema of an `events` frame that holds an event of a kind.
fn with_event(kind: EventKind, generator: &mut SchemaGenerator) -> Schema {
    let frame = ServerOp::Events.schema(generator);
    let event = kind.schema(generator);
    let entry = json!({"properties": {"event": event}, "required": ["event"]});
    schemars::json_schema!({
        "allOf": [frame, {"properties": {"events": {"contains": entry}}}],
    })
}

/// A frame with the golden event of a kind.
fn example_with(kind: EventKind) -> Option<Example> {
    let (session, epoch) = (
        SessionId::from_trusted("01928f3e-7a6b-7c00-9d4e-5f60718293a4".to_owned()),
        EpochId::from_trusted("e_7f".to_owned()),
    );
    let entry = schema::example_of_event(kind)?;
    let frame = EventsRef {
        session: &session,
        epoch: &epoch,
        snapshot: false,
        events: &[entry],
    };
    let frame = serde_json::to_value(frame).ok()?;
    Some(Example {
        name: kind.as_str(),
        frame,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_sides_write_has_one_schema() {
        let mut messages = Messages::default();
        messages.add_all(Op::ALL.iter().copied().map(for_command).collect());
        messages.add_all(OkKind::ALL.iter().copied().map(message_of_ok).collect());
        messages.add_all(ServerOp::ALL.iter().copied().map(message_of_frame).collect());
        messages.add_all(for_events());
        let (read, written) = (
            messages.read.take_definitions(true),
            messages.written.take_definitions(true),
        );
        let mut shared = 0;
        for (name, schema) in &read {
            if let Some(other) = written.get(name) {
                assert_eq!(schema, other, "{name}");
                shared += 1;
            }
        }
        assert!(shared > 3, "{shared}");
    }
}
