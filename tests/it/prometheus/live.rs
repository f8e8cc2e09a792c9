//! A real Prometheus beside a real server: every expression that the dashboards and rules have is executed.
//!
//! "No alert" must not be taken for "no data". So an alert is asked twice: its expression with every comparison made `bool`,
//! which filters nothing and is empty only when there is nothing to compare (or no pair whose labels fit), and each of its
//! selectors alone, since `or` hides an empty side. `absent(x)` is empty when all is well: there only x is asked.
//! An answer of nothing but NaN (0 of 0, a quantile of no samples) counts as empty.

use std::{collections::BTreeSet, time::Duration};

use kronos_actors::metrics::{ALL, Kind};
use kronos_testkit::eventually;

use super::{
    board::Board,
    load,
    process::{Prometheus, find},
    promql::Query,
    rules::{Rule, rules},
    tester::Tester,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Metrics that stay 0 in this load, with the reason. All others do not: a series that is there from the start says nothing.
const QUIET: &[(&str, &str)] = &[
    ("kronos_composio_events_total", "no webhook secret is set"),
    ("kronos_composio_forgets_unfinished", "nobody is deleted"),
    ("kronos_epochs_total", "needs DURABILITY=relaxed and a crash"),
    ("kronos_gemini_functions_left_out_total", "every function is good"),
    ("kronos_gemini_restarts_total", "no input makes the service panic"),
    ("kronos_http_broken_answers_total", "no input breaks an answer"),
    ("kronos_http_panics_total", "no input makes a handler panic"),
    ("kronos_jwks_fetches_total", "no identity provider"),
    ("kronos_jwks_keys", "no identity provider"),
    ("kronos_rate_limit_uncounted_total", "too few addresses"),
    ("kronos_retention_deleted_total", "nothing is old"),
    ("kronos_runs_interrupted_total", "no crash"),
    ("kronos_snapshots_total", "no cursor is that old"),
    ("kronos_store_commit_errors_total", "the disk is well"),
    ("kronos_store_read_errors_total", "the disk is well"),
    (
        "kronos_store_restarts_total",
        "no input makes a thread of the store panic",
    ),
    ("kronos_trace_spans_total", "no collector"),
    ("kronos_user_deletions_unfinished", "nobody is deleted"),
    ("kronos_users_deleted_total", "nobody is deleted"),
];

/// Gauges that may be back at 0 whenever Prometheus looks.
const PASSING: &[&str] = &[
    "kronos_composio_circuit",
    "kronos_composio_running",
    "kronos_composio_waiting",
    "kronos_composio_watchers",
    "kronos_gemini_waiting",
    "kronos_mailbox_messages",
    "kronos_password_hashes_waiting",
    "kronos_store_pending_bytes",
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

fn questions(rules: &[Rule]) -> Vec<Question> {
    let boards = Board::all();
    let asked = boards
        .iter()
        .flat_map(Board::asks)
        .map(|asked| (asked.place, asked.expression));
    let of_rules = rules
        .iter()
        .map(|rule| (format!("rule {}", rule.name), rule.expression.clone()));
    let all = asked.chain(of_rules);
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
    let address = Tester::address();
    let prometheus = Prometheus::start(&binary, &agent.kronos.server, address).await;
    let scraped = || async { prometheus.sum(r#"up{job="kronos"}"#).await == 1.0 };
    eventually(LIMIT, "a first scrape, before anything happens", scraped).await;
    let rules = rules();
    assert_same_rules(&prometheus, &rules).await;
    let _kept = load::everything(&agent).await;
    for (trouble, expression) in TROUBLES {
        let shows = || async { prometheus.sum(expression).await > 0.0 };
        eventually(LIMIT, &format!("{trouble} shows in {expression}"), shows).await;
    }
    // Only now: its users would close the circuit that the load has opened.
    let tester = Tester::start(&agent.kronos.server, address);
    let scraped = || async {
        let up = prometheus.sum(r#"up{job="kronos-load"}"#).await == 1.0;
        if up { Ok(()) } else { Err(tester.said()) }
    };
    eventually(LIMIT, "a scrape of the load tester", scraped).await;
    let open = questions(&rules);
    assert!(open.len() > 300, "only {}", open.len());
    let answered = async || {
        let mut wrong = Vec::new();
        for question in &open {
            wrong.extend(question.wrong(&prometheus).await);
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let errors = prometheus.get("query?query=kronos_load_errors_total%3E0").await;
        wrong.push(format!("errors of the load tester: {errors:?}"));
        Err(wrong)
    };
    eventually(LIMIT, "an answer to every expression", answered).await;
    let silent = async || {
        let mut silent = Vec::new();
        for metric in ALL {
            let tail = if matches!(metric.kind, Kind::Histogram(_)) {
                "_count"
            } else {
                ""
            };
            let most = prometheus
                .sum(&format!("max_over_time({}{tail}[10m])", metric.name))
                .await;
            let is_quiet = QUIET.iter().any(|(name, _)| *name == metric.name);
            if (most > 0.0) == is_quiet && !PASSING.contains(&metric.name) {
                silent.push(format!("{} is {most}", metric.name));
            }
        }
        if silent.is_empty() { Ok(()) } else { Err(silent) }
    };
    eventually(LIMIT, "the load moves every metric but the quiet ones", silent).await;
}
