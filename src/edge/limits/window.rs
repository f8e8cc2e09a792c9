//! Counts what many keys did in a sliding window.
//!
//! Two buckets a key: the window that runs now and the one before, of which as much counts as still lies within the last
//! window's length. All keys of a shard begin their windows together, so that forgetting is free: when a window ends, the
//! older map is emptied as a whole and becomes the new one. Nothing is ever searched for, and a shard holds so few keys that
//! growing its map takes microseconds.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Shards: so many requests count at the same time without waiting for each other. A power of two.
const SHARDS: usize = 256;

/// What came of counting once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the limit; so many more are left.
    Passed {
        /// How many more may follow now.
        remaining: u32,
        /// When all of the limit is free again, if nothing follows.
        reset: Duration,
    },
    /// Over the limit; not counted.
    Refused {
        /// When the next one would pass, if nothing follows until then.
        after: Duration,
    },
    /// As many keys as may be are counted already, and this is none of them.
    Uncounted,
}

/// The counters.
pub(crate) struct Windows {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    begun: Instant,
    window_ms: u64,
    keys_of_a_shard: usize,
}

#[derive(Default)]
struct Shard {
    /// The number of the window that runs.
    number: u64,
    now: Counts,
    before: Counts,
}

/// Keys are hashed already.
type Counts = HashMap<u64, u32, BuildHasherDefault<Hashed>>;

#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Windows {
    /// Makes empty counters for windows of a length (at least one second), and so many keys in each window.
    pub(crate) fn new(window: Duration, keys: usize, now: Instant) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            begun: now,
            window_ms: u64::try_from(window.as_millis())
                .unwrap_or(u64::MAX)
                .clamp(1, MAX_WINDOW_MS),
            keys_of_a_shard: keys.div_ceil(SHARDS).max(1),
        }
    }

    /// Counts one for a key, unless that would be more than `limit` in a window. Two keys of 64 equal bits of a keyed hash
    /// count as one: with a million keys that happens once in 37 million servers.
    pub(crate) fn count(&self, key: impl std::hash::Hash, limit: u32, now: Instant) -> Verdict {
        let hash = self.hasher.hash_one(key);
        let (index, phase) = self.place(hash);
        let since = u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX);
        let since = since.saturating_add(phase);
        let (number, elapsed) = (since / self.window_ms, since % self.window_ms);
        let Some(shard) = self.shards.get(index) else {
            return Verdict::Uncounted;
        };
        // Nothing that could panic runs under the lock.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.turn_to(number);
        let before = shard.before.get(&hash).copied().unwrap_or(0);
        let full = shard.now.len() >= self.keys_of_a_shard;
        let Some(taken) = (match shard.now.get_mut(&hash) {
            Some(taken) => Some(taken),
            None if full => None,
            None => Some(shard.now.entry(hash).or_insert(0)),
        }) else {
            return Verdict::Uncounted;
        };
        let sum = Sum {
            limit,
            before,
            taken: *taken,
            elapsed,
            window: self.window_ms,
        };
        let verdict = sum.verdict();
        if matches!(verdict, Verdict::Passed { .. }) {
            *taken = taken.saturating_add(1);
        }
        verdict
    }

    /// The shard of a key, and by how much its windows begin earlier than others': they do not all end at once.
    fn place(&self, hash: u64) -> (usize, u64) {
        let index = hash >> (u64::BITS - SHARDS.trailing_zeros());
        let phase = index * self.window_ms / SHARDS as u64;
        (usize::try_from(index).unwrap_or(0), phase)
    }
}

/// The longest window: products of it with a count stay far below 64 bits.
const MAX_WINDOW_MS: u64 = 3_600_000;

impl Shard {
    fn turn_to(&mut self, number: u64) {
        if number <= self.number {
            return;
        }
        let follows = number == self.number + 1;
        self.number = number;
        std::mem::swap(&mut self.now, &mut self.before);
        empty(&mut self.now);
        if !follows {
            empty(&mut self.before);
        }
    }
}

