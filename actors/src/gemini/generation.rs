//! One generation from its request to its last event: permit, attempts, pauses between them, deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::counter;
use tokio::time::timeout;
use tracing::Span;

use super::client;
use super::declare::Declarations;
use super::failure::{self, Failure, Retry};
use super::metrics::{ended, used};
use super::outlet::Outlet;
use super::shared::GeminiShared;
use super::timing::Timing;
use super::{Caller, Finished, GenerateRequest, Progress, Usage};
use crate::flight::Phase;
use crate::metrics::{GEMINI_FUNCTIONS_LEFT_OUT, GEMINI_RETRIES, refused};
use crate::trace::{self, TraceContext};
use crate::upstream::{Permit, Refused, Reserved};

/// Who waits longer than this for a permit is told: until then the pause looks like any other before a first word.
const WAITING_IS_TOLD_AFTER: Duration = Duration::from_secs(1);
/// The bound that refuses attempts after the first.
const RETRY_BUDGET: &str = "gemini_retry_budget";

/// Why work on a generation ends without an answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed.
    Failed(Failure),
    /// No attempt was made: the circuit is open, for about this long. Whoever waited here would come back together with
    /// everybody else.
    CircuitOpen(Duration),
    /// Nobody listens any more.
    SinkGone,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A generation in progress.
pub(super) struct Generation {
    pub(super) shared: Arc<GeminiShared>,
    pub(super) client: reqwest::Client,
    pub(super) outlet: Outlet,
    /// The model as it was asked for.
    pub(super) model: String,
    pub(super) attempts: u32,
    /// Tokens of the attempt in progress.
    pub(super) usage: Usage,
    /// The session has text of the answer: no attempt may follow.
    pub(super) shown: bool,
    /// The session knows that the upstream accepted.
    pub(super) announced: bool,
    /// Where its time goes.
    pub(super) timing: Timing,
    request: GenerateRequest,
    span: Span,
    /// Its place in a trace, for the upstream.
    pub(super) trace: Option<Arc<TraceContext>>,
    /// One attempt may be repeated for a failure that may have been chance.
    second_chance: bool,
    outcome: &'static str,
}

impl Generation {
    /// Makes a generation that has not begun.
    pub(super) fn new(
        shared: Arc<GeminiShared>,
        client: reqwest::Client,
        mut request: GenerateRequest,
        outlet: Outlet,
        caller: Caller,
    ) -> Self {
        let model = request.model.take().unwrap_or_else(|| shared.config.model.clone());
        // A name that cannot be one is somebody's text.
        let named = client::model_path(&model).map_or("", |_path| &model);
        let span = caller.span.in_scope(|| trace::generation(named, &request.session));
        let trace = caller.scope.enter(|| trace::outgoing(&span));
        let timing = Timing::new(request.timeline.take(), &model);
        Self {
            timing,
            shared,
            client,
            outlet,
            model,
            attempts: 0,
            usage: Usage::default(),
            shown: false,
            announced: false,
            request,
            span,
            trace,
            second_chance: true,
            outcome: "cancelled",
        }
    }

