//! The websocket connection over real sockets: framing, hello, bounds, replies, cursors, the end.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod cursors;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hello;
