//! A server for one test.

use std::{net::SocketAddr, time::Duration};

use kronos::{
    Server, Stop,
    config::{AuthMode, Config},
};
use kronos_actors::{clock::Clock, config::StoreBackend};
use kronos_testkit::{HttpReply, request};
use serde_json::{Value, json};

/// The password of everybody.
pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Has a first superuser made.
pub(crate) fn rooted(config: &mut Config) {
    let first = &mut config.auth.first;
    first.username = Some("root".to_owned());
    first.email = Some("root@example.com".to_owned());
    first.password = Some(PASSWORD.into());
}

/// Writes log lines where `tests/logs` looks through them, instead of between the lines of the tests. The first server of a
/// process says where.
fn keep_logs(config: &mut Config) {
    config.log.stderr = false;
    config.log.level = "debug".to_owned();
    let test_binary = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("edge");
    config.log.dir =
        kronos_testkit::log_folder(&test_binary).map(|folder| folder.join(format!("edge-{}", std::process::id())));
}

/// A running server. Its clock can be moved.
pub(crate) struct Edge {
    pub(crate) addr: SocketAddr,
    pub(crate) clock: Clock,
    stop: Stop,
    task: actix_web::rt::task::JoinHandle<std::io::Result<()>>,
}

impl Edge {
    /// Starts a server that wants tokens.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a server that serves guests.
    pub(crate) async fn open() -> Self {
        Self::with(|config| config.auth.mode = AuthMode::Development).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.server.port = 0;
        config.server.workers = 1;
        // Tests count what upstreams are asked.
        config.server.health_probe_interval = Duration::ZERO;
        config.server.drain_deadline = Duration::from_millis(200);
        config.store.backend = StoreBackend::Memory;
        config.auth.secret_key = Some(SECRET.into());
        keep_logs(&mut config);
        change(&mut config);
        let clock = Clock::default();
        let server = Server::bind_with(config, clock.clone())
            .await
            .expect("the server starts");
        let (addr, stop) = (server.addr(), Stop::default());
        let task = actix_web::rt::spawn(server.run(stop.clone()));
        let edge = Self {
            addr,
            clock,
            stop,
            task,
        };
        edge.ready().await;
        edge
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> HttpReply {
        request(self.addr, method, path, headers, body)
            .await
            .expect("the server answers")
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> HttpReply {
        self.as_caller("GET", path, token, None).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> HttpReply {
        self.as_caller("POST", path, token, Some(&body)).await
    }

    async fn as_caller(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> HttpReply {
        match token {
            Some(token) => {
                self.call(method, path, &[("Authorization", &format!("Bearer {token}"))], body)
                    .await
            }
            None => self.call(method, path, &[], body).await,
        }
    }

    /// Waits until the server says that it is ready.
    pub(crate) async fn ready(&self) {
        let limit = Duration::from_secs(10);
        kronos_testkit::eventually(limit, "the server is ready", async || {
            self.get("/health/ready", None).await.status == 200
        })
        .await;
    }

    /// Starts a server that wants tokens, with a simulated model that answers at once and a simulated Composio.
    pub(crate) async fn simulated() -> Self {
        Self::with(|config| {
            config.simulator.start = true;
            config.simulator.start_composio = true;
            config.simulator.tokens_per_second = 0.0;
            rooted(config);
        })
        .await
    }

    /// Logs in as the first superuser.
    pub(crate) async fn superuser(&self) -> Pair {
        let body = json!({"username": "root", "password": PASSWORD});
        Pair::of(&self.post("/api/v1/auth/login", None, body).await.expect(200))
    }

    /// Signs a user up and in.
    pub(crate) async fn login(&self, name: &str) -> Pair {
        let body = json!({"username": name, "email": format!("{name}@example.com"), "password": "correct horse"});
        self.post("/api/v1/auth/signup", None, body).await.is(201);
        let body = json!({"username": name, "password": "correct horse"});
        Pair::of(&self.post("/api/v1/auth/login", None, body).await.expect(200))
    }

    /// Stops the server and checks that it ends well.
    pub(crate) async fn finish(self) {
        self.stop.signal();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        ended
            .expect("the server stops in time")
            .expect("the server does not panic")
            .expect("the server ends well");
    }
}

/// What a test asks of an answer whose body does not matter.
pub(crate) trait Answer {
    /// Checks the status.
    fn is(&self, status: u16);
}

impl Answer for HttpReply {
    fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text());
    }
}

/// The tokens of a login.
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Pair {
    pub(crate) fn of(body: &Value) -> Self {
        let text = |name: &str| body[name].as_str().expect("a token").to_owned();
        Self {
            access: text("access_token"),
            refresh: text("refresh_token"),
        }
    }
}
