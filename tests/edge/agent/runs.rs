//! Runs with tools: what is shown of them, who may stop them, and who answers their questions.

use kronos_sim::{ComposioHandle, ComposioScript, ComposioSim, ComposioSimConfig, ScriptedReply, SimHandle};
use kronos_testkit::eventually;
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    chat::simulated,
    harness::{Answer as _, Edge, Pair},
};

const INVOKE: &str = "/api/v1/agent/invoke";

fn path(run: &str, rest: &str) -> String {
    format!("/api/v1/agent/runs/{run}{rest}")
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a text: {value}"))
        .to_owned()
}

async fn server() -> (Edge, SimHandle, Pair, Pair) {
    let (edge, sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    (edge, sim, ada, eve)
}

fn sum(expression: &str) -> ScriptedReply {
    ScriptedReply::call("calculate", json!({"expression": expression}))
}

/// A run that asks whether it may call `calculate`: the run and the call.
async fn asking(edge: &Edge, sim: &SimHandle, pair: &Pair) -> (String, String, Value) {
    sim.script(vec![sum("17 * 23"), ScriptedReply::text(["Done."])]);
    let body = json!({"message": "how much?", "tool_policy": "ask_all"});
    let answer = edge.post(INVOKE, Some(&pair.access), body).await.expect(200);
    assert_eq!(answer["status"], "waiting", "{answer}");
    let question = &answer["interrupts"][0];
    assert_eq!(question["reason"], "tool_call");
    assert_eq!(answer["tool_calls"][0]["status"], "waiting");
    assert_eq!(answer["tool_calls"][0]["id"], question["tool_call_id"]);
    (text(&answer["run_id"]), text(&question["tool_call_id"]), answer)
}

/// The run, once it is over.
async fn over(edge: &Edge, pair: &Pair, run: &str) -> Value {
    eventually(Duration::from_secs(10), "the run is over", async || {
        let shown = edge.get(&path(run, ""), Some(&pair.access)).await.expect(200);
        (shown["status"] != "running").then_some(shown)
    })
    .await
}

#[actix_web::test]
async fn a_run_calls_tools_until_it_answers() {
    let (edge, sim, ada, eve) = server().await;
    sim.script(vec![sum("17 * 23"), ScriptedReply::text(["It is 391."])]);
    let body = json!({"message": "how much?", "context": {"unit": "apples"}});
    let answer = edge.post(INVOKE, Some(&ada.access), body).await.expect(200);
    assert_eq!(
        (&answer["response"], &answer["status"]),
        (&json!("It is 391."), &json!("succeeded"))
    );
    assert_eq!(answer["steps"], 2);
    let call = &answer["tool_calls"][0];
    assert_eq!((&call["tool"], &call["status"]), (&json!("calculate"), &json!("done")));
    assert!(text(&call["result"]).contains("391"), "{call}");
    assert!(
        sim.requests()[0].body.to_string().contains("apples"),
        "the model is told the context"
    );

    let run = text(&answer["run_id"]);
    let shown = edge.get(&path(&run, ""), Some(&ada.access)).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["tool_calls"], &shown["conversation_id"]),
        (&json!("succeeded"), &answer["tool_calls"], &answer["conversation_id"])
    );
    assert!(shown["ended_at"].is_string() && shown["usage"]["totalTokens"].is_u64());
    assert_eq!(shown["next_run_id"], Value::Null);
    let result = path(&run, &format!("/tool-calls/{}/result", text(&call["id"])));
    let whole = edge.get(&result, Some(&ada.access)).await.expect(200);
    assert!(whole.to_string().contains("391"), "{whole}");
    // Somebody else's run is not there.
    for path in [path(&run, ""), result, path(&run, "/approvals")] {
        edge.get(&path, Some(&eve.access)).await.is(404);
        edge.get(&path, None).await.is(401);
    }
    let other = path(&run, "/tool-calls/other/result");
    edge.get(&other, Some(&ada.access)).await.is(404);
    for run in ["r_1", "no-run", &format!("{run}x")] {
        edge.get(&path(run, ""), Some(&ada.access)).await.is(404);
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_large_result_is_there_as_a_whole() {
    let (edge, sim) = simulated(0.0, |config| config.session.tool_result_bytes = 1024).await;
    let ada = edge.login("ada").await;
    let note = format!("remember {}", "x".repeat(900));
    sim.script(vec![
        ScriptedReply::call("remember", json!({"text": note})).then_call("remember", json!({"text": note + "y"})),
        ScriptedReply::call("recall", json!({})),
        ScriptedReply::text(["I know."]),
    ]);
    let body = json!({"message": "what do you know?"});
    let answer = edge.post(INVOKE, Some(&ada.access), body).await.expect(200);
    let calls = answer["tool_calls"].as_array().expect("calls");
    let recall = calls.iter().find(|call| call["tool"] == "recall").expect("a recall");
    assert!(text(&recall["result"]).len() <= 1200, "{recall}");
    let path = path(
        &text(&answer["run_id"]),
        &format!("/tool-calls/{}/result", text(&recall["id"])),
    );
    let whole = edge.get(&path, Some(&ada.access)).await.expect(200);
    assert!(whole.to_string().len() > 1800, "{whole}");
    edge.finish().await;
}

#[actix_web::test]
async fn an_approval_lets_the_turn_go_on_and_the_first_one_counts() {
    let (edge, sim, ada, eve) = server().await;
    let (run, call, answer) = asking(&edge, &sim, &ada).await;
    let shown = edge.get(&path(&run, ""), Some(&ada.access)).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["interrupts"]),
        (&json!("waiting"), &answer["interrupts"])
    );
    let open = edge.get(&path(&run, "/approvals"), Some(&ada.access)).await.expect(200);
    assert_eq!(open["items"], answer["interrupts"]);

    let approve = path(&run, &format!("/approvals/{call}"));
    let edited = json!({"decision": "approve", "arguments": {"expression": "2 + 2"}});
    for (body, field) in [
        (json!({}), "body.decision"),
        (json!({"decision": "maybe"}), "body.decision"),
        (json!({"decision": "reject", "arguments": {}}), "body.arguments"),
        (json!({"decision": "approve", "arguments": [1]}), "body.arguments"),
    ] {
        let error = edge.post(&approve, Some(&ada.access), body).await.expect(422);
        assert_eq!(error["error"]["details"]["errors"][0]["field"], field);
    }
    // Arguments that the tool does not take.
    let wrong = json!({"decision": "approve", "arguments": {"expression": 7}});
    edge.post(&approve, Some(&ada.access), wrong).await.is(422);
    edge.post(&approve, None, edited.clone()).await.is(401);
    edge.post(&approve, Some(&eve.access), edited.clone()).await.is(404);
    let other = path(&run, "/approvals/other");
    edge.post(&other, Some(&ada.access), edited.clone()).await.is(404);

    let decided = edge.post(&approve, Some(&ada.access), edited).await.expect(200);
    assert_eq!(
        (&decided["verdict"], &decided["open"]),
        (&json!("approved"), &json!([]))
    );
    let next = text(&decided["run_id"]);
    let shown = over(&edge, &ada, &next).await;
    assert_eq!(shown["status"], "succeeded");
    assert!(text(&shown["tool_calls"][0]["result"]).contains('4'), "{shown}");
    let before = edge.get(&path(&run, ""), Some(&ada.access)).await.expect(200);
    assert_eq!(
        (&before["status"], &before["next_run_id"]),
        (&json!("answered"), &json!(next))
    );

    let late = json!({"decision": "reject"});
    let error = edge.post(&approve, Some(&ada.access), late).await.expect(409);
    assert_eq!(error["error"]["code"], "CONFLICT");
    let details = &error["error"]["details"];
    assert_eq!(
        (&details["verdict"], &details["toolCallId"]),
        (&json!("approved"), &json!(call))
    );
    assert_eq!(details["answeredBy"]["device"], "rest");
    edge.finish().await;
}

