//! The cursors on one session: parked pulls, batches shared by all who stand at the same place, presence.
//!
//! Holds no queue: a reader that does not pull costs what is in this table.

use std::{collections::HashMap, rc::Rc};

use actix::Recipient;
use bytes::Bytes;
use kronos_protocol::{
    client::ClientInfo,
    codec::Codec,
    entry::LogEntry,
    ids::{EpochId, SessionId},
    position::Seq,
    server::{Device, EventsRef, Presence, ServerFrame},
};
use std::sync::Arc;

use super::{
    log::{Log, Read},
    marks::{Marks, Note},
    message::{AttachmentId, Delivery, Form, Payload, SessionError, Sleeper},
    pulse::Place,
};
use crate::{
    metrics::is_measured,
    tally::{self, Tally},
};

/// One cursor.
pub(super) struct Reader {
    /// The form in which it takes events.
    pub(super) form: Form,
    /// What its client said about itself.
    pub(super) client: Option<ClientInfo>,
    /// Where deliveries go.
    pub(super) sink: Recipient<Delivery>,
    /// The pull that waits for news.
    pub(super) pull: Option<Seq>,
    /// Everything up to here it has taken.
    pub(super) seen: Seq,
    /// What it gets before the log: a snapshot and its seq.
    pub(super) snapshot: Option<(Seq, Arc<Vec<LogEntry>>)>,
    /// The newest event when it attached: what came before it has not waited for.
    pub(super) since: Seq,
    /// Where it stands, for whoever looks from outside.
    pub(super) place: Rc<Place>,
    /// Its user types.
    pub(super) typing: bool,
    /// Presence changed while it was busy.
    pub(super) presence_due: bool,
}

/// What serving a pull came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Answered, or there was no pull.
    Done,
    /// There is nothing yet: the pull stays.
    Parked,
    /// The log's memory starts later: the store must be read after this seq.
    Behind(Seq),
    /// The reader is gone.
    Gone,
}

/// Frames of one pass, by where they start: readers at the same place share one.
#[derive(Default)]
pub(super) struct FrameCache(Vec<Cached>);

struct Cached {
    codec: Codec,
    after: Seq,
    upto: Seq,
    bytes: Bytes,
    events: usize,
}

/// All cursors of one session.
pub(super) struct Readers {
    /// By attachment.
    pub(super) all: HashMap<AttachmentId, Reader>,
    /// Presence changed since it was last told.
    pub(super) presence_pending: bool,
    /// What is noted when readers get it.
    pub(super) marks: Marks,
    /// The session as its clients name it.
    wire: SessionId,
}

impl Readers {
    /// No cursors yet.
    pub(super) fn new(wire: SessionId) -> Self {
        Self {
            all: HashMap::new(),
            presence_pending: false,
            marks: Marks::default(),
            wire,
        }
    }

