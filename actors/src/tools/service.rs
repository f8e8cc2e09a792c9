//! Starts what sessions ask for, each a task of the core that asks.

use std::{fmt, future::Future, sync::Arc};

use actix::prelude::*;
use tokio::{task::AbortHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    BUILTIN, Execution, Link, LinkRequest, Offer, OfferRequest, Outcome, ToolEvent, builtin,
    memory::Memories,
    outlet::{Asked, Outlet},
};
use crate::{clock::Clock, config::ToolsConfig, metrics as names, store::service::StoreRef};

/// What tools are made of; one per process.
struct Shared {
    clock: Clock,
    config: Arc<ToolsConfig>,
    memories: Memories,
}

/// The tools of this process, as sessions hold them. Cheap to clone, used from every core.
#[derive(Clone)]
pub struct ToolsRef {
    shared: Arc<Shared>,
}

impl ToolsRef {
    /// The built-in tools, over `store`.
    #[must_use]
    pub fn new(store: StoreRef, clock: Clock, config: Arc<ToolsConfig>) -> Self {
        let memories = Memories::new(store, clock.clone(), &config);
        let shared = Shared {
            clock,
            config,
            memories,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The notes of users.
    #[must_use]
    pub fn memories(&self) -> &Memories {
        &self.shared.memories
    }

    /// Asks for the tools of a run. The answer, exactly one [`ToolEvent`] with [`ToolAnswer::Offered`](super::ToolAnswer), goes to
    /// `sink` within [`ToolsConfig::offer_timeout`]: what could not be had by then is missing.
    ///
    /// Dropping the handle abandons the request: no event follows but one already on its way. The same for the others.
    pub fn offer(&self, request: OfferRequest, sink: Recipient<ToolEvent>) -> ToolHandle {
        let shared = Arc::clone(&self.shared);
        let run = request.run.clone();
        self.spawn(run, Asked::Offer, sink, move |outlet| async move {
            outlet.offer(shared.offer(&request).await);
        })
    }

    /// Makes a call. The answer, exactly one [`ToolEvent`] with [`ToolAnswer::Finished`](super::ToolAnswer), goes to `sink`.
    pub fn execute(&self, execution: Execution, sink: Recipient<ToolEvent>) -> ToolHandle {
        let shared = Arc::clone(&self.shared);
        let asked = Asked::Call {
            call: execution.call.clone(),
            toolkit: execution.toolkit.clone(),
            read_only: execution.read_only,
        };
        self.spawn(execution.run.clone(), asked, sink, move |outlet| async move {
            outlet.finish(shared.execute(&execution).await);
        })
    }

    /// Asks for a link. The answer, exactly one [`ToolEvent`] with [`ToolAnswer::Linked`](super::ToolAnswer), goes to `sink`.
    pub fn link(&self, request: LinkRequest, sink: Recipient<ToolEvent>) -> ToolHandle {
        let shared = Arc::clone(&self.shared);
        let toolkit = request.toolkit.clone();
        self.spawn(
            request.run.clone(),
            Asked::Link { toolkit },
            sink,
            move |outlet| async move {
                outlet.link(shared.link(&request).await);
            },
        )
    }

    fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        run: kronos_protocol::ids::RunId,
        asked: Asked,
        sink: Recipient<ToolEvent>,
        work: impl FnOnce(Outlet) -> F,
    ) -> ToolHandle {
        let cancel = CancellationToken::new();
        let outlet = Outlet::new(run, asked, sink, cancel.clone(), self.shared.clock.clone());
        let task = actix::spawn(work(outlet)).abort_handle();
        ToolHandle { cancel, task }
    }
}

impl fmt::Debug for ToolsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolsRef").finish_non_exhaustive()
    }
}

impl Shared {
    async fn offer(&self, request: &OfferRequest) -> Offer {
        let mut offer = Offer::default();
        let others: Option<Vec<&str>> = request.toolkits.as_ref().map(|toolkits| {
            let others = toolkits.iter().map(String::as_str);
            others.filter(|toolkit| *toolkit != BUILTIN).collect()
        });
        let built_in = request
            .toolkits
            .as_ref()
            .is_none_or(|toolkits| toolkits.iter().any(|toolkit| toolkit == BUILTIN));
        if built_in {
            offer.tools.extend(builtin::tools());
            match timeout(self.config.offer_timeout, self.memories.notes(&request.user)).await {
                Ok(Ok(notes)) => offer.notes = notes,
                Ok(Err(error)) => {
                    tracing::warn!(run.id = %request.run, %error, "notes cannot be read");
                    offer
                        .missing
                        .push("What is remembered about you cannot be read now.".to_owned());
                }
                Err(_elapsed) => {
                    names::refused("tool_offer_timeout");
                    offer
                        .missing
                        .push("What is remembered about you could not be read in time.".to_owned());
                }
            }
        }
        for toolkit in others.into_iter().flatten() {
            offer.missing.push(not_configured(toolkit));
        }
        offer
    }

    async fn execute(&self, execution: &Execution) -> Outcome {
        if execution.toolkit != BUILTIN {
            return Outcome::Failed(not_configured(&execution.toolkit));
        }
        let left = execution.deadline.saturating_duration_since(self.clock.instant());
        if left.is_zero() {
            return Outcome::Failed("the run had to end before the tool began".to_owned());
        }
        let work = builtin::execute(&self.memories, &self.clock, execution);
        match timeout(left, work).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if execution.read_only => {
                Outcome::Failed("the run had to end before the tool did".to_owned())
            }
            Err(_elapsed) => Outcome::Unknown("the run had to end before the tool did".to_owned()),
        }
    }

    #[expect(clippy::unused_async, reason = "other sources of tools ask a service")]
    async fn link(&self, request: &LinkRequest) -> Result<Link, String> {
        Err(not_configured(&request.toolkit))
    }
}

/// Longest slug that a sentence repeats, in characters.
const SHOWN: usize = 64;

fn not_configured(toolkit: &str) -> String {
    let toolkit: String = toolkit.chars().take(SHOWN).collect();
    format!("The tools of {toolkit} are not configured on this server.")
}

/// Keeps a request going; dropping it abandons the request: no event follows but one already on its way.
#[derive(Debug)]
#[must_use = "a request is abandoned when its handle is dropped"]
pub struct ToolHandle {
    cancel: CancellationToken,
    task: AbortHandle,
}

impl Drop for ToolHandle {
    fn drop(&mut self) {
        // First, so that the outlet knows why it is dropped.
        self.cancel.cancel();
        self.task.abort();
    }
}
