//! The HTTP client and the request: address, headers, body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::declare::Declared;
use super::failure::Failure;
use super::wire::{
    FunctionCallingConfig, GenerationConfig, RequestBody, SystemInstruction, TextPart, ThinkingConfig, Tool, ToolConfig,
};
use super::{Calling, GenerateRequest, history};
use crate::config::GeminiConfig;
use crate::http;
use crate::trace::TraceContext;

/// Most bytes of a key or of a model's name that make sense.
const LONGEST_NAME: usize = 128;

/// A setting with which no request can be made. Never holds the key.
#[derive(Debug, thiserror::Error)]
pub enum GeminiConfigError {
    /// `base_url` is no http or https address, or carries a query or a password.
    #[error("base_url must be an http or https address without a query or credentials")]
    BaseUrl,
    /// `api_version` is not one word.
    #[error("api_version must be one word, such as v1beta")]
    ApiVersion,
    /// `model` cannot be the name of a model.
    #[error("model must be a name of letters, digits, dots and dashes")]
    Model,
    /// `api_key` cannot be sent in a header.
    #[error("api_key must be visible ASCII")]
    ApiKey,
    /// A number is out of its bounds.
    #[error("{0} is out of its bounds")]
    OutOfBounds(&'static str),
    /// The HTTP client could not be made: its certificates could not be read.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Makes requests of one configuration; cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoint {
    models: Arc<str>,
    headers: HeaderMap,
    tls: bool,
    connect_timeout: Duration,
}

impl Endpoint {
    /// Checks the settings that a request is made of.
    pub(crate) fn new(config: &GeminiConfig) -> Result<Self, GeminiConfigError> {
        check_bounds(config)?;
        let base = base_url(&config.base_url)?;
        if !is_word(&config.api_version) {
            return Err(GeminiConfigError::ApiVersion);
        }
        if model_path(&config.model).is_none() {
            return Err(GeminiConfigError::Model);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The simulator wants one, too, and takes any.
        if let Some(key) = key(config).or(config.simulated.then_some("simulated")) {
            let visible = key.len() <= 8 * LONGEST_NAME && key.bytes().all(|byte| byte.is_ascii_graphic());
            let Ok(mut value) = HeaderValue::from_str(key) else {
                return Err(GeminiConfigError::ApiKey);
            };
            if !visible {
                return Err(GeminiConfigError::ApiKey);
            }
            value.set_sensitive(true);
            headers.insert("x-goog-api-key", value);
        }
        let models = format!("{}/{}", base.as_str().trim_end_matches('/'), config.api_version).into();
        let tls = base.scheme() == "https";
        Ok(Self {
            models,
            headers,
            tls,
            connect_timeout: config.connect_timeout,
        })
    }

    /// Makes a client with connections of its own.
    pub(crate) fn client(&self) -> Result<Client, GeminiConfigError> {
        http::client(self.tls, self.connect_timeout).map_err(GeminiConfigError::Client)
    }

    /// Asks what a model is, which costs nothing, and returns when the head of the answer is there.
    pub(crate) async fn describe(&self, client: &Client, path: &str) -> reqwest::Result<Response> {
        let url = format!("{}/{path}", self.models);
        client.get(url).headers(self.headers.clone()).send().await
    }

    /// Sends a request and returns when the head of the answer is there.
    pub(crate) async fn post(
        &self,
        client: &Client,
        path: &str,
        body: Bytes,
        trace: Option<&TraceContext>,
    ) -> reqwest::Result<Response> {
        let url = format!("{}/{path}:streamGenerateContent?alt=sse", self.models);
        let mut headers = self.headers.clone();
        if let Some(place) = trace {
            place.write(&mut headers);
        }
        client.post(url).headers(headers).body(body).send().await
    }
}

/// Returns the key, if there is one.
pub(crate) fn key(config: &GeminiConfig) -> Option<&str> {
    config
        .api_key
        .as_ref()
        .map(|key| key.expose_secret().trim())
        .filter(|key| !key.is_empty())
}

/// Returns the path of a model below the version, or nothing if this cannot be a model: it would change the address.
pub(crate) fn model_path(name: &str) -> Option<String> {
    let (kind, id) = name.split_once('/').unwrap_or(("models", name));
    let sound = matches!(kind, "models" | "tunedModels") && is_word(id);
    sound.then(|| format!("{kind}/{id}"))
}

/// Writes the body of a request that declares the functions at the places `offered`.
pub(super) fn body(
    request: &GenerateRequest,
    declared: &[Declared],
    offered: &[usize],
    config: &GeminiConfig,
) -> Result<Bytes, Failure> {
    let contents = history::turns(&request.contents);
    if contents.is_empty() {
        return Err(Failure::nothing_to_answer());
    }
    let system = request.system_prompt.as_deref().or(config.system_prompt.as_deref());
    let told = system
        .into_iter()
        .chain(request.notes.as_deref())
        .filter(|text| !text.is_empty());
    let told: Vec<TextPart<'_>> = told.map(|text| TextPart { text }).collect();
    let offered = offered.iter().filter_map(|at| declared.get(*at));
    let offered: Vec<&Value> = offered.map(|function| &function.json).collect();
    let mode = calling(request.calling);
    let tool_config = (!offered.is_empty()).then_some(ToolConfig {
        function_calling_config: FunctionCallingConfig { mode },
    });
    let body = RequestBody {
        contents,
        system_instruction: (!told.is_empty()).then_some(SystemInstruction { parts: told }),
        generation_config: GenerationConfig {
            max_output_tokens: request.max_tokens.unwrap_or(config.max_tokens),
            temperature: request.temperature.or(config.temperature),
            thinking_config: config
                .thinking_level
                .as_deref()
                .map(|thinking_level| ThinkingConfig { thinking_level }),
            response_mime_type: request.response_schema.is_some().then_some("application/json"),
            response_json_schema: request.response_schema.as_deref(),
        },
        tools: (!offered.is_empty()).then_some([Tool {
            function_declarations: offered,
        }]),
        tool_config,
    };
    match serde_json::to_vec(&body) {
        Ok(json) => Ok(json.into()),
        Err(_not_json) => Err(Failure::internal()),
    }
}

fn calling(calling: Calling) -> &'static str {
    match calling {
        Calling::Auto => "AUTO",
        Calling::Any => "ANY",
        // The functions stay declared: the conversation may hold calls of them, and its prefix stays cached.
        Calling::None => "NONE",
        Calling::Validated => "VALIDATED",
    }
}

/// Returns a body without the functions at these places of its list.
pub(super) fn without_functions(body: &[u8], places: &[usize]) -> Option<Bytes> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let functions = body.pointer_mut("/tools/0/functionDeclarations")?.as_array_mut()?;
    let mut place = 0;
    functions.retain(|_| {
        place += 1;
        !places.contains(&(place - 1))
    });
    if functions.is_empty() {
        let fields = body.as_object_mut()?;
        fields.remove("tools");
        fields.remove("toolConfig");
    }
    Some(serde_json::to_vec(&body).ok()?.into())
}

