//! What the server tells about itself to people: Swagger UI and ReDoc of the OpenAPI document, with all that they load, and
//! the AsyncAPI document of the websocket.
//!
//! Nothing is loaded from elsewhere, and no page allows a script or a style within it.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde_json::{Map, Value, json};

use self::assets::{AssetName, Cache, respond};
use super::{
    endpoint::{Endpoint, Tag, get},
    error::ApiError,
    input::path_id,
};

mod assets;
pub(crate) mod asyncapi;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/docs", "/docs/"], docs)
            .named("docs", Tag::Docs, "Swagger UI")
            .about("A page for browsers: every route, to read and to try out.")
            .public()
            .sends(200, "The page", "text/html", "<!DOCTYPE html>"),
        get(&["/redoc", "/redoc/"], redoc)
            .named("redoc", Tag::Docs, "ReDoc")
            .about("A page for browsers: every route, to read.")
            .public()
            .sends(200, "The page", "text/html", "<!DOCTYPE html>"),
        get(&["/docs/assets/{file}"], asset)
            .named("docs_asset", Tag::Docs, "A file of these pages")
            .about("What `/docs` and `/redoc` load, and the licences of it. Compressed when the caller takes gzip.")
            .public()
            .path::<AssetName>("file", "Name of the file")
            .sends(200, "The file", "text/javascript", "\"use strict\";")
            .sends(200, "The file", "text/css", "body {}")
            .sends(200, "The file", "image/svg+xml", "<svg/>")
            .sends(200, "The file", "text/plain", "Licence"),
        get(&["/asyncapi.json"], asyncapi::serve)
            .named("asyncapi", Tag::Docs, "The AsyncAPI document")
            .about("AsyncAPI 3.0 of the websocket `/ws`: every command, frame, event and code.")
            .public()
            .returns::<Map<String, Value>>(200, "The document", || json!({"asyncapi": "3.0.0"})),
    ]
}

/// What both pages may do: load from this server, call it, show pictures that they have within them. Nothing else.
macro_rules! policy {
    ($styles:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'",
            $styles,
            "; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    };
}

const DOCS_POLICY: &str = policy!("");

/// ReDoc makes empty `style` elements and fills them rule by rule, and one of its scroll bar: the first hash is that of no text,
/// the second that of those styles. Another version of ReDoc may need another one: the browser's console says which.
const REDOC_POLICY: &str = policy!(
    " 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
);

async fn docs(request: HttpRequest) -> HttpResponse {
    std::future::ready(page(
        &request,
        "../docs",
        include_bytes!("docs/pages/docs.html"),
        DOCS_POLICY,
    ))
    .await
}

async fn redoc(request: HttpRequest) -> HttpResponse {
    std::future::ready(page(
        &request,
        "../redoc",
        include_bytes!("docs/pages/redoc.html"),
        REDOC_POLICY,
    ))
    .await
}

async fn asset(request: HttpRequest, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let answer = path_id("file", name.into_inner()).and_then(|AssetName(name)| match assets::find(&name) {
        Some(asset) => Ok(asset.respond(&request)),
        None => Err(ApiError::not_found("File", &name)),
    });
    std::future::ready(answer).await
}

/// Answers with a page. Its links are relative, so that it works below a proxy's path too: `/docs/` leads to `/docs`.
fn page(request: &HttpRequest, itself: &'static str, html: &'static [u8], policy: &'static str) -> HttpResponse {
    if request.path().ends_with('/') {
        return HttpResponse::PermanentRedirect()
            .insert_header((header::LOCATION, itself))
            .finish();
    }
    let mut response = respond(request, "text/html; charset=utf-8", html, Cache::Check);
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        header::HeaderValue::from_static(policy),
    );
    response
}
