//! The last frames of a device, for those who want to know how it came to a breach.

use std::collections::VecDeque;
use std::io;

use kronos_protocol::{ClientFrame, Command};
use serde::Serialize;

/// Frames that are kept.
const FRAMES: usize = 8;
/// Bytes of each that are kept.
const BYTES: usize = 512;

/// The last frames that went one way, as JSON, cut.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Cut>);

/// The beginning of what is written to it.
#[derive(Debug, Default)]
struct Cut(Vec<u8>);

impl io::Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BYTES - self.0.len();
        if room == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        let part = bytes.get(..room).unwrap_or(bytes);
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recent {
    fn next(&mut self) -> Cut {
        let mut cut = if self.0.len() < FRAMES {
            Cut::default()
        } else {
            self.0.pop_front().unwrap_or_default()
        };
        cut.0.clear();
        cut
    }

    /// Takes a frame.
    pub(super) fn push(&mut self, frame: &impl Serialize) {
        let mut cut = self.next();
        // The only error is that it is full: that is what it is for.
        drop(serde_json::to_writer(&mut cut, frame));
        self.0.push_back(cut);
    }

    /// Takes a client's frame; tokens are left out.
    pub(super) fn push_command(&mut self, frame: &ClientFrame) {
        match &frame.command {
            Command::Hello(_) | Command::TokenUpdate(_) => {
                let op = frame.command.op();
                self.push(&serde_json::json!({"op": op, "ref": frame.reference}));
            }
            _ => self.push(frame),
        }
    }

    /// Takes something that is no frame.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        let mut cut = self.next();
        cut.0.extend_from_slice(bytes.get(..BYTES).unwrap_or(bytes));
        self.0.push_back(cut);
    }

    /// Returns them, oldest first.
    pub(super) fn shown(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|cut| String::from_utf8_lossy(&cut.0).into_owned())
            .collect()
    }
}
