//! What happens to every request: its id, its span, its metrics, its headers, and what a panic becomes.
//!
//! Reads no body and logs none.

use std::{panic::AssertUnwindSafe, time::Duration};

use actix_web::{
    Error, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::header::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    web,
};
use futures_util::FutureExt;
use kronos_actors::{clock::Clock, ids, metrics as names};
use tracing::Instrument;

use super::{EdgeState, error::ApiError, headers};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// Longest request id that is taken from a client: four UUIDs.
const MAX_ID: usize = 128;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// Returns the id of the request that this task serves.
pub(crate) fn current_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// The outermost middleware.
pub(crate) async fn observe<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let id = request_id(request.headers());
    let (clock, hsts) = match request.app_data::<web::Data<EdgeState>>() {
        Some(state) => (state.clock.clone(), state.hsts),
        None => (Clock::default(), false),
    };
    let started = clock.instant();
    let method = method_label(&request);
    let span = tracing::info_span!("request", id = %id, method, path = request.path());
    let active = metrics::gauge!(names::HTTP_ACTIVE);
    active.increment(1.0);
    // The request moves on: whatever comes back tells by itself which route it took.
    let serve = AssertUnwindSafe(async { next.call(request).await }).catch_unwind();
    let outcome = REQUEST_ID.scope(id.clone(), serve).instrument(span.clone()).await;
    active.decrement(1.0);
    let taken = started.elapsed();
    let result = match outcome {
        Ok(Ok(mut response)) => {
            finish(response.response_mut().headers_mut(), &id, taken, hsts);
            let route = response
                .request()
                .match_pattern()
                .unwrap_or_else(|| "unmatched".to_owned());
            record(method, route, response.status().as_u16(), taken);
            return Ok(response);
        }
        Ok(Err(error)) => REQUEST_ID.sync_scope(id.clone(), || as_ours(&error)),
        Err(_panic) => {
            metrics::counter!(names::HTTP_PANICS).increment(1);
            span.in_scope(|| tracing::error!("handler panicked"));
            REQUEST_ID.sync_scope(id.clone(), || ApiError::internal().error_response())
        }
    };
    record(method, "unmatched".to_owned(), result.status().as_u16(), taken);
    Err(with_headers(result, &id, taken, hsts))
}

/// Brings an error that a library made into our shape.
fn as_ours(error: &Error) -> HttpResponse {
    match error.as_error::<ApiError>() {
        Some(ours) => ours.error_response(),
        None => ApiError::from_status(error.as_response_error().status_code()).error_response(),
    }
}

fn with_headers(mut response: HttpResponse, id: &str, taken: Duration, hsts: bool) -> Error {
    finish(response.headers_mut(), id, taken, hsts);
    InternalError::from_response("answered", response).into()
}

fn finish(map: &mut HeaderMap, id: &str, taken: Duration, hsts: bool) {
    if let Ok(value) = HeaderValue::from_str(id) {
        map.insert(X_REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{:.6}", taken.as_secs_f64())) {
        map.insert(X_PROCESS_TIME, value);
    }
    headers::secure(map, hsts);
}

fn record(method: &'static str, route: String, status: u16, taken: Duration) {
    let status = match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::counter!(names::HTTP_REQUESTS, "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!(names::HTTP_DURATION, "method" => method, "route" => route).record(taken.as_secs_f64());
}

fn method_label(request: &ServiceRequest) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Takes the client's id when it is one that can stand in logs and headers, else makes one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if is_sane(id) => id.to_owned(),
        _ => ids::run().as_str().replacen("r_", "req_", 1),
    }
}

fn is_sane(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_taken_up_to_their_bound() {
        assert!(is_sane("a") && is_sane("0192-a.b_C") && is_sane(&"x".repeat(128)));
        for bad in ["", "a b", "a\n", "ä", "<script>", &"x".repeat(129)] {
            assert!(!is_sane(bad), "{bad:?}");
        }
    }

    async fn answer(path: &str) -> HttpResponse {
        let app = actix_web::App::new()
            .route("/panic", web::to(async || -> HttpResponse { panic!("secret") }))
            .wrap(actix_web::middleware::from_fn(refuse))
            .wrap(actix_web::middleware::from_fn(observe));
        let service = actix_web::test::init_service(app).await;
        let request = actix_web::test::TestRequest::with_uri(path)
            .insert_header((X_REQUEST_ID, "r1"))
            .to_request();
        match actix_web::test::try_call_service(&service, request).await {
            Ok(response) => response.into_parts().1.map_into_boxed_body(),
            Err(error) => error.error_response(),
        }
    }

    /// A middleware that refuses in its own way.
    async fn refuse(
        request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        if request.path() == "/refused" {
            return Err(actix_web::error::ErrorForbidden("secret"));
        }
        next.call(request).await
    }

    #[actix_web::test]
    async fn panics_and_refusals_of_middleware_have_the_one_shape() {
        for (path, status, code) in [
            ("/panic", 500, "INTERNAL_SERVER_ERROR"),
            ("/refused", 403, "AUTHORIZATION_ERROR"),
        ] {
            let response = answer(path).await;
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers().get("x-frame-options").unwrap(), "DENY");
            assert_eq!(response.headers().get(X_REQUEST_ID).unwrap(), "r1");
            let body = actix_web::body::to_bytes(response.into_body()).await.ok().unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (body["error"]["code"].as_str(), body["error"]["request_id"].as_str()),
                (Some(code), Some("r1"))
            );
            assert!(!body.to_string().contains("secret"));
        }
    }
}
