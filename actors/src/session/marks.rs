//! Places in the log of which it is noted when readers get them: text of an answer, and ends of runs. Bounded.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use kronos_protocol::position::Seq;

use crate::{flight::Timeline, mailbox::SAMPLE};

/// Marks that are kept; of more the older half is thinned out.
const MARKS: usize = 64;

/// What a connection notes when it writes a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    /// When the oldest marked text in it came from the model.
    pub(crate) read: Option<Instant>,
    /// When readers might see that text, and where that is recorded.
    pub(crate) shown: Option<(Instant, Arc<Timeline>)>,
    /// Runs whose first text is in it.
    pub(crate) firsts: Vec<Arc<Timeline>>,
    /// Runs whose end is in it.
    pub(crate) ends: Vec<Arc<Timeline>>,
}

/// One place.
#[derive(Debug)]
struct Mark {
    seq: Seq,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Text {
        /// When the upstream's chunk was read.
        read: Option<Instant>,
        /// When readers might see it.
        shown: Instant,
        first: bool,
        timeline: Option<Arc<Timeline>>,
    },
    End(Arc<Timeline>),
}

/// The marks of one session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Marks {
    all: VecDeque<Mark>,
    /// Texts since the last one that was marked.
    skipped: u32,
}

impl Marks {
    /// Marks one text in [`SAMPLE`], and the `first` of a run. `read`: when its chunk came.
    pub(super) fn text(
        &mut self,
        seq: Seq,
        (read, shown): (Option<Instant>, Instant),
        first: bool,
        timeline: Option<&Arc<Timeline>>,
    ) {
        let marked = first || self.skipped == 0;
        self.skipped = (self.skipped + 1) % SAMPLE;
        if marked {
            let place = Place::Text {
                read,
                shown,
                first,
                timeline: timeline.cloned(),
            };
            self.push(Mark { seq, place });
        }
    }

    /// Marks the end of a run.
    pub(super) fn end(&mut self, seq: Seq, timeline: Arc<Timeline>) {
        let place = Place::End(timeline);
        self.push(Mark { seq, place });
    }

    fn push(&mut self, mark: Mark) {
        if self.all.len() >= MARKS {
            let mut nth = 0;
            self.all.retain(|_| {
                nth += 1;
                nth % 2 == 0 || nth > MARKS / 2
            });
        }
        self.all.push_back(mark);
    }

    /// What is to be noted of a batch of what follows `after`, up to `upto`, for a reader who was there from `since` on.
    pub(super) fn note(&self, after: Seq, upto: Seq, since: Seq) -> Option<Box<Note>> {
        let after = after.max(since);
        if self.all.back().is_none_or(|newest| newest.seq <= after) {
            return None;
        }
        let mut note: Option<Box<Note>> = None;
        let from = self.all.partition_point(|mark| mark.seq <= after);
        for mark in self.all.range(from..).take_while(|mark| mark.seq <= upto) {
            let oldest = note.is_none();
            let note = note.get_or_insert_default();
            match &mark.place {
                Place::Text {
                    read,
                    shown,
                    first,
                    timeline,
                } => {
                    if oldest {
                        note.read = *read;
                        note.shown = timeline.clone().map(|timeline| (*shown, timeline));
                    }
                    note.firsts.extend(timeline.clone().filter(|_| *first));
                }
                Place::End(timeline) => note.ends.push(Arc::clone(timeline)),
            }
        }
        note
    }

    /// The log begins again.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_batch_is_noted_with_the_oldest_text_that_its_reader_waited_for() {
        let (mut marks, start) = (Marks::default(), clock::now());
        for seq in 1..=u64::from(SAMPLE) + 1 {
            let read = start + std::time::Duration::from_secs(seq);
            marks.text(seq, (Some(read), read), false, None);
        }
        let read = |after, upto, since| {
            let note = marks.note(after, upto, since)?;
            note.read.map(|read| (read - start).as_secs())
        };
        let second = u64::from(SAMPLE) + 1;
        assert_eq!(read(0, second, 0), Some(1));
        assert_eq!(read(1, second, 0), Some(second), "it has the first");
        assert_eq!(read(0, second, 1), Some(second), "it came after the first");
        assert_eq!([read(1, second - 1, 0), read(second, second + 9, 0)], [None, None]);
    }

    #[test]
    fn marks_have_their_bound() {
        let (mut marks, start) = (Marks::default(), clock::now());
        for seq in 0..10_000 {
            marks.text(seq, (None, start), true, None);
            assert!(marks.all.len() <= MARKS);
        }
        assert!(marks.all.iter().is_sorted_by_key(|mark| mark.seq));
    }
}
