//! Questions to the user: shown one after the other, answered by a letter, a text, or the flags.

use kronos_protocol::InterruptId;
use serde_json::{Map, Value, json};

use super::{Driver, Leave, command};
use crate::chat::link_to;
use crate::chat::transcript::{About, Question};
use crate::chat::view::safe_json;

/// What answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) enum Policy {
    /// The user.
    Ask,
    /// Every call is allowed.
    Yes,
    /// None is.
    No,
}

impl Policy {
    /// The answer to a question, and what to say about it; `None`: somebody has to give it.
    fn answer(self, question: &Question) -> Option<(Option<Value>, &'static str)> {
        match (self, &question.about) {
            (Self::Yes, About::Approval) => Some((Some(json!({"approved": true})), "approved (--yes)")),
            (Self::No, About::Approval) => Some((Some(json!({"approved": false})), "rejected (--no)")),
            (Self::No, About::Unknown) => Some((Some(json!({"action": "skip"})), "left at that (--no)")),
            (Self::No, About::Connection { .. }) => Some((None, "not connected (--no)")),
            // To call once more what may have been done is nothing that was approved.
            (Self::Yes, About::Unknown | About::Connection { .. }) | (_, About::Other) | (Self::Ask, _) => None,
        }
    }
}

/// What the user is typing at a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typing {
    /// One of the letters.
    Choice,
    /// The arguments of the call.
    Arguments,
    /// What the call returned.
    Value,
}

/// A question that the user is asked.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    question: Question,
    typing: Typing,
    /// What was typed and was not good.
    draft: Option<String>,
}

impl Asking {
    fn id(&self) -> &InterruptId {
        &self.question.id
    }
}

/// What a line means at a question.
#[derive(Debug, Clone, PartialEq)]
enum Reply {
    /// The answer; `None`: nobody answers.
    Answer(Option<Value>),
    /// Something else is to be typed.
    Type(Typing),
    /// Open the page.
    Open,
    /// A command, or a message in place of an answer.
    Command,
    /// Neither; with what to say about it.
    Wrong(String),
}

impl Driver {
    /// Sees to the questions that are open: answers those that the flags answer, and shows the next of the others.
    pub(super) async fn attend(&mut self) -> anyhow::Result<Option<Leave>> {
        while let Some((question, (answer, word))) = self.answered_by_flag() {
            self.seen.insert(question.id.clone());
            self.line(format!("{}: {word}", question.tool))?;
            let steps = self.conversation.answer(&question.id, answer);
            if let Some(leave) = self.perform(steps).await? {
                return Ok(Some(leave));
            }
        }
        if self.is_interactive() {
            self.ask_next()?;
            return Ok(None);
        }
        let fresh: Vec<_> = self.fresh().cloned().collect();
        for question in &fresh {
            self.show(question)?;
        }
        Ok(None)
    }

    /// Questions that were neither shown nor answered.
    fn fresh(&self) -> impl Iterator<Item = &Question> {
        self.conversation
            .questions()
            .filter(|question| !self.seen.contains(&question.id))
    }

