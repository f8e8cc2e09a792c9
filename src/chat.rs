//! `kronos chat`: a terminal client over the real websocket.
//!
//! It is a client like any other: it knows the protocol, not the server's inside. What it must never do is lose or repeat
//! something, of what the user typed as of what the server sent: `chat/conversation.rs` and `chat/transcript.rs` see to
//! that and are pure; `chat/view.rs` decides how it looks; the rest is the terminal and the socket.

mod address;
mod backoff;
mod command;
mod conversation;
mod drive;
mod frame;
mod input;
mod link;
mod link_to;
mod rest;
mod screen;
mod transcript;
mod view;

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use kronos_protocol::{AttachTarget, ClientInfo, DeviceName, SendMode, SessionId};

use address::Address;
use conversation::{Conversation, Identity};
use drive::{Driver, Policy, Purpose};
use input::Keyboard;
use screen::Screen;
use view::{Look, Style, View};

/// Talk to a Kronos server in the terminal.
///
/// The answer is shown as it comes. Ctrl-C stops it; a second Ctrl-C, or one at an empty prompt, leaves. When the connection
/// is lost the client comes back by itself and goes on where it was. /help lists the commands.
///
/// Calls of tools are shown as they are made. When one waits for an approval you are asked: yes, no, or edit its arguments.
/// When it needs an account the page to connect one is shown, and Enter opens it.
///
/// Without a terminal each line of the input is a message, and the output is plain.
#[derive(Clone, clap::Args)]
pub struct ChatArgs {
    /// The server's websocket.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8000/ws")]
    pub url: String,
    /// Go on with this conversation instead of starting one.
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Act as this guest; only on a server in development mode.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    pub user: Option<String>,
    /// The access token; better given as KRONOS_TOKEN, where other users of this machine cannot see it.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Say one thing, print the answer and nothing else, and leave. Exit code 0: answered; 1: the run failed or was
    /// cancelled; 2: no connection.
    #[arg(long, value_name = "TEXT")]
    pub once: Option<String>,
    /// Approve every call of a tool that waits for an approval. Without a terminal, and without this or --no, such a call
    /// is printed, nobody answers it, and the exit code is 1.
    #[arg(long, conflicts_with = "no")]
    pub yes: bool,
    /// Allow no call of a tool that waits for an approval; a call of which nobody knows what became of it is left at that.
    #[arg(long)]
    pub no: bool,
}

impl fmt::Debug for ChatArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatArgs")
            .field("url", &self.url)
            .field("session", &self.session)
            .field("user", &self.user)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("yes", &self.yes)
            .field("no", &self.no)
            .finish_non_exhaustive()
    }
}

/// Runs the client until the user leaves, or until `--once` is answered.
///
/// Returns exit code 0 when all is well, 1 when the last run did not end with an answer (only without a user in front of
/// it), 2 when there is no connection; that was said in one line on stderr, or on the terminal.
///
/// # Errors
/// The arguments are wrong, or the terminal cannot be used: the caller should show it and exit with 2. When stdout is gone,
/// likewise.
pub async fn run(args: ChatArgs) -> anyhow::Result<ExitCode> {
    // Both TLS users, websocket and HTTP, take the process's provider; somebody may have set it before.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("the TLS provider is set already");
    }
    let address = Address::new(&args.url, args.user.as_deref())?;
    let identity = Identity {
        token: args.token,
        client: client_info(),
    };
    let target = match args.session {
        Some(session) => AttachTarget::of(session),
        None => AttachTarget::New {
            title: None,
            settings: None,
        },
    };
    let mut conversation = Conversation::new(identity.clone(), target, args.once.is_some());
    let (purpose, look) = match &args.once {
        Some(_) => (Purpose::Once, Look::Answer),
        None if screen::is_terminal() => (Purpose::Interactive, Look::Terminal),
        None => (Purpose::Script, Look::Plain),
    };
    let policy = match (args.yes, args.no) {
        (true, _) => Policy::Yes,
        (false, true) => Policy::No,
        (false, false) => Policy::Ask,
    };
    let width = Arc::<AtomicUsize>::default();
    let (keyboard, screen) = match purpose {
        Purpose::Once => (Keyboard::none(), Screen::plain()),
        Purpose::Script => (Keyboard::pipe(), Screen::plain()),
        Purpose::Interactive => {
            let (keyboard, printer) = Keyboard::terminal(Arc::clone(&width))?;
            (keyboard, Screen::terminal(printer))
        }
    };
    if let Some(text) = args.once {
        anyhow::ensure!(!text.trim().is_empty(), "--once needs a text");
        let steps = conversation.say(drive::mint()?, text, SendMode::Queue);
        debug_assert!(steps.is_empty(), "nothing is sent before there is a connection");
    }
    let view = View::new(look, Style::of_environment(width));
    let driver = Driver::new(
        address,
        identity,
        (purpose, policy),
        conversation,
        (view, screen, keyboard),
    );
    Box::pin(driver.run()).await
}

/// What other devices of the user see.
fn client_info() -> Option<ClientInfo> {
    let name: DeviceName = "kronos chat".parse().ok()?;
    let version: DeviceName = env!("CARGO_PKG_VERSION").parse().ok()?;
    Some(ClientInfo::new(name, version))
}
