//! Every way in which the model can fail, through the whole server: what the user is told, what is tried again, what stays.

use std::time::Duration;

use kronos_protocol::{
    Event, MessageId, Outcome, RunErrorCode, RunId, RunOptions, SendMode, ServerFrame, SessionId, client::Send,
};
use kronos_testkit::{WsClient, eventually_now};
use serde_json::{Value, json};

use crate::harness::{Kronos, kronos_with};

const README: &str = include_str!("../../README.md");
const LIMIT: Duration = Duration::from_secs(15);

/// Short time-outs and pauses; three attempts; a circuit that never opens.
const PATIENCE: &[(&str, &str)] = &[
    ("GEMINI_FIRST_BYTE_TIMEOUT", "1s"),
    ("GEMINI_IDLE_TIMEOUT", "1s"),
    ("GEMINI_BACKOFF", "5ms"),
    ("GEMINI_MAX_BACKOFF", "2s"),
    ("GEMINI_MAX_ATTEMPTS", "3"),
    ("GEMINI_BREAKER_FAILURES", "10000"),
];

/// One turn as a client saw it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) text: String,
    pub(crate) retries: Vec<Value>,
    pub(crate) notices: Vec<Value>,
    pub(crate) success: bool,
    pub(crate) cancelled: bool,
    pub(crate) code: String,
    message: String,
    /// `metadata.kronos` of the last event.
    pub(crate) about: Value,
}

impl Turn {
    /// Takes the next event of its run; says whether that was the last.
    pub(crate) fn take(&mut self, event: Event) -> bool {
        match event {
            Event::TextMessageContent(event) => self.text.push_str(&event.delta),
            Event::Custom(event) if event.name == "kronos.retry" => self.retries.push(event.value),
            Event::Custom(event) if event.name == "kronos.notice" => self.notices.push(event.value),
            Event::RunFinished(event) => {
                self.success = matches!(event.outcome, Some(Outcome::Success { .. }));
                self.cancelled = matches!(event.outcome, Some(Outcome::Cancelled));
                self.about = json!(event.metadata)["kronos"].clone();
                return true;
            }
            Event::RunError(event) => {
                self.code = event.code.unwrap_or_default();
                self.message = event.message;
                self.about = json!(event.metadata)["kronos"].clone();
                return true;
            }
            _ => {}
        }
        false
    }

    /// Reads a run to its last event.
    pub(crate) async fn follow(client: &mut WsClient, run: &RunId) -> Self {
        let mut turn = Self::default();
        loop {
            let ServerFrame::Events(frame) = client.next_frame(LIMIT).await else {
                continue;
            };
            for entry in frame.events {
                if entry.run.as_ref() == Some(run) && turn.take(entry.event) {
                    return turn;
                }
            }
        }
    }
}

/// One user with one session of a server with short time-outs.
struct Talk {
    kronos: Kronos,
    client: WsClient,
    session: SessionId,
    said: u32,
}

impl Talk {
    async fn new(tokens_per_second: f64, env: &[(&str, &str)]) -> Self {
        let env = [PATIENCE, env].concat();
        let kronos = kronos_with(tokens_per_second, &env).await;
        let mut client = kronos.client("ann").await;
        let session = client.attach_new().await;
        Self {
            kronos,
            client,
            session,
            said: 0,
        }
    }

    async fn say(&mut self, text: &str) -> RunId {
        self.said += 1;
        let id = format!("m_{}", self.said);
        let sent = self.client.send(&self.session, &id, text, SendMode::Queue).await;
        sent.run.expect("the run begins at once")
    }

    async fn turn(&mut self, text: &str) -> Turn {
        let run = self.say(text).await;
        Turn::follow(&mut self.client, &run).await
    }

    /// A failed turn with everything that every failure promises; `requests` is what the model was asked.
    async fn fault(&mut self, text: &str, code: RunErrorCode, requests: usize) -> Turn {
        self.kronos.gemini.clear();
        let turn = self.turn(text).await;
        assert_eq!(turn.code, code.as_str(), "{text}: {turn:?}");
        assert_eq!(self.kronos.gemini.requests().len(), requests, "{text}: {turn:?}");
        assert_eq!(
            turn.retries.len(),
            requests - 1,
            "each new attempt is told: {text}: {turn:?}"
        );
        assert_eq!(turn.about["attempts"], json!(requests), "{text}");
        assert!(turn.text.is_empty() || requests == 1, "shown, and tried again: {text}");
        assert_documented(&turn, &self.kronos);
        self.next_turn_is_answered().await;
        turn
    }

