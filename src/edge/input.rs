//! Reads bodies, queries and paths of requests, and collects everything that is wrong with them, one row a field.
//!
//! Types of errors are named as FastAPI names them, so that existing clients understand them.

use std::future::{Future, Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use bytes::BytesMut;
use futures_util::{StreamExt, future::LocalBoxFuture};
use kronos_actors::trace;
use serde_json::{Map, Value};

pub(crate) use self::fields::{CallId, Field, Fields, Id, Rule, Shape, ThreadId, field};
use super::{
    EdgeState,
    error::{ApiError, Row},
};

mod fields;

/// Bounds of requests that the configuration sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Largest body, in bytes.
    pub(crate) body_bytes: usize,
    /// Longest message, in characters.
    pub(crate) message_chars: usize,
    /// Longest title, in characters.
    pub(crate) title_chars: usize,
    /// Longest note, in characters.
    pub(crate) memory_chars: usize,
    /// Messages with which a conversation may begin.
    pub(crate) import_messages: usize,
    /// Characters of those before the last.
    pub(crate) import_chars: usize,
    /// Longest context of a run, in characters.
    pub(crate) context_chars: usize,
    /// Tools that a client may bring.
    pub(crate) client_tools: usize,
    /// Tokens come from an outside provider, and so do the ids of users.
    pub(crate) outside_tokens: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        let config = crate::config::Config::default();
        Self::of(&config)
    }
}

impl Bounds {
    /// Takes them from the configuration.
    pub(crate) fn of(config: &crate::config::Config) -> Self {
        Self {
            body_bytes: config.server.body_bytes,
            message_chars: config.session.message_chars,
            title_chars: config.session.title_chars,
            memory_chars: config.tools.memory_chars,
            import_messages: config.session.import_messages,
            import_chars: config.session.import_chars,
            context_chars: config.agent.context_chars,
            client_tools: config.agent.client_tools,
            outside_tokens: config.auth.outside.url.is_some(),
        }
    }
}

fn bounds_of(request: &HttpRequest) -> Bounds {
    request
        .app_data::<web::Data<EdgeState>>()
        .map_or_else(Bounds::default, |state| state.bounds)
}

/// What a request says.
pub(crate) trait Input: Sized + 'static {
    /// What it is called in the OpenAPI document.
    const NAME: &'static str;

    /// Takes its fields. Every field must be asked for on every way to the first `?`: what is asked for is also what the
    /// OpenAPI document says.
    fn read(fields: &mut Fields) -> Option<Self>;

    /// Adds to its JSON schema what holds between fields.
    fn rules(_schema: &mut Value) {}
}

/// Returns what an input accepts.
pub(crate) fn shape<T: Input>(bounds: Bounds) -> Shape {
    let mut fields = Fields::describing(bounds);
    drop(T::read(&mut fields));
    fields.into_shape()
}

/// Reads an input out of an object.
pub(crate) fn read<T: Input>(place: &str, map: Map<String, Value>, bounds: Bounds) -> Result<T, ApiError> {
    let mut fields = Fields::new(place, map).within(bounds);
    let input = T::read(&mut fields);
    fields.finish()?;
    input.ok_or_else(ApiError::internal)
}

/// An input from the body: an `application/json` object within the size limit.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Input> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bounds = bounds_of(request);
        let body = body(request, payload, bounds.body_bytes);
        Box::pin(async move { read("body", read_object(&body.await?)?, bounds).map(Self) })
    }
}

/// The same where the body may be left out altogether.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: Input> FromRequest for OptionalJson<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bounds = bounds_of(request);
        let body = optional_body(request, payload, bounds.body_bytes);
        Box::pin(async move { read("body", body.await?.unwrap_or_default(), bounds).map(Self) })
    }
}

/// A body as it came, whatever it says it is: what is signed is signed byte by byte.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) bytes::Bytes);

impl FromRequest for Raw {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limit = bounds_of(request).body_bytes;
        let payload = payload.take();
        Box::pin(async move { collect(payload, limit).await.map(|bytes| Self(bytes.freeze())) })
    }
}

/// An input from the query.
#[derive(Debug)]
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: Input> FromRequest for QueryOf<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let bounds = bounds_of(request);
        ready(query(request).and_then(|map| read("query", map, bounds)).map(Self))
    }
}

/// An input from the body or, where there is none, from the query: what the Python server took either way.
#[derive(Debug)]
pub(crate) struct JsonOrQuery<T>(pub(crate) T);

