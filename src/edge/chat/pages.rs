//! Reading: the list of conversations, one conversation, pages of its messages.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kronos_actors::{
    clock::Millis,
    directory::DirectoryRef,
    principal::Principal,
    session::message::{Page, SessionCommand, SessionReply, View},
    store::{ListPosition, SessionMeta},
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{MessageId, RunId, SessionId, UserId},
    message::Message,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ask, unexpected};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, get},
    error::{ApiError, Row, StoreFailure},
    input::{Fields, Input, PathId, QueryOf, field},
    rfc3339,
};

/// Messages of one page of a conversation.
pub(crate) const PAGE: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/chat/", "/api/v1/chat"], list)
            .named("chat_list", Tag::Chat, "List conversations")
            .about("The caller's conversations, newest first.")
            .query::<ListQuery>()
            .returns::<Conversations>(
                200,
                "A page of the list",
                || json!({"items": [example_item()], "next_cursor": null}),
            ),
        get(&["/api/v1/chat/{id}"], show)
            .named("chat_show", Tag::Chat, "Show a conversation")
            .about("With its last 100 messages, or the 100 before one of them.")
            .path::<SessionId>("id", "The conversation")
            .query::<ShowQuery>()
            .returns::<Conversation>(200, "The conversation", || {
                let mut item = example_item();
                item["messages"] = json!([example_message()]);
                item["next_before"] = json!(null);
                item["run"] = json!(null);
                item
            }),
        get(&["/api/v1/chat/{id}/messages"], messages)
            .named("chat_messages", Tag::Chat, "Read a conversation's messages")
            .about("The last ones, or those before one of them; oldest first within a page.")
            .path::<SessionId>("id", "The conversation")
            .query::<MessagesQuery>()
            .returns::<Messages>(
                200,
                "A page of the messages",
                || json!({"items": [example_message()], "next_before": null}),
            ),
    ]
}

pub(super) fn example_item() -> Value {
    json!({
        "id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80",
        "title": "What is the capital of Switzerland?",
        "created_at": "2026-11-27T12:00:00Z",
        "updated_at": "2026-11-27T12:00:01.5Z",
        "message_count": 2,
        "last_message_preview": "Bern is the capital of Switzerland.",
    })
}

fn example_message() -> Value {
    json!({
        "role": "user",
        "id": "m_01926f3e8b1c7d3e9f002b1d5c6e7f81",
        "content": "What is the capital of Switzerland?",
        "timestamp": "2026-11-27T12:00:00Z",
    })
}

/// A conversation in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConversationItem {
    /// Its id.
    id: SessionId,
    /// Its title: the one it was given, or the beginning of its first message.
    title: Option<String>,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When its last turn ended; the order of the list.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
    /// Messages of the user and the assistant.
    message_count: u64,
    /// The beginning of the last of them.
    last_message_preview: Option<String>,
}

impl ConversationItem {
    pub(super) fn of(meta: &SessionMeta) -> Self {
        Self {
            id: meta.session.clone(),
            title: meta.title.clone(),
            created_at: rfc3339(meta.created_at_ms),
            updated_at: rfc3339(meta.updated_at_ms),
            message_count: meta.message_count,
            last_message_preview: meta.preview.clone(),
        }
    }
}

/// A message as AG-UI has it, with its time.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ShownMessage {
    /// `role`, `id`, `content`.
    #[serde(flatten)]
    message: Message,
    /// When it was begun.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
}

impl ShownMessage {
    pub(super) fn of(at_ms: Millis, message: Message) -> Self {
        Self {
            message,
            timestamp: rfc3339(at_ms),
        }
    }
}

/// A conversation with a page of its messages.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Conversation {
    #[serde(flatten)]
    item: ConversationItem,
    /// Oldest first.
    messages: Vec<ShownMessage>,
    /// `before` of the page before; null when this is the first.
    next_before: Option<MessageId>,
    /// The run that is active.
    run: Option<RunId>,
}

/// A page of conversations.
#[derive(Debug, Serialize, JsonSchema)]
struct Conversations {
    /// Newest first.
    items: Vec<ConversationItem>,
    /// `cursor` of the next page; null when this is the last.
    next_cursor: Option<String>,
}

/// A page of messages.
#[derive(Debug, Serialize, JsonSchema)]
struct Messages {
    /// Oldest first.
    items: Vec<ShownMessage>,
    /// `before` of the page before; null when this is the first.
    next_before: Option<MessageId>,
}

/// Where a page of the list ended, opaque to clients.
#[derive(Serialize, Deserialize)]
struct ListCursor(i64, SessionId);

impl ListCursor {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Option<ListPosition> {
        let Self(updated_at_ms, session) = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        Some(ListPosition { updated_at_ms, session })
    }
}

struct ListQuery {
    limit: usize,
    after: Option<ListPosition>,
    user: Option<UserId>,
}

impl Input for ListQuery {
    const NAME: &'static str = "ListConversations";

