//! What is open, and what may therefore come next. Chunks never get here: they are expanded before.

use std::collections::HashSet;

use super::OrderError;
use super::error::named;
use super::open::{OpenEntity, OpenKind};
use super::owners::{Bucket, Owner, Owners};
use crate::event::{EncryptedSubtype, Event, EventKind, StepFinished, StepStarted, SubagentStarted, ToolCallStart};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Fresh,
    Running,
    Finished,
    Errored,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Brackets {
    phase: Phase,
    /// In the order of opening. A list, not a set: a handful at most in what we write.
    open: Vec<OpenEntity>,
    closed_subagents: HashSet<String>,
    owners: Owners,
    unanswered: Vec<String>,
}

impl Brackets {
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    pub(super) fn open(&self) -> &[OpenEntity] {
        &self.open
    }

    pub(super) fn unanswered(&self) -> &[String] {
        &self.unanswered
    }

    /// Returns who owns `entity` now.
    pub(super) fn owner(&self, entity: &OpenEntity) -> Owner {
        match (entity, Bucket::of(entity.kind())) {
            (OpenEntity::Step { subagent, .. }, _) => subagent.clone(),
            (_, Some(bucket)) => self.owners.get(bucket, entity.id()).cloned().flatten(),
            (_, None) => None,
        }
    }

    pub(super) fn accept(&mut self, event: &Event) -> Result<(), OrderError> {
        self.check(event)?;
        self.apply(event);
        Ok(())
    }

    /// Says whether `event` may come next.
    pub(super) fn check(&self, event: &Event) -> Result<(), OrderError> {
        use OpenKind::{ReasoningMessage, ReasoningSpan, TextMessage, ToolCall};
        let kind = event.kind();
        self.check_phase(kind)?;
        match event {
            Event::TextMessageStart(e) => self.opens(kind, TextMessage, e.message_id.as_str(), &e.subagent_run_id),
            Event::TextMessageContent(e) => {
                self.continues(kind, TextMessage, e.message_id.as_str(), &e.subagent_run_id)
            }
            Event::TextMessageEnd(e) => self.continues(kind, TextMessage, e.message_id.as_str(), &e.subagent_run_id),
            Event::ToolCallStart(e) => self.opens_call(e),
            Event::ToolCallArgs(e) => self.continues(kind, ToolCall, &e.tool_call_id, &e.subagent_run_id),
            Event::ToolCallEnd(e) => self.continues(kind, ToolCall, &e.tool_call_id, &e.subagent_run_id),
            Event::StepStarted(e) => self.opens_step(e),
            Event::StepFinished(e) => self.closes_step(e),
            Event::ReasoningStart(e) => self.opens(kind, ReasoningSpan, e.message_id.as_str(), &e.subagent_run_id),
            Event::ReasoningEnd(e) => self.continues(kind, ReasoningSpan, e.message_id.as_str(), &e.subagent_run_id),
            Event::ReasoningMessageStart(e) => {
                self.opens(kind, ReasoningMessage, e.message_id.as_str(), &e.subagent_run_id)
            }
            Event::ReasoningMessageContent(e) => {
                self.continues(kind, ReasoningMessage, e.message_id.as_str(), &e.subagent_run_id)
            }
            Event::ReasoningMessageEnd(e) => {
                self.continues(kind, ReasoningMessage, e.message_id.as_str(), &e.subagent_run_id)
            }
            Event::ReasoningEncryptedValue(e) => {
                let bucket = match e.subtype {
                    EncryptedSubtype::ToolCall => Bucket::Call,
                    EncryptedSubtype::Message if self.owners.get(Bucket::Message, &e.entity_id).is_some() => {
                        Bucket::Message
                    }
                    EncryptedSubtype::Message => Bucket::Reasoning,
                };
                self.owners.agree(kind, bucket, &e.entity_id, &e.subagent_run_id)
            }
            Event::ActivityDelta(e) => {
                self.owners
                    .agree(kind, Bucket::Activity, e.message_id.as_str(), &e.subagent_run_id)
            }
            Event::SubagentStarted(e) => self.opens_subagent(e),
            Event::SubagentFinished(e) => self.must_be_open(kind, OpenKind::Subagent, &e.subagent_run_id),
            Event::SubagentError(e) => self.must_be_open(kind, OpenKind::Subagent, &e.subagent_run_id),
            Event::RunFinished(_) => self.all_closed(),
            Event::RunStarted(_)
            | Event::RunError(_)
            | Event::TextMessageChunk(_)
            | Event::ToolCallChunk(_)
            | Event::ToolCallResult(_)
            | Event::StateSnapshot(_)
            | Event::StateDelta(_)
            | Event::MessagesSnapshot(_)
            | Event::ActivitySnapshot(_)
            | Event::ReasoningMessageChunk(_)
            | Event::Custom(_)
            | Event::Raw(_) => Ok(()),
        }
    }

