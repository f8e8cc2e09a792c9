//! The group commit: shared flushes, order, bounds, failures, closing.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use kronos_actors::{
    clock::Clock,
    config::{StoreBackend, StoreConfig},
    store::{
        Expect, ListPosition, Record, Refusal, Request, SessionMeta, SessionStore, StoreError, StoredSession,
        memory::MemoryStore,
        service::{self, StoreRef, StoreService},
        sled::SledStore,
    },
};
use kronos_protocol::{
    ids::{SessionId, UserId},
    position::Seq,
};

use crate::{
    faults::Disk,
    fixtures::{
        CACHE_BYTES, append, append_records, delete, document, documents, meta, record, seqs, session, user, with_meta,
    },
};

const LIMIT: Duration = Duration::from_secs(10);

fn start(store: Arc<dyn SessionStore>) -> StoreRef {
    StoreService::start(store, &StoreConfig::default(), Clock::default()).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, future).await.unwrap() })
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Clock::default().instant();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A store in memory whose commits wait at a gate, and may panic or break.
#[derive(Default)]
struct Gated {
    store: MemoryStore,
    closed: Mutex<bool>,
    opened: Condvar,
    entered: AtomicUsize,
    panics: AtomicBool,
    /// How many of the next commits panic past whoever catches panics of a store.
    explodes: AtomicUsize,
    /// Measuring panics so, always.
    explodes_measured: bool,
    /// A request that touches this session is damaged.
    damaged: Option<SessionId>,
}

impl Gated {
    fn shut(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn wait_until_entered(&self, times: usize) {
        eventually("a commit is under way", || self.entered.load(Ordering::SeqCst) >= times);
    }
}

impl SessionStore for Gated {
    fn commit(&self, group: &[Request]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        self.entered.fetch_add(1, Ordering::SeqCst);
        drop(
            self.opened
                .wait_while(self.closed.lock().unwrap(), |closed| *closed)
                .unwrap(),
        );
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to panic");
        let one_less = |left: usize| left.checked_sub(1);
        if self
            .explodes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
        {
            explode();
        }
        let damaged =
            |request: &Request| request.append.as_ref().map(|append| &append.session) == self.damaged.as_ref();
        if self.damaged.is_some() && group.iter().any(damaged) {
            return Err(StoreError::Corrupt {
                at: "here".to_owned(),
                what: "damaged".to_owned(),
            });
        }
        self.store.commit(group)
    }

    fn load(&self, session: &SessionId) -> Result<Option<StoredSession>, StoreError> {
        assert!(session.as_str() != "panic", "told to panic");
        if session.as_str() == "explode" {
            explode();
        }
        self.store.load(session)
    }

    fn read(&self, session: &SessionId, after: Seq, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        self.store.read(session, after, max_bytes)
    }

    fn meta(&self, session: &SessionId) -> Result<Option<SessionMeta>, StoreError> {
        self.store.meta(session)
    }

    fn list(
        &self,
        owner: Option<&UserId>,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<Vec<SessionMeta>, StoreError> {
        self.store.list(owner, after, limit)
    }

    fn oldest(&self, after: Option<&ListPosition>, limit: usize) -> Result<Vec<SessionMeta>, StoreError> {
        self.store.oldest(after, limit)
    }

    fn unfinished(&self) -> Result<Vec<SessionId>, StoreError> {
        self.store.unfinished()
    }

    fn document(&self, family: &'static str, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.store.document(family, key)
    }

    fn documents(
        &self,
        family: &'static str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.store.documents(family, prefix, after, limit)
    }

    fn size_bytes(&self) -> Option<u64> {
        if self.explodes_measured {
            explode();
        }
        Some(42)
    }
}

/// Panics with something that panics again when it is dropped, so that catching it is not the end of it.
fn explode() -> ! {
    struct Again;

    impl Drop for Again {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "told to panic again");
        }
    }

    std::panic::panic_any(Again)
}

/// Submits and returns where the result will come.
fn submit(store: &StoreRef, request: Request) -> mpsc::Receiver<Result<(), StoreError>> {
    let (tell, told) = mpsc::channel();
    store.submit(request, move |result| tell.send(result).unwrap());
    told
}

