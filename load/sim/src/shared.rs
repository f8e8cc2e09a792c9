//! State shared by the handle, the control routes and the Gemini routes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::SimConfig;
use crate::random;
use crate::record::Recorder;
use crate::script::ScriptedReply;

/// Distinct texts whose `[[503x2]]` count is remembered; beyond it all are forgotten.
const MAX_REPEATS: usize = 10_000;

/// Everything that outlives one request.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Mutex<Arc<SimConfig>>,
    script: Mutex<VecDeque<ScriptedReply>>,
    repeats: Mutex<HashMap<u64, u32>>,
    pub(crate) recorder: Arc<Recorder>,
}

impl Shared {
    pub(crate) fn new(config: SimConfig) -> Self {
        Self {
            config: Mutex::new(Arc::new(config)),
            script: Mutex::default(),
            repeats: Mutex::default(),
            recorder: Arc::default(),
        }
    }

    pub(crate) fn config(&self) -> Arc<SimConfig> {
        Arc::clone(&lock(&self.config))
    }

    pub(crate) fn set_config(&self, change: impl FnOnce(&mut SimConfig)) {
        let mut config = lock(&self.config);
        change(Arc::make_mut(&mut config));
    }

    pub(crate) fn push_script(&self, steps: Vec<ScriptedReply>) {
        lock(&self.script).extend(steps);
    }

    pub(crate) fn next_script(&self) -> Option<ScriptedReply> {
        lock(&self.script).pop_front()
    }

    /// Forgets records, script and the counts of repeated faults.
    pub(crate) fn clear(&self) {
        self.recorder.clear();
        lock(&self.script).clear();
        lock(&self.repeats).clear();
    }

    /// Counts one use of a fault that is limited to `times` for this text; says whether it still applies.
    pub(crate) fn still_applies(&self, text: &str, times: u32) -> bool {
        let mut repeats = lock(&self.repeats);
        if repeats.len() >= MAX_REPEATS {
            repeats.clear();
        }
        let used = repeats.entry(random::hash(0, text)).or_insert(0);
        *used = used.saturating_add(1);
        *used <= times
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
