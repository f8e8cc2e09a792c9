//! Many chats, several devices each, random cuts, resumes, cancels and double sends.

use std::time::Duration;

use futures_util::future::join_all;
use kronos_protocol::{SendMode, codec::Codec};
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

async fn chat(kronos: &Kronos, number: u64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1000) + number);
    let user = format!("user-{number}");
    let mut devices: Vec<WsClient> = Vec::new();
    for device in 0..DEVICES {
        let codec = if device == 1 { Codec::Msgpack } else { Codec::Json };
        let options = ConnectOptions {
            limit: Duration::from_secs(40),
            ..ConnectOptions::user(&user).codec(codec)
        };
        devices.push(kronos.server.connect(options).await);
    }
    let session = devices[0].attach_new().await;
    for device in &mut devices[1..] {
        device.attach(&session, None).await;
    }
    let mut sent = 0;
    for _ in 0..STEPS {
        let device = random.random_range(0..DEVICES);
        let client = &mut devices[device];
        match random.random_range(0..10) {
            0..=2 => {
                client.cut();
                client.reconnect(&kronos.server.ws_url()).await;
                let attached = client.reattach(&session).await;
                assert!(attached.recovered, "a cursor of this history is served event by event");
            }
            3..=6 => {
                sent += 1;
                let id = format!("m_{sent}");
                let mode = if random.random_bool(0.3) {
                    SendMode::Interrupt
                } else {
                    SendMode::Queue
                };
                let text = format!("[[tokens {}]] step {sent}", random.random_range(1..60));
                // A full inbox is a correct answer; the message is then simply not said.
                if client.try_send(&session, &id, &text, mode).await.is_ok() && random.random_bool(0.5) {
                    let other = random.random_range(0..DEVICES);
                    let again = devices[other].send(&session, &id, &text, mode).await;
                    assert!(again.duplicate, "a message sent twice is applied once");
                }
            }
            7 => drop(client.cancel(&session).await.expect("cancel is answered")),
            _ => {
                drop(
                    client
                        .try_next_frame(Duration::from_millis(random.random_range(1..20)))
                        .await,
                );
            }
        }
    }
    for device in &mut devices {
        device.until_idle(&session).await;
    }
    let last = devices[0].send(&session, "m_last", "Hello!", SendMode::Queue).await;
    for device in &mut devices {
        device
            .until("the last answer", |client| {
                client.cursor(&session).is_some_and(|cursor| cursor.seq > last.seq)
            })
            .await;
        device.until_idle(&session).await;
    }
    for device in &devices[1..] {
        assert_eq!(
            device.transcript(&session),
            devices[0].transcript(&session),
            "chat {number}"
        );
        assert_eq!(device.cursor(&session), devices[0].cursor(&session), "chat {number}");
    }
    let mut fresh = kronos.client(&user).await;
    fresh.attach(&session, None).await;
    fresh.until_caught_up(&session).await;
    assert_eq!(
        fresh.transcript(&session),
        devices[0].transcript(&session),
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
