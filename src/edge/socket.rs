//! The websocket's place in the route table: tickets, development's `?user=`, and errors in our shape.

use actix_web::{
    Error, HttpRequest, HttpResponse, Resource,
    body::MessageBody,
    dev::{HttpServiceFactory, ServiceRequest, ServiceResponse},
    http::{Uri, header},
    middleware::{Next, from_fn},
    web,
};
use futures_util::future::BoxFuture;
use kronos_actors::principal::{AuthError, Principal};

use super::{
    EdgeState,
    accounts::Accounts,
    error::ApiError,
    ws::{self, TicketTaker, WsState},
};

impl TicketTaker for Accounts {
    fn take(&self, ticket: &str) -> BoxFuture<'static, Result<Principal, AuthError>> {
        Box::pin(std::future::ready(self.redeem(ticket).ok_or(AuthError::Invalid)))
    }
}

/// Answers `GET /ws`.
pub(super) async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<WsState>,
) -> Result<HttpResponse, ApiError> {
    ws::upgrade(request, payload, state).await.map_err(ApiError::from)
}

/// Lets a development client say who it is.
pub(super) fn resource(routes: Resource) -> impl HttpServiceFactory {
    routes.wrap(from_fn(guest_by_name))
}

/// Where guests are served, turns `?user=` into a ticket for that guest: the upgrade then knows one way only.
async fn guest_by_name<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if let Some(uri) = guest_ticket(&request)? {
        request.head_mut().uri = uri;
    }
    next.call(request).await
}

fn guest_ticket(request: &ServiceRequest) -> Result<Option<Uri>, ApiError> {
    let Some(state) = request.app_data::<web::Data<EdgeState>>() else {
        return Ok(None);
    };
    if !state.accounts.takes_guests() || request.headers().contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).map(web::Query::into_inner);
    let query = query.unwrap_or_default();
    if query.iter().any(|(name, _)| name == "ticket") {
        return Ok(None);
    }
    let Some((_, user)) = query.iter().find(|(name, _)| name == "user") else {
        return Ok(None);
    };
    let ticket = state.accounts.ticket(state.accounts.guest(Some(user))?)?;
    let text = format!("{}?ticket={}", request.path(), ticket["ticket"].as_str().unwrap_or_default());
    Ok(text.parse().ok())
}