fn is_word(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn base_url(text: &str) -> Result<Url, GeminiConfigError> {
    let Ok(url) = Url::parse(text.trim()) else {
        return Err(GeminiConfigError::BaseUrl);
    };
    let plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let sound = matches!(url.scheme(), "http" | "https") && url.has_host() && plain;
    if sound {
        Ok(url)
    } else {
        Err(GeminiConfigError::BaseUrl)
    }
}

fn check_bounds(config: &GeminiConfig) -> Result<(), GeminiConfigError> {
    let checks = [
        (
            "temperature",
            config.temperature.is_none_or(|value| (0.0..=2.0).contains(&value)),
        ),
        ("max_tokens", (1..=65_536).contains(&config.max_tokens)),
        ("max_attempts", config.max_attempts > 0),
        (
            "retry_ratio",
            config.retry_ratio.is_finite() && config.retry_ratio >= 0.0,
        ),
        ("max_concurrent", config.max_concurrent > 0),
        ("min_concurrent", config.min_concurrent > 0),
        ("max_concurrent_per_user", config.max_concurrent_per_user > 0),
        ("event_bytes", config.event_bytes > 0),
        ("max_functions", config.max_functions > 0),
        ("breaker_failures", config.breaker_failures > 0),
        ("connect_timeout", !config.connect_timeout.is_zero()),
        ("first_byte_timeout", !config.first_byte_timeout.is_zero()),
        ("idle_timeout", !config.idle_timeout.is_zero()),
    ];
    match checks.iter().find(|(_, sound)| !sound) {
        Some((name, _)) => Err(GeminiConfigError::OutOfBounds(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::declare::Prepared;
    use super::super::{Content, Function, Role};
    use super::*;

    fn request() -> GenerateRequest {
        GenerateRequest {
            run: "r_1".try_into().unwrap(),
            session: "s".try_into().unwrap(),
            user: "u".try_into().unwrap(),
            model: None,
            system_prompt: None,
            notes: None,
            contents: vec![Content {
                role: Role::User,
                parts: vec![json!({"text": "Hi"})],
            }],
            temperature: None,
            max_tokens: None,
            deadline: crate::clock::Clock::default().instant(),
            response_schema: None,
            functions: Arc::default(),
            calling: super::super::Calling::Auto,
            timeline: None,
        }
    }

    fn json_of(request: &GenerateRequest, config: &GeminiConfig) -> Value {
        let declared = Prepared::default().of(&request.functions, config.max_functions);
        let all: Vec<usize> = (0..declared.len()).collect();
        serde_json::from_slice(&body(request, &declared, &all, config).unwrap()).unwrap()
    }

    #[test]
    fn only_what_is_set_is_sent() {
        assert_eq!(
            json_of(&request(), &GeminiConfig::default()),
            json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
                "generationConfig": {"maxOutputTokens": 8192, "thinkingConfig": {"thinkingLevel": "LOW"}}})
        );
        let config = GeminiConfig {
            thinking_level: None,
            temperature: Some(0.5),
            ..GeminiConfig::default()
        };
        let asked = GenerateRequest {
            system_prompt: Some("Be brief.".to_owned()),
            notes: None,
            max_tokens: Some(7),
            temperature: Some(1.0),
            ..request()
        };
        let sent = json_of(&asked, &config);
        assert_eq!(sent["systemInstruction"], json!({"parts": [{"text": "Be brief."}]}));
        assert_eq!(
            sent["generationConfig"],
            json!({"maxOutputTokens": 7, "temperature": 1.0})
        );
    }

    #[test]
    fn functions_are_in_one_tool_with_their_mode() {
        let function = |name: &str| Function {
            name: name.to_owned(),
            description: "Does it.".to_owned(),
            parameters: None,
        };
        let mut asked = GenerateRequest {
            functions: vec![function("f"), function("g")].into(),
            ..request()
        };
        let config = GeminiConfig::default();
        let declared = json!([{"functionDeclarations": [
            {"name": "f", "description": "Does it."}, {"name": "g", "description": "Does it."}]}]);
        for (calling, mode) in [
            (Calling::Auto, "AUTO"),
            (Calling::Any, "ANY"),
            (Calling::None, "NONE"),
            (Calling::Validated, "VALIDATED"),
        ] {
            asked.calling = calling;
            let sent = json_of(&asked, &config);
            assert_eq!(sent["tools"], declared);
            assert_eq!(sent["toolConfig"], json!({"functionCallingConfig": {"mode": mode}}));
        }
        let whole = serde_json::to_vec(&json_of(&asked, &config)).unwrap();
        let left = |places: &[usize]| -> Value {
            serde_json::from_slice(&without_functions(&whole, places).unwrap()).unwrap()
        };
        assert_eq!(
            left(&[0])["tools"][0]["functionDeclarations"],
            json!([declared[0]["functionDeclarations"][1]])
        );
        let none = left(&[0, 1]);
        assert!(none.get("tools").is_none() && none.get("toolConfig").is_none());
        assert_eq!(none["contents"], left(&[])["contents"]);
    }

    #[test]
    fn a_conversation_without_a_question_is_not_sent() {
        let empty = GenerateRequest {
            contents: Vec::new(),
            ..request()
        };
        assert!(body(&empty, &[], &[], &GeminiConfig::default()).is_err());
    }

    #[test]
    fn a_model_cannot_change_the_address() {
        assert_eq!(
            model_path("gemini-3.8-flash").as_deref(),
            Some("models/gemini-3.8-flash")
        );
        assert_eq!(
            model_path("models/gemini-3.8-flash").as_deref(),
            Some("models/gemini-3.8-flash")
        );
        assert_eq!(model_path("tunedModels/x-1").as_deref(), Some("tunedModels/x-1"));
        for odd in [
            "",
            "..",
            "a/b",
            "models/",
            "models/..",
            "models/a/b",
            "a?b",
            "a#b",
            "a b",
            "a:b",
            "a%2fb",
            "é",
        ] {
            assert_eq!(model_path(odd), None, "{odd}");
        }
        assert_eq!(model_path(&"a".repeat(129)), None);
    }

    #[test]
    fn settings_that_make_no_request_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut GeminiConfig)| {
            let mut config = GeminiConfig::default();
            change(&mut config);
            Endpoint::new(&config)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        for url in ["", "example.com", "ftp://x", "https://user:pw@x", "https://x/?a=b"] {
            assert!(
                refused(&|config| config.base_url = url.to_owned()).contains("base_url"),
                "{url}"
            );
        }
        assert!(refused(&|config| config.api_version = "v1/x".to_owned()).contains("api_version"));
        assert!(refused(&|config| config.model = "a/b".to_owned()).contains("model"));
        assert!(refused(&|config| config.api_key = Some("a\nb".into())).contains("api_key"));
        assert!(refused(&|config| config.max_tokens = 0).contains("max_tokens"));
        assert!(refused(&|config| config.temperature = Some(f64::NAN)).contains("temperature"));
        assert!(refused(&|config| config.retry_ratio = f64::NAN).contains("retry_ratio"));
        assert_eq!(refused(&|_| {}), "");
    }

    #[test]
    fn clients_for_both_schemes_are_made_any_number_of_times() {
        for base_url in ["http://127.0.0.1:1", "https://generativelanguage.googleapis.com"] {
            let config = GeminiConfig {
                base_url: base_url.to_owned(),
                ..GeminiConfig::default()
            };
            let endpoint = Endpoint::new(&config).unwrap();
            endpoint.client().unwrap();
            endpoint.client().unwrap();
        }
    }
}
