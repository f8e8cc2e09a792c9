//! Failures: which are repeated, when, and what the session is told.

use std::time::Duration;

use kronos_actors::gemini::{GenerateRequest, Progress};
use kronos_sim::{Outcome, ScriptedChunk, ScriptedEnd, ScriptedReply};
use serde_json::json;

use crate::harness::{Bench, KEY, failed, finished, part, request, retries, text};

fn fault(words: &str) -> ScriptedReply {
    ScriptedReply::fault(words)
}

#[actix::test]
async fn a_rate_limit_is_waited_out_as_long_as_it_asks() {
    let bench = Bench::scripted(vec![fault("429;retry_after=0.05"), ScriptedReply::text(["ok"])]);
    let events = bench.events_of("hi").await;
    let retries = retries(&events);
    assert_eq!((retries[0].0, retries[0].1), (2, "upstream_rate_limited"));
    assert!((50..100).contains(&retries[0].2), "{retries:?}");
    assert_eq!((text(&events).as_str(), retries.len()), ("ok", 1));
}

#[actix::test]
async fn a_rate_limit_longer_than_we_wait_ends_it_and_says_when() {
    let bench = Bench::scripted(vec![fault("429;retry_after=53")]);
    let events = bench.events_of("hi").await;
    let failed = failed(&events);
    assert_eq!(
        (failed.code.as_str(), failed.after_ms),
        ("upstream_rate_limited", Some(53_000))
    );
    assert_eq!(
        (failed.attempts, failed.retryable, failed.upstream_status),
        (1, true, Some(429))
    );
}

#[actix::test]
async fn a_daily_quota_is_not_asked_again() {
    let bench = Bench::scripted(vec![fault("429-daily;retry_after=0.01")]);
    let events = bench.events_of("hi").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).retryable),
        ("upstream_rate_limited", false)
    );
    assert_eq!(bench.sim.requests().len(), 1);
}

#[actix::test]
async fn two_outages_are_two_announced_retries() {
    let bench = Bench::scripted(vec![fault("503"), fault("500"), ScriptedReply::text(["ok"])]);
    let events = bench.events_of("hi").await;
    let retries = retries(&events);
    let numbered: Vec<_> = retries.iter().map(|(attempt, code, _)| (*attempt, *code)).collect();
    assert_eq!(numbered, [(2, "upstream_unavailable"), (3, "upstream_unavailable")]);
    assert!(matches!(events[2], Progress::Started { .. }), "accepted only then");
    assert_eq!(text(&events), "ok");
}

#[actix::test]
async fn attempts_are_bounded() {
    let bench = Bench::start(|config| config.max_attempts = 3);
    let events = bench.events_of("[[503]]").await;
    let failed = failed(&events);
    assert_eq!((failed.code.as_str(), failed.attempts), ("upstream_unavailable", 3));
    assert_eq!((failed.upstream_status, failed.retryable), (Some(503), true));
    assert_eq!((retries(&events).len(), bench.sim.requests().len()), (2, 3));
}

#[actix::test]
async fn nothing_is_repeated_once_text_was_shown() {
    for (end, code) in [
        (ScriptedEnd::Cut, "stream_broken"),
        (ScriptedEnd::Truncate, "stream_broken"),
        (ScriptedEnd::Finish("OTHER".to_owned()), "upstream_error"),
    ] {
        let bench = Bench::scripted(vec![ScriptedReply::text(["Hel", "lo"]).ending(end.clone())]);
        let events = bench.events_of("hi").await;
        assert_eq!(
            (failed(&events).code.as_str(), text(&events).as_str()),
            (code, "Hello"),
            "{end:?}"
        );
        assert!(failed(&events).usage.total > 0);
        assert_eq!((retries(&events).len(), bench.sim.requests().len()), (0, 1));
    }
}

#[actix::test]
async fn a_stream_cut_in_the_middle_of_a_chunk_keeps_what_was_shown() {
    let bench = Bench::scripted(vec![fault("cut;after=1")]);
    let events = bench.events_of("Write 50 words.").await;
    assert_eq!(failed(&events).code.as_str(), "stream_broken");
    assert!(!text(&events).is_empty());
    assert_eq!(bench.sim.requests().len(), 1);
}

#[actix::test]
async fn a_stream_cut_before_anything_was_shown_is_repeated() {
    for words in [
        "cut;after=0",
        "truncate;after=0",
        "truncate-clean;after=0",
        "midstream;after=0",
        "midstream-raw;after=0",
    ] {
        let bench = Bench::scripted(vec![fault(words), ScriptedReply::text(["ok"])]);
        let events = bench.events_of("hi").await;
        assert_eq!((text(&events).as_str(), retries(&events).len()), ("ok", 1), "{words}");
        let started = events
            .iter()
            .filter(|progress| matches!(progress, Progress::Started { .. }))
            .count();
        assert_eq!(started, 1, "{words}: said once");
    }
}

