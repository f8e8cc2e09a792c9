//! Auth configs of the project. Reading is for every user, writing for superusers; credentials go in and never come out.

use actix_web::{HttpResponse, web};
use kronos_actors::composio::{AuthConfig, AuthConfigChange, AuthConfigFilter, ComposioError, NewAuthConfig, Page};
use kronos_protocol::error::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    FAILS, Word, failed,
    inputs::{CreateAuthConfig, ListAuthConfigs, UpdateAuthConfig},
};
use crate::edge::{
    EdgeState,
    accounts::Accounts,
    auth::Caller,
    endpoint::{Endpoint, Tag, delete, get, post, put},
    error::ApiError,
    input::{Json, PathId, QueryOf},
};

type State = web::Data<EdgeState>;

const ALL: &[&str] = &["/api/v1/composio/auth-configs"];
const ONE: &[&str] = &["/api/v1/composio/auth-configs/{id}"];
const ID: &str = "Id of the auth config";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let tool = |endpoint: Endpoint, id, summary| endpoint.named(id, Tag::Composio, summary).fails(FAILS);
    vec![
        tool(get(ALL, list), "composio_auth_configs", "List auth configs")
            .query::<ListAuthConfigs>()
            .returns::<AuthConfigs>(200, "A page of them", || {
                json!({"items": [example()], "total_pages": 1, "current_page": 1, "total_items": 1, "next_cursor": null})
            }),
        tool(post(ALL, create), "composio_auth_config_create", "Make an auth config")
            .about("Without credentials it uses Composio's own OAuth app, where there is one.")
            .superuser()
            .body::<CreateAuthConfig>()
            .returns::<Shown>(201, "The new auth config", example)
            .fails(&[ErrorCode::NotFound]),
        tool(get(ONE, show), "composio_auth_config", "Show an auth config")
            .path::<Word>("id", ID)
            .returns::<Shown>(200, "The auth config", example)
            .fails(&[ErrorCode::NotFound]),
        tool(put(ONE, update), "composio_auth_config_update", "Change an auth config")
            .about("Only what is sent changes.")
            .superuser()
            .path::<Word>("id", ID)
            .body::<UpdateAuthConfig>()
            .returns::<Shown>(200, "The auth config as it is now", example)
            .fails(&[ErrorCode::NotFound]),
        tool(delete(ONE, remove), "composio_auth_config_delete", "Delete an auth config")
            .superuser()
            .path::<Word>("id", ID)
            .returns::<Deleted>(200, "It is gone", || json!({"success": true, "message": "The auth config is deleted"}))
            .fails(&[ErrorCode::NotFound]),
    ]
}

/// A page of auth configs.
#[derive(Debug, Serialize, JsonSchema)]
struct AuthConfigs {
    items: Vec<Shown>,
    total_pages: u64,
    current_page: u64,
    total_items: u64,
    /// Where the next page begins; null: this is the last.
    next_cursor: Option<String>,
}

/// Whose tools.
#[derive(Debug, Serialize, JsonSchema)]
struct OfToolkit {
    slug: String,
}

/// An auth config, without credentials.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuthConfig")]
struct Shown {
    id: String,
    uuid: Option<String>,
    /// `default` (Composio's own app) or `custom`.
    #[serde(rename = "type")]
    kind: String,
    toolkit: OfToolkit,
    name: Option<String>,
    /// `ENABLED` or `DISABLED`.
    status: String,
    no_of_connections: u64,
    auth_scheme: Option<String>,
    is_composio_managed: bool,
    created_at: Option<String>,
    last_updated_at: Option<String>,
}

impl From<AuthConfig> for Shown {
    fn from(config: AuthConfig) -> Self {
        Self {
            id: config.id,
            uuid: config.uuid,
            kind: config.kind,
            toolkit: OfToolkit { slug: config.toolkit },
            name: config.name,
            status: config.status,
            no_of_connections: config.connections,
            auth_scheme: config.scheme,
            is_composio_managed: config.managed,
            created_at: config.created_at,
            last_updated_at: config.updated_at,
        }
    }
}

