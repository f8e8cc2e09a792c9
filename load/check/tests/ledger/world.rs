//! Histories of a session as a server would make them, and their delivery to devices: merged, cut and resumed at random.

use serde_json::{Value, json};

/// Numbers that are drawn from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % end.max(1) as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn word(&mut self) -> String {
        let words = ["Bern ", "grüezi", "… ", "a", "the capital ", "\n", "🦀"];
        words[self.below(words.len())].to_owned()
    }
}

/// A message of the user, and what its reply says.
#[derive(Clone)]
struct Ack {
    id: String,
    text: String,
    seq: u64,
    run: Option<String>,
}

/// The log of a session.
pub(crate) struct Log {
    pub(crate) entries: Vec<Value>,
    acks: Vec<Ack>,
    names: usize,
}

impl Log {
    pub(crate) fn new(random: &mut Random, turns: usize) -> Self {
        let mut log = Self {
            entries: Vec::new(),
            acks: Vec::new(),
            names: 0,
        };
        let mut queued: Option<Ack> = None;
        for _ in 0..turns {
            let ack = queued.take();
            let next = random.one_in(2).then(|| log.name("m"));
            let (id, text) = match &ack {
                Some(ack) => (ack.id.clone(), ack.text.clone()),
                None => (log.name("m"), random.word()),
            };
            if random.one_in(4) && ack.is_none() && !log.entries.is_empty() {
                let after = log.answered();
                let branch = log.name("b");
                log.push(
                    None,
                    custom(
                        "kronos.branched",
                        json!({"branch": branch, "parent": "main", "after": after}),
                    ),
                );
            }
            let run = log.name("r");
            let seq = log.start(&run, &id, &text);
            if ack.is_none() {
                let run = Some(run.clone());
                log.acks.push(Ack {
                    id: id.clone(),
                    text: text.clone(),
                    seq,
                    run,
                });
            }
            queued = log.run(random, &run, next);
            if random.one_in(6) {
                log.push(Some(&run), json!({"type": "RUN_ERROR", "message": "broken"}));
                let again = log.name("r");
                log.start(&again, &id, &text);
                log.text(random, &again);
                log.finish(random, &again);
            } else {
                log.finish(random, &run);
            }
        }
        log
    }

