//! What Composio sends, read leniently: a field that is missing or odd costs that field, not the answer. And what of it the
//! rest of the server sees.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccountStatus {
    /// Being made: nobody has opened the link.
    Initializing,
    /// Being made.
    Initiated,
    /// Tools may use it.
    Active,
    /// The user refused, or it went wrong.
    Failed,
    /// The link, or what it gave, has lapsed.
    Expired,
    /// Turned off; only needs to be turned on.
    Inactive,
    /// Taken back at the other service.
    Revoked,
    /// Gone.
    Deleted,
    /// A word that this version does not know.
    #[serde(other)]
    Unknown,
}

impl AccountStatus {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Initializing,
        Self::Initiated,
        Self::Active,
        Self::Failed,
        Self::Expired,
        Self::Inactive,
        Self::Revoked,
        Self::Deleted,
        Self::Unknown,
    ];

    /// Returns Composio's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Initiated => "INITIATED",
            Self::Active => "ACTIVE",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
            Self::Deleted => "DELETED",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether it is being made: both words for it mean the same.
    #[must_use]
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Initializing | Self::Initiated)
    }

    /// Whether only its user can mend it, by connecting anew.
    #[must_use]
    pub fn needs_user(self) -> bool {
        matches!(self, Self::Failed | Self::Expired | Self::Revoked)
    }
}

/// A connected account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `ca_…`.
    pub id: String,
    /// The toolkit's slug.
    pub toolkit: String,
    /// The auth config it was made with.
    pub auth_config: Option<String>,
    /// How it is.
    pub status: AccountStatus,
    /// Composio's sentence about that: to show, not to read.
    pub reason: Option<String>,
    /// RFC 3339.
    pub created_at: Option<String>,
    /// What its maker named it with.
    pub labels: Vec<String>,
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this is the last.
    pub next_cursor: Option<String>,
    /// Items on all pages.
    pub total_items: u64,
    /// Pages.
    pub total_pages: u64,
    /// This page, from 1.
    pub current_page: u64,
}

/// An auth config. Credentials are not part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// `ac_…`.
    pub id: String,
    /// Its older id.
    pub uuid: Option<String>,
    /// `default` (Composio's own app) or `custom`.
    pub kind: String,
    /// The toolkit's slug.
    pub toolkit: String,
    /// Its name.
    pub name: Option<String>,
    /// `ENABLED` or `DISABLED`.
    pub status: String,
    /// Accounts made with it.
    pub connections: u64,
    /// `OAUTH2`, `API_KEY`, …: an open set.
    pub scheme: Option<String>,
    /// Composio's own app.
    pub managed: bool,
    /// RFC 3339.
    pub created_at: Option<String>,
    /// RFC 3339.
    pub updated_at: Option<String>,
}

/// Which auth configs to list.
#[derive(Debug, Clone, Default)]
pub struct AuthConfigFilter {
    /// Of one toolkit.
    pub toolkit: Option<String>,
    /// Composio's own, or not.
    pub managed: Option<bool>,
    /// Disabled ones, too.
    pub show_disabled: Option<bool>,
    /// In the name.
    pub search: Option<String>,
    /// Items of a page.
    pub limit: Option<u64>,
    /// Where the page begins.
    pub cursor: Option<String>,
}

/// An auth config to make.
#[derive(Clone)]
pub struct NewAuthConfig {
    /// The toolkit's slug.
    pub toolkit: String,
    /// Its name.
    pub name: Option<String>,
    /// Used with credentials.
    pub scheme: String,
    /// Without: Composio's own app.
    pub credentials: Option<Map<String, Value>>,
    /// Passed on.
    pub proxy: Option<Map<String, Value>>,
}

impl std::fmt::Debug for NewAuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewAuthConfig")
            .field("toolkit", &self.toolkit)
            .finish_non_exhaustive()
    }
}

/// What is to change of an auth config; what is absent stays.
#[derive(Clone, Default)]
pub struct AuthConfigChange {
    /// Its name.
    pub name: Option<String>,
    /// `Some(true)`: enable, `Some(false)`: disable.
    pub enabled: Option<bool>,
    /// Credentials; masked values are left out.
    pub credentials: Option<Map<String, Value>>,
    /// Passed on.
    pub proxy: Option<Map<String, Value>>,
}

impl std::fmt::Debug for AuthConfigChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfigChange")
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// A toolkit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toolkit {
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Address of its logo.
    pub logo: Option<String>,
    /// What it is about.
    pub categories: Vec<String>,
    /// How accounts are made.
    pub schemes: Vec<String>,
    /// Of those, with Composio's own app.
    pub managed_schemes: Vec<String>,
    /// It needs no account.
    pub no_auth: bool,
}

/// A tool as clients are shown it.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Schema of its arguments.
    pub parameters: Value,
    /// Schema of its result.
    pub response: Value,
    /// Its toolkit.
    pub toolkit: String,
}

/// A trigger that is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// `ti_…`.
    pub id: String,
    /// Its kind.
    pub slug: String,
    /// The account it listens with.
    pub account: String,
    /// It is off.
    pub disabled: bool,
}

/// Where Composio sends its events.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSubscription {
    /// `ws_…`.
    pub id: String,
    /// What it signs with, when the answer told.
    pub secret: Option<String>,
}

impl std::fmt::Debug for WebhookSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSubscription")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Reads texts and lists out of an object of Composio's.
pub(super) trait Read {
    /// A text that is not empty.
    fn text(&self, name: &str) -> Option<String>;
    /// A text or nothing.
    fn text_or_empty(&self, name: &str) -> String;
    /// Texts of a list.
    fn texts(&self, name: &str) -> Vec<String>;
    /// The slug within an object, or a bare text.
    fn slug_in(&self, name: &str) -> Option<String>;
    /// A truth value, false when there is none.
    fn truth(&self, name: &str) -> bool;
}

