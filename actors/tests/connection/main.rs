//! The websocket connection over real sockets: framing, hello, bounds, replies, cursors, the end.

mod bounds;
mod cursors;
mod frames;
mod harness;
mod hello;
