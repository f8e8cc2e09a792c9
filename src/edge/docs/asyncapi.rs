//! The AsyncAPI document of the websocket protocol, made from the protocol's own types and golden frames.

use std::sync::OnceLock;

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use kronos_actors::config::{ConnectionConfig, SessionConfig};
use kronos_protocol::{client::Op, codec::Codec, server::ServerOp, version::PROTOCOL_VERSION};
use serde_json::{Map, Value, json};

use self::{
    messages::{Messages, for_command, for_events, message_of_frame, message_of_ok},
    tables::{bounds, close_codes, error_codes, run_error_codes},
};
use crate::{
    config::{AuthMode, Config, Environment},
    edge::EdgeState,
};

mod messages;
mod tables;

const INTRODUCTION: &str = "\
The realtime side of Kronos: one websocket, on which a client follows any number of conversations. A conversation is a log of \
AG-UI events; a client that comes back says the last position it has, and goes on exactly there.

A client connects, says `hello`, and gets exactly one reply, `ok` or `error`, to each of its commands, with the command's `ref`, in \
the order of the commands of one session. Unknown fields are ignored on both sides.

A `send` whose reply did not arrive is sent again with the same `id`, on any connection, at any time: it is done once.";

const CHANNEL: &str = "\
Credentials come with the request (`Authorization: Bearer`, or a browser's single-use `ticket` from `POST /api/v1/auth/ticket`) or as \
`token` in `hello`. Bad ones in the request are answered with close 4401 after the upgrade, because a browser cannot read the status of \
a refused one. The subprotocol chooses the codec: text frames of JSON, or binary frames of MessagePack, which are maps with the same \
string keys. Websocket pings come every few seconds; answering each with its payload, as libraries do, says how far was read.";

/// What the document depends on.
struct About {
    host: String,
    secure: bool,
    takes_guests: bool,
    connection: ConnectionConfig,
    session: SessionConfig,
}

/// The document; written when it is first asked for.
pub(crate) struct AsyncApi {
    about: About,
    written: OnceLock<Bytes>,
}

impl AsyncApi {
    /// Takes from the configuration what the document tells.
    pub(crate) fn new(config: &Config) -> Self {
        let host = match config.server.host.as_str() {
            "0.0.0.0" | "::" | "[::]" => "localhost",
            host => host,
        };
        let about = About {
            host: format!("{host}:{}", config.server.port),
            secure: config.server.environment == Environment::Production,
            takes_guests: config.auth.mode == AuthMode::Development,
            connection: config.connection.clone(),
            session: config.session.clone(),
        };
        Self {
            about,
            written: OnceLock::new(),
        }
    }

    /// Returns the document.
    pub(crate) fn document(&self) -> Value {
        document(&self.about)
    }

    fn bytes(&self) -> Bytes {
        self.written
            .get_or_init(|| Bytes::from(self.document().to_string()))
            .clone()
    }
}

/// Answers `GET /asyncapi.json`.
pub(super) async fn serve(state: web::Data<EdgeState>) -> HttpResponse {
    let body = state.asyncapi.bytes();
    std::future::ready(HttpResponse::Ok().content_type("application/json").body(body)).await
}

fn document(about: &About) -> Value {
    let mut messages = Messages::default();
    let operations = operations(&mut messages);
    let channel_messages: Map<String, Value> = messages
        .names()
        .map(|name| {
            let reference = json!({"$ref": format!("#/components/messages/{name}")});
            (name.to_owned(), reference)
        })
        .collect();
    let (messages, schemas) = messages.finish();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kronos websocket",
            "version": format!("{PROTOCOL_VERSION}.0.0"),
            "description": INTRODUCTION,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": servers(about),
        "channels": {"ws": channel(about, channel_messages)},
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "An access token in the header `Authorization` of the request.",
                },
                "ticket": {
                    "type": "httpApiKey", "name": "ticket", "in": "query",
                    "description": "A ticket of `POST /api/v1/auth/ticket`, for browsers: single use, good for 30 seconds.",
                },
            },
        },
    })
}

