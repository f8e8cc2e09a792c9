//! The files that the documentation pages load: ours, and the vendored ones, which are kept compressed.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Read as _,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, AcceptEncoding, CacheControl, CacheDirective, ContentEncoding, Encoding, Header as _},
};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::edge::input::Id;

/// How long browsers keep a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// For good: its name has its version.
    Keep,
    /// They ask whether it changed.
    Check,
}

/// Seconds of a year: what "for good" is in HTTP.
const YEAR: u32 = 31_536_000;

/// A file.
pub(super) struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    packed: bool,
}

macro_rules! assets {
    ($( $name:literal $folder:literal $file:literal $content_type:literal ),* $(,)?) => {
        const ASSETS: &[Asset] = &[$(
            Asset {
                name: $name,
                content_type: $content_type,
                bytes: include_bytes!(concat!($folder, "/", $file)),
                packed: matches!($file.as_bytes(), [.., b'.', b'g', b'z']),
            }
        ),*];
    };
}

assets! {
    "swagger-ui-bundle-5.35.0.js" "vendor" "swagger-ui-bundle-5.35.0.js.gz" "text/javascript; charset=utf-8",
    "swagger-ui-5.35.0.css" "vendor" "swagger-ui-5.35.0.css.gz" "text/css; charset=utf-8",
    "swagger-ui.LICENSE" "vendor" "swagger-ui.LICENSE" "text/plain; charset=utf-8",
    "swagger-ui.NOTICE" "vendor" "swagger-ui.NOTICE" "text/plain; charset=utf-8",
    "swagger-ui-bundle.js.LICENSE.txt" "vendor" "swagger-ui-bundle.js.LICENSE.txt" "text/plain; charset=utf-8",
    "redoc-2.5.4.js" "vendor" "redoc-2.5.4.js.gz" "text/javascript; charset=utf-8",
    "redoc.LICENSE" "vendor" "redoc.LICENSE" "text/plain; charset=utf-8",
    "redoc.standalone.js.LICENSE.txt" "vendor" "redoc.standalone.js.LICENSE.txt" "text/plain; charset=utf-8",
    "docs.js" "pages" "docs.js" "text/javascript; charset=utf-8",
    "redoc.js" "pages" "redoc.js" "text/javascript; charset=utf-8",
    "page.css" "pages" "page.css" "text/css; charset=utf-8",
    "icon.svg" "pages" "icon.svg" "image/svg+xml",
}

/// Returns the file of a name.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// The name of a file, as a parameter of a path.
pub(super) struct AssetName(pub(super) String);

/// Longest name.
const NAME_BYTES: usize = 64;

impl TryFrom<String> for AssetName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) {
            Ok(Self(name))
        } else {
            Err("must be 1 to 64 letters, digits, points, lines and dashes")
        }
    }
}

impl Id for AssetName {
    fn schema() -> Value {
        json!({"type": "string", "minLength": 1, "maxLength": NAME_BYTES, "pattern": "^[A-Za-z0-9._-]+$"})
    }
}

impl Asset {
    /// Answers with the file: as it is kept where the caller takes that, else unpacked.
    pub(super) fn respond(&self, request: &HttpRequest) -> HttpResponse {
        if !self.packed {
            return respond(request, self.content_type, self.bytes, Cache::Check);
        }
        if takes_gzip(request) {
            let mut response = respond(request, self.content_type, self.bytes, Cache::Keep);
            if response.status().is_success() {
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_ENCODING, ContentEncoding::Gzip.to_header_value());
                headers.insert(header::VARY, header::HeaderValue::from_static("accept-encoding"));
            }
            return response;
        }
        let mut plain = Vec::new();
        match GzDecoder::new(self.bytes).read_to_end(&mut plain) {
            Ok(_) => respond(request, self.content_type, plain, Cache::Keep),
            Err(error) => {
                tracing::error!(%error, file = self.name, "a vendored file cannot be unpacked");
                HttpResponse::InternalServerError().finish()
            }
        }
    }
}

fn takes_gzip(request: &HttpRequest) -> bool {
    AcceptEncoding::parse(request).is_ok_and(|accepted| {
        accepted.negotiate([Encoding::gzip(), Encoding::identity()].iter()) == Some(Encoding::gzip())
    })
}

/// Answers with bytes, or with 304 when the caller has them.
pub(super) fn respond(
    request: &HttpRequest,
    content_type: &'static str,
    bytes: impl Into<bytes::Bytes>,
    cache: Cache,
) -> HttpResponse {
    let bytes: bytes::Bytes = bytes.into();
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    // Weak: what is compressed on the way is the same file.
    let tag = format!("W/\"{:016x}\"", hasher.finish());
    let directives = match cache {
        Cache::Keep => vec![
            CacheDirective::Public,
            CacheDirective::MaxAge(YEAR),
            CacheDirective::Extension("immutable".to_owned(), None),
        ],
        Cache::Check => vec![CacheDirective::NoCache],
    };
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|known| known.split(',').any(|one| one.trim() == tag || one.trim() == "*"));
    let mut response = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, tag))
        .insert_header(CacheControl(directives));
    if known {
        return response.finish();
    }
    response.content_type(content_type).body(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_load_files_that_there_are() {
        let pages = [include_str!("pages/docs.html"), include_str!("pages/redoc.html")];
        let mut loaded = 0;
        for page in pages {
            for rest in page.split("docs/assets/").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(find(name).is_some(), "{name}");
                loaded += 1;
            }
            assert!(!page.contains("://"), "a page loads something from elsewhere");
        }
        assert_eq!(loaded, 9);
    }

    #[test]
    fn a_versioned_file_is_as_its_manifest_says() {
        let manifest = include_str!("vendor/manifest");
        for asset in ASSETS.iter().filter(|asset| asset.packed) {
            let line = manifest
                .lines()
                .find(|line| line.starts_with(&format!("{}.gz ", asset.name)));
            let version = line.unwrap().split_whitespace().nth(2).unwrap();
            assert!(asset.name.contains(version), "{}", asset.name);
        }
    }
}
