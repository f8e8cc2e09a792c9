//! Puts the ids of this session into commands that were recorded in another one.

use kronos_protocol::client::{AttachTarget, Command};
use kronos_protocol::{InterruptId, MessageId, RunId, SessionId};

use super::view::View;
use crate::script::Names;

/// Returns the command as it is said in this session; `None` while the session has not made what it speaks of.
///
/// The n-th run, answer or question of the recording is the n-th of this session. Other ids (those of the user's own messages)
/// were chosen by the client and stay.
pub(crate) fn translate(command: &Command, names: &Names, view: &View, session: &SessionId) -> Option<Command> {
    let mut command = command.clone();
    match &mut command {
        Command::Attach(attach) => {
            if let AttachTarget::Existing(existing) = &mut attach.session {
                *existing = session.clone();
            }
        }
        Command::Detach(detach) => detach.session = session.clone(),
        Command::Send(send) => send.session = session.clone(),
        Command::Unqueue(unqueue) => unqueue.session = session.clone(),
        Command::Cancel(cancel) => {
            cancel.session = session.clone();
            if let Some(run) = &mut cancel.run {
                *run = run_of(run, names, view)?;
            }
        }
        Command::Resume(resume) => {
            resume.session = session.clone();
            for answer in &mut resume.answers {
                answer.interrupt = interrupt_of(&answer.interrupt, names, view)?;
            }
        }
        Command::Edit(edit) => {
            edit.session = session.clone();
            edit.message = message_of(&edit.message, names, view)?;
        }
        Command::Regenerate(regenerate) => {
            regenerate.session = session.clone();
            if let Some(message) = &mut regenerate.message {
                *message = message_of(message, names, view)?;
            }
        }
        Command::Settings(settings) => settings.session = session.clone(),
        Command::Typing(typing) => typing.session = session.clone(),
        Command::Hello(_) | Command::TokenUpdate(_) | Command::Ping => {}
    }
    Some(command)
}

/// Finds the id in the place of `id`; ids that the recording does not know stay.
fn in_place_of<T: Clone + PartialEq>(id: &T, recorded: &[T], mut here: impl FnMut(usize) -> Option<T>) -> Option<T> {
    match recorded.iter().position(|known| known == id) {
        Some(place) => here(place),
        None => Some(id.clone()),
    }
}

fn run_of(id: &RunId, names: &Names, view: &View) -> Option<RunId> {
    in_place_of(id, &names.runs, |place| view.runs.get(place).map(|run| run.id.clone()))
}

fn message_of(id: &MessageId, names: &Names, view: &View) -> Option<MessageId> {
    in_place_of(id, &names.answers, |place| view.answers.get(place).cloned())
}

fn interrupt_of(id: &InterruptId, names: &Names, view: &View) -> Option<InterruptId> {
    in_place_of(id, &names.interrupts, |place| view.interrupts.get(place).cloned())
}

#[cfg(test)]
mod tests {
    use kronos_protocol::{Codec, Event, LogEntry};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock;

    fn command(fields: Value) -> Command {
        let mut frame = json!({"ref": "1", "session": "recorded"});
        frame
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let bytes = serde_json::to_vec(&frame).unwrap();
        Codec::Json.decode_client(&bytes).unwrap().command
    }

    fn names() -> Names {
        Names {
            runs: vec!["r1".parse().unwrap(), "r2".parse().unwrap()],
            answers: vec!["a1".parse().unwrap()],
            interrupts: vec!["i1".parse().unwrap()],
        }
    }

    fn view(events: Value) -> View {
        let mut view = View::default();
        for (event, seq) in events.as_array().unwrap().iter().zip(1_u64..) {
            let event: Event = serde_json::from_value(event.clone()).unwrap();
            let mut entry = LogEntry::new(seq, event);
            entry.run = Some("x1".parse().unwrap());
            view.take(&entry, clock::instant());
        }
        view
    }

    #[test]
    fn ids_go_by_the_order_in_which_they_were_made() {
        let view = view(json!([
            {"type": "RUN_STARTED", "threadId": "t", "runId": "x1"},
            {"type": "TEXT_MESSAGE_START", "messageId": "b1"},
            {"type": "RUN_FINISHED", "threadId": "t", "runId": "x1",
                "outcome": {"type": "interrupt", "interrupts": [{"id": "j1", "reason": "approval"}]}},
        ]));
        let session: SessionId = "here".parse().unwrap();
        let say = |fields| translate(&command(fields), &names(), &view, &session);
        let is = |fields: Value| {
            let mut command = command(fields);
            // Every command here has a session: what is expected is in this one.
            command = translate(&command, &Names::default(), &View::default(), &session).unwrap();
            Some(command)
        };
        assert_eq!(
            say(json!({"op": "cancel", "run": "r1"})),
            is(json!({"op": "cancel", "run": "x1"}))
        );
        assert_eq!(say(json!({"op": "cancel"})), is(json!({"op": "cancel"})));
        assert_eq!(
            say(json!({"op": "regenerate", "message": "a1"})),
            is(json!({"op": "regenerate", "message": "b1"}))
        );
        assert_eq!(
            say(json!({"op": "resume", "answers": [{"interrupt": "i1", "status": "resolved"}]})),
            is(json!({"op": "resume", "answers": [{"interrupt": "j1", "status": "resolved"}]}))
        );
        // What the user named stays; what is not there yet is waited for.
        assert_eq!(
            say(json!({"op": "edit", "message": "m_1", "content": "x"})),
            is(json!({"op": "edit", "message": "m_1", "content": "x"}))
        );
        assert_eq!(say(json!({"op": "cancel", "run": "r2"})), None);
    }
}