#[test]
fn requests_that_come_during_a_flush_share_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = start(Arc::new(
        SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()).unwrap(),
    ));
    let before = disk.syncs.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        for writer in 0..32 {
            let store = store.clone();
            scope.spawn(move || {
                let id = format!("w{writer}");
                block_on(store.commit(with_meta(meta(&id, "ann", 1)))).unwrap();
                for seq in 1..=30 {
                    block_on(store.commit(append(&id, seq..=seq))).unwrap();
                }
            });
        }
    });
    let stats = store.stats();
    assert_eq!(stats.requests, 32 * 31);
    assert!(stats.commits * 2 < stats.requests, "{stats:?}");
    // One more for the file of batches.
    assert_eq!(disk.syncs.load(Ordering::SeqCst) - before, stats.commits as usize + 1);
    assert_eq!((stats.failed, stats.pending_bytes, stats.last_error), (0, 0, None));
    assert_eq!(block_on(store.list(Some(&user("ann")), None, 99)).unwrap().len(), 32);
    eventually("the size is known", || {
        store.size_bytes().is_some_and(|bytes| bytes > 0)
    });
}

#[test]
fn results_come_in_order_each_exactly_once() {
    let store = start(Arc::new(MemoryStore::default()));
    let order = Arc::new(Mutex::new(Vec::new()));
    store.submit(with_meta(meta("a", "ann", 1)), |result| result.unwrap());
    for seq in 1..=500 {
        let order = Arc::clone(&order);
        store.submit(append("a", seq..=seq), move |result| {
            result.unwrap();
            order.lock().unwrap().push(seq);
        });
    }
    block_on(store.close());
    assert_eq!(*order.lock().unwrap(), (1..=500).collect::<Vec<_>>());
}

