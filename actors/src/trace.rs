//! Where work belongs: spans of runs, generations and tool calls, and what goes with them from task to task.
//!
//! Spans of the target [`TARGET`] are for an exporter of traces only: without one they are never made. Nothing here holds
//! what was said, arguments or results.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
};

use kronos_protocol::ids::{ConnectionId, RunId, SessionId, UserId};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    gemini::{Finished, Usage},
    tools::Execution,
};

/// The target of spans that log lines do not mention.
pub const TARGET: &str = "kronos::trace";
/// What a model's service is called by OpenTelemetry's conventions.
const PROVIDER: &str = "gcp.gemini";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that is passed on, in bytes.
const STATE_BYTES: usize = 512;

/// A place in a trace, as the W3C's headers write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: String,
    state: Option<String>,
}

impl TraceContext {
    /// Reads the headers `traceparent` and `tracestate`; `None` when the first is not as W3C Trace Context, section 3.2, has
    /// it. A second that cannot be passed on is left out.
    #[must_use]
    pub fn read(parent: &str, state: Option<&str>) -> Option<Self> {
        if !is_traceparent(parent) {
            return None;
        }
        let passable = |state: &&str| {
            !state.is_empty() && state.len() <= STATE_BYTES && state.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        Some(Self {
            parent: parent.to_owned(),
            state: state.filter(passable).map(str::to_owned),
        })
    }

    /// Returns `traceparent`.
    #[must_use]
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// Returns `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Writes the headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(parent) = HeaderValue::from_str(&self.parent) {
            headers.insert(TRACEPARENT, parent);
        }
        if let Some(Ok(state)) = self.state().map(HeaderValue::from_str) {
            headers.insert(TRACESTATE, state);
        }
    }
}

fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, span, flags) = (next(), next(), next(), next());
    let more = parts.next();
    let sound = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    sound
        && version != "ff"
        && some(trace)
        && some(span)
        // A later version may have more.
        && more.is_none_or(|more| version != "00" && more.len() <= STATE_BYTES && more.is_ascii())
}

/// What exports spans; at most one in a process.
pub trait Tracer: Send + Sync {
    /// Makes a span that was not entered yet the child of a place elsewhere, or only links it there.
    fn join(&self, span: &Span, place: &TraceContext, link: bool);
    /// Returns the place of a span.
    fn place(&self, span: &Span) -> Option<TraceContext>;
    /// Sets an attribute that is a list of one word.
    fn list(&self, span: &Span, name: &'static str, word: &str);
    /// Gives a span another name.
    fn rename(&self, span: &Span, name: String);
}

static TRACER: OnceLock<Box<dyn Tracer>> = OnceLock::new();

/// Sets what exports spans; the first stays.
pub fn install(tracer: Box<dyn Tracer>) {
    drop(TRACER.set(tracer));
}

/// Whether spans are exported.
#[must_use]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// Makes a span that was not entered yet the child of a place elsewhere, or only links it there.
pub fn join(span: &Span, place: Option<&TraceContext>, link: bool) {
    if let (Some(tracer), Some(place)) = (TRACER.get(), place) {
        tracer.join(span, place, link);
    }
}

/// Says on the span of an HTTP request how it was answered.
pub fn answered(span: &Span, method: &str, route: &str, status: u16) {
    let Some(tracer) = TRACER.get() else { return };
    tracer.rename(span, format!("{method} {route}"));
    span.record("http.route", route);
    span.record("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.to_string());
    }
}

/// What goes with work from task to task, beside its span.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The id of the HTTP request that it is done for.
    pub request: Option<Arc<str>>,
    /// The place in a trace that whoever asked for it named: what is passed on where no spans are exported.
    pub trace: Option<Arc<TraceContext>>,
}

tokio::task_local! {
    static SCOPE: Scope;
}

impl Scope {
    /// The scope of this task.
    #[must_use]
    pub fn current() -> Self {
        SCOPE.try_with(Clone::clone).unwrap_or_default()
    }

    /// Does some work in this scope.
    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        SCOPE.sync_scope(self, work)
    }

    /// Does the work of a task in this scope.
    pub fn around<F: Future>(self, work: F) -> impl Future<Output = F::Output> + use<F> {
        SCOPE.scope(self, work)
    }
}

/// Returns the id of the HTTP request that this task serves.
#[must_use]
pub fn request() -> Option<Arc<str>> {
    SCOPE.try_with(|scope| scope.request.clone()).ok().flatten()
}

/// Takes work to another task: it keeps the span and the scope of this one.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    Scope::current().around(work.in_current_span())
}

/// Returns the place in a trace that a request to another service names, made within this span.
#[must_use]
pub fn outgoing(span: &Span) -> Option<Arc<TraceContext>> {
    let own = TRACER.get().and_then(|tracer| tracer.place(span));
    own.map(Arc::new)
        .or_else(|| SCOPE.try_with(|scope| scope.trace.clone()).ok().flatten())
}

/// What began a run.
#[derive(Debug, Clone, Default)]
pub struct Cause {
    /// The HTTP request.
    pub request: Option<Arc<str>>,
    /// The websocket.
    pub connection: Option<ConnectionId>,
    /// Its place in a trace.
    pub trace: Option<Arc<TraceContext>>,
}

