//! `POST /chat/conversation`: a conversation that was held elsewhere goes on here.

use actix_web::{HttpResponse, web};
use kronos_actors::{
    clock::Millis,
    directory::DirectoryRef,
    ids, metrics,
    session::message::{Import, Past, SessionCommand, SessionReply},
};
use kronos_protocol::{
    client::{RunOptions, SessionSettings},
    event::TextRole,
    ids::UserId,
    limits,
};
use time::{OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339};

use super::{
    ask,
    turn::{self, ChatAnswer, TURN_FAILS, Taken},
    unexpected,
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, post},
    error::ApiError,
    input::{Fields, Input, Json, Rule, detached, field},
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/chat/conversation"], conversation)
            .named("chat_conversation", Tag::Chat, "Begin a conversation with a history")
            .about(
                "Makes a new conversation of these messages and answers the last one, which must be the user's. System \
                 messages become the conversation's system prompt. All of it is stored at once, or nothing.",
            )
            .body::<HistoryBody>()
            .returns::<ChatAnswer>(200, "The answer", turn::example)
            .fails(&TURN_FAILS),
    ]
}

/// A history and how to go on with it.
#[derive(Debug)]
struct HistoryBody {
    user: Option<UserId>,
    /// Before the last message.
    history: Vec<Told>,
    /// The last message.
    text: String,
    system_prompt: Option<String>,
    run: RunOptions,
}

/// A message of a history.
#[derive(Debug)]
struct Told {
    role: TextRole,
    text: String,
    at_ms: Option<Millis>,
}

impl Told {
    fn read(fields: &mut Fields) -> Option<Self> {
        let most = fields.bounds().message_chars;
        let role = field("role").doc("Who said it").example("user");
        let role = fields.required_word(role, &["user", "assistant", "system"]);
        let text = fields.required_text(field("content").doc("What was said").example("Hello!"), 1, most);
        let at = field("timestamp").doc("When; without an offset it is UTC");
        let at = fields.text_of(at, 19, 40, TIMESTAMP).and_then(|text| read_time(&text));
        Some(Self {
            role: role?.parse().ok()?,
            text: text?,
            at_ms: at,
        })
    }
}

/// RFC 3339; the offset may be left out, as Python's `isoformat` does.
const TIMESTAMP: Rule = Rule {
    pattern: r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?$",
    keeps: |text| read_time(text).is_some(),
    message: "Input should be a valid datetime",
    kind: "datetime_parsing",
};

fn read_time(text: &str) -> Option<Millis> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339))
        .ok()?;
    // The same day in UTC may lie outside of the calendar.
    let time = PrimitiveDateTime::new(time.date(), time.time()).checked_sub(offset(time))?;
    i64::try_from(time.assume_utc().unix_timestamp_nanos() / 1_000_000).ok()
}

fn offset(time: OffsetDateTime) -> time::Duration {
    time::Duration::seconds(i64::from(time.offset().whole_seconds()))
}

impl Input for HistoryBody {
    const NAME: &'static str = "ChatHistory";

    fn read(fields: &mut Fields) -> Option<Self> {
        let bounds = fields.bounds();
        let messages = field("messages")
            .doc("What was said, oldest first; the last is the user's and is answered")
            .example(serde_json::json!([
                {"role": "system", "content": "Answer briefly."},
                {"role": "user", "content": "Hello!"},
                {"role": "assistant", "content": "Hello! How can I help?"},
                {"role": "user", "content": "What is the capital of Switzerland?"},
            ]));
        let messages = fields.required_list(messages, 1, bounds.import_messages, Told::read);
        if fields.refused("messages", "too_long") {
            metrics::refused("import_messages");
        }
        let user = fields.id(field("user_id").doc("The caller's own id; may be left out"));
        let run = turn::sampling(fields);
        let mut history = messages?;
        let last = history.pop()?;
        if last.role != TextRole::User {
            fields.refuse("messages", "The last message must be the user's", "value_error");
        }
        let chars = |told: &Told| told.text.chars().count();
        if history.iter().map(chars).sum::<usize>() > bounds.import_chars {
            metrics::refused("import_chars");
            let most = bounds.import_chars;
            fields.refuse(
                "messages",
                format!("Messages before the last should have at most {most} characters together"),
                "too_long",
            );
        }
        let system_prompt = system_prompt(&history);
        if system_prompt
            .as_ref()
            .is_some_and(|prompt| prompt.chars().count() > limits::SYSTEM_PROMPT_CHARS)
        {
            let most = limits::SYSTEM_PROMPT_CHARS;
            fields.refuse(
                "messages",
                format!("System messages should have at most {most} characters together"),
                "too_long",
            );
        }
        Some(Self {
            user,
            history,
            text: last.text,
            system_prompt,
            run,
        })
    }
}

