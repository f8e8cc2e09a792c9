//! The versions this crate speaks.

/// Version of the websocket protocol, as in the subprotocol names `kronos.v1.*`.
pub const PROTOCOL_VERSION: &str = "1";

/// Version of AG-UI whose events the log holds; goes into `RUN_STARTED.protocolVersion`.
pub const AG_UI_VERSION: &str = "1.0";
