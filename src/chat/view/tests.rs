use super::*;

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
    let mut view = View::new(Look::Terminal);
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
    let mut view = View::new(Look::Terminal);
    let said = News::Said {
        id: id("u"),
        text: "hi\u{1b}[2J".to_owned(),
    };
    assert_eq!(shown(&mut view, |view| view.news(&said)), "› hi[2J\n");
}

#[test]
fn a_lost_connection_is_one_dim_line() {
    let mut view = View::new(Look::Terminal);
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
    let mut view = View::new(Look::Plain);
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
    let mut view = View::new(Look::Answer);
    let said = News::Said {
        id: id("u"),
        text: "hi".to_owned(),
    };
    let tool = News::Tool {
        name: "search".to_owned(),
    };
    let written = news(
        &mut view,
        &[said, text("a", "Let me see."), tool, text("b", "42"), ended(End::Done)],
    );
    assert_eq!(written.text, "Let me see.\n42\n");
    assert_eq!(written.remarks, "— calling search…\n");
}

#[test]
fn a_failed_run_names_its_code_and_that_the_answer_is_not_whole() {
    let mut view = View::new(Look::Terminal);
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
    let mut view = View::new(Look::Terminal);
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
    let mut view = View::new(Look::Terminal);
    let line = shown(&mut view, |view| view.remarked(&Remark::Welcome { simulated: true }));
    assert!(line.contains("simulated"), "{line}");
    assert_eq!(view.remarked(&Remark::Welcome { simulated: false }), []);
}
