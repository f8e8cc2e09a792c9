//! The contract of storage, run over every backend: `cargo nextest run --test contract`.

/// Runs each named function over each backend as a test of its own.
#[cfg(test)]
macro_rules! contract {
    ($($promise:ident),* $(,)?) => {
        mod memory {
            use super::*;
            $(#[test] fn $promise() { super::$promise(&MemoryStore::default()); })*
        }
        mod embedded {
            use super::*;
            $(#[test] fn $promise() {
                let folder = tempfile::tempdir().unwrap();
                super::$promise(&SledStore::open(folder.path(), CACHE_BYTES).unwrap());
            })*
        }
    };
}

#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod decay;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod model;
#[cfg(test)]
mod service;
#[cfg(test)]
mod suite;