#[test]
fn a_load_waits_for_the_commit_in_flight_and_only_for_its_own_session() {
    let gated = Arc::new(Gated::default());
    let store = start(gated.clone());
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    block_on(store.commit(with_meta(meta("b", "ann", 1)))).unwrap();
    gated.shut();
    let first = submit(&store, append("a", 1..=1));
    gated.wait_until_entered(3);
    let second = submit(&store, append("a", 2..=2));
    assert_eq!(block_on(store.load(&session("b"))).unwrap().unwrap().records, []);
    let loading = std::thread::spawn({
        let store = store.clone();
        move || block_on(store.load(&session("a")))
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!loading.is_finished());
    gated.open();
    assert_eq!(seqs(&loading.join().unwrap().unwrap().unwrap().records), [1, 2]);
    first.recv_timeout(LIMIT).unwrap().unwrap();
    second.recv_timeout(LIMIT).unwrap().unwrap();
}

#[test]
fn too_many_waiting_bytes_are_refused_and_let_go_afterwards() {
    let gated = Arc::new(Gated::default());
    let config = StoreConfig {
        pending_bytes: 3_000,
        ..StoreConfig::default()
    };
    let store = StoreService::start(gated.clone(), &config, Clock::default()).unwrap();
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    gated.shut();
    let large = |seq, bytes| append_records("a", vec![record("a", seq, bytes)]);
    // Alone, one above the bound goes; behind it nothing does.
    let alone = submit(&store, large(1, 5_000));
    gated.wait_until_entered(2);
    assert_eq!(block_on(store.commit(large(2, 10))), Err(StoreError::Overloaded));
    gated.open();
    alone.recv_timeout(LIMIT).unwrap().unwrap();
    gated.shut();
    // Each counts 128 bytes beside its payload: the bound is met exactly by these three.
    let mut fitting: Vec<_> = (2..=3).map(|seq| submit(&store, large(seq, 872))).collect();
    for (bytes, fits) in [(871, true), (872, true), (873, false)] {
        assert_eq!(store.has_room(bytes), fits, "{bytes}");
    }
    assert_eq!(block_on(store.commit(large(4, 873))), Err(StoreError::Overloaded));
    fitting.push(submit(&store, large(4, 872)));
    assert_eq!(store.stats().pending_bytes, 3_000);
    assert!(!store.has_room(0));
    assert_eq!(block_on(store.commit(large(5, 0))), Err(StoreError::Overloaded));
    gated.open();
    for told in fitting {
        told.recv_timeout(LIMIT).unwrap().unwrap();
    }
    block_on(store.commit(large(5, 10))).unwrap();
    eventually("nothing is pending", || store.stats().pending_bytes == 0);
    assert!(store.has_room(1_000_000), "alone, anything goes");
}

#[test]
fn a_bound_less_one_is_taken_too() {
    let gated = Arc::new(Gated::default());
    let config = StoreConfig {
        pending_bytes: 3_000,
        ..StoreConfig::default()
    };
    let store = StoreService::start(gated.clone(), &config, Clock::default()).unwrap();
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    gated.shut();
    let first = submit(&store, append_records("a", vec![record("a", 1, 872)]));
    let second = submit(&store, append_records("a", vec![record("a", 2, 1_871)]));
    assert_eq!(store.stats().pending_bytes, 2_999);
    gated.open();
    first.recv_timeout(LIMIT).unwrap().unwrap();
    second.recv_timeout(LIMIT).unwrap().unwrap();
}

#[test]
fn a_committer_that_panics_answers_what_it_had_and_begins_again() {
    let gated = Arc::new(Gated::default());
    let store = start(gated.clone());
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    for round in 0..3_u64 {
        gated.shut();
        gated.explodes.store(1, Ordering::SeqCst);
        let entered = gated.entered.load(Ordering::SeqCst);
        let first = submit(&store, append("a", round * 2 + 1..=round * 2 + 1));
        gated.wait_until_entered(entered + 1);
        // What was not in its hands is not lost with them.
        let unharmed = submit(&store, documents(vec![document("k", Some("v"), Expect::Any)]));
        let loading = std::thread::spawn({
            let store = store.clone();
            move || block_on(store.load(&session("a")))
        });
        gated.open();
        assert_eq!(first.recv_timeout(LIMIT).unwrap(), Err(StoreError::Closed));
        assert!(first.recv_timeout(LIMIT).is_err(), "answered once");
        unharmed.recv_timeout(LIMIT).unwrap().unwrap();
        let stored = loading.join().unwrap().unwrap().unwrap();
        assert_eq!(stored.records.len() as u64, round * 2);
        eventually("the store is healthy again", || store.healthy());
        block_on(store.commit(append("a", round * 2 + 1..=round * 2 + 2))).unwrap();
    }
    assert_eq!(store.stats().pending_bytes, 0);
    assert!(store.stats().failed >= 3 && store.stats().last_error.is_some());
    block_on(store.close());
}

#[test]
fn a_store_that_always_panics_leaves_nobody_waiting() {
    let gated = Arc::new(Gated {
        explodes: AtomicUsize::new(usize::MAX),
        explodes_measured: true,
        ..Gated::default()
    });
    let store = start(gated.clone());
    for _ in 0..3 {
        assert_eq!(
            block_on(store.commit(with_meta(meta("a", "ann", 1)))),
            Err(StoreError::Closed)
        );
        eventually("not healthy", || !store.healthy());
    }
    assert_eq!(store.stats().pending_bytes, 0);
    let told: Vec<_> = (1..=20).map(|seq| submit(&store, append("a", seq..=seq))).collect();
    block_on(store.close());
    for told in told {
        assert!(told.try_recv().unwrap().is_err());
        assert!(told.try_recv().is_err(), "answered once");
    }
}

#[test]
fn a_failing_store_is_unhealthy_until_it_heals() {
    let gated = Arc::new(Gated::default());
    let store = start(gated.clone());
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    assert!(store.healthy());
    gated.explodes.store(2, Ordering::SeqCst);
    assert_eq!(block_on(store.commit(append("a", 1..=1))), Err(StoreError::Closed));
    eventually("unhealthy", || !store.healthy());
    // Nobody asks for anything.
    eventually("healthy", || store.healthy());
    block_on(store.commit(append("a", 1..=1))).unwrap();
}

#[test]
fn readers_that_panic_are_replaced() {
    let gated = Arc::new(Gated::default());
    let config = StoreConfig {
        readers: 2,
        ..StoreConfig::default()
    };
    let store = StoreService::start(gated, &config, Clock::default()).unwrap();
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    for _ in 0..6 {
        assert_eq!(block_on(store.load(&session("explode"))), Err(StoreError::Closed));
    }
    for _ in 0..20 {
        assert!(block_on(store.load(&session("a"))).unwrap().is_some());
    }
    block_on(store.close());
}

#[test]
fn a_session_is_made_again_in_the_group_after_its_deletion() {
    let gated = Arc::new(Gated::default());
    let store = start(gated.clone());
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    gated.shut();
    let first = submit(&store, append("a", 1..=1));
    gated.wait_until_entered(2);
    let rest = [
        append("a", 2..=2),
        delete("a"),
        documents(vec![document("k", Some("v"), Expect::Any)]),
        Request {
            meta: Some(meta("a", "ann", 2)),
            ..append("a", 1..=1)
        },
        append("a", 2..=2),
    ];
    let told: Vec<_> = rest.into_iter().map(|request| submit(&store, request)).collect();
    gated.open();
    for told in std::iter::once(first).chain(told) {
        told.recv_timeout(LIMIT).unwrap().unwrap();
    }
    assert_eq!(gated.entered.load(Ordering::SeqCst), 2 + 2);
    assert_eq!(
        seqs(&block_on(store.load(&session("a"))).unwrap().unwrap().records),
        [1, 2]
    );
    assert_eq!(block_on(store.oldest(None, 9)).unwrap().len(), 1);
}

#[test]
fn a_group_has_bounds() {
    let gated = Arc::new(Gated::default());
    let store = start(gated.clone());
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    gated.shut();
    let mut told = vec![submit(&store, append("a", 1..=1))];
    gated.wait_until_entered(2);
    // 9 MiB: two groups. Then 5,000 small ones: two groups.
    told.extend((2..=10).map(|seq| submit(&store, append_records("a", vec![record("a", seq, 1024 * 1024)]))));
    told.extend((11..=5_010).map(|seq| submit(&store, append("a", seq..=seq))));
    gated.open();
    for told in told {
        told.recv_timeout(LIMIT).unwrap().unwrap();
    }
    assert_eq!(gated.entered.load(Ordering::SeqCst), 2 + 1 + 2);
}

#[test]
fn a_failed_disk_fails_its_requests_and_comes_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = start(Arc::new(
        SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()).unwrap(),
    ));
    block_on(store.commit(Request {
        meta: Some(meta("a", "ann", 1)),
        ..append("a", 1..=1)
    }))
    .unwrap();
    assert!(store.healthy());
    disk.set_broken(true);
    for _ in 0..3 {
        assert!(matches!(
            block_on(store.commit(append("a", 2..=2))),
            Err(StoreError::Io(_))
        ));
        assert!(!store.healthy());
    }
    // What is durable is served meanwhile.
    assert_eq!(
        seqs(&block_on(store.load(&session("a"))).unwrap().unwrap().records),
        [1]
    );
    assert!(store.stats().failed >= 3 && store.stats().last_error.is_some());
    disk.set_broken(false);
    // Nobody asks for anything.
    eventually("the store is healthy again", || store.healthy());
    assert_eq!(
        seqs(&block_on(store.load(&session("a"))).unwrap().unwrap().records),
        [1]
    );
    block_on(store.commit(append("a", 2..=2))).unwrap();
}

