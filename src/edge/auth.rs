//! Who is calling, and the routes under `/auth`. No database knowledge.

use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header, web};
use futures_util::future::LocalBoxFuture;
use kronos_actors::principal::{AuthError, Authenticator, Principal};
use kronos_protocol::ids::UserId;
use serde_json::json;

use super::{
    EdgeState,
    error::ApiError,
    input::{Body, OptionalBody},
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
            let token = token?;
            let principal = state.accounts.authenticate(token.clone()).await?;
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

pub(super) async fn signup(state: web::Data<EdgeState>, body: Body) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Created().json(state.accounts.signup(body.0).await?))
}

pub(super) async fn login(state: web::Data<EdgeState>, body: Body) -> Result<HttpResponse, ApiError> {
    Ok(no_store(state.accounts.login(body.0).await?))
}

pub(super) async fn refresh(state: web::Data<EdgeState>, body: Body) -> Result<HttpResponse, ApiError> {
    Ok(no_store(state.accounts.refresh(body.0).await?))
}

pub(super) async fn logout(
    state: web::Data<EdgeState>,
    caller: Caller,
    body: OptionalBody,
) -> Result<HttpResponse, ApiError> {
    if let Some(token) = &caller.token {
        state.accounts.logout(&caller.principal, token, body.0).await?;
    }
    Ok(HttpResponse::Ok().json(json!({"message": "Successfully logged out"})))
}

pub(super) async fn ticket(state: web::Data<EdgeState>, caller: Caller) -> Result<HttpResponse, ApiError> {
    std::future::ready(state.accounts.ticket(caller.principal))
        .await
        .map(no_store)
}

pub(super) async fn me(state: web::Data<EdgeState>, caller: Caller) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(state.accounts.me(&caller.principal).await?))
}

/// An answer with a token in it: no cache may keep it.
fn no_store(body: serde_json::Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body)
}
