//! Stub.
use crate::event::Event;
/// Stub.
#[derive(Debug, Clone, Default)]
pub struct Verifier;
/// Stub.
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct OrderError;
impl Verifier {
    /// Stub.
    pub fn accept(&mut self, _: &Event) -> Result<(), OrderError> { Ok(()) }
    /// Stub.
    pub fn closers(&self, _: i64) -> Vec<Event> { Vec::new() }
}
