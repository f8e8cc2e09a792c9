//! Reads a password: never from an argument, which everybody on the machine can see.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, bail};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

use crate::config;

/// Bytes of a line that is read: more than the longest password has.
const LINE: u64 = 4096;

/// Returns the password of KRONOS_PASSWORD, else what is typed at the terminal, twice and unseen, else the first line of
/// stdin.
pub(super) fn read() -> anyhow::Result<String> {
    if let Some(password) = config::client_password() {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        return line().context("no password: give it on stdin or in KRONOS_PASSWORD");
    }
    let first = ask("Password: ")?;
    if first != ask("The same again: ")? {
        bail!("the two passwords differ");
    }
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<String> {
    // Quiet before it asks: whoever answers the question types unseen.
    let _quiet = Quiet::begin()?;
    let mut stderr = io::stderr();
    // A terminal that cannot show the question may still take the answer.
    drop(stderr.write_all(prompt.as_bytes()).and_then(|()| stderr.flush()));
    line().context("no password was typed")
}

fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().lock().take(LINE).read_line(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("the line is empty");
    }
    Ok(text.to_owned())
}

/// A terminal that shows nothing of what is typed; dropped, it does again.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> nix::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        quiet.local_flags.insert(LocalFlags::ECHONL);
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal may be gone.
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0).ok();
    }
}
