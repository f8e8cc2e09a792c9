//! What must hold at the end of a load: `p99(first_token) < 300ms`, `errors == 0`.

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Threshold {
    /// As it was written.
    pub(crate) text: String,
}

impl std::str::FromStr for Threshold {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let text = text.trim().to_owned();
        anyhow::ensure!(!text.is_empty(), "an empty threshold");
        Ok(Self { text })
    }
}
