//! The provider's keys: fetched, kept for a while, fetched again when a token names one that is not known.
//!
//! One fetch at a time, and a pause after each: tokens with made-up key ids cannot make this server ask more often. While the
//! provider does not answer, the keys that are known go on for a while.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::BytesMut;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use kronos_actors::{
    clock::{Clock, Millis},
    metrics as names,
    principal::AuthError,
};
use reqwest::{Certificate, Client, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::millis;
use crate::config::OutsideConfig;

/// Keys of one provider that are looked at: they have two or three.
const MAX_KEYS: usize = 64;

/// Smallest RSA key, in bytes (RFC 7518, section 3.3: 2048 bits).
const RSA_BYTES: usize = 256;

/// Why the keys could not be fetched. No address and no text of the provider.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer: {0}")]
    Transport(reqwest::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("no answer in time")]
    Slow,
    #[error("the answer is larger than {0} bytes")]
    Large(usize),
    #[error("the answer is no set of keys")]
    Shape,
    #[error("none of {0} keys can be used with the configured algorithm")]
    Useless(usize),
}

/// The keys as they were fetched last.
#[derive(Clone, Default)]
struct Set {
    keys: HashMap<String, Arc<DecodingKey>>,
    /// The only key that has no id.
    nameless: Option<Arc<DecodingKey>>,
    fetched_ms: Option<Millis>,
    /// Grows with each fetch that succeeds.
    number: u64,
}

impl Set {
    fn len(&self) -> usize {
        self.keys.len() + usize::from(self.nameless.is_some())
    }

    /// The key of an id; for a token that names none, the only one that there is.
    fn find(&self, kid: Option<&str>) -> Option<Arc<DecodingKey>> {
        match kid {
            Some(kid) => self.keys.get(kid).cloned(),
            None if self.len() == 1 => self.nameless.clone().or_else(|| self.keys.values().next().cloned()),
            None => None,
        }
    }

    fn age(&self, now: Millis) -> Millis {
        self.fetched_ms.map_or(Millis::MAX, |at| now.saturating_sub(at))
    }
}

/// When the provider was asked last.
#[derive(Default)]
struct Turn {
    asked_ms: Option<Millis>,
}

struct Inner {
    url: String,
    client: Client,
    algorithm: Algorithm,
    ttl_ms: Millis,
    stale_ms: Millis,
    pause_ms: Millis,
    timeout: Duration,
    bytes: usize,
    clock: Clock,
    set: RwLock<Set>,
}

/// The keys. Cheap to clone.
#[derive(Clone)]
pub(super) struct Jwks {
    inner: Arc<Inner>,
    turn: Arc<Mutex<Turn>>,
}

impl Jwks {
    pub(super) fn new(
        url: &str,
        algorithm: Algorithm,
        config: &OutsideConfig,
        clock: Clock,
    ) -> Result<Self, reqwest::Error> {
        let inner = Inner {
            url: url.to_owned(),
            client: client(url.starts_with("https:"), config.timeout)?,
            algorithm,
            ttl_ms: millis(config.ttl),
            stale_ms: millis(config.stale),
            pause_ms: millis(config.pause),
            timeout: config.timeout,
            bytes: config.bytes,
            clock,
            set: RwLock::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            turn: Arc::default(),
        })
    }

    /// Fetches the keys in the background.
    pub(super) fn warm_up(&self) {
        let this = self.clone();
        actix_web::rt::spawn(async move {
            let turn = Arc::clone(&this.turn).lock_owned().await;
            this.fetch(turn).await;
        });
    }

    /// Returns the key of an id.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] when the provider, asked just now, does not know it; [`AuthError::NoKey`] when it could not be
    /// asked.
    pub(super) async fn key(&self, kid: Option<&str>) -> Result<Arc<DecodingKey>, AuthError> {
        let (set, now) = (self.set(), self.inner.clock.now_ms());
        match set.find(kid) {
            Some(key) if set.age(now) < self.inner.ttl_ms => Ok(key),
            // Due: one asks, the others go on with what there is.
            Some(_) => {
                if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                    self.fetch(turn).await;
                }
                self.usable(kid).ok_or_else(|| self.unknown(&set))
            }
            None => {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                // Whoever had the turn before may have brought it.
                if let Some(key) = self.usable(kid) {
                    return Ok(key);
                }
                if self.set().number == set.number {
                    self.fetch(turn).await;
                }
                self.usable(kid).ok_or_else(|| self.unknown(&set))
            }
        }
    }

    fn set(&self) -> Set {
        self.inner.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key of an id, unless the provider has been silent for too long.
    fn usable(&self, kid: Option<&str>) -> Option<Arc<DecodingKey>> {
        let set = self.set();
        set.find(kid)
            .filter(|_| set.age(self.inner.clock.now_ms()) < self.inner.ttl_ms.saturating_add(self.inner.stale_ms))
    }

    /// Why there is no key: the provider does not know it, if it was asked since `before`.
    fn unknown(&self, before: &Set) -> AuthError {
        if self.set().number > before.number {
            AuthError::Invalid
        } else {
            AuthError::NoKey
        }
    }

    /// Asks the provider, unless that was done a moment ago. Goes on when the caller is gone.
    async fn fetch(&self, turn: OwnedMutexGuard<Turn>) {
        let inner = Arc::clone(&self.inner);
        // A panic in it is logged by the runtime; the keys stay as they are.
        drop(actix_web::rt::spawn(async move { inner.ask(turn).await }).await);
    }
}

