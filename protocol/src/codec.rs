//! The two codecs: JSON in text frames, MessagePack with the same string keys in binary frames.
//!
//! Reading is strict where two readers could understand different things: a key twice, keys that are not strings,
//! binary strings, extension types, bytes after the end, and nesting below [`limits::DEPTH`] are errors. Reading never
//! panics, and never allocates by a length that was only declared.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::client::{self, ClientFrame, FrameError};
use crate::limits;
use crate::server::ServerFrame;
use crate::wire::macros::words;
use crate::wire::tree::{self, Strict};

/// Room for a frame with one piece of text, so that writing it does not grow.
const FRAME_BYTES: usize = 512;

words! {
    /// How frames are written; chosen by the websocket's subprotocol.
    ///
    /// ```
    /// use kronos_protocol::{Codec, Command, OkBody, ServerFrame};
    ///
    /// let frame = Codec::Json.decode_client(br#"{"op":"ping","ref":"7","later":1}"#)?;
    /// assert_eq!(frame.command, Command::Ping);
    /// let reply = Codec::Json.encode(&ServerFrame::ok(frame.reference, OkBody::Done))?;
    /// assert_eq!(reply, r#"{"op":"ok","ref":"7"}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Default)]
    pub enum Codec: "a codec" {
        /// Text frames of JSON.
        #[default]
        Json = "json",
        /// Binary frames of MessagePack: maps with the same string keys as JSON.
        Msgpack = "msgpack",
    }
}

/// A frame that could not be written: a map key that is no string, or a bug.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// JSON refused it.
    #[error("the frame does not fit JSON")]
    Json(#[source] serde_json::Error),
    /// MessagePack refused it.
    #[error("the frame does not fit MessagePack")]
    Msgpack(#[source] rmp_serde::encode::Error),
}

/// Bytes that are not a frame. Does not repeat the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, not MessagePack, or not strict enough.
    #[error("malformed {codec}: {reason}")]
    Malformed {
        /// What it should have been.
        codec: Codec,
        /// What is wrong.
        reason: String,
    },
    /// Readable, but not a frame.
    #[error("not a frame: {0}")]
    Shape(String),
}

impl Codec {
    /// The subprotocols, in the order of [`Codec::ALL`].
    pub const SUBPROTOCOLS: [&'static str; 2] = ["kronos.v1.json", "kronos.v1.msgpack"];

    /// Returns the codec of a subprotocol, if it is one of ours. Names are compared exactly.
    #[must_use]
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|codec| codec.subprotocol() == name)
    }

    /// Returns the subprotocol that stands for the codec.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "kronos.v1.json",
            Self::Msgpack => "kronos.v1.msgpack",
        }
    }

    /// Whether frames travel as binary messages, not text.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        match self {
            Self::Json => false,
            Self::Msgpack => true,
        }
    }

    /// Returns `frame` as the payload of one websocket message.
    ///
    /// # Errors
    /// When `frame` has something the format lacks; the types of this crate have nothing of the kind.
    pub fn encode(self, frame: &impl Serialize) -> Result<Bytes, EncodeError> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES);
        match self {
            Self::Json => serde_json::to_writer(&mut bytes, frame).map_err(EncodeError::Json)?,
            Self::Msgpack => rmp_serde::encode::write_named(&mut bytes, frame).map_err(EncodeError::Msgpack)?,
        }
        Ok(Bytes::from(bytes))
    }

    /// Reads a client's frame.
    ///
    /// # Errors
    /// A fatal one when the bytes are no object of this codec; else one to reply with, and the connection goes on.
    pub fn decode_client(self, bytes: &[u8]) -> Result<ClientFrame, FrameError> {
        let value = self
            .decode_value(bytes)
            .map_err(|error| FrameError::fatal(error.to_string()))?;
        client::from_tree(value)
    }

    /// Reads a server's frame; for clients and tests.
    ///
    /// # Errors
    /// When the bytes are no object of this codec, or not a frame this version knows.
    pub fn decode_server(self, bytes: &[u8]) -> Result<ServerFrame, DecodeError> {
        let value = self.decode_value(bytes)?;
        tree::read(value).map_err(|error| DecodeError::Shape(error.to_string()))
    }

    /// Reads any value, strictly.
    ///
    /// # Errors
    /// When the bytes are not exactly one value of this codec.
    pub fn decode_value(self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let malformed = |reason| DecodeError::Malformed { codec: self, reason };
        match self {
            Self::Json => {
                let mut deserializer = serde_json::Deserializer::from_slice(bytes);
                let value = Strict::new(limits::DEPTH).deserialize(&mut deserializer);
                value
                    .and_then(|value| deserializer.end().map(|()| value))
                    .map_err(|error| malformed(error.to_string()))
            }
            Self::Msgpack => {
                let mut rest = bytes;
                let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
                // One more than the tree's own bound, which then gives the message.
                deserializer.set_max_depth(limits::DEPTH.saturating_add(2));
                let value = Strict::new(limits::DEPTH).deserialize(&mut deserializer);
                let value = value.map_err(|error| malformed(error.to_string()))?;
                if rest.is_empty() {
                    Ok(value)
                } else {
                    Err(malformed("bytes after the end of the value".to_owned()))
                }
            }
        }
    }
}
