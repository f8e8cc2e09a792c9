//! The rows of `[database]`.

use kronos_actors::config::StoreBackend;

use super::{
    Setting,
    rows::{GIB, MIB, bytes, integer},
    size,
};
use crate::config::value::Kind;

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "database.url",
        "DATABASE_URL",
        "sled://./data",
        Kind::Other {
            allowed: "sled://PATH (redis:// comes with a later version; postgresql:// is not supported)",
            read: |c, v| backend(v).map(|backend| c.store.backend = backend).is_some(),
        },
        "Where everything is stored: a folder for the embedded store.",
    )
    .flag("--database-url"),
    Setting::new(
        "database.pool_size",
        "DATABASE_POOL_SIZE",
        "4",
        integer(1, 1024, |c, v| c.store.readers = size(v)),
        "Reads of the store at once.",
    ),
    Setting::new(
        "database.max_overflow",
        "DATABASE_MAX_OVERFLOW",
        "0",
        integer(0, 100_000, |_, _| ()),
        "Taken for compatibility; the embedded store has no connections to overflow.",
    ),
    Setting::new(
        "database.pending_bytes",
        "DATABASE_PENDING_BYTES",
        "64MiB",
        bytes(MIB, 16 * GIB, |c, v| c.store.pending_bytes = size(v)),
        "Bytes that may wait for their commit, over all sessions.",
    ),
    Setting::new(
        "database.cache_bytes",
        "DATABASE_CACHE_BYTES",
        "64MiB",
        bytes(MIB, 256 * GIB, |c, v| c.store.cache_bytes = v),
        "Page cache of the embedded store, a hint.",
    ),
];

/// Reads a `DATABASE_URL`; `None` for a scheme that this version does not have.
fn backend(url: &str) -> Option<StoreBackend> {
    match url.split_once("://")? {
        ("sled", path) if !path.is_empty() => Some(StoreBackend::Sled(path.into())),
        ("memory", "") => Some(StoreBackend::Memory),
        _ => None,
    }
}