#[actix::test]
async fn a_thought_counts_as_shown() {
    let thought = ScriptedChunk {
        thought: Some("hm".to_owned()),
        ..ScriptedChunk::default()
    };
    let reply = ScriptedReply {
        chunks: vec![thought],
        end: ScriptedEnd::Cut,
        ..ScriptedReply::default()
    };
    let bench = Bench::scripted(vec![reply]);
    assert_eq!(failed(&bench.events_of("hi").await).code.as_str(), "stream_broken");
    assert_eq!(bench.sim.requests().len(), 1);
}

#[actix::test]
async fn an_error_in_the_stream_is_an_error() {
    for words in ["midstream", "midstream-raw", "midstream;status=429"] {
        let bench = Bench::scripted(vec![fault(words)]);
        let events = bench.events_of("Write 50 words.").await;
        let failed = failed(&events);
        let expected = if words.contains("429") {
            ("upstream_rate_limited", 429)
        } else {
            ("upstream_unavailable", 503)
        };
        assert_eq!(
            (failed.code.as_str(), failed.upstream_status),
            (expected.0, Some(expected.1)),
            "{words}"
        );
        assert!(!text(&events).is_empty());
    }
}

#[actix::test]
async fn garbage_is_repeated_once_and_only_before_text() {
    let bench = Bench::scripted(vec![fault("garbage")]);
    let events = bench.events_of("Write 50 words.").await;
    assert_eq!(
        (failed(&events).code.as_str(), bench.sim.requests().len()),
        ("upstream_error", 1)
    );
    let bench = Bench::scripted(vec![fault("garbage;after=0"), fault("garbage;after=0")]);
    let events = bench.events_of("hi").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).attempts),
        ("upstream_error", 2)
    );
}

#[actix::test]
async fn an_event_larger_than_its_bound_is_not_kept() {
    let bench = Bench::start(|config| config.event_bytes = 4096);
    let large = || ScriptedReply::text(["x".repeat(5000)]);
    bench.sim.script(vec![large(), large()]);
    assert_eq!(failed(&bench.events_of("hi").await).code.as_str(), "upstream_error");
}

#[actix::test]
async fn a_refused_prompt_and_a_refused_answer_are_blocked() {
    let bench = Bench::start(|_| {});
    let events = bench.events_of("[[blocked]] hi").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).retryable),
        ("blocked", false)
    );
    assert_eq!(failed(&events).reason.as_deref(), Some("PROHIBITED_CONTENT"));
    assert!(failed(&events).usage.prompt > 0);
    let events = bench.events_of("[[safety]] hi").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).reason.as_deref()),
        ("blocked", Some("SAFETY"))
    );
    assert!(!text(&events).is_empty(), "what was shown stays");
    assert_eq!(bench.sim.requests().len(), 2);
}

#[actix::test]
async fn reasons_of_chance_are_repeated_once() {
    for reason in ["RECITATION", "OTHER", "NEW_IN_2027"] {
        let empty = || ScriptedReply::default().ending(ScriptedEnd::Finish(reason.to_owned()));
        let bench = Bench::scripted(vec![empty(), ScriptedReply::text(["ok"]), empty(), empty()]);
        assert_eq!(text(&bench.events_of("hi").await), "ok", "{reason}");
        let events = bench.events_of("hi").await;
        assert_eq!(
            (failed(&events).attempts, failed(&events).reason.as_deref()),
            (2, Some(reason))
        );
    }
}

#[actix::test]
async fn an_empty_answer_is_repeated_once() {
    let bench = Bench::start(|_| {});
    let events = bench.events_of("[[empty-once]] hi").await;
    assert_eq!(
        (retries(&events)[0].1, finished(&events).truncated),
        ("empty_answer", false)
    );
    let events = bench.events_of("[[empty]]").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).attempts),
        ("empty_answer", 2)
    );
}

#[actix::test]
async fn errors_without_json_are_known_by_their_status() {
    for (words, status) in [
        ("html", 502),
        ("empty-body", 503),
        ("html;status=404", 404),
        ("empty-body;status=401", 401),
    ] {
        let bench = Bench::start(|config| config.max_attempts = 1);
        bench.sim.script(vec![fault(words)]);
        assert_eq!(
            failed(&bench.events_of("hi").await).upstream_status,
            Some(status),
            "{words}"
        );
    }
}

#[actix::test]
async fn a_web_page_with_status_200_is_unreadable() {
    let page = || {
        ScriptedReply::default()
            .then_raw("<html>\n<p>Sign in</p>\n</html>\n")
            .ending(ScriptedEnd::Truncate)
    };
    let bench = Bench::scripted(vec![page(), page()]);
    assert_eq!(failed(&bench.events_of("hi").await).code.as_str(), "upstream_error");
}

