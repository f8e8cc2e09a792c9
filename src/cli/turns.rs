//! `kronos turns`: asks a running server where the time of its turns went.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::Value;

use super::{remote::Remote, say};
use crate::config::{Config, ConfigError};

#[derive(Debug, Args)]
pub(super) struct TurnsArgs {
    #[command(subcommand)]
    command: TurnsCommand,
    /// Server to ask; without it that of HOST and PORT.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Access token of a superuser; also KRONOS_TOKEN.
    #[arg(long, global = true)]
    token: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TurnsCommand {
    /// List the slowest of the last turns.
    Slow {
        /// At most this many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
        /// By what.
        #[arg(long, value_enum, default_value_t = Sort::Duration)]
        sort: Sort,
    },
    /// Show where the time of one turn went.
    Show {
        /// Its run.
        run: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// How long it took.
    Duration,
    /// How long its first text took.
    #[value(name = "first_token", alias = "first-token")]
    FirstToken,
}

pub(super) async fn run(
    arguments: TurnsArgs,
    load: impl FnOnce() -> Result<Config, ConfigError>,
) -> anyhow::Result<ExitCode> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => load()?.local_url(),
    };
    let answer = ask(&arguments, &url).await?;
    match (&arguments.command, arguments.json) {
        (_, true) => say(&serde_json::to_string_pretty(&answer)?),
        (TurnsCommand::Slow { .. }, false) => print_list(&answer),
        (TurnsCommand::Show { .. }, false) => print_timeline(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(arguments: &TurnsArgs, url: &str) -> anyhow::Result<Value> {
    let remote = Remote {
        url,
        token: arguments.token.as_deref(),
    };
    let answered = match &arguments.command {
        TurnsCommand::Slow { limit, sort } => {
            let sort = match sort {
                Sort::Duration => "duration",
                Sort::FirstToken => "first_token",
            };
            let query = [("limit", &*limit.to_string()), ("sort", sort)];
            remote.ask(Method::GET, &["admin", "turns"], &query, None).await?
        }
        TurnsCommand::Show { run } => {
            let path = ["admin", "turns", run, "timeline"];
            remote.ask(Method::GET, &path, &[], None).await?
        }
    };
    remote.good(answered.with_context(|| format!("no answer from {url}"))?)
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

/// Milliseconds, or a dash.
fn ms(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
}

fn print_list(answer: &Value) {
    let items = list(answer, "items");
    if items.is_empty() {
        return say("no turns");
    }
    say(&format!(
        "{:<36}  {:<24}  {:<11}  {:>10}  {:>14}  {:<12}  MODEL",
        "RUN", "STARTED", "OUTCOME", "MS", "FIRST TOKEN MS", "LARGEST"
    ));
    for item in items {
        let outcome = item["outcome"].as_str().unwrap_or("running");
        say(&format!(
            "{:<36}  {:<24}  {outcome:<11}  {:>10}  {:>14}  {:<12}  {}",
            text(item, "run"),
            text(item, "started_at"),
            ms(&item["wall_ms"]),
            ms(&item["first_token_ms"]),
            text(item, "largest"),
            text(item, "model"),
        ));
    }
}

fn print_timeline(answer: &Value) {
    let turn = &answer["turn"];
    for name in ["run", "session", "started_at", "model", "outcome", "code"] {
        if !turn[name].is_null() {
            say(&format!("{name:<12} {}", text(turn, name)));
        }
    }
    let explained = answer["explained"].as_f64().unwrap_or(0.0) * 100.0;
    say(&format!(
        "{:<12} {} ms, {explained:.0} % explained",
        "took",
        ms(&turn["wall_ms"])
    ));
    say(&format!("{:<12} {} ms", "first token", ms(&turn["first_token_ms"])));
    for name in [
        "attempt",
        "generations",
        "attempts",
        "retries",
        "deltas",
        "devices",
        "devices_acked",
    ] {
        say(&format!("{name:<13}{}", answer[name]));
    }
    say(&format!(
        "\n{:<14} {:>12} {:>8} {:>12}",
        "PHASE", "MS", "COUNT", "LONGEST MS"
    ));
    for phase in list(answer, "phases") {
        let overlaps = if phase["exclusive"] == true { "" } else { "  overlaps" };
        say(&format!(
            "{:<14} {:>12} {:>8} {:>12}{overlaps}",
            text(phase, "name"),
            ms(&phase["ms"]),
            phase["count"].to_string(),
            ms(&phase["longest_ms"]),
        ));
    }
    say(&format!("\n{:>12}  MOMENT", "MS"));
    for moment in list(answer, "moments") {
        say(&format!("{:>12}  {}", ms(&moment["at_ms"]), text(moment, "name")));
    }
    for call in list(answer, "calls") {
        say(&format!(
            "{:>12}  call of {}: {} until {}",
            ms(&call["began_ms"]),
            text(call, "tool"),
            call["outcome"].as_str().unwrap_or("not over"),
            ms(&call["ended_ms"]),
        ));
    }
}
