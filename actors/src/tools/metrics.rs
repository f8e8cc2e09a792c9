//! What the calls of tools cost and how they end.

use std::time::Duration;

use metrics::{counter, histogram};

use super::{BUILTIN, Outcome};
use crate::metrics as names;

/// The source of a toolkit's tools, as metrics name it.
fn source(toolkit: &str) -> &'static str {
    if toolkit == BUILTIN { BUILTIN } else { "composio" }
}

/// A call ended. Calls take milliseconds at least: the handles are looked up each time.
pub(super) fn ended(toolkit: &str, outcome: &Outcome, took: Duration) {
    let outcome = outcome.as_str();
    counter!(names::TOOL_CALLS, "source" => source(toolkit), "outcome" => outcome).increment(1);
    histogram!(names::TOOL_DURATION, "source" => source(toolkit)).record(took.as_secs_f64());
}

/// Nobody waits for a call any more.
pub(super) fn abandoned(toolkit: &str) {
    counter!(names::TOOL_CALLS, "source" => source(toolkit), "outcome" => "abandoned").increment(1);
}

/// A run was offered its tools.
pub(super) fn offered(whole: bool) {
    let result = if whole { "whole" } else { "partial" };
    counter!(names::TOOL_OFFERS, "result" => result).increment(1);
}
