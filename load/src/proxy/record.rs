//! `record`: a proxy that writes down what passes: one recording for each session, with every device that attaches to it.
//!
//! A line is written as soon as it is known, so that nothing but the last is lost with the process. Tokens are never written.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use kronos_protocol::client::ClientInfo;
use kronos_protocol::recording::{self, Header, LinkState, RecordedCommand, RecordedEvent, RecordedLink};
use kronos_protocol::server::Attached;
use kronos_protocol::{
    AttachTarget, ClientFrame, Codec, Command, DeviceName, Events, OkBody, Ref, ServerFrame, SessionId,
};
use serde::Serialize;

use super::{Between, Ending, Upstream, Verdict, say};
use crate::clock;

/// What recordings end with.
const EXTENSION: &str = "kronosrec";
/// What the header says who recorded.
const RECORDER: &str = concat!("kronos-load ", env!("CARGO_PKG_VERSION"));
/// Commands of a connection that are kept until it is known which session they are of.
const EARLY: usize = 64;

/// Where it stands and where it writes.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Where clients connect; port 0: any that is free
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The server's websocket, such as ws://127.0.0.1:8000/ws
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// A file `*.kronosrec` for the first session that is attached, or a folder with a file for each
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
}

/// A device of a session: it may come back on another connection.
#[derive(Debug)]
struct Slot {
    name: DeviceName,
    client: Option<ClientInfo>,
    connected: bool,
}

/// The recording of one session.
#[derive(Debug)]
struct Recording {
    path: PathBuf,
    file: File,
    began: Instant,
    /// The time of the last line: times never go back.
    at_ms: u64,
    lines: u64,
    slots: Vec<Slot>,
}

impl Recording {
    fn at(&mut self, when: Instant) -> u64 {
        let passed = when.saturating_duration_since(self.began).as_millis();
        self.at_ms = self.at_ms.max(u64::try_from(passed).unwrap_or(u64::MAX));
        self.at_ms
    }

    fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        // In one piece: a process that is killed leaves whole lines.
        self.file
            .write_all(&text)
            .with_context(|| self.path.display().to_string())?;
        self.lines += 1;
        Ok(())
    }

    /// The device that a connection is: one that was there and is gone, of the same program, or a new one.
    fn slot(&mut self, client: Option<&ClientInfo>) -> anyhow::Result<DeviceName> {
        let back = self
            .slots
            .iter_mut()
            .find(|slot| !slot.connected && slot.client.as_ref() == client);
        if let Some(slot) = back {
            slot.connected = true;
            return Ok(slot.name.clone());
        }
        let name: DeviceName = (self.slots.len() + 1).to_string().parse()?;
        self.slots.push(Slot {
            name: name.clone(),
            client: client.cloned(),
            connected: true,
        });
        Ok(name)
    }
}

/// All recordings.
#[derive(Debug)]
struct Recorder {
    output: PathBuf,
    /// Whether the output is one file.
    single: bool,
    sessions: HashMap<SessionId, Recording>,
    /// Sessions that are not recorded, and were said to be not.
    left_out: Vec<SessionId>,
}

impl Recorder {
    fn new(output: &Path) -> anyhow::Result<Self> {
        let single = output.extension().is_some_and(|extension| extension == EXTENSION);
        if !single {
            fs::create_dir_all(output).with_context(|| output.display().to_string())?;
        }
        Ok(Self {
            output: output.to_owned(),
            single,
            sessions: HashMap::new(),
            left_out: Vec::new(),
        })
    }

    /// Begins the recording of a session, if it is not there and there is a place for it.
    fn begin(&mut self, attached: &Attached, target: &AttachTarget, began: Instant) -> anyhow::Result<()> {
        let session = &attached.session;
        if self.sessions.contains_key(session) || self.left_out.contains(session) {
            return Ok(());
        }
        if self.single && !self.sessions.is_empty() {
            self.left_out.push(session.clone());
            say(&format!(
                "session {session} is not recorded: the output is one file, for one session"
            ));
            return Ok(());
        }
        let (path, file) = if self.single {
            (self.output.clone(), File::create(&self.output))
        } else {
            fresh(&self.output, session)
        };
        let file = file.with_context(|| path.display().to_string())?;
        let since = u64::try_from(clock::instant().saturating_duration_since(began).as_millis())?;
        let started_at_ms = i64::try_from((clock::micros() / 1000).saturating_sub(since))?;
        let mut header = Header::new(
            recording::VERSION,
            session.clone(),
            attached.epoch.clone(),
            started_at_ms,
        );
        header.recorder = Some(RECORDER.to_owned());
        if let AttachTarget::New { title, .. } = target {
            header.title.clone_from(title);
        }
        say(&format!("recording session {session} to {}", path.display()));
        let mut recording = Recording {
            path,
            file,
            began,
            at_ms: 0,
            lines: 0,
            slots: Vec::new(),
        };
        recording.write(&header)?;
        self.sessions.insert(session.clone(), recording);
        Ok(())
    }
}

