//! The flight recorder: where the time of a turn went.

use actix_web::{HttpResponse, web};
use kronos_actors::{
    directory::DirectoryRef,
    flight::{CallReport, MomentReport, PhaseReport, TurnReport, TurnSummary},
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{RunId, SessionId},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::edge::{
    EdgeState,
    accounts::Accounts,
    auth::Caller,
    endpoint::{Endpoint, Tag, get},
    error::ApiError,
    input::{Fields, Input, PathId, QueryOf, field},
    rfc3339,
};

/// What the slowest turns are told apart by.
const SORTS: &[&str] = &["duration", "first_token"];
/// Turns in an answer, unless others are asked for, and at most.
const USUAL: u64 = 20;
const MOST: u64 = 1000;

/// The endpoints of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/admin/turns"], slow)
            .named("admin_turns", Tag::Admin, "List the slowest turns")
            .about(
                "Of the RECORDER_TURNS newest runs of this process, those that go on too; by how long they took, or by how long their \
                 first text took (those without any come last).",
            )
            .superuser()
            .query::<SlowTurns>()
            .returns::<Turns>(200, "The slowest first", || {
                json!({"items": [example_summary()], "recorded": 1})
            }),
        get(&["/api/v1/admin/turns/{run}/timeline"], timeline)
            .named("admin_turn_timeline", Tag::Admin, "Show where the time of a turn went")
            .about(
                "Exclusive phases follow each other and add up to what is explained. The others overlap with them: commits, decisions and \
                 writes of text go on while more of the answer is waited for. `write` is measured of one text in eight, on each device. \
                 The end is written and read per device: the last one counts.",
            )
            .superuser()
            .path::<RunId>("run", "The run")
            .returns::<Timeline>(200, "What is known of it", example)
            .fails(&[ErrorCode::NotFound]),
    ]
}

fn example_summary() -> Value {
    json!({
        "run": "r_AZJvPoscfT6fACsdXG5_gAECAwQFBg", "session": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80",
        "started_at": "2026-11-27T12:00:00Z", "outcome": "finished", "code": null, "model": "gemini-2.5-flash",
        "wall_ms": 1802.4, "first_token_ms": 611.2, "largest": "upstream",
    })
}

fn example() -> Value {
    json!({
        "turn": example_summary(),
        "attempt": 1, "generations": 1, "attempts": 1, "retries": 0, "deltas": 96,
        "tokens": {"input": 120, "cached": 0, "output": 310, "reasoning": 0},
        "devices": 1, "devices_acked": 1, "explained": 0.998,
        "phases": [
            {"name": "request", "ms": 590.1, "count": 1, "longest_ms": 590.1, "exclusive": true},
            {"name": "upstream", "ms": 1190.0, "count": 96, "longest_ms": 45.0, "exclusive": true},
        ],
        "moments": [{"name": "request", "at_ms": 3.1}, {"name": "first_byte", "at_ms": 593.2}],
        "gaps": {"count": 95, "median_below_ms": 16.0, "longest_ms": 46.1},
        "calls": [],
    })
}

/// A run in one line.
#[derive(Debug, Serialize, JsonSchema)]
struct Turn {
    /// The run.
    run: RunId,
    /// Its session.
    session: SessionId,
    /// When it began.
    started_at: String,
    /// `finished`, `waiting` (for people), `failed`, `cancelled`, `interrupted`; null while it goes on.
    outcome: Option<&'static str>,
    /// Why it failed.
    code: Option<&'static str>,
    /// The model that was asked last.
    model: Option<String>,
    /// From its start to the last that is known of it, in milliseconds.
    wall_ms: f64,
    /// From its start to the first text that readers may see.
    first_token_ms: Option<f64>,
    /// The exclusive phase that took most.
    largest: Option<&'static str>,
}

impl From<TurnSummary> for Turn {
    fn from(turn: TurnSummary) -> Self {
        Self {
            run: turn.run,
            session: turn.session,
            started_at: rfc3339(turn.started_ms),
            outcome: turn.outcome,
            code: turn.code,
            model: turn.model,
            wall_ms: turn.wall_ms,
            first_token_ms: turn.first_token_ms,
            largest: turn.largest,
        }
    }
}

/// The slowest turns.
#[derive(Debug, Serialize, JsonSchema)]
struct Turns {
    /// The slowest first.
    items: Vec<Turn>,
    /// Runs that are held.
    recorded: usize,
}

/// One phase.
#[derive(Debug, Serialize, JsonSchema)]
struct Phase {
    /// Its name.
    name: &'static str,
    /// All of it, in milliseconds.
    ms: f64,
    /// How often.
    count: u32,
    /// The longest time.
    longest_ms: f64,
    /// The run did nothing else meanwhile.
    exclusive: bool,
}

impl From<PhaseReport> for Phase {
    fn from(phase: PhaseReport) -> Self {
        Self {
            name: phase.name,
            ms: phase.ms,
            count: phase.count,
            longest_ms: phase.longest_ms,
            exclusive: phase.exclusive,
        }
    }
}

/// Something that happened.
#[derive(Debug, Serialize, JsonSchema)]
struct Moment {
    /// What.
    name: &'static str,
    /// When, in milliseconds since the start.
    at_ms: f64,
}

