//! Closed sets of codes: what clients, metrics and tests go by. People read the text beside them.

use crate::wire::macros::words;

/// A word that is not in a closed set. Lists the set, does not repeat the word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be one of {}", known.join(", "))]
pub struct UnknownWord {
    what: &'static str,
    known: &'static [&'static str],
}

impl UnknownWord {
    pub(crate) fn new(what: &'static str, known: &'static [&'static str]) -> Self {
        Self { what, known }
    }

    /// Returns every word that would have been understood.
    #[must_use]
    pub fn known(&self) -> &'static [&'static str] {
        self.known
    }
}

words! {
    /// Why a command was refused: `code` of an `error` frame and of an HTTP problem.
    pub enum ErrorCode: "an error code" {
        /// A field is missing, of the wrong type, or out of its bounds.
        Validation = "validation",
        /// The command, mode or feature is not known to this server.
        Unsupported = "unsupported",
        /// No token, or one that is wrong, expired or revoked.
        Unauthenticated = "unauthenticated",
        /// The token is good, but not for this.
        Forbidden = "forbidden",
        /// There is no such thing, or none the caller may see.
        NotFound = "not_found",
        /// The state does not allow it: the same id with other content, or somebody was first.
        Conflict = "conflict",
        /// The session already does something that excludes this.
        Busy = "busy",
        /// A text, a list or a frame is over its limit.
        TooLarge = "too_large",
        /// The caller sends faster than it may.
        RateLimited = "rate_limited",
        /// The server sheds work; it did nothing.
        Overloaded = "overloaded",
        /// The server has no key or address for what this needs.
        NotConfigured = "not_configured",
        /// A service behind the server failed.
        Upstream = "upstream",
        /// A service behind the server did not answer in time.
        UpstreamTimeout = "upstream_timeout",
        /// The store failed; whether the command took effect is told by sending it again with the same id.
        Storage = "storage",
        /// The server is going away; another one will take it.
        ShuttingDown = "shutting_down",
        /// The session failed too often and was taken out of service.
        Parked = "parked",
        /// A bug of the server.
        Internal = "internal",
        /// The frame could not be read at all; the connection is closed with 4400.
        BadFrame = "bad_frame",
    }
}

impl ErrorCode {
    /// Whether the same command may succeed later without a change: temporary, not terminal.
    #[must_use]
    pub const fn retry(self) -> bool {
        match self {
            Self::Busy
            | Self::RateLimited
            | Self::Overloaded
            | Self::Upstream
            | Self::UpstreamTimeout
            | Self::Storage
            | Self::ShuttingDown
            | Self::Internal => true,
            Self::Validation
            | Self::Unsupported
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict
            | Self::TooLarge
            | Self::NotConfigured
            | Self::Parked
            | Self::BadFrame => false,
        }
    }
}

words! {
    /// Why a run ended early or went another way: `code` of RUN_ERROR, and of the notices within a run.
    pub enum RunErrorCode: "a run error code" {
        /// The process that ran it died; what it had written is kept.
        Interrupted = "interrupted",
        /// The model or its provider refused on grounds of content.
        Blocked = "blocked",
        /// The provider is out of quota for us.
        UpstreamRateLimited = "upstream_rate_limited",
        /// The provider is overloaded or cannot be reached.
        UpstreamUnavailable = "upstream_unavailable",
        /// The provider did not answer in time.
        UpstreamTimeout = "upstream_timeout",
        /// The provider refused the request, or answered what cannot be read.
        UpstreamError = "upstream_error",
        /// The provider does not take our key.
        UpstreamAuth = "upstream_auth",
        /// There is no key or address for the provider.
        NotConfigured = "not_configured",
        /// The answer stopped in the middle.
        StreamBroken = "stream_broken",
        /// The provider ended normally without text or calls.
        EmptyAnswer = "empty_answer",
        /// The model called functions in a way that cannot be read or was not offered, and did not mend it.
        MalformedCall = "malformed_call",
        /// The server had no permit for the run in time.
        Overloaded = "overloaded",
        /// The run took longer than a run may.
        Deadline = "deadline",
        /// A bug of the server.
        Internal = "internal",
        /// The turn took more steps than a turn may.
        TooManySteps = "too_many_steps",
        /// Not an end: the answer broke off and goes on in a new request.
        Continuation = "continuation",
    }
}

impl RunErrorCode {
    /// Whether a new run of the same turn may succeed without a change.
    #[must_use]
    pub const fn retry(self) -> bool {
        match self {
            Self::Interrupted
            | Self::UpstreamRateLimited
            | Self::UpstreamUnavailable
            | Self::UpstreamTimeout
            | Self::StreamBroken
            | Self::EmptyAnswer
            | Self::MalformedCall
            | Self::Overloaded
            | Self::Deadline
            | Self::Internal
            | Self::Continuation => true,
            Self::Blocked | Self::TooManySteps | Self::UpstreamError | Self::UpstreamAuth | Self::NotConfigured => {
                false
            }
        }
    }
}
