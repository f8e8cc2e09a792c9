//! Chunk events: shorthand for start, content and end. A lane (the run's, or a subagent's) assembles one stream at a
//! time; the next chunk without an id continues it, and most other events of the lane end it.

use super::OrderError;
use super::open::{OpenEntity, OpenKind};
use super::owners::Owner;
use crate::event::{
    Event, EventKind, ReasoningMessageChunk, ReasoningMessageContent, ReasoningMessageEnd, ReasoningMessageStart,
    TextMessageChunk, TextMessageContent, TextMessageEnd, TextMessageStart, TextRole, ToolCallArgs, ToolCallChunk,
    ToolCallEnd, ToolCallStart,
};
use crate::ids::MessageId;

/// The streams being assembled, by lane, in the order they began.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes(Vec<(Owner, Pending)>);

/// A stream and what its first chunk said.
#[derive(Debug, Clone)]
enum Pending {
    Text {
        id: MessageId,
        role: TextRole,
        name: Option<String>,
    },
    Tool {
        id: String,
        name: String,
        parent: Option<MessageId>,
    },
    Reasoning {
        id: MessageId,
    },
}

impl Pending {
    fn kind(&self) -> OpenKind {
        match self {
            Self::Text { .. } => OpenKind::TextMessage,
            Self::Tool { .. } => OpenKind::ToolCall,
            Self::Reasoning { .. } => OpenKind::ReasoningMessage,
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Text { id, .. } | Self::Reasoning { id } => id.as_str(),
            Self::Tool { id, .. } => id,
        }
    }

    fn end(&self, lane: &Owner) -> Event {
        let subagent_run_id = lane.clone();
        match self {
            Self::Text { id, .. } => TextMessageEnd {
                subagent_run_id,
                ..TextMessageEnd::new(id)
            }
            .into(),
            Self::Tool { id, .. } => ToolCallEnd {
                subagent_run_id,
                ..ToolCallEnd::new(id)
            }
            .into(),
            Self::Reasoning { id } => ReasoningMessageEnd {
                subagent_run_id,
                ..ReasoningMessageEnd::new(id)
            }
            .into(),
        }
    }
}

/// Whether `event` is shorthand.
pub(super) fn is_chunk(event: &Event) -> bool {
    matches!(
        event,
        Event::TextMessageChunk(_) | Event::ToolCallChunk(_) | Event::ReasoningMessageChunk(_)
    )
}

