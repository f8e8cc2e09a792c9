//! What a user must be like, and the bodies and queries of `/auth` and `/users`.

use kronos_protocol::ids::UserId;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use crate::edge::input::{Field, Fields, Input, Rule, field};

/// Longest e-mail address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const EMAIL_CHARS: usize = 254;

/// Largest `preferences`, encoded.
const PREFERENCES_BYTES: usize = 16 * 1024;

/// Longest token that is looked at, in characters.
const TOKEN_CHARS: usize = 4096;

/// Longest name or password of a login that is looked at, in characters.
const LOGIN_CHARS: usize = 1000;

/// Users of one page, and most of them.
const PAGE: u64 = 50;
const MAX_PAGE: u64 = 100;

/// Which usernames there are.
const USERNAME: Rule = Rule {
    pattern: "^[A-Za-z0-9_.-]+$",
    keeps: |name| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    },
    message: "Letters, digits, '_', '.' and '-' only",
    kind: "string_pattern_mismatch",
};

/// The form of an e-mail address.
const EMAIL: Rule = Rule {
    pattern: r"^(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$",
    keeps: has_form_of_email,
    message: "value is not a valid email address",
    kind: "value_error",
};

/// The address of a picture, or nothing.
const IMAGE: Rule = Rule {
    pattern: "^(https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?([/?#][!-~]*)?)?$",
    keeps: |text| text.is_empty() || is_web_address(text),
    message: "Input should be an http or https address",
    kind: "url_parsing",
};

/// Whether a user may be called so.
pub(crate) fn is_username(name: &str) -> bool {
    (3..=50).contains(&name.len()) && (USERNAME.keeps)(name)
}

/// Whether a password has the right length.
pub(crate) fn is_password(password: &str) -> bool {
    (8..=128).contains(&password.chars().count())
}

/// Whether a text is an e-mail address by its form.
pub(crate) fn is_email(text: &str) -> bool {
    text.len() <= EMAIL_CHARS && has_form_of_email(text)
}

fn has_form_of_email(text: &str) -> bool {
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

fn is_web_address(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (name, port) = host
        .split_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)));
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    is_edge(name.bytes().next())
        && is_edge(name.bytes().last())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        && port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()))
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

fn username() -> Field {
    field("username")
        .doc("Unique in any case: letters, digits, `_`, `.`, `-`.")
        .example("ada")
}

fn email() -> Field {
    field("email").doc("Unique in any case.").example("ada@example.com")
}

fn password() -> Field {
    field("password")
        .doc("Kept as an argon2id hash.")
        .example("correct horse battery")
}

/// The texts that a user has about itself; an empty one is none.
fn full_name(fields: &mut Fields) -> Option<String> {
    let about = field("full_name").doc("The name for people; empty: none.");
    fields.text(about.example("Ada Lovelace"), 0, 255)
}

fn bio(fields: &mut Fields) -> Option<String> {
    fields.text(
        field("bio").doc("What the user says about itself; empty: nothing."),
        0,
        1000,
    )
}

fn image(fields: &mut Fields) -> Option<String> {
    let about = field("profile_image_url").doc("Address of a picture, http or https; empty: none.");
    fields.text_of(about.example("https://example.com/ada.png"), 0, 500, IMAGE)
}

fn preferences(fields: &mut Fields) -> Option<Map<String, Value>> {
    let about = field("preferences").doc("Whatever clients keep with the user, at most 16 KiB as JSON.");
    fields.object(about, PREFERENCES_BYTES)
}

fn confirm(fields: &mut Fields, password: Option<&str>) {
    let about = field("confirm_password").doc("The same as `password`, when it is there.");
    let confirm = fields.text(about, 0, LOGIN_CHARS);
    if let (Some(password), Some(confirm)) = (password, confirm)
        && password != confirm
    {
        fields.refuse("confirm_password", "Passwords do not match", "value_error");
    }
}

/// What every new user says about itself.
#[derive(Debug)]
pub(crate) struct Signup {
    pub(super) username: String,
    pub(super) email: String,
    pub(super) password: SecretString,
    pub(super) full_name: Option<String>,
    pub(super) bio: Option<String>,
    pub(super) preferences: Map<String, Value>,
}