    fn check_phase(&self, event: EventKind) -> Result<(), OrderError> {
        match (self.phase, event) {
            (Phase::Fresh | Phase::Finished | Phase::Errored, EventKind::RunStarted) => Ok(()),
            (Phase::Fresh | Phase::Finished | Phase::Running, EventKind::RunError) => Ok(()),
            (Phase::Running, EventKind::RunStarted) => Err(OrderError::RunActive),
            (Phase::Running, _) => Ok(()),
            (Phase::Fresh, _) => Err(OrderError::First { event }),
            (Phase::Finished, _) => Err(OrderError::AlreadyFinished { event }),
            (Phase::Errored, _) => Err(OrderError::AlreadyErrored { event }),
        }
    }

    fn is_open(&self, kind: OpenKind, id: &str) -> bool {
        self.open.iter().any(|open| open.kind() == kind && open.id() == id)
    }

    fn agree(&self, event: EventKind, kind: OpenKind, id: &str, tag: &Owner) -> Result<(), OrderError> {
        Bucket::of(kind).map_or(Ok(()), |bucket| self.owners.agree(event, bucket, id, tag))
    }

    fn opens(&self, event: EventKind, entity: OpenKind, id: &str, tag: &Owner) -> Result<(), OrderError> {
        if self.is_open(entity, id) {
            return Err(OrderError::AlreadyOpen {
                event,
                entity,
                id: id.to_owned(),
            });
        }
        self.agree(event, entity, id, tag)
    }

    fn must_be_open(&self, event: EventKind, entity: OpenKind, id: &str) -> Result<(), OrderError> {
        if self.is_open(entity, id) {
            Ok(())
        } else {
            Err(OrderError::NotOpen {
                event,
                entity,
                id: id.to_owned(),
            })
        }
    }

    fn continues(&self, event: EventKind, entity: OpenKind, id: &str, tag: &Owner) -> Result<(), OrderError> {
        self.must_be_open(event, entity, id)?;
        self.agree(event, entity, id, tag)
    }

    /// A call lives in the message that carries it: its tag must be that message's owner, and so must that of a call
    /// which had the same id before.
    fn opens_call(&self, e: &ToolCallStart) -> Result<(), OrderError> {
        let event = EventKind::ToolCallStart;
        if self.is_open(OpenKind::ToolCall, &e.tool_call_id) {
            return self.opens(event, OpenKind::ToolCall, &e.tool_call_id, &e.subagent_run_id);
        }
        let inherited = self.inherited(e);
        if let (Some(parent), Some(_)) = (&e.parent_message_id, inherited) {
            self.owners
                .agree(event, Bucket::Message, parent.as_str(), &e.subagent_run_id)?;
        }
        self.owners
            .agree(event, Bucket::Call, &e.tool_call_id, &e.subagent_run_id)?;
        match (self.owners.get(Bucket::Call, &e.tool_call_id), inherited) {
            (Some(owner), Some(inherited)) if e.subagent_run_id.is_none() && owner != inherited => {
                Err(OrderError::mismatch(event, Bucket::Call, &e.tool_call_id, owner))
            }
            _ => Ok(()),
        }
    }

    fn inherited(&self, e: &ToolCallStart) -> Option<&Owner> {
        e.parent_message_id
            .as_ref()
            .and_then(|parent| self.owners.get(Bucket::Message, parent.as_str()))
    }

    fn has_step(&self, name: &str, tag: &Owner) -> bool {
        self.open
            .iter()
            .any(|open| matches!(open, OpenEntity::Step { name: n, subagent: s } if n == name && s == tag))
    }

    fn opens_step(&self, e: &StepStarted) -> Result<(), OrderError> {
        if self.has_step(&e.step_name, &e.subagent_run_id) {
            return Err(OrderError::StepActive {
                name: e.step_name.clone(),
            });
        }
        Ok(())
    }

    fn closes_step(&self, e: &StepFinished) -> Result<(), OrderError> {
        if self.has_step(&e.step_name, &e.subagent_run_id) {
            return Ok(());
        }
        let name = e.step_name.clone();
        let another = self.open.iter().find_map(|open| match open {
            OpenEntity::Step { name: n, subagent } if *n == name => Some(named(subagent)),
            _ => None,
        });
        Err(match another {
            Some(owner) => OrderError::StepOfAnother { name, owner },
            None => OrderError::StepNotStarted { name },
        })
    }

