//! The actors that there are few of: directories, the store, the services for the model and for Composio, and how many websockets.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use kronos_actors::directory::{DirectoryRef, observe::ObservedDirectory};
use kronos_protocol::ids::SessionId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::page::{Paging, cut, ms};
use crate::{
    edge::{
        EdgeState,
        accounts::Accounts,
        auth::Caller,
        endpoint::{Endpoint, Tag, get},
        error::ApiError,
        input::{Fields, Input, QueryOf},
    },
    wiring::Wiring,
};

/// The endpoints of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/admin/actors"], list)
            .named("admin_actors", Tag::Admin, "List the services of the process")
            .about("In the order of their ids. Each is asked; one that does not answer in time is listed with `answering` false.")
            .superuser()
            .query::<ListActors>()
            .returns::<Actors>(200, "A page of the list", || json!({"items": [example()], "next_cursor": null})),
    ]
}

fn example() -> Value {
    json!({"id": "directory-0", "kind": "directory", "answering": true, "core": 0, "directory":
        {"live": 12, "asleep": 340, "sleepers": 341, "stopping": 0, "striking": 0}})
}

/// A service.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct ActorItem {
    /// Its id.
    id: String,
    /// `composio`, `connections`, `directory`, `gemini`, `store`.
    kind: &'static str,
    /// False: it did not answer in time.
    answering: bool,
    /// The core on which it runs, if it runs on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<DirectoryItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<UpstreamItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    composio: Option<ComposioItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<ConnectionsItem>,
}

/// The sessions of one core.
#[derive(Debug, Serialize, JsonSchema)]
struct DirectoryItem {
    /// Sessions in memory.
    live: usize,
    /// Sessions out of memory under their sockets.
    asleep: usize,
    /// Their attachments.
    sleepers: usize,
    /// Sessions that are leaving memory.
    stopping: usize,
    /// Sessions that hung not long ago.
    striking: usize,
}

/// The store.
#[derive(Debug, Serialize, JsonSchema)]
struct StoreItem {
    /// The last commit succeeded.
    healthy: bool,
    /// Bytes that wait for their commit, or are in it.
    pending_bytes: usize,
    /// Group commits since the start.
    commits: u64,
    /// Requests in them.
    requests: u64,
    /// Commits that failed.
    failed: u64,
    /// How often one of its threads panicked and began again.
    restarts: u64,
    /// Milliseconds that the last commit took.
    last_commit_ms: Option<f64>,
    /// Bytes on its medium.
    size_bytes: Option<u64>,
}

/// A service for an upstream; the whole process shares it.
#[derive(Debug, Serialize, JsonSchema)]
struct UpstreamItem {
    /// Calls that hold a permit.
    running: usize,
    /// Calls that wait for one.
    waiting: usize,
    /// Calls that may hold one.
    limit: usize,
    /// `closed`, `open`, `half_open`.
    circuit: &'static str,
    /// Attempts after the first that could be paid for; null when it does not answer.
    retry_budget: Option<u64>,
}

/// What the service for Composio holds.
#[derive(Debug, Serialize, JsonSchema)]
struct ComposioItem {
    /// Connections in the making that are watched.
    watchers: usize,
    /// Users who have any.
    users_connecting: usize,
    /// Toolkits whose tools are in memory.
    toolkits: usize,
    /// Milliseconds since the oldest of them was read; null while there are none.
    catalogue_age_ms: Option<u64>,
}

/// What is open to clients.
#[derive(Debug, Serialize, JsonSchema)]
struct ConnectionsItem {
    /// Websockets.
    websockets: usize,
    /// Event streams.
    streams: usize,
}

/// A page of services.
#[derive(Debug, Serialize, JsonSchema)]
struct Actors {
    /// In the order of their ids.
    items: Vec<ActorItem>,
    /// `cursor` of the next page; null when this is the last.
    next_cursor: Option<String>,
}

struct ListActors {
    paging: Paging,
}

impl Input for ListActors {
    const NAME: &'static str = "ListActors";

    fn read(fields: &mut Fields) -> Option<Self> {
        let paging = Paging::read(fields);
        Some(Self { paging })
    }
}

