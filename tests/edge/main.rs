//! The HTTP surface as a client meets it: the real server on a free port, real requests.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod agent;
#[cfg(test)]
mod analyze;
#[cfg(test)]
mod api;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod chat;
#[cfg(test)]
mod composio;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod health;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod memories;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod users;
#[cfg(test)]
mod wire;
