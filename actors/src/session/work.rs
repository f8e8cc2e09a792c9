//! What is done outside for a session: the model's answers, calls of tools, links, summaries. Each comes back as an input.

use std::collections::HashMap;

use kronos_protocol::{event::RunError, ids::MessageId};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    flight::Phase,
    gemini::{GenerateRequest, TypedRequest},
    session::core::Execute,
    tools::{Execution, LinkRequest, Offer, OfferRequest, Outcome, ToolAnswer, ToolEvent, ToolHandle},
    trace::RunTrace,
};

/// Words of a summary that is asked for, about.
const SUMMARY_WORDS: usize = 400;
/// What the tools of a run are asked for as.
const OFFER: &str = "offer";

/// What is on its way for the active run.
pub(super) struct Work {
    run: RunId,
    trace: RunTrace,
    /// When the run's deadline ends it.
    pub(super) ends: Instant,
    /// The model at work; dropped, it closes the upstream connection.
    generation: Option<GenerationHandle>,
    /// Calls, links and offers, by what they are for; dropped, they are abandoned.
    tools: HashMap<String, ToolHandle>,
    /// A summary is being written; dropped, it closes the upstream connection.
    summary: Option<DropGuard>,
}

/// A call whose intent is on its way to the store: it leaves when that is durable.
pub(super) struct Deferred {
    upto: Seq,
    execute: Execute,
}

impl Session {
    /// Whether something is on its way that will go on with the active run.
    pub(super) fn is_busy(&self) -> bool {
        let busy = |work: &Work| work.generation.is_some() || !work.tools.is_empty() || work.summary.is_some();
        !self.deferred.is_empty() || self.work.as_ref().is_some_and(busy)
    }