    async fn next_turn_is_answered(&mut self) {
        let next = self.turn("What is the capital of France?").await;
        assert!(next.success && next.text.contains("Paris"), "{next:?}");
    }

    /// The text of the last request's contents.
    fn last_asked(&self) -> String {
        let requests = self.kronos.gemini.requests();
        requests.last().expect("a request").body["contents"].to_string()
    }
}

/// The code stands in the README, and the text is for a user and holds nothing that is not for him.
fn assert_documented(turn: &Turn, kronos: &Kronos) {
    assert!(
        README.contains(&format!("| `{}` |", turn.code)),
        "README lacks {}",
        turn.code
    );
    let whole = format!("{} {}", turn.message, turn.about);
    for secret in [
        "test-key",
        "http",
        "generativelanguage",
        kronos.gemini.url().as_str(),
        "127.0.0.1",
    ] {
        assert!(!whole.contains(secret), "{whole}");
    }
    let words = turn.message.split_whitespace().count();
    assert!(
        words >= 4 && turn.message.ends_with('.'),
        "no sentence: {}",
        turn.message
    );
    for jargon in [
        "RESOURCE_EXHAUSTED",
        "INVALID_ARGUMENT",
        "Quota exceeded",
        "{",
        "status",
    ] {
        assert!(
            !turn.message.contains(jargon),
            "no sentence for a user: {}",
            turn.message
        );
    }
}

#[test]
fn the_readme_lists_every_code_that_a_run_may_end_with() {
    let table = README
        .split("### What an answer may end with")
        .nth(1)
        .expect("the table");
    let table = table.split("\n## ").next().expect("its end");
    let listed: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|word| *word != "RUN_ERROR")
        .collect();
    let codes: Vec<&str> = RunErrorCode::ALL
        .iter()
        .filter(|code| **code != RunErrorCode::Continuation)
        .map(|code| code.as_str())
        .collect();
    assert_eq!(listed.len(), codes.len());
    for code in codes {
        assert!(listed.contains(&code), "{code}");
    }
}

#[tokio::test]
async fn what_is_refused_for_now_is_tried_again_and_told() {
    let mut talk = Talk::new(0.0, &[]).await;
    let turn = talk
        .turn("[[429-once;retry_after=0.2]] What is the capital of Japan?")
        .await;
    assert!(turn.success && turn.text.contains("Tokyo"), "{turn:?}");
    assert_eq!(turn.retries.len(), 1);
    assert_eq!(turn.retries[0]["code"], "upstream_rate_limited");
    assert_eq!(turn.retries[0]["attempt"], 2);
    assert!(turn.retries[0]["afterMs"].as_u64() >= Some(200), "{:?}", turn.retries);
    assert_eq!(talk.kronos.gemini.requests().len(), 2);

    talk.kronos.gemini.clear();
    let turn = talk.turn("[[503x2]] What is the capital of Japan?").await;
    assert!(turn.success && turn.text.contains("Tokyo"), "{turn:?}");
    let attempts: Vec<_> = turn.retries.iter().map(|retry| retry["attempt"].clone()).collect();
    assert_eq!(attempts, [2, 3]);
    assert_eq!(talk.kronos.gemini.requests().len(), 3);
    let answers = talk.client.transcript(&talk.session).lines();
    assert_eq!(answers.len(), 4, "one answer to each message: {answers:?}");
}

