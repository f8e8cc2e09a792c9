//! Identifiers: newtypes over shared strings, checked where they enter. Minting ids is not this crate's business.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::limits;
use crate::wire::Key;

/// Why a text is not an identifier of some kind. Does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {rule}, this one {problem}")]
pub struct IdError {
    /// What was to be read, such as `session id`.
    pub kind: &'static str,
    /// The rule in words, with the limit.
    pub rule: &'static str,
    /// Which part of the rule is broken.
    pub problem: IdProblem,
}

/// The part of an identifier's rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdProblem {
    /// The text has no characters.
    Empty,
    /// The text is longer than the limit; the length is in the unit of the rule.
    TooLong {
        /// Length found, in bytes or characters as the rule says.
        length: usize,
    },
    /// The text has a character that is not allowed.
    Character,
    /// The text means something else in this place.
    Reserved,
}

impl fmt::Display for IdProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { length } => write!(f, "has {length}"),
            Self::Character => f.write_str("has a character that is not allowed"),
            Self::Reserved => f.write_str("is reserved"),
        }
    }
}

/// Which characters an id may have, and in what its length is counted.
#[derive(Clone, Copy)]
enum Alphabet {
    /// Visible ASCII without quotes and backslash, counted in bytes: safe in keys, logs, URLs and JSON unescaped.
    Plain,
    /// Any character but control ones, counted in characters: chosen by foreign clients.
    Free,
}

#[cfg(feature = "schema")]
impl Alphabet {
    /// Returns the characters as a class of a regular expression that every dialect reads the same.
    const fn class(self) -> &'static str {
        match self {
            Self::Plain => r"[!#-&(-\[\]-~]",
            Self::Free => r"[^\x00-\x1f\x7f-\x9f]",
        }
    }
}

fn check(text: &str, alphabet: Alphabet, limit: usize) -> Result<(), IdProblem> {
    if text.is_empty() {
        return Err(IdProblem::Empty);
    }
    let (length, allowed) = match alphabet {
        Alphabet::Plain => (
            text.len(),
            text.bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\')),
        ),
        Alphabet::Free => (text.chars().count(), !text.chars().any(char::is_control)),
    };
    match (length > limit, allowed) {
        (true, _) => Err(IdProblem::TooLong { length }),
        (false, false) => Err(IdProblem::Character),
        (false, true) => Ok(()),
    }
}

macro_rules! id {
    ($(#[doc = $doc:literal])* $name:ident, $kind:literal, $alphabet:ident, $limit:expr, $rule:literal $(, not $reserved:literal)?) => {
        $(#[doc = $doc])*
        #[doc = concat!("\n\nMust be ", $rule, ".")]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest form, in the unit of the type's rule.
            pub const MAX: usize = $limit;

            /// Returns the text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Makes an id of a text that this program made itself: the rule is not checked.
            #[must_use]
            pub fn from_trusted(text: String) -> Self {
                Self(text.into())
            }

            fn verify(text: &str) -> Result<(), IdError> {
                check(text, Alphabet::$alphabet, $limit)
                    $( .and_then(|()| if text == $reserved { Err(IdProblem::Reserved) } else { Ok(()) }) )?
                    .map_err(|problem| IdError { kind: $kind, rule: $rule, problem })
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::verify(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::verify(&text)?;
                Ok(Self(text.into()))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl From<&$name> for String {
            fn from(id: &$name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl From<&$name> for $name {
            fn from(id: &$name) -> Self {
                id.clone()
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let class = Alphabet::$alphabet.class();
                crate::wire::schema::id(&[$( $doc ),*], class, $limit, &[$( $reserved )?])
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Key::deserialize(deserializer)?;
                Self::try_from(text.0.as_ref()).map_err(D::Error::custom)
            }
        }
    };
}

id!(
    /// A durable conversation; the AG-UI `threadId`. [`SessionId::FEED`] stands for the caller's own feed.
    SessionId, "session id", Plain, limits::SESSION_ID_BYTES,
    "1 to 64 bytes of visible ASCII without quotes and backslash, and not \"new\"", not "new"
);
id!(
    /// Who a token speaks for.
    UserId, "user id", Plain, limits::USER_ID_BYTES, "1 to 64 bytes of visible ASCII without quotes and backslash"
);
id!(
    /// One attempt to answer; the AG-UI `runId`.
    RunId, "run id", Plain, limits::RUN_ID_BYTES, "1 to 64 bytes of visible ASCII without quotes and backslash"
);
id!(
    /// One message of a conversation, or one reasoning span or activity; also the idempotency key of `send`.
    MessageId, "message id", Free, limits::MESSAGE_ID_CHARS, "1 to 128 characters without control characters"
);
id!(
    /// One accepted websocket.
    ConnectionId, "connection id", Plain, limits::CONNECTION_ID_BYTES,
    "1 to 64 bytes of visible ASCII without quotes and backslash"
);
id!(
    /// One history of a session: a new epoch means history was lost and every old cursor is void.
    EpochId, "epoch id", Plain, limits::EPOCH_ID_BYTES, "1 to 64 bytes of visible ASCII without quotes and backslash"
);
id!(
    /// One question to a person within a run: an approval, a choice, a missing input.
    InterruptId, "interrupt id", Free, limits::INTERRUPT_ID_CHARS, "1 to 128 characters without control characters"
);
id!(
    /// One note that a user asked to be remembered.
    MemoryId, "memory id", Plain, limits::MEMORY_ID_BYTES,
    "1 to 64 bytes of visible ASCII without quotes and backslash"
);
id!(
    /// What a client calls one of its commands; the reply repeats it.
    Ref, "ref", Free, limits::REF_CHARS, "1 to 64 characters without control characters"
);
id!(
    /// Name or version of a client program, shown to the user's other devices.
    DeviceName, "device name", Free, limits::DEVICE_NAME_CHARS, "1 to 64 characters without control characters"
);

impl SessionId {
    /// The alias of the caller's own feed: which sessions exist, are renamed, run, wait for an answer.
    pub const FEED: &'static str = "@me";

    /// Whether this is the alias of the caller's feed, not a conversation.
    #[must_use]
    pub fn is_feed_alias(&self) -> bool {
        self.as_str() == Self::FEED
    }

    /// The schema of an id or of the word that stands for none.
    #[cfg(feature = "schema")]
    pub(crate) fn schema_with_reserved() -> schemars::Schema {
        crate::wire::schema::id(&[], Alphabet::Plain.class(), Self::MAX, &[])
    }
}
