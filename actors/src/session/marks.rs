//! Places in the log of which it is noted when readers get them: text of an answer, and ends of runs. Bounded.

use std::{collections::VecDeque, time::Instant};

use kronos_protocol::position::Seq;

use crate::mailbox::SAMPLE;

/// Marks that are kept; of more the older half of text is thinned out.
const MARKS: usize = 64;

/// What a connection notes when it writes a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    /// When the oldest marked text in it came from the model.
    pub(crate) read: Option<Instant>,
}

/// One place.
#[derive(Debug)]
pub(super) struct Mark {
    seq: Seq,
    /// When the upstream's chunk was read.
    read: Instant,
}

/// The marks of one session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Marks {
    all: VecDeque<Mark>,
    /// Texts since the last one that was marked.
    skipped: u32,
}

impl Marks {
    /// Marks one text in [`SAMPLE`], the first of all among them. `read`: when its chunk came.
    pub(super) fn text(&mut self, seq: Seq, read: Instant) {
        let marked = self.skipped == 0;
        self.skipped = (self.skipped + 1) % SAMPLE;
        if marked {
            self.push(Mark { seq, read });
        }
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
        let first = self.all.iter().rev().take_while(|mark| mark.seq > after).last()?;
        (first.seq <= upto).then(|| Box::new(Note { read: Some(first.read) }))
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
            marks.text(seq, start + std::time::Duration::from_secs(seq));
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
            marks.text(seq, start);
            assert!(marks.all.len() <= MARKS);
        }
        assert!(marks.all.iter().is_sorted_by_key(|mark| mark.seq));
    }
}