#[tokio::test]
async fn what_stays_refused_is_told_with_what_a_client_can_do() {
    use RunErrorCode as Code;
    let mut talk = Talk::new(0.0, &[]).await;
    let turn = talk
        .fault("[[429;retry_after=0.05]] a", Code::UpstreamRateLimited, 3)
        .await;
    assert_eq!(
        (&turn.about["retryable"], &turn.about["afterMs"]),
        (&json!(true), &json!(50))
    );
    assert_eq!(turn.about["upstreamStatus"], 429);
    talk.fault("[[429-bare]] a", Code::UpstreamRateLimited, 3).await;
    let turn = talk
        .fault("[[429;retry_after=60]] a", Code::UpstreamRateLimited, 1)
        .await;
    assert_eq!(
        turn.about["afterMs"], 60_000,
        "a pause that is too long is the client's"
    );
    let turn = talk.fault("[[429-daily]] a", Code::UpstreamRateLimited, 1).await;
    assert_eq!(
        turn.about["retryable"], false,
        "minutes do not bring a day's quota back"
    );
    assert!(turn.about["afterMs"].is_null(), "{turn:?}");
    for word in ["500", "503", "html", "empty-body"] {
        let turn = talk.fault(&format!("[[{word}]] a"), Code::UpstreamUnavailable, 3).await;
        assert_eq!(turn.about["retryable"], true);
    }
    for word in ["401", "403"] {
        talk.fault(&format!("[[{word}]] a"), Code::UpstreamAuth, 1).await;
    }
    let turn = talk.fault("[[402]] a", Code::UpstreamRateLimited, 1).await;
    assert_eq!(turn.about["retryable"], false);
    for word in ["400", "404"] {
        let turn = talk.fault(&format!("[[{word}]] a"), Code::UpstreamError, 1).await;
        assert_eq!(turn.about["retryable"], false);
    }
    let health = talk.kronos.server.get("/api/v1/health/gemini", &[]).await.expect(200);
    assert_eq!(health["status"], "healthy", "the last answer came: {health}");
}

#[tokio::test]
async fn silence_before_the_first_word_is_tried_once_more_and_silence_after_it_is_not() {
    use RunErrorCode as Code;
    let mut talk = Talk::new(0.0, &[]).await;
    let turn = talk
        .fault("[[slow-first-byte 60000]] a", Code::UpstreamTimeout, 2)
        .await;
    assert!(turn.text.is_empty());
    let turn = talk.fault("[[stall;after=0]] a", Code::UpstreamTimeout, 2).await;
    assert!(turn.text.is_empty());
    let turn = talk.fault("[[stall]] [[tokens 40]] a", Code::UpstreamTimeout, 1).await;
    assert!(!turn.text.is_empty(), "what was shown stays");
}

