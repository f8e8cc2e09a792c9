//! `kronos connections`, `kronos runs`, `kronos drain`: asks a running server over REST, as a superuser.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{remote::Remote, say};
use crate::config::{Config, ConfigError};

/// Items of one page: the most that the server gives.
const PAGE: &str = "100";

/// Which server is asked, and how it is shown.
#[derive(Debug, Args)]
pub(super) struct Asking {
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

#[derive(Debug, Args)]
pub(super) struct ConnectionsArgs {
    #[command(subcommand)]
    command: ConnectionsCommand,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Subcommand)]
enum ConnectionsCommand {
    /// List websockets, oldest first.
    List {
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
    },
    /// Close a websocket.
    Close {
        /// Its id.
        id: String,
        /// What its client is told: `restart` (come back), `try_later` (come back), `forbidden` (do not).
        #[arg(long, default_value = "restart", value_parser = ["restart", "try_later", "forbidden"])]
        code: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// List runs, in the order of their conversations.
    List {
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
        /// Only those that started so many seconds ago, or earlier.
        #[arg(long, default_value_t = 0)]
        older_than: u32,
    },
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    asking: Asking,
}

/// A column of a table: its head, and where in an item its text is.
type Column = (&'static str, &'static str);

const CONNECTIONS: &[Column] = &[
    ("CONNECTION", "/id"),
    ("USER", "/user"),
    ("FROM", "/network"),
    ("CODEC", "/codec"),
    ("SINCE", "/since"),
    ("UNREAD", "/unread_bytes"),
    ("ANSWERS", "/answering"),
];

const RUNS: &[Column] = &[
    ("CONVERSATION", "/session"),
    ("USER", "/owner"),
    ("RUN", "/run/id"),
    ("STATE", "/run/state"),
    ("AGE_MS", "/run/age_ms"),
    ("WAITS FOR", "/run/waits_for"),
    ("ANSWERS", "/answering"),
];

/// Runs `kronos connections`.
pub(super) async fn connections(
    arguments: ConnectionsArgs,
    load: impl FnOnce() -> Result<Config, ConfigError>,
) -> anyhow::Result<ExitCode> {
    let ConnectionsArgs { command, asking } = arguments;
    let server = Server::of(asking, load)?;
    match command {
        ConnectionsCommand::List { user } => {
            let query = user.iter().map(|user| ("user", user.as_str())).collect();
            server.list("connections", query, CONNECTIONS).await
        }
        ConnectionsCommand::Close { id, code } => {
            let path = ["admin", "connections", id.as_str()];
            let closing = server.ask(Method::DELETE, &path, &[("code", &code)]).await?;
            server.done(&closing, &format!("{id} closes with {}", closing["code"]))
        }
    }
}

/// Runs `kronos runs`.
pub(super) async fn runs(
    arguments: RunsArgs,
    load: impl FnOnce() -> Result<Config, ConfigError>,
) -> anyhow::Result<ExitCode> {
    let RunsArgs {
        command: RunsCommand::List { user, older_than },
        asking,
    } = arguments;
    let age = older_than.to_string();
    let user = user.iter().map(|user| ("user", user.as_str()));
    let query = user.chain([("older_than_s", age.as_str())]).collect();
    Server::of(asking, load)?.list("runs", query, RUNS).await
}

/// Runs `kronos drain`.
pub(super) async fn drain(
    arguments: DrainArgs,
    load: impl FnOnce() -> Result<Config, ConfigError>,
) -> anyhow::Result<ExitCode> {
    let server = Server::of(arguments.asking, load)?;
    let draining = server.ask(Method::POST, &["admin", "drain"], &[]).await?;
    server.done(&draining, &format!("{} drains and ends", server.url))
}

/// The server that is asked.
struct Server {
    url: String,
    asking: Asking,
}

impl Server {
    fn of(asking: Asking, load: impl FnOnce() -> Result<Config, ConfigError>) -> Result<Self, ConfigError> {
        let url = match &asking.url {
            Some(url) => url.clone(),
            None => load()?.local_url(),
        };
        Ok(Self { url, asking })
    }

    async fn ask(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let remote = Remote {
            url: &self.url,
            token: self.asking.token.as_deref(),
        };
        let answered = remote.ask(method, path, query, None).await?;
        remote.good(answered.with_context(|| format!("no answer from {}", self.url))?)
    }

    /// Reads a whole list, page by page, and prints it.
    async fn list(&self, what: &str, mut query: Vec<(&str, &str)>, columns: &[Column]) -> anyhow::Result<ExitCode> {
        query.push(("limit", PAGE));
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let after = cursor.iter().map(|cursor| ("cursor", cursor.as_str()));
            let query: Vec<_> = query.iter().copied().chain(after).collect();
            let mut page = self.ask(Method::GET, &["admin", what], &query).await?;
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        if self.asking.json {
            say(&serde_json::to_string_pretty(&json!({ "items": items }))?);
        } else if items.is_empty() {
            say("none");
        } else {
            say(&table(&items, columns));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn done(&self, answer: &Value, text: &str) -> anyhow::Result<ExitCode> {
        if self.asking.json {
            say(&serde_json::to_string_pretty(answer)?);
        } else {
            say(text);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Lays items out in columns as wide as what is in them.
fn table(items: &[Value], columns: &[Column]) -> String {
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let row = |item: &Value| columns.iter().map(|(_, place)| cell(item.pointer(place))).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let padded = row.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Some(Value::Array(all)) => all.iter().map(|one| cell(Some(one))).collect::<Vec<_>>().join(","),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let items = [
            json!({"id": "c_1", "user": "ann", "answering": true}),
            json!({"id": "c_1000", "user": null, "answering": false}),
        ];
        let shown = table(&items, &[("ID", "/id"), ("USER", "/user"), ("ANSWERS", "/answering")]);
        assert_eq!(shown, "ID      USER  ANSWERS\nc_1     ann   yes\nc_1000  -     no");
    }
}
