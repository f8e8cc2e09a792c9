//! One request of the API with what the routes need of it.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use actix_web::web;
use serde_json::Value;

use super::error::ApiError;
use super::fault::Faults;
use super::state::State;

/// The two prefixes of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// `/api/v3`: a tool without a version is the oldest.
    V3,
    /// `/api/v3.1`: a tool without a version is the newest.
    V31,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) state: &'a State,
    pub(crate) version: Version,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Query,
    pub(crate) body: Value,
    /// Under which effects are counted.
    pub(crate) key: String,
    pub(crate) faults: &'a Faults,
}

impl Call<'_> {
    /// The answer to a path or method that does not exist.
    pub(crate) fn no_route(&self) -> ApiError {
        ApiError::no_route(self.method, self.path)
    }

    /// Returns a field of the body that has to be a text with something in it.
    pub(crate) fn text(&self, pointer: &str) -> Result<String, ApiError> {
        let text = self.body.pointer(pointer).and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty()).map(str::to_owned);
        text.ok_or_else(|| ApiError::bad_body(vec![format!("{}: Required", pointer.trim_start_matches('/'))]))
    }

    /// Returns a text of the body, if it is there.
    pub(crate) fn optional(&self, pointer: &str) -> Option<String> {
        let text = self.body.pointer(pointer).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

/// The parameters of a query: lists in one value, maps in brackets.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn of(request: &HttpRequest) -> Self {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        Self {
            pairs: pairs.map(web::Query::into_inner).unwrap_or_default(),
        }
    }

    /// Returns the first value, if it is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter().filter(|(key, _)| key == name);
        pairs
            .next()
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Returns the items of a list: joined by commas, repeated, or `name[]`.
    pub(crate) fn csv(&self, name: &str) -> Option<Vec<String>> {
        let mine = |key: &str| key == name || key.strip_suffix("[]") == Some(name);
        let values = self.pairs.iter().filter(|(key, _)| mine(key));
        let items: Vec<String> = values
            .flat_map(|(_, value)| value.split(','))
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect();
        Some(items).filter(|items| !items.is_empty())
    }

    /// Returns a flag.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true" || value == "1")
    }

    /// Returns the entries of `name[key]=value`.
    pub(crate) fn map(&self, name: &str) -> BTreeMap<&str, &str> {
        let pairs = self.pairs.iter().filter_map(|(key, value)| {
            let inner = key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            (!inner.is_empty() && !value.is_empty()).then_some((inner, value.as_str()))
        });
        pairs.collect()
    }

    /// Says whether `value` is among the items of a list; without the list everything is.
    pub(crate) fn allows(&self, name: &str, value: &str) -> bool {
        self.csv(name)
            .is_none_or(|items| items.iter().any(|item| item == value))
    }
}
