//! What an operator sees of a running server, and does to it.

use std::time::Duration;

use kronos::config::{AuthMode, Config};
use kronos_protocol::{Codec, ErrorCode, SendMode, ServerFrame, SessionId};
use kronos_testkit::{ConnectOptions, HttpReply, WsClient, eventually};
use serde_json::{Value, json};

use crate::{
    api::document::Document,
    harness::{Answer as _, Edge, Pair, rooted},
};

const LIMIT: Duration = Duration::from_secs(30);

/// A server whose model takes its time.
async fn server(change: impl FnOnce(&mut Config)) -> Edge {
    Edge::with(|config| {
        config.simulator.start = true;
        config.simulator.start_composio = true;
        config.simulator.tokens_per_second = 40.0;
        config.session.fault_injection = true;
        // Nothing leaves by itself.
        config.session.idle_timeout = Duration::from_secs(3600);
        config.session.hang_timeout = Duration::from_secs(3600);
        config.server.admin_timeout = Duration::from_millis(500);
        rooted(config);
        change(config);
    })
    .await
}

async fn device(edge: &Edge, user: &Pair, codec: Codec) -> WsClient {
    let options = ConnectOptions {
        limit: LIMIT,
        ..ConnectOptions::token(&user.access).codec(codec)
    };
    WsClient::connect(&format!("ws://{}/ws", edge.addr), options).await
}

async fn act(edge: &Edge, root: &Pair, method: &str, path: &str) -> HttpReply {
    let bearer = format!("Bearer {}", root.access);
    let path = format!("/api/v1/admin/{path}");
    edge.call(method, &path, &[("Authorization", &bearer)], None).await
}

/// Reads a list or an item.
async fn see(edge: &Edge, root: &Pair, path: &str) -> Value {
    act(edge, root, "GET", path).await.expect(200)
}

/// The item of a list with this value in a field.
async fn find(edge: &Edge, root: &Pair, path: &str, field: &str, value: &str) -> Value {
    let list = see(edge, root, path).await;
    let found = items(&list).iter().find(|item| item[field] == value);
    found.unwrap_or_else(|| panic!("no {field} {value}: {list}")).clone()
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().expect("items")
}

async fn id_of(edge: &Edge, user: &Pair) -> String {
    let me = edge.get("/api/v1/auth/me", Some(&user.access)).await.expect(200);
    me["id"].as_str().expect("an id").to_owned()
}

/// Starts a long answer; returns when it has begun.
async fn long_run(client: &mut WsClient, session: &SessionId) {
    client
        .send(session, "m_1", "[[tokens 4000]] tell me a long story", SendMode::Queue)
        .await;
    client
        .until("some text", |client| {
            !client.transcript(session).last_answer().is_empty()
        })
        .await;
}

/// Has a run end with a question; returns its session.
async fn ask_for_approval(edge: &Edge, user: &Pair) -> String {
    let body = json!({"message": "[[call calculate]] calculate 17 * 23", "tool_policy": "ask_all"});
    let answer = edge
        .post("/api/v1/agent/invoke", Some(&user.access), body)
        .await
        .expect(200);
    answer["conversation_id"].as_str().expect("a conversation").to_owned()
}

