//! The models that exist here, and what their generation implies.

use serde_json::{Value, json};

use crate::config::SimConfig;

const GENERATE: &[&str] = &[
    "generateContent",
    "countTokens",
    "createCachedContent",
    "batchGenerateContent",
];
const LIVE: &[&str] = &["bidiGenerateContent", "countTokens"];
const EMBED: &[&str] = &["embedContent", "countTextTokens", "countTokens"];

/// Listed models: id, version, input limit, output limit, methods.
const LISTED: &[(&str, &str, u32, u32, &[&str])] = &[
    ("gemini-3.8-flash", "3.8", 1_048_576, 65_536, GENERATE),
    ("gemini-3.5-flash-lite", "3.5", 1_048_576, 65_536, GENERATE),
    ("gemini-4-argon", "4", 1_048_576, 65_536, GENERATE),
    ("gemini-2.5-flash", "2.5", 1_048_576, 65_536, GENERATE),
    ("gemini-3.8-live", "3.8", 131_072, 65_536, LIVE),
    ("gemini-embedding-2", "embedding", 8_192, 1, EMBED),
];

/// Served, but not listed.
const UNLISTED: &[&str] = &[
    "gemini-3.7-flash",
    "gemini-3.6-flash",
    "gemini-3.5-flash",
    "gemini-3.1-flash-lite",
    "gemini-3.1-pro-preview",
    "gemini-3-flash-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash-lite",
    "gemini-flash-latest",
];

/// Returns the Model object of `id` if it exists.
pub(crate) fn get(id: &str, config: &SimConfig) -> Option<Value> {
    let listed = LISTED.iter().find(|model| model.0 == id);
    let known = UNLISTED.contains(&id) || config.extra_models.iter().any(|extra| extra == id);
    listed
        .map(|(id, version, input, output, methods)| model(id, version, *input, *output, methods))
        .or_else(|| known.then(|| model(id, "001", 1_048_576, 65_536, GENERATE)))
}

/// Returns all listed models in order.
pub(crate) fn list(config: &SimConfig) -> Vec<Value> {
    let ids = LISTED
        .iter()
        .map(|model| model.0)
        .chain(config.extra_models.iter().map(String::as_str));
    ids.filter_map(|id| get(id, config)).collect()
}

/// Says whether model `id` serves `method` (`streamGenerateContent` counts as `generateContent`).
pub(crate) fn serves(id: &str, method: &str, config: &SimConfig) -> bool {
    let method = match method {
        "streamGenerateContent" => "generateContent",
        "batchEmbedContents" => "embedContent",
        other => other,
    };
    get(id, config).is_some_and(|model| {
        model["supportedGenerationMethods"]
            .as_array()
            .is_some_and(|methods| methods.iter().any(|name| name == method))
    })
}

/// Returns major and minor generation: (3, 8) for `gemini-3.8-flash`. An id without a number counts as the newest 3.x.
pub(crate) fn generation(id: &str) -> (u32, u32) {
    let digits: Vec<&str> = id.split('-').nth(1).unwrap_or_default().split('.').collect();
    let number = |at: usize| digits.get(at).and_then(|text| text.parse().ok());
    number(0).map_or((3, 8), |major| (major, number(1).unwrap_or(0)))
}

fn model(id: &str, version: &str, input: u32, output: u32, methods: &[&str]) -> Value {
    let display = id.split('-').map(capitalised).collect::<Vec<_>>().join("-");
    let mut model = json!({
        "name": format!("models/{id}"), "version": version, "displayName": display,
        "description": "Simulated model", "inputTokenLimit": input, "outputTokenLimit": output,
        "supportedGenerationMethods": methods,
    });
    if methods != EMBED {
        for (key, value) in [("temperature", json!(1)), ("topP", json!(0.95)), ("topK", json!(64))] {
            model[key] = value;
        }
        model["maxTemperature"] = json!(2);
        model["thinking"] = json!(true);
    }
    model
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
