//! Placeholder: the terminal client.

/// Arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct ChatArgs {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Conversation to open.
    #[arg(long)]
    pub session: Option<String>,
    /// Who to be, on a development server.
    #[arg(long)]
    pub user: Option<String>,
    /// Say this, print the answer, end.
    #[arg(long)]
    pub once: Option<String>,
}

/// Stub.
///
/// # Errors
/// Always.
pub async fn run(args: ChatArgs) -> anyhow::Result<std::process::ExitCode> {
    std::future::ready(args).await;
    anyhow::bail!("the terminal client is not part of this build")
}
