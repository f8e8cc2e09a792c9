//! The command line: what can be asked, and what is printed. An error is one line on stderr and exit code 2.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    Server, Stop, chat,
    config::{self, AuthMode, Config, ConfigError, Layers},
    edge, telemetry,
};

mod admin;
mod password;
mod remote;
mod sessions;
mod turns;
mod users;

const EXAMPLES: &str = "\
Examples:
  kronos                                  serve with a simulated model, data in ./data
  kronos chat                             talk to it from another terminal
  GEMINI_API_KEY=… kronos serve           serve with Google Gemini
  kronos serve --port 9000 --database-url sled:///var/lib/kronos
  kronos config                           what is in effect, and where each value came from
  kronos config --reference > kronos.toml a file with every setting and its default
  kronos sessions list                    the conversations of a running server, or of ./data
  kronos sessions unpark ID               open one again that was closed because it failed repeatedly
  kronos runs list                        what a running server answers now, for superusers
  kronos turns slow                       the slowest of the last turns of a running server
  kronos turns show RUN                   where the time of one went
  kronos users create ada --email ada@example.com --superuser
                                          make a user; the password is asked for

Settings come from flags, the environment, ./.env and ./kronos.toml, in this order.
A setting that is not allowed, a port in use or a store that cannot be opened: exit code 2.";

/// Serves AI chat that survives reconnects, restarts and crashes.
#[derive(Debug, Parser)]
#[command(name = "kronos", version, about, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default).
    Serve,
    /// Talk to a running server.
    Chat(chat::ChatArgs),
    /// Print the effective configuration, secrets masked.
    Config {
        /// Print JSON.
        #[arg(long, conflicts_with = "reference")]
        json: bool,
        /// Print every setting with its default and documentation, as a kronos.toml.
        #[arg(long)]
        reference: bool,
    },
    /// Print the OpenAPI document of the server as it is configured.
    #[command(name = "openapi")]
    OpenApi,
    /// Print the AsyncAPI document of the websocket.
    #[command(name = "asyncapi")]
    AsyncApi,
    /// Look at conversations.
    Sessions(sessions::SessionsArgs),
    /// Look at the websockets of a running server and close them, for superusers.
    Connections(admin::ConnectionsArgs),
    /// Look at what a running server answers now, for superusers.
    Runs(admin::RunsArgs),
    /// Drain a running server and end it, for superusers.
    Drain(admin::DrainArgs),
    /// See where the time of turns went.
    Turns(turns::TurnsArgs),
    /// Make and change users.
    Users(users::UsersArgs),
}

/// Flags that set a setting; they win over everything else.
#[derive(Debug, Clone, Default, Args)]
struct SettingFlags {
    /// Configuration file [default: ./kronos.toml when it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1].
    #[arg(long, global = true)]
    host: Option<String>,
    /// Port to listen on [default: 8000].
    #[arg(long, global = true)]
    port: Option<String>,
    /// Where everything is stored [default: sled://./data].
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Which log lines are written: trace, debug, info, warning, error, off, or a filter.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl SettingFlags {
    fn load(self) -> Result<Config, ConfigError> {
        let given = [
            ("--host", self.host),
            ("--port", self.port),
            ("--database-url", self.database_url),
            ("--log-level", self.log_level),
        ];
        let flags = given
            .into_iter()
            .filter_map(|(flag, text)| Some((flag, text?)))
            .collect();
        Layers::gather(self.config, flags)?.load()
    }
}

/// Runs a command to its end. Within an actix system.
pub async fn run(cli: Cli) -> ExitCode {
    let result = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(cli.settings).await,
        Command::Chat(mut arguments) => {
            if arguments.user.is_none() && arguments.token.is_none() {
                arguments.token = config::client_token();
            }
            Box::pin(chat::run(arguments)).await
        }
        Command::Config { json, reference } => print_config(cli.settings, json, reference),
        Command::OpenApi => print_openapi(cli.settings),
        Command::AsyncApi => print_asyncapi(cli.settings),
        Command::Sessions(arguments) => Box::pin(sessions::run(arguments, || cli.settings.load())).await,
        Command::Connections(arguments) => Box::pin(admin::connections(arguments, || cli.settings.load())).await,
        Command::Runs(arguments) => Box::pin(admin::runs(arguments, || cli.settings.load())).await,
        Command::Drain(arguments) => Box::pin(admin::drain(arguments, || cli.settings.load())).await,
        Command::Turns(arguments) => Box::pin(turns::run(arguments, || cli.settings.load())).await,
        Command::Users(arguments) => Box::pin(users::run(arguments, || cli.settings.load())).await,
    };
    result.unwrap_or_else(|error| {
        say_error(&format!("{error:#}"));
        ExitCode::from(2)
    })
}

