//! Which answers are compressed, and how.
//!
//! Those of a kilobyte and more, when the client says that it takes brotli or gzip. Never event streams: an event must not wait
//! in a compressor. Never is a client refused because of what it takes.

use actix_http::encoding::Encoder;
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    http::{
        StatusCode,
        header::{self, ContentEncoding, HeaderMap},
    },
};

/// Below this many bytes compression costs more than it saves.
const SMALL: u64 = 1024;

/// Media types whose parts must arrive one by one.
const STREAMS: [&str; 2] = ["text/event-stream", "application/x-ndjson"];

/// Returns the coding that the client likes best, of those that there are; of two that it likes alike, the tighter.
pub(crate) fn accepted(headers: &HeaderMap) -> ContentEncoding {
    let (mut brotli, mut gzip, mut any, mut plain) = (None, None, None, None);
    let lines = headers
        .get_all(header::ACCEPT_ENCODING)
        .filter_map(|line| line.to_str().ok());
    for coding in lines.flat_map(|line| line.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let quality = quality.map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0));
        let place = match name {
            _ if name.eq_ignore_ascii_case("br") => &mut brotli,
            _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            _ if name.eq_ignore_ascii_case("identity") => &mut plain,
            "*" => &mut any,
            _ => continue,
        };
        *place = Some(quality);
    }
    let of = |known: Option<f32>| known.or(any).unwrap_or(0.0);
    let (brotli, gzip, plain) = (of(brotli), of(gzip), plain.unwrap_or(0.0));
    if brotli > 0.0 && brotli >= gzip && brotli >= plain {
        ContentEncoding::Brotli
    } else if gzip > 0.0 && gzip >= plain {
        ContentEncoding::Gzip
    } else {
        ContentEncoding::Identity
    }
}

/// Compresses an answer's body when that is worth it.
pub(crate) fn compress<B: MessageBody + 'static>(
    response: actix_web::HttpResponse<B>,
    accepted: ContentEncoding,
) -> actix_web::HttpResponse<BoxBody> {
    let worth = match response.body().size() {
        BodySize::None => false,
        BodySize::Sized(bytes) => bytes >= SMALL,
        BodySize::Stream => true,
    };
    let plain = !worth || is_stream(response.headers()) || response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if plain || accepted == ContentEncoding::Identity {
        return response.map_into_boxed_body();
    }
    response.map_body(|head, body| Encoder::response(accepted, head, body).boxed())
}

fn is_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    STREAMS.iter().any(|stream| stream.eq_ignore_ascii_case(essence))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_client_chooses() {
        use ContentEncoding::{Brotli, Gzip, Identity};
        for (text, coding) in [
            ("", Identity),
            ("gzip", Gzip),
            ("GZIP;q=0.1", Gzip),
            ("br", Brotli),
            ("gzip, deflate, br, zstd", Brotli),
            ("gzip, br;q=0.9", Gzip),
            ("br;q=0, gzip;q=0.5", Gzip),
            ("*", Brotli),
            ("*;q=0.1, br;q=0", Gzip),
            ("identity, gzip;q=0.5", Identity),
            ("identity;q=0", Identity),
            ("identity;q=0, *;q=0", Identity),
            ("deflate, zstd, compress", Identity),
            ("gzip;q=x", Identity),
            (",;,=;q=1", Identity),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(text));
            assert_eq!(accepted(&headers), coding, "{text}");
        }
        assert_eq!(accepted(&HeaderMap::new()), Identity);
    }

    #[test]
    fn only_what_is_large_and_no_stream_is_compressed() {
        let encoding = |kind: &'static str, bytes: usize| {
            let response = actix_web::HttpResponse::Ok().content_type(kind).body(vec![b'x'; bytes]);
            let response = compress(response, ContentEncoding::Gzip);
            response.headers().contains_key(header::CONTENT_ENCODING)
        };
        assert!(!encoding("application/json", 1023) && encoding("application/json", 1024));
        assert!(!encoding("text/event-stream; charset=utf-8", 9999) && !encoding("application/x-ndjson", 9999));
    }
}
