//! What requests under `/composio` say.

use kronos_protocol::ids::UserId;
use serde_json::{Map, Value};

use super::Word;
use crate::edge::input::{Fields, Input, Rule, field};

/// Longest address that is taken.
const URL_CHARS: usize = 2048;
/// Labels of a connection, and the longest.
const LABELS: usize = 16;
const LABEL_CHARS: usize = 64;
/// Largest set of credentials, in bytes.
const CREDENTIALS_BYTES: usize = 32 * 1024;

const WORD: Rule = Rule {
    pattern: Word::PATTERN,
    keeps: Word::keeps,
    message: "Input should be letters, digits, underscores or dashes",
    kind: "string_pattern_mismatch",
};

fn user(fields: &mut Fields) -> Option<UserId> {
    fields.id(field("user_id").doc("Who it is for: the caller's own id, or anybody's for a superuser."))
}

/// For whom something is done.
pub(super) struct ForUser {
    pub(super) user: Option<UserId>,
}

impl Input for ForUser {
    const NAME: &'static str = "ForUser";

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { user: user(fields) })
    }
}

/// Begins a connection.
pub(super) struct Initiate {
    pub(super) user: Option<UserId>,
    pub(super) provider: String,
    pub(super) callback_url: Option<String>,
}

impl Input for Initiate {
    const NAME: &'static str = "InitiateConnection";

    fn read(fields: &mut Fields) -> Option<Self> {
        let provider = field("provider")
            .doc("The toolkit's slug, or the id of an auth config (`ac_…`).")
            .example("github");
        let provider = fields.required_text_of(provider, 1, Word::MAX, WORD);
        let callback = field("callback_url").doc("Where the browser goes at the end; its host must be allowed.");
        let callback_url = fields.text(callback, 1, URL_CHARS);
        let scope = field("scope").doc("Taken for compatibility: scopes are those of the auth config.");
        let _ = fields.text(scope, 0, URL_CHARS);
        let user = user(fields);
        Some(Self {
            user,
            provider: provider?,
            callback_url,
        })
    }
}

/// Begins a connection of an app.
pub(super) struct InitiateEnhanced {
    pub(super) user: Option<UserId>,
    pub(super) app_name: String,
    pub(super) auth_config: Option<String>,
    pub(super) redirect_url: Option<String>,
    pub(super) labels: Vec<String>,
}

impl Input for InitiateEnhanced {
    const NAME: &'static str = "InitiateConnectionOfApp";

    fn read(fields: &mut Fields) -> Option<Self> {
        let app = field("app_name").doc("The toolkit's slug.").example("github");
        let app_name = fields.required_text_of(app, 1, Word::MAX, WORD);
        let config =
            field("auth_config_id").doc("The auth config; left out: the newest of the toolkit, made if need be.");
        let auth_config = fields.text_of(config, 1, Word::MAX, WORD);
        let redirect = field("redirect_url").doc("Where the browser goes at the end; its host must be allowed.");
        let redirect_url = fields.text(redirect, 1, URL_CHARS);
        let labels = field("labels").doc("Kept with the account.");
        let labels = fields.texts(labels, LABELS, 1, LABEL_CHARS).unwrap_or_default();
        let user = user(fields);
        Some(Self {
            user,
            app_name: app_name?,
            auth_config,
            redirect_url,
            labels,
        })
    }
}

/// Calls a tool.
pub(super) struct Execute {
    pub(super) user: Option<UserId>,
    pub(super) action: String,
    pub(super) params: Map<String, Value>,
    pub(super) account: Option<String>,
}

impl Input for Execute {
    const NAME: &'static str = "ExecuteTool";

    fn read(fields: &mut Fields) -> Option<Self> {
        let action = field("action_name")
            .doc("The tool's slug.")
            .example("GITHUB_GET_THE_AUTHENTICATED_USER");
        let action = fields.required_text_of(action, 1, Word::MAX, WORD);
        let limit = fields.bounds().body_bytes;
        let params = field("params").doc("Its arguments.").example(Map::new());
        let params = fields.object(params, limit).unwrap_or_default();
        let account =
            field("connected_account_id").doc("The account; left out: the newest of the toolkit that is active.");
        let account = fields.text_of(account, 1, Word::MAX, WORD);
        let user = user(fields);
        Some(Self {
            user,
            action: action?,
            params,
            account,
        })
    }
}

/// Which auth configs to list.
pub(super) struct ListAuthConfigs {
    pub(super) managed: Option<bool>,
    pub(super) toolkit: Option<String>,
    pub(super) show_disabled: Option<bool>,
    pub(super) search: Option<String>,
    pub(super) limit: Option<u64>,
    pub(super) cursor: Option<String>,
}

