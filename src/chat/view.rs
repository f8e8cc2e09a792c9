//! How news look on a terminal, in a file, and as the plain answer of `--once`. Pure: news in, text out.

mod tools;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kronos_protocol::{MessageId, Seq};
use serde_json::{Map, Value};

use super::transcript::{End, News};
pub(super) use tools::safe_json;

/// Where the text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A terminal: colours, and what the user typed is there already.
    Terminal,
    /// A file or a pipe: the conversation to stdout, remarks to stderr.
    Plain,
    /// `--once`: answers to stdout, remarks to stderr.
    Answer,
}

/// What the terminal can do.
#[derive(Debug, Clone)]
pub(super) struct Style {
    /// Whether it shows more than ASCII.
    pub(super) utf8: bool,
    /// Whether it knows links (OSC 8).
    pub(super) links: bool,
    /// Its width in columns; 0 when that is not known.
    pub(super) width: Arc<AtomicUsize>,
}

/// The width where there is no terminal.
const WIDTH: usize = 160;

impl Style {
    /// Reads what the environment says; the width comes from the terminal, if there is one.
    pub(super) fn of_environment(width: Arc<AtomicUsize>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "they are of the terminal, no settings of Kronos"
        )]
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
        Self {
            utf8: is_utf8(locale.as_deref()),
            links: variable("TERM").is_some_and(|term| !matches!(term.as_str(), "dumb" | "linux")),
            width,
        }
    }

    fn width(&self) -> usize {
        match self.width.load(Ordering::Relaxed) {
            0 => WIDTH,
            width => width.max(20),
        }
    }
}

/// Whether a locale writes UTF-8; one that is not set says nothing, and nearly all terminals do.
fn is_utf8(locale: Option<&str>) -> bool {
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Part of the conversation.
    Text(String),
    /// A remark on it; goes to stderr unless that would be the same terminal.
    Remark(String),
}

/// Something of the connection, not of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remark {
    /// Connected; answers may come from a simulator.
    Welcome { simulated: bool },
    /// The connection is gone.
    Lost,
    /// It is back, and nothing is missing.
    Resumed { after: Seq },
    /// It is back, but the history is another one, or was cut.
    Restarted,
    /// A message waits behind others.
    Queued { place: u32 },
    /// A session was opened.
    Opened { title: String },
    /// Older messages that are not shown.
    Earlier { messages: usize },
    /// A command was refused.
    Refused {
        what: &'static str,
        message: String,
        code: String,
    },
    /// Any other line.
    Line(String),
    /// A list or a table, as it is.
    Block(String),
    /// A page, as [`View::link`] shows it.
    Link(String),
}

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// Knows what is at the cursor, so that lines begin where they should.
#[derive(Debug)]
pub(super) struct View {
    look: Look,
    style: Style,
    /// The message whose text the cursor stands in.
    open: Option<MessageId>,
    /// Whether a remark without an end of line stands at the cursor.
    open_remark: bool,
    /// Messages typed here, which the terminal shows already.
    typed: HashSet<MessageId>,
}

impl View {
    /// Returns a view of nothing.
    pub(super) fn new(look: Look, style: Style) -> Self {
        Self {
            look,
            style,
            open: None,
            open_remark: false,
            typed: HashSet::new(),
        }
    }

    /// Takes note that a message was typed here and stands on the screen.
    pub(super) fn typed(&mut self, id: MessageId) {
        self.typed.insert(id);
    }

    /// Takes note that a typed message is queued: it is shown again when its turn comes.
    pub(super) fn forget_typed(&mut self, id: &MessageId) {
        self.typed.remove(id);
    }

    /// Returns how `news` looks.
    pub(super) fn news(&mut self, news: &News) -> Vec<Piece> {
        match news {
            News::Started { .. } => Vec::new(),
            News::Said { id, text } => self.said(id, text),
            News::Text { id, delta } => self.text(id, delta),
            News::Rewritten { id, text } => {
                let mut pieces = self.remark("the answer is now:", DIM);
                self.open = None;
                pieces.extend(self.text(id, text));
                pieces
            }
            News::Called { tool, arguments } => self.called(tool, arguments),
            News::Progress { tool, status, why } => self.progress(tool, status, why.as_deref()),
            News::Returned { tool, text, failed } => self.returned(tool, text, *failed),
            News::Answered { tool, verdict, own } => self.answered(tool, verdict, *own),
            News::Unqueued { text, .. } => self.remark(&format!("taken back: {}", tools::flat(text)), DIM),
            News::Branched { branch, after } => self.branched(branch, after.as_deref()),
            News::Selected { branch, last } => {
                let last = last
                    .as_deref()
                    .map(|last| format!(", which ends after: {}", beginning(last)));
                let last = last.unwrap_or_default();
                self.remark(&tools::flat(&format!("now on branch {branch}{last}")), DIM)
            }
            News::Settings { changed } => self.remark(&tools::flat(&settings(changed)), DIM),
            News::CutOff { reason } => self.remark(&format!("the answer was cut off: {reason}"), DIM),
            News::Notice { text } => self.remark(text, DIM),
            News::Ended { end, .. } => self.ended(end),
        }
    }

