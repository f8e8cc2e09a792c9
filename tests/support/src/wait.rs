//! Waiting for a condition instead of for a time.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Pause between two looks: short against every limit a test uses, long enough to leave the processor to the server.
const PAUSE: Duration = Duration::from_millis(10);

/// What a condition given to [`eventually`] may return: a `bool`, an `Option` or a `Result`.
pub trait Condition {
    /// What [`eventually`] returns when it holds.
    type Value;

    /// Returns the value when it holds, else why not (empty: no reason to tell).
    ///
    /// # Errors
    /// It does not hold yet.
    fn check(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();

    fn check(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn check(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, E: std::fmt::Debug> Condition for Result<T, E> {
    type Value = T;

    fn check(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Asks `condition` again and again until it holds; returns its value.
///
/// `condition` returns a future of a `bool`, an `Option` or a `Result`; see [`eventually_now`] for one that needs no future.
///
/// # Panics
/// When it does not hold within `limit`: with `what`, and the last reason the condition gave.
pub async fn eventually<C, F>(limit: Duration, what: &str, mut condition: impl FnMut() -> F) -> C::Value
where
    C: Condition,
    F: Future<Output = C>,
{
    let deadline = Instant::now() + limit;
    let mut reason = String::new();
    loop {
        match timeout_at(deadline, condition()).await {
            Ok(answer) => match answer.check() {
                Ok(value) => return value,
                Err(why) => reason = why,
            },
            Err(_) if reason.is_empty() => "the condition itself did not answer".clone_into(&mut reason),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            match reason.as_str() {
                "" => panic!("not within {limit:?}: {what}"),
                reason => panic!("not within {limit:?}: {what} (last: {reason})"),
            }
        }
        sleep(PAUSE).await;
    }
}

/// [`eventually`] for a condition that answers at once.
///
/// # Panics
/// As [`eventually`].
pub async fn eventually_now<C: Condition>(limit: Duration, what: &str, mut condition: impl FnMut() -> C) -> C::Value {
    eventually(limit, what, || std::future::ready(condition())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut asked = 0;
        let value = eventually_now(Duration::from_secs(1), "three", || {
            asked += 1;
            (asked == 3).then_some(asked)
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: the moon (last: \"cheese\")")]
    async fn a_condition_that_never_comes_true_says_what_was_awaited() {
        eventually(Duration::from_secs(1), "the moon", || async { Err::<(), _>("cheese") }).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "did not answer")]
    async fn a_condition_that_hangs_is_cut_off() {
        eventually::<bool, _>(Duration::from_secs(1), "an answer", std::future::pending).await;
    }
}
