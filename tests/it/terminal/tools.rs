//! Tools at the terminal: calls as they come, approvals, accounts, the queue, branches.

use kronos_sim::{ComposioHandle, ComposioScript, ComposioSim, ComposioSimConfig};
use kronos_testkit::{WsClient, eventually_now};
use serde_json::{Value, json};

use super::{Chat, LIMIT};
use crate::harness::{Kronos, kronos_with};

const ISSUE: &str = r#"[[call GITHUB_CREATE_ISSUE {"owner":"acme","repo":"shop","title":"Broken"}]] please"#;
const CHOICE: &str = "[y]es / [n]o / [e]dit";

/// A server with tools of Composio; ann has an account of GitHub.
async fn with_tools(env: &[(&str, &str)]) -> (Kronos, ComposioHandle) {
    let (kronos, composio) = without_account(env).await;
    composio.connect("ann", "github").unwrap();
    (kronos, composio)
}

async fn without_account(env: &[(&str, &str)]) -> (Kronos, ComposioHandle) {
    let composio = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let url = composio.url();
    let mut all = vec![("COMPOSIO_BASE_URL", url.as_str()), ("COMPOSIO_API_KEY", "ak_test")];
    all.extend_from_slice(env);
    (kronos_with(400.0, &all).await, composio)
}

fn titles(composio: &ComposioHandle) -> Vec<(u32, String)> {
    let effects = composio.effects().into_iter();
    effects
        .map(|effect| {
            let title = effect.arguments["title"].as_str().unwrap_or_default().to_owned();
            (effect.count, title)
        })
        .collect()
}

impl Chat {
    async fn until_count(&self, text: &str, count: usize) {
        eventually_now(LIMIT, text, || {
            (self.out().matches(text).count() >= count)
                .then_some(())
                .ok_or(self.both())
        })
        .await;
    }

    /// The conversation that was begun.
    fn session(&self) -> String {
        let out = self.out();
        let (_, rest) = out.split_once("— conversation ").expect("it was said");
        rest.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect()
    }
}

/// Another device of ann in the same conversation.
async fn beside(kronos: &Kronos, chat: &Chat) -> (WsClient, String) {
    let session = chat.session();
    let mut client = kronos.client("ann").await;
    client.attach(&session, None).await;
    (client, session)
}

