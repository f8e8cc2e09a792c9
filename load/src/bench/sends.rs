//! Durable commands a second, against one loop of fdatasync on the same disk.
//!
//! Each session has a run that waits for a stalled model. Its messages are queued behind it and taken out again: every command is an
//! event of its own that is acknowledged when it is on the disk, and no model is asked.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::task::LocalSet;

use super::{Bench, servers::Servers};
use crate::clock;
use crate::peer::Peer;
use crate::stats::percentile;
use crate::stream::{self, Way, count};

/// Bytes of one raw write: a block, as a file system writes it.
const BLOCK: usize = 4096;
/// The raw loop writes round this many blocks, which exist before it starts: no sync waits for the file to grow.
const BLOCKS: u64 = 256;

/// Measures the raw loop and each way, round by round.
pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let length = if bench.quick {
        Duration::from_millis(500)
    } else {
        Duration::from_secs(2)
    };
    let kinds: Vec<_> = [("sends1", 1), ("sends500", 500)]
        .into_iter()
        .filter(|(name, _)| bench.wants(name))
        .collect();
    if kinds.is_empty() && !bench.wants("flush") {
        return Ok(());
    }
    let servers = Servers::start(bench, &[]).await?;
    for round in 0..bench.rounds {
        bench.progress("flush", round, Way::Direct)?;
        let raw = raw(&bench.place.folder, length)?;
        bench.samples.add("flush.p50", Way::Direct, raw.p50_ms);
        bench.samples.add("flush.p99", Way::Direct, raw.p99_ms);
        for (name, sessions) in &kinds {
            bench.samples.add(&format!("{name}.rate"), Way::Direct, raw.per_second);
            for (way, server) in servers.served().filter(|(way, _)| *way != Way::Bare) {
                bench.progress(name, round, way)?;
                let peers = stream::open(way, &servers.simulator, Some(server), *sessions, round).await?;
                let rate = commands(peers, length).await?;
                bench.samples.add(&format!("{name}.rate"), way, rate);
            }
        }
    }
    Ok(())
}

struct Raw {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Writes a block and waits until the disk has it, again and again.
fn raw(folder: &Path, length: Duration) -> anyhow::Result<Raw> {
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

/// Returns how many commands a second all sessions together had acknowledged.
async fn commands(peers: Vec<Peer>, length: Duration) -> anyhow::Result<f64> {
    let local = LocalSet::new();
    let ready = peers.into_iter().map(|mut peer| async {
        if let Peer::Kronos(attached) = &mut peer {
            attached
                .ask(json!({"op": "send", "id": "m_0", "content": "[[stall;after=0]]"}))
                .await?;
        }
        anyhow::Ok(peer)
    });
    let peers = futures_util::future::try_join_all(ready).await?;
    let began = clock::instant();
    let tasks: Vec<_> = peers
        .into_iter()
        .map(|peer| local.spawn_local(queue_and_unqueue(peer, began + length)))
        .collect();
    local
        .run_until(async {
            let mut acknowledged = 0;
            for task in tasks {
                acknowledged += task.await.context("a session panicked")??;
            }
            Ok(count(acknowledged) / began.elapsed().as_secs_f64())
        })
        .await
}

async fn queue_and_unqueue(peer: Peer, until: std::time::Instant) -> anyhow::Result<usize> {
    let Peer::Kronos(mut attached) = peer else { return Ok(0) };
    let mut acknowledged = 0;
    while clock::instant() < until {
        let id = format!("m_{}", acknowledged + 1);
        attached
            .ask(json!({"op": "send", "id": id, "content": "How long does it take until this is on the disk?"}))
            .await?;
        attached.ask(json!({"op": "unqueue", "id": id})).await?;
        acknowledged += 2;
    }
    attached.ask(json!({"op": "cancel"})).await?;
    Ok(acknowledged)
}
