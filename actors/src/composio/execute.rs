//! Calling a tool, and saying truly what became of it.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use kronos_protocol::ids::UserId;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    accounts::their_user,
    client::{self, Ask, Op},
    failure::{ComposioError, ComposioErrorKind},
    metrics,
    service::Service,
    wire::{Account, AccountStatus},
};
use crate::{
    ids,
    tools::{Execution, Outcome},
};

/// Longest text of a failed tool that is passed on, in characters: the model reads it to do better.
const ERROR_CHARS: usize = 4_000;

/// Composio's codes for an account that is not there, or not the user's.
const NO_ACCOUNT: [i64; 4] = [1810, 1803, 1812, 606];

/// A call on its way out.
struct Call<'a> {
    user: &'a UserId,
    tool: &'a str,
    toolkit: &'a str,
    version: Option<&'a str>,
    account: Option<&'a str>,
    read_only: bool,
    arguments: &'a Map<String, Value>,
    key: &'a str,
    deadline: Instant,
}

impl Service {
    /// Makes the call of a run.
    pub(super) async fn execute(&self, execution: &Execution) -> Outcome {
        let outcome = match self.prepare(execution).await {
            Ok(account) => {
                let longest = self.shared.clock.instant() + self.shared.config.execute_timeout;
                let call = Call {
                    user: &execution.user,
                    tool: &execution.tool,
                    toolkit: &execution.toolkit,
                    version: execution.version.as_deref(),
                    account: account.as_deref(),
                    read_only: execution.read_only,
                    arguments: &execution.arguments,
                    key: &execution.key,
                    deadline: execution.deadline.min(longest),
                };
                self.call(&call).await
            }
            Err(outcome) => outcome,
        };
        metrics::call(&execution.toolkit, &outcome);
        outcome
    }

    /// Finds the account to call with; `None`: the tool needs none.
    async fn prepare(&self, execution: &Execution) -> Result<Option<String>, Outcome> {
        if !client::is_word(&execution.tool) || !client::is_word(&execution.toolkit) {
            return Err(Outcome::Failed("There is no such tool.".to_owned()));
        }
        if self.needs_no_account(&execution.toolkit, &execution.tool).await {
            return Ok(None);
        }
        match self.active_account(&execution.user, &execution.toolkit).await {
            Ok(Some(account)) => Ok(Some(account)),
            Ok(None) => Err(not_connected(&execution.toolkit)),
            // Nothing was called.
            Err(error) => Err(Outcome::Failed(format!("The tool was not called: {error}."))),
        }
    }

    async fn needs_no_account(&self, toolkit: &str, tool: &str) -> bool {
        // What is not known is found out by the call.
        let kit = self.kit(toolkit).await;
        kit.is_ok_and(|kit| kit.tools.iter().any(|known| known.no_auth && known.tool.name == tool))
    }

    /// Returns the newest of a user's accounts of a toolkit that is active.
    pub(super) async fn active_account(&self, user: &UserId, toolkit: &str) -> Result<Option<String>, ComposioError> {
        let newest = |accounts: &Rc<Vec<Account>>| {
            let fit = |account: &&Account| account.toolkit == toolkit && account.status == AccountStatus::Active;
            accounts.iter().find(fit).map(|account| account.id.clone())
        };
        if let Some(found) = newest(&self.connected(user).await?) {
            return Ok(Some(found));
        }
        // It may be newer than what is known.
        self.connected.forget(user.as_str());
        Ok(newest(&self.connected(user).await?))
    }

    /// Makes the call of a client.
    pub(super) async fn execute_as(
        &self,
        user: &UserId,
        tool: &str,
        arguments: Map<String, Value>,
        account: Option<String>,
        key: Option<String>,
    ) -> Result<Outcome, ComposioError> {
        if let Some(id) = &account {
            let record = self.owned(user, id).await?;
            if record.status.is_pending() || record.status.needs_user() {
                // As it was last seen: it may be better now.
                self.look(user, id).await?;
            }
        }
        let tool = self.one_tool(tool).await?;
        let account = match account {
            None if !tool.no_auth => match self.active_account(user, &tool.toolkit).await? {
                Some(found) => Some(found),
                None => return Ok(not_connected(&tool.toolkit)),
            },
            account => account,
        };
        let key = key.unwrap_or_else(ids::upstream_request);
        let call = Call {
            user,
            tool: &tool.slug,
            toolkit: &tool.toolkit,
            version: tool.version.as_deref(),
            account: account.as_deref(),
            read_only: tool.read_only,
            arguments: &arguments,
            key: &key,
            deadline: self.shared.clock.instant() + self.shared.config.execute_timeout,
        };
        let outcome = self.call(&call).await;
        metrics::call(&tool.toolkit, &outcome);
        Ok(outcome)
    }

