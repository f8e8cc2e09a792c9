//! Reads bodies, queries and paths of requests, and collects everything that is wrong with them, one row a field.
//!
//! Types of errors are named as FastAPI names them, so that existing clients understand them.

use std::future::Future;

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use bytes::BytesMut;
use futures_util::{StreamExt, future::LocalBoxFuture};
use serde_json::{Map, Value};

use super::{
    EdgeState,
    error::{ApiError, Row},
};

/// A JSON object from the body: `application/json`, within the size limit.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Map<String, Value>);

impl FromRequest for Body {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limit = request
            .app_data::<web::Data<EdgeState>>()
            .map_or(1 << 20, |state| state.body_bytes);
        let head = check_head(request, limit);
        let payload = payload.take();
        Box::pin(async move {
            head?;
            read_object(&collect(payload, limit).await?).map(Self)
        })
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

/// The body where it may be left out altogether.
#[derive(Debug)]
pub(crate) struct OptionalBody(pub(crate) Map<String, Value>);

impl FromRequest for OptionalBody {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limit = request
            .app_data::<web::Data<EdgeState>>()
            .map_or(1 << 20, |state| state.body_bytes);
        let head = check_head(request, limit);
        let payload = payload.take();
        Box::pin(async move {
            let bytes = collect(payload, limit).await?;
            if bytes.is_empty() {
                return Ok(Self(Map::new()));
            }
            head?;
            read_object(&bytes).map(Self)
        })
    }
}

/// The query as an object of texts; of a name that comes twice the last counts.
#[derive(Debug)]
pub(crate) struct Query(pub(crate) Map<String, Value>);

impl FromRequest for Query {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let map = pairs.map(|pairs| {
            pairs
                .into_inner()
                .into_iter()
                .map(|(k, v)| (k, Value::String(v)))
                .collect()
        });
        std::future::ready(
            map.map(Self)
                .map_err(|_text| one("query", "the query could not be read", "query_invalid")),
        )
    }
}

/// Takes fields out of an object and keeps a row for each that is wrong.
pub(crate) struct Fields {
    place: &'static str,
    map: Map<String, Value>,
    rows: Vec<Row>,
}

impl Fields {
    /// Starts on an object; `place` is `body` or `query`.
    pub(crate) fn new(place: &'static str, map: Map<String, Value>) -> Self {
        Self {
            place,
            map,
            rows: Vec::new(),
        }
    }

    /// Notes that a field is wrong.
    pub(crate) fn refuse(&mut self, name: &str, message: impl Into<String>, kind: &'static str) {
        self.rows.push(Row {
            field: format!("{}.{name}", self.place),
            message: message.into(),
            kind,
        });
    }

    /// Ends: an error with all rows when there is any.
    pub(crate) fn finish(&mut self) -> Result<(), ApiError> {
        if self.rows.is_empty() {
            Ok(())
        } else {
            Err(ApiError::validation(&self.rows))
        }
    }

    /// Takes a field; null counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text that may be absent, within a number of characters.
    pub(crate) fn text(&mut self, name: &str, min: usize, max: usize) -> Option<String> {
        let text = match self.take(name)? {
            Value::String(text) => text,
            _ => {
                self.refuse(name, "Input should be a valid string", "string_type");
                return None;
            }
        };
        let count = text.chars().count();
        if count < min {
            self.refuse(
                name,
                format!("String should have at least {min} characters"),
                "string_too_short",
            );
        } else if count > max {
            self.refuse(
                name,
                format!("String should have at most {max} characters"),
                "string_too_long",
            );
        } else {
            return Some(text);
        }
        None
    }

