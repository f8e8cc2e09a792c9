//! Many chats, several devices each, random cuts, resumes, cancels and double sends.

use std::time::Duration;

use futures_util::future::join_all;
use kronos_protocol::{SendMode, SessionId, codec::Codec};
use kronos_testkit::{ConnectOptions, WsClient};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::harness::{Kronos, kronos_with};

const CHATS: u64 = 20;
const DEVICES: usize = 3;
const STEPS: usize = 25;

fn seed() -> u64 {
    std::env::var_os("KRONOS_SEED")
        .and_then(|seed| seed.to_str()?.parse().ok())
        .unwrap_or(7)
}

/// One chat on three devices; each step is one of them doing something.
struct Chat<'a> {
    kronos: &'a Kronos,
    random: StdRng,
    session: SessionId,
    devices: Vec<WsClient>,
    sent: u32,
}

impl<'a> Chat<'a> {
    async fn start(kronos: &'a Kronos, user: &str, random: StdRng) -> Self {
        let mut devices: Vec<WsClient> = Vec::new();
        for device in 0..DEVICES {
            let codec = if device == 1 { Codec::Msgpack } else { Codec::Json };
            let options = ConnectOptions {
                limit: Duration::from_secs(40),
                ..ConnectOptions::user(user).codec(codec)
            };
            devices.push(kronos.server.connect(options).await);
        }
        let session = devices[0].attach_new().await;
        for device in &mut devices[1..] {
            device.attach(&session, None).await;
        }
        Self {
            kronos,
            random,
            session,
            devices,
            sent: 0,
        }
    }

    async fn step(&mut self) {
        let device = self.random.random_range(0..DEVICES);
        match self.random.random_range(0..10) {
            0..=2 => {
                let client = &mut self.devices[device];
                client.cut();
                client.reconnect(&self.kronos.server.ws_url()).await;
                let attached = client.reattach(&self.session).await;
                assert!(attached.recovered, "a cursor of this history is served event by event");
            }
            3..=6 => self.say(device).await,
            7 => drop(
                self.devices[device]
                    .cancel(&self.session)
                    .await
                    .expect("cancel is answered"),
            ),
            _ => {
                let limit = Duration::from_millis(self.random.random_range(1..20));
                drop(self.devices[device].try_next_frame(limit).await);
            }
        }
    }

    /// Says something, half of the time twice; a full inbox is a correct answer.
    async fn say(&mut self, device: usize) {
        self.sent += 1;
        let id = format!("m_{}", self.sent);
        let mode = if self.random.random_bool(0.3) {
            SendMode::Interrupt
        } else {
            SendMode::Queue
        };
        let text = format!("[[tokens {}]] step {}", self.random.random_range(1..60), self.sent);
        let taken = self.devices[device].try_send(&self.session, &id, &text, mode).await;
        if taken.is_ok() && self.random.random_bool(0.5) {
            let other = self.random.random_range(0..DEVICES);
            let again = self.devices[other].send(&self.session, &id, &text, mode).await;
            assert!(again.duplicate, "a message sent twice is applied once");
        }
    }

    /// One last turn, so that every device has something to wait for.
    async fn end(&mut self) {
        let session = &self.session;
        for device in &mut self.devices {
            device.until_idle(session).await;
        }
        let last = self.devices[0].send(session, "m_last", "Hello!", SendMode::Queue).await;
        for device in &mut self.devices {
            let past = |client: &WsClient| client.cursor(session).is_some_and(|cursor| cursor.seq > last.seq);
            device.until("the last answer", past).await;
            device.until_idle(session).await;
        }
    }
}

async fn chat(kronos: &Kronos, number: u64, seed: u64) {
    let random = StdRng::seed_from_u64(seed.wrapping_mul(1000) + number);
    let user = format!("user-{number}");
    let mut chat = Chat::start(kronos, &user, random).await;
    for _ in 0..STEPS {
        chat.step().await;
    }
    chat.end().await;
    let (session, devices) = (&chat.session, &chat.devices);
    for device in &devices[1..] {
        assert_eq!(
            device.transcript(session),
            devices[0].transcript(session),
            "chat {number}"
        );
        assert_eq!(device.cursor(session), devices[0].cursor(session), "chat {number}");
    }
    let mut fresh = kronos.client(&user).await;
    fresh.attach(session, None).await;
    fresh.until_caught_up(session).await;
    assert_eq!(
        fresh.transcript(session),
        devices[0].transcript(session),
        "a new device sees the same"
    );
}

#[tokio::test]
async fn twenty_chats_with_three_devices_each_end_with_one_transcript() {
    let seed = seed();
    let kronos = kronos_with(300.0, &[]).await;
    println!("KRONOS_SEED={seed}");
    join_all((0..CHATS).map(|number| chat(&kronos, number, seed))).await;
}

#[tokio::test]
async fn a_device_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let kronos = kronos_with(0.0, &[]).await;
    let (mut reads, mut stalls) = (kronos.client("ann").await, kronos.client("ann").await);
    let session = reads.attach_new().await;
    stalls.attach(&session, None).await;
    for n in 0..6 {
        // Each answer is larger than what one batch, or the mailbox of a connection, could hold.
        reads.ask(&session, &format!("m_{n}"), "[[tokens 4000]] write").await;
    }
    let last = reads.cursor(&session);
    stalls
        .until("the reader has caught up", |client| client.cursor(&session) == last)
        .await;
    assert_eq!(stalls.transcript(&session), reads.transcript(&session));
}
