//! Stub.
use super::*;
/// Stub.
#[derive(Clone)]
pub struct StoreRef;
impl StoreRef {
    /// Stub.
    pub fn submit(&self, _r: Request, _d: impl FnOnce(Result<(), StoreError>) + Send + 'static) {}
    /// Stub.
    pub async fn load(&self, _: &SessionId) -> Result<Option<StoredSession>, StoreError> {
        Ok(None)
    }
    /// Stub.
    pub async fn read(&self, _: &SessionId, _: Seq, _: usize) -> Result<Vec<Record>, StoreError> {
        Ok(vec![])
    }
    /// Stub.
    pub async fn unfinished(&self) -> Result<Vec<SessionId>, StoreError> {
        Ok(vec![])
    }
}