/// Empties a map; one that was made for many more keys than it had gives its memory back.
fn empty(counts: &mut Counts) {
    if counts.capacity() > 64 && counts.len() < counts.capacity() / 4 {
        *counts = Counts::with_capacity_and_hasher(counts.len(), BuildHasherDefault::default());
    } else {
        counts.clear();
    }
}

/// What a key did, in windows of so many milliseconds.
#[derive(Clone, Copy)]
struct Sum {
    limit: u32,
    before: u32,
    taken: u32,
    elapsed: u64,
    window: u64,
}

impl Sum {
    /// Everything in units of one request for one millisecond.
    fn verdict(self) -> Verdict {
        let left = self.window - self.elapsed;
        let used = u64::from(self.before) * left + u64::from(self.taken) * self.window;
        let allowed = u64::from(self.limit) * self.window;
        let free = allowed.saturating_sub(used) / self.window;
        if free == 0 {
            return Verdict::Refused {
                after: Duration::from_millis(self.wait()),
            };
        }
        // This one counts until the end of the next window.
        let reset = Duration::from_millis(left + self.window);
        Verdict::Passed {
            remaining: u32::try_from(free - 1).unwrap_or(u32::MAX),
            reset,
        }
    }

    /// Milliseconds until one more fits.
    fn wait(self) -> u64 {
        let left = self.window - self.elapsed;
        let Some(most) = self.limit.checked_sub(1) else {
            return self.window;
        };
        if self.taken <= most {
            // As soon as little enough of the window before counts: `before * rest <= (most - taken) * window`.
            let rest = u64::from(most - self.taken) * self.window / u64::from(self.before.max(1));
            left.saturating_sub(rest).max(1)
        } else {
            // In the next window, when little enough of this one counts.
            let rest = u64::from(most) * self.window / u64::from(self.taken.max(1));
            left + self.window.saturating_sub(rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        windows: Windows,
        begun: Instant,
    }

    fn bench(keys: usize) -> Bench {
        let begun = kronos_actors::clock::Clock::default().instant();
        Bench {
            windows: Windows::new(60 * SECOND, keys, begun),
            begun,
        }
    }

    impl Bench {
        fn at(&self, key: &str, limit: u32, seconds: f64) -> Verdict {
            self.windows
                .count(key, limit, self.begun + Duration::from_secs_f64(seconds))
        }

        fn passed(&self, key: &str, limit: u32, seconds: f64) -> bool {
            matches!(self.at(key, limit, seconds), Verdict::Passed { .. })
        }
    }

    #[test]
    fn the_limit_passes_and_one_more_does_not() {
        let bench = bench(100);
        for n in 0..3_u32 {
            let Verdict::Passed { remaining, reset } = bench.at("a", 3, 0.0) else {
                panic!("refused {n}")
            };
            assert_eq!(remaining, 2 - n);
            assert!(reset > 60 * SECOND && reset <= 120 * SECOND, "{reset:?}");
        }
        let Verdict::Refused { after } = bench.at("a", 3, 0.0) else {
            panic!("passed")
        };
        assert!(after > Duration::ZERO && after <= 120 * SECOND, "{after:?}");
        assert!(bench.passed("b", 3, 0.0), "keys have nothing to do with each other");
    }

    #[test]
    fn what_it_says_about_waiting_is_true() {
        for limit in [1, 2, 5, 50] {
            let bench = bench(100);
            let mut now = 0.0;
            for _ in 0..200 {
                match bench.at("a", limit, now) {
                    Verdict::Passed { .. } => now += 0.1,
                    Verdict::Refused { after } => {
                        let sooner = after.as_secs_f64() - 0.002;
                        assert!(!bench.passed("a", limit, now + sooner), "{limit}: too long at {now}");
                        now += after.as_secs_f64() + 0.001;
                        assert!(bench.passed("a", limit, now), "{limit}: too short at {now}");
                    }
                    Verdict::Uncounted => panic!("uncounted"),
                }
            }
        }
    }

    #[test]
    fn a_window_slides() {
        // Ten minutes of ten a second: the first sixty at once, then one a second on average, wherever its windows begin.
        for _ in 0..50 {
            let bench = self::bench(100);
            let passed = (0..6000)
                .filter(|n| bench.passed("a", 60, f64::from(*n) / 10.0))
                .count();
            assert!((570..=720).contains(&passed), "{passed}");
        }
        // Never more than the limit and its half in any minute.
        let bench = self::bench(100);
        let times: Vec<f64> = (0..6000)
            .map(|n| f64::from(n) / 20.0)
            .filter(|at| bench.passed("a", 60, *at))
            .collect();
        for (first, at) in times.iter().enumerate() {
            let within = times[first..].iter().take_while(|later| **later < at + 60.0).count();
            assert!(within <= 120, "{within} from {at}");
        }
    }

    #[test]
    fn everything_is_forgotten_after_two_windows() {
        let bench = bench(100);
        while bench.passed("a", 5, 0.0) {}
        assert!(!bench.passed("a", 5, 1.0));
        for n in 0..5_u32 {
            let Verdict::Passed { remaining, .. } = bench.at("a", 5, 130.0) else {
                panic!("refused")
            };
            assert_eq!(remaining, 4 - n);
        }
        let held: usize = bench
            .windows
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.lock().unwrap();
                shard.now.len() + shard.before.len()
            })
            .sum();
        assert_eq!(held, 1);
    }

