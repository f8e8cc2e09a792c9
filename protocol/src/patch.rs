//! JSON Patch (RFC 6902): the operations as they travel. Applying them is the reader's business.

use std::fmt;

use crate::wire::macros::object_enums;
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Deserialize as DeriveDeserialize, Serialize};
use serde_json::Value;

/// One operation of a patch: an object with `op`.
#[derive(Debug, Clone, PartialEq, Serialize, DeriveDeserialize)]
#[serde(remote = "Self", tag = "op", rename_all = "lowercase")]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "PatchOp", transform = crate::wire::schema::refuse_nulls)
)]
pub enum PatchOp {
    /// Puts a value where none was, or into a list.
    Add {
        /// Where.
        path: Pointer,
        /// What.
        value: Value,
    },
    /// Takes a value away.
    Remove {
        /// Where.
        path: Pointer,
    },
    /// Puts a value in place of another.
    Replace {
        /// Where.
        path: Pointer,
        /// What.
        value: Value,
    },
    /// Takes a value away and puts it elsewhere.
    Move {
        /// From where.
        from: Pointer,
        /// To where.
        path: Pointer,
    },
    /// Puts a value elsewhere too.
    Copy {
        /// From where.
        from: Pointer,
        /// To where.
        path: Pointer,
    },
    /// Fails the patch unless the value is this.
    Test {
        /// Where.
        path: Pointer,
        /// What.
        value: Value,
    },
}

/// A JSON Pointer (RFC 6901): empty, or reference tokens that each start with `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Pointer(String);

/// A text that is not a JSON Pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path must be a JSON Pointer: empty, or starting with a slash, with ~ only as ~0 or ~1")]
pub struct PointerError;

impl Pointer {
    /// Returns the pointer as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pointer {
    type Error = PointerError;

    fn try_from(text: String) -> Result<Self, PointerError> {
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if escapes && (text.is_empty() || text.starts_with('/')) {
            Ok(Self(text))
        } else {
            Err(PointerError)
        }
    }
}

impl TryFrom<&str> for Pointer {
    type Error = PointerError;

    fn try_from(text: &str) -> Result<Self, PointerError> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Pointer {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pointer".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(/([^~]|~[01])*)?$",
            "description": "A JSON Pointer (RFC 6901).",
        })
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

object_enums!(PatchOp);