    /// Runs it to its last event, or until it is cancelled, which drops it at once and with it its connection.
    pub(super) async fn run(self) {
        let cancel = self.outlet.cancellation();
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.run_to_its_end() => {}
        }
    }

    async fn run_to_its_end(mut self) {
        let deadline = self.request.deadline.into();
        let result = match tokio::time::timeout_at(deadline, self.work()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Failure::deadline().into()),
        };
        let result = result.map_err(|stop| match stop {
            Stop::Failed(failure) => Some(failure),
            Stop::CircuitOpen(after) => Some(Failure::circuit_open(after)),
            Stop::SinkGone => None,
        });
        let last = match result {
            Ok(finished) => {
                self.outcome = if finished.truncated { "truncated" } else { "finished" };
                trace::generated(&self.span, &finished);
                tracing::info!(
                    run.id = %self.request.run, session.id = %self.request.session, user.id = %self.request.user,
                    model = %finished.model, reason = finished.finish_reason, attempts = self.attempts, tokens = self.usage.total,
                    "generation finished"
                );
                Progress::Finished(finished)
            }
            Err(Some(failure)) => {
                self.outcome = failure.code.as_str();
                self.log(&failure);
                Progress::Failed(failure.into_failed(self.usage, self.attempts))
            }
            Err(None) => {
                self.outcome = "abandoned";
                return self.outlet.abandon();
            }
        };
        self.outlet.end(last);
    }

    /// Everything but the last event. The permit is given back when this ends, not when the session has read the end.
    async fn work(&mut self) -> Result<Finished, Stop> {
        #[cfg(test)]
        assert!(self.model != super::tests::POISON_OF_A_GENERATION, "a bomb");
        if !self.shared.is_configured() {
            return Err(Failure::not_configured().into());
        }
        // The time-out round this asks for the answer first and looks at the clock then: too late for a request.
        if self.request.deadline <= self.shared.clock.instant() {
            return Err(Failure::deadline().into());
        }
        let path = client::model_path(&self.model).ok_or_else(Failure::bad_model_name)?;
        let most = self.shared.config.max_functions;
        let declared = self.shared.prepared.of(&self.request.functions, most);
        let offered = declared
            .iter()
            .enumerate()
            .filter(|(_, function)| !function.is_refused());
        let mut offered: Vec<usize> = offered.map(|(at, _)| at).collect();
        let mut body = client::body(&self.request, &declared, &offered, &self.shared.config)?;
        // The conversation is in the body now: waiting generations should not hold it twice.
        self.request.contents = Vec::new();
        self.timing.enter(Some(Phase::Permit));
        let _permit = self.permit().await?;
        self.timing.enter(None);
        let mut paid = None;
        loop {
            let mut failure = match self.attempt(&path, body.clone(), paid.take()).await {
                Ok(finished) => return Ok(finished),
                Err(Stop::Failed(failure)) => failure,
                Err(stop @ (Stop::CircuitOpen(_) | Stop::SinkGone)) => return Err(stop),
            };
            if let Some(smaller) = self.isolate(&failure, &declared, &mut offered, &body) {
                body = smaller;
                continue;
            }
            let Some(pause) = self.pause_after(&mut failure) else {
                return Err(failure.into());
            };
            paid = self.shared.retries.reserve();
            if paid.is_none() {
                refused(RETRY_BUDGET);
                failure.reason.get_or_insert_with(|| RETRY_BUDGET.to_owned());
                return Err(failure.into());
            }
            counter!(GEMINI_RETRIES, "reason" => failure.code.as_str()).increment(1);
            let retrying = Progress::Retrying {
                attempt: self.attempts + 1,
                code: failure.code,
                after_ms: failure::millis(pause),
            };
            self.timing.retry();
            self.outlet.emit(retrying).await?;
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits for the right to ask.
    async fn permit(&self) -> Result<Permit, Stop> {
        let permits = Arc::clone(&self.shared.permits);
        let user = self.request.user.clone();
        let mut acquired = std::pin::pin!(permits.acquire(&user));
        let acquired = match timeout(WAITING_IS_TOLD_AFTER, &mut acquired).await {
            Ok(acquired) => acquired,
            Err(_elapsed) => {
                self.outlet.emit(Progress::Waiting).await?;
                acquired.await
            }
        };
        acquired.map_err(|Refused { after }| {
            refused(failure::WAITING);
            Failure::overloaded(after).into()
        })
    }

    /// Makes one attempt, if the circuit lets it, and tells circuit, budget and health how it went. `paid` goes back when
    /// it does not.
    async fn attempt(&mut self, path: &str, body: Bytes, paid: Option<Reserved>) -> Result<Finished, Stop> {
        let breaker = Arc::clone(&self.shared.breaker);
        let mut pass = match breaker.enter() {
            Ok(pass) => pass,
            Err(open) => return Err(Stop::CircuitOpen(open.after)),
        };
        if let Some(paid) = paid {
            paid.spend();
        }
        self.count_tokens();
        self.attempts += 1;
        self.timing.attempt();
        let result = self.exchange(path, body, &mut pass).await;
        self.timing.enter(None);
        match &result {
            Ok(_) => self.shared.note_end(None),
            Err(Stop::Failed(failure)) => {
                self.shared.note_end(Some(failure));
                if failure.outage {
                    pass.fail();
                } else {
                    pass.succeed();
                }
            }
            Err(Stop::CircuitOpen(_) | Stop::SinkGone) => {}
        }
        result
    }

    /// Returns the pause before the next attempt, or nothing if there is to be none: then the failure says when to come back,
    /// as far as it is known.
    fn pause_after(&mut self, failure: &mut Failure) -> Option<Duration> {
        if self.shown || self.attempts >= self.shared.config.max_attempts {
            return None;
        }
        match failure.retry {
            Retry::Never | Retry::Otherwise => return None,
            Retry::Once if !std::mem::take(&mut self.second_chance) => return None,
            Retry::Once | Retry::Always => {}
        }
        let backoff = self.shared.backoff;
        let pause = match failure.after {
            Some(wanted) => backoff.pause_of_at_least(wanted, self.attempts)?,
            None => backoff.pause(self.attempts),
        };
        if let Some(open) = self.shared.breaker.refuses_for().filter(|open| *open > pause) {
            // Whoever waits for it would come back together with everybody else.
            failure.after = failure.after.max(Some(open));
            return None;
        }
        let left = self
            .request
            .deadline
            .saturating_duration_since(self.shared.clock.instant());
        (pause < left).then_some(pause)
    }

    /// Returns the body without the functions that the upstream named when it refused the request: one that it does not take
    /// would end every turn. `offered` are the places in `declared` of those in the body; none: it was done already.
    fn isolate(
        &self,
        failure: &Failure,
        declared: &Declarations,
        offered: &mut Vec<usize>,
        body: &[u8],
    ) -> Option<Bytes> {
        let named = |place: &usize| offered.get(*place).is_some();
        let places: Vec<usize> = failure.functions.iter().copied().filter(named).collect();
        if self.shown || places.is_empty() {
            return None;
        }
        let offered = std::mem::take(offered);
        for function in places.iter().filter_map(|place| declared.get(*offered.get(*place)?)) {
            function.refuse();
            counter!(GEMINI_FUNCTIONS_LEFT_OUT, "reason" => "refused").increment(1);
            tracing::warn!(
                run.id = %self.request.run, session.id = %self.request.session, user.id = %self.request.user, function = function.name,
                "gemini refused the declaration of a function, which is left out"
            );
        }
        client::without_functions(body, &places)
    }

    fn log(&self, failure: &Failure) {
        let (run, session, user) = (&self.request.run, &self.request.session, &self.request.user);
        let (code, reason, fields) = (
            failure.code.as_str(),
            failure.reason.as_deref(),
            failure.fields.as_deref(),
        );
        if failure.operator || failure.code == kronos_protocol::error::RunErrorCode::Internal {
            tracing::error!(
                run.id = %run, session.id = %session, user.id = %user, code, status = failure.status, reason, fields,
                attempts = self.attempts, "generation failed, and will until somebody mends it"
            );
        } else {
            tracing::warn!(
                run.id = %run, session.id = %session, user.id = %user, code, status = failure.status, reason, fields,
                attempts = self.attempts, "generation failed"
            );
        }
    }

    /// Counts the tokens of the attempt that ends here, whatever ended it.
    fn count_tokens(&mut self) {
        let usage = std::mem::take(&mut self.usage);
        used(&self.shared.config, &self.model, &usage);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.count_tokens();
        let outcome = if std::thread::panicking() {
            "internal"
        } else {
            self.outcome
        };
        if !matches!(outcome, "finished" | "truncated") {
            trace::failed(&self.span, outcome);
        }
        ended(&self.shared.config, &self.model, outcome);
    }
}