    #[test]
    fn who_comes_beyond_the_keys_is_not_counted_and_nobody_forgotten() {
        let bench = bench(SHARDS);
        assert_eq!(bench.windows.keys_of_a_shard, 1);
        let mut uncounted = 0;
        for n in 0..20_000 {
            uncounted += usize::from(bench.at(&format!("k{n}"), 1, 0.0) == Verdict::Uncounted);
        }
        assert_eq!(20_000 - uncounted, SHARDS);
        let refused = (0..20_000)
            .filter(|n| matches!(bench.at(&format!("k{n}"), 1, 0.0), Verdict::Refused { .. }))
            .count();
        assert_eq!(refused, SHARDS, "who is counted stays counted");
        assert!(bench.passed("later", 1, 125.0), "there is room again");
    }

    #[test]
    fn times_that_go_backwards_and_far_ahead_change_nothing() {
        let bench = bench(10);
        assert!(bench.passed("a", 1, 1e9));
        assert!(!bench.passed("a", 1, 0.0));
        assert!(
            bench.passed("a", 0, 1e9 + 500.0) == bench.passed("a", 0, 0.0),
            "a limit of none"
        );
    }

    /// The cost of one check with a million keys; see the figure with `--nocapture`, in a release build.
    #[test]
    fn a_check_is_cheap_with_a_million_keys() {
        let keys = if cfg!(debug_assertions) { 100_000_u64 } else { 1_000_000 };
        let clock = kronos_actors::clock::Clock::default();
        let windows = Windows::new(60 * SECOND, 2_000_000, clock.instant());
        let round = |at: Instant| {
            let begun = clock.instant();
            let mut slowest = Duration::ZERO;
            for n in 0..keys {
                let before = clock.instant();
                assert!(matches!(windows.count((1_u8, n), 100, at), Verdict::Passed { .. }));
                slowest = slowest.max(before.elapsed());
            }
            (begun.elapsed() / u32::try_from(keys).unwrap(), slowest)
        };
        let start = windows.begun;
        for (name, at) in [
            ("new keys", start),
            ("known keys", start),
            ("next window", start + 60 * SECOND),
        ] {
            let (mean, slowest) = round(at);
            println!("{name}: {keys} keys, {mean:?} a check, slowest {slowest:?}");
        }
    }
}
