//! Users that a server makes by itself: the development user, and the first superuser.

use kronos_actors::store::StoreError;
use kronos_protocol::error::ErrorCode;
use secrecy::{ExposeSecret, SecretString};

use super::{Accounts, user::User};
use crate::{config::FirstSuperuser, edge::error::ApiError};

/// The development user, and its password.
const DEMO: &str = "demo";

impl Accounts {
    /// Makes the user `demo` of development, unless it exists.
    pub(super) async fn ensure_demo(&self) {
        let made = self.ensure(DEMO, "demo@example.com", SecretString::from(DEMO), |user| {
            user.full_name = Some("Demo".to_owned());
        });
        if let Err(error) = made.await {
            tracing::warn!(%error, "user demo not made");
        }
    }

    /// Makes the first superuser of the configuration, unless somebody has its name.
    pub(super) async fn ensure_superuser(&self, first: &FirstSuperuser) {
        let (Some(name), Some(email), Some(password)) = (&first.username, &first.email, &first.password) else {
            return;
        };
        let password = SecretString::from(password.expose_secret());
        match self
            .ensure(name, email, password, |user| user.is_superuser = true)
            .await
        {
            Ok(Some(id)) => tracing::info!(user.id = %id, "first superuser made, as FIRST_SUPERUSER_USERNAME says"),
            Ok(None) => tracing::debug!("the user of FIRST_SUPERUSER_USERNAME exists, and stays as it is"),
            Err(error) => tracing::error!(%error, "first superuser not made"),
        }
    }

    /// Makes a user unless its name is known; returns its id when it did.
    async fn ensure(
        &self,
        name: &str,
        email: &str,
        password: SecretString,
        finish: impl FnOnce(&mut User),
    ) -> Result<Option<String>, ApiError> {
        let fail = |cause: StoreError| super::records::failed("insert_user", cause);
        if self.0.records.find(name).await.map_err(fail)?.is_some() {
            return Ok(None);
        }
        let hash = self.0.passwords.hash(password).await?;
        let mut user = User::new(name, email, hash, self.0.clock.now_ms());
        finish(&mut user);
        match self.0.records.insert(&user).await {
            Ok(()) => Ok(Some(user.id)),
            // Somebody else has the name or the address: theirs it is.
            Err(error) if error.name == crate::edge::error::map(ErrorCode::Conflict).name => Ok(None),
            Err(error) => Err(error),
        }
    }
}
