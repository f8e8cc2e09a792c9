//! Mints ids: the only place that asks for randomness for one.
//!
//! Conversations and users get a UUID of version 7 (they sort by age); everything else a prefix and a version 4 or 7 UUID in
//! plain hexadecimal, so that a log line tells what kind of id it shows.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kronos_protocol::ids::{ConnectionId, EpochId, MemoryId, MessageId, RunId, SessionId, UserId};
use uuid::Uuid;

#[expect(clippy::disallowed_methods, reason = "this is the one minter of ids")]
fn v7() -> Uuid {
    Uuid::now_v7()
}

/// Mints the id of a user: a hyphenated UUID of version 7, so that users sort by age.
pub fn user() -> UserId {
    UserId::from_trusted(v7().hyphenated().to_string())
}

/// Mints the id of a request to an upstream, `q_…`.
pub(crate) fn upstream_request() -> String {
    format!("q_{}", v7().simple())
}

macro_rules! mint {
    ($(#[$doc:meta])* $name:ident -> $id:ident, $prefix:literal) => {
        $(#[$doc])*
        pub fn $name() -> $id {
            $id::from_trusted(format!(concat!($prefix, "{}"), v7().simple()))
        }
    };
}

/// Mints the id of a conversation: a hyphenated UUID of version 7.
pub fn session() -> SessionId {
    SessionId::from_trusted(v7().hyphenated().to_string())
}

/// Namespace of conversations that clients name themselves.
const THREADS: Uuid = Uuid::from_u128(0x5f0c_3b62_8d0e_4c5a_9a37_61d2_b4c8_e01f);

/// Derives the id of the conversation that `user` calls `thread`: always the same one, and nobody else's.
pub fn thread(user: &UserId, thread: &str) -> SessionId {
    // An id of a user has no control characters: no two pairs look the same.
    let name = format!("{user}\0{thread}");
    SessionId::from_trusted(Uuid::new_v5(&THREADS, name.as_bytes()).hyphenated().to_string())
}

/// Random bytes of a run's id beside its session.
const RUN_BYTES: usize = 6;

/// Mints the id of a run, `r_…`. It holds the session (a UUID) and six random bytes, so that the session of a run is known
/// without an index.
pub fn run(session: &SessionId) -> RunId {
    let session = Uuid::try_parse(session.as_str()).unwrap_or_else(|_| v7());
    let mut bytes = session.as_bytes().to_vec();
    bytes.extend(rand::random::<[u8; RUN_BYTES]>());
    RunId::from_trusted(format!("r_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The session that a run's id names; `None` for ids that were not minted by [`run`].
pub fn session_of(run: &RunId) -> Option<SessionId> {
    let bytes = URL_SAFE_NO_PAD.decode(run.as_str().strip_prefix("r_")?).ok()?;
    let (session, rest) = bytes.split_first_chunk::<16>()?;
    (rest.len() == RUN_BYTES).then(|| SessionId::from_trusted(Uuid::from_bytes(*session).hyphenated().to_string()))
}

/// Mints the id of an HTTP request that came without one, `req_…`.
pub fn http_request() -> String {
    format!("req_{}", v7().simple())
}

mint!(/// Mints the id of a run that is of no session, `r_…`.
    detached_run -> RunId, "r_");
mint!(/// Mints the id of an assistant's message, `a_…`.
    assistant_message -> MessageId, "a_");
mint!(/// Mints the id of a user's message that came without one, `m_…`.
    user_message -> MessageId, "m_");
mint!(/// Mints the id of a websocket, `c_…`.
    connection -> ConnectionId, "c_");
mint!(/// Mints the identity of an event history, `e_…`.
    epoch -> EpochId, "e_");
mint!(/// Mints the id of a note, `n_…`: they sort by age.
    memory -> MemoryId, "n_");
