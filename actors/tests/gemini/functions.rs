//! Functions: what is declared, that calls are heard and kept, and that the simulator takes what goes back.

use std::sync::Arc;

use kronos_actors::gemini::{
    Calling, Content, Function, FunctionCall, GenerateRequest, Progress, Role, calls_of, function_response,
};
use kronos_protocol::error::RunErrorCode;
use kronos_sim::{ScriptedChunk, ScriptedEnd, ScriptedReply};
use serde_json::{Value, json};

use crate::harness::{Bench, failed, finished, part, request, retries, text};

fn function(name: &str, parameters: Value) -> Function {
    Function {
        name: name.to_owned(),
        description: "What it does.".to_owned(),
        parameters: Some(Arc::new(parameters)),
    }
}

fn functions() -> Arc<[Function]> {
    let text = || json!({"type": "string"});
    vec![
        function(
            "current_time",
            json!({"type": "object", "properties": {"timezone": text()}}),
        ),
        function(
            "calculate",
            json!({"$schema": "x", "type": "object", "properties": {"expression": {"$ref": "#/$defs/text"}},
                "required": ["expression", "gone"], "$defs": {"text": {"type": "string", "title": "Text"}}}),
        ),
    ]
    .into()
}

fn with_functions(text: &str) -> GenerateRequest {
    GenerateRequest {
        functions: functions(),
        ..request(text)
    }
}

fn user(parts: Vec<Value>) -> Content {
    Content {
        role: Role::User,
        parts,
    }
}

fn calls(events: &[Progress]) -> Vec<FunctionCall> {
    let calls = events.iter().filter_map(|progress| match progress {
        Progress::Call(call) => Some(call.clone()),
        _ => None,
    });
    calls.collect()
}

/// The conversation after the model's calls were answered by `answer`.
fn answered(mut asked: GenerateRequest, parts: &[Value], answer: impl Fn(&FunctionCall) -> Value) -> GenerateRequest {
    let calls = calls_of(parts);
    asked.contents.push(Content {
        role: Role::Model,
        parts: parts.to_vec(),
    });
    let responses = calls.iter().map(|call| function_response(call, answer(call)));
    asked.contents.push(user(responses.collect()));
    asked
}

#[actix::test]
async fn two_parallel_calls_are_made_and_their_results_are_in_the_answer() {
    let bench = Bench::start(|_| {});
    let asked = with_functions("What time is it and what is 12*34?");
    let events = bench.ask_with(asked.clone(), None).end().await;
    let done = finished(&events);
    let heard = calls(&events);
    assert_eq!(heard, calls_of(&done.parts), "each once, in order");
    let names: Vec<_> = heard.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["current_time", "calculate"]);
    assert_eq!(heard[1].arguments["expression"], "12*34");
    let signed: Vec<_> = done
        .parts
        .iter()
        .map(|part| part["thoughtSignature"].is_string())
        .collect();
    assert_eq!(signed, [true, false], "{:?}", done.parts);
    assert_eq!(done.finish_reason, "STOP");

    let sent = &bench.sim.requests()[0].body;
    assert_eq!(sent["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        sent["tools"][0]["functionDeclarations"][1],
        json!({"name": "calculate", "description": "What it does.", "parametersJsonSchema":
            {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}})
    );
    assert_eq!(sent["toolConfig"], json!({"functionCallingConfig": {"mode": "AUTO"}}));

    let next = answered(asked, &done.parts, |call| match call.name.as_str() {
        "calculate" => json!(408),
        _ => json!({"error": "the clock has stopped"}),
    });
    let events = bench.ask_with(next, None).end().await;
    let answer = text(&events);
    assert!(
        answer.contains("408") && answer.contains("the clock has stopped"),
        "{answer}"
    );
    assert!(calls(&events).is_empty());
    let sent = &bench.sim.requests()[1].body["contents"];
    assert_eq!(sent[1]["parts"], json!(done.parts), "as they came, signatures included");
    assert_eq!(sent[2]["role"], "user");
    assert_eq!(
        sent[2]["parts"][1]["functionResponse"],
        json!({"id": heard[1].id, "name": "calculate", "response": {"output": 408}})
    );
}

#[actix::test]
async fn steps_follow_each_other_and_a_message_may_join_the_results() {
    let bench = Bench::start(|_| {});
    let mut asked = with_functions("[[steps 2]] [[call current_time]]");
    for _ in 0..2 {
        let events = bench.ask_with(asked.clone(), None).end().await;
        assert_eq!(calls(&events).len(), 1);
        asked = answered(asked, &finished(&events).parts, |_| json!("noon"));
    }
    let last = asked.contents.last_mut().unwrap();
    last.parts.push(json!({"text": "Be brief."}));
    let events = bench.ask_with(asked, None).end().await;
    let answer = text(&events);
    assert!(
        answer.matches("noon").count() == 2 && answer.contains("Be brief."),
        "{answer}"
    );
}

