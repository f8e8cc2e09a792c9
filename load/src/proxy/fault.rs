//! `fault-proxy`: a proxy that breaks promises on purpose, now and then. It shows that checks bite, and how a client takes it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Args;
use kronos_protocol::{Codec, Command, Event, Events, OkBody, Seq, ServerFrame, SessionId};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Between, Upstream, Verdict, say};
use crate::stamps::find;

/// Positions that a wrong resume is off, at most.
const OFF: Seq = 5;

/// Where it stands, and what it breaks.
#[derive(Debug, Args)]
pub(crate) struct FaultArgs {
    /// Where clients connect; port 0: any that is free
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The server's websocket, such as ws://127.0.0.1:8000/ws
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// What goes wrong with one frame of events in N: drop=N, swap=N (with the next), repeat=N, stall=TIME/N, reset=N (of the
    /// connection); with one resume in N: wrong-resume[=N]
    #[arg(long = "fault", value_name = "FAULT", required = true)]
    faults: Vec<Fault>,
    /// Let so many frames of events pass before
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// Draws which frames it is
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A fault, and one in how many it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    kind: Kind,
    one_in: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Drop,
    Swap,
    Repeat,
    Stall(Duration),
    WrongResume,
    Reset,
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (time, count) = value.split_once('/').unwrap_or(("", value));
        let kind = match name {
            "drop" => Kind::Drop,
            "swap" => Kind::Swap,
            "repeat" => Kind::Repeat,
            "stall" => Kind::Stall(span(time)?),
            "wrong-resume" => Kind::WrongResume,
            "reset" => Kind::Reset,
            _ => bail!("not a fault: drop=N, swap=N, repeat=N, stall=TIME/N, wrong-resume[=N], reset=N"),
        };
        let one_in = match count {
            "" if kind == Kind::WrongResume => 1,
            count => count.parse().context("one in how many?")?,
        };
        ensure!(one_in > 0, "one in at least 1");
        ensure!(
            time.is_empty() || matches!(kind, Kind::Stall(_)),
            "only stall has a time"
        );
        Ok(Self { kind, one_in })
    }
}

/// Reads `2s` or `500ms`.
fn span(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (
            text.strip_suffix('s').context("expected a time such as 2s or 500ms")?,
            1000,
        ),
    };
    let number: u64 = number.parse().context("expected a time such as 2s or 500ms")?;
    Ok(Duration::from_millis(number.saturating_mul(unit)))
}

/// Which frames it is: one of every so many, drawn.
#[derive(Debug)]
struct Draw {
    fault: Fault,
    random: StdRng,
    /// Frames so far of the ones that are drawn from, and which of them it is.
    seen: u64,
    at: u64,
}

impl Draw {
    fn hit(&mut self) -> bool {
        if self.seen == 0 {
            self.at = self.random.random_range(0..self.fault.one_in);
        }
        let hit = self.seen == self.at;
        self.seen = (self.seen + 1) % self.fault.one_in;
        hit
    }
}

/// What all connections share.
#[derive(Debug)]
struct Faults {
    draws: Vec<Draw>,
    random: StdRng,
    /// Frames that are still to pass.
    after: u64,
    /// The last position that passed, by session.
    heads: HashMap<SessionId, Seq>,
    count: u64,
}

impl Faults {
    fn new(args: &FaultArgs) -> Self {
        let draw = |(at, fault): (u64, &Fault)| Draw {
            fault: *fault,
            random: StdRng::seed_from_u64(args.seed.wrapping_add(at)),
            seen: 0,
            at: 0,
        };
        Self {
            draws: (1..).zip(&args.faults).map(draw).collect(),
            random: StdRng::seed_from_u64(args.seed),
            after: args.after,
            heads: HashMap::new(),
            count: 0,
        }
    }

    fn told(&mut self, what: &str, session: &SessionId, seq: Seq) {
        self.count += 1;
        say(&format!("fault {}: {what}, session {session}, seq {seq}", self.count));
    }