    pub(crate) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}_{}", self.names)
    }

    /// The last message of the user that was answered: where a branch may begin.
    fn answered(&self) -> Option<String> {
        let messages = messages(&self.entries);
        messages
            .last()
            .and_then(|message| message["id"].as_str().map(str::to_owned))
    }

    fn push(&mut self, run: Option<&str>, event: Value) -> u64 {
        let seq = self.head() + 1;
        let mut entry = json!({"seq": seq, "event": event});
        if let Some(run) = run {
            entry["run"] = run.into();
        }
        self.entries.push(entry);
        seq
    }

    pub(crate) fn start(&mut self, run: &str, id: &str, text: &str) -> u64 {
        let input = json!({"threadId": "s", "runId": run, "tools": [], "context": [],
            "messages": [{"id": id, "role": "user", "content": text}]});
        let event = json!({"type": "RUN_STARTED", "threadId": "s", "runId": run, "input": input});
        self.push(Some(run), event)
    }

    pub(crate) fn finish(&mut self, random: &mut Random, run: &str) {
        let outcome = ["success", "cancelled"][random.below(2)];
        let event = json!({"type": "RUN_FINISHED", "threadId": "s", "runId": run, "outcome": {"type": outcome}});
        self.push(Some(run), event);
    }

    fn text(&mut self, random: &mut Random, run: &str) {
        let id = self.name("a");
        self.push(
            Some(run),
            json!({"type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant"}),
        );
        for _ in 0..=random.below(8) {
            let delta = random.word();
            self.push(
                Some(run),
                json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": delta}),
            );
        }
        self.push(Some(run), json!({"type": "TEXT_MESSAGE_END", "messageId": id}));
    }

    fn call(&mut self, random: &mut Random, run: &str) {
        let (call, result) = (self.name("c"), self.name("t"));
        self.push(
            Some(run),
            json!({"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "f"}),
        );
        for _ in 0..=random.below(3) {
            self.push(
                Some(run),
                json!({"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": "1"}),
            );
        }
        self.push(Some(run), json!({"type": "TOOL_CALL_END", "toolCallId": call}));
        let event =
            json!({"type": "TOOL_CALL_RESULT", "messageId": result, "toolCallId": call, "content": random.word()});
        self.push(Some(run), event);
    }

    /// The middle of a run; a message may come meanwhile and wait.
    fn run(&mut self, random: &mut Random, run: &str, next: Option<String>) -> Option<Ack> {
        self.text(random, run);
        let queued = next.map(|id| {
            let text = random.word();
            let message = json!({"id": id, "role": "user", "content": text});
            let value = json!({"messageId": id, "queued": true, "message": message, "mode": "queue"});
            let seq = self.push(None, custom("kronos.message_accepted", value));
            let ack = Ack {
                id,
                text,
                seq,
                run: None,
            };
            self.acks.push(ack.clone());
            ack
        });
        for _ in 0..random.below(3) {
            self.call(random, run);
            self.text(random, run);
        }
        queued
    }

    /// Whether something is open after `head` that a snapshot cannot open again.
    fn inside_a_call(&self, head: u64) -> bool {
        let upto = &self.entries[..usize::try_from(head).unwrap()];
        let count = |kind: &str| upto.iter().filter(|entry| entry["event"]["type"] == kind).count();
        count("TOOL_CALL_START") != count("TOOL_CALL_END")
    }

    /// The snapshot of a position.
    fn snapshot(&self, head: u64) -> Value {
        let upto = &self.entries[..usize::try_from(head).unwrap()];
        let last = |kinds: &[&str]| {
            upto.iter()
                .rposition(|entry| kinds.iter().any(|kind| entry["event"]["type"] == *kind))
        };
        let began = last(&["RUN_STARTED"]);
        let active = began.filter(|began| last(&["RUN_FINISHED", "RUN_ERROR"]).is_none_or(|end| end < *began));
        let run = active.map_or_else(|| json!(format!("r_snapshot_{head}")), |at| upto[at]["run"].clone());
        let messages = messages(upto);
        let mut events = vec![
            json!({"type": "RUN_STARTED", "threadId": "s", "runId": run}),
            json!({"type": "MESSAGES_SNAPSHOT", "messages": messages}),
        ];
        let mut waiting: Vec<Value> = Vec::new();
        for entry in upto {
            let event = &entry["event"];
            if event["name"] == "kronos.message_accepted" {
                waiting.push(event["value"]["message"].clone());
            }
            let taken = &event["input"]["messages"][0]["id"];
            waiting.retain(|message| message["id"] != *taken);
        }
        if !waiting.is_empty() {
            events.push(custom("kronos.queue_snapshot", json!({"messages": waiting})));
        }
        match active {
            None => events.push(json!({"type": "RUN_FINISHED", "threadId": "s", "runId": run})),
            Some(_) => {
                let open =
                    last(&["TEXT_MESSAGE_START"]).filter(|at| last(&["TEXT_MESSAGE_END"]).is_none_or(|end| end < *at));
                events.extend(open.map(|at| upto[at]["event"].clone()));
            }
        }
        let entry = |event| json!({"seq": head, "run": run, "event": event});
        let entries: Vec<Value> = events.into_iter().map(entry).collect();
        json!({"op": "events", "session": "s", "epoch": "e", "snapshot": true, "events": entries})
    }

    /// The entries after `from` up to `to` as one frame, deltas merged at random.
    fn frame(&self, random: &mut Random, from: u64, to: u64) -> Value {
        let mut events: Vec<Value> = Vec::new();
        let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
        for entry in &self.entries[range] {
            let key = |entry: &Value| {
                let event = &entry["event"];
                let id = event.get("messageId").or_else(|| event.get("toolCallId"));
                event
                    .get("delta")
                    .is_some()
                    .then(|| (event["type"].clone(), id.cloned()))
            };
            match events
                .last_mut()
                .filter(|last| key(last).is_some() && key(last) == key(entry))
            {
                Some(last) if random.one_in(2) => {
                    let text =
                        last["event"]["delta"].as_str().unwrap().to_owned() + entry["event"]["delta"].as_str().unwrap();
                    if last.get("first").is_none() {
                        last["first"] = last["seq"].clone();
                    }
                    last["seq"] = entry["seq"].clone();
                    last["event"]["delta"] = text.into();
                }
                _ => events.push(entry.clone()),
            }
        }
        json!({"op": "events", "session": "s", "epoch": "e", "events": events})
    }
}

fn custom(name: &str, value: Value) -> Value {
    json!({"type": "CUSTOM", "name": name, "value": value})
}

/// The messages of the chosen branch, as a snapshot has them.
fn messages(upto: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for entry in upto {
        let event = &entry["event"];
        match event["type"].as_str().unwrap() {
            "RUN_STARTED"
                if all
                    .iter()
                    .all(|known| known["id"] != event["input"]["messages"][0]["id"]) =>
            {
                all.push(event["input"]["messages"][0].clone());
            }
            "TEXT_MESSAGE_START" => all.push(json!({"id": event["messageId"], "role": "assistant", "content": ""})),
            "TEXT_MESSAGE_CONTENT" => {
                let message = all
                    .iter_mut()
                    .find(|message| message["id"] == event["messageId"])
                    .unwrap();
                let text = message["content"].as_str().unwrap().to_owned() + event["delta"].as_str().unwrap();
                message["content"] = text.into();
            }
            "TOOL_CALL_RESULT" => all.push(json!({"id": event["messageId"], "role": "tool",
                "toolCallId": event["toolCallId"], "content": event["content"]})),
            "CUSTOM" if event["name"] == "kronos.branched" => {
                let after = all.iter().position(|message| message["id"] == event["value"]["after"]);
                all.truncate(after.map_or(0, |after| after + 1));
            }
            _ => {}
        }
    }
    all
}

/// One thing that a ledger is told.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Sent(usize, Value),
    Received(usize, Value),
    Cut(usize),
}

