use super::*;
use crate::chat::transcript::{About, Question, Verdict};

fn view(look: Look) -> View {
    narrow(look, true, 60)
}

fn narrow(look: Look, utf8: bool, width: usize) -> View {
    let style = Style {
        utf8,
        links: true,
        width: Arc::new(AtomicUsize::new(width)),
    };
    View::new(look, style)
}

fn id(text: &str) -> MessageId {
    text.parse().unwrap()
}

fn text(message: &str, delta: &str) -> News {
    News::Text {
        id: id(message),
        delta: delta.to_owned(),
    }
}

fn ended(end: End) -> News {
    News::Ended { run: None, end }
}

fn failed() -> End {
    End::Failed {
        message: "No answer.".to_owned(),
        code: Some("upstream_timeout".to_owned()),
    }
}

/// What is written to stdout and to stderr.
#[derive(Debug, Default, PartialEq, Eq)]
struct Written {
    text: String,
    remarks: String,
}

impl Written {
    fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text.push_str(&text),
                Piece::Remark(text) => self.remarks.push_str(&text),
            }
        }
    }
}

fn news(view: &mut View, news: &[News]) -> Written {
    let mut written = Written::default();
    news.iter().for_each(|news| written.add(view.news(news)));
    written
}

/// As on a terminal, without the colours.
fn shown(view: &mut View, show: impl FnOnce(&mut View) -> Vec<Piece>) -> String {
    let mut shown = String::new();
    for piece in show(view) {
        let (Piece::Text(text) | Piece::Remark(text)) = piece;
        shown.push_str(&text);
    }
    [DIM, RED, CYAN, RESET]
        .iter()
        .fold(shown, |shown, code| shown.replace(code, ""))
}

#[test]
fn an_answer_is_streamed_as_it_comes() {
    let mut view = view(Look::Terminal);
    view.typed(id("u"));
    let said = News::Said {
        id: id("u"),
        text: "hi".to_owned(),
    };
    let written = news(&mut view, &[said, text("a", "Hel"), text("a", "lo"), ended(End::Done)]);
    assert_eq!(
        written,
        Written {
            text: "Hello\n".to_owned(),
            remarks: String::new()
        }
    );
}

#[test]
fn what_another_device_says_is_shown() {
    let mut view = view(Look::Terminal);
    let said = News::Said {
        id: id("u"),
        text: "hi\u{1b}[2J".to_owned(),
    };
    assert_eq!(shown(&mut view, |view| view.news(&said)), "› hi[2J\n");
}

#[test]
fn a_lost_connection_is_one_dim_line() {
    let mut view = view(Look::Terminal);
    view.news(&text("a", "Hel"));
    let mut line = shown(&mut view, |view| view.remarked(&Remark::Lost));
    line += &shown(&mut view, |view| view.remarked(&Remark::Resumed { after: 41 }));
    assert_eq!(line, "\n— connection lost, reconnecting… — resumed after event 41\n");
    let Some(Piece::Remark(painted)) = view.remarked(&Remark::Lost).pop() else {
        panic!("no remark")
    };
    assert!(painted.starts_with(DIM) && painted.ends_with(RESET));
}

#[test]
fn plain_output_has_no_colours_and_remarks_apart() {
    let mut view = view(Look::Plain);
    let mut written = news(&mut view, &[text("a", "Hel")]);
    written.add(view.remarked(&Remark::Lost));
    written.add(view.remarked(&Remark::Resumed { after: 2 }));
    written.add(view.news(&text("a", "lo")));
    written.add(view.news(&ended(End::Cancelled)));
    written.add(view.end_line());
    assert_eq!(written.text, "Hello\n");
    assert_eq!(
        written.remarks,
        "— connection lost, reconnecting… — resumed after event 2\n— cancelled\n"
    );
}

#[test]
fn once_prints_the_answer_and_nothing_else() {
    let mut view = view(Look::Answer);
    let said = News::Said {
        id: id("u"),
        text: "hi".to_owned(),
    };
    let tool = called("search", "{}");
    let written = news(
        &mut view,
        &[said, text("a", "Let me see."), tool, text("b", "42"), ended(End::Done)],
    );
    assert_eq!(written.text, "Let me see.\n42\n");
    assert_eq!(written.remarks, "⚙ search {}\n");
}