#[actix::test]
async fn a_retry_after_header_counts() {
    let bench = Bench::start(|_| {});
    let mut reply = ScriptedReply::error(503, Some(json!({})));
    if let Some(error) = &mut reply.error {
        error.headers.insert("retry-after".to_owned(), "7".to_owned());
    }
    bench.sim.script(vec![reply]);
    assert_eq!(failed(&bench.events_of("hi").await).after_ms, Some(7000));
}

#[actix::test]
async fn a_late_first_byte_is_a_timeout() {
    let bench = Bench::start(|config| config.first_byte_timeout = Duration::from_millis(60));
    let events = bench.events_of("[[slow-first-byte 60000]]").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).attempts),
        ("upstream_timeout", 2)
    );
    for number in [1, 2] {
        bench
            .outcome(number, |outcome| matches!(outcome, Outcome::ClientGone { .. }))
            .await;
    }
}

#[actix::test]
async fn a_stalled_stream_is_a_timeout() {
    let bench = Bench::start(|config| config.idle_timeout = Duration::from_millis(60));
    let events = bench.events_of("[[stall]] Write 50 words.").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).attempts),
        ("upstream_timeout", 1)
    );
    assert!(!text(&events).is_empty());
    bench
        .outcome(1, |outcome| matches!(outcome, Outcome::ClientGone { .. }))
        .await;
}

#[actix::test]
async fn a_wrong_key_a_missing_key_and_an_unknown_model_are_told_apart() {
    let bench = Bench::start(|config| config.api_key = Some("invalid-key".into()));
    let events = bench.events_of("hi").await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).upstream_status),
        ("upstream_auth", Some(400))
    );
    for none in [None, Some("  ".into())] {
        let bench = Bench::start(|config| config.api_key = none);
        let events = bench.events_of("hi").await;
        assert_eq!(
            (failed(&events).code.as_str(), failed(&events).attempts),
            ("not_configured", 0)
        );
        assert!(bench.sim.requests().is_empty());
    }
    let bench = Bench::start(|_| {});
    for (model, status) in [("gemini-99", Some(404)), ("../../secret", None)] {
        let asked = GenerateRequest {
            model: Some(model.to_owned()),
            ..request("hi")
        };
        let events = bench.ask_with(asked, None).end().await;
        assert_eq!(
            (failed(&events).code.as_str(), failed(&events).upstream_status),
            ("upstream_error", status)
        );
    }
    assert_eq!(bench.sim.requests().len(), 1);
}

#[actix::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let gone = Bench::start(|_| {}).sim.url();
    let bench = Bench::start(|config| config.base_url = gone);
    let events = bench.events_of("hi").await;
    let failed = failed(&events);
    assert_eq!(
        (failed.code.as_str(), failed.attempts, failed.upstream_status),
        ("upstream_unavailable", 4, None)
    );
}

#[actix::test]
async fn no_failure_tells_the_key_or_an_address() {
    let bench = Bench::start(|config| {
        config.max_attempts = 1;
        config.breaker_failures = 1000;
        config.first_byte_timeout = Duration::from_millis(200);
    });
    let mut told = format!("{:?} {:?} {:?}", bench.shared, bench.shared.config(), bench.gemini);
    for words in [
        "400",
        "401",
        "402",
        "403",
        "404",
        "429",
        "429-daily",
        "500",
        "503",
        "504",
        "html",
        "cut",
        "garbage",
    ] {
        told += &format!("{:?}", bench.events_of(&format!("[[{words}]]")).await);
    }
    let echo = json!({"error": {"code": 400, "message": format!("API key {KEY} at http://127.0.0.1/internal")}});
    bench.sim.script(vec![
        ScriptedReply::error(400, Some(echo.clone())),
        ScriptedReply {
            chunks: vec![ScriptedChunk {
                json: Some(echo),
                ..ScriptedChunk::default()
            }],
            ..part_reply()
        },
    ]);
    told += &format!("{:?} {:?}", bench.events_of("hi").await, bench.events_of("hi").await);
    let url = bench.sim.url();
    drop(bench.sim);
    let asked = bench.gemini;
    drop(asked);
    let gone = Bench::start(|config| config.base_url = url);
    told += &format!("{:?}", gone.events_of("hi").await);
    told += &format!("{:?}", gone.shared.health());
    assert!(!told.contains(KEY), "{told}");
    assert!(!told.contains("internal"), "{told}");
}

fn part_reply() -> ScriptedReply {
    ScriptedReply {
        chunks: vec![ScriptedChunk {
            json: Some(part(json!({"text": ""}))),
            ..ScriptedChunk::default()
        }],
        ..ScriptedReply::default()
    }
}
