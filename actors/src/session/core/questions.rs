//! What people are asked about calls, and what follows from their answers. Pure.

use kronos_protocol::{
    error::ErrorCode,
    event::{Custom, Outcome, RunFinished, RunStarted, StepStarted},
    ids::{InterruptId, RunId},
    message::{Interrupt, ResumeAnswer, ResumeStatus, RunInput, UserContent},
    version::AG_UI_VERSION,
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    super::{
        message::{AnsweredBy, Resume, SessionError, Verdict},
        state::{
            ActiveRun, Call, CallDecision, Decided, INTERRUPT_ANSWERED, Intent, Question, ResultStatus, RunRecord,
            Stage, State, Step, ToolCallsRecord,
        },
    },
    Answer, Decision, Effect, Env, Running, all_usage, inbox, start,
    steps::{self, toolkit_of},
};
use crate::{clock::Millis, tools};

/// Why a call waits for an account.
pub const CONNECTION_REQUIRED: &str = "kronos:connection_required";
/// Why a call waits for somebody who knows what became of it.
pub const UNKNOWN_OUTCOME: &str = "kronos:unknown_outcome";
/// Why a call waits for an approval.
pub const TOOL_CALL: &str = "tool_call";

/// Ends the run with the questions that its calls wait for.
pub(super) fn ask(
    decision: &mut Decision,
    state: &State,
    running: &Running,
    active: &ActiveRun,
    step: &Step,
    env: &mut Env<'_>,
) {
    let run = &active.id;
    if again(decision, running, run, step, env) {
        return;
    }
    let mut interrupts = Vec::new();
    let mut client = Vec::new();
    for call in &step.calls {
        match call.stage {
            Stage::Asking => interrupts.push(approval(call, env)),
            Stage::Unknown => interrupts.push(unknown(call, env)),
            Stage::Connecting => {
                if let Some(Ok(link)) = running.links.get(toolkit_of(call)) {
                    interrupts.push(connection(call, link, env));
                }
            }
            Stage::Client => client.push(call.id.clone()),
            // A call that nothing was decided about is none that this run may end with.
            Stage::Announced | Stage::Sent | Stage::Answered => {}
        }
    }
    for event in super::closers(state, env.now_ms) {
        decision.push(Some(run), event, env.now_ms);
    }
    let mut finished = RunFinished::new(env.thread.to_string(), run.clone());
    finished.usage = all_usage(state, running);
    finished.outcome = Some(if interrupts.is_empty() {
        Outcome::Success {
            pending_tool_call_ids: Some(client),
        }
    } else {
        Outcome::Interrupt { interrupts }
    });
    decision.push(Some(run), finished, env.now_ms);
}

/// Calls whose account is there by now leave again, and those that cannot get one fail: then nothing is asked yet.
fn again(decision: &mut Decision, running: &Running, run: &RunId, step: &Step, env: &Env<'_>) -> bool {
    let mut plan = Plan::default();
    for call in step.calls.iter().filter(|call| call.stage == Stage::Connecting) {
        let toolkit = toolkit_of(call);
        if running.connected.contains(toolkit) {
            plan.run(call, None);
        } else if let Some(Err(why)) = running.links.get(toolkit) {
            let error = json!({"error": format!("there is no account of {toolkit}, and none can be connected: {why}")});
            plan.results.push((call.id.clone(), error, ResultStatus::Failed));
        }
    }
    let some = !plan.is_empty();
    if some {
        plan.carry_out(decision, run, env);
        decision.effects.push(Effect::Continue(run.clone()));
    }
    some
}

fn question(call: &Call, reason: &str, message: String, schema: Value, env: &Env<'_>) -> Interrupt {
    let name = call.id.strip_prefix("call_").unwrap_or(&call.id);
    let id = InterruptId::from_trusted(format!("i_{name}_{}", call.asked + 1));
    let mut interrupt = Interrupt::new(id, reason.to_owned());
    interrupt.message = Some(message);
    interrupt.tool_call_id = Some(call.id.clone());
    interrupt.response_schema = schema.as_object().cloned();
    interrupt.expires_at = rfc3339(env.now_ms.saturating_add(env.config.question_timeout_ms()));
    interrupt
}

fn about(interrupt: &mut Interrupt, about: Value) {
    interrupt.metadata = Some(Map::from_iter([("kronos".to_owned(), about)]));
}

