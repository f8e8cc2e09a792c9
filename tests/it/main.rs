//! The real server as its users see it: the real binary, real websockets, real HTTP, the simulator as upstream.

mod cursor;
mod devices;
mod faults;
mod harness;
mod inbox;
mod restart;
mod turn;