    /// What is to go wrong with a frame of events.
    ///
    /// `live`: the client has all that there was before.
    fn of_events(&mut self, frame: &Events, live: bool) -> Option<Kind> {
        let (first, last) = (frame.events.first()?, frame.events.last()?);
        let head = self.heads.entry(frame.session.clone()).or_default();
        *head = last.seq.max(*head);
        if frame.snapshot {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        // What follows a delta is another event: the two can change places. The last one of a history is followed by its end.
        let followed = live && matches!(last.event, Event::TextMessageContent(_));
        let drawn = self.draws.iter_mut().filter(|draw| match draw.fault.kind {
            Kind::Swap => followed,
            Kind::WrongResume => false,
            Kind::Drop | Kind::Repeat | Kind::Stall(_) | Kind::Reset => true,
        });
        let hits: Vec<Kind> = drawn.filter_map(|draw| draw.hit().then_some(draw.fault.kind)).collect();
        let kind = *hits.first()?;
        let what = match kind {
            Kind::Drop => "dropped a frame",
            Kind::Swap => "swapped two frames",
            Kind::Repeat => "repeated a frame",
            Kind::Stall(_) => "stalled",
            Kind::Reset => "reset a connection",
            Kind::WrongResume => "resumed from the wrong position",
        };
        let seq = first.first_seq();
        self.told(what, &frame.session, seq);
        Some(kind)
    }

    /// Where else to resume than after `seq`.
    fn wrong_position(&mut self, session: &SessionId, seq: Seq) -> Option<Seq> {
        let mut drawn = self
            .draws
            .iter_mut()
            .filter(|draw| draw.fault.kind == Kind::WrongResume);
        let draw = drawn.next()?;
        let behind = seq.min(OFF);
        let ahead = self
            .heads
            .get(session)
            .map_or(0, |head| head.saturating_sub(seq))
            .min(OFF);
        if (behind, ahead) == (0, 0) || !draw.hit() {
            return None;
        }
        let back = ahead == 0 || (behind > 0 && self.random.random_bool(0.5));
        let wrong = if back {
            seq - self.random.random_range(1..=behind)
        } else {
            seq + self.random.random_range(1..=ahead)
        };
        self.told(&format!("resumed after {wrong}"), session, seq);
        Some(wrong)
    }
}

/// One of them is in every frame that matters here: events, the end of a history, the reply to `attach`.
const WORDS: [&[u8]; 3] = [b"events", b"caught_up", b"recovered"];

/// The faults of one connection.
struct Faulty {
    codec: Codec,
    faults: Rc<RefCell<Faults>>,
    /// A frame that is to come after the next one of its session.
    held: Option<(SessionId, Bytes)>,
    /// Sessions of which the client has all that there was.
    live: HashSet<SessionId>,
}

impl Between for Faulty {
    fn up(&mut self, message: &[u8]) -> Verdict {
        let Ok(mut frame) = self.codec.decode_client(message) else {
            return Verdict::Pass;
        };
        let Command::Attach(attach) = &mut frame.command else {
            return Verdict::Pass;
        };
        let Ok(session) = attach.session.as_str().parse::<SessionId>() else {
            return Verdict::Pass;
        };
        let Some(after) = &mut attach.after else {
            return Verdict::Pass;
        };
        match self.faults.borrow_mut().wrong_position(&session, after.seq) {
            Some(wrong) => after.seq = wrong,
            None => return Verdict::Pass,
        }
        self.codec
            .encode(&frame)
            .map_or(Verdict::Pass, |wrong| Verdict::Instead(vec![wrong]))
    }

    fn down(&mut self, message: &[u8]) -> Verdict {
        // Nothing else is looked at; in both codecs the words are in it as they are.
        if !WORDS.iter().any(|word| find(message, word).is_some()) {
            return Verdict::Pass;
        }
        let events = match self.codec.decode_server(message) {
            Ok(ServerFrame::Events(events)) => events,
            Ok(ServerFrame::CaughtUp(frame)) => {
                self.live.insert(frame.session);
                return Verdict::Pass;
            }
            Ok(ServerFrame::Ok {
                body: OkBody::Attached(attached),
                ..
            }) => {
                self.live.remove(&attached.session);
                return Verdict::Pass;
            }
            Ok(
                ServerFrame::Ok { .. } | ServerFrame::Error { .. } | ServerFrame::Presence(_) | ServerFrame::Goaway(_),
            )
            | Err(_) => return Verdict::Pass,
        };
        if let Some((_, held)) = self.held.take_if(|(session, _)| *session == events.session) {
            return Verdict::Instead(vec![Bytes::copy_from_slice(message), held]);
        }
        match self
            .faults
            .borrow_mut()
            .of_events(&events, self.live.contains(&events.session))
        {
            None | Some(Kind::WrongResume) => Verdict::Pass,
            Some(Kind::Drop) => Verdict::Instead(Vec::new()),
            Some(Kind::Repeat) => Verdict::Instead(vec![Bytes::copy_from_slice(message); 2]),
            Some(Kind::Stall(time)) => Verdict::Later(time),
            Some(Kind::Reset) => Verdict::Reset,
            Some(Kind::Swap) => {
                self.held = Some((events.session, Bytes::copy_from_slice(message)));
                Verdict::Instead(Vec::new())
            }
        }
    }
}

/// Runs the proxy until Ctrl-C.
pub(crate) fn run(args: &FaultArgs) -> anyhow::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let faults = Rc::new(RefCell::new(Faults::new(args)));
    let shared = Rc::clone(&faults);
    super::run(args.listen, &args.upstream, move |codec| Faulty {
        codec,
        faults: Rc::clone(&shared),
        held: None,
        live: HashSet::new(),
    })?;
    say(&format!("{} faults", faults.borrow().count));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    fn faulty(fault: &str, after: u64) -> Faulty {
        let args = FaultArgs {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            upstream: "ws://127.0.0.1:1".parse().unwrap(),
            faults: vec![fault.parse().unwrap()],
            after,
            seed: 1,
        };
        Faulty {
            codec: Codec::Json,
            faults: Rc::new(RefCell::new(Faults::new(&args))),
            held: None,
            live: HashSet::from(["s".parse().unwrap()]),
        }
    }

