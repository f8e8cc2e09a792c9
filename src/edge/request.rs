//! What happens to every request: its id, its span, its metrics, its headers, its limits, and what a panic becomes.
//!
//! Reads no body and logs none.

use std::{convert::Infallible, panic::AssertUnwindSafe, rc::Rc, sync::Arc, time::Duration};

use actix_http::ResponseHead;
use actix_web::{
    Error, HttpResponse, ResponseError,
    body::{self, BodySize, BodyStream, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        ConnectionType, Method, StatusCode,
        header::{self, ContentEncoding, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use bytes::Bytes;
use futures_util::FutureExt;
use kronos_actors::{
    clock::Clock,
    ids, metrics as names,
    trace::{self, Scope, TraceContext},
};
use tracing::{Instrument, Span, field::Empty};

use super::{
    EdgeState,
    body::{Fate, Incoming, Outgoing},
    compress,
    error::ApiError,
    headers::{self, Cors},
    limits::{self, Counted},
    peer::Peer,
    stream::Link,
};

mod counts;

pub(crate) use counts::record;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// Longest request id that is taken from a client: four UUIDs.
const MAX_ID: usize = 128;

/// Returns the id of the request that this task serves.
pub(crate) fn current_id() -> Option<Arc<str>> {
    trace::request()
}

/// Runs `work` for the request with this id.
pub(crate) fn with_id<T>(id: &Arc<str>, work: impl FnOnce() -> T) -> T {
    let scope = Scope {
        request: Some(Arc::clone(id)),
        trace: None,
    };
    scope.enter(work)
}

/// Makes an id.
pub(crate) fn new_id() -> String {
    ids::http_request()
}

/// What is known of a request while it is answered, apart from itself.
struct Call {
    id: Arc<str>,
    /// Where in a trace its caller says that it is.
    trace: Option<Arc<TraceContext>>,
    /// At a level that every filter lets through: a line of the request without its id would be worth little.
    span: Span,
    method: &'static str,
    head_only: bool,
    accepted: ContentEncoding,
    cors: Cors,
    counted: Counted,
    incoming: Incoming,
    link: Option<Rc<Link>>,
    body_bytes: usize,
    hsts: bool,
}

/// The outermost middleware.
pub(crate) async fn observe<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Outgoing>, Error> {
    let state = request.app_data::<web::Data<EdgeState>>().cloned();
    let clock = state.as_ref().map_or_else(Clock::default, |state| state.clock.clone());
    let started = clock.instant();
    let (call, refused) = Call::begin(&mut request, state.as_deref().map(AsRef::as_ref));
    let serving = call.link.as_ref().map(Link::serve);
    counts::active().increment(1.0);
    // The request moves on: whatever comes back tells by itself which route it took.
    let serve = async {
        match refused {
            Some(early) => Ok(request.into_response(early).map_into_right_body()),
            None => next.call(request).await.map(ServiceResponse::map_into_left_body),
        }
    };
    let serve = AssertUnwindSafe(serve).catch_unwind();
    let scope = Scope {
        request: Some(Arc::clone(&call.id)),
        trace: call.trace.clone(),
    };
    let outcome = scope.around(serve).instrument(call.span.clone()).await;
    counts::active().decrement(1.0);
    let taken = started.elapsed();
    match outcome {
        Ok(Ok(response)) => {
            let route = response.request().match_pattern();
            let (request, response) = response.into_parts();
            let response = call.finish(response, serving, route, taken);
            Ok(ServiceResponse::new(request, response))
        }
        Ok(Err(error)) => {
            let response = with_id(&call.id, || as_ours(&error));
            Err(as_error(call.finish(response, serving, None, taken)))
        }
        Err(_panic) => {
            metrics::counter!(names::HTTP_PANICS).increment(1);
            call.span.in_scope(|| tracing::error!("handler panicked"));
            let response = with_id(&call.id, || ApiError::internal().error_response());
            Err(as_error(call.finish(response, serving, None, taken)))
        }
    }
}

/// Brings an error that a library made into our shape.
fn as_ours(error: &Error) -> HttpResponse {
    match error.as_error::<ApiError>() {
        Some(ours) => ours.error_response(),
        None => ApiError::from_status(error.as_response_error().status_code()).error_response(),
    }
}

fn as_error(response: HttpResponse<Outgoing>) -> Error {
    InternalError::from_response("answered", response.map_into_boxed_body()).into()
}

impl Call {
    /// Looks at a request, and returns the answer when it is not to be served.
    fn begin(request: &mut ServiceRequest, state: Option<&EdgeState>) -> (Self, Option<HttpResponse>) {
        let id: Arc<str> = request_id(request.headers()).into();
        let method = counts::method(request.method());
        let span = tracing::error_span!(
            "request", request.id = %id, http.request.method = method, url.path = request.path(), user.id = Empty,
            otel.name = method, otel.kind = "server", otel.status_code = Empty, http.route = Empty,
            http.response.status_code = Empty, error.type = Empty,
        );
        let trace = trace_of(request.headers()).map(Arc::new);
        trace::join(&span, trace.as_deref(), false);
        let trusted = state.map_or(&[][..], |state| &state.trusted_proxies);
        let peer = Peer::note(request, trusted);
        let head_only = request.method() == Method::HEAD;
        let mut call = Self {
            id,
            trace,
            span,
            method,
            head_only,
            // What a body would be like compressed is only known when it is.
            accepted: if head_only {
                ContentEncoding::Identity
            } else {
                compress::accepted(request.headers())
            },
            cors: Cors::read(request, state.map(|state| &state.origins), &peer.host),
            counted: Counted::default(),
            incoming: Incoming::default(),
            link: request.conn_data::<Rc<Link>>().cloned(),
            body_bytes: state.map_or(usize::MAX, |state| state.bounds.body_bytes),
            hsts: state.is_some_and(|state| state.hsts),
        };
        if call.cors.is_preflight() {
            return (call, Some(HttpResponse::NoContent().finish()));
        }
        let Some(state) = state else {
            return (call, None);
        };
        let refused = state.limits.address(request, peer.address, &call.counted).err();
        // A websocket reads what comes for itself.
        if !limits::is_websocket(request.match_info().as_str()) {
            call.incoming = Incoming::bound(request, call.body_bytes, state.body_timeout);
            call.read_body(call.incoming.fate() == Fate::Open);
        }
        let refused = refused.or_else(|| call.refusal());
        let answer = refused.map(|error| with_id(&call.id, || error.error_response()));
        (call, answer)
    }

    fn read_body(&self, body: bool) {
        if let Some(link) = &self.link {
            link.read_body(body);
        }
    }

    /// What is wrong with the body of the request, whatever its handler made of it.
    fn refusal(&self) -> Option<ApiError> {
        match self.incoming.fate() {
            Fate::TooLarge => Some(ApiError::too_large(self.body_bytes)),
            Fate::TooSlow => Some(ApiError::request_timeout(
                "The body of the request did not come in time",
            )),
            Fate::None | Fate::Open | Fate::Whole => None,
        }
    }

    /// Makes the answer complete.
    fn finish<B: MessageBody + 'static>(
        self,
        response: HttpResponse<B>,
        serving: Option<super::stream::Serving>,
        route: Option<String>,
        taken: Duration,
    ) -> HttpResponse<Outgoing> {
        self.read_body(false);
        let mut response = match self.refusal() {
            Some(error) => {
                names::refused(if error.status == StatusCode::PAYLOAD_TOO_LARGE {
                    "body_bytes"
                } else {
                    "body_timeout"
                });
                with_id(&self.id, || error.error_response())
            }
            None => compress::compress(response, self.accepted),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.link.iter().for_each(|link| link.upgrade());
        } else if !matches!(self.incoming.fate(), Fate::None | Fate::Whole) {
            // Nobody reads the rest: the next request would begin somewhere in it (RFC 9112, section 9.3).
            response.head_mut().set_connection_type(ConnectionType::Close);
            self.link.iter().for_each(|link| link.end());
        }
        let status = response.status().as_u16();
        trace::answered(
            &self.span,
            self.method,
            route.as_deref().unwrap_or(counts::UNMATCHED),
            status,
        );
        record(self.method, route.as_deref(), status, taken);
        let headers = response.headers_mut();
        self.counted.tell(headers);
        self.cors.apply(headers);
        identify(headers, &self.id, taken);
        headers::secure(headers, self.hsts);
        // A websocket says by itself in each line what it is; entering its span for every frame would cost too much.
        let made_by = (response.status() != StatusCode::SWITCHING_PROTOCOLS).then_some((&self.span, &self.id));
        response.map_body(|head, body| {
            let body = if self.head_only {
                without_body(head, &body)
            } else {
                body
            };
            Outgoing::new(body, serving, made_by)
        })
    }
}

/// The body of an answer to HEAD: none, but the head says how long it would be.
///
/// actix would leave the body out by itself, but forgets that it was HEAD when another request waits behind it already.
fn without_body(head: &mut ResponseHead, body: &BoxBody) -> BoxBody {
    match body.size() {
        BodySize::None => return BoxBody::new(body::None::new()),
        BodySize::Sized(length) => {
            head.headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        BodySize::Stream => {}
    }
    head.no_chunking(true);
    BoxBody::new(BodyStream::new(
        futures_util::stream::empty::<Result<Bytes, Infallible>>(),
    ))
}

/// Sets what names the request, and how long it took.
pub(crate) fn identify(map: &mut HeaderMap, id: &str, taken: Duration) {
    if let Ok(value) = HeaderValue::from_str(id) {
        map.insert(X_REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{:.6}", taken.as_secs_f64())) {
        map.insert(X_PROCESS_TIME, value);
    }
}

/// Reads where in a trace the caller is; what is not as it should be is ignored.
fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent");
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let states: Vec<&str> = headers
        .get_all("tracestate")
        .filter_map(|value| value.to_str().ok())
        .collect();
    let state = (!states.is_empty()).then(|| states.join(","));
    TraceContext::read(parent, state.as_deref())
}

/// Takes the client's id when it is one that can stand in logs and headers, else makes one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if is_sane(id) => id.to_owned(),
        _ => new_id(),
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

    struct Bomb;

    impl actix_web::FromRequest for Bomb {
        type Error = Error;
        type Future = std::future::Ready<Result<Self, Error>>;

        fn from_request(_: &actix_web::HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
            panic!("secret")
        }
    }

    async fn answer(path: &str) -> HttpResponse {
        let app = actix_web::App::new()
            .route("/panic", web::to(async || -> HttpResponse { panic!("secret") }))
            .route("/extractor", web::to(async |_bomb: Bomb| HttpResponse::Ok().finish()))
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
        assert!(request.path() != "/middleware", "secret");
        if request.path() == "/refused" {
            return Err(actix_web::error::ErrorForbidden("secret"));
        }
        next.call(request).await
    }

    #[actix_web::test]
    async fn panics_and_refusals_of_middleware_have_the_one_shape() {
        for (path, status, code) in [
            ("/panic", 500, "INTERNAL_SERVER_ERROR"),
            ("/extractor", 500, "INTERNAL_SERVER_ERROR"),
            ("/middleware", 500, "INTERNAL_SERVER_ERROR"),
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