    fn opens_subagent(&self, e: &SubagentStarted) -> Result<(), OrderError> {
        self.opens(
            EventKind::SubagentStarted,
            OpenKind::Subagent,
            &e.subagent_run_id,
            &None,
        )?;
        if self.closed_subagents.contains(&e.subagent_run_id) {
            return Err(OrderError::SubagentReused {
                id: e.subagent_run_id.clone(),
            });
        }
        match &e.parent_subagent_run_id {
            Some(id) if !self.is_open(OpenKind::Subagent, id) && !self.closed_subagents.contains(id) => {
                Err(OrderError::ParentUnknown { id: id.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Names the first kind that has something open, in the official client's order.
    fn all_closed(&self) -> Result<(), OrderError> {
        use OpenKind::{ReasoningMessage, ReasoningSpan, Step, Subagent, TextMessage, ToolCall};
        for entity in [Step, TextMessage, ReasoningMessage, ReasoningSpan, ToolCall, Subagent] {
            let open = self.open.iter().filter(|open| open.kind() == entity);
            let ids: Vec<_> = open.map(|open| open.id().to_owned()).collect();
            if !ids.is_empty() {
                return Err(OrderError::StillOpen { entity, ids });
            }
        }
        Ok(())
    }

    /// Takes an event that [`Brackets::check`] let pass.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::RunStarted(e) => {
                *self = Self {
                    phase: Phase::Running,
                    ..Self::default()
                };
                if let Some(input) = &e.input {
                    self.owners.seed(&input.messages, false);
                }
            }
            Event::RunFinished(_) => self.phase = Phase::Finished,
            Event::RunError(_) => self.phase = Phase::Errored,
            Event::TextMessageStart(e) => self.push(OpenEntity::TextMessage(e.message_id.clone()), &e.subagent_run_id),
            Event::TextMessageEnd(e) => self.close(OpenKind::TextMessage, e.message_id.as_str()),
            Event::ToolCallStart(e) => {
                let owner = e
                    .subagent_run_id
                    .clone()
                    .or_else(|| self.inherited(e).cloned().flatten());
                self.push(OpenEntity::ToolCall(e.tool_call_id.clone()), &owner);
                self.unanswered.push(e.tool_call_id.clone());
            }
            Event::ToolCallEnd(e) => self.close(OpenKind::ToolCall, &e.tool_call_id),
            Event::ToolCallResult(e) => {
                self.owners
                    .set(Bucket::Message, e.message_id.as_str(), e.subagent_run_id.clone());
                self.unanswered.retain(|call| *call != e.tool_call_id);
            }
            Event::StepStarted(e) => self.open.push(step(&e.step_name, &e.subagent_run_id)),
            Event::StepFinished(e) => {
                let closed = step(&e.step_name, &e.subagent_run_id);
                self.open.retain(|open| *open != closed);
            }
            Event::ReasoningStart(e) => self.push(OpenEntity::ReasoningSpan(e.message_id.clone()), &e.subagent_run_id),
            Event::ReasoningEnd(e) => self.close(OpenKind::ReasoningSpan, e.message_id.as_str()),
            Event::ReasoningMessageStart(e) => {
                self.push(OpenEntity::ReasoningMessage(e.message_id.clone()), &e.subagent_run_id);
            }
            Event::ReasoningMessageEnd(e) => self.close(OpenKind::ReasoningMessage, e.message_id.as_str()),
            Event::ActivitySnapshot(e) if e.replace == Some(false) => {
                self.owners
                    .claim(Bucket::Activity, e.message_id.as_str(), e.subagent_run_id.clone());
            }
            Event::ActivitySnapshot(e) => {
                self.owners
                    .set(Bucket::Activity, e.message_id.as_str(), e.subagent_run_id.clone());
            }
            Event::MessagesSnapshot(e) => self.owners.seed(&e.messages, true),
            Event::SubagentStarted(e) => self.open.push(OpenEntity::Subagent(e.subagent_run_id.clone())),
            Event::SubagentFinished(e) => self.close_subagent(&e.subagent_run_id),
            Event::SubagentError(e) => self.close_subagent(&e.subagent_run_id),
            Event::TextMessageContent(_)
            | Event::TextMessageChunk(_)
            | Event::ToolCallArgs(_)
            | Event::ToolCallChunk(_)
            | Event::StateSnapshot(_)
            | Event::StateDelta(_)
            | Event::ActivityDelta(_)
            | Event::ReasoningMessageContent(_)
            | Event::ReasoningMessageChunk(_)
            | Event::ReasoningEncryptedValue(_)
            | Event::Custom(_)
            | Event::Raw(_) => {}
        }
    }

    fn push(&mut self, entity: OpenEntity, owner: &Owner) {
        if let Some(bucket) = Bucket::of(entity.kind()) {
            self.owners.claim(bucket, entity.id(), owner.clone());
        }
        self.open.push(entity);
    }

    fn close(&mut self, kind: OpenKind, id: &str) {
        self.open.retain(|open| open.kind() != kind || open.id() != id);
    }

    fn close_subagent(&mut self, id: &str) {
        self.close(OpenKind::Subagent, id);
        self.closed_subagents.insert(id.to_owned());
    }
}

fn step(name: &str, tag: &Owner) -> OpenEntity {
    OpenEntity::Step {
        name: name.to_owned(),
        subagent: tag.clone(),
    }
}
