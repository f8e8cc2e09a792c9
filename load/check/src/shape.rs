//! What a run came to, as far as a replay must come to the same.

use kronos_protocol::RunId;
use serde::Serialize;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// RUN_FINISHED, outcome success.
    Success,
    /// RUN_FINISHED, outcome interrupt: it asks somebody.
    Asks,
    /// RUN_FINISHED, outcome cancelled.
    Cancelled,
    /// RUN_ERROR.
    Failed,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunShape {
    /// How it ended.
    pub end: RunEnd,
    /// Whether it wrote text. Not compared when it was cancelled.
    pub text: bool,
    /// The names of the tools that it called, in order. Not compared when it was cancelled.
    pub tools: Vec<String>,
}

impl RunShape {
    /// Whether `other` came to the same.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.end == other.end
            && (self.end == RunEnd::Cancelled || (self.text == other.text && self.tools == other.tools))
    }
}

/// A run as the devices saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// How it ended; `None`: nobody saw it end.
    pub end: Option<RunEnd>,
    /// Whether it wrote text.
    pub text: bool,
    /// The names of the tools that it called, in order.
    pub tools: Vec<String>,
    /// Whether all of it was seen: a snapshot may stand for a part.
    pub whole: bool,
}

impl Run {
    /// Returns what it came to; `None` when it has not ended or a part of it was not seen.
    #[must_use]
    pub fn shape(&self) -> Option<RunShape> {
        let shape = |end| RunShape {
            end,
            text: self.text,
            tools: self.tools.clone(),
        };
        self.end.filter(|_| self.whole).map(shape)
    }
}
