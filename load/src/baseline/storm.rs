//! All sockets cut and back at once: the time until the last one is attached again.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Baseline, servers::Servers};
use crate::clock;
use crate::peer::{Attached, Peer, Socket};
use crate::process::Process;
use crate::stream as load;

/// Handshakes in the air: fewer than a kernel takes before it drops some, which would cost a second and measure only that.
const IN_FLIGHT: usize = 1000;
/// Between two crowds.
const CALM: Duration = Duration::from_secs(2);

/// Measures all ways round by round, each with sockets of its own: those of all ways together are more than a process may open.
pub(super) async fn measure(bench: &mut Baseline) -> anyhow::Result<()> {
    if !bench.wants("storm") {
        return Ok(());
    }
    let sockets = if bench.quick { 500 } else { 9000 };
    let servers = Servers::start(bench, &[("PING_INTERVAL", "300s")]).await?;
    for round in 0..bench.rounds {
        for (way, server) in servers.served() {
            bench.progress("storm", round, way)?;
            let peers = load::open(way, &servers.simulator, Some(server), sockets, round).await?;
            let took = storm(server, peers).await?;
            bench.samples.add("storm.all", way, took.as_secs_f64());
            // The next one is not to meet the ends of these.
            tokio::time::sleep(CALM).await;
        }
    }
    Ok(())
}

/// Returns how long it took until all were back.
async fn storm(server: &Process, peers: Vec<Peer>) -> anyhow::Result<Duration> {
    let began = clock::instant();
    let lost: Vec<Option<Lost>> = peers.into_iter().map(cut).collect();
    let _peers: Vec<Peer> = stream::iter(lost)
        .map(|lost| back(server, lost))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    Ok(began.elapsed())
}

/// What a client keeps of a lost connection.
struct Lost {
    user: String,
    session: String,
    epoch: String,
    head: u64,
}

fn cut(peer: Peer) -> Option<Lost> {
    match peer {
        Peer::Direct(_) => None,
        Peer::Bare(socket) => {
            socket.cut();
            None
        }
        Peer::Kronos(attached) => {
            let Attached {
                socket,
                user,
                session,
                epoch,
                head,
                ..
            } = attached;
            socket.cut();
            Some(Lost {
                user,
                session,
                epoch,
                head,
            })
        }
    }
}

async fn back(server: &Process, lost: Option<Lost>) -> anyhow::Result<Peer> {
    let Some(lost) = lost else {
        return Ok(Peer::Bare(Socket::connect(server.address(), "/ws").await?));
    };
    let after = Some((lost.epoch.as_str(), lost.head));
    let attached = Attached::resume(server.address(), &lost.user, &lost.session, after).await?;
    Ok(Peer::Kronos(attached))
}
