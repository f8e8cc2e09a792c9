//! The messages that a session's devices were shown, and the branches they are on.

use kronos_protocol::{Message, MessageId, Seq};
use serde_json::Value;

use super::breach::Fault;
use super::digest::Digest;

/// The branch that a conversation begins with.
const MAIN: &str = "main";

/// A message that was shown. The text itself is not kept.
#[derive(Debug, Clone)]
struct Told {
    id: MessageId,
    /// Of its text, or of its beginning.
    text: Digest,
    /// Whether pieces were left out behind that beginning.
    open_end: bool,
    /// The position of its last piece.
    seq: Seq,
    /// Whether nothing more of it comes.
    done: bool,
}

/// One branch: the messages on it, as places in [`Conversation::told`].
#[derive(Debug, Clone)]
struct Path {
    name: String,
    places: Vec<usize>,
}

/// The conversation as it was shown.
#[derive(Debug, Clone)]
pub(super) struct Conversation {
    told: Vec<Told>,
    paths: Vec<Path>,
    chosen: usize,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            told: Vec::new(),
            paths: vec![Path {
                name: MAIN.to_owned(),
                places: Vec::new(),
            }],
            chosen: 0,
        }
    }
}

/// Returns a message's text, of those that are compared.
pub(super) fn text_of(message: &Message) -> Option<std::borrow::Cow<'_, str>> {
    match message {
        Message::Developer(message) => Some(message.content.as_str().into()),
        Message::System(message) => Some(message.content.as_str().into()),
        Message::User(message) => Some(message.content.text()),
        Message::Tool(message) => Some(message.content.text()),
        Message::Assistant(message) => Some(message.content.as_deref().unwrap_or_default().into()),
        Message::Activity(_) | Message::Reasoning(_) => None,
    }
}

impl Conversation {
    fn find(&mut self, id: &str) -> Option<&mut Told> {
        self.told.iter_mut().rev().find(|told| told.id.as_str() == id)
    }

    /// A message is shown at `seq`, whole or open.
    pub(super) fn show(&mut self, id: &MessageId, text: Digest, seq: Seq, done: bool) {
        let place = match self.told.iter().rposition(|told| told.id == *id) {
            Some(place) => place,
            None => {
                let id = id.clone();
                self.told.push(Told {
                    id,
                    text,
                    open_end: false,
                    seq,
                    done,
                });
                self.told.len() - 1
            }
        };
        if let Some(path) = self.paths.get_mut(self.chosen)
            && !path.places.contains(&place)
        {
            path.places.push(place);
        }
    }

    /// More of a message is shown; `None`: not known what.
    pub(super) fn append(&mut self, id: &str, more: Option<&str>, seq: Seq) {
        if let Some(told) = self.find(id) {
            match more {
                Some(more) if !told.open_end => told.text = told.text.and(more.as_bytes()),
                _ => told.open_end = true,
            }
            told.seq = seq;
        }
    }

    /// Nothing more of a message comes.
    pub(super) fn end(&mut self, id: &str) {
        if let Some(told) = self.find(id) {
            told.done = true;
        }
    }

    /// Whether a message has ended with another text than this.
    pub(super) fn is_another(&self, id: &str, text: Digest) -> bool {
        let told = self.told.iter().rev().find(|told| told.id.as_str() == id);
        told.is_some_and(|told| told.done && !told.open_end && told.text != text)
    }

    /// Nothing more of any message comes.
    pub(super) fn end_all(&mut self) {
        for told in &mut self.told {
            told.done = true;
        }
    }

    /// Something was left out: what is open is not known to its end any more.
    pub(super) fn unseen(&mut self) {
        for told in self.told.iter_mut().filter(|told| !told.done) {
            told.open_end = true;
        }
    }

    /// The conversation leaves its branch after a message, and goes on in another.
    pub(super) fn branch(&mut self, value: &Value) {
        let Some(name) = value.get("branch").and_then(Value::as_str) else {
            return;
        };
        let after = value.get("after").and_then(Value::as_str);
        let after = after.and_then(|id| self.told.iter().rposition(|told| told.id.as_str() == id));
        let old = self.paths.get(self.chosen).map(|path| path.places.as_slice());
        let kept = match after {
            None => &[],
            Some(place) => old
                .and_then(|old| {
                    let at = old.iter().position(|known| *known == place)?;
                    old.get(..=at)
                })
                .unwrap_or_default(),
        };
        let places = kept.to_vec();
        let name = name.to_owned();
        self.paths.push(Path { name, places });
        self.chosen = self.paths.len() - 1;
    }

