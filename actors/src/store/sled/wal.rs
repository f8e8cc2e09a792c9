//! Files of write-ahead batches beside sled's: a commit that only appends is one write and one sync, and costs sled nothing.
//!
//! A file `wal-<number>` begins with a header and holds frames, one for each batch, up to zeros or its end. It is made as
//! large as it will be, so that a sync has no metadata to write, and removed as a whole when no session needs any of its
//! batches. Each frame names the frame before it, so a missing one is noticed.
//!
//! What the last file ends with may be torn: a process died in the middle of a commit that nobody was told of. That is cut off
//! at opening. Anything else that does not read is damage: a bad frame with good ones after it, or an end before what the
//! caller knows to be durable.
//!
//! Owns these files. Knows nothing of sessions.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::disk::{Disk, failed};
use crate::store::StoreError;

const PREFIX: &str = "wal-";
const NEW: &str = "wal.new";
const MAGIC: &[u8; 8] = b"kronoswl";
const VERSION: u32 = 1;
/// Magic, version, number of the file, number of the last frame before it, number of the file before it, crc32 of these.
const HEADER: usize = 40;
/// Length of the body, number, number of the frame before, crc32 of these and the body.
const FRAME: usize = 24;
const ZEROS: usize = 256 * 1024;
/// Commits that may lie between two frames, those that are rows of sled.
const MOST_BETWEEN: u64 = 1 << 40;

/// Where a batch lies.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: Arc<WalFile>,
    at: u64,
    length: usize,
}

#[derive(Debug)]
struct WalFile {
    /// The number of its first frame, which its name tells too.
    first: u64,
    file: File,
}

impl WalFile {
    fn damaged(&self, at: u64, what: &str) -> StoreError {
        StoreError::Corrupt {
            at: format!("byte {at} of the file \"{}\"", name(self.first)),
            what: what.to_owned(),
        }
    }
}

impl Place {
    /// The number that tells its file from others.
    pub(super) fn file(&self) -> u64 {
        self.file.first
    }

    /// Reads the body of the batch `number`; it can be read also after its file was removed.
    pub(super) fn read(&self, number: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; FRAME + self.length];
        self.file.file.read_exact_at(&mut bytes, self.at).map_err(failed)?;
        match Frame::read(&bytes) {
            Some(frame) if frame.number == number => Ok(bytes.split_off(FRAME)),
            _ => Err(self.file.damaged(self.at, "a batch fails its checksum")),
        }
    }
}

/// One frame as it is found.
struct Frame {
    number: u64,
    before: u64,
    /// Length of its body.
    length: usize,
}

impl Frame {
    /// Reads the frame at the front of `bytes`, if there is a whole one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (before, rest) = rest.split_first_chunk::<8>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let body = rest.get(..u32::from_be_bytes(*length) as usize)?;
        let frame = Self {
            number: u64::from_be_bytes(*number),
            before: u64::from_be_bytes(*before),
            length: body.len(),
        };
        // Numbers first: they refuse almost everything without a look at the body.
        let plausible = (1..MOST_BETWEEN).contains(&frame.number.wrapping_sub(frame.before));
        (plausible && frame.checksum(body).to_be_bytes() == *checksum).then_some(frame)
    }

    /// Whether there is a whole frame anywhere in `bytes`.
    fn anywhere(bytes: &[u8]) -> bool {
        (0..bytes.len()).any(|from| bytes.get(from..).and_then(Self::read).is_some())
    }

    fn checksum(&self, body: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&(self.length as u64).to_be_bytes());
        hasher.update(&self.number.to_be_bytes());
        hasher.update(&self.before.to_be_bytes());
        hasher.update(body);
        hasher.finalize()
    }

    fn write(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(FRAME + body.len());
        bytes.extend(u32::try_from(self.length).ok()?.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.before.to_be_bytes());
        bytes.extend(self.checksum(body).to_be_bytes());
        bytes.extend_from_slice(body);
        Some(bytes)
    }
}

fn name(first: u64) -> String {
    format!("{PREFIX}{first:020}")
}

