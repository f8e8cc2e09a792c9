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

use kronos_protocol::{Attach, AttachTarget, ErrorCode, SendMode, SessionId};
use kronos_testkit::{KronosOptions, KronosProc, WsClient, eventually};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

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

async fn chat(kronos: &Kronos, number: usize) -> (WsClient, SessionId) {
    let mut client = kronos.server.connect(guest(&format!("user-{number}"), number)).await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "[[tokens 20]] before").await;
    (client, session)
}

/// A disk that fills up while one answer is being written, and has space again later, without a restart.
async fn full_and_back(kronos: &Kronos, disk: &Disk) {
    let mut chats = Vec::new();
    for number in 0..3 {
        chats.push(chat(kronos, number).await);
    }
    let (mut writing, open) = chat(kronos, 3).await;
    writing
        .send(&open, "m_2", "[[tokens 200]] a long story", SendMode::Queue)
        .await;
    let some = |client: &WsClient| {
        client.transcript(&open).messages.len() == 4 && !client.transcript(&open).last_answer().is_empty()
    };
    writing.until("some text", some).await;

    disk.fill(&kronos.server);
    for (client, session) in &mut chats {
        let refused = client
            .try_send(&*session, "m_2", "[[tokens 5]] while full", SendMode::Queue)
            .await;
        assert_eq!(
            refused.map_err(|error| error.code),
            Err(ErrorCode::Storage),
            "no false ack"
        );
    }
    ready(&kronos.server, 503).await;
    let shown = writing.transcript(&open);
    for (client, session) in &mut chats {
        let refused = client
            .try_send(&*session, "m_2", "[[tokens 5]] while full", SendMode::Queue)
            .await;
        let code = refused.expect_err("no false ack").code;
        assert!(matches!(code, ErrorCode::Storage | ErrorCode::Overloaded), "{code}");
        client
            .request(serde_json::json!({"op": "ping"}))
            .await
            .expect("the socket stays");
    }

    disk.empty(&kronos.server);
    ready(&kronos.server, 200).await;
    for (client, session) in &mut chats {
        // The session may wait a moment longer before it reads its log again.
        let mut taken = client
            .try_send(&*session, "m_2", "[[tokens 5]] while full", SendMode::Queue)
            .await;
        for _ in 0..200 {
            if taken.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            taken = client
                .try_send(&*session, "m_2", "[[tokens 5]] while full", SendMode::Queue)
                .await;
        }
        let sent = taken.expect("it works again without a restart");
        assert!(!sent.duplicate, "what was refused did not happen");
    }
    let retried = |client: &WsClient| client.transcript(&open).messages.len() == 5;
    writing.until("the interrupted turn tried again", retried).await;
    writing.until_idle(&open).await;
    let now = writing.transcript(&open);
    assert!(
        now.messages[3].text.starts_with(&shown.messages[3].text),
        "nothing shown is taken back"
    );
    for (number, (client, session)) in chats.iter_mut().enumerate() {
        client.until_idle(&*session).await;
        let shown = client.transcript(&*session);
        assert_eq!(
            shown.messages.len(),
            4,
            "both questions, both answers: {:?}",
            shown.lines()
        );
        let mut fresh = kronos.server.connect(guest(&format!("user-{number}"), 0)).await;
        fresh.attach(&*session, None).await;
        fresh.until_caught_up(&*session).await;
        assert_eq!(fresh.transcript(&*session), shown);
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
    full_and_back(&kronos, &Disk::Limit).await;
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
    full_and_back(&kronos, &Disk::Small(mounted.path().to_owned())).await;
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
    let (client, session) = chat(&kronos, 0).await;
    let shown = client.transcript(&session);
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
    let mut fresh = kronos.server.connect(guest("user-0", 0)).await;
    fresh.attach(&session, None).await;
    fresh.until_caught_up(&session).await;
    assert_eq!(fresh.transcript(&session), shown);
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

/// `KRONOS_DAMAGES=1000 cargo test --release --test chaos damaged_files -- --nocapture` tries more.
#[tokio::test]
async fn damaged_files_are_named_or_do_no_harm() {
    let (damages, seed) = (number("KRONOS_DAMAGES", 24), seed());
    println!("KRONOS_SEED={seed} KRONOS_DAMAGES={damages}");
    let mut random = StdRng::seed_from_u64(seed);
    let gemini = simulator(0.0);
    let server = KronosProc::start(options(&gemini, &[])).await;
    let mut kronos = Kronos { server, gemini };
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
    kronos.server.kill9();
    let whole = files(&kronos.server.data_dir());
    let (mut refused, mut named, mut harmless) = (0, 0, 0);
    for _ in 0..damages {
        fs::remove_dir_all(kronos.server.data_dir()).unwrap();
        for (path, bytes) in &whole {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
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