    fn answered_by_flag(&self) -> Option<(Question, (Option<Value>, &'static str))> {
        self.fresh()
            .find_map(|question| Some((question.clone(), self.policy.answer(question)?)))
    }

    /// Shows the question that is to be answered next, unless one is asked already.
    fn ask_next(&mut self) -> anyhow::Result<()> {
        let asked = self.asking.as_ref().map(Asking::id);
        let stands = |question: &Question| Some(&question.id) == asked;
        if self.conversation.questions().any(stands) {
            return Ok(());
        }
        if self.asking.take().is_some() {
            self.page = None;
        }
        let next = self.conversation.questions().next().cloned();
        // One after the other: an answer that is refused is asked for again before the next.
        let Some(question) = next.filter(|_| !self.conversation.is_answering()) else {
            return Ok(());
        };
        self.show(&question)?;
        if let About::Connection { link } = &question.about {
            self.page = link.as_deref().and_then(link_to::read);
        }
        let before = self.refused.take().filter(|before| before.question.id == question.id);
        self.asking = Some(Asking {
            question,
            typing: Typing::Choice,
            draft: before.and_then(|before| before.draft),
        });
        if self.keyboard.is_empty_line() {
            // Whatever is typed from now on is typed below the question.
            self.line_for.clone_from(&self.asking);
        }
        Ok(())
    }

    fn show(&mut self, question: &Question) -> anyhow::Result<()> {
        self.seen.insert(question.id.clone());
        let pieces = self.view.question(question);
        self.print(pieces)
    }

    /// What the next line begins with.
    pub(super) fn initial(&mut self) -> String {
        match &self.asking {
            Some(Asking {
                typing: Typing::Arguments,
                question,
                draft,
            }) => draft.clone().unwrap_or_else(|| {
                let arguments = question.arguments.clone().unwrap_or_default();
                safe_json(&Value::Object(arguments).to_string())
            }),
            _ => std::mem::take(&mut self.prefill),
        }
    }

    /// Whether Ctrl-C ended the typing of arguments or of a value: the question stands.
    pub(super) fn gave_up_typing(&mut self, asked_for: Option<&Asking>) -> bool {
        let typing = asked_for.is_some_and(|asked| asked.typing != Typing::Choice);
        if let Some(asking) = self.asking.as_mut().filter(|_| typing) {
            asking.typing = Typing::Choice;
        }
        typing
    }

    /// A line was typed while a question is open, or for one that was.
    pub(super) async fn typed_at_a_question(
        &mut self,
        asked_for: Option<Asking>,
        line: String,
    ) -> anyhow::Result<Option<Leave>> {
        let now = self.asking.clone();
        let same = asked_for.as_ref().map(Asking::id) == now.as_ref().map(Asking::id);
        let choosing = asked_for.as_ref().is_none_or(|asked| asked.typing == Typing::Choice);
        if choosing && line.trim_start().starts_with('/') {
            return self.obey(command::read(&line)).await;
        }
        match (asked_for, now) {
            (Some(_), Some(now)) if same => self.answered(now, line).await,
            (Some(asked), _) if !choosing || is_letter(&asked.question, &line) => {
                self.line("that question is not open any more; nothing was sent".to_owned())
            }
            (_, None) => self.obey(command::read(&line)).await,
            (_, Some(_)) if line.trim().is_empty() => Ok(None),
            // What is typed to the model must not answer a question that came meanwhile.
            (_, Some(_)) => {
                line.trim_end().clone_into(&mut self.prefill);
                self.line("a question came meanwhile; nothing was sent yet".to_owned())
            }
        }
    }

    async fn answered(&mut self, mut asking: Asking, line: String) -> anyhow::Result<Option<Leave>> {
        match reply(&asking.question, asking.typing, &line) {
            Reply::Answer(payload) => {
                let id = asking.id().clone();
                // Kept for the case that the server finds something wrong with it.
                asking.draft = (asking.typing == Typing::Arguments).then_some(line);
                self.asking = None;
                self.page = None;
                self.refused = Some(asking);
                let steps = self.conversation.answer(&id, payload);
                self.perform(steps).await
            }
            Reply::Type(typing) => {
                asking.typing = typing;
                self.asking = Some(asking);
                match typing {
                    Typing::Choice => Ok(None),
                    Typing::Arguments => self.line("the arguments as JSON; an empty line goes back".to_owned()),
                    Typing::Value => {
                        self.line("what the call returned, as JSON or text; an empty line goes back".to_owned())
                    }
                }
            }
            Reply::Open => self.open_page(),
            Reply::Command => self.obey(command::read(&line)).await,
            Reply::Wrong(why) => {
                if asking.typing == Typing::Arguments {
                    asking.draft = Some(line);
                    self.asking = Some(asking);
                }
                self.line(why)
            }
        }
    }
}

/// Whether a line would be an answer to a question.
fn is_letter(question: &Question, line: &str) -> bool {
    let reply = reply(question, Typing::Choice, line);
    !line.trim().is_empty() && matches!(reply, Reply::Answer(_) | Reply::Type(_))
}

fn reply(question: &Question, typing: Typing, line: &str) -> Reply {
    let line = line.trim();
    match typing {
        Typing::Arguments | Typing::Value if line.is_empty() => Reply::Type(Typing::Choice),
        Typing::Arguments => match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(arguments) => Reply::Answer(Some(json!({"approved": true, "editedArgs": arguments}))),
            Err(error) => Reply::Wrong(format!("not a JSON object: {error}")),
        },
        Typing::Value => {
            let result = serde_json::from_str::<Value>(line).unwrap_or_else(|_| line.into());
            Reply::Answer(Some(json!({"action": "result", "result": result})))
        }
        Typing::Choice => choice(&question.about, line),
    }
}