    fn delta(seq: u64) -> Bytes {
        let event = json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": "x"});
        let entry = json!({"seq": seq, "run": "r", "event": event});
        let frame = json!({"op": "events", "session": "s", "epoch": "e", "events": [entry]});
        Bytes::from(frame.to_string())
    }

    /// What comes of these positions.
    fn through(faulty: &mut Faulty, seqs: std::ops::Range<u64>) -> Vec<u64> {
        let seq = |message: &Bytes| {
            let frame: Value = serde_json::from_slice(message).unwrap();
            frame["events"][0]["seq"].as_u64().unwrap()
        };
        let mut out = Vec::new();
        for at in seqs {
            match faulty.down(&delta(at)) {
                Verdict::Pass => out.push(at),
                Verdict::Instead(others) => out.extend(others.iter().map(seq)),
                Verdict::Later(_) | Verdict::Reset => {}
            }
        }
        out
    }

    #[test]
    fn faults_are_read() {
        let kind = |text| fault(text).kind;
        assert_eq!(
            fault("drop=10000"),
            Fault {
                kind: Kind::Drop,
                one_in: 10_000
            }
        );
        assert_eq!(kind("stall=2s/100"), Kind::Stall(Duration::from_secs(2)));
        assert_eq!(kind("stall=5ms/1"), Kind::Stall(Duration::from_millis(5)));
        assert_eq!(
            fault("wrong-resume"),
            Fault {
                kind: Kind::WrongResume,
                one_in: 1
            }
        );
        for bad in [
            "",
            "drop",
            "drop=0",
            "drop=x",
            "stall=2/3",
            "stall=3",
            "drop=2s/3",
            "melt=1",
        ] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_frame_in_so_many_is_dropped_swapped_or_repeated() {
        let dropped = through(&mut faulty("drop=10", 0), 0..40);
        assert_eq!(dropped.len(), 36);
        let repeated = through(&mut faulty("repeat=10", 0), 0..40);
        assert_eq!(repeated.len(), 44);
        let swapped = through(&mut faulty("swap=10", 0), 0..45);
        let places = swapped.windows(2).filter(|pair| pair[0] == pair[1] + 1).count();
        assert_eq!((swapped.len(), places), (45, 4), "{swapped:?}");
    }

    #[test]
    fn those_that_are_to_pass_pass() {
        let dropped = through(&mut faulty("drop=1", 7), 0..10);
        assert_eq!(dropped, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_resume_is_moved_and_an_attach_from_the_start_is_not() {
        let mut faulty = faulty("wrong-resume", 0);
        let attach = json!({"op": "attach", "ref": "1", "session": "s"});
        assert!(matches!(faulty.up(attach.to_string().as_bytes()), Verdict::Pass));
        through(&mut faulty, 1..30);
        for seq in [1_u64, 10, 29] {
            let attach = json!({"op": "attach", "ref": "1", "session": "s", "after": {"epoch": "e", "seq": seq}});
            let Verdict::Instead(others) = faulty.up(attach.to_string().as_bytes()) else {
                panic!("it is moved");
            };
            let wrong: Value = serde_json::from_slice(&others[0]).unwrap();
            let wrong = wrong["after"]["seq"].as_u64().unwrap();
            assert!(
                wrong != seq && wrong.abs_diff(seq) <= OFF && wrong <= 29,
                "{seq}: {wrong}"
            );
        }
    }
}
