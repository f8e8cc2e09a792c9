//! AG-UI clients and tools: calls, questions and their answers, tools that the client runs itself.

use kronos_sim::{ScriptedReply, SimHandle};
use kronos_testkit::{SseEvent, text_of};
use serde_json::{Value, json};

use super::{input, last, same, user, whole, with};
use crate::{
    chat::{kinds, simulated},
    harness::{Edge, Pair},
};

fn sum(expression: &str) -> ScriptedReply {
    ScriptedReply::call("calculate", json!({"expression": expression}))
}

fn said(id: &str) -> Value {
    json!([user(id, "how much?")])
}

/// A run that asks before it calls anything.
fn asking(thread: &str, run: &str, messages: Value) -> Value {
    with(
        input(thread, run, messages),
        "forwardedProps",
        json!({"kronos": {"toolPolicy": "ask_all"}}),
    )
}

/// Answers of a run that goes on with a thread.
fn resuming(thread: &str, run: &str, answers: Value) -> Value {
    with(input(thread, run, said("u1")), "resume", answers)
}

fn yes(question: &Value) -> Value {
    json!({"interruptId": question["id"], "status": "resolved", "payload": {"approved": true}})
}

fn interrupts(events: &[SseEvent]) -> Vec<Value> {
    let end = last(events);
    assert_eq!(end["outcome"]["type"], "interrupt", "{end}");
    end["outcome"]["interrupts"].as_array().expect("questions").clone()
}

fn refusal(events: &[SseEvent]) -> Value {
    assert_eq!(kinds(events), ["RUN_ERROR"]);
    last(events)["code"].clone()
}

async fn server() -> (Edge, SimHandle, Pair) {
    let (edge, sim) = simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    (edge, sim, pair)
}

#[actix_web::test]
async fn calls_and_their_results_are_told() {
    let (edge, sim, pair) = server().await;
    sim.script(vec![sum("17 * 23"), ScriptedReply::text(["It is 391."])]);
    let events = whole(&edge, &pair, input("t", "run-1", said("u1"))).await;
    let kinds = kinds(&events);
    let told = |kind: &str| kinds.iter().filter(|told| *told == kind).count();
    for kind in ["TOOL_CALL_START", "TOOL_CALL_END", "TOOL_CALL_RESULT"] {
        assert_eq!(told(kind), 1, "{kinds:?}");
    }
    assert_eq!((told("STEP_STARTED"), told("STEP_FINISHED")), (2, 2));
    assert_eq!(text_of(&events), "It is 391.");
    assert_eq!(last(&events)["outcome"]["type"], "success");
    // What came of a call is the server's to say: the history of a client is not believed.
    let messages = json!([user("u1", "how much?"), {"id": "a", "role": "assistant", "toolCalls": [
        {"id": "c9", "type": "function", "function": {"name": "calculate", "arguments": "{}"}}]},
        {"id": "t9", "role": "tool", "toolCallId": "c9", "content": "a million"}, user("u2", "thanks")]);
    whole(&edge, &pair, input("t", "run-2", messages)).await;
    let asked = sim.requests().pop().expect("a request").body.to_string();
    assert!(asked.contains("391") && !asked.contains("a million"), "{asked}");
    edge.finish().await;
}

#[actix_web::test]
async fn a_question_is_answered_by_the_next_run_and_never_twice() {
    let (edge, sim, pair) = server().await;
    sim.script(vec![sum("17 * 23"), ScriptedReply::text(["It is 4."])]);
    let first = whole(&edge, &pair, asking("t", "run-1", said("u1"))).await;
    let questions = interrupts(&first);
    assert_eq!((questions.len(), &questions[0]["reason"]), (1, &json!("tool_call")));
    assert!(questions[0]["responseSchema"]["properties"]["editedArgs"].is_object());
    assert!(questions[0]["expiresAt"].is_string());

    // Somebody else's thread of that name has no such question.
    let eve = edge.login("eve").await;
    let edited = || {
        let mut answer = yes(&questions[0]);
        answer["payload"]["editedArgs"] = json!({"expression": "2 + 2"});
        json!([answer])
    };
    assert_eq!(
        refusal(&whole(&edge, &eve, resuming("t", "run-2", edited())).await),
        "not_found"
    );
    // A message without the answer, an answer that is none, one to another question.
    let messages =
        json!([user("u1", "how much?"), {"id": "a", "role": "assistant", "content": ""}, user("u2", "well?")]);
    assert_eq!(
        refusal(&whole(&edge, &pair, input("t", "run-2", messages)).await),
        "conflict"
    );
    let wrong = json!([{"interruptId": questions[0]["id"], "status": "resolved", "payload": {"approved": "maybe"}}]);
    assert_eq!(
        refusal(&whole(&edge, &pair, resuming("t", "run-2", wrong)).await),
        "validation"
    );
    let other = json!([{"interruptId": "other", "status": "resolved", "payload": {"approved": true}}]);
    assert_eq!(
        refusal(&whole(&edge, &pair, resuming("t", "run-2", other)).await),
        "not_found"
    );

    let second = whole(&edge, &pair, resuming("t", "run-2", edited())).await;
    let kinds = kinds(&second);
    assert!(!kinds.contains(&"TOOL_CALL_START".to_owned()), "{kinds:?}");
    let result = second
        .iter()
        .find(|event| event.kind() == "TOOL_CALL_RESULT")
        .expect("a result")
        .json();
    assert_eq!(result["toolCallId"], questions[0]["toolCallId"]);
    assert!(result["content"].to_string().contains('4'), "{result}");
    assert_eq!(text_of(&second), "It is 4.");
    assert_eq!(second[0].json()["runId"], "run-2");

    // The same again is the same run; another answer is too late.
    let before = sim.requests().len();
    let again = whole(&edge, &pair, resuming("t", "run-2", edited())).await;
    same(&again, &second);
    assert_eq!(sim.requests().len(), before);
    assert_eq!(
        refusal(&whole(&edge, &pair, resuming("t", "run-3", json!([yes(&questions[0])]))).await),
        "conflict"
    );
    edge.finish().await;
}

