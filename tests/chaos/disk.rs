//! A disk that is full, read-only or damaged under the real binary: no false ack, a clear message, and what was acked is
//! served or its damage named.
//!
//! A full disk is made with a limit on file sizes (every write fails with `EFBIG`), which needs `prlimit` of util-linux, and
//! as a small file system (`ENOSPC`), which needs the right to mount one. What cannot be had is skipped with a message.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use kronos_protocol::{Attach, AttachTarget, ErrorCode, SendMode, SessionId, server::Sent};
use kronos_testkit::{KronosOptions, KronosProc, Transcript, WsClient, eventually};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::{Kronos, LIMIT, guest, number, options, seed, simulator};

/// Runs the binary so that a write beyond the limit is an error, not a signal that ends it.
const WITHOUT_SIGNAL: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn skip(what: &str) {
    println!("SKIPPED: {what}");
}

/// A disk that can be filled and emptied under a running server.
enum Disk {
    /// Limits the sizes of the files that the process writes.
    Limit,
    /// A file system of a few megabytes.
    Small(PathBuf),
}

impl Disk {
    fn fill(&self, server: &KronosProc) {
        match self {
            Self::Limit => limit_files(server, "1024"),
            Self::Small(path) => {
                let filler = path.join("filler");
                assert!(
                    !succeeds(Command::new("dd").args([
                        "if=/dev/zero",
                        &format!("of={}", filler.display()),
                        "bs=4096"
                    ])),
                    "the file system takes everything"
                );
            }
        }
    }

    fn empty(&self, server: &KronosProc) {
        match self {
            Self::Limit => limit_files(server, "unlimited"),
            Self::Small(path) => fs::remove_file(path.join("filler")).unwrap(),
        }
    }
}

fn limit_files(server: &KronosProc, soft: &str) {
    let pid = server.pid().expect("it runs").to_string();
    let limit = format!("--fsize={soft}:unlimited");
    assert!(
        succeeds(Command::new("prlimit").args(["--pid", &pid, &limit])),
        "prlimit"
    );
}

/// A file system in memory; unmounted when dropped.
struct Mounted(TempDir);

impl Mounted {
    /// `None` where it may not be mounted.
    fn new(options: &str) -> Option<Self> {
        let dir = TempDir::with_prefix("kronos-disk-").unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, options: &str) -> bool {
        succeeds(
            Command::new("mount")
                .args(["-o", &format!("remount,{options}")])
                .arg(self.path()),
        )
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).output());
    }
}

async fn ready(server: &KronosProc, status: u16) {
    eventually(LIMIT, &format!("readiness {status}"), || async {
        let is = server.get("/health/ready", &[]).await.status;
        if is == status { Ok(()) } else { Err(is) }
    })
    .await;
}

/// One conversation on one socket, with one turn before the disk is full.
struct Chat {
    user: String,
    client: WsClient,
    session: SessionId,
}

impl Chat {
    async fn start(kronos: &Kronos, number: usize) -> Self {
        let user = format!("user-{number}");
        let mut client = kronos.server.connect(guest(&user, number)).await;
        let session = client.attach_new().await;
        client.ask(&session, "m_1", "[[tokens 20]] before").await;
        Self { user, client, session }
    }

    fn shown(&self) -> Transcript {
        self.client.transcript(&self.session)
    }

    async fn says(&mut self) -> Result<Sent, ErrorCode> {
        let text = "[[tokens 5]] while full";
        let sent = self.client.try_send(&self.session, "m_2", text, SendMode::Queue).await;
        sent.map_err(|error| error.code)
    }

    /// Uses up what is left in blocks that the store has already, where a commit truly succeeds.
    async fn uses_the_rest(&mut self) {
        let text = "[[tokens 1]] ".to_owned() + &"x".repeat(6_000);
        for number in 0..8 {
            let id = format!("rest_{number}");
            let sent = self.client.try_send(&self.session, &id, &text, SendMode::Queue).await;
            if sent.is_err_and(|error| error.code == ErrorCode::Storage) {
                return;
            }
        }
        panic!("the disk is not full");
    }

    /// Begins an answer that is still being written when this returns.
    async fn begins_a_long_answer(&mut self) {
        let (session, client) = (&self.session, &mut self.client);
        client
            .send(session, "m_2", "[[tokens 200]] a long story", SendMode::Queue)
            .await;
        let some = |client: &WsClient| {
            let shown = client.transcript(session);
            shown.messages.len() == 4 && !shown.last_answer().is_empty()
        };
        client.until("some text", some).await;
    }

    async fn ping(&mut self) {
        let ping = serde_json::json!({"op": "ping"});
        self.client.request(ping).await.expect("the socket stays");
    }

