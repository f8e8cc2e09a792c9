//! What a commit costs: the embedded store against a bare loop of write and fdatasync beside it.
//!
//! `cargo bench -p kronos-actors --bench commit` prints, for groups of several sizes, commits a second and the CPU time
//! that all threads of the process spend on one, then how long a large store takes to open. Rounds are interleaved; each
//! figure is the median of the rounds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use kronos_actors::{
    clock::Clock,
    store::{Append, Pack, Record, Request, SessionMeta, SessionStore, sled::SledStore},
};
use kronos_protocol::ids::{EpochId, SessionId, UserId};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 7;
const RECORD_BYTES: usize = 200;
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Requests of one group, and how many of them one round commits.
const GROUPS: [(usize, u64); 4] = [(1, 400), (8, 400), (64, 200), (512, 60)];
/// Sessions of the store that is opened, and how many of them have unfinished work.
const SESSIONS: usize = 100_000;
const UNFINISHED: usize = 50;

/// What one round took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// CPU time of all living threads of this process.
fn cpu() -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end while it is asked.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn measured(mut work: impl FnMut() -> Result<()>) -> Result<Cost> {
    let clock = Clock::default();
    let (start, before) = (clock.instant(), cpu()?);
    work()?;
    Ok(Cost {
        wall: start.elapsed(),
        cpu: cpu()?.saturating_sub(before),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The yardstick: what any store must at least do.
struct Raw {
    file: File,
    position: u64,
}

impl Raw {
    const BYTES: u64 = 256 * 1024 * 1024;

    fn new(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..Self::BYTES / (1024 * 1024) {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self { file, position: 0 })
    }

    fn commit(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.position + bytes.len() as u64 > Self::BYTES {
            self.position = 0;
        }
        self.file.seek(SeekFrom::Start(self.position))?;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn session(number: usize) -> Result<SessionId> {
    Ok(SessionId::try_from(format!("0192f1c4-6f1e-7000-8000-{number:012}"))?)
}

fn record(seq: u64) -> Record {
    Record::new(seq, Bytes::from(vec![b'x'; RECORD_BYTES]))
}

fn meta(number: usize) -> Result<SessionMeta> {
    Ok(SessionMeta {
        session: session(number)?,
        owner: UserId::try_from(format!("user-{}", number % 1_000))?,
        epoch: EpochId::try_from("e_1")?,
        title: Some("A conversation about the sea".to_owned()),
        settings: "{}".to_owned(),
        listed: true,
        created_at_ms: 1,
        updated_at_ms: i64::try_from(number)?,
        message_count: 2,
        preview: Some("The sea is large".to_owned()),
        relaxed_run: false,
    })
}

fn commit(store: &SledStore, group: &[Request]) -> Result<()> {
    for result in store.commit(group)? {
        result?;
    }
    Ok(())
}

/// Sessions `0..size`, each of which gets one record a commit, and is packed after each round.
struct Writers {
    store: SledStore,
    size: usize,
    last: u64,
    packed: u64,
}

impl Writers {
    fn new(folder: &Path, size: usize) -> Result<Self> {
        let store = SledStore::open(folder, CACHE_BYTES)?;
        let made = (0..size).map(|number| {
            Ok(Request {
                meta: Some(meta(number)?),
                ..Request::default()
            })
        });
        commit(&store, &made.collect::<Result<Vec<_>>>()?)?;
        Ok(Self {
            store,
            size,
            last: 0,
            packed: 0,
        })
    }

    /// With `rows`, each commit also marks a session, so that it goes through sled.
    fn round(&mut self, commits: u64, rows: bool) -> Result<Cost> {
        let mut groups = Vec::new();
        for seq in self.last + 1..=self.last + commits {
            let append = |number| {
                Ok(Request {
                    unfinished: (rows && number == 0).then_some(true),
                    append: Some(Append {
                        session: session(number)?,
                        records: vec![record(seq)],
                    }),
                    ..Request::default()
                })
            };
            groups.push((0..self.size).map(append).collect::<Result<Vec<_>>>()?);
        }
        let cost = measured(|| groups.iter().try_for_each(|group| commit(&self.store, group)))?;
        self.last += commits;
        self.pack()?;
        Ok(cost)
    }

    fn pack(&mut self) -> Result<()> {
        for number in 0..self.size {
            let pack = Pack {
                session: session(number)?,
                records: (self.packed + 1..=self.last).map(record).collect(),
            };
            let request = Request {
                pack: Some(pack),
                ..Request::default()
            };
            commit(&self.store, &[request])?;
        }
        self.packed = self.last;
        Ok(())
    }
}

fn per(cost: Cost, commits: u64) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let commits = commits as f64;
    (
        commits / cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64() * 1e6 / commits,
    )
}

#[expect(clippy::print_stdout, reason = "the output of the program")]
fn commits(folder: &Path) -> Result<()> {
    println!("CPU in microseconds; rows: commits that do more than append, which sled writes");
    println!(
        "| requests | commits/s raw | append | rows | CPU a commit raw | append | rows | append/raw | append a record |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut raw = Raw::new(&folder.join("raw"))?;
    for (size, commits) in GROUPS {
        let mut writers = Writers::new(&folder.join(format!("store-{size}")), size)?;
        let bytes = vec![b'x'; size * RECORD_BYTES];
        let (mut bare, mut stored, mut with_rows) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let cost = measured(|| Ok((0..commits).try_for_each(|_| raw.commit(&bytes))?))?;
            bare.push(per(cost, commits));
            stored.push(per(writers.round(commits, false)?, commits));
            with_rows.push(per(writers.round(commits, true)?, commits));
        }
        let speed = |rounds: &[(f64, f64)]| median(rounds.iter().map(|(speed, _)| *speed).collect());
        let cpu = |rounds: &[(f64, f64)]| median(rounds.iter().map(|(_, cpu)| *cpu).collect());
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let records = size as f64;
        println!(
            "| {size} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} |",
            speed(&bare),
            speed(&stored),
            speed(&with_rows),
            cpu(&bare),
            cpu(&stored),
            cpu(&with_rows),
            cpu(&stored) / cpu(&bare),
            cpu(&stored) / records,
        );
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of the program")]
fn opening(folder: &Path) -> Result<()> {
    let store = SledStore::open(folder, CACHE_BYTES)?;
    let new = |number: usize| {
        let session = session(number)?;
        let records: Vec<_> = (1..=2).map(record).collect();
        // The last ones are in the middle of an answer.
        let running = number >= SESSIONS - UNFINISHED;
        Ok(Request {
            meta: Some(meta(number)?),
            append: Some(Append {
                session: session.clone(),
                records: records.clone(),
            }),
            pack: (!running).then_some(Pack { session, records }),
            unfinished: Some(running),
            ..Request::default()
        })
    };
    for group in (0..SESSIONS).collect::<Vec<_>>().chunks(2_000) {
        commit(
            &store,
            &group.iter().map(|number| new(*number)).collect::<Result<Vec<_>>>()?,
        )?;
    }
    drop(store);
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let mut opened = None;
        let cost = measured(|| {
            opened = Some(SledStore::open(folder, CACHE_BYTES)?);
            Ok(())
        })?;
        let found = opened.map(|store| store.unfinished()).transpose()?;
        assert_eq!(found.map(|found| found.len()), Some(UNFINISHED));
        took.push(cost.wall.as_secs_f64());
    }
    println!(
        "\nopening {SESSIONS} sessions, {UNFINISHED} of them unfinished: {:.3} s (median of {ROUNDS}, longest {:.3} s)",
        median(took.clone()),
        took.iter().copied().fold(0.0, f64::max)
    );
    Ok(())
}

fn main() -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-commit");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder)?;
    let measured = commits(&folder).and_then(|()| opening(&folder.join("large")));
    fs::remove_dir_all(&folder)?;
    measured
}
