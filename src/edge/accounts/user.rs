//! What is stored about a user, and what of it is shown.

use kronos_actors::{clock::Millis, ids};
use kronos_protocol::ids::UserId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::edge::rfc3339;

/// A user as stored: documents of family `user`, by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) username: String,
    pub(super) email: String,
    /// An argon2id hash in PHC form, never shown; empty for who comes with tokens of an outside provider only.
    pub(super) password: String,
    #[serde(default)]
    pub(super) full_name: Option<String>,
    #[serde(default)]
    pub(super) bio: Option<String>,
    #[serde(default)]
    pub(super) profile_image_url: Option<String>,
    #[serde(default)]
    pub(super) preferences: Map<String, Value>,
    pub(super) is_active: bool,
    #[serde(default)]
    pub(super) is_superuser: bool,
    #[serde(default)]
    pub(super) last_login_ms: Option<Millis>,
    pub(super) created_at_ms: Millis,
    pub(super) updated_at_ms: Millis,
    /// Grows when all logins end at once: those of an earlier era count no more.
    #[serde(default)]
    pub(super) era: u64,
    /// The one login of an earlier era that goes on: it changed the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept_login: Option<String>,
}

impl User {
    /// A user of today with nothing but a name.
    pub(super) fn new(username: &str, email: &str, password: String, now: Millis) -> Self {
        Self {
            id: ids::user().as_str().to_owned(),
            username: username.to_owned(),
            email: email.to_owned(),
            password,
            full_name: None,
            bio: None,
            profile_image_url: None,
            preferences: Map::new(),
            is_active: true,
            is_superuser: false,
            last_login_ms: None,
            created_at_ms: now,
            updated_at_ms: now,
            era: 0,
            kept_login: None,
        }
    }

    /// The id in the domain's terms; it was checked before it was stored.
    pub(super) fn user_id(&self) -> UserId {
        UserId::from_trusted(self.id.clone())
    }

    /// Ends every login that there is, but `keep`.
    pub(super) fn end_logins(&mut self, keep: Option<&str>) {
        self.era = self.era.saturating_add(1);
        self.kept_login = keep.map(str::to_owned);
    }

    /// Which of its logins count.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            is_active: self.is_active,
            era: self.era,
            kept_login: self.kept_login.clone(),
        }
    }

    /// Whether a login still counts.
    pub(super) fn admits(&self, login: &str) -> bool {
        self.standing().admits(login)
    }

    pub(super) fn profile(&self) -> UserProfile {
        UserProfile {
            public: UserPublic {
                id: self.id.clone(),
                username: self.username.clone(),
                full_name: self.full_name.clone(),
                profile_image_url: self.profile_image_url.clone(),
                bio: self.bio.clone(),
                created_at: rfc3339(self.created_at_ms),
            },
            email: self.email.clone(),
            is_active: self.is_active,
            preferences: self.preferences.clone(),
            last_login: self.last_login_ms.map(rfc3339),
            updated_at: rfc3339(self.updated_at_ms),
        }
    }

    pub(super) fn in_db(&self) -> UserInDb {
        UserInDb {
            id: self.id.clone(),
            username: self.username.clone(),
            email: self.email.clone(),
            full_name: self.full_name.clone(),
            bio: self.bio.clone(),
            profile_image_url: self.profile_image_url.clone(),
            preferences: self.preferences.clone(),
            is_active: self.is_active,
            is_superuser: self.is_superuser,
            last_login: self.last_login_ms.map(rfc3339),
            created_at: rfc3339(self.created_at_ms),
            updated_at: rfc3339(self.updated_at_ms),
        }
    }
}

/// Which logins of a user count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    is_active: bool,
    pub(super) era: u64,
    kept_login: Option<String>,
}

impl Standing {
    /// Whether a login still counts.
    pub(super) fn admits(&self, login: &str) -> bool {
        self.is_active && (era_of(login) >= self.era || self.kept_login.as_deref() == Some(login))
    }
}

/// Begins the id of what stands for a login with an outside provider.
pub(super) const OUTSIDE: &str = "out:";

/// Makes the id of a new login of a user's era.
pub(super) fn login_id(secret: &str, user: &str, era: u64) -> String {
    format!("{secret}.{user}.{era}")
}

/// Makes the id of what stands for a login with an outside provider.
pub(super) fn outside_login(token: &str, user: &UserId) -> String {
    format!("{OUTSIDE}{token}.{user}")
}

/// Whose login it is: not always the user of a principal, for a superuser may act as others.
pub(super) fn owner_of(login: &str) -> Option<&str> {
    let (_, rest) = login.split_once('.')?;
    if login.starts_with(OUTSIDE) {
        Some(rest)
    } else {
        rest.rsplit_once('.').map(|(user, _)| user)
    }
}

/// The era of its user in which a login began. An outside provider's logins know no era: they never end by it.
pub(super) fn era_of(login: &str) -> u64 {
    if login.starts_with(OUTSIDE) {
        return u64::MAX;
    }
    login
        .rsplit_once('.')
        .and_then(|(_, era)| era.parse().ok())
        .unwrap_or(0)
}

