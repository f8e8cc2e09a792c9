use super::*;

fn breach(what: &str) -> Breach {
    Breach {
        check: "gap".to_owned(),
        session: "0198-abc".to_owned(),
        seq: Some(42),
        device: "phone".to_owned(),
        script: "chat".to_owned(),
        what: what.to_owned(),
        sent: vec![r#"{"op":"attach"}"#.to_owned()],
        received: vec![r#"{"op":"events","seq":42}"#.to_owned()],
    }
}

fn failed() -> Judged {
    Judged {
        text: "p99(ack) < 1ms".to_owned(),
        value: "3.00 ms".to_owned(),
        passed: false,
    }
}

#[test]
fn exit_codes_say_the_worst() {
    let mut report = synthetic::report(5);
    assert_eq!(report.exit_code(), 0);
    report.interrupted = true;
    assert_eq!(report.exit_code(), 105);
    report.thresholds.push(failed());
    assert_eq!(report.exit_code(), 99);
    report.void = Some("the load tester was busy".to_owned());
    assert_eq!(report.exit_code(), 98);
    report.broken.insert("gap".to_owned(), 1);
    assert_eq!(report.exit_code(), 97);
    for code in ["97 ", "98 ", "99 ", "105 ", "0 "] {
        assert!(EXIT_CODES.contains(code), "{code}");
    }
}

#[test]
fn it_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = synthetic::report(5);
    report.breaches.push(breach("after 40 came 42"));
    let args = OutputArgs {
        json: Some(folder.path().join("a.json")),
        report: Some(folder.path().join("a.html")),
    };
    conclude(&report, &args).unwrap();
    let read = Report::read(args.json.as_deref().unwrap()).unwrap();
    assert_eq!(
        serde_json::to_value(&read).unwrap(),
        serde_json::to_value(&report).unwrap()
    );
    assert!(fs::read_to_string(args.report.unwrap()).unwrap().contains("synthetic"));
}

#[test]
fn another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    for (text, says) in [
        (r#"{"kronos_load": 2}"#, "version 2"),
        ("{}", "not a report"),
        ("x", "a.json"),
    ] {
        fs::write(&file, text).unwrap();
        let error = format!("{:#}", Report::read(&file).unwrap_err());
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_summary_names_what_broke() {
    let mut report = synthetic::report(5);
    report.broken.insert("gap".to_owned(), 7);
    report.breaches = vec![breach("after 40 came 42\u{1b}[2J"); 7];
    report.thresholds.push(failed());
    report.errors.insert("busy".to_owned(), 1_234);
    let text = summary::Summary(&report).to_string();
    for part in [
        "FAILED: 7 promises were broken.",
        "session 0198-abc, seq 42, device phone, script chat",
        r#"→ {"op":"attach"}"#,
        r#"← {"op":"events","seq":42}"#,
        "and 2 more",
        "✓ errors == 0      0",
        "✗ p99(ack) < 1ms   3.00 ms",
        "1,234",
        "first_token",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "a frame cannot speak to the terminal");
}

#[test]
fn the_verdict_of_a_void_run_is_not_a_pass() {
    let mut report = synthetic::report(5);
    assert_eq!(summary::verdict(&report), "PASSED: everything held.");
    report.void = Some("the load tester was busy".to_owned());
    report.interrupted = true;
    let verdict = summary::verdict(&report);
    assert!(verdict.starts_with("VOID: the load tester was busy."), "{verdict}");
    assert!(verdict.ends_with("interrupted before its end."), "{verdict}");
}
