//! The routes under `/users/me/memories`: what is remembered about a user, for later conversations.

use actix_web::{HttpResponse, web};
use kronos_actors::{
    metrics as names,
    tools::memory::{Memory, MemoryError, NewMemory},
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{MemoryId, SessionId, UserId},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, delete, get, post},
    error::{ApiError, StoreFailure},
    input::{Fields, Input, Json, PathId, QueryOf, detached, field},
    rfc3339,
};

/// The paths of all notes, and of one.
const ALL: &[&str] = &["/api/v1/users/me/memories"];
const ONE: &[&str] = &["/api/v1/users/me/memories/{id}"];

/// Most notes of a page, and how many there are when nothing is said.
const MAX_PAGE: u64 = 200;
const PAGE: u64 = 50;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(ALL, list)
            .named("memories_list", Tag::Users, "List what is remembered about the caller")
            .about("Notes that the model made when it was told something worth it, and those that were added; oldest first.")
            .query::<ListQuery>()
            .returns::<Memories>(
                200,
                "A page of the notes",
                || json!({"items": [example()], "next_cursor": null}),
            ),
        post(ALL, add)
            .named("memories_add", Tag::Users, "Have something remembered")
            .about("Every later conversation begins with it. Refused with 409 when MAX_MEMORIES are there.")
            .body::<MemoryBody>()
            .returns::<MemoryItem>(201, "The new note", example)
            .fails(&[ErrorCode::Conflict, ErrorCode::Overloaded]),
        delete(ALL, clear)
            .named("memories_clear", Tag::Users, "Forget all that is remembered about the caller")
            .query::<OwnerQuery>()
            .empty(204, "Nothing is remembered any more")
            .fails(&[ErrorCode::Overloaded]),
        delete(ONE, remove)
            .named("memories_delete", Tag::Users, "Forget one thing that is remembered about the caller")
            .path::<MemoryId>("id", "The note")
            .query::<OwnerQuery>()
            .empty(204, "It is forgotten")
            .fails(&[ErrorCode::Overloaded]),
    ]
}

fn example() -> Value {
    json!({
        "id": "n_01926f3e8b1c7d3e9f002b1d5c6e7f80",
        "text": "Prefers short answers.",
        "created_at": "2026-11-27T12:00:00Z",
        "conversation_id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80",
    })
}

/// A note.
#[derive(Debug, Serialize, JsonSchema)]
struct MemoryItem {
    /// Its id.
    id: MemoryId,
    /// What is remembered.
    text: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// The conversation in which it was made; null when the user added it.
    conversation_id: Option<SessionId>,
}

impl From<Memory> for MemoryItem {
    fn from(memory: Memory) -> Self {
        Self {
            id: memory.id,
            text: memory.text,
            created_at: rfc3339(memory.created_at_ms),
            conversation_id: memory.session,
        }
    }
}

/// A page of notes.
#[derive(Debug, Serialize, JsonSchema)]
struct Memories {
    /// Oldest first.
    items: Vec<MemoryItem>,
    /// `cursor` of the next page; null when this is the last.
    next_cursor: Option<MemoryId>,
}

struct ListQuery {
    limit: usize,
    after: Option<MemoryId>,
    user: Option<UserId>,
}

impl Input for ListQuery {
    const NAME: &'static str = "ListMemories";

    fn read(fields: &mut Fields) -> Option<Self> {
        let limit = field("limit").doc("Notes of a page; 50 when it is left out");
        let limit = fields.integer(limit, 1, MAX_PAGE).unwrap_or(PAGE);
        let after = fields.id(field("cursor").doc("`next_cursor` of the page before"));
        let user = user_id(fields);
        Some(Self {
            limit: usize::try_from(limit).unwrap_or(1),
            after,
            user,
        })
    }
}

struct MemoryBody {
    text: String,
    user: Option<UserId>,
}

impl Input for MemoryBody {
    const NAME: &'static str = "NewMemory";

    fn read(fields: &mut Fields) -> Option<Self> {
        let most = fields.bounds().memory_chars;
        let text = field("text").doc("What to remember").example("Prefers short answers.");
        let text = fields.required_text(text, 1, most);
        if fields.refused("text", "string_too_long") {
            names::refused("memory_chars");
        }
        let user = user_id(fields);
        Some(Self { text: text?, user })
    }
}

/// Whose notes they are.
struct OwnerQuery {
    user: Option<UserId>,
}

impl Input for OwnerQuery {
    const NAME: &'static str = "MemoryOwner";

    fn read(fields: &mut Fields) -> Option<Self> {
        let user = user_id(fields);
        Some(Self { user })
    }
}

fn user_id(fields: &mut Fields) -> Option<UserId> {
    fields.id(field("user_id").doc("The caller's own id; may be left out"))
}

type State = web::Data<EdgeState>;

async fn list(state: State, caller: Caller, query: QueryOf<ListQuery>) -> Result<HttpResponse, ApiError> {
    let ListQuery { limit, after, user } = query.0;
    let caller = caller.acting_as(&state, user)?;
    let memories = state.wiring.tools.memories();
    let page = memories.list(&caller.user, after.as_ref(), limit + 1).await;
    let mut page = page.map_err(|cause| StoreFailure {
        operation: "list_memories",
        cause,
    })?;
    let more = page.len() > limit;
    page.truncate(limit);
    let next_cursor = page.last().filter(|_| more).map(|memory| memory.id.clone());
    let items = page.into_iter().map(MemoryItem::from).collect();
    Ok(HttpResponse::Ok().json(Memories { items, next_cursor }))
}

async fn add(state: State, caller: Caller, body: Json<MemoryBody>) -> Result<HttpResponse, ApiError> {
    let MemoryBody { text, user } = body.0;
    let caller = caller.acting_as(&state, user)?;
    let item = detached(async move {
        let new = NewMemory {
            text,
            session: None,
            key: None,
        };
        let added = state.wiring.tools.memories().add(&caller.user, new).await;
        added.map(MemoryItem::from).map_err(refusal)
    });
    Ok(HttpResponse::Created().json(item.await?))
}

fn refusal(error: MemoryError) -> ApiError {
    let text = error.to_string();
    match error {
        MemoryError::Empty | MemoryError::TooLong { .. } => ApiError::new(ErrorCode::Validation, text),
        MemoryError::Full { limit } => {
            ApiError::new(ErrorCode::Conflict, text).with_details(json!({"name": "memories", "limit": limit}))
        }
        MemoryError::UserGone => ApiError::new(ErrorCode::Conflict, text),
        MemoryError::Store(cause) => StoreFailure {
            operation: "add_memory",
            cause,
        }
        .into(),
    }
}

async fn remove(
    state: State,
    caller: Caller,
    id: PathId<MemoryId>,
    query: QueryOf<OwnerQuery>,
) -> Result<HttpResponse, ApiError> {
    let id = id.0;
    let caller = caller.acting_as(&state, query.0.user)?;
    detached(async move {
        let forgotten = state.wiring.tools.memories().forget(&caller.user, &id).await;
        let forgotten = forgotten.map_err(|cause| StoreFailure {
            operation: "delete_memory",
            cause,
        })?;
        if forgotten {
            Ok(())
        } else {
            Err(ApiError::not_found("Memory", id.as_str()))
        }
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn clear(state: State, caller: Caller, query: QueryOf<OwnerQuery>) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, query.0.user)?;
    detached(async move {
        let cleared = state.wiring.tools.memories().forget_all(&caller.user).await;
        cleared.map_err(|cause| StoreFailure {
            operation: "delete_memories",
            cause,
        })?;
        Ok(())
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}
