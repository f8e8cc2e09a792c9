//! Durable commands a second, against one loop of fdatasync on the same disk.
//!
//! Each session has a run that waits for a stalled model. Its messages are queued behind it and taken out again: every command is an
//! event of its own that is acknowledged when it is on the disk, and no model is asked.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::task::LocalSet;

use super::{Baseline, flush, servers::Servers};
use crate::clock;
use crate::peer::Peer;
use crate::stream::{self, Way, count};

/// Measures the raw loop and each way, round by round.
pub(super) async fn measure(bench: &mut Baseline) -> anyhow::Result<()> {
    let length = if bench.quick {
        Duration::from_millis(500)
    } else {
        Duration::from_secs(2)
    };
    let kinds: Vec<_> = [("sends1", 1), ("sends500", 500)]
        .into_iter()
        .filter(|(name, _)| bench.wants(name))
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let servers = Servers::start(bench, &[]).await?;
    for round in 0..bench.rounds {
        for (name, sessions) in &kinds {
            let raw = flush::raw(&bench.place.folder, length)?;
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
