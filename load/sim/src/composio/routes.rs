//! The routes of the Composio API: two versions, one behaviour.

use std::io;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;

use super::accounts;
use super::auth_configs;
use super::call::{Call, Query, Version};
use super::config::ComposioSimConfig;
use super::control;
use super::error::{Answer, ApiError, Reply};
use super::fault::{Faults, Limited, Refusal, scripted_body};
use super::link;
use super::script::ComposioScript;
use super::sessions;
use super::state::State;
use super::toolkits;
use super::tools;
use super::triggers;
use super::uploads;
use super::webhooks;
use crate::directive::{self, Word};
use crate::random;
use crate::record::{RecordedRequest, Ticket};

/// Largest request body.
const MAX_BODY: usize = 100 * 1024 * 1024;
const KEY_HEADERS: [&str; 3] = ["x-api-key", "x-user-api-key", "x-org-api-key"];
/// Strings that are looked at for words, and how deep.
const MAX_STRINGS: usize = 1000;
const MAX_DEPTH: usize = 16;

pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .configure(control::configure)
        .route("/sim/upload/{id}", web::put().to(uploads::put))
        .route("/link/{token}", web::get().to(link::show))
        .route("/link/{token}", web::post().to(link::decide))
        .service(web::resource("/api/{version:v3|v3\\.1}/{resource:.*}").to(serve))
        .default_service(web::to(|request: HttpRequest| async move {
            let error = ApiError::no_route(request.method().as_str(), request.path());
            crate::error::response(404).body(error.body("none").to_string())
        }));
}

/// One exchange with what is needed to answer it.
struct Exchange {
    state: web::Data<State>,
    config: std::sync::Arc<ComposioSimConfig>,
    request_id: String,
    /// Requests that remain in this minute; `None` beyond the limit.
    remaining: Option<u32>,
    ticket: Ticket,
}

async fn serve(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    let config = state.config();
    let ticket = state
        .recorder
        .open(RecordedRequest::read(&request, &body), config.max_recorded);
    let request_id = state.store().ids.hex();
    let remaining = state.count_request(config.rate_limit);
    let exchange = Exchange {
        state,
        config,
        request_id,
        remaining,
        ticket,
    };
    exchange.run(&request, &body).await
}

impl Exchange {
    async fn run(self, request: &HttpRequest, body: &[u8]) -> HttpResponse {
        if let Err(error) = check_key(request, &self.config) {
            return self.refuse(&error);
        }
        let json: Value = match body {
            [] => Value::Null,
            text => match serde_json::from_slice(text) {
                Ok(json) => json,
                Err(error) => return self.refuse(&ApiError::bad_body(vec![format!("body: {error}")])),
            },
        };
        let resource = request.match_info().query("resource").to_owned();
        let tool = executed(request.method().as_str(), &resource, &json);
        let script = self.state.script().next(request.path(), tool.as_deref());
        if let Some(error) = script.as_ref().and_then(|script| script.error.as_ref()) {
            let mut answer = Answer::new(error.status, scripted_body(error, &self.request_id));
            answer.headers = error.headers.clone().into_iter().collect();
            return self.send(&answer);
        }
        let faults = self.faults(request, tool.is_some(), &json, script);
        if self.config.enforce_rate_limit && self.remaining.is_none() {
            let limited = Refusal::TooMany {
                form: Limited::Documented,
                retry_after: Some("60".to_owned()),
            };
            return self.fail(&limited).await;
        }
        let mut pause = faults.slow_ms + if tool.is_some() { self.config.tool_ms } else { 0 };
        match &faults.before {
            Some(Refusal::Hang(Some(millis))) => pause += millis,
            Some(refusal) => {
                sleep(pause).await;
                return self.fail(refusal).await;
            }
            None => {}
        }
        // On a task of its own: what was asked for is done, also when the client goes away meanwhile.
        let after = faults.after.clone();
        let work = self.work(request, resource, json, faults);
        let reply = actix_web::rt::spawn(work.carry_out(pause)).await;
        match &after {
            Some(Refusal::Hang(Some(millis))) => sleep(*millis).await,
            Some(refusal) => return self.fail(refusal).await,
            None => {}
        }
        match reply {
            Ok(Ok(answer)) => self.send(&answer),
            Ok(Err(error)) => self.refuse(&error),
            Err(failure) => {
                tracing::error!(%failure, "a request of the simulator broke");
                self.refuse(&ApiError::status(500))
            }
        }
    }

