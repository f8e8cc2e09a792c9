//! Websockets: how each is, and how an operator ends one.

use actix_web::{HttpResponse, web};
use kronos_actors::connection::observe::{ObservedAttachment, SeenConnection};
use kronos_protocol::{
    close::CloseCode,
    ids::{ConnectionId, SessionId, UserId},
    position::Seq,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::page::{Paging, cut};
use crate::edge::{
    EdgeState,
    accounts::Accounts,
    auth::Caller,
    endpoint::{Endpoint, Tag, delete, get},
    error::ApiError,
    input::{Fields, Input, PathId, QueryOf, field},
    rfc3339,
};

/// Longest pause that a client may be told, in milliseconds: an hour.
const LONGEST_PAUSE_MS: u64 = 3_600_000;

/// The endpoints of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/admin/connections"], list)
            .named("admin_connections", Tag::Admin, "List websockets")
            .about(
                "Oldest first. Each is asked; one that does not answer in time, as when its peer reads nothing, is listed all the same, \
                 with `answering` false and what it counts.",
            )
            .superuser()
            .query::<ListConnections>()
            .returns::<Connections>(200, "A page of the list", || json!({"items": [example()], "next_cursor": null})),
        get(&["/api/v1/admin/connections/{id}"], show)
            .named("admin_connection", Tag::Admin, "Show a websocket")
            .superuser()
            .path::<ConnectionId>("id", "The connection")
            .returns::<ConnectionItem>(200, "The connection", example),
        delete(&["/api/v1/admin/connections/{id}"], close)
            .named("admin_close_connection", Tag::Admin, "Close a websocket")
            .about(
                "With 1012 and the hint to come back, unless another code is named. One whose peer reads nothing is cut within seconds.",
            )
            .superuser()
            .path::<ConnectionId>("id", "The connection")
            .query::<HowToClose>()
            .returns::<Closing>(202, "It closes", || json!({"id": ID, "code": 1012, "retry": true})),
    ]
}

const ID: &str = "c_01926f3e8b1c7d3e9f002b1d5c6e7f83";

