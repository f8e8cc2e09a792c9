//! Connected accounts: begin, list, show, enable, disable, refresh, delete. Each belongs to one user; for everybody else it is
//! not there.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use kronos_actors::{
    composio::{Account, AccountStatus, ComposioError, NewConnection},
    principal::Principal,
    tools::Link,
};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    FAILS, Word, failed,
    inputs::{ForUser, Initiate, InitiateEnhanced},
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, delete, get, post},
    error::{ApiError, Row},
    input::{Json, PathId, QueryOf},
    rfc3339,
};

type State = web::Data<EdgeState>;

const ACCOUNT: &str = "Id of the connected account";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let tool = |endpoint: Endpoint, id, summary| endpoint.named(id, Tag::Composio, summary).fails(FAILS);
    let of_account = |endpoint: Endpoint, id, summary| {
        tool(endpoint, id, summary)
            .path::<Word>("account_id", ACCOUNT)
            .query::<ForUser>()
            .fails(&[ErrorCode::Forbidden, ErrorCode::NotFound])
    };
    let mut all = begin();
    all.extend([
        tool(
            get(&["/api/v1/composio/connections/{id}"], list),
            "composio_connections",
            "List a user's connected accounts",
        )
        .about("Newest first. A superuser lists anybody's, others their own.")
        .path::<UserId>("id", "Id of the user")
        .fails(&[ErrorCode::NotFound])
        .returns::<Vec<Connection>>(200, "The accounts", || json!([connection()]))
        .fails(&[ErrorCode::Forbidden]),
        of_account(
            get(&["/api/v1/composio/connections/account/{account_id}"], show),
            "composio_account",
            "Show a connected account",
        )
        .about("As it is now.")
        .returns::<Connection>(200, "The account", connection),
        of_account(
            post(&["/api/v1/composio/connections/{account_id}/enable"], enable),
            "composio_enable",
            "Let tools use a connected account again",
        )
        .about("From `INACTIVE` only: one that is `EXPIRED`, `FAILED` or `REVOKED` must be connected anew by its user.")
        .returns::<Done>(200, "It is enabled", done)
        .fails(&[ErrorCode::Conflict]),
        of_account(
            post(&["/api/v1/composio/connections/{account_id}/disable"], disable),
            "composio_disable",
            "Let tools use a connected account no longer",
        )
        .returns::<Done>(200, "It is disabled", done)
        .fails(&[ErrorCode::Conflict]),
        of_account(
            post(&["/api/v1/composio/connections/{account_id}/refresh"], refresh),
            "composio_refresh",
            "Look how a connected account is, or begin anew",
        )
        .about(
            "One that works is only looked at: its tokens are renewed by Composio. For one that needs its user a new connection \
             is begun, whose page is in the answer; the old one goes when the new one is there.",
        )
        .returns::<Done>(200, "How it is", done),
        tool(
            delete(&["/api/v1/composio/connections/{id}"], remove),
            "composio_disconnect",
            "Delete a connected account",
        )
        .path::<Word>("id", ACCOUNT)
        .query::<ForUser>()
        .returns::<Done>(200, "It is gone", done)
        .fails(&[ErrorCode::Forbidden, ErrorCode::NotFound]),
    ]);
    all
}

fn begin() -> Vec<Endpoint> {
    const ABOUT: &str = "The answer holds the page that the user must open. From then on the server looks after the connection: each \
        change is told in the user's feed `@me` as `kronos.connection_changed`.";
    let begins = |endpoint: Endpoint, id, summary| {
        endpoint
            .named(id, Tag::Composio, summary)
            .about(ABOUT)
            .returns::<Initiated>(200, "The page to open", initiated)
            .fails(FAILS)
            .fails(&[ErrorCode::Forbidden, ErrorCode::NotFound, ErrorCode::Conflict])
    };
    vec![
        begins(
            post(&["/api/v1/composio/connections/initiate"], initiate),
            "composio_initiate",
            "Begin to connect an account",
        )
        .body::<Initiate>(),
        begins(
            post(&["/api/v1/composio/connections/initiate-enhanced"], initiate_enhanced),
            "composio_initiate_enhanced",
            "Begin to connect an account of an app",
        )
        .body::<InitiateEnhanced>(),
    ]
}

