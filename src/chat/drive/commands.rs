//! What the user's commands do.

use kronos_protocol::client::SessionSettings;

use super::{
    ANSWERED, AttachTarget, Driver, Fetched, Leave, Line, MessageId, Remark, SendMode, SessionId, command, mint, rest,
};
use crate::chat::link_to;
use crate::chat::view::{beginning, settings};

impl Driver {
    /// Does what a line means.
    pub(super) async fn obey(&mut self, line: Line) -> anyhow::Result<Option<Leave>> {
        match line {
            Line::Empty => self.open_page(),
            Line::Say(text) => self.say(text, SendMode::Queue).await,
            Line::Steer(text) => self.say(text, SendMode::Steer).await,
            Line::New { title } => self.switch(AttachTarget::New { title, settings: None }).await,
            Line::Open(which) => self.open(&which).await,
            Line::Queue => self.show_queue(),
            Line::Unqueue(number) => self.unqueue(number).await,
            Line::Change(text) => {
                let steps = self.conversation.edit(text);
                self.perform(steps).await
            }
            Line::Again => {
                let steps = self.conversation.regenerate();
                self.perform(steps).await
            }
            Line::Branches => self.show_branches(),
            Line::Branch(which) => self.go_to_branch(&which).await,
            Line::Settings => {
                let text = settings(self.conversation.settings());
                self.line(text)
            }
            Line::Set(settings) => {
                let steps = self.conversation.set(settings);
                self.perform(steps).await
            }
            Line::List | Line::Memories | Line::Forget(_) | Line::Connect(_) => self.fetch(line),
            Line::Help => self.block(command::HELP.to_owned()),
            Line::Wrong(text) => self.line(text),
            Line::Quit => Ok(Some(Leave::Quietly(ANSWERED))),
        }
    }

    async fn say(&mut self, text: String, mode: SendMode) -> anyhow::Result<Option<Leave>> {
        let id = mint()?;
        self.view.typed(id.clone());
        let steps = self.conversation.say(id, text, mode);
        self.perform(steps).await
    }

    /// Asks the REST surface; one thing at a time.
    fn fetch(&mut self, line: Line) -> anyhow::Result<Option<Leave>> {
        if self.fetching.is_some() {
            return self.line("wait for what was asked before".to_owned());
        }
        let (address, token) = (self.address.clone(), self.identity.token.clone());
        self.fetching = match line {
            Line::List => Some(tokio::spawn(rest::conversations(address, token))),
            Line::Memories => Some(tokio::spawn(rest::memories(address, token))),
            Line::Connect(toolkit) => Some(tokio::spawn(rest::connect(address, token, toolkit))),
            Line::Forget(number) => match self.notes.get(number.saturating_sub(1)) {
                Some(note) => Some(tokio::spawn(rest::forget(address, token, note.id.clone()))),
                None => return self.line("which one? /memories lists them".to_owned()),
            },
            _ => None,
        };
        Ok(None)
    }

    /// Shows what the REST surface answered.
    pub(super) fn fetched(&mut self, fetched: anyhow::Result<Fetched>) -> anyhow::Result<Option<Leave>> {
        match fetched {
            Ok(Fetched::Conversations(listed)) => {
                let text = numbered(listed.iter().map(rest::Listed::line), "no conversations");
                self.listed = listed;
                self.line(text)
            }
            Ok(Fetched::Memories(notes)) => {
                let lines = notes.iter().map(|note| note.text.replace('\n', " "));
                let text = numbered(lines, "nothing is remembered");
                self.notes = notes;
                self.line(text)
            }
            Ok(Fetched::Forgotten) => {
                // The numbers are others now.
                self.notes.clear();
                self.line("forgotten".to_owned())
            }
            Ok(Fetched::Page { url }) => {
                self.page = link_to::read(&url);
                let hint = if self.page.is_some() {
                    "to connect an account: Enter opens this page"
                } else {
                    "to connect an account, open this page"
                };
                self.line(hint.to_owned())?;
                let link = self.view.link(&url);
                self.remark(&Remark::Link(link))?;
                Ok(None)
            }
            Err(error) => self.line(format!("no answer to this: {error:#}")),
        }
    }

