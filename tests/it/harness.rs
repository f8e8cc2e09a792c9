//! A server of the real binary with a simulator of its own.

use kronos_protocol::codec::Codec;
use kronos_sim::{GeminiSim, SimConfig, SimHandle};
use kronos_testkit::{ConnectOptions, KronosOptions, KronosProc, WsClient};

/// The server under test and its upstream.
pub(crate) struct Kronos {
    /// The real binary as a process.
    pub(crate) server: KronosProc,
    /// What it takes for Google.
    pub(crate) gemini: SimHandle,
}

/// Starts a server; tokens come fast.
pub(crate) async fn kronos() -> Kronos {
    kronos_with(400.0, &[]).await
}

/// Starts a server whose model writes `tokens_per_second`, with more environment.
pub(crate) async fn kronos_with(tokens_per_second: f64, env: &[(&str, &str)]) -> Kronos {
    let config = SimConfig {
        tokens_per_second,
        first_token_ms: 5,
        ..SimConfig::default()
    };
    let gemini = GeminiSim::start(config).expect("the simulator starts");
    let mut options = KronosOptions::new(env!("CARGO_BIN_EXE_kronos"))
        .env("GEMINI_BASE_URL", gemini.url())
        .env("GEMINI_API_KEY", "test-key")
        .env("LOG_LEVEL", "warn");
    for (name, value) in env {
        options = options.env(*name, *value);
    }
    Kronos {
        server: KronosProc::start(options).await,
        gemini,
    }
}

impl Kronos {
    /// Connects as a development guest.
    pub(crate) async fn client(&self, user: &str) -> WsClient {
        self.server.connect(ConnectOptions::user(user)).await
    }

    /// Connects as a development guest with MessagePack.
    pub(crate) async fn msgpack(&self, user: &str) -> WsClient {
        self.server
            .connect(ConnectOptions::user(user).codec(Codec::Msgpack))
            .await
    }

    /// The conversation as REST shows it: `role: text` lines.
    pub(crate) async fn stored(&self, user: &str, session: &str) -> Vec<String> {
        let path = format!("/api/v1/chat/{session}?user_id={user}");
        let body = self.server.get(&path, &[]).await.expect(200);
        body["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| {
                format!(
                    "{}: {}",
                    message["role"].as_str().unwrap(),
                    message["content"].as_str().unwrap_or_default()
                )
            })
            .collect()
    }

    /// The value of one series of `/metrics`, labels and all; 0 when it does not exist.
    pub(crate) async fn series(&self, name: &str) -> u64 {
        let text = self.server.get("/metrics", &[]).await.text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    }

    /// How often `bound` refused something.
    pub(crate) async fn refusals(&self, bound: &str) -> u64 {
        self.series(&format!("kronos_refusals_total{{bound=\"{bound}\"}}"))
            .await
    }

    /// How often a connection was closed with `code`.
    pub(crate) async fn closes(&self, code: u16) -> u64 {
        self.series(&format!("kronos_closes_total{{code=\"{code}\"}}")).await
    }
}

/// A number from the environment, or the one for CI.
pub(crate) fn number(name: &str, default: usize) -> usize {
    let value = std::env::var_os(name);
    value.and_then(|value| value.to_str()?.parse().ok()).unwrap_or(default)
}