fn servers(about: &About) -> Value {
    let server = |pathname: &str, description: &str| {
        json!({
            "host": "{host}",
            "pathname": pathname,
            "protocol": if about.secure { "wss" } else { "ws" },
            "protocolVersion": "13",
            "description": description,
            "variables": {"host": {"default": about.host, "description": "Host and port of the server."}},
            "security": [
                {"$ref": "#/components/securitySchemes/bearer"},
                {"$ref": "#/components/securitySchemes/ticket"},
            ],
        })
    };
    json!({
        "root": server("/", "The websocket at the root."),
        "api": server("/api/v1", "The same beside the REST API."),
    })
}

fn channel(about: &About, messages: Map<String, Value>) -> Value {
    let guests = if about.takes_guests {
        " This server serves guests: a request without credentials is one."
    } else {
        ""
    };
    let codecs: Map<String, Value> = Codec::ALL
        .iter()
        .map(|codec| (codec.subprotocol().to_owned(), json!(format!("application/{codec}"))))
        .collect();
    json!({
        "address": "/ws",
        "title": "The websocket",
        "summary": "Commands there, replies and events back.",
        "description": format!("{CHANNEL}{guests}"),
        "servers": [{"$ref": "#/servers/root"}, {"$ref": "#/servers/api"}],
        "messages": messages,
        "bindings": {"ws": {"method": "GET", "query": query(about), "headers": headers(), "bindingVersion": "0.1.0"}},
        "x-codecs": codecs,
        "x-close-codes": close_codes(),
        "x-error-codes": error_codes(),
        "x-run-error-codes": run_error_codes(),
        "x-limits": bounds(&about.connection, &about.session),
    })
}

fn query(about: &About) -> Value {
    let mut properties = json!({
        "ticket": {"type": "string", "description": "A ticket of `POST /api/v1/auth/ticket`; single use."},
    });
    if about.takes_guests {
        properties["user"] =
            json!({"type": "string", "maxLength": 64, "description": "What a guest wants to be called."});
    }
    json!({"type": "object", "properties": properties})
}

fn headers() -> Value {
    json!({
        "type": "object",
        "properties": {
            "Authorization": {"type": "string", "description": "`Bearer` and an access token."},
            "Origin": {"type": "string", "description": "Of a browser: the same host, or one of `ALLOWED_HOSTS`; else 403."},
            "Sec-WebSocket-Protocol": {
                "type": "string",
                "enum": Codec::SUBPROTOCOLS,
                "description": "The codec. None offered: JSON; only unknown ones: 400.",
            },
            "Sec-WebSocket-Version": {"type": "string", "const": "13", "description": "Another one: 426."},
        },
    })
}

/// The operations: one for each command, and one for each kind of frame that comes by itself.
fn operations(messages: &mut Messages) -> Map<String, Value> {
    let mut operations = Map::new();
    let error = messages.add(message_of_frame(ServerOp::Error));
    for op in Op::ALL.iter().copied() {
        let command = messages.add(for_command(op));
        let reply = messages.add(message_of_ok(messages::reply_to(op)));
        let operation = json!({
            "action": "receive",
            "channel": {"$ref": "#/channels/ws"},
            "title": op,
            "summary": op.about(),
            "messages": [on_channel(&command)],
            "reply": {"channel": {"$ref": "#/channels/ws"}, "messages": [on_channel(&reply), on_channel(&error)]},
        });
        operations.insert(op.to_string(), operation);
    }
    for op in ServerOp::ALL.iter().copied() {
        let sent = match op {
            // Only as a reply.
            ServerOp::Ok => continue,
            ServerOp::Error => vec![error.clone()],
            ServerOp::Events => messages.add_all(for_events()),
            ServerOp::CaughtUp | ServerOp::Presence | ServerOp::Goaway => vec![messages.add(message_of_frame(op))],
        };
        let sent: Vec<_> = sent.iter().map(|name| on_channel(name)).collect();
        let operation = json!({
            "action": "send",
            "channel": {"$ref": "#/channels/ws"},
            "title": op,
            "summary": op.about(),
            "messages": sent,
        });
        operations.insert(format!("send_{op}"), operation);
    }
    operations
}

fn on_channel(message: &str) -> Value {
    json!({"$ref": format!("#/channels/ws/messages/{message}")})
}