    /// What the active run waits for, each once, for operators.
    pub(super) fn waits_for(&self) -> Vec<&'static str> {
        let mut waits: Vec<_> = (!self.deferred.is_empty()).then_some("commit").into_iter().collect();
        if let Some(work) = &self.work {
            waits.extend(work.generation.is_some().then_some("model"));
            waits.extend(work.summary.is_some().then_some("summary"));
            waits.extend(work.tools.keys().map(|what| match what.as_str() {
                OFFER => "catalogue",
                what if what.starts_with("link ") => "link",
                _ => "tool",
            }));
        }
        waits.sort_unstable();
        waits.dedup();
        waits
    }

    /// What is on its way for the active run, apart from the model's answer.
    pub(super) fn doing(&self) -> Option<Phase> {
        let work = self.work.as_ref();
        match work {
            Some(work) if work.tools.keys().any(|of| of != OFFER) => Some(Phase::Tools),
            Some(work) if !work.tools.is_empty() => Some(Phase::Offer),
            _ if !self.deferred.is_empty() => Some(Phase::Intents),
            Some(work) if work.summary.is_some() => Some(Phase::Summary),
            _ => None,
        }
    }

    /// Does what the core asks for; `upto` is the last event that was decided with it.
    pub(super) fn perform(&mut self, effect: Effect, upto: Seq, ctx: &mut Context<Self>) {
        match effect {
            Effect::Stop(run) => {
                if self.work.as_ref().is_some_and(|work| work.run == run) {
                    // Dropping the handles closes the upstream connections.
                    self.work = None;
                }
                self.deferred.retain(|deferred| deferred.execute.run != run);
            }
            Effect::Continue(run) => self.drive(Input::Continue(run), ReplyTo::NONE, ctx),
            Effect::Offer { run, toolkits, hint } => self.offer(run, toolkits, hint, ctx),
            Effect::Generate(generate) => self.generate(*generate, ctx),
            Effect::Execute(execute) => self.deferred.push(Deferred {
                upto,
                execute: *execute,
            }),
            Effect::Link { run, toolkit } => self.link(&run, toolkit, ctx),
            Effect::Summarize { run, from, transcript } => self.summarize(run, from, transcript, ctx),
        }
    }

    /// The work of a run, begun with its deadline if there is none.
    fn work_of(&mut self, run: &RunId, ctx: &mut Context<Self>) -> &mut Work {
        if self.work.as_ref().is_none_or(|work| work.run != *run) {
            if let Some(timer) = self.deadline.take() {
                ctx.cancel_future(timer);
            }
            let (limit, timer) = (self.deps.config.run_deadline, run.clone());
            self.deadline = Some(ctx.run_later(limit, move |act, ctx| {
                act.drive(Input::Deadline(timer), ReplyTo::NONE, ctx);
            }));
            self.work = None;
        }
        let ends = self.deps.clock.instant() + self.deps.config.run_deadline;
        let (session, meta, cause) = (&self.id, &self.meta, &mut self.cause);
        self.work.get_or_insert_with(|| Work {
            run: run.clone(),
            trace: match meta {
                Some(meta) => RunTrace::begin(cause.take(), run, session, &meta.owner),
                None => RunTrace::default(),
            },
            ends,
            generation: None,
            tools: HashMap::new(),
            summary: None,
        })
    }

    fn offer(&mut self, run: RunId, toolkits: Option<Vec<String>>, hint: String, ctx: &mut Context<Self>) {
        self.work_of(&run, ctx);
        if toolkits.as_ref().is_some_and(Vec::is_empty) {
            return self.drive(Input::Offered(run, Offer::default()), ReplyTo::NONE, ctx);
        }
        let Some(meta) = &self.meta else { return };
        let request = OfferRequest {
            run: run.clone(),
            user: meta.owner.clone(),
            toolkits,
            hint,
        };
        let (tools, sink) = (self.deps.tools.clone(), ctx.address().recipient());
        let work = self.work_of(&run, ctx);
        let handle = work.trace.enter(|| tools.offer(request, sink));
        work.tools.insert(OFFER.to_owned(), handle);
    }

    fn generate(&mut self, generate: Generate, ctx: &mut Context<Self>) {
        let Generate {
            run,
            options,
            contents,
            functions,
            calling,
            notes,
        } = generate;
        self.running.asks();
        let ends = self.work_of(&run, ctx).ends;
        // What was prepared for one list is good for the next request with the same.
        if self.functions != functions {
            self.functions = functions;
        }
        let functions = Arc::clone(&self.functions);
        let Some(meta) = &self.meta else { return };
        let request = GenerateRequest {
            run: run.clone(),
            session: self.id.clone(),
            user: meta.owner.clone(),
            model: options.model.or_else(|| self.settings.model.clone()),
            system_prompt: options.system_prompt.or_else(|| self.settings.system_prompt.clone()),
            notes,
            contents,
            temperature: options.temperature,
            max_tokens: options.max_tokens,
            deadline: ends,
            response_schema: None,
            functions,
            calling,
            timeline: self.watch.timeline().cloned(),
        };
        let (gemini, sink) = (self.deps.gemini.clone(), ctx.address().recipient());
        let asked = self.work_of(&run, ctx).trace.enter(|| gemini.generate(request, sink));
        match asked {
            Ok(handle) => self.work_of(&run, ctx).generation = Some(handle),
            Err(failed) => ctx.notify(GenerationEvent::new(run, Progress::Failed(failed))),
        }
    }

    fn link(&mut self, run: &RunId, toolkit: String, ctx: &mut Context<Self>) {
        let what = format!("link {toolkit}");
        if self.work_of(run, ctx).tools.contains_key(&what) {
            return;
        }
        let Some(meta) = &self.meta else { return };
        let request = LinkRequest {
            run: run.clone(),
            session: self.id.clone(),
            user: meta.owner.clone(),
            toolkit: toolkit.clone(),
        };
        let handle = self.deps.tools.link(request, ctx.address().recipient());
        self.work_of(run, ctx).tools.insert(what, handle);
    }

    /// Calls whose intents are durable leave.
    pub(super) fn execute_due(&mut self, ctx: &mut Context<Self>) {
        if self.deferred.is_empty() {
            return;
        }
        let committed = self.log.committed();
        for deferred in std::mem::take(&mut self.deferred) {
            if deferred.upto > committed {
                self.deferred.push(deferred);
            } else {
                self.execute(deferred.execute, ctx);
            }
        }
        self.note_doing();
    }

    fn execute(&mut self, execute: Execute, ctx: &mut Context<Self>) {
        let Execute {
            run,
            tool,
            intent,
            arguments,
        } = execute;
        let active = self.state.run.as_ref().is_some_and(|active| active.id == run);
        let (true, Some(meta)) = (active, &self.meta) else {
            return;
        };
        if let Some(timeline) = self.watch.timeline() {
            timeline.call_began(&intent.call, &tool, self.time());
        }
        let (session, user) = (self.id.clone(), meta.owner.clone());
        let deadline = self.work_of(&run, ctx).ends;
        let execution = Execution {
            run: run.clone(),
            session,
            user,
            call: intent.call.clone(),
            key: intent.key,
            tool,
            toolkit: intent.toolkit,
            version: intent.version,
            read_only: intent.read_only,
            repeatable: intent.repeatable,
            arguments,
            deadline,
        };
        let (tools, sink) = (self.deps.tools.clone(), ctx.address().recipient());
        let work = self.work_of(&run, ctx);
        let handle = work.trace.enter(|| tools.execute(execution, sink));
        work.tools.insert(intent.call, handle);
    }

    fn summarize(&mut self, run: RunId, from: MessageId, transcript: String, ctx: &mut Context<Self>) {
        let Some(user) = self.meta.as_ref().map(|meta| meta.owner.clone()) else {
            return;
        };
        let cancel = CancellationToken::new();
        let gemini = self.deps.gemini.clone();
        let work = self.work_of(&run, ctx);
        work.summary = Some(cancel.clone().drop_guard());
        let request = TypedRequest {
            user,
            instruction: format!(
                "Sum up this conversation for the assistant that will go on with it, in at most {SUMMARY_WORDS} words: \
                 facts, decisions, names, numbers, ids, open questions and what the user wants. Write in the language of \
                 the conversation."
            ),
            text: transcript,
            schema: Arc::new(serde_json::json!({
                "type": "object",
                "properties": {"summary": {"type": "string"}},
                "required": ["summary"],
            })),
            deadline: work.ends,
        };
        let read = |text: &str| {
            let answer: serde_json::Value = serde_json::from_str(text).ok()?;
            answer.get("summary")?.as_str().map(str::to_owned)
        };
        let asked = work.trace.carry(async move { gemini.ask_typed(request, read).await });
        let asked = async move { cancel.run_until_cancelled(asked).await };
        ctx.spawn(asked.into_actor(self).map(move |answer, act, ctx| {
            // Cancelled, it is of a run that is over.
            let Some(answer) = answer else { return };
            if let Some(work) = act.work.as_mut().filter(|work| work.run == run) {
                work.summary = None;
            }
            let summary = answer.unwrap_or_else(|error| {
                tracing::warn!(run.id = %run, session.id = %act.id, user.id = act.owner(), code = %error.code.as_str(), "a conversation cannot be summed up");
                String::new()
            });
            act.drive(Input::Summarized(run, from, summary), ReplyTo::NONE, ctx);
        }));
    }

    /// Says in the run's trace why it failed.
    pub(super) fn tell_failure(&self, failure: &RunError) {
        if let Some(work) = &self.work {
            work.trace.failed(failure.code.as_deref().unwrap_or("internal"));
        }
    }

    /// Nothing is done for a run any more.
    pub(super) fn stop_work(&mut self, ctx: &mut Context<Self>) {
        self.work = None;
        self.deferred.clear();
        if let Some(timer) = self.deadline.take() {
            ctx.cancel_future(timer);
        }
    }

    /// Wakes up when the next open question lapses.
    pub(super) fn watch_questions(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.expiry.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = core::questions::next_expiry(&self.state) {
            let left = at.saturating_sub(self.deps.clock.now_ms()).max(0);
            // One beyond, so that it has lapsed by then.
            let left = Duration::from_millis(left.unsigned_abs().saturating_add(1));
            self.expiry = Some(ctx.run_later(left, |act, ctx| {
                act.expiry = None;
                act.drive(Input::Expire, ReplyTo::NONE, ctx);
                act.watch_questions(ctx);
            }));
        }
    }
}

