//! Where users are kept: documents `user` (by id), `username` and `email` (lower case, pointing at the id: what makes them
//! unique). Every change is one atomic write that names what it was made from.

use bytes::Bytes;
use kronos_actors::store::{DocumentWrite, Expect, Refusal, Request, StoreError, service::StoreRef};
use kronos_protocol::error::ErrorCode;
use serde_json::json;

use super::user::User;
use crate::edge::error::{ApiError, StoreFailure};

/// Family of the users.
pub(super) const USER: &str = "user";
const USERNAME: &str = "username";
const EMAIL: &str = "email";

/// Longest name that can exist, in bytes: longer ones are nobody's.
const NAME_BYTES: usize = 254;

/// Users read at once.
const PAGE: usize = 500;

/// How often a change is tried again because somebody else changed the user meanwhile.
const TRIES: u32 = 16;

/// The users of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Records(pub(super) StoreRef);

/// A user, and the bytes that it was read from.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) bytes: Bytes,
    pub(super) user: User,
}

/// A change that was made.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) before: User,
    pub(super) after: User,
}

impl Records {
    /// Reads a user.
    pub(super) async fn get(&self, id: &str) -> Result<Option<Record>, StoreError> {
        let Some(bytes) = self.0.document(USER, id).await? else {
            return Ok(None);
        };
        let user = decode(&bytes)?;
        Ok(Some(Record { bytes, user }))
    }

    /// Finds a user by username or e-mail address, in any case.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let family = if name.contains('@') { EMAIL } else { USERNAME };
        let name = name.to_lowercase();
        let id = if name.len() <= NAME_BYTES {
            self.0.document(family, &name).await?
        } else {
            None
        };
        // Who is nobody costs a read of a user, too.
        let id = id.map_or_else(String::new, |id| String::from_utf8_lossy(&id).into_owned());
        self.get(&id).await
    }

    /// Users in the order of their ids: those that this server made, by age.
    pub(super) async fn page(&self, skip: u64, limit: usize) -> Result<Vec<User>, StoreError> {
        let (mut left, mut after, mut users) = (skip, None::<String>, Vec::new());
        while users.len() < limit {
            let wanted = limit - users.len();
            let ask = usize::try_from(left).unwrap_or(PAGE).saturating_add(wanted).min(PAGE);
            let page = self.0.documents(USER, "", after.as_deref(), ask).await?;
            let (read, is_last) = (page.len(), page.len() < ask);
            after = page.last().map(|(key, _)| key.clone());
            let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(read);
            left -= skipped as u64;
            for (_, bytes) in page.iter().skip(skipped).take(wanted) {
                users.push(decode(bytes)?);
            }
            if is_last {
                break;
            }
        }
        Ok(users)
    }

    /// Keeps a new user.
    pub(super) async fn insert(&self, user: &User) -> Result<(), ApiError> {
        let id = || Bytes::from(user.id.clone());
        let documents = vec![
            write(USER, user.id.clone(), Some(encode(user)?), Expect::Absent),
            write(USERNAME, user.username.to_lowercase(), Some(id()), Expect::Absent),
            write(EMAIL, user.email.to_lowercase(), Some(id()), Expect::Absent),
            // Who was deleted does not come back under the same id.
            write(kronos_actors::principal::REMOVED, user.id.clone(), None, Expect::Absent),
        ];
        match self.commit(documents).await {
            Err(StoreError::Refused(Refusal::Condition { family, .. })) => Err(taken(family)),
            result => result.map_err(|cause| failed("insert_user", cause)),
        }
    }

    /// Changes a user and the names that point at it, `with` other documents, as one. `edit` may be asked again.
    pub(super) async fn change(
        &self,
        id: &str,
        mut edit: impl FnMut(&mut User) -> Result<Vec<DocumentWrite>, ApiError>,
    ) -> Result<Changed, ApiError> {
        for _ in 0..TRIES {
            let found = self.get(id).await.map_err(|cause| failed("change_user", cause))?;
            let Record { bytes, user: before } = found.ok_or_else(|| ApiError::not_found("User", id))?;
            let mut after = before.clone();
            let with = edit(&mut after)?;
            let mut documents = vec![write(USER, id.to_owned(), Some(encode(&after)?), Expect::Value(bytes))];
            rename(&mut documents, USERNAME, id, &before.username, &after.username);
            rename(&mut documents, EMAIL, id, &before.email, &after.email);
            documents.extend(with);
            match self.commit(documents).await {
                Ok(()) => return Ok(Changed { before, after }),
                Err(StoreError::Refused(Refusal::Condition { family, .. })) if family != USER => {
                    return Err(taken(family));
                }
                Err(StoreError::Refused(Refusal::Condition { .. })) => {}
                Err(cause) => return Err(failed("change_user", cause)),
            }
        }
        Err(ApiError {
            after_ms: Some(1000),
            ..ApiError::new(ErrorCode::Overloaded, "The user is changed by too many at once")
        })
    }

    /// The writes that take a user and its names away.
    pub(super) fn removal(record: &Record) -> Vec<DocumentWrite> {
        let Record { bytes, user } = record;
        vec![
            write(USER, user.id.clone(), None, Expect::Value(bytes.clone())),
            write(USERNAME, user.username.to_lowercase(), None, Expect::Any),
            write(EMAIL, user.email.to_lowercase(), None, Expect::Any),
        ]
    }

    /// Writes documents as one.
    pub(super) async fn commit(&self, documents: Vec<DocumentWrite>) -> Result<(), StoreError> {
        let request = Request {
            documents,
            ..Request::default()
        };
        self.0.commit(request).await
    }
}

/// Moves a name that differs by more than case.
fn rename(documents: &mut Vec<DocumentWrite>, family: &'static str, id: &str, from: &str, to: &str) {
    let (from, to) = (from.to_lowercase(), to.to_lowercase());
    if from != to {
        documents.push(write(family, from, None, Expect::Any));
        documents.push(write(family, to, Some(Bytes::from(id.to_owned())), Expect::Absent));
    }
}

fn decode(bytes: &Bytes) -> Result<User, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt {
        at: USER.to_owned(),
        what: error.to_string(),
    })
}

/// One write of a document.
pub(super) fn write(family: &'static str, key: String, value: Option<Bytes>, expect: Expect) -> DocumentWrite {
    DocumentWrite {
        family,
        key,
        value,
        expect,
    }
}

/// Writes a value as a document.
pub(super) fn encode(value: &impl serde::Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "document cannot be written");
        ApiError::internal()
    })
}

/// What the store could not do, for a client.
pub(super) fn failed(operation: &'static str, cause: StoreError) -> ApiError {
    StoreFailure { operation, cause }.into()
}

pub(super) fn taken(family: &str) -> ApiError {
    let field = match family {
        EMAIL => "email",
        USERNAME => "username",
        _ => "id",
    };
    ApiError::new(ErrorCode::Conflict, format!("This {field} is taken"))
        .with_details(json!({"resource": "User", "field": field}))
}
