//! What a load came to: for people, for programs, for a browser.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

/// Where it is written, beside the summary on stdout.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OutputArgs {
    /// Write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report to this file: one page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

/// Everything that is known of a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The scenario's name.
    pub(crate) name: String,
}

/// Prints the summary, writes the files, and returns the exit code: 0 when everything held, else what did not.
pub(crate) fn conclude(_report: &Report, _args: &OutputArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the skeleton")
}