impl Input for Signup {
    const NAME: &'static str = "Signup";

    fn read(fields: &mut Fields) -> Option<Self> {
        let username = fields.required_text_of(username(), 3, 50, USERNAME);
        let email = fields.required_text_of(email(), 3, EMAIL_CHARS, EMAIL);
        let password = fields.required_text(password(), 8, 128);
        confirm(fields, password.as_deref());
        let (full_name, bio) = (full_name(fields), bio(fields));
        let preferences = preferences(fields).unwrap_or_default();
        Some(Self {
            username: username?,
            email: email?,
            password: password?.into(),
            full_name,
            bio,
            preferences,
        })
    }
}

/// What a superuser says about a new user.
#[derive(Debug)]
pub(crate) struct NewUser {
    /// The id that the outside provider gives it; only where tokens come from there.
    pub(super) id: Option<UserId>,
    pub(super) username: String,
    pub(super) email: String,
    /// Absent only together with an `id`.
    pub(super) password: Option<SecretString>,
    pub(super) full_name: Option<String>,
    pub(super) bio: Option<String>,
    pub(super) profile_image_url: Option<String>,
    pub(super) preferences: Map<String, Value>,
    pub(super) is_active: bool,
    pub(super) is_superuser: bool,
}

impl From<Signup> for NewUser {
    fn from(signup: Signup) -> Self {
        Self {
            id: None,
            username: signup.username,
            email: signup.email,
            password: Some(signup.password),
            full_name: signup.full_name,
            bio: signup.bio,
            profile_image_url: None,
            preferences: signup.preferences,
            is_active: true,
            is_superuser: false,
        }
    }
}

impl Input for NewUser {
    const NAME: &'static str = "NewUser";

    fn read(fields: &mut Fields) -> Option<Self> {
        let username = fields.required_text_of(username(), 3, 50, USERNAME);
        let email = fields.required_text_of(email(), 3, EMAIL_CHARS, EMAIL);
        let outside = fields.bounds().outside_tokens;
        let (id, password) = if outside {
            let id =
                field("id").doc("The `sub` that the identity provider gives the user; then no password is needed.");
            (fields.id::<UserId>(id), fields.text(password(), 8, 128))
        } else {
            (None, fields.required_text(password(), 8, 128))
        };
        confirm(fields, password.as_deref());
        let (full_name, bio, image) = (full_name(fields), bio(fields), image(fields));
        let preferences = preferences(fields).unwrap_or_default();
        let active = fields.boolean(field("is_active").doc("Whether its tokens are taken; yes by default."));
        let superuser = fields.boolean(field("is_superuser").doc("Whether it may do everything; no by default."));
        if outside && id.is_none() && password.is_none() {
            fields.refuse("password", "Field required where there is no id", "missing");
        }
        Some(Self {
            id,
            username: username?,
            email: email?,
            password: password.map(SecretString::from),
            full_name,
            bio,
            profile_image_url: image,
            preferences,
            is_active: active.unwrap_or(true),
            is_superuser: superuser.unwrap_or(false),
        })
    }
}

/// What is to change about a user: only what was sent.
#[derive(Debug, Default)]
pub(crate) struct UserUpdate {
    pub(super) username: Option<String>,
    pub(super) email: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) full_name: Option<String>,
    pub(super) bio: Option<String>,
    pub(super) profile_image_url: Option<String>,
    pub(super) preferences: Option<Map<String, Value>>,
    pub(super) is_active: Option<bool>,
    pub(super) is_superuser: Option<bool>,
}

impl Input for UserUpdate {
    const NAME: &'static str = "UserUpdate";

    fn read(fields: &mut Fields) -> Option<Self> {
        let username = fields.text_of(username(), 3, 50, USERNAME);
        let email = fields.text_of(email(), 3, EMAIL_CHARS, EMAIL);
        let about = field("password").doc("A new one ends every other login of the user.");
        let password = fields.text(about, 8, 128);
        confirm(fields, password.as_deref());
        Some(Self {
            username,
            email,
            password: password.map(SecretString::from),
            full_name: full_name(fields),
            bio: bio(fields),
            profile_image_url: image(fields),
            preferences: preferences(fields),
            is_active: fields.boolean(field("is_active").doc("False ends its logins. Only by a superuser.")),
            is_superuser: fields.boolean(field("is_superuser").doc("False ends its logins. Only by a superuser.")),
        })
    }
}

