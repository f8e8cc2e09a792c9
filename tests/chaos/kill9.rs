//! `kill -9` at random moments while 20 chats stream: nothing that a client saw is taken back, nothing acked is lost.
//!
//! 10 kills by default; the folder with the data stays the same over all of them. The long run, whose last line is in the
//! README (`cargo test` sets no time limit):
//! ```text
//! KRONOS_KILLS=200 cargo test --release --test chaos kill_9 -- --nocapture
//! ```
//! When a client is in the middle of what is decided by `KRONOS_SEED`; when exactly the process dies is up to the machine.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use kronos_protocol::{Event, MessageId, OkBody, RunId, SendMode, Seq, ServerFrame, SessionId, client::Send};
use kronos_sim::Outcome;
use kronos_testkit::{Transcript, WsClient, eventually_now};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::harness::{Kronos, LIMIT, guest, kronos, number, seed};

const CHATS: usize = 20;
/// So often the same chats are interrupted; then they are looked at as a whole, and new ones begin in the same store.
const KILLS_PER_CHAT: usize = 10;
/// As the server's default.
const MAX_RUN_ATTEMPTS: u32 = 3;
/// Fewer than the inbox takes, so that most are taken at once.
const WAITING: usize = 8;

/// One message: sent again with the same id until it is acked.
struct Said {
    id: String,
    text: String,
    seq: Option<Seq>,
}

/// What is counted over the whole run.
#[derive(Debug, Default)]
struct Summary {
    kills: usize,
    chats: usize,
    turns: usize,
    acked: usize,
    model_calls: usize,
    lost: usize,
    doubled: usize,
    unsaid: usize,
    snapshots: usize,
    longest_start: Duration,
}

impl Summary {
    fn print(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let calls = self.model_calls as f64 / self.turns.max(1) as f64;
        println!(
            "kills {}, chats {}, turns {}, acked sends {}, lost {}, doubled {}, unsaid {}, snapshots {}, \
             model calls per turn {calls:.2}, longest time to ready {:?}",
            self.kills,
            self.chats,
            self.turns,
            self.acked,
            self.lost,
            self.doubled,
            self.unsaid,
            self.snapshots,
            self.longest_start
        );
    }

    fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        self.acked += other.acked;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.unsaid += other.unsaid;
        self.snapshots += other.snapshots;
    }
}

/// One chat on one or three devices.
struct Chat {
    user: String,
    session: SessionId,
    devices: Vec<WsClient>,
    said: Vec<Said>,
    random: StdRng,
    /// Sends more than it waits for answers.
    hurries: bool,
}

impl Chat {
    async fn start(kronos: &Kronos, generation: usize, number: usize, seed: u64) -> Self {
        let user = format!("user-{generation}-{number}");
        let count = if number.is_multiple_of(4) { 3 } else { 1 };
        let mut devices = Vec::new();
        for device in 0..count {
            devices.push(kronos.server.connect(guest(&user, number + device)).await);
        }
        let session = devices[0].attach_new().await;
        for device in &mut devices[1..] {
            device.attach(&session, None).await;
        }
        Self {
            user,
            session,
            devices,
            said: Vec::new(),
            random: StdRng::seed_from_u64(seed.wrapping_mul(10_007) + (generation * CHATS + number) as u64),
            hurries: number.is_multiple_of(3),
        }
    }

    /// Talks and reads until the server is gone.
    async fn live(&mut self) {
        while self.devices.iter().all(|device| !device.is_closed()) {
            let device = self.random.random_range(0..self.devices.len());
            let open = self.devices[device].transcript(&self.session);
            let answered = |said: &&Said| open.message(&said.id).is_none();
            let waiting = self.said.iter().filter(answered).count();
            let wanted = if self.hurries { WAITING } else { 1 };
            if waiting < wanted && self.random.random_bool(0.4) {
                self.say(device).await;
            }
            let patience = Duration::from_millis(self.random.random_range(1..10));
            drop(self.devices[device].try_next_frame(patience).await);
        }
        for device in &mut self.devices {
            // What is still in the socket was shown too.
            while !device.is_closed() {
                drop(device.try_next_frame(LIMIT).await);
            }
        }
    }

