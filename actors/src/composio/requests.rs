//! One request with all that guards it: permit, circuit, attempts while nothing can have happened, pauses between them.

use std::time::{Duration, Instant};

use kronos_protocol::ids::UserId;
use serde_json::Value;
use tokio::time::timeout_at;

use super::{
    client::{Answer, Ask, Op},
    failure::{ComposioError, ComposioErrorKind},
    metrics,
    service::Service,
    shared::Probed,
    wire::{self, Page},
};
use crate::{ids, metrics as names, upstream::Refused};

/// Whose permits the server's own requests take.
const SERVER: &str = "@server";
/// Pages read of one list.
const MAX_PAGES: usize = 20;
/// Longest wait for the answer to a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

impl Service {
    /// Makes a request for a user and reads its answer as JSON.
    pub(super) async fn ask(&self, user: Option<&UserId>, ask: Ask) -> Result<Value, ComposioError> {
        let time = self.shared.config.request_timeout;
        let deadline = self.shared.clock.instant() + time.saturating_mul(2);
        let answer = self.send(user, &ask, time, deadline).await?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).map_err(|_not_json| ComposioError::unreadable())
    }

    /// Makes a request: each attempt within `time`, all of them before `deadline`.
    pub(super) async fn send(
        &self,
        user: Option<&UserId>,
        ask: &Ask,
        time: Duration,
        deadline: Instant,
    ) -> Result<Answer, ComposioError> {
        if !self.shared.is_configured() {
            return Err(ComposioError::not_configured());
        }
        let server = UserId::from_trusted(SERVER.to_owned());
        let acquired = self.shared.permits.acquire(user.unwrap_or(&server));
        let _permit = match timeout_at(deadline.into(), acquired).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(Refused { after })) => {
                names::refused("composio_waiting");
                return Err(ComposioError::overloaded(after));
            }
            Err(_elapsed) => return Err(ComposioError::too_late()),
        };
        let mut attempts = 0;
        let mut paid = None;
        loop {
            attempts += 1;
            let error = match self.attempt(ask, time, deadline, paid.take()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(pause) = self.pause_after(ask, &error, attempts, deadline) else {
                return Err(error);
            };
            paid = self.shared.retries.reserve();
            if paid.is_none() {
                names::refused("composio_retry_budget");
                return Err(error);
            }
            metrics::retry(error.kind.as_str());
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        ask: &Ask,
        time: Duration,
        deadline: Instant,
        paid: Option<crate::upstream::Reserved>,
    ) -> Result<Answer, ComposioError> {
        let mut pass = match self.shared.breaker.enter() {
            Ok(pass) => pass,
            Err(open) => return Err(ComposioError::circuit_open(open.after)),
        };
        if let Some(paid) = paid {
            paid.spend();
        }
        let begun = self.shared.clock.instant();
        if deadline <= begun {
            return Err(ComposioError::too_late());
        }
        let until = deadline.min(begun + time);
        let request_id = ids::upstream_request();
        let limit = self.shared.config.max_response_bytes;
        let exchange = self.shared.endpoint.exchange(&self.client, ask, &request_id, limit);
        let result = timeout_at(until.into(), exchange)
            .await
            .unwrap_or_else(|_elapsed| Err(ComposioError::silent()));
        let took = self.shared.clock.instant().saturating_duration_since(begun);
        let outage = result.as_ref().err().is_some_and(|error| is_outage(ask.op, error));
        if outage {
            pass.fail();
        } else {
            pass.succeed();
        }
        self.shared.note_end(result.as_ref().err(), outage);
        if ask.op != Op::Execute && result.as_ref().is_ok_and(|_| !outage) {
            self.shared.note_latency(took);
        }
        let outcome = result.as_ref().err().map_or("ok", |error| error.kind.as_str());
        metrics::request(ask.op.as_str(), outcome, took);
        if let Err(error) = &result {
            log(ask.op, error, &request_id);
        }
        result
    }

    /// Returns the pause before the next attempt, or nothing if there is to be none.
    fn pause_after(&self, ask: &Ask, error: &ComposioError, attempts: u32, deadline: Instant) -> Option<Duration> {
        let may_help = matches!(
            error.kind,
            ComposioErrorKind::RateLimited | ComposioErrorKind::Unavailable | ComposioErrorKind::Timeout
        );
        // What left and may have had an effect is not sent again, unless it has none, or the same one.
        let harmless = ask.safe || !error.left;
        if !may_help || !harmless || attempts >= self.shared.config.max_attempts {
            return None;
        }
        let backoff = self.shared.backoff;
        let pause = match error.after {
            Some(wanted) => backoff.pause_of_at_least(wanted, attempts)?,
            None => backoff.pause(attempts),
        };
        if self.shared.breaker.refuses_for().is_some_and(|open| open > pause) {
            return None;
        }
        let left = deadline.saturating_duration_since(self.shared.clock.instant());
        (pause < left).then_some(pause)
    }

    /// Reads all pages of a list, at most [`MAX_PAGES`] of `limit` items: a cursor that comes again, or a page without items,
    /// is the end as well.
    pub(super) async fn pages<T>(
        &self,
        user: Option<&UserId>,
        ask: &Ask,
        limit: usize,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, ComposioError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = ask.clone().with("limit", limit.to_string());
            let page = page.with_some("cursor", cursor.clone());
            let Page {
                items: more,
                next_cursor,
                ..
            } = wire::page(&self.ask(user, page).await?, &read);
            let is_empty = more.is_empty();
            items.extend(more);
            if is_empty || next_cursor.is_none() || next_cursor == cursor {
                break;
            }
            cursor = next_cursor;
        }
        Ok(items)
    }

    /// Asks for the shortest list that a key is needed for, unless something was heard lately. Takes no permit, and neither
    /// opens nor closes the circuit: that is for requests that count.
    pub(super) async fn probe(&self, quiet: Duration) -> Probed {
        let shared = &self.shared;
        let told = shared.silent_for().is_some_and(|silence| silence < quiet);
        if told || shared.config.simulated || !shared.is_configured() {
            return Probed::NotNeeded;
        }
        let ask = Ask::get(Op::Probe, "toolkits").with("limit", "1");
        let begun = shared.clock.instant();
        let request_id = ids::upstream_request();
        let exchange = shared
            .endpoint
            .exchange(&self.client, &ask, &request_id, shared.config.max_response_bytes);
        let result = tokio::time::timeout(PROBE_PATIENCE, exchange)
            .await
            .unwrap_or_else(|_elapsed| Err(ComposioError::silent()));
        let took = shared.clock.instant().saturating_duration_since(begun);
        match result {
            Ok(_) => {
                shared.note_probe(Ok(took));
                Probed::Answered
            }
            // It answers: that is what was asked.
            Err(error) if matches!(error.status, Some(400 | 404)) => {
                shared.note_probe(Ok(took));
                Probed::Answered
            }
            Err(error) => {
                tracing::warn!(
                    kind = error.kind.as_str(),
                    status = error.status,
                    "composio does not answer a probe"
                );
                shared.note_probe(Err(&error));
                Probed::Failed
            }
        }
    }
}

