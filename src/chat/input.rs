//! Lines from the user: edited on a terminal, or read from a pipe. On a thread of its own, since both block.
//!
//! The thread reads a line only when it is asked to, so that a prompt is never in the middle of an answer.

use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Editor, Helper};
use tokio::sync::mpsc;

use super::command;

/// What stands before the cursor.
const PROMPT: &str = "› ";

/// Lines that wait to be taken: one is asked for at a time.
const QUEUE: usize = 1;

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// A line.
    Line(String),
    /// Ctrl-C while a line was edited; whether there was something in it.
    Interrupt { empty: bool },
    /// No more lines.
    End,
}

/// The reading thread.
#[derive(Debug)]
pub(super) struct Keyboard {
    ask: mpsc::Sender<String>,
    lines: mpsc::Receiver<Input>,
    /// Whether a line was asked for and has not come.
    asked: bool,
    /// Whether nothing stands in the line that is edited.
    empty: Arc<AtomicBool>,
}

/// Prints while a line is edited.
pub(super) type Printer = Box<dyn rustyline::ExternalPrinter + Send>;

impl Keyboard {
    /// Reads lines from a pipe.
    pub(super) fn pipe() -> Self {
        Self::start(|_| {
            let mut line = String::new();
            match std::io::stdin().lock().read_line(&mut line) {
                Ok(1..) => Input::Line(line),
                Ok(0) | Err(_) => Input::End,
            }
        })
    }

    /// Edits lines on the terminal; what is to be printed meanwhile goes through the printer. Keeps `width` up to date.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub(super) fn terminal(width: Arc<AtomicUsize>) -> anyhow::Result<(Self, Printer)> {
        let config = Config::builder().auto_add_history(true).build();
        let mut editor = Editor::<Prompt, _>::with_history(config, MemHistory::new()).context("no line editor")?;
        let empty = Arc::new(AtomicBool::new(true));
        editor.set_helper(Some(Prompt {
            empty: Arc::clone(&empty),
        }));
        let printer = editor.create_external_printer().context("no line editor")?;
        let measure = move |editor: &mut Editor<Prompt, MemHistory>| {
            let columns = editor.dimensions().map_or(0, |(columns, _)| usize::from(columns));
            width.store(columns, Ordering::Relaxed);
        };
        measure(&mut editor);
        let shared = Arc::clone(&empty);
        let mut keyboard = Self::start(move |initial| {
            empty.store(initial.is_empty(), Ordering::Relaxed);
            let line = editor.readline_with_initial(PROMPT, (&initial, ""));
            measure(&mut editor);
            match line {
                Ok(line) => Input::Line(line),
                Err(ReadlineError::Interrupted) => Input::Interrupt {
                    empty: empty.load(Ordering::Relaxed),
                },
                Err(_) => Input::End,
            }
        });
        keyboard.empty = shared;
        Ok((keyboard, Box::new(printer)))
    }

    /// Has no lines at all: the end of the input has been reached.
    pub(super) fn none() -> Self {
        let (ask, _) = mpsc::channel(QUEUE);
        let (_, lines) = mpsc::channel(QUEUE);
        Self {
            ask,
            lines,
            asked: true,
            empty: Arc::default(),
        }
    }

    fn start(mut read: impl FnMut(String) -> Input + Send + 'static) -> Self {
        let (ask, mut asked) = mpsc::channel::<String>(QUEUE);
        let (outbox, lines) = mpsc::channel(QUEUE);
        thread::spawn(move || {
            while let Some(initial) = asked.blocking_recv() {
                let input = read(initial);
                let end = input == Input::End;
                if outbox.blocking_send(input).is_err() || end {
                    break;
                }
            }
        });
        Self {
            ask,
            lines,
            asked: false,
            empty: Arc::default(),
        }
    }

    /// Whether the user edits a line in which nothing stands yet.
    pub(super) fn is_empty_line(&self) -> bool {
        self.asked && self.empty.load(Ordering::Relaxed)
    }

    /// Asks for a line that begins with `initial`, unless that was done. Returns whether it was asked for now.
    pub(super) fn ask(&mut self, initial: String) -> bool {
        !std::mem::replace(&mut self.asked, true) && self.ask.try_send(initial).is_ok()
    }

    /// Whether the user edits a line.
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    /// Waits for the line that was asked for.
    pub(super) async fn next(&mut self) -> Input {
        let input = self.lines.recv().await.unwrap_or(Input::End);
        self.asked = false;
        input
    }
}

/// Completes commands, and knows whether something was typed.
struct Prompt {
    empty: Arc<AtomicBool>,
}

impl Helper for Prompt {}
impl Highlighter for Prompt {}
impl Validator for Prompt {}

impl Hinter for Prompt {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &rustyline::Context<'_>) -> Option<String> {
        self.empty.store(line.is_empty(), Ordering::Relaxed);
        None
    }
}

impl Completer for Prompt {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or(line);
        let names = command::NAMES
            .iter()
            .filter(|name| typed.starts_with('/') && name.starts_with(typed));
        Ok((0, names.map(ToString::to_string).collect()))
    }
}