    /// Returns how `remark` looks.
    pub(super) fn remarked(&mut self, remark: &Remark) -> Vec<Piece> {
        match remark {
            Remark::Welcome { simulated: true } => {
                self.remark("answers are simulated: the server has no key of a model", DIM)
            }
            Remark::Welcome { simulated: false } => Vec::new(),
            Remark::Lost => {
                let mut pieces = self.before_remark();
                self.open_remark = true;
                pieces.push(Piece::Remark(self.paint("— connection lost, reconnecting…", DIM)));
                pieces
            }
            Remark::Resumed { after } => self.continue_remark(&format!("resumed after event {after}")),
            Remark::Restarted => self.continue_remark("connected again, the history was read anew"),
            Remark::Queued { place } => self.remark(&format!("queued, number {place}"), DIM),
            Remark::Opened { title } => self.remark(title, DIM),
            Remark::Earlier { messages } => self.remark(&format!("{messages} earlier messages"), DIM),
            Remark::Refused { what, message, code } => self.remark(&format!("{what}: {message} ({code})"), RED),
            Remark::Line(text) => self.remark(text, DIM),
            Remark::Link(link) => {
                let mut pieces = self.before_remark();
                pieces.push(Piece::Remark(format!("{link}\n")));
                pieces
            }
            Remark::Block(text) => {
                let mut pieces = self.before_remark();
                pieces.push(Piece::Remark(self.paint(&printable(text), DIM) + "\n"));
                pieces
            }
        }
    }

    /// Ends the line that the cursor stands in, if it does.
    pub(super) fn end_line(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if std::mem::take(&mut self.open_remark) {
            pieces.push(Piece::Remark("\n".to_owned()));
        }
        if self.open.take().is_some() {
            pieces.push(Piece::Text("\n".to_owned()));
        }
        pieces
    }

    fn said(&mut self, id: &MessageId, text: &str) -> Vec<Piece> {
        if self.look == Look::Answer || self.typed.remove(id) {
            return Vec::new();
        }
        let mut pieces = self.end_line();
        pieces.push(Piece::Text(self.paint(&format!("› {}", printable(text)), CYAN) + "\n"));
        pieces
    }

    fn text(&mut self, id: &MessageId, delta: &str) -> Vec<Piece> {
        if delta.is_empty() {
            return Vec::new();
        }
        let mut pieces = if self.open.as_ref() == Some(id) {
            self.end_remark()
        } else {
            self.end_line()
        };
        self.open = Some(id.clone());
        pieces.push(Piece::Text(printable(delta)));
        pieces
    }

    fn ended(&mut self, end: &End) -> Vec<Piece> {
        match end {
            End::Done => self.end_line(),
            End::Cancelled => self.remark("cancelled", DIM),
            // The questions follow, one by one.
            End::Asks => self.end_line(),
            End::Failed { message, code } => {
                let cut_off = if self.open.is_some() {
                    "; the answer was cut off"
                } else {
                    ""
                };
                let code = code.as_deref().unwrap_or("no code");
                self.remark(&format!("{message} ({code}){cut_off}"), RED)
            }
        }
    }

    fn branched(&mut self, branch: &str, after: Option<&str>) -> Vec<Piece> {
        let after = match after {
            Some(after) => format!("after: {}", beginning(after)),
            None => "from its beginning".to_owned(),
        };
        let text = format!("the conversation goes another way {after} (branch {branch}); what followed stays above");
        self.remark(&tools::flat(&text), DIM)
    }

    fn remark(&mut self, text: &str, colour: &str) -> Vec<Piece> {
        let mut pieces = self.before_remark();
        pieces.push(Piece::Remark(
            self.paint(&format!("— {}", printable(text)), colour) + "\n",
        ));
        pieces
    }

    /// Ends the line before a remark. With two streams, what goes to stderr does not interrupt a line of stdout.
    fn before_remark(&mut self) -> Vec<Piece> {
        match self.look {
            Look::Terminal => self.end_line(),
            Look::Plain | Look::Answer => self.end_remark(),
        }
    }

    fn continue_remark(&mut self, text: &str) -> Vec<Piece> {
        if std::mem::take(&mut self.open_remark) {
            vec![Piece::Remark(self.paint(&format!(" — {text}"), DIM) + "\n")]
        } else {
            self.remark(text, DIM)
        }
    }

    /// Ends the remark that the cursor stands in, if it does.
    pub(super) fn end_remark(&mut self) -> Vec<Piece> {
        if std::mem::take(&mut self.open_remark) {
            vec![Piece::Remark("\n".to_owned())]
        } else {
            Vec::new()
        }
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        match self.look {
            Look::Terminal => format!("{colour}{text}{RESET}"),
            Look::Plain | Look::Answer => text.to_owned(),
        }
    }
}

/// How a text begins.
pub(super) fn beginning(text: &str) -> String {
    let line = tools::flat(text.lines().next().unwrap_or_default());
    let mut short: String = line.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// Settings in one line.
pub(super) fn settings(settings: &Map<String, Value>) -> String {
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} = {text}"),
        other => format!("{name} = {other}"),
    };
    let all: Vec<_> = settings.iter().map(one).collect();
    format!("settings: {}", all.join(", "))
}

/// Drops control characters but line ends and tabs: a text must not move the cursor or change colours.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests;
