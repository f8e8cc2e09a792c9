//! What must hold at the end of a load: `p99(first_token) < 300ms`, `errors == 0`.

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Threshold {
    /// As it was written.
    pub(crate) text: String,
}
