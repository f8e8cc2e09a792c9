//! A server of the real binary with a simulator of its own, and the numbers of a run.

use std::time::Duration;

use kronos_protocol::codec::Codec;
use kronos_sim::{GeminiSim, SimConfig, SimHandle};
use kronos_testkit::{ConnectOptions, KronosOptions, KronosProc};

/// Longest wait for any one thing: the machine may be busy with other tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// The server under test and its upstream.
pub(crate) struct Kronos {
    /// The real binary as a process.
    pub(crate) server: KronosProc,
    /// What it takes for Google.
    pub(crate) gemini: SimHandle,
}

/// The options of the real binary with `gemini` as its model.
pub(crate) fn options(gemini: &SimHandle, env: &[(&str, &str)]) -> KronosOptions {
    let options = KronosOptions::new(env!("CARGO_BIN_EXE_kronos"))
        .env("GEMINI_BASE_URL", gemini.url())
        .env("GEMINI_API_KEY", "test-key")
        .env("LOG_LEVEL", "warn");
    env.iter()
        .fold(options, |options, (name, value)| options.env(*name, *value))
}

/// Starts a simulator that writes `tokens_per_second`.
pub(crate) fn simulator(tokens_per_second: f64) -> SimHandle {
    GeminiSim::start(SimConfig {
        tokens_per_second,
        first_token_ms: 5,
        max_recorded: 100_000,
        ..SimConfig::default()
    })
    .expect("the simulator starts")
}

/// Starts a server whose model writes `tokens_per_second`, with more environment.
pub(crate) async fn kronos(tokens_per_second: f64, env: &[(&str, &str)]) -> Kronos {
    let gemini = simulator(tokens_per_second);
    let server = KronosProc::start(options(&gemini, env)).await;
    Kronos { server, gemini }
}

/// A development guest's connection; every other one speaks MessagePack.
pub(crate) fn guest(user: &str, number: usize) -> ConnectOptions {
    let codec = if number % 2 == 1 { Codec::Msgpack } else { Codec::Json };
    ConnectOptions {
        limit: LIMIT,
        ..ConnectOptions::user(user).codec(codec)
    }
}

/// A number from the environment, or the one for CI.
pub(crate) fn number(name: &str, default: usize) -> usize {
    let value = std::env::var_os(name);
    value.and_then(|value| value.to_str()?.parse().ok()).unwrap_or(default)
}

/// The seed of random decisions: `KRONOS_SEED`.
pub(crate) fn seed() -> u64 {
    u64::try_from(number("KRONOS_SEED", 7)).unwrap_or(7)
}
