//! Asks the upstream something that costs nothing, when nobody else has asked it lately.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use tokio::time::timeout;

use super::client::{self, GeminiConfigError};
use super::exchange::refusal;
use super::failure::Failure;
use super::shared::GeminiShared;

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Probes the service: the description of the configured model, by the same address, key and certificates as a generation.
/// It costs no tokens, takes no permit, and neither opens nor closes the circuit: that is for requests that count.
pub struct GeminiProbe {
    shared: Arc<GeminiShared>,
    client: Client,
    path: String,
}

/// What a probe did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// Nothing: requests have told, or there is nothing to ask.
    NotNeeded,
    /// It was answered.
    Answered,
    /// It was not, or with an error; the health says which.
    Failed,
}

impl GeminiProbe {
    /// Makes one; `None` when there is nothing to ask: no key, or a simulated model.
    ///
    /// # Errors
    /// No client can be made.
    pub fn new(shared: &Arc<GeminiShared>) -> Result<Option<Self>, GeminiConfigError> {
        if shared.config.simulated || !shared.is_configured() {
            return Ok(None);
        }
        let path = client::model_path(&shared.config.model).ok_or(GeminiConfigError::Model)?;
        Ok(Some(Self {
            shared: Arc::clone(shared),
            client: shared.endpoint.client()?,
            path,
        }))
    }

    /// Asks, unless something was heard of the upstream within `quiet`, and notes the result in the service's health.
    pub async fn run(&self, quiet: Duration) -> Probed {
        if self.shared.silent_for().is_some_and(|silence| silence < quiet) {
            return Probed::NotNeeded;
        }
        let begun = self.shared.clock.instant();
        let result = timeout(PATIENCE, self.ask()).await.unwrap_or(Err(Failure::silent()));
        let took = self.shared.clock.instant().saturating_duration_since(begun);
        match result {
            Ok(()) => {
                self.shared.note_probe(Ok(took));
                Probed::Answered
            }
            Err(failure) => {
                tracing::warn!(code = %failure.code, status = failure.status, "the model's service does not answer a probe");
                self.shared.note_probe(Err(&failure));
                Probed::Failed
            }
        }
    }

    async fn ask(&self) -> Result<(), Failure> {
        let asked = self.shared.endpoint.describe(&self.client, &self.path).await;
        let response = asked.map_err(|error| Failure::transport(&error))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(refusal(response).await)
        }
    }
}
