//! Serving cursors: attach, pull, presence, snapshots, the view for REST.

use super::*;
use crate::session::{
    log::{Read, read_records},
    message::{Attach, Attached, AttachmentId, Page, View},
    readers::{FrameCache, Reader, Served},
};

/// Presence is told at most this often.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of messages in a snapshot: with its envelope it stays below the frame bound.
const SNAPSHOT_BYTES: usize = 128 * 1024;
/// Bytes read from the store for one batch: merged deltas are smaller as text than as records.
const STORED_BATCH_FACTOR: usize = 4;

impl Session {
    pub(super) fn attach(&mut self, attach: Attach, reply: ReplyTo, ctx: &mut Context<Self>) {
        let Some(meta) = &self.meta else {
            return reply.send(Err(SessionError::not_found(&self.id)));
        };
        let Attach {
            attachment,
            client,
            form,
            after,
            tail,
            sink,
        } = attach;
        self.readers.all.retain(|id, _| id.connection != attachment.connection);
        if self.readers.all.len() >= self.deps.config.attachments {
            crate::metrics::refused("session_attachments");
            let error = SessionError::new(
                ErrorCode::Overloaded,
                "too many devices are attached to this conversation",
            )
            .with_details(serde_json::json!({"limit": self.deps.config.attachments, "name": "session_attachments"}))
            .after_ms(5000);
            return reply.send(Err(error));
        }
        let visible = self.log.visible();
        let (start, recovered) = match after {
            None => (tail.map_or(0, |n| visible.saturating_sub(Seq::from(n))), true),
            Some(cursor) if cursor.epoch == meta.epoch && cursor.seq <= visible => (cursor.seq, true),
            Some(_) => (0, false),
        };
        let last = self.log.last();
        let picture = if recovered || last == 0 {
            None
        } else {
            metrics::handles().snapshots.increment(1);
            self.log.seal();
            view::snapshot(&self.state, &self.wire, last, self.deps.clock.now_ms(), SNAPSHOT_BYTES)
        };
        // What is not durable yet is in the picture too: the reply waits for it. What fits no picture is told by the log.
        let snapshot = picture.map(|entries| (last, Arc::new(entries)));
        let head = if snapshot.is_some() { last } else { visible };
        let attached = Attached {
            session: self.wire.clone(),
            epoch: meta.epoch.clone(),
            head,
            recovered,
            start,
            settings: self.settings.clone(),
        };
        let reader = Reader {
            form,
            client,
            sink,
            pull: None,
            seen: start,
            snapshot,
            since: head,
            place: self.pulse.cursor(start, self.time()),
            typing: false,
            presence_due: false,
        };
        let durable = reader.snapshot.as_ref().map_or(0, |(upto, _)| *upto);
        self.readers.all.insert(attachment, reader);
        self.reply_when_durable(durable, reply, Ok(SessionReply::Attached(attached)));
        self.presence_changed(ctx);
    }

    pub(super) fn detach(&mut self, attachment: &AttachmentId, ctx: &mut Context<Self>) {
        if self.readers.all.remove(attachment).is_some() {
            self.presence_changed(ctx);
        }
    }

    pub(super) fn pull(&mut self, attachment: &AttachmentId, after: Seq, ctx: &mut Context<Self>) {
        let Some(reader) = self.readers.all.get_mut(attachment) else {
            return;
        };
        reader.pull = Some(after);
        reader.place.asks(after);
        reader.seen = after;
        self.readers.announce_due(attachment);
        let mut cache = FrameCache::default();
        self.serve(attachment, &mut cache, ctx);
    }

    /// Answers every pull that waits; called when the watermark has moved.
    pub(super) fn serve_all(&mut self, ctx: &mut Context<Self>) {
        self.note_shown();
        let mut cache = FrameCache::default();
        for attachment in self.readers.parked() {
            self.serve(&attachment, &mut cache, ctx);
        }
    }

    fn serve(&mut self, attachment: &AttachmentId, cache: &mut FrameCache, ctx: &mut Context<Self>) {
        let Some(epoch) = self.meta.as_ref().map(|meta| meta.epoch.clone()) else {
            return;
        };
        if !matches!(self.life, Life::Live) {
            return;
        }
        let batch_bytes = self.deps.config.batch_bytes;
        let served = self.readers.serve(attachment, &self.log, &epoch, batch_bytes, cache);
        if served == Served::Done {
            self.handed(attachment);
        }
        match served {
            Served::Done | Served::Parked => {}
            Served::Gone => self.detach(attachment, ctx),
            Served::Behind(after) => self.read_behind(attachment.clone(), after, ctx),
        }
    }