#[tokio::test]
async fn calls_are_shown_as_they_come_and_the_answer_stays_alone_on_stdout() {
    let (kronos, _composio) = with_tools(&[]).await;
    let both = r#"[[call calculate {"expression":"6*7"}]] [[call current_time {}]] both please"#;
    let mut chat = Chat::piped(&kronos, &["--once", both]);
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    let err = chat.err();
    for line in [
        r#"⚙ calculate {"expression":"6*7"}"#,
        "… calculate running",
        "✓ calculate ",
        "⚙ current_time ",
        "✓ current_time ",
    ] {
        assert!(err.lines().any(|shown| shown.starts_with(line)), "{line}: {err}");
    }
    assert!(err.lines().all(|line| line.chars().count() < 160), "{err}");
    assert!(
        chat.out().contains("42") && !chat.out().contains('⚙'),
        "{}",
        chat.both()
    );

    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kronos"));
    command
        .args(["chat", "--url", &kronos.server.ws_url(), "--user", "ann", "--once"])
        .args([r#"[[call calculate {"expression":"6*"}]] go"#])
        .env("LC_ALL", "C");
    let mut chat = Chat::start(command);
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    let err = chat.err();
    assert!(
        err.lines().any(|line| line.starts_with("* calculate {")) && err.lines().any(|line| line.starts_with("x calc")),
        "{err}"
    );
}

#[tokio::test]
async fn an_approval_is_asked_for_and_given_refused_or_given_with_other_arguments() {
    let (kronos, composio) = with_tools(&[]).await;
    let mut chat = Chat::at_terminal(&kronos);
    chat.until_out("› ").await;
    chat.write(&format!("{ISSUE}\r"));
    chat.until_count(CHOICE, 1).await;
    assert!(
        chat.out().contains("May GITHUB_CREATE_ISSUE be called?"),
        "{}",
        chat.out()
    );
    assert!(chat.out().contains(r#"    "title": "Broken""#), "{}", chat.out());
    assert!(composio.effects().is_empty(), "nothing left before it was approved");
    chat.write("maybe\r");
    chat.until_out("y, n or e").await;
    chat.write("y\r");
    chat.until_out("✓ GITHUB_CREATE_ISSUE").await;
    assert_eq!(titles(&composio), [(1, "Broken".to_owned())]);

    chat.write(&format!("{ISSUE}\r"));
    chat.until_count(CHOICE, 2).await;
    chat.write("n\r");
    chat.until_out("✗ GITHUB_CREATE_ISSUE").await;
    assert_eq!(composio.effects().len(), 1, "not called again");

    chat.write(&format!("{ISSUE}\r"));
    chat.until_count(CHOICE, 3).await;
    chat.write("e\r");
    chat.until_out("the arguments as JSON").await;
    // What the model wanted is there already: this makes it unreadable.
    chat.write("oops\r");
    chat.until_out("not a JSON object").await;
    chat.write("\u{15}{\"owner\":1}\r");
    chat.until_out("not answered: ").await;
    chat.until_count(CHOICE, 4).await;
    chat.write("e\r");
    chat.until_count("the arguments as JSON", 2).await;
    chat.write("\u{15}{\"owner\":\"acme\",\"repo\":\"shop\",\"title\":\"Edited\"}\r");
    chat.until_count("✓ GITHUB_CREATE_ISSUE", 2).await;
    assert_eq!(titles(&composio)[1], (1, "Edited".to_owned()));
    chat.write("/quit\r");
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
}

#[tokio::test]
async fn without_a_terminal_the_flags_answer_and_without_them_nobody_does() {
    let (kronos, composio) = with_tools(&[]).await;
    let mut chat = Chat::piped(&kronos, &["--once", ISSUE]);
    assert_eq!(chat.end().await.code(), Some(1), "{}", chat.both());
    assert!(
        chat.err().contains("May GITHUB_CREATE_ISSUE be called?") && chat.err().contains("--yes"),
        "{}",
        chat.both()
    );
    assert!(composio.effects().is_empty());

    let mut chat = Chat::piped(&kronos, &["--no", "--once", ISSUE]);
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    assert!(
        chat.err().contains("rejected (--no)") && !chat.out().is_empty(),
        "{}",
        chat.both()
    );
    assert!(composio.effects().is_empty());

    let mut chat = Chat::piped(&kronos, &["--yes", "--once", ISSUE]);
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    assert!(
        chat.err().contains("approved (--yes)") && !chat.out().is_empty(),
        "{}",
        chat.both()
    );
    assert_eq!(titles(&composio), [(1, "Broken".to_owned())]);

    let mut chat = Chat::piped(&kronos, &["--yes"]);
    chat.write(&format!("{ISSUE}\nWhat is the capital of Japan?\n"));
    chat.end_input();
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    assert!(chat.out().contains("Tokyo"), "{}", chat.both());
    assert_eq!(composio.effects().len(), 2);
}

#[tokio::test]
async fn what_another_device_answers_ends_the_question_and_a_late_letter_is_not_sent() {
    let (kronos, composio) = with_tools(&[]).await;
    let mut chat = Chat::at_terminal(&kronos);
    chat.until_out("› ").await;
    chat.write(&format!("{ISSUE}\r"));
    chat.until_count(CHOICE, 1).await;
    let (mut other, session) = beside(&kronos, &chat).await;
    let id = question(&kronos, &session).await;
    let answer = json!({"op": "resume", "session": session,
        "answers": [{"interrupt": id, "status": "resolved", "payload": {"approved": false}}]});
    other.request(answer).await.unwrap();
    chat.until_out("GITHUB_CREATE_ISSUE: rejected on another device").await;
    chat.until_out("✗ GITHUB_CREATE_ISSUE").await;
    chat.write("y\r");
    chat.until_out("not open any more").await;
    assert!(composio.effects().is_empty());
    chat.write("What is the capital of Japan?\r");
    chat.until_out("Tokyo").await;
    let stored = kronos.stored("ann", &session).await;
    assert!(!stored.contains(&"user: y".to_owned()), "{stored:?}");
    chat.write("/quit\r");
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
}

/// The open question of a conversation, as a device sees it that comes now.
async fn question(kronos: &Kronos, session: &str) -> Value {
    let path = format!("/api/v1/chat/{session}/events?user_id=ann");
    let accept = [("accept", "application/x-ndjson")];
    let text = kronos.server.get(&path, &accept).await.text();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut asked = entries.filter_map(|entry| {
        entry["event"]["outcome"]["interrupts"][0]["id"]
            .as_str()
            .map(Value::from)
    });
    asked.next_back().expect("a question")
}

#[tokio::test]
async fn a_question_may_lapse_or_be_passed_over_by_saying_something_else() {
    let (kronos, composio) = with_tools(&[("APPROVAL_TIMEOUT", "2s")]).await;
    let mut chat = Chat::at_terminal(&kronos);
    chat.until_out("› ").await;
    chat.write(&format!("{ISSUE}\r"));
    chat.until_count(CHOICE, 1).await;
    chat.until_out("GITHUB_CREATE_ISSUE: nobody answered in time").await;
    chat.write(&format!("{ISSUE}\r"));
    chat.until_count(CHOICE, 2).await;
    chat.write("/say What is the capital of Japan?\r");
    chat.until_out("dropped, since something else was said").await;
    chat.until_out("You also said: “What is the capital of Japan?”").await;
    assert!(composio.effects().is_empty());
}

#[tokio::test]
async fn an_outcome_that_nobody_knows_is_asked_about() {
    let (kronos, composio) = with_tools(&[("COMPOSIO_EXECUTE_TIMEOUT", "1s")]).await;
    let lost = || vec![ComposioScript::fault("hang-after-effect").on("GITHUB_CREATE_ISSUE")];
    composio.script(lost());
    let mut chat = Chat::piped(&kronos, &["--yes", "--once", ISSUE]);
    assert_eq!(chat.end().await.code(), Some(1), "never tried blindly: {}", chat.both());
    assert!(chat.err().contains("? GITHUB_CREATE_ISSUE"), "{}", chat.both());
    composio.script(lost());
    let mut chat = Chat::at_terminal_with(&kronos, &["--yes"], &[]);
    chat.until_out("› ").await;
    chat.write(&format!("{ISSUE}\r"));
    chat.until_out("[r]etry / [s]kip / [v]alue").await;
    chat.write("v\r");
    chat.until_out("what the call returned").await;
    chat.write("{\"number\":7}\r");
    chat.until_out(r#"✓ GITHUB_CREATE_ISSUE {"number":7}"#).await;
    let counts: Vec<_> = composio.effects().iter().map(|effect| effect.count).collect();
    assert_eq!(counts, [1, 1], "it was not called again");
}

#[tokio::test]
async fn the_page_for_an_account_is_shown_opened_on_enter_and_the_run_goes_on() {
    let (kronos, composio) = without_account(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let (browser, opened) = (dir.path().join("browser"), dir.path().join("opened"));
    std::fs::write(&browser, format!("#!/bin/sh\necho \"$1\" > {}\n", opened.display())).unwrap();
    let mode = std::process::Command::new("chmod").arg("+x").arg(&browser).status();
    assert!(mode.unwrap().success());
    let mut chat = Chat::at_terminal_with(&kronos, &[], &[("BROWSER", browser.to_str().unwrap())]);
    chat.until_out("› ").await;
    chat.write("/settings toolkits github\r");
    chat.until_out("settings: toolkits = ").await;
    chat.write("/settings tool_policy auto\r");
    chat.until_out("tool_policy = auto").await;
    chat.write(&format!("{ISSUE}\r"));
    chat.until_out("Enter opens it").await;
    assert!(chat.out().contains("waiting for an account"), "{}", chat.out());
    let out = chat.out();
    let (_, link) = out.split_once("\u{1b}]8;;").expect("a link");
    let (link, _) = link.split_once('\u{1b}').expect("its end");
    assert!(link.starts_with("http"), "{link}");
    assert!(!opened.exists(), "nothing is opened unasked");
    chat.write("\r");
    eventually_now(LIMIT, "the browser", || {
        std::fs::read_to_string(&opened).is_ok_and(|text| text.trim() == link)
    })
    .await;
    let account = account(&kronos, &chat.session()).await;
    assert!(composio.set_status(&account, "ACTIVE"));
    chat.until_out("the account is there").await;
    chat.until_out("✓ GITHUB_CREATE_ISSUE").await;
    assert_eq!(composio.effects().len(), 1);

    chat.write("/connect slack\r");
    chat.until_out("to connect an account: Enter opens this page").await;
    chat.write("/quit\r");
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
}

#[tokio::test]
async fn without_a_terminal_the_page_for_an_account_is_printed_and_nobody_answers() {
    let (kronos, composio) = without_account(&[]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await.to_string();
    let change = json!({"op": "settings", "session": session, "toolkits": ["github"], "tool_policy": "auto"});
    client.request(change).await.unwrap();
    for more in [&[][..], &["--yes"]] {
        let arguments = [more, &["--session", &session, "--once", ISSUE]].concat();
        let mut chat = Chat::piped(&kronos, &arguments);
        assert_eq!(chat.end().await.code(), Some(1), "{}", chat.both());
        let err = chat.err();
        assert!(err.contains("needs an account of github"), "{err}");
        assert!(err.lines().any(|line| line.starts_with("  http")), "{err}");
        assert!(!err.contains('\u{1b}'), "{err}");
    }
    assert!(composio.effects().is_empty());
}

/// The account that the conversation waits for.
async fn account(kronos: &Kronos, session: &str) -> String {
    let path = format!("/api/v1/chat/{session}/events?user_id=ann");
    let accept = [("accept", "application/x-ndjson")];
    let text = kronos.server.get(&path, &accept).await.text();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut asked = entries.filter_map(|entry| {
        let about = &entry["event"]["outcome"]["interrupts"][0]["metadata"]["kronos"];
        about["connectionId"].as_str().map(str::to_owned)
    });
    asked.next_back().expect("an account")
}

#[tokio::test]
async fn while_a_tool_works_messages_are_queued_taken_back_and_steered() {
    let (kronos, composio) = with_tools(&[]).await;
    composio.script(vec![ComposioScript::fault("slow 10000").on("GITHUB_CREATE_ISSUE")]);
    let mut chat = Chat::at_terminal_with(&kronos, &["--yes"], &[]);
    chat.until_out("› ").await;
    chat.write(&format!("{ISSUE}\r"));
    chat.until_out("… GITHUB_CREATE_ISSUE running").await;
    chat.write("What is the capital of Japan?\r");
    chat.until_out("queued, number 1").await;
    chat.write("What is the capital of Italy?\r");
    chat.until_out("queued, number 2").await;
    chat.write("/queue\r");
    chat.until_out("  1  What is the capital of Japan?").await;
    chat.until_out("  2  What is the capital of Italy?").await;
    chat.write("/unqueue 1\r");
    chat.until_out("taken back: What is the capital of Japan?").await;
    chat.write("/unqueue 7\r");
    chat.until_out("which one? /queue lists them").await;
    chat.write("/steer only the open ones\r");
    chat.until_out("✓ GITHUB_CREATE_ISSUE").await;
    chat.until_out("Rome").await;
    let asked: Vec<_> = kronos
        .gemini
        .requests()
        .iter()
        .map(|request| request.body.to_string())
        .collect();
    assert!(asked.iter().any(|body| body.contains("only the open ones")));
    assert!(asked.iter().all(|body| !body.contains("Japan")), "it was taken back");
    chat.write("/quit\r");
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
}

#[tokio::test]
async fn messages_are_changed_answered_again_and_branches_gone_back_to() {
    let (kronos, _composio) = with_tools(&[]).await;
    let mut chat = Chat::at_terminal(&kronos);
    chat.until_out("› ").await;
    chat.write("What is the capital of France?\r");
    chat.until_out("Paris").await;
    chat.write("/edit What is the capital of Italy?\r");
    chat.until_out("goes another way").await;
    chat.until_out("Rome").await;
    chat.write("/again\r");
    chat.until_count("goes another way", 2).await;
    chat.write("/branches\r");
    chat.until_out("  1  main: What is the capital of France?").await;
    chat.until_out("(this one)").await;
    chat.write("/branch 1\r");
    chat.until_out("now on branch main").await;
    let session = chat.session();
    let stored = kronos.stored("ann", &session).await;
    assert!(stored[0].contains("France"), "{stored:?}");
    chat.write("/settings\r");
    chat.until_out("branch = main").await;
    chat.write(&format!("{}\r", r#"[[call remember {"text":"my cat is called Tom"}]]"#));
    chat.until_out("✓ remember").await;
    chat.write("/memories\r");
    chat.until_out("  1  my cat is called Tom").await;
    chat.write("/forget 1\r");
    chat.until_out("— forgotten").await;
    chat.write("/memories\r");
    chat.until_out("nothing is remembered").await;
    chat.write("/help\r");
    chat.until_out("/unqueue NUMBER").await;
    chat.write("/quit\r");
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
}
