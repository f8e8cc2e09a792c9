//! The only place that writes: to stdout and stderr, or around the line that the user edits.

use std::io::{self, IsTerminal as _, Write};

use super::input::Printer;
use super::view::Piece;

/// Where pieces go.
pub(super) struct Screen {
    /// Prints around an edited line; only on a terminal.
    printer: Option<Printer>,
    /// Whether a line is being edited.
    editing: bool,
    /// The beginning of a line that waits for its end, or for the editing to end.
    held: String,
    /// Whether remarks go to stdout with everything else.
    one_stream: bool,
}

/// Whether both ends are a terminal: only then is a line edited, and are there colours.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Screen {
    /// Returns a screen for a file or a pipe.
    pub(super) fn plain() -> Self {
        Self {
            printer: None,
            editing: false,
            held: String::new(),
            one_stream: false,
        }
    }

    /// Returns a screen for a terminal.
    pub(super) fn terminal(printer: Printer) -> Self {
        Self {
            printer: Some(printer),
            editing: false,
            held: String::new(),
            one_stream: true,
        }
    }

    /// Takes note that a line is edited from now on: what is printed stands in whole lines above it.
    pub(super) fn editing(&mut self) {
        self.editing = self.printer.is_some();
    }

    /// Takes note that the edited line is finished: printing goes on where it was.
    ///
    /// # Errors
    /// The output is gone.
    pub(super) fn edited(&mut self) -> io::Result<()> {
        self.editing = false;
        let held = std::mem::take(&mut self.held);
        write(&mut io::stdout(), &held)
    }

    /// Prints.
    ///
    /// # Errors
    /// The output is gone.
    pub(super) fn print(&mut self, pieces: Vec<Piece>) -> io::Result<()> {
        for piece in pieces {
            match piece {
                Piece::Remark(text) if !self.one_stream => write(&mut io::stderr(), &text)?,
                Piece::Text(text) | Piece::Remark(text) => self.write_out(&text)?,
            }
        }
        Ok(())
    }

    fn write_out(&mut self, text: &str) -> io::Result<()> {
        let Some(printer) = self.printer.as_mut().filter(|_| self.editing) else {
            return write(&mut io::stdout(), text);
        };
        self.held.push_str(text);
        if let Some(end) = self.held.rfind('\n') {
            let rest = self.held.split_off(end + 1);
            let lines = std::mem::replace(&mut self.held, rest);
            printer.print(lines).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}
