//! What a user message or a tool result consists of.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};
use serde_json::Value;

use crate::wire::macros::object_enums;
use crate::wire::not_null;

/// A text, or parts: on the wire a string or a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum UserContent {
    /// Plain text.
    Text(String),
    /// Texts and media in order.
    Parts(Vec<ContentPart>),
}

/// One part of a message: an object with `type`. A type this version does not know is refused, not dropped.
#[derive(Debug, Clone, PartialEq, Serialize, DeriveDeserialize)]
#[serde(remote = "Self", tag = "type", rename_all = "lowercase")]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ContentPart", transform = crate::wire::schema::refuse_nulls)
)]
pub enum ContentPart {
    /// A text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        source: Source,
        /// Any JSON of the application.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        metadata: Option<Value>,
    },
    /// A sound.
    Audio {
        /// Where its bytes are.
        source: Source,
        /// Any JSON of the application.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        metadata: Option<Value>,
    },
    /// A film.
    Video {
        /// Where its bytes are.
        source: Source,
        /// Any JSON of the application.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        metadata: Option<Value>,
    },
    /// A document.
    Document {
        /// Where its bytes are.
        source: Source,
        /// Any JSON of the application.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        metadata: Option<Value>,
    },
}

/// Where the bytes of a part are: an object with `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, DeriveDeserialize)]
#[serde(
    remote = "Self",
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Source", transform = crate::wire::schema::refuse_nulls)
)]
pub enum Source {
    /// Here.
    Data {
        /// The bytes in base64.
        value: String,
        /// Their media type, such as `image/png`.
        mime_type: String,
    },
    /// At an address.
    Url {
        /// The address.
        value: String,
        /// Their media type, if known.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        mime_type: Option<String>,
    },
    /// At a provider, uploaded before.
    File {
        /// The provider's handle.
        value: String,
        /// Which provider.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        provider: Option<String>,
        /// Their media type, if known.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        mime_type: Option<String>,
    },
}

impl UserContent {
    /// Returns the text: all of it, or the text parts joined without a separator.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Parts(parts) => Cow::Owned(parts.iter().filter_map(ContentPart::text).collect()),
        }
    }

    /// Returns the length of the text in characters, without building it.
    #[must_use]
    pub fn text_chars(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Parts(parts) => parts
                .iter()
                .filter_map(ContentPart::text)
                .map(|text| text.chars().count())
                .sum(),
        }
    }
}

impl ContentPart {
    /// Returns a text part.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// Returns the text of a text part.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            Self::Image { .. } | Self::Audio { .. } | Self::Video { .. } | Self::Document { .. } => None,
        }
    }
}

impl From<String> for UserContent {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for UserContent {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<ContentPart>> for UserContent {
    fn from(parts: Vec<ContentPart>) -> Self {
        Self::Parts(parts)
    }
}

impl<'de> Deserialize<'de> for UserContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = UserContent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of content parts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<UserContent, E> {
        Ok(UserContent::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<UserContent, E> {
        Ok(UserContent::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<UserContent, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element()? {
            parts.push(part);
        }
        Ok(UserContent::Parts(parts))
    }
}

object_enums!(ContentPart, Source);