#[test]
fn a_failed_run_names_its_code_and_that_the_answer_is_not_whole() {
    let mut view = view(Look::Terminal);
    view.news(&text("a", "Roses are"));
    let line = shown(&mut view, |view| view.news(&ended(failed())));
    assert_eq!(line, "\n— No answer. (upstream_timeout); the answer was cut off\n");
    assert_eq!(
        shown(&mut view, |view| view.news(&ended(failed()))),
        "— No answer. (upstream_timeout)\n"
    );
}

#[test]
fn a_queued_message_is_shown_again_when_its_turn_comes() {
    let mut view = view(Look::Terminal);
    view.typed(id("u"));
    assert_eq!(
        shown(&mut view, |view| view.remarked(&Remark::Queued { place: 2 })),
        "— queued, number 2\n"
    );
    view.forget_typed(&id("u"));
    let said = News::Said {
        id: id("u"),
        text: "hi".to_owned(),
    };
    assert_eq!(shown(&mut view, |view| view.news(&said)), "› hi\n");
}

#[test]
fn simulated_answers_are_announced() {
    let mut view = view(Look::Terminal);
    let line = shown(&mut view, |view| view.remarked(&Remark::Welcome { simulated: true }));
    assert!(line.contains("simulated"), "{line}");
    assert_eq!(view.remarked(&Remark::Welcome { simulated: false }), []);
}

fn called(tool: &str, arguments: &str) -> News {
    News::Called {
        tool: tool.to_owned(),
        arguments: arguments.to_owned(),
    }
}

fn returned(tool: &str, text: &str, failed: bool) -> News {
    News::Returned {
        tool: tool.to_owned(),
        text: text.to_owned(),
        failed,
    }
}

fn progress(tool: &str, status: &str) -> News {
    News::Progress {
        tool: tool.to_owned(),
        status: status.to_owned(),
        why: None,
    }
}