fn example() -> Value {
    json!({
        "id": ID, "user": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f79", "network": "192.0.2.7", "codec": "json",
        "since": "2026-11-27T12:00:00Z", "heard_at": "2026-11-27T12:00:05Z", "frames_in": 4, "bytes_in": 512, "frames_out": 90,
        "bytes_out": 20480, "unread_bytes": 1024, "answering": true,
        "seen": {
            "client": {"name": "kronos chat", "version": "0.1.0"}, "closing": false, "pending_commands": 0,
            "attachments": [{"session": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80", "seq": 42, "state": "following"}],
        },
    })
}

/// A websocket.
#[derive(Debug, Serialize, JsonSchema)]
struct ConnectionItem {
    /// Its id.
    id: ConnectionId,
    /// Whose it is; null before that is proven.
    user: Option<UserId>,
    /// The remote address; of IPv6 its network.
    network: Option<String>,
    /// `json` or `msgpack`.
    codec: &'static str,
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    since: String,
    /// When a command, or a sign that it reads, last came.
    #[schemars(extend("format" = "date-time"))]
    heard_at: String,
    /// Frames that came.
    frames_in: u64,
    /// Their bytes.
    bytes_in: u64,
    /// Frames that were written.
    frames_out: u64,
    /// Their bytes.
    bytes_out: u64,
    /// Bytes written of which nothing shows yet that they were read.
    unread_bytes: u64,
    /// False: it did not answer in time, as when its peer reads nothing.
    answering: bool,
    /// What it says.
    seen: Option<ConnectionSeen>,
}

/// What a websocket says about itself.
#[derive(Debug, Serialize, JsonSchema)]
struct ConnectionSeen {
    /// What its client calls itself.
    client: Option<ClientItem>,
    /// The close frame is out.
    closing: bool,
    /// Commands without a reply.
    pending_commands: usize,
    /// Its cursors, by session.
    attachments: Vec<AttachmentItem>,
}

/// A client as it calls itself.
#[derive(Debug, Serialize, JsonSchema)]
struct ClientItem {
    /// Its name.
    name: String,
    /// Its version.
    version: String,
}

/// A cursor.
#[derive(Debug, Serialize, JsonSchema)]
struct AttachmentItem {
    /// The session as the client names it: `@me` for the user's feed.
    session: SessionId,
    /// The last event that was written.
    seq: Seq,
    /// `following`, `starved` (no room to write more), `asleep` (its session is out of memory), `recovering`.
    state: &'static str,
}

impl ConnectionItem {
    fn of(seen: SeenConnection) -> Self {
        let attachment = |attachment: ObservedAttachment| AttachmentItem {
            session: attachment.session,
            seq: attachment.seq,
            state: attachment.state,
        };
        Self {
            id: seen.id,
            user: seen.user,
            network: seen.network.map(|network| network.to_string()),
            codec: seen.codec.as_str(),
            since: rfc3339(seen.since_ms),
            heard_at: rfc3339(seen.heard_ms),
            frames_in: seen.frames_in,
            bytes_in: seen.bytes_in,
            frames_out: seen.frames_out,
            bytes_out: seen.bytes_out,
            unread_bytes: seen.unread_bytes,
            answering: seen.observed.is_some(),
            seen: seen.observed.map(|observed| ConnectionSeen {
                client: observed.client.map(|client| ClientItem {
                    name: client.name.to_string(),
                    version: client.version.to_string(),
                }),
                closing: observed.closing,
                pending_commands: observed.pending,
                attachments: observed.attachments.into_iter().map(attachment).collect(),
            }),
        }
    }
}

/// A page of websockets.
#[derive(Debug, Serialize, JsonSchema)]
struct Connections {
    /// Oldest first.
    items: Vec<ConnectionItem>,
    /// `cursor` of the next page; null when this is the last.
    next_cursor: Option<String>,
}

struct ListConnections {
    paging: Paging,
    user: Option<UserId>,
}

impl Input for ListConnections {
    const NAME: &'static str = "ListConnections";

    fn read(fields: &mut Fields) -> Option<Self> {
        let paging = Paging::read(fields);
        let user = fields.id(field("user").doc("Only connections of this user"));
        Some(Self { paging, user })
    }
}

async fn list(
    edge: web::Data<EdgeState>,
    caller: Caller,
    query: QueryOf<ListConnections>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let ListConnections {
        paging: Paging { limit, after },
        user,
    } = query.0;
    let after = after.map(ConnectionId::from_trusted);
    let connections = &edge.wiring.connections;
    let seen = connections
        .look_at(user.as_ref(), after.as_ref(), limit + 1, edge.admin_timeout)
        .await;
    let mut items: Vec<ConnectionItem> = seen.into_iter().map(ConnectionItem::of).collect();
    let next_cursor = cut(&mut items, limit, |item| item.id.as_str());
    Ok(HttpResponse::Ok().json(Connections { items, next_cursor }))
}

fn not_found(id: &ConnectionId) -> ApiError {
    ApiError::not_found("Connection", id.as_str())
}

async fn show(edge: web::Data<EdgeState>, caller: Caller, id: PathId<ConnectionId>) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let seen = edge.wiring.connections.look_at_one(&id.0, edge.admin_timeout).await;
    let seen = seen.ok_or_else(|| not_found(&id.0))?;
    Ok(HttpResponse::Ok().json(ConnectionItem::of(seen)))
}

struct HowToClose {
    code: CloseCode,
    after_ms: Option<u64>,
}

impl Input for HowToClose {
    const NAME: &'static str = "HowToClose";

    fn read(fields: &mut Fields) -> Option<Self> {
        let code = fields.word(
            field("code").doc(
                "`restart`: 1012, come back (the default); `try_later`: 1013, come back; `forbidden`: 4403, do not come back",
            ),
            &["restart", "try_later", "forbidden"],
        );
        let about = field("after_ms").doc("What the client is told to wait before it comes back, in milliseconds");
        let after_ms = fields.integer(about, 0, LONGEST_PAUSE_MS);
        Some(Self {
            code: match code {
                Some("try_later") => CloseCode::TryLater,
                Some("forbidden") => CloseCode::Forbidden,
                _ => CloseCode::Restart,
            },
            after_ms,
        })
    }
}

/// A websocket that closes.
#[derive(Debug, Serialize, JsonSchema)]
struct Closing {
    /// The connection.
    id: ConnectionId,
    /// The close code.
    code: u16,
    /// Its client is told to come back.
    retry: bool,
}

async fn close(
    edge: web::Data<EdgeState>,
    caller: Caller,
    id: PathId<ConnectionId>,
    query: QueryOf<HowToClose>,
) -> Result<HttpResponse, ApiError> {
    std::future::ready(Accounts::only_superusers(&caller.principal)).await?;
    let (id, HowToClose { code, after_ms }) = (id.0, query.0);
    if !edge.wiring.connections.close_one(&id, code, after_ms) {
        return Err(not_found(&id));
    }
    tracing::info!(user.id = %caller.principal.user, connection.id = %id, code = code.code(), "an operator closed a connection");
    let closing = Closing {
        id,
        code: code.code(),
        retry: code.retry(),
    };
    Ok(HttpResponse::Accepted().json(closing))
}
