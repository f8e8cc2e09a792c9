//! One flush: a loop of fdatasync on the disk that is measured, by itself.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::clock;
use crate::stats::percentile;
use crate::stream::count;

/// Bytes of one raw write: a block, as a file system writes it.
const BLOCK: usize = 4096;
/// The raw loop writes round this many blocks, which exist before it starts: no sync waits for the file to grow.
const BLOCKS: u64 = 256;

/// What a raw loop came to.
pub(super) struct Raw {
    /// Syncs a second.
    pub(super) per_second: f64,
    /// Time of one.
    pub(super) p50_ms: f64,
    /// Time of the slowest in a hundred.
    pub(super) p99_ms: f64,
}

/// Writes a block and waits until the disk has it, again and again.
pub(super) fn raw(folder: &Path, length: Duration) -> anyhow::Result<Raw> {
    let folder = tempfile::Builder::new().prefix("raw-").tempdir_in(folder)?;
    let mut file = File::create(folder.path().join("blocks"))?;
    let block = vec![0x5a; BLOCK];
    for _ in 0..BLOCKS {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let (began, mut spans, mut at) = (clock::instant(), Vec::new(), 0);
    while began.elapsed() < length {
        let before = clock::instant();
        file.seek(SeekFrom::Start(at % BLOCKS * u64::try_from(BLOCK)?))?;
        file.write_all(&block)?;
        file.sync_data()?;
        spans.push(u32::try_from(before.elapsed().as_micros())?);
        at += 1;
    }
    Ok(Raw {
        per_second: count(spans.len()) / began.elapsed().as_secs_f64(),
        p50_ms: percentile(&mut spans, 0.5) / 1e3,
        p99_ms: percentile(&mut spans, 0.99) / 1e3,
    })
}