fn approval(call: &Call, env: &Env<'_>) -> Interrupt {
    let schema = call.intent.as_ref().and_then(|intent| intent.schema.clone());
    let schema = json!({
        "type": "object",
        "properties": {
            "approved": {"type": "boolean"},
            "editedArgs": schema.unwrap_or_else(|| json!({"type": "object"})),
        },
        "required": ["approved"],
    });
    let mut interrupt = question(call, TOOL_CALL, format!("May {} be called?", call.name), schema, env);
    about(&mut interrupt, json!({"tool": call.name, "toolkit": toolkit_of(call)}));
    interrupt
}

fn unknown(call: &Call, env: &Env<'_>) -> Interrupt {
    let schema = json!({
        "type": "object",
        "properties": {
            "action": {"type": "string", "enum": ["retry", "skip", "result"]},
            "result": {"description": "what the call returned, with action result"},
        },
        "required": ["action"],
    });
    let message = format!(
        "{} was called, and it is not known whether it was carried out.",
        call.name
    );
    let mut interrupt = question(call, UNKNOWN_OUTCOME, message, schema, env);
    about(&mut interrupt, json!({"tool": call.name, "toolkit": toolkit_of(call)}));
    interrupt
}

fn connection(call: &Call, link: &tools::Link, env: &Env<'_>) -> Interrupt {
    let toolkit = toolkit_of(call);
    let schema = json!({"type": "object", "properties": {}});
    let message = format!("{} needs an account of {toolkit}: connect one.", call.name);
    let mut interrupt = question(call, CONNECTION_REQUIRED, message, schema, env);
    about(
        &mut interrupt,
        json!({"tool": call.name, "toolkit": toolkit, "redirectUrl": link.redirect_url, "connectionId": link.connection}),
    );
    interrupt
}

fn rfc3339(at_ms: Millis) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).ok()?;
    at.format(&Rfc3339).ok()
}

fn millis(text: &str) -> Option<Millis> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Millis::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// When the next open question lapses, in milliseconds since the Unix epoch.
pub fn next_expiry(state: &State) -> Option<Millis> {
    let open = state
        .step
        .iter()
        .flat_map(Step::questions)
        .filter(|question| question.verdict.is_none());
    open.filter_map(|question| question.interrupt.expires_at.as_deref().and_then(millis))
        .min()
}

/// What an answer says, in one word, or why it is none.
fn judge(question: &Question, call: &Call, answer: &ResumeAnswer) -> Result<&'static str, SessionError> {
    let payload = answer.payload.as_ref();
    let cancelled = answer.status == ResumeStatus::Cancelled;
    match question.interrupt.reason.as_str() {
        _ if cancelled => Ok("cancelled"),
        CONNECTION_REQUIRED => Ok("connected"),
        UNKNOWN_OUTCOME => match payload
            .and_then(|payload| payload.get("action"))
            .and_then(Value::as_str)
        {
            Some("retry") => Ok("retry"),
            Some("skip") => Ok("skip"),
            Some("result") if payload.is_some_and(|payload| payload.get("result").is_some()) => Ok("result"),
            _ => Err(inbox::invalid(
                "answers.payload.action",
                "must be retry, skip, or result with a result",
            )),
        },
        _ => {
            let approved = payload
                .and_then(|payload| payload.get("approved"))
                .and_then(Value::as_bool);
            let Some(approved) = approved else {
                return Err(inbox::invalid("answers.payload.approved", "must be true or false"));
            };
            if approved && let Some(edited) = payload.and_then(|payload| payload.get("editedArgs")) {
                let Some(edited) = edited.as_object() else {
                    return Err(inbox::invalid("answers.payload.editedArgs", "must be an object"));
                };
                let schema = call.intent.as_ref().and_then(|intent| intent.schema.as_ref());
                tools::check_arguments(schema, edited)
                    .map_err(|why| inbox::invalid("answers.payload.editedArgs", &why))?;
            }
            Ok(if approved { "approved" } else { "rejected" })
        }
    }
}

fn verdict(question: &Question, status: ResumeStatus, word: &str, by: AnsweredBy, env: &Env<'_>) -> Verdict {
    Verdict {
        interrupt_id: question.interrupt.id.clone(),
        tool_call_id: question.interrupt.tool_call_id.clone(),
        status,
        verdict: word.to_owned(),
        answered_by: by,
        at_ms: env.now_ms,
    }
}