#[actix::test]
async fn a_history_of_another_model_is_taken() {
    let bench = Bench::start(|_| {});
    let mut asked = with_functions("what is 2*3?");
    let call = json!({"functionCall": {"name": "calculate", "args": {"expression": "2*3"}}});
    asked = answered(asked, &[call.clone(), call], |_| json!(6));
    let events = bench.ask_with(asked, None).end().await;
    assert!(text(&events).contains('6'));
    let parts = &bench.sim.requests()[0].body["contents"][1]["parts"];
    assert_eq!(parts[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert!(parts[1].get("thoughtSignature").is_none());
}

#[actix::test]
async fn a_conversation_whose_results_are_lost_is_still_answered() {
    let bench = Bench::start(|_| {});
    let mut asked = with_functions("what is 2*3 and what time is it?");
    let events = bench.ask_with(asked.clone(), None).end().await;
    asked.contents.push(Content {
        role: Role::Model,
        parts: finished(&events).parts.clone(),
    });
    asked.contents.push(user(vec![json!({"text": "hello?"})]));
    finished(&bench.ask_with(asked, None).end().await);
    let parts = bench.sim.requests()[1].body["contents"][2]["parts"].clone();
    assert!(parts[0]["functionResponse"]["response"]["error"].is_string(), "{parts}");
    assert_eq!(parts[2], json!({"text": "hello?"}));
}

#[actix::test]
async fn both_shapes_of_calls_in_a_stream_are_read() {
    let call = |id: Option<&str>, name: &str, signature: Option<&str>| {
        let mut part = json!({"functionCall": {"name": name, "args": {"n": 1}}});
        if let Some(id) = id {
            part["functionCall"]["id"] = json!(id);
        }
        if let Some(signature) = signature {
            part["thoughtSignature"] = json!(signature);
        }
        part
    };
    let chunk = |json: Value| ScriptedChunk {
        json: Some(json),
        ..ScriptedChunk::default()
    };
    let end = json!({"candidates": [{"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP",
        "finishMessage": "Model generated function call(s)."}]});
    let (f, g) = (call(Some("1"), "f", Some("cw==")), call(Some("2"), "g", None));
    let separate = ScriptedReply {
        chunks: vec![
            chunk(part(json!({"text": "I look."}))),
            chunk(part(f.clone())),
            chunk(part(g.clone())),
            // Some servers say a call again, without its signature.
            chunk(part(call(Some("1"), "f", None))),
            chunk(end),
        ],
        end: ScriptedEnd::Truncate,
        ..ScriptedReply::default()
    };
    let (p, q) = (call(None, "f", Some("cw==")), call(None, "f", None));
    let together = json!({"candidates": [{"content": {"parts": [p, q], "role": "model"}, "finishReason": "STOP"}]});
    let together = ScriptedReply {
        chunks: vec![chunk(together)],
        end: ScriptedEnd::Truncate,
        ..ScriptedReply::default()
    };
    let bench = Bench::scripted(vec![separate, together]);
    let events = bench.ask_with(with_functions("a"), None).end().await;
    assert!(
        matches!(&events[1], Progress::Delta { text, .. } if text == "I look."),
        "{events:?}"
    );
    assert!(matches!(&events[2..4], [Progress::Call(f), Progress::Call(g)] if f.name == "f" && g.name == "g"));
    assert_eq!(finished(&events).parts, [json!({"text": "I look."}), f, g]);
    let events = bench.ask_with(with_functions("a"), None).end().await;
    assert_eq!((calls(&events).len(), finished(&events).parts.clone()), (2, vec![p, q]));
}

#[actix::test]
async fn a_call_in_an_answer_that_was_cut_off_is_heard_and_not_kept() {
    let reply = ScriptedReply::text(["I call."]).then_call("f", json!({}));
    let bench = Bench::scripted(vec![reply.ending(ScriptedEnd::Finish("MAX_TOKENS".to_owned()))]);
    let events = bench.ask_with(with_functions("a"), None).end().await;
    assert_eq!(calls(&events).len(), 1);
    assert!(finished(&events).truncated && calls_of(&finished(&events).parts).is_empty());
}

#[actix::test]
async fn the_model_must_or_must_not_call() {
    let bench = Bench::start(|_| {});
    let mode = |calling, text| GenerateRequest {
        calling,
        ..with_functions(text)
    };
    let any = bench.ask_with(mode(Calling::Any, "hello"), None).end().await;
    assert_eq!(calls(&any).len(), 1);
    let none = bench
        .ask_with(mode(Calling::None, "[[call current_time]] hello"), None)
        .end()
        .await;
    assert!(calls(&none).is_empty() && !text(&none).is_empty());
    let sent = &bench.sim.requests()[1].body;
    assert_eq!(sent["toolConfig"]["functionCallingConfig"]["mode"], "NONE");
    assert!(sent["tools"].is_array(), "declared all the same");
    let plain = bench.ask("hello").end().await;
    assert!(!text(&plain).is_empty());
    let sent = &bench.sim.requests()[2].body;
    assert!(sent.get("tools").is_none() && sent.get("toolConfig").is_none());
}

/// What Gemini says when it does not take the declaration at `place`.
fn refusal(place: usize, in_details: bool) -> ScriptedReply {
    let field = format!("tools[0].function_declarations[{place}].parameters_json_schema");
    let details = json!([{"@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": field, "description": "schema is odd"}]}]);
    let (message, details) = if in_details {
        ("Invalid value".to_owned(), details)
    } else {
        (format!("* GenerateContentRequest.{field}: schema is odd\n"), json!([]))
    };
    let error = json!({"code": 400, "status": "INVALID_ARGUMENT", "message": message, "details": details});
    ScriptedReply::error(400, Some(json!({"error": error})))
}

