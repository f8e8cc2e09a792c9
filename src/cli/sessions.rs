//! `kronos sessions`: asks a running server over REST; when none answers, reads the store itself.
//!
//! The store is locked while a server has it open, so the server is asked first.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use kronos_actors::{
    clock::Clock,
    directory::parked,
    session::{message::Page, view},
    store::SessionMeta,
};
use kronos_protocol::ids::SessionId;
use reqwest::Method;
use serde_json::{Value, json};

use super::{remote::Remote, say};
use crate::{
    config::{Config, ConfigError},
    edge::{chat::conversation, rfc3339},
    wiring,
};

/// Messages that are shown of a conversation, as the server does.
const SHOWN: usize = 100;

#[derive(Debug, Args)]
pub(super) struct SessionsArgs {
    #[command(subcommand)]
    command: SessionsCommand,
    /// Server to ask; without it that of HOST and PORT, and when none answers the store of DATABASE_URL.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Access token; also KRONOS_TOKEN. A development server takes guests without one.
    #[arg(long, global = true)]
    token: Option<String>,
    /// Whose conversations, on a development server or for a superuser.
    #[arg(long, global = true)]
    user: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// List conversations, newest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100))]
        limit: u64,
    },
    /// Show one conversation with its last messages.
    Show {
        /// Its id.
        id: String,
    },
    /// Open a conversation again that was closed because it failed repeatedly, or by `park`.
    Unpark {
        /// Its id.
        id: String,
    },
    /// Take a conversation out of service until it is unparked, for superusers.
    Park {
        /// Its id.
        id: String,
    },
    /// Take a conversation out of the memory of a running server, for superusers.
    Evict {
        /// Its id.
        id: String,
        /// Also when it has a run, which is interrupted and tried again, or does not answer.
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(
    arguments: SessionsArgs,
    load: impl FnOnce() -> Result<Config, ConfigError>,
) -> anyhow::Result<ExitCode> {
    let answer = match &arguments.url {
        Some(url) => ask_server(&arguments, url)
            .await?
            .with_context(|| format!("no answer from {url}"))?,
        None => {
            let config = load()?;
            match ask_server(&arguments, &config.local_url()).await? {
                Some(answer) => answer,
                None => Box::pin(read_store(&arguments, &config)).await?,
            }
        }
    };
    match (&arguments.command, arguments.json) {
        (_, true) => say(&serde_json::to_string_pretty(&answer)?),
        (SessionsCommand::List { .. }, false) => print_list(&answer),
        (SessionsCommand::Show { .. }, false) => print_conversation(&answer),
        (SessionsCommand::Unpark { id }, false) => say(&if answer["unparked"] == true {
            format!("{id} is open again")
        } else {
            format!("{id} was not parked")
        }),
        (SessionsCommand::Park { id }, false) => say(&if answer["parked"] == true {
            format!("{id} is out of service")
        } else {
            format!("{id} was out of service")
        }),
        (SessionsCommand::Evict { id, .. }, false) => say(&match (&answer["evicted"], &answer["ended"]) {
            (_, Value::Bool(true)) => format!("{id} was ended as it was, and began again"),
            (Value::Bool(true), _) if answer["interrupted"] == true => {
                format!("{id} left memory; its run was interrupted and is tried again")
            }
            (Value::Bool(true), _) => format!("{id} left memory"),
            _ => format!("{id} was not in memory"),
        }),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the server; `None` when nothing listens there.
async fn ask_server(arguments: &SessionsArgs, url: &str) -> anyhow::Result<Option<Value>> {
    let remote = Remote {
        url,
        token: arguments.token.as_deref(),
    };
    let limit;
    let (method, path, mut query): (_, &[&str], Vec<(&str, &str)>) = match &arguments.command {
        SessionsCommand::List { limit: most } => {
            limit = most.to_string();
            (Method::GET, &["chat", ""], vec![("limit", &limit)])
        }
        SessionsCommand::Show { id } => (Method::GET, &["chat", id], Vec::new()),
        SessionsCommand::Unpark { id } => (Method::POST, &["chat", id, "unpark"], Vec::new()),
        SessionsCommand::Park { id } => (Method::POST, &["admin", "sessions", id, "park"], Vec::new()),
        SessionsCommand::Evict { id, force } => {
            let query = force.then_some(("force", "true")).into_iter().collect();
            (Method::POST, &["admin", "sessions", id, "evict"], query)
        }
    };
    if let Some(user) = arguments.user.as_ref().filter(|_| path[0] == "chat") {
        query.push(("user_id", user));
    }
    let answered = remote.ask(method, path, &query, None).await?;
    answered.map(|answered| remote.good(answered)).transpose()
}

async fn read_store(arguments: &SessionsArgs, config: &Config) -> anyhow::Result<Value> {
    let url = config.store_url();
    let store = wiring::open_existing(config)
        .await
        .with_context(|| format!("no server runs, and {url} cannot be opened"))?;
    let answer = match &arguments.command {
        SessionsCommand::List { limit } => {
            let user = arguments.user.clone().map(TryInto::try_into).transpose()?;
            let page = store.list(user.as_ref(), None, usize::try_from(*limit)?).await?;
            json!({"items": page.iter().map(listed).collect::<Vec<_>>(), "next_cursor": null})
        }
        SessionsCommand::Show { id } => {
            let stored = store.load(&SessionId::try_from(id.as_str())?).await?;
            let stored = stored.with_context(|| format!("{id} is not in {url}"))?;
            let view = view::of_stored(stored, &Page::last(SHOWN))?;
            let owner = view.meta.owner.clone();
            let mut answer = serde_json::to_value(conversation(view))?;
            answer["owner"] = json!(owner);
            answer
        }
        SessionsCommand::Unpark { id } => {
            let session = SessionId::try_from(id.as_str())?;
            let unparked = parked::unpark_stored(&store, &session).await?;
            json!({"id": id, "unparked": unparked})
        }
        SessionsCommand::Park { id } => {
            let session = SessionId::try_from(id.as_str())?;
            let parked = parked::park_stored(&store, &session, Clock::default().now_ms()).await?;
            let parked = parked.with_context(|| format!("{id} is not in {url}"))?;
            json!({"id": id, "parked": parked})
        }
        // Nothing is in memory where no server runs.
        SessionsCommand::Evict { id, .. } => json!({"id": id, "evicted": false, "interrupted": false, "ended": false}),
    };
    store.close().await;
    Ok(answer)
}

fn listed(meta: &SessionMeta) -> Value {
    json!({
        "id": meta.session,
        "owner": meta.owner,
        "title": meta.title,
        "created_at": rfc3339(meta.created_at_ms),
        "updated_at": rfc3339(meta.updated_at_ms),
        "message_count": meta.message_count,
        "last_message_preview": meta.preview,
    })
}

fn print_list(answer: &Value) {
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        say("no conversations");
    }
    for item in items {
        let text = |name: &str| item[name].as_str().unwrap_or("");
        let title = if text("title").is_empty() {
            text("last_message_preview")
        } else {
            text("title")
        };
        let count = item["message_count"].as_u64().unwrap_or(0);
        say(&format!(
            "{}  {}  {count:>4}  {}",
            text("id"),
            text("updated_at"),
            printable(title)
        ));
    }
}

fn print_conversation(answer: &Value) {
    let text = |name: &str| answer[name].as_str().unwrap_or("-");
    for name in ["id", "owner", "title", "created_at", "updated_at"] {
        if !answer[name].is_null() {
            say(&format!("{name:<11} {}", printable(text(name))));
        }
    }
    say(&format!("messages    {}", answer["message_count"]));
    for message in answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let content = match &message["content"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        say(&format!(
            "\n{} {}",
            message["timestamp"].as_str().unwrap_or(""),
            message["role"].as_str().unwrap_or("")
        ));
        say(&content.lines().map(printable).collect::<Vec<_>>().join("\n"));
    }
}

/// Takes control characters out: a conversation must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
