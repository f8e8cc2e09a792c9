//! The routes of the Gemini API: three versions, one behaviour.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::auth;
use crate::clock;
use crate::config::SimConfig;
use crate::control;
use crate::directive::{self, Directives, Word};
use crate::error::{ApiError, response};
use crate::generate;
use crate::models;
use crate::random;
use crate::record::{RecordedRequest, Ticket};
use crate::request::GenerateRequest;
use crate::script::{ScriptedError, ScriptedReply};
use crate::shared::Shared;
use crate::stream::Wrapping;
use crate::tokens;
use crate::validate::{self, Shape};

/// Largest request body, as the real service has for inline data.
const MAX_BODY: usize = 100 * 1024 * 1024;
/// Dimensions of an embedding when the request names none.
const DIMENSIONS: u64 = 3072;
/// Largest page of the model list.
const MAX_PAGE: usize = 1000;

pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .configure(control::configure)
        .service(web::resource("/{version:v1|v1beta|v1alpha}/{resource:.*}").to(serve))
        .default_service(web::to(|| async { ApiError::not_found().response(false) }));
}

/// One request with what it needs.
struct Call {
    shared: web::Data<Shared>,
    config: std::sync::Arc<SimConfig>,
    version: String,
    query: String,
    header_faults: String,
    body: Bytes,
    ticket: Ticket,
}

async fn serve(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let config = shared.config();
    let mut ticket = shared
        .recorder
        .open(RecordedRequest::read(&request, &body), config.max_recorded);
    let (version, resource) = path(&request);
    let (target, method) = resource
        .split_once(':')
        .map_or((resource.as_str(), ""), |(target, method)| (target, method));
    if let Err(error) = auth::check(&request, &config) {
        ticket.failed(error.status.to_string());
        return error.response(in_array(method, request.query_string()));
    }
    let header = request
        .headers()
        .get(directive::HEADER)
        .and_then(|value| value.to_str().ok());
    let header_faults = header.unwrap_or_default().to_owned();
    let query = request.query_string().to_owned();
    let call = Call {
        shared,
        config,
        version,
        query,
        header_faults,
        body,
        ticket,
    };
    let model = target
        .strip_prefix("models/")
        .or_else(|| target.strip_prefix("tunedModels/"));
    match (request.method().as_str(), model, method) {
        ("POST", Some(model), "generateContent" | "streamGenerateContent") => call.generate(model, method).await,
        ("POST", Some(model), _) => call.simple(|call| call.on_model(model, method)),
        ("GET", Some(model), "") => call.simple(|call| {
            models::get(model, &call.config).ok_or_else(|| ApiError::unknown_model(model, &call.version, "getModel"))
        }),
        ("GET", None, "") if target == "models" => call.simple(Call::list),
        ("POST", None, "") if target == "cachedContents" => call.simple(Call::cache),
        _ => call.simple(|_| Err(ApiError::not_found())),
    }
}

impl Call {
    /// Answers with a JSON document at once.
    fn simple(mut self, make: impl FnOnce(&Self) -> Result<Value, ApiError>) -> HttpResponse {
        match make(&self) {
            Ok(body) => {
                self.ticket.completed();
                response(200).body(body.to_string())
            }
            Err(error) => {
                self.ticket.failed(error.status.to_string());
                error.response(false)
            }
        }
    }

    async fn generate(mut self, model: &str, method: &str) -> HttpResponse {
        let array = in_array(method, &self.query);
        let request = match self.read(model, method) {
            Ok(request) => request,
            Err(error) => {
                self.ticket.failed(error.status.to_string());
                return error.response(array);
            }
        };
        let script = self.shared.next_script();
        if let Some(error) = script.as_ref().and_then(|script| script.error.as_ref()) {
            self.ticket.failed(error.status.to_string());
            return scripted_error(error, model, array);
        }
        let directives = self.directives(&request, script.as_ref());
        let number = self.ticket.id();
        let reply = match script.filter(|script| script.fault.is_none()) {
            Some(script) => generate::scripted(&request, &script, &self.config, number),
            None => generate::reply(&request, directives, &self.config, number),
        };
        if let Some(refusal) = &reply.directives.refusal {
            let slow = std::time::Duration::from_millis(reply.directives.slow_first_byte_ms);
            tokio::time::sleep_until(self.ticket.started() + slow).await;
            self.ticket.failed(refusal.status().to_string());
            return refusal.response(model, array);
        }
        match (method, array) {
            ("generateContent", _) => reply.send(self.ticket).await,
            (_, true) => reply.stream(Wrapping::Array, self.ticket),
            (_, false) => reply.stream(Wrapping::Sse, self.ticket),
        }
    }

    fn read(&self, model: &str, method: &str) -> Result<GenerateRequest, ApiError> {
        self.check_model(model, method)?;
        let body = validate::parse(&self.body, Shape::Generate)?;
        validate::generate(&body, model)?;
        Ok(GenerateRequest {
            model: model.to_owned(),
            body,
        })
    }

    fn check_model(&self, model: &str, method: &str) -> Result<(), ApiError> {
        let served = models::serves(model, method, &self.config);
        if served {
            Ok(())
        } else {
            Err(ApiError::unknown_model(model, &self.version, method))
        }
    }