    /// Memory starts after this reader's cursor: the store has the rest.
    fn read_behind(&mut self, attachment: AttachmentId, after: Seq, ctx: &mut Context<Self>) {
        let Some(reader) = self.readers.all.get_mut(&attachment) else {
            return;
        };
        reader.pull = None;
        let store = self.deps.store.clone();
        let id = self.id.clone();
        let max_bytes = self.deps.config.batch_bytes * STORED_BATCH_FACTOR;
        let read = async move { store.read(&id, after, max_bytes).await };
        ctx.spawn(read.into_actor(self).map(move |records, act, ctx| {
            let committed = act.log.committed();
            let batch_bytes = act.deps.config.batch_bytes;
            let read = records.and_then(|records| {
                read_records(&records, after, committed, batch_bytes).map_err(|error| StoreError::Corrupt {
                    at: format!("{} seq {}", act.id, error.seq),
                    what: error.to_string(),
                })
            });
            match read {
                Ok(Read::Entries { upto, entries }) => act.deliver_stored(&attachment, after, upto, entries, ctx),
                Ok(Read::UpToDate | Read::Behind) => {
                    if let Some(reader) = act.readers.all.get_mut(&attachment) {
                        reader.pull.get_or_insert(after);
                    }
                }
                Err(error) => {
                    tracing::error!(session.id = %act.id, user.id = act.owner(), %error, "a reader's history cannot be read");
                    act.detach(&attachment, ctx);
                }
            }
        }));
    }

    fn deliver_stored(
        &mut self,
        attachment: &AttachmentId,
        after: Seq,
        upto: Seq,
        entries: Vec<kronos_protocol::entry::LogEntry>,
        ctx: &mut Context<Self>,
    ) {
        let Some(epoch) = self.meta.as_ref().map(|meta| meta.epoch.clone()) else {
            return;
        };
        if let Some(reader) = self.readers.all.get_mut(attachment) {
            // Meanwhile the client may have pulled from elsewhere: its newest pull counts.
            reader.pull.get_or_insert(after);
            if reader.pull != Some(after) {
                return;
            }
        }
        match self.readers.serve_stored(attachment, &epoch, upto, entries) {
            Served::Gone => self.detach(attachment, ctx),
            Served::Done => self.handed(attachment),
            Served::Parked | Served::Behind(_) => {}
        }
    }

    /// It has what was there for it, and may ask again.
    fn handed(&mut self, attachment: &AttachmentId) {
        let now = self.time();
        if let Some(reader) = self.readers.all.get_mut(attachment) {
            reader.place.rests(now);
        }
    }

    pub(super) fn typing(&mut self, attachment: &AttachmentId, on: bool, reply: ReplyTo, ctx: &mut Context<Self>) {
        let Some(reader) = self.readers.all.get_mut(attachment) else {
            return reply.send(Err(SessionError::new(
                ErrorCode::Conflict,
                "attach the conversation first",
            )));
        };
        let changed = reader.typing != on;
        reader.typing = on;
        reply.send(Ok(SessionReply::Done));
        if changed {
            self.presence_changed(ctx);
        }
    }

    /// Tells the devices of each other, at most once a second; the first change at once.
    fn presence_changed(&mut self, ctx: &mut Context<Self>) {
        if self.presence_timer.is_some() {
            self.readers.presence_pending = true;
            return;
        }
        self.readers.announce();
        self.presence_timer = Some(ctx.run_later(PRESENCE_INTERVAL, |act, ctx| {
            act.presence_timer = None;
            if std::mem::take(&mut act.readers.presence_pending) {
                act.presence_changed(ctx);
            }
        }));
    }

    /// What became of a run; answered when it is durable.
    pub(super) fn show_run(&mut self, run: &RunId, reply: ReplyTo) {
        let result = match view::run(&self.state, &self.wire, run) {
            Some(view) => Ok(SessionReply::Run(Box::new(view))),
            None => Err(SessionError::new(ErrorCode::NotFound, format!("Run not found: {run}"))
                .with_details(serde_json::json!({"resource": "Run", "identifier": run.as_str()}))),
        };
        self.reply_when_durable(self.log.last(), reply, result);
    }

    /// The conversation as it is now; answered when all of it is durable.
    pub(super) fn show(&mut self, page: &Page, reply: ReplyTo) {
        let Some(meta) = self.meta.clone() else {
            return reply.send(Err(SessionError::not_found(&self.id)));
        };
        let Some((from, messages)) = view::page(&self.state, page) else {
            return reply.send(Err(SessionError::new(ErrorCode::NotFound, "Message not found")
                .with_details(serde_json::json!({"resource": "Message"}))));
        };
        self.log.seal();
        let view = View {
            meta,
            messages,
            from,
            total: self.state.messages.len(),
            head: self.log.last(),
            run: self.state.run.as_ref().map(|run| run.id.clone()),
        };
        self.reply_when_durable(self.log.last(), reply, Ok(SessionReply::View(Box::new(view))));
    }
}
