//! Held handles of the service's metrics: looking one up costs more than counting. And what is counted once for a generation.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::Usage;
use crate::{config::GeminiConfig, metrics as names};

/// The label of models that nobody configured: a client may ask for any.
const OTHER: &str = "other";

/// Handles of the service's metrics; those with labels are looked up once for each generation.
pub(super) struct GeminiMetrics {
    /// Generations that hold a permit.
    pub(super) running: Gauge,
    /// Generations that wait for one.
    pub(super) waiting: Gauge,
    /// Generations that may hold one.
    pub(super) limit: Gauge,
    /// How long each waited for it.
    pub(super) permit_wait: Histogram,
    /// What the circuit breaker does.
    pub(super) circuit: Gauge,
    /// Attempts after the first that could be paid for.
    pub(super) retry_budget: Gauge,
    /// Time to the first text.
    pub(super) first_token: Histogram,
    /// Panics of the service.
    pub(super) restarts: Counter,
}

/// The handles. Ask for them only after the recorder is installed: earlier ones count nothing.
pub(super) fn handles() -> &'static GeminiMetrics {
    static HANDLES: LazyLock<GeminiMetrics> = LazyLock::new(|| GeminiMetrics {
        running: gauge!(names::GEMINI_RUNNING),
        waiting: gauge!(names::GEMINI_WAITING),
        limit: gauge!(names::GEMINI_LIMIT),
        permit_wait: histogram!(names::PERMIT_WAIT, "upstream" => "gemini"),
        circuit: gauge!(names::GEMINI_CIRCUIT),
        retry_budget: gauge!(names::GEMINI_RETRY_BUDGET),
        first_token: histogram!(names::GEMINI_FIRST_TOKEN),
        restarts: counter!(names::GEMINI_RESTARTS),
    });
    &HANDLES
}

/// Begins the series of the models that are known beforehand.
pub(super) fn begin(config: &GeminiConfig) {
    names::touch_model(&config.model);
    for model in config.prices.keys() {
        gauge!(names::GEMINI_COST, "model" => model.clone()).increment(0.0);
    }
}

/// A generation is over.
pub(super) fn ended(config: &GeminiConfig, model: &str, outcome: &'static str) {
    let model = label(config, model).to_owned();
    counter!(names::GEMINI_REQUESTS, "model" => model, "outcome" => outcome).increment(1);
}

/// An attempt is over that took so many tokens.
pub(super) fn used(config: &GeminiConfig, model: &str, usage: &Usage) {
    for (kind, tokens) in [
        ("prompt", usage.prompt),
        ("cached", usage.cached),
        ("answer", usage.answer),
        ("thoughts", usage.thoughts),
    ] {
        if tokens > 0 {
            counter!(names::GEMINI_TOKENS, "kind" => kind).increment(tokens);
        }
    }
    if let Some(price) = config.prices.get(model) {
        gauge!(names::GEMINI_COST, "model" => model.to_owned()).increment(price.of(usage));
    }
}

fn label<'a>(config: &GeminiConfig, model: &'a str) -> &'a str {
    let known = model == config.model || config.prices.contains_key(model);
    if known { model } else { OTHER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_chooses_a_label() {
        let config = GeminiConfig {
            model: "ours".to_owned(),
            ..GeminiConfig::default()
        };
        assert_eq!(label(&config, "ours"), "ours");
        assert_eq!(label(&config, "gemini-3.5-flash-lite"), "gemini-3.5-flash-lite");
        assert_eq!(label(&config, "gemini-of-a-client"), OTHER);
    }
}
