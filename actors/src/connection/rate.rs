//! How fast one connection may send: a bucket of commands that fills again at a steady rate.
//!
//! Pure: times come in with the calls. Keeps two instants and a count, whatever the bounds are (the generic cell rate
//! algorithm: the instant at which the bucket will be full again says how empty it is now).

use std::time::{Duration, Instant};

/// What became of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may go on.
    Taken,
    /// It is one too many; after this time one would be taken.
    Refused(Duration),
    /// It is one too many, from a peer that goes on and on; after this time the bucket would be full.
    Hopeless(Duration),
}

/// The bucket of one connection; full at first.
#[derive(Debug)]
pub(super) struct Bucket {
    full_at: Instant,
    /// Until when the peer was asked to wait.
    wait_until: Instant,
    /// Refused commands that did not wait, since the bucket was half full.
    stubborn: usize,
}

impl Bucket {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            full_at: now,
            wait_until: now,
            stubborn: 0,
        }
    }

    /// Takes one command out, of `burst` that fit in and `per_second` that come back; both at least 1.
    ///
    /// [`Verdict::Hopeless`] is who sends `burst` more although it was asked to wait, without one pause in which half of
    /// the bucket comes back. Who waits as told never gets there, however often it is refused.
    pub(super) fn take(&mut self, now: Instant, per_second: usize, burst: usize) -> Verdict {
        let each = Duration::from_secs(1) / count(per_second);
        let whole = each.saturating_mul(count(burst));
        let missing = self.full_at.saturating_duration_since(now);
        if missing <= whole / 2 {
            self.stubborn = 0;
        }
        let with_this = missing.saturating_add(each);
        let over = with_this.saturating_sub(whole);
        if over.is_zero() {
            self.full_at = now.checked_add(with_this).unwrap_or(self.full_at);
            return Verdict::Taken;
        }
        if now < self.wait_until {
            self.stubborn = self.stubborn.saturating_add(1);
        }
        self.wait_until = now.checked_add(over).unwrap_or(self.wait_until);
        if self.stubborn >= burst {
            Verdict::Hopeless(missing)
        } else {
            Verdict::Refused(over)
        }
    }
}

fn count(bound: usize) -> u32 {
    u32::try_from(bound).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn exactly_the_burst_is_taken_at_once_and_then_the_rate() {
        for burst in [2, 3, 400] {
            let start = Clock::default().instant();
            let mut bucket = Bucket::new(start);
            let taken = (0..burst + 1).filter(|_| bucket.take(start, 200, burst) == Verdict::Taken);
            assert_eq!(taken.count(), burst);
            assert_eq!(bucket.take(start + 4 * MS, 200, burst), Verdict::Refused(MS));
            assert_eq!(bucket.take(start + 5 * MS, 200, burst), Verdict::Taken);
            assert_eq!(bucket.take(start + 5 * MS, 200, burst), Verdict::Refused(5 * MS));
        }
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused() {
        let start = Clock::default().instant();
        let mut bucket = Bucket::new(start);
        assert!((0..10_000).all(|n| bucket.take(start + 5 * MS * n, 200, 1) == Verdict::Taken));
    }

    #[test]
    fn a_pause_fills_it_again_and_never_beyond_the_burst() {
        let start = Clock::default().instant();
        let mut bucket = Bucket::new(start);
        let later = start + Duration::from_secs(3600);
        let taken = |bucket: &mut Bucket, now| (0..9).filter(|_| bucket.take(now, 10, 3) == Verdict::Taken).count();
        assert_eq!([taken(&mut bucket, start), taken(&mut bucket, later)], [3, 3]);
    }

    #[test]
    fn more_refusals_than_the_burst_without_a_pause_are_hopeless() {
        let start = Clock::default().instant();
        let mut bucket = Bucket::new(start);
        let verdicts: Vec<_> = (0..7).map(|_| bucket.take(start, 10, 3)).collect();
        let refused = Verdict::Refused(100 * MS);
        assert_eq!(verdicts[3..], [refused, refused, refused, Verdict::Hopeless(300 * MS)]);
        // A flood takes what comes back meanwhile: that is no pause.
        assert_eq!(bucket.take(start + 100 * MS, 10, 3), Verdict::Taken);
        assert!(matches!(bucket.take(start + 100 * MS, 10, 3), Verdict::Hopeless(_)));
    }

    #[test]
    fn who_waits_as_told_is_never_hopeless() {
        let mut now = Clock::default().instant();
        let mut bucket = Bucket::new(now);
        for _ in 0..1000 {
            match bucket.take(now, 10, 3) {
                Verdict::Taken => {}
                Verdict::Refused(wait) => now += wait,
                Verdict::Hopeless(_) => panic!("it waited"),
            }
        }
    }
}
