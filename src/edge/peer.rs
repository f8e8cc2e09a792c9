//! Who is at the other end, and as which host it knows this server: what a proxy says about it counts only when the proxy
//! is trusted.
//!
//! A header that cannot be read, or two that contradict each other, name nobody: then the last hop that is certain is the
//! client. So nobody is ever taken for a stranger because of what somebody wrote.

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::ServiceRequest,
    http::header::{self, HeaderMap, HeaderName},
};

use crate::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Hops that are looked at: more proxies stand in no row.
const MAX_HOPS: usize = 32;
/// Bytes of a header that are looked at, from the left, where their end is.
const MAX_BYTES: usize = 8 * 1024;

/// What is known about the other end of a request; kept with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The address of the client; `None` when the connection is gone already.
    pub(crate) address: Option<IpAddr>,
    /// The host that the client asked.
    pub(crate) host: String,
}

impl Peer {
    /// Reads it from a request, and keeps it there for [`Peer::of`].
    pub(crate) fn note(request: &ServiceRequest, trusted: &[Network]) -> Self {
        let peer = Self::read(request.peer_addr(), request.headers(), request.uri().host(), trusted);
        request.extensions_mut().insert(peer.clone());
        peer
    }

    /// Returns what was noted; without that, what the socket and `Host` say.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        let noted = request.extensions().get::<Self>().cloned();
        noted.unwrap_or_else(|| Self::read(request.peer_addr(), request.headers(), request.uri().host(), &[]))
    }

    fn read(socket: Option<SocketAddr>, headers: &HeaderMap, target: Option<&str>, trusted: &[Network]) -> Self {
        let socket = socket.map(|socket| socket.ip().to_canonical());
        let by_proxy = socket.is_some_and(|socket| is_in(trusted, socket));
        let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(target);
        let forwarded = if by_proxy {
            last(headers, &X_FORWARDED_HOST)
        } else {
            None
        };
        Self {
            address: socket.map(|socket| {
                if by_proxy {
                    client(socket, headers, trusted)
                } else {
                    socket
                }
            }),
            host: forwarded.or(own).unwrap_or_default().to_owned(),
        }
    }
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// The client behind a trusted proxy.
fn client(proxy: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let by = |hops: Option<Vec<Option<IpAddr>>>| hops.map(|hops| walk(proxy, &hops, trusted));
    match (by(forwarded(headers)), by(forwarded_for(headers))) {
        (None, None) => proxy,
        (Some(client), None) | (None, Some(client)) => client,
        (Some(one), Some(other)) if one == other => one,
        // The proxy wrote one of them and passed the other on as it came: nobody knows which.
        (Some(_), Some(_)) => proxy,
    }
}

/// Goes from the proxy back towards the client, as long as each hop is trusted. `hops` begins with the nearest.
fn walk(proxy: IpAddr, hops: &[Option<IpAddr>], trusted: &[Network]) -> IpAddr {
    let mut certain = proxy;
    for hop in hops {
        match hop {
            Some(address) => certain = *address,
            // A hidden or unreadable one: what stands before it was written by strangers.
            None => break,
        }
        if !is_in(trusted, certain) {
            break;
        }
    }
    certain
}

/// The hops of `X-Forwarded-For`, the nearest first; `None` without one.
fn forwarded_for(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    let text = joined(headers, &X_FORWARDED_FOR)?;
    Some(text.rsplit(',').take(MAX_HOPS).map(node).collect())
}

/// The hops of `Forwarded` (RFC 7239), the nearest first; `None` without one.
fn forwarded(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    let text = joined(headers, &header::FORWARDED)?;
    let elements = split_unquoted(&text, ',');
    Some(
        elements
            .iter()
            .rev()
            .take(MAX_HOPS)
            .map(|element| element_for(element))
            .collect(),
    )
}

/// The address in the one `for` of an element.
fn element_for(element: &str) -> Option<IpAddr> {
    let pairs = split_unquoted(element, ';');
    let mut nodes = pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .map(|(_, value)| value);
    let (value, None) = (nodes.next()?, nodes.next()) else {
        return None;
    };
    let value = value.trim();
    node(
        value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value),
    )
}

/// Splits at a separator outside of quoted texts.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        } else {
            return c == separator && !quoted;
        }
        false
    })
    .collect()
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6))?;
    Some(address.to_canonical())
}

/// All lines of a header as one, as HTTP lets proxies join them; `None` without any, and one that cannot be read as a node
/// when they are no text or too long.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = headers.get_all(name).peekable();
    lines.peek()?;
    let texts: Result<Vec<&str>, _> = lines.map(|line| line.to_str()).collect();
    let text = texts.map(|texts| texts.join(",")).unwrap_or_default();
    Some(if text.len() > MAX_BYTES { String::new() } else { text })
}

