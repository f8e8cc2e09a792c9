//! What is stored about a user, what of it is shown, and what a new one must be like.

use kronos_actors::clock::Millis;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::edge::{error::ApiError, input::Fields, rfc3339};

/// Longest e-mail address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const EMAIL_CHARS: usize = 254;

/// Largest `preferences`, encoded.
const PREFERENCES_BYTES: usize = 16 * 1024;

/// A user as stored: documents of family `user`, by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) username: String,
    pub(super) email: String,
    /// An argon2id hash in PHC form; never shown.
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
}

impl User {
    /// Returns the UserProfile of the contract.
    pub(super) fn profile(&self) -> Value {
        json!({
            "id": self.id,
            "username": self.username,
            "email": self.email,
            "full_name": self.full_name,
            "bio": self.bio,
            "profile_image_url": self.profile_image_url,
            "preferences": self.preferences,
            "is_active": self.is_active,
            "last_login": self.last_login_ms.map(rfc3339),
            "created_at": rfc3339(self.created_at_ms),
            "updated_at": rfc3339(self.updated_at_ms),
        })
    }
}

/// A signup that was understood.
#[derive(Debug)]
pub(super) struct Signup {
    pub(super) username: String,
    pub(super) email: String,
    pub(super) password: SecretString,
    pub(super) full_name: Option<String>,
    pub(super) bio: Option<String>,
    pub(super) preferences: Map<String, Value>,
}

impl Signup {
    /// Reads a body; every wrong field has a row.
    pub(super) fn read(body: Map<String, Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::new("body", body);
        let username = fields.required_text("username", 3, 50);
        if username.as_deref().is_some_and(|name| !name.bytes().all(is_name_byte)) {
            fields.refuse(
                "username",
                "Letters, digits, '_', '.' and '-' only",
                "string_pattern_mismatch",
            );
        }
        let email = fields.required_text("email", 3, EMAIL_CHARS);
        if email.as_deref().is_some_and(|email| !is_email(email)) {
            fields.refuse("email", "value is not a valid email address", "value_error");
        }
        let password = fields.required_text("password", 8, 128);
        let confirm = fields.text("confirm_password", 0, usize::MAX);
        if let (Some(password), Some(confirm)) = (&password, &confirm)
            && password != confirm
        {
            fields.refuse("confirm_password", "Passwords do not match", "value_error");
        }
        let full_name = fields.text("full_name", 0, 255);
        let bio = fields.text("bio", 0, 1000);
        let preferences = fields.object("preferences", PREFERENCES_BYTES).unwrap_or_default();
        fields.finish()?;
        match (username, email, password) {
            (Some(username), Some(email), Some(password)) => Ok(Self {
                username,
                email,
                password: password.into(),
                full_name,
                bio,
                preferences,
            }),
            _ => Err(ApiError::internal()),
        }
    }
}

/// Who logs in: a username or an e-mail address, and a password.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) password: SecretString,
}

impl Login {
    /// Reads a body. Bounds are wide: a wrong length is a wrong password, not another answer.
    pub(super) fn read(body: Map<String, Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::new("body", body);
        let email = fields.text("email", 1, 1000);
        let name = match email {
            Some(email) => Some(email),
            None => fields.required_text("username", 1, 1000),
        };
        let password = fields.required_text("password", 1, 1000);
        fields.finish()?;
        match (name, password) {
            (Some(name), Some(password)) => Ok(Self {
                name,
                password: password.into(),
            }),
            _ => Err(ApiError::internal()),
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let local_is_good = (1..=64).contains(&local.len())
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
    local_is_good && domain.contains('.') && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is not an object"),
        }
    }

    #[test]
    fn addresses_are_checked_for_their_form() {
        for good in ["a@b.ch", "first.last+tag@mail.example.com", "o'neill@example.ie"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "", "a", "@b.ch", "a@", "a@b", "a b@c.ch", "a@b..ch", ".a@b.ch", "a@-b.ch", "a@b@c.ch", "a@b.ch\n",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_signup_names_every_wrong_field() {
        let body = json!({"username": "a b c", "email": "x", "password": "1234567", "confirm_password": "other", "bio": 1, "preferences": []});
        let error = Signup::read(object(body)).unwrap_err();
        let rows = error.details["errors"].as_array().unwrap().clone();
        let fields: Vec<_> = rows
            .iter()
            .map(|row| row["field"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            fields,
            [
                "body.username",
                "body.email",
                "body.password",
                "body.bio",
                "body.preferences"
            ]
        );
    }

    #[test]
    fn the_bounds_of_a_signup_are_allowed_themselves() {
        for (name, password, good) in [
            ("abc", "12345678", true),
            ("ab", "12345678", false),
            (&"a".repeat(50), &"p".repeat(128), true),
            (&"a".repeat(51), "12345678", false),
            ("abc", &"p".repeat(129), false),
            ("abc", "1234567", false),
        ] {
            let body = json!({"username": name, "email": "a@b.ch", "password": password});
            assert_eq!(Signup::read(object(body)).is_ok(), good, "{name} {password}");
        }
    }
}
