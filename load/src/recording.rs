//! Recordings (`*.kronosrec`): read line by line, made into scripts, and written from scripts.
//!
//! The format is in `RECORDINGS.md` and in `kronos_protocol::recording`. Finding what each command reacted to is in
//! `recording/compile.rs`.

mod compile;
mod lines;
mod shape;
mod write;

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};

pub(crate) use lines::{Item, Lines};
pub(crate) use write::write;

use crate::script::Script;

/// What a recording came to.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The script.
    pub(crate) script: Script,
    /// What was left out, for people.
    pub(crate) warnings: Vec<String>,
}

/// Reads a file as a script, named as the file is. Warnings go to stderr.
///
/// # Errors
/// The file and the line that cannot be read, and why.
pub(crate) fn load(path: &Path) -> anyhow::Result<Script> {
    let shown = path.display();
    let file = File::open(path).with_context(|| shown.to_string())?;
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("recording");
    let compiled = compiled(BufReader::new(file), name).with_context(|| shown.to_string())?;
    for warning in &compiled.warnings {
        writeln!(std::io::stderr(), "warning: {shown}: {warning}")?;
    }
    Ok(compiled.script)
}

/// Reads a recording as a script.
///
/// # Errors
/// The line that cannot be read, and why.
pub(crate) fn read(reader: impl BufRead, name: &str) -> anyhow::Result<Script> {
    Ok(compiled(reader, name)?.script)
}

/// Reads a recording as a script, with what was left out.
///
/// # Errors
/// The line that cannot be read, and why.
pub(crate) fn compiled(reader: impl BufRead, name: &str) -> anyhow::Result<Compiled> {
    let mut lines = Lines::open(reader)?;
    let mut compiler = compile::Compiler::new(name, lines.header().session.clone());
    while let Some(Item { line, number, .. }) = lines.next()? {
        compiler.line(line).with_context(|| format!("line {number}"))?;
    }
    let script = compiler.finish();
    ensure!(!script.steps.is_empty(), "nobody does anything in it");
    let warnings = lines.into_warnings();
    Ok(Compiled { script, warnings })
}

#[cfg(test)]
mod tests;
