//! What waits to be said, and which ways the conversation went. Pure.

use kronos_protocol::MessageId;

/// The branch that a conversation begins with.
const MAIN: &str = "main";

/// A message that waits behind a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) struct Queued {
    /// Its id.
    pub(in crate::chat) id: MessageId,
    /// What it says.
    pub(in crate::chat) text: String,
    /// Whether it is for the active run.
    pub(in crate::chat) steers: bool,
}

/// One way that the conversation went, as far as this client has seen it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Path {
    branch: String,
    /// The messages, and which of them are the user's.
    messages: Vec<(MessageId, bool)>,
}

/// All branches that were seen, the oldest first.
#[derive(Debug)]
pub(super) struct Paths {
    all: Vec<Path>,
    chosen: usize,
}

impl Default for Paths {
    fn default() -> Self {
        let main = Path {
            branch: MAIN.to_owned(),
            messages: Vec::new(),
        };
        Self {
            all: vec![main],
            chosen: 0,
        }
    }
}

impl Paths {
    fn path(&mut self) -> Option<&mut Path> {
        self.all.get_mut(self.chosen)
    }

    /// A message stands at the end of the conversation, unless it is there already.
    pub(super) fn push(&mut self, id: &MessageId, user: bool) {
        if let Some(path) = self.path()
            && !path.messages.iter().any(|(other, _)| other == id)
        {
            path.messages.push((id.clone(), user));
        }
    }

    /// The messages are told anew.
    pub(super) fn clear(&mut self) {
        if let Some(path) = self.path() {
            path.messages.clear();
        }
    }

    /// The conversation leaves its way after a message.
    pub(super) fn branch(&mut self, branch: &str, after: Option<&MessageId>) {
        let before = self.path().map(|path| path.messages.clone()).unwrap_or_default();
        let upto = after.and_then(|after| before.iter().position(|(id, _)| id == after));
        let messages = before.into_iter().take(upto.map_or(0, |at| at + 1)).collect();
        self.choose(branch);
        if let Some(path) = self.path() {
            path.messages = messages;
        }
    }

    /// The conversation goes on in another branch.
    pub(super) fn choose(&mut self, branch: &str) {
        self.chosen = match self.all.iter().position(|path| path.branch == branch) {
            Some(at) => at,
            None => {
                self.all.push(Path {
                    branch: branch.to_owned(),
                    messages: Vec::new(),
                });
                self.all.len() - 1
            }
        };
    }

    /// The last message of the user.
    pub(super) fn last_said(&self) -> Option<&MessageId> {
        let path = self.all.get(self.chosen)?;
        path.messages.iter().rev().find(|(_, user)| *user).map(|(id, _)| id)
    }

    /// Each branch, its last message of the user, and whether it is chosen.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Option<&MessageId>, bool)> {
        self.all.iter().enumerate().map(|(at, path)| {
            let said = path.messages.iter().rev().find(|(_, user)| *user);
            (path.branch.as_str(), said.map(|(id, _)| id), at == self.chosen)
        })
    }
}
