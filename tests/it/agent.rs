//! Runs with tools, as devices see them: steps, approvals, accounts to connect, unknown outcomes, steering, branches.

use std::time::Duration;

use kronos_protocol::{ErrorCode, SendMode, ServerFrame};
use kronos_sim::{ComposioHandle, ComposioScript, ComposioSim, ComposioSimConfig};
use kronos_testkit::{WsClient, eventually};
use serde_json::{Value, json};

use crate::harness::{Kronos, kronos_with, number};

const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const ISSUE: &str = r#"[[call GITHUB_CREATE_ISSUE {"owner":"acme","repo":"shop","title":"Broken"}]] please"#;

/// A server with tools of Composio.
pub(crate) struct Agent {
    pub(crate) kronos: Kronos,
    pub(crate) composio: ComposioHandle,
}

pub(crate) async fn agent_with(env: &[(&str, &str)]) -> Agent {
    let composio = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let url = composio.url();
    let mut all = vec![("COMPOSIO_BASE_URL", url.as_str()), ("COMPOSIO_API_KEY", "ak_test")];
    all.extend_from_slice(env);
    let kronos = kronos_with(400.0, &all).await;
    Agent { kronos, composio }
}

/// A device, and the events that it has seen.
pub(crate) struct Device {
    pub(crate) client: WsClient,
    pub(crate) session: String,
    pub(crate) seen: Vec<Value>,
}

impl Device {
    pub(crate) async fn new(agent: &Agent, user: &str) -> Self {
        let mut client = agent.kronos.client(user).await;
        let session = client.attach_new().await.to_string();
        Self {
            client,
            session,
            seen: Vec::new(),
        }
    }

    async fn beside(agent: &Agent, other: &Self, user: &str) -> Self {
        Self::again(agent, &other.session, user).await
    }

    pub(crate) async fn again(agent: &Agent, session: &str, user: &str) -> Self {
        let mut client = agent.kronos.msgpack(user).await;
        client.attach(session, None).await;
        Self {
            client,
            session: session.to_owned(),
            seen: Vec::new(),
        }
    }

    pub(crate) async fn say(&mut self, id: &str, text: &str) {
        let session = self.session.clone();
        self.client.send(&session, id, text, SendMode::Queue).await;
    }