    async fn open(&mut self, which: &str) -> anyhow::Result<Option<Leave>> {
        let listed = which
            .parse::<usize>()
            .ok()
            .and_then(|number| self.listed.get(number.checked_sub(1)?));
        let id = listed.map_or(which, |listed| &listed.id).to_owned();
        match id.parse::<SessionId>() {
            Ok(session) => self.switch(AttachTarget::of(session)).await,
            Err(error) => self.line(error.to_string()),
        }
    }

    async fn switch(&mut self, target: AttachTarget) -> anyhow::Result<Option<Leave>> {
        if self.conversation.has_unsent() {
            return self.line("a message is still on its way; wait for it, or leave".to_owned());
        }
        self.queued.clear();
        self.branches.clear();
        let steps = self.conversation.switch(target);
        self.perform(steps).await
    }

    fn show_queue(&mut self) -> anyhow::Result<Option<Leave>> {
        let queue = self.conversation.queue();
        let lines = queue.iter().map(|queued| {
            let steers = if queued.steers {
                " (to the answer that is being made)"
            } else {
                ""
            };
            beginning(&queued.text) + steers
        });
        let text = numbered(lines, "nothing waits");
        self.queued = queue.iter().map(|queued| queued.id.clone()).collect();
        self.line(text)
    }

    async fn unqueue(&mut self, number: usize) -> anyhow::Result<Option<Leave>> {
        // As it was listed; before that, as it is.
        let at = number.saturating_sub(1);
        let mut now = self.conversation.queue().iter().map(|queued| &queued.id);
        let id: Option<MessageId> = if self.queued.is_empty() {
            now.nth(at).cloned()
        } else {
            self.queued.get(at).cloned()
        };
        match id {
            Some(id) => {
                let steps = self.conversation.unqueue(id);
                self.perform(steps).await
            }
            None => self.line("which one? /queue lists them".to_owned()),
        }
    }

    fn show_branches(&mut self) -> anyhow::Result<Option<Leave>> {
        let line = |(branch, last, chosen): (&str, &str, bool)| {
            let chosen = if chosen { " (this one)" } else { "" };
            let last = if last.is_empty() {
                String::new()
            } else {
                format!(": {}", beginning(last))
            };
            (branch.to_owned(), format!("{branch}{chosen}{last}"))
        };
        let all: Vec<_> = self.conversation.branches().map(line).collect();
        let text = numbered(all.iter().map(|(_, line)| line.clone()), "none");
        self.branches = all.into_iter().map(|(branch, _)| branch).collect();
        self.line(text)
    }

    async fn go_to_branch(&mut self, which: &str) -> anyhow::Result<Option<Leave>> {
        let number = which.parse::<usize>().ok();
        let listed = number.and_then(|number| self.branches.get(number.checked_sub(1)?));
        let settings = SessionSettings {
            branch: Some(listed.map_or(which, String::as_str).to_owned()),
            ..SessionSettings::default()
        };
        let steps = self.conversation.set(settings);
        self.perform(steps).await
    }

    /// Opens the page that was offered, if one was.
    pub(super) fn open_page(&mut self) -> anyhow::Result<Option<Leave>> {
        let Some(page) = self.page.clone() else {
            return Ok(None);
        };
        match link_to::open(&page) {
            Ok(program) => self.line(format!("opened with {program}")),
            Err(_) => self.line("there is no browser here: open it yourself, or set BROWSER".to_owned()),
        }
    }
}

fn numbered(lines: impl Iterator<Item = String>, none: &str) -> String {
    let lines: Vec<_> = (1..)
        .zip(lines)
        .map(|(number, line)| format!("{number:>3}  {line}"))
        .collect();
    if lines.is_empty() {
        none.to_owned()
    } else {
        lines.join("\n")
    }
}
