//! The real server as its users see it: the real binary, real websockets, real HTTP, the simulator as upstream.

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod agent;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod cursor;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod flight;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod health;
#[cfg(test)]
mod inbox;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod measures;
#[cfg(test)]
mod observe;
#[cfg(test)]
mod parking;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod rfc6455;
#[cfg(test)]
mod series;
#[cfg(test)]
mod slow_readers;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod turn;
#[cfg(test)]
mod upstream;