#[actix_web::test]
async fn the_lists_show_what_is_there() {
    let edge = server(|_| {}).await;
    let (root, ada, eve) = (edge.superuser().await, edge.login("ada").await, edge.login("eve").await);
    let (ada_id, eve_id) = (id_of(&edge, &ada).await, id_of(&edge, &eve).await);
    let mut a = device(&edge, &ada, Codec::Json).await;
    let mut e = device(&edge, &eve, Codec::Msgpack).await;
    let (running, asleep, parked) = (a.attach_new().await, e.attach_new().await, e.attach_new().await);
    let asking = ask_for_approval(&edge, &eve).await;
    // It attaches, and reads nothing from then on.
    let mut stalled = device(&edge, &ada, Codec::Json).await;
    stalled.attach(&running, None).await;
    long_run(&mut a, &running).await;
    act(&edge, &root, "POST", &format!("sessions/{asleep}/evict"))
        .await
        .is(200);
    act(&edge, &root, "POST", &format!("sessions/{parked}/park"))
        .await
        .is(200);

    let item = see(&edge, &root, &format!("sessions/{running}")).await;
    assert_eq!(
        (&item["state"], &item["owner"]),
        (&json!("live"), &json!(ada_id)),
        "{item}"
    );
    assert_eq!(
        (&item["answering"], &item["attachments"]),
        (&json!(true), &json!(2)),
        "{item}"
    );
    let run = &item["seen"]["run"];
    assert_eq!(
        (&run["state"], &run["waits_for"]),
        (&json!("running"), &json!(["model"])),
        "{item}"
    );
    assert!(
        item["seen"]["tail_bytes"].as_u64() > Some(0) && run["model"].is_string(),
        "{item}"
    );
    assert!(!item.to_string().contains("long story"), "no contents: {item}");

    let states = [(&asleep, "asleep", 1), (&parked, "parked", 0)];
    for (session, state, attachments) in states {
        let item = find(&edge, &root, &format!("sessions?state={state}"), "id", session.as_str()).await;
        assert_eq!(
            (&item["owner"], &item["attachments"]),
            (&json!(eve_id), &json!(attachments)),
            "{item}"
        );
        assert_eq!(item["state"], state, "{item}");
    }
    let item = see(&edge, &root, &format!("sessions/{parked}")).await;
    assert_eq!(item["parked"]["reason"], "operator");

    let runs = see(&edge, &root, "runs").await;
    assert_eq!(items(&runs).len(), 2, "{runs}");
    let item = find(&edge, &root, "runs?state=waiting", "session", &asking).await;
    assert_eq!(
        (&item["questions"], &item["run"]["waits_for"]),
        (&json!(1), &json!(["people"])),
        "{item}"
    );
    let item = find(
        &edge,
        &root,
        &format!("runs?user={ada_id}"),
        "session",
        running.as_str(),
    )
    .await;
    assert_eq!(item["run"]["state"], "running");
    assert!(items(&see(&edge, &root, "runs?older_than_s=1200").await).is_empty());
    edge.clock.advance(Duration::from_secs(1200));
    assert_eq!(items(&see(&edge, &root, "runs?older_than_s=1200").await).len(), 2);

    connections(&edge, &root, (&ada_id, &eve_id), &stalled, &e).await;
    actors(&edge, &root).await;
    edge.finish().await;
}

async fn connections(edge: &Edge, root: &Pair, (ada, eve): (&str, &str), stalled: &WsClient, e: &WsClient) {
    assert_eq!(items(&see(edge, root, "connections").await).len(), 3);
    assert_eq!(
        items(&see(edge, root, &format!("connections?user={ada}")).await).len(),
        2
    );
    let item = see(edge, root, &format!("connections/{}", e.welcome().connection)).await;
    assert_eq!(
        (&item["user"], &item["codec"]),
        (&json!(eve), &json!("msgpack")),
        "{item}"
    );
    assert_eq!(
        (&item["answering"], &item["network"]),
        (&json!(true), &json!("127.0.0.1")),
        "{item}"
    );
    eventually(LIMIT, "of the parked one it is told", async || {
        let item = see(edge, root, &format!("connections/{}", e.welcome().connection)).await;
        let attachments = item["seen"]["attachments"].as_array().unwrap().clone();
        attachments.len() == 1 && attachments[0]["state"] == "asleep"
    })
    .await;
    let path = format!("connections/{}", stalled.welcome().connection);
    let unread = async || see(edge, root, &path).await["unread_bytes"].as_u64().unwrap();
    let first = eventually(LIMIT, "something is unread", async || {
        Some(unread().await).filter(|bytes| *bytes > 0)
    })
    .await;
    eventually(LIMIT, "more is unread", async || unread().await > first).await;
}

async fn actors(edge: &Edge, root: &Pair) {
    let list = see(edge, root, "actors").await;
    let kinds: Vec<_> = items(&list).iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["composio", "connections", "directory", "gemini", "store"],
        "{list}"
    );
    assert!(items(&list).iter().all(|item| item["answering"] == true), "{list}");
    let of = |kind: &str| items(&list).iter().find(|item| item["kind"] == kind).unwrap();
    assert_eq!(of("connections")["connections"]["websockets"], 3);
    assert_eq!(of("gemini")["upstream"]["running"], 1);
    assert_eq!(of("directory")["directory"]["asleep"], 1);
    assert!(of("store")["store"]["commits"].as_u64() > Some(0));
}