/// A file for a session that is not there yet.
fn fresh(folder: &Path, session: &SessionId) -> (PathBuf, std::io::Result<File>) {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = session.as_str().chars().map(plain).collect();
    let mut count = 1;
    loop {
        let path = match count {
            1 => folder.join(format!("{name}.{EXTENSION}")),
            count => folder.join(format!("{name}-{count}.{EXTENSION}")),
        };
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        match &file {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => count += 1,
            _ => return (path, file),
        }
    }
}

/// One connection that is recorded.
struct Tap {
    codec: Codec,
    opened: Instant,
    recorder: Rc<RefCell<Recorder>>,
    hello: Option<(Instant, ClientFrame)>,
    attaching: HashMap<Ref, (Instant, ClientFrame)>,
    /// Commands of sessions whose attach has no reply yet.
    early: Vec<(Instant, SessionId, ClientFrame)>,
    joined: HashMap<SessionId, DeviceName>,
}

impl Tap {
    fn new(codec: Codec, recorder: Rc<RefCell<Recorder>>) -> Self {
        Self {
            codec,
            opened: clock::instant(),
            recorder,
            hello: None,
            attaching: HashMap::new(),
            early: Vec::new(),
            joined: HashMap::new(),
        }
    }

    fn sent(&mut self, frame: ClientFrame) -> anyhow::Result<()> {
        let now = clock::instant();
        match &frame.command {
            Command::Hello(_) => self.hello = Some((now, frame)),
            Command::Attach(attach) => {
                if attach.session != AttachTarget::Feed {
                    self.attaching.insert(frame.reference.clone(), (now, frame));
                }
            }
            command => {
                let Some(session) = session_of(command).cloned() else {
                    return Ok(());
                };
                if self.joined.contains_key(&session) {
                    return self.command(now, &session, frame);
                }
                if self.early.len() < EARLY {
                    self.early.push((now, session, frame));
                }
            }
        }
        Ok(())
    }

    fn command(&self, when: Instant, session: &SessionId, frame: ClientFrame) -> anyhow::Result<()> {
        let mut recorder = self.recorder.borrow_mut();
        let found = recorder.sessions.get_mut(session).zip(self.joined.get(session));
        let Some((recording, device)) = found else {
            return Ok(());
        };
        let at_ms = recording.at(when);
        match RecordedCommand::new(at_ms, device.clone(), frame) {
            Some(command) => recording.write(&command),
            None => Ok(()),
        }
    }

    fn received(&mut self, frame: &ServerFrame) -> anyhow::Result<()> {
        match frame {
            ServerFrame::Ok {
                reference,
                body: OkBody::Attached(attached),
            } => match self.attaching.remove(reference) {
                Some((when, frame)) => self.attached(when, frame, attached),
                None => Ok(()),
            },
            ServerFrame::Error {
                reference: Some(reference),
                ..
            } => {
                self.attaching.remove(reference);
                Ok(())
            }
            ServerFrame::Events(events) => self.events(events),
            _ => Ok(()),
        }
    }

    fn attached(&mut self, when: Instant, frame: ClientFrame, attached: &Attached) -> anyhow::Result<()> {
        let session = &attached.session;
        if !self.joined.contains_key(session) {
            // The connection may have served another session for long.
            let began = if self.joined.is_empty() { self.opened } else { when };
            self.join(&frame, attached, began)?;
        }
        self.command(when, session, frame)?;
        let (now, later) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(|(_, of, _)| of == session);
        self.early = later;
        let now: Vec<_> = now;
        now.into_iter()
            .try_for_each(|(when, session, frame)| self.command(when, &session, frame))
    }