impl UserUpdate {
    /// Whether it says something that only a superuser may.
    pub(super) const fn is_about_roles(&self) -> bool {
        self.is_active.is_some() || self.is_superuser.is_some()
    }
}

/// Who logs in: a username or an e-mail address, and a password. Bounds are wide: a wrong length is a wrong password, not
/// another answer.
#[derive(Debug)]
pub(crate) struct Login {
    pub(super) name: String,
    pub(super) password: SecretString,
}

impl Input for Login {
    const NAME: &'static str = "Login";

    fn read(fields: &mut Fields) -> Option<Self> {
        let about = field("username").doc("This or `email`.").example("ada");
        let (username, email) = (
            fields.text(about, 1, LOGIN_CHARS),
            fields.text(
                field("email").doc("This or `username`; it counts when both are there."),
                1,
                LOGIN_CHARS,
            ),
        );
        let name = email.or(username);
        if name.is_none() {
            fields.refuse("username", "Field required", "missing");
        }
        let password = fields.required_text(field("password").example("correct horse battery"), 1, LOGIN_CHARS);
        Some(Self {
            name: name?,
            password: password?.into(),
        })
    }

    fn rules(schema: &mut Value) {
        let named = |name: &str| json!({"required": [name], "properties": {name: {"type": "string"}}});
        schema["anyOf"] = json!([named("username"), named("email")]);
    }
}

/// A refresh token that is to be used.
#[derive(Debug)]
pub(crate) struct Refresh {
    pub(super) token: String,
}

impl Input for Refresh {
    const NAME: &'static str = "Refresh";

    fn read(fields: &mut Fields) -> Option<Self> {
        let about = field("refresh_token").doc("The newest one of its login: it is used up.");
        let token = fields.required_text(about.example("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.…"), 1, TOKEN_CHARS);
        Some(Self { token: token? })
    }
}

/// What ends beside the login that the access token stands for.
#[derive(Debug)]
pub(crate) struct Logout {
    pub(super) refresh_token: Option<String>,
}

impl Input for Logout {
    const NAME: &'static str = "Logout";

    fn read(fields: &mut Fields) -> Option<Self> {
        let about = field("refresh_token").doc("Of another login of the caller, to end that one too.");
        let refresh_token = fields.text(about, 1, TOKEN_CHARS);
        Some(Self { refresh_token })
    }
}

/// Which users are listed.
#[derive(Debug)]
pub(crate) struct ListUsers {
    pub(super) skip: u64,
    pub(super) limit: usize,
    /// The one with this username or e-mail address.
    pub(super) name: Option<String>,
}

impl Input for ListUsers {
    const NAME: &'static str = "ListUsers";