/// A connection that has begun.
#[derive(Debug, Serialize, JsonSchema)]
struct Initiated {
    /// Id of the account that is being made.
    connection_id: String,
    /// The page that its user opens.
    redirect_url: String,
    status: &'static str,
    /// When the page lapses.
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
}

fn initiated() -> Value {
    json!({"connection_id": "ca_My9Xwqq7Q02J", "redirect_url": "https://connect.composio.dev/link/lk_v5RdYBAA9CcG",
        "status": "INITIATED", "expires_at": "2026-11-27T10:10:00Z"})
}

/// A connected account.
#[derive(Debug, Serialize, JsonSchema)]
struct Connection {
    account_id: String,
    /// `INITIATED`, `ACTIVE`, `INACTIVE`, `EXPIRED`, `FAILED`, `REVOKED`, ….
    status: &'static str,
    /// Composio's sentence about the status.
    status_reason: Option<String>,
    /// The toolkit's slug.
    provider: String,
    created_at: Option<String>,
    labels: Vec<String>,
}

impl From<Account> for Connection {
    fn from(account: Account) -> Self {
        Self {
            account_id: account.id,
            status: account.status.as_str(),
            status_reason: account.reason,
            provider: account.toolkit,
            created_at: account.created_at,
            labels: account.labels,
        }
    }
}

fn connection() -> Value {
    json!({"account_id": "ca_My9Xwqq7Q02J", "status": "ACTIVE", "status_reason": null, "provider": "github",
        "created_at": "2026-11-27T10:00:00.000Z", "labels": ["work"]})
}

/// What was done.
#[derive(Debug, Serialize, JsonSchema)]
struct Done {
    success: bool,
    /// A sentence.
    message: String,
    /// How the account is now.
    status: &'static str,
    /// The page to open, when its user must connect it anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_url: Option<String>,
    /// The connection that is being made then.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<String>,
}

fn done() -> Value {
    json!({"success": true, "message": "The account is ACTIVE", "status": "ACTIVE"})
}

impl Done {
    fn now(status: AccountStatus) -> Self {
        Self {
            success: true,
            message: format!("The account is {}", status.as_str()),
            status: status.as_str(),
            redirect_url: None,
            connection_id: None,
        }
    }
}

/// Refuses a place to which no browser is sent from here.
fn allowed(state: &State, field: &'static str, url: Option<&String>) -> Result<(), ApiError> {
    match url {
        Some(url) if !state.redirects.allow(url) => Err(ApiError::validation(&[Row {
            field: format!("body.{field}"),
            message: "Must be an http or https address of a host that COMPOSIO_REDIRECT_HOSTS or ALLOWED_HOSTS names"
                .to_owned(),
            kind: "url_not_allowed",
        }])),
        _ => Ok(()),
    }
}

async fn connect(state: &State, user: &Arc<Principal>, new: NewConnection) -> Result<HttpResponse, ApiError> {
    let toolkit = new.auth_config.clone().unwrap_or_else(|| new.toolkit.clone());
    let link = state.wiring.composio.connect(&user.user, new).await;
    let link = link.map_err(|error| failed(&error, "initiate", ("Toolkit", &toolkit)))?;
    let Link {
        connection,
        redirect_url,
        expires_at_ms,
    } = link;
    Ok(HttpResponse::Ok().json(Initiated {
        connection_id: connection,
        redirect_url,
        status: AccountStatus::Initiated.as_str(),
        expires_at: expires_at_ms.map(rfc3339),
    }))
}

async fn initiate(state: State, caller: Caller, body: Json<Initiate>) -> Result<HttpResponse, ApiError> {
    let Initiate {
        user,
        provider,
        callback_url,
    } = body.0;
    let caller = caller.acting_as(&state, user)?;
    allowed(&state, "callback_url", callback_url.as_ref())?;
    let of_config = provider.starts_with("ac_");
    let new = NewConnection {
        toolkit: if of_config { String::new() } else { provider.clone() },
        auth_config: of_config.then_some(provider),
        redirect: callback_url,
        ..NewConnection::default()
    };
    connect(&state, &caller, new).await
}

