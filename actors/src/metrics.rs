//! Every metric: its name, kind, unit, help and labels. THE list; nothing is measured under a name that is not here.
//!
//! Names are `kronos_<noun>_<unit>[_total]`. Labels come from closed sets only: never a user, a session or a path.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// The declaration of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $const: &str = $name;
        )+

        /// All of them.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $const, kind: Kind::$kind, unit: Unit::$unit, help: $help, labels: &[$($label),*] },)+
        ];
    };
}

metrics! {
    HTTP_REQUESTS = "kronos_http_requests_total", Counter, Count, ["method", "route", "status"],
        "Requests answered, by route pattern and status class.";
    HTTP_DURATION = "kronos_http_request_duration_seconds", Histogram, Seconds, ["method", "route"],
        "Time from the head of a request to the head of its answer.";
    HTTP_ACTIVE = "kronos_http_requests_active", Gauge, Count, [],
        "Requests that wait for their answer.";
    HTTP_PANICS = "kronos_http_panics_total", Counter, Count, [],
        "Requests whose handler panicked.";
    LOGINS = "kronos_logins_total", Counter, Count, ["result"],
        "Logins: ok or refused.";
    REFRESHES = "kronos_refreshes_total", Counter, Count, ["result"],
        "Refreshes of tokens: ok, refused or reused (a family was revoked).";
    PASSWORD_WAITING = "kronos_password_hashes_waiting", Gauge, Count, [],
        "Logins and signups that wait for their hash or are being hashed.";
    TICKETS = "kronos_tickets", Gauge, Count, [],
        "Tickets that wait for their use.";
}

/// Tells the installed recorder what each metric means.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_their_kind_and_are_unique() {
        let mut seen = HashSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} twice", metric.name);
            assert!(metric.name.starts_with("kronos_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
