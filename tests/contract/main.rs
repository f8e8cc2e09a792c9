//! The contract of storage, run over every backend: `cargo nextest run --test contract`.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod model;
#[cfg(test)]
mod service;
#[cfg(test)]
mod suite;