    async fn say(&mut self, device: usize) {
        let n = self.said.len() + 1;
        let tokens = self.random.random_range(5..80);
        self.said.push(Said {
            id: format!("m_{n}"),
            text: format!("[[tokens {tokens}]] message {n}"),
            seq: None,
        });
        self.offer(device, n - 1).await;
    }

    /// Sends a message, perhaps once more; an answer that does not come leaves it unacked.
    async fn offer(&mut self, device: usize, at: usize) {
        let said = &mut self.said[at];
        let send = Send {
            mode: SendMode::Queue,
            ..Send::new(
                self.session.clone(),
                MessageId::from_trusted(said.id.clone()),
                said.text.clone(),
            )
        };
        match self.devices[device].attempt(send).await {
            Some(Ok(OkBody::Sent(sent))) => {
                assert!(said.seq.is_none_or(|seq| seq == sent.seq), "one message, two places");
                said.seq = Some(sent.seq);
            }
            Some(Ok(other)) => panic!("send was answered with {other:?}"),
            // Refused or unknown: sent again after the restart.
            Some(Err(_)) | None => {}
        }
    }

    /// Every device goes on where it was, every message without an ack is sent again, and a new device sees it all.
    async fn come_back(&mut self, kronos: &Kronos) -> Summary {
        let mut summary = Summary::default();
        let url = kronos.server.ws_url();
        let shown: Vec<_> = self
            .devices
            .iter()
            .map(|device| device.transcript(&self.session))
            .collect();
        for device in &mut self.devices {
            device.reconnect(&url).await;
            let attached = device.reattach(&self.session).await;
            summary.snapshots += usize::from(!attached.recovered);
        }
        let unacked: Vec<_> = (0..self.said.len()).filter(|at| self.said[*at].seq.is_none()).collect();
        for at in unacked {
            let device = self.random.random_range(0..self.devices.len());
            self.offer(device, at).await;
        }
        let log = self.read(kronos).await;
        for shown in &shown {
            summary.unsaid += usize::from(!begins_with(&log.transcript, shown));
        }
        for runs in log.runs.values() {
            assert!(runs.len() <= MAX_RUN_ATTEMPTS as usize, "{}: {runs:?}", self.session);
        }
        summary
    }

    /// Reads the whole log on a device of its own, which checks each event.
    async fn read(&self, kronos: &Kronos) -> Log {
        let mut fresh = kronos.server.connect(guest(&self.user, 0)).await;
        fresh.attach(&self.session, None).await;
        fresh.until_caught_up(&self.session).await;
        let mut log = Log::default();
        while let Some(frame) = fresh.try_next_frame(Duration::ZERO).await {
            log.take(&frame);
        }
        log.transcript = fresh.transcript(&self.session);
        log
    }

    /// All turns have ended: each message is there once, in order, and each device shows the same.
    async fn end(&mut self, kronos: &Kronos) -> Summary {
        let mut summary = Summary::default();
        while let Some(at) = self.said.iter().position(|said| said.seq.is_none()) {
            // A full inbox is a correct answer; it empties.
            self.offer(0, at).await;
            self.devices[0].try_next_frame(Duration::from_millis(50)).await;
        }
        for device in &mut self.devices {
            device.until_idle(&self.session).await;
        }
        let log = self.read(kronos).await;
        for device in &mut self.devices {
            let behind = |device: &WsClient| device.transcript(&self.session) == log.transcript;
            device.until("everything", behind).await;
        }
        summary.turns = log.runs.len();
        summary.acked = self.said.len();
        summary.doubled = log.doubled;
        self.said.sort_by_key(|said| said.seq);
        let asked: Vec<_> = self.said.iter().map(|said| said.id.as_str()).collect();
        summary.lost = asked.iter().filter(|id| !log.runs.contains_key(**id)).count();
        assert_eq!(
            log.order, asked,
            "{}: messages start in the order in which they were taken",
            self.session
        );
        summary
    }
}

/// What the log says about runs.
#[derive(Debug, Default)]
struct Log {
    transcript: Transcript,
    /// The runs of each message.
    runs: HashMap<String, Vec<RunId>>,
    /// Messages in the order of their first run.
    order: Vec<String>,
    /// How each run ended.
    ends: HashMap<RunId, String>,
    /// Runs of a message that another run had answered or failed for good.
    doubled: usize,
}