#[actix_web::test]
async fn a_call_that_is_rejected_is_not_made() {
    let (edge, sim, ada, _) = server().await;
    let (run, call, _) = asking(&edge, &sim, &ada).await;
    // It is a question for an approval, and no other.
    let answer = path(&run, &format!("/answers/{call}"));
    for (body, status) in [
        (json!({"action": "retry"}), 404),
        (json!({"action": "result"}), 422),
        (json!({"action": "skip", "result": 1}), 422),
        (json!({}), 422),
    ] {
        edge.post(&answer, Some(&ada.access), body).await.is(status);
    }
    let approve = path(&run, &format!("/approvals/{call}"));
    let reject = json!({"decision": "reject"});
    let decided = edge.post(&approve, Some(&ada.access), reject).await.expect(200);
    assert_eq!(decided["verdict"], "rejected");
    let shown = over(&edge, &ada, &text(&decided["run_id"])).await;
    assert_eq!(
        (&shown["status"], &shown["tool_calls"][0]["status"]),
        (&json!("succeeded"), &json!("rejected"))
    );
    edge.finish().await;
}

#[actix_web::test]
async fn two_who_answer_at_once_learn_who_decided() {
    let (edge, sim, ada, _) = server().await;
    let (run, call, _) = asking(&edge, &sim, &ada).await;
    let approve = path(&run, &format!("/approvals/{call}"));
    let (one, other) = tokio::join!(
        edge.post(&approve, Some(&ada.access), json!({"decision": "approve"})),
        edge.post(&approve, Some(&ada.access), json!({"decision": "reject"})),
    );
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let (won, lost) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!(lost.json()["error"]["details"]["verdict"], won.json()["verdict"]);
    edge.finish().await;
}

const ISSUE: &str = r#"[[call GITHUB_CREATE_ISSUE {"owner":"acme","repo":"shop","title":"Broken"}]] please"#;

