//! What each operation promises, one case for each good answer, and for each error that is its own.

use std::collections::BTreeSet;

use kronos_testkit::{ConnectOptions, HttpReply, WsClient};
use serde_json::{Value, json};

use super::document::Document;
use crate::{
    composio::decide,
    harness::{Edge, PASSWORD, Pair},
};

/// A server with something in it.
struct World {
    edge: Edge,
    document: Document,
    ada: Pair,
    eve: Pair,
    root: Pair,
    /// Logs out.
    leaver: Pair,
    ada_id: String,
    /// A user to delete.
    doomed_id: String,
    /// Of ada.
    conversation: String,
    /// Of ada, to delete.
    doomed: String,
    /// Of ada, active.
    account: String,
    /// Of ada, in the making, with a place of the client's own.
    pending: String,
    config: String,
    disabled_config: String,
    /// What is remembered about ada.
    memory: String,
    /// A run of ada that is done, and its call.
    done: String,
    /// One that asks whether it may make its call.
    asking: String,
    /// A websocket of ada.
    device: WsClient,
}

/// Begins a connection; returns it and the page where it is decided about.
async fn connect(edge: &Edge, user: &Pair, callback: Option<&str>) -> (String, String) {
    let body = json!({"provider": "github", "callback_url": callback});
    let begun = edge
        .post("/api/v1/composio/connections/initiate", Some(&user.access), body)
        .await
        .expect(200);
    let text = |name: &str| begun[name].as_str().expect("a text").to_owned();
    (text("connection_id"), text("redirect_url"))
}

