//! The ledger against histories that are made at random: valid ones are accepted however they are delivered, and every planted fault
//! is caught by the check that is meant for it.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests, too")]

mod cases;
mod world;

use std::ops::RangeInclusive;

use kronos_check::{Breach, Ledger};
use kronos_protocol::Codec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use world::{Act, Delivery, Log, Random, Wrong};

/// Tells a ledger everything, and returns what it found broken.
fn judge(acts: &[Act]) -> Vec<Breach> {
    let devices = acts.iter().map(Act::device).max().unwrap() + 1;
    let mut ledger = Ledger::new();
    let ids: Vec<_> = (0..devices).map(|device| ledger.device(format!("d{device}"))).collect();
    let mut breaches = Vec::new();
    for act in acts {
        match act {
            Act::Sent(device, frame) => {
                let frame = Codec::Json.decode_client(frame.to_string().as_bytes()).unwrap();
                ledger.sent(ids[*device], &frame);
            }
            Act::Received(device, frame) => {
                let frame = Codec::Json.decode_server(frame.to_string().as_bytes()).unwrap();
                breaches.extend(ledger.received(ids[*device], &frame).err());
            }
            Act::Cut(device) => ledger.cut(ids[*device]),
        }
    }
    breaches.extend(ledger.finish(ids.last().copied()));
    breaches
}

fn checks(breaches: &[Breach]) -> Vec<&'static str> {
    breaches.iter().map(|breach| breach.check).collect()
}

/// A plan: a seed, turns, devices.
fn plans() -> impl Strategy<Value = (u64, usize, usize)> {
    (any::<u64>(), 1..5_usize, 1..4_usize)
}

fn acts((seed, turns, devices): (u64, usize, usize)) -> (Vec<Act>, Random) {
    let mut random = Random::new(seed);
    let log = Log::new(&mut random, turns);
    let acts = Delivery::new(&log, &mut random, devices, None).acts;
    (acts, random)
}

/// The places of frames of events that are followed, on the same connection, by a frame of one of these names.
fn followed(acts: &[Act], names: &[&str]) -> Vec<usize> {
    let follows = |at: &usize| {
        let device = acts[*at].device();
        let next = acts[at + 1..]
            .iter()
            .find(|act| act.device() == device && !matches!(act, Act::Sent(..)));
        next.is_some_and(|act| match act {
            Act::Received(_, frame) => frame["snapshot"] != true && names.iter().any(|name| frame["op"] == *name),
            Act::Sent(..) | Act::Cut(_) => false,
        })
    };
    (0..acts.len())
        .filter(|at| acts[*at].events().is_some())
        .filter(follows)
        .collect()
}

fn pick(random: &mut Random, places: &[usize]) -> Option<usize> {
    (!places.is_empty()).then(|| places[random.below(places.len())])
}

fn replies(acts: &[Act], wanted: impl Fn(&Value) -> bool) -> Vec<usize> {
    let is = |at: &usize| matches!(&acts[*at], Act::Received(_, frame) if frame["op"] == "ok" && wanted(frame));
    (0..acts.len()).filter(is).collect()
}

/// The deltas, as frame and entry, that another device was shown piece by piece as well: what only a snapshot stood for there can be
/// anything.
fn shown_elsewhere(acts: &[Act]) -> Vec<(usize, usize)> {
    let mut deltas = Vec::new();
    for (at, act) in acts.iter().enumerate() {
        let Some(frame) = act.events().filter(|frame| frame["snapshot"] != true) else {
            continue;
        };
        for (entry, event) in frame["events"].as_array().unwrap().iter().enumerate() {
            if event["event"].get("delta").is_some() {
                let seq = event["seq"].as_u64().unwrap();
                deltas.push((at, entry, act.device(), event["first"].as_u64().unwrap_or(seq)..=seq));
            }
        }
    }
    let meet = |a: &RangeInclusive<u64>, b: &RangeInclusive<u64>| a.start() <= b.end() && b.start() <= a.end();
    let shown =
        |device, seqs: &RangeInclusive<u64>| deltas.iter().any(|other| other.2 != device && meet(&other.3, seqs));
    let found = deltas.iter().filter(|(_, _, device, seqs)| shown(*device, seqs));
    found.map(|(at, entry, ..)| (*at, *entry)).collect()
}

/// Reads a number that somebody may have asked for.
fn asked(name: &str) -> Option<u32> {
    std::env::var_os(name)?.into_string().ok()?.parse().ok()
}