impl Inner {
    async fn ask(&self, mut turn: OwnedMutexGuard<Turn>) {
        let now = self.clock.now_ms();
        if turn.asked_ms.is_some_and(|at| now.saturating_sub(at) < self.pause_ms) {
            return;
        }
        turn.asked_ms = Some(now);
        let answer = tokio::time::timeout(self.timeout, self.download()).await;
        let read = answer
            .unwrap_or(Err(FetchError::Slow))
            .and_then(|body| self.parse(&body));
        match read {
            Ok(fresh) => {
                metrics::counter!(names::JWKS_FETCHES, "result" => "ok").increment(1);
                self.take(fresh, now);
            }
            Err(error) => {
                metrics::counter!(names::JWKS_FETCHES, "result" => "failed").increment(1);
                tracing::warn!(%error, "the keys of JWT_JWKS_URL were not fetched");
            }
        }
    }

    fn take(&self, fresh: Set, now: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge of a few")]
        metrics::gauge!(names::JWKS_KEYS).set(fresh.len() as f64);
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        let known = fresh.keys.keys().all(|kid| set.keys.contains_key(kid));
        if !known || fresh.len() != set.len() {
            tracing::info!(keys = fresh.len(), "the identity provider has other keys");
        }
        *set = Set {
            fetched_ms: Some(now),
            number: set.number + 1,
            ..fresh
        };
    }

    async fn download(&self) -> Result<BytesMut, FetchError> {
        let failed = |error: reqwest::Error| FetchError::Transport(error.without_url());
        let request = self.client.get(&self.url).header("accept", "application/json");
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.bytes {
                names::refused("jwks_bytes");
                return Err(FetchError::Large(self.bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Takes the keys that fit; others are left out one by one, so that a new kind of key does no harm.
    fn parse(&self, body: &[u8]) -> Result<Set, FetchError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(body).map_err(|_text| FetchError::Shape)?;
        let count = document.keys.len();
        let mut set = Set::default();
        let mut nameless = Vec::new();
        for key in document.keys.into_iter().take(MAX_KEYS) {
            let Ok(jwk) = serde_json::from_value::<Jwk>(key) else {
                continue;
            };
            let Some(key) = self.decoding_key(&jwk).map(Arc::new) else {
                continue;
            };
            match jwk.common.key_id {
                // Of two keys of one id the first counts.
                Some(kid) => drop(set.keys.entry(kid).or_insert(key)),
                None => nameless.push(key),
            }
        }
        set.nameless = nameless.pop().filter(|_| nameless.is_empty());
        if set.len() == 0 {
            return Err(FetchError::Useless(count));
        }
        Ok(set)
    }

    /// The key, if it is one for signatures of the configured algorithm.
    fn decoding_key(&self, jwk: &Jwk) -> Option<DecodingKey> {
        let common = &jwk.common;
        let for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && common
                .key_operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let right_algorithm = common.key_algorithm.is_none_or(|named| named == self.algorithm.into());
        if !for_signatures || !right_algorithm {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let fits = match (&jwk.algorithm, self.algorithm) {
            (AlgorithmParameters::RSA(rsa), Algorithm::RS256) => bytes_of(&rsa.n) >= RSA_BYTES,
            (AlgorithmParameters::EllipticCurve(point), Algorithm::ES256) => {
                point.curve == EllipticCurve::P256 && key.family() == AlgorithmFamily::Ec
            }
            _ => false,
        };
        fits.then_some(key)
    }
}

/// How many bytes a text of unpadded base64 stands for.
const fn bytes_of(base64: &str) -> usize {
    base64.len() * 3 / 4
}

/// Makes the client. No redirect is followed: it could leave what was configured, or TLS.
fn client(tls: bool, timeout: Duration) -> Result<Client, reqwest::Error> {
    // Whoever was first to install a provider is right: any of them can make these connections.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = Client::builder()
        .user_agent(concat!("kronos/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeout)
        .pool_max_idle_per_host(1)
        .redirect(redirect::Policy::none())
        .http1_only();
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