#[test]
fn a_panic_of_backend_or_callback_stops_nothing() {
    let gated = Arc::new(Gated::default());
    let store = start(gated.clone());
    block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
    gated.panics.store(true, Ordering::SeqCst);
    assert!(matches!(
        block_on(store.commit(append("a", 1..=1))),
        Err(StoreError::Io(_))
    ));
    store.submit(append("a", 1..=1), |_| panic!("a callback"));
    block_on(store.commit(append("a", 2..=2))).unwrap();
    assert!(store.healthy());
    assert!(matches!(
        block_on(store.load(&session("panic"))),
        Err(StoreError::Io(_))
    ));
    for _ in 0..20 {
        assert_eq!(block_on(store.load(&session("a"))).unwrap().unwrap().records.len(), 2);
    }
}

#[test]
fn one_damaged_session_is_nobody_elses_problem() {
    let gated = Arc::new(Gated {
        damaged: Some(session("bad")),
        ..Gated::default()
    });
    let store = start(gated.clone());
    for id in ["a", "bad"] {
        block_on(store.commit(with_meta(meta(id, "ann", 1)))).unwrap();
    }
    gated.shut();
    let first = submit(&store, append("a", 1..=1));
    gated.wait_until_entered(3);
    let (damaged, refused) = (submit(&store, append("bad", 1..=1)), submit(&store, append("a", 7..=7)));
    let good = submit(&store, append("a", 2..=2));
    gated.open();
    first.recv_timeout(LIMIT).unwrap().unwrap();
    assert!(matches!(
        damaged.recv_timeout(LIMIT).unwrap(),
        Err(StoreError::Corrupt { .. })
    ));
    assert!(matches!(
        refused.recv_timeout(LIMIT).unwrap(),
        Err(StoreError::Refused(Refusal::OutOfOrder { .. }))
    ));
    good.recv_timeout(LIMIT).unwrap().unwrap();
    assert!(store.healthy());
}