    async fn call(&self, call: &Call<'_>) -> Outcome {
        let ask = match request(call) {
            Ok(ask) => ask,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let time: Duration = self.shared.config.execute_timeout;
        let sent = self.send(Some(call.user), &ask, time, call.deadline).await;
        let outcome = match sent {
            Ok(answer) => answered(&answer.body, call.toolkit, call.read_only),
            Err(error) => failed(&error, call.toolkit, call.read_only),
        };
        if matches!(outcome, Outcome::NotConnected { .. }) {
            self.look_after(call.user, call.account);
        }
        outcome
    }

    /// An account did not serve: finds out how it is, so that its user is told.
    fn look_after(&self, user: &UserId, account: Option<&str>) {
        self.connected.forget(user.as_str());
        let Some(account) = account.map(str::to_owned) else {
            return;
        };
        let user = user.clone();
        self.spawn(|service| async move {
            if let Err(error) = service.look(&user, &account).await {
                tracing::debug!(account, %error, "an account that did not serve cannot be looked at");
            }
        });
    }
}

fn request(call: &Call<'_>) -> Result<Ask, ComposioError> {
    let mut body = json!({
        "user_id": their_user(call.user),
        "arguments": call.arguments,
        // Always named: what the model was shown is what runs.
        "version": call.version.unwrap_or("latest"),
    });
    if let Some(account) = call.account {
        body["connected_account_id"] = json!(account);
    }
    let ask = Ask::change(Op::Execute, Method::POST, format!("tools/execute/{}", call.tool));
    let ask = ask.json(&body)?.key(call.key);
    Ok(if call.read_only { ask.safe() } else { ask })
}

/// Reads an answer with a good status: it says whether the tool did it.
fn answered(body: &[u8], toolkit: &str, read_only: bool) -> Outcome {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return unknown_or_failed(&ComposioError::unreadable(), read_only);
    };
    // The old spelling is met still.
    let successful = answer.get("successful").or_else(|| answer.get("successfull"));
    let data = answer.get("data").cloned().unwrap_or_else(|| json!({}));
    match successful.and_then(Value::as_bool) {
        Some(true) => Outcome::Done(data),
        Some(false) if is_unauthorized(&data) => expired(toolkit),
        Some(false) => {
            let told = answer.get("error").map(|error| match error {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let told = told.filter(|text| !text.is_empty() && text != "null");
            let text = told.unwrap_or_else(|| "The tool failed and did not say why.".to_owned());
            Outcome::Failed(text.chars().take(ERROR_CHARS).collect())
        }
        None => unknown_or_failed(&ComposioError::unreadable(), read_only),
    }
}

/// The other service did not accept the account.
fn is_unauthorized(data: &Value) -> bool {
    let status = |name: &str| data.get(name).and_then(Value::as_i64);
    ["status_code", "http_status", "status"]
        .iter()
        .any(|name| status(name) == Some(401))
}

/// What became of a call that has no good answer.
fn failed(error: &ComposioError, toolkit: &str, read_only: bool) -> Outcome {
    let names_account = error.code.is_some_and(|code| NO_ACCOUNT.contains(&code))
        || error.slug.as_deref().is_some_and(|slug| {
            slug.starts_with("ConnectedAccount_") || slug.starts_with("ActionExecute_ConnectedAccount")
        });
    let status = error.status.unwrap_or(0);
    match status {
        400..=499 if names_account => not_connected(toolkit),
        401 if error.kind != ComposioErrorKind::Auth => expired(toolkit),
        422 => expired(toolkit),
        413 => unknown_or_failed(
            &ComposioError::new(
                ComposioErrorKind::TooLarge,
                "The tool's result was too large for Composio: ask for fewer items at once",
            )
            .left(),
            read_only,
        ),
        410 => Outcome::Failed("The tool does not exist any more.".to_owned()),
        404 => Outcome::Failed("There is no such tool.".to_owned()),
        _ => unknown_or_failed(error, read_only),
    }
}

fn unknown_or_failed(error: &ComposioError, read_only: bool) -> Outcome {
    let may_have_run = error.left
        && match error.kind {
            ComposioErrorKind::Unavailable
            | ComposioErrorKind::Timeout
            | ComposioErrorKind::RateLimited
            | ComposioErrorKind::TooLarge
            | ComposioErrorKind::Unreadable
            | ComposioErrorKind::Internal => true,
            // Refused before the tool was reached.
            ComposioErrorKind::NotConfigured
            | ComposioErrorKind::Overloaded
            | ComposioErrorKind::CircuitOpen
            | ComposioErrorKind::Auth
            | ComposioErrorKind::NotFound
            | ComposioErrorKind::Refused
            | ComposioErrorKind::Conflict
            | ComposioErrorKind::TooManyPending
            | ComposioErrorKind::Removed
            | ComposioErrorKind::Store => false,
        };
    if may_have_run && !read_only {
        Outcome::Unknown(format!("{error}: the tool may have done it."))
    } else {
        Outcome::Failed(format!("{error}."))
    }
}

/// What became of a call when the service's thread gave no answer.
pub(super) fn without_answer(error: ComposioError, read_only: bool) -> Outcome {
    unknown_or_failed(&error, read_only)
}

fn not_connected(toolkit: &str) -> Outcome {
    Outcome::NotConnected {
        toolkit: toolkit.to_owned(),
        message: format!("There is no connected account for {toolkit}."),
    }
}

fn expired(toolkit: &str) -> Outcome {
    Outcome::NotConnected {
        toolkit: toolkit.to_owned(),
        message: format!(
            "The connected account for {toolkit} is disabled, or has expired: it must be connected again."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &Value) -> ComposioError {
        ComposioError::answered(status, body.to_string().as_bytes(), None)
    }

    fn envelope(status: u16, code: i64, slug: &str) -> Value {
        json!({"error": {"message": "x", "code": code, "slug": slug, "status": status}})
    }

    fn word(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Done(_) => "done",
            Outcome::Failed(_) => "failed",
            Outcome::NotConnected { .. } => "not_connected",
            Outcome::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn states_of_accounts_are_told_apart_from_failures() {
        for (status, body, expected) in [
            (
                404,
                envelope(404, 1810, "ActionExecute_ConnectedAccountNotFound"),
                "not_connected",
            ),
            (400, envelope(400, 1803, ""), "not_connected"),
            (
                400,
                envelope(400, 1812, "ActionExecute_ConnectedAccountEntityIdMismatch"),
                "not_connected",
            ),
            (
                404,
                envelope(404, 606, "ConnectedAccount_ResourceNotFound"),
                "not_connected",
            ),
            (422, json!({}), "not_connected"),
            (401, envelope(401, 1820, "ConnectedAccount_Expired"), "not_connected"),
            (401, envelope(401, 10401, "HTTP_Unauthorized"), "failed"),
            (404, envelope(404, 2401, "Tool_ToolNotFound"), "failed"),
            (410, json!({}), "failed"),
            (400, json!({}), "failed"),
            (403, json!({}), "failed"),
        ] {
            for read_only in [true, false] {
                let outcome = failed(&error(status, &body), "github", read_only);
                assert_eq!(word(&outcome), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn what_may_have_happened_is_unknown_unless_it_changes_nothing() {
        let limiter = json!({"message": "Rate limit exceeded."});
        let cases = [
            (error(500, &json!({})), true),
            (error(502, &json!({})), true),
            (error(503, &json!({})), true),
            (error(504, &json!({})), true),
            (error(413, &json!({})), true),
            (error(429, &json!({"data": {}, "message": "x"})), true),
            (error(429, &limiter), false),
            (ComposioError::silent(), true),
            (ComposioError::too_large(8), true),
            (ComposioError::unreadable(), true),
            (ComposioError::cut_off(), true),
            (ComposioError::too_late(), false),
            (ComposioError::circuit_open(Duration::from_secs(1)), false),
            (ComposioError::overloaded(Duration::from_secs(1)), false),
            (ComposioError::not_configured(), false),
        ];
        for (error, unknown) in cases {
            let expected = if unknown { "unknown" } else { "failed" };
            assert_eq!(word(&failed(&error, "github", false)), expected, "{error:?}");
            assert_eq!(word(&failed(&error, "github", true)), "failed", "{error:?}");
        }
    }

    #[test]
    fn a_good_status_says_nothing_the_answer_does() {
        let of = |body: Value| answered(body.to_string().as_bytes(), "github", false);
        assert_eq!(
            of(json!({"data": {"id": 1}, "successful": true, "error": null})),
            Outcome::Done(json!({"id": 1}))
        );
        assert_eq!(
            of(json!({"data": {}, "successful": false, "error": "HTTP error 404: x"})),
            Outcome::Failed("HTTP error 404: x".to_owned())
        );
        assert_eq!(
            word(&of(
                json!({"data": {"status_code": 401}, "successful": false, "error": "x"})
            )),
            "not_connected"
        );
        assert_eq!(word(&of(json!({"data": {}}))), "unknown");
        assert_eq!(word(&answered(b"<html>", "github", false)), "unknown");
        assert_eq!(word(&answered(b"<html>", "github", true)), "failed");
        let long = of(json!({"successful": false, "error": "ä".repeat(ERROR_CHARS + 1)}));
        assert_eq!(long, Outcome::Failed("ä".repeat(ERROR_CHARS)));
    }
}