fn declared(bench: &Bench, number: usize) -> Vec<String> {
    let body = bench.sim.requests()[number].body.clone();
    let functions = body["tools"][0]["functionDeclarations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    functions
        .iter()
        .map(|function| function["name"].as_str().unwrap().to_owned())
        .collect()
}

#[actix::test]
async fn a_function_that_gemini_refuses_is_left_out_from_then_on() {
    for in_details in [true, false] {
        let bench = Bench::scripted(vec![refusal(0, in_details)]);
        let asked = with_functions("what is 2*3?");
        let events = bench.ask_with(asked.clone(), None).end().await;
        assert_eq!(calls(&events).len(), 1, "{events:?}");
        assert!(retries(&events).is_empty());
        assert_eq!(declared(&bench, 0), ["current_time", "calculate"]);
        assert_eq!(declared(&bench, 1), ["calculate"]);
        finished(&bench.ask_with(asked, None).end().await);
        assert_eq!(declared(&bench, 2), ["calculate"], "the list remembers");

        bench.sim.script(vec![refusal(0, in_details)]);
        finished(&bench.ask_with(with_functions("hello"), None).end().await);
    }
}

#[actix::test]
async fn a_request_is_mended_once_and_only_for_functions_that_it_has() {
    let bench = Bench::scripted(vec![
        refusal(0, true),
        refusal(0, true),
        refusal(2, true),
        refusal(0, true),
    ]);
    let events = bench.ask_with(with_functions("hello"), None).end().await;
    assert_eq!(
        (failed(&events).code, failed(&events).attempts),
        (RunErrorCode::UpstreamError, 2)
    );
    let events = bench.ask_with(with_functions("hello"), None).end().await;
    assert_eq!(failed(&events).attempts, 1, "no such function");
    let events = bench.ask("hello").end().await;
    assert_eq!(failed(&events).attempts, 1, "none was declared");
}

#[actix::test]
async fn the_last_function_that_is_left_out_leaves_no_tools() {
    let bench = Bench::scripted(vec![refusal(0, true)]);
    let asked = GenerateRequest {
        functions: functions().iter().take(1).cloned().collect(),
        calling: Calling::Any,
        ..request("hello")
    };
    let events = bench.ask_with(asked, None).end().await;
    assert!(!text(&events).is_empty());
    let sent = &bench.sim.requests()[1].body;
    assert!(sent.get("tools").is_none() && sent.get("toolConfig").is_none());
}

#[actix::test]
async fn calls_that_cannot_be_made_are_told_at_once() {
    let bench = Bench::start(|_| {});
    for (word, reason) in [
        ("malformed", "MALFORMED_FUNCTION_CALL"),
        ("finish UNEXPECTED_TOOL_CALL", "UNEXPECTED_TOOL_CALL"),
        ("finish TOO_MANY_TOOL_CALLS", "TOO_MANY_TOOL_CALLS"),
    ] {
        let events = bench
            .ask_with(with_functions(&format!("[[{word}]] a")), None)
            .end()
            .await;
        let failed = failed(&events);
        assert_eq!(failed.code, RunErrorCode::MalformedCall, "{word}");
        assert_eq!((failed.reason.as_deref(), failed.attempts), (Some(reason), 1));
        assert!(failed.retryable && retries(&events).is_empty());
    }
}

#[actix::test]
async fn functions_beyond_the_bound_are_not_declared() {
    for (most, wanted) in [(1, 1), (2, 2), (3, 2)] {
        let bench = Bench::start(|config| config.max_functions = most);
        finished(&bench.ask_with(with_functions("hello"), None).end().await);
        assert_eq!(declared(&bench, 0).len(), wanted, "{most}");
    }
}