/// How many histories each test has (`KRONOS_CASES`), and which (`KRONOS_SEED`).
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: asked("KRONOS_CASES").unwrap_or(48),
        rng_seed: RngSeed::Fixed(u64::from(asked("KRONOS_SEED").unwrap_or(1))),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_valid_history_is_accepted_however_it_is_delivered(plan in plans()) {
        let (acts, _) = acts(plan);
        let breaches = judge(&acts);
        prop_assert!(breaches.is_empty(), "{breaches:#?}");
    }

    #[test]
    fn a_frame_that_is_dropped_is_a_gap(plan in plans()) {
        let (mut acts, mut random) = acts(plan);
        let Some(at) = pick(&mut random, &followed(&acts, &["events", "caught_up"])) else { return Ok(()) };
        acts.remove(at);
        prop_assert_eq!(checks(&judge(&acts)), ["gap"]);
    }

    #[test]
    fn two_frames_that_are_swapped_are_reordered(plan in plans()) {
        let (mut acts, mut random) = acts(plan);
        let Some(at) = pick(&mut random, &followed(&acts, &["events"])) else { return Ok(()) };
        let device = acts[at].device();
        let next = (at + 1..acts.len()).find(|next| acts[*next].device() == device && acts[*next].events().is_some());
        acts.swap(at, next.unwrap());
        prop_assert_eq!(checks(&judge(&acts)), ["reordered"]);
    }

    #[test]
    fn a_frame_that_comes_again_is_repeated(plan in plans()) {
        let (mut acts, mut random) = acts(plan);
        let Some(at) = pick(&mut random, &followed(&acts, &["events"])) else { return Ok(()) };
        acts.insert(at + 1, acts[at].clone());
        prop_assert_eq!(checks(&judge(&acts)), ["repeated"]);
    }

    #[test]
    fn a_text_that_is_another_on_one_device_is_found(plan in plans()) {
        let (mut acts, mut random) = acts(plan);
        let places = shown_elsewhere(&acts);
        if places.is_empty() { return Ok(()) }
        let (at, entry) = places[random.below(places.len())];
        let Act::Received(_, frame) = &mut acts[at] else { unreachable!() };
        let delta = &mut frame["events"][entry]["event"]["delta"];
        *delta = format!("{}!", delta.as_str().unwrap()).into();
        let found = checks(&judge(&acts));
        prop_assert!(found.iter().any(|check| ["diverged", "unsaid"].contains(check)), "{found:?}");
        prop_assert!(found.iter().all(|check| ["diverged", "unsaid"].contains(check)), "{found:?}");
    }

    #[test]
    fn an_event_that_is_another_in_the_history_is_unsaid(plan in plans()) {
        let (mut acts, mut random) = acts(plan);
        let audit = acts.iter().map(Act::device).max().unwrap();
        let places: Vec<usize> = (0..acts.len())
            .filter(|at| acts[*at].device() == audit)
            .filter(|at| acts[*at].events().is_some_and(|frame| frame["events"][0]["event"]["type"] == "TOOL_CALL_RESULT"))
            .collect();
        let Some(at) = pick(&mut random, &places) else { return Ok(()) };
        let seen = acts[..at].iter().filter(|act| act.device() != audit).filter_map(Act::events).any(|frame| {
            frame["events"].as_array().unwrap().iter().any(|entry| entry["seq"] == acts[at].events().unwrap()["events"][0]["seq"])
        });
        let Act::Received(_, frame) = &mut acts[at] else { unreachable!() };
        frame["events"][0]["event"]["content"] = "another".into();
        if !seen { return Ok(()) }
        prop_assert_eq!(checks(&judge(&acts)), ["unsaid"]);
    }

    #[test]
    fn a_second_reply_is_caught(plan in plans()) {
        let (mut acts, mut random) = acts(plan);
        let at = pick(&mut random, &replies(&acts, |_| true)).unwrap();
        acts.insert(at + 1, acts[at].clone());
        prop_assert_eq!(checks(&judge(&acts)), ["reply"]);
    }

    #[test]
    fn a_reply_that_never_comes_is_caught((seed, turns, _) in plans()) {
        let (mut acts, _) = acts((seed, turns, 1));
        let sends = replies(&acts, |frame| frame.get("duplicate").is_some());
        let cut = acts.iter().rposition(|act| matches!(act, Act::Cut(_))).unwrap_or(0);
        let Some(at) = sends.into_iter().rfind(|at| *at > cut) else { return Ok(()) };
        acts.remove(at);
        prop_assert_eq!(checks(&judge(&acts)), ["unacked"]);
    }

    #[test]
    fn a_resume_from_the_wrong_position_is_caught((seed, turns, devices) in plans(), back in any::<bool>(), far in 1..9_i64) {
        let mut random = Random::new(seed);
        let log = Log::new(&mut random, turns);
        let by = if back { -far } else { far };
        let wrong = Wrong { resume: random.below(3), by };
        let delivery = Delivery::new(&log, &mut random, devices, Some(wrong));
        let found = checks(&judge(&delivery.acts));
        let expected = match (delivery.was_wrong, back) {
            (false, _) => None,
            (true, true) => Some(&"repeated"),
            (true, false) => Some(&"gap"),
        };
        prop_assert_eq!(found.first(), expected, "{:?}", found);
    }

    #[test]
    fn a_message_that_is_acked_as_new_twice_is_caught(plan in plans()) {
        let (mut acts, mut random) = acts(plan);
        let sends = replies(&acts, |frame| frame.get("duplicate").is_some());
        let at = pick(&mut random, &sends).unwrap();
        let Act::Received(device, reply) = acts[at].clone() else { unreachable!() };
        let asked = acts.iter().find(|act| matches!(act, Act::Sent(_, frame) if frame["ref"] == reply["ref"]));
        let Some(Act::Sent(_, mut asked)) = asked.cloned() else { unreachable!() };
        let mut again = reply.clone();
        (asked["ref"], again["ref"]) = ("again".into(), "again".into());
        // A first ack that was lost is one that the device does not know.
        if reply["duplicate"] == true { return Ok(()) }
        acts.splice(at + 1..at + 1, [Act::Sent(device, asked), Act::Received(device, again)]);
        prop_assert_eq!(checks(&judge(&acts)), ["applied_twice"]);
    }

    #[test]
    fn a_message_that_is_acked_and_in_no_log_is_caught((seed, turns, devices) in plans()) {
        let (mut acts, _) = acts((seed, turns, devices));
        let audit = acts.iter().map(Act::device).max().unwrap();
        let at = acts.iter().position(|act| act.device() == audit).unwrap();
        let device = acts[at - 1].device();
        // The device that did something last may be cut by now; the first one to attach is not.
        let frame = json!({"op": "send", "ref": "lost", "session": "s", "id": "m_lost", "content": "?"});
        let reply = json!({"op": "ok", "ref": "lost", "seq": 1, "run": "r_lost", "duplicate": false});
        acts.splice(at..at, [Act::Sent(device, frame), Act::Received(device, reply)]);
        prop_assert_eq!(checks(&judge(&acts)), ["never_applied"]);
    }

    #[test]
    fn a_message_that_two_runs_take_up_is_caught((seed, turns, devices) in plans()) {
        let mut random = Random::new(seed);
        let mut log = Log::new(&mut random, turns);
        let last = log.entries.iter().rfind(|entry| entry["event"]["type"] == "RUN_STARTED").unwrap();
        let id = last["event"]["input"]["messages"][0]["id"].as_str().unwrap().to_owned();
        log.start("r_twice", &id, "hi");
        log.finish(&mut random, "r_twice");
        let found = checks(&judge(&Delivery::new(&log, &mut random, devices, None).acts));
        // After a snapshot nobody knows what took it up before.
        prop_assume!(!found.is_empty());
        prop_assert_eq!(found, ["applied_twice"]);
    }

    #[test]
    fn a_message_that_a_snapshot_has_lost_is_unsaid(plan in plans(), change in 0..3_usize) {
        let (mut acts, mut random) = acts(plan);
        let mut places = Vec::new();
        for (at, act) in acts.iter().enumerate() {
            let Act::Received(_, frame) = act else { continue };
            if frame["snapshot"] != true { continue }
            let messages = frame["events"][1]["event"]["messages"].as_array().unwrap();
            // What was shown before for certain: all messages of the user but the last.
            let shown = messages.iter().rposition(|message| message["role"] == "user").unwrap_or(0);
            places.extend((0..shown).filter(|message| messages[*message]["content"] != "").map(|message| (at, message)));
        }
        if places.is_empty() { return Ok(()) }
        let (at, message) = places[random.below(places.len())];
        let device = acts[at].device();
        // Whoever resumes later by snapshot has seen it; the others may not have.
        let seen = acts[..at].iter().filter(|act| act.device() == device).filter_map(Act::events).any(|frame| {
            let id = |message: &Value| message["id"].clone();
            let Act::Received(_, snapshot) = &acts[at] else { unreachable!() };
            let wanted = id(&snapshot["events"][1]["event"]["messages"][message]);
            frame["events"].as_array().unwrap().iter().any(|entry| entry["event"]["messageId"] == wanted
                && entry["event"]["type"] == "TEXT_MESSAGE_END")
        });
        if !seen { return Ok(()) }
        let Act::Received(_, frame) = &mut acts[at] else { unreachable!() };
        let messages = frame["events"][1]["event"]["messages"].as_array_mut().unwrap();
        match change {
            0 => drop(messages.remove(message)),
            1 => messages[message]["content"] = "?".into(),
            _ => {
                let mut text = messages[message]["content"].as_str().unwrap().to_owned();
                text.pop();
                messages[message]["content"] = text.into();
            }
        }
        let found = checks(&judge(&acts));
        prop_assert_eq!(found.first(), Some(&"unsaid"));
    }
}