#[actix_web::test]
async fn pages_end_where_they_say() {
    let edge = server(|_| {}).await;
    let (root, ada) = (edge.superuser().await, edge.login("ada").await);
    let mut devices = Vec::new();
    for _ in 0..3 {
        let mut device = device(&edge, &ada, Codec::Json).await;
        let session = device.attach_new().await;
        long_run(&mut device, &session).await;
        devices.push(device);
    }
    for (list, id) in [
        ("sessions", "/id"),
        ("connections", "/id"),
        ("runs", "/session"),
        ("actors", "/id"),
    ] {
        let whole = see(&edge, &root, list).await;
        let count = items(&whole).len();
        assert!(count >= 3 && whole["next_cursor"].is_null(), "{whole}");
        let ids = |list: &Value| -> Vec<Value> {
            items(list)
                .iter()
                .map(|item| item.pointer(id).unwrap().clone())
                .collect()
        };
        for limit in [count, count + 1] {
            let page = see(&edge, &root, &format!("{list}?limit={limit}")).await;
            assert_eq!(ids(&page), ids(&whole), "{list} {limit}");
            assert!(page["next_cursor"].is_null(), "{list} {limit}");
        }
        let first = see(&edge, &root, &format!("{list}?limit={}", count - 1)).await;
        let cursor = first["next_cursor"].as_str().expect("there is more");
        let last = see(&edge, &root, &format!("{list}?limit={}&cursor={cursor}", count - 1)).await;
        assert!(last["next_cursor"].is_null(), "{list}");
        assert_eq!([ids(&first), ids(&last)].concat(), ids(&whole), "{list}");
        let bad = act(&edge, &root, "GET", &format!("{list}?cursor=%21")).await;
        bad.is(422);
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_session_that_hangs_is_listed_and_can_be_ended() {
    let edge = server(|config| config.server.admin_timeout = Duration::from_millis(200)).await;
    let (root, ada) = (edge.superuser().await, edge.login("ada").await);
    let mut a = device(&edge, &ada, Codec::Json).await;
    let (well, hangs) = (a.attach_new().await, a.attach_new().await);
    let hang = json!({"op": "send", "session": hangs, "id": "m_1", "content": "[[hang]]"});
    let reference = a.start(hang).await;
    eventually(LIMIT, "it does not answer", async || {
        see(&edge, &root, &format!("sessions/{hangs}")).await["answering"] == false
    })
    .await;
    let item = find(&edge, &root, "sessions?state=live", "id", hangs.as_str()).await;
    assert_eq!(
        (&item["seen"], &item["working"]),
        (&json!(null), &json!(true)),
        "{item}"
    );
    assert_eq!(
        item["owner"],
        id_of(&edge, &ada).await.as_str(),
        "the store says whose it is"
    );
    let item = find(&edge, &root, "sessions", "id", well.as_str()).await;
    assert_eq!(item["answering"], true, "nobody else is held up: {item}");
    let item = find(&edge, &root, "runs", "session", hangs.as_str()).await;
    assert_eq!(
        (&item["answering"], &item["run"]),
        (&json!(false), &json!(null)),
        "it may hide one"
    );

    let evict = format!("sessions/{hangs}/evict");
    let refused = act(&edge, &root, "POST", &evict).await.expect(409);
    assert_eq!(refused["error"]["code"], "CONFLICT");
    let ended = act(&edge, &root, "POST", &format!("{evict}?force=true"))
        .await
        .expect(200);
    assert_eq!(
        (&ended["evicted"], &ended["ended"]),
        (&json!(false), &json!(true)),
        "{ended}"
    );
    // The connection sends once more what was not answered; then it says so.
    eventually(LIMIT, "it answers again", async || {
        let forced = act(&edge, &root, "POST", &format!("{evict}?force=true")).await;
        let answers = see(&edge, &root, &format!("sessions/{hangs}")).await["answering"] == true;
        answers && forced.expect(200)["ended"] == false
    })
    .await;
    assert!(a.reply(&reference).await.is_err(), "what hung was not taken");
    a.ask(&hangs, "m_2", "[[tokens 3]] are you there?").await;
    a.finish().await;
    edge.finish().await;
}

#[actix_web::test]
async fn a_closed_connection_is_told_why_and_whether_to_come_back() {
    let edge = server(|_| {}).await;
    let (root, ada) = (edge.superuser().await, edge.login("ada").await);
    for (query, code, reason) in [
        ("", 1012, r#"{"retry":true}"#),
        (
            "?code=try_later&after_ms=1500",
            1013,
            r#"{"retry":true,"after_ms":1500}"#,
        ),
        ("?code=forbidden", 4403, r#"{"retry":false}"#),
    ] {
        let mut a = device(&edge, &ada, Codec::Json).await;
        let path = format!("connections/{}", a.welcome().connection);
        let closing = act(&edge, &root, "DELETE", &format!("{path}{query}")).await.expect(202);
        assert_eq!(closing["code"], code);
        let closed = a.closed().await;
        assert_eq!((closed.code, closed.text.as_str()), (code, reason));
        eventually(LIMIT, "it is gone", async || {
            act(&edge, &root, "GET", &path).await.status == 404
        })
        .await;
        act(&edge, &root, "DELETE", &path).await.is(404);
    }
    // One that does not even read its close frame.
    let mut silent = device(&edge, &ada, Codec::Json).await;
    let session = silent.attach_new().await;
    long_run(&mut silent, &session).await;
    let path = format!("connections/{}", silent.welcome().connection);
    act(&edge, &root, "DELETE", &path).await.is(202);
    eventually(LIMIT, "it is cut", async || {
        act(&edge, &root, "GET", &path).await.status == 404
    })
    .await;
    let too_long = act(&edge, &root, "DELETE", &format!("{path}?after_ms=3600001")).await;
    too_long.is(422);
    edge.finish().await;
}

/// Waits for the error that a session's cursor ended with.
async fn told_of(client: &mut WsClient) -> (ErrorCode, Value) {
    loop {
        if let ServerFrame::Error { error, .. } = client.next_frame(LIMIT).await {
            return (error.code, error.details);
        }
    }
}

#[actix_web::test]
async fn a_parked_session_stays_closed_until_an_operator_opens_it() {
    let edge = server(|_| {}).await;
    let (root, ada) = (edge.superuser().await, edge.login("ada").await);
    let mut a = device(&edge, &ada, Codec::Json).await;
    let (session, asleep) = (a.attach_new().await, a.attach_new().await);
    a.send(&session, "m_1", "[[tokens 40]] tell me a story", SendMode::Queue)
        .await;
    a.until_running(&session).await;
    let first = a.active_run(&session).expect("a run").clone();
    act(&edge, &root, "POST", &format!("sessions/{asleep}/evict"))
        .await
        .is(200);
    for session in [&session, &asleep] {
        let park = format!("sessions/{session}/park");
        assert_eq!(act(&edge, &root, "POST", &park).await.expect(200)["parked"], true);
        let (code, details) = told_of(&mut a).await;
        assert_eq!(code, ErrorCode::Parked);
        assert_eq!(
            (&details["reason"], &details["session"]),
            (&json!("operator"), &json!(session))
        );
        assert_eq!(
            act(&edge, &root, "POST", &park).await.expect(200)["parked"],
            false,
            "twice"
        );
        let attach = json!({"op": "attach", "session": session});
        assert_eq!(a.request(attach).await.expect_err("closed").code, ErrorCode::Parked);
    }
    let own = edge
        .post(&format!("/api/v1/chat/{session}/unpark"), Some(&ada.access), json!({}))
        .await;
    own.is(403);
    let unpark = format!("sessions/{session}/unpark");
    assert_eq!(act(&edge, &root, "POST", &unpark).await.expect(200)["unparked"], true);
    assert_eq!(
        act(&edge, &root, "POST", &unpark).await.expect(200)["unparked"],
        false,
        "twice"
    );
    a.reattach(&session).await;
    a.until("the turn is tried again", |a| {
        a.active_run(&session).is_some_and(|run| *run != first)
    })
    .await;
    a.until_idle(&session).await;
    a.finish().await;
    edge.finish().await;
}

#[actix_web::test]
async fn an_evicted_session_keeps_its_sockets_and_wakes_for_the_next_input() {
    let edge = server(|config| config.simulator.tokens_per_second = 0.0).await;
    let (root, ada) = (edge.superuser().await, edge.login("ada").await);
    let (mut a, mut b) = (
        device(&edge, &ada, Codec::Json).await,
        device(&edge, &ada, Codec::Msgpack).await,
    );
    let session = a.attach_new().await;
    b.attach(&session, None).await;
    let path = format!("sessions/{session}");
    for turn in 0..3 {
        a.ask(&session, &format!("m_{turn}"), "[[tokens 5]] hello").await;
        b.until("the other device has it", |b| b.cursor(&session) == a.cursor(&session))
            .await;
        let evicted = act(&edge, &root, "POST", &format!("{path}/evict")).await.expect(200);
        assert_eq!(
            (&evicted["evicted"], &evicted["interrupted"]),
            (&json!(true), &json!(false))
        );
        let item = see(&edge, &root, &path).await;
        assert_eq!(
            (&item["state"], &item["attachments"]),
            (&json!("asleep"), &json!(2)),
            "{item}"
        );
        let again = act(&edge, &root, "POST", &format!("{path}/evict")).await.expect(200);
        assert_eq!(again["evicted"], false, "it is out already");
    }
    let answer = a.ask(&session, "m_9", "[[tokens 5]] and now?").await;
    b.until("the answer", |b| b.cursor(&session) == a.cursor(&session))
        .await;
    assert_eq!(b.transcript(&session).last_answer(), answer);
    assert_eq!(a.transcript(&session).messages.len(), 8, "nothing was lost");
    a.finish().await;
    b.finish().await;
    edge.finish().await;
}

#[actix_web::test]
async fn a_session_that_is_evicted_in_mid_run_goes_on_as_after_a_crash() {
    let edge = server(|_| {}).await;
    let (root, ada) = (edge.superuser().await, edge.login("ada").await);
    let mut a = device(&edge, &ada, Codec::Json).await;
    let session = a.attach_new().await;
    a.send(&session, "m_1", "[[tokens 60]] tell me a story", SendMode::Queue)
        .await;
    a.until("some text", |a| !a.transcript(&session).last_answer().is_empty())
        .await;
    let first = a.active_run(&session).expect("a run").clone();
    let evict = format!("sessions/{session}/evict");
    act(&edge, &root, "POST", &evict).await.is(409);
    assert_eq!(a.active_run(&session), Some(&first), "it goes on");
    let evicted = act(&edge, &root, "POST", &format!("{evict}?force=true"))
        .await
        .expect(200);
    assert_eq!(
        (&evicted["evicted"], &evicted["interrupted"]),
        (&json!(true), &json!(true)),
        "{evicted}"
    );
    a.until("another run", |a| {
        a.active_run(&session).is_some_and(|run| *run != first)
    })
    .await;
    a.until_idle(&session).await;
    let stored = edge
        .get(&format!("/api/v1/chat/{session}"), Some(&ada.access))
        .await
        .expect(200);
    let last = stored["messages"].as_array().unwrap().last().unwrap()["content"].clone();
    assert_eq!(last, a.transcript(&session).last_answer());
    a.finish().await;
    edge.finish().await;
}

#[actix_web::test]
async fn nobody_but_a_superuser_gets_anything() {
    let edge = Edge::with(|config| {
        config.auth.mode = AuthMode::Development;
        rooted(config);
    })
    .await;
    let document = Document::of(&edge).await;
    let ada = edge.login("ada").await;
    let mut tried = 0;
    for (id, operation) in &document.operations {
        if !operation.path.starts_with("/api/v1/admin/") {
            continue;
        }
        let path = operation.path_with("nobody");
        let bearer = format!("Bearer {}", ada.access);
        let (guest, user) = (&[][..], &[("Authorization", bearer.as_str())][..]);
        for (headers, status, code) in [(guest, 401, "AUTHENTICATION_ERROR"), (user, 403, "AUTHORIZATION_ERROR")] {
            let reply = edge
                .call(&operation.method, &path, headers, operation.example().as_ref())
                .await;
            assert_eq!(reply.expect(status)["error"]["code"], code, "{id}");
        }
        tried += 1;
    }
    assert!(tried >= 11, "{tried}");
    edge.finish().await;
}
