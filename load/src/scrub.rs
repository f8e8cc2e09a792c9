//! `scrub`: a recording without what people said: text of the same length and shape in its place.
//!
//! Everything is replaced but what is known to be harmless: the words of the protocol, names of tools and models, times and
//! counts. `scrub/walk.rs` knows what is what, `scrub/words.rs` makes the new words, `scrub/json.rs` keeps JSON within
//! texts JSON, `scrub/streams.rs` puts texts together that came in pieces.

mod json;
mod streams;
mod walk;
mod words;

use std::fs;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use kronos_protocol::recording::{Header, Line};
use serde_json::Value;

use crate::recording::{Item, Lines};

/// Replace what people said in a recording by text of the same length and shape
///
/// The same word becomes the same word within a file, under a key that nobody keeps. Names of tools and models stay, lengths
/// and times too: they are what a replay is about.
#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    /// The recording
    input: PathBuf,
    /// Where the scrubbed one goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep the simulator's words ([[tokens 500]]) as they are, with what is said in them
    #[arg(long)]
    keep_directives: bool,
}

impl ScrubArgs {
    /// Scrubs a file. A recording with a line that cannot be read is not scrubbed.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        ensure!(
            self.input != self.output,
            "the scrubbed recording needs a file of its own"
        );
        let shown = || self.input.display().to_string();
        let (text, warnings) = scrubbed(&self.input, self.keep_directives).with_context(shown)?;
        let file = fs::File::create(&self.output).with_context(|| self.output.display().to_string())?;
        let mut out = BufWriter::new(file);
        for line in text {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        for warning in warnings {
            writeln!(std::io::stderr(), "warning: {}: {warning}", self.input.display())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The lines of a scrubbed recording, and what was left out.
fn scrubbed(input: &Path, keep_directives: bool) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let file = fs::File::open(input)?;
    let mut lines = Lines::open(BufReader::new(file))?;
    let mut values = vec![serde_json::to_value(lines.header())?];
    while let Some(Item { text, number, .. }) = lines.next()? {
        let value = serde_json::from_str::<Value>(&text);
        values.push(value.with_context(|| format!("line {number}"))?);
    }
    let mut scrubber = walk::Scrubber::new(&values, keep_directives);
    let mut out = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let text = scrubber.line(value).to_string();
        // Written anew: what the format does not know is not in it any more.
        let new = if index == 0 {
            text.parse::<Header>().map(|header| serde_json::to_string(&header))
        } else {
            text.parse::<Line>().map(|line| serde_json::to_string(&line))
        };
        out.push(new.with_context(|| format!("line {}: cannot be scrubbed", index + 1))??);
    }
    Ok((out, lines.into_warnings()))
}

#[cfg(test)]
mod tests;
