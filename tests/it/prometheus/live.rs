//! A real Prometheus beside a real server: every expression that the dashboards and rules have is executed.
//!
//! "No alert" must not be taken for "no data". So an alert is asked twice: its expression with every comparison made `bool`,
//! which filters nothing and is empty only when there is nothing to compare (or no pair whose labels fit), and each of its
//! selectors alone, since `or` hides an empty side. `absent(x)` is empty when all is well: there only x is asked.
//! An answer of nothing but NaN (0 of 0, a quantile of no samples) counts as empty.

use std::{collections::BTreeSet, time::Duration};

use kronos_testkit::eventually;

use super::{
    board::Board,
    declared, load,
    process::{Prometheus, find},
    promql::Query,
    rules::{Rule, rules},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Metrics that the server declares and does not measure yet: what asks for them is left out.
const NOT_YET: &[&str] = &[
    "kronos_arbiter_lag_seconds",
    "kronos_attachments",
    "kronos_auth_failures_total",
    "kronos_build_info",
    "kronos_composio_connections",
    "kronos_cursor_lag_events",
    "kronos_cursors_lagging",
    "kronos_delta_delivery_seconds",
    "kronos_events_delivered_total",
    "kronos_events_merged_total",
    "kronos_gemini_circuit",
    "kronos_gemini_cost_dollars_total",
    "kronos_log_lines_dropped_total",
    "kronos_log_lines_total",
    "kronos_permit_wait_seconds",
    "kronos_question_oldest_seconds",
    "kronos_question_wait_seconds",
    "kronos_questions_waiting",
    "kronos_ready",
    "kronos_run_duration_seconds",
    "kronos_run_failures_total",
    "kronos_run_first_token_seconds",
    "kronos_runs_active",
    "kronos_runs_total",
    "kronos_sessions_hibernated",
    "kronos_store_commit_bytes",
    "kronos_store_read_duration_seconds",
    "kronos_store_read_errors_total",
    "kronos_token_gap_seconds",
    "kronos_tokio_tasks",
    "kronos_trace_spans_total",
    "kronos_turns_recorded",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// The troubles that the load makes, and the metric meant for each: all of these grow.
const TROUBLES: &[(&str, &str)] = &[
    (
        "upstream 503s",
        r#"increase(kronos_gemini_retries_total{reason="upstream_unavailable"}[10m])"#,
    ),
    (
        "upstream 503s",
        r#"increase(kronos_run_failures_total{code="upstream_unavailable"}[10m])"#,
    ),
    ("upstream 503s", "max_over_time(kronos_gemini_circuit[10m])"),
    ("stalled reader", r#"increase(kronos_closes_total{code="4450"}[10m])"#),
    ("stalled reader", "max_over_time(kronos_cursors_lagging[10m])"),
    ("stalled reader", "max_over_time(kronos_cursor_lag_events[10m])"),
    (
        "panic loop",
        r#"increase(kronos_session_restarts_total{reason="panic"}[10m])"#,
    ),
    ("panic loop", "kronos_sessions_parked"),
    (
        "tool failures",
        r#"increase(kronos_tool_calls_total{source="composio", outcome="failed"}[10m])"#,
    ),
    (
        "tool failures",
        r#"increase(kronos_tool_calls_total{source="composio", outcome="unknown"}[10m])"#,
    ),
    (
        "full mailboxes",
        r#"increase(kronos_refusals_total{bound="session_mailbox"}[10m])"#,
    ),
];

/// An expression as it is executed, and where it stands.
struct Question {
    place: String,
    expression: String,
}

impl Question {
    /// The variables of Grafana replaced: every job and instance, and windows that see all of the test.
    fn new(place: &str, expression: &str) -> Self {
        let expression = expression.replace("$job", ".+").replace("$instance", ".+");
        let windows = ["$__rate_interval", "$__interval", "$__range"];
        let expression = windows
            .iter()
            .fold(expression, |text, window| text.replace(window, "10m"));
        assert!(!expression.contains('$'), "{place}: an unknown variable: {expression}");
        Self {
            place: place.to_owned(),
            expression,
        }
    }

    /// Why its answer is none.
    async fn wrong(&self, prometheus: &Prometheus) -> Option<String> {
        let why = match prometheus.query(&self.expression).await {
            Err(error) => error,
            Ok(values) if values.is_empty() => "empty".to_owned(),
            Ok(values) if values.iter().all(|value| value.is_nan()) => "nothing but NaN".to_owned(),
            Ok(_) => return None,
        };
        Some(format!("{}: {why}: {}", self.place, self.expression))
    }
}

/// The expression whole, without filters, and each of its selectors.
fn questions_of(place: &str, expression: &str) -> Vec<Question> {
    let query = Query::new(expression);
    let whole = (!expression.starts_with("absent(")).then(|| Question::new(place, &query.without_filters()));
    let parts = query
        .selectors()
        .into_iter()
        .filter(|selector| selector.name != "ALERTS");
    whole
        .into_iter()
        .chain(parts.map(|selector| Question::new(place, &selector.text)))
        .collect()
}

/// Whether it asks, also through what the rules record, for what is not measured yet.
fn is_early(expression: &str, rules: &[Rule]) -> bool {
    Query::new(expression).selectors().iter().any(|selector| {
        let recorded = rules.iter().find(|rule| !rule.is_alert && rule.name == selector.name);
        recorded.is_some_and(|rule| is_early(&rule.expression, rules))
            || declared(&selector.name).is_some_and(|metric| NOT_YET.contains(&metric.name))
    })
}

fn questions(rules: &[Rule]) -> Vec<Question> {
    let boards = Board::all();
    let asked = boards
        .iter()
        .flat_map(Board::asks)
        .map(|asked| (asked.place, asked.expression));
    let of_rules = rules
        .iter()
        .map(|rule| (format!("rule {}", rule.name), rule.expression.clone()));
    let all = asked
        .chain(of_rules)
        .filter(|(_, expression)| !is_early(expression, rules));
    all.flat_map(|(place, expression)| questions_of(&place, &expression))
        .collect()
}

/// What Prometheus read is what these tests read.
async fn assert_same_rules(prometheus: &Prometheus, ours: &[Rule]) {
    let data = prometheus.get("rules").await.expect("the rules");
    let groups = data["groups"].as_array().expect("groups").iter();
    let theirs: BTreeSet<String> = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule| rule["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(theirs, ours.iter().map(|rule| rule.name.clone()).collect());
}

#[tokio::test]
async fn every_expression_has_an_answer_and_each_trouble_shows() {
    let Some(binary) = find("prometheus") else { return };
    let agent = load::server().await;
    let prometheus = Prometheus::start(&binary, &agent.kronos.server).await;
    let scraped = || async { prometheus.sum("up").await == 1.0 };
    eventually(LIMIT, "a first scrape, before anything happens", scraped).await;
    let rules = rules();
    assert_same_rules(&prometheus, &rules).await;
    let _kept = load::everything(&agent).await;
    for (trouble, expression) in TROUBLES.iter().filter(|(_, expression)| !is_early(expression, &rules)) {
        let shows = || async { prometheus.sum(expression).await > 0.0 };
        eventually(LIMIT, &format!("{trouble} shows in {expression}"), shows).await;
    }
    let open = questions(&rules);
    assert!(open.len() > 300, "only {}", open.len());
    let answered = async || {
        let mut wrong = Vec::new();
        for question in &open {
            wrong.extend(question.wrong(&prometheus).await);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    };
    eventually(LIMIT, "an answer to every expression", answered).await;
    let scrape = agent.kronos.server.get("/metrics", &[]).await.text();
    let there: Vec<_> = NOT_YET
        .iter()
        .filter(|name| scrape.contains(&format!("# TYPE {name} ")))
        .collect();
    assert!(there.is_empty(), "measured by now: {there:?}");
}