async fn initiate_enhanced(
    state: State,
    caller: Caller,
    body: Json<InitiateEnhanced>,
) -> Result<HttpResponse, ApiError> {
    let InitiateEnhanced {
        user,
        app_name,
        auth_config,
        redirect_url,
        labels,
    } = body.0;
    let caller = caller.acting_as(&state, user)?;
    allowed(&state, "redirect_url", redirect_url.as_ref())?;
    let new = NewConnection {
        toolkit: app_name,
        auth_config,
        redirect: redirect_url,
        labels,
        session: None,
    };
    connect(&state, &caller, new).await
}

async fn list(state: State, caller: Caller, id: PathId<UserId>) -> Result<HttpResponse, ApiError> {
    let own = caller.principal.user.clone();
    let caller = caller.acting_as(&state, Some(id.0))?;
    let accounts = state.wiring.composio.accounts(&caller.user).await;
    let accounts = accounts.map_err(|error| failed(&error, "list_connections", ("User", caller.user.as_str())))?;
    if accounts.is_empty() && caller.superuser && caller.user != own {
        // Nobody, or somebody without accounts.
        state.accounts.show_user(&caller.user).await?;
    }
    let accounts: Vec<Connection> = accounts.into_iter().map(Connection::from).collect();
    Ok(HttpResponse::Ok().json(accounts))
}

fn of_account<'a>(operation: &'static str, id: &'a Word) -> impl Fn(ComposioError) -> ApiError + use<'a> {
    move |error| failed(&error, operation, ("Account", &id.0))
}

async fn show(
    state: State,
    caller: Caller,
    id: PathId<Word>,
    query: QueryOf<ForUser>,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, query.0.user)?;
    let account = state.wiring.composio.account(&caller.user, &id.0.0).await;
    let account = account.map_err(of_account("show_connection", &id.0))?;
    Ok(HttpResponse::Ok().json(Connection::from(account)))
}

async fn set_enabled(
    state: State,
    caller: Caller,
    id: Word,
    user: Option<UserId>,
    enabled: bool,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, user)?;
    let operation = if enabled {
        "enable_connection"
    } else {
        "disable_connection"
    };
    let account = state.wiring.composio.enable(&caller.user, &id.0, enabled).await;
    let account = account.map_err(of_account(operation, &id))?;
    Ok(HttpResponse::Ok().json(Done::now(account.status)))
}

async fn enable(
    state: State,
    caller: Caller,
    id: PathId<Word>,
    query: QueryOf<ForUser>,
) -> Result<HttpResponse, ApiError> {
    set_enabled(state, caller, id.0, query.0.user, true).await
}

async fn disable(
    state: State,
    caller: Caller,
    id: PathId<Word>,
    query: QueryOf<ForUser>,
) -> Result<HttpResponse, ApiError> {
    set_enabled(state, caller, id.0, query.0.user, false).await
}

async fn refresh(
    state: State,
    caller: Caller,
    id: PathId<Word>,
    query: QueryOf<ForUser>,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, query.0.user)?;
    let refreshed = state.wiring.composio.refresh(&caller.user, &id.0.0).await;
    let (account, link) = refreshed.map_err(of_account("refresh_connection", &id.0))?;
    let mut done = Done::now(account.status);
    if let Some(link) = link {
        done.message = format!(
            "The account is {}: its user must open the page",
            account.status.as_str()
        );
        done.redirect_url = Some(link.redirect_url);
        done.connection_id = Some(link.connection);
    }
    Ok(HttpResponse::Ok().json(done))
}

async fn remove(
    state: State,
    caller: Caller,
    id: PathId<Word>,
    query: QueryOf<ForUser>,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, query.0.user)?;
    let gone = state.wiring.composio.disconnect(&caller.user, &id.0.0).await;
    gone.map_err(of_account("delete_connection", &id.0))?;
    Ok(HttpResponse::Ok().json(Done::now(AccountStatus::Deleted)))
}
