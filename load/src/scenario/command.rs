//! The commands `scenarios` and `script`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::load::Overrides;
use super::{Part, file, load, shipped};
use crate::recording;

/// Show the scenarios that ship
#[derive(Debug, Args)]
pub(crate) struct ScenariosArgs {
    /// Print this one as it is written
    name: Option<String>,
}

impl ScenariosArgs {
    /// Prints them.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        if let Some(name) = &self.name {
            let text = shipped::scenario(name);
            let text = text.with_context(|| format!("no scenario {name}: one of {}", shipped::names().join(", ")))?;
            out.write_all(text.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        for (name, text) in shipped::all() {
            let scenario = file::read(text, name, None).with_context(|| format!("scenario {name}"))?;
            writeln!(out, "{name:<13} {}", scenario.about)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Make a recording of hand-written steps: every line says what it reacts to
#[derive(Debug, Args)]
pub(crate) struct ScriptArgs {
    /// A scenario: a file *.toml, or the name of one that ships
    scenario: String,
    /// Which part of its mix; not needed where there is only one
    #[arg(long)]
    name: Option<String>,
    /// Where the recording goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl ScriptArgs {
    /// Writes it.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let scenario = load::load(std::slice::from_ref(&self.scenario), &Overrides::default())?;
        let part = self.part(&scenario.mix)?;
        let file = File::create(&self.output).with_context(|| self.output.display().to_string())?;
        let mut out = BufWriter::new(file);
        recording::write(&part.script, &mut out)?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn part<'a>(&self, mix: &'a [Part]) -> anyhow::Result<&'a Part> {
        let names: Vec<_> = mix.iter().map(|part| part.script.name.as_str()).collect();
        match (&self.name, mix) {
            (Some(name), _) => {
                let part = mix.iter().find(|part| part.script.name == *name);
                part.with_context(|| format!("no part {name:?}: one of {}", names.join(", ")))
            }
            (None, [part]) => Ok(part),
            (None, _) => bail!("which part of the mix? --name with one of {}", names.join(", ")),
        }
    }
}
