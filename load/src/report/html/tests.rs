use super::*;
use crate::meter::Server;
use crate::report::{Breach, synthetic};
use crate::threshold::Judged;

/// What somebody could write into a chat, or a server into a frame.
const HOSTILE: &str = "</script></style></title><script>alert(1)</script><img src=x onerror='alert(2)'>\"&<!--\u{1b}";

fn hostile() -> Report {
    let mut report = synthetic::report(12);
    let text = || HOSTILE.to_owned();
    report.settings.scenario = text();
    report.settings.about = text();
    report.settings.codec = text();
    report.settings.model = text();
    report.settings.mix = vec![(text(), 1)];
    report.settings.network = vec![text()];
    report.target = text();
    report.server = Some(Server {
        name: text(),
        version: text(),
    });
    report.machine.cpu = text();
    report.machine.kernel = text();
    report.machine.versions = text();
    report.started_at = text();
    report.version = text();
    report.void = Some(text());
    report.warnings = vec![text()];
    report.thresholds = vec![Judged {
        text: text(),
        value: text(),
        passed: false,
    }];
    report.errors.insert(text(), 1);
    report.broken.insert(text(), 1);
    report.breaches = vec![Breach {
        check: text(),
        session: text(),
        seq: Some(1),
        device: text(),
        script: text(),
        what: text(),
        sent: vec![text()],
        received: vec![text()],
    }];
    let usage = report.processes["server"];
    report.processes.insert(text(), usage);
    report
}

#[test]
fn nothing_that_others_wrote_is_markup() {
    let page = page(&hostile());
    for part in ["<script", "</script", "<img", "onerror='", "<!--", "\u{1b}"] {
        assert!(!page.contains(part), "{part}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    assert_eq!(page.matches("</title>").count(), 1);
    assert!(page.contains("&lt;/script&gt;&lt;/style&gt;"));
}

#[test]
fn it_needs_nothing_else() {
    let page = page(&synthetic::report(12));
    for part in ["http://", "https://", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("default-src 'none'"));
}

/// Elements that are closed in the order in which they were opened.
fn is_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = page.split_once("</style>").unwrap().1;
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag that ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            let opened = open.pop();
            // Those that the head opened.
            assert!(
                opened == Some(name) || (opened.is_none() && ["head", "html"].contains(&name)),
                "{name} {open:?}"
            );
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn it_is_well_formed_whatever_there_is() {
    is_well_formed(&page(&synthetic::report(12)));
    is_well_formed(&page(&hostile()));
    let mut empty = synthetic::report(0);
    empty.latencies.clear();
    empty.processes.clear();
    is_well_formed(&page(&empty));
    assert!(!page(&empty).contains("NaN"));
}

#[test]
fn it_has_every_part() {
    let mut report = synthetic::report(12);
    report.broken.insert("gap".to_owned(), 3);
    let page = page(&report);
    for part in [
        "Passed",
        "Failed",
        "Thresholds",
        "Broken promises",
        "Users a second",
        "Users and sockets",
        "Deltas a second",
        "Errors a second",
        "First token, by share",
        "CPU",
        "Memory",
        "Machine and settings",
        "errors == 0",
        "99 %",
    ] {
        assert_eq!(page.contains(part), part != "Passed", "{part}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "a number that is none");
}

#[test]
fn a_long_load_is_a_page_still() {
    let day = page(&synthetic::report(20_000));
    assert!(day.len() < 600_000, "{} bytes", day.len());
}