impl Log {
    fn take(&mut self, frame: &ServerFrame) {
        let ServerFrame::Events(events) = frame else { return };
        for entry in &events.events {
            match &entry.event {
                Event::RunStarted(event) => {
                    for message in event.input.iter().flat_map(|input| &input.messages) {
                        self.start(message.id().as_str(), &event.run_id);
                    }
                }
                Event::RunFinished(event) => {
                    self.ends.insert(event.run_id.clone(), "finished".to_owned());
                }
                Event::RunError(event) => {
                    if let Some(run) = &entry.run {
                        self.ends.insert(run.clone(), event.code.clone().unwrap_or_default());
                    }
                }
                _ => {}
            }
        }
    }

    fn start(&mut self, message: &str, run: &RunId) {
        let runs = self.runs.entry(message.to_owned()).or_default();
        match runs.last() {
            None => self.order.push(message.to_owned()),
            Some(before) => {
                let interrupted = self.ends.get(before).is_some_and(|end| end == "interrupted");
                self.doubled += usize::from(!interrupted);
            }
        }
        runs.push(run.clone());
    }
}

/// Whether everything in `shown` is in `all`, at the same place.
fn begins_with(all: &Transcript, shown: &Transcript) -> bool {
    all.messages.len() >= shown.messages.len()
        && all
            .messages
            .iter()
            .zip(&shown.messages)
            .all(|(all, shown)| all.id == shown.id && all.role == shown.role && all.text.starts_with(&shown.text))
}

/// Kills the server at a random moment while answers are being written; every fifth time also while it starts, and every
/// fifth time while it drains. Returns how many kills it took.
async fn kill(kronos: &mut Kronos, round: usize, random: &mut StdRng) -> usize {
    let streams = |kronos: &Kronos| {
        let requests = kronos.gemini.requests();
        requests.iter().any(|request| request.outcome == Outcome::InFlight)
    };
    eventually_now(LIMIT, "an answer is being written", || streams(kronos)).await;
    pause(random, 400).await;
    if round % 5 == 4 {
        kronos.server.sigterm();
        pause(random, 300).await;
    }
    kronos.server.kill9();
    if round % 5 != 3 {
        return 1;
    }
    for _ in 0..2 {
        kronos.server.relaunch();
        pause(random, 120).await;
        kronos.server.kill9();
    }
    3
}

/// A random moment is what is tested, not a time to wait for something.
async fn pause(random: &mut StdRng, limit_ms: u64) {
    let moment = Duration::from_millis(random.random_range(0..limit_ms));
    tokio::time::sleep(moment).await;
}

fn model_calls(kronos: &Kronos) -> usize {
    let requests = kronos.gemini.requests();
    kronos.gemini.clear();
    let asks = |path: &str| path.to_lowercase().contains("generatecontent");
    requests.iter().filter(|request| asks(&request.path)).count()
}

#[tokio::test]
async fn kill_9_takes_nothing_back_and_loses_nothing() {
    let (kills, seed) = (number("KRONOS_KILLS", 10), seed());
    println!("KRONOS_SEED={seed} KRONOS_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut kronos = kronos(120.0, &[("DRAIN_DEADLINE", "1s")]).await;
    let mut summary = Summary::default();
    let mut round = 0;
    while summary.kills < kills {
        let generation = summary.chats / CHATS;
        let mut chats = join_all((0..CHATS).map(|number| Chat::start(&kronos, generation, number, seed))).await;
        summary.chats += CHATS;
        for _ in 0..KILLS_PER_CHAT {
            let (_, taken) = tokio::join!(
                join_all(chats.iter_mut().map(Chat::live)),
                kill(&mut kronos, round, &mut random)
            );
            (round, summary.kills) = (round + 1, summary.kills + taken);
            let start = Instant::now();
            kronos.server.restart().await;
            summary.longest_start = summary.longest_start.max(start.elapsed());
            for back in join_all(chats.iter_mut().map(|chat| chat.come_back(&kronos))).await {
                summary.add(&back);
            }
            if summary.kills >= kills {
                break;
            }
        }
        for end in join_all(chats.iter_mut().map(|chat| chat.end(&kronos))).await {
            summary.add(&end);
        }
        summary.model_calls += model_calls(&kronos);
    }
    summary.print();
    let broken = summary.lost + summary.doubled + summary.unsaid + summary.snapshots;
    assert_eq!(broken, 0, "{summary:?}");
    assert!(summary.turns > kills, "there was something to lose");
}
