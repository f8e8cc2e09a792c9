//! A storm: all sockets are cut in mid-reply and come back at once.
//!
//! 300 sockets by default; the long run:
//! ```text
//! KRONOS_SOCKETS=5000 cargo test --release --test chaos storm -- --nocapture
//! ```

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream};
use kronos_protocol::{SendMode, SessionId};
use kronos_testkit::WsClient;
use tokio::time::Instant;

use crate::harness::{Kronos, guest, kronos, number};

/// Devices that connect at once while nothing is to be shown by it.
const AT_ONCE: usize = 64;
const QUESTION: &str = "[[tokens 120]] tell me a story";

struct Client {
    user: String,
    socket: WsClient,
    session: SessionId,
}

async fn start(kronos: &Kronos, number: usize) -> Client {
    let user = format!("user-{number}");
    let mut socket = kronos.server.connect(guest(&user, number)).await;
    let session = socket.attach_new().await;
    Client { user, socket, session }
}

impl Client {
    async fn asks(&mut self) {
        let session = &self.session;
        self.socket.send(session, "m_1", QUESTION, SendMode::Queue).await;
        let some = |client: &WsClient| !client.transcript(session).last_answer().is_empty();
        self.socket.until("some text", some).await;
    }

    /// Comes back where it was, as often as it is told to come later; returns how often that was.
    async fn comes_back(&mut self, url: &str) -> usize {
        let mut refused = 0;
        while self.socket.try_reconnect(url).await.is_err() {
            refused += 1;
            assert!(refused < 20, "the server does not take it back");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let attached = self.socket.reattach(&self.session).await;
        assert!(attached.recovered, "a cursor is served event by event");
        refused
    }

    async fn ends(&mut self, kronos: &Kronos) {
        self.socket.until_idle(&self.session).await;
        let shown = self.socket.transcript(&self.session);
        let mut fresh = kronos.server.connect(guest(&self.user, 0)).await;
        fresh.attach(&self.session, None).await;
        fresh.until_caught_up(&self.session).await;
        assert_eq!(fresh.transcript(&self.session), shown, "the log says the same");
        assert_eq!(shown.messages.len(), 2, "one question, one answer");
    }
}

#[tokio::test]
async fn a_storm_of_returning_sockets_loses_and_doubles_nothing() {
    let sockets = number("KRONOS_SOCKETS", 300);
    let many = (2 * sockets).to_string();
    let env = [
        ("GEMINI_MAX_CONCURRENT", many.as_str()),
        ("MAX_CONNECTIONS", many.as_str()),
        ("MAX_CONNECTIONS_PER_ADDRESS", many.as_str()),
    ];
    // Slow enough that most answers are still being written when the last socket has asked.
    let kronos = kronos(15.0, &env).await;
    let connecting = stream::iter(0..sockets).map(|number| start(&kronos, number));
    let mut clients: Vec<Client> = connecting.buffer_unordered(AT_ONCE).collect().await;
    join_all(clients.iter_mut().map(Client::asks)).await;
    let in_reply = |client: &&Client| client.socket.active_run(&client.session).is_some();
    let in_mid_reply = clients.iter().filter(in_reply).count();
    let cut = Instant::now();
    for client in &mut clients {
        client.socket.cut();
    }
    let url = kronos.server.ws_url();
    let refused = join_all(clients.iter_mut().map(|client| client.comes_back(&url))).await;
    let (attached, refused) = (cut.elapsed(), refused.into_iter().sum::<usize>());
    let ends = stream::iter(&mut clients).map(|client| client.ends(&kronos));
    ends.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    println!(
        "sockets {sockets}, in mid-reply {in_mid_reply}, all attached again after {attached:?}, \
         told to come later {refused} times"
    );
    assert!(
        in_mid_reply * 10 >= sockets * 9,
        "most were in mid-reply: {in_mid_reply}"
    );
    assert_eq!(
        kronos.gemini.requests().len(),
        sockets,
        "the model was asked once for each"
    );
}
