//! The catalogue of toolkits, tools and triggers, read from the files beside this module.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::call::Version;
use super::world::Act;

const FILES: &[&str] = &[
    include_str!("catalog/github.json"),
    include_str!("catalog/gmail.json"),
    include_str!("catalog/slack.json"),
    include_str!("catalog/googlecalendar.json"),
    include_str!("catalog/notion.json"),
    include_str!("catalog/hackernews.json"),
    include_str!("catalog/perplexityai.json"),
];

/// All toolkits.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) toolkits: Vec<Toolkit>,
}

/// One toolkit with everything in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolkit {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) app_url: String,
    #[serde(default)]
    pub(crate) base_url: Option<String>,
    /// What `GET /user` or its like answers, and where.
    #[serde(default)]
    pub(crate) current_user: Option<CurrentUser>,
    pub(crate) categories: Vec<Category>,
    /// Newest first.
    pub(crate) versions: Vec<String>,
    /// Empty for a toolkit without authentication.
    #[serde(default)]
    pub(crate) auth: Vec<Auth>,
    /// Whether each user sees a world of its own.
    #[serde(default)]
    pub(crate) private: bool,
    /// What is there before any tool ran.
    #[serde(default)]
    pub(crate) seed: Vec<Seed>,
    pub(crate) tools: Vec<Tool>,
    #[serde(default)]
    pub(crate) triggers: Vec<TriggerType>,
    /// Slugs that existed once.
    #[serde(default)]
    pub(crate) removed: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CurrentUser {
    pub(crate) path: String,
    pub(crate) data: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Category {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// One way to authenticate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    pub(crate) mode: String,
    #[serde(default)]
    pub(crate) managed: bool,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// What the end user enters.
    #[serde(default)]
    pub(crate) user_fields: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seed {
    pub(crate) collection: String,
    #[serde(default)]
    pub(crate) scope: String,
    pub(crate) items: Vec<Value>,
}

/// One tool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The first version that has it.
    #[serde(default)]
    pub(crate) since: String,
    #[serde(default)]
    pub(crate) deprecated: bool,
    pub(crate) input: Value,
    #[serde(default)]
    pub(crate) output: Option<Value>,
    /// Properties that came later, and with which version.
    #[serde(default)]
    pub(crate) added: BTreeMap<String, String>,
    pub(crate) act: Act,
}

/// One kind of trigger.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriggerType {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) instructions: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) config: Value,
    pub(crate) payload: Value,
    /// What an event carries when nothing else is asked for.
    pub(crate) example: Value,
}

impl Catalog {
    /// Reads the built-in files and what is added to them.
    pub(crate) fn load(extra: &[Value]) -> serde_json::Result<Self> {
        let built_in = FILES.iter().map(|text| serde_json::from_str::<Toolkit>(text));
        let added = extra.iter().map(Toolkit::deserialize);
        let toolkits = built_in.chain(added).collect::<serde_json::Result<Vec<_>>>()?;
        Ok(Self { toolkits })
    }

    pub(crate) fn toolkit(&self, slug: &str) -> Option<&Toolkit> {
        self.toolkits
            .iter()
            .find(|toolkit| toolkit.slug.eq_ignore_ascii_case(slug))
    }

    pub(crate) fn tools(&self) -> impl Iterator<Item = (&Toolkit, &Tool)> {
        self.toolkits
            .iter()
            .flat_map(|toolkit| toolkit.tools.iter().map(move |tool| (toolkit, tool)))
    }

    pub(crate) fn tool(&self, slug: &str) -> Option<(&Toolkit, &Tool)> {
        self.tools().find(|(_, tool)| tool.slug == slug)
    }

    pub(crate) fn was_removed(&self, slug: &str) -> bool {
        self.toolkits
            .iter()
            .any(|toolkit| toolkit.removed.iter().any(|gone| gone == slug))
    }

    pub(crate) fn triggers(&self) -> impl Iterator<Item = (&Toolkit, &TriggerType)> {
        self.toolkits
            .iter()
            .flat_map(|toolkit| toolkit.triggers.iter().map(move |trigger| (toolkit, trigger)))
    }
}

impl Toolkit {
    pub(crate) fn logo(&self) -> String {
        format!("https://logos.composio.dev/api/{}", self.slug)
    }

    pub(crate) fn no_auth(&self) -> bool {
        self.auth.is_empty()
    }

    pub(crate) fn newest(&self) -> &str {
        self.versions.first().map_or("00000000_00", String::as_str)
    }

    /// Finds the version that is meant; `None` when the toolkit does not have it.
    pub(crate) fn version(&self, asked: Option<&str>, api: Version) -> Option<&str> {
        match asked {
            Some("latest") => Some(self.newest()),
            Some(asked) => self.versions.iter().map(String::as_str).find(|known| *known == asked),
            None if api == Version::V3 => self.versions.last().map(String::as_str),
            None => Some(self.newest()),
        }
    }

    /// Returns the short form that tools and triggers carry.
    pub(crate) fn short(&self) -> Value {
        json!({"slug": self.slug, "name": self.name, "logo": self.logo()})
    }
}

impl Tool {
    pub(crate) fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// Says whether a run may change something.
    pub(crate) fn writes(&self) -> bool {
        !self.has("readOnlyHint")
    }

    pub(crate) fn in_version(&self, version: &str) -> bool {
        self.since.as_str() <= version
    }

    /// Returns the schema of the arguments as it was in `version`.
    pub(crate) fn input_in(&self, version: &str) -> Value {
        let mut input = self.input.clone();
        if let Some(properties) = input.get_mut("properties").and_then(Value::as_object_mut) {
            let later = |name: &String| self.added.get(name).is_some_and(|since| since.as_str() > version);
            let kept: Map<String, Value> = std::mem::take(properties)
                .into_iter()
                .filter(|(name, _)| !later(name))
                .collect();
            *properties = kept;
        }
        input
    }

    /// Renders the tool as it is in `version`.
    pub(crate) fn render(&self, toolkit: &Toolkit, version: &str) -> Value {
        let versions: Vec<&String> = toolkit.versions.iter().filter(|known| self.in_version(known)).collect();
        let result = format!("{}Response", self.name.split_whitespace().collect::<String>());
        let output = self.output.clone().unwrap_or_else(|| {
            json!({"type": "object", "title": result, "properties": {
                "data": {"type": "object", "title": "Data", "description": "What the tool returned.",
                         "additionalProperties": true},
                "error": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "Error",
                          "description": "Why the tool failed, if it did."},
                "successful": {"type": "boolean", "title": "Successful", "description": "Whether it did not fail."}},
                "required": ["data", "successful"]})
        });
        json!({
            "slug": self.slug, "name": self.name, "description": self.description,
            "human_description": self.description, "input_parameters": self.input_in(version),
            "output_parameters": output, "tags": self.tags, "scopes": self.scopes, "no_auth": toolkit.no_auth(),
            "version": version, "available_versions": versions, "is_deprecated": self.deprecated,
            "toolkit": toolkit.short(),
            "deprecated": {"available_versions": versions, "displayName": self.name, "is_deprecated": self.deprecated,
                           "toolkit": {"logo": toolkit.logo()}, "version": version},
        })
    }
}
