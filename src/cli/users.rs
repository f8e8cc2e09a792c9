//! `kronos users`: asks a running server over REST; when none answers, changes the store itself.
//!
//! The store is locked while a server has it open, so the server is asked first: with the token of a superuser, in
//! development too, for a guest may not change who may do what.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use kronos_actors::config::StoreBackend;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    password,
    remote::{Answered, Remote, rows},
    say,
};
use crate::{
    config::{Config, ConfigError},
    edge::{self, accounts::offline::Offline, error::ApiError},
    wiring,
};

#[derive(Debug, Args)]
pub(super) struct UsersArgs {
    #[command(subcommand)]
    command: UsersCommand,
    /// Server to ask; without it that of HOST and PORT, and when none answers the store of DATABASE_URL.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Access token of a superuser; also KRONOS_TOKEN. Only a server asks for it.
    #[arg(long, global = true)]
    token: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// Passwords are read from KRONOS_PASSWORD, from the terminal, or from stdin.
#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// Make a user; the password is read from KRONOS_PASSWORD, the terminal, or stdin.
    Create {
        /// Its username: 3 to 50 letters, digits, `_`, `.`, `-`.
        username: String,
        /// Its e-mail address.
        #[arg(long)]
        email: String,
        /// Its name for people.
        #[arg(long)]
        full_name: Option<String>,
        /// It may do everything with everybody's things.
        #[arg(long)]
        superuser: bool,
        /// The `sub` that the identity provider of JWT_JWKS_URL gives it; no password is asked for then.
        #[arg(long)]
        id: Option<String>,
    },
    /// List users, in the order of their ids: the oldest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100))]
        limit: u64,
        /// Leave out so many from the first.
        #[arg(long, default_value_t = 0)]
        skip: u64,
    },
    /// Turn a user off: its tokens stop working, its sockets are closed.
    Disable {
        /// Its id, username or e-mail address.
        user: String,
    },
    /// Turn a user on again.
    Enable {
        /// Its id, username or e-mail address.
        user: String,
    },
    /// Set a user's password, which ends its logins; it is read from KRONOS_PASSWORD, the terminal, or stdin.
    Passwd {
        /// Its id, username or e-mail address.
        user: String,
    },
}

/// What is to be done, wherever the users are.
enum Task {
    Create(Map<String, Value>),
    List { skip: u64, limit: u64 },
    Change { user: String, body: Map<String, Value> },
}

