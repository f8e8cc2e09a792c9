//! The configuration of the whole server: defaults < `kronos.toml` < `.env` < environment < flags.
//!
//! Owns: the only reading of the environment, the table of settings, the checks between settings. Actors get their
//! section, never the root.

use std::{path::PathBuf, time::Duration};

use kronos_actors::config::{
    ComposioConfig, ConnectionConfig, GeminiConfig, RetentionConfig, SessionConfig, StoreBackend, StoreConfig,
    ToolsConfig,
};
use secrecy::SecretString;

mod checks;
mod layers;
mod network;
mod print;
mod settings;
#[cfg(test)]
mod tests;
mod value;

pub use layers::{Layers, client_password, client_token};
pub use network::Network;
pub use print::reference;

/// The effective configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The process and its listener.
    pub server: ServerConfig,
    /// The log lines.
    pub log: LogConfig,
    /// What is measured.
    pub metrics: MetricsConfig,
    /// Where traces go.
    pub traces: TracesConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// Where the log is kept.
    pub store: StoreConfig,
    /// How sessions live.
    pub session: SessionConfig,
    /// How long conversations are kept.
    pub retention: RetentionConfig,
    /// How websockets are guarded.
    pub connection: ConnectionConfig,
    /// How the model is asked.
    pub gemini: GeminiConfig,
    /// What the model may work with.
    pub tools: ToolsConfig,
    /// The simulated model.
    pub simulator: SimulatorConfig,
    /// What those who use the agent may bring.
    pub agent: AgentConfig,
    /// How Composio is asked.
    pub composio: ComposioConfig,
    /// Every setting as text, with where it came from; empty when the configuration was made in code.
    pub effective: Vec<Effective>,
    /// What the operator should know, one line each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Returns `DATABASE_URL` as it is in effect.
    #[must_use]
    pub fn store_url(&self) -> String {
        match &self.store.backend {
            StoreBackend::Sled(path) => format!("sled://{}", path.display()),
            StoreBackend::Memory => "memory://".to_owned(),
        }
    }

    /// Returns where a server with this configuration is reached from its own machine.
    #[must_use]
    pub fn local_url(&self) -> String {
        let host = self.server.host.trim_start_matches('[').trim_end_matches(']');
        let host = match host.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            Ok(std::net::IpAddr::V6(ip)) if ip.is_unspecified() => "[::1]".to_owned(),
            Ok(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            Ok(std::net::IpAddr::V4(_)) | Err(_) => host.to_owned(),
        };
        format!("http://{host}:{}", self.server.port)
    }
}

/// The process and its listener.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// What the server is run as. Default development.
    pub environment: Environment,
    /// Log at level `debug` unless a level is given. Default false.
    pub debug: bool,
    /// Address or name to listen on. Default `127.0.0.1`.
    pub host: String,
    /// TCP port; 0 takes a free one. Default 8000.
    pub port: u16,
    /// Threads that serve; 0 for one per core. Default 0.
    pub workers: usize,
    /// Where browsers reach this server. Default: where it listens, on a loopback address; else unknown.
    pub public_url: Option<String>,
    /// Origins of browsers that may call. Default none but the server's own.
    pub allowed_hosts: Vec<String>,
    /// Largest body of a request, in bytes. Default 1 MiB.
    pub body_bytes: usize,
    /// Proxies whose word counts about who asked. Default none.
    pub trusted_proxies: Vec<Network>,
    /// Requests of one user in a window; 0 for no limit. Default 6 000.
    pub rate_limit_per_user: u32,
    /// Requests from one address in a window; 0 for no limit. Default 12 000.
    pub rate_limit_per_address: u32,
    /// Logins, signups and refreshes from one address in a window; 0 for no limit. Default 60.
    pub rate_limit_auth: u32,
    /// The window of the limits. Default 60 s.
    pub rate_limit_window: Duration,
    /// Users and addresses that are counted at once. Default 1 000 000.
    pub rate_limit_keys: usize,
    /// Time in which the head of a request must have come. Default 10 s.
    pub request_timeout: Duration,
    /// Time in which the body of a request must have come. Default 30 s.
    pub body_timeout: Duration,
    /// Time in which a client must take the next part of its answer. Default 30 s.
    pub answer_timeout: Duration,
    /// Time for which a closed HTTP connection may still take its answer.
    pub disconnect_timeout: Duration,
    /// Time for which an idle HTTP connection is kept. Default 75 s.
    pub keep_alive: Duration,
    /// Connections that the kernel may hold until they are accepted. Default 8192.
    pub backlog: u32,
    /// Time that active runs get when the server stops. Default 10 s.
    pub drain_deadline: Duration,
    /// Pause between the probes of what the server needs; zero for none. Default 60 s.
    pub health_probe_interval: Duration,
    /// Time in which actors must answer what an operator asks. Default 1 s.
    pub admin_timeout: Duration,
    /// Taken for compatibility; does nothing.
    pub reload: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            environment: Environment::Development,
            debug: false,
            host: "127.0.0.1".to_owned(),
            port: 8000,
            workers: 0,
            public_url: None,
            allowed_hosts: Vec::new(),
            body_bytes: 1024 * 1024,
            trusted_proxies: Vec::new(),
            rate_limit_per_user: 6_000,
            rate_limit_per_address: 12_000,
            rate_limit_auth: 60,
            rate_limit_window: Duration::from_secs(60),
            rate_limit_keys: 1_000_000,
            request_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            disconnect_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_secs(75),
            backlog: 8192,
            drain_deadline: Duration::from_secs(10),
            health_probe_interval: Duration::from_secs(60),
            admin_timeout: Duration::from_secs(1),
            reload: false,
        }
    }
}