impl Read for Value {
    fn text(&self, name: &str) -> Option<String> {
        let text = self.get(name)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn text_or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let list = self.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }

    fn slug_in(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        value
            .text("slug")
            .or_else(|| value.as_str().map(str::to_owned))
            .map(|slug| slug.to_ascii_lowercase())
    }

    fn truth(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// Reads a status; a word that is not known is one more state that is not active.
pub(super) fn status(value: &Value) -> AccountStatus {
    serde_json::from_value(value.clone()).unwrap_or(AccountStatus::Unknown)
}

/// Reads an account; `None` without an id or a toolkit.
pub(super) fn account(value: &Value) -> Option<Account> {
    Some(Account {
        id: value.text("id").filter(|id| super::client::is_word(id))?,
        toolkit: value.slug_in("toolkit")?,
        auth_config: value.get("auth_config").and_then(|config| config.text("id")),
        status: value.get("status").map_or(AccountStatus::Unknown, status),
        reason: value
            .text("status_reason")
            .and_then(|text| super::failure::presentable(&text)),
        created_at: value.text("created_at"),
        labels: Vec::new(),
    })
}

/// Reads an auth config; `None` without an id.
pub(super) fn auth_config(value: &Value) -> Option<AuthConfig> {
    Some(AuthConfig {
        id: value.text("id").filter(|id| super::client::is_word(id))?,
        uuid: value.text("uuid"),
        kind: value.text("type").unwrap_or_else(|| {
            let managed = value.truth("is_composio_managed");
            if managed { "default" } else { "custom" }.to_owned()
        }),
        toolkit: value.slug_in("toolkit").unwrap_or_default(),
        name: value.text("name"),
        status: value.text("status").unwrap_or_else(|| "ENABLED".to_owned()),
        connections: value.get("no_of_connections").map_or(0, number),
        scheme: value.text("auth_scheme"),
        managed: value.truth("is_composio_managed"),
        created_at: value.text("created_at"),
        updated_at: value.text("last_updated_at"),
    })
}

/// Reads a toolkit; `None` without a slug.
pub(super) fn toolkit(value: &Value) -> Option<Toolkit> {
    let meta = value.get("meta").cloned().unwrap_or_default();
    let categories = meta.get("categories").and_then(Value::as_array);
    let category = |value: &Value| {
        let name = value.text("name").or_else(|| value.text("slug"));
        name.or_else(|| value.as_str().map(str::to_owned))
    };
    let details = value.get("auth_config_details").and_then(Value::as_array);
    let modes = details.into_iter().flatten().filter_map(|mode| mode.text("mode"));
    let managed = value.get("composio_managed_auth").and_then(Value::as_array);
    let managed = managed.into_iter().flatten().filter_map(|mode| mode.text("mode"));
    let either = |list: Vec<String>, other: Vec<String>| if list.is_empty() { other } else { list };
    Some(Toolkit {
        slug: value.text("slug").filter(|slug| super::client::is_word(slug))?,
        name: value.text_or_empty("name"),
        description: meta.text_or_empty("description"),
        logo: meta.text("logo"),
        categories: categories.into_iter().flatten().filter_map(category).collect(),
        schemes: either(value.texts("auth_schemes"), modes.collect()),
        managed_schemes: either(value.texts("composio_managed_auth_schemes"), managed.collect()),
        no_auth: value.truth("no_auth"),
    })
}

/// Reads a page, each item with `read`.
pub(super) fn page<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Page<T> {
    let items = value.get("items").and_then(Value::as_array);
    let count = |name: &str| value.get(name).map_or(0, number);
    Page {
        items: items.into_iter().flatten().filter_map(read).collect(),
        next_cursor: value.text("next_cursor"),
        total_items: count("total_items"),
        total_pages: count("total_pages"),
        current_page: count("current_page"),
    }
}

/// A count, however it is written.
fn number(value: &Value) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and a count is no fraction"
    )]
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|float| float as u64))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_of_an_unknown_state_is_one_that_is_not_active() {
        let read = |status: Value| {
            let value = json!({"id": "ca_1", "toolkit": {"slug": "GitHub"}, "status": status});
            account(&value).unwrap()
        };
        assert_eq!(read(json!("ACTIVE")).status, AccountStatus::Active);
        assert_eq!(read(json!("ACTIVE")).toolkit, "github");
        for odd in [json!("SOMETHING"), json!(7), Value::Null] {
            assert_eq!(read(odd).status, AccountStatus::Unknown);
        }
        assert_eq!(account(&json!({"id": "../x", "toolkit": {"slug": "x"}})), None);
    }

    #[test]
    fn both_forms_of_a_toolkit_are_read() {
        let listed = json!({"slug": "github", "name": "GitHub", "auth_schemes": ["OAUTH2"],
            "composio_managed_auth_schemes": ["OAUTH2"],
            "meta": {"description": "Code", "categories": [{"id": "dev", "name": "Developer tools"}]}});
        let single = json!({"slug": "github", "name": "GitHub", "composio_managed_auth": [{"mode": "OAUTH2"}],
            "auth_config_details": [{"mode": "OAUTH2"}],
            "meta": {"description": "Code", "categories": [{"slug": "dev", "name": "Developer tools"}]}});
        assert_eq!(toolkit(&listed), toolkit(&single));
        assert_eq!(toolkit(&listed).unwrap().categories, ["Developer tools"]);
    }
}
