//! Where a browser comes back from Composio. What its address says proves nothing: the connection is looked up, and Composio
//! is asked how it is.

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderValue},
    web,
};
use kronos_actors::composio::{AccountStatus, Returned};
use reqwest::Url;

use super::{CALLBACK, inputs::CameBack};
use crate::edge::{
    EdgeState,
    endpoint::{Endpoint, Tag, get},
    input::QueryOf,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    const PAGE: &str = "<!DOCTYPE html>";
    vec![
        get(&[CALLBACK], came_back)
            .named("composio_callback", Tag::Composio, "Where a browser comes back from Composio")
            .about(
                "A page that says what became of the connection; a client that named a place of its own finds the browser there, \
                 with `status` and `connected_account_id` in the query.",
            )
            .public()
            .query::<CameBack>()
            .sends(200, "The page", "text/html", PAGE)
            .empty(303, "On to the client's own place"),
    ]
}

async fn came_back(state: web::Data<EdgeState>, query: QueryOf<CameBack>) -> HttpResponse {
    let Some(id) = query.0.account else {
        return page(UNKNOWN);
    };
    let returned = match state.wiring.composio.returned(&id).await {
        Ok(returned) => returned,
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be looked at");
            return page(LATER);
        }
    };
    let Returned { status, redirect } = returned;
    // The list may have become shorter since the connection began.
    let redirect = redirect.filter(|redirect| state.redirects.allow(redirect));
    match (status, redirect) {
        (Some(status), Some(redirect)) => on_to(&redirect, &id, status),
        (Some(AccountStatus::Active), None) => page(CONNECTED),
        (Some(status), None) if status.is_pending() => page(LATER),
        (Some(_), None) => page(FAILED),
        (None, _) => page(UNKNOWN),
    }
}

fn on_to(redirect: &str, id: &str, status: AccountStatus) -> HttpResponse {
    let Ok(mut url) = Url::parse(redirect) else {
        return page(UNKNOWN);
    };
    let word = match status {
        AccountStatus::Active => "success",
        status if status.is_pending() => "pending",
        _ => "failed",
    };
    url.query_pairs_mut()
        .append_pair("status", word)
        .append_pair("connected_account_id", id);
    match HeaderValue::from_str(url.as_str()) {
        Ok(place) => HttpResponse::SeeOther()
            .insert_header((header::LOCATION, place))
            .finish(),
        Err(_) => page(UNKNOWN),
    }
}

/// Pages without script, style or anything of the request.
macro_rules! page {
    ($title:literal, $text:literal) => {
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>",
            $title,
            "</title></head>\n<body><h1>",
            $title,
            "</h1><p>",
            $text,
            "</p></body></html>\n"
        )
    };
}

const CONNECTED: &str = page!("Connected", "The account is connected. You may close this window.");
const FAILED: &str = page!(
    "Not connected",
    "The account was not connected. You may close this window and try again."
);
const LATER: &str = page!(
    "Almost there",
    "The connection is being made. You may close this window: you will be told when it is there."
);
const UNKNOWN: &str = page!(
    "Nothing to do",
    "This server knows no such connection. You may close this window."
);

fn page(text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(text)
}
