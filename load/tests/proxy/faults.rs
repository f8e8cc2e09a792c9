//! Each planted fault fails the load for the right reason; without one the same load passes.

use std::fs;

use crate::support::{Run, Server};

/// A promise was broken.
const BROKEN: i32 = 97;
/// A threshold did not hold, or nothing that was measured counts because the machine was busy.
const MISSED: [i32; 2] = [99, 98];

/// Two devices for each user, one of which is cut in mid-answer and comes back.
const LOAD: &str = r#"
thresholds = ["errors == 0", "broken == 0"]
[load]
stages = [{ over = "0ms", to = 4 }, { over = "3s", to = 4 }]
grace = "20s"
[[mix]]
name = "two"
devices = [{ name = "phone" }, { name = "laptop", codec = "msgpack" }]
steps = [
  { join = "phone" },
  { join = "laptop" },
  { device = "phone", say = "[[clock]][[tokens 150]]" },
  { wait = { deltas = 20 } },
  { cut = "laptop", away = "300ms" },
  { wait = "reply" },
  { device = "phone", say = "[[clock]][[tokens 50]]" },
  { wait = "reply" },
]
"#;

/// The load through a proxy with a fault.
fn with(fault: &str, more: &[&str], threshold: &str) -> Run {
    let server = Server::start(100);
    let (_proxy, url) = server.behind(&[&["fault-proxy", "--fault", fault], more].concat());
    let folder = server.folder.path();
    let load = LOAD.replace("\"broken == 0\"", &format!("\"broken == 0\"{threshold}"));
    fs::write(folder.join("load.toml"), load).unwrap();
    Run::of(folder, &["load.toml", "--url", &url])
}

/// It fails, and nothing but these checks found something.
fn fails_by(run: &Run, checks: &[&str]) {
    let broken = run.broken();
    assert!(
        !broken.is_empty() && broken.iter().all(|found| checks.contains(found)),
        "{broken:?}: {}",
        run.text
    );
    assert_eq!(run.code, BROKEN, "{}", run.text);
    let breach = &run.report["breaches"][0];
    assert!(checks.contains(&breach["check"].as_str().unwrap()), "{breach}");
    for told in ["session", "device", "what"] {
        assert!(
            breach[told].as_str().is_some_and(|text| !text.is_empty()),
            "{told}: {breach}"
        );
    }
    for frames in ["sent", "received"] {
        assert!(
            breach[frames].as_array().is_some_and(|frames| !frames.is_empty()),
            "{frames}: {breach}"
        );
    }
}

#[test]
fn without_a_fault_the_load_passes() {
    let run = with("drop=1", &["--after", "1000000000"], "");
    assert_eq!(run.report["broken"], serde_json::json!({}), "{}", run.text);
    assert_eq!(run.report["errors"], serde_json::json!({}), "{}", run.text);
    assert!(run.count("completed") >= 4 && run.count("resumes") >= 4, "{}", run.text);
    assert!([0, 98].contains(&run.code), "exit code {}: {}", run.code, run.text);
}

#[test]
fn a_frame_that_is_dropped_fails_it() {
    fails_by(&with("drop=500", &[], ""), &["gap"]);
}

#[test]
fn two_frames_that_are_swapped_fail_it() {
    fails_by(&with("swap=500", &[], ""), &["reordered"]);
}

#[test]
fn a_frame_that_comes_twice_fails_it() {
    fails_by(&with("repeat=500", &[], ""), &["repeated"]);
}

#[test]
fn a_resume_from_the_wrong_position_fails_it() {
    fails_by(&with("wrong-resume", &[], ""), &["gap", "repeated"]);
}

#[test]
fn a_stall_breaks_no_promise_and_a_threshold() {
    let run = with("stall=2s/300", &[], ", \"max(token_gap) < 1s\"");
    assert_eq!(run.report["broken"], serde_json::json!({}), "{}", run.text);
    let thresholds = run.report["thresholds"].as_array().unwrap();
    let gap = thresholds
        .iter()
        .find(|judged| judged.to_string().contains("token_gap"));
    assert_eq!(gap.unwrap()["passed"], false, "{}", run.text);
    assert!(MISSED.contains(&run.code), "exit code {}: {}", run.code, run.text);
}

#[test]
fn a_reset_is_an_error_of_the_network_and_breaks_no_promise() {
    let run = with("reset=200", &[], "");
    assert_eq!(run.report["broken"], serde_json::json!({}), "{}", run.text);
    assert!(run.count("resumes") > run.count("cuts"), "{}", run.text);
}
