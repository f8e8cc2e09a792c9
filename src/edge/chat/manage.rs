//! Changing: another title, the end of a conversation, and opening one that was closed because it failed.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use kronos_actors::{
    directory::{DirectoryRef, parked::Reason},
    principal::Principal,
    session::message::{SessionCommand, SessionError},
    store::SessionMeta,
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{SessionId, UserId},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    ask,
    pages::{ConversationItem, example_item, user_id},
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, delete, patch, post},
    error::{ApiError, StoreFailure},
    input::{Fields, Input, Json, PathId, QueryOf, detached, field},
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        patch(&["/api/v1/chat/{id}"], rename)
            .named("chat_rename", Tag::Chat, "Give a conversation a title")
            .about("Attached websockets see it live, and the user's feed tells of it.")
            .path::<SessionId>("id", "The conversation")
            .body::<TitleBody>()
            .returns::<ConversationItem>(200, "The conversation as it is listed now", example_item)
            .fails(&[ErrorCode::Overloaded]),
        delete(&["/api/v1/chat/{id}"], remove)
            .named("chat_delete", Tag::Chat, "Delete a conversation")
            .about("Its run is stopped, attached websockets are told that it is gone, and the user's feed tells of it.")
            .path::<SessionId>("id", "The conversation")
            .query::<OwnerQuery>()
            .empty(204, "It is gone")
            .fails(&[ErrorCode::Overloaded]),
        post(&["/api/v1/chat/{id}/unpark"], unpark)
            .named(
                "chat_unpark",
                Tag::Chat,
                "Open a conversation that was closed because it failed repeatedly",
            )
            .about("One that an operator closed only a superuser opens.")
            .path::<SessionId>("id", "The conversation")
            .query::<OwnerQuery>()
            .returns::<Unparked>(
                200,
                "Whether it was closed",
                || json!({"id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80", "unparked": true}),
            ),
    ]
}

struct TitleBody {
    title: String,
    user: Option<UserId>,
}

impl Input for TitleBody {
    const NAME: &'static str = "ConversationTitle";

    fn read(fields: &mut Fields) -> Option<Self> {
        let most = fields.bounds().title_chars;
        let title = fields.required_text(field("title").doc("The title").example("Capitals"), 1, most);
        let user = user_id(fields);
        Some(Self { title: title?, user })
    }
}

/// Whose conversation it is.
struct OwnerQuery {
    user: Option<UserId>,
}

impl Input for OwnerQuery {
    const NAME: &'static str = "ConversationOwner";

    fn read(fields: &mut Fields) -> Option<Self> {
        let user = user_id(fields);
        Some(Self { user })
    }
}

/// Whether a conversation was closed.
#[derive(Debug, Serialize, JsonSchema)]
struct Unparked {
    /// The conversation.
    id: SessionId,
    /// It was closed and is open now; false: it was open.
    unparked: bool,
}

async fn meta(state: &EdgeState, id: &SessionId) -> Result<Option<SessionMeta>, ApiError> {
    let failed = |cause| StoreFailure {
        operation: "read_conversation",
        cause,
    };
    Ok(state.wiring.store.meta(id).await.map_err(failed)?)
}

/// The owner of a conversation that the caller may change: its feed is told, also when it is a superuser who does it.
fn owner(caller: &Arc<Principal>, meta: Option<&SessionMeta>) -> Arc<Principal> {
    match meta {
        Some(meta) if meta.owner != caller.user => Arc::new(Principal {
            user: meta.owner.clone(),
            ..caller.as_ref().clone()
        }),
        _ => Arc::clone(caller),
    }
}

async fn rename(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    body: Json<TitleBody>,
) -> Result<HttpResponse, ApiError> {
    let (id, TitleBody { title, user }) = (id.0, body.0);
    let caller = caller.acting_as(&state, user)?;
    let item = detached(async move {
        let session = directory.resolve(&id).await?;
        let command = SessionCommand::Rename { title: title.clone() };
        ask(&directory, session, &caller, command).await?;
        let meta = meta(&state, &id).await?.ok_or_else(|| SessionError::not_found(&id))?;
        directory.tell_updated(&owner(&caller, Some(&meta)), &id, &title).await;
        Ok(ConversationItem::of(&meta))
    });
    Ok(HttpResponse::Ok().json(item.await?))
}

async fn remove(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    query: QueryOf<OwnerQuery>,
) -> Result<HttpResponse, ApiError> {
    let id = id.0;
    let caller = caller.acting_as(&state, query.0.user)?;
    detached(async move {
        let meta = meta(&state, &id).await?;
        let session = directory.resolve(&id).await?;
        let command = SessionCommand::Delete { unless_busy: false };
        ask(&directory, session, &caller, command).await?;
        directory.tell_deleted(&owner(&caller, meta.as_ref()), &id).await;
        Ok(())
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unpark(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    query: QueryOf<OwnerQuery>,
) -> Result<HttpResponse, ApiError> {
    let id = id.0;
    let caller = caller.acting_as(&state, query.0.user)?;
    // Its actor cannot be asked whose it is.
    let meta = meta(&state, &id).await?;
    if !meta.is_some_and(|meta| meta.owner == caller.user || caller.superuser) {
        return Err(SessionError::not_found(&id).into());
    }
    let by_operator = directory
        .parking(&id)
        .is_some_and(|parking| parking.reason == Reason::Operator);
    if by_operator && !caller.superuser {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "An operator has closed this conversation",
        ));
    }
    let unparked = directory.unpark(&id).await.map_err(|cause| StoreFailure {
        operation: "unpark",
        cause,
    })?;
    Ok(HttpResponse::Ok().json(Unparked { id, unparked }))
}