fn system_prompt(history: &[Told]) -> Option<String> {
    let system = history.iter().filter(|told| told.role == TextRole::System);
    let texts: Vec<&str> = system.map(|told| told.text.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

async fn conversation(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<HistoryBody>,
) -> Result<HttpResponse, ApiError> {
    let body = body.0;
    let caller = caller.acting_as(&state, body.user.clone())?;
    let answer = detached(async move {
        let taken = Box::pin(begin(&directory, caller, body)).await?;
        Box::pin(turn::answer(&directory, taken)).await
    });
    Ok(HttpResponse::Ok().json(answer.await?))
}

async fn begin(
    directory: &DirectoryRef,
    caller: std::sync::Arc<kronos_actors::principal::Principal>,
    body: HistoryBody,
) -> Result<Taken, ApiError> {
    let settings = SessionSettings {
        system_prompt: body.system_prompt,
        ..SessionSettings::default()
    };
    let history = body.history.into_iter().map(|told| Past {
        id: match told.role {
            TextRole::Assistant => ids::assistant_message(),
            TextRole::User | TextRole::System | TextRole::Developer => ids::user_message(),
        },
        role: told.role,
        text: told.text,
        at_ms: told.at_ms,
    });
    let import = Import {
        history: history.collect(),
        submit: turn::submit(body.text, body.run),
    };
    let message = import.submit.id.clone();
    let session = directory.prepare(&caller, settings).await?;
    let (session, reply) = ask(directory, session, &caller, SessionCommand::Import(import)).await?;
    let SessionReply::Sent { seq, .. } = reply else {
        return Err(unexpected("import"));
    };
    directory.tell_created(&caller, session.id(), None).await;
    Ok(Taken {
        session,
        caller,
        message,
        seq,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::edge::input::{Bounds, read};

    fn history(body: Value) -> Result<HistoryBody, ApiError> {
        let bounds = Bounds {
            message_chars: 10,
            import_messages: 3,
            import_chars: 12,
            ..Bounds::default()
        };
        match body {
            Value::Object(map) => read::<HistoryBody>("body", map, bounds),
            _ => panic!("not an object"),
        }
    }

    fn said(role: &str, text: &str) -> Value {
        json!({"role": role, "content": text})
    }

    #[test]
    fn a_history_is_checked_at_its_bounds() {
        let user = || said("user", "0123456789");
        let ok = [
            json!([user()]),
            json!([said("assistant", "0123456789"), said("user", "01"), user()]),
        ];
        for messages in ok {
            assert!(history(json!({"messages": messages})).is_ok(), "{messages}");
        }
        for (messages, field) in [
            (json!([]), "body.messages"),
            (json!([user(), user(), user(), user()]), "body.messages"),
            (json!([said("user", "0123456789a")]), "body.messages.0.content"),
            (json!([said("user", ""), user()]), "body.messages.0.content"),
            (json!([said("tool", "1"), user()]), "body.messages.0.role"),
            (
                json!([said("user", "0123456789"), said("user", "012"), user()]),
                "body.messages",
            ),
            (json!([user(), said("assistant", "1")]), "body.messages"),
            (
                json!([{"role": "user", "content": "1", "timestamp": "yesterday, twenty past"}]),
                "body.messages.0.timestamp",
            ),
        ] {
            let error = history(json!({"messages": messages})).map(|_| ()).unwrap_err();
            assert_eq!(error.details["errors"][0]["field"], field, "{messages}");
        }
    }

    #[test]
    fn system_messages_are_one_prompt() {
        let body = json!({"messages": [said("system", "a"), said("system", "b"), said("user", "c")]});
        let body = history(body).unwrap();
        assert_eq!(body.system_prompt.as_deref(), Some("a\n\nb"));
        assert_eq!((body.history.len(), body.text.as_str()), (2, "c"));
    }

    #[test]
    fn times_come_with_and_without_an_offset() {
        for (text, ms) in [
            ("1970-01-01T00:00:01Z", Some(1000)),
            ("1970-01-01T01:00:01.250+01:00", Some(1250)),
            ("1970-01-01T00:00:01.250000", Some(1250)),
            ("1970-02-30T00:00:01Z", None),
            ("1970-01-01", None),
        ] {
            assert_eq!(read_time(text), ms, "{text}");
        }
    }
}