fn push_verdict(decision: &mut Decision, verdict: &Verdict, payload: Option<&Value>, env: &Env<'_>) -> usize {
    let beside = payload.map(|payload| json!({"payload": payload}));
    decision.push_private(
        None,
        Custom::new(INTERRUPT_ANSWERED, json!(verdict)),
        env.now_ms,
        beside,
    )
}

fn answered_before(verdict: &Verdict) -> SessionError {
    SessionError::new(
        ErrorCode::Conflict,
        format!("it was answered already: {}", verdict.verdict),
    )
    .with_details(json!(verdict))
}

/// Takes answers. When nothing is open any more, the turn goes on in a new run.
pub(super) fn resume(state: &State, resume: Resume, env: &mut Env<'_>) -> Decision {
    match try_resume(state, resume, env) {
        Ok(decision) => decision,
        Err(error) => Decision::answer(Err(error)),
    }
}

fn try_resume(state: &State, resume: Resume, env: &mut Env<'_>) -> Result<Decision, SessionError> {
    if env.draining {
        return Err(SessionError::new(ErrorCode::ShuttingDown, "the server restarts").after_ms(1000));
    }
    let mut decision = Decision::default();
    let mut answered: Vec<(Verdict, Option<Value>)> = Vec::new();
    for answer in &resume.answers {
        if answered
            .iter()
            .any(|(verdict, _)| verdict.interrupt_id == answer.interrupt_id)
        {
            return Err(inbox::invalid("answers", "a question is answered twice"));
        }
        let (call, question) = find(state, &answer.interrupt_id)?;
        let word = judge(question, call, answer)?;
        let verdict = verdict(question, answer.status, word, resume.by.clone(), env);
        answered.push((verdict, answer.payload.clone()));
    }
    let results = client_results(state, &resume.results)?;
    if answered.is_empty() && results.is_empty() {
        return Err(inbox::invalid("answers", "must have at least one"));
    }
    let open: Vec<InterruptId> = open_questions(state)
        .filter(|id| !answered.iter().any(|(verdict, _)| verdict.interrupt_id == *id))
        .collect();
    if resume.all && !open.is_empty() {
        return Err(inbox::invalid("answers", "every open question must be answered"));
    }
    let pending = state
        .step
        .iter()
        .flat_map(|step| &step.calls)
        .any(|call| call.stage == Stage::Client && !results.iter().any(|(id, _)| *id == call.id));
    // A client's calls may be answered later than its questions, but not in part: what is taken is in the log.
    let goes_on = open.is_empty() && !(pending && answered.is_empty());
    if !goes_on && !results.is_empty() {
        let what = "must come all at once, and with the answers to all questions that are open";
        return Err(inbox::invalid("results", what));
    }
    let mut event = 0;
    for (verdict, payload) in &answered {
        event = push_verdict(&mut decision, verdict, payload.as_ref(), env);
    }
    let run = if goes_on {
        event = decision.events.len();
        go_on(&mut decision, state, &answered, &results, &resume.answers, env)
    } else {
        None
    };
    decision.answer = Some(Ok(Answer::Resumed { event, run, open }));
    Ok(decision)
}

fn open_questions(state: &State) -> impl Iterator<Item = InterruptId> {
    let waiting = state.step.iter().filter(|_| state.run.is_none());
    let open = waiting
        .flat_map(Step::questions)
        .filter(|question| question.verdict.is_none());
    open.map(|question| question.interrupt.id.clone())
}

/// The open question of this id and its call, or why there is none.
fn find<'a>(state: &'a State, id: &InterruptId) -> Result<(&'a Call, &'a Question), SessionError> {
    let of_step = state
        .step
        .iter()
        .filter(|_| state.run.is_none())
        .flat_map(|step| &step.calls);
    let unanswered = of_step.filter(|call| call.stage != Stage::Answered);
    let mut questions = unanswered.filter_map(|call| call.question.as_ref().map(|question| (call, question)));
    match questions.find(|(_, question)| question.interrupt.id == *id) {
        Some((
            _,
            Question {
                verdict: Some((verdict, _)),
                ..
            },
        )) => Err(answered_before(verdict)),
        Some(found) => Ok(found),
        None => match state.verdicts.iter().rev().find(|verdict| verdict.interrupt_id == *id) {
            Some(verdict) => Err(answered_before(verdict)),
            None => Err(
                SessionError::new(ErrorCode::NotFound, format!("Interrupt not found: {id}"))
                    .with_details(json!({"resource": "Interrupt", "identifier": id.as_str()})),
            ),
        },
    }
}

