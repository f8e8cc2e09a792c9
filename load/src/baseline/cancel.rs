//! From a client's `cancel` to the moment in which the model's side sees its stream closed, while other answers go on.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::LocalSet;

use super::{Baseline, servers::Servers};
use crate::http;
use crate::peer::Peer;
use crate::process::Process;
use crate::stats::percentile;
use crate::stream;

/// Sessions that cancel, all at once.
const SESSIONS: usize = 20;

/// Within this time the last stream must have been closed.
const NOTICE: Duration = Duration::from_millis(500);

/// Measures all ways round by round.
pub(super) async fn measure(bench: &mut Baseline) -> anyhow::Result<()> {
    if !bench.wants("cancel") {
        return Ok(());
    }
    let times = if bench.quick { 2 } else { 10 };
    let servers = Servers::start(bench, &[]).await?;
    for round in 0..bench.rounds {
        for (way, server) in servers.served() {
            bench.progress("cancel", round, way)?;
            http::request(servers.simulator.address(), "DELETE", "/sim/requests", None).await?;
            let peers = stream::open(way, &servers.simulator, Some(server), SESSIONS, round).await?;
            let cancelled = cancel_all(peers, times).await?;
            let mut spans = spans(&servers.simulator, &cancelled).await?;
            bench.samples.add("cancel.p50", way, percentile(&mut spans, 0.5) / 1e3);
            bench.samples.add("cancel.p99", way, percentile(&mut spans, 0.99) / 1e3);
        }
    }
    Ok(())
}

/// Returns when each question was cancelled, by its mark.
async fn cancel_all(peers: Vec<Peer>, times: usize) -> anyhow::Result<HashMap<String, u64>> {
    let local = LocalSet::new();
    let tasks: Vec<_> = peers
        .into_iter()
        .enumerate()
        .map(|(number, mut peer)| {
            local.spawn_local(async move {
                let mut cancelled = Vec::with_capacity(times);
                for time in 0..times {
                    let mark = format!("mark{number}x{time}.");
                    let question = format!("[[clock]][[tokens 2000]] {mark}");
                    let at = peer.cancelled_turn(&format!("m_{time}"), &question).await?;
                    cancelled.push((mark, at));
                }
                anyhow::Ok(cancelled)
            })
        })
        .collect();
    local
        .run_until(async {
            let mut all = HashMap::new();
            for task in tasks {
                all.extend(task.await.context("a session panicked")??);
            }
            Ok(all)
        })
        .await
}

/// Returns the microseconds from each cancel to the end of its stream.
async fn spans(simulator: &Process, cancelled: &HashMap<String, u64>) -> anyhow::Result<Vec<u32>> {
    tokio::time::sleep(NOTICE).await;
    let reply = http::request(simulator.address(), "GET", "/sim/requests", None).await?;
    let requests: Vec<Value> = serde_json::from_slice(&reply.body)?;
    let mut spans = Vec::with_capacity(cancelled.len());
    for request in &requests {
        let Some(at) = mark(request).and_then(|mark| cancelled.get(mark)) else {
            continue;
        };
        let outcome = &request["outcome"]["state"];
        ensure!(outcome == "client_gone", "a cancelled stream was not closed: {outcome}");
        let ended = OffsetDateTime::parse(request["ended_at"].as_str().context("ended_at")?, &Rfc3339)?;
        let ended = u64::try_from(ended.unix_timestamp_nanos() / 1000)?;
        spans.push(u32::try_from(ended.saturating_sub(*at))?);
    }
    ensure!(
        spans.len() == cancelled.len(),
        "the simulator knows {} of {} cancelled streams",
        spans.len(),
        cancelled.len()
    );
    Ok(spans)
}

/// Returns the last word of the last text of a request.
fn mark(request: &Value) -> Option<&str> {
    let content = request["body"]["contents"].as_array()?.last()?;
    let part = content["parts"].as_array()?.last()?;
    part["text"].as_str()?.split_whitespace().next_back()
}
