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

/// Measures all ways round by round, always with the same sockets.
pub(super) async fn measure(bench: &mut Baseline) -> anyhow::Result<()> {
    if !bench.wants("storm") {
        return Ok(());
    }
    let sockets = if bench.quick { 500 } else { 9000 };
    let servers = Servers::start(bench, &[("PING_INTERVAL", "300s")]).await?;
    let mut crowds = Vec::new();
    for (way, server) in servers.served() {
        crowds.push((
            way,
            server,
            load::open(way, &servers.simulator, Some(server), sockets, 0).await?,
        ));
    }
    for round in 0..bench.rounds {
        let mut back = Vec::new();
        for (way, server, peers) in crowds {
            bench.progress("storm", round, way)?;
            let (peers, took) = storm(server, peers).await?;
            bench.samples.add("storm.all", way, took.as_secs_f64());
            back.push((way, server, peers));
        }
        crowds = back;
    }
    Ok(())
}

async fn storm(server: &Process, peers: Vec<Peer>) -> anyhow::Result<(Vec<Peer>, Duration)> {
    let began = clock::instant();
    let lost: Vec<Option<Lost>> = peers.into_iter().map(cut).collect();
    let peers = stream::iter(lost)
        .map(|lost| back(server, lost))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    Ok((peers, began.elapsed()))
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
