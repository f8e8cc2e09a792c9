//! The websocket upgrade: origin, subprotocol, credentials, a place; then the connection is the actor's. Nothing else.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    sync::Arc,
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderMap, HeaderName},
    },
    rt::net::TcpStream,
    web,
};
use actix_web_actors::ws;
use base64::Engine as _;
use futures_util::future::BoxFuture;
use kronos_actors::{
    config::ConnectionConfig,
    connection::{self, ConnectionDeps, HangUp, Upgrade, registry::ConnectionsRef},
    metrics::auth_failed,
    principal::{AuthError, Principal},
};
use kronos_protocol::codec::Codec;
use serde::Deserialize;
use serde_json::json;
use socket2::SockRef;

use super::{
    peer::Peer,
    stream::{Link, upgraded},
};

/// The one version of the websocket protocol (RFC 6455).
const VERSION: &str = "13";
/// What a client waits when there is no place for its connection.
const FULL_RETRY_SECONDS: u32 = 5;
/// Bytes that the kernel may hold unsent for a peer that does not read. Without it a stalled client takes megabytes; at
/// 16 KiB a live one takes four times as long (measured).
const UNSENT_BYTES: u32 = 128 * 1024;

/// Uses a ticket up.
pub trait TicketTaker: Send + Sync {
    /// Returns whom the ticket stands for; once, and only while it is fresh.
    fn take(&self, ticket: &str) -> BoxFuture<'static, Result<Principal, AuthError>>;
}

/// Whether a page of an origin (`https://app.example.com`) may call a server that it knows as a host.
pub type OriginRule = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Who a guest is that names itself in the query; an error where guests are not served.
pub type GuestRule = Arc<dyn Fn(&str) -> Result<Principal, AuthError> + Send + Sync>;

/// What the upgrade needs; one per process.
pub struct WsState {
    /// What connections share.
    pub deps: Arc<ConnectionDeps>,
    /// The open connections.
    pub connections: ConnectionsRef,
    /// The tickets of browsers.
    pub tickets: Arc<dyn TicketTaker>,
    /// Makes a guest of a name, where guests are served.
    pub guests: GuestRule,
    /// The origins of browsers.
    pub origins: OriginRule,
}

/// Why a request was not upgraded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct UpgradeError {
    /// The HTTP status.
    pub status: StatusCode,
    /// `error.code` of the body.
    pub code: &'static str,
    /// `error.message` of the body.
    pub message: String,
    /// A header that says what would do.
    pub hint: Option<(HeaderName, &'static str)>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

impl UpgradeError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            hint: None,
            retry_after: None,
        }
    }

    fn bad(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }
}

impl ResponseError for UpgradeError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(hint) = &self.hint {
            response.insert_header(hint.clone());
        }
        if let Some(seconds) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        response.json(json!({ "error": { "code": self.code, "message": self.message, "details": {} } }))
    }
}

/// Answers `GET /ws`.
///
/// Bad credentials are not an error here: a browser cannot read the status of a refused upgrade, so the connection is
/// accepted and closed with 4401.
///
/// # Errors
/// 400 for what is no websocket request or offers only unknown subprotocols, 403 for an origin that may not, 426 for
/// another version, 503 without a place.
pub async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<WsState>,
) -> Result<HttpResponse, UpgradeError> {
    let mut response = handshake(&request)?;
    let peer = Peer::of(&request);
    check_origin(request.headers(), &peer.host, &state.origins)?;
    let codec = negotiate(request.headers())?;
    let credentials = credentials(&request, &state).await;
    let proven = credentials.as_ref().ok().and_then(Option::as_ref);
    let permit = state
        .connections
        .admit(proven, peer.address)
        .map_err(|full| UpgradeError {
            retry_after: Some(FULL_RETRY_SECONDS),
            ..UpgradeError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", full.to_string())
        })?;
    if let Some(codec) = codec {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, codec.subprotocol()));
    }
    let socket = request.conn_data::<Socket>().copied();
    let hang_up = socket.map_or_else(HangUp::default, |socket| HangUp::new(move |how| socket.end(how)));
    let upgrade = Upgrade {
        hang_up,
        codec: codec.unwrap_or_default(),
        credentials,
        permit,
    };
    let deps = state.deps.clone();
    Ok(match request.conn_data::<Rc<Link>>() {
        Some(link) => {
            let make = |incoming| connection::serve(deps, upgrade, incoming);
            response.streaming(upgraded::upgrade(Rc::clone(link), payload, make))
        }
        // Not on a socket of our listener.
        None => response.streaming(connection::serve(deps, upgrade, payload)),
    })
}

