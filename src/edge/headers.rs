//! Response headers of every answer: what browsers must not do with it, and who may read it from another origin.

use std::collections::HashSet;

use actix_web::{
    Error, HttpResponse,
    body::{BodySize, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};

use super::EdgeState;

/// Sets the security headers. A handler's own `Content-Security-Policy` (a page's) stays.
pub(crate) fn secure(map: &mut HeaderMap, hsts: bool) {
    const FIXED: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in FIXED {
        map.insert(name, HeaderValue::from_static(value));
    }
    // The mark of `keep_small` has done its work.
    if map
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value == "identity")
    {
        map.remove(header::CONTENT_ENCODING);
    }
    if !map.contains_key(header::CONTENT_SECURITY_POLICY) {
        let policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        map.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    if hsts {
        let value = "max-age=31536000; includeSubDomains";
        map.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(value));
    }
}

/// The origins of browsers that may call, from `ALLOWED_HOSTS`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    any: bool,
    /// Lower case, as configured: with a scheme exact, without one any scheme.
    known: HashSet<String>,
}

impl Origins {
    /// Reads the list: `*`, `https://app.example.com` or `app.example.com[:port]`.
    #[must_use]
    pub(crate) fn new(allowed: &[String]) -> Self {
        let known = allowed
            .iter()
            .map(|entry| entry.trim_end_matches('/').to_ascii_lowercase())
            .collect();
        Self {
            any: allowed.iter().any(|entry| entry == "*"),
            known,
        }
    }

    /// Whether a page of `origin` may call a server that it knows as `host`.
    #[must_use]
    pub(crate) fn allow(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let Some((_scheme, authority)) = origin.split_once("://") else {
            return self.any;
        };
        self.any
            || authority == host.to_ascii_lowercase()
            || self.known.contains(&origin)
            || self.known.contains(authority)
            || authority
                .rsplit_once(':')
                .is_some_and(|(name, _port)| self.known.contains(name))
    }
}

/// Answers preflights and marks what other origins may read. Requests without an `Origin` pass untouched.
pub(crate) async fn cors<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return Ok(next.call(request).await?.map_into_left_body());
    };
    let allowed = request.app_data::<web::Data<EdgeState>>().is_some_and(|state| {
        origin
            .to_str()
            .is_ok_and(|origin| state.origins.allow(origin, request.connection_info().host()))
    });
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if preflight {
        let mut response = request.into_response(HttpResponse::NoContent().finish());
        if allowed {
            permit(response.headers_mut(), origin);
        }
        return Ok(response.map_into_right_body());
    }
    let mut response = next.call(request).await?.map_into_left_body();
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("Origin"));
    if allowed {
        expose(response.headers_mut(), origin);
    }
    Ok(response)
}

/// Below this many bytes compression costs more than it saves.
const SMALL: u64 = 1024;

/// Marks what is not to be compressed, for the compressor around it: small bodies, event streams.
pub(crate) async fn keep_small<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let mut response = next.call(request).await?;
    let small = matches!(response.response().body().size(), BodySize::Sized(bytes) if bytes < SMALL);
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let stream = content_type.is_some_and(|content_type| content_type.starts_with("text/event-stream"));
    if small || stream {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
    }
    Ok(response)
}

fn permit(map: &mut HeaderMap, origin: HeaderValue) {
    const FIXED: [(HeaderName, &str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, last-event-id, x-request-id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
        (header::VARY, "Origin"),
    ];
    for (name, value) in FIXED {
        map.insert(name, HeaderValue::from_static(value));
    }
    map.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

fn expose(map: &mut HeaderMap, origin: HeaderValue) {
    map.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = "x-request-id, x-process-time, retry-after";
    map.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_the_servers_own_or_listed() {
        let origins = Origins::new(&["https://app.example.com/".to_owned(), "dev.example.com".to_owned()]);
        let allow = |origin: &str| origins.allow(origin, "kronos.example.com:8000");
        assert!(allow("https://app.example.com") && allow("HTTPS://APP.example.com"));
        assert!(allow("http://dev.example.com") && allow("http://dev.example.com:3000"));
        assert!(allow("http://kronos.example.com:8000"));
        for bad in [
            "http://app.example.com",
            "https://app.example.com.evil.com",
            "https://evil.com",
            "null",
            "",
            "http://kronos.example.com",
        ] {
            assert!(!allow(bad), "{bad}");
        }
        assert!(Origins::new(&["*".to_owned()]).allow("https://evil.com", "h"));
    }
}
