//! A session's log as a recording: what its users sent, found again in the events that say so.
//!
//! The log does not know devices nor the options of a message: commands come from one device, with the default options.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use kronos_actors::{
    clock::Millis,
    session::{
        message::SessionError,
        reader::SessionReader,
        state::{Accepted, MESSAGE_ACCEPTED, MESSAGE_UNQUEUED, Unqueued},
    },
    store::SessionMeta,
};
use kronos_protocol::{
    client::{Answer, Cancel, ClientFrame, Command, Resume, Send, Unqueue},
    entry::LogEntry,
    event::{Custom, Event, Outcome},
    ids::{DeviceName, MessageId, Ref, SessionId},
    message::{Message, ResumeAnswer, UserMessage},
    position::Seq,
    recording::{Header, Line, RecordedCommand, RecordedEvent, VERSION},
};

use super::sse::{Source, write_json};

/// The device that the log does not know.
const DEVICE: &str = "1";

/// The lines of a recording.
pub(super) struct Recording {
    reader: SessionReader,
    head: Seq,
    header: Option<Header>,
    told: Told,
}

impl Recording {
    pub(super) fn new(reader: SessionReader, meta: &SessionMeta) -> Self {
        let session = meta.session.clone();
        let mut header = Header::new(VERSION, session.clone(), reader.epoch().clone(), meta.created_at_ms);
        header.title.clone_from(&meta.title);
        header.recorder = Some(concat!("kronos ", env!("CARGO_PKG_VERSION")).to_owned());
        Self {
            head: reader.head(),
            reader,
            header: Some(header),
            told: Told::new(session, meta.created_at_ms),
        }
    }
}

impl Source for Recording {
    const IS_EVENTS: bool = false;

    async fn next(&mut self) -> Result<Option<Bytes>, SessionError> {
        let mut out = BytesMut::new();
        if let Some(header) = self.header.take() {
            write_line(&mut out, &header);
            return Ok(Some(out.freeze()));
        }
        if self.reader.position() >= self.head {
            return Ok(None);
        }
        let batch = self.reader.next().await?;
        for entry in batch.entries.iter() {
            for line in self.told.lines(entry) {
                write_line(&mut out, &line);
            }
        }
        Ok(Some(out.freeze()))
    }
}

fn write_line(out: &mut BytesMut, line: &impl serde::Serialize) {
    write_json(out, line);
    out.extend_from_slice(b"\n");
}

/// What was told so far, as far as it matters for what comes.
struct Told {
    session: SessionId,
    device: DeviceName,
    started: Millis,
    at_ms: u64,
    commands: u64,
    /// Messages that were sent and have no run yet.
    waiting: HashSet<MessageId>,
    /// The message of the last run: a run that is tried again has it too.
    last: Option<MessageId>,
}

impl Told {
    fn new(session: SessionId, started: Millis) -> Self {
        Self {
            session,
            device: DeviceName::from_trusted(DEVICE.to_owned()),
            started,
            at_ms: 0,
            commands: 0,
            waiting: HashSet::new(),
            last: None,
        }
    }

    /// The lines of an entry: the command that it comes from, if one does, then itself.
    fn lines(&mut self, entry: &LogEntry) -> Vec<Line> {
        let since = entry.event.timestamp().unwrap_or(0).saturating_sub(self.started);
        // What was said before the conversation came here has older times.
        self.at_ms = self.at_ms.max(u64::try_from(since).unwrap_or(0));
        let command = self.command(&entry.event, entry.run.is_some());
        let command = command.and_then(|command| self.recorded(command));
        let event = Line::Event(RecordedEvent::of_log(self.at_ms, entry.clone()));
        command.into_iter().chain([event]).collect()
    }

    fn recorded(&mut self, command: Command) -> Option<Line> {
        self.commands += 1;
        let reference = Ref::from_trusted(self.commands.to_string());
        let frame = ClientFrame::new(reference, command);
        RecordedCommand::new(self.at_ms, self.device.clone(), frame).map(Line::Command)
    }

    fn command(&mut self, event: &Event, in_run: bool) -> Option<Command> {
        match event {
            Event::RunStarted(started) => {
                let input = started.input.as_deref()?;
                if let Some(answers) = &input.resume {
                    return Some(self.resume(answers));
                }
                let user = input.messages.iter().find_map(user)?;
                let again = self.last.as_ref() == Some(&user.id);
                self.last = Some(user.id.clone());
                (!self.waiting.remove(&user.id) && !again).then(|| self.send(user).into())
            }
            Event::RunFinished(finished) if finished.outcome == Some(Outcome::Cancelled) => {
                let mut cancel = Cancel::new(self.session.clone());
                cancel.run = Some(finished.run_id.clone());
                Some(cancel.into())
            }
            Event::Custom(custom) if !in_run => self.queue_command(custom),
            _ => None,
        }
    }

    fn queue_command(&mut self, custom: &Custom) -> Option<Command> {
        match custom.name.as_str() {
            MESSAGE_ACCEPTED => {
                let accepted: Accepted = serde_json::from_value(custom.value.clone()).ok()?;
                let mut send = self.send(user(&accepted.message)?);
                send.mode = accepted.mode;
                self.waiting.insert(accepted.message_id);
                Some(send.into())
            }
            MESSAGE_UNQUEUED => {
                let unqueued: Unqueued = serde_json::from_value(custom.value.clone()).ok()?;
                self.waiting.remove(&unqueued.message_id);
                Some(Unqueue::new(self.session.clone(), unqueued.message_id).into())
            }
            _ => None,
        }
    }

    fn resume(&self, answers: &[ResumeAnswer]) -> Command {
        let answer = |answer: &ResumeAnswer| {
            let mut given = Answer::new(answer.interrupt_id.clone(), answer.status);
            given.payload.clone_from(&answer.payload);
            given
        };
        Resume::new(self.session.clone(), answers.iter().map(answer).collect::<Vec<_>>()).into()
    }

    fn send(&self, user: &UserMessage) -> Send {
        Send::new(self.session.clone(), user.id.clone(), user.content.clone())
    }
}

fn user(message: &Message) -> Option<&UserMessage> {
    match message {
        Message::User(user) => Some(user),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kronos_protocol::{
        event::RunStarted,
        ids::{InterruptId, RunId},
        message::{ResumeStatus, RunInput},
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_to_a_question_is_a_command_of_its_own() {
        let session = SessionId::from_trusted("0192".to_owned());
        let mut told = Told::new(session, 1000);
        let run = RunId::from_trusted("r_2".to_owned());
        let mut input = RunInput::new("0192", run.clone(), Vec::new());
        let interrupt = InterruptId::from_trusted("i_1".to_owned());
        let mut answer = ResumeAnswer::new(interrupt.clone(), ResumeStatus::Resolved);
        answer.payload = Some(json!({"approved": true}));
        input.resume = Some(vec![answer]);
        let mut started = RunStarted::new("0192", run);
        started.input = Some(Box::new(input));
        let entry = LogEntry::new(7_u64, Event::from(started).with_timestamp(1500));
        let lines = told.lines(&entry);
        let [Line::Command(command), Line::Event(event)] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert_eq!((command.at_ms, event.seq), (500, 7));
        let Command::Resume(resume) = &command.frame().command else {
            panic!("{command:?}");
        };
        assert_eq!(resume.answers[0].interrupt, interrupt);
        assert_eq!(resume.answers[0].payload, Some(json!({"approved": true})));
    }
}
