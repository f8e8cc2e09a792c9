//! The answers that none of our code makes: to a head that cannot be read, is too large, or does not come.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::{
    ResponseError as _,
    body::MessageBody as _,
    http::{
        StatusCode,
        header::{self, HeaderValue, HttpDate},
    },
};
use bytes::Bytes;
use kronos_actors::clock::Clock;

use crate::edge::{error::ApiError, headers, request};

/// Bytes of a head that the parser takes.
const HEAD_BYTES: usize = 128 * 1024;

/// Writes them.
pub(super) struct Bare {
    clock: Clock,
    hsts: bool,
    answered: bool,
}

impl Bare {
    pub(super) fn new(clock: Clock, hsts: bool) -> Self {
        Self {
            clock,
            hsts,
            answered: false,
        }
    }

    /// Whether there was one: the connection ends after it.
    pub(super) fn answered(&self) -> bool {
        self.answered
    }

    /// Returns what is to be written instead of an answer of the parser's own; nothing when this is none.
    pub(super) fn instead_of(&mut self, bytes: &[u8]) -> Option<Bytes> {
        let status = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .or(bytes.strip_prefix(b"HTTP/1.0 "))?
            .get(..3)?;
        let status = StatusCode::from_bytes(status).ok()?;
        (status.is_client_error() || status.is_server_error()).then(|| self.answer(&error_of(status)))
    }

    /// Returns the answer to a head that did not come in time.
    pub(super) fn timeout(&mut self) -> Bytes {
        self.answer(&error_of(StatusCode::REQUEST_TIMEOUT))
    }

    fn answer(&mut self, error: &ApiError) -> Bytes {
        self.answered = true;
        let id = request::new_id().into();
        let mut response = request::with_id(&id, || error.error_response());
        let headers = response.headers_mut();
        request::identify(headers, &id, Duration::ZERO);
        headers::secure(headers, self.hsts);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(self.clock.now_ms()).unwrap_or(0));
        if let Ok(date) = HeaderValue::from_str(&HttpDate::from(now).to_string()) {
            headers.insert(header::DATE, date);
        }
        request::record("other", None, error.status.as_u16(), Duration::ZERO);
        let (head, body) = response.into_parts();
        let body = body.try_into_bytes().unwrap_or_default();
        let mut text = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", head.status(), body.len()).into_bytes();
        for (name, value) in head.headers() {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(&body);
        text.into()
    }
}

fn error_of(status: StatusCode) -> ApiError {
    match status {
        StatusCode::REQUEST_TIMEOUT => ApiError::request_timeout("The head of the request did not come in time"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ApiError {
            status,
            message: format!("The head of the request is larger than {HEAD_BYTES} bytes or has too many fields"),
            ..ApiError::too_large(HEAD_BYTES)
        },
        status => ApiError::from_status(status),
    }
}
