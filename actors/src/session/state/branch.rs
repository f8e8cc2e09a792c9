//! Branches of a conversation: an edit or another answer leaves what followed where it is, on a branch of its own.
//!
//! A branch shares the beginning of its parent and has a tail of its own. The messages of the chosen branch are the
//! conversation; the tails of the others wait.

use kronos_protocol::ids::MessageId;
use serde::{Deserialize, Serialize};

use super::{Said, State};

/// `CUSTOM` name: from here on the conversation goes another way: [`Branched`].
pub const BRANCHED: &str = "kronos.branched";
/// `CUSTOM` name: another branch is the conversation now: [`BranchSelected`].
pub const BRANCH_SELECTED: &str = "kronos.branch_selected";

/// The branch that a conversation begins with.
pub const MAIN: &str = "main";

/// What [`BRANCHED`] carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Branched {
    /// The new branch, chosen from now on.
    pub branch: String,
    /// The branch it leaves.
    pub parent: String,
    /// The last message that both have; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<MessageId>,
}

/// What [`BRANCH_SELECTED`] carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BranchSelected {
    /// The branch.
    pub branch: String,
}

/// One branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Its id.
    pub id: String,
    /// Its parent; `None` for [`MAIN`].
    pub parent: Option<String>,
    /// How many messages of its parent it shares.
    pub shared: usize,
    /// Its own messages; empty while it is chosen: then they are in [`State::messages`].
    tail: Vec<Said>,
}

impl Branch {
    /// Its own messages; none while it is chosen.
    pub fn tail(&self) -> impl Iterator<Item = &Said> {
        self.tail.iter()
    }
}

/// All branches, in the order they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Branches {
    all: Vec<Branch>,
    chosen: usize,
}

impl Default for Branches {
    fn default() -> Self {
        Self {
            all: vec![Branch {
                id: MAIN.to_owned(),
                parent: None,
                shared: 0,
                tail: Vec::new(),
            }],
            chosen: 0,
        }
    }
}

impl Branches {
    /// The chosen branch.
    #[must_use]
    pub fn chosen(&self) -> &str {
        self.all.get(self.chosen).map_or(MAIN, |branch| branch.id.as_str())
    }

    /// Whether there is a branch of this id.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.all.iter().any(|branch| branch.id == id)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Branch> {
        self.all.iter()
    }

    /// Messages that the chosen branch shares with its parent.
    fn shared(&self) -> usize {
        self.all.get(self.chosen).map_or(0, |branch| branch.shared)
    }

    fn path(&self, at: usize) -> Vec<Said> {
        let Some(branch) = self.all.get(at) else {
            return Vec::new();
        };
        let parent = branch.parent.as_ref();
        let parent = parent.and_then(|id| self.all.iter().position(|other| other.id == *id));
        // A parent is always older than its branches.
        let mut messages = parent
            .filter(|parent| *parent < at)
            .map_or_else(Vec::new, |parent| self.path(parent));
        messages.truncate(branch.shared);
        messages.extend(branch.tail.iter().cloned());
        messages
    }
}

impl State {
    /// Leaves the conversation after `after` and begins a branch there.
    pub(super) fn branch(&mut self, branched: &Branched) {
        let shared = match &branched.after {
            None => 0,
            Some(id) => match self.messages.iter().position(|said| said.id == *id) {
                Some(at) => at + 1,
                None => return,
            },
        };
        self.put_away();
        self.branches.all.push(Branch {
            id: branched.branch.clone(),
            parent: Some(self.branches.chosen().to_owned()),
            shared,
            tail: Vec::new(),
        });
        self.choose(self.branches.all.len() - 1);
    }

    /// Goes on in another branch.
    pub(super) fn select_branch(&mut self, id: &str) {
        if let Some(at) = self.branches.all.iter().position(|branch| branch.id == id) {
            self.put_away();
            self.choose(at);
        }
    }

    /// Keeps the messages of the chosen branch in it.
    fn put_away(&mut self) {
        let shared = self.branches.shared().min(self.messages.len());
        let tail = self.messages.split_off(shared);
        let chosen = self.branches.chosen;
        if let Some(branch) = self.branches.all.get_mut(chosen) {
            branch.tail = tail;
        }
    }

    fn choose(&mut self, at: usize) {
        self.messages = self.branches.path(at);
        self.branches.chosen = at;
        if let Some(branch) = self.branches.all.get_mut(at) {
            branch.tail = Vec::new();
        }
        self.step = None;
        self.interrupted = None;
    }
}
