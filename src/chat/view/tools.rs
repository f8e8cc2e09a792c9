//! How calls of tools, questions and links look: a line each, cut to the width.

use super::{CYAN, DIM, Look, Piece, RED, View, printable};
use crate::chat::link_to::{self, Link};
use crate::chat::transcript::{About, By, Question, Verdict};

/// The signs of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign {
    Call,
    Progress,
    Good,
    Bad,
    Unknown,
}

impl Sign {
    const fn as_str(self, utf8: bool) -> &'static str {
        match (self, utf8) {
            (Self::Call, true) => "⚙",
            (Self::Progress, true) => "…",
            (Self::Good, true) => "✓",
            (Self::Bad, true) => "✗",
            (Self::Unknown, _) => "?",
            (Self::Call, false) => "*",
            (Self::Progress, false) => "...",
            (Self::Good, false) => "+",
            (Self::Bad, false) => "x",
        }
    }
}

impl View {
    pub(super) fn called(&mut self, tool: &str, arguments: &str) -> Vec<Piece> {
        self.sign(Sign::Call, &format!("{tool} {arguments}"), DIM)
    }

    pub(super) fn progress(&mut self, tool: &str, status: &str, why: Option<&str>) -> Vec<Piece> {
        match status {
            "unknown" => {
                let why = why.unwrap_or("it is not known whether it was carried out");
                self.sign(Sign::Unknown, &format!("{tool} {why}"), RED)
            }
            "waiting" => self.sign(Sign::Progress, &format!("{tool} waiting for an account"), DIM),
            status => self.sign(Sign::Progress, &format!("{tool} {status}"), DIM),
        }
    }

    pub(super) fn returned(&mut self, tool: &str, text: &str, failed: bool) -> Vec<Piece> {
        let (sign, colour) = if failed { (Sign::Bad, RED) } else { (Sign::Good, DIM) };
        self.sign(sign, &format!("{tool} {}", first_line(text)), colour)
    }

    /// One line with a sign before it.
    fn sign(&mut self, sign: Sign, text: &str, colour: &str) -> Vec<Piece> {
        let sign = sign.as_str(self.style.utf8);
        let line = self.cut(&format!("{sign} {}", flat(text)));
        let mut pieces = self.before_remark();
        pieces.push(Piece::Remark(self.paint(&line, colour) + "\n"));
        pieces
    }

    /// Cuts a line to the width of the terminal.
    fn cut(&self, line: &str) -> String {
        let end = if self.style.utf8 { "…" } else { "..." };
        // The last column stays free: some terminals go to the next line when it is written.
        let width = self.style.width().saturating_sub(1);
        if columns(line) <= width {
            return line.to_owned();
        }
        let room = width.saturating_sub(columns(end));
        let mut used = 0;
        let fits = |c: &char| {
            used += column(*c);
            used <= room
        };
        line.chars().take_while(fits).collect::<String>() + end
    }

    /// Returns a question and what may be answered.
    pub(in crate::chat) fn question(&mut self, question: &Question) -> Vec<Piece> {
        let mut lines = vec![self.paint(&format!("— {}", flat(&question.text)), CYAN)];
        if let (Some(arguments), About::Approval | About::Unknown) = (&question.arguments, &question.about) {
            let text = serde_json::to_string_pretty(arguments).unwrap_or_default();
            let shown = safe_json(&text);
            lines.extend(shown.lines().map(|line| self.paint(&format!("  {line}"), DIM)));
        }
        if let About::Connection { link: Some(link) } = &question.about {
            lines.push(self.link(link));
        }
        let choice = match (&question.about, self.look) {
            (About::Approval, Look::Terminal) => "[y]es / [n]o / [e]dit",
            (About::Unknown, Look::Terminal) => "[r]etry / [s]kip / [v]alue",
            (About::Connection { .. }, Look::Terminal) => {
                "Enter opens it; when the account is there the run goes on by itself. [t]ry now / [n]o"
            }
            (About::Approval, _) => "not answered; --yes or --no would, or another client",
            (About::Connection { .. }, _) => "open it; when the account is there the run goes on by itself",
            _ => "to be answered in another client",
        };
        lines.push(self.paint(&format!("  {choice}"), CYAN));
        let mut pieces = self.before_remark();
        // In one piece: while a line is edited each piece is printed above it on its own.
        pieces.push(Piece::Remark(lines.join("\n") + "\n"));
        pieces
    }

    /// The page to open, on a line of its own.
    pub(in crate::chat) fn link(&self, text: &str) -> String {
        match link_to::read(text) {
            Some(Link(url)) if self.style.links && self.look == Look::Terminal => {
                format!("  \x1b]8;;{url}\x1b\\{url}\x1b]8;;\x1b\\")
            }
            Some(Link(url)) => format!("  {url}"),
            // What is no web page is shown, and never opened.
            None => format!("  {}", flat(text)),
        }
    }

    pub(super) fn answered(&mut self, tool: &str, verdict: &Verdict, own: bool) -> Vec<Piece> {
        let word = match verdict.verdict.as_str() {
            "approved" => "approved",
            "rejected" => "rejected",
            "retry" => "tried again",
            "skip" => "left at that",
            "result" => "answered with a value",
            "connected" => "the account is there",
            "cancelled" => "nobody answers",
            "expired" => "nobody answered in time",
            "superseded" => "dropped, since something else was said",
            other => other,
        };
        let who = match &verdict.answered_by {
            By { user: None, .. } => String::new(),
            _ if own => String::new(),
            By {
                device: Some(device), ..
            } => format!(" on another device ({device})"),
            By { .. } => " on another device".to_owned(),
        };
        let about = if tool.is_empty() { "the question" } else { tool };
        self.remark(&flat(&format!("{about}: {word}{who}")), DIM)
    }
}

/// The first line that is not empty; of a JSON string, that of its text.
fn first_line(text: &str) -> String {
    let inner = serde_json::from_str::<String>(text).ok();
    let text = inner.as_deref().unwrap_or(text);
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("(nothing)")
        .to_owned()
}

/// One line of plain characters: none that moves the cursor, or that turns the direction of the text.
pub(super) fn flat(text: &str) -> String {
    let spaced = text.replace(['\n', '\t'], " ");
    printable(&spaced).chars().filter(|c| !turns(*c)).collect()
}

/// JSON text in which everything that is not seen as it is is written as an escape: what is approved is what is shown.
pub(in crate::chat) fn safe_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !(c.is_control() || turns(c)) {
            safe.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    safe
}

/// Whether a character is not seen and changes how others look.
const fn turns(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Columns that a text takes, roughly: what East Asian scripts and pictures begin with counts twice.
fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

const fn column(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' => 2,
        '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'.. => 2,
        _ => 1,
    }
}
