//! Signs and checks tokens. One algorithm, chosen by configuration; what a token's header says is never believed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kronos_actors::{clock::Millis, principal::AuthError};
use rand::RngCore as _;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// What a token is for. One kind is never taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Goes with every request.
    Access,
    /// Gets a new pair, once.
    Refresh,
}

/// What a token says. Times are in seconds, as RFC 7519 has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The user's id.
    pub(super) sub: String,
    /// The token's own id.
    pub(super) jti: String,
    /// When it was made.
    pub(super) iat: i64,
    /// When it ends.
    pub(super) exp: i64,
    /// What it is for.
    pub(super) typ: Kind,
    /// The login it descends from.
    pub(super) fam: String,
}

/// The signing key and what goes with it.
pub(super) struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Keys {
    /// Takes the configured secret, or makes a random one for this process.
    pub(super) fn new(secret: Option<&SecretString>) -> Self {
        let bytes = secret.map_or_else(
            || random::<32>().to_vec(),
            |secret| secret.expose_secret().as_bytes().to_vec(),
        );
        let mut validation = Validation::new(Algorithm::HS256);
        // Checked here against the injected clock, without leeway.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self {
            encoding: EncodingKey::from_secret(&bytes),
            decoding: DecodingKey::from_secret(&bytes),
            validation,
        }
    }

    /// Signs claims.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
    }

    /// Checks signature, algorithm, kind and life.
    pub(super) fn check(&self, token: &str, kind: Kind, now_ms: Millis) -> Result<Claims, AuthError> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_says_too_much| AuthError::Invalid)?;
        match data.claims {
            claims if claims.typ != kind => Err(AuthError::Invalid),
            claims if claims.exp.saturating_mul(1000) <= now_ms => Err(AuthError::Expired),
            claims => Ok(claims),
        }
    }
}

/// Returns random bytes from the system's generator.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// Mints a text that nobody can guess: 192 bits, 32 characters of URL-safe base64.
pub(super) fn unguessable() -> String {
    URL_SAFE_NO_PAD.encode(random::<24>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let text = |t: &str| t.to_owned();
        Claims {
            sub: text("u"),
            jti: text("j"),
            iat: 1000,
            exp: 2000,
            typ: Kind::Access,
            fam: text("f"),
        }
    }

    fn keys() -> Keys {
        Keys::new(Some(&SecretString::from("0123456789abcdef0123456789abcdef")))
    }

    fn forged(header: &str, signature: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{signature}",
            part(header),
            part(&serde_json::to_string(&claims()).unwrap())
        )
    }

    #[test]
    fn a_token_lives_until_the_second_it_ends() {
        let token = keys().sign(&claims()).unwrap();
        assert_eq!(keys().check(&token, Kind::Access, 1_999_999), Ok(claims()));
        assert_eq!(keys().check(&token, Kind::Access, 2_000_000), Err(AuthError::Expired));
    }

    #[test]
    fn a_refresh_token_is_no_access_token() {
        let token = keys()
            .sign(&Claims {
                typ: Kind::Refresh,
                ..claims()
            })
            .unwrap();
        assert_eq!(keys().check(&token, Kind::Access, 0), Err(AuthError::Invalid));
        assert!(keys().check(&token, Kind::Refresh, 0).is_ok());
    }

    #[test]
    fn the_algorithm_in_the_header_is_never_believed() {
        let signed_with = |algorithm| {
            let key = EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
            jsonwebtoken::encode(&Header::new(algorithm), &claims(), &key).unwrap()
        };
        assert!(keys().check(&signed_with(Algorithm::HS256), Kind::Access, 0).is_ok());
        for token in [
            signed_with(Algorithm::HS384),
            signed_with(Algorithm::HS512),
            forged(r#"{"alg":"none","typ":"JWT"}"#, ""),
            forged(r#"{"alg":"None"}"#, ""),
            forged(r#"{"alg":"RS256"}"#, "c2ln"),
            forged(r#"{"typ":"JWT"}"#, ""),
            forged(r#"{"alg":"HS256"}"#, ""),
            String::new(),
            "a.b.c".to_owned(),
        ] {
            assert_eq!(
                keys().check(&token, Kind::Access, 0),
                Err(AuthError::Invalid),
                "{token}"
            );
        }
    }

    #[test]
    fn another_key_is_another_server() {
        let token = Keys::new(None).sign(&claims()).unwrap();
        assert_eq!(keys().check(&token, Kind::Access, 0), Err(AuthError::Invalid));
    }
}