async fn serve(settings: SettingFlags) -> anyhow::Result<ExitCode> {
    let config = settings.load()?;
    telemetry::start(&config)?;
    let served = serve_with(config).await;
    telemetry::finish();
    served
}

async fn serve_with(config: Config) -> anyhow::Result<ExitCode> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let max_connections = config.connection.max_connections + config.connection.max_event_streams;
    let stop = Stop::default();
    stop.on_signals()?;
    let banner = Banner::of(&config);
    let server = Server::bind(config).await?;
    banner.print(&server);
    raise_open_files(max_connections);
    server.run(stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// File descriptors of everything else: the store, upstream connections, requests.
const SPARE_FILES: u64 = 2048;

/// Takes as many open files as the system grants, and says when they are not enough for the configured connections.
fn raise_open_files(max_connections: usize) {
    let wanted = u64::try_from(max_connections)
        .unwrap_or(u64::MAX)
        .saturating_add(SPARE_FILES);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(granted) if granted < wanted => {
            tracing::info!(
                granted,
                wanted,
                "the system grants fewer open files than MAX_CONNECTIONS and MAX_EVENT_STREAMS may need"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// What is said at the start; taken before the configuration moves into the server.
struct Banner {
    store: String,
    model: String,
    tools: &'static str,
    auth: &'static str,
}

impl Banner {
    fn of(config: &Config) -> Self {
        let model = &config.gemini.model;
        let model = match (config.gemini.simulated, config.gemini.api_key.is_some()) {
            (true, _) => format!("{model} (simulated: set GEMINI_API_KEY for the real one)"),
            (false, true) => model.clone(),
            (false, false) => format!("{model} (not configured: set GEMINI_API_KEY)"),
        };
        let tools = match (config.composio.simulated, config.composio.api_key.is_some()) {
            (true, _) => "Composio (simulated: set COMPOSIO_API_KEY for the real one)",
            (false, true) => "Composio",
            (false, false) => "Composio (not configured: set COMPOSIO_API_KEY)",
        };
        let auth = match config.auth.mode {
            AuthMode::Development => "development (guests without a token; user demo, password demo)",
            AuthMode::Required => "required (a token for every request)",
        };
        Self {
            store: config.store_url(),
            model,
            tools,
            auth,
        }
    }

    fn print(&self, server: &Server) {
        let url = format!("http://{}", server.addr());
        say(&format!("kronos {} listening on {url}", env!("CARGO_PKG_VERSION")));
        say(&format!("  store  {}", self.store));
        say(&format!("  model  {}", self.model));
        say(&format!("  tools  {}", self.tools));
        say(&format!("  auth   {}", self.auth));
        let default = server.addr().port() == 8000 && server.addr().ip().is_loopback();
        let other = if default {
            String::new()
        } else {
            format!(" --url {url}")
        };
        say(&format!("  chat   kronos chat{other}"));
    }
}

fn print_openapi(settings: SettingFlags) -> anyhow::Result<ExitCode> {
    let document = edge::openapi_document(&settings.load()?);
    say(&serde_json::to_string_pretty(&document)?);
    Ok(ExitCode::SUCCESS)
}

fn print_config(settings: SettingFlags, json: bool, reference: bool) -> anyhow::Result<ExitCode> {
    if reference {
        say(config::reference().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let config = settings.load()?;
    if json {
        say(&serde_json::to_string_pretty(&config.json())?);
    } else {
        say(config.table().trim_end());
    }
    for warning in &config.warnings {
        say_error(&format!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_asyncapi(settings: SettingFlags) -> anyhow::Result<ExitCode> {
    let document = edge::asyncapi(&settings.load()?).document();
    say(&serde_json::to_string_pretty(&document)?);
    Ok(ExitCode::SUCCESS)
}

/// Prints for the person or the script that called. Whoever reads may have gone, as `head` does: that is no failure, and a
/// server goes on.
fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn say_error(text: &str) {
    drop(writeln!(std::io::stderr(), "kronos: {text}"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_taken_before_and_after_the_command() {
        for arguments in [["kronos", "--port", "1", "serve"], ["kronos", "serve", "--port", "1"]] {
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert_eq!(cli.settings.load().unwrap().server.port, 1);
        }
    }
}
