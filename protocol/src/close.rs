//! Close codes of the websocket and the reason that travels with them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a connection is closed. Standard codes first (RFC 6455, section 7.4, and IANA), then 4000 + an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseCode {
    /// 1000: done.
    Normal,
    /// 1001: the server drains.
    GoingAway,
    /// 1002: the peer broke the websocket protocol.
    Protocol,
    /// 1003: a frame of the wrong type: text on a binary subprotocol, or the reverse.
    UnsupportedData,
    /// 1007: text that is not UTF-8.
    InvalidText,
    /// 1009: a message over the limit.
    TooLarge,
    /// 1011: a bug of the server.
    Internal,
    /// 1012: the server restarts.
    Restart,
    /// 1013: overloaded, come later.
    TryLater,
    /// 4400: a frame that cannot be read.
    BadFrame,
    /// 4401: the token is wrong, expired or revoked.
    Unauthenticated,
    /// 4403: the token is good, but not for this.
    Forbidden,
    /// 4408: no `hello` in time.
    HelloTimeout,
    /// 4409: another connection took this one's place.
    Replaced,
    /// 4429: too many commands.
    RateLimited,
    /// 4450: the peer reads nothing.
    NotReading,
}

impl CloseCode {
    /// Every code the server sends.
    pub const ALL: &'static [Self] = &[
        Self::Normal,
        Self::GoingAway,
        Self::Protocol,
        Self::UnsupportedData,
        Self::InvalidText,
        Self::TooLarge,
        Self::Internal,
        Self::Restart,
        Self::TryLater,
        Self::BadFrame,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::HelloTimeout,
        Self::Replaced,
        Self::RateLimited,
        Self::NotReading,
    ];

    /// Returns the number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::UnsupportedData => 1003,
            Self::InvalidText => 1007,
            Self::TooLarge => 1009,
            Self::Internal => 1011,
            Self::Restart => 1012,
            Self::TryLater => 1013,
            Self::BadFrame => 4400,
            Self::Unauthenticated => 4401,
            Self::Forbidden => 4403,
            Self::HelloTimeout => 4408,
            Self::Replaced => 4409,
            Self::RateLimited => 4429,
            Self::NotReading => 4450,
        }
    }

    /// Returns the name used in logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going_away",
            Self::Protocol => "protocol",
            Self::UnsupportedData => "unsupported_data",
            Self::InvalidText => "invalid_text",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
            Self::Restart => "restart",
            Self::TryLater => "try_later",
            Self::BadFrame => "bad_frame",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::HelloTimeout => "hello_timeout",
            Self::Replaced => "replaced",
            Self::RateLimited => "rate_limited",
            Self::NotReading => "not_reading",
        }
    }

    /// Returns the code with this number, if it is one the server sends.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.code() == code)
    }

    /// Whether a client should connect again by itself, with nothing changed.
    #[must_use]
    pub const fn retry(self) -> bool {
        match self {
            Self::GoingAway
            | Self::Internal
            | Self::Restart
            | Self::TryLater
            | Self::HelloTimeout
            | Self::RateLimited
            | Self::NotReading => true,
            Self::Normal
            | Self::Protocol
            | Self::UnsupportedData
            | Self::InvalidText
            | Self::TooLarge
            | Self::BadFrame
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::Replaced => false,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.as_str())
    }
}

/// Whether a peer may send `code` in a close frame (RFC 6455, section 7.4, and the IANA registry).
///
/// 1004, 1005, 1006 and 1015 never travel; 1016 to 2999 are not assigned; below 1000 and from 5000 nothing is.
#[must_use]
pub const fn is_valid_received(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The reason of a close frame: JSON such as `{"retry":true,"after_ms":1200}`. Clients obey it, not the code's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseReason {
    /// Whether to connect again.
    pub retry: bool,
    /// Milliseconds to wait before; absent: the client's own back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

impl CloseReason {
    /// Returns the reason that goes with `code`, without a waiting time.
    #[must_use]
    pub const fn of(code: CloseCode) -> Self {
        Self {
            retry: code.retry(),
            after_ms: None,
        }
    }

    /// Returns the text for the close frame: at most 50 bytes of the 123 that fit.
    #[must_use]
    pub fn encode(&self) -> String {
        match self.after_ms {
            Some(after_ms) => format!(r#"{{"retry":{},"after_ms":{after_ms}}}"#, self.retry),
            None => format!(r#"{{"retry":{}}}"#, self.retry),
        }
    }

    /// Reads the text of a close frame; `None` when a proxy or another server wrote it.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
