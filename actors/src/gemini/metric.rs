//! The names of this service's metrics. Label values come from closed sets only.

/// Generations that ended, counter. `outcome`: `finished`, `truncated`, `cancelled`, `abandoned` (the session was gone), or
/// the code of a failure.
pub const REQUESTS: &str = "kronos_gemini_requests_total";
/// Time from a request to the first text or thought of its answer, histogram.
pub const FIRST_TOKEN: &str = "kronos_gemini_first_token_seconds";
/// Tokens of all requests, counter. `kind`: `prompt` (cached ones included), `cached`, `answer`, `thoughts`.
pub const TOKENS: &str = "kronos_gemini_tokens_total";
/// Attempts that were repeated, counter. `reason`: the code of the failure.
pub const RETRIES: &str = "kronos_gemini_retries_total";
/// Generations that hold a permit, gauge.
pub const RUNNING: &str = "kronos_gemini_running";
/// Generations that wait for a permit, gauge.
pub const WAITING: &str = "kronos_gemini_waiting";
