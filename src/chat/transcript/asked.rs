//! Questions to the user, and who answered them. Pure.

use kronos_protocol::InterruptId;
use kronos_protocol::message::Interrupt;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::calls::Calls;

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) enum About {
    /// Whether a tool may be called.
    Approval,
    /// What became of a call.
    Unknown,
    /// An account that is missing, and the page that makes one.
    Connection { link: Option<String> },
    /// Something that this client cannot answer.
    Other,
}

/// A question that is open.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::chat) struct Question {
    /// Its id.
    pub(in crate::chat) id: InterruptId,
    /// What it is about.
    pub(in crate::chat) about: About,
    /// The question in words.
    pub(in crate::chat) text: String,
    /// The tool.
    pub(in crate::chat) tool: String,
    /// The arguments of the call, when they are known.
    pub(in crate::chat) arguments: Option<Map<String, Value>>,
}

impl Question {
    pub(super) fn read(interrupt: &Interrupt, calls: &Calls) -> Self {
        let about = interrupt.metadata.as_ref().and_then(|metadata| metadata.get("kronos"));
        let word = |name: &str| about.and_then(|about| about.get(name)?.as_str()).map(str::to_owned);
        let call = interrupt.tool_call_id.as_deref().unwrap_or_default();
        Self {
            id: interrupt.id.clone(),
            about: match interrupt.reason.as_str() {
                "tool_call" => About::Approval,
                "kronos:unknown_outcome" => About::Unknown,
                "kronos:connection_required" => About::Connection {
                    link: word("redirectUrl"),
                },
                _ => About::Other,
            },
            text: interrupt.message.clone().unwrap_or_else(|| interrupt.reason.clone()),
            tool: calls
                .tool(call)
                .map(str::to_owned)
                .or_else(|| word("tool"))
                .unwrap_or_default(),
            arguments: calls.arguments(call),
        }
    }
}

/// What was answered to a question, and by whom: of an event, or of the `details` of a `conflict`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::chat) struct Verdict {
    /// The question.
    pub(in crate::chat) interrupt_id: InterruptId,
    /// The call it is about.
    #[serde(default)]
    pub(in crate::chat) tool_call_id: Option<String>,
    /// The answer in one word.
    #[serde(default)]
    pub(in crate::chat) verdict: String,
    /// Who gave it.
    #[serde(default)]
    pub(in crate::chat) answered_by: By,
}

/// Who answered a question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(in crate::chat) struct By {
    /// The user; nobody when it lapsed, or an account was there.
    #[serde(default)]
    pub(in crate::chat) user: Option<String>,
    /// The connection.
    #[serde(default)]
    pub(in crate::chat) connection: Option<String>,
    /// The client program.
    #[serde(default)]
    pub(in crate::chat) device: Option<String>,
}
