//! What a conversation takes on disk: as much for its thousandth turn as for its tenth, and hardly more than its text.
//!
//! 120 turns by default, every fourth with two calls of tools. The long form prints the same figures for 1,000:
//! ```text
//! KRONOS_TURNS=1000 cargo test --release --test it what_a_turn_takes -- --nocapture
//! ```

use std::{path::Path, time::Duration};

use kronos_actors::store::keys;
use kronos_protocol::{SendMode, SessionId};

use crate::harness::{kronos_with, number};

/// Turns over which the size of one is averaged: whole rounds of the mix.
const WINDOW: usize = 20;

/// The sizes of the packed turns of a session, in order: keys and values as they are in the store.
fn segments(folder: &Path, session: &SessionId) -> Vec<usize> {
    let config = sled::Config::new().path(folder).segment_size(1024 * 1024);
    let mut opened = config.open();
    // A process that has just ended keeps its lock until the system has let go of it.
    for _ in 0..500 {
        if opened.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        opened = config.open();
    }
    let mut sizes: Vec<usize> = Vec::new();
    let mut last = Vec::new();
    for row in opened.expect("the store").scan_prefix(keys::segments(session)) {
        let (key, value) = row.expect("a row");
        let (base, _) = keys::split_part(&key).expect("a part");
        if last == base {
            *sizes.last_mut().expect("the segment before") += key.len() + value.len();
        } else {
            last = base.to_vec();
            sizes.push(key.len() + value.len());
        }
    }
    sizes
}

#[expect(clippy::cast_precision_loss, reason = "ratios for people")]
fn mean(sizes: &[usize]) -> f64 {
    sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64
}

#[tokio::test]
async fn what_a_turn_takes_on_disk_does_not_grow_with_the_conversation() {
    let turns = number("KRONOS_TURNS", 120);
    let mut kronos = kronos_with(0.0, &[]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    for turn in 0..turns {
        let text = if turn % 4 == 3 {
            format!(r#"[[call calculate {{"expression":"{turn}*7"}}]] [[call current_time {{}}]] turn {turn}"#)
        } else {
            format!("[[tokens 120]] this is turn {turn} of a long conversation")
        };
        client
            .send(&session, &format!("m_{turn}"), &text, SendMode::Queue)
            .await;
        client.until_idle(&session).await;
    }
    let shown = client.transcript(&session);
    let transcript: usize = shown.messages.iter().map(|message| message.text.len()).sum();
    kronos.server.sigterm();
    kronos.server.wait(Duration::from_secs(20)).await;
    let sizes = segments(&kronos.server.data_dir(), &session);
    assert_eq!(sizes.len(), turns, "each turn is packed by itself");
    let (early, late) = (mean(&sizes[4..4 + WINDOW]), mean(&sizes[turns - WINDOW..]));
    let total = mean(&sizes) * mean(&[turns]);
    let ratio = total / mean(&[transcript]);
    println!(
        "turns {turns}, bytes of a turn about turn 10: {early:.0}, about turn {turns}: {late:.0} ({:.2} times); \
         total {total:.0}, transcript {transcript} ({ratio:.2} times)",
        late / early
    );
    assert!(
        late <= 1.2 * early,
        "a turn takes {early} bytes at first and {late} later"
    );
    assert!(ratio <= 1.5, "{total} bytes for a transcript of {transcript}");
}
