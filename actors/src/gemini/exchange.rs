//! One request to the upstream and its answer: time-outs, reading, showing.

use std::pin::Pin;
use std::time::{Duration, Instant};

use actix::dev::RecipientRequest;
use bytes::Bytes;
use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use tokio::time::{Sleep, timeout};

use super::answer::Answer;
use super::failure::{self, Failure};
use super::generation::{Generation, Stop};
use super::metrics::handles;
use super::stream::EventReader;
use super::wire::ErrorStatus;
use super::{Finished, GenerationEvent, Progress};
use crate::flight::Phase;
use crate::metrics::is_measured;
use crate::upstream::Pass;

/// Most bytes of an error's body that are read: Google's have a few hundred.
const ERROR_BYTES: usize = 64 * 1024;
/// Longest time in which an error's body must come: it says why, and no more.
const ERROR_PATIENCE: Duration = Duration::from_secs(5);
/// Time for what may follow the finish reason, which is nothing but the end of the body.
const AFTER_FINISH: Duration = Duration::from_millis(500);
/// Bytes of text that may wait while the session handles an event; beyond them the answer is not read on.
const READ_AHEAD: usize = 8 * 1024;

impl Generation {
    /// Makes one request and shows its answer as it comes.
    pub(super) async fn exchange(&mut self, path: &str, body: Bytes, pass: &mut Pass) -> Result<Finished, Stop> {
        let asked_at = self.shared.clock.instant();
        let patience = self.shared.config.first_byte_timeout;
        let trace = self.trace.as_deref();
        let asked = self.shared.endpoint.post(&self.client, path, body, trace);
        let response = match timeout(patience, asked).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure::transport(&error).into()),
            Err(_elapsed) => return Err(Failure::silent().into()),
        };
        if !response.status().is_success() {
            return Err(refusal(response).await.into());
        }
        if !std::mem::replace(&mut self.announced, true) {
            self.outlet
                .emit(Progress::Started {
                    model: self.model.clone(),
                })
                .await?;
        }
        let mut reading = Reading {
            reader: EventReader::new(self.shared.config.event_bytes),
            answer: Answer::default(),
            handled: Box::pin(None),
            asked_at,
            oldest: None,
            now: None,
        };
        let end = self.read(response, &mut reading, pass).await;
        self.timing.enter(None);
        // Whatever ended it: what came before is shown.
        while self.show_next(&mut reading) {
            reading.until_handled().await?;
        }
        end?;
        if reading.reader.saw_foreign_lines() && !self.shown && !reading.answer.is_finished() {
            return Err(Failure::unreadable().into());
        }
        Ok(reading.answer.finish(&self.model)?)
    }

    /// Reads to the end. While the session handles one event the answer is read on, and what comes is the next one.
    async fn read(&mut self, mut response: Response, reading: &mut Reading, pass: &mut Pass) -> Result<(), Stop> {
        let elapsed = self.since(reading.asked_at);
        let mut silence = Silence::new(self.shared.config.first_byte_timeout.saturating_sub(elapsed));
        let mut first = true;
        loop {
            self.show_next(reading);
            let has_room = reading.answer.waiting_bytes() < READ_AHEAD;
            let received = tokio::select! {
                biased;
                handled = reading.until_handled(), if reading.handled.is_some() => {
                    handled?;
                    let now = silence.begin();
                    reading.now = self.timing.is_on().then_some(now);
                    continue;
                }
                received = response.chunk(), if has_room => Some(received),
                () = silence.is_too_long(), if has_room => None,
            };
            let bytes = match received {
                Some(Ok(Some(bytes))) => bytes,
                Some(Ok(None)) => break,
                Some(Err(_)) | None if reading.answer.is_finished() => break,
                Some(Err(_broken)) => return Err(Failure::broken().into()),
                None => return Err(Failure::silent().into()),
            };
            let begun = if self.timing.is_on() || reading.oldest.is_none() && is_measured() {
                let now = self.shared.clock.instant();
                self.timing.enter_at(Some(Phase::Parse), now);
                reading.oldest.get_or_insert(now);
                Some(now)
            } else {
                None
            };
            if std::mem::take(&mut first) {
                begun.into_iter().for_each(|now| self.timing.first_byte(now));
                self.shared.note_first_byte(self.since(reading.asked_at));
                silence.bound(self.shared.config.idle_timeout);
            }
            self.take(&bytes, reading, pass)?;
            let now = if reading.answer.is_finished() {
                silence.bound(AFTER_FINISH)
            } else {
                silence.begin()
            };
            self.timing.enter_at(Some(Phase::Upstream), now);
            reading.now = self.timing.is_on().then_some(now);
        }
        self.take_the_end(reading)
    }

    /// Takes the events that are complete.
    fn take(&mut self, bytes: &[u8], reading: &mut Reading, pass: &mut Pass) -> Result<(), Failure> {
        let mut rest = bytes;
        while let Some(event) = reading
            .reader
            .next_event(&mut rest)
            .map_err(|_too_long| Failure::unreadable())?
        {
            let taken = reading.answer.take_event(event);
            self.usage = reading.answer.usage();
            taken?;
            pass.succeed();
        }
        Ok(())
    }

    /// Takes what came without a final empty line.
    fn take_the_end(&mut self, reading: &mut Reading) -> Result<(), Stop> {
        let taken = match reading.reader.finish() {
            Ok(Some(event)) => reading.answer.take_event(event),
            Ok(None) | Err(_) => Ok(()),
        };
        self.usage = reading.answer.usage();
        match taken {
            // Said in the last event, whole: that the request failed.
            Err(failure) if failure != Failure::unreadable() => Err(failure.into()),
            // The front half of an event: whether the answer is whole does not depend on it.
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Sends what waits to be shown, unless the session still handles the last event; says whether something is on its way.
    fn show_next(&mut self, reading: &mut Reading) -> bool {
        if reading.handled.is_none()
            && let Some(progress) = reading.answer.next_shown()
        {
            if !std::mem::replace(&mut self.shown, true) {
                handles().first_token.record(self.since(reading.asked_at).as_secs_f64());
            }
            let read = reading.oldest;
            if reading.answer.waiting_bytes() == 0 {
                reading.oldest = None;
            }
            reading
                .handled
                .set(Some(self.outlet.send_read(progress, read, reading.now)));
        }
        reading.handled.is_some()
    }

    fn since(&self, begin: Instant) -> Duration {
        self.shared.clock.instant().saturating_duration_since(begin)
    }
}

/// An answer while it is read and shown.
struct Reading {
    reader: EventReader,
    answer: Answer,
    /// The event that the session handles now, in a place that all of them use.
    handled: Pin<Box<Option<RecipientRequest<GenerationEvent>>>>,
    asked_at: Instant,
    /// When the oldest chunk of what waits to be shown was read, if that is measured.
    oldest: Option<Instant>,
    /// What time it is, about, if that is recorded.
    now: Option<Instant>,
}

impl Reading {
    /// Waits until the session has handled the event on its way, if there is one. May be dropped and asked again.
    async fn until_handled(&mut self) -> Result<(), Stop> {
        if let Some(handled) = self.handled.as_mut().as_pin_mut() {
            let result = handled.await;
            self.handled.set(None);
            if result.is_err() {
                return Err(Stop::SinkGone);
            }
        }
        Ok(())
    }
}

/// Measures how long nothing came. One timer for the whole answer: that something came costs a look at the clock.
struct Silence {
    bound: Duration,
    until: tokio::time::Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(bound: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(bound));
        Self {
            bound,
            until: timer.deadline(),
            timer,
        }
    }

    /// It begins again, now.
    fn begin(&mut self) -> Instant {
        let now = tokio::time::Instant::now();
        self.until = now + self.bound;
        now.into_std()
    }

    /// It begins again, with another bound.
    fn bound(&mut self, bound: Duration) -> Instant {
        self.bound = bound;
        let now = self.begin();
        self.timer.as_mut().reset(self.until);
        now
    }

    /// Ends when the bound is reached. May be dropped and asked again.
    async fn is_too_long(&mut self) {
        loop {
            self.timer.as_mut().await;
            if self.timer.deadline() >= self.until {
                return;
            }
            self.timer.as_mut().reset(self.until);
        }
    }
}

/// Reads why a request was refused.
pub(super) async fn refusal(mut response: Response) -> Failure {
    let status = response.status().as_u16();
    let header = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let wait = header.and_then(failure::retry_after);
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(bytes)) = response.chunk().await {
            let room = ERROR_BYTES - body.len();
            body.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            if body.len() == ERROR_BYTES {
                break;
            }
        }
    };
    // Whatever came until then is read: it may be whole.
    drop(timeout(ERROR_PATIENCE, read).await);
    Failure::answered(status, &ErrorStatus::from_body(&body), wait)
}
