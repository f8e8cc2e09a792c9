//! Reading server frames: for clients and tests.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Map, Value};

use super::{OkBody, ServerFrame, ServerOp};
use crate::ids::Ref;
use crate::wire::tree::{TreeError, read};

impl<'de> Deserialize<'de> for ServerFrame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::<String, Value>::deserialize(deserializer)?;
        frame(fields).map_err(D::Error::custom)
    }
}

fn frame(mut fields: Map<String, Value>) -> Result<ServerFrame, TreeError> {
    let op = fields.remove("op").ok_or_else(|| TreeError::missing_field("op"))?;
    match read(op)? {
        ServerOp::Ok => {
            let reference = fields.remove("ref").ok_or_else(|| TreeError::missing_field("ref"))?;
            Ok(ServerFrame::Ok {
                reference: read(reference)?,
                body: body(fields)?,
            })
        }
        ServerOp::Error => {
            let reference: Option<Ref> = read(fields.remove("ref").unwrap_or_default())?;
            Ok(ServerFrame::Error {
                reference,
                error: read(Value::Object(fields))?,
            })
        }
        ServerOp::Events => read(Value::Object(fields)).map(ServerFrame::Events),
        ServerOp::CaughtUp => read(Value::Object(fields)).map(ServerFrame::CaughtUp),
        ServerOp::Presence => read(Value::Object(fields)).map(ServerFrame::Presence),
        ServerOp::Goaway => read(Value::Object(fields)).map(ServerFrame::Goaway),
    }
}

/// Tells the bodies of `ok` apart by the field only one of them has.
fn body(fields: Map<String, Value>) -> Result<OkBody, TreeError> {
    let has = |name: &str| fields.contains_key(name);
    if has("connection") {
        read(Value::Object(fields)).map(OkBody::Welcome)
    } else if has("head") {
        read(Value::Object(fields)).map(OkBody::Attached)
    } else if has("seq") {
        read(Value::Object(fields)).map(OkBody::Sent)
    } else if has("expires_at") {
        read(Value::Object(fields)).map(OkBody::TokenAccepted)
    } else if has("time") {
        read(Value::Object(fields)).map(OkBody::Pong)
    } else if has("settings") {
        read(Value::Object(fields)).map(OkBody::Settings)
    } else if has("run") || has("usage") {
        read(Value::Object(fields)).map(OkBody::Cancelled)
    } else {
        Ok(OkBody::Done)
    }
}
