//! The routes under `/chat`: a turn that is waited for, the list of conversations, one conversation.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kronos_actors::{
    directory::{DirectoryRef, SessionRef},
    ids,
    principal::Principal,
    session::{
        message::{SessionCommand, SessionError, SessionReply, Submit, View},
        reader,
    },
    store::{ListPosition, SessionMeta},
};
use kronos_protocol::{
    client::{RunOptions, SendMode, SessionSettings},
    event::TokenUsage,
    ids::{MessageId, SessionId, UserId},
    limits,
    message::{Message, UserContent},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    EdgeState,
    auth::Caller,
    error::{ApiError, StoreFailure, from_run},
    input::{Body, Fields, Query, detached, path_id},
    rfc3339,
};

/// Messages of one page of a conversation.
const PAGE: usize = 100;

/// A turn as it was asked for.
struct Turn {
    user: Option<UserId>,
    session: Option<SessionId>,
    text: String,
    run: RunOptions,
}

impl Turn {
    fn read(body: Map<String, Value>, message_chars: usize) -> Result<Self, ApiError> {
        let mut fields = Fields::new("body", body);
        let text = fields.required_text("message", 1, message_chars).unwrap_or_default();
        let (user, session) = (fields.id("user_id"), fields.id("conversation_id"));
        let run = RunOptions {
            model: fields.text("model", 1, 128),
            temperature: fields.number("temperature", 0.0, 2.0),
            max_tokens: fields
                .integer("max_tokens", 1, 65_536)
                .and_then(|tokens| u32::try_from(tokens).ok()),
            system_prompt: fields.text("system_prompt", 0, limits::SYSTEM_PROMPT_CHARS),
            ..RunOptions::default()
        };
        fields.finish()?;
        Ok(Self {
            user,
            session,
            text,
            run,
        })
    }
}

/// One message in, the whole answer out. A client that goes away does not stop the turn.
pub(super) async fn message(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let turn = Turn::read(body.0, state.bounds.message_chars)?;
    let caller = caller.acting_as(&state, turn.user.clone())?;
    let answer = detached(async move { Box::pin(take_turn(&directory, caller, turn)).await }).await?;
    Ok(HttpResponse::Ok().json(answer))
}

async fn take_turn(directory: &DirectoryRef, caller: Arc<Principal>, turn: Turn) -> Result<Value, ApiError> {
    let session = match &turn.session {
        Some(id) => directory.resolve(id).await?,
        None => directory.create(&caller, None, SessionSettings::default()).await?,
    };
    let id = session.id().clone();
    let message_id = ids::user_message();
    let content = UserContent::Text(turn.text);
    let submit = Submit {
        id: message_id.clone(),
        content,
        mode: SendMode::Queue,
        run: turn.run,
    };
    let (session, reply) = ask(directory, session, &caller, SessionCommand::Submit(submit)).await?;
    let SessionReply::Sent { seq, .. } = reply else {
        tracing::error!("a submit was answered with something else");
        return Err(ApiError::internal());
    };
    let result = reader::run_to_end(directory, &session, &caller, &message_id, seq).await?;
    if let Some(error) = result.error {
        return Err(from_run(&error));
    }
    Ok(json!({
        "message": result.text,
        "conversation_id": id,
        "timestamp": rfc3339(result.finished_at_ms),
        "message_id": result.message_id,
        "model": result.model,
        "usage": usage(&result.usage),
        "cancelled": result.cancelled,
    }))
}

/// Asks a session; when its actor ended meanwhile, asks the directory again and resends, once.
async fn ask(
    directory: &DirectoryRef,
    session: SessionRef,
    caller: &Arc<Principal>,
    command: SessionCommand,
) -> Result<(SessionRef, SessionReply), SessionError> {
    match reader::ask(&session, caller, command.clone()).await {
        Err(error) if error.closed => {
            let session = directory.resolve(session.id()).await?;
            let reply = reader::ask(&session, caller, command).await?;
            Ok((session, reply))
        }
        result => result.map(|reply| (session, reply)),
    }
}