/// Whether a failure says something about Composio. A tool that takes too long, or fails in a way of its own, does not: one
/// user's broken tool must not close the door for all.
fn is_outage(op: Op, error: &ComposioError) -> bool {
    match error.kind {
        ComposioErrorKind::Unavailable | ComposioErrorKind::Timeout => {
            op != Op::Execute || !error.left || error.status == Some(503)
        }
        _ => false,
    }
}

fn log(op: Op, error: &ComposioError, request_id: &str) {
    let (op, kind) = (op.as_str(), error.kind.as_str());
    let (status, slug, theirs) = (error.status, error.slug.as_deref(), error.request_id.as_deref());
    match error.kind {
        ComposioErrorKind::Auth => tracing::error!(
            op,
            status,
            upstream.request = request_id,
            "composio does not accept this server's key"
        ),
        ComposioErrorKind::NotFound | ComposioErrorKind::Refused | ComposioErrorKind::Conflict => tracing::debug!(
            op,
            kind,
            status,
            slug,
            upstream.request = request_id,
            upstream.their_request = theirs,
            "composio refused a request"
        ),
        _ => tracing::warn!(
            op,
            kind,
            status,
            slug,
            upstream.request = request_id,
            upstream.their_request = theirs,
            "a request to composio failed"
        ),
    }
}