impl Task {
    fn of(command: &UsersCommand) -> anyhow::Result<Self> {
        let change = |user: &str, body: Value| Self::Change {
            user: user.to_owned(),
            body: object(body),
        };
        Ok(match command {
            UsersCommand::Create {
                username,
                email,
                full_name,
                superuser,
                id,
            } => {
                let password = if id.is_none() { Some(password::read()?) } else { None };
                Self::Create(object(
                    json!({"username": username, "email": email, "full_name": full_name,
                    "is_superuser": superuser, "id": id, "password": password}),
                ))
            }
            UsersCommand::List { limit, skip } => Self::List {
                skip: *skip,
                limit: *limit,
            },
            UsersCommand::Disable { user } => change(user, json!({"is_active": false})),
            UsersCommand::Enable { user } => change(user, json!({"is_active": true})),
            UsersCommand::Passwd { user } => change(user, json!({"password": password::read()?})),
        })
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

pub(super) async fn run(
    arguments: UsersArgs,
    load: impl FnOnce() -> Result<Config, ConfigError>,
) -> anyhow::Result<ExitCode> {
    let task = Task::of(&arguments.command)?;
    let remote = |url| Remote {
        url,
        token: arguments.token.as_deref(),
    };
    let answer = match &arguments.url {
        Some(url) => ask_server(&task, &remote(url))
            .await?
            .with_context(|| format!("no answer from {url}"))?,
        None => {
            let config = load()?;
            let url = config.local_url();
            match ask_server(&task, &remote(&url)).await? {
                Some(answer) => answer,
                None => Box::pin(change_store(task, &config)).await?,
            }
        }
    };
    if arguments.json {
        say(&serde_json::to_string_pretty(&answer)?);
    } else {
        print(&arguments.command, &answer);
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the server; `None` when nothing listens there.
async fn ask_server(task: &Task, remote: &Remote<'_>) -> anyhow::Result<Option<Value>> {
    let answered = match task {
        Task::Create(body) => {
            let body = Value::Object(body.clone());
            remote.ask(Method::POST, &["users", ""], &[], Some(&body)).await?
        }
        Task::List { skip, limit } => {
            let (skip, limit) = (skip.to_string(), limit.to_string());
            let query = [("skip", skip.as_str()), ("limit", limit.as_str())];
            remote.ask(Method::GET, &["users", ""], &query, None).await?
        }
        Task::Change { user, body } => {
            let body = Value::Object(body.clone());
            // Ids first: a username may look like somebody else's id.
            let by_id = remote.ask(Method::PUT, &["users", user], &[], Some(&body)).await?;
            match by_id {
                Some(Answered { status: 404, .. }) => {
                    let id = find(remote, user).await?;
                    remote.ask(Method::PUT, &["users", &id], &[], Some(&body)).await?
                }
                answered => answered,
            }
        }
    };
    let Some(answered) = answered else { return Ok(None) };
    if answered.status == 401 || answered.status == 403 {
        bail!(
            "{} runs and wants the token of a superuser: --token or KRONOS_TOKEN. Or stop it: without a server the store is \
             changed itself",
            remote.url
        );
    }
    remote.good(answered).map(Some)
}

/// The id of the user with a name.
async fn find(remote: &Remote<'_>, name: &str) -> anyhow::Result<String> {
    let answered = remote.ask(Method::GET, &["users", ""], &[("name", name)], None).await?;
    let found = remote.good(answered.with_context(|| format!("no answer from {}", remote.url))?)?;
    let id = found[0]["id"].as_str().map(str::to_owned);
    id.with_context(|| format!("there is no user {name}"))
}

async fn change_store(task: Task, config: &Config) -> anyhow::Result<Value> {
    let url = config.store_url();
    if config.store.backend == StoreBackend::Memory {
        bail!("no server runs, and nothing is kept in {url}");
    }
    let opened = match &task {
        Task::Create(_) => wiring::open(config).await,
        Task::List { .. } | Task::Change { .. } => wiring::open_existing(config).await,
    };
    let store = opened.with_context(|| format!("no server runs, and {url} cannot be opened"))?;
    let users = Offline::new(store.clone(), edge::bounds(config));
    let result = match task {
        Task::Create(body) => users.create(body).await.map(|user| json!(user)),
        Task::List { skip, limit } => users
            .list(skip, usize::try_from(limit)?)
            .await
            .map(|users| json!(users)),
        Task::Change { user, body } => users.update(&user, body).await.map(|user| json!(user)),
    };
    store.close().await;
    result.map_err(refused)
}

fn refused(error: ApiError) -> anyhow::Error {
    anyhow::anyhow!("{}{}", error.message, rows(&error.details))
}

fn print(command: &UsersCommand, answer: &Value) {
    let text = |name: &str| answer[name].as_str().unwrap_or("-");
    match command {
        UsersCommand::Create { .. } => {
            let kind = if answer["is_superuser"] == true {
                "superuser"
            } else {
                "user"
            };
            say(&format!("{kind} {} made: {}", text("username"), text("id")));
        }
        UsersCommand::List { .. } => print_list(answer),
        UsersCommand::Disable { .. } => say(&format!("{} is off", text("username"))),
        UsersCommand::Enable { .. } => say(&format!("{} is on", text("username"))),
        UsersCommand::Passwd { .. } => say(&format!(
            "{} has a new password; its logins have ended",
            text("username")
        )),
    }
}

fn print_list(answer: &Value) {
    let users = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if users.is_empty() {
        return say("no users");
    }
    let heads = ["ID", "USERNAME", "EMAIL", "ROLE", "STATE", "LAST LOGIN"].map(str::to_owned);
    let line = |user: &Value| {
        let text = |name: &str| user[name].as_str().unwrap_or("-").to_owned();
        let (superuser, active) = (user["is_superuser"] == true, user["is_active"] == true);
        let role = if superuser { "superuser" } else { "user" };
        let state = if active { "on" } else { "off" };
        [
            text("id"),
            text("username"),
            text("email"),
            role.to_owned(),
            state.to_owned(),
            text("last_login"),
        ]
    };
    let lines: Vec<_> = std::iter::once(heads).chain(users.iter().map(line)).collect();
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        say(cells.join("  ").trim_end());
    }
}