fn choice(about: &About, line: &str) -> Reply {
    let word = line.to_ascii_lowercase();
    match (about, word.as_str()) {
        (About::Approval, "y" | "yes") => Reply::Answer(Some(json!({"approved": true}))),
        (About::Approval, "n" | "no") => Reply::Answer(Some(json!({"approved": false}))),
        (About::Approval, "e" | "edit") => Reply::Type(Typing::Arguments),
        (About::Unknown, "r" | "retry") => Reply::Answer(Some(json!({"action": "retry"}))),
        (About::Unknown, "s" | "skip") => Reply::Answer(Some(json!({"action": "skip"}))),
        (About::Unknown, "v" | "value") => Reply::Type(Typing::Value),
        (About::Connection { .. }, "") => Reply::Open,
        (About::Connection { .. }, "t" | "try") => Reply::Answer(Some(json!({}))),
        (About::Connection { .. }, "n" | "no") => Reply::Answer(None),
        (About::Other, _) => Reply::Command,
        (_, _) if line.starts_with('/') => Reply::Command,
        (About::Approval, _) => wrong("y, n or e"),
        (About::Unknown, _) => wrong("r, s or v"),
        (About::Connection { .. }, _) => wrong("Enter, t or n"),
    }
}

fn wrong(letters: &str) -> Reply {
    Reply::Wrong(format!("{letters}; /say TEXT says something in place of an answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(about: About) -> Question {
        Question {
            id: "i_1".parse().unwrap(),
            about,
            text: "May X be called?".to_owned(),
            tool: "X".to_owned(),
            arguments: None,
        }
    }

    #[test]
    fn an_approval_is_a_letter_or_edited_arguments_and_nothing_else() {
        let question = question(About::Approval);
        let choose = |line: &str| reply(&question, Typing::Choice, line);
        assert_eq!(choose(" Y "), Reply::Answer(Some(json!({"approved": true}))));
        assert_eq!(choose("no"), Reply::Answer(Some(json!({"approved": false}))));
        assert_eq!(choose("e"), Reply::Type(Typing::Arguments));
        for line in ["", "yes please", "ja", "1"] {
            assert!(matches!(choose(line), Reply::Wrong(_)), "{line}");
        }
        let edit = |line: &str| reply(&question, Typing::Arguments, line);
        let edited = json!({"approved": true, "editedArgs": {"a": 1}});
        assert_eq!(edit(r#" {"a": 1} "#), Reply::Answer(Some(edited)));
        assert_eq!(edit(" "), Reply::Type(Typing::Choice));
        for line in ["[1]", "y", r#"{"a": 1"#] {
            assert!(
                matches!(edit(line), Reply::Wrong(why) if why.contains("JSON object")),
                "{line}"
            );
        }
    }

    #[test]
    fn an_unknown_outcome_is_tried_again_skipped_or_told() {
        let question = question(About::Unknown);
        let choose = |line: &str| reply(&question, Typing::Choice, line);
        assert_eq!(choose("r"), Reply::Answer(Some(json!({"action": "retry"}))));
        assert_eq!(choose("skip"), Reply::Answer(Some(json!({"action": "skip"}))));
        assert_eq!(choose("v"), Reply::Type(Typing::Value));
        assert!(
            matches!(choose("y"), Reply::Wrong(_)),
            "nothing is done twice by a reflex"
        );
        let value = |line: &str| reply(&question, Typing::Value, line);
        let told = |result: Value| Reply::Answer(Some(json!({"action": "result", "result": result})));
        assert_eq!(value(r#"{"number": 7}"#), told(json!({"number": 7})));
        assert_eq!(value("issue seven"), told(json!("issue seven")));
    }

    #[test]
    fn an_account_is_waited_for() {
        let question = question(About::Connection { link: None });
        let choose = |line: &str| reply(&question, Typing::Choice, line);
        assert_eq!(choose(""), Reply::Open);
        assert_eq!(choose("t"), Reply::Answer(Some(json!({}))));
        assert_eq!(choose("n"), Reply::Answer(None));
    }

    #[test]
    fn the_flags_answer_approvals_and_never_do_anything_twice() {
        let approval = question(About::Approval);
        let unknown = question(About::Unknown);
        let account = question(About::Connection { link: None });
        let answer = |policy: Policy, question: &Question| policy.answer(question).map(|(payload, _)| payload);
        assert_eq!(answer(Policy::Yes, &approval), Some(Some(json!({"approved": true}))));
        assert_eq!(answer(Policy::No, &approval), Some(Some(json!({"approved": false}))));
        assert_eq!(answer(Policy::Ask, &approval), None);
        assert_eq!(answer(Policy::Yes, &unknown), None);
        assert_eq!(answer(Policy::Yes, &account), None);
        assert_eq!(answer(Policy::No, &unknown), Some(Some(json!({"action": "skip"}))));
        assert_eq!(answer(Policy::No, &account), Some(None));
        assert_eq!(answer(Policy::No, &question(About::Other)), None);
    }
}
