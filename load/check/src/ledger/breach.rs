//! A broken promise, with what shows it.

use kronos_protocol::{Seq, SessionId};
use serde::Serialize;

use crate::checker::Violation;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// The check that found it, one of [`Breach::CHECKS`].
    pub check: &'static str,
    /// The session; empty before one is attached.
    pub session: String,
    /// The position at which it shows, if it has one.
    pub seq: Option<Seq>,
    /// The device that saw it.
    pub device: String,
    /// What was expected and what came.
    pub what: String,
    /// The last frames that the device sent, oldest first, cut to a length.
    pub sent: Vec<String>,
    /// The last frames that it received.
    pub received: Vec<String>,
}

/// What was found, without where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) check: &'static str,
    pub(super) seq: Option<Seq>,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn new(check: &'static str, seq: Option<Seq>, what: String) -> Self {
        Self { check, seq, what }
    }
}

impl Breach {
    /// The names of all checks: stable.
    pub const CHECKS: [&'static str; 17] = [
        "gap",
        "repeated",
        "reordered",
        "merged",
        "epoch",
        "not_attached",
        "attach",
        "order",
        "reply",
        "overtook",
        "unacked",
        "applied_twice",
        "never_applied",
        "diverged",
        "unsaid",
        "undecodable",
        "shape",
    ];
}

/// What a violation is of, beside its text.
pub(super) fn fault(violation: &Violation) -> (Fault, Option<SessionId>) {
    let (check, session, seq) = match violation {
        Violation::Gap { session, found, .. } => ("gap", Some(session), Some(*found)),
        Violation::Repeated { session, found, .. } => ("repeated", Some(session), Some(*found)),
        Violation::Merged { session, seq, .. } => ("merged", Some(session), Some(*seq)),
        Violation::Epoch { session, seq, .. } => ("epoch", Some(session), Some(*seq)),
        Violation::NotAttached { session, .. } => ("not_attached", Some(session), None),
        Violation::Attach { session, seq, .. } => ("attach", Some(session), Some(*seq)),
        Violation::Order { session, seq, .. } => ("order", Some(session), Some(*seq)),
        Violation::Reply { .. } => ("reply", None, None),
        Violation::Overtook { .. } => ("overtook", None, None),
    };
    (Fault::new(check, seq, violation.to_string()), session.cloned())
}