    /// Collects what the script, the header, the prompt and chance ask for.
    fn directives(&self, request: &GenerateRequest, script: Option<&ScriptedReply>) -> Directives {
        let text = request.last_said();
        let began = request.turn_said();
        let step = request.step();
        let chance = random::mix(self.config.seed ^ random::mix(self.ticket.id()));
        let random =
            random::pick(&self.config.fault_kinds, chance).filter(|_| random::unit(chance) < self.config.fault_rate);
        let scripted = script.and_then(|script| script.fault.as_deref());
        let mut words: Vec<Word<'_>> = random.map_or_else(Vec::new, |word| directive::parse_list(word));
        let follows = step > 1;
        let mut inherited = follows;
        if self.config.magic_words {
            words.extend(directive::in_text(text));
            inherited &= !words.iter().any(Word::is_about_calls);
            let lasts = |word: &Word<'_>| word.step().is_some() || (word.is_about_calls() && inherited);
            let earlier = directive::in_text(began).into_iter();
            words.extend(earlier.filter(|word| follows && lasts(word)));
        }
        words.extend(directive::parse_list(&self.header_faults));
        words.extend(scripted.map_or_else(Vec::new, directive::parse_list));
        let mut directives = Directives {
            inherited,
            ..Directives::default()
        };
        for word in &words {
            let due = word.step().is_none_or(|wanted| wanted == step);
            let applies = |times| {
                self.shared
                    .still_applies(&format!("{} {began} {text}", word.name()), times)
            };
            if due && word.times.is_none_or(applies) {
                directives.apply(word);
            }
        }
        directives
    }

    fn on_model(&self, model: &str, method: &str) -> Result<Value, ApiError> {
        match method {
            "countTokens" => self.check_model(model, method).and_then(|()| self.count()),
            "embedContent" => {
                self.check_model(model, method)?;
                let body = validate::parse(&self.body, Shape::Embed)?;
                Ok(json!({"embedding": embedding(&body)}))
            }
            "batchEmbedContents" => {
                self.check_model(model, method)?;
                let body = validate::parse(&self.body, Shape::BatchEmbed)?;
                let requests = body["requests"].as_array().map_or(&[][..], Vec::as_slice);
                Ok(json!({"embeddings": requests.iter().map(embedding).collect::<Vec<_>>()}))
            }
            _ => Err(ApiError::not_found()),
        }
    }

    fn count(&self) -> Result<Value, ApiError> {
        let body = validate::parse(&self.body, Shape::CountTokens)?;
        let inner = &body["generateContentRequest"];
        let request = if inner.is_object() { inner } else { &body };
        let instruction = &request["systemInstruction"];
        let system = if instruction.is_null() {
            0
        } else {
            tokens::count_contents(instruction)
        };
        let total = tokens::count_contents(&request["contents"]) + system;
        Ok(json!({"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}))
    }

    fn list(&self) -> Result<Value, ApiError> {
        let number = |name: &str| auth::query_value(&self.query, name).filter(|text| !text.is_empty());
        let parse = |text: String| {
            text.parse::<usize>()
                .map_err(|error| ApiError::invalid(&format!("Invalid page parameter: {error}")))
        };
        let size = number("pageSize")
            .map(parse)
            .transpose()?
            .unwrap_or(50)
            .clamp(1, MAX_PAGE);
        let start = number("pageToken").map(parse).transpose()?.unwrap_or(0);
        let all = models::list(&self.config);
        let page: Vec<&Value> = all.iter().skip(start).take(size).collect();
        let mut answer = json!({"models": page});
        if start + size < all.len() {
            answer["nextPageToken"] = json!((start + size).to_string());
        }
        Ok(answer)
    }

    fn cache(&self) -> Result<Value, ApiError> {
        let body = validate::parse(&self.body, Shape::CachedContent)?;
        let ttl = body["ttl"]
            .as_str()
            .and_then(|ttl| ttl.strip_suffix('s')?.parse::<f64>().ok())
            .unwrap_or(3600.0);
        let now = clock::now();
        let stamp = |at: time::OffsetDateTime| {
            at.format(&time::format_description::well_known::Rfc3339)
                .unwrap_or_default()
        };
        let expires = now.saturating_add(time::Duration::saturating_seconds_f64(ttl));
        Ok(json!({
            "name": format!("cachedContents/sim{}", self.ticket.id()), "model": body["model"],
            "displayName": body["displayName"], "createTime": stamp(now), "updateTime": stamp(now),
            "expireTime": stamp(expires),
            "usageMetadata": {"totalTokenCount": tokens::count_contents(&body["contents"])},
        }))
    }
}

fn scripted_error(error: &ScriptedError, model: &str, in_array: bool) -> HttpResponse {
    let usual = ApiError::status(error.status, model);
    let body = error
        .body
        .clone()
        .unwrap_or_else(|| if in_array { json!([usual.body]) } else { usual.body });
    let mut answer = response(error.status);
    for (name, value) in &error.headers {
        answer.insert_header((name.as_str(), value.as_str()));
    }
    answer.body(body.to_string())
}

/// Makes a vector of length 1 from the text of one embed request.
fn embedding(request: &Value) -> Value {
    let size = request["outputDimensionality"]
        .as_u64()
        .unwrap_or(DIMENSIONS)
        .clamp(1, DIMENSIONS);
    let key = random::hash(0, &request["content"].to_string());
    let raw: Vec<f64> = (0..size).map(|at| random::unit(key ^ random::mix(at)) - 0.5).collect();
    let length = raw
        .iter()
        .map(|value| value * value)
        .sum::<f64>()
        .sqrt()
        .max(f64::MIN_POSITIVE);
    json!({"values": raw.iter().map(|value| value / length).collect::<Vec<_>>()})
}

/// Says whether an answer is a JSON array: a stream without `alt=sse`.
fn in_array(method: &str, query: &str) -> bool {
    method == "streamGenerateContent" && auth::query_value(query, "alt").as_deref() != Some("sse")
}

fn path(request: &HttpRequest) -> (String, String) {
    let part = |name| request.match_info().query(name).to_owned();
    (part("version"), part("resource"))
}