impl Input for ListAuthConfigs {
    const NAME: &'static str = "ListAuthConfigs";

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            managed: fields
                .boolean(field("is_composio_managed").doc("Only those with Composio's own app, or only others.")),
            toolkit: fields.text_of(field("toolkit_slug").doc("Only of one toolkit."), 1, Word::MAX, WORD),
            show_disabled: fields.boolean(field("show_disabled").doc("Disabled ones, too.")),
            search: fields.text(field("search").doc("In the name."), 0, 100),
            limit: fields.integer(field("limit").doc("Items of the page; left out: 20."), 1, 50),
            cursor: fields.text(field("cursor").doc("`next_cursor` of the page before."), 0, 500),
        })
    }
}

/// An auth config to make.
pub(super) struct CreateAuthConfig {
    pub(super) name: Option<String>,
    pub(super) toolkit: String,
    pub(super) scheme: Option<String>,
    pub(super) credentials: Option<Map<String, Value>>,
    pub(super) proxy: Option<Map<String, Value>>,
}

impl Input for CreateAuthConfig {
    const NAME: &'static str = "CreateAuthConfig";

    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.text(field("name").doc("Its name.").example("My GitHub app"), 1, 200);
        let toolkit = field("toolkit_slug").doc("The toolkit's slug.").example("github");
        let toolkit = fields.required_text_of(toolkit, 1, Word::MAX, WORD);
        let scheme = field("auth_scheme").doc("Used with credentials; left out: `OAUTH2`.");
        let scheme = fields.text_of(scheme, 1, Word::MAX, WORD);
        let credentials =
            field("credentials").doc("Of an OAuth app of your own; left out: Composio's own. Never shown again.");
        let credentials = fields.object(credentials, CREDENTIALS_BYTES);
        let proxy = fields.object(field("proxy_config").doc("Passed on to Composio."), CREDENTIALS_BYTES);
        Some(Self {
            name,
            toolkit: toolkit?,
            scheme,
            credentials,
            proxy,
        })
    }
}

/// What is to change of an auth config.
pub(super) struct UpdateAuthConfig {
    pub(super) name: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) credentials: Option<Map<String, Value>>,
    pub(super) proxy: Option<Map<String, Value>>,
}

impl Input for UpdateAuthConfig {
    const NAME: &'static str = "UpdateAuthConfig";

    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.text(field("name").doc("Its name.").example("My GitHub app"), 1, 200);
        let enabled = fields.boolean(field("enabled").doc("Enable or disable it."));
        let status = field("status").doc("The same in Composio's words.");
        let status = fields.word(status, &["ENABLED", "DISABLED"]);
        let credentials = field("credentials").doc("What of them is to change; masked values stay as they are.");
        let credentials = fields.object(credentials, CREDENTIALS_BYTES);
        let proxy = fields.object(field("proxy_config").doc("Passed on to Composio."), CREDENTIALS_BYTES);
        Some(Self {
            name,
            enabled: enabled.or(status.map(|status| status == "ENABLED")),
            credentials,
            proxy,
        })
    }
}

/// Which toolkits to list.
pub(super) struct ListToolkits {
    pub(super) search: Option<String>,
    pub(super) limit: usize,
}

fn limit(fields: &mut Fields) -> usize {
    let limit = fields.integer(field("limit").doc("At most so many; left out: 100."), 1, 1000);
    usize::try_from(limit.unwrap_or(100)).unwrap_or(100)
}

impl Input for ListToolkits {
    const NAME: &'static str = "ListToolkits";

    fn read(fields: &mut Fields) -> Option<Self> {
        let search = fields.text(field("search").doc("In slug, name or description."), 0, 100);
        Some(Self {
            search: search.filter(|search| !search.is_empty()),
            limit: limit(fields),
        })
    }
}

/// How many tools to list.
pub(super) struct ListActions {
    pub(super) limit: usize,
}

impl Input for ListActions {
    const NAME: &'static str = "ListActions";

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { limit: limit(fields) })
    }
}

/// What a browser brings back from Composio: both spellings, none of it proof of anything.
pub(super) struct CameBack {
    pub(super) account: Option<String>,
}

impl Input for CameBack {
    const NAME: &'static str = "CameBack";

    fn read(fields: &mut Fields) -> Option<Self> {
        let snake = fields.text(field("connected_account_id").doc("The connection."), 0, URL_CHARS);
        let camel = fields.text(
            field("connectedAccountId").doc("The same, as older flows spell it."),
            0,
            URL_CHARS,
        );
        let _ = fields.text(
            field("status").doc("What Composio says of it; not believed."),
            0,
            URL_CHARS,
        );
        Some(Self {
            account: snake.or(camel).filter(|id| !id.is_empty()),
        })
    }
}
