//! Response headers of every answer: what browsers must not do with it, and who may read it from another origin.

use std::collections::HashSet;

use actix_web::{
    dev::ServiceRequest,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

/// Sets the security headers. A handler's own `Content-Security-Policy` (a page's) and `Cache-Control` stay.
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
    // What a handler says about caches stays: pages and documents say it.
    if !map.contains_key(header::CACHE_CONTROL) {
        map.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
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

/// What another origin may do with the answer to a request.
///
/// No credentials are allowed along: callers are known by their bearer token, and no cookie counts for anything here.
pub(crate) struct Cors {
    /// The page's origin, when it may read the answer.
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl Cors {
    /// Looks at a request; `host` is what its client calls this server.
    pub(crate) fn read(request: &ServiceRequest, origins: Option<&Origins>, host: &str) -> Self {
        let headers = request.headers();
        let mut given = headers.get_all(header::ORIGIN);
        let origin = given.next().filter(|_| given.next().is_none());
        let allowed = |origin: &&HeaderValue| {
            let text = origin.to_str().ok();
            text.zip(origins)
                .is_some_and(|(text, origins)| origins.allow(text, host))
        };
        Self {
            origin: origin.filter(allowed).cloned(),
            preflight: request.method() == Method::OPTIONS
                && headers.contains_key(header::ORIGIN)
                && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
        }
    }

    /// Whether a browser only asks what it may do. It is told for every path: whether there is one, the request itself shows.
    pub(crate) fn is_preflight(&self) -> bool {
        self.preflight
    }

    /// Marks the answer.
    pub(crate) fn apply(self, map: &mut HeaderMap) {
        vary(map, self.preflight);
        let Some(origin) = self.origin else { return };
        map.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if !self.preflight {
            map.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            return;
        }
        for (name, value) in [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                "GET, HEAD, POST, PUT, PATCH, DELETE",
            ),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, ACCEPTED),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ] {
            map.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Headers that pages of other origins may send.
const ACCEPTED: &str = "accept, authorization, content-type, last-event-id, x-request-id";

/// Headers of answers that pages of other origins may read.
const EXPOSED: &str = "x-request-id, x-process-time, retry-after, ratelimit-limit, ratelimit-remaining, \
    ratelimit-reset, ratelimit-policy, www-authenticate, allow, content-disposition, location";

/// Says to caches what the answer depends on, whatever it is this time.
fn vary(map: &mut HeaderMap, preflight: bool) {
    let mut names = vec!["Origin".to_owned(), "Accept-Encoding".to_owned()];
    if preflight {
        names.push("Access-Control-Request-Method".to_owned());
    }
    let more: Vec<String> = map
        .get_all(header::VARY)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    for name in more {
        if !name.is_empty() && !names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            names.push(name);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
        map.insert(header::VARY, value);
    }
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