impl Handler<GenerationEvent> for Session {
    type Result = ();

    fn handle(&mut self, event: GenerationEvent, ctx: &mut Self::Context) {
        let GenerationEvent {
            run,
            progress,
            read,
            sent,
            queued,
        } = event;
        queued.taken();
        self.watch.now = Some(self.deps.clock.instant());
        (self.watch.read, self.watch.waited) = (read, None);
        self.note_wait(sent);
        if matches!(progress, Progress::Finished(_) | Progress::Failed(_))
            && let Some(work) = self.work.as_mut().filter(|work| work.run == run)
        {
            work.generation = None;
        }
        self.drive(Input::Progress(run, progress), ReplyTo::NONE, ctx);
        self.watch.now = None;
        self.watch.read = None;
    }
}

impl Session {
    /// A call of the active run is over.
    fn note_call(&self, run: &RunId, call: &str, outcome: &Outcome) {
        let active = self.state.run.as_ref().is_some_and(|active| active.id == *run);
        if let Some(timeline) = self.watch.timeline().filter(|_| active) {
            timeline.call_ended(call, outcome.as_str(), self.time());
        }
    }
}

impl Handler<ToolEvent> for Session {
    type Result = ();

    fn handle(&mut self, event: ToolEvent, ctx: &mut Self::Context) {
        let ToolEvent { run, answer, queued } = event;
        queued.taken();
        self.watch.waited = None;
        let (of, input) = match answer {
            ToolAnswer::Offered(offer) => (OFFER.to_owned(), Input::Offered(run.clone(), offer)),
            ToolAnswer::Finished { call, outcome } => {
                self.note_call(&run, &call, &outcome);
                (call.clone(), Input::Called(run.clone(), call, outcome))
            }
            ToolAnswer::Linked { toolkit, link } => {
                (format!("link {toolkit}"), Input::Linked(run.clone(), toolkit, link))
            }
        };
        let Some(work) = self.work.as_mut().filter(|work| work.run == run) else {
            return;
        };
        // What is not awaited any more was told to whoever asked.
        if work.tools.remove(&of).is_some() {
            self.drive(input, ReplyTo::NONE, ctx);
        }
    }
}