    /// Takes a text that must be there.
    pub(crate) fn required_text(&mut self, name: &str, min: usize, max: usize) -> Option<String> {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.refuse(name, "Field required", "missing");
            return None;
        }
        self.text(name, min, max)
    }

    /// Takes a number that may be absent, within bounds.
    pub(crate) fn number(&mut self, name: &str, min: f64, max: f64) -> Option<f64> {
        let value = self.take(name)?;
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number < min => self.refuse(
                name,
                format!("Input should be greater than or equal to {min}"),
                "greater_than_equal",
            ),
            Some(number) if number > max => self.refuse(
                name,
                format!("Input should be less than or equal to {max}"),
                "less_than_equal",
            ),
            Some(number) if number.is_finite() => return Some(number),
            _ => self.refuse(name, "Input should be a valid number", "float_type"),
        }
        None
    }

    /// Takes a whole number that may be absent, within bounds.
    pub(crate) fn integer(&mut self, name: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.take(name)?;
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.refuse(name, "Input should be a valid integer", "int_type");
            return None;
        };
        match u64::try_from(number) {
            Ok(number) if number > max => self.refuse(
                name,
                format!("Input should be less than or equal to {max}"),
                "less_than_equal",
            ),
            Ok(number) if number >= min => return Some(number),
            _ => self.refuse(
                name,
                format!("Input should be greater than or equal to {min}"),
                "greater_than_equal",
            ),
        }
        None
    }

    /// Takes a JSON object that may be absent, within a number of encoded bytes.
    pub(crate) fn object(&mut self, name: &str, max_bytes: usize) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(map) if serde_json::to_vec(&map).is_ok_and(|bytes| bytes.len() <= max_bytes) => {
                return Some(map);
            }
            Value::Object(_) => self.refuse(
                name,
                format!("Object should have at most {max_bytes} bytes"),
                "too_long",
            ),
            _ => self.refuse(name, "Input should be a valid dictionary", "dict_type"),
        }
        None
    }

    /// Takes an id that may be absent.
    pub(crate) fn id<T: TryFrom<String, Error: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        let Value::String(text) = self.take(name)? else {
            self.refuse(name, "Input should be a valid string", "string_type");
            return None;
        };
        T::try_from(text)
            .map_err(|error| self.refuse(name, error.to_string(), "value_error"))
            .ok()
    }
}

/// The id in a path.
pub(crate) fn path_id<T: TryFrom<String, Error: std::fmt::Display>>(name: &str, text: String) -> Result<T, ApiError> {
    T::try_from(text).map_err(|error| one(&format!("path.{name}"), &error.to_string(), "value_error"))
}

/// Runs `work` to its end even when the client that asked goes away meanwhile.
pub(crate) async fn detached<T: 'static>(
    work: impl Future<Output = Result<T, ApiError>> + 'static,
) -> Result<T, ApiError> {
    actix_web::rt::spawn(work)
        .await
        .map_err(|_panicked| ApiError::internal())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(map) = value else {
            panic!("not an object")
        };
        Fields::new("body", map)
    }

    fn kinds(fields: &mut Fields) -> Vec<(String, &'static str)> {
        fields.rows.drain(..).map(|row| (row.field, row.kind)).collect()
    }

    #[test]
    fn text_is_counted_in_characters_at_its_bounds() {
        for (text, min, max, good) in [
            ("ä", 1, 1, true),
            ("", 1, 2, false),
            ("äöü", 1, 2, false),
            ("äö", 1, 2, true),
            ("äö", 3, 4, false),
        ] {
            let mut fields = fields(json!({"a": text}));
            assert_eq!(fields.text("a", min, max).is_some(), good, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_at_their_bounds_and_from_queries() {
        let mut f = fields(json!({"a": 0, "b": 2.0, "c": 2.001, "d": "50", "e": "x", "f": -1, "g": 101}));
        assert_eq!(f.number("a", 0.0, 2.0), Some(0.0));
        assert_eq!(f.number("b", 0.0, 2.0), Some(2.0));
        assert_eq!(f.number("c", 0.0, 2.0), None);
        assert_eq!(f.integer("d", 1, 100), Some(50));
        assert_eq!(f.integer("e", 1, 100), None);
        assert_eq!(f.integer("f", 1, 100), None);
        assert_eq!(f.integer("g", 1, 100), None);
        let rows = kinds(&mut f);
        let expected = [
            ("body.c", "less_than_equal"),
            ("body.e", "int_type"),
            ("body.f", "greater_than_equal"),
            ("body.g", "less_than_equal"),
        ];
        assert_eq!(rows, expected.map(|(field, kind)| (field.to_owned(), kind)));
    }

    #[test]
    fn every_wrong_field_has_a_row() {
        let mut f = fields(json!({"b": 1, "c": null, "d": [], "e": {"k": "xxxxxxxxxx"}}));
        for name in ["a", "b", "c"] {
            assert_eq!(f.required_text(name, 1, 5), None);
        }
        assert_eq!(f.object("d", 100), None);
        assert_eq!(f.object("e", 10), None);
        let rows = kinds(&mut f);
        let expected = ["missing", "string_type", "missing", "dict_type", "too_long"];
        assert_eq!(rows.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(), expected);
    }
}