impl<T: Input> FromRequest for JsonOrQuery<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bounds = bounds_of(request);
        let query = query(request);
        let body = optional_body(request, payload, bounds.body_bytes);
        Box::pin(async move {
            let (body, query) = (body.await?, query?);
            let Some(body) = body.or_else(|| query.is_empty().then(Map::new)) else {
                return read("query", query, bounds).map(Self);
            };
            // The body counts; what stands in the query beside it must be right all the same.
            let mut beside = Fields::new("query", query).within(bounds);
            drop(T::read(&mut beside));
            beside.finish_what_is_there()?;
            read("body", body, bounds).map(Self)
        })
    }
}

/// The `{id}` of a path.
#[derive(Debug)]
pub(crate) struct PathId<T>(pub(crate) T);

impl<T: Id + 'static> FromRequest for PathId<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let text = web::Path::<String>::from_request(request, &mut Payload::None).into_inner();
        ready(match text {
            Ok(text) => path_id("id", text.into_inner()).map(Self),
            Err(_text) => Err(one("path.id", "the path could not be read", "value_error")),
        })
    }
}

/// Two ids of a path, named as there, in the order of the path.
pub(crate) fn path_ids<A: Id, B: Id>(
    request: &HttpRequest,
    names: (&'static str, &'static str),
) -> Result<(A, B), ApiError> {
    let texts = web::Path::<(String, String)>::from_request(request, &mut Payload::None).into_inner();
    let (first, second) = match texts {
        Ok(texts) => texts.into_inner(),
        Err(_text) => return Err(one("path", "the path could not be read", "value_error")),
    };
    Ok((path_id(names.0, first)?, path_id(names.1, second)?))
}

/// The id in a path.
pub(crate) fn path_id<T: TryFrom<String, Error: std::fmt::Display>>(name: &str, text: String) -> Result<T, ApiError> {
    T::try_from(text).map_err(|error| one(&format!("path.{name}"), &error.to_string(), "value_error"))
}

fn body(
    request: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
) -> impl Future<Output = Result<BytesMut, ApiError>> + use<> {
    let head = check_head(request, limit);
    let payload = payload.take();
    async move {
        head?;
        collect(payload, limit).await
    }
}

fn optional_body(
    request: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
) -> impl Future<Output = Result<Option<Map<String, Value>>, ApiError>> + use<> {
    let head = check_head(request, limit);
    let payload = payload.take();
    async move {
        let bytes = collect(payload, limit).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        head?;
        read_object(&bytes).map(Some)
    }
}

fn check_head(request: &HttpRequest, limit: usize) -> Result<(), ApiError> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
    };
    let essence = text(header::CONTENT_TYPE)
        .unwrap_or("application/json")
        .split(';')
        .next()
        .unwrap_or("")
        .trim();
    if !essence.eq_ignore_ascii_case("application/json") || text(header::CONTENT_ENCODING).is_some() {
        return Err(ApiError::unsupported_media_type());
    }
    match text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > limit as u64 => Err(ApiError::too_large(limit)),
        _ => Ok(()),
    }
}

async fn collect(mut payload: Payload, limit: usize) -> Result<BytesMut, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_cut| one("body", "the body could not be read to its end", "json_invalid"))?;
        if bytes.len() + chunk.len() > limit {
            return Err(ApiError::too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn read_object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if bytes.is_empty() {
        return Err(one("body", "Field required", "missing"));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(one("body", "Input should be a JSON object", "model_attributes_type")),
        Err(error) => {
            let text = format!("JSON decode error at line {} column {}", error.line(), error.column());
            Err(one("body", &text, "json_invalid"))
        }
    }
}

fn one(field: &str, message: &str, kind: &'static str) -> ApiError {
    ApiError::validation(&[Row {
        field: field.to_owned(),
        message: message.to_owned(),
        kind,
    }])
}

/// The query as an object of texts; of a name that comes twice the last counts.
fn query(request: &HttpRequest) -> Result<Map<String, Value>, ApiError> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_text| one("query", "the query could not be read", "query_invalid"))?;
    let pairs = pairs.into_inner().into_iter();
    Ok(pairs.map(|(name, value)| (name, Value::String(value))).collect())
}

/// Runs `work` to its end even when the client that asked goes away meanwhile.
pub(crate) async fn detached<T: 'static>(
    work: impl Future<Output = Result<T, ApiError>> + 'static,
) -> Result<T, ApiError> {
    actix_web::rt::spawn(trace::carried(work))
        .await
        .map_err(|_panicked| ApiError::internal())?
}
