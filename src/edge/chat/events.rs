//! `GET /chat/{id}/events`: the session's log, live or as it is now.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::{Bytes, BytesMut};
use kronos_actors::{
    directory::DirectoryRef,
    session::{message::SessionError, reader::SessionReader},
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{SessionId, UserId},
    position::{Cursor, Seq},
};
use serde_json::{Value, json};

use super::{
    entries::{Told, as_events, as_lines},
    pages::user_id,
    sse::{EVENT_STREAM, Opening, Source, Stop, head_only, respond, write_event},
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, get},
    error::{ApiError, Row},
    input::{Fields, Input, PathId, QueryOf, Rule, field},
};

/// The content type of JSON values, one a line.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// When a reader comes back, in milliseconds: told at the start.
const RECONNECT_MS: u64 = 1000;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/chat/{id}/events"], events)
            .named("chat_events", Tag::Chat, "Follow a conversation's log")
            .about(
                "Entries of the session's log after a position, as websockets get them: server-sent events that go on, or \
                 with `Accept: application/x-ndjson` what there is now. `id` is the position; a reader that comes back with \
                 `Last-Event-ID` misses nothing and gets nothing twice. An event `caught_up` follows what was there at the \
                 start; an event `closed` says why the stream ends. A position of another epoch gets a snapshot: entries \
                 with `snapshot: true`, of which the last one has the position.",
            )
            .path::<SessionId>("id", "The conversation")
            .query::<EventsQuery>()
            .header("Last-Event-ID", "As `after`, and before it: what a browser sends when it comes back", Some(r"^([!#-&(-\[\]-~]{1,64}:[0-9]{1,19})?$"))
            .header("Accept", "`text/event-stream`, or `application/x-ndjson` for what there is now", None)
            .streams::<Told<'static>>(200, "Entries of the log", example)
            .sends(200, "Entries of the log", NDJSON, LINE)
            .fails(&[ErrorCode::Overloaded]),
    ]
}

fn example() -> Value {
    json!({"id": "e_01926f3e:3",
        "data": r#"{"seq":3,"run":"r_01926f3e","event":{"type":"TEXT_MESSAGE_CONTENT","messageId":"a_01926f3e","delta":"Bern"}}"#})
}

const LINE: &str = "\
{\"epoch\":\"e_01926f3e\",\"seq\":3,\"run\":\"r_01926f3e\",\"event\":{\"type\":\"TEXT_MESSAGE_CONTENT\",\"messageId\":\"a_01926f3e\",\"delta\":\"Bern\"}}\n";

struct EventsQuery {
    after: Option<Cursor>,
    user: Option<UserId>,
}

/// A position as text.
const CURSOR: Rule = Rule {
    pattern: r"^[!#-&(-\[\]-~]{1,64}:[0-9]{1,19}$",
    keeps: |text| read_cursor(text).is_some(),
    message: "Input should be a position: <epoch>:<seq>",
    kind: "value_error",
};

fn read_cursor(text: &str) -> Option<Cursor> {
    let digits = text.rsplit_once(':')?.1;
    let whole = (1..=19).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| whole)
}

impl Input for EventsQuery {
    const NAME: &'static str = "FollowConversation";

    fn read(fields: &mut Fields) -> Option<Self> {
        let after =
            field("after").doc("Entries after this position, `<epoch>:<seq>`; from the beginning when it is left out");
        let after = fields.text_of(after, 3, 84, CURSOR);
        let user = user_id(fields);
        Some(Self {
            after: after.as_deref().and_then(read_cursor),
            user,
        })
    }
}

async fn events(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    query: QueryOf<EventsQuery>,
) -> Result<HttpResponse, ApiError> {
    let EventsQuery { after, user } = query.0;
    let after = last_event_id(&request)?.or(after);
    let lines = wants_lines(&request);
    let opening = Opening::take(&state, &request, &caller.principal)?;
    let caller = caller.acting_as(&state, user)?;
    let session = directory.resolve(&id.0).await?;
    let reader = SessionReader::resume(&directory, &session, &caller, after).await?;
    let content_type = if lines { NDJSON } else { EVENT_STREAM };
    if let Some(head) = head_only(&request, content_type) {
        return Ok(head);
    }
    Ok(if lines {
        respond(content_type, opening, Lines::new(reader))
    } else {
        respond(content_type, opening, Live::new(reader))
    })
}

/// The position that a browser brings when it comes back.
fn last_event_id(request: &HttpRequest) -> Result<Option<Cursor>, ApiError> {
    let Some(value) = request.headers().get("last-event-id") else {
        return Ok(None);
    };
    match value.to_str().map(str::trim) {
        Ok("") => Ok(None),
        Ok(text) if read_cursor(text).is_some() => Ok(read_cursor(text)),
        _ => Err(ApiError::validation(&[Row {
            field: "header.last-event-id".to_owned(),
            message: CURSOR.message.to_owned(),
            kind: CURSOR.kind,
        }])),
    }
}

/// Whether lines are asked for by name.
fn wants_lines(request: &HttpRequest) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT);
    let texts = accepted.filter_map(|value| value.to_str().ok());
    let mut ranges = texts.flat_map(|text| text.split(','));
    ranges.any(|range| {
        let kind = range.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case(NDJSON)
    })
}