impl ServerConfig {
    /// Whether only this machine can reach the listener.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// What those who use the agent may bring, and what becomes of a run when they leave.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Characters of the context that comes with a message. Default 16 000.
    pub context_chars: usize,
    /// Tools that an AG-UI client may bring. Default 64.
    pub client_tools: usize,
    /// Time after which the run of an AG-UI client that closed its connection is stopped. Default 5 s.
    pub disconnect_grace: Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            context_chars: 16_000,
            client_tools: 64,
            disconnect_grace: Duration::from_secs(5),
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every word, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// Returns the word of the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Returns the variant with this word; the default for one that is not in [`Self::WORDS`].
            fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => Self::default(),
                }
            }
        }
    };
}

words! {
    /// What the server is run as.
    Environment {
        /// On a developer's machine.
        #[default]
        Development = "development",
        /// Like production, before it.
        Staging = "staging",
        /// For users.
        Production = "production",
        /// Under a test suite.
        Testing = "testing",
    }
}

impl Environment {
    /// Whether strangers use it: what is convenient and unsafe is refused.
    #[must_use]
    pub const fn is_guarded(self) -> bool {
        matches!(self, Self::Staging | Self::Production)
    }
}

words! {
    /// Form of the log lines.
    LogFormat {
        /// For people.
        #[default]
        Pretty = "pretty",
        /// For machines: one JSON object a line.
        Json = "json",
    }
}

words! {
    /// Whether guests are served.
    AuthMode {
        /// A request without a token acts as a guest.
        Development = "development",
        /// Every request needs a token.
        #[default]
        Required = "required",
    }
}

/// The log lines.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A level or a filter, in the grammar of `tracing-subscriber`. Default `info`.
    pub level: String,
    /// Default pretty.
    pub format: LogFormat,
    /// Folder of the log files; `None`: there are none.
    pub dir: Option<PathBuf>,
    /// Size at which a log file is set aside, in bytes. Default 16 MiB.
    pub file_bytes: u64,
    /// Files that are kept of each log, the one that is written included. Default 5.
    pub files: u32,
    /// Lines that wait for stderr, and for each file. Default 8192.
    pub queue_lines: usize,
    /// Lines of one place in the code in a second; 0 for no limit. Default 100.
    pub burst: u32,
    /// Write to stderr. Default true; no setting: tests keep their lines in files.
    pub stderr: bool,
}

/// Where traces go.
#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// Address of an OTLP collector, without the path; `None`: traces are not made.
    pub endpoint: Option<String>,
    /// Headers for it: `NAME=VALUE,NAME=VALUE`.
    pub headers: Option<SecretString>,
    /// What this server is called in them. Default `kronos`.
    pub service_name: String,
    /// The share of traces that begin here and are exported, 0..1. Default 1.
    pub sample_ratio: f64,
    /// Spans that wait for the collector. Default 2048.
    pub queue_spans: usize,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: None,
            service_name: "kronos".to_owned(),
            sample_ratio: 1.0,
            queue_spans: 2048,
        }
    }
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// Measure at all. Default true.
    pub enabled: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Pretty,
            dir: None,
            file_bytes: 16 * 1024 * 1024,
            files: 5,
            queue_lines: 8192,
            burst: 100,
            stderr: true,
        }
    }
}

/// Who may call.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Whether guests are served. Default required; [`Layers::load`] says development where that is safe.
    pub mode: AuthMode,
    /// Signs tokens; `None`: a random one for this process.
    pub secret_key: Option<SecretString>,
    /// Life of an access token, in milliseconds. Default 30 min.
    pub access_token_ms: i64,
    /// Life of a refresh token, in milliseconds. Default 30 days.
    pub refresh_token_ms: i64,
    /// Life of a ticket. Default 30 s.
    pub ticket_expire: Duration,
    /// Tickets that may wait for their use. Default 100 000.
    pub max_tickets: usize,
    /// Passwords hashed at once. Default 2.
    pub password_concurrency: usize,
    /// Logins and signups that may wait for their hash. Default 128.
    pub password_waiting: usize,
    /// Whose tokens are taken instead of this server's own.
    pub outside: OutsideConfig,
    /// Made at the start when nobody has its name.
    pub first: FirstSuperuser,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            mode: AuthMode::Required,
            secret_key: None,
            access_token_ms: 30 * 60_000,
            refresh_token_ms: 30 * 86_400_000,
            ticket_expire: Duration::from_secs(30),
            max_tickets: 100_000,
            password_concurrency: 2,
            password_waiting: 128,
            outside: OutsideConfig::default(),
            first: FirstSuperuser::default(),
        }
    }
}