fn client_results(
    state: &State,
    results: &[(String, UserContent)],
) -> Result<Vec<(String, UserContent)>, SessionError> {
    let mut taken = Vec::new();
    for (id, content) in results {
        let call = state
            .step
            .iter()
            .filter(|_| state.run.is_none())
            .flat_map(|step| &step.calls);
        let call = call.into_iter().find(|call| call.id == *id);
        match call.map(|call| call.stage) {
            Some(Stage::Client) => taken.push((id.clone(), content.clone())),
            Some(_) => {
                let error = SessionError::new(ErrorCode::Conflict, "the call is not the client's to answer");
                return Err(error.with_details(json!({"resource": "ToolCall", "identifier": id})));
            }
            None => {
                let error = SessionError::new(ErrorCode::NotFound, format!("Tool call not found: {id}"));
                return Err(error.with_details(json!({"resource": "ToolCall", "identifier": id})));
            }
        }
    }
    Ok(taken)
}

/// What is to be done about the calls of a step.
#[derive(Default)]
pub(super) struct Plan {
    run: Vec<(CallDecision, Intent, Map<String, Value>)>,
    decided: Vec<CallDecision>,
    results: Vec<(String, Value, ResultStatus)>,
    given: Vec<(String, UserContent)>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.run.is_empty() && self.decided.is_empty() && self.results.is_empty() && self.given.is_empty()
    }

    /// The call is to leave, with other arguments if there are some.
    fn run(&mut self, call: &Call, edited: Option<Map<String, Value>>) {
        let Some(mut intent) = call.intent.clone() else { return };
        let arguments = edited.clone().or_else(|| intent.arguments.clone());
        let arguments = arguments.or_else(|| serde_json::from_str(&call.arguments).ok());
        intent.arguments = edited.or(intent.arguments);
        intent.schema = None;
        let decision = steps::decided(call, Decided::Run, None);
        self.run.push((decision, intent, arguments.unwrap_or_default()));
    }

    /// The same, and it may have an effect once more.
    fn run_anew(&mut self, call: &Call, env: &Env<'_>) {
        self.run(call, None);
        if let Some((_, intent, _)) = self.run.last_mut() {
            intent.key = steps::key(env, &call.id, call.asked + 1);
        }
    }

    fn reject(&mut self, call: &Call, why: &str) {
        self.results
            .push((call.id.clone(), json!({"error": why}), ResultStatus::Rejected));
    }

    fn carry_out(self, decision: &mut Decision, run: &RunId, env: &Env<'_>) {
        let now = env.now_ms;
        let leaving = self.run.iter().map(|(decision, ..)| decision.clone());
        let decided: Vec<CallDecision> = leaving.chain(self.decided).collect();
        if !decided.is_empty() {
            let record = ToolCallsRecord {
                intents: self.run.iter().map(|(_, intent, _)| intent.clone()).collect(),
                ..ToolCallsRecord::default()
            };
            steps::write(decision, run, decided, record, now);
        }
        for (call, content, status) in self.results {
            steps::answer(decision, run, &call, content, status, env);
        }
        for (call, content) in self.given {
            steps::answer_with(decision, run, &call, &content, ResultStatus::Done, env);
        }
        for (decided, intent, arguments) in self.run {
            steps::leave(decision, run, &decided.tool, &intent, arguments, now);
        }
    }
}

/// What an answer means for its call.
fn obey(plan: &mut Plan, call: &Call, word: &str, payload: Option<&Value>, env: &Env<'_>) {
    let field = |name: &str| payload.and_then(|payload| payload.get(name)).cloned();
    match word {
        "approved" => plan.run(call, field("editedArgs").and_then(|edited| edited.as_object().cloned())),
        "connected" => plan.run(call, None),
        "retry" => plan.run_anew(call, env),
        "result" => plan
            .results
            .push((call.id.clone(), field("result").unwrap_or_default(), ResultStatus::Done)),
        "skip" => {
            let why = json!({"error": "it is not known whether the call was carried out; the user leaves it at that"});
            plan.results.push((call.id.clone(), why, ResultStatus::Unknown));
        }
        "rejected" => plan.reject(call, "the user does not allow this call"),
        "expired" => plan.reject(call, "nobody answered in time whether this call is allowed"),
        _ if call.stage == Stage::Unknown => {
            let why = json!({"error": "it is not known whether the call was carried out, and nobody said"});
            plan.results.push((call.id.clone(), why, ResultStatus::Unknown));
        }
        _ => plan.reject(call, "nobody answered whether this call is allowed"),
    }
}

