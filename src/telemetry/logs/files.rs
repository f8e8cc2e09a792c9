//! The files of `LOG_DIR`: each grows to a size and is set aside under a number, and of those so many are kept.
//!
//! Own code: the crates that rotate by size bring a second library for time, and end the writer's thread when somebody else
//! moves a file of theirs.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Lines that a file did not take, of all files of the process.
pub(super) static REFUSED: AtomicU64 = AtomicU64::new(0);

/// A file that never grows beyond `bytes` (a longer line has one for itself), with `files - 1` older ones beside it:
/// `kronos.log`, `kronos.log.1` (the newest of the old) and so on.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    bytes: u64,
    files: u32,
    /// Absent after a failure: opened again for the next line.
    file: Option<File>,
    size: u64,
}

impl Rotating {
    /// Opens the file and goes on at its end; removes older files beyond `files`.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub(super) fn open(path: PathBuf, bytes: u64, files: u32) -> io::Result<Self> {
        let mut rotating = Self {
            path,
            bytes,
            files,
            file: None,
            size: 0,
        };
        rotating.reopen()?;
        let mut surplus = files.max(1);
        while fs::remove_file(numbered(&rotating.path, surplus)).is_ok() {
            surplus += 1;
        }
        Ok(rotating)
    }

    fn reopen(&mut self) -> io::Result<&mut File> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        Ok(self.file.insert(file))
    }

    /// Sets the full file aside. When that cannot be done no line is taken: the bound on the disk comes first.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.files <= 1 {
            fs::remove_file(&self.path)?;
        }
        for number in (1..self.files).rev() {
            let from = match number {
                1 => self.path.clone(),
                _ => numbered(&self.path, number - 1),
            };
            match fs::rename(from, numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.file.is_none() {
            self.reopen()?;
        }
        if self.size > 0 && self.size + length > self.bytes {
            self.rotate()?;
            self.reopen()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.reopen()?,
        };
        file.write_all(line)?;
        self.size += length;
        Ok(())
    }
}

impl Write for Rotating {
    /// Takes a whole line or none of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.put(line) {
            // A disk may be mended, or mounted again: the next line begins afresh.
            self.file = None;
            REFUSED.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nothing is held back here.
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(dir: &Path) -> Vec<(String, u64)> {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let mut sizes: Vec<_> = files
            .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        sizes
    }

    fn named(sizes: &[(&str, u64)]) -> Vec<(String, u64)> {
        sizes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
    }

    #[test]
    fn a_file_is_full_at_its_size_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Rotating::open(dir.path().join("a.log"), 20, 3).unwrap();
        for _ in 0..2 {
            log.write_all(b"123456789\n").unwrap();
        }
        assert_eq!(sizes(dir.path()), named(&[("a.log", 20)]));
        log.write_all(b"\n").unwrap();
        assert_eq!(sizes(dir.path()), named(&[("a.log", 1), ("a.log.1", 20)]));
        for _ in 0..20 {
            log.write_all(b"1234567890123456\n").unwrap();
        }
        assert_eq!(
            sizes(dir.path()),
            named(&[("a.log", 17), ("a.log.1", 17), ("a.log.2", 17)])
        );
        log.write_all(&[b'x'; 50]).unwrap();
        assert_eq!(
            sizes(dir.path()),
            named(&[("a.log", 50), ("a.log.1", 17), ("a.log.2", 17)])
        );
    }

    #[test]
    fn a_start_goes_on_where_the_last_ended_and_keeps_what_it_is_to_keep() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for name in ["a.log", "a.log.1", "a.log.2", "a.log.3"] {
            fs::write(dir.path().join(name), "12345678").unwrap();
        }
        let mut log = Rotating::open(path.clone(), 10, 2).unwrap();
        assert_eq!(sizes(dir.path()), named(&[("a.log", 8), ("a.log.1", 8)]));
        log.write_all(b"9\n").unwrap();
        log.write_all(b"1\n").unwrap();
        assert_eq!(sizes(dir.path()), named(&[("a.log", 2), ("a.log.1", 10)]));
        let mut alone = Rotating::open(path, 2, 1).unwrap();
        alone.write_all(b"2\n").unwrap();
        assert_eq!(fs::read(dir.path().join("a.log")).unwrap(), b"2\n");
        assert_eq!(sizes(dir.path()), named(&[("a.log", 2)]));
    }

    #[test]
    fn a_disk_that_fails_costs_its_lines_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        fs::create_dir(&folder).unwrap();
        let mut log = Rotating::open(folder.join("a.log"), 4, 3).unwrap();
        log.write_all(b"1\n").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        // The open file goes on; the next one has no place.
        log.write_all(b"2\n").unwrap();
        log.write_all(b"3\n").unwrap_err();
        log.write_all(b"4\n").unwrap_err();
        fs::create_dir(&folder).unwrap();
        log.write_all(b"5\n").unwrap();
        assert_eq!(sizes(&folder), named(&[("a.log", 2)]));
    }
}