/// A server with tools of Composio, a user and that user's id.
async fn connected() -> (Edge, ComposioHandle, SimHandle, Pair, String) {
    let composio = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let (edge, sim) = simulated(0.0, |config| {
        config.composio.base_url = composio.url();
        config.composio.api_key = Some("ak_test".into());
        config.composio.execute_timeout = Duration::from_secs(1);
    })
    .await;
    let ada = edge.login("ada").await;
    let me = edge.get("/api/v1/auth/me", Some(&ada.access)).await.expect(200);
    let id = text(&me["id"]);
    (edge, composio, sim, ada, id)
}

/// Asks for an issue; the question that comes of it, with the path that answers it.
async fn issue(edge: &Edge, pair: &Pair, reason: &str) -> (Value, String) {
    let body = json!({"message": ISSUE, "toolkits": ["github"], "tool_policy": "auto"});
    let answer = edge.post(INVOKE, Some(&pair.access), body).await.expect(200);
    let question = answer["interrupts"][0].clone();
    assert_eq!(question["reason"], reason, "{answer}");
    let rest = format!("/answers/{}", text(&question["tool_call_id"]));
    (question, path(&text(&answer["run_id"]), &rest))
}

#[actix_web::test]
async fn what_became_of_a_call_is_for_a_person_to_say() {
    let (edge, composio, _sim, ada, id) = connected().await;
    composio.connect(&id, "github").expect("connected");
    let hang = || vec![ComposioScript::fault("hang-after-effect").on("GITHUB_CREATE_ISSUE")];
    composio.script(hang());
    let (_, answer) = issue(&edge, &ada, "kronos:unknown_outcome").await;
    let eve = edge.login("eve").await;
    let result = json!({"action": "result", "result": {"number": 7}});
    edge.post(&answer, Some(&eve.access), result.clone()).await.is(404);
    let connected = json!({"action": "connected"});
    edge.post(&answer, Some(&ada.access), connected).await.is(422);
    let decided = edge.post(&answer, Some(&ada.access), result.clone()).await.expect(200);
    assert_eq!(decided["verdict"], "result");
    let shown = over(&edge, &ada, &text(&decided["run_id"])).await;
    assert_eq!(shown["status"], "succeeded");
    assert!(text(&shown["tool_calls"][0]["result"]).contains('7'), "{shown}");
    assert_eq!(composio.effects().len(), 1, "it was not called again");
    edge.post(&answer, Some(&ada.access), result).await.is(409);
    edge.finish().await;
}

#[actix_web::test]
async fn an_account_that_is_missing_is_asked_for_with_a_link() {
    let (edge, composio, _sim, ada, _) = connected().await;
    let (question, answer) = issue(&edge, &ada, "kronos:connection_required").await;
    assert!(text(&question["redirect_url"]).starts_with("http"), "{question}");
    edge.post(&answer, Some(&ada.access), json!({"action": "retry"}))
        .await
        .is(422);
    let connection = text(&question["metadata"]["kronos"]["connectionId"]);
    assert!(composio.set_status(&connection, "ACTIVE"));
    // Whoever does not wait for the server to notice says so.
    let reply = edge
        .post(&answer, Some(&ada.access), json!({"action": "connected"}))
        .await;
    assert!([200, 409].contains(&reply.status), "{}", reply.text());
    eventually(Duration::from_secs(10), "the issue is made", async || {
        composio.effects().len() == 1
    })
    .await;
    edge.finish().await;
}

#[actix_web::test]
async fn a_run_is_stopped_by_its_id_once() {
    let (edge, _sim) = simulated(50.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let body = json!({"message": "[[tokens 900]] go", "toolkits": []});
    let mut stream = crate::chat::open(&edge, "POST", "/api/v1/agent/stream", &ada, Some(body)).await;
    let begun = stream.until(|event| event.kind() == "TEXT_MESSAGE_CONTENT").await;
    let run = text(&begun[0].json()["runId"]);
    let shown = edge.get(&path(&run, ""), Some(&ada.access)).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["ended_at"]),
        (&json!("running"), &Value::Null)
    );
    let cancel = path(&run, "/cancel");
    edge.post(&cancel, None, json!({})).await.is(401);
    edge.post(&cancel, Some(&eve.access), json!({})).await.is(404);
    let cancelled = edge.post(&cancel, Some(&ada.access), json!({})).await.expect(200);
    assert_eq!(
        (&cancelled["run_id"], &cancelled["status"]),
        (&json!(run), &json!("cancelled"))
    );
    let events = stream.rest().await;
    assert_eq!(super::last(&events)["outcome"]["type"], "cancelled");
    let error = edge.post(&cancel, Some(&ada.access), json!({})).await.expect(409);
    assert_eq!(error["error"]["details"]["resource"], "Run");
    edge.finish().await;
}

#[actix_web::test]
async fn a_chat_turn_is_a_plain_answer() {
    let (edge, sim, ada, _) = server().await;
    let body = json!({"message": "calculate 17 * 23"});
    edge.post("/api/v1/chat/message", Some(&ada.access), body).await.is(200);
    assert!(sim.requests()[0].body.get("tools").is_none());
    edge.finish().await;
}