    fn read(fields: &mut Fields) -> Option<Self> {
        let limit = fields.integer(
            field("limit").doc("Conversations of a page; 50 when it is left out"),
            1,
            100,
        );
        let cursor = fields.text(field("cursor").doc("`next_cursor` of the page before"), 1, 512);
        let user = user_id(fields);
        let after = cursor.and_then(|text| {
            let position = ListCursor::decode(&text);
            if position.is_none() {
                fields.refuse("cursor", "Not a cursor of this list", "value_error");
            }
            position
        });
        Some(Self {
            limit: usize::try_from(limit.unwrap_or(50)).unwrap_or(50),
            after,
            user,
        })
    }
}

/// Reads whose conversations are meant.
pub(super) fn user_id(fields: &mut Fields) -> Option<UserId> {
    fields.id(field("user_id").doc("The caller's own id; may be left out"))
}

async fn list(
    state: web::Data<EdgeState>,
    caller: Caller,
    query: QueryOf<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let ListQuery { limit, after, user } = query.0;
    let caller = caller.acting_as(&state, user)?;
    let page = state
        .wiring
        .store
        .list(Some(&caller.user), after.as_ref(), limit + 1)
        .await;
    let mut page = page.map_err(|cause| StoreFailure {
        operation: "list_conversations",
        cause,
    })?;
    let more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| more);
    let next_cursor = last.map(|meta| ListCursor(meta.updated_at_ms, meta.session.clone()).encode());
    let items = page.iter().map(ConversationItem::of).collect();
    Ok(HttpResponse::Ok().json(Conversations { items, next_cursor }))
}

struct ShowQuery {
    before: Option<MessageId>,
    user: Option<UserId>,
}

impl Input for ShowQuery {
    const NAME: &'static str = "ShowConversation";

    fn read(fields: &mut Fields) -> Option<Self> {
        let before = fields.id(field("before").doc("Messages before this one"));
        let user = user_id(fields);
        Some(Self { before, user })
    }
}

async fn show(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    query: QueryOf<ShowQuery>,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, query.0.user)?;
    let page = Page::Before {
        message: query.0.before,
        limit: PAGE,
    };
    let view = view(&directory, &caller, &id.0, page).await?;
    Ok(HttpResponse::Ok().json(conversation(view)))
}

struct MessagesQuery {
    before: Option<MessageId>,
    limit: usize,
    user: Option<UserId>,
}

impl Input for MessagesQuery {
    const NAME: &'static str = "ListMessages";

    fn read(fields: &mut Fields) -> Option<Self> {
        let before = fields.id(field("before").doc("Messages before this one: `next_before` of the page after it"));
        let limit = fields.integer(
            field("limit").doc("Messages of a page; 100 when it is left out"),
            1,
            100,
        );
        let user = user_id(fields);
        Some(Self {
            before,
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE),
            user,
        })
    }
}

async fn messages(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    query: QueryOf<MessagesQuery>,
) -> Result<HttpResponse, ApiError> {
    let MessagesQuery { before, limit, user } = query.0;
    let caller = caller.acting_as(&state, user)?;
    let page = Page::Before { message: before, limit };
    let view = view(&directory, &caller, &id.0, page).await?;
    let next_before = next_before(&view);
    let items = shown(view.messages);
    Ok(HttpResponse::Ok().json(Messages { items, next_before }))
}

/// Reads a page of a conversation.
pub(super) async fn view(
    directory: &DirectoryRef,
    caller: &Arc<Principal>,
    id: &SessionId,
    page: Page,
) -> Result<View, ApiError> {
    let session = directory.resolve(id).await?;
    let reply = ask(directory, session, caller, SessionCommand::View(page)).await;
    match reply {
        Ok((_, SessionReply::View(view))) => Ok(*view),
        Ok(_) => Err(unexpected("view")),
        // The conversation is there, and the message that the query names is not.
        Err(error) if error.code == ErrorCode::NotFound && error.details["resource"] == "Message" => {
            Err(ApiError::validation(&[Row {
                field: "query.before".to_owned(),
                message: "Not a message of this conversation".to_owned(),
                kind: "value_error",
            }]))
        }
        Err(error) => Err(error.into()),
    }
}

fn next_before(view: &View) -> Option<MessageId> {
    let first = view.messages.first().filter(|_| view.from > 0);
    first.map(|(_, message)| message.id().clone())
}

fn shown(messages: Vec<(Millis, Message)>) -> Vec<ShownMessage> {
    let shown = messages.into_iter().map(|(at, message)| ShownMessage::of(at, message));
    shown.collect()
}

/// A conversation as it is shown.
pub(crate) fn conversation(view: View) -> Conversation {
    Conversation {
        next_before: next_before(&view),
        item: ConversationItem::of(&view.meta),
        messages: shown(view.messages),
        run: view.run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let session = SessionId::try_from("0192-a").unwrap();
        let text = ListCursor(1_700_000_000_123, session.clone()).encode();
        assert_eq!(
            ListCursor::decode(&text),
            Some(ListPosition {
                updated_at_ms: 1_700_000_000_123,
                session
            })
        );
        for bad in ["", "x", "!!", "W10", &URL_SAFE_NO_PAD.encode(r#"[1,"new"]"#)] {
            assert!(ListCursor::decode(bad).is_none(), "{bad}");
        }
    }
}
