//! The Gemini service against the simulator over real HTTP: every promise of the service, every way to fail.

#[cfg(test)]
#[path = "gemini/harness.rs"]
mod harness;

#[cfg(test)]
#[path = "gemini/answers.rs"]
mod answers;

#[cfg(test)]
#[path = "gemini/failures.rs"]
mod failures;

#[cfg(test)]
#[path = "gemini/functions.rs"]
mod functions;

#[cfg(test)]
#[path = "gemini/bounds.rs"]
mod bounds;

#[cfg(test)]
#[path = "gemini/probe.rs"]
mod probe;