#[test]
fn closing_finishes_what_was_submitted_and_unlocks_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        backend: StoreBackend::Sled(folder.path().to_owned()),
        ..StoreConfig::default()
    };
    for round in 0..3_u64 {
        let store = StoreService::start(service::open(&config).unwrap(), &config, Clock::default()).unwrap();
        if round == 0 {
            block_on(store.commit(with_meta(meta("a", "ann", 1)))).unwrap();
        }
        let told: Vec<_> = (1..=50)
            .map(|n| submit(&store, append("a", round * 50 + n..=round * 50 + n)))
            .collect();
        assert!(matches!(service::open(&config), Err(StoreError::Locked { .. })));
        block_on(store.close());
        for told in told {
            told.try_recv().unwrap().unwrap();
        }
        assert_eq!(block_on(store.commit(append("a", 1..=1))), Err(StoreError::Closed));
        assert_eq!(block_on(store.load(&session("a"))), Err(StoreError::Closed));
        assert!(!store.healthy());
        block_on(store.close());
    }
    // Without closing, the last handle does it.
    let store = StoreService::start(service::open(&config).unwrap(), &config, Clock::default()).unwrap();
    assert_eq!(block_on(store.load(&session("a"))).unwrap().unwrap().records.len(), 150);
    let told = submit(&store, append("a", 151..=151));
    drop(store);
    told.recv_timeout(LIMIT).unwrap().unwrap();
    eventually("the store is unlocked", || service::open(&config).is_ok());
}

#[test]
fn every_read_goes_through() {
    let config = StoreConfig {
        backend: StoreBackend::Memory,
        readers: 1,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&config).unwrap(), &config, Clock::default()).unwrap();
    block_on(async {
        let request = Request {
            unfinished: Some(true),
            meta: Some(meta("a", "ann", 1)),
            ..append("a", 1..=3)
        };
        store.commit(request).await.unwrap();
        store
            .commit(documents(vec![document("k", Some("v"), Expect::Any)]))
            .await
            .unwrap();
        assert_eq!(seqs(&store.read(&session("a"), 1, 40).await.unwrap()), [2]);
        assert_eq!(store.meta(&session("a")).await.unwrap(), Some(meta("a", "ann", 1)));
        let after = ListPosition {
            updated_at_ms: 2,
            session: session("z"),
        };
        assert_eq!(store.list(None, Some(&after), 9).await.unwrap().len(), 1);
        assert_eq!(store.unfinished().await.unwrap(), [session("a")]);
        assert_eq!(store.document("user", "k").await.unwrap().unwrap(), "v");
        assert_eq!(store.documents("user", "k", None, 9).await.unwrap().len(), 1);
        assert_eq!(store.size_bytes(), None);
        let refused = store.commit(append("a", 9..=9)).await;
        assert!(matches!(
            refused,
            Err(StoreError::Refused(Refusal::OutOfOrder {
                expected: 4,
                got: 9,
                ..
            }))
        ));
    });
}

#[test]
fn what_fails_is_counted_and_what_is_slow_is_timed() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .unwrap();
    let gated = Arc::new(Gated::default());
    let store = start(gated.clone());
    block_on(store.commit(documents(vec![document("k", Some("v"), Expect::Any)]))).unwrap();
    block_on(store.load(&session("a"))).unwrap();
    block_on(store.load(&session("panic"))).unwrap_err();
    gated.panics.store(true, Ordering::SeqCst);
    block_on(store.commit(documents(vec![document("k", Some("w"), Expect::Any)]))).unwrap_err();
    block_on(store.close());
    let shown = recorder.render();
    for series in [
        "kronos_store_read_duration_seconds_count 2",
        "kronos_store_read_errors_total 1",
        "kronos_store_commit_errors_total 1",
        "kronos_store_commit_bytes_count 2",
    ] {
        assert!(shown.lines().any(|line| line == series), "{series}: {shown}");
    }
}