/// Checks the request as RFC 6455, section 4.2.1 asks, and begins the response.
fn handshake(request: &HttpRequest) -> Result<HttpResponseBuilder, UpgradeError> {
    let headers = request.headers();
    if request.method() != Method::GET || request.version() < Version::HTTP_11 {
        return Err(UpgradeError::bad("a websocket begins with GET of HTTP/1.1"));
    }
    match headers.get(header::SEC_WEBSOCKET_VERSION) {
        None => return Err(UpgradeError::bad("Sec-WebSocket-Version is missing")),
        Some(version) if version != VERSION => {
            let error = UpgradeError::new(
                StatusCode::UPGRADE_REQUIRED,
                "VALIDATION_ERROR",
                "the version must be 13",
            );
            return Err(UpgradeError {
                hint: Some((header::SEC_WEBSOCKET_VERSION, VERSION)),
                ..error
            });
        }
        Some(_) => {}
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| {
        base64::engine::general_purpose::STANDARD
            .decode(key.as_bytes().trim_ascii())
            .ok()
    });
    if key.is_none_or(|key| key.len() != 16) {
        return Err(UpgradeError::bad("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    ws::handshake(request)
        .map_err(|error| UpgradeError::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", error.to_string()))
}

/// Lets pass what is no browser, and pages of allowed origins.
fn check_origin(headers: &HeaderMap, host: &str, rule: &OriginRule) -> Result<(), UpgradeError> {
    let mut origins = headers.get_all(header::ORIGIN);
    let Some(origin) = origins.next() else { return Ok(()) };
    match origin.to_str() {
        Ok(origin) if origins.next().is_none() && rule(origin, host) => Ok(()),
        _ => Err(UpgradeError::new(
            StatusCode::FORBIDDEN,
            "AUTHORIZATION_ERROR",
            "this origin is not allowed",
        )),
    }
}

/// Chooses the first subprotocol of the client that is one of ours; `None` when it offers none at all.
fn negotiate(headers: &HeaderMap) -> Result<Option<Codec>, UpgradeError> {
    let mut offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .flat_map(|line| line.to_str().unwrap_or("?").split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    let known = offered.find_map(Codec::from_subprotocol);
    known.map(Some).ok_or_else(|| {
        let message = format!("no known subprotocol; offer one of {}", Codec::SUBPROTOCOLS.join(", "));
        UpgradeError::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    })
}

#[derive(Deserialize)]
struct TicketQuery {
    ticket: Option<String>,
    user: Option<String>,
}

/// Who the request says is calling, if it says it already: the header first, then the ticket.
async fn credentials(request: &HttpRequest, state: &WsState) -> Result<Option<Principal>, AuthError> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(bearer).ok_or_else(unreadable)?;
        return state
            .deps
            .authenticator
            .authenticate(Some(token.to_owned()))
            .await
            .map(Some);
    }
    let query = web::Query::<TicketQuery>::from_query(request.query_string());
    match query.map(web::Query::into_inner) {
        Ok(TicketQuery {
            ticket: Some(ticket), ..
        }) => state.tickets.take(&ticket).await.map(Some),
        Ok(TicketQuery { user: Some(user), .. }) => match (state.guests)(&user) {
            // Where there are no guests the name counts for nothing: `hello` brings a token.
            Err(AuthError::Missing) => Ok(None),
            guest => guest.map(Some),
        },
        Ok(_) => Ok(None),
        Err(_) => Err(unreadable()),
    }
}

/// What the request says of its caller cannot be read.
fn unreadable() -> AuthError {
    auth_failed(&AuthError::Invalid);
    AuthError::Invalid
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

/// The number of a connection's descriptor, to end its socket when its websocket has ended or its peer takes nothing.
///
/// Not a second descriptor: ten thousand sockets would take twenty thousand. The number is good while the connection lives,
/// and it is used only by what the connection owns, on its own thread.
#[derive(Clone, Copy)]
pub struct Socket(RawFd);

impl Socket {
    /// Takes the number of a stream's descriptor.
    #[must_use]
    pub fn of(stream: &TcpStream) -> Self {
        Self(stream.as_raw_fd())
    }

    /// Ends the sending half, or both: that wakes who waits for the peer to take something.
    pub(crate) fn end(self, how: Shutdown) {
        let how = match how {
            Shutdown::Write => nix::sys::socket::Shutdown::Write,
            Shutdown::Read => nix::sys::socket::Shutdown::Read,
            Shutdown::Both => nix::sys::socket::Shutdown::Both,
        };
        // A peer that was faster has ended it already.
        nix::sys::socket::shutdown(self.0, how).ok();
    }
}

/// Sets what a websocket needs of its socket; for `HttpServer::on_connect`.
///
/// Frames leave at once; the kernel keeps little for a peer that does not read; and it cuts one that acknowledges nothing
/// for twice `write_timeout`: by then the connection's own watch has closed it, unless its machine is gone.
///
/// # Errors
/// The socket is gone already, or the system does not know the option.
pub fn tune_socket(stream: &TcpStream, config: &ConnectionConfig) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(config.write_timeout.saturating_mul(2)))?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn request() -> TestRequest {
        TestRequest::get()
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::CONNECTION, "keep-alive, Upgrade"))
            .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
    }

    fn status(request: TestRequest) -> StatusCode {
        handshake(&request.to_http_request()).map_or_else(|error| error.status, |_| StatusCode::SWITCHING_PROTOCOLS)
    }

    #[test]
    fn the_handshake_is_as_in_the_rfc() {
        let response = handshake(&request().to_http_request()).unwrap().finish();
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let version = |version: &'static str| status(request().insert_header((header::SEC_WEBSOCKET_VERSION, version)));
        assert_eq!(
            [version("13"), version("8"), version("14")].map(|code| code.as_u16()),
            [101, 426, 426]
        );
        let key = |key: &'static str| status(request().insert_header((header::SEC_WEBSOCKET_KEY, key)));
        assert_eq!(
            [key("short"), key("dGhlIHNhbXBsZQ==")].map(|code| code.as_u16()),
            [400, 400]
        );
        assert_eq!(status(TestRequest::get()), StatusCode::BAD_REQUEST);
        assert_eq!(
            status(request().insert_header((header::UPGRADE, "h2c"))),
            StatusCode::BAD_REQUEST
        );
        assert_eq!(status(request().method(Method::POST)), StatusCode::BAD_REQUEST);
        assert_eq!(status(request().version(Version::HTTP_10)), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_refused_version_names_the_right_one() {
        let error = handshake(
            &request()
                .insert_header((header::SEC_WEBSOCKET_VERSION, "8"))
                .to_http_request(),
        )
        .err();
        let response = error.unwrap().error_response();
        assert_eq!(response.headers().get(header::SEC_WEBSOCKET_VERSION).unwrap(), "13");
    }

    #[test]
    fn the_first_known_subprotocol_of_the_client_is_taken() {
        let choose = |offered: &[&'static str]| {
            let request = offered.iter().fold(request(), |request, line| {
                request.append_header((header::SEC_WEBSOCKET_PROTOCOL, *line))
            });
            negotiate(request.to_http_request().headers()).map_err(|error| error.status.as_u16())
        };
        assert_eq!(choose(&[]), Ok(None));
        assert_eq!(choose(&["kronos.v1.json"]), Ok(Some(Codec::Json)));
        assert_eq!(
            choose(&["graphql-ws, kronos.v1.msgpack ,kronos.v1.json"]),
            Ok(Some(Codec::Msgpack))
        );
        assert_eq!(choose(&["graphql-ws", "kronos.v1.json"]), Ok(Some(Codec::Json)));
        assert_eq!(choose(&["kronos.v2.json"]), Err(400));
    }

    #[test]
    fn only_browsers_are_asked_for_their_origin() {
        let rule: OriginRule = Arc::new(|origin, host| origin == format!("https://{host}"));
        let check = |origins: &[&'static str]| {
            let request = origins.iter().fold(request(), |request, origin| {
                request.append_header((header::ORIGIN, *origin))
            });
            check_origin(request.to_http_request().headers(), "kronos.test", &rule)
                .map_err(|error| error.status.as_u16())
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["https://kronos.test"]), Ok(()));
        assert_eq!(check(&["https://evil.test"]), Err(403));
        assert_eq!(check(&["null"]), Err(403));
        assert_eq!(check(&["https://kronos.test", "https://evil.test"]), Err(403));
    }

    #[test]
    fn a_bearer_token_is_found_whatever_the_case() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for other in ["Basic abc", "Bearer", "Bearer ", ""] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }
}