    /// Ids of the readers whose pull waits.
    pub(super) fn parked(&self) -> Vec<AttachmentId> {
        self.all
            .iter()
            .filter(|(_, reader)| reader.pull.is_some())
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Answers a reader's pull if there is something to answer it with.
    pub(super) fn serve(
        &mut self,
        id: &AttachmentId,
        log: &Log,
        epoch: &EpochId,
        batch_bytes: usize,
        cache: &mut FrameCache,
    ) -> Served {
        let Some(reader) = self.all.get_mut(id) else {
            return Served::Done;
        };
        let Some(after) = reader.pull else { return Served::Done };
        if let Some((upto, entries)) = reader.snapshot.clone() {
            let mut batch = Batch {
                id,
                upto,
                events: entries.len(),
                note: None,
            };
            let served = batch.deliver(&self.wire, epoch, reader, entries, true);
            if served == Served::Done {
                reader.snapshot = None;
            }
            return served;
        }
        if let Form::Frame(codec) = reader.form
            && let Some(cached) = cache
                .0
                .iter()
                .find(|cached| (cached.codec, cached.after) == (codec, after))
        {
            let (upto, bytes) = (cached.upto, cached.bytes.clone());
            let mut batch = Batch {
                id,
                upto,
                events: cached.events,
                note: self.marks.note(after, upto, reader.since),
            };
            return batch.hand(reader, Payload::Frame { upto, bytes });
        }
        match log.read(after, batch_bytes) {
            Read::UpToDate => Served::Parked,
            Read::Behind => Served::Behind(after),
            Read::Entries { upto, entries } => {
                let events = entries.len();
                let mut batch = Batch {
                    id,
                    upto,
                    events,
                    note: self.marks.note(after, upto, reader.since),
                };
                match reader.form {
                    Form::Entries => batch.entries(reader, Arc::new(entries), false),
                    Form::Frame(codec) => {
                        let Some(bytes) = encode(codec, &self.wire, epoch, &entries, false) else {
                            return Served::Gone;
                        };
                        cache.0.push(Cached {
                            codec,
                            after,
                            upto,
                            bytes: bytes.clone(),
                            events,
                        });
                        batch.hand(reader, Payload::Frame { upto, bytes })
                    }
                }
            }
        }
    }

    /// Answers a reader's pull with what the store had.
    pub(super) fn serve_stored(
        &mut self,
        id: &AttachmentId,
        epoch: &EpochId,
        upto: Seq,
        entries: Vec<LogEntry>,
    ) -> Served {
        let Some(reader) = self.all.get_mut(id) else {
            return Served::Done;
        };
        let mut batch = Batch {
            id,
            upto,
            events: entries.len(),
            // How long its text took says nothing about how fast text goes.
            note: reader
                .pull
                .and_then(|after| self.marks.note(after, upto, reader.since))
                .map(|mut note| {
                    note.read = None;
                    note
                }),
        };
        batch.deliver(&self.wire, epoch, reader, Arc::new(entries), false)
    }

    /// Sends the devices to every reader; a busy one gets them at its next pull.
    pub(super) fn announce(&mut self) {
        let frame = self.presence();
        let mut encoded: Vec<(Codec, Bytes)> = Vec::new();
        for (id, reader) in &mut self.all {
            let Form::Frame(codec) = reader.form else { continue };
            if reader.pull.is_none() {
                reader.presence_due = true;
                continue;
            }
            let bytes = match encoded.iter().find(|(c, _)| *c == codec) {
                Some((_, bytes)) => bytes.clone(),
                None => {
                    let Ok(bytes) = codec.encode(&frame) else { continue };
                    encoded.push((codec, bytes.clone()));
                    bytes
                }
            };
            reader.presence_due = send_presence(id, reader, bytes).is_err();
        }
    }

    /// Sends the devices to one reader that was busy when they changed.
    pub(super) fn announce_due(&mut self, id: &AttachmentId) {
        let due = self.all.get(id).is_some_and(|reader| reader.presence_due);
        if !due {
            return;
        }
        let frame = self.presence();
        let Some(reader) = self.all.get_mut(id) else { return };
        let Form::Frame(codec) = reader.form else { return };
        if let Ok(bytes) = codec.encode(&frame) {
            reader.presence_due = send_presence(id, reader, bytes).is_err();
        }
    }

    fn presence(&self) -> ServerFrame {
        let mut devices: Vec<Device> = self
            .all
            .iter()
            .filter(|(_, reader)| matches!(reader.form, Form::Frame(_)))
            .map(|(id, reader)| {
                let mut device = Device::new(id.connection.clone());
                device.typing = reader.typing;
                device.client = reader.client.clone();
                device
            })
            .collect();
        devices.sort_by(|a, b| a.connection.cmp(&b.connection));
        Presence::new(self.wire.clone(), devices).into()
    }

    /// Whether every reader has everything and waits for news, so that the session may leave memory under them.
    pub(super) fn all_wait(&self) -> bool {
        !self.presence_pending && self.all.values().all(Reader::waits)
    }

    /// Ends the cursors that do not wait for news.
    pub(super) fn end_busy(&mut self, error: &SessionError) {
        for (id, reader) in self.all.extract_if(|_, reader| !reader.waits()) {
            end(id, &reader, error);
        }
    }

    /// Takes every reader out and tells it that its session sleeps.
    pub(super) fn put_to_sleep(&mut self) -> Vec<Sleeper> {
        let sleeper = |(attachment, reader): (AttachmentId, Reader)| Sleeper {
            attachment,
            sink: reader.sink,
        };
        let sleepers: Vec<_> = self.all.drain().map(sleeper).collect();
        sleepers.iter().for_each(|sleeper| sleeper.tell(Payload::Asleep));
        sleepers
    }

    /// Ends every cursor.
    pub(super) fn end_all(&mut self, error: &SessionError) {
        for (id, reader) in self.all.drain() {
            end(id, &reader, error);
        }
    }
}

impl Reader {
    /// Whether it has everything and waits for news.
    fn waits(&self) -> bool {
        self.pull.is_some() && self.snapshot.is_none() && !self.presence_due
    }
}

fn end(attachment: AttachmentId, reader: &Reader, error: &SessionError) {
    let payload = Payload::Ended { error: error.clone() };
    // A reader that is gone needs no goodbye.
    drop(reader.sink.try_send(Delivery::new(attachment, payload)));
}

fn send_presence(id: &AttachmentId, reader: &Reader, bytes: Bytes) -> Result<(), ()> {
    reader
        .sink
        .try_send(Delivery::new(id.clone(), Payload::Presence { bytes }))
        .map_err(|_full_or_closed| ())
}

/// One batch on its way to a reader.
struct Batch<'a> {
    id: &'a AttachmentId,
    upto: Seq,
    events: usize,
    note: Option<Box<Note>>,
}

impl Batch<'_> {
    fn deliver(
        &mut self,
        wire: &SessionId,
        epoch: &EpochId,
        reader: &mut Reader,
        entries: Arc<Vec<LogEntry>>,
        snapshot: bool,
    ) -> Served {
        match reader.form {
            Form::Entries => self.entries(reader, entries, snapshot),
            Form::Frame(codec) => match encode(codec, wire, epoch, &entries, snapshot) {
                Some(bytes) => {
                    let upto = self.upto;
                    self.hand(reader, Payload::Frame { upto, bytes })
                }
                None => Served::Gone,
            },
        }
    }

    fn entries(&mut self, reader: &mut Reader, entries: Arc<Vec<LogEntry>>, snapshot: bool) -> Served {
        let upto = self.upto;
        self.hand(
            reader,
            Payload::Entries {
                upto,
                snapshot,
                entries,
            },
        )
    }

    fn hand(&mut self, reader: &mut Reader, payload: Payload) -> Served {
        let mut delivery = Delivery::new(self.id.clone(), payload);
        delivery.note = self.note.take();
        match reader.sink.try_send(delivery) {
            Ok(()) => {
                reader.pull = None;
                reader.place.has(self.upto);
                if is_measured() {
                    tally::add(Tally::Delivered, i64::try_from(self.events).unwrap_or(i64::MAX));
                }
                Served::Done
            }
            Err(actix::prelude::SendError::Full(_)) => Served::Parked,
            Err(actix::prelude::SendError::Closed(_)) => Served::Gone,
        }
    }
}

fn encode(codec: Codec, wire: &SessionId, epoch: &EpochId, entries: &[LogEntry], snapshot: bool) -> Option<Bytes> {
    codec
        .encode(&EventsRef {
            session: wire,
            epoch,
            snapshot,
            events: entries,
        })
        .ok()
}
