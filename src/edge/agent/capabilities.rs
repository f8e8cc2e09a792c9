//! `GET /agent/capabilities`: what the agent can do here, computed from the configuration.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{HttpResponse, web};
use kronos_actors::tools;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    config::Config,
    edge::{
        EdgeState,
        auth::Caller,
        endpoint::{Endpoint, Tag, get},
        error::ApiError,
    },
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/agent/capabilities"], capabilities)
            .named("agent_capabilities", Tag::Agent, "What the agent can do")
            .about("Computed from the configuration of this server.")
            .returns::<Capabilities>(200, "What it can do", || {
                json!(About::of(&Config::default()).tell(false))
            }),
    ]
}

/// What is known at the start.
#[derive(Debug, Clone)]
pub(super) struct About {
    model: String,
    simulated: bool,
    configured: bool,
    temperature: Option<f64>,
    max_tokens: u32,
    limits: Limits,
    run_deadline: Duration,
}

impl About {
    pub(super) fn of(config: &Config) -> Self {
        let gemini = &config.gemini;
        Self {
            model: gemini.model.clone(),
            simulated: gemini.simulated,
            configured: gemini.simulated || gemini.api_key.is_some(),
            temperature: gemini.temperature,
            max_tokens: gemini.max_tokens,
            run_deadline: config.session.run_deadline,
            limits: Limits {
                message_chars: config.session.message_chars,
                context_chars: config.agent.context_chars,
                client_tools: config.agent.client_tools,
                queued_messages: config.session.inbox_messages,
                run_seconds: config.session.run_deadline.as_secs_f64(),
                run_attempts: config.session.max_run_attempts,
                steps: config.session.max_steps,
                calls_per_step: config.session.max_calls_per_step,
                tool_result_bytes: config.session.tool_result_bytes,
                question_seconds: config.session.question_timeout.as_secs_f64(),
                body_bytes: config.server.body_bytes,
                requests_per_window: config.server.rate_limit_per_user,
                window_seconds: config.server.rate_limit_window.as_secs_f64(),
            },
        }
    }

    fn tell(&self, composio: bool) -> Capabilities {
        let features = BTreeMap::from([
            ("answers", self.configured),
            ("approvals", true),
            ("built_in_tools", !tools::built_in().is_empty()),
            ("client_tools", self.limits.client_tools > 0),
            ("composio_tools", composio),
            ("intent_analysis", self.configured),
            ("multi_turn", true),
            ("parallel_tool_calls", self.limits.calls_per_step > 1),
            ("resume_after_restart", true),
            ("streaming", true),
        ]);
        let capabilities = features.iter().filter(|(_, on)| **on).map(|(name, _)| *name);
        Capabilities {
            name: "Kronos",
            version: env!("CARGO_PKG_VERSION"),
            capabilities: capabilities.collect(),
            ag_ui: self.ag_ui(),
            tools: tools::built_in().into_iter().map(|tool| tool.name).collect(),
            features,
            limits: self.limits,
            supported_languages: ["*"],
            model_info: ModelInfo {
                provider: "google",
                model: self.model.clone(),
                configured: self.configured,
                simulated: self.simulated,
                temperature: self.temperature,
                max_tokens: self.max_tokens,
            },
        }
    }

    /// The same in the words of AG-UI's `AgentCapabilities`.
    pub(super) fn ag_ui(&self) -> Value {
        json!({
            "identity": {
                "name": "Kronos",
                "type": "kronos",
                "version": env!("CARGO_PKG_VERSION"),
                "provider": "google",
                "metadata": {"model": self.model},
            },
            "transport": {"streaming": true, "websocket": false, "httpBinary": false, "pushNotifications": false,
                "resumable": false},
            "tools": {"supported": true, "items": built_in(), "parallelCalls": self.limits.calls_per_step > 1,
                "clientProvided": self.limits.client_tools > 0},
            "state": {"snapshots": false, "deltas": false, "persistentState": false},
            "multiAgent": {"supported": false},
            "reasoning": {"supported": true, "streaming": true, "encrypted": false},
            "execution": {"codeExecution": false, "maxIterations": self.limits.steps, "maxExecutionTime": millis(self.run_deadline)},
            "humanInTheLoop": {"supported": true, "approvals": true, "interrupts": true, "approveWithEdits": true},
        })
    }
}

/// The tools that need no other service.
fn built_in() -> Vec<Value> {
    let tools = tools::built_in().into_iter();
    let shown = tools.map(|tool| {
        let mut shown = json!({"name": tool.name, "description": tool.description});
        if let Some(parameters) = tool.parameters {
            shown["parameters"] = parameters.as_ref().clone();
        }
        shown
    });
    shown.collect()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// What the agent can do.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentCapabilities")]
struct Capabilities {
    name: &'static str,
    version: &'static str,
    /// The names of the features that are on.
    capabilities: Vec<&'static str>,
    /// By name, whether it is on here.
    features: BTreeMap<&'static str, bool>,
    limits: Limits,
    /// Names of the built-in tools; those of connected accounts depend on the user.
    tools: Vec<String>,
    /// Language ranges (RFC 4647): `*`, whatever the model speaks.
    supported_languages: [&'static str; 1],
    model_info: ModelInfo,
    /// The same as AG-UI's `AgentCapabilities`.
    ag_ui: Value,
}

/// Bounds of the agent.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "AgentLimits")]
struct Limits {
    /// Characters of a message.
    message_chars: usize,
    /// Characters of the context that comes with one.
    context_chars: usize,
    /// Tools that an AG-UI client may bring.
    client_tools: usize,
    /// Messages that may wait behind a run.
    queued_messages: usize,
    /// Wall time of a run.
    run_seconds: f64,
    /// Runs of a turn when crashes interrupt them.
    run_attempts: u32,
    /// Steps of a turn: answers of the model, each with its calls.
    steps: u32,
    /// Calls that the model may make at once.
    calls_per_step: usize,
    /// Bytes of a call's result that the model reads.
    tool_result_bytes: usize,
    /// Time in which a person must answer a question.
    question_seconds: f64,
    /// Bytes of a request's body.
    body_bytes: usize,
    /// Requests of a user in a window; 0: no limit.
    requests_per_window: u32,
    /// That window.
    window_seconds: f64,
}

/// The model that answers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentModel")]
struct ModelInfo {
    provider: &'static str,
    model: String,
    /// It can be asked.
    configured: bool,
    /// A simulator answers in its place.
    simulated: bool,
    /// How freely words are chosen; null: as the model does.
    temperature: Option<f64>,
    /// Most tokens of an answer.
    max_tokens: u32,
}

async fn capabilities(state: web::Data<EdgeState>, _caller: Caller) -> Result<HttpResponse, ApiError> {
    let told = state.agent.about.tell(state.wiring.composio.health().configured);
    std::future::ready(Ok(HttpResponse::Ok().json(told))).await
}