#[test]
fn calls_are_a_line_each_also_amid_a_text() {
    let mut view = view(Look::Terminal);
    let all = [
        text("a", "Let me see."),
        called("weather", r#"{"city":"Bern"}"#),
        called("weather #2", r#"{"city":"Basel"}"#),
        progress("weather", "running"),
        progress("weather #2", "waiting"),
        returned("weather", r#""\nsunny\nand warm""#, false),
        returned("weather #2", "no such city\nat all", true),
        text("b", "Sunny."),
        ended(End::Done),
    ];
    let lines: Vec<String> = all
        .iter()
        .map(|news| shown(&mut view, |view| view.news(news)))
        .collect();
    let expected = [
        "Let me see.",
        r#"⚙ weather {"city":"Bern"}"#,
        r#"⚙ weather #2 {"city":"Basel"}"#,
        "… weather running",
        "… weather #2 waiting for an account",
        "✓ weather sunny",
        "✗ weather #2 no such city",
        "Sunny.\n",
    ];
    assert_eq!(lines.concat(), expected.join("\n"));
}

#[test]
fn a_line_of_a_call_is_cut_to_the_width_and_can_be_ascii() {
    let long = called("f", &format!("{{\"text\":\"{}\"}}", "x".repeat(100)));
    let mut wide = narrow(Look::Terminal, true, 30);
    let line = shown(&mut wide, |view| view.news(&long));
    assert_eq!(line.trim_end().chars().count(), 29, "{line}");
    assert!(line.starts_with("⚙ f {") && line.ends_with("…\n"), "{line}");
    let mut ascii = narrow(Look::Terminal, false, 30);
    let line = shown(&mut ascii, |view| view.news(&long));
    assert!(
        line.is_ascii() && line.starts_with("* f {") && line.ends_with("...\n"),
        "{line}"
    );
    let others = [
        returned("f", "1", false),
        returned("f", "1", true),
        progress("f", "running"),
        progress("f", "unknown"),
    ];
    for news in others {
        assert!(shown(&mut ascii, |view| view.news(&news)).is_ascii());
    }
    let wide_letters = called("f", &"漢".repeat(40));
    let line = shown(&mut wide, |view| view.news(&wide_letters));
    assert_eq!(line.matches('漢').count(), 12, "each takes two columns: {line}");
}

#[test]
fn nothing_that_a_tool_says_moves_the_cursor() {
    let mut view = view(Look::Terminal);
    let news = returned("f\u{1b}[1A", "a\u{1b}]0;x\u{7}\r\u{202e}b", false);
    assert_eq!(shown(&mut view, |view| view.news(&news)), "✓ f[1A a]0;xb\n");
}

fn question(about: About, arguments: &Value) -> Question {
    Question {
        id: "i_1".parse().unwrap(),
        about,
        text: "May SEND be called?".to_owned(),
        tool: "SEND".to_owned(),
        arguments: arguments.as_object().cloned(),
    }
}

#[test]
fn an_approval_shows_all_of_the_arguments_as_they_are() {
    let mut view = view(Look::Terminal);
    let arguments = serde_json::json!({"to": "a\u{202e}b\u{9b}", "text": "x".repeat(80)});
    let asked = question(About::Approval, &arguments);
    let block = shown(&mut view, |view| view.question(&asked));
    assert!(block.starts_with("— May SEND be called?\n  {\n"), "{block}");
    assert!(block.contains(r#""to": "a\u202eb\u009b""#), "{block}");
    assert!(block.contains(&"x".repeat(80)), "nothing of it is cut: {block}");
    assert!(block.ends_with("  [y]es / [n]o / [e]dit\n"), "{block}");
    let mut plain = narrow(Look::Answer, true, 0);
    let block = shown(&mut plain, |view| view.question(&asked));
    assert!(block.contains("--yes") && !block.contains("[y]es"), "{block}");
}

#[test]
fn a_page_is_a_link_when_it_is_one() {
    let link = |link: &str| {
        let about = About::Connection {
            link: Some(link.to_owned()),
        };
        question(about, &Value::Null)
    };
    let mut view = view(Look::Terminal);
    let block = shown(&mut view, |view| view.question(&link("https://x.org/a")));
    assert!(
        block.contains("\u{1b}]8;;https://x.org/a\u{1b}\\https://x.org/a\u{1b}]8;;"),
        "{block}"
    );
    let block = shown(&mut view, |view| view.question(&link("javascript:x\u{1b}\\")));
    assert!(block.contains("  javascript:x\\") && !block.contains("]8;;"), "{block}");
    let mut plain = narrow(Look::Plain, true, 0);
    let block = shown(&mut plain, |view| view.question(&link("https://x.org/a")));
    assert!(
        block.contains("  https://x.org/a\n") && !block.contains('\u{1b}'),
        "{block}"
    );
}

#[test]
fn an_answer_names_who_gave_it_unless_it_was_this_client() {
    let mut view = view(Look::Terminal);
    let verdict = |word: &str, by: &Value| -> Verdict {
        let value = serde_json::json!({"interruptId": "i_1", "verdict": word, "answeredBy": by});
        serde_json::from_value(value).unwrap()
    };
    let mut line = |verdict: Verdict, own: bool| {
        let news = News::Answered {
            tool: "SEND".to_owned(),
            verdict,
            own,
        };
        shown(&mut view, |view| view.news(&news))
    };
    let by = serde_json::json!({"user": "ann", "connection": "c_2", "device": "the app"});
    assert_eq!(
        line(verdict("approved", &by), false),
        "— SEND: approved on another device (the app)\n"
    );
    assert_eq!(line(verdict("rejected", &by), true), "— SEND: rejected\n");
    let nobody = serde_json::json!({"device": "deadline"});
    assert_eq!(
        line(verdict("expired", &nobody), false),
        "— SEND: nobody answered in time\n"
    );
}

#[test]
fn a_locale_says_whether_there_is_more_than_ascii() {
    assert!(is_utf8(None) && is_utf8(Some("de_CH.UTF-8")) && is_utf8(Some("C.utf8")));
    assert!(!is_utf8(Some("C")) && !is_utf8(Some("de_CH.ISO8859-1")));
}