words! {
    /// Algorithm of tokens.
    JwtAlgorithm {
        /// A secret that only this server has.
        #[default]
        Hs256 = "HS256",
        /// RSA keys of an identity provider.
        Rs256 = "RS256",
        /// Keys of an identity provider on the curve P-256.
        Es256 = "ES256",
    }
}

impl JwtAlgorithm {
    /// Returns the algorithm of a provider's keys; `None` for this server's own secret.
    pub(crate) const fn of_provider(self) -> Option<jsonwebtoken::Algorithm> {
        match self {
            Self::Hs256 => None,
            Self::Rs256 => Some(jsonwebtoken::Algorithm::RS256),
            Self::Es256 => Some(jsonwebtoken::Algorithm::ES256),
        }
    }
}

/// The outside identity provider whose tokens are taken, and no others.
#[derive(Debug, Clone)]
pub struct OutsideConfig {
    /// Address of its keys; `None`: tokens are this server's own.
    pub url: Option<String>,
    /// Algorithm of its tokens. Default HS256, which none may have.
    pub algorithm: JwtAlgorithm,
    /// `iss` of its tokens.
    pub issuer: Option<String>,
    /// What `aud` of its tokens must include.
    pub audience: Option<String>,
    /// How far its clock may be off. Default 30 s.
    pub leeway: Duration,
    /// How long its keys are taken without asking again. Default 5 min.
    pub ttl: Duration,
    /// How much longer they are taken while it does not answer. Default 24 h.
    pub stale: Duration,
    /// The least time between two questions. Default 5 s.
    pub pause: Duration,
    /// Time for its answer. Default 5 s.
    pub timeout: Duration,
    /// Largest answer, in bytes. Default 256 KiB.
    pub bytes: usize,
}

impl Default for OutsideConfig {
    fn default() -> Self {
        Self {
            url: None,
            algorithm: JwtAlgorithm::Hs256,
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(30),
            ttl: Duration::from_secs(300),
            stale: Duration::from_secs(86_400),
            pause: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            bytes: 256 * 1024,
        }
    }
}

/// The superuser that is made when nobody has its name.
#[derive(Debug, Clone, Default)]
pub struct FirstSuperuser {
    /// Its name; all three are set, or none.
    pub username: Option<String>,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
}

/// The simulated model, and the simulated Composio.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Start it in this process and ask it instead of Gemini. Default false; [`Layers::load`] decides.
    pub start: bool,
    /// The same of Composio. Default false; [`Layers::load`] decides.
    pub start_composio: bool,
    /// Its pace; 0 for as fast as it can. Default 60.
    pub tokens_per_second: f64,
    /// Its seed. Default 1.
    pub seed: u64,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            start: false,
            start_composio: false,
            tokens_per_second: 60.0,
            seed: 1,
        }
    }
}

/// One setting as it is in effect.
#[derive(Debug, Clone)]
pub struct Effective {
    /// `section.key`.
    pub key: &'static str,
    /// The name in the environment.
    pub env: &'static str,
    /// The value; `***` for a secret, empty when unset.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// Where a value came from, the weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The table of settings.
    Default,
    /// A `kronos.toml`.
    File(PathBuf),
    /// The file `.env`.
    DotEnv,
    /// The environment of the process.
    Environment,
    /// The command line.
    Flag(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::DotEnv => f.write_str(".env"),
            Self::Environment => f.write_str("environment"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Why a configuration is refused: one line that says what to change. No secret is part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that its setting does not take.
    #[error("{name}={value} (from {origin}) is not allowed: must be {allowed}")]
    Value {
        /// The variable, flag or file key.
        name: String,
        /// The value, `***` for a secret.
        value: String,
        /// Where it came from.
        origin: String,
        /// What is allowed.
        allowed: String,
    },
    /// A section or key that does not exist.
    #[error("{path}: unknown setting {key}; `kronos config --reference` lists all")]
    UnknownKey {
        /// The file.
        path: String,
        /// The key.
        key: String,
    },
    /// A file that cannot be read.
    #[error("{path} cannot be read: {cause}")]
    File {
        /// The file.
        path: String,
        /// Why.
        cause: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Together(String),
}
