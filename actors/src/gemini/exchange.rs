//! One request to the upstream and its answer: time-outs, reading, showing.

use std::time::Duration;

use bytes::Bytes;
use metrics::histogram;
use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use tokio::time::timeout;

use super::answer::Answer;
use super::failure::{self, Failure};
use super::generation::{Generation, Stop};
use super::stream::EventReader;
use super::wire::ErrorStatus;
use super::{Finished, Progress};
use crate::metrics::GEMINI_FIRST_TOKEN;
use crate::upstream::Pass;

/// Most bytes of an error's body that are read: Google's have a few hundred.
const ERROR_BYTES: usize = 64 * 1024;
/// Longest time in which an error's body must come: it says why, and no more.
const ERROR_PATIENCE: Duration = Duration::from_secs(5);
/// Time for what may follow the finish reason, which is nothing but the end of the body.
const AFTER_FINISH: Duration = Duration::from_millis(500);

impl Generation {
    /// Makes one request and shows its answer as it comes.
    pub(super) async fn exchange(&mut self, path: &str, body: Bytes, pass: &mut Pass) -> Result<Finished, Stop> {
        let asked_at = self.shared.clock.instant();
        let patience = self.shared.config.first_byte_timeout;
        let response = match timeout(patience, self.shared.endpoint.post(&self.client, path, body)).await {
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
        self.read(response, asked_at, pass).await
    }

    async fn read(
        &mut self,
        mut response: Response,
        asked_at: std::time::Instant,
        pass: &mut Pass,
    ) -> Result<Finished, Stop> {
        let mut reader = EventReader::new(self.shared.config.event_bytes);
        let mut answer = Answer::default();
        let elapsed = self.shared.clock.instant().saturating_duration_since(asked_at);
        let mut patience = self.shared.config.first_byte_timeout.saturating_sub(elapsed);
        let mut first = true;
        loop {
            let bytes = match timeout(patience, response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => break,
                Ok(Err(_)) | Err(_) if answer.is_finished() => break,
                Ok(Err(_broken)) => return Err(Failure::broken().into()),
                Err(_elapsed) => return Err(Failure::silent().into()),
            };
            if std::mem::take(&mut first) {
                self.shared
                    .note_first_byte(self.shared.clock.instant().saturating_duration_since(asked_at));
            }
            let mut rest = &bytes[..];
            while let Some(event) = reader
                .next_event(&mut rest)
                .map_err(|_too_long| Failure::unreadable())?
            {
                let taken = answer.take_event(event);
                self.usage = answer.usage();
                self.show(&mut answer, asked_at).await?;
                taken?;
                pass.succeed();
            }
            patience = if answer.is_finished() {
                AFTER_FINISH
            } else {
                self.shared.config.idle_timeout
            };
        }
        self.end(reader, answer, asked_at).await
    }

    /// Takes what came without a final empty line, and decides.
    async fn end(
        &mut self,
        mut reader: EventReader,
        mut answer: Answer,
        asked_at: std::time::Instant,
    ) -> Result<Finished, Stop> {
        let taken = match reader.finish() {
            Ok(Some(event)) => answer.take_event(event),
            Ok(None) | Err(_) => Ok(()),
        };
        self.usage = answer.usage();
        self.show(&mut answer, asked_at).await?;
        match taken {
            // Said in the last event, whole: that the request failed.
            Err(failure) if failure != Failure::unreadable() => return Err(failure.into()),
            // The front half of an event: whether the answer is whole does not depend on it.
            Err(_) | Ok(()) => {}
        }
        if reader.saw_foreign_lines() && !self.shown && !answer.is_finished() {
            return Err(Failure::unreadable().into());
        }
        Ok(answer.finish(&self.model)?)
    }

    async fn show(&mut self, answer: &mut Answer, asked_at: std::time::Instant) -> Result<(), Stop> {
        for progress in answer.take_outbox() {
            if !std::mem::replace(&mut self.shown, true) {
                let elapsed = self.shared.clock.instant().saturating_duration_since(asked_at);
                histogram!(GEMINI_FIRST_TOKEN).record(elapsed.as_secs_f64());
            }
            self.outlet.emit(progress).await?;
        }
        Ok(())
    }
}

/// Reads why a request was refused.
async fn refusal(mut response: Response) -> Failure {
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