    fn work(&self, request: &HttpRequest, resource: String, body: Value, faults: Faults) -> Work {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let key = header("idempotency-key").or_else(|| header("x-request-id"));
        Work {
            state: web::Data::clone(&self.state),
            version: if request.match_info().query("version") == "v3" {
                Version::V3
            } else {
                Version::V31
            },
            method: request.method().to_string(),
            path: request.path().to_owned(),
            resource,
            query: Query::of(request),
            body,
            key: key.map_or_else(|| format!("made-up-{}", self.ticket.id()), str::to_owned),
            faults,
        }
    }

    /// Collects what the script, the header and the arguments ask for.
    fn faults(&self, request: &HttpRequest, executes: bool, body: &Value, script: Option<ComposioScript>) -> Faults {
        let header = request
            .headers()
            .get(directive::HEADER)
            .and_then(|value| value.to_str().ok());
        let header = header.unwrap_or_default();
        let mut texts = Vec::new();
        if executes && self.config.magic_words {
            strings(&body["arguments"], MAX_DEPTH, &mut texts);
            strings(&body["text"], MAX_DEPTH, &mut texts);
        }
        let mut faults = Faults::default();
        let mut apply = |words: &[Word<'_>], text: &str| {
            for word in words {
                let name = word.name();
                let applies = |times| self.state.still_applies(&format!("{name} {text}"), times);
                if word.times.is_none_or(applies) {
                    faults.apply(word);
                }
            }
        };
        let chance = random::mix(self.config.seed ^ random::mix(self.ticket.id()));
        let kind = random::pick(&self.config.fault_kinds, chance);
        if let Some(kind) = kind.filter(|_| executes && random::unit(chance) < self.config.fault_rate) {
            apply(&directive::parse_list(kind), "");
        }
        for text in texts {
            apply(&directive::in_text(text), text);
        }
        apply(&directive::parse_list(header), request.path());
        if let Some(script) = script {
            let words = script.fault.unwrap_or_default();
            apply(&directive::parse_list(&words), "");
            faults.result = script.result;
        }
        faults
    }

    fn refuse(self, error: &ApiError) -> HttpResponse {
        let answer = Answer::new(error.status, error.body(&self.request_id));
        self.send(&answer)
    }

    /// Carries out a fault instead of an answer.
    async fn fail(mut self, refusal: &Refusal) -> HttpResponse {
        match refusal {
            Refusal::Hang(_) => std::future::pending().await,
            Refusal::Cut => {
                self.ticket.failed("cut");
                let broken = stream::once(async { Err::<Bytes, _>(io::Error::other("dropped on purpose")) });
                crate::error::response(200).body(SizedStream::new(1 << 20, Box::pin(broken)))
            }
            Refusal::Status(status) => {
                let error = ApiError::status(*status);
                if *status == 413 {
                    let answer = Answer::new(413, serde_json::json!({"message": "Response payload too large"}));
                    return self.send(&answer);
                }
                self.refuse(&error)
            }
            Refusal::TooMany { form, retry_after } => {
                let mut answer = Answer::new(429, form.body(&self.request_id));
                answer.bare = *form != Limited::Documented;
                if let Some(seconds) = retry_after {
                    answer.headers.push(("retry-after".to_owned(), seconds.clone()));
                }
                self.send(&answer)
            }
            Refusal::EmptyBody(status) => {
                self.ticket.failed(status.to_string());
                crate::error::response(*status).finish()
            }
            Refusal::Html(status) => {
                self.ticket.failed(status.to_string());
                crate::error::response(*status)
                    .content_type("text/html; charset=UTF-8")
                    .body(format!(
                        "<html><title>Error {status}</title><p>The server is unavailable.</html>"
                    ))
            }
        }
    }