/// The log as it grows.
struct Live {
    reader: SessionReader,
    /// What was there at the start; `None` once it is told.
    head: Option<Seq>,
    greeted: bool,
}

impl Live {
    fn new(reader: SessionReader) -> Self {
        Self {
            head: Some(reader.head()),
            reader,
            greeted: false,
        }
    }

    /// Says once that what was there at the start has been told.
    fn caught_up(&mut self, out: &mut BytesMut) {
        let seq = self.reader.position();
        if self.head.is_some_and(|head| seq >= head) {
            self.head = None;
            write_event(out, None, Some("caught_up"), &json!({"seq": seq}));
        }
    }
}

impl Source for Live {
    const IS_EVENTS: bool = true;

    async fn next(&mut self) -> Result<Option<Bytes>, SessionError> {
        let mut out = BytesMut::new();
        if self.greeted {
            let batch = self.reader.next().await?;
            out.extend_from_slice(&as_events(&batch));
        } else {
            self.greeted = true;
            out.extend_from_slice(format!("retry: {RECONNECT_MS}\n\n").as_bytes());
        }
        self.caught_up(&mut out);
        Ok(Some(out.freeze()))
    }

    fn farewell(&mut self, why: &Stop) -> Option<Bytes> {
        let error = why.error()?;
        let mut out = BytesMut::new();
        let told = json!({"code": error.code, "message": error.message, "retry": error.code.retry()});
        write_event(&mut out, None, Some("closed"), &told);
        Some(out.freeze())
    }
}

/// The log as it is now.
struct Lines {
    head: Seq,
    reader: SessionReader,
}

impl Lines {
    fn new(reader: SessionReader) -> Self {
        Self {
            head: reader.head(),
            reader,
        }
    }
}

impl Source for Lines {
    const IS_EVENTS: bool = false;

    async fn next(&mut self) -> Result<Option<Bytes>, SessionError> {
        if self.reader.position() >= self.head {
            return Ok(None);
        }
        let batch = self.reader.next().await?;
        Ok(Some(as_lines(&batch)))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        for (text, seq) in [
            ("e_1:0", Some(0)),
            ("e:x:12", Some(12)),
            ("e_1:9999999999999999999", Some(9_999_999_999_999_999_999)),
        ] {
            assert_eq!(read_cursor(text).map(|cursor| cursor.seq), seq, "{text}");
        }
        for bad in [
            "",
            ":",
            "e_1",
            "e_1:",
            ":1",
            "e_1:+1",
            "e_1:-1",
            "e 1:1",
            "e_1:18446744073709551616",
        ] {
            assert_eq!(read_cursor(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_come_only_when_they_are_asked_for_by_name() {
        let asks = |accept: &'static str| {
            wants_lines(
                &TestRequest::get()
                    .insert_header((header::ACCEPT, accept))
                    .to_http_request(),
            )
        };
        assert!(asks("application/x-ndjson") && asks("text/html;q=0.5, Application/X-NDJSON;q=0.9"));
        assert!(!asks("*/*") && !asks("text/event-stream") && !asks("application/json"));
        assert!(!wants_lines(&TestRequest::get().to_http_request()));
    }
}
