//! The end of a conversation for good: its run is stopped, its log deleted, its readers are told that it is gone.

use super::*;
use crate::{
    principal::REMOVED,
    store::{DocumentWrite, Expect, Request},
};

impl Session {
    /// Deletes the session. From now on it does not exist; the answer comes when that is durable.
    pub(super) fn delete(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        if !self.meta.as_ref().is_some_and(|meta| meta.listed) {
            let error = SessionError::new(ErrorCode::Unsupported, "a feed cannot be deleted");
            return reply.send(Err(error));
        }
        self.erase(reply, ctx);
    }

    /// The same for whatever it is.
    pub(super) fn erase(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        let gone = SessionError::not_found(&self.wire);
        let mut documents = self.stored_results();
        documents.extend(self.asked_no_more());
        self.reset(&gone, ctx);
        self.life = Life::Missing;
        self.deleting = true;
        self.beat();
        let request = Request {
            delete: Some(self.id.clone()),
            documents,
            ..Request::default()
        };
        let (incarnation, addr) = (self.incarnation, ctx.address());
        // Submitted behind whatever is in the air: the store keeps that order.
        self.deps.store.submit(request, move |result| {
            let deleted = Deleted {
                incarnation,
                reply,
                result,
            };
            #[expect(
                clippy::disallowed_methods,
                reason = "one per deletion, and it must never be refused"
            )]
            addr.do_send(deleted);
        });
    }
}

impl Session {
    /// What deletes the whole results of calls, which are stored beside the log.
    fn stored_results(&self) -> Vec<DocumentWrite> {
        let calls = self.state.stored_results();
        let delete = |call: &str| DocumentWrite {
            family: TOOL_RESULT,
            key: result_key(&self.id, call),
            value: None,
            expect: Expect::Any,
        };
        calls.map(delete).collect()
    }

    /// Whether the store would not have the session because its owner was deleted meanwhile.
    pub(super) fn is_ownerless(error: &StoreError) -> bool {
        matches!(error, StoreError::Refused(Refusal::Condition { family, .. }) if *family == REMOVED)
    }

    /// A session that was to be made for a user who is gone: there is none.
    pub(super) fn never_was(&mut self, ctx: &mut Context<Self>) {
        let gone = SessionError::not_found(&self.wire);
        self.reset(&gone, ctx);
        self.origin = Origin::Stored;
        self.life = Life::Missing;
        self.beat();
        self.readers.end_all(&gone);
        self.tell_may_stop(ctx);
    }
}

/// How the deletion ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Deleted {
    incarnation: u64,
    reply: ReplyTo,
    result: Result<(), StoreError>,
}

impl Handler<Deleted> for Session {
    type Result = ();

    fn handle(&mut self, deleted: Deleted, ctx: &mut Self::Context) {
        let current = deleted.incarnation == self.incarnation;
        self.deleting = false;
        match deleted.result {
            Ok(()) => {
                self.deps.questions.set(&self.id, None);
                self.readers.end_all(&SessionError::not_found(&self.wire));
                deleted.reply.send(Ok(SessionReply::Done));
                if current {
                    self.tell_may_stop(ctx);
                }
            }
            Err(error) => {
                tracing::warn!(session.id = %self.id, user.id = self.owner(), %error, "a session was not deleted");
                deleted.reply.send(Err(storage_error(&error)));
                if current {
                    self.refold(&storage_error(&error), Duration::from_millis(200), ctx);
                }
            }
        }
    }
}
