//! Hashes passwords with argon2id, few at a time: each takes 19 MiB and some 20 ms of a core.

use std::sync::Arc;

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};
use kronos_actors::metrics as names;
use kronos_protocol::error::ErrorCode;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::edge::error::ApiError;

/// Hashes on blocking threads with a bound on how many run and a bound on how many wait.
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    /// Places of running and waiting together.
    places: Arc<Semaphore>,
    /// What an unknown user's password is compared with, so that it takes the same time.
    dummy: String,
}

impl Passwords {
    /// Makes the pool. Hashes once, for the dummy: call it on a blocking thread.
    pub(super) fn new(concurrency: usize, waiting: usize) -> Result<Self, argon2::password_hash::Error> {
        let dummy = hash(&SecretString::from(super::token::unguessable()))?;
        let running = Arc::new(Semaphore::new(concurrency));
        Ok(Self {
            running,
            places: Arc::new(Semaphore::new(concurrency + waiting)),
            dummy,
        })
    }

    /// Hashes a new password.
    pub(super) async fn hash(&self, password: SecretString) -> Result<String, ApiError> {
        self.run(move || hash(&password)).await?.map_err(|error| {
            tracing::error!(%error, "password cannot be hashed");
            ApiError::internal()
        })
    }

    /// Compares a password with a stored hash; without one it takes the same time and is wrong.
    pub(super) async fn verify(&self, password: SecretString, stored: Option<String>) -> Result<bool, ApiError> {
        // Who has no password at all is as unknown.
        let stored = stored.filter(|stored| PasswordHash::new(stored).is_ok());
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy.clone());
        let same = self.run(move || verify(&password, &stored)).await?;
        Ok(same && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let busy = || ApiError {
            after_ms: Some(1000),
            ..ApiError::new(ErrorCode::Overloaded, "Too many logins are waiting")
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_full| {
            names::refused("password_waiting");
            busy()
        })?;
        let waiting = metrics::gauge!(names::PASSWORD_WAITING);
        waiting.increment(1.0);
        let permit = Arc::clone(&self.running).acquire_owned().await;
        let result = tokio::task::spawn_blocking(move || {
            let result = work();
            // Held by the work, not by the caller: a client that goes away does not make room for the next too early.
            drop((permit, place));
            result
        })
        .await;
        waiting.decrement(1.0);
        result.map_err(|_panicked| ApiError::internal())
    }
}

pub(super) fn hash(password: &SecretString) -> Result<String, argon2::password_hash::Error> {
    let hash: PasswordHash = Argon2::default().hash_password(password.expose_secret().as_bytes())?;
    Ok(hash.to_string())
}

fn verify(password: &SecretString, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.expose_secret().as_bytes(), &hash)
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_argon2id_and_salted() {
        let password = SecretString::from("correct horse");
        let (a, b) = (hash(&password).unwrap(), hash(&password).unwrap());
        assert!(a.starts_with("$argon2id$v=19$") && a != b);
        assert!(verify(&password, &a) && verify(&password, &b));
        assert!(!verify(&SecretString::from("wrong horse"), &a));
        assert!(!verify(&password, "not a hash"));
    }

    #[actix_web::test]
    async fn an_unknown_user_is_wrong_with_any_password() {
        let passwords = Passwords::new(1, 1).unwrap();
        assert!(!passwords.verify(SecretString::from("x"), None).await.unwrap());
        let none = passwords.verify(SecretString::from(""), Some(String::new()));
        assert!(!none.await.unwrap());
        let stored = passwords.hash(SecretString::from("x")).await.unwrap();
        assert!(passwords.verify(SecretString::from("x"), Some(stored)).await.unwrap());
    }

    #[actix_web::test]
    async fn more_than_may_wait_are_refused() {
        let passwords = Passwords::new(1, 1).unwrap();
        let attempt = || passwords.verify(SecretString::from("x"), None);
        let (a, b, c) = tokio::join!(attempt(), attempt(), attempt());
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(c.unwrap_err().status.as_u16(), 503);
        assert!(attempt().await.is_ok());
    }
}
