//! The pure core against a slow, obvious model: random commands, a crash at any point, injected failures under virtual time,
//! and every promise checked after each step.

#[cfg(test)]
mod device;
#[cfg(test)]
mod glue;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod session;
#[cfg(test)]
mod world;

#[cfg(test)]
fn number(name: &str) -> Option<u64> {
    std::env::var_os(name).and_then(|value| value.to_str()?.parse().ok())
}

/// The first seed: `KRONOS_SEED`, or a fixed one, so that a run on a change fails because of the change.
#[cfg(test)]
fn seed(fixed: u64) -> u64 {
    number("KRONOS_SEED").unwrap_or(fixed)
}

/// How many cases: `KRONOS_CASES`.
#[cfg(test)]
fn cases(default: u64) -> u64 {
    number("KRONOS_CASES").unwrap_or(default)
}
