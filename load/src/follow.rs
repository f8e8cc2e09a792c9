//! Checks what a client sees of one session: nothing missing, nothing twice, and the text that it comes to.

use anyhow::ensure;
use serde_json::Value;

use crate::peer::{Entry, Frame};

/// What a client knows of a session.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// The last position that it saw.
    pub(crate) seq: u64,
    /// The texts of the model, behind each other.
    pub(crate) text: String,
    /// Deltas, merged ones counted once.
    pub(crate) deltas: usize,
    /// Runs that have ended well.
    pub(crate) finished: usize,
}

impl Follower {
    /// Takes a frame; those without events change nothing.
    ///
    /// # Errors
    /// A position is missing or comes twice, or a run failed.
    pub(crate) fn take(&mut self, frame: &Frame) -> anyhow::Result<()> {
        if frame.op != "events" {
            return Ok(());
        }
        if frame.snapshot {
            self.text.clear();
        }
        for entry in &frame.events {
            if frame.snapshot {
                self.seq = entry.seq;
            } else {
                self.advance(entry)?;
            }
            self.apply(&entry.event)?;
        }
        Ok(())
    }

    fn advance(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let first = entry.first.unwrap_or(entry.seq);
        let seen = self.seq;
        ensure!(first > seen, "position {first} came twice: {seen} had been seen");
        ensure!(first == seen + 1, "position {} is missing: {first} came", seen + 1);
        ensure!(entry.seq >= first, "positions {first} to {}", entry.seq);
        self.seq = entry.seq;
        Ok(())
    }

    fn apply(&mut self, event: &Value) -> anyhow::Result<()> {
        match event["type"].as_str().unwrap_or_default() {
            "TEXT_MESSAGE_CONTENT" => {
                self.deltas += 1;
                self.text.push_str(event["delta"].as_str().unwrap_or_default());
            }
            "MESSAGES_SNAPSHOT" => {
                let messages = event["messages"].as_array().into_iter().flatten();
                let said = messages.filter(|message| message["role"] == "assistant");
                self.text.extend(said.filter_map(|message| message["content"].as_str()));
            }
            "RUN_FINISHED" => self.finished += 1,
            "RUN_ERROR" => anyhow::bail!("the run failed: {event}"),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(events: Value) -> Frame {
        serde_json::from_value(json!({"op": "events", "events": events})).unwrap()
    }

    fn delta(seq: u64, first: Option<u64>, text: &str) -> Value {
        json!({"seq": seq, "first": first, "event": {"type": "TEXT_MESSAGE_CONTENT", "delta": text}})
    }

    #[test]
    fn merged_events_count_for_all_of_them() {
        let mut follower = Follower::default();
        let frame = frame(json!([delta(1, None, "a"), delta(4, Some(2), "b")]));
        follower.take(&frame).unwrap();
        assert_eq!((follower.seq, follower.text.as_str()), (4, "ab"));
    }

    #[test]
    fn gaps_and_repetitions_are_errors() {
        for second in [delta(1, None, "b"), delta(3, None, "b"), delta(4, Some(3), "b")] {
            let mut follower = Follower::default();
            let frame = frame(json!([delta(1, None, "a"), second]));
            assert!(follower.take(&frame).is_err(), "{frame:?}");
        }
    }
}