async fn list(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    query: QueryOf<ListActors>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let Paging { limit, after } = query.0.paging;
    let mut items = all(&edge.wiring, &directory, edge.admin_timeout).await;
    items.retain(|item| after.as_ref().is_none_or(|after| item.id > *after));
    items.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let next_cursor = cut(&mut items, limit, |item| &item.id);
    Ok(HttpResponse::Ok().json(Actors { items, next_cursor }))
}

async fn all(wiring: &Wiring, directory: &DirectoryRef, limit: Duration) -> Vec<ActorItem> {
    let (cores, store, composio) = tokio::join!(
        directory.look_at_cores(limit),
        store_item(wiring, limit),
        composio_item(wiring, limit)
    );
    let mut items = vec![store, composio, connections_item(wiring)];
    for (core, (directory, gemini)) in cores.into_iter().enumerate() {
        items.push(directory_item(core, directory));
        items.push(gemini_item(wiring, core, gemini));
    }
    items
}

fn directory_item(core: usize, seen: Option<ObservedDirectory>) -> ActorItem {
    ActorItem {
        id: format!("directory-{core}"),
        kind: "directory",
        answering: seen.is_some(),
        core: Some(core),
        directory: seen.map(|seen| DirectoryItem {
            live: seen.live,
            asleep: seen.asleep,
            sleepers: seen.sleepers,
            stopping: seen.stopping,
            striking: seen.striking,
        }),
        ..ActorItem::default()
    }
}

fn gemini_item(wiring: &Wiring, core: usize, answering: bool) -> ActorItem {
    let health = wiring.gemini_health();
    ActorItem {
        id: format!("gemini-{core}"),
        kind: "gemini",
        answering,
        core: Some(core),
        upstream: Some(UpstreamItem {
            running: health.running,
            waiting: health.waiting,
            limit: health.limit,
            circuit: health.circuit.as_str(),
            retry_budget: Some(health.retry_budget),
        }),
        ..ActorItem::default()
    }
}

async fn store_item(wiring: &Wiring, limit: Duration) -> ActorItem {
    // Nothing has this name: its readers answer without touching much.
    let nothing = SessionId::from_trusted("@".to_owned());
    let answer = tokio::time::timeout(limit, wiring.store.meta(&nothing)).await;
    let stats = wiring.store.stats();
    ActorItem {
        id: "store".to_owned(),
        kind: "store",
        answering: answer.is_ok_and(|read| read.is_ok()),
        store: Some(StoreItem {
            healthy: wiring.store.healthy(),
            pending_bytes: stats.pending_bytes,
            commits: stats.commits,
            requests: stats.requests,
            failed: stats.failed,
            restarts: stats.restarts,
            last_commit_ms: stats.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            size_bytes: wiring.store.size_bytes(),
        }),
        ..ActorItem::default()
    }
}

async fn composio_item(wiring: &Wiring, limit: Duration) -> ActorItem {
    let seen = tokio::time::timeout(limit, wiring.composio.observe()).await;
    let seen = seen.ok().and_then(Result::ok);
    let health = wiring.composio.health();
    ActorItem {
        id: "composio".to_owned(),
        kind: "composio",
        answering: seen.is_some(),
        upstream: Some(UpstreamItem {
            running: health.running,
            waiting: health.waiting,
            limit: health.limit,
            circuit: health.circuit.as_str(),
            retry_budget: seen.map(|seen| seen.retry_budget),
        }),
        composio: seen.map(|seen| ComposioItem {
            watchers: seen.watchers,
            users_connecting: seen.users_connecting,
            toolkits: seen.toolkits,
            catalogue_age_ms: seen.catalogue_age.map(ms),
        }),
        ..ActorItem::default()
    }
}

fn connections_item(wiring: &Wiring) -> ActorItem {
    ActorItem {
        id: "connections".to_owned(),
        kind: "connections",
        answering: true,
        connections: Some(ConnectionsItem {
            websockets: wiring.connections.count(),
            streams: wiring.connections.streams().count(),
        }),
        ..ActorItem::default()
    }
}
