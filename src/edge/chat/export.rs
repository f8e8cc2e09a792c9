//! `GET /chat/{id}/export`: a whole conversation to take away, a part of it in memory at a time.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::{Bytes, BytesMut};
use kronos_actors::{
    clock::Millis,
    directory::{DirectoryRef, SessionRef},
    principal::Principal,
    session::{
        message::{Page, SessionCommand, SessionError, SessionReply, View},
        reader::{self, SessionReader},
    },
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{SessionId, UserId},
    message::{ContentPart, Message, UserContent},
};
use serde_json::json;

use super::{
    events::NDJSON,
    pages::{ConversationItem, PAGE, ShownMessage, example_item, user_id, view},
    recording::Recording,
    sse::{Opening, Source, head_only, respond, write_json},
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, get},
    error::ApiError,
    input::{Fields, Input, PathId, QueryOf, field},
    rfc3339,
};

const MARKDOWN: &str = "text/markdown; charset=utf-8";
const JSON: &str = "application/json";

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/chat/{id}/export"], export)
            .named("chat_export", Tag::Chat, "Export a conversation")
            .about(
                "The whole conversation as a file: JSON with every message, Markdown to read, or a recording that the load \
                 tester replays (`*.kronosrec`, one JSON object a line).",
            )
            .path::<SessionId>("id", "The conversation")
            .query::<ExportQuery>()
            .returns::<Exported>(200, "The conversation", || {
                let mut item = example_item();
                item["messages"] = json!([]);
                item
            })
            .sends(200, "The conversation", MARKDOWN, "# Capitals\n\n## user, 2026-11-27T12:00:00Z\n\nHello!\n")
            .sends(200, "The conversation", NDJSON, RECORDING)
            .fails(&[ErrorCode::Overloaded]),
    ]
}

const RECORDING: &str = "\
{\"kronosrec\":1,\"session\":\"01926f3e\",\"epoch\":\"e_01926f3e\",\"started_at_ms\":1790000000000}\n\
{\"at_ms\":12,\"device\":\"1\",\"command\":{\"op\":\"send\",\"ref\":\"1\",\"session\":\"01926f3e\",\"id\":\"m_1\",\"content\":\"Hello!\"}}\n";

/// A conversation with all its messages.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
struct Exported {
    #[serde(flatten)]
    item: ConversationItem,
    /// Oldest first.
    messages: Vec<ShownMessage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Markdown,
    Recording,
}

struct ExportQuery {
    format: Format,
    user: Option<UserId>,
}

impl Input for ExportQuery {
    const NAME: &'static str = "ExportConversation";

    fn read(fields: &mut Fields) -> Option<Self> {
        let format = field("format").doc("What to make of it; `json` when it is left out");
        let format = match fields.word(format, &["json", "markdown", "recording"]) {
            Some("markdown") => Format::Markdown,
            Some("recording") => Format::Recording,
            _ => Format::Json,
        };
        let user = user_id(fields);
        Some(Self { format, user })
    }
}

async fn export(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    query: QueryOf<ExportQuery>,
) -> Result<HttpResponse, ApiError> {
    let ExportQuery { format, user } = query.0;
    let opening = Opening::take(&state, &request, &caller.principal)?;
    let caller = caller.acting_as(&state, user)?;
    let first = view(&directory, &caller, &id.0, from(0)).await?;
    let (content_type, ending) = match format {
        Format::Json => (JSON, "json"),
        Format::Markdown => (MARKDOWN, "md"),
        Format::Recording => (NDJSON, "kronosrec"),
    };
    let session = directory.resolve(&id.0).await?;
    let response = match head_only(&request, content_type) {
        Some(head) => head,
        None if format == Format::Recording => {
            let reader = SessionReader::attach(&directory, &session, &caller, 0).await?;
            respond(content_type, opening, Recording::new(reader, &first.meta))
        }
        None => {
            let pages = Pages {
                session,
                caller,
                total: first.total,
                first: Some(first),
                place: 0,
            };
            respond(content_type, opening, Whole::new(pages, format))
        }
    };
    Ok(named(
        response,
        &format!("conversation-{}.{ending}", safe(id.0.as_str())),
    ))
}

