//! Turns a request into the chunks of its answer: what is said, how it is cut, when each chunk is due.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::answer;
use crate::chunk::{Chunk, Content, Envelope};
use crate::config::SimConfig;
use crate::directive::{self, Directives, Finish, Framing};
use crate::models;
use crate::random;
use crate::request::GenerateRequest;
use crate::schema;
use crate::script::{ScriptedChunk, ScriptedEnd, ScriptedReply};
use crate::stream::{Reply, with_separators};
use crate::tokens;
use crate::tools;

/// Tokens a thought summary costs.
const THOUGHT_TOKENS: u32 = 81;
/// Answer tokens of one function call.
const CALL_TOKENS: u32 = 12;

/// Makes the answer to a request.
pub(crate) fn reply(request: &GenerateRequest, directives: Directives, config: &SimConfig, number: u64) -> Reply {
    let mut chunks = chunks(request, &directives, config);
    if directives.framing == Framing::LineSeparator {
        separate_lines(&mut chunks);
    }
    pace(&mut chunks, &directives, config);
    Reply {
        envelope: envelope(request, config, number),
        chunks,
        directives,
    }
}

/// Makes the answer a script asks for, from the chunks it gives.
pub(crate) fn scripted(request: &GenerateRequest, script: &ScriptedReply, config: &SimConfig, number: u64) -> Reply {
    let mut due = Duration::ZERO;
    let mut chunks = Vec::new();
    for (at, step) in script.chunks.iter().enumerate() {
        due += Duration::from_millis(step.delay_ms);
        let mut chunk = scripted_chunk(step, at, chunks.is_empty());
        chunk.due = due;
        chunks.push(chunk);
    }
    let mut directives = Directives::default();
    let broken = |word: &str| {
        let mut directives = Directives::default();
        directive::parse_list(word)
            .iter()
            .for_each(|word| directives.apply(word));
        directives.broken
    };
    let after = chunks.len();
    let mut last = Chunk::text("", 0);
    last.due = due;
    match &script.end {
        ScriptedEnd::Stop => last.set("finishReason", json!("STOP")),
        ScriptedEnd::Finish(reason) => last.set("finishReason", json!(reason)),
        ScriptedEnd::Truncate => directives.broken = broken("truncate-clean"),
        ScriptedEnd::Cut => directives.broken = broken("cut"),
        ScriptedEnd::Stall => directives.broken = broken("stall"),
    }
    chunks.push(last);
    directives.broken = directives.broken.map(|(_, broken)| (after, broken));
    Reply {
        envelope: envelope(request, config, number),
        chunks,
        directives,
    }
}

fn scripted_chunk(step: &ScriptedChunk, at: usize, first: bool) -> Chunk {
    let text = |text: &str, thought: bool| {
        let count = tokens::count(text);
        if thought {
            Chunk {
                thought_tokens: count,
                ..Chunk::parts(vec![json!({"text": text, "thought": true})], 0)
            }
        } else {
            Chunk::text(text, count)
        }
    };
    if let Some(json) = &step.json {
        Chunk::new(Content::Literal(json.clone()), 0)
    } else if let Some(raw) = &step.raw {
        Chunk::new(Content::Raw(raw.clone()), 0)
    } else if let Some(call) = &step.call {
        let mut call = call.clone();
        if call["id"].is_null() {
            call["id"] = json!(format!("call_{at}"));
        }
        let mut part = json!({"functionCall": call});
        if first {
            part["thoughtSignature"] = call_signature(&part["functionCall"]);
        }
        Chunk::parts(vec![part], CALL_TOKENS)
    } else if let Some(thought) = &step.thought {
        text(thought, true)
    } else {
        text(step.text.as_deref().unwrap_or_default(), false)
    }
}

fn envelope(request: &GenerateRequest, config: &SimConfig, number: u64) -> Envelope {
    let prompt_tokens = request.prompt_tokens();
    let cached = request.body["cachedContent"]
        .as_str()
        .is_some_and(|name| !name.is_empty());
    let id = random::mix(config.seed ^ random::mix(number));
    Envelope {
        model: request.model.clone(),
        response_id: base64::engine::general_purpose::URL_SAFE_NO_PAD
            .encode([id, number].map(u64::to_be_bytes).concat()),
        prompt_tokens,
        cached_tokens: if cached { prompt_tokens / 2 } else { 0 },
        stamped: config.stamp_chunks,
    }
}