    /// Reads on until an event fits that was not awaited before; returns it.
    async fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Some(frame) = self.client.try_next_frame(LIMIT).await else {
                panic!("{what} did not come; seen: {:#?}", self.seen);
            };
            let ServerFrame::Events(events) = frame else { continue };
            let mut found = None;
            for entry in events.events {
                let event = serde_json::to_value(&entry.event).expect("an event");
                found = found.or_else(|| fits(&event).then(|| event.clone()));
                self.seen.push(event);
            }
            if let Some(event) = found {
                return event;
            }
        }
    }

    pub(crate) async fn finished(&mut self) -> Value {
        self.until("the end of a run", |event| {
            ["RUN_FINISHED", "RUN_ERROR"].contains(&event["type"].as_str().unwrap())
        })
        .await
    }

    /// The questions that the run ends with.
    pub(crate) async fn questions(&mut self) -> Vec<Value> {
        let end = self.finished().await;
        assert_eq!(end["outcome"]["type"], "interrupt", "{end}");
        end["outcome"]["interrupts"].as_array().unwrap().clone()
    }

    pub(crate) async fn answer(
        &mut self,
        interrupt: &Value,
        payload: Value,
    ) -> Result<Value, kronos_protocol::WireError> {
        let command = json!({
            "op": "resume",
            "session": self.session,
            "answers": [{"interrupt": interrupt["id"], "status": "resolved", "payload": payload}],
        });
        let reply = self.client.request(command).await?;
        Ok(serde_json::to_value(reply).expect("a reply"))
    }

    fn results(&self) -> Vec<String> {
        let results = self.seen.iter().filter(|event| event["type"] == "TOOL_CALL_RESULT");
        results
            .map(|event| event["content"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_tool_turn_is_told_in_steps_and_the_results_reach_the_model() {
    let agent = agent_with(&[]).await;
    let mut device = Device::new(&agent, "ann").await;
    device
        .say(
            "m_1",
            r#"[[call calculate {"expression":"6*7"}]] [[call current_time {}]] both please"#,
        )
        .await;
    let end = device.finished().await;
    assert_eq!(end["type"], "RUN_FINISHED", "{end}");
    let kinds: Vec<&str> = device
        .seen
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let of = |kind: &str| kinds.iter().filter(|seen| **seen == kind).count();
    assert_eq!((of("STEP_STARTED"), of("STEP_FINISHED")), (2, 2), "{kinds:?}");
    assert_eq!((of("TOOL_CALL_START"), of("TOOL_CALL_RESULT")), (2, 2));
    let requests = agent.kronos.gemini.requests();
    let last = &requests.last().unwrap().body["contents"];
    let responses = &last.as_array().unwrap().last().unwrap()["parts"];
    assert_eq!(responses.as_array().unwrap().len(), 2, "{responses}");
    assert_eq!(
        responses[0]["functionResponse"]["response"]["output"]["result"], 42,
        "in the order of the calls"
    );
    let shown = device.client.transcript(&device.session);
    assert!(shown.last_answer().contains("42"), "{shown:?}");
}

#[tokio::test]
async fn a_write_asks_first_and_runs_once_with_edited_arguments() {
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    assert_eq!(questions.len(), 1);
    let question = &questions[0];
    assert_eq!(question["reason"], "tool_call");
    assert!(question["expiresAt"].is_string());
    assert!(question["responseSchema"]["properties"]["editedArgs"]["properties"]["title"].is_object());
    assert!(
        agent.composio.effects().is_empty(),
        "nothing left before it was approved"
    );
    let bad = device
        .answer(question, json!({"approved": true, "editedArgs": {"owner": 1}}))
        .await
        .unwrap_err();
    assert_eq!(bad.code, ErrorCode::Validation);
    let bad = device.answer(question, json!({"yes": true})).await.unwrap_err();
    assert_eq!(bad.code, ErrorCode::Validation);
    let edited = json!({"owner": "acme", "repo": "shop", "title": "Edited"});
    let reply = device
        .answer(question, json!({"approved": true, "editedArgs": edited}))
        .await
        .unwrap();
    assert!(reply["run"].is_string(), "{reply}");
    let end = device.finished().await;
    assert_eq!(end["type"], "RUN_FINISHED", "{end}");
    let effects = agent.composio.effects();
    assert_eq!(effects.len(), 1);
    assert_eq!(
        (effects[0].count, effects[0].arguments["title"].as_str()),
        (1, Some("Edited"))
    );
    let last = agent.kronos.gemini.requests().into_iter().last().unwrap();
    let told = last.body["contents"].as_array().unwrap().last().unwrap().to_string();
    assert!(
        told.contains("changed the arguments") && told.contains("Edited"),
        "{told}"
    );
    let again = device.answer(question, json!({"approved": false})).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Conflict);
    assert_eq!(again.details["verdict"], "approved");
    assert_eq!(again.details["answeredBy"]["user"], "ann");
}

#[tokio::test]
async fn a_rejected_call_is_not_made_and_the_model_is_told() {
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    device.answer(&questions[0], json!({"approved": false})).await.unwrap();
    let end = device.finished().await;
    assert_eq!(end["type"], "RUN_FINISHED", "{end}");
    assert!(device.results()[0].contains("does not allow"), "{:?}", device.results());
    assert!(agent.composio.effects().is_empty());
}

#[tokio::test]
async fn policies_and_rules_say_what_asks() {
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    let settings = |change: Value| {
        let mut command = json!({"op": "settings", "session": device.session});
        command
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        command
    };
    let (auto, all) = (
        settings(json!({"tool_policy": "auto"})),
        settings(json!({"tool_policy": "ask_all"})),
    );
    let rules =
        settings(json!({"tool_policy": "auto", "tool_rules": {"GITHUB_CREATE_ISSUE": "ask", "calculate": "deny"}}));
    device.client.request(auto).await.unwrap();
    device.say("m_1", ISSUE).await;
    assert_eq!(device.finished().await["outcome"]["type"], "success");
    assert_eq!(agent.composio.effects().len(), 1);
    device.client.request(all).await.unwrap();
    device.say("m_2", r#"[[call calculate {"expression":"1+1"}]]"#).await;
    let questions = device.questions().await;
    device.answer(&questions[0], json!({"approved": true})).await.unwrap();
    assert_eq!(device.finished().await["outcome"]["type"], "success");
    let reply = device.client.request(rules).await.unwrap();
    let reply = serde_json::to_value(reply).unwrap();
    assert_eq!(reply["settings"]["tool_rules"]["calculate"], "deny", "{reply}");
    device.say("m_3", ISSUE).await;
    assert_eq!(device.questions().await.len(), 1);
    device.say("m_4", r#"[[call calculate {"expression":"1+1"}]]"#).await;
    assert_eq!(device.finished().await["outcome"]["type"], "success");
    let last = agent.kronos.gemini.requests().into_iter().last().unwrap();
    let declared = last.body["tools"].to_string();
    assert!(!declared.contains("\"calculate\""), "a denied tool is not offered");
}

#[tokio::test]
async fn an_account_that_is_missing_is_asked_for_and_the_run_goes_on_by_itself() {
    let agent = agent_with(&[]).await;
    let mut device = Device::new(&agent, "ann").await;
    let change = json!({"op": "settings", "session": device.session, "toolkits": ["github"], "tool_policy": "auto"});
    device.client.request(change).await.unwrap();
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    assert_eq!(questions[0]["reason"], "kronos:connection_required");
    let about = &questions[0]["metadata"]["kronos"];
    assert!(about["redirectUrl"].as_str().unwrap().starts_with("http"), "{about}");
    let connection = about["connectionId"].as_str().unwrap();
    assert!(agent.composio.set_status(connection, "ACTIVE"));
    let end = device.finished().await;
    assert_eq!(end["outcome"]["type"], "success", "{end}");
    assert_eq!(agent.composio.effects().len(), 1);
}

#[tokio::test]
async fn an_outcome_that_nobody_knows_is_asked_about_and_never_tried_blindly() {
    let agent = agent_with(&[("COMPOSIO_EXECUTE_TIMEOUT", "1s")]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    let change = json!({"op": "settings", "session": device.session, "tool_policy": "auto"});
    device.client.request(change).await.unwrap();
    agent.composio.script(vec![
        ComposioScript::fault("hang-after-effect").on("GITHUB_CREATE_ISSUE"),
    ]);
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    assert_eq!(questions[0]["reason"], "kronos:unknown_outcome", "{questions:?}");
    assert_eq!(agent.composio.effects().len(), 1);
    device
        .answer(&questions[0], json!({"action": "result", "result": {"number": 7}}))
        .await
        .unwrap();
    let end = device.finished().await;
    assert_eq!(end["outcome"]["type"], "success", "{end}");
    assert_eq!(device.results(), [r#"{"number":7}"#]);
    assert_eq!(agent.composio.effects()[0].count, 1, "it was not called again");
    agent.composio.script(vec![
        ComposioScript::fault("hang-after-effect").on("GITHUB_CREATE_ISSUE"),
    ]);
    device.say("m_2", ISSUE).await;
    let questions = device.questions().await;
    device.answer(&questions[0], json!({"action": "retry"})).await.unwrap();
    assert_eq!(device.finished().await["outcome"]["type"], "success");
    let counts: Vec<u32> = agent.composio.effects().iter().map(|effect| effect.count).collect();
    assert_eq!(
        counts,
        [1, 1, 1],
        "a retry that somebody asked for has a key of its own"
    );
}

#[tokio::test]
async fn a_message_steered_into_a_run_reaches_its_next_model_call() {
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    agent.composio.script(vec![
        ComposioScript::fault("slow 1500").on("GITHUB_LIST_REPOSITORY_ISSUES"),
    ]);
    let list = r#"[[call GITHUB_LIST_REPOSITORY_ISSUES {"owner":"acme","repo":"shop"}]] list them"#;
    device.say("m_1", list).await;
    device
        .until("a call that runs", |event| event["type"] == "ACTIVITY_SNAPSHOT")
        .await;
    let session = device.session.clone();
    let sent = device
        .client
        .send(&session, "m_2", "only the open ones", SendMode::Steer)
        .await;
    assert_eq!(sent.queued, Some(1));
    let end = device.finished().await;
    assert_eq!(end["outcome"]["type"], "success", "{end}");
    let requests = agent.kronos.gemini.requests();
    let last = requests.last().unwrap().body["contents"].to_string();
    assert!(last.contains("only the open ones"), "{last}");
    let runs = device
        .seen
        .iter()
        .filter(|event| event["type"] == "RUN_STARTED")
        .count();
    assert_eq!(runs, 1, "in the same run");
    assert!(device.client.transcript(&session).message("m_2").is_some());
}

#[tokio::test]
async fn a_message_in_place_of_an_answer_supersedes_the_question() {
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    let session = device.session.clone();
    let refused = device
        .client
        .try_send(&session, "m_9", "no", SendMode::Reject)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    device.say("m_2", "Never mind. What is the capital of Italy?").await;
    let end = device.finished().await;
    assert_eq!(end["outcome"]["type"], "success", "{end}");
    let late = device
        .answer(&questions[0], json!({"approved": true}))
        .await
        .unwrap_err();
    assert_eq!(
        (late.code, late.details["verdict"].as_str()),
        (ErrorCode::Conflict, Some("superseded"))
    );
    assert!(agent.composio.effects().is_empty());
}

#[tokio::test]
async fn questions_survive_kill_9_and_lapse_in_time() {
    let mut agent = agent_with(&[("APPROVAL_TIMEOUT", "1h")]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    agent.kronos.server.kill9();
    agent.kronos.server.restart().await;
    let mut other = Device::beside(&agent, &device, "ann").await;
    other.answer(&questions[0], json!({"approved": true})).await.unwrap();
    let end = other
        .until("the end of the second run", |event| {
            event["outcome"]["type"] == "success"
        })
        .await;
    assert_eq!(end["type"], "RUN_FINISHED");
    assert_eq!(agent.composio.effects().len(), 1);

    let agent = agent_with(&[("APPROVAL_TIMEOUT", "700ms")]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    device
        .until("the lapse", |event| event["value"]["verdict"] == "expired")
        .await;
    let late = device
        .answer(&questions[0], json!({"approved": true}))
        .await
        .unwrap_err();
    assert_eq!(
        (late.code, late.details["verdict"].as_str()),
        (ErrorCode::Conflict, Some("expired"))
    );
    assert!(agent.composio.effects().is_empty());
}

#[tokio::test]
async fn edits_and_other_answers_leave_branches_and_the_chosen_one_is_remembered() {
    let mut agent = agent_with(&[]).await;
    let mut device = Device::new(&agent, "ann").await;
    let session = device.session.clone();
    device.say("m_1", "What is the capital of France?").await;
    device.finished().await;
    device.say("m_2", "What is the capital of Spain?").await;
    device.finished().await;
    let edit = json!({"op": "edit", "session": session, "message": "m_1", "content": "What is the capital of Italy?"});
    device.client.request(edit).await.unwrap();
    device.finished().await;
    let stored = agent.kronos.stored("ann", &session).await;
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(stored[0].contains("Italy") && stored[1].contains("Rome"), "{stored:?}");
    let last = agent.kronos.gemini.requests().into_iter().last().unwrap().body["contents"].to_string();
    assert!(!last.contains("France") && !last.contains("Spain"), "{last}");
    device
        .client
        .request(json!({"op": "regenerate", "session": session}))
        .await
        .unwrap();
    device.finished().await;
    assert_eq!(agent.kronos.stored("ann", &session).await.len(), 2);
    let branches: Vec<String> = device
        .seen
        .iter()
        .filter(|event| event["name"] == "kronos.branched")
        .map(|event| event["value"]["branch"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(branches.len(), 2);
    let back = json!({"op": "settings", "session": session, "branch": "main"});
    device.client.request(back).await.unwrap();
    assert_eq!(agent.kronos.stored("ann", &session).await.len(), 4, "nothing was lost");
    agent.kronos.server.kill9();
    agent.kronos.server.restart().await;
    let stored = agent.kronos.stored("ann", &session).await;
    assert!(stored.len() == 4 && stored[0].contains("France"), "{stored:?}");
    let unknown = json!({"op": "settings", "session": session, "branch": "b_none"});
    let mut other = Device::beside(&agent, &device, "ann").await;
    assert_eq!(
        other.client.request(unknown).await.unwrap_err().code,
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn malformed_calls_are_answered_with_an_error_at_most_so_often() {
    let agent = agent_with(&[("MAX_CALL_MENDS", "1")]).await;
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", "[[badname]] hello").await;
    let end = device.finished().await;
    assert_eq!(end["type"], "RUN_FINISHED", "{end}");
    assert!(device.results()[0].contains("no such tool"), "{:?}", device.results());

    let agent = agent_with(&[("MAX_CALL_MENDS", "0")]).await;
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", r#"[[call calculate {"wrong": 1}]] please"#).await;
    let end = device.finished().await;
    assert_eq!(
        (end["type"].as_str(), end["code"].as_str()),
        (Some("RUN_ERROR"), Some("malformed_call")),
        "{end}"
    );
    assert_eq!(agent.kronos.gemini.requests().len(), 1);
}

#[tokio::test]
async fn a_large_result_is_cut_for_the_model_and_stored_whole() {
    let agent = agent_with(&[("TOOL_RESULT_BYTES", "4KiB")]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    agent.composio.script(vec![
        ComposioScript::fault("big 300000").on("GITHUB_LIST_REPOSITORY_ISSUES"),
    ]);
    device
        .say(
            "m_1",
            r#"[[call GITHUB_LIST_REPOSITORY_ISSUES {"owner":"acme","repo":"shop"}]] list"#,
        )
        .await;
    let end = device.finished().await;
    assert_eq!(end["outcome"]["type"], "success", "{end}");
    let cut: Value = serde_json::from_str(&device.results()[0]).unwrap();
    assert_eq!(
        (cut["truncated"].as_bool(), cut["stored"].as_bool()),
        (Some(true), Some(true))
    );
    assert!(cut["bytes"].as_u64().unwrap() > 300_000);
    assert!(device.results()[0].len() < 6000);
    assert_eq!(agent.kronos.refusals("tool_result_bytes").await, 1);
}

#[tokio::test]
async fn a_long_conversation_is_summed_up_by_whole_turns() {
    let agent = agent_with(&[("CONTEXT_TOKENS", "400")]).await;
    let mut device = Device::new(&agent, "ann").await;
    for turn in 0..6 {
        device
            .say(&format!("m_{turn}"), &format!("[[tokens 120]] turn {turn}"))
            .await;
        let end = device.finished().await;
        assert_eq!(end["type"], "RUN_FINISHED", "{end}");
    }
    assert!(
        device
            .seen
            .iter()
            .any(|event| event["name"] == "kronos.context_trimmed")
    );
    let last = agent.kronos.gemini.requests().into_iter().last().unwrap().body["contents"].to_string();
    assert!(last.contains("Summary of what was said before"), "{last}");
    assert!(!last.contains("[[tokens 120]] turn 0"), "{last}");
    assert_eq!(
        agent.kronos.stored("ann", &device.session).await.len(),
        12,
        "people still see all of it"
    );
}

#[tokio::test]
async fn what_is_remembered_is_there_in_another_conversation() {
    let agent = agent_with(&[]).await;
    let mut device = Device::new(&agent, "ann").await;
    device
        .say("m_1", r#"[[call remember {"text":"my cat is called Tom"}]]"#)
        .await;
    device.finished().await;
    let mut other = Device::new(&agent, "ann").await;
    other.say("m_1", "Hello!").await;
    other.finished().await;
    let last = agent.kronos.gemini.requests().into_iter().last().unwrap();
    assert!(
        last.body["systemInstruction"]
            .to_string()
            .contains("my cat is called Tom")
    );
    let mut stranger = Device::new(&agent, "bob").await;
    stranger.say("m_1", "Hello!").await;
    stranger.finished().await;
    let last = agent.kronos.gemini.requests().into_iter().last().unwrap();
    assert!(
        !last.body.to_string().contains("Tom"),
        "another user's notes are not told"
    );
}

#[tokio::test]
async fn cancel_in_the_middle_of_a_call_says_that_its_outcome_is_unknown() {
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    let change = json!({"op": "settings", "session": device.session, "tool_policy": "auto"});
    device.client.request(change).await.unwrap();
    agent.composio.script(vec![
        ComposioScript::fault("hang-after-effect").on("GITHUB_CREATE_ISSUE"),
    ]);
    device.say("m_1", ISSUE).await;
    let effects = || async { (!agent.composio.effects().is_empty()).then_some(()) };
    eventually(LIMIT, "the effect", effects).await;
    let session = device.session.clone();
    device.client.cancel(&session).await.unwrap();
    let end = device.finished().await;
    assert_eq!(end["outcome"]["type"], "cancelled", "{end}");
    assert!(device.results()[0].contains("not known"), "{:?}", device.results());
    device.say("m_2", "Hello!").await;
    assert_eq!(device.finished().await["outcome"]["type"], "success");
    assert_eq!(agent.composio.effects()[0].count, 1);
}

/// 40 races by default; more with `KRONOS_RACES`.
#[tokio::test]
async fn races_of_two_devices_have_one_effect_and_one_verdict() {
    let races = number("KRONOS_RACES", 40);
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut one = Device::new(&agent, "ann").await;
    let mut two = Device::beside(&agent, &one, "ann").await;
    let (mut effects, mut won) = (0_usize, [0, 0]);
    for race in 0..races {
        one.say(&format!("m_{race}"), ISSUE).await;
        let questions = one.questions().await;
        let same = two.questions().await;
        assert_eq!(questions, same, "both are asked the same");
        let (yes, no) = (json!({"approved": true}), json!({"approved": race % 3 == 0}));
        let (first, second) = match race % 2 {
            0 => (yes, no),
            _ => (no, yes),
        };
        let (first_payload, second_payload) = (first.clone(), second.clone());
        let (a, b) = tokio::join!(one.answer(&questions[0], first), two.answer(&questions[0], second));
        let (winner, payload, lost) = match (a, b) {
            (Ok(_), Err(lost)) => (0, first_payload, lost),
            (Err(lost), Ok(_)) => (1, second_payload, lost),
            other => panic!("race {race}: {other:?}"),
        };
        won[winner] += 1;
        let approved = payload["approved"].as_bool().unwrap();
        let word = if approved { "approved" } else { "rejected" };
        assert_eq!(
            (lost.code, lost.details["verdict"].as_str()),
            (ErrorCode::Conflict, Some(word)),
            "the loser is told: {lost:?}"
        );
        effects += usize::from(approved);
        for device in [&mut one, &mut two] {
            let verdict = |event: &Value| event["name"] == "kronos.interrupt_answered";
            let told = device.until("the verdict", verdict).await;
            assert_eq!(told["value"]["verdict"], word, "race {race}");
            assert_eq!(told["value"]["interruptId"], questions[0]["id"]);
            let end = device.until("the end", |event| event["type"] == "RUN_FINISHED").await;
            assert_eq!(end["outcome"]["type"], "success", "race {race}: {end}");
        }
        let counted = agent.composio.effects();
        assert_eq!(counted.len(), effects, "race {race}");
        assert!(counted.iter().all(|effect| effect.count == 1));
    }
    println!(
        "races {races}, won by the first device {}, by the second {}, effects {effects}",
        won[0], won[1]
    );
}

#[tokio::test]
async fn an_account_that_expires_in_mid_run_is_asked_for_again() {
    let agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    let change = json!({"op": "settings", "session": device.session, "tool_policy": "auto"});
    device.client.request(change).await.unwrap();
    agent
        .composio
        .script(vec![ComposioScript::fault("expired").on("GITHUB_CREATE_ISSUE")]);
    device.say("m_1", ISSUE).await;
    let questions = device.questions().await;
    assert_eq!(questions[0]["reason"], "kronos:connection_required", "{questions:?}");
    assert!(agent.composio.effects().is_empty());
    let connection = questions[0]["metadata"]["kronos"]["connectionId"].as_str().unwrap();
    assert!(agent.composio.set_status(connection, "ACTIVE"));
    assert_eq!(device.finished().await["outcome"]["type"], "success");
    let effects = agent.composio.effects();
    assert_eq!((effects.len(), effects[0].count), (1, 1));
}

#[tokio::test]
async fn steps_calls_and_results_have_bounds_that_hold_at_their_edge() {
    let agent = agent_with(&[("MAX_STEPS", "3"), ("MAX_CALLS_PER_STEP", "2"), ("MAX_CALL_MENDS", "9")]).await;
    let mut device = Device::new(&agent, "ann").await;
    let calls = |count: usize| r#"[[call calculate {"expression":"1+1"}]] "#.repeat(count);
    for (id, count, over) in [("m_1", 1, 0), ("m_2", 2, 0), ("m_3", 3, 1)] {
        device.seen.clear();
        device.say(id, &calls(count)).await;
        assert_eq!(device.finished().await["outcome"]["type"], "success", "{count} calls");
        let refused = device
            .results()
            .iter()
            .filter(|result| result.contains("too many calls"))
            .count();
        assert_eq!((device.results().len(), refused), (count, over));
    }
    assert_eq!(agent.kronos.refusals("calls_per_step").await, 1);
    for (id, steps, expected) in [("m_4", 1, 2), ("m_5", 2, 3), ("m_6", 7, 3)] {
        device.seen.clear();
        device
            .say(
                id,
                &format!(r#"[[steps {steps}]] [[call calculate {{"expression":"1+1"}}]]"#),
            )
            .await;
        let end = device.finished().await;
        assert_eq!(end["outcome"]["type"], "success", "{steps} steps: {end}");
        let taken = device
            .seen
            .iter()
            .filter(|event| event["type"] == "STEP_STARTED")
            .count();
        assert_eq!(taken, expected, "{steps} steps of calls and an answer");
    }
    let last = agent.kronos.gemini.requests().into_iter().last().unwrap();
    assert_eq!(
        last.body["toolConfig"]["functionCallingConfig"]["mode"], "NONE",
        "the last step must answer"
    );
}
