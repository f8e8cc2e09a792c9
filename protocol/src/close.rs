//! Close codes of the websocket and the reason that travels with them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares [`CloseCode`] from one list: name, number, word, and whether a client should connect again.
macro_rules! close_codes {
    ($( $(#[doc = $doc:literal])* $variant:ident = $code:literal $word:literal retry $retry:literal ),* $(,)?) => {
        /// Why a connection is closed. Standard codes first (RFC 6455, section 7.4, and IANA), then 4000 + an HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CloseCode {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl CloseCode {
            /// Every code the server sends.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// Returns the number on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self {
                    $( Self::$variant => $code, )*
                }
            }

            /// Returns the name used in logs and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )*
                }
            }

            /// Whether a client should connect again by itself, with nothing changed.
            #[must_use]
            pub const fn retry(self) -> bool {
                match self {
                    $( Self::$variant => $retry, )*
                }
            }

            /// Returns what the code means: the sentence of its documentation, without the number.
            #[cfg(feature = "schema")]
            #[must_use]
            pub fn about(self) -> String {
                let about = crate::wire::schema::text(match self {
                    $( Self::$variant => &[$( $doc ),*], )*
                });
                about.split_once(": ").map_or(about.clone(), |(_, about)| about.to_owned())
            }
        }
    };
}

close_codes! {
    /// 1000: the connection is done: the client closed it.
    Normal = 1000 "normal" retry false,
    /// 1001: the peer goes away, or it was silent for two pings.
    GoingAway = 1001 "going_away" retry true,
    /// 1002: the peer broke the websocket protocol.
    Protocol = 1002 "protocol" retry false,
    /// 1003: a frame of the wrong type: text on a binary subprotocol, or the reverse.
    UnsupportedData = 1003 "unsupported_data" retry false,
    /// 1007: text that is not UTF-8.
    InvalidText = 1007 "invalid_text" retry false,
    /// 1009: a message over the limit; it is refused at its header.
    TooLarge = 1009 "too_large" retry false,
    /// 1011: a bug of the server.
    Internal = 1011 "internal" retry true,
    /// 1012: the server restarts.
    Restart = 1012 "restart" retry true,
    /// 1013: no place for this user's connection, or tokens cannot be checked now.
    TryLater = 1013 "try_later" retry true,
    /// 4400: a frame that cannot be read as one; an `error` frame comes before.
    BadFrame = 4400 "bad_frame" retry false,
    /// 4401: the token is wrong, expired or revoked.
    Unauthenticated = 4401 "unauthenticated" retry false,
    /// 4403: the token is good, but not for this: the one in `hello` is of another user than the request's.
    Forbidden = 4403 "forbidden" retry false,
    /// 4408: no `hello` in time.
    HelloTimeout = 4408 "hello_timeout" retry true,
    /// 4409: another connection took this one's place.
    Replaced = 4409 "replaced" retry false,
    /// 4429: commands that came too fast were refused, and as many again came without a pause.
    RateLimited = 4429 "rate_limited" retry true,
    /// 4450: the peer reads nothing of what is sent.
    NotReading = 4450 "not_reading" retry true,
}

impl CloseCode {
    /// Returns the code with this number, if it is one the server sends.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.code() == code)
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
