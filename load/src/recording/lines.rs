//! The lines of a recording, one at a time.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, anyhow, bail, ensure};
use kronos_protocol::recording::{Header, Line, RecordingError};

/// Longest line; longer ones are no recording. A frame is far shorter.
const LINE_BYTES: u64 = 64 << 20;

/// Reads a header, then line after line. A last line that was torn off is left out with a warning.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    header: Header,
    number: usize,
    at_ms: u64,
    unknown: usize,
    warnings: Vec<String>,
}

/// A line of a recording.
#[derive(Debug)]
pub(crate) struct Item {
    /// What it says.
    pub(crate) line: Line,
    /// As it is written, without the end of the line.
    pub(crate) text: String,
    /// Its number, from 1.
    pub(crate) number: usize,
}

/// A text and whether its line was ended.
struct Taken {
    text: String,
    whole: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads the header.
    pub(crate) fn open(mut reader: R) -> anyhow::Result<Self> {
        let taken = take(&mut reader, 1)?.context("an empty file is not a recording")?;
        let header = taken.text.parse::<Header>().context("line 1, the header")?;
        Ok(Self {
            reader,
            header,
            number: 1,
            at_ms: 0,
            unknown: 0,
            warnings: Vec::new(),
        })
    }

    /// Returns the header.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the next line of a kind that is known.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Item>> {
        while let Some(taken) = take(&mut self.reader, self.number + 1)? {
            self.number += 1;
            let (text, number) = (taken.text, self.number);
            if text.trim().is_empty() {
                continue;
            }
            let line = match text.parse::<Line>() {
                Ok(line) => line,
                Err(RecordingError::Unknown) => {
                    self.unknown += 1;
                    continue;
                }
                Err(_) if !taken.whole => {
                    self.warnings
                        .push(format!("line {number} was torn off and is left out"));
                    return Ok(None);
                }
                Err(error) => return Err(anyhow!(error).context(format!("line {number}"))),
            };
            let before = std::mem::replace(&mut self.at_ms, line.at_ms());
            ensure!(
                before <= line.at_ms(),
                "line {number}: at_ms goes back from {before} to {}",
                line.at_ms()
            );
            return Ok(Some(Item { line, text, number }));
        }
        Ok(None)
    }

    /// Returns what was left out.
    pub(crate) fn into_warnings(mut self) -> Vec<String> {
        if self.unknown > 0 {
            self.warnings
                .push(format!("{} lines of unknown kinds are left out", self.unknown));
        }
        self.warnings
    }
}

fn take(reader: &mut impl BufRead, number: usize) -> anyhow::Result<Option<Taken>> {
    let mut bytes = Vec::new();
    let read = reader.take(LINE_BYTES + 1).read_until(b'\n', &mut bytes);
    let read = read.with_context(|| format!("line {number}"))?;
    if read == 0 {
        return Ok(None);
    }
    let whole = bytes.last() == Some(&b'\n');
    if !whole && bytes.len() as u64 > LINE_BYTES {
        bail!("line {number}: longer than {LINE_BYTES} bytes");
    }
    bytes.truncate(bytes.trim_ascii_end().len());
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(Taken { text, whole })),
        // Torn within a character: the text that is left is no JSON either.
        Err(error) if !whole => Ok(Some(Taken {
            text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            whole,
        })),
        Err(_) => bail!("line {number}: not UTF-8"),
    }
}
