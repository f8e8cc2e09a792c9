//! The API key: by header or by query, missing or invalid.

use actix_web::HttpRequest;

use crate::config::SimConfig;
use crate::error::ApiError;

/// Returns an error when the request has no key or one that `config` calls invalid.
pub(crate) fn check(request: &HttpRequest, config: &SimConfig) -> Result<(), ApiError> {
    let header = request
        .headers()
        .get("x-goog-api-key")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let key = header.or_else(|| query_value(request.query_string(), "key"));
    match key.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
        None if config.require_key => Err(ApiError::missing_key()),
        Some(key) if config.invalid_keys.iter().any(|bad| key.contains(bad.as_str())) => Err(ApiError::invalid_key()),
        None | Some(_) => Ok(()),
    }
}

/// Returns the first value of `name` in a query string.
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query)
        .ok()?
        .into_inner();
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}