    fn send(mut self, answer: &Answer) -> HttpResponse {
        if answer.status < 400 {
            self.ticket.completed();
        } else {
            self.ticket.failed(answer.status.to_string());
        }
        let mut response = crate::error::response(answer.status);
        response.content_type("application/json");
        if !answer.bare {
            response
                .insert_header(("X-RateLimit", self.config.rate_limit.to_string()))
                .insert_header(("X-RateLimit-Remaining", self.remaining.unwrap_or(0).to_string()))
                .insert_header(("X-RateLimit-Window-Size", "60s"));
        }
        for (name, value) in &answer.headers {
            response.insert_header((name.as_str(), value.as_str()));
        }
        response.body(answer.body.to_string())
    }
}

/// What a request asks for, apart from the connection that waits for the answer.
struct Work {
    state: web::Data<State>,
    version: Version,
    method: String,
    path: String,
    resource: String,
    query: Query,
    body: Value,
    key: String,
    faults: Faults,
}

impl Work {
    async fn carry_out(self, pause: u64) -> Reply {
        sleep(pause).await;
        let call = Call {
            state: &self.state,
            version: self.version,
            method: &self.method,
            path: &self.path,
            query: self.query,
            body: self.body,
            key: self.key,
            faults: &self.faults,
        };
        let segments: Vec<&str> = self.resource.split('/').filter(|part| !part.is_empty()).collect();
        dispatch(&call, &segments)
    }
}

async fn sleep(millis: u64) {
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

fn dispatch(call: &Call<'_>, segments: &[&str]) -> Reply {
    match segments {
        ["toolkits", rest @ ..] => toolkits::route(call, rest),
        ["tools", rest @ ..] => tools::route(call, rest),
        ["auth_configs", rest @ ..] => auth_configs::route(call, rest),
        ["connected_accounts", rest @ ..] => accounts::route(call, rest),
        ["triggers_types", rest @ ..] => triggers::types(call, rest),
        ["trigger_instances", rest @ ..] => triggers::instances(call, rest),
        ["webhook_subscriptions", rest @ ..] => webhooks::route(call, rest),
        ["files", rest @ ..] => uploads::route(call, rest),
        ["tool_router", rest @ ..] => sessions::route(call, rest),
        ["mcp", rest @ ..] => sessions::servers(call, rest),
        _ => Err(call.no_route()),
    }
}

/// Returns the slug of the tool that a request executes.
fn executed(method: &str, resource: &str, body: &Value) -> Option<String> {
    let segments: Vec<&str> = resource.split('/').filter(|part| !part.is_empty()).collect();
    match (method, segments.as_slice()) {
        ("POST", ["tools", "execute", slug]) => Some((*slug).to_owned()),
        ("POST", ["tool_router", "session", _, "execute"]) => body["tool_slug"].as_str().map(str::to_owned),
        _ => None,
    }
}

/// One key by one header, and not one that is called invalid.
fn check_key(request: &HttpRequest, config: &ComposioSimConfig) -> Result<(), ApiError> {
    let found = KEY_HEADERS.iter().filter_map(|name| request.headers().get(*name));
    let keys: Vec<&str> = found
        .filter_map(|value| value.to_str().ok())
        .filter(|key| !key.trim().is_empty())
        .collect();
    match keys.as_slice() {
        [] if config.require_key => Err(ApiError::unauthorized("No authentication provided")),
        [key] if config.invalid_keys.iter().any(|bad| key.contains(bad.as_str())) => {
            let shown: String = key.chars().take(5).collect();
            Err(ApiError::unauthorized(format!("Invalid API key: {shown}*****")))
        }
        [] | [_] => Ok(()),
        _ => Err(ApiError::unauthorized(
            "Multiple authentication modes were provided; send exactly one",
        )),
    }
}

/// Collects the texts inside a value.
fn strings<'a>(value: &'a Value, depth: usize, found: &mut Vec<&'a str>) {
    if depth == 0 || found.len() >= MAX_STRINGS {
        return;
    }
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, depth - 1, found)),
        Value::Object(fields) => fields.values().for_each(|item| strings(item, depth - 1, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