/// Makes the chunks without their times.
fn chunks(request: &GenerateRequest, directives: &Directives, config: &SimConfig) -> Vec<Chunk> {
    let prompt = directive::strip(&request.last_text());
    let seed = random::hash(config.seed, &format!("{}{:?}", request.model, request.turns()));
    match &directives.finish {
        Some(Finish::Blocked) => return vec![Chunk::new(Content::Blocked, 0)],
        Some(Finish::Malformed) => {
            let message = json!("Malformed function call: print(default_api.");
            return vec![end("MALFORMED_FUNCTION_CALL", &[("finishMessage", message)])];
        }
        Some(Finish::Empty) => return vec![end("STOP", &[])],
        Some(Finish::MaxTokens { with_text: false }) => {
            return vec![Chunk {
                thought_tokens: THOUGHT_TOKENS,
                ..end("MAX_TOKENS", &[])
            }];
        }
        Some(Finish::Continue) => return continuation(request),
        Some(Finish::Safety | Finish::Reason(_) | Finish::MaxTokens { with_text: true }) | None => {}
    }
    let calls = tools::decide(request, directives, &prompt, config.seed);
    if !calls.is_empty() {
        return call_chunks(calls, models::generation(&request.model) >= (3, 0));
    }
    let text = answer_text(request, directives, &prompt, seed);
    text_chunks(request, directives, config, &text, seed)
}

/// Returns the whole text of the answer, before any limit.
fn answer_text(request: &GenerateRequest, directives: &Directives, prompt: &str, seed: u64) -> String {
    let settings = request.config();
    let schema = [
        &settings["responseJsonSchema"],
        &settings["responseSchema"],
        &settings["responseFormat"]["text"]["schema"],
    ];
    if let Some(schema) = schema.into_iter().find(|schema| !schema.is_null()) {
        return schema::fill(schema, prompt);
    }
    let text = if let Some(words) = directives.words {
        answer::words(words, seed)
    } else {
        answer::compose(request, prompt, seed)
    };
    if settings["responseMimeType"] == "application/json" {
        json!({"answer": text}).to_string()
    } else {
        text
    }
}

/// Cuts a text into chunks and adds thoughts, limits and the end.
fn text_chunks(
    request: &GenerateRequest,
    directives: &Directives,
    config: &SimConfig,
    text: &str,
    seed: u64,
) -> Vec<Chunk> {
    let settings = request.config();
    let thinks = models::generation(&request.model) >= (3, 0);
    let mut text = text;
    for stop in settings["stopSequences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        text = text
            .split_once(stop)
            .filter(|_| !stop.is_empty())
            .map_or(text, |(before, _)| before);
    }
    let mut tokens = tokens::split(text);
    let limit = settings["maxOutputTokens"]
        .as_u64()
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    let told = |finish| directives.finish.as_ref() == Some(finish);
    let mut finish = Chunk::parts(vec![json!({"text": ""})], 0);
    let mut reason = "STOP";
    if tokens.len() > limit || told(&Finish::MaxTokens { with_text: true }) {
        tokens.truncate(limit.min(tokens.len() / 2 + 1).max(1));
        reason = "MAX_TOKENS";
    }
    if let Some(Finish::Safety | Finish::Reason(_)) = &directives.finish {
        tokens.truncate(2);
        (reason, finish) = blocked_end(directives.finish.as_ref());
    }
    let size = usize::try_from(config.tokens_per_chunk.max(1)).unwrap_or(1);
    let piece = |tokens: &[&str]| Chunk::text(&tokens.concat(), u32::try_from(tokens.len()).unwrap_or(u32::MAX));
    let mut chunks: Vec<Chunk> = tokens.chunks(size).map(piece).collect();
    if summarises_thoughts(settings, directives) {
        chunks.insert(0, thought(seed));
    }
    if reason == "STOP" && thinks {
        let part = json!({"text": "", "thoughtSignature": signature(seed)});
        finish = Chunk::parts(vec![part], 0);
    } else if reason == "STOP" || reason == "MAX_TOKENS" {
        // Without a signature the reason comes with the last text.
        finish = chunks.pop().unwrap_or(finish);
    }
    finish.set("finishReason", json!(reason));
    chunks.push(finish);
    chunks
}

