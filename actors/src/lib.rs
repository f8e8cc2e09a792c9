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
//! A session that panics folds its log again behind the same address ([`supervisor`]); one that panics too often is parked by
//! its directory. A service that panics answers whoever waited.
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
//! | event | what is lost |
//! |---|---|
//! | panic of a session | nothing durable; its run is closed as `interrupted` and tried again; sockets stay |
//! | stop (passivation) | nothing: a session stops only when everything is durable |
//! | drain (SIGTERM) | nothing: runs end or are closed as `interrupted` and tried again after the restart |
//! | `kill -9`, power loss | what was not committed: it was neither shown nor acknowledged |

pub mod clock;
pub mod config;
pub mod connection;
pub mod directory;
pub mod gemini;
pub mod ids;
pub mod metrics;
pub mod principal;
pub mod retention;
pub mod session;
pub mod store;
pub mod supervisor;
pub mod upstream;
