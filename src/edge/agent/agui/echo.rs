//! A run as an AG-UI client takes it: with the ids that the client gave, and for clients before 1.0 without what they do not know.

use kronos_protocol::{
    entry::LogEntry,
    event::{Event, Outcome, RunFinished, RunStarted},
    ids::RunId,
    message::{Message, UserContent},
};
use serde_json::{Map, Value, json};

use super::RunBody;

/// What of a run is told, and as what.
#[derive(Debug, Clone)]
pub(in crate::edge::agent) struct Echo {
    thread: String,
    /// What the client calls the run; `None`: what the server calls it.
    run: Option<RunId>,
    parent: Option<RunId>,
    old: bool,
}

impl Echo {
    /// For a client that asks for a run.
    pub(in crate::edge::agent) fn of(body: &RunBody) -> Self {
        Self {
            thread: body.thread.as_str().to_owned(),
            run: Some(body.run.clone()),
            parent: body.parent.clone(),
            old: body.old,
        }
    }

    /// For a client that looks at what there is.
    pub(in crate::edge::agent) fn watching(body: &RunBody) -> Self {
        Self {
            run: None,
            parent: None,
            ..Self::of(body)
        }
    }

    /// What is told of an entry; `None`: nothing, since it belongs to no run.
    pub(in crate::edge::agent) fn tell(&self, entry: &LogEntry) -> Option<Event> {
        let run = entry.run.as_ref()?;
        let mut event = entry.event.clone();
        match &mut event {
            Event::RunStarted(started) => self.started(started, run),
            Event::RunFinished(finished) => self.finished(finished),
            Event::ToolCallResult(result) if self.old => flatten(&mut result.content),
            Event::MessagesSnapshot(snapshot) if self.old => {
                for message in &mut snapshot.messages {
                    if let Message::Tool(message) = message {
                        flatten(&mut message.content);
                    }
                }
            }
            _ => {}
        }
        Some(event)
    }

    fn started(&self, started: &mut RunStarted, run: &RunId) {
        let ours = json!({"conversationId": started.thread_id, "runId": run});
        about(&mut started.metadata, "kronos", ours);
        started.thread_id.clone_from(&self.thread);
        started.parent_run_id.clone_from(&self.parent);
        if let Some(run) = &self.run {
            started.run_id = run.clone();
        }
        if let Some(input) = &mut started.input {
            input.thread_id.clone_from(&self.thread);
            input.run_id = started.run_id.clone();
            input.parent_run_id.clone_from(&self.parent);
        }
    }

    fn finished(&self, finished: &mut RunFinished) {
        finished.thread_id.clone_from(&self.thread);
        if let Some(run) = &self.run {
            finished.run_id = run.clone();
        }
        if !self.old {
            return;
        }
        match &mut finished.outcome {
            Some(Outcome::Success { pending_tool_call_ids }) => *pending_tool_call_ids = None,
            Some(Outcome::Interrupt { interrupts }) => {
                for interrupt in interrupts {
                    interrupt.expires_at = None;
                }
            }
            Some(Outcome::Cancelled) => {
                finished.outcome = None;
                let metadata = finished.metadata.get_or_insert_default();
                metadata.insert("finishReason".to_owned(), json!("cancelled"));
            }
            None => {}
        }
    }
}

/// Adds to an object within the metadata.
fn about(metadata: &mut Option<Map<String, Value>>, name: &str, more: Value) {
    let there = metadata
        .get_or_insert_default()
        .entry(name.to_owned())
        .or_insert_with(|| json!({}));
    if let (Value::Object(there), Value::Object(more)) = (there, more) {
        there.extend(more);
    }
}

/// Makes a text of parts.
fn flatten(content: &mut UserContent) {
    if matches!(content, UserContent::Parts(_)) {
        *content = UserContent::Text(content.text().into_owned());
    }
}

#[cfg(test)]
mod tests {
    use kronos_protocol::{
        event::{Custom, ToolCallResult},
        message::{ContentPart, Interrupt, RunInput, UserMessage},
    };

    use super::*;

    fn echo(old: bool) -> Echo {
        Echo {
            thread: "my-thread".to_owned(),
            run: Some(RunId::from_trusted("run-1".to_owned())),
            parent: None,
            old,
        }
    }