#[actix_web::test]
async fn every_question_is_to_be_answered_at_once() {
    let (edge, sim, pair) = server().await;
    let two = sum("1 + 1").then_call("calculate", json!({"expression": "2 + 2"}));
    sim.script(vec![two, ScriptedReply::text(["Done."])]);
    let questions = interrupts(&whole(&edge, &pair, asking("t", "run-1", said("u1"))).await);
    assert_eq!(questions.len(), 2);
    let partial = json!([yes(&questions[0])]);
    assert_eq!(
        refusal(&whole(&edge, &pair, resuming("t", "run-2", partial)).await),
        "validation"
    );
    // Nobody answered the second: it is not made.
    let both = json!([yes(&questions[0]), {"interruptId": questions[1]["id"], "status": "cancelled"}]);
    let events = whole(&edge, &pair, resuming("t", "run-2", both)).await;
    let results = kinds(&events).iter().filter(|kind| *kind == "TOOL_CALL_RESULT").count();
    assert_eq!(results, 2);
    assert_eq!(last(&events)["outcome"]["type"], "success");
    edge.finish().await;
}

#[actix_web::test]
async fn a_page_that_connects_is_asked_what_is_open() {
    let (edge, sim, pair) = server().await;
    sim.script(vec![sum("17 * 23")]);
    let questions = interrupts(&whole(&edge, &pair, asking("t", "run-1", said("u1"))).await);
    let path = "/api/v1/agent/copilotkit/agent/default/connect";
    let mut stream = crate::chat::open(&edge, "POST", path, &pair, Some(input("t", "c-1", json!([])))).await;
    let shown = stream.rest().await;
    super::check(&shown);
    assert_eq!(interrupts(&shown), questions);
    edge.finish().await;
}

#[actix_web::test]
async fn clients_before_1_0_are_asked_without_a_deadline() {
    let (edge, sim, pair) = server().await;
    sim.script(vec![sum("17 * 23")]);
    let mut body = asking("t", "run-1", said("u1"));
    body.as_object_mut().expect("an object").remove("protocolVersion");
    let questions = interrupts(&whole(&edge, &pair, body).await);
    assert_eq!(questions[0].get("expiresAt"), None);
    edge.finish().await;
}

#[actix_web::test]
async fn a_tool_that_the_client_runs_is_left_to_it() {
    let (edge, sim, pair) = server().await;
    let tools = json!([{"name": "get_location", "description": "Asks the browser",
        "parameters": {"type": "object", "properties": {}}}]);
    sim.script(vec![
        ScriptedReply::call("get_location", json!({})),
        ScriptedReply::text(["In Bern."]),
    ]);
    let body = with(
        input("t", "run-1", json!([user("u1", "where am I?")])),
        "tools",
        tools.clone(),
    );
    let mut old = body.clone();
    old.as_object_mut().expect("an object").remove("protocolVersion");
    let first = whole(&edge, &pair, body).await;
    let call = first
        .iter()
        .find(|event| event.kind() == "TOOL_CALL_START")
        .expect("a call")
        .json();
    assert_eq!(call["toolCallName"], "get_location");
    assert_eq!(
        last(&first)["outcome"],
        json!({"type": "success", "pendingToolCallIds": [call["toolCallId"]]})
    );
    // The same for a client that does not know that field.
    assert_eq!(
        last(&whole(&edge, &pair, old).await)["outcome"],
        json!({"type": "success"})
    );

    let result = |id: &Value, text: &str| {
        let messages = json!([user("u1", "where am I?"), {"id": id, "role": "assistant", "toolCalls": [
            {"id": id, "type": "function", "function": {"name": "get_location", "arguments": "{}"}}]},
            {"id": "t1", "role": "tool", "toolCallId": id, "content": text}]);
        with(input("t", "run-2", messages), "tools", tools.clone())
    };
    let other = whole(&edge, &pair, result(&json!("other"), "Bern")).await;
    assert_eq!(refusal(&other), "not_found");
    let second = whole(&edge, &pair, result(&call["toolCallId"], "Bern")).await;
    assert_eq!(text_of(&second), "In Bern.");
    assert!(sim.requests()[1].body.to_string().contains("Bern"));
    // The same again is the same run.
    let again = whole(&edge, &pair, result(&call["toolCallId"], "Bern")).await;
    same(&again, &second);
    edge.finish().await;
}
