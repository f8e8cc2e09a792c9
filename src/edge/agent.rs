//! The routes under `/agent`: runs that use tools, the questions that they ask, and the doors for AG-UI clients and for
//! CopilotKit's.
//!
//! Each of them asks the session that websockets ask; no rule of a run is here.

use std::{sync::Arc, time::Duration};

use kronos_actors::{
    directory::{DirectoryRef, SessionRef},
    ids,
    principal::Principal,
    session::message::{RunView, SessionCommand, SessionError, SessionReply},
};
use kronos_protocol::{error::ErrorCode, ids::RunId};

use super::{
    chat::{ask, stream::Followers, unexpected},
    endpoint::Endpoint,
    error::ApiError,
};
use crate::config::Config;

mod agui;
mod answers;
mod capabilities;
mod copilot;
mod intent;
mod invoke;
mod runs;

/// Every endpoint here.
pub(super) fn endpoints() -> Vec<Endpoint> {
    [
        invoke::endpoints(),
        intent::endpoints(),
        capabilities::endpoints(),
        runs::endpoints(),
        answers::endpoints(),
        agui::endpoints(),
        copilot::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the agent's routes know; one per process.
pub(crate) struct Agent {
    /// Who follows runs that end with their followers.
    followers: Followers,
    /// Time after which such a run is stopped.
    grace: Duration,
    /// What it can do.
    about: capabilities::About,
}

impl Agent {
    /// Takes it from the configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            followers: Followers::default(),
            grace: config.agent.disconnect_grace,
            about: capabilities::About::of(config),
        }
    }
}

/// A run of the caller's.
struct Found {
    session: SessionRef,
    caller: Arc<Principal>,
    view: RunView,
}

/// Finds a run; one of somebody else's is not there.
async fn find(directory: &DirectoryRef, caller: Arc<Principal>, run: &RunId) -> Result<Found, ApiError> {
    let not_found = |error: SessionError| match error.code {
        ErrorCode::NotFound => ApiError::not_found("Run", run.as_str()),
        _ => error.into(),
    };
    let session = ids::session_of(run).ok_or_else(|| ApiError::not_found("Run", run.as_str()))?;
    let session = directory.resolve(&session).await.map_err(not_found)?;
    let command = SessionCommand::Run { run: run.clone() };
    let (session, reply) = ask(directory, session, &caller, command).await.map_err(not_found)?;
    let SessionReply::Run(view) = reply else {
        return Err(unexpected("run"));
    };
    Ok(Found {
        session,
        caller,
        view: *view,
    })
}
