//! THE table of settings: every one that exists, with its names, its bounds, its default and its documentation.
//!
//! A setting that is not in this table does not exist. Each section has a file; a row is read by the loader, by
//! `kronos config` and by the reference file.

use super::{Config, value::Kind};

mod agent;
mod auth;
mod composio;
mod connection;
mod gemini;
mod retention;
mod server;
mod session;
mod store;
mod telemetry;
mod tools;

/// One setting.
pub(crate) struct Setting {
    /// `section.key`, its name in `kronos.toml`.
    pub(crate) key: &'static str,
    /// Its name in the environment.
    pub(crate) env: &'static str,
    /// Its command line flag.
    pub(crate) flag: Option<&'static str>,
    /// The default as text; empty when there is none.
    pub(crate) default: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What it means, with what happens without it.
    pub(crate) doc: &'static str,
}

impl Setting {
    const fn new(key: &'static str, env: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            key,
            env,
            flag: None,
            default,
            kind,
            doc,
        }
    }

    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    /// Returns the part of the key before the dot.
    pub(crate) fn section(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(section, _)| section)
    }

    /// Returns the part of the key after the dot.
    pub(crate) fn name(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(_, name)| name)
    }
}

/// Returns every setting, section by section.
pub(crate) fn all() -> impl Iterator<Item = &'static Setting> {
    [
        server::SETTINGS,
        telemetry::SETTINGS,
        auth::SETTINGS,
        store::SETTINGS,
        session::SETTINGS,
        retention::SETTINGS,
        connection::SETTINGS,
        gemini::SETTINGS,
        agent::SETTINGS,
        tools::SETTINGS,
        composio::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

/// Returns the setting with this `section.key`.
pub(crate) fn by_key(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}

/// Narrows a bounded number to the size type of this machine.
fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Narrows a bounded number to 32 bits.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Shorthands for rows.
mod rows {
    use std::time::Duration;

    use super::{Config, Kind};

    /// The units of time spans, in milliseconds.
    pub(super) const MS: u64 = 1;
    pub(super) const SECOND: u64 = 1000;
    pub(super) const MINUTE: u64 = 60 * SECOND;
    pub(super) const HOUR: u64 = 60 * MINUTE;
    pub(super) const DAY: u64 = 24 * HOUR;
    /// The units of sizes, in bytes.
    pub(super) const KIB: u64 = 1 << 10;
    pub(super) const MIB: u64 = 1 << 20;
    pub(super) const GIB: u64 = 1 << 30;

    pub(super) const fn span(min_ms: u64, max_ms: u64, set: fn(&mut Config, Duration)) -> Kind {
        Kind::Span {
            min: Duration::from_millis(min_ms),
            max: Duration::from_millis(max_ms),
            set,
        }
    }

    pub(super) const fn integer(min: u64, max: u64, set: fn(&mut Config, u64)) -> Kind {
        Kind::Integer { min, max, set }
    }

    pub(super) const fn bytes(min: u64, max: u64, set: fn(&mut Config, u64)) -> Kind {
        Kind::Bytes { min, max, set }
    }

    pub(super) const fn word(words: &'static [&'static str], set: fn(&mut Config, &'static str)) -> Kind {
        Kind::Word { words, set }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut seen = HashSet::new();
        for setting in all() {
            assert!(
                seen.insert(setting.key) && seen.insert(setting.env),
                "{} twice",
                setting.key
            );
            assert!(
                setting
                    .env
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(
                !setting.section().is_empty() && !setting.name().is_empty(),
                "{}",
                setting.key
            );
            assert!(setting.doc.ends_with('.'), "{} has no sentence", setting.key);
        }
    }

    #[test]
    fn every_default_is_allowed() {
        for setting in all().filter(|setting| !setting.default.is_empty()) {
            assert!(
                setting.kind.apply(&mut Config::default(), setting.default),
                "{}",
                setting.key
            );
        }
    }

    /// The sections have their defaults as code, the table has them as text: they may not drift apart.
    #[test]
    fn the_table_and_the_sections_have_the_same_defaults() {
        let mut config = Config::default();
        for setting in all().filter(|setting| !setting.default.is_empty()) {
            assert!(setting.kind.apply(&mut config, setting.default));
            assert_eq!(
                format!("{config:?}"),
                format!("{:?}", Config::default()),
                "{}",
                setting.key
            );
        }
    }
}
