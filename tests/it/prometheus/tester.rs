//! A real load tester beside the server, for one test.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use kronos_testkit::KronosProc;
use tempfile::TempDir;

/// Two users who do a bit of everything, until it is dropped.
pub(super) struct Tester {
    child: Child,
    dir: TempDir,
}

impl Tester {
    /// Returns an address at which one could show its metrics.
    pub(super) fn address() -> SocketAddr {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        free.local_addr().unwrap()
    }

    /// Starts `kronos-load run smoke` against the server, with its metrics at `address`.
    ///
    /// # Panics
    /// When it was not built: it lies beside the server's binary.
    pub(super) fn start(server: &KronosProc, address: SocketAddr) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_kronos")).with_file_name("kronos-load");
        assert!(binary.is_file(), "no kronos-load: cargo build --workspace --bins");
        let dir = TempDir::with_prefix("kronos-load-").expect("a temporary directory");
        let output = std::fs::File::create(dir.path().join("output")).unwrap();
        let child = Command::new(&binary)
            .args(["run", "smoke", "--users", "2", "--duration", "10m", "--quiet"])
            .args(["--url", &server.ws_url(), "--metrics", &address.to_string()])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        Self { child, dir }
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Tester {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
