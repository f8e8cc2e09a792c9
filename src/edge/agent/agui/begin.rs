//! From what an AG-UI client sends to the run that it is about: a new one, one that goes on, or one that it asked for before.

use std::sync::Arc;

use kronos_actors::{
    directory::{DirectoryRef, SessionRef},
    principal::Principal,
    session::{
        message::{AnsweredBy, Page, Resume, SessionCommand, SessionError, SessionReply, Submit},
        reader::{SessionReader, TurnReader},
    },
};
use kronos_protocol::{
    client::{RunOptions, SendMode},
    entry::LogEntry,
    error::ErrorCode,
    event::{Event, RunStarted},
    ids::{MessageId, RunId},
    message::{ContentPart, ResumeAnswer, UserContent},
    position::Seq,
};

use super::RunBody;
use crate::edge::{
    chat::{
        ask,
        stream::{Leaving, TurnSource},
        unexpected,
    },
    error::ApiError,
};

/// What a request led to.
pub(super) enum Begun {
    /// A run, to be followed.
    Follow(Box<TurnSource>),
    /// Nothing: told in the stream.
    Refused(SessionError),
}

/// Results of calls that the client ran.
type Results = Vec<(String, UserContent)>;

/// A conversation of the caller's.
struct Thread<'a> {
    directory: &'a DirectoryRef,
    session: SessionRef,
    caller: Arc<Principal>,
    leaving: Leaving,
}

/// Begins what the client asks for, or finds it.
pub(super) async fn begin(
    directory: &DirectoryRef,
    caller: Arc<Principal>,
    body: RunBody,
    leaving: Leaving,
) -> Result<Begun, ApiError> {
    let found = directory.thread(&caller, body.thread.as_str()).await?;
    let goes_on = !body.resume.is_empty() || body.said.user.is_empty() && !body.said.results.is_empty();
    if !goes_on && body.said.user.is_empty() {
        let text = "there is nothing new to answer: neither a message of the user, nor a result, nor an answer";
        return Ok(refused(ErrorCode::Validation, text));
    }
    if !goes_on && body.said.user.iter().all(|message| says_nothing(&message.content)) {
        return Ok(refused(ErrorCode::Validation, "a message needs at least one character"));
    }
    if goes_on && !found.exists {
        return Ok(refused(ErrorCode::NotFound, "nothing was asked in this thread"));
    }
    let is_new = !found.exists;
    let thread = Thread {
        directory,
        session: directory.open(&caller, &found).await?,
        caller,
        leaving,
    };
    if goes_on {
        return thread.go_on(body).await;
    }
    thread.say(body, is_new).await
}

fn refused(code: ErrorCode, text: &str) -> Begun {
    Begun::Refused(SessionError::new(code, text))
}