/// Starts the run that goes on with a turn whose questions are answered.
fn go_on(
    decision: &mut Decision,
    state: &State,
    answered: &[(Verdict, Option<Value>)],
    results: &[(String, UserContent)],
    answers: &[ResumeAnswer],
    env: &mut Env<'_>,
) -> Option<RunId> {
    let step = state.step.as_ref()?;
    let run = (env.fresh_run)();
    let (message, record) = &step.turn;
    let record = RunRecord {
        attempt: 1,
        message: Some(message.clone()),
        ..record.clone()
    };
    let thread = env.thread.to_string();
    let mut started = RunStarted::new(thread.clone(), run.clone());
    started.protocol_version = Some(AG_UI_VERSION.to_owned());
    let mut input = RunInput::new(thread, run.clone(), Vec::new());
    input.resume = (!answers.is_empty()).then(|| answers.to_vec());
    started.input = Some(Box::new(input));
    decision.push_private(Some(&run), started, env.now_ms, Some(json!(record)));
    open_step(decision, &run, &record, env.now_ms);
    let mut plan = Plan::default();
    for call in step.calls.iter().filter(|call| call.stage != Stage::Answered) {
        if let Some((_, content)) = results.iter().find(|(id, _)| *id == call.id) {
            plan.given.push((call.id.clone(), content.clone()));
            continue;
        }
        let now = answered
            .iter()
            .find(|(verdict, _)| verdict.tool_call_id.as_ref() == Some(&call.id));
        let before = call.question.as_ref().and_then(|question| question.verdict.as_ref());
        if let Some((verdict, payload)) = now.or(before) {
            obey(&mut plan, call, &verdict.verdict, payload.as_ref(), env);
        }
    }
    plan.carry_out(decision, &run, env);
    decision.effects.push(Effect::Continue(run.clone()));
    Some(run)
}

fn open_step(decision: &mut Decision, run: &RunId, record: &RunRecord, now: Millis) {
    let name = format!("step-{}", record.steps.max(1));
    decision.push(Some(run), StepStarted::new(name), now);
}

/// Goes on with a turn that a crash interrupted, or that was answered before one, where it stood.
pub(super) fn restart(decision: &mut Decision, state: &State, env: &mut Env<'_>) {
    go_on(decision, state, &[], &[], &[], env);
}

/// Goes on with the calls of an interrupted step in a new run, which has begun: what may be called again is, about the rest
/// people are asked.
pub(super) fn redo(decision: &mut Decision, run: &RunId, record: &RunRecord, step: &Step, env: &Env<'_>) {
    open_step(decision, run, record, env.now_ms);
    let mut plan = Plan::default();
    let mut links: Vec<&str> = Vec::new();
    for call in &step.calls {
        let repeatable = call.intent.as_ref().is_some_and(|intent| intent.repeatable);
        match call.stage {
            Stage::Sent if repeatable => plan.run(call, None),
            Stage::Sent => plan.decided.push(steps::decided(call, Decided::Unknown, None)),
            Stage::Connecting if !links.contains(&toolkit_of(call)) => links.push(toolkit_of(call)),
            Stage::Announced | Stage::Asking | Stage::Unknown | Stage::Connecting | Stage::Client | Stage::Answered => {
            }
        }
    }
    plan.carry_out(decision, run, env);
    for toolkit in links {
        decision.effects.push(Effect::Link {
            run: run.clone(),
            toolkit: toolkit.to_owned(),
        });
    }
}

/// The user has an account of this toolkit: whatever waited for it goes on.
pub(super) fn connected(state: &State, toolkit: &str, env: &mut Env<'_>) -> Decision {
    let by = AnsweredBy {
        device: Some("connection".to_owned()),
        ..AnsweredBy::default()
    };
    let mut decision = close(
        state,
        env,
        "connected",
        ResumeStatus::Resolved,
        &by,
        |call, question| question.interrupt.reason == CONNECTION_REQUIRED && toolkit_of(call) == toolkit,
    );
    decision.answer = Some(Ok(Answer::Done));
    decision
}

