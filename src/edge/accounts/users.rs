//! Users as superusers and they themselves see and change them.

use kronos_actors::{
    metrics as names,
    principal::{AuthError, Principal},
};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use secrecy::SecretString;

use super::{
    Accounts,
    inputs::{ListUsers, NewUser, UserUpdate},
    records::{Changed, failed},
    user::{User, UserInDb},
};
use crate::edge::error::ApiError;

impl Accounts {
    /// Lets superusers pass.
    pub(in crate::edge) fn only_superusers(caller: &Principal) -> Result<(), ApiError> {
        match (&caller.login, caller.superuser) {
            (None, _) => {
                names::auth_failed(&AuthError::Missing);
                Err(AuthError::Missing.into())
            }
            (Some(_), true) => Ok(()),
            (Some(_), false) => Err(ApiError::new(ErrorCode::Forbidden, "Only a superuser may do this")),
        }
    }

    /// Lets superusers pass, and a user to itself. A guest is nobody.
    pub(in crate::edge) fn only_oneself(caller: &Principal, id: &UserId) -> Result<(), ApiError> {
        if caller.login.is_some() && caller.user == *id {
            return Ok(());
        }
        Self::only_superusers(caller)
    }

    /// A page of all users.
    pub(in crate::edge) async fn list_users(&self, list: ListUsers) -> Result<Vec<UserInDb>, ApiError> {
        let fail = |cause| failed("list_users", cause);
        let users = match &list.name {
            Some(name) => {
                let found = self.0.records.find(name).await.map_err(fail)?;
                let found = found.map(|record| record.user).filter(|_| list.skip == 0);
                found.into_iter().collect()
            }
            None => self.0.records.page(list.skip, list.limit).await.map_err(fail)?,
        };
        Ok(users.iter().map(User::in_db).collect())
    }

    /// One user.
    pub(in crate::edge) async fn show_user(&self, id: &UserId) -> Result<UserInDb, ApiError> {
        let found = self.0.records.get(id.as_str()).await;
        let found = found.map_err(|cause| failed("get_user", cause))?;
        let record = found.ok_or_else(|| ApiError::not_found("User", id.as_str()))?;
        Ok(record.user.in_db())
    }

    /// Makes a user as a superuser wants it.
    pub(in crate::edge) async fn create_user(&self, new: NewUser) -> Result<UserInDb, ApiError> {
        Ok(self.insert(new).await?.in_db())
    }

    /// Keeps a new user.
    pub(super) async fn insert(&self, new: NewUser) -> Result<User, ApiError> {
        // Before the work of a hash; the write itself decides.
        self.free(&new).await?;
        let hash = self.hashed(new.password.clone()).await?;
        let user = from_new(new, hash, self.0.clock.now_ms());
        self.0.records.insert(&user).await?;
        Ok(user)
    }

    async fn free(&self, new: &NewUser) -> Result<(), ApiError> {
        for (field, name) in [("username", &new.username), ("email", &new.email)] {
            let found = self
                .0
                .records
                .find(name)
                .await
                .map_err(|cause| failed("insert_user", cause))?;
            if found.is_some() {
                return Err(super::records::taken(field));
            }
        }
        Ok(())
    }

    async fn hashed(&self, password: Option<SecretString>) -> Result<Option<String>, ApiError> {
        match password {
            Some(password) => self.0.passwords.hash(password).await.map(Some),
            None => Ok(None),
        }
    }

    /// Changes what was sent.
    pub(in crate::edge) async fn update_user(
        &self,
        caller: &Principal,
        id: &UserId,
        update: UserUpdate,
    ) -> Result<UserInDb, ApiError> {
        if update.is_about_roles() {
            Self::only_superusers(caller)?;
        }
        let hash = self.hashed(update.password.clone()).await?;
        // Whoever changes its own password stays where it is; everything else about it ends.
        let keep = caller.login.as_deref().filter(|_| caller.user == *id);
        let now = self.0.clock.now_ms();
        let edit = |user: &mut User| {
            apply(user, &update, hash.as_deref(), keep, now);
            Ok(Vec::new())
        };
        let changed = self.0.records.change(id.as_str(), edit).await?;
        self.enforce(&changed);
        Ok(changed.after.in_db())
    }

    /// Closes what a change took the ground from.
    fn enforce(&self, changed: &Changed) {
        let Changed { before, after } = changed;
        if before.era == after.era {
            return;
        }
        let user = after.user_id();
        self.0.ended.note(&user, after, self.0.clock.now_ms());
        self.close_all_of(&user, after.kept_login.as_deref());
        tracing::info!(user.id = %user, active = after.is_active, "logins of a user were ended");
    }
}

/// Makes a user of what was said about it; without a hash it has no password.
pub(super) fn from_new(new: NewUser, hash: Option<String>, now: i64) -> User {
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let made = User::new(&new.username, &new.email, hash.unwrap_or_default(), now);
    User {
        id: new.id.map_or(made.id, |id| id.as_str().to_owned()),
        full_name: some(new.full_name),
        bio: some(new.bio),
        profile_image_url: some(new.profile_image_url),
        preferences: new.preferences,
        is_active: new.is_active,
        is_superuser: new.is_superuser,
        ..made
    }
}

/// Applies an update. Its logins end, all but `keep`, with a new password; all of them when it is turned off or on or is no
/// superuser any more.
pub(super) fn apply(user: &mut User, update: &UserUpdate, hash: Option<&str>, keep: Option<&str>, now: i64) {
    let text = |to: &mut Option<String>, from: &Option<String>| {
        if let Some(from) = from {
            *to = Some(from.clone()).filter(|text| !text.is_empty());
        }
    };
    let loses = |had: bool, has: Option<bool>| had && has == Some(false);
    let turned = update.is_active.is_some_and(|active| active != user.is_active);
    let fallen = turned || loses(user.is_superuser, update.is_superuser);
    if let Some(hash) = hash {
        hash.clone_into(&mut user.password);
    }
    if fallen || hash.is_some() {
        user.end_logins(keep.filter(|_| !fallen));
    }
    if let Some(username) = &update.username {
        user.username.clone_from(username);
    }
    if let Some(email) = &update.email {
        user.email.clone_from(email);
    }
    text(&mut user.full_name, &update.full_name);
    text(&mut user.bio, &update.bio);
    text(&mut user.profile_image_url, &update.profile_image_url);
    if let Some(preferences) = &update.preferences {
        user.preferences.clone_from(preferences);
    }
    user.is_active = update.is_active.unwrap_or(user.is_active);
    user.is_superuser = update.is_superuser.unwrap_or(user.is_superuser);
    user.updated_at_ms = now;
}
