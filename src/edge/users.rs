//! The routes under `/users`: accounts, for superusers and for oneself.

use actix_web::{HttpResponse, web};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use serde_json::{Value, json};

use super::{
    EdgeState,
    accounts::{
        Accounts, UserInDb,
        inputs::{ListUsers, NewUser, UserUpdate},
    },
    auth::Caller,
    endpoint::{Endpoint, Tag, delete, get, post, put},
    error::ApiError,
    input::{Json, PathId, QueryOf, detached},
};

type State = web::Data<EdgeState>;

async fn list(state: State, caller: Caller, query: QueryOf<ListUsers>) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    Ok(HttpResponse::Ok().json(state.accounts.list_users(query.0).await?))
}

async fn create(state: State, caller: Caller, body: Json<NewUser>) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let accounts = state.accounts.clone();
    let user = detached(async move { accounts.create_user(body.0).await }).await?;
    Ok(HttpResponse::Created().json(user))
}

async fn show(state: State, caller: Caller, id: PathId<UserId>) -> Result<HttpResponse, ApiError> {
    Accounts::only_oneself(&caller.principal, &id.0)?;
    Ok(HttpResponse::Ok().json(state.accounts.show_user(&id.0).await?))
}

async fn update(
    state: State,
    caller: Caller,
    id: PathId<UserId>,
    body: Json<UserUpdate>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_oneself(&caller.principal, &id.0)?;
    let accounts = state.accounts.clone();
    let user = detached(async move { accounts.update_user(&caller.principal, &id.0, body.0).await }).await?;
    Ok(HttpResponse::Ok().json(user))
}

async fn remove(state: State, caller: Caller, id: PathId<UserId>) -> Result<HttpResponse, ApiError> {
    Accounts::only_oneself(&caller.principal, &id.0)?;
    let accounts = state.accounts.clone();
    detached(async move { accounts.remove_user(&id.0).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The paths of all users, and of one.
const ALL: &[&str] = &["/api/v1/users/", "/api/v1/users"];
const ONE: &[&str] = &["/api/v1/users/{id}"];

/// The endpoints under `/users`.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(ALL, list)
            .named("users_list", Tag::Users, "List users")
            .about("In the order of their ids: those that this server made, by age.")
            .superuser()
            .query::<ListUsers>()
            .returns::<Vec<UserInDb>>(200, "A page of users", || json!([user_example()])),
        post(ALL, create)
            .named("users_create", Tag::Users, "Make a user")
            .superuser()
            .body::<NewUser>()
            .returns::<UserInDb>(201, "The new user", user_example)
            .fails(&[ErrorCode::Conflict, ErrorCode::Overloaded]),
        get(ONE, show)
            .named("users_show", Tag::Users, "Show a user")
            .about("A superuser sees everybody, others themselves.")
            .users()
            .path::<UserId>("id", "Id of the user")
            .returns::<UserInDb>(200, "The user", user_example)
            .fails(&[ErrorCode::Forbidden]),
        put(ONE, update)
            .named("users_update", Tag::Users, "Change a user")
            .about(
                "Only what is sent changes. A superuser changes everybody, others themselves; `is_active` and \
                 `is_superuser` only a superuser. A new password ends every login but the caller's own; a user who is \
                 turned off, or is no superuser any more, is logged out everywhere.",
            )
            .users()
            .path::<UserId>("id", "Id of the user")
            .body::<UserUpdate>()
            .returns::<UserInDb>(200, "The user as it is now", user_example)
            .fails(&[ErrorCode::Forbidden, ErrorCode::Conflict, ErrorCode::Overloaded]),
        delete(ONE, remove)
            .named(
                "users_delete",
                Tag::Users,
                "Delete a user with everything that is theirs",
            )
            .about(
                "Its tokens stop working at once, its websockets are closed with 4401, its conversations and what is remembered about \
                 it are deleted. \
                 A superuser deletes anybody, others themselves.",
            )
            .users()
            .path::<UserId>("id", "Id of the user")
            .empty(204, "It is gone")
            .fails(&[ErrorCode::Forbidden]),
    ]
}

fn user_example() -> Value {
    json!({"id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80", "username": "ada", "email": "ada@example.com",
        "full_name": "Ada Lovelace", "bio": null, "profile_image_url": null, "preferences": {"theme": "dark"},
        "is_active": true, "is_superuser": false, "last_login": "2026-01-01T12:00:00Z",
        "created_at": "2026-01-01T12:00:00Z", "updated_at": "2026-01-01T12:00:00Z"})
}
