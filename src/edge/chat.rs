//! The routes under `/chat`: turns, conversations, and what can be followed or taken away of them.
//!
//! Each of them asks the session that websockets ask; no rule of a conversation is here.

use std::{sync::Arc, time::Duration};

use kronos_actors::{
    directory::{DirectoryRef, SessionRef},
    principal::Principal,
    session::{
        message::{SessionCommand, SessionError, SessionReply},
        reader,
    },
};

use super::{endpoint::Endpoint, error::ApiError};

mod entries;
mod events;
mod export;
mod history;
mod manage;
mod pages;
mod recording;
pub(in crate::edge) mod sse;
pub(in crate::edge) mod stream;
pub(in crate::edge) mod turn;

pub(crate) use self::pages::conversation;

/// Every endpoint here.
pub(super) fn endpoints() -> Vec<Endpoint> {
    [
        turn::endpoints(),
        history::endpoints(),
        stream::endpoints(),
        pages::endpoints(),
        manage::endpoints(),
        events::endpoints(),
        export::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the configuration says about answers that go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamRules {
    /// Silence after which a comment is sent.
    pub(crate) heartbeat: Duration,
    /// Time in which a reader must take something of what waits for it.
    pub(crate) write_timeout: Duration,
}

impl StreamRules {
    /// Takes them from the configuration.
    pub(crate) fn of(config: &crate::config::Config) -> Self {
        Self {
            heartbeat: config.connection.sse_heartbeat,
            write_timeout: config.connection.write_timeout,
        }
    }
}

/// Asks a session; when its actor ended meanwhile, asks the directory again and resends, once.
pub(in crate::edge) async fn ask(
    directory: &DirectoryRef,
    session: SessionRef,
    caller: &Arc<Principal>,
    command: SessionCommand,
) -> Result<(SessionRef, SessionReply), SessionError> {
    match reader::ask(&session, caller, command.clone()).await {
        Err(error) if error.closed => {
            let session = directory.resolve(session.id()).await?;
            let reply = reader::ask(&session, caller, command).await?;
            Ok((session, reply))
        }
        result => result.map(|reply| (session, reply)),
    }
}

/// A session answered with something that the command does not get: a bug.
pub(in crate::edge) fn unexpected(command: &'static str) -> ApiError {
    tracing::error!(command, "a session answered with something else");
    ApiError::internal()
}
