//! The number of the last commit, outside sled's file.
//!
//! A damaged page in the newer part of its log makes sled cut the log there and open as if nothing had been written after. So
//! each commit's number goes into a small file once the commit is durable, without a sync of its own: after a crash it may be
//! behind, never ahead. A file of sled that ends before it has lost commits, and is refused.
//!
//! Somebody who wants to go on with what is left removes the file `tip`.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use super::disk::failed;
use crate::store::StoreError;

const FILE: &str = "tip";

/// The open file.
#[derive(Debug)]
pub(super) struct Tip {
    file: File,
    number: u64,
}

impl Tip {
    /// Opens the file in `folder`, or makes one.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                (&mut file).take(64).read_to_end(&mut bytes).map_err(failed)?;
                let number = bytes.first_chunk::<8>().map(|number| u64::from_be_bytes(*number));
                let number = number.filter(|number| encode(*number) == bytes.as_slice());
                let damaged = || StoreError::Corrupt {
                    at: "the file \"tip\"".to_owned(),
                    what: "its checksum does not fit".to_owned(),
                };
                Ok(Self {
                    file,
                    number: number.ok_or_else(damaged)?,
                })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let make = || {
                    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
                    file.write_all(&encode(0))?;
                    file.sync_all()?;
                    Ok(Self { file, number: 0 })
                };
                make().map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Refuses a store whose next batch would be `next`.
    pub(super) fn check(&self, next: u64) -> Result<(), StoreError> {
        if next > self.number {
            return Ok(());
        }
        Err(StoreError::Corrupt {
            at: "the end of the log".to_owned(),
            what: format!("commits up to {} were made, it ends before {next}", self.number),
        })
    }

    /// Notes that the commit with the batch `number` is durable.
    pub(super) fn advance(&mut self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(number), 0)?;
        self.number = number;
        Ok(())
    }
}

fn encode(number: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (text, checksum) = bytes.split_at_mut(8);
    text.copy_from_slice(&number.to_be_bytes());
    checksum.copy_from_slice(&crc32fast::hash(&number.to_be_bytes()).to_be_bytes());
    bytes
}