    fn told(old: bool, event: impl Into<Event>) -> Value {
        let mut entry = LogEntry::new(7_u64, event.into());
        entry.run = Some(RunId::from_trusted("r_1".to_owned()));
        serde_json::to_value(echo(old).tell(&entry)).unwrap()
    }

    fn ours() -> RunId {
        RunId::from_trusted("r_1".to_owned())
    }

    #[test]
    fn a_run_has_the_ids_that_its_client_gave() {
        let message = Message::User(UserMessage::new(
            kronos_protocol::ids::MessageId::from_trusted("m".to_owned()),
            UserContent::Text("hi".to_owned()),
        ));
        let mut started = RunStarted::new("s_1".to_owned(), ours());
        started.parent_run_id = Some(RunId::from_trusted("r_0".to_owned()));
        started.input = Some(Box::new(RunInput::new("s_1".to_owned(), ours(), vec![message])));
        let event = told(true, started);
        assert_eq!(
            (&event["threadId"], &event["runId"]),
            (&json!("my-thread"), &json!("run-1"))
        );
        assert_eq!(event.get("parentRunId"), None);
        let input = &event["input"];
        assert_eq!(
            (&input["threadId"], &input["runId"]),
            (&json!("my-thread"), &json!("run-1"))
        );
        assert_eq!((&input["tools"], &input["context"]), (&json!([]), &json!([])));
        assert_eq!(
            event["metadata"]["kronos"],
            json!({"conversationId": "s_1", "runId": "r_1"})
        );
        let finished = told(false, RunFinished::new("s_1".to_owned(), ours()));
        assert_eq!(
            (&finished["threadId"], &finished["runId"]),
            (&json!("my-thread"), &json!("run-1"))
        );
    }

    #[test]
    fn clients_before_1_0_are_told_what_they_know() {
        let with = |outcome: Outcome| {
            let mut finished = RunFinished::new("s_1".to_owned(), ours());
            finished.outcome = Some(outcome);
            finished
        };
        let pending = || {
            with(Outcome::Success {
                pending_tool_call_ids: Some(vec!["c1".to_owned()]),
            })
        };
        assert_eq!(told(false, pending())["outcome"]["pendingToolCallIds"], json!(["c1"]));
        assert_eq!(told(true, pending())["outcome"], json!({"type": "success"}));
        assert_eq!(
            told(false, with(Outcome::Cancelled))["outcome"],
            json!({"type": "cancelled"})
        );
        let cancelled = told(true, with(Outcome::Cancelled));
        assert_eq!(cancelled.get("outcome"), None);
        assert_eq!(cancelled["metadata"]["finishReason"], "cancelled");
        let asks = || {
            let id = kronos_protocol::ids::InterruptId::from_trusted("i".to_owned());
            let mut interrupt = Interrupt::new(id, "tool_call".to_owned());
            interrupt.expires_at = Some("2026-11-27T12:00:00Z".to_owned());
            with(Outcome::Interrupt {
                interrupts: vec![interrupt],
            })
        };
        assert!(told(false, asks())["outcome"]["interrupts"][0]["expiresAt"].is_string());
        assert_eq!(told(true, asks())["outcome"]["interrupts"][0].get("expiresAt"), None);
        let parts = UserContent::Parts(vec![
            ContentPart::Text { text: "a".to_owned() },
            ContentPart::Text { text: "b".to_owned() },
        ]);
        let id = kronos_protocol::ids::MessageId::from_trusted("t".to_owned());
        let result = ToolCallResult::new(id, "c1".to_owned(), parts);
        assert_eq!(told(true, result.clone())["content"], "ab");
        assert!(told(false, result)["content"].is_array());
    }

    #[test]
    fn what_belongs_to_no_run_is_not_told() {
        let entry = LogEntry::new(7_u64, Event::from(Custom::new("kronos.title_changed", json!({}))));
        assert_eq!(echo(false).tell(&entry), None);
        assert_eq!(
            told(false, Custom::new("kronos.retry", json!({})))["name"],
            "kronos.retry"
        );
    }
}