fn header(first: u64, before: u64, previous: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_be_bytes());
    for number in [first, before, previous] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// The file that is written to.
#[derive(Debug)]
struct Current {
    file: Arc<WalFile>,
    position: u64,
    size: u64,
}

/// What is found at opening.
pub(super) struct Found {
    pub(super) wal: Wal,
    /// All whole frames, ascending.
    pub(super) batches: Vec<(u64, Place)>,
    /// All files, each by the number that it begins with.
    pub(super) files: Vec<u64>,
    /// The last commit of which is known from a frame or file after it that it is none of the frames: it is in sled.
    pub(super) elsewhere: u64,
    /// The last file and where it ends, to be cut once everything has been checked.
    end: Option<(Arc<WalFile>, u64)>,
}

/// The files.
#[derive(Debug)]
pub(super) struct Wal {
    folder: PathBuf,
    file_bytes: u64,
    current: Option<Current>,
    /// The number of the last frame; 0 without any.
    last: u64,
    /// The number of the last file; 0 without any.
    newest: u64,
    /// Bytes at the position that a failed commit may have left.
    torn: usize,
    /// No file could be made when one was needed.
    stuck: bool,
}

impl Wal {
    /// Reads the files of `folder`.
    pub(super) fn open(folder: &Path, file_bytes: u64) -> Result<Found, StoreError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).map(str::parse);
            match number {
                None => {}
                Some(Ok(number)) => numbers.push(number),
                Some(Err(_)) => {
                    return Err(StoreError::Corrupt {
                        at: format!("the file {name:?}"),
                        what: "its name has no number".to_owned(),
                    });
                }
            }
        }
        numbers.sort_unstable();
        let mut found = Found {
            wal: Self {
                folder: folder.to_owned(),
                file_bytes,
                current: None,
                last: 0,
                newest: 0,
                torn: 0,
                stuck: false,
            },
            batches: Vec::new(),
            files: Vec::new(),
            elsewhere: 0,
            end: None,
        };
        let newest = numbers.last().copied();
        for number in numbers {
            found.read(number, Some(number) == newest)?;
        }
        Ok(found)
    }

    /// The number of the last frame that is durable; 0 before the first.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Writes and syncs one batch. When that fails, [`Wal::mend`] takes back what may have been written.
    pub(super) fn append(&mut self, disk: &Disk, number: u64, body: &[u8]) -> Result<Place, StoreError> {
        let frame = Frame {
            number,
            before: self.last,
            length: body.len(),
        };
        let too_large = || StoreError::Io(format!("a batch of {} bytes is too large", body.len()));
        let bytes = frame.write(body).ok_or_else(too_large)?;
        let length = bytes.len() as u64;
        if self
            .current
            .as_ref()
            .is_none_or(|current| current.position + length > current.size)
        {
            self.begin_file(disk, number, length)?;
        }
        let Some(current) = &mut self.current else {
            return Err(StoreError::Io("there is no file to write to".to_owned()));
        };
        self.torn = bytes.len();
        disk.write(&current.file.file, &bytes).map_err(failed)?;
        disk.sync(&current.file.file).map_err(failed)?;
        self.torn = 0;
        let place = Place {
            file: Arc::clone(&current.file),
            at: current.position,
            length: body.len(),
        };
        current.position += length;
        self.last = number;
        Ok(place)
    }

    /// Makes sure that the next batch can be written, as far as it is known that the last one could not.
    pub(super) fn mend(&mut self, disk: &Disk) -> Result<(), StoreError> {
        if let Some(current) = self.current.as_ref().filter(|_| self.torn > 0) {
            let mut file = &current.file.file;
            let mut zero = |mut left: usize| {
                file.seek(SeekFrom::Start(current.position))?;
                while left > 0 {
                    let some = left.min(ZEROS);
                    disk.write(file, &vec![0; some])?;
                    left -= some;
                }
                disk.sync(file)?;
                file.seek(SeekFrom::Start(current.position))
            };
            zero(self.torn).map_err(failed)?;
            self.torn = 0;
        }
        Ok(())
    }

    /// Makes a file if the last attempt failed.
    pub(super) fn probe(&mut self, disk: &Disk, number: u64) -> Result<(), StoreError> {
        if self.stuck {
            self.begin_file(disk, number, 0)?;
        }
        Ok(())
    }

    /// Makes a file of full size for frames from `first` on, and goes on in it.
    fn begin_file(&mut self, disk: &Disk, first: u64, room: u64) -> Result<(), StoreError> {
        self.stuck = true;
        let size = self.file_bytes.max(HEADER as u64 + room);
        let (new, path) = (self.folder.join(NEW), self.folder.join(name(first)));
        let make = || {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&new)?;
            disk.write(&file, &header(first, self.last, self.newest))?;
            let mut left = usize::try_from(size).map_err(io::Error::other)? - HEADER;
            let zeros = vec![0; ZEROS.min(left)];
            while left > 0 {
                let some = left.min(ZEROS);
                disk.write(&file, zeros.get(..some).unwrap_or_default())?;
                left -= some;
            }
            disk.sync(&file)?;
            fs::rename(&new, &path)?;
            file.seek(SeekFrom::Start(HEADER as u64))?;
            Ok(file)
        };
        let file = make()
            .inspect_err(|_| drop(fs::remove_file(&new)))
            .map_err(|error: io::Error| failed(error))?;
        disk.sync_folders()?;
        self.newest = first;
        self.current = Some(Current {
            file: Arc::new(WalFile { first, file }),
            position: HEADER as u64,
            size,
        });
        self.stuck = false;
        Ok(())
    }

    /// Removes the file that begins with `first`, durably.
    pub(super) fn remove(&self, disk: &Disk, first: u64) -> Result<(), StoreError> {
        match fs::remove_file(self.folder.join(name(first))) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        disk.sync_folders()
    }
}