/// Questions that nobody answered in time lapse.
pub(super) fn expire(state: &State, env: &mut Env<'_>) -> Decision {
    let by = AnsweredBy {
        device: Some("deadline".to_owned()),
        ..AnsweredBy::default()
    };
    let now = env.now_ms;
    let mut decision = close(state, env, "expired", ResumeStatus::Cancelled, &by, |_, question| {
        question
            .interrupt
            .expires_at
            .as_deref()
            .and_then(millis)
            .is_some_and(|at| at <= now)
    });
    if !decision.events.is_empty() {
        decision.reached.push("question_timeout");
    }
    decision
}

/// Nobody needs the answers any more: every open question is closed, and nothing goes on.
pub(super) fn drop_all(decision: &mut Decision, state: &State, word: &str, by: &AnsweredBy, env: &Env<'_>) {
    if state.run.is_some() {
        return;
    }
    let questions = state.step.iter().flat_map(Step::questions);
    for question in questions.filter(|question| question.verdict.is_none()) {
        let verdict = verdict(question, ResumeStatus::Cancelled, word, by.clone(), env);
        push_verdict(decision, &verdict, None, env);
    }
}

/// Answers the open questions that `which` names; the turn goes on when none is left and an answer wants that.
fn close(
    state: &State,
    env: &mut Env<'_>,
    word: &str,
    status: ResumeStatus,
    by: &AnsweredBy,
    which: impl Fn(&Call, &Question) -> bool,
) -> Decision {
    let mut decision = Decision::default();
    let mut answered = Vec::new();
    let waiting = state.step.iter().filter(|_| state.run.is_none());
    let calls = waiting
        .flat_map(|step| &step.calls)
        .filter(|call| call.stage != Stage::Answered);
    for call in calls {
        let Some(question) = call.question.as_ref().filter(|question| question.verdict.is_none()) else {
            continue;
        };
        if which(call, question) {
            answered.push((verdict(question, status, word, by.clone(), env), None));
        }
    }
    for (verdict, _) in &answered {
        push_verdict(&mut decision, verdict, None, env);
    }
    let all = open_questions(state).all(|id| answered.iter().any(|(verdict, _)| verdict.interrupt_id == id));
    if answered.is_empty() || !all || env.draining {
        return decision;
    }
    let earlier = state
        .step
        .iter()
        .flat_map(Step::questions)
        .filter_map(|question| question.verdict.as_ref());
    let wanted = |word: &str| !matches!(word, "cancelled" | "expired" | "superseded");
    if wanted(word) || earlier.into_iter().any(|(verdict, _)| wanted(&verdict.verdict)) {
        go_on(&mut decision, state, &answered, &[], &[], env);
    }
    decision
}

/// A new turn begins while calls of an older one are open: each gets a result, after the `RUN_STARTED` that is there.
pub(super) fn supersede(decision: &mut Decision, state: &State, run: &RunId, env: &Env<'_>) {
    let mut plan = Plan::default();
    for call in state.step.iter().flat_map(|step| &step.calls) {
        let verdict = call.question.as_ref().and_then(|question| question.verdict.as_ref());
        match (call.stage, verdict) {
            (Stage::Answered, _) => {}
            (Stage::Sent | Stage::Unknown, _) => {
                let why = json!({"error": "it is not known whether the call was carried out"});
                plan.results.push((call.id.clone(), why, ResultStatus::Unknown));
            }
            (_, Some((verdict, _))) if verdict.verdict == "rejected" => {
                plan.reject(call, "the user does not allow this call");
            }
            _ => plan.reject(call, "the call was not made: the user said something else instead"),
        }
    }
    plan.carry_out(decision, run, env);
}

/// Writes a `RUN_STARTED` that tries a turn again, and goes on with the calls of its step.
pub(super) fn retry(
    decision: &mut Decision,
    state: &State,
    message: kronos_protocol::message::Message,
    record: &RunRecord,
    env: &mut Env<'_>,
) {
    let run = (env.fresh_run)();
    start(decision, &run, message, record, env);
    let undone = |call: &Call| !matches!(call.stage, Stage::Answered | Stage::Announced);
    if let Some(step) = state.step.as_ref().filter(|step| step.calls.iter().any(undone)) {
        redo(decision, &run, record, step, env);
    }
    decision.effects.push(Effect::Continue(run));
}