    fn join(&mut self, frame: &ClientFrame, attached: &Attached, began: Instant) -> anyhow::Result<()> {
        let Command::Attach(attach) = &frame.command else {
            return Ok(());
        };
        let session = &attached.session;
        let client = match self.hello.as_ref().map(|(_, frame)| &frame.command) {
            Some(Command::Hello(hello)) => hello.client.clone(),
            _ => None,
        };
        {
            let mut recorder = self.recorder.borrow_mut();
            recorder.begin(attached, &attach.session, began)?;
            let Some(recording) = recorder.sessions.get_mut(session) else {
                return Ok(());
            };
            let name = recording.slot(client.as_ref())?;
            let mut link = RecordedLink::new(recording.at(began), name.clone(), LinkState::Open);
            link.codec = Some(self.codec);
            recording.write(&link)?;
            self.joined.insert(session.clone(), name);
        }
        match self.hello.clone() {
            Some((when, hello)) => self.command(when, session, hello),
            None => Ok(()),
        }
    }

    fn events(&self, events: &Events) -> anyhow::Result<()> {
        // A snapshot is not the log: it stands for what is not shown.
        if events.snapshot {
            return Ok(());
        }
        let mut recorder = self.recorder.borrow_mut();
        let found = recorder.sessions.get_mut(&events.session);
        let Some((recording, device)) = found.zip(self.joined.get(&events.session)) else {
            return Ok(());
        };
        let at_ms = recording.at(clock::instant());
        for entry in &events.events {
            let mut event = RecordedEvent::of_log(at_ms, entry.clone());
            event.device = Some(device.clone());
            recording.write(&event)?;
        }
        Ok(())
    }

    fn left(&self, ending: Ending) -> anyhow::Result<()> {
        let mut recorder = self.recorder.borrow_mut();
        for (session, device) in &self.joined {
            let Some(recording) = recorder.sessions.get_mut(session) else {
                continue;
            };
            if let Some(slot) = recording.slots.iter_mut().find(|slot| slot.name == *device) {
                slot.connected = false;
            }
            let (state, code) = match ending {
                Ending::Closed(code) => (LinkState::Closed, code),
                Ending::Cut => (LinkState::Cut, None),
            };
            let mut link = RecordedLink::new(recording.at(clock::instant()), device.clone(), state);
            link.code = code;
            recording.write(&link)?;
            say(&format!("device {device} of session {session} left: {state}"));
        }
        Ok(())
    }
}

/// The session that a command is of.
fn session_of(command: &Command) -> Option<&SessionId> {
    match command {
        Command::Detach(command) => Some(&command.session),
        Command::Send(command) => Some(&command.session),
        Command::Unqueue(command) => Some(&command.session),
        Command::Cancel(command) => Some(&command.session),
        Command::Resume(command) => Some(&command.session),
        Command::Edit(command) => Some(&command.session),
        Command::Regenerate(command) => Some(&command.session),
        Command::Settings(command) => Some(&command.session),
        Command::Typing(command) => Some(&command.session),
        Command::Hello(_) | Command::Attach(_) | Command::TokenUpdate(_) | Command::Ping => None,
    }
}

/// A recording that cannot be written is said so; what passes passes.
fn heard(result: anyhow::Result<()>) {
    if let Err(error) = result {
        say(&format!("not recorded: {error:#}"));
    }
}

impl Between for Tap {
    fn up(&mut self, message: &[u8]) -> Verdict {
        if let Ok(frame) = self.codec.decode_client(message) {
            heard(self.sent(frame));
        }
        Verdict::Pass
    }

    fn down(&mut self, message: &[u8]) -> Verdict {
        if let Ok(frame) = self.codec.decode_server(message) {
            heard(self.received(&frame));
        }
        Verdict::Pass
    }

    fn ended(&mut self, ending: Ending) {
        heard(self.left(ending));
    }
}

/// Runs the proxy until Ctrl-C.
pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<()> {
    let recorder = Rc::new(RefCell::new(Recorder::new(&args.output)?));
    let shared = Rc::clone(&recorder);
    super::run(args.listen, &args.upstream, move |codec| {
        Tap::new(codec, Rc::clone(&shared))
    })?;
    for (session, recording) in &recorder.borrow().sessions {
        say(&format!(
            "session {session}: {} lines in {}",
            recording.lines,
            recording.path.display()
        ));
    }
    Ok(())
}
