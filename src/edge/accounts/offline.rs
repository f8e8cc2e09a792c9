//! What the command line does with users while no server runs: the same rules, on the same records.

use kronos_actors::{clock::Clock, store::service::StoreRef};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{
    inputs::{NewUser, UserUpdate},
    password,
    records::{Record, Records, failed},
    user::{User, UserInDb},
    users::{apply, from_new},
};
use crate::edge::{
    error::ApiError,
    input::{Bounds, Input, read},
};

/// The users of a store that no server has open.
pub(crate) struct Offline {
    records: Records,
    bounds: Bounds,
    clock: Clock,
}

impl Offline {
    /// Over a store, within the bounds of the configuration.
    pub(crate) fn new(store: StoreRef, bounds: Bounds) -> Self {
        Self {
            records: Records(store),
            bounds,
            clock: Clock::default(),
        }
    }

    /// Makes a user of the body that `POST /users/` takes.
    pub(crate) async fn create(&self, body: Map<String, Value>) -> Result<UserInDb, ApiError> {
        let new: NewUser = self.read(body)?;
        let hash = hashed(new.password.clone())?;
        let user = from_new(new, hash, self.clock.now_ms());
        self.records.insert(&user).await?;
        Ok(user.in_db())
    }

    /// A page of all users.
    pub(crate) async fn list(&self, skip: u64, limit: usize) -> Result<Vec<UserInDb>, ApiError> {
        let users = self.records.page(skip, limit).await;
        let users = users.map_err(|cause| failed("list_users", cause))?;
        Ok(users.iter().map(User::in_db).collect())
    }

    /// Changes the user of an id, a username or an e-mail address as `PUT /users/{id}` does.
    pub(crate) async fn update(&self, name: &str, body: Map<String, Value>) -> Result<UserInDb, ApiError> {
        let update: UserUpdate = self.read(body)?;
        let hash = hashed(update.password.clone())?;
        let id = self.find(name).await?.user.id;
        let now = self.clock.now_ms();
        let edit = |user: &mut User| {
            apply(user, &update, hash.as_deref(), None, now);
            Ok(Vec::new())
        };
        Ok(self.records.change(&id, edit).await?.after.in_db())
    }

    /// Ids first: a username may look like somebody else's id.
    async fn find(&self, name: &str) -> Result<Record, ApiError> {
        let fail = |cause| failed("find_user", cause);
        if let Some(record) = self.records.get(name).await.map_err(fail)? {
            return Ok(record);
        }
        let found = self.records.find(name).await.map_err(fail)?;
        found.ok_or_else(|| ApiError::not_found("User", name))
    }

    fn read<T: Input>(&self, body: Map<String, Value>) -> Result<T, ApiError> {
        read("body", body, self.bounds)
    }
}

fn hashed(password: Option<SecretString>) -> Result<Option<String>, ApiError> {
    let hash = password.map(|password| password::hash(&password)).transpose();
    hash.map_err(|_cause| ApiError::internal())
}
