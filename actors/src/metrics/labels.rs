//! Every value that a label may have. Closed sets: no peer ever chooses one.

/// The values of one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// One of these.
    One(&'static [&'static str]),
    /// A path pattern of the route table, or `unmatched`.
    Route,
    /// A model with a price in `GEMINI_PRICES`, the configured one, or `other`.
    Model,
    /// What the build is.
    Build,
}

impl Values {
    /// Whether `value` is one of the set, as far as that is known here.
    #[must_use]
    pub fn may_be(self, value: &str) -> bool {
        match self {
            Self::One(all) => all.contains(&value),
            Self::Route => value == "unmatched" || value.starts_with('/'),
            Self::Model | Self::Build => !value.is_empty(),
        }
    }
}

pub(super) const fn one(all: &'static [&'static str]) -> Values {
    Values::One(all)
}

pub(super) const ROUTE: Values = Values::Route;
pub(super) const METHOD: Values = one(&["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"]);
pub(super) const STATUS: Values = one(&["1xx", "2xx", "3xx", "4xx", "5xx"]);
pub(super) const CODEC: Values = one(&["json", "msgpack"]);
pub(super) const OK_OR_FAILED: Values = one(&["ok", "failed"]);
pub(super) const SOURCE: Values = one(&["kronos", "composio"]);
pub(super) const CALL_OUTCOME: Values = one(&["done", "failed", "not_connected", "unknown"]);
pub(super) const LEVEL: Values = one(&["error", "warn", "info", "debug", "trace"]);
/// Kinds of actors whose mailboxes are measured.
pub(super) const ACTOR: Values = one(&["session", "connection", "directory", "composio", "store"]);

/// The commands of the websocket, and `unknown` for what is none.
pub(super) const OP: Values = one(&[
    "hello",
    "attach",
    "detach",
    "send",
    "unqueue",
    "cancel",
    "resume",
    "edit",
    "regenerate",
    "settings",
    "typing",
    "token",
    "ping",
    "unknown",
]);

/// The close codes of the protocol, `none`, and `other` for the echo of a client's own.
pub(super) const CLOSE_CODE: Values = one(&[
    "1000", "1001", "1002", "1003", "1007", "1009", "1011", "1012", "1013", "4400", "4401", "4403", "4408", "4409",
    "4429", "4450", "none", "other",
]);

/// The codes of `RUN_ERROR`.
const RUN_ERRORS: &[&str] = &[
    "interrupted",
    "blocked",
    "upstream_rate_limited",
    "upstream_unavailable",
    "upstream_timeout",
    "upstream_error",
    "upstream_auth",
    "not_configured",
    "stream_broken",
    "empty_answer",
    "malformed_call",
    "overloaded",
    "deadline",
    "internal",
    "too_many_steps",
    "continuation",
];
pub(super) const RUN_ERROR: Values = one(RUN_ERRORS);
/// How a generation ends: well, or with the code of a failure.
pub(super) const GENERATION_OUTCOME: Values = one(&[
    "finished",
    "truncated",
    "cancelled",
    "abandoned",
    "interrupted",
    "blocked",
    "upstream_rate_limited",
    "upstream_unavailable",
    "upstream_timeout",
    "upstream_error",
    "upstream_auth",
    "not_configured",
    "stream_broken",
    "empty_answer",
    "malformed_call",
    "overloaded",
    "deadline",
    "internal",
    "too_many_steps",
    "continuation",
]);

pub(super) const COMPOSIO_OPERATION: Values = one(&[
    "tools_list",
    "tool_get",
    "toolkits_list",
    "toolkit_get",
    "auth_configs_list",
    "auth_config_get",
    "auth_config_create",
    "auth_config_update",
    "auth_config_delete",
    "accounts_list",
    "account_get",
    "account_link",
    "account_status",
    "account_delete",
    "execute",
    "triggers_list",
    "trigger_set",
    "trigger_delete",
    "webhooks_list",
    "webhook_set",
    "probe",
]);
pub(super) const COMPOSIO_OUTCOME: Values = one(&[
    "ok",
    "not_configured",
    "overloaded",
    "circuit_open",
    "rate_limited",
    "unavailable",
    "timeout",
    "auth",
    "not_found",
    "refused",
    "conflict",
    "too_large",
    "unreadable",
    "too_many_pending",
    "removed",
    "store",
    "internal",
]);
pub(super) const ACCOUNT_STATUS: Values = one(&[
    "INITIALIZING",
    "INITIATED",
    "ACTIVE",
    "FAILED",
    "EXPIRED",
    "INACTIVE",
    "REVOKED",
    "DELETED",
    "UNKNOWN",
]);

/// Toolkits with a label of their own; whatever else there is counts as `other`.
pub const TOOLKITS: &[&str] = &[
    "airtable",
    "asana",
    "discord",
    "github",
    "gitlab",
    "gmail",
    "googlecalendar",
    "googledocs",
    "googledrive",
    "googlesheets",
    "hubspot",
    "jira",
    "linear",
    "notion",
    "outlook",
    "slack",
    "stripe",
    "todoist",
    "trello",
    "zendesk",
    "other",
];
pub(super) const TOOLKIT: Values = one(TOOLKITS);

/// Returns the label of a toolkit.
#[must_use]
pub fn toolkit(name: &str) -> &'static str {
    TOOLKITS.iter().copied().find(|known| *known == name).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use kronos_protocol::{client::Op, close::CloseCode, error::RunErrorCode};

    use super::*;

    #[test]
    fn the_sets_hold_every_word_of_the_protocol_and_no_more() {
        let mut ops: Vec<_> = Op::ALL.iter().map(|op| op.as_str()).collect();
        ops.push("unknown");
        assert_same(OP, &ops);
        let codes: Vec<_> = CloseCode::ALL.iter().map(|code| code.code().to_string()).collect();
        let mut codes: Vec<_> = codes.iter().map(String::as_str).collect();
        codes.extend(["none", "other"]);
        assert_same(CLOSE_CODE, &codes);
        let mut errors: Vec<_> = RunErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_same(RUN_ERROR, &errors);
        errors.extend(["finished", "truncated", "cancelled", "abandoned"]);
        assert_same(GENERATION_OUTCOME, &errors);
    }

    fn assert_same(values: Values, words: &[&str]) {
        let Values::One(all) = values else { panic!("not a list") };
        let (mut all, mut words) = (all.to_vec(), words.to_vec());
        all.sort_unstable();
        words.sort_unstable();
        assert_eq!(all, words);
    }
}