/// What anybody may see of a user.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct UserPublic {
    /// Id of the user.
    id: String,
    /// Its unique name.
    username: String,
    /// Its name for people.
    full_name: Option<String>,
    /// Address of its picture, http or https.
    profile_image_url: Option<String>,
    /// What it says about itself.
    bio: Option<String>,
    /// When it was made.
    created_at: String,
}

/// What a user sees of itself.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct UserProfile {
    #[serde(flatten)]
    public: UserPublic,
    /// Its unique e-mail address.
    email: String,
    /// Whether its tokens are taken.
    is_active: bool,
    /// Whatever clients keep with it.
    preferences: Map<String, Value>,
    /// When it logged in last.
    last_login: Option<String>,
    /// When it was changed last.
    updated_at: String,
}

/// Everything about a user but its password.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct UserInDb {
    /// Id of the user.
    id: String,
    /// Its unique name.
    username: String,
    /// Its unique e-mail address.
    email: String,
    /// Its name for people.
    full_name: Option<String>,
    /// What it says about itself.
    bio: Option<String>,
    /// Address of its picture, http or https.
    profile_image_url: Option<String>,
    /// Whatever clients keep with it.
    preferences: Map<String, Value>,
    /// Whether its tokens are taken.
    is_active: bool,
    /// Whether it may do everything with everybody's things.
    is_superuser: bool,
    /// When it logged in last.
    last_login: Option<String>,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// Who is calling: a profile, as far as there is a user, and the roles.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Me {
    /// Id of the caller.
    id: String,
    /// Its name; of a guest the id.
    username: String,
    /// Its name for people.
    full_name: Option<String>,
    /// Address of its picture.
    profile_image_url: Option<String>,
    /// What it says about itself.
    bio: Option<String>,
    /// When it was made; null for a guest.
    created_at: Option<String>,
    /// Its e-mail address; null for a guest.
    email: Option<String>,
    /// Whether its tokens are taken.
    is_active: bool,
    /// Whatever clients keep with it.
    preferences: Map<String, Value>,
    /// When it logged in last.
    last_login: Option<String>,
    /// When it was changed last; null for a guest.
    updated_at: Option<String>,
    /// The same as `id`.
    user_id: String,
    /// `guest`, or `user` and perhaps `superuser`.
    roles: Vec<&'static str>,
}

impl Me {
    /// Of a caller whom this server keeps.
    pub(super) fn known(user: &User, roles: Vec<&'static str>) -> Self {
        Self {
            id: user.id.clone(),
            username: user.username.clone(),
            full_name: user.full_name.clone(),
            profile_image_url: user.profile_image_url.clone(),
            bio: user.bio.clone(),
            created_at: Some(rfc3339(user.created_at_ms)),
            email: Some(user.email.clone()),
            is_active: user.is_active,
            preferences: user.preferences.clone(),
            last_login: user.last_login_ms.map(rfc3339),
            updated_at: Some(rfc3339(user.updated_at_ms)),
            user_id: user.id.clone(),
            roles,
        }
    }

    /// Of a guest, or of somebody whom only the outside provider knows.
    pub(super) fn stranger(id: &str, name: Option<&str>, roles: Vec<&'static str>) -> Self {
        Self {
            id: id.to_owned(),
            username: name.unwrap_or(id).to_owned(),
            full_name: None,
            profile_image_url: None,
            bio: None,
            created_at: None,
            email: None,
            is_active: true,
            preferences: Map::new(),
            last_login: None,
            updated_at: None,
            user_id: id.to_owned(),
            roles,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_of_an_earlier_era_end_but_the_one_that_is_kept() {
        let mut user = User::new("ada", "ada@example.com", String::new(), 0);
        let (first, second) = (login_id("a", "u", user.era), login_id("b", "u", user.era));
        assert!(user.admits(&first) && user.admits("of-an-older-version"));
        user.end_logins(Some(&second));
        assert!(!user.admits(&first) && user.admits(&second) && !user.admits("of-an-older-version"));
        let third = login_id("c", "u", user.era);
        assert!(user.admits(&third) && user.admits("out:abc"));
        user.end_logins(None);
        assert!(!user.admits(&second) && !user.admits(&third));
        user.is_active = false;
        assert!(!user.admits(&login_id("d", "u", user.era)) && !user.admits("out:abc"));
    }

    #[test]
    fn a_login_says_whose_it_is() {
        assert_eq!(owner_of(&login_id("a", "u.v", 7)), Some("u.v"));
        assert_eq!(owner_of(&outside_login("a", &"u.v".parse().unwrap())), Some("u.v"));
        assert_eq!(owner_of("of-an-older-version"), None);
    }

    #[test]
    fn the_shapes_are_those_of_the_contract() {
        let user = User::new("ada", "ada@example.com", "$hash".to_owned(), 0);
        let keys = |value: Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort_unstable();
            keys.join(" ")
        };
        let profile = serde_json::to_value(user.profile()).unwrap();
        assert_eq!(
            keys(profile),
            "bio created_at email full_name id is_active last_login preferences profile_image_url updated_at username"
        );
        let in_db = serde_json::to_value(user.in_db()).unwrap();
        assert_eq!(
            keys(in_db),
            "bio created_at email full_name id is_active is_superuser last_login preferences profile_image_url \
             updated_at username"
        );
    }
}