/// Makes an auth config.
async fn config(edge: &Edge, root: &Pair, toolkit: &str) -> String {
    let body = json!({"name": "made", "toolkit_slug": toolkit});
    let made = edge
        .post("/api/v1/composio/auth-configs", Some(&root.access), body)
        .await
        .expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

/// Has the agent make a call; returns the run and the call.
async fn run(edge: &Edge, user: &Pair, policy: &str) -> String {
    let body = json!({"message": "[[call calculate]] calculate 17 * 23", "tool_policy": policy});
    let answer = edge
        .post("/api/v1/agent/invoke", Some(&user.access), body)
        .await
        .expect(200);
    let (run, call) = (&answer["run_id"], &answer["tool_calls"][0]["id"]);
    format!("{} {}", run.as_str().expect("a run"), call.as_str().expect("a call"))
}

impl World {
    async fn new() -> Self {
        let edge = Edge::simulated().await;
        let document = Document::of(&edge).await;
        let (ada, eve, leaver, doomed) = (
            edge.login("ada").await,
            edge.login("eve").await,
            edge.login("leaver").await,
            edge.login("doomed").await,
        );
        let root = edge.superuser().await;
        let id = async |pair: &Pair| {
            let me = edge.get("/api/v1/auth/me", Some(&pair.access)).await.expect(200);
            me["id"].as_str().expect("an id").to_owned()
        };
        let conversation = async || {
            let body = json!({"message": "What is the capital of Switzerland?"});
            let turn = edge
                .post("/api/v1/chat/message", Some(&ada.access), body)
                .await
                .expect(200);
            turn["conversation_id"].as_str().expect("an id").to_owned()
        };
        let (ada_id, doomed_id) = (id(&ada).await, id(&doomed).await);
        let (conversation, doomed) = (conversation().await, conversation().await);
        let (account, page) = connect(&edge, &ada, None).await;
        decide(&page, "approve").await;
        let (pending, _) = connect(&edge, &ada, Some("http://localhost:3000/done")).await;
        let (config, disabled_config) = (config(&edge, &root, "slack").await, config(&edge, &root, "gmail").await);
        let bearer = format!("Bearer {}", root.access);
        let path = format!("/api/v1/composio/auth-configs/{disabled_config}");
        let disable = json!({"enabled": false});
        let disabled = edge
            .call("PUT", &path, &[("Authorization", &bearer)], Some(&disable))
            .await;
        disabled.expect(200);
        let note = json!({"text": "Likes tea."});
        let memory = edge
            .post("/api/v1/users/me/memories", Some(&ada.access), note)
            .await
            .expect(201);
        let memory = memory["id"].as_str().expect("an id").to_owned();
        let (done, asking) = (run(&edge, &ada, "auto").await, run(&edge, &ada, "ask_all").await);
        let url = format!("ws://{}/ws", edge.addr);
        let device = WsClient::connect(&url, ConnectOptions::token(&ada.access)).await;
        Self {
            device,
            account,
            pending,
            config,
            disabled_config,
            done,
            asking,
            document,
            ada,
            eve,
            root,
            leaver,
            ada_id,
            doomed_id,
            conversation,
            doomed,
            memory,
            edge,
        }
    }

    async fn run(&self, id: &str, ask: Ask) -> HttpReply {
        let operation = self.document.operation(id);
        let path = format!("{}{}", operation.path_with(&ask.path), ask.query);
        let mut headers = ask.headers;
        if let Some(token) = ask.token {
            headers.push(("Authorization", format!("Bearer {token}")));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.edge
            .call(&operation.method, &path, &headers, ask.body.as_ref())
            .await
    }
}

/// A request.
#[derive(Default)]
struct Ask {
    token: Option<String>,
    path: String,
    query: String,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

fn anybody() -> Ask {
    Ask::default()
}

fn by(pair: &Pair) -> Ask {
    Ask {
        token: Some(pair.access.clone()),
        ..Ask::default()
    }
}

impl Ask {
    fn of(self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..self
        }
    }

    fn query(self, query: &str) -> Self {
        let query = query.to_owned();
        Self { query, ..self }
    }

    fn body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

type Case = (&'static str, u16, fn(&World) -> Ask);

fn account(name: &str) -> Value {
    json!({"username": name, "email": format!("{name}@example.com"), "password": PASSWORD})
}

/// What an AG-UI client sends.
fn run_input(thread: &str) -> Value {
    json!({"threadId": thread, "runId": "run-1", "protocolVersion": "1.0", "state": {}, "tools": [], "context": [],
        "messages": [{"id": "u1", "role": "user", "content": "Hello!"}], "forwardedProps": {}})
}

/// In this order: what ends something comes last.
const CASES: &[Case] = &[
    ("openapi", 200, |_| anybody()),
    ("asyncapi", 200, |_| anybody()),
    ("health", 200, |_| anybody()),
    ("health_2", 200, |_| anybody()),
    ("health_live", 200, |_| anybody()),
    ("health_ready", 200, |_| anybody()),
    ("health_detailed", 200, |_| anybody()),
    ("health_database", 200, |_| anybody()),
    ("health_gemini", 200, |_| anybody()),
    ("health_composio", 200, |_| anybody()),
    ("metrics", 200, |_| anybody()),
    ("composio_health", 200, |w| by(&w.ada)),
    ("composio_initiate", 200, |w| {
        by(&w.ada).body(json!({"provider": "slack", "scope": "chat:write"}))
    }),
    ("composio_initiate", 404, |w| {
        by(&w.ada).body(json!({"provider": "nonsense"}))
    }),
    ("composio_initiate", 409, |w| {
        by(&w.ada).body(json!({"provider": w.disabled_config}))
    }),
    ("composio_initiate", 422, |w| {
        by(&w.ada).body(json!({"provider": "hackernews"}))
    }),
    ("composio_initiate_enhanced", 200, |w| {
        by(&w.ada).body(json!({"app_name": "github", "labels": ["work"]}))
    }),
    ("composio_initiate_enhanced", 404, |w| {
        by(&w.ada).body(json!({"app_name": "nonsense"}))
    }),
    ("composio_initiate_enhanced", 409, |w| {
        by(&w.ada).body(json!({"app_name": "gmail", "auth_config_id": w.disabled_config}))
    }),
    ("composio_connections", 200, |w| by(&w.ada).of(&w.ada_id)),
    ("composio_connections", 200, |w| by(&w.root).of(&w.ada_id)),
    ("composio_account", 200, |w| by(&w.ada).of(&w.account)),
    ("composio_account", 404, |w| by(&w.eve).of(&w.account)),
    ("composio_execute", 200, |w| {
        by(&w.ada).body(json!({"action_name": "GITHUB_LIST_REPOSITORY_ISSUES",
            "params": {"owner": "octocat", "repo": "hello-world"}}))
    }),
    ("composio_execute", 200, |w| {
        by(&w.eve).body(json!({"action_name": "GITHUB_LIST_REPOSITORY_ISSUES", "params": {}}))
    }),
    ("composio_execute", 404, |w| {
        by(&w.ada).body(json!({"action_name": "NO_SUCH_TOOL"}))
    }),
    ("composio_disable", 200, |w| by(&w.ada).of(&w.account)),
    ("composio_disable", 409, |w| by(&w.ada).of(&w.pending)),
    ("composio_enable", 200, |w| by(&w.ada).of(&w.account)),
    ("composio_enable", 409, |w| by(&w.ada).of(&w.pending)),
    ("composio_refresh", 200, |w| by(&w.ada).of(&w.account)),
    ("composio_refresh", 200, |w| by(&w.ada).of(&w.pending)),
    ("composio_callback", 200, |_| anybody()),
    ("composio_callback", 200, |w| {
        anybody().query(&format!("?status=success&connected_account_id={}", w.account))
    }),
    ("composio_callback", 303, |w| {
        anybody().query(&format!("?connectedAccountId={}", w.pending))
    }),
    ("composio_disconnect", 200, |w| by(&w.ada).of(&w.pending)),
    ("composio_disconnect", 404, |w| by(&w.ada).of(&w.pending)),
    ("composio_toolkits", 200, |w| by(&w.ada).query("?search=git&limit=5")),
    ("composio_actions", 200, |w| by(&w.ada).of("github").query("?limit=5")),
    ("composio_auth_configs", 200, |w| {
        by(&w.ada).query("?show_disabled=true&limit=1")
    }),
    ("composio_auth_config_create", 201, |w| {
        by(&w.root).body(json!({"name": "Own", "toolkit_slug": "github",
            "credentials": {"client_id": "a", "client_secret": "b"}}))
    }),
    ("composio_auth_config_create", 404, |w| {
        by(&w.root).body(json!({"toolkit_slug": "nonsense"}))
    }),
    ("composio_auth_config", 200, |w| by(&w.ada).of(&w.config)),
    ("composio_auth_config_update", 200, |w| {
        by(&w.root)
            .of(&w.config)
            .body(json!({"name": "Renamed", "status": "DISABLED"}))
    }),
    ("composio_auth_config_delete", 200, |w| by(&w.root).of(&w.config)),
    ("docs", 200, |_| anybody()),
    ("redoc", 200, |_| anybody()),
    ("docs_asset", 200, |_| anybody().of("page.css")),
    ("docs_asset", 200, |_| anybody().of("docs.js")),
    ("docs_asset", 200, |_| anybody().of("icon.svg")),
    ("docs_asset", 200, |_| anybody().of("redoc.LICENSE")),
    ("docs_asset", 404, |_| anybody().of("nothing.js")),
    ("auth_signup", 201, |_| anybody().body(account("newcomer"))),
    ("auth_signup", 409, |_| anybody().body(account("ADA"))),
    ("auth_login", 200, |_| {
        anybody().body(json!({"username": "ada", "password": PASSWORD}))
    }),
    ("auth_login", 200, |_| {
        anybody().body(json!({"email": "ada@example.com", "password": PASSWORD}))
    }),
    ("auth_login", 401, |_| {
        anybody().body(json!({"username": "ada", "password": "wrong horse"}))
    }),
    ("auth_login", 401, |_| {
        anybody().body(json!({"username": "nobody", "password": PASSWORD}))
    }),
    ("auth_refresh", 200, |w| {
        anybody().body(json!({"refresh_token": w.leaver.refresh}))
    }),
    ("auth_refresh", 401, |_| {
        anybody().body(json!({"refresh_token": "forged"}))
    }),
    ("auth_me", 200, |w| by(&w.ada)),
    ("auth_ticket", 200, |w| by(&w.ada)),
    ("log_level_show", 200, |w| by(&w.root)),
    ("log_level_update", 200, |w| {
        by(&w.root).body(json!({"level": "debug", "for_seconds": 1}))
    }),
    ("users_list", 200, |w| by(&w.root).query("?skip=1&limit=2")),
    ("users_create", 201, |w| by(&w.root).body(account("made"))),
    ("users_create", 409, |w| by(&w.root).body(account("Ada"))),
    ("users_show", 200, |w| by(&w.root).of(&w.ada_id)),
    ("users_show", 200, |w| by(&w.ada).of(&w.ada_id)),
    ("users_show", 403, |w| by(&w.eve).of(&w.ada_id)),
    ("users_update", 200, |w| {
        by(&w.ada).of(&w.ada_id).body(json!({"full_name": "Ada Lovelace"}))
    }),
    ("users_update", 403, |w| {
        by(&w.ada).of(&w.ada_id).body(json!({"is_superuser": true}))
    }),
    ("users_update", 403, |w| {
        by(&w.eve).of(&w.ada_id).body(json!({"full_name": "Eve"}))
    }),
    ("users_update", 409, |w| {
        by(&w.ada).of(&w.ada_id).body(json!({"username": "eve"}))
    }),
    ("memories_list", 200, |w| by(&w.ada).query("?limit=1")),
    ("memories_add", 201, |w| by(&w.ada).body(json!({"text": "Has a dog."}))),
    ("memories_delete", 404, |w| by(&w.eve).of(&w.memory)),
    ("memories_clear", 204, |w| by(&w.eve)),
    ("memories_delete", 204, |w| by(&w.ada).of(&w.memory)),
    ("memories_delete", 404, |w| by(&w.ada).of(&w.memory)),
    ("memories_clear", 204, |w| by(&w.ada)),
    ("chat_message", 200, |w| {
        by(&w.ada).body(json!({"message": "Hello!", "conversation_id": w.conversation}))
    }),
    ("chat_message", 404, |w| {
        by(&w.eve).body(json!({"message": "Hello!", "conversation_id": w.conversation}))
    }),
    ("chat_conversation", 200, |w| {
        by(&w.ada).body(json!({"messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello!", "timestamp": "2026-01-01T12:00:00Z"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "What is the capital of Switzerland?"},
        ]}))
    }),
    ("chat_stream", 200, |w| by(&w.ada).body(json!({"message": "Hello!"}))),
    ("chat_stream", 404, |w| {
        by(&w.eve).body(json!({"message": "Hello!", "conversation_id": w.conversation}))
    }),
    ("chat_analyze", 200, |w| {
        by(&w.ada).body(json!({"message": "I love this!", "analysis_type": "sentiment"}))
    }),
    ("chat_analyze", 200, |w| {
        by(&w.ada).query("?message=Hello&analysis_type=topics")
    }),
    ("agent_invoke", 200, |w| {
        by(&w.ada).body(json!({"message": "Hello!", "conversation_id": w.conversation}))
    }),
    ("agent_invoke", 404, |w| {
        by(&w.eve).body(json!({"message": "Hello!", "conversation_id": w.conversation}))
    }),
    ("agent_stream", 200, |w| by(&w.ada).body(json!({"message": "Hello!"}))),
    ("agent_stream", 404, |w| {
        by(&w.eve).body(json!({"message": "Hello!", "conversation_id": w.conversation}))
    }),
    ("agent_analyze_intent", 200, |w| {
        by(&w.ada).body(json!({"message": "Mail the report to Ana"}))
    }),
    ("agent_analyze_intent", 200, |w| by(&w.ada).query("?message=Hello")),
    ("agent_capabilities", 200, |w| by(&w.ada)),
    ("agent_run", 200, |w| by(&w.ada).of(&w.done)),
    ("agent_run", 200, |w| by(&w.ada).of(&w.asking)),
    ("agent_run", 404, |w| by(&w.eve).of(&w.asking)),
    ("agent_cancel", 409, |w| by(&w.ada).of(&w.done)),
    ("agent_tool_result", 200, |w| by(&w.ada).of(&w.done)),
    ("agent_questions", 200, |w| by(&w.ada).of(&w.asking)),
    ("agent_approve", 404, |w| {
        by(&w.eve).of(&w.asking).body(json!({"decision": "approve"}))
    }),
    ("agent_approve", 200, |w| {
        by(&w.ada).of(&w.asking).body(json!({"decision": "approve"}))
    }),
    ("agent_approve", 409, |w| {
        by(&w.ada).of(&w.asking).body(json!({"decision": "reject"}))
    }),
    ("agent_answer", 409, |w| {
        by(&w.ada).of(&w.asking).body(json!({"action": "skip"}))
    }),
    ("agent_ag_ui", 200, |w| by(&w.ada).body(run_input("a thread"))),
    ("copilotkit_info", 200, |w| by(&w.ada)),
    ("copilotkit_run", 200, |w| {
        by(&w.ada).of("default").body(run_input("another-thread"))
    }),
    ("copilotkit_connect", 200, |w| {
        by(&w.ada).of("default").body(run_input("another-thread"))
    }),
    ("copilotkit_stop", 200, |w| by(&w.ada).of("default another-thread")),
    ("chat_list", 200, |w| by(&w.ada).query("?limit=1")),
    ("chat_show", 200, |w| by(&w.ada).of(&w.conversation)),
    ("chat_messages", 200, |w| {
        by(&w.ada).of(&w.conversation).query("?limit=1")
    }),
    ("chat_rename", 200, |w| {
        by(&w.ada).of(&w.conversation).body(json!({"title": "Capitals"}))
    }),
    ("chat_events", 200, |w| {
        by(&w.ada).of(&w.conversation).header("Accept", "application/x-ndjson")
    }),
    ("chat_export", 200, |w| by(&w.ada).of(&w.conversation)),
    ("chat_export", 200, |w| {
        by(&w.ada).of(&w.conversation).query("?format=markdown")
    }),
    ("chat_export", 200, |w| {
        by(&w.ada).of(&w.conversation).query("?format=recording")
    }),
    ("admin_turns", 200, |w| by(&w.root).query("?sort=first_token&limit=5")),
    ("admin_turn_timeline", 200, |w| by(&w.root).of(&w.done)),
    ("admin_turn_timeline", 404, |w| by(&w.root).of("r_none")),
    ("chat_unpark", 200, |w| by(&w.ada).of(&w.conversation)),
    ("chat_delete", 204, |w| by(&w.ada).of(&w.doomed)),
    ("chat_delete", 404, |w| by(&w.ada).of(&w.doomed)),
    ("admin_sessions", 200, |w| {
        by(&w.root).query(&format!("?limit=1&state=live&user={}", w.ada_id))
    }),
    ("admin_session", 200, |w| by(&w.root).of(&w.conversation)),
    ("admin_session", 404, |w| by(&w.root).of("nothing")),
    ("admin_connections", 200, |w| {
        by(&w.root).query(&format!("?limit=1&user={}", w.ada_id))
    }),
    ("admin_connection", 200, |w| {
        by(&w.root).of(w.device.welcome().connection.as_str())
    }),
    ("admin_runs", 200, |w| {
        by(&w.root).query("?state=waiting&older_than_s=0")
    }),
    ("admin_actors", 200, |w| by(&w.root).query("?limit=3")),
    ("admin_evict", 200, |w| by(&w.root).of(&w.conversation)),
    ("admin_evict", 200, |w| {
        by(&w.root).of(&w.conversation).query("?force=true")
    }),
    ("admin_park", 200, |w| by(&w.root).of(&w.conversation)),
    ("admin_park", 200, |w| by(&w.root).of(&w.conversation)),
    ("admin_session", 200, |w| by(&w.root).of(&w.conversation)),
    ("chat_unpark", 403, |w| by(&w.ada).of(&w.conversation)),
    ("admin_unpark", 200, |w| by(&w.root).of(&w.conversation)),
    ("admin_unpark", 200, |w| by(&w.root).of(&w.conversation)),
    ("admin_close_connection", 202, |w| {
        by(&w.root)
            .of(w.device.welcome().connection.as_str())
            .query("?code=try_later&after_ms=1000")
    }),
    ("auth_logout", 200, |w| by(&w.leaver)),
    ("auth_logout", 401, |w| by(&w.leaver)),
    ("users_delete", 403, |w| by(&w.ada).of(&w.doomed_id)),
    ("users_delete", 204, |w| by(&w.root).of(&w.doomed_id)),
    ("users_delete", 404, |w| by(&w.root).of(&w.doomed_id)),
    // The last: the server goes.
    ("admin_drain", 202, |w| by(&w.root)),
];

/// Errors that `every.rs` provokes for all operations that document them.
const EVERYWHERE: &[u16] = &[401, 403, 404, 408, 413, 415, 422, 429];

/// Errors that cannot be provoked from outside at every operation, and what shows them instead.
const ELSEWHERE: &[(u16, &str)] = &[
    (
        500,
        "a bug: src/edge/request.rs panics in a handler, in an extractor and in a body",
    ),
    (
        503,
        "a store that fails: tests/chaos/disk.rs; a model that fails: tests/it/upstream.rs and tests/edge/analyze.rs; \
         a Composio that fails: composio/execute.rs",
    ),
    (
        504,
        "a model that is silent: tests/it/upstream.rs and tests/edge/analyze.rs; a silent Composio: composio/execute.rs",
    ),
];

/// Errors that need more than one request, and what shows them.
const APART: &[(&str, u16, &str)] = &[
    ("memories_add", 409, "a user with as many notes as may be: memories.rs"),
    (
        "composio_webhook",
        200,
        "an event with a signature: composio/webhook.rs",
    ),
    (
        "chat_message",
        409,
        "a message that waits and is taken back: chat/turns.rs",
    ),
    (
        "chat_stream",
        409,
        "a message that waits and is taken back: chat/turns.rs",
    ),
    (
        "agent_invoke",
        409,
        "a message that waits and is taken back: agent/invoke.rs",
    ),
    (
        "agent_stream",
        409,
        "a message that waits and is taken back: agent/invoke.rs",
    ),
    ("admin_evict", 409, "a run that is active: admin.rs"),
    ("agent_cancel", 200, "a run that is active: agent/runs.rs"),
    ("agent_answer", 200, "a call whose outcome is unknown: agent/runs.rs"),
    ("agent_ag_ui", 409, "a thread with an active run: agent/agui.rs"),
    ("copilotkit_run", 409, "a thread with an active run: agent/copilot.rs"),
    (
        "chat_conversation",
        409,
        "a message that waits and is taken back: chat/turns.rs",
    ),
];

#[actix_web::test]
async fn each_operation_keeps_what_it_promises() {
    let world = World::new().await;
    for (id, status, make) in CASES {
        let reply = world.run(id, make(&world)).await;
        assert_eq!(reply.status, *status, "{id}: {}", reply.text());
        world.document.check(id, &reply);
    }
    world.edge.finish().await;
}

#[actix_web::test]
async fn what_is_somebody_elses_is_not_there() {
    let world = World::new().await;
    let mut tried = 0;
    for (id, operation) in &world.document.operations {
        let of_ada = match operation.path.as_str() {
            path if path.starts_with("/api/v1/chat/{id}") => Some(&world.conversation),
            path if path.starts_with("/api/v1/agent/runs/{run_id}") => Some(&world.asking),
            _ => None,
        };
        if let Some(path) = of_ada {
            let ask = by(&world.eve).of(path);
            let ask = match operation.example() {
                Some(body) => ask.body(body),
                None => ask,
            };
            let reply = world.run(id, ask).await;
            assert_eq!(reply.status, 404, "{id}: {}", reply.text());
            world.document.check(id, &reply);
            tried += 1;
        }
    }
    assert!(tried >= 13, "{tried}");
    let others = world.run("memories_delete", by(&world.eve).of(&world.memory)).await;
    assert_eq!(others.status, 404, "{}", others.text());
    for id in ["memories_list", "memories_clear"] {
        let ask = by(&world.eve).query("?user_id=ada");
        assert_eq!(world.run(id, ask).await.status, 403, "{id}");
    }
    assert_eq!(world.run("memories_clear", by(&world.eve)).await.status, 204);
    let kept = world.run("memories_list", by(&world.ada)).await.text();
    assert!(kept.contains(&world.memory), "{kept}");
    world.edge.finish().await;
}

#[actix_web::test]
async fn no_operation_and_no_documented_answer_is_untested() {
    let edge = Edge::start().await;
    let document = Document::of(&edge).await;
    let tested: BTreeSet<(&str, u16)> = CASES.iter().map(|(id, status, _)| (*id, *status)).collect();
    let mut untested = Vec::new();
    for (id, operation) in &document.operations {
        for status in operation.statuses() {
            let elsewhere = EVERYWHERE.contains(&status) || ELSEWHERE.iter().any(|(other, _)| *other == status);
            let apart = APART.iter().any(|(other, code, _)| other == id && *code == status);
            if !tested.contains(&(id.as_str(), status)) && !elsewhere && !apart {
                untested.push(format!("{id} {status}"));
            }
        }
    }
    assert!(untested.is_empty(), "no case for {untested:?}");
    edge.finish().await;
}
