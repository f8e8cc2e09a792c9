//! Snapshots against what was shown before them.

use kronos_protocol::{Event, Events, Message, MessageId, Seq};
use serde_json::Value;

use super::super::breach::Fault;
use super::super::digest::{Digest, Streams};
use super::super::told::text_of;
use super::Account;

impl Account {
    /// Takes a frame of a snapshot.
    pub(in super::super) fn snapshot(&mut self, frame: &Events, streams: &mut Streams) -> Vec<Fault> {
        let mut faults = Vec::new();
        let at = frame.events.last().map_or(0, |entry| entry.seq);
        let newer = at > self.head;
        if newer {
            self.unseen();
        }
        for entry in &frame.events {
            match &entry.event {
                Event::MessagesSnapshot(event) => {
                    let about = event.metadata.as_ref().and_then(|metadata| metadata.get("kronos"));
                    let truncated = about.is_some_and(|about| about.get("truncated") == Some(&Value::Bool(true)));
                    event.messages.iter().for_each(|message| self.logged(message.id()));
                    faults.extend(match self.before.take() {
                        Some(before) => before.compare(&event.messages, None, truncated),
                        None => self.conversation.compare(&event.messages, Some(at), truncated),
                    });
                    faults.extend(
                        streams
                            .texts()
                            .filter_map(|(id, shown)| changed(&event.messages, id, shown, at)),
                    );
                    streams.clear();
                    for message in event
                        .messages
                        .iter()
                        .filter(|message| matches!(message, Message::Assistant(_)))
                    {
                        if let Some(text) = text_of(message) {
                            streams.open_text(message.id().as_str(), Digest::of(&text));
                        }
                    }
                    if newer {
                        self.conversation.adopt(&event.messages, at);
                    }
                }
                Event::Custom(event) if event.name == "kronos.queue_snapshot" => {
                    let messages = event.value.get("messages").and_then(Value::as_array);
                    let ids = messages.into_iter().flatten().filter_map(|message| {
                        let id = message.get("id").and_then(Value::as_str)?;
                        id.parse::<MessageId>().ok()
                    });
                    ids.for_each(|id| self.logged(&id));
                }
                Event::RunStarted(event) if newer && !event.run_id.as_str().starts_with("r_snapshot_") => {
                    self.begin_run(&event.run_id, false);
                }
                _ => {}
            }
        }
        if newer {
            self.head = at;
            self.streams = streams.clone();
        }
        faults
    }
}

/// A text that a device has of a message, against that of a snapshot.
fn changed(snapshot: &[Message], id: &str, shown: Digest, at: Seq) -> Option<Fault> {
    let given = snapshot.iter().find(|message| message.id().as_str() == id)?;
    let same = text_of(given).is_none_or(|text| shown.begins(&text));
    let what = || {
        format!(
            "message {id}: its text no longer begins with the {} bytes that were shown",
            shown.len
        )
    };
    (!same).then(|| Fault::new("unsaid", Some(at), what()))
}