/// Whether a chunk becomes a content event: when it has something to say, or else would leave no trace at all.
macro_rules! has_content {
    ($chunk:expr, $parts:expr) => {
        $chunk.delta.is_some() || $chunk.raw_event.is_some() || ($parts.is_empty() && $chunk.metadata.is_some())
    };
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `entity` is a stream being assembled.
    pub(super) fn holds(&self, entity: &OpenEntity) -> bool {
        self.0
            .iter()
            .any(|(_, pending)| pending.kind() == entity.kind() && pending.id() == entity.id())
    }

    /// Ends every stream, in the order they began.
    pub(super) fn close_all(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.0)
            .iter()
            .map(|(lane, pending)| pending.end(lane))
            .collect()
    }

    fn close(&mut self, lane: &Owner) -> Vec<Event> {
        let place = self.0.iter().position(|(owner, _)| owner == lane);
        place
            .map(|place| self.0.remove(place))
            .map(|(lane, pending)| pending.end(&lane))
            .into_iter()
            .collect()
    }

    fn in_lane(&self, lane: &Owner) -> Option<&Pending> {
        self.0
            .iter()
            .find(|(owner, _)| owner == lane)
            .map(|(_, pending)| pending)
    }

    /// Returns what `event` stands for: the ends it brings about, and itself or what a chunk is short for.
    pub(super) fn expand(&mut self, event: &Event) -> Result<Vec<Event>, OrderError> {
        let mut parts = match event {
            Event::TextMessageChunk(chunk) => return self.text(chunk),
            Event::ToolCallChunk(chunk) => return self.tool(chunk),
            Event::ReasoningMessageChunk(chunk) => return self.reasoning(chunk),
            Event::RunStarted(_) | Event::RunFinished(_) | Event::RunError(_) | Event::MessagesSnapshot(_) => {
                self.close_all()
            }
            Event::Raw(_)
            | Event::ActivitySnapshot(_)
            | Event::ActivityDelta(_)
            | Event::ReasoningEncryptedValue(_)
            | Event::SubagentStarted(_) => Vec::new(),
            Event::SubagentFinished(e) => self.close(&Some(e.subagent_run_id.clone())),
            Event::SubagentError(e) => self.close(&Some(e.subagent_run_id.clone())),
            Event::TextMessageStart(e) => self.close(&e.subagent_run_id),
            Event::TextMessageContent(e) => self.close(&e.subagent_run_id),
            Event::TextMessageEnd(e) => self.close(&e.subagent_run_id),
            Event::ToolCallStart(e) => self.close(&e.subagent_run_id),
            Event::ToolCallArgs(e) => self.close(&e.subagent_run_id),
            Event::ToolCallEnd(e) => self.close(&e.subagent_run_id),
            Event::ToolCallResult(e) => self.close(&e.subagent_run_id),
            Event::StateSnapshot(e) => self.close(&e.subagent_run_id),
            Event::StateDelta(e) => self.close(&e.subagent_run_id),
            Event::Custom(e) => self.close(&e.subagent_run_id),
            Event::StepStarted(e) => self.close(&e.subagent_run_id),
            Event::StepFinished(e) => self.close(&e.subagent_run_id),
            Event::ReasoningStart(e) => self.close(&e.subagent_run_id),
            Event::ReasoningEnd(e) => self.close(&e.subagent_run_id),
            Event::ReasoningMessageStart(e) => self.close(&e.subagent_run_id),
            Event::ReasoningMessageContent(e) => self.close(&e.subagent_run_id),
            Event::ReasoningMessageEnd(e) => self.close(&e.subagent_run_id),
        };
        parts.push(event.clone());
        Ok(parts)
    }

    /// Returns the lane a chunk belongs to. A chunk may leave out id and tag, if that leaves one answer.
    fn lane(&self, event: EventKind, kind: OpenKind, id: Option<&str>, tag: &Owner) -> Result<Owner, OrderError> {
        if let Some(id) = id {
            let holder = self
                .0
                .iter()
                .find(|(_, pending)| pending.kind() == kind && pending.id() == id);
            return match holder {
                Some((lane, _)) if tag.is_some() && tag != lane => Err(OrderError::ChunkDisagrees {
                    event,
                    id: id.to_owned(),
                    field: "subagentRunId",
                }),
                Some((lane, _)) => Ok(lane.clone()),
                None => Ok(tag.clone()),
            };
        }
        let mut candidates = self
            .0
            .iter()
            .filter(|(_, pending)| pending.kind() == kind)
            .map(|(lane, _)| lane);
        if tag.is_some() || candidates.clone().any(Option::is_none) {
            return Ok(tag.clone());
        }
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(OrderError::ChunkAmbiguous { event }),
            (None, _) => Ok(None),
        }
    }

    fn text(&mut self, chunk: &TextMessageChunk) -> Result<Vec<Event>, OrderError> {
        let event = EventKind::TextMessageChunk;
        let id = chunk.message_id.as_ref();
        let lane = self.lane(
            event,
            OpenKind::TextMessage,
            id.map(MessageId::as_str),
            &chunk.subagent_run_id,
        )?;
        let mut parts = Vec::new();
        let continued = match self.in_lane(&lane) {
            Some(Pending::Text { id: open, role, name }) if id.is_none_or(|id| id == open) => {
                agree(event, open.as_str(), "role", chunk.role.as_ref(), Some(role))?;
                agree(event, open.as_str(), "name", chunk.name.as_ref(), name.as_ref())?;
                Some(open.clone())
            }
            Some(_) | None => None,
        };
        let message_id = match continued {
            Some(id) => id,
            None => {
                parts = self.close(&lane);
                let id = id.cloned().ok_or(OrderError::FirstChunk {
                    event,
                    field: "messageId",
                })?;
                let role = chunk.role.unwrap_or(TextRole::Assistant);
                self.0.push((
                    lane.clone(),
                    Pending::Text {
                        id: id.clone(),
                        role,
                        name: chunk.name.clone(),
                    },
                ));
                parts.push(
                    TextMessageStart {
                        subagent_run_id: lane.clone(),
                        ..TextMessageStart::new(&id)
                    }
                    .into(),
                );
                id
            }
        };
        if has_content!(chunk, parts) {
            let content = TextMessageContent::new(message_id, "");
            parts.push(
                TextMessageContent {
                    subagent_run_id: lane,
                    ..content
                }
                .into(),
            );
        }
        Ok(parts)
    }

    fn tool(&mut self, chunk: &ToolCallChunk) -> Result<Vec<Event>, OrderError> {
        let event = EventKind::ToolCallChunk;
        let id = chunk.tool_call_id.as_ref();
        let lane = self.lane(
            event,
            OpenKind::ToolCall,
            id.map(String::as_str),
            &chunk.subagent_run_id,
        )?;
        let mut parts = Vec::new();
        let continued = match self.in_lane(&lane) {
            Some(Pending::Tool { id: open, name, parent }) if id.is_none_or(|id| id == open) => {
                agree(event, open, "toolCallName", chunk.tool_call_name.as_ref(), Some(name))?;
                agree(
                    event,
                    open,
                    "parentMessageId",
                    chunk.parent_message_id.as_ref(),
                    parent.as_ref(),
                )?;
                Some(open.clone())
            }
            Some(_) | None => None,
        };
        let tool_call_id = match continued {
            Some(id) => id,
            None => {
                parts = self.close(&lane);
                let id = id.cloned().ok_or(OrderError::FirstChunk {
                    event,
                    field: "toolCallId",
                })?;
                let name = chunk.tool_call_name.clone();
                let name = name.ok_or(OrderError::FirstChunk {
                    event,
                    field: "toolCallName",
                })?;
                let parent = chunk.parent_message_id.clone();
                let start = ToolCallStart::new(&id, &name);
                let (subagent_run_id, parent_message_id) = (lane.clone(), parent.clone());
                self.0.push((
                    lane.clone(),
                    Pending::Tool {
                        id: id.clone(),
                        name,
                        parent,
                    },
                ));
                parts.push(
                    ToolCallStart {
                        subagent_run_id,
                        parent_message_id,
                        ..start
                    }
                    .into(),
                );
                id
            }
        };
        if has_content!(chunk, parts) {
            parts.push(
                ToolCallArgs {
                    subagent_run_id: lane,
                    ..ToolCallArgs::new(tool_call_id, "")
                }
                .into(),
            );
        }
        Ok(parts)
    }

    fn reasoning(&mut self, chunk: &ReasoningMessageChunk) -> Result<Vec<Event>, OrderError> {
        let event = EventKind::ReasoningMessageChunk;
        let id = chunk.message_id.as_ref();
        let lane = self.lane(
            event,
            OpenKind::ReasoningMessage,
            id.map(MessageId::as_str),
            &chunk.subagent_run_id,
        )?;
        let mut parts = Vec::new();
        let continued = match self.in_lane(&lane) {
            Some(Pending::Reasoning { id: open }) if id.is_none_or(|id| id == open) => Some(open.clone()),
            Some(_) | None => None,
        };
        let message_id = match continued {
            Some(id) => id,
            None => {
                parts = self.close(&lane);
                let id = id.cloned().ok_or(OrderError::FirstChunk {
                    event,
                    field: "messageId",
                })?;
                self.0.push((lane.clone(), Pending::Reasoning { id: id.clone() }));
                let start = ReasoningMessageStart::new(&id);
                parts.push(
                    ReasoningMessageStart {
                        subagent_run_id: lane.clone(),
                        ..start
                    }
                    .into(),
                );
                id
            }
        };
        if has_content!(chunk, parts) {
            let content = ReasoningMessageContent::new(message_id, "");
            parts.push(
                ReasoningMessageContent {
                    subagent_run_id: lane,
                    ..content
                }
                .into(),
            );
        }
        Ok(parts)
    }
}

/// A field may be repeated, but only as it was.
fn agree<T: PartialEq>(
    event: EventKind,
    id: &str,
    field: &'static str,
    now: Option<&T>,
    first: Option<&T>,
) -> Result<(), OrderError> {
    if now.is_none() || now == first {
        return Ok(());
    }
    Err(OrderError::ChunkDisagrees {
        event,
        id: id.to_owned(),
        field,
    })
}
