//! Processes: the simulator, the server, the proxy, a load.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A process that is killed in the end.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Process {
    pub(crate) fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

/// The folder with the binaries.
pub(crate) fn binary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_kronos-load")).with_file_name(name)
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A simulator and a server.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    _processes: [Process; 2],
}

impl Server {
    /// Starts both; the simulator writes so many tokens a second.
    pub(crate) fn start(tokens_per_second: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (model, address) = (free(), free());
        let mut simulator = Command::new(binary("kronos-sim"));
        simulator.args(["--port", &model.port().to_string(), "--tokens-per-chunk", "1"]);
        simulator.args(["--tokens-per-second", &tokens_per_second.to_string()]);
        let mut server = Command::new(binary("kronos"));
        server
            .arg("serve")
            .env_clear()
            .env("HOME", folder.path())
            .env("HOST", "127.0.0.1")
            .env("PORT", address.port().to_string())
            .env("DATABASE_URL", format!("sled://{}/data", folder.path().display()))
            .env("ENVIRONMENT", "development")
            .env("GEMINI_BASE_URL", format!("http://{model}"))
            .env("GEMINI_API_KEY", "load");
        let processes = [simulator, server].map(|mut command| {
            command.current_dir(folder.path());
            Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        });
        until_ready(address);
        Self {
            folder,
            address,
            _processes: processes,
        }
    }

    /// Starts a proxy in front of it; returns where it listens.
    pub(crate) fn behind(&self, arguments: &[&str]) -> (Process, String) {
        let upstream = format!("ws://{}/ws", self.address);
        let mut proxy = Command::new(env!("CARGO_BIN_EXE_kronos-load"))
            .current_dir(self.folder.path())
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--upstream", &upstream])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(proxy.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.split([' ', ',']).find(|word| word.starts_with("ws://"));
        let url = url.unwrap_or_else(|| panic!("it said: {line}")).to_owned();
        // Whatever else it says is read, so that it does not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        (Process(proxy), url)
    }
}

fn until_ready(address: SocketAddr) {
    loop {
        let mut page = String::new();
        if let Ok(mut stream) = TcpStream::connect(address) {
            let request = format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).ok();
            stream.read_to_string(&mut page).ok();
        }
        if page.contains("200 OK") {
            return;
        }
        sleep(Duration::from_millis(20));
    }
}

/// A load that is over.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) report: Value,
    pub(crate) text: String,
}

impl Run {
    /// Runs a load in a folder.
    pub(crate) fn of(folder: &Path, arguments: &[&str]) -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_kronos-load"))
            .current_dir(folder)
            .args(["run", "--quiet", "--json", "report.json"])
            .args(arguments)
            .output()
            .unwrap();
        let said = [&output.stderr[..], b"\n", &output.stdout[..]].concat();
        let text = String::from_utf8_lossy(&said).into_owned();
        let report = fs::read(folder.join("report.json")).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self {
            code: output.status.code().unwrap_or(-1),
            report: serde_json::from_slice(&report).unwrap(),
            text,
        }
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.report["counts"][name].as_u64().unwrap_or_default()
    }

    /// The checks that found something.
    pub(crate) fn broken(&self) -> Vec<&str> {
        let broken = self.report["broken"].as_object().unwrap();
        broken.keys().map(String::as_str).collect()
    }
}
