//! The store's folder: the marker of its format, syncing, and what to do after a sync failed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::value::SEGMENT_BYTES;
use crate::store::StoreError;

/// The version that this build writes, and the newest that it reads.
///
/// 1: the first. 2: a record in a segment may stand for several events; write-ahead batches lie in files of their own, too.
/// 3: segments are deflated with a dictionary.
pub(super) const SCHEMA_VERSION: u32 = 3;
/// The oldest version that this build reads.
const OLDEST_VERSION: u32 = 1;

/// Tells the version outside sled's file: a newer one is recognised before sled touches it, and an emptied file is not
/// taken for a new store.
const MARKER: &str = "format";
const MARKER_TEXT: &str = "kronos store";
const DATA: &str = "db";
const PROBE: &str = "probe";
/// How long a closed store may stay locked, in steps of [`UNLOCK_STEP`].
const UNLOCK_STEPS: u32 = 5_000;
const UNLOCK_STEP: Duration = Duration::from_millis(1);

/// Makes what was written to the file durable; tests replace it to let a disk fail.
pub type SyncFile = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;
/// Writes all of the bytes at the position of the file; tests replace it to let a disk fail.
pub type WriteFile = Arc<dyn Fn(&File, &[u8]) -> io::Result<()> + Send + Sync>;

/// How the store writes its own files and syncs all of them; sled writes its file itself.
#[derive(Clone)]
pub struct Medium {
    /// Writes.
    pub write: WriteFile,
    /// Syncs.
    pub sync: SyncFile,
    /// Bytes of one file of write-ahead batches. Default 4 MiB.
    pub wal_bytes: u64,
}

impl Default for Medium {
    fn default() -> Self {
        Self {
            write: Arc::new(|mut file, bytes| file.write_all(bytes)),
            sync: Arc::new(File::sync_data),
            wal_bytes: 4 * 1024 * 1024,
        }
    }
}

/// The folder of one store.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    medium: Medium,
}

impl Disk {
    pub(super) fn new(path: &Path, medium: Medium) -> Self {
        Self {
            path: path.to_owned(),
            medium,
        }
    }

    pub(super) fn wal_bytes(&self) -> u64 {
        self.medium.wal_bytes
    }

    pub(super) fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        (self.medium.write)(file, bytes)
    }

    /// Makes the folder if there is none; returns the version of the store that it holds, and refuses a newer one.
    pub(super) fn prepare(&self) -> Result<Option<u32>, StoreError> {
        fs::create_dir_all(&self.path).map_err(failed)?;
        let text = match fs::read_to_string(self.path.join(MARKER)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged_marker()),
            Err(error) => return Err(failed(error)),
        };
        let version = text
            .trim()
            .strip_prefix(MARKER_TEXT)
            .and_then(|version| version.trim().parse().ok());
        check_version(version.ok_or_else(damaged_marker)?).map(Some)
    }

    /// Writes the marker, durably. Call it after the store itself is durable.
    pub(super) fn mark(&self) -> Result<(), StoreError> {
        let temporary = self.path.join("format.new");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(format!("{MARKER_TEXT} {SCHEMA_VERSION}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, self.path.join(MARKER))
        };
        write().map_err(failed)?;
        self.sync_folders()
    }

    /// Syncs the entries of the folder and of its parent.
    pub(super) fn sync_folders(&self) -> Result<(), StoreError> {
        let parent = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        for folder in [self.path.join("blobs").as_path(), &self.path, parent] {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Opens sled's file for [`Disk::sync`].
    pub(super) fn data(&self) -> Result<File, StoreError> {
        File::open(self.path.join(DATA)).map_err(failed)
    }

    /// Makes what was written to a file durable.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        (self.medium.sync)(file)
    }

    /// Waits until sled has let go of its lock, which its threads may hold a little longer than the store; tells whether it has.
    pub(super) fn unlocked(&self) -> bool {
        let free = || {
            // Another descriptor than sled's, so another holder of the lock; closing it unlocks again.
            File::open(self.path.join(DATA)).is_ok_and(|file| file.try_lock().is_ok())
        };
        (0..UNLOCK_STEPS).any(|_| {
            free() || {
                std::thread::sleep(UNLOCK_STEP);
                false
            }
        })
    }

    /// Writes and syncs a small file, to see whether the disk takes anything at all.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        let path = self.path.join(PROBE);
        let write = || {
            let file = File::create(&path)?;
            self.write(&file, &vec![0; 2 * SEGMENT_BYTES])?;
            self.sync(&file)
        };
        let written = write();
        // A probe that cannot be removed is in nobody's way: the next one replaces it.
        drop(fs::remove_file(&path));
        written.map_err(failed)
    }

    /// Writes every byte of the file again and syncs it. Only while sled does not have it open.
    ///
    /// A failed sync may leave pages that read well from the cache and count as written, but are not on the disk
    /// (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020): a later sync that succeeds says
    /// nothing about them. Written again they are dirty again.
    pub(super) fn rewrite(&self) -> Result<(), StoreError> {
        let rewrite = || {
            let mut file = OpenOptions::new().read(true).write(true).open(self.path.join(DATA))?;
            let mut buffer = vec![0; SEGMENT_BYTES];
            let mut position = 0;
            loop {
                file.seek(SeekFrom::Start(position))?;
                let read = file.read(&mut buffer)?;
                let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                    break;
                };
                file.seek(SeekFrom::Start(position))?;
                self.write(&file, bytes)?;
                position += read as u64;
            }
            self.sync(&file)
        };
        rewrite().map_err(failed)
    }

    /// Bytes of all files in the folder.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        fn size(folder: &Path) -> io::Result<u64> {
            fs::read_dir(folder)?.try_fold(0, |sum, entry| {
                let entry = entry?;
                let metadata = entry.metadata()?;
                Ok(sum
                    + if metadata.is_dir() {
                        size(&entry.path())?
                    } else {
                        metadata.len()
                    })
            })
        }
        size(&self.path).ok()
    }
}

/// Refuses a version that this build does not read.
pub(super) fn check_version(found: u32) -> Result<u32, StoreError> {
    match found {
        OLDEST_VERSION..=SCHEMA_VERSION => Ok(found),
        newer if newer > SCHEMA_VERSION => Err(StoreError::Newer {
            found,
            supported: SCHEMA_VERSION,
        }),
        _ => Err(StoreError::Corrupt {
            at: "schema version".to_owned(),
            what: "no such version".to_owned(),
        }),
    }
}

/// Whether a disk refused the bytes before it took any: nothing was lost that had been written.
pub(super) fn refused_early(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

fn damaged_marker() -> StoreError {
    StoreError::Corrupt {
        at: "the file \"format\"".to_owned(),
        what: "not the marker of a store".to_owned(),
    }
}

pub(super) fn failed(error: io::Error) -> StoreError {
    StoreError::Io(error.to_string())
}
