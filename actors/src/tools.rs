//! Tools as a session sees them: what may be offered to the model, what is to be done, and what came of it.
//!
//! A session never does IO: it asks [`ToolsRef`], and the answers come back as messages. Where a tool really lives (in this
//! process, at Composio) is decided here and nowhere else.

use std::{sync::Arc, time::Instant};

use actix::prelude::*;
use kronos_protocol::ids::{RunId, SessionId, UserId};
use serde_json::{Map, Value};

use crate::mailbox::Queued;

mod arguments;
mod builtin;
mod calculate;
pub mod memory;
mod metrics;
mod now;
mod outlet;
mod service;

pub use arguments::check_arguments;
pub use builtin::tools as built_in;
pub use service::{ToolHandle, ToolsRef};

/// The toolkit of the tools that need no other service.
pub const BUILTIN: &str = "kronos";

/// A tool that the model may be offered.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name, for the model and for clients: a Composio slug, or the name of a built-in one.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of its arguments, as its source gives it; `None`: it takes none.
    pub parameters: Option<Arc<Value>>,
    /// The toolkit it belongs to: [`BUILTIN`], or a Composio slug.
    pub toolkit: String,
    /// The pinned version of the toolkit: what the model saw is what runs.
    pub version: Option<String>,
    /// It changes nothing.
    pub read_only: bool,
    /// Under `ask_writes` a person is asked before it runs.
    pub asks: bool,
    /// The same call with the same key may be made again when nobody knows what became of it: it has its effect once.
    pub repeatable: bool,
}

/// What a run may work with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    /// The tools, in a stable order.
    pub tools: Vec<Tool>,
    /// What the user asked to be remembered, oldest first: the model reads it with its system prompt. Of very many the
    /// newest: `recall` finds the others.
    pub notes: Vec<String>,
    /// For each toolkit whose tools could not be had a sentence for the user, which names it.
    pub missing: Vec<String>,
}

/// Asks for the tools of a run.
#[derive(Debug, Clone)]
pub struct OfferRequest {
    /// The run.
    pub run: RunId,
    /// Its user.
    pub user: UserId,
    /// Toolkits by slug, [`BUILTIN`] among them; `None`: the built-in ones and those that the user has connected; empty: none.
    pub toolkits: Option<Vec<String>>,
    /// What the user said, to choose among many tools.
    pub hint: String,
}

/// One call to make. Its intent is durable.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The run.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// Its user.
    pub user: UserId,
    /// The call, unique in the session.
    pub call: String,
    /// Unique for each time that the call may have an effect; the same for each attempt that is known to have had none, and,
    /// of a repeatable tool, for each attempt.
    pub key: String,
    /// The tool.
    pub tool: String,
    /// Its toolkit.
    pub toolkit: String,
    /// The version that was offered.
    pub version: Option<String>,
    /// It changes nothing.
    pub read_only: bool,
    /// [`Tool::repeatable`].
    pub repeatable: bool,
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// When the run must have ended.
    pub deadline: Instant,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The tool did it.
    Done(Value),
    /// It did not, or says that it did not: what the model is told.
    Failed(String),
    /// The user's account for this toolkit is missing, disabled or expired; nothing was done.
    NotConnected {
        /// The toolkit.
        toolkit: String,
        /// One sentence for the user.
        message: String,
    },
    /// The call left, and nobody knows what became of it.
    Unknown(String),
}

impl Outcome {
    /// Why it is no success, in a word; the values of a metric's label.
    #[must_use]
    pub const fn failure(&self) -> Option<&'static str> {
        match self {
            Self::Done(_) => None,
            Self::Failed(_) | Self::NotConnected { .. } | Self::Unknown(_) => Some(self.as_str()),
        }
    }

    /// Its word in metrics.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
            Self::NotConnected { .. } => "not_connected",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Asks for a link with which the user connects an account. The session is told when an account of that toolkit is there
/// ([`SessionCommand::Connected`](crate::session::message::SessionCommand)).
#[derive(Debug, Clone)]
pub struct LinkRequest {
    /// The run.
    pub run: RunId,
    /// The session that waits.
    pub session: SessionId,
    /// The user.
    pub user: UserId,
    /// The toolkit.
    pub toolkit: String,
}

/// Where the user connects an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The connection that is being made.
    pub connection: String,
    /// The page to open.
    pub redirect_url: String,
    /// When the link lapses, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
}

/// What a session that asked is told.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ToolEvent {
    /// The run that asked.
    pub run: RunId,
    /// What it is told.
    pub answer: ToolAnswer,
    /// Its place in the mailbox.
    pub(crate) queued: Queued,
}

/// The answers to [`OfferRequest`], [`Execution`] and [`LinkRequest`]: one each.
#[derive(Debug, Clone)]
pub enum ToolAnswer {
    /// The tools.
    Offered(Offer),
    /// A call is over.
    Finished {
        /// The call.
        call: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// A link, or why there is none.
    Linked {
        /// The toolkit.
        toolkit: String,
        /// The link.
        link: Result<Link, String>,
    },
}

#[cfg(test)]
mod tests;
