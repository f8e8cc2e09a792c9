//! Toolkits, their tools, and calling one.

use actix_web::{HttpRequest, HttpResponse, web};
use kronos_actors::{
    composio::{Action, Toolkit},
    tools::Outcome,
};
use kronos_protocol::error::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    FAILS, Word, failed,
    inputs::{Execute, ListActions, ListToolkits},
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, get, post},
    error::ApiError,
    input::{Json, PathId, QueryOf},
};

type State = web::Data<EdgeState>;

/// Longest key of an intent that is taken from a client.
const KEY_BYTES: usize = 128;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let tool = |endpoint: Endpoint, id, summary| endpoint.named(id, Tag::Composio, summary).fails(FAILS);
    vec![
        tool(
            post(&["/api/v1/composio/tools/execute"], execute),
            "composio_execute",
            "Call a tool",
        )
        .about(
            "With one of the user's accounts. A tool that fails is an answer like any other: `success` is false. `code` says what \
             kind of failure it is; `unknown` that nobody knows whether the tool had its effect: it is not called again by itself.",
        )
        .header(
            "Idempotency-Key",
            "Passed on with the call: the same for each attempt of one intent.",
            None,
        )
        .body::<Execute>()
        .returns::<Executed>(200, "What became of the call", || {
            json!({"success": true, "data": {"login": "octocat"}})
        })
        .fails(&[ErrorCode::Forbidden, ErrorCode::NotFound]),
        tool(get(&["/api/v1/composio/toolkits"], toolkits), "composio_toolkits", "List toolkits")
            .about("Most used first; what Composio says is kept for a while.")
            .query::<ListToolkits>()
            .returns::<Vec<ShownToolkit>>(200, "The toolkits", || json!([toolkit()])),
        tool(
            get(&["/api/v1/composio/toolkits/{slug}/actions"], actions),
            "composio_actions",
            "List the tools of a toolkit",
        )
        .path::<Word>("slug", "The toolkit's slug")
        .query::<ListActions>()
        .returns::<Vec<ShownAction>>(200, "The tools", || json!([action()]))
        .fails(&[ErrorCode::NotFound]),
    ]
}

/// Why a call did not succeed.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ExecuteCode {
    /// The tool said so, or was refused.
    Failed,
    /// The user has no account for it that works; nothing was done.
    NotConnected,
    /// The call left, and nobody knows what became of it.
    Unknown,
}

/// What became of a call.
#[derive(Debug, Serialize, JsonSchema)]
struct Executed {
    success: bool,
    /// The tool's result.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The same for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ExecuteCode>,
}

impl From<Outcome> for Executed {
    fn from(outcome: Outcome) -> Self {
        let failed = |error, code| Self {
            success: false,
            data: None,
            error: Some(error),
            code: Some(code),
        };
        match outcome {
            Outcome::Done(data) => Self {
                success: true,
                data: Some(data),
                error: None,
                code: None,
            },
            Outcome::Failed(error) => failed(error, ExecuteCode::Failed),
            Outcome::NotConnected { message, .. } => failed(message, ExecuteCode::NotConnected),
            Outcome::Unknown(error) => failed(error, ExecuteCode::Unknown),
        }
    }
}

/// The client's own key of its intent: visible ASCII, else there is none.
fn key(request: &HttpRequest) -> Option<String> {
    let key = request.headers().get("idempotency-key")?.to_str().ok()?.trim();
    let sound = (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then(|| key.to_owned())
}

async fn execute(
    state: State,
    caller: Caller,
    request: HttpRequest,
    body: Json<Execute>,
) -> Result<HttpResponse, ApiError> {
    let Execute {
        user,
        action,
        params,
        account,
    } = body.0;
    let caller = caller.acting_as(&state, user)?;
    let what = match &account {
        Some(account) => ("Account or tool", format!("{account}, {action}")),
        None => ("Tool", action.clone()),
    };
    // One user's key is not another's.
    let key = key(&request).map(|key| format!("{}-{key}", caller.user));
    let composio = &state.wiring.composio;
    let outcome = composio.execute_as(&caller.user, &action, params, account, key).await;
    let outcome = outcome.map_err(|error| failed(&error, "execute", (what.0, &what.1)))?;
    Ok(HttpResponse::Ok().json(Executed::from(outcome)))
}

/// A toolkit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Toolkit")]
struct ShownToolkit {
    slug: String,
    name: String,
    description: String,
    logo: Option<String>,
    categories: Vec<String>,
    auth_schemes: Vec<String>,
}

impl From<Toolkit> for ShownToolkit {
    fn from(toolkit: Toolkit) -> Self {
        Self {
            slug: toolkit.slug,
            name: toolkit.name,
            description: toolkit.description,
            logo: toolkit.logo,
            categories: toolkit.categories,
            auth_schemes: toolkit.schemes,
        }
    }
}

fn toolkit() -> Value {
    json!({"slug": "github", "name": "GitHub", "description": "GitHub is a code hosting platform.",
        "logo": "https://logos.composio.dev/api/github", "categories": ["Developer tools"], "auth_schemes": ["OAUTH2"]})
}

async fn toolkits(state: State, _caller: Caller, query: QueryOf<ListToolkits>) -> Result<HttpResponse, ApiError> {
    let ListToolkits { search, limit } = query.0;
    let toolkits = state.wiring.composio.toolkits(search, limit).await;
    let toolkits = toolkits.map_err(|error| failed(&error, "list_toolkits", ("Toolkit", "")))?;
    let toolkits: Vec<ShownToolkit> = toolkits.into_iter().map(ShownToolkit::from).collect();
    Ok(HttpResponse::Ok().json(toolkits))
}

/// A tool.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Action")]
struct ShownAction {
    /// What it is called with.
    name: String,
    /// Its name for people.
    display_name: String,
    description: String,
    /// JSON schema of its arguments.
    parameters: Value,
    /// JSON schema of its result.
    response: Value,
    /// The toolkit's slug.
    app_name: String,
}

impl From<Action> for ShownAction {
    fn from(action: Action) -> Self {
        Self {
            name: action.slug,
            display_name: action.name,
            description: action.description,
            parameters: action.parameters,
            response: action.response,
            app_name: action.toolkit,
        }
    }
}

fn action() -> Value {
    json!({"name": "GITHUB_CREATE_AN_ISSUE", "display_name": "Create an issue",
        "description": "Creates an issue in a repository.",
        "parameters": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
        "response": {"type": "object"}, "app_name": "github"})
}

async fn actions(
    state: State,
    _caller: Caller,
    slug: PathId<Word>,
    query: QueryOf<ListActions>,
) -> Result<HttpResponse, ApiError> {
    let slug = slug.0.0;
    let actions = state.wiring.composio.actions(&slug, query.0.limit).await;
    let actions = actions.map_err(|error| failed(&error, "list_actions", ("Toolkit", &slug)))?;
    let actions: Vec<ShownAction> = actions.into_iter().map(ShownAction::from).collect();
    Ok(HttpResponse::Ok().json(actions))
}