    /// The conversation goes on in a branch that there was.
    pub(super) fn choose(&mut self, value: &Value) {
        let Some(name) = value.get("branch").and_then(Value::as_str) else {
            return;
        };
        self.chosen = self.paths.iter().position(|path| path.name == name).unwrap_or_else(|| {
            let name = name.to_owned();
            self.paths.push(Path {
                name,
                places: Vec::new(),
            });
            self.paths.len() - 1
        });
    }

    /// Whether the conversation has ever gone another way.
    pub(super) fn has_branches(&self) -> bool {
        self.paths.len() > 1
    }

    /// Compares what was shown with what a snapshot of position `at` says; `at` is `None` when the snapshot is of another history and
    /// must have all of it. `truncated`: it has only the newest messages.
    pub(super) fn compare(&self, snapshot: &[Message], at: Option<Seq>, truncated: bool) -> Vec<Fault> {
        let path = self.paths.get(self.chosen).map(|path| path.places.as_slice());
        let shown = path
            .unwrap_or_default()
            .iter()
            .filter_map(|place| self.told.get(*place));
        let mut found_one = !truncated;
        let mut faults = Vec::new();
        for told in shown.filter(|told| at.is_none_or(|at| told.seq <= at)) {
            let text = told.text;
            if text.len == 0 {
                continue;
            }
            let given = snapshot.iter().find(|message| *message.id() == told.id);
            let Some(given) = given.and_then(text_of) else {
                if found_one {
                    let what = format!("message {} was shown with {} bytes and is gone", told.id, text.len);
                    faults.push(Fault::new("unsaid", Some(told.seq), what));
                }
                continue;
            };
            found_one = true;
            if !text.begins(&given) {
                let what = format!(
                    "message {}: {} bytes of it were shown, and its text no longer begins with them: {:?}",
                    told.id,
                    text.len,
                    cut(&given),
                );
                faults.push(Fault::new("unsaid", Some(told.seq), what));
            } else if told.done && !told.open_end && at.is_some() && given.len() as u64 > text.len {
                let what = format!(
                    "message {} ended after {} bytes, and a snapshot has {}: {:?}",
                    told.id,
                    text.len,
                    given.len(),
                    cut(&given),
                );
                faults.push(Fault::new("diverged", Some(told.seq), what));
            }
        }
        faults
    }

    /// Compares what an earlier history showed with what this one shows.
    pub(super) fn compare_with(&self, before: &Self) -> Vec<Fault> {
        let path = before.paths.get(before.chosen).map(|path| path.places.as_slice());
        let shown = path
            .unwrap_or_default()
            .iter()
            .filter_map(|place| before.told.get(*place));
        let gone = shown.filter(|told| {
            let now = self.told.iter().find(|now| now.id == told.id);
            match now {
                _ if told.text.len == 0 => false,
                None => true,
                // Longer ones cannot be compared without the texts.
                Some(now) => now.text.len < told.text.len || (now.text.len == told.text.len && now.text != told.text),
            }
        });
        let fault = |told: &Told| {
            let what = format!(
                "message {} was shown in the history before, and is gone or another",
                told.id
            );
            Fault::new("unsaid", None, what)
        };
        gone.map(fault).collect()
    }

    /// Takes a snapshot of position `at` for what is shown.
    pub(super) fn adopt(&mut self, snapshot: &[Message], at: Seq) {
        let mut places = Vec::new();
        for message in snapshot {
            let Some(text) = text_of(message) else { continue };
            let id = message.id().clone();
            let text = Digest::of(&text);
            let told = Told {
                id,
                text,
                open_end: false,
                seq: at,
                done: false,
            };
            match self.told.iter().rposition(|known| known.id == told.id) {
                Some(place) => {
                    places.push(place);
                    if let Some(known) = self.told.get_mut(place) {
                        (known.text, known.open_end, known.seq) = (text, false, at);
                    }
                }
                None => {
                    self.told.push(told);
                    places.push(self.told.len() - 1);
                }
            }
        }
        if let Some(path) = self.paths.get_mut(self.chosen) {
            // What a truncated snapshot leaves out is still there.
            let older = path.places.iter().copied().filter(|place| !places.contains(place));
            let older: Vec<_> = older.collect();
            path.places = older.into_iter().chain(places).collect();
        }
    }
}

/// The beginning of a text, for people.
fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}
