//! The pure core against a slow, obvious model: random commands, a crash at any point, injected failures under virtual time,
//! and every promise checked after each step.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod device;
#[cfg(test)]
mod glue;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod session;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod world;

#[cfg(test)]
fn number(name: &str) -> Option<u64> {
    std::env::var_os(name).and_then(|value| value.to_str()?.parse().ok())
}

/// The first seed: `KRONOS_SEED`, or a fixed one, so that a run on a change fails because of the change.
#[cfg(test)]
fn seed(fixed: u64) -> u64 {
    number("KRONOS_SEED").unwrap_or(fixed)
}

/// How many cases: `KRONOS_CASES`.
#[cfg(test)]
fn cases(default: u64) -> u64 {
    number("KRONOS_CASES").unwrap_or(default)
}

/// Runs `case` for `count` seeds from `first` on, on all processors; the first panic ends it.
#[cfg(test)]
fn in_parallel(first: u64, count: u64, case: impl Fn(u64) + Sync) {
    use std::sync::atomic::{AtomicU64, Ordering};
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let seed = first.wrapping_add(number);
            let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(seed)));
            if let Err(panic) = tried {
                next.store(count, Ordering::Relaxed);
                std::panic::resume_unwind(panic);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        work();
        for other in others {
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