impl Cause {
    /// The HTTP request that this task serves; `None` when it serves none.
    #[must_use]
    pub fn here() -> Option<Box<Self>> {
        let request = request()?;
        Some(Box::new(Self {
            request: Some(request),
            connection: None,
            trace: outgoing(&Span::current()),
        }))
    }
}

/// A run's span, and what goes with its work. Dropped, the span ends.
#[derive(Debug, Default)]
pub struct RunTrace {
    span: Option<Span>,
    trace: Option<Arc<TraceContext>>,
}

impl RunTrace {
    /// Begins the span of a run. What a websocket began is linked to it, as one may begin many; a request's is its child.
    #[must_use]
    pub fn begin(cause: Option<Box<Cause>>, run: &RunId, session: &SessionId, user: &UserId) -> Self {
        let cause = cause.unwrap_or_default();
        tracing::debug!(
            run.id = %run, session.id = %session, user.id = %user, request.id = cause.request.as_deref(),
            connection.id = cause.connection.as_ref().map(tracing::field::display), "run begins"
        );
        let span = tracing::error_span!(
            target: TARGET, parent: None, "run", otel.name = "invoke_agent kronos", otel.kind = "internal",
            otel.status_code = Empty, gen_ai.operation.name = "invoke_agent", gen_ai.provider.name = PROVIDER,
            gen_ai.agent.name = "kronos", gen_ai.conversation.id = %session, run.id = %run, session.id = %session,
            user.id = %user, error.type = Empty,
        );
        join(&span, cause.trace.as_deref(), cause.connection.is_some());
        Self {
            span: Some(span),
            trace: cause.trace,
        }
    }

    /// Does what begins work for the run.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let scope = Scope {
            request: None,
            trace: self.trace.clone(),
        };
        match &self.span {
            Some(span) => scope.enter(|| span.in_scope(work)),
            None => scope.enter(work),
        }
    }

    /// Does the work of a task for the run.
    pub fn carry<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.enter(|| carried(work))
    }

    /// The run failed.
    pub fn failed(&self, code: &str) {
        if let Some(span) = &self.span {
            failed(span, code);
        }
    }
}

/// Says on a span why its work failed: a code, never a text.
pub fn failed(span: &Span, code: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", code);
}

/// Begins the span of a generation, within that of its run or of the request that asks.
#[must_use]
pub fn generation(model: &str, session: &SessionId) -> Span {
    tracing::error_span!(
        target: TARGET, "generation", otel.name = %format_args!("chat {model}"), otel.kind = "client",
        otel.status_code = Empty, gen_ai.operation.name = "chat", gen_ai.provider.name = PROVIDER,
        gen_ai.request.model = model, gen_ai.conversation.id = %session, gen_ai.response.model = Empty,
        gen_ai.response.id = Empty, gen_ai.usage.input_tokens = Empty, gen_ai.usage.output_tokens = Empty,
        error.type = Empty,
    )
}

/// Says on a generation's span how it ended.
pub fn generated(span: &Span, finished: &Finished) {
    if span.is_disabled() {
        return;
    }
    let Usage {
        prompt,
        answer,
        thoughts,
        ..
    } = finished.usage;
    span.record("gen_ai.response.model", finished.model.as_str());
    span.record("gen_ai.response.id", finished.response_id.as_deref());
    // Numbers without a sign are exported as text.
    let number = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    span.record("gen_ai.usage.input_tokens", number(prompt));
    span.record("gen_ai.usage.output_tokens", number(answer.saturating_add(thoughts)));
    if let Some(tracer) = TRACER.get() {
        tracer.list(span, "gen_ai.response.finish_reasons", &finished.finish_reason);
    }
}

/// Begins the span of a tool's call: the lines of whoever makes it say which it was.
#[must_use]
pub fn tool(call: &Execution) -> Span {
    let tool = call.tool.as_str();
    tracing::error_span!(
        "tool", run.id = %call.run, session.id = %call.session, user.id = %call.user, call.id = call.call, tool,
        otel.name = %format_args!("execute_tool {tool}"), otel.kind = "internal", otel.status_code = Empty,
        gen_ai.operation.name = "execute_tool", gen_ai.tool.name = tool, gen_ai.tool.call.id = call.call,
        gen_ai.tool.type = "extension", error.type = Empty,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_taken_as_the_w3c_has_it() {
        let read = |parent: &str| TraceContext::read(parent, None).is_some();
        assert!(read(GOOD));
        assert!(read(&GOOD.replace("-01", "-00")));
        assert!(read(&format!("{}-later", GOOD.replacen("00", "01", 1))));
        for bad in [
            "",
            "nonsense",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace("b7ad6b7169203331", "b7ad6b716920333"),
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!(" {GOOD}"),
        ] {
            assert!(!read(bad), "{bad}");
        }
    }

    #[test]
    fn a_tracestate_is_passed_on_up_to_its_bound() {
        let state = |state: &str| TraceContext::read(GOOD, Some(state)).unwrap().state;
        assert_eq!(state("a=1,b=2").as_deref(), Some("a=1,b=2"));
        assert!(state(&"x".repeat(STATE_BYTES - 1)).is_some());
        assert!(state(&"x".repeat(STATE_BYTES)).is_some());
        for bad in ["", "a\nb", "ä", &"x".repeat(STATE_BYTES + 1)] {
            assert_eq!(state(bad), None, "{bad}");
        }
    }
}
