//! The domain of Kronos as actors: sessions, connections, directory, store and the model's service.
//!
//! # Who supervises whom
//! ```text
//! process ── Store (one committer thread, a pool of readers)
//!    └─ core (one arbiter's thread each)
//!         ├─ Directory ── starts, restarts, passivates ──▶ Session (one per live conversation)
//!         ├─ Gemini ── one task per generation
//!         └─ Connection (one per websocket)
//! ```
//! A session that panics folds its log again behind the same address ([`supervisor`]); one that hangs (no progress while it
//! has work) is ended and started again by its directory; one that does so too often is parked, in the store, until somebody
//! opens it. Directories, the model's service and the store's threads restart too, and whoever waited on them is answered.
//! An idle session leaves memory under its sockets: the directory keeps the attachments, and any input wakes it.
//!
//! # Who talks to whom
//! Connection → Directory (find a session) → Session (commands, pulls) → Store (one commit in the air per session) and
//! Gemini (one generation per run). Everything between Connection and Session is data ([`session::message`]).
//!
//! # Guarantees
//! - **Order**: a session's events have one order, numbered from 1 without gaps; every reader sees a prefix of it.
//! - **Durability**: an event leaves the process, and a command is acknowledged, only after the commit that holds it. What was
//!   shown is there after `kill -9`.
//! - **At most once**: a message with an id is applied once, whoever sends it how often.
//! - **Bounded**: no queue grows with a slow reader; every mailbox and table has a bound in [`config`] and a code for "full".
//!
//! With [`config::Durability::Relaxed`] the text of an answer is shown before its commit: a crash or a panic may take back the
//! last of it, and begins a new epoch then.
//!
//! | event | what is lost |
//! |---|---|
//! | panic or hang of a session | nothing durable; its run is closed as `interrupted` and tried again; sockets stay |
//! | a failing store | nothing acknowledged; commands are refused until it works again |
//! | stop (passivation) | nothing: a session stops only when everything is durable |
//! | drain (SIGTERM) | nothing: runs end or are closed as `interrupted` and tried again after the restart |
//! | `kill -9`, power loss | what was not committed: it was neither shown nor acknowledged |

pub mod analysis;
pub mod clock;
pub mod composio;
pub mod config;
pub mod connection;
pub mod directory;
pub mod erasure;
pub mod flight;
pub mod gemini;
pub mod http;
pub mod ids;
mod lag;
pub mod mailbox;
pub mod metrics;
pub mod principal;
pub mod retention;
pub mod session;
pub mod store;
pub mod supervisor;
pub mod tally;
pub mod tools;
pub mod trace;
pub mod upstream;
