//! Settings of a session, and the command that changes them.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, MapAccess};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::ids::SessionId;
use crate::wire::macros::{json_schema_of, wire_struct, words};
use crate::wire::{Fields, FieldsVisitor, FromFields, write_map};

words! {
    /// Which tool calls wait for a person.
    #[derive(Default)]
    pub enum ToolPolicy: "a tool policy" {
        /// None.
        Auto = "auto",
        /// Those the catalogue does not mark read-only.
        #[default]
        AskWrites = "ask_writes",
        /// All.
        AskAll = "ask_all",
    }
}

words! {
    /// What happens to calls of one tool, whatever the policy says.
    pub enum ToolRule: "a rule for a tool" {
        /// They run.
        Auto = "auto",
        /// They wait for a person.
        Ask = "ask",
        /// They are refused, and the tool is not offered.
        Deny = "deny",
    }
}

wire_struct! {
    /// Settings of a session. In a command what is absent stays as it is; null is refused.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct SessionSettings {
        optional {
            /// Its title.
            title: String = "title",
            /// The model.
            model: String = "model",
            /// Which tool calls wait for a person.
            tool_policy: ToolPolicy = "tool_policy",
            /// Toolkits whose tools it may use, by slug.
            toolkits: Vec<String> = "toolkits",
            /// The system prompt.
            system_prompt: String = "system_prompt",
            /// Rules for single tools, by name; a change names all of them.
            tool_rules: BTreeMap<String, ToolRule> = "tool_rules",
            /// The branch of the conversation that is shown and goes on.
            branch: String = "branch",
        }
    }
}

/// `settings`: change settings of a session. On the wire the settings are beside `session`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The session.
    pub session: SessionId,
    /// What changes.
    pub settings: SessionSettings,
}

impl Settings {
    /// Returns a change of `session`'s settings.
    #[must_use]
    pub fn new(session: SessionId, settings: SessionSettings) -> Self {
        Self { session, settings }
    }
}

wire_struct! {
    /// The flat wire form of [`Settings`].
    struct SettingsFields {
        required {
            session: SessionId = "session",
        }
        optional {
            title: String = "title",
            model: String = "model",
            tool_policy: ToolPolicy = "tool_policy",
            toolkits: Vec<String> = "toolkits",
            system_prompt: String = "system_prompt",
            tool_rules: BTreeMap<String, ToolRule> = "tool_rules",
            branch: String = "branch",
        }
    }
}

impl From<Settings> for SettingsFields {
    fn from(command: Settings) -> Self {
        let SessionSettings {
            title,
            model,
            tool_policy,
            toolkits,
            system_prompt,
            tool_rules,
            branch,
        } = command.settings;
        Self {
            title,
            model,
            tool_policy,
            toolkits,
            system_prompt,
            tool_rules,
            branch,
            ..Self::new(command.session)
        }
    }
}

impl FromFields for Settings {
    const EXPECTING: &'static str = "an object with the fields of Settings";

    fn read<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let SettingsFields {
            session,
            title,
            model,
            tool_policy,
            toolkits,
            system_prompt,
            tool_rules,
            branch,
        } = SettingsFields::read(map)?;
        Ok(Self {
            session,
            settings: SessionSettings {
                title,
                model,
                tool_policy,
                toolkits,
                system_prompt,
                tool_rules,
                branch,
            },
        })
    }
}

impl Fields for Settings {
    fn count(&self) -> usize {
        self.settings.count().saturating_add(1)
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("session", &self.session)?;
        self.settings.write(map)
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_map(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor::<Self>(std::marker::PhantomData))
    }
}

#[cfg(feature = "schema")]
impl crate::wire::schema::DescribeFields for Settings {
    const NAME: &'static str = "Settings";
    const DOC: &'static [&'static str] = &["`settings`: change settings of a session. What is absent stays as it is."];

    fn describe(object: &mut crate::wire::schema::Object<'_>) {
        object.required::<SessionId>("session", &["The session."]);
        SessionSettings::describe(object);
    }
}

json_schema_of!(Settings, generator => crate::wire::schema::of_fields::<Self>(generator));