impl Thread<'_> {
    async fn ask(&mut self, command: SessionCommand) -> Result<SessionReply, SessionError> {
        let (session, reply) = ask(self.directory, self.session.clone(), &self.caller, command).await?;
        self.session = session;
        Ok(reply)
    }

    /// A message, and the run that answers it.
    async fn say(mut self, body: RunBody, is_new: bool) -> Result<Begun, ApiError> {
        let mut said = body.said.user;
        let Some(last) = said.pop() else {
            return Ok(refused(ErrorCode::Validation, "there is no message"));
        };
        let mut contents = Vec::new();
        for message in said {
            if is_new || !self.knows(&message.id).await? {
                contents.push(message.content);
            }
        }
        contents.push(last.content);
        let submit = Submit {
            mode: SendMode::Reject,
            run: RunOptions {
                toolkits: body.wishes.toolkits,
                tool_policy: body.wishes.tool_policy,
                ..RunOptions::default()
            },
            context: body.context,
            client_tools: body.tools,
            ..Submit::new(last.id.clone(), joined(contents))
        };
        match self.ask(SessionCommand::Submit(submit)).await {
            Ok(SessionReply::Sent { seq, .. }) => self.follow_message(last.id, seq).await,
            Ok(_) => Err(unexpected("submit")),
            Err(error) if error.code == ErrorCode::Busy && !self.is_running().await? => {
                let text = "questions of this thread are open: the next run must answer all of them in `resume`";
                Ok(refused(ErrorCode::Conflict, text))
            }
            // As a body it is what it should be: that it says nothing is the run's to tell.
            Err(error) if error.code == ErrorCode::Validation => Ok(Begun::Refused(error)),
            Err(error) => Err(error.into()),
        }
    }

    async fn knows(&mut self, message: &MessageId) -> Result<bool, ApiError> {
        let page = Page::Before {
            message: Some(message.clone()),
            limit: 0,
        };
        match self.ask(SessionCommand::View(page)).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn is_running(&mut self) -> Result<bool, ApiError> {
        match self.ask(SessionCommand::View(Page::last(0))).await? {
            SessionReply::View(view) => Ok(view.run.is_some()),
            _ => Err(unexpected("view")),
        }
    }

    /// Answers and results, and the run that goes on with them.
    async fn go_on(mut self, body: RunBody) -> Result<Begun, ApiError> {
        let mut results = Results::new();
        for (id, call, content) in body.said.results {
            // What the server said itself comes back in the history.
            if !self.knows(&id).await? {
                results.push((call, content));
            }
        }
        if !body.said.user.is_empty() && !self.knows_all(&body.said.user).await? {
            let text = "a run either answers questions or begins with a message, not both";
            return Ok(refused(ErrorCode::Validation, text));
        }
        let mut resume = Resume {
            answers: body.resume,
            results,
            all: true,
            by: AnsweredBy {
                user: Some(self.caller.user.clone()),
                connection: None,
                device: Some("ag-ui".to_owned()),
            },
        };
        let mut result = self.ask(SessionCommand::Resume(resume.clone())).await;
        let unasked = |result: &Result<_, SessionError>| {
            result
                .as_ref()
                .is_err_and(|error: &SessionError| error.code == ErrorCode::NotFound)
        };
        if unasked(&result) && !resume.answers.is_empty() && !resume.results.is_empty() {
            resume.results.clear();
            result = self.ask(SessionCommand::Resume(resume.clone())).await;
        }
        match result {
            Ok(SessionReply::Resumed {
                seq, run: Some(run), ..
            }) => self.follow_run(&run, seq).await,
            Ok(SessionReply::Resumed { run: None, .. }) => Ok(refused(
                ErrorCode::Conflict,
                "other questions of this thread are open still",
            )),
            Ok(_) => Err(unexpected("resume")),
            Err(error) if may_be_known(&error) => match self.went_on(&resume).await? {
                Some((run, seq)) => self.follow_run(&run, seq).await,
                None if error.code == ErrorCode::Busy => Err(error.into()),
                None => Ok(Begun::Refused(error)),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn knows_all(&mut self, messages: &[kronos_protocol::message::UserMessage]) -> Result<bool, ApiError> {
        for message in messages {
            if !self.knows(&message.id).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The run that went on with just these answers before, and where it begins.
    async fn went_on(&self, with: &Resume) -> Result<Option<(RunId, Seq)>, SessionError> {
        let mut reader = SessionReader::attach(self.directory, &self.session, &self.caller, 0).await?;
        let (head, mut past) = (reader.head(), Past::new(with));
        while reader.position() < head {
            for entry in reader.next().await?.entries.iter() {
                if let Some(found) = past.see(entry) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    async fn follow_message(self, message: MessageId, seq: Seq) -> Result<Begun, ApiError> {
        let turn = TurnReader::attach(self.directory, &self.session, &self.caller, &message, seq).await?;
        let source = TurnSource::new(self.directory, (self.session, self.caller), turn, self.leaving);
        Ok(Begun::Follow(Box::new(source.taken_back_as(message))))
    }

    async fn follow_run(mut self, run: &RunId, seq: Seq) -> Result<Begun, ApiError> {
        let message = match self.ask(SessionCommand::Run { run: run.clone() }).await {
            Ok(SessionReply::Run(view)) => Some(view.message),
            Ok(_) => return Err(unexpected("run")),
            // So old that it is not tried again.
            Err(error) if error.code == ErrorCode::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let what = (run, message.as_ref());
        let turn = TurnReader::attach_run(self.directory, &self.session, &self.caller, what, seq).await?;
        let source = TurnSource::new(self.directory, (self.session, self.caller), turn, self.leaving);
        Ok(Begun::Follow(Box::new(source)))
    }
}

/// What answers are refused with that may have been given before.
fn may_be_known(error: &SessionError) -> bool {
    matches!(
        error.code,
        ErrorCode::Conflict | ErrorCode::NotFound | ErrorCode::Validation | ErrorCode::Busy
    )
}

/// Looks in a log for the run that went on with answers and results.
struct Past<'a> {
    with: &'a Resume,
    /// The run that is looked at, when it may be the one.
    run: Option<(RunId, Seq)>,
    /// Results that it did not give yet.
    missing: Vec<&'a (String, UserContent)>,
}

impl<'a> Past<'a> {
    fn new(with: &'a Resume) -> Self {
        Self {
            with,
            run: None,
            missing: Vec::new(),
        }
    }

    fn see(&mut self, entry: &LogEntry) -> Option<(RunId, Seq)> {
        match &entry.event {
            Event::RunStarted(started) => {
                self.run = is_resumed(started, &self.with.answers).then(|| (started.run_id.clone(), entry.seq));
                self.missing = self.with.results.iter().collect();
            }
            Event::ToolCallResult(result) if self.run.is_some() => {
                let same =
                    |given: &&(String, UserContent)| (&given.0, &given.1) == (&result.tool_call_id, &result.content);
                self.missing.retain(|given| !same(given));
            }
            _ => {}
        }
        self.run.take_if(|_| self.missing.is_empty())
    }
}

/// Whether a run went on with these answers, all of them, and with no others.
fn is_resumed(started: &RunStarted, answers: &[ResumeAnswer]) -> bool {
    let Some(input) = started.input.as_ref().filter(|input| input.messages.is_empty()) else {
        return false;
    };
    let given: &[ResumeAnswer] = input.resume.as_deref().unwrap_or_default();
    let same = |answer: &ResumeAnswer| {
        given.iter().any(|other| {
            (&other.interrupt_id, other.status, &other.payload)
                == (&answer.interrupt_id, answer.status, &answer.payload)
        })
    };
    given.len() == answers.len() && answers.iter().all(same)
}

/// Whether there is neither a text nor anything else in it.
fn says_nothing(content: &UserContent) -> bool {
    let text = |part: &ContentPart| matches!(part, ContentPart::Text { .. });
    match content {
        UserContent::Text(text) => text.is_empty(),
        UserContent::Parts(parts) => content.text().is_empty() && parts.iter().all(text),
    }
}

/// One message of several that were not answered.
fn joined(mut contents: Vec<UserContent>) -> UserContent {
    if contents.len() == 1
        && let Some(only) = contents.pop()
    {
        return only;
    }
    let texts: Option<Vec<&str>> = contents
        .iter()
        .map(|content| match content {
            UserContent::Text(text) => Some(text.as_str()),
            UserContent::Parts(_) => None,
        })
        .collect();
    if let Some(texts) = texts {
        return UserContent::Text(texts.join("\n\n"));
    }
    let parts = contents.into_iter().flat_map(|content| match content {
        UserContent::Text(text) => vec![ContentPart::Text { text }],
        UserContent::Parts(parts) => parts,
    });
    UserContent::Parts(parts.collect())
}