/// The last value of a list header: the one that the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).last()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn peer(socket: &str, headers: &[(&'static str, &str)]) -> Peer {
        let trusted = ["10.0.0.0/8", "::1"].map(|text| Network::read(text).unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        Peer::read(Some(SocketAddr::new(socket.parse().unwrap(), 1)), &map, None, &trusted)
    }

    fn address(socket: &str, headers: &[(&'static str, &str)]) -> String {
        peer(socket, headers).address.unwrap().to_string()
    }

    #[test]
    fn a_stranger_is_taken_at_its_own_address_whatever_it_says() {
        for name in ["x-forwarded-for", "forwarded"] {
            for value in ["192.0.2.7", "for=192.0.2.7", "10.0.0.1", "x"] {
                assert_eq!(
                    address("203.0.113.9", &[(name, value)]),
                    "203.0.113.9",
                    "{name}: {value}"
                );
            }
        }
    }

    #[test]
    fn behind_trusted_proxies_the_last_stranger_is_the_client() {
        for (value, client) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
            ("198.51.100.1, 192.0.2.7, 10.1.1.1", "192.0.2.7"),
            ("198.51.100.1, 192.0.2.7 ,10.1.1.1,10.2.2.2", "192.0.2.7"),
            ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ] {
            assert_eq!(address("10.0.0.1", &[("x-forwarded-for", value)]), client, "{value}");
        }
        assert_eq!(
            address(
                "::1",
                &[
                    ("x-forwarded-for", "198.51.100.1"),
                    ("x-forwarded-for", "192.0.2.7,10.1.1.1")
                ]
            ),
            "192.0.2.7",
            "lines are one list"
        );
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        for (value, client) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=\"192.0.2.7:80\";proto=https;by=10.0.0.1", "192.0.2.7"),
            ("proto=http; FOR=\"[2001:db8::7]:80\"", "2001:db8::7"),
            (
                "for=198.51.100.1, for=192.0.2.7, for=10.9.9.9;host=\"a,b;c\"",
                "192.0.2.7",
            ),
            ("for=192.0.2.7;by=\"x, for=198.51.100.1\"", "192.0.2.7"),
        ] {
            assert_eq!(address("10.0.0.1", &[("forwarded", value)]), client, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_nobody() {
        let long = format!("192.0.2.7,{}", " ".repeat(MAX_BYTES));
        for value in [
            "",
            ",",
            "unknown",
            "192.0.2.256",
            "192.0.2.7.",
            "192.0.2.7, garbage",
            "192.0.2.7,",
            "fe80::1%eth0",
            "a\u{e4}",
            "1".repeat(500).as_str(),
            long.as_str(),
        ] {
            assert_eq!(
                address("10.0.0.1", &[("x-forwarded-for", value)]),
                "10.0.0.1",
                "{value}"
            );
        }
        assert_eq!(
            address("10.0.0.1", &[("x-forwarded-for", "192.0.2.7, junk, 10.1.1.1")]),
            "10.1.1.1",
            "the last certain hop"
        );
        for value in [
            "for=unknown",
            "for=_hidden",
            "for=",
            "for",
            "for=\"192.0.2.7",
            "for=192.0.2.7;for=192.0.2.8",
            "by=192.0.2.7",
            "192.0.2.7",
            ";;,;=",
            "for=\"\\",
        ] {
            assert_eq!(address("10.0.0.1", &[("forwarded", value)]), "10.0.0.1", "{value}");
        }
    }

    #[test]
    fn two_headers_that_contradict_each_other_name_nobody() {
        let both = |one: &str, other: &str| address("10.0.0.1", &[("forwarded", one), ("x-forwarded-for", other)]);
        assert_eq!(both("for=192.0.2.7", "192.0.2.7"), "192.0.2.7");
        assert_eq!(both("for=198.51.100.1", "192.0.2.7"), "10.0.0.1");
        assert_eq!(both("for=unknown", "192.0.2.7"), "10.0.0.1");
    }

    #[test]
    fn the_host_is_what_a_trusted_proxy_says_or_the_request_itself() {
        let headers = [
            ("host", "inner:8000"),
            ("x-forwarded-host", "evil.test, app.example.com"),
        ];
        assert_eq!(peer("10.0.0.1", &headers).host, "app.example.com");
        assert_eq!(peer("203.0.113.9", &headers).host, "inner:8000");
        assert_eq!(peer("10.0.0.1", &[("x-forwarded-host", " ")]).host, "");
    }
}
