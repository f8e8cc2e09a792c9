//! How clients of upstreams over HTTP are made.

use std::time::Duration;

use reqwest::{Certificate, Client, redirect};

/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(90);

/// Makes a client with connections of its own; `tls`: for https only, otherwise for http without a proxy.
///
/// There is no time-out for a whole answer (a long one is not a fault) and no redirect (a key would travel along).
/// HTTP/1.1, because each exchange then has a connection for itself: over HTTP/2 the answers that slow sessions do not read
/// would use up the window that all share, and beyond 100 streams the rest would wait unseen.
///
/// # Errors
/// The certificates cannot be read.
pub fn client(tls: bool, connect_timeout: Duration) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .user_agent(concat!("kronos/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(redirect::Policy::none())
        .http1_only()
        .tcp_nodelay(true);
    // Whoever was first to install a provider is right: any of them can make these connections.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = if tls {
        // The machine's own roots may include a company's; the built-in ones are for images that have none.
        let built_in = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let built_in = built_in.filter_map(|certificate| Certificate::from_der(certificate).ok());
        builder.https_only(true).tls_certs_merge(built_in)
    } else {
        builder.no_proxy().tls_certs_only([])
    };
    builder.build()
}