/// Tokens of a turn: of its only model call, or of all together.
fn usage(calls: &[TokenUsage]) -> Option<TokenUsage> {
    let (first, rest) = calls.split_first()?;
    let add = |a: Option<u64>, b: Option<u64>| a.or(b).map(|_| a.unwrap_or(0) + b.unwrap_or(0));
    Some(rest.iter().fold(first.clone(), |sum, call| TokenUsage {
        input_tokens: add(sum.input_tokens, call.input_tokens),
        output_tokens: add(sum.output_tokens, call.output_tokens),
        total_tokens: add(sum.total_tokens, call.total_tokens),
        reasoning_tokens: add(sum.reasoning_tokens, call.reasoning_tokens),
        cached_input_tokens: add(sum.cached_input_tokens, call.cached_input_tokens),
        ..sum
    }))
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

/// The caller's conversations, newest first.
pub(super) async fn list(state: web::Data<EdgeState>, caller: Caller, query: Query) -> Result<HttpResponse, ApiError> {
    let mut fields = Fields::new("query", query.0);
    let limit = fields
        .integer("limit", 1, 100)
        .map_or(50, |limit| usize::try_from(limit).unwrap_or(50));
    let user = fields.id("user_id");
    let after = fields.text("cursor", 1, 512).and_then(|text| {
        let position = ListCursor::decode(&text);
        if position.is_none() {
            fields.refuse("cursor", "Not a cursor of this list", "value_error");
        }
        position
    });
    fields.finish()?;
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
    let next = last.map(|meta| ListCursor(meta.updated_at_ms, meta.session.clone()).encode());
    let items: Vec<Value> = page.iter().map(listed).collect();
    Ok(HttpResponse::Ok().json(json!({"items": items, "next_cursor": next})))
}

fn listed(meta: &SessionMeta) -> Value {
    json!({
        "id": meta.session,
        "title": meta.title,
        "created_at": rfc3339(meta.created_at_ms),
        "updated_at": rfc3339(meta.updated_at_ms),
        "message_count": meta.message_count,
        "last_message_preview": meta.preview,
    })
}

/// One conversation with its last messages, or those before `before`.
pub(super) async fn show(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    path: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let id: SessionId = path_id("id", path.into_inner())?;
    let mut fields = Fields::new("query", query.0);
    let before: Option<MessageId> = fields.id("before");
    let user = fields.id("user_id");
    fields.finish()?;
    let caller = caller.acting_as(&state, user)?;
    let session = directory.resolve(&id).await?;
    let (_, reply) = ask(&directory, session, &caller, SessionCommand::View).await?;
    let SessionReply::View(view) = reply else {
        tracing::error!("a view was answered with something else");
        return Err(ApiError::internal());
    };
    Ok(HttpResponse::Ok().json(conversation(&view, before.as_ref())))
}

/// Opens a conversation again that was closed because it failed repeatedly.
pub(super) async fn unpark(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    path: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let id: SessionId = path_id("id", path.into_inner())?;
    let mut fields = Fields::new("query", query.0);
    let user = fields.id("user_id");
    fields.finish()?;
    let caller = caller.acting_as(&state, user)?;
    let failed = |cause| StoreFailure {
        operation: "unpark",
        cause,
    };
    // Its actor cannot be asked whose it is.
    let meta = state.wiring.store.meta(&id).await.map_err(failed)?;
    if !meta.is_some_and(|meta| meta.owner == caller.user || caller.superuser) {
        return Err(SessionError::not_found(&id).into());
    }
    let unparked = directory.unpark(&id).await.map_err(failed)?;
    Ok(HttpResponse::Ok().json(json!({"id": id, "unparked": unparked})))
}

/// A conversation with a page of its messages: the last ones, or those before `before`.
pub(crate) fn conversation(view: &View, before: Option<&MessageId>) -> Value {
    let position = before.and_then(|before| view.messages.iter().position(|(_, message)| message.id() == before));
    let upto = position.unwrap_or(view.messages.len());
    let from = upto.saturating_sub(PAGE);
    let page = view.messages.get(from..upto).unwrap_or_default();
    let shown: Vec<Value> = page.iter().map(|(at, message)| shown(*at, message)).collect();
    let mut body = listed(&view.meta);
    body["messages"] = json!(shown);
    body["next_before"] = json!(page.first().filter(|_| from > 0).map(|(_, message)| message.id()));
    body["run"] = json!(view.run);
    body
}

fn shown(at_ms: i64, message: &Message) -> Value {
    let mut value = serde_json::to_value(message).unwrap_or_default();
    value["timestamp"] = json!(rfc3339(at_ms));
    value
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

    #[test]
    fn a_turn_is_checked_at_its_bounds() {
        let read = |body: Value| match body {
            Value::Object(map) => Turn::read(map, 5),
            _ => panic!("not an object"),
        };
        assert!(read(json!({"message": "12345", "temperature": 2, "max_tokens": 65536})).is_ok());
        for (body, field) in [
            (json!({}), "body.message"),
            (json!({"message": ""}), "body.message"),
            (json!({"message": "123456"}), "body.message"),
            (json!({"message": "1", "temperature": 2.1}), "body.temperature"),
            (json!({"message": "1", "max_tokens": 0}), "body.max_tokens"),
            (
                json!({"message": "1", "conversation_id": "new"}),
                "body.conversation_id",
            ),
            (json!({"message": "1", "user_id": 7}), "body.user_id"),
        ] {
            let error = read(body).map(|_| ()).unwrap_err();
            assert_eq!(error.details["errors"][0]["field"], field);
        }
    }
}