impl From<MomentReport> for Moment {
    fn from(moment: MomentReport) -> Self {
        Self {
            name: moment.name,
            at_ms: moment.at_ms,
        }
    }
}

/// A call of a tool.
#[derive(Debug, Serialize, JsonSchema)]
struct Call {
    /// The tool.
    tool: String,
    /// When it left, in milliseconds since the start.
    began_ms: f64,
    /// When it was over; null: never, as far as the run knows.
    ended_ms: Option<f64>,
    /// `done`, `failed`, `not_connected`, `unknown`.
    outcome: Option<&'static str>,
}

impl From<CallReport> for Call {
    fn from(call: CallReport) -> Self {
        Self {
            tool: call.tool,
            began_ms: call.began_ms,
            ended_ms: call.ended_ms,
            outcome: call.outcome,
        }
    }
}

/// Tokens of a run.
#[derive(Debug, Serialize, JsonSchema)]
struct Tokens {
    /// Read by the model, cached ones included.
    input: u64,
    /// Of those, from the cache.
    cached: u64,
    /// Written by the model.
    output: u64,
    /// Of those, thoughts.
    reasoning: u64,
}

/// Pauses between two texts that readers may see.
#[derive(Debug, Serialize, JsonSchema)]
struct Gaps {
    /// How many.
    count: u32,
    /// Half of them are shorter than this.
    median_below_ms: Option<f64>,
    /// The longest.
    longest_ms: f64,
}

/// Where the time of a run went.
#[derive(Debug, Serialize, JsonSchema)]
struct Timeline {
    /// In short.
    turn: Turn,
    /// The number of this attempt at its turn, after crashes.
    attempt: u32,
    /// Answers that the model was asked for.
    generations: u32,
    /// Requests to the model, those that failed too.
    attempts: u32,
    /// Of those, requests that repeated one.
    retries: u32,
    /// Texts of the model.
    deltas: u32,
    /// Tokens, once it is over.
    tokens: Option<Tokens>,
    /// Websockets that were written the end.
    devices: u32,
    /// Of those, websockets that have read it.
    devices_acked: u32,
    /// The part of the time that exclusive phases explain, from 0 to 1.
    explained: f64,
    /// Where the time went: what took none is left out.
    phases: Vec<Phase>,
    /// What happened, in its order.
    moments: Vec<Moment>,
    /// Pauses between texts.
    gaps: Gaps,
    /// The first 16 calls of tools.
    calls: Vec<Call>,
}

impl From<TurnReport> for Timeline {
    fn from(turn: TurnReport) -> Self {
        Self {
            turn: turn.summary.into(),
            attempt: turn.attempt,
            generations: turn.generations,
            attempts: turn.attempts,
            retries: turn.retries,
            deltas: turn.deltas,
            tokens: turn.tokens.map(|tokens| Tokens {
                input: tokens.input,
                cached: tokens.cached,
                output: tokens.output,
                reasoning: tokens.reasoning,
            }),
            devices: turn.devices,
            devices_acked: turn.devices_acked,
            explained: turn.explained,
            phases: turn.phases.into_iter().map(Phase::from).collect(),
            moments: turn.moments.into_iter().map(Moment::from).collect(),
            gaps: Gaps {
                count: turn.gaps.count,
                median_below_ms: turn.gaps.median_below_ms,
                longest_ms: turn.gaps.longest_ms,
            },
            calls: turn.calls.into_iter().map(Call::from).collect(),
        }
    }
}

struct SlowTurns {
    sort: &'static str,
    limit: usize,
}

impl Input for SlowTurns {
    const NAME: &'static str = "SlowTurns";

    fn read(fields: &mut Fields) -> Option<Self> {
        let sort = fields.word(
            field("sort").doc("By what (default `duration`)").example("first_token"),
            SORTS,
        );
        let limit = fields.integer(field("limit").doc("At most so many (default 20)").example(20), 1, MOST);
        Some(Self {
            sort: sort.unwrap_or("duration"),
            limit: usize::try_from(limit.unwrap_or(USUAL)).unwrap_or(usize::MAX),
        })
    }
}

async fn slow(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    query: QueryOf<SlowTurns>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let now = edge.clock.instant();
    let all = directory.flight().all();
    let recorded = all.len();
    let mut turns: Vec<_> = all.iter().map(|turn| turn.summary(now)).collect();
    let by_first_token = query.0.sort == "first_token";
    let slowness = |turn: &TurnSummary| {
        if by_first_token {
            turn.first_token_ms.unwrap_or(-1.0)
        } else {
            turn.wall_ms
        }
    };
    turns.sort_by(|a, b| slowness(b).total_cmp(&slowness(a)));
    turns.truncate(query.0.limit);
    let items = turns.into_iter().map(Turn::from).collect();
    Ok(HttpResponse::Ok().json(Turns { items, recorded }))
}

async fn timeline(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    run: PathId<RunId>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let held = directory.flight().of(&run.0);
    let held = held.ok_or_else(|| ApiError::not_found("Turn", run.0.as_str()))?;
    Ok(HttpResponse::Ok().json(Timeline::from(held.report(edge.clock.instant()))))
}
