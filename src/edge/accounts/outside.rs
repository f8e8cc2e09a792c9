//! Tokens of an outside identity provider (`JWT_JWKS_URL`): what is checked of them, and what they mean.
//!
//! `sub` is the user's id. A user of that id need not be kept here; where one is, its name, its `is_active` and its
//! `is_superuser` count: no claim makes a superuser. The algorithm is the configured one, the keys are those of the provider,
//! and neither is ever taken from the token.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Validation;
use kronos_actors::{
    clock::{Clock, Millis},
    principal::AuthError,
};
use kronos_protocol::ids::UserId;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::jwks::Jwks;
use super::user::outside_login;
use crate::config::OutsideConfig;

mod jwks;

/// Longest name that is taken from a token, in characters.
const NAME_CHARS: usize = 255;

/// Longest id of a key that is looked up, in bytes.
const KID_BYTES: usize = 256;

/// The provider, and what its tokens must say.
pub(super) struct Outside {
    jwks: Jwks,
    validation: Validation,
    issuer: String,
    audience: String,
    leeway_ms: Millis,
    clock: Clock,
}

/// Whom a token stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) user: UserId,
    pub(super) name: Option<String>,
    /// Stands for this one token: what was signed, hashed.
    pub(super) login: String,
    /// With the leeway.
    pub(super) expires_at_ms: Millis,
}

/// What is read of a token. Times are in seconds, perhaps with a fraction, as RFC 7519 has them.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    preferred_username: Option<Value>,
    #[serde(default)]
    name: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn includes(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

impl Outside {
    /// Makes the checker, when the configuration has a provider.
    pub(super) fn new(config: &OutsideConfig, clock: &Clock) -> Result<Option<Self>, reqwest::Error> {
        let (Some(url), Some(algorithm)) = (&config.url, config.algorithm.of_provider()) else {
            return Ok(None);
        };
        let mut validation = Validation::new(algorithm);
        // Checked here, against the injected clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Ok(Some(Self {
            jwks: Jwks::new(url, algorithm, config, clock.clone())?,
            validation,
            issuer: config.issuer.clone().unwrap_or_default(),
            audience: config.audience.clone().unwrap_or_default(),
            leeway_ms: millis(config.leeway),
            clock: clock.clone(),
        }))
    }

    /// Fetches the keys before they are needed, so that a wrong address shows in the log at once.
    pub(super) fn warm_up(&self) {
        self.jwks.warm_up();
    }

    /// Checks algorithm, signature, issuer, audience and life.
    pub(super) async fn check(&self, token: &str) -> Result<Known, AuthError> {
        let invalid = |_says_too_much| AuthError::Invalid;
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        // Nothing is asked of the provider for a token that could not be good whatever its key.
        let is_ours = self.validation.algorithms.contains(&header.alg) && header.crit.is_none();
        if !is_ours || header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES) {
            return Err(AuthError::Invalid);
        }
        let key = self.jwks.key(header.kid.as_deref()).await?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &self.validation).map_err(invalid)?;
        self.read(token, claims.claims)
    }

    fn read(&self, token: &str, claims: Claims) -> Result<Known, AuthError> {
        if claims.iss != self.issuer || !claims.aud.includes(&self.audience) {
            return Err(AuthError::Invalid);
        }
        let now = self.clock.now_ms();
        let expires_at_ms = in_ms(claims.exp).saturating_add(self.leeway_ms);
        if expires_at_ms <= now {
            return Err(AuthError::Expired);
        }
        if claims
            .nbf
            .is_some_and(|nbf| in_ms(nbf) > now.saturating_add(self.leeway_ms))
        {
            return Err(AuthError::Invalid);
        }
        let name = |value: Option<Value>| match value {
            Some(Value::String(name)) => Some(name).filter(|name| is_name(name)),
            _ => None,
        };
        let user = UserId::try_from(claims.sub).map_err(|_rule| AuthError::Invalid)?;
        Ok(Known {
            name: name(claims.preferred_username).or_else(|| name(claims.name)),
            login: outside_login(&hash_of(token), &user),
            user,
            expires_at_ms,
        })
    }
}

/// What stands for a token: the hash of what was signed. Its signature may be written in more than one way.
fn hash_of(token: &str) -> String {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    URL_SAFE_NO_PAD.encode(Sha256::digest(signed))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= NAME_CHARS && !name.chars().any(char::is_control)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates: a token that ends in a billion years does not end"
)]
fn in_ms(seconds: f64) -> Millis {
    (seconds * 1000.0) as Millis
}

fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}
