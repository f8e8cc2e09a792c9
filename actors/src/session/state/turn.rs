//! What a session keeps of its runs, their steps and calls.

use kronos_protocol::{
    client::{RunOptions, SendMode},
    event::TokenUsage,
    ids::{MessageId, RunId},
    message::{Interrupt, Tool as ClientTool, UserContent},
    position::Seq,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    clock::Millis,
    session::message::{RunStatus, Verdict},
};

/// What a `RUN_STARTED` keeps beside it, unseen by clients: what belongs to its turn, over all the turn's runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The number of this attempt since the turn last got on, from 1.
    pub attempt: u32,
    /// Options that came with the message.
    #[serde(default)]
    pub options: RunOptions,
    /// The message that the turn answers, when the run does not carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// What the model is to know in this turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Tools that the client runs itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_tools: Vec<ClientTool>,
    /// Steps that the turn has taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps: u32,
    /// How often the model was told that a call of its was malformed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mends: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A message that waits behind the active run.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Its id.
    pub id: MessageId,
    /// What it says.
    pub content: UserContent,
    /// How it waits.
    pub mode: SendMode,
    /// What its run is to know.
    pub record: RunRecord,
}

impl Queued {
    /// Whether it is for the run that is active, at its next step.
    #[must_use]
    pub fn is_steering(&self) -> bool {
        self.mode == SendMode::Steer
    }
}

/// The active run.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveRun {
    /// Its id.
    pub id: RunId,
    /// The message it answers.
    pub message: MessageId,
    /// What belongs to its turn.
    pub record: RunRecord,
    /// When it started.
    pub started_ms: Millis,
    /// Answers of the model that are over: the next one has this number, plus 1.
    pub answers: u32,
    /// Something is done that need not be done again.
    pub progressed: bool,
    /// What its complete answers used, one entry per model.
    pub spent: Vec<TokenUsage>,
}

/// A turn whose last run was interrupted (crash, drain) and which may be tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct InterruptedTurn {
    /// The message to answer.
    pub message: MessageId,
    /// What belongs to the turn; its `attempt` counts those that were made since it last got on.
    pub record: RunRecord,
}

/// What became of a `send`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Seq of the event that first carried the message.
    pub seq: Seq,
    /// The first run that answers it.
    pub run: Option<RunId>,
    /// It was taken back.
    pub removed: bool,
}

/// The step whose calls are not all answered; it outlives the run that began it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The model's message that makes the calls.
    pub message: MessageId,
    /// The turn's message, and what belongs to the turn.
    pub turn: (MessageId, RunRecord),
    /// The calls, in order.
    pub calls: Vec<Call>,
}

impl Step {
    /// Whether a person is asked, and has not answered everything.
    #[must_use]
    pub fn has_open_questions(&self) -> bool {
        self.questions().any(|question| question.verdict.is_none())
    }

    /// The questions of calls that are not answered.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        let unanswered = self.calls.iter().filter(|call| call.stage != Stage::Answered);
        unanswered.filter_map(|call| call.question.as_ref())
    }
}

/// One call of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its id, unique in the session.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
    /// Where it stands.
    pub stage: Stage,
    /// What its intent says, once there is one.
    pub intent: Option<Intent>,
    /// What a person is asked about it, or was.
    pub question: Option<Question>,
    /// Questions that were asked about it.
    pub asked: u32,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The model makes it; nothing was decided.
    Announced,
    /// A person is to approve it.
    Asking,
    /// Its intent is in the log: it may have left.
    Sent,
    /// It left, and nobody knows what became of it: a person decides.
    Unknown,
    /// Nothing was done: the user's account for it is missing.
    Connecting,
    /// The client runs it.
    Client,
    /// Its result is there.
    Answered,
}

/// A question about a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// When it was asked.
    pub asked_ms: Millis,
    /// As clients have it.
    pub interrupt: Interrupt,
    /// What became of it, and the payload that came with the answer.
    pub verdict: Option<(Verdict, Option<Value>)>,
}

/// `CUSTOM` name, within a run: what is to become of calls: [`ToolCalls`].
pub const TOOL_CALLS: &str = "kronos.tool_calls";
/// `CUSTOM` name: a question was answered: [`Verdict`].
pub const INTERRUPT_ANSWERED: &str = "kronos.interrupt_answered";
/// `CUSTOM` name: a run that waited for people was given up: [`RunCancelled`].
pub const RUN_CANCELLED: &str = "kronos.run_cancelled";

/// What [`RUN_CANCELLED`] carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunCancelled {
    /// The run.
    pub run_id: RunId,
}

/// `activityType` of how a call gets on: `{toolCallId, tool, toolkit, status}`.
pub const TOOL_PROGRESS: &str = "kronos.tool_progress";

/// What [`TOOL_CALLS`] carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCalls {
    /// The calls that something was decided about.
    pub calls: Vec<CallDecision>,
}

/// What was decided about one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallDecision {
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// Its toolkit, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolkit: Option<String>,
    /// It changes nothing.
    pub read_only: bool,
    /// What becomes of it.
    pub decision: Decided,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// It leaves: this is its write-ahead intent.
    Run,
    /// A person is asked first.
    Ask,
    /// It is malformed, unknown or not allowed: a result that says so follows.
    Refused,
    /// It left, and nobody knows what became of it.
    Unknown,
    /// Nothing was done: the user's account is missing.
    Connect,
    /// The client runs it.
    Client,
}

/// What [`TOOL_CALLS`] keeps beside it, unseen by clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCallsRecord {
    /// The provider's raw parts of the answer that makes the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<Value>>,
    /// What that answer used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// The intents, by call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Intent>,
    /// Calls were malformed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mend: bool,
}

/// What is needed to make a call, now or after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The call.
    pub call: String,
    /// Unique for each time that the call may have an effect.
    pub key: String,
    /// The toolkit of the tool.
    pub toolkit: String,
    /// The version that was offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// It changes nothing.
    pub read_only: bool,
    /// It may be made again when nobody knows what became of it.
    pub repeatable: bool,
    /// Arguments that a person gave in place of the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Map<String, Value>>,
    /// JSON schema of the arguments, kept while a person may change them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// What `TOOL_CALL_RESULT` keeps beside it, unseen by clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// What came of the call.
    pub status: ResultStatus,
    /// The whole result is stored beside the log, under the call's id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored: bool,
}

/// What came of a call, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultStatus {
    /// It was done.
    Done,
    /// It was not, or says so.
    Failed,
    /// It was malformed, unknown or not allowed.
    Refused,
    /// A person said no, or did not say anything.
    Rejected,
    /// Nobody knows.
    Unknown,
    /// It was stopped, and that does no harm.
    Stopped,
}

impl ResultStatus {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
        }
    }
}

/// What is remembered of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// Its id.
    pub id: RunId,
    /// The message its turn answers.
    pub message: MessageId,
    /// Where it stands.
    pub status: RunStatus,
    /// When it began.
    pub started_ms: Millis,
    /// When it ended.
    pub ended_ms: Option<Millis>,
    /// Steps that the turn had taken then.
    pub steps: u32,
    /// What it used.
    pub usage: Vec<TokenUsage>,
    /// Options that came with the message.
    pub options: RunOptions,
    /// Code and text of what it failed with.
    pub error: Option<(String, String)>,
    /// The run that went on with its turn.
    pub next: Option<RunId>,
}
