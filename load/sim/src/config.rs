//! What can be set on a simulator, at the start and while it runs.

use serde::{Deserialize, Serialize};

/// The configuration of a simulator; every field may change while it runs, except `host` and `port`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
    /// Address to listen on. Default `127.0.0.1`.
    pub host: String,
    /// Port to listen on. Default 0: any free one.
    pub port: u16,
    /// Seed of texts, ids and random faults. Default 1.
    pub seed: u64,
    /// Pace of an answer. Default 60; 0 sends as fast as possible.
    pub tokens_per_second: f64,
    /// Time before the first chunk, in milliseconds. Default 150.
    pub first_token_ms: u64,
    /// Tokens (words) in one chunk. Default 4; 0 counts as 1.
    pub tokens_per_chunk: u32,
    /// Adds `createTime` and `simSentUnixNanos` to each chunk: when it left. Default `false`.
    pub stamp_chunks: bool,
    /// Probability from 0 to 1 that a generate request meets one of `fault_kinds`. Default 0.
    pub fault_rate: f64,
    /// Faults of which `fault_rate` picks one, in the words of the README. Default `503`, `429`, `500`.
    pub fault_kinds: Vec<String>,
    /// Requests kept in memory; the oldest goes first. Default 1000.
    pub max_recorded: usize,
    /// Whether a request without an API key gets 403. Default `true`.
    pub require_key: bool,
    /// A key that contains one of these gets 400. Default `invalid`, `bad-key`, `not-a-key`.
    pub invalid_keys: Vec<String>,
    /// Whether `[[words]]` in the last user message have an effect. Default `true`.
    pub magic_words: bool,
    /// Model ids served and listed besides the built-in ones. Default none.
    pub extra_models: Vec<String>,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            seed: 1,
            tokens_per_second: 60.0,
            first_token_ms: 150,
            tokens_per_chunk: 4,
            stamp_chunks: false,
            fault_rate: 0.0,
            fault_kinds: ["503", "429", "500"].map(str::to_owned).to_vec(),
            max_recorded: 1000,
            require_key: true,
            invalid_keys: ["invalid", "bad-key", "not-a-key"].map(str::to_owned).to_vec(),
            magic_words: true,
            extra_models: Vec::new(),
        }
    }
}