impl Act {
    pub(crate) fn device(&self) -> usize {
        match self {
            Self::Sent(device, _) | Self::Received(device, _) | Self::Cut(device) => *device,
        }
    }

    /// The frame, when it is one of events and no snapshot.
    pub(crate) fn events(&self) -> Option<&Value> {
        match self {
            Self::Received(_, frame) if frame["op"] == "events" && frame["snapshot"] != true => Some(frame),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Client {
    connected: bool,
    position: Option<u64>,
    /// The head at the attach, until it is reached.
    target: Option<u64>,
    refs: usize,
    /// What was sent and got no reply.
    again: Vec<Ack>,
}

/// Which resume the server makes from the wrong position, and by how much.
#[derive(Clone, Copy)]
pub(crate) struct Wrong {
    pub(crate) resume: usize,
    pub(crate) by: i64,
}

/// The delivery of a log to devices; the last one is the audit, attached when everything is over.
pub(crate) struct Delivery<'a> {
    log: &'a Log,
    random: &'a mut Random,
    clients: Vec<Client>,
    head: u64,
    pub(crate) acts: Vec<Act>,
    resumes: usize,
    wrong: Option<Wrong>,
    /// Whether the wrong resume was made.
    pub(crate) was_wrong: bool,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(log: &'a Log, random: &'a mut Random, devices: usize, wrong: Option<Wrong>) -> Self {
        let mut delivery = Self {
            log,
            random,
            clients: (0..=devices).map(|_| Client::default()).collect(),
            head: 0,
            acts: Vec::new(),
            resumes: 0,
            wrong,
            was_wrong: false,
        };
        delivery.connect(0);
        while delivery.head < log.head() {
            delivery.step(devices);
        }
        for device in 0..=devices {
            if !delivery.clients[device].connected {
                delivery.connect(device);
            }
            while delivery.clients[device].position.unwrap_or(0) < log.head() {
                delivery.deliver(device);
            }
        }
        delivery
    }

    fn step(&mut self, devices: usize) {
        let device = self.random.below(devices);
        match self.random.below(8) {
            0 if self.clients[device].connected && self.clients[device].position.is_some() => {
                self.acts.push(Act::Cut(device));
                self.clients[device].connected = false;
                self.clients[device].target = None;
            }
            1 | 2 if !self.clients[device].connected => self.connect(device),
            1..=3 => self.advance(devices),
            _ if self.clients[device].connected => self.deliver(device),
            _ => {}
        }
    }

    fn reference(&mut self, device: usize) -> String {
        self.clients[device].refs += 1;
        format!("{device}.{}", self.clients[device].refs)
    }

    fn advance(&mut self, devices: usize) {
        let Some(device) = (0..devices).find(|device| self.clients[*device].connected) else {
            return;
        };
        let next = (self.head + 1 + self.random.below(5) as u64).min(self.log.head());
        let acks: Vec<Ack> = self
            .log
            .acks
            .iter()
            .filter(|ack| ack.seq > self.head && ack.seq <= next)
            .cloned()
            .collect();
        self.head = next;
        for ack in acks {
            if !self.clients[device].connected {
                self.connect(device);
            }
            let lost = self.random.one_in(4) && self.clients[device].position.is_some();
            self.send(device, &ack, lost, false);
        }
    }

    fn send(&mut self, device: usize, ack: &Ack, lost: bool, duplicate: bool) {
        let reference = self.reference(device);
        let frame = json!({"op": "send", "ref": reference, "session": "s", "id": ack.id, "content": ack.text});
        self.acts.push(Act::Sent(device, frame));
        if lost {
            self.acts.push(Act::Cut(device));
            self.clients[device].connected = false;
            self.clients[device].target = None;
            self.clients[device].again.push(ack.clone());
            return;
        }
        let mut reply = json!({"op": "ok", "ref": reference, "seq": ack.seq, "duplicate": duplicate});
        match &ack.run {
            Some(run) => reply["run"] = run.as_str().into(),
            None => reply["queued"] = 1.into(),
        }
        self.acts.push(Act::Received(device, reply));
    }

    fn connect(&mut self, device: usize) {
        let reference = self.reference(device);
        let after = self.clients[device].position;
        let session = if self.acts.is_empty() { "new" } else { "s" };
        let mut frame = json!({"op": "attach", "ref": reference, "session": session});
        if let Some(after) = after {
            frame["after"] = json!({"epoch": "e", "seq": after});
        }
        self.acts.push(Act::Sent(device, frame));
        let snapshot = after.is_some() && self.random.one_in(4) && !self.log.inside_a_call(self.head);
        let reply = json!({"op": "ok", "ref": reference, "session": "s", "epoch": "e", "head": self.head, "recovered": !snapshot});
        self.acts.push(Act::Received(device, reply));
        let mut from = after.unwrap_or(0);
        let was_wrong = self.was_wrong;
        if snapshot {
            self.acts.push(Act::Received(device, self.log.snapshot(self.head)));
            from = self.head;
        } else if after.is_some() && from < self.head {
            if let Some(wrong) = self.wrong.filter(|wrong| wrong.resume == self.resumes) {
                let moved = from.saturating_add_signed(wrong.by).min(self.head - 1);
                self.was_wrong |= moved != from;
                from = moved;
            }
            self.resumes += 1;
        }
        let client = &mut self.clients[device];
        (client.connected, client.position, client.target) = (true, Some(from), Some(self.head));
        self.caught_up(device);
        if self.was_wrong != was_wrong {
            self.deliver(device);
        }
        for ack in std::mem::take(&mut self.clients[device].again) {
            self.send(device, &ack, false, true);
        }
    }

    fn caught_up(&mut self, device: usize) {
        let client = &mut self.clients[device];
        let seq = client.position.unwrap_or(0);
        if client.target.is_some_and(|target| seq >= target) {
            client.target = None;
            let frame = json!({"op": "caught_up", "session": "s", "seq": seq});
            self.acts.push(Act::Received(device, frame));
        }
    }

    fn deliver(&mut self, device: usize) {
        let from = self.clients[device].position.unwrap_or(0);
        let end = self.clients[device].target.unwrap_or(self.head);
        if from >= end {
            return;
        }
        let to = (from + 1 + self.random.below(4) as u64).min(end);
        let frame = self.log.frame(self.random, from, to);
        self.acts.push(Act::Received(device, frame));
        self.clients[device].position = Some(to);
        self.caught_up(device);
    }
}
