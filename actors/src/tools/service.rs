//! Starts what sessions ask for, each a task of the core that asks.

use std::{
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock},
};

use actix::prelude::*;
use tokio::{task::AbortHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    BUILTIN, Execution, Link, LinkRequest, Offer, OfferRequest, Outcome, ToolEvent, builtin,
    memory::Memories,
    outlet::{Asked, Outlet},
};
use crate::{
    clock::Clock, composio::ComposioRef, config::ToolsConfig, metrics as names, store::service::StoreRef, trace,
};

/// What tools are made of; one per process.
struct Shared {
    clock: Clock,
    config: Arc<ToolsConfig>,
    memories: Memories,
    /// It tells users' feeds, and so is made after the sessions that ask it.
    composio: RwLock<Option<ComposioRef>>,
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
            composio: RwLock::new(None),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes the tools of other services from here on from Composio, or no more.
    pub fn set_composio(&self, composio: Option<ComposioRef>) {
        let old = {
            let mut place = self.shared.composio.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, composio)
        };
        // Not under the lock: its thread may end.
        drop(old);
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
        let (run, span) = (execution.run.clone(), trace::tool(&execution));
        let of_call = span.clone();
        let work = move |outlet: Outlet| async move {
            let outcome = shared.execute(&execution).await;
            if let Some(why) = outcome.failure() {
                trace::failed(&of_call, why);
            }
            outlet.finish(outcome);
        };
        span.in_scope(|| self.spawn(run, asked, sink, work))
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
        let task = actix::spawn(trace::carried(work(outlet))).abort_handle();
        ToolHandle { cancel, task }
    }
}

impl fmt::Debug for ToolsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolsRef").finish_non_exhaustive()
    }
}

impl Shared {
    fn composio(&self) -> Option<ComposioRef> {
        self.composio.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn offer(&self, request: &OfferRequest) -> Offer {
        let named = request.toolkits.as_deref();
        let built_in = named.is_none_or(|toolkits| toolkits.iter().any(|toolkit| toolkit == BUILTIN));
        let others = named.map(|toolkits| {
            let others = toolkits.iter().filter(|toolkit| *toolkit != BUILTIN);
            others.cloned().collect::<Vec<_>>()
        });
        let (mut offer, others) = futures_util::future::join(
            self.built_in(request, built_in),
            self.of_composio(request, others.as_deref()),
        )
        .await;
        offer.tools.extend(others.tools);
        offer.missing.extend(others.missing);
        offer
    }

    /// The tools that need no other service, with the user's notes.
    async fn built_in(&self, request: &OfferRequest, wanted: bool) -> Offer {
        let mut offer = Offer::default();
        if !wanted {
            return offer;
        }
        offer.tools = builtin::tools();
        match timeout(self.config.offer_timeout, self.memories.notes(&request.user)).await {
            Ok(Ok(notes)) => offer.notes = notes,
            Ok(Err(error)) => {
                tracing::warn!(run.id = %request.run, user.id = %request.user, %error, "notes cannot be read");
                let text = "What is remembered about you cannot be read now.";
                offer.missing.push(text.to_owned());
            }
            Err(_elapsed) => {
                names::refused("tool_offer_timeout");
                let text = "What is remembered about you could not be read in time.";
                offer.missing.push(text.to_owned());
            }
        }
        offer
    }

    /// Tools of other services: of the toolkits that are named, or those that the user has connected.
    async fn of_composio(&self, request: &OfferRequest, toolkits: Option<&[String]>) -> Offer {
        let mut offer = Offer::default();
        if toolkits.is_some_and(<[String]>::is_empty) {
            return offer;
        }
        let Some(composio) = self.composio() else {
            offer.missing = toolkits
                .unwrap_or_default()
                .iter()
                .map(|one| not_configured(one))
                .collect();
            return offer;
        };
        let asked = composio.offer(&request.user, toolkits, &request.hint);
        match timeout(self.config.offer_timeout, asked).await {
            Ok(offered) => (offer.tools, offer.missing) = (offered.tools, offered.missing),
            Err(_elapsed) => {
                names::refused("tool_offer_timeout");
                offer.missing = match toolkits {
                    None => vec!["The tools of your connected accounts could not be listed in time.".to_owned()],
                    Some(toolkits) => toolkits.iter().map(|one| late(one)).collect(),
                };
            }
        }
        offer
    }

    async fn execute(&self, execution: &Execution) -> Outcome {
        let left = execution.deadline.saturating_duration_since(self.clock.instant());
        if left.is_zero() {
            return Outcome::Failed("the run had to end before the tool began".to_owned());
        }
        if execution.toolkit != BUILTIN {
            return match self.composio() {
                Some(composio) => composio.execute(execution).await,
                None => Outcome::Failed(not_configured(&execution.toolkit)),
            };
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

    async fn link(&self, request: &LinkRequest) -> Result<Link, String> {
        let Some(composio) = self.composio() else {
            return Err(not_configured(&request.toolkit));
        };
        let session = Some(request.session.clone());
        let link = composio.link(&request.user, &request.toolkit, session).await;
        link.map_err(|error| error.to_string())
    }
}

/// Longest slug that a sentence repeats, in characters.
const SHOWN: usize = 64;

fn not_configured(toolkit: &str) -> String {
    format!("The tools of {} are not configured on this server.", shown(toolkit))
}

fn late(toolkit: &str) -> String {
    format!("The tools of {} could not be listed in time.", shown(toolkit))
}

fn shown(toolkit: &str) -> String {
    toolkit.chars().take(SHOWN).collect()
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
