//! `attach`: follow a session, the caller's feed, or a session made on the spot.

use serde::de::{Deserialize, Deserializer, Error, MapAccess};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::settings::SessionSettings;
use crate::ids::SessionId;
use crate::position::Cursor;
use crate::wire::macros::{json_schema_of, wire_struct};
use crate::wire::{Fields, FieldsVisitor, FromFields, write_map};

/// `attach`: follow a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Which one. On the wire `session`: an id, `@me`, or `new` with `title` and `settings` beside it.
    pub session: AttachTarget,
    /// The last position the client has seen; absent: from the start.
    pub after: Option<Cursor>,
    /// Only the last so many events of history; 0 for none.
    pub tail: Option<u32>,
}

/// What to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachTarget {
    /// A session that exists.
    Existing(SessionId),
    /// The caller's own feed.
    Feed,
    /// A session to be made.
    New {
        /// Its title; absent: made from the first message.
        title: Option<String>,
        /// Its settings, where they are not the defaults.
        settings: Option<SessionSettings>,
    },
}

impl AttachTarget {
    /// The `session` that asks for a new one; never an id.
    pub const NEW: &'static str = "new";

    /// Returns the target for a session id, with the alias of the feed told apart.
    #[must_use]
    pub fn of(session: SessionId) -> Self {
        if session.is_feed_alias() {
            Self::Feed
        } else {
            Self::Existing(session)
        }
    }

    /// Returns `session` as it is on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Existing(id) => id.as_str(),
            Self::Feed => SessionId::FEED,
            Self::New { .. } => Self::NEW,
        }
    }
}

impl Attach {
    /// Returns an `attach` from the start of the history.
    #[must_use]
    pub fn new(session: AttachTarget) -> Self {
        Self {
            session,
            after: None,
            tail: None,
        }
    }
}

wire_struct! {
    /// The flat wire form of [`Attach`].
    struct AttachFields {
        required {
            /// Which one: an id, `@me` for the caller's own feed, or `new` for a session to be made.
            session: String = "session",
        }
        nullable {
            /// The last position the client has seen; absent: from the start.
            after: Cursor = "after",
            /// Only the last so many events of history; 0 for none.
            tail: u32 = "tail",
            /// Of a new session the title; absent: made from the first message.
            title: String = "title",
            /// Of a new session the settings, where they are not the defaults.
            settings: SessionSettings = "settings",
        }
    }
}

impl From<&Attach> for AttachFields {
    fn from(attach: &Attach) -> Self {
        let (title, settings) = match &attach.session {
            AttachTarget::New { title, settings } => (title.clone(), settings.clone()),
            AttachTarget::Existing(_) | AttachTarget::Feed => (None, None),
        };
        let after = attach.after.clone();
        Self {
            after,
            tail: attach.tail,
            title,
            settings,
            ..Self::new(attach.session.as_str())
        }
    }
}

impl FromFields for Attach {
    const EXPECTING: &'static str = "an object with the fields of Attach";

    fn read<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let AttachFields {
            session,
            after,
            tail,
            title,
            settings,
        } = AttachFields::read(map)?;
        let session = if session == AttachTarget::NEW {
            AttachTarget::New { title, settings }
        } else {
            let id = session
                .parse()
                .map_err(|error| A::Error::custom(format_args!("session: {error}")))?;
            AttachTarget::of(id)
        };
        Ok(Self { session, after, tail })
    }
}

impl Fields for Attach {
    fn count(&self) -> usize {
        AttachFields::from(self).count()
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        AttachFields::from(self).write(map)
    }
}

impl Serialize for Attach {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_map(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Attach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor::<Self>(std::marker::PhantomData))
    }
}

#[cfg(feature = "schema")]
impl crate::wire::schema::DescribeFields for Attach {
    const NAME: &'static str = "Attach";
    const DOC: &'static [&'static str] = &["`attach`: follow a session."];

    fn describe(object: &mut crate::wire::schema::Object<'_>) {
        AttachFields::describe(object);
        object.refine("session", SessionId::schema_with_reserved());
    }
}

json_schema_of!(Attach, generator => crate::wire::schema::of_fields::<Self>(generator));
