//! The documentation pages in a real browser: Chromium, driven by its DevTools protocol, before the real server.
//!
//! A page fails its test when it logs an error, throws one, does what its policy forbids, or asks anybody but the server.

#[cfg(test)]
mod chromium;
#[cfg(test)]
mod pages;
