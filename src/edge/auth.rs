//! Who is calling, and the routes under `/auth`. No database knowledge.

use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header, web};
use futures_util::future::LocalBoxFuture;
use kronos_actors::{
    metrics as names,
    principal::{AuthError, Authenticator, Principal},
};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::Span;

use super::{
    EdgeState,
    accounts::{
        Me, Ticket, TokenPair, UserProfile,
        inputs::{Login, Logout, Refresh, Signup},
    },
    endpoint::{Endpoint, Tag, get, post},
    error::ApiError,
    input::{Json, OptionalJson, detached},
};

/// The caller of a request, proven by its token, or a guest where those are served.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// The access token, for logout.
    token: Option<String>,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let state = request.app_data::<web::Data<EdgeState>>().cloned();
        let token = bearer(request);
        let request = request.clone();
        Box::pin(async move {
            let state = state.ok_or_else(ApiError::internal)?;
            let token = token.inspect_err(names::auth_failed)?;
            let principal = state.accounts.authenticate(token.clone()).await?;
            Span::current().record("user.id", principal.user.as_str());
            state.limits.user(&request, &principal.user)?;
            Ok(Self { principal, token })
        })
    }
}

/// Returns the bearer token; an `Authorization` header that is something else is an error, not a guest.
fn bearer(request: &HttpRequest) -> Result<Option<String>, AuthError> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(AuthError::Invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(AuthError::Invalid);
    }
    Ok(Some(token.trim().to_owned()))
}

impl Caller {
    /// Returns who the caller acts as when the request names a user: itself; a superuser anybody; a guest whoever it says.
    pub(crate) fn acting_as(self, state: &EdgeState, user: Option<UserId>) -> Result<Arc<Principal>, ApiError> {
        match user {
            None => Ok(Arc::new(self.principal)),
            Some(user) if user == self.principal.user => Ok(Arc::new(self.principal)),
            Some(user) if self.principal.superuser => Ok(Arc::new(Principal { user, ..self.principal })),
            Some(user) if self.token.is_none() => Ok(Arc::new(state.accounts.guest(Some(user.as_str()))?)),
            Some(_) => Err(ApiError::forbidden()),
        }
    }
}

type State = web::Data<EdgeState>;

async fn signup(state: State, body: Json<Signup>) -> Result<HttpResponse, ApiError> {
    let accounts = state.accounts.clone();
    let profile = detached(async move { accounts.signup(body.0).await }).await?;
    Ok(HttpResponse::Created().json(profile))
}

async fn login(state: State, body: Json<Login>) -> Result<HttpResponse, ApiError> {
    Ok(no_store(state.accounts.login(body.0).await?))
}

async fn refresh(state: State, body: Json<Refresh>) -> Result<HttpResponse, ApiError> {
    Ok(no_store(state.accounts.refresh(body.0).await?))
}

async fn logout(state: State, caller: Caller, body: OptionalJson<Logout>) -> Result<HttpResponse, ApiError> {
    let accounts = state.accounts.clone();
    detached(async move {
        match &caller.token {
            Some(token) => accounts.logout(&caller.principal, token, body.0).await,
            // A guest has nothing that could end.
            None => Ok(()),
        }
    })
    .await?;
    let message = "Successfully logged out";
    Ok(HttpResponse::Ok().json(LoggedOut { message }))
}

async fn ticket(state: State, caller: Caller) -> Result<HttpResponse, ApiError> {
    std::future::ready(state.accounts.ticket(caller.principal))
        .await
        .map(no_store)
}

async fn me(state: State, caller: Caller) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(state.accounts.me(&caller.principal).await?))
}

/// The answer to a logout.
#[derive(Debug, Serialize, JsonSchema)]
struct LoggedOut {
    /// A sentence.
    message: &'static str,
}

/// An answer with a token in it: no cache may keep it.
fn no_store(body: impl Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body)
}

/// The endpoints under `/auth`.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/auth/signup"], signup)
            .named("auth_signup", Tag::Auth, "Make an account")
            .public()
            .body::<Signup>()
            .returns::<UserProfile>(201, "The new user", profile_example)
            .fails(&[
                ErrorCode::Conflict,
                ErrorCode::NotConfigured,
                ErrorCode::Storage,
                ErrorCode::Overloaded,
            ]),
        post(&["/api/v1/auth/login"], login)
            .named("auth_login", Tag::Auth, "Log in")
            .about("The same 401 whether the user or the password is wrong, in the same time.")
            .public()
            .body::<Login>()
            .returns::<TokenPair>(200, "A pair of tokens", pair_example)
            .fails(&[
                ErrorCode::Unauthenticated,
                ErrorCode::NotConfigured,
                ErrorCode::Storage,
                ErrorCode::Overloaded,
            ]),
        post(&["/api/v1/auth/refresh"], refresh)
            .named("auth_refresh", Tag::Auth, "Get a new pair of tokens")
            .about(
                "Refresh tokens rotate: one that is used twice ends its login, with all tokens and websockets of it.",
            )
            .public()
            .body::<Refresh>()
            .returns::<TokenPair>(200, "A new pair of tokens", pair_example)
            .fails(&[ErrorCode::Unauthenticated, ErrorCode::NotConfigured, ErrorCode::Storage]),
        post(&["/api/v1/auth/logout"], logout)
            .named("auth_logout", Tag::Auth, "End the login of the access token")
            .about("Its tokens are refused from now on, its websockets are closed with 4401.")
            .optional_body::<Logout>()
            .returns::<LoggedOut>(200, "It has ended", || json!({"message": "Successfully logged out"})),
        post(&["/api/v1/auth/ticket"], ticket)
            .named("auth_ticket", Tag::Auth, "Get a ticket for a websocket")
            .about("For browsers, whose websockets cannot send a token: `/ws?ticket=…`, once, within 30 seconds.")
            .returns::<Ticket>(200, "A ticket", || json!({"ticket": "kq3v…", "expires_in": 30}))
            .fails(&[ErrorCode::Overloaded]),
        get(&["/api/v1/auth/me"], me)
            .named("auth_me", Tag::Auth, "Who is calling")
            .returns::<Me>(200, "The caller", me_example),
    ]
}

fn profile_example() -> Value {
    json!({"id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80", "username": "ada", "full_name": "Ada Lovelace",
        "profile_image_url": null, "bio": null, "created_at": "2026-01-01T12:00:00Z", "email": "ada@example.com",
        "is_active": true, "preferences": {"theme": "dark"}, "last_login": null, "updated_at": "2026-01-01T12:00:00Z"})
}

fn me_example() -> Value {
    let mut example = profile_example();
    example["user_id"] = example["id"].clone();
    example["roles"] = json!(["user"]);
    example
}

fn pair_example() -> Value {
    json!({"access_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.…", "token_type": "bearer", "expires_in": 1800,
        "refresh_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.…", "refresh_expires_in": 2_592_000})
}