#[tokio::test]
async fn an_answer_that_breaks_after_its_first_word_keeps_its_text_and_is_never_asked_for_again() {
    use RunErrorCode as Code;
    let mut talk = Talk::new(0.0, &[]).await;
    for (word, code) in [
        ("cut", Code::StreamBroken),
        ("truncate", Code::StreamBroken),
        ("truncate-clean", Code::StreamBroken),
        ("midstream", Code::UpstreamUnavailable),
        ("midstream;status=429", Code::UpstreamRateLimited),
        ("midstream-raw", Code::UpstreamUnavailable),
        ("garbage", Code::UpstreamError),
    ] {
        let turn = talk.fault(&format!("[[{word}]] [[tokens 40]] a"), code, 1).await;
        assert!(turn.text.split_whitespace().count() >= 8, "{word}: {turn:?}");
        let lines = talk.kronos.stored("ann", talk.session.as_str()).await;
        let partial = format!("assistant: {}", turn.text);
        assert!(lines.contains(&partial), "{word}: {partial} is not in {lines:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_before_its_first_word_is_tried_again() {
    use RunErrorCode as Code;
    let mut talk = Talk::new(0.0, &[]).await;
    for (word, code, requests) in [
        ("cut", Code::StreamBroken, 3),
        ("truncate", Code::StreamBroken, 3),
        ("truncate-clean", Code::StreamBroken, 3),
        ("midstream", Code::UpstreamUnavailable, 3),
        ("midstream-raw", Code::UpstreamUnavailable, 3),
        ("garbage", Code::UpstreamError, 2),
    ] {
        let turn = talk
            .fault(&format!("[[{word};after=0]] [[tokens 40]] a"), code, requests)
            .await;
        assert!(turn.text.is_empty(), "{word}: {turn:?}");
    }
    for word in ["cut", "truncate-clean", "midstream", "garbage"] {
        let turn = talk
            .turn(&format!("[[{word}-once;after=0]] What is the capital of Japan?"))
            .await;
        assert!(turn.success && turn.text.contains("Tokyo"), "{word}: {turn:?}");
        assert_eq!(turn.retries.len(), 1, "{word}");
    }
}

#[tokio::test]
async fn a_blocked_message_is_never_sent_to_the_model_again() {
    let mut talk = Talk::new(0.0, &[]).await;
    let turn = talk
        .fault("[[blocked]] a forbidden question", RunErrorCode::Blocked, 1)
        .await;
    assert_eq!(turn.about["retryable"], false);
    assert!(turn.about["reason"].is_string(), "{turn:?}");
    assert!(turn.text.is_empty());
    assert!(!talk.last_asked().contains("forbidden"), "{}", talk.last_asked());
    let lines = talk.kronos.stored("ann", talk.session.as_str()).await;
    assert!(
        lines.iter().any(|line| line.contains("forbidden")),
        "the user still sees it: {lines:?}"
    );
    talk.kronos.server.restart().await;
    talk.client.reconnect(&talk.kronos.server.ws_url()).await;
    talk.client.reattach(&talk.session).await;
    talk.next_turn_is_answered().await;
    assert!(!talk.last_asked().contains("forbidden"), "nor after a restart");
}

#[tokio::test]
async fn an_answer_that_the_model_gives_up_says_why_and_keeps_what_was_shown() {
    use RunErrorCode as Code;
    let mut talk = Talk::new(0.0, &[]).await;
    for (word, code, reason) in [
        ("safety", Code::Blocked, "SAFETY"),
        ("recitation", Code::Blocked, "RECITATION"),
        ("finish LANGUAGE", Code::Blocked, "LANGUAGE"),
        ("finish OTHER", Code::UpstreamError, "OTHER"),
        (
            "finish PUP_LIMITED_DISABLED",
            Code::UpstreamAuth,
            "PUP_LIMITED_DISABLED",
        ),
    ] {
        let turn = talk.fault(&format!("[[{word}]] a quotation"), code, 1).await;
        assert_eq!(turn.about["reason"], reason);
        assert!(!turn.text.is_empty(), "{word}");
    }
    let turn = talk.fault("[[malformed]] a", Code::MalformedCall, 4).await;
    assert_eq!(turn.about["reason"], "MALFORMED_FUNCTION_CALL");
    talk.fault("[[empty]] a", Code::EmptyAnswer, 2).await;
}

#[tokio::test]
async fn an_answer_that_reached_its_length_limit_is_a_success_with_a_notice() {
    let mut talk = Talk::new(0.0, &[]).await;
    for (word, has_text) in [("max-tokens", true), ("max-tokens-empty", false)] {
        talk.kronos.gemini.clear();
        let turn = talk.turn(&format!("[[{word}]] [[tokens 40]] a")).await;
        assert!(turn.success, "{turn:?}");
        assert_eq!(turn.notices.len(), 1, "{word}");
        assert_eq!(turn.notices[0]["code"], "max_tokens");
        assert!(
            turn.notices[0]["message"]
                .as_str()
                .is_some_and(|text| text.ends_with('.'))
        );
        assert_eq!(turn.about["finishReason"], "MAX_TOKENS");
        assert_eq!(!turn.text.is_empty(), has_text);
        assert_eq!(talk.kronos.gemini.requests().len(), 1);
        talk.next_turn_is_answered().await;
    }
}

#[tokio::test]
async fn a_model_that_does_not_exist_is_told_and_the_next_turn_uses_the_usual_one() {
    let mut talk = Talk::new(0.0, &[]).await;
    let id: MessageId = "m_x".parse().unwrap();
    let send = Send {
        run: RunOptions {
            model: Some("gemini-0.1-none".to_owned()),
            ..RunOptions::default()
        },
        ..Send::new(talk.session.clone(), id, "Hello!".to_owned())
    };
    let reply = talk.client.command(send).await.expect("the message is taken");
    let kronos_protocol::OkBody::Sent(sent) = reply else {
        panic!("{reply:?}")
    };
    let turn = Turn::follow(&mut talk.client, &sent.run.unwrap()).await;
    assert_eq!(turn.code, "upstream_error");
    assert!(turn.message.contains("model"), "{turn:?}");
    assert_documented(&turn, &talk.kronos);
    talk.next_turn_is_answered().await;
}

#[tokio::test]
async fn a_wrong_key_is_told_and_not_shown() {
    let kronos = kronos_with(0.0, &[("GEMINI_API_KEY", "AIza-invalid-of-the-operator")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let sent = client.send(&session, "m_1", "Hello!", SendMode::Queue).await;
    let turn = Turn::follow(&mut client, &sent.run.unwrap()).await;
    assert_eq!(
        (turn.code.as_str(), &turn.about["attempts"]),
        ("upstream_auth", &json!(1))
    );
    assert_documented(&turn, &kronos);
    let health = kronos.server.get("/api/v1/health/gemini", &[]).await.expect(200);
    assert_eq!(health["status"], "unhealthy", "an operator must mend it: {health}");
    for text in [turn.message, health.to_string(), kronos.server.output()] {
        assert!(!text.contains("of-the-operator"), "{text}");
    }
}

#[tokio::test]
async fn a_server_without_a_model_says_so_on_the_socket_and_over_rest() {
    let env = [
        ("GEMINI_API_KEY", ""),
        ("GEMINI_BASE_URL", ""),
        ("ENVIRONMENT", "staging"),
        ("AUTH_MODE", "development"),
        ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
    ];
    let kronos = kronos_with(0.0, &env).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let sent = client.send(&session, "m_1", "Hello!", SendMode::Queue).await;
    let turn = Turn::follow(&mut client, &sent.run.unwrap()).await;
    assert_eq!(turn.code, "not_configured");
    assert_documented(&turn, &kronos);
    let body = json!({"message": "Hello!", "user_id": "ann"});
    let reply = kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(503);
    assert_eq!(reply["error"]["code"], "CONFIGURATION_ERROR");
    assert_eq!(reply["error"]["details"]["config_key"], "GEMINI_API_KEY");
}

#[tokio::test]
async fn a_run_that_takes_too_long_ends_with_deadline_and_its_connection_is_closed() {
    let mut talk = Talk::new(40.0, &[("RUN_DEADLINE", "700ms")]).await;
    let turn = talk.turn("[[tokens 400]] a story").await;
    assert_eq!(turn.code, "deadline", "{turn:?}");
    assert!(!turn.text.is_empty());
    assert_documented(&turn, &talk.kronos);
    assert_gone(&talk.kronos).await;
    talk.kronos.gemini.set_config(|config| config.tokens_per_second = 0.0);
    talk.next_turn_is_answered().await;
    let turn = talk.turn("[[429;retry_after=1.9]] a").await;
    assert_eq!(
        (turn.code.as_str(), turn.retries.len()),
        ("upstream_rate_limited", 0),
        "no pause outlasts the run"
    );
    assert_eq!(turn.about["afterMs"], 1900);
}

/// The simulator has seen that the client closed the connection of its last request.
async fn assert_gone(kronos: &Kronos) {
    eventually_now(Duration::from_secs(2), "the upstream connection is closed", || {
        let outcome = kronos.gemini.requests().last().expect("a request").outcome.clone();
        matches!(outcome, kronos_sim::Outcome::ClientGone { .. })
            .then_some(())
            .ok_or(format!("{outcome:?}"))
    })
    .await;
}

#[tokio::test]
async fn cancel_closes_the_upstream_connection_at_once() {
    let mut talk = Talk::new(40.0, &[]).await;
    for word in ["[[tokens 400]]", "[[slow-first-byte 60000]]", "[[stall;after=0]]"] {
        let before = talk.kronos.gemini.requests().len();
        let run = talk.say(&format!("{word} a story")).await;
        eventually_now(LIMIT, "the model was asked", || {
            talk.kronos.gemini.requests().len() > before
        })
        .await;
        let at = tokio::time::Instant::now();
        let cancelled = talk.client.cancel(&talk.session).await.expect("cancelled");
        assert_eq!(cancelled.run.as_ref(), Some(&run));
        assert_gone(&talk.kronos).await;
        assert!(at.elapsed() < Duration::from_secs(1), "{word}: {:?}", at.elapsed());
        let turn = Turn::follow(&mut talk.client, &run).await;
        assert!(turn.cancelled, "{word}: {turn:?}");
    }
    talk.kronos.gemini.set_config(|config| config.tokens_per_second = 0.0);
    talk.next_turn_is_answered().await;
}

#[tokio::test]
async fn cancel_ends_the_pause_before_an_attempt_and_no_attempt_follows() {
    let mut talk = Talk::new(0.0, &[("GEMINI_MAX_BACKOFF", "60s")]).await;
    let run = talk.say("[[429;retry_after=30]] a").await;
    let session = talk.session.clone();
    eventually_now(LIMIT, "the model was asked", || {
        !talk.kronos.gemini.requests().is_empty()
    })
    .await;
    let mut turn = Turn::default();
    while turn.retries.is_empty() {
        if let ServerFrame::Events(frame) = talk.client.next_frame(LIMIT).await {
            frame.events.into_iter().for_each(|entry| _ = turn.take(entry.event));
        }
    }
    talk.client.cancel(&session).await.expect("cancelled");
    assert!(Turn::follow(&mut talk.client, &run).await.cancelled);
    talk.next_turn_is_answered().await;
    assert_eq!(
        talk.kronos.gemini.requests().len(),
        2,
        "the cancelled turn was asked for once"
    );
}

/// What the server says about itself and the model.
async fn permits(kronos: &Kronos) -> (u64, u64) {
    let health = kronos.server.get("/api/v1/health/gemini", &[]).await.expect(200);
    (health["running"].as_u64().unwrap(), health["waiting"].as_u64().unwrap())
}

#[tokio::test]
async fn who_finds_no_permit_waits_and_who_finds_no_place_to_wait_is_told_when_to_come_back() {
    let env = [
        ("GEMINI_MAX_CONCURRENT", "1"),
        ("GEMINI_MAX_WAITING", "1"),
        ("GEMINI_IDLE_TIMEOUT", "30s"),
    ];
    let mut first = Talk::new(0.0, &env).await;
    let running = first.say("[[stall]] [[tokens 40]] a").await;
    kronos_testkit::eventually(LIMIT, "the permit is taken", || async {
        permits(&first.kronos).await == (1, 0)
    })
    .await;
    let mut second = first.kronos.client("bob").await;
    let session = second.attach_new().await;
    let waiting = second
        .send(&session, "m_1", "What is the capital of Italy?", SendMode::Queue)
        .await;
    kronos_testkit::eventually(LIMIT, "one waits", || async { permits(&first.kronos).await == (1, 1) }).await;

    let mut third = first.kronos.client("eve").await;
    let refused = third.attach_new().await;
    let sent = third.send(&refused, "m_1", "Hello!", SendMode::Queue).await;
    let turn = Turn::follow(&mut third, &sent.run.unwrap()).await;
    assert_eq!(
        (turn.code.as_str(), &turn.about["retryable"]),
        ("overloaded", &json!(true))
    );
    assert!(turn.about["afterMs"].as_u64() >= Some(1000), "{turn:?}");
    assert_documented(&turn, &first.kronos);
    let body = json!({"message": "Hello!", "user_id": "rest"});
    let reply = first.kronos.server.post("/api/v1/chat/message", &[], &body).await;
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.expect(503)["error"]["code"], "SERVICE_UNAVAILABLE");

    first.client.cancel(&first.session).await.expect("cancelled");
    assert!(Turn::follow(&mut first.client, &running).await.cancelled);
    let turn = Turn::follow(&mut second, &waiting.run.unwrap()).await;
    assert!(
        turn.success && turn.text.contains("Rome"),
        "who waited is answered: {turn:?}"
    );
}

#[tokio::test]
async fn cancel_gives_up_the_place_in_the_queue_for_a_permit() {
    let env = [("GEMINI_MAX_CONCURRENT_PER_USER", "1"), ("GEMINI_IDLE_TIMEOUT", "30s")];
    let mut talk = Talk::new(0.0, &env).await;
    let running = talk.say("[[stall]] [[tokens 40]] a").await;
    kronos_testkit::eventually(LIMIT, "the permit is taken", || async {
        permits(&talk.kronos).await == (1, 0)
    })
    .await;
    let other = talk.client.attach_new().await;
    let waiting = talk.client.send(&other, "w_1", "Hello!", SendMode::Queue).await;
    kronos_testkit::eventually(LIMIT, "one waits", || async { permits(&talk.kronos).await == (1, 1) }).await;
    talk.client.cancel(&other).await.expect("cancelled");
    kronos_testkit::eventually(LIMIT, "nobody waits", || async {
        permits(&talk.kronos).await == (1, 0)
    })
    .await;
    assert!(Turn::follow(&mut talk.client, &waiting.run.unwrap()).await.cancelled);
    talk.client.cancel(&talk.session).await.expect("cancelled");
    assert!(Turn::follow(&mut talk.client, &running).await.cancelled);
    assert_eq!(
        talk.kronos.gemini.requests().len(),
        1,
        "who waited never asked the model"
    );
    talk.next_turn_is_answered().await;
}

#[tokio::test]
async fn the_deadline_counts_while_a_run_waits_for_a_permit() {
    let env = [
        ("GEMINI_MAX_CONCURRENT", "1"),
        ("GEMINI_IDLE_TIMEOUT", "30s"),
        ("RUN_DEADLINE", "1s"),
    ];
    let mut talk = Talk::new(0.0, &env).await;
    let running = talk.say("[[stall]] [[tokens 40]] a").await;
    kronos_testkit::eventually(LIMIT, "the permit is taken", || async {
        permits(&talk.kronos).await == (1, 0)
    })
    .await;
    let mut other = talk.kronos.client("bob").await;
    let session = other.attach_new().await;
    other.send(&session, "m_1", "Hello!", SendMode::Queue).await;
    let last = other.send(&session, "m_2", "Hello again!", SendMode::Queue).await;
    assert!(last.run.is_none(), "it waits behind the first");
    assert_eq!(Turn::follow(&mut talk.client, &running).await.code, "deadline");
    other.until_idle(&session).await;
    let lines = other.transcript(&session).lines();
    assert!(
        lines.last().is_some_and(|line| line.starts_with("assistant: ")),
        "{lines:?}"
    );
    kronos_testkit::eventually(LIMIT, "no permit is leaked", || async {
        permits(&talk.kronos).await == (0, 0)
    })
    .await;
    talk.next_turn_is_answered().await;
}

#[tokio::test]
async fn an_open_circuit_refuses_at_once_and_closes_when_the_model_is_back() {
    let mut talk = Talk::new(
        0.0,
        &[("GEMINI_BREAKER_FAILURES", "3"), ("GEMINI_BREAKER_OPEN", "300ms")],
    )
    .await;
    assert_eq!(talk.turn("[[503]] a").await.code, "upstream_unavailable");
    let turn = talk.turn("Hello!").await;
    assert_eq!((turn.code.as_str(), turn.retries.len()), ("upstream_unavailable", 0));
    assert!(turn.about["afterMs"].is_u64(), "{turn:?}");
    assert_eq!(talk.kronos.gemini.requests().len(), 3, "the model is left alone");
    loop {
        let turn = talk.turn("What is the capital of France?").await;
        if turn.success {
            break;
        }
        assert_eq!((turn.code.as_str(), turn.retries.len()), ("upstream_unavailable", 0));
    }
    talk.next_turn_is_answered().await;
}

#[tokio::test]
async fn over_rest_each_failure_has_the_status_of_the_contract() {
    let talk = Talk::new(0.0, &[("RUN_DEADLINE", "4s")]).await;
    for (word, status, code, retryable, upstream) in [
        ("429;retry_after=0.05", 503, "EXTERNAL_SERVICE_ERROR", true, json!(429)),
        ("429-daily", 503, "EXTERNAL_SERVICE_ERROR", false, json!(429)),
        ("503", 503, "EXTERNAL_SERVICE_ERROR", true, json!(503)),
        ("400", 503, "EXTERNAL_SERVICE_ERROR", false, json!(400)),
        ("403", 503, "EXTERNAL_SERVICE_ERROR", false, json!(403)),
        ("blocked", 503, "EXTERNAL_SERVICE_ERROR", false, Value::Null),
        ("cut", 503, "EXTERNAL_SERVICE_ERROR", true, Value::Null),
        ("empty", 503, "EXTERNAL_SERVICE_ERROR", true, Value::Null),
        ("stall", 504, "EXTERNAL_SERVICE_ERROR", true, Value::Null),
    ] {
        let body = json!({"message": format!("[[{word}]] [[tokens 40]] a"), "user_id": "ann"});
        let reply = talk.kronos.server.post("/api/v1/chat/message", &[], &body).await;
        let error = reply.expect(status)["error"].clone();
        assert_eq!(error["code"], code, "{word}: {error}");
        let details = &error["details"];
        assert_eq!(details["service"], "Gemini", "{word}: {error}");
        assert!(details["operation"].is_string(), "{word}: {error}");
        assert_eq!(details["retryable"], retryable, "{word}: {error}");
        assert_eq!(details["upstream_status"], upstream, "{word}: {error}");
        assert!(!error.to_string().contains("http"), "{word}: {error}");
    }
}
