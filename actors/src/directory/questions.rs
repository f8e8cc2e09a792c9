//! Questions to people that wait for their answer, of all sessions: also of those that are not in memory.
//!
//! A session writes how many of its own wait in the commit of the events that ask or answer them; at the start the documents
//! of all sessions are read into one table.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use kronos_protocol::ids::SessionId;
use metrics::{Gauge, gauge};
use serde::{Deserialize, Serialize};

use super::DirectoryRef;
use crate::{
    clock::{Clock, Millis},
    metrics as names,
    store::{DocumentWrite, Expect, StoreError},
};

/// Family of the documents; the key is the session.
const FAMILY: &str = "questions";
/// Documents read at once.
const PAGE: usize = 256;

/// The questions of one session that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    /// How many.
    pub(crate) count: u32,
    /// When the oldest was asked.
    pub(crate) since_ms: Millis,
}

/// What changes the document of a session; `None`: nothing waits.
pub(crate) fn write(session: &SessionId, open: Option<Open>) -> DocumentWrite {
    let value = open.and_then(|open| serde_json::to_vec(&open).ok());
    DocumentWrite {
        family: FAMILY,
        key: session.to_string(),
        value: value.map(Bytes::from),
        expect: Expect::Any,
    }
}

/// The table: an entry for each session that has asked something. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Questions(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<SessionId, Open>,
    /// The sessions by the age of their oldest question.
    ages: BTreeSet<(Millis, SessionId)>,
    count: u64,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits for the session's user, as the table has it.
    pub(crate) fn of(&self, session: &SessionId) -> Option<Open> {
        self.lock().open.get(session).copied()
    }

    /// Takes what waits for the session's user now.
    pub(crate) fn set(&self, session: &SessionId, open: Option<Open>) {
        let mut table = self.lock();
        if let Some(before) = table.open.remove(session) {
            table.ages.remove(&(before.since_ms, session.clone()));
            table.count = table.count.saturating_sub(u64::from(before.count));
        }
        if let Some(open) = open {
            table.ages.insert((open.since_ms, session.clone()));
            table.count = table.count.saturating_add(u64::from(open.count));
            table.open.insert(session.clone(), open);
        }
    }

    /// How many wait, and since when the oldest does.
    fn sum(&self) -> (u64, Option<Millis>) {
        let table = self.lock();
        (table.count, table.ages.first().map(|(since, _)| *since))
    }
}

/// The table of the process' directory, and its clock.
static SHOWN: Mutex<Option<(Questions, Clock)>> = Mutex::new(None);

/// Shows what waits: called before each scrape.
pub fn report() {
    static HANDLES: LazyLock<(Gauge, Gauge)> =
        LazyLock::new(|| (gauge!(names::QUESTIONS_WAITING), gauge!(names::QUESTION_OLDEST)));
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some((questions, clock)) = shown else { return };
    let (count, oldest) = questions.sum();
    let age = oldest.map_or(0, |since| clock.now_ms().saturating_sub(since).max(0));
    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    let (count, age) = (count as f64, age as f64 / 1000.0);
    HANDLES.0.set(count);
    HANDLES.1.set(age);
}

impl DirectoryRef {
    /// Reads which questions wait for people; from then on this process' metrics show them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load_questions(&self) -> Result<usize, StoreError> {
        let (mut after, mut count): (Option<String>, _) = (None, 0);
        loop {
            let page = self.node.store.documents(FAMILY, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                if let (Ok(session), Ok(open)) = (SessionId::try_from(key), serde_json::from_slice::<Open>(&value)) {
                    self.node.questions.set(&session, Some(open));
                    count += 1;
                }
            }
        }
        let shown = (self.node.questions.clone(), self.node.clock.clone());
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_how_many_wait_and_since_when() {
        let questions = Questions::default();
        let session = |name: &str| SessionId::try_from(name.to_owned()).unwrap();
        let open = |count, since_ms| Some(Open { count, since_ms });
        assert_eq!(questions.sum(), (0, None));
        questions.set(&session("a"), open(2, 50));
        questions.set(&session("b"), open(1, 40));
        assert_eq!(questions.sum(), (3, Some(40)));
        questions.set(&session("b"), open(3, 60));
        assert_eq!(questions.sum(), (5, Some(50)));
        questions.set(&session("a"), None);
        questions.set(&session("c"), None);
        assert_eq!(questions.sum(), (3, Some(60)));
        assert_eq!(questions.of(&session("b")), open(3, 60));
    }
}
