//! The rows of `[gemini]` and `[gemini_sim]`.

use std::collections::BTreeMap;

use kronos_actors::config::ModelPrice;

use super::{
    Setting, narrow,
    rows::{HOUR, KIB, MIB, MINUTE, MS, bytes, integer, span, word},
    size,
};
use crate::config::{Config, value::Kind};

/// What stands for "send no thinking level".
const NO_LEVEL: &str = "none";

/// The default of `GEMINI_PRICES`.
const PRICES: &str = r#"{"gemini-3.5-flash-lite": {"prompt": 0.3, "answer": 2.5}, "gemini-3.6-flash": {"prompt": 1.5, "answer": 7.5}, "gemini-3.8-flash": {"prompt": 1.5, "answer": 7.5}, "gemini-4-argon": {"prompt": 4.0, "cached": 0.2, "answer": 20.0}}"#;

/// Most models with a price: each is a label in metrics.
const MAX_PRICES: usize = 100;
/// Longest name of one.
const MAX_MODEL_NAME: usize = 128;

fn read_prices(config: &mut Config, text: &str) -> bool {
    let Ok(prices) = serde_json::from_str::<BTreeMap<String, ModelPrice>>(text) else {
        return false;
    };
    let is_name = |name: &str| {
        (1..=MAX_MODEL_NAME).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    let good = prices.len() <= MAX_PRICES && prices.iter().all(|(name, price)| is_name(name) && price.is_sane());
    if good {
        config.gemini.prices = prices;
    }
    good
}

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "gemini.api_key",
        "GEMINI_API_KEY",
        "",
        Kind::Secret(|c, v| c.gemini.api_key = Some(v)),
        "Key of Google Gemini; unset: the simulator in development and testing, else not configured.",
    ),
    Setting::new(
        "gemini.model",
        "GEMINI_MODEL",
        "gemini-3.8-flash",
        Kind::Text(|c, v| c.gemini.model = v),
        "Model of a run that names none.",
    ),
    Setting::new(
        "gemini.prices",
        "GEMINI_PRICES",
        PRICES,
        Kind::Other {
            allowed: r#"a JSON object of at most 100 prices by model such as {"gemini-3.8-flash": {"prompt": 1.5, "cached": 0.15, "answer": 7.5}}"#,
            read: read_prices,
        },
        "US dollars for a million tokens of prompt, of cached prompt (absent: as the prompt) and of answer with its thoughts, for an \
         estimate of the cost; the defaults are list prices of November 2026. A model without a price costs nothing in metrics.",
    ),
    Setting::new(
        "gemini.temperature",
        "GEMINI_TEMPERATURE",
        "",
        Kind::Float {
            min: 0.0,
            max: 2.0,
            set: |c, v| c.gemini.temperature = Some(v),
        },
        "Temperature of a run that names none; unset: the model's own.",
    ),
    Setting::new(
        "gemini.max_tokens",
        "GEMINI_MAX_TOKENS",
        "8192",
        integer(1, 65_536, |c, v| c.gemini.max_tokens = narrow(v)),
        "Most tokens of one answer.",
    ),
    Setting::new(
        "gemini.thinking_level",
        "GEMINI_THINKING_LEVEL",
        "LOW",
        word(&["MINIMAL", "LOW", "MEDIUM", "HIGH", NO_LEVEL], |c, v| {
            c.gemini.thinking_level = (v != NO_LEVEL).then(|| v.to_owned());
        }),
        "How long the model thinks before it answers; `none` sends no level.",
    ),
    Setting::new(
        "gemini.system_prompt",
        "GEMINI_SYSTEM_PROMPT",
        "",
        Kind::Text(|c, v| c.gemini.system_prompt = Some(v)),
        "System prompt of a run that names none.",
    ),
    Setting::new(
        "gemini.base_url",
        "GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
        Kind::Url(|c, v| c.gemini.base_url = v),
        "Address of Gemini, without a version.",
    ),
    Setting::new(
        "gemini.api_version",
        "GEMINI_API_VERSION",
        "v1beta",
        Kind::Text(|c, v| c.gemini.api_version = v),
        "API version in the path.",
    ),
    Setting::new(
        "gemini.connect_timeout",
        "GEMINI_CONNECT_TIMEOUT",
        "5s",
        span(10 * MS, 10 * MINUTE, |c, v| c.gemini.connect_timeout = v),
        "Time to connect.",
    ),
    Setting::new(
        "gemini.first_byte_timeout",
        "GEMINI_FIRST_BYTE_TIMEOUT",
        "60s",
        span(10 * MS, HOUR, |c, v| c.gemini.first_byte_timeout = v),
        "Time from the request to the first byte of the answer.",
    ),
    Setting::new(
        "gemini.idle_timeout",
        "GEMINI_IDLE_TIMEOUT",
        "60s",
        span(10 * MS, HOUR, |c, v| c.gemini.idle_timeout = v),
        "Longest silence within an answer.",
    ),
    Setting::new(
        "gemini.analysis_timeout",
        "GEMINI_ANALYSIS_TIMEOUT",
        "60s",
        span(100 * MS, HOUR, |c, v| c.gemini.analysis_timeout = v),
        "Time in which an analysis of a text must be done.",
    ),
    Setting::new(
        "gemini.max_attempts",
        "GEMINI_MAX_ATTEMPTS",
        "4",
        integer(1, 20, |c, v| c.gemini.max_attempts = narrow(v)),
        "Attempts of one generation while nothing was shown.",
    ),
    Setting::new(
        "gemini.backoff",
        "GEMINI_BACKOFF",
        "500ms",
        span(MS, 10 * MINUTE, |c, v| c.gemini.backoff = v),
        "First pause between attempts, doubled each time, with jitter.",
    ),
    Setting::new(
        "gemini.max_backoff",
        "GEMINI_MAX_BACKOFF",
        "20s",
        span(MS, HOUR, |c, v| c.gemini.max_backoff = v),
        "Longest pause between attempts; at least GEMINI_BACKOFF.",
    ),
    Setting::new(
        "gemini.retry_ratio",
        "GEMINI_RETRY_RATIO",
        "0.2",
        Kind::Float {
            min: 0.0,
            max: 100.0,
            set: |c, v| c.gemini.retry_ratio = v,
        },
        "Attempts after the first that each success of the process pays for.",
    ),
    Setting::new(
        "gemini.retry_burst",
        "GEMINI_RETRY_BURST",
        "20",
        integer(0, 1_000_000, |c, v| c.gemini.retry_burst = narrow(v)),
        "Attempts after the first that are paid for at the start, and at most; 0 repeats none.",
    ),
    Setting::new(
        "gemini.max_concurrent",
        "GEMINI_MAX_CONCURRENT",
        "256",
        integer(1, 100_000, |c, v| c.gemini.max_concurrent = size(v)),
        "Generations at once in this process.",
    ),
    Setting::new(
        "gemini.min_concurrent",
        "GEMINI_MIN_CONCURRENT",
        "8",
        integer(1, 100_000, |c, v| c.gemini.min_concurrent = size(v)),
        "Generations at once that are left when the model pushes back; at most GEMINI_MAX_CONCURRENT counts.",
    ),
    Setting::new(
        "gemini.max_concurrent_per_user",
        "GEMINI_MAX_CONCURRENT_PER_USER",
        "8",
        integer(1, 100_000, |c, v| c.gemini.max_concurrent_per_user = size(v)),
        "Generations at once of one user.",
    ),
    Setting::new(
        "gemini.max_waiting",
        "GEMINI_MAX_WAITING",
        "4096",
        integer(0, 1_000_000, |c, v| c.gemini.max_waiting = size(v)),
        "Generations that may wait for a permit.",
    ),
    Setting::new(
        "gemini.event_bytes",
        "GEMINI_EVENT_BYTES",
        "1MiB",
        bytes(4 * KIB, 256 * MIB, |c, v| c.gemini.event_bytes = size(v)),
        "Bytes of one event of the answer's stream.",
    ),
    Setting::new(
        "gemini.max_functions",
        "GEMINI_MAX_FUNCTIONS",
        "64",
        integer(1, 512, |c, v| c.gemini.max_functions = size(v)),
        "Functions that are declared to the model in one request; those beyond it are not offered.",
    ),
    Setting::new(
        "gemini.breaker_failures",
        "GEMINI_BREAKER_FAILURES",
        "8",
        integer(1, 10_000, |c, v| c.gemini.breaker_failures = narrow(v)),
        "Failures in a row that open the circuit.",
    ),
    Setting::new(
        "gemini.breaker_open",
        "GEMINI_BREAKER_OPEN",
        "5s",
        span(10 * MS, HOUR, |c, v| c.gemini.breaker_open = v),
        "Time for which an open circuit refuses before it lets one attempt through.",
    ),
    Setting::new(
        "gemini_sim.tokens_per_second",
        "GEMINI_SIM_TOKENS_PER_SECOND",
        "60",
        Kind::Float {
            min: 0.0,
            max: 100_000.0,
            set: |c, v| c.simulator.tokens_per_second = v,
        },
        "Pace of the simulated model, in tokens per second; 0 for as fast as it can.",
    ),
    Setting::new(
        "gemini_sim.seed",
        "GEMINI_SIM_SEED",
        "1",
        integer(0, u64::MAX, |c, v| c.simulator.seed = v),
        "Seed of the simulated model: the same seed, the same answers.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_up_to_their_bounds() {
        let mut config = Config::default();
        assert!(read_prices(&mut config, r#"{"m": {"prompt": 1, "answer": 2}}"#));
        assert_eq!(config.gemini.prices.len(), 1);
        for text in [
            "[]",
            r#"{"m": 1}"#,
            r#"{"m": {"prompt": 1}}"#,
            r#"{"m": {"prompt": -1, "answer": 2}}"#,
            r#"{"m": {"prompt": 1, "answer": 1000001}}"#,
            r#"{"m": {"prompt": 1, "answer": 2, "thoughts": 3}}"#,
            r#"{"": {"prompt": 1, "answer": 2}}"#,
            r#"{"a model": {"prompt": 1, "answer": 2}}"#,
        ] {
            assert!(!read_prices(&mut config, text), "{text}");
        }
        let prices = |n: usize| {
            let prices = (0..n).map(|n| (format!("m{n}"), serde_json::json!({"prompt": 1, "answer": 2})));
            serde_json::Value::Object(prices.collect()).to_string()
        };
        for (n, good) in [(99, true), (100, true), (101, false)] {
            assert_eq!(read_prices(&mut config, &prices(n)), good, "{n}");
        }
        assert_eq!(config.gemini.prices.len(), 100);
    }
}
