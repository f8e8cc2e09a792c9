//! The websocket's place in the route table: its tickets come from the accounts, its errors leave in our shape.

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::BoxFuture;
use kronos_actors::principal::{AuthError, Principal};

use super::{
    accounts::Accounts,
    endpoint::{Endpoint, get},
    error::ApiError,
    ws::{self, TicketTaker, WsState},
};

impl TicketTaker for Accounts {
    fn take(&self, ticket: &str) -> BoxFuture<'static, Result<Principal, AuthError>> {
        let (accounts, ticket) = (self.clone(), ticket.to_owned());
        Box::pin(async move { accounts.redeem(&ticket).await })
    }
}

/// The websocket: `/asyncapi.json` describes it.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![get(&["/ws", "/api/v1/ws"], upgrade).uncounted().elsewhere()]
}

async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<WsState>,
) -> Result<HttpResponse, ApiError> {
    ws::upgrade(request, payload, state).await.map_err(ApiError::from)
}