    /// Says it until it is taken: a session may wait a moment longer than the store before it reads its log again.
    async fn says_until_taken(&mut self) {
        let begun = Instant::now();
        let sent = loop {
            match self.says().await {
                Ok(sent) => break sent,
                Err(code) => assert!(begun.elapsed() < LIMIT, "it works again without a restart: {code}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(!sent.duplicate, "what was refused did not happen");
    }

    /// Everything is there, on this device and in the log.
    async fn ends(&mut self, kronos: &Kronos) {
        self.client.until_idle(&self.session).await;
        let shown = self.shown();
        assert_eq!(
            shown.messages.len(),
            4,
            "both questions, both answers: {:?}",
            shown.lines()
        );
        assert_eq!(read(kronos, &self.user, &self.session).await, shown);
    }

    /// What was shown of the answer that the full disk stopped is still there, and its turn was tried again.
    async fn ends_in_two_attempts(&mut self, before: &Transcript) {
        let session = &self.session;
        let retried = |client: &WsClient| client.transcript(session).messages.len() == 5;
        self.client.until("the interrupted turn tried again", retried).await;
        self.client.until_idle(session).await;
        let now = self.shown();
        assert!(
            now.messages[3].text.starts_with(&before.messages[3].text),
            "nothing shown is taken back"
        );
    }
}

async fn read(kronos: &Kronos, user: &str, session: &SessionId) -> Transcript {
    let mut fresh = kronos.server.connect(guest(user, 0)).await;
    fresh.attach(session, None).await;
    fresh.until_caught_up(session).await;
    fresh.transcript(session)
}

/// A disk that fills up while one answer is being written, and has space again later, without a restart.
async fn full_and_back(kronos: &Kronos, disk: &Disk) {
    let mut writing = Chat::start(kronos, 3).await;
    let mut chats = Vec::new();
    for number in 0..3 {
        chats.push(Chat::start(kronos, number).await);
    }
    writing.begins_a_long_answer().await;
    let mut rest = Chat::start(kronos, 4).await;
    disk.fill(&kronos.server);
    rest.uses_the_rest().await;
    for chat in &mut chats {
        assert_eq!(chat.says().await.unwrap_err(), ErrorCode::Storage, "no false ack");
    }
    ready(&kronos.server, 503).await;
    let before = writing.shown();
    for chat in &mut chats {
        assert_eq!(chat.says().await.unwrap_err(), ErrorCode::Storage, "no false ack");
        chat.ping().await;
    }
    writing.ping().await;

    disk.empty(&kronos.server);
    ready(&kronos.server, 200).await;
    for chat in &mut chats {
        chat.says_until_taken().await;
    }
    writing.ends_in_two_attempts(&before).await;
    for chat in &mut chats {
        chat.ends(kronos).await;
    }
    let output = kronos.server.output();
    assert!(!output.contains("panicked"), "{output}");
    assert!(
        output.contains("the store takes no commits"),
        "it says what is wrong: {output}"
    );
}

#[tokio::test]
async fn a_disk_that_is_full_refuses_and_works_again_when_it_has_space() {
    if !succeeds(Command::new("prlimit").arg("--version")) {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "prlimit of util-linux is missing"
        );
        return skip("a limit on file sizes: there is no prlimit");
    }
    let gemini = simulator(60.0);
    let plain = options(&gemini, &[]);
    let binary = plain.binary.display().to_string();
    let limited = KronosOptions {
        binary: "sh".into(),
        args: ["-c", WITHOUT_SIGNAL, &binary, "serve"].map(str::to_owned).to_vec(),
        env: plain.env,
    };
    let server = KronosProc::start(limited).await;
    let kronos = Kronos { server, gemini };
    Box::pin(full_and_back(&kronos, &Disk::Limit)).await;
}

#[tokio::test]
async fn a_small_file_system_that_is_full_refuses_and_works_again_when_it_has_space() {
    let Some(mounted) = Mounted::new("size=24m") else {
        return skip("a small file system: it may not be mounted here");
    };
    let gemini = simulator(60.0);
    let url = format!("sled://{}", mounted.path().join("data").display());
    let server = KronosProc::start(options(&gemini, &[("DATABASE_URL", &url)])).await;
    let kronos = Kronos { server, gemini };
    let disk = Disk::Small(mounted.path().to_owned());
    Box::pin(full_and_back(&kronos, &disk)).await;
    // It goes before what it writes to.
    drop(kronos);
}

#[tokio::test]
async fn a_read_only_disk_is_named_and_serves_again_when_it_may_be_written() {
    let Some(mounted) = Mounted::new("size=24m") else {
        return skip("a read-only file system: it may not be mounted here");
    };
    let gemini = simulator(0.0);
    let url = format!("sled://{}", mounted.path().join("data").display());
    let server = KronosProc::start(options(&gemini, &[("DATABASE_URL", &url)])).await;
    let mut kronos = Kronos { server, gemini };
    let chat = Chat::start(&kronos, 0).await;
    kronos.server.kill9();
    assert!(mounted.remount("ro"));
    kronos.server.relaunch();
    let status = kronos.server.ready_or_ended().await.expect_err("it cannot serve");
    let output = kronos.server.output();
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(
        output.contains("cannot open the store") && output.contains("ead-only"),
        "{output}"
    );
    assert!(mounted.remount("rw"));
    kronos.server.restart().await;
    assert_eq!(read(&kronos, &chat.user, &chat.session).await, chat.shown());
    drop(kronos);
}

/// Every file below `from`, by its path there.
fn files(from: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

/// Puts `files` in the place of the server's data.
fn write_files(server: &KronosProc, files: &[(PathBuf, Vec<u8>)]) {
    fs::remove_dir_all(server.data_dir()).unwrap();
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What happens to one file.
#[derive(Debug)]
enum Damage {
    Truncated(usize),
    Flipped { at: usize, bit: u8 },
    Zeroed { from: usize, bytes: usize },
    Gone,
}

fn damage(file: &[u8], random: &mut StdRng) -> Damage {
    // A file is mostly used at its beginning: what is never written to says little.
    let used = file.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    match random.random_range(0..8) {
        0 | 1 => Damage::Truncated(random.random_range(0..used)),
        2..=5 => Damage::Flipped {
            at: random.random_range(0..used),
            bit: 1 << random.random_range(0..8),
        },
        6 => Damage::Zeroed {
            from: random.random_range(0..used),
            bytes: random.random_range(1..4096),
        },
        _ => Damage::Gone,
    }
}

fn write_damaged(path: &Path, bytes: &[u8], damage: &Damage) {
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Truncated(at) => bytes.truncate(*at),
        Damage::Flipped { at, bit } => {
            if let Some(byte) = bytes.get_mut(*at) {
                *byte ^= bit;
            }
        }
        Damage::Zeroed { from, bytes: count } => bytes.iter_mut().skip(*from).take(*count).for_each(|byte| *byte = 0),
        Damage::Gone => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

/// Whether what was acked in a session is served; false when its damage is named instead.
async fn served(server: &KronosProc, user: &str, session: &SessionId, acked: usize) -> bool {
    let mut client = server.connect(guest(user, 0)).await;
    let attach = Attach::new(AttachTarget::of(session.clone()));
    match client.try_attach(attach).await {
        Ok(_) => {
            client.until_caught_up(session).await;
            let shown = client.transcript(session);
            let there = (1..=acked)
                .filter(|n| shown.message(&format!("m_{n}")).is_some())
                .count();
            assert_eq!(
                there,
                acked,
                "acked messages are lost without a word: {:?}",
                shown.lines()
            );
            true
        }
        Err(error) => {
            assert_eq!(error.code, ErrorCode::Storage, "{error:?}");
            false
        }
    }
}

/// A few conversations of three turns: user and session.
async fn conversations(kronos: &Kronos) -> Vec<(String, SessionId)> {
    let mut sessions = Vec::new();
    for chat in 0..4 {
        let user = format!("user-{chat}");
        let mut client = kronos.server.connect(guest(&user, 0)).await;
        let session = client.attach_new().await;
        for n in 1..=3 {
            client.ask(&session, &format!("m_{n}"), "[[tokens 300]] a story").await;
        }
        sessions.push((user, session));
    }
    sessions
}

/// `KRONOS_DAMAGES=1000 cargo test --release --test chaos damaged_files -- --nocapture` tries more.
#[tokio::test]
async fn damaged_files_are_named_or_do_no_harm() {
    let (damages, seed) = (number("KRONOS_DAMAGES", 24), seed());
    println!("KRONOS_SEED={seed} KRONOS_DAMAGES={damages}");
    let mut random = StdRng::seed_from_u64(seed);
    let gemini = simulator(0.0);
    let server = KronosProc::start(options(&gemini, &[])).await;
    let mut kronos = Kronos { server, gemini };
    let sessions = conversations(&kronos).await;
    kronos.server.kill9();
    let whole = files(&kronos.server.data_dir());
    // A copy without damage is served.
    write_files(&kronos.server, &whole);
    kronos.server.restart().await;
    for (user, session) in &sessions {
        assert!(served(&kronos.server, user, session, 3).await);
    }
    kronos.server.kill9();
    let (mut refused, mut named, mut harmless) = (0, 0, 0);
    for _ in 0..damages {
        write_files(&kronos.server, &whole);
        // Most of it is in one file, which gets most of the damage.
        let largest = whole.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        let (path, bytes) = if random.random_bool(0.7) {
            largest
        } else {
            &whole[random.random_range(0..whole.len())]
        };
        let damage = damage(bytes, &mut random);
        write_damaged(path, bytes, &damage);
        kronos.server.forget_output();
        kronos.server.relaunch();
        match kronos.server.ready_or_ended().await {
            Err(status) => {
                refused += 1;
                let output = kronos.server.output();
                let says = output.contains("cannot open the store") && output.contains("damaged");
                assert!(
                    status.code() == Some(2) && says,
                    "{path:?} {damage:?}: {status}\n{output}"
                );
            }
            Ok(()) => {
                println!("{} {damage:?}: served", path.file_name().unwrap().display());
                let mut all = true;
                for (user, session) in &sessions {
                    all &= served(&kronos.server, user, session, 3).await;
                }
                if all { harmless += 1 } else { named += 1 }
            }
        }
        kronos.server.kill9();
    }
    println!("damages {damages}: refused {refused}, named for a session {named}, harmless {harmless}, silent losses 0");
    assert!(refused + named > 0, "some damage was noticed");
}
