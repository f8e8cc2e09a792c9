//! The calls of tools, and what of them was told. Pure.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::News;

/// All calls of a conversation.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: HashMap<String, Call>,
}

/// One call.
#[derive(Debug, Default)]
struct Call {
    /// The tool, and a number when another call of the same one is under way.
    label: String,
    arguments: String,
    told: bool,
    /// The last status that was told.
    status: Option<String>,
    answered: bool,
}

impl Calls {
    /// A call begins; when it was told before, it is read once more without being told again.
    pub(super) fn start(&mut self, id: &str, tool: &str) {
        let open = self.all.iter().filter(|(other, call)| *other != id && !call.answered);
        let same = open
            .filter(|(_, call)| call.label.split(' ').next() == Some(tool))
            .count();
        let call = self.all.entry(id.to_owned()).or_default();
        if call.label.is_empty() {
            call.label = if same == 0 {
                tool.to_owned()
            } else {
                format!("{tool} #{}", same + 1)
            };
        }
        call.arguments.clear();
    }

    /// More of its arguments.
    pub(super) fn append(&mut self, id: &str, delta: &str) {
        if let Some(call) = self.all.get_mut(id) {
            call.arguments.push_str(delta);
        }
    }

    /// Its arguments are complete.
    pub(super) fn end(&mut self, id: &str) -> Option<News> {
        let call = self.all.get_mut(id)?;
        (!std::mem::replace(&mut call.told, true)).then(|| News::Called {
            tool: call.label.clone(),
            arguments: call.arguments.clone(),
        })
    }

    /// A whole call, as a snapshot has it.
    pub(super) fn whole(&mut self, id: &str, tool: &str, arguments: &str) -> Option<News> {
        self.start(id, tool);
        self.append(id, arguments);
        self.end(id)
    }

    /// How it gets on.
    pub(super) fn status(&mut self, id: &str, status: &str, why: Option<&str>) -> Option<News> {
        let call = self.all.get_mut(id)?;
        if call.answered || call.status.as_deref() == Some(status) {
            return None;
        }
        call.status = Some(status.to_owned());
        matches!(status, "running" | "waiting" | "unknown").then(|| News::Progress {
            tool: call.label.clone(),
            status: status.to_owned(),
            why: why.map(str::to_owned),
        })
    }

    /// What it returned.
    pub(super) fn result(&mut self, id: &str, content: &str) -> Option<News> {
        let call = self.all.entry(id.to_owned()).or_default();
        if std::mem::replace(&mut call.answered, true) {
            return None;
        }
        let (failed, text) = read(content);
        Some(News::Returned {
            tool: call.label.clone(),
            text,
            failed,
        })
    }

    /// The arguments of a call that is known, if they can be read.
    pub(super) fn arguments(&self, id: &str) -> Option<Map<String, Value>> {
        serde_json::from_str(&self.all.get(id)?.arguments).ok()
    }

    /// The name of its tool.
    pub(super) fn tool(&self, id: &str) -> Option<&str> {
        self.all.get(id).map(|call| call.label.as_str())
    }

    /// Whether one is under way now.
    pub(super) fn is_running(&self) -> bool {
        let running = |call: &Call| !call.answered && call.status.as_deref() == Some("running");
        self.all.values().any(running)
    }

    /// The run has ended: nothing is under way any more.
    pub(super) fn rest(&mut self) {
        self.all.values_mut().for_each(|call| call.status = None);
    }
}

/// Whether a result says that the call failed, and its text: the error's, else all of it.
fn read(content: &str) -> (bool, String) {
    let error = serde_json::from_str::<Map<String, Value>>(content).ok();
    match error.as_ref().and_then(|object| object.get("error")) {
        Some(Value::String(text)) => (true, text.clone()),
        Some(Value::Null) | None => (false, content.to_owned()),
        Some(other) => (true, other.to_string()),
    }
}