    fn read(fields: &mut Fields) -> Option<Self> {
        let about = field("skip").doc("Users to leave out, from the first; 0 by default.");
        let skip = fields.integer(about.example(0), 0, i64::MAX.unsigned_abs());
        let about = field("limit").doc("Users of a page; 50 by default.");
        let limit = fields.integer(about.example(50), 1, MAX_PAGE).unwrap_or(PAGE);
        let about = field("name").doc("Only the user with exactly this username or e-mail address, in any case.");
        let name = fields.text(about, 1, EMAIL_CHARS);
        Some(Self {
            skip: skip.unwrap_or(0),
            limit: usize::try_from(limit).unwrap_or(1),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::edge::{
        error::ApiError,
        input::{Bounds, read},
    };

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is not an object"),
        }
    }

    fn body<T: Input>(value: &Value, outside_tokens: bool) -> Result<T, ApiError> {
        let bounds = Bounds {
            outside_tokens,
            ..Bounds::default()
        };
        read("body", object(value.clone()), bounds)
    }

    fn wrong<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Vec<String> {
        let error = result.unwrap_err();
        rows(&error)
    }

    fn rows(error: &ApiError) -> Vec<String> {
        let rows = error.details["errors"].as_array().unwrap();
        rows.iter()
            .map(|row| row["field"].as_str().unwrap().replace("body.", ""))
            .collect()
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
    fn addresses_of_pictures_are_plain_web_addresses() {
        for good in [
            "https://a.ch",
            "http://a.b-c.ch:8080/x?y=1#z",
            "https://localhost/",
            "http://1.2.3.4",
        ] {
            assert!(is_web_address(good), "{good}");
        }
        for bad in [
            "ftp://a.ch",
            "https://",
            "https:///x",
            "https://user@a.ch",
            "javascript:alert(1)",
            "https://a.ch/ x",
            "https://a.ch:/",
            "https://a.ch:123456",
            "https://-a.ch",
            "HTTPS://a.ch",
            "https://a.ch\\@b.ch",
            "//a.ch",
        ] {
            assert!(!is_web_address(bad), "{bad}");
        }
    }

    #[test]
    fn a_signup_names_every_wrong_field() {
        let sent = json!({"username": "a b c", "email": "x", "password": "1234567", "confirm_password": "other",
            "bio": 1, "preferences": []});
        let expected = ["username", "email", "password", "bio", "preferences"];
        assert_eq!(wrong(body::<Signup>(&sent, false)), expected);
        assert_eq!(
            wrong(body::<Signup>(&json!({}), false)),
            ["username", "email", "password"]
        );
        let sent =
            json!({"username": "abc", "email": "a@b.ch", "password": "12345678", "confirm_password": "12345679"});
        assert_eq!(wrong(body::<Signup>(&sent, false)), ["confirm_password"]);
    }

    #[test]
    fn the_bounds_of_a_user_are_allowed_themselves() {
        let preferences = |bytes: usize| json!({"k": "x".repeat(bytes - r#"{"k":""}"#.len())});
        let address = |path: usize| json!(format!("https://a.ch/{}", "x".repeat(path)));
        for (field, good, bad) in [
            ("username", json!("abc"), json!("ab")),
            ("username", json!("a".repeat(50)), json!("a".repeat(51))),
            (
                "email",
                json!(format!("a@{}c.ch", "b.".repeat(124))),
                json!(format!("a@{}cc.ch", "b.".repeat(124))),
            ),
            ("email", json!("a@b.ch"), json!("a@b")),
            ("password", json!("12345678"), json!("1234567")),
            ("password", json!("ä".repeat(128)), json!("ä".repeat(129))),
            ("full_name", json!("ä".repeat(255)), json!("ä".repeat(256))),
            ("bio", json!("ä".repeat(1000)), json!("ä".repeat(1001))),
            ("profile_image_url", address(487), address(488)),
            ("profile_image_url", json!(""), json!("javascript:alert(1)")),
            ("preferences", preferences(16 * 1024), preferences(16 * 1024 + 1)),
            ("is_active", json!(false), json!("false")),
        ] {
            let mut sent = json!({"username": "abc", "email": "a@b.ch", "password": "12345678"});
            sent[field] = good.clone();
            assert!(body::<NewUser>(&sent, false).is_ok(), "{field}");
            assert!(body::<UserUpdate>(&json!({field: good}), false).is_ok(), "{field}");
            sent[field] = bad.clone();
            assert_eq!(wrong(body::<NewUser>(&sent, false)), [field]);
            assert_eq!(wrong(body::<UserUpdate>(&json!({field: bad}), false)), [field]);
        }
    }

    #[test]
    fn only_with_an_outside_provider_a_user_has_an_id_and_needs_no_password() {
        let sent = json!({"username": "abc", "email": "a@b.ch", "id": "auth0|1"});
        assert!(body::<NewUser>(&sent, true).is_ok_and(|user| user.id.is_some()));
        assert_eq!(wrong(body::<NewUser>(&sent, false)), ["password"]);
        let sent = json!({"username": "abc", "email": "a@b.ch"});
        assert_eq!(wrong(body::<NewUser>(&sent, true)), ["password"]);
    }

    #[test]
    fn a_login_wants_a_name_of_either_kind() {
        for name in ["username", "email"] {
            assert!(body::<Login>(&json!({name: "ada", "password": "x"}), false).is_ok());
        }
        assert_eq!(wrong(body::<Login>(&json!({"password": "x"}), false)), ["username"]);
        assert_eq!(wrong(body::<Login>(&json!({"username": "x"}), false)), ["password"]);
    }
}
