//! What can be set on a Composio simulator, at the start and while it runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The configuration of a Composio simulator; every field may change while it runs, except `host`, `port`, `seed` and
/// `extra_toolkits`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComposioSimConfig {
    /// Address to listen on. Default `127.0.0.1`.
    pub host: String,
    /// Port to listen on. Default 0: any free one.
    pub port: u16,
    /// Seed of ids and other made-up things. Default 1.
    pub seed: u64,
    /// Requests kept in memory; the oldest goes first. Default 1000.
    pub max_recorded: usize,
    /// Whether a request without an API key gets 401. Default `true`.
    pub require_key: bool,
    /// A key that contains one of these gets 401. Default `invalid`, `bad-key`, `not-a-key`.
    pub invalid_keys: Vec<String>,
    /// Whether `[[words]]` in the arguments of a tool have an effect. Default `true`.
    pub magic_words: bool,
    /// How the outside reaches the simulator, for links; the address of the socket when absent.
    pub public_url: Option<String>,
    /// How long a link may be opened and answered, in milliseconds. Default 600,000.
    pub link_expiry_ms: u64,
    /// Whether the redirect after a link carries only a `session_uri`, to be given to `complete_auth`. Default `false`.
    pub verify_callbacks: bool,
    /// Requests a minute that the rate-limit headers announce. Default 2000.
    pub rate_limit: u32,
    /// Whether more requests than `rate_limit` in a minute get 429. Default `false`.
    pub enforce_rate_limit: bool,
    /// Size of the result of `[[big]]`, in bytes. Default 5,000,000.
    pub big_bytes: usize,
    /// Time each tool takes, in milliseconds. Default 0.
    pub tool_ms: u64,
    /// Probability from 0 to 1 that an execution meets one of `fault_kinds`, chosen by seed and number. Default 0.
    pub fault_rate: f64,
    /// Faults of which `fault_rate` picks one, in the words of the README. Default `503`, `429`, `500-after-effect`.
    pub fault_kinds: Vec<String>,
    /// Whether an account that expires is told to the subscribed webhook. Default `true`.
    pub auto_webhooks: bool,
    /// Attempts to deliver a webhook that is not answered by 2xx. Default 3.
    pub webhook_attempts: u32,
    /// Time between two attempts, in milliseconds. Default 500.
    pub webhook_retry_ms: u64,
    /// Toolkits served besides the built-in ones, in the format of the catalogue files. Default none.
    pub extra_toolkits: Vec<Value>,
}

impl Default for ComposioSimConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            seed: 1,
            max_recorded: 1000,
            require_key: true,
            invalid_keys: ["invalid", "bad-key", "not-a-key"].map(str::to_owned).to_vec(),
            magic_words: true,
            public_url: None,
            link_expiry_ms: 600_000,
            verify_callbacks: false,
            rate_limit: 2000,
            enforce_rate_limit: false,
            big_bytes: 5_000_000,
            tool_ms: 0,
            fault_rate: 0.0,
            fault_kinds: ["503", "429", "500-after-effect"].map(str::to_owned).to_vec(),
            auto_webhooks: true,
            webhook_attempts: 3,
            webhook_retry_ms: 500,
            extra_toolkits: Vec::new(),
        }
    }
}
