//! Who is calling: what the edge proved about a peer, in the terms the domain needs.

use futures_util::future::BoxFuture;
use kronos_protocol::ids::UserId;

use crate::clock::Millis;

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose sessions this caller may use.
    pub user: UserId,
    /// The name to show, when known.
    pub name: Option<String>,
    /// May read and write everybody's sessions.
    pub superuser: bool,
    /// Id of the login that its token descends from, revoked as one; absent for a development guest.
    pub login: Option<String>,
    /// When that token ends, in milliseconds since the Unix epoch; absent means never.
    pub expires_at_ms: Option<Millis>,
}

/// Family of documents about users that were deleted, by id. While there is one, nothing is made for that user: the commit
/// of a new session asks for its absence.
pub const REMOVED: &str = "removed";

/// Why a token was not taken. The text of a token is never part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There was none, and this server does not take guests.
    #[error("a token is required")]
    Missing,
    /// It is not a token of this server: malformed, wrong signature, wrong algorithm, wrong kind.
    #[error("the token is not valid")]
    Invalid,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// It was revoked, or its user is gone or inactive.
    #[error("the token was revoked")]
    Revoked,
    /// The store that knows revocations did not answer.
    #[error("the token cannot be checked now")]
    Unavailable,
    /// There is no key to check it with: the provider that issues tokens did not answer, or may not be asked again yet.
    #[error("the token cannot be checked now: its key is not known")]
    NoKey,
}

impl AuthError {
    /// Returns the word for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unavailable => "unavailable",
            Self::NoKey => "no_key",
        }
    }
}

/// Turns a bearer token into a [`Principal`]; the edge implements it.
pub trait Authenticator: Send + Sync {
    /// Checks `token`; without one, the answer is a guest where guests are allowed, else [`AuthError::Missing`].
    fn authenticate(&self, token: Option<String>) -> BoxFuture<'static, Result<Principal, AuthError>>;

    /// Whether what was proven before still holds: asked again once the caller can be reached from outside, so that a login
    /// that ended in between leaves nothing open.
    fn holds(&self, principal: &Principal) -> bool {
        let _ = principal;
        true
    }
}
