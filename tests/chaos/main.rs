//! The real binary when things go wrong: killed in mid-reply, all sockets cut at once, a full disk, damaged files.
//!
//! Each test has a long form by a named command; see the heads of its files.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod kill9;
#[cfg(test)]
mod slow_http;
#[cfg(test)]
mod storm;