fn named(mut response: HttpResponse, name: &str) -> HttpResponse {
    if let Ok(value) = header::HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// A name that no file system and no header takes for something else.
fn safe(id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    id.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}

fn from(place: usize) -> Page {
    Page::From { place, limit: PAGE }
}

/// The messages that were there when it began, a page at a time.
struct Pages {
    session: SessionRef,
    caller: Arc<Principal>,
    first: Option<View>,
    place: usize,
    total: usize,
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Vec<(Millis, Message)>>, SessionError> {
        let mut messages = match self.first.take() {
            Some(first) => first.messages,
            None if self.place >= self.total => return Ok(None),
            None => match reader::ask(&self.session, &self.caller, SessionCommand::View(from(self.place))).await? {
                SessionReply::View(view) => view.messages,
                _ => {
                    return Err(SessionError::new(
                        ErrorCode::Internal,
                        "the conversation cannot be read",
                    ));
                }
            },
        };
        messages.truncate(self.total - self.place);
        self.place += messages.len();
        // A conversation that began anew with less.
        if messages.is_empty() {
            self.place = self.total;
        }
        Ok(Some(messages))
    }
}

/// A conversation as JSON or as Markdown.
struct Whole {
    pages: Pages,
    format: Format,
    /// The beginning was written.
    begun: bool,
    /// A message was written.
    some: bool,
    /// The end was written.
    ended: bool,
}

impl Whole {
    fn new(pages: Pages, format: Format) -> Self {
        Self {
            pages,
            format,
            begun: false,
            some: false,
            ended: false,
        }
    }

    fn begin(&mut self, out: &mut BytesMut) {
        let Some(first) = self.pages.first.as_ref().filter(|_| !self.begun) else {
            return;
        };
        self.begun = true;
        if self.format == Format::Markdown {
            let title = one_line(first.meta.title.as_deref().unwrap_or("Conversation"));
            let made = rfc3339(first.meta.created_at_ms);
            out.extend_from_slice(format!("# {title}\n\n{}, {made}\n", first.meta.session).as_bytes());
            return;
        }
        let empty = Exported {
            item: ConversationItem::of(&first.meta),
            messages: Vec::new(),
        };
        write_json(out, &empty);
        // The list stays open: what comes is written into it.
        out.truncate(out.len() - "]}".len());
    }

    fn write(&mut self, out: &mut BytesMut, at_ms: Millis, message: Message) {
        if self.format == Format::Markdown {
            out.extend_from_slice(markdown(at_ms, &message).as_bytes());
        } else {
            if self.some {
                out.extend_from_slice(b",");
            }
            write_json(out, &ShownMessage::of(at_ms, message));
        }
        self.some = true;
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.ended = true;
        if self.format == Format::Json {
            out.extend_from_slice(b"]}");
        }
    }
}

impl Source for Whole {
    const IS_EVENTS: bool = false;

    async fn next(&mut self) -> Result<Option<Bytes>, SessionError> {
        if self.ended {
            return Ok(None);
        }
        let mut out = BytesMut::new();
        self.begin(&mut out);
        match self.pages.next().await? {
            Some(messages) => {
                for (at, message) in messages {
                    self.write(&mut out, at, message);
                }
            }
            None => self.end(&mut out),
        }
        Ok(Some(out.freeze()))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn markdown(at_ms: Millis, message: &Message) -> String {
    let (role, text) = match message {
        Message::User(message) => ("user", content(&message.content)),
        Message::Assistant(message) => ("assistant", message.content.clone().unwrap_or_default()),
        Message::System(message) => ("system", message.content.clone()),
        Message::Developer(message) => ("developer", message.content.clone()),
        Message::Tool(message) => ("tool", content(&message.content)),
        Message::Reasoning(message) => ("reasoning", message.content.clone()),
        Message::Activity(_) => return String::new(),
    };
    format!("\n## {role}, {}\n\n{}\n", rfc3339(at_ms), text.trim_end())
}

fn content(content: &UserContent) -> String {
    let UserContent::Parts(parts) = content else {
        return content.text().into_owned();
    };
    let part = |part: &ContentPart| match part {
        ContentPart::Text { text, .. } => text.clone(),
        ContentPart::Image { .. } => "*(image)*".to_owned(),
        ContentPart::Audio { .. } => "*(audio)*".to_owned(),
        ContentPart::Video { .. } => "*(video)*".to_owned(),
        ContentPart::Document { .. } => "*(document)*".to_owned(),
    };
    parts.iter().map(part).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_safe() {
        assert_eq!(safe("01926f3e-8b1c_A"), "01926f3e-8b1c_A");
        assert_eq!(safe("../etc;x=%"), "___etc_x__");
    }
}