fn example() -> Value {
    json!({"id": "ac_EsiimfktFAMw", "uuid": "3b04c83a-0a4b-40c5-81f1-7b3933506b67", "type": "default",
        "toolkit": {"slug": "github"}, "name": "My GitHub app", "status": "ENABLED", "no_of_connections": 3,
        "auth_scheme": "OAUTH2", "is_composio_managed": true, "created_at": "2026-11-27T10:00:00.000Z",
        "last_updated_at": "2026-11-27T10:00:00.000Z"})
}

/// It is gone.
#[derive(Debug, Serialize, JsonSchema)]
struct Deleted {
    success: bool,
    message: &'static str,
}

async fn list(state: State, _caller: Caller, query: QueryOf<ListAuthConfigs>) -> Result<HttpResponse, ApiError> {
    let asked = query.0;
    let filter = AuthConfigFilter {
        toolkit: asked.toolkit.map(|toolkit| toolkit.to_ascii_lowercase()),
        managed: asked.managed,
        show_disabled: asked.show_disabled,
        search: asked.search.filter(|text| !text.is_empty()),
        limit: asked.limit,
        cursor: asked.cursor.filter(|text| !text.is_empty()),
    };
    let page = state.wiring.composio.auth_configs(filter).await;
    let Page {
        items,
        next_cursor,
        total_items,
        total_pages,
        current_page,
    } = page.map_err(|error| failed(&error, "list_auth_configs", ("Auth config", "")))?;
    Ok(HttpResponse::Ok().json(AuthConfigs {
        items: items.into_iter().map(Shown::from).collect(),
        total_pages,
        current_page,
        total_items,
        next_cursor,
    }))
}

fn of_config<'a>(operation: &'static str, id: &'a str) -> impl Fn(ComposioError) -> ApiError + use<'a> {
    move |error| failed(&error, operation, ("Auth config", id))
}

async fn create(state: State, caller: Caller, body: Json<CreateAuthConfig>) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let new = body.0;
    let toolkit = new.toolkit.clone();
    let new = NewAuthConfig {
        toolkit: new.toolkit,
        name: new.name,
        scheme: new.scheme.unwrap_or_else(|| "OAUTH2".to_owned()),
        credentials: new.credentials,
        proxy: new.proxy,
    };
    let made = state.wiring.composio.create_auth_config(new).await;
    let made = made.map_err(|error| failed(&error, "create_auth_config", ("Toolkit", &toolkit)))?;
    Ok(HttpResponse::Created().json(Shown::from(made)))
}

async fn show(state: State, _caller: Caller, id: PathId<Word>) -> Result<HttpResponse, ApiError> {
    let id = id.0.0;
    let config = state.wiring.composio.auth_config(&id).await;
    Ok(HttpResponse::Ok().json(Shown::from(config.map_err(of_config("show_auth_config", &id))?)))
}

async fn update(
    state: State,
    caller: Caller,
    id: PathId<Word>,
    body: Json<UpdateAuthConfig>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let (id, body) = (id.0.0, body.0);
    let change = AuthConfigChange {
        name: body.name,
        enabled: body.enabled,
        credentials: body.credentials,
        proxy: body.proxy,
    };
    let config = state.wiring.composio.update_auth_config(&id, change).await;
    Ok(HttpResponse::Ok().json(Shown::from(config.map_err(of_config("update_auth_config", &id))?)))
}

async fn remove(state: State, caller: Caller, id: PathId<Word>) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let id = id.0.0;
    let gone = state.wiring.composio.delete_auth_config(&id).await;
    gone.map_err(of_config("delete_auth_config", &id))?;
    Ok(HttpResponse::Ok().json(Deleted {
        success: true,
        message: "The auth config is deleted",
    }))
}