impl Found {
    fn read(&mut self, first: u64, newest: bool) -> Result<(), StoreError> {
        let path = self.wal.folder.join(name(first));
        let bytes = fs::read(&path).map_err(failed)?;
        let open = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let file = Arc::new(WalFile { first, file: open });
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let numbers = number(20).zip(number(28));
        let (before, previous) = numbers
            .filter(|(before, previous)| bytes.starts_with(&header(first, *before, *previous)))
            .ok_or_else(|| file.damaged(0, "its header cannot be read"))?;
        // A file between the two may have been removed, but not the end of the one before it.
        let gap = previous == self.wal.newest && before != self.wal.last && self.wal.newest != 0;
        if gap || before < self.wal.last {
            return Err(file.damaged(0, "batches before it are missing"));
        }
        self.wal.last = before;
        self.wal.newest = first;
        self.files.push(first);
        self.noticed(first);
        let mut at = HEADER;
        while let Some(frame) = bytes.get(at..).and_then(Frame::read) {
            if frame.before != self.wal.last {
                return Err(file.damaged(at as u64, "a batch before it is missing"));
            }
            self.noticed(frame.number);
            self.wal.last = frame.number;
            let place = Place {
                file: Arc::clone(&file),
                at: at as u64,
                length: frame.length,
            };
            self.batches.push((frame.number, place));
            at += FRAME + frame.length;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let clean = rest.iter().all(|byte| *byte == 0);
        if !clean && (!newest || Frame::anywhere(rest)) {
            return Err(file.damaged(at as u64, "a batch fails its checksum"));
        }
        self.end = Some((file, at as u64));
        Ok(())
    }

    /// Notes what the commit `number` tells about the one before it.
    fn noticed(&mut self, number: u64) {
        if number > self.wal.last + 1 {
            self.elsewhere = number - 1;
        }
    }

    /// Cuts off what nobody was told of, once it is known that nothing else is missing.
    pub(super) fn cut(self, disk: &Disk) -> Result<Wal, StoreError> {
        if let Some((file, end)) = &self.end {
            let longer = file.file.metadata().map_err(failed)?.len() > *end;
            if longer {
                file.file.set_len(*end).map_err(failed)?;
                disk.sync(&file.file).map_err(failed)?;
            }
        }
        drop(fs::remove_file(self.wal.folder.join(NEW)));
        Ok(self.wal)
    }
}
