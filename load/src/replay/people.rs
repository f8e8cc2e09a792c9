//! Who the users are, and how they prove it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::wire::Target;
use crate::scenario::Users;

/// Passwords are hashed slowly on purpose: more at once would only wait at the server.
const SIGNUPS: usize = 8;
/// Tries of a signup or login that the server is too busy for.
const TRIES: u32 = 8;
/// What all of them take: nobody but this load uses the accounts.
const PASSWORD: &str = "a-password-of-the-load-tester";
/// Time for one request.
const REQUEST: Duration = Duration::from_secs(30);

/// Somebody: a name that a server in development believes, or a token.
#[derive(Clone, Default)]
pub(crate) struct Person {
    /// The name in the query.
    pub(crate) name: Option<String>,
    /// The token in `hello`.
    pub(crate) token: Option<String>,
}

/// All of them.
pub(crate) struct People {
    users: Users,
    /// Keeps the users of one run apart from those of another.
    prefix: String,
    tokens: Vec<String>,
    http: reqwest::Client,
    base: String,
    signups: Semaphore,
}

impl People {
    /// Reads tokens, where there are any.
    pub(crate) fn new(users: &Users, target: &Target) -> anyhow::Result<Self> {
        let mut tokens = Vec::new();
        if let Users::Tokens(file) = users {
            let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
            tokens.extend(
                text.lines()
                    .map(str::trim)
                    .filter(|line| !line.is_empty())
                    .map(str::to_owned),
            );
            ensure!(!tokens.is_empty(), "{}: no token", file.display());
        }
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().http1_only().no_proxy().timeout(REQUEST);
        let http = if target.http.starts_with("https") {
            http
        } else {
            http.tls_certs_only([])
        };
        Ok(Self {
            users: users.clone(),
            prefix: format!("load-{:08x}", rand::rng().random::<u32>()),
            tokens,
            http: http.build()?,
            base: target.http.clone(),
            signups: Semaphore::new(SIGNUPS),
        })
    }

    /// Returns the user with this number.
    ///
    /// # Errors
    /// The code of the error: somebody who is to sign up was refused.
    pub(crate) async fn person(&self, number: u64) -> Result<Person, String> {
        let name = format!("{}-{number}", self.prefix);
        match &self.users {
            Users::Named => Ok(Person {
                name: Some(name),
                token: None,
            }),
            Users::Tokens(_) => {
                let count = u64::try_from(self.tokens.len()).unwrap_or(u64::MAX);
                let index = usize::try_from(number % count.max(1)).unwrap_or_default();
                Ok(Person {
                    name: None,
                    token: self.tokens.get(index).cloned(),
                })
            }
            Users::SignUp => {
                let _permit = self.signups.acquire().await;
                let email = format!("{name}@load.example.com");
                let signup = json!({"username": name, "email": email, "password": PASSWORD});
                self.post("signup", &signup).await?;
                let login = self
                    .post("login", &json!({"username": name, "password": PASSWORD}))
                    .await?;
                let token = login.get("access_token").and_then(Value::as_str);
                Ok(Person {
                    name: None,
                    token: Some(token.ok_or("login_answer")?.to_owned()),
                })
            }
        }
    }

    async fn post(&self, what: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}/api/v1/auth/{what}", self.base);
        let mut pause = Duration::from_millis(200);
        let mut tries = 0;
        loop {
            let reply = self.http.post(&url).json(body).send().await;
            let reply = reply.map_err(|_why| format!("{what}_io"))?;
            let status = reply.status().as_u16();
            if reply.status().is_success() {
                return reply.json().await.map_err(|_why| format!("{what}_answer"));
            }
            tries += 1;
            if tries == TRIES || !matches!(status, 429 | 503) {
                return Err(format!("{what}_{status}"));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}
