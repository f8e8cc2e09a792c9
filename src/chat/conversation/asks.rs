//! Answers to questions, and the commands that change what is there: the queue, the branch, the settings.

use std::time::Duration;

use kronos_protocol::client::{Edit, Regenerate, Resume, SessionSettings, Settings, Unqueue};
use kronos_protocol::message::ResumeStatus;

use super::{
    Answer, Asked, Begun, Command, Conversation, End, InterruptId, Map, MessageId, News, Refusal, SEND_AGAIN, Stage,
    Step, Value, complaint,
};
use crate::chat::transcript::{Question, Queued, Verdict};
use crate::chat::view::Remark;

impl Conversation {
    /// The questions that nobody has answered, but for those that are answered here just now. None before everything that
    /// was there has come.
    pub(in crate::chat) fn questions(&self) -> impl Iterator<Item = &Question> {
        let ready = self.stage == Stage::Attached && self.history.is_none();
        let own = !self.only_own || self.outcome == Some(End::Asks);
        let questions = self.transcript.questions().iter();
        questions.filter(move |question| ready && own && !self.answers.contains_key(&question.id))
    }

    /// Whether a tool is being called for this client: that may take a while.
    pub(in crate::chat) fn is_calling(&self) -> bool {
        self.own_run.is_some() && self.transcript.is_calling()
    }

    /// Messages that wait.
    pub(in crate::chat) fn queue(&self) -> &[Queued] {
        self.transcript.queue()
    }

    /// Each branch that was seen, the last message in it, and whether it is the conversation now.
    pub(in crate::chat) fn branches(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.transcript.branches()
    }

    /// What is set.
    pub(in crate::chat) fn settings(&self) -> &Map<String, Value> {
        &self.settings
    }

    /// Answers a question; `None`: nobody answers it.
    pub(in crate::chat) fn answer(&mut self, id: &InterruptId, payload: Option<Value>) -> Vec<Step> {
        let status = if payload.is_some() {
            ResumeStatus::Resolved
        } else {
            ResumeStatus::Cancelled
        };
        let mut answer = Answer::new(id.clone(), status);
        answer.payload = payload;
        self.answers.insert(id.clone(), answer);
        self.resume(id)
    }

    fn resume(&mut self, id: &InterruptId) -> Vec<Step> {
        let session = self.session.clone().filter(|_| self.stage == Stage::Attached);
        let answer = self.answers.get(id).cloned();
        // What is not sent now is when everything has come: the question may be answered by then.
        match session.zip(answer) {
            Some((session, answer)) => vec![self.ask(Asked::Resume(id.clone()), Resume::new(session, vec![answer]))],
            None => Vec::new(),
        }
    }

    /// Sends the answers that got no reply before the connection was lost, as far as they are still asked for.
    pub(in crate::chat) fn answer_again(&mut self) -> Vec<Step> {
        if self.stage != Stage::Attached || self.history.is_some() {
            return Vec::new();
        }
        let open = self.transcript.questions();
        self.answers
            .retain(|id, _| open.iter().any(|question| question.id == *id));
        let asked: Vec<_> = self.asked.values().cloned().collect();
        let sent = |id: &InterruptId| {
            asked
                .iter()
                .any(|asked| matches!(asked, Asked::Resume(other) if other == id))
        };
        let again: Vec<_> = self.answers.keys().filter(|id| !sent(id)).cloned().collect();
        again.iter().flat_map(|id| self.resume(id)).collect()
    }

    /// An answer was refused: somebody else was first, or it is not good.
    pub(super) fn not_answered(&mut self, id: &InterruptId, refusal: Refusal) -> Vec<Step> {
        if refusal.retry {
            let after = refusal.after_ms.map_or(SEND_AGAIN, Duration::from_millis);
            return vec![complaint("not answered yet", refusal), Step::SendLater(after)];
        }
        self.answers.remove(id);
        if refusal.code == "not_found" {
            self.transcript.close(id);
        }
        if refusal.code != "conflict" {
            return vec![complaint("not answered", refusal)];
        }
        let tool = self.transcript.questions().iter().find(|question| question.id == *id);
        let tool = tool.map(|question| question.tool.clone());
        let known = !self.transcript.close(id);
        match serde_json::from_value::<Verdict>(refusal.details.clone()) {
            // The event has told it.
            Ok(_) if known => Vec::new(),
            Ok(verdict) => vec![Step::News(News::Answered {
                tool: tool.unwrap_or_default(),
                verdict,
                own: false,
            })],
            Err(_) => vec![complaint("not answered", refusal)],
        }
    }

    /// Marks what this connection answered.
    pub(super) fn tell_own(&self, mut news: News) -> News {
        if let News::Answered { verdict, own, .. } = &mut news {
            let by = verdict.answered_by.connection.as_ref();
            *own = by.is_some() && by == self.connection.as_ref();
        }
        news
    }

    /// A run that was asked for has begun, if it is not over already.
    pub(super) fn begun(&mut self, reply: Option<Begun>) -> Vec<Step> {
        let Some(run) = reply.and_then(|reply| reply.run) else {
            return Vec::new();
        };
        if let Some(end) = self.transcript.end_of(&run) {
            self.outcome = Some(end.clone());
        } else if self.transcript.run() == Some(&run) {
            self.own_run = Some(run);
        } else {
            self.expected = Some(run);
        }
        Vec::new()
    }

    /// Takes a queued message back.
    pub(in crate::chat) fn unqueue(&mut self, id: MessageId) -> Vec<Step> {
        self.command(Asked::Unqueue, |session| Unqueue::new(session, id).into())
    }

    /// Puts another text in place of the user's last message.
    pub(in crate::chat) fn edit(&mut self, text: String) -> Vec<Step> {
        let Some(message) = self.transcript.last_said().cloned() else {
            return vec![Step::Remark(Remark::Line("there is no message to change".to_owned()))];
        };
        self.command(Asked::Edit, |session| Edit::new(session, message, text).into())
    }

    /// Has the last message answered again.
    pub(in crate::chat) fn regenerate(&mut self) -> Vec<Step> {
        self.command(Asked::Regenerate, |session| Regenerate::new(session).into())
    }

    /// Changes settings.
    pub(in crate::chat) fn set(&mut self, settings: SessionSettings) -> Vec<Step> {
        self.command(Asked::Settings, |session| Settings::new(session, settings).into())
    }

    fn command(&mut self, asked: Asked, command: impl FnOnce(kronos_protocol::SessionId) -> Command) -> Vec<Step> {
        match self.session.clone().filter(|_| self.stage == Stage::Attached) {
            Some(session) => vec![self.ask(asked, command(session))],
            None => vec![Step::Remark(Remark::Line(
                "not while there is no connection".to_owned(),
            ))],
        }
    }
}
