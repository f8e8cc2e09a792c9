//! `kronos chat` as its users have it: one answer for a script, lines from a pipe, a terminal.

mod tools;

use std::{
    io::{Read, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use kronos_testkit::eventually_now;

use crate::harness::{Kronos, kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(20);

/// A terminal client as a process; killed when dropped.
struct Chat {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

impl Chat {
    /// `kronos chat` for a server, with pipes.
    fn piped(kronos: &Kronos, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kronos"));
        command
            .args(["chat", "--url", &kronos.server.ws_url(), "--user", "ann"])
            .args(more)
            .env("LC_ALL", "C.UTF-8");
        Self::start(command)
    }

    /// The same at a terminal of its own; what the user sees is stdout.
    fn at_terminal(kronos: &Kronos) -> Self {
        Self::at_terminal_with(kronos, &[], &[])
    }

    /// With more arguments, and more environment.
    fn at_terminal_with(kronos: &Kronos, more: &[&str], env: &[(&str, &str)]) -> Self {
        const PTY: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        let mut command = Command::new("python3");
        command.args(["-c", PTY, env!("CARGO_BIN_EXE_kronos"), "chat"]);
        command
            .args(["--url", &kronos.server.ws_url(), "--user", "ann"])
            .args(more)
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .envs(env.iter().copied());
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts");
        Self {
            stdin: child.stdin.take(),
            out: follow(child.stdout.take().expect("a pipe")),
            err: follow(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        stdin.write_all(text.as_bytes()).expect("the client reads");
        stdin.flush().expect("the client reads");
    }

    fn end_input(&mut self) {
        self.stdin = None;
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned()
    }

    async fn until_out(&self, text: &str) {
        eventually_now(LIMIT, text, || {
            self.out().contains(text).then_some(()).ok_or(self.both())
        })
        .await;
    }

    async fn until_err(&self, text: &str) {
        eventually_now(LIMIT, text, || {
            self.err().contains(text).then_some(()).ok_or(self.both())
        })
        .await;
    }

    fn both(&self) -> String {
        format!("stdout: {}\nstderr: {}", self.out(), self.err())
    }

    fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh").success());
    }

    /// Waits for its end, and for the end of its output.
    async fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually_now(LIMIT, "the client ends", || child.try_wait().expect("its state")).await;
        let pipes = [Arc::clone(&self.out), Arc::clone(&self.err)];
        eventually_now(LIMIT, "its output ends", || {
            pipes.iter().all(|pipe| Arc::strong_count(pipe) == 2)
        })
        .await;
        status
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Collects what a pipe holds; the thread's share is gone when the pipe ends.
fn follow(mut pipe: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&kept);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            to.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
    kept
}

#[tokio::test]
async fn once_prints_the_answer_and_nothing_else_and_its_exit_code_says_how_it_went() {
    let kronos = kronos().await;
    let mut chat = Chat::piped(&kronos, &["--once", "What is the capital of Japan?"]);
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    assert!(
        chat.out().contains("Tokyo") && !chat.out().contains('\u{1b}'),
        "{}",
        chat.both()
    );
    for (text, shown, said) in [
        ("[[400]] a", false, "(upstream_error)"),
        ("[[blocked]] a", false, "(blocked)"),
        ("[[cut]] [[tokens 40]] a", true, "the answer was cut off"),
    ] {
        let mut chat = Chat::piped(&kronos, &["--once", text]);
        assert_eq!(chat.end().await.code(), Some(1), "{}", chat.both());
        assert_eq!(!chat.out().is_empty(), shown, "{}", chat.both());
        assert!(chat.err().contains(said), "{}", chat.both());
    }
    let mut chat = Chat::piped(&kronos, &["--once", "[[max-tokens]] [[tokens 40]] a"]);
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    assert!(chat.err().contains("length limit"), "{}", chat.both());
}

#[tokio::test]
async fn where_nothing_listens_one_line_says_how_to_start_a_server() {
    let mut kronos = kronos().await;
    kronos.server.kill9();
    for more in [&["--once", "Hello!"][..], &[]] {
        let mut chat = Chat::piped(&kronos, more);
        assert_eq!(chat.end().await.code(), Some(2), "{}", chat.both());
        assert_eq!(chat.out(), "");
        let line = chat.err();
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(
            line.contains("kronos serve") && line.contains(&kronos.server.ws_url()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn lines_from_a_pipe_are_answered_in_their_order_without_colours() {
    let kronos = kronos().await;
    let mut chat = Chat::piped(&kronos, &[]);
    chat.write("What is the capital of Japan?\n\n  \nWhat is the capital of Italy?\n/list is no command here\n");
    chat.write("What is the capital of France?");
    chat.end_input();
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    let out = chat.out();
    let at = |word: &str| out.find(word).unwrap_or_else(|| panic!("{word}: {out}"));
    assert!(at("Tokyo") < at("Rome") && at("Rome") < at("Paris"), "{out}");
    assert!(!chat.both().contains('\u{1b}'), "{out}");
    let list = kronos.server.get("/api/v1/chat/?user_id=ann", &[]).await.expect(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "one conversation: {items:?}");
    let stored = kronos.stored("ann", items[0]["id"].as_str().unwrap()).await;
    assert_eq!(
        stored.iter().filter(|line| line.starts_with("user: ")).count(),
        4,
        "{stored:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_killed_in_mid_answer_costs_nothing_that_was_printed() {
    let mut kronos = kronos_with(30.0, &[]).await;
    let mut chat = Chat::piped(&kronos, &[]);
    chat.write("[[tokens 120]] tell me a story\n");
    eventually_now(LIMIT, "some text", || chat.out().len() > 40).await;
    kronos.server.kill9();
    chat.until_err("connection lost").await;
    let before = chat.out();
    kronos.gemini.set_config(|config| config.tokens_per_second = 0.0);
    kronos.server.restart().await;
    chat.until_err("resumed after event").await;
    chat.until_err("interrupted").await;
    chat.write("What is the capital of Japan?\n");
    chat.until_out("Tokyo").await;
    chat.end_input();
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
    let list = kronos.server.get("/api/v1/chat/?user_id=ann", &[]).await.expect(200);
    let stored = kronos.stored("ann", list["items"][0]["id"].as_str().unwrap()).await;
    let answers: Vec<_> = stored
        .iter()
        .filter_map(|line| line.strip_prefix("assistant: "))
        .collect();
    assert_eq!(
        answers.len(),
        3,
        "the interrupted one, the new one, the next: {stored:?}"
    );
    let out = chat.out();
    assert!(out.starts_with(before.trim_end()), "what was printed stays");
    assert_eq!(out, answers.join("\n") + "\n", "each answer once and whole");
}

#[tokio::test]
async fn ctrl_c_stops_the_answer_and_a_second_one_leaves() {
    let kronos = kronos_with(30.0, &[]).await;
    let mut chat = Chat::piped(&kronos, &[]);
    chat.write("[[tokens 400]] tell me a story\n");
    eventually_now(LIMIT, "some text", || chat.out().len() > 40).await;
    chat.interrupt();
    chat.until_err("cancelled").await;
    kronos.gemini.set_config(|config| config.tokens_per_second = 0.0);
    chat.write("What is the capital of Japan?\n");
    chat.until_out("Tokyo").await;

    kronos.gemini.set_config(|config| config.tokens_per_second = 30.0);
    chat.write("[[tokens 400]] another story\n");
    let printed = chat.out().len();
    eventually_now(LIMIT, "some text", || chat.out().len() > printed + 40).await;
    chat.interrupt();
    chat.until_err("cancelled").await;
    chat.interrupt();
    assert_eq!(chat.end().await.code(), Some(1), "{}", chat.both());

    let mut once = Chat::piped(&kronos, &["--once", "[[tokens 400]] a third story"]);
    eventually_now(LIMIT, "some text", || once.out().len() > 40).await;
    once.interrupt();
    assert_eq!(once.end().await.code(), Some(1), "{}", once.both());
    assert!(once.err().contains("cancelled"), "{}", once.both());
}

#[tokio::test]
async fn at_a_terminal_conversations_are_listed_opened_and_begun() {
    let kronos = kronos().await;
    let mut chat = Chat::at_terminal(&kronos);
    chat.until_out("› ").await;
    chat.write("What is the capital of Japan?\r");
    chat.until_out("Tokyo").await;
    chat.write("/new Second talk\r");
    eventually_now(LIMIT, "a second conversation", || {
        chat.out().matches("— conversation ").count() == 2
    })
    .await;
    chat.write("What is the capital of Italy?\r");
    chat.until_out("Rome").await;
    chat.write("/list\r");
    chat.until_out("Second talk").await;
    chat.until_out("  2  ").await;
    let before = chat.out().matches("Tokyo").count();
    chat.write("/open 2\r");
    eventually_now(LIMIT, "the older conversation", || {
        chat.out().matches("Tokyo").count() > before
    })
    .await;
    chat.write("/nonsense\r");
    chat.until_out("/help").await;
    chat.write("/quit\r");
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
}

#[tokio::test]
async fn at_a_terminal_ctrl_c_stops_the_answer_and_leaves_at_an_empty_prompt() {
    let kronos = kronos_with(30.0, &[]).await;
    let mut chat = Chat::at_terminal(&kronos);
    chat.until_out("› ").await;
    chat.write("[[tokens 400]] tell me a story\r");
    let printed = chat.out().len();
    eventually_now(LIMIT, "some text", || chat.out().len() > printed + 60).await;
    chat.write("\u{3}");
    chat.until_out("— cancelled").await;
    eventually_now(LIMIT, "a prompt", || {
        chat.out().trim_end_matches("\u{1b}[?2004h").contains("› ")
    })
    .await;
    chat.write("\u{3}");
    assert_eq!(chat.end().await.code(), Some(0), "{}", chat.both());
}