/// Returns the reason and the closing chunk of an answer that is withheld.
fn blocked_end(finish: Option<&Finish>) -> (&str, Chunk) {
    let rating = json!([{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": true}]);
    match finish {
        Some(Finish::Reason(reason)) => (reason.as_str(), end(reason, &[])),
        _ => ("SAFETY", end("SAFETY", &[("safetyRatings", rating)])),
    }
}

/// Says whether the answer starts with a thought summary.
fn summarises_thoughts(settings: &Value, directives: &Directives) -> bool {
    let thinking = &settings["thinkingConfig"];
    let level = thinking["thinkingLevel"]
        .as_str()
        .unwrap_or("MEDIUM")
        .to_ascii_uppercase();
    let hard = directives.think || matches!(level.as_str(), "MEDIUM" | "HIGH" | "XHIGH");
    thinking["includeThoughts"] == true && hard && thinking["thinkingBudget"] != 0
}

fn thought(seed: u64) -> Chunk {
    let title = random::pick(&["Considering", "Weighing options", "Planning the answer"], seed)
        .copied()
        .unwrap_or_default();
    let text = format!("**{title}**\n\nI look at the question and at what was said before.\n");
    let chunk = Chunk::parts(vec![json!({"text": text, "thought": true})], 0);
    Chunk {
        thought_tokens: THOUGHT_TOKENS,
        ..chunk
    }
}

/// Function calls: from generation 3 one chunk each, signature on the first, then an empty closing chunk.
fn call_chunks(calls: Vec<Value>, separate: bool) -> Vec<Chunk> {
    let message = json!("Model generated function call(s).");
    let mut parts: Vec<Value> = calls.into_iter().map(|call| json!({"functionCall": call})).collect();
    if !separate {
        let count = u32::try_from(parts.len()).unwrap_or(1) * CALL_TOKENS;
        for part in &mut parts {
            part["functionCall"].as_object_mut().map(|call| call.remove("id"));
        }
        let mut chunk = Chunk::parts(parts, count);
        chunk.set("finishReason", json!("STOP"));
        return vec![chunk];
    }
    if let Some(first) = parts.first_mut() {
        first["thoughtSignature"] = call_signature(&first["functionCall"]);
    }
    let mut chunks: Vec<Chunk> = parts
        .into_iter()
        .map(|part| Chunk::parts(vec![part], CALL_TOKENS))
        .collect();
    let mut last = Chunk::text("", 0);
    last.set("finishReason", json!("STOP"));
    last.set("finishMessage", message);
    chunks.push(last);
    chunks
}

/// The two hops of a long answer.
fn continuation(request: &GenerateRequest) -> Vec<Chunk> {
    let second = request.body["continuationToken"].is_string();
    let mut chunk = Chunk::text(if second { "second half." } else { "First half, " }, 2);
    chunk.set("finishReason", json!(if second { "STOP" } else { "CONTINUATION" }));
    if !second {
        chunk.set("continuationToken", json!(STANDARD.encode("resume-1")));
    }
    vec![chunk]
}

/// A closing chunk without parts.
fn end(reason: &str, fields: &[(&str, Value)]) -> Chunk {
    let mut beside: Map<String, Value> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    beside.insert("finishReason".to_owned(), json!(reason));
    Chunk::new(
        Content::Candidate {
            parts: Vec::new(),
            beside,
        },
        0,
    )
}

/// A signature by which the call that comes back is told from others.
fn call_signature(call: &Value) -> Value {
    json!(crate::signature::of_call(call))
}

fn signature(seed: u64) -> Value {
    json!(STANDARD.encode([b"sim-signature-".as_slice(), &seed.to_be_bytes()].concat()))
}

/// Puts raw line separators into the first text.
fn separate_lines(chunks: &mut [Chunk]) {
    for chunk in chunks {
        if let Content::Candidate { parts, .. } = &mut chunk.content
            && let Some(part) = parts
                .first_mut()
                .filter(|part| part["text"].as_str().is_some_and(|text| !text.is_empty()))
        {
            *part = with_separators(part["text"].as_str().unwrap_or_default());
            return;
        }
    }
}

/// Sets when each chunk is due: the first after its latency, the others by the tokens before them.
fn pace(chunks: &mut [Chunk], directives: &Directives, config: &SimConfig) {
    let latency = Duration::from_millis(config.first_token_ms.saturating_add(directives.slow_first_byte_ms));
    let mut before = 0_u32;
    for chunk in chunks {
        let seconds = if config.tokens_per_second > 0.0 {
            f64::from(before) / config.tokens_per_second
        } else {
            0.0
        };
        chunk.due = latency + Duration::try_from_secs_f64(seconds).unwrap_or_default();
        before = before.saturating_add(chunk.tokens);
    }
}
