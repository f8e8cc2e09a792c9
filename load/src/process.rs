//! The processes of a run: the simulator, the server, the bare proxy. Each has a folder of its own and is killed when it is dropped.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::clock;
use crate::http;

/// How long a process may take until it serves.
const READY: Duration = Duration::from_secs(20);
/// Bytes of its last words that an error shows.
const LAST_WORDS: usize = 4096;

/// Where the binaries are and where folders are made.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder with the binaries.
    pub(crate) binaries: PathBuf,
    /// The folder under which each process gets its own: on the disk that is measured.
    pub(crate) folder: PathBuf,
}

/// One child process.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Process {
    /// Starts `binary` with an environment of its own and waits until `path` answers with 200.
    async fn start(
        place: &Place,
        name: &'static str,
        binary: &Path,
        ready: &str,
        command: impl FnOnce(&mut Command, &Path, SocketAddr),
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&place.folder)?;
        let address = free_address()?;
        let output = File::create(folder.path().join("output"))?;
        let mut child = Command::new(binary);
        child
            .env_clear()
            .env("HOME", folder.path())
            .current_dir(folder.path())
            // Ctrl-C is for the load tester, which then ends them.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        command(&mut child, folder.path(), address);
        let child = child.spawn().with_context(|| format!("{}", binary.display()))?;
        let mut process = Self {
            name,
            child,
            address,
            folder,
        };
        process.ready(address, ready).await?;
        Ok(process)
    }

    async fn ready(&mut self, address: SocketAddr, path: &str) -> anyhow::Result<()> {
        let deadline = clock::instant() + READY;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.last_words());
            }
            if http::request(address, "GET", path, None)
                .await
                .is_ok_and(|reply| reply.status == 200)
            {
                return Ok(());
            }
            ensure!(
                clock::instant() < deadline,
                "{} does not serve:\n{}",
                self.name,
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the end of what it wrote.
    pub(crate) fn last_words(&self) -> String {
        let mut text = String::new();
        let read = File::open(self.folder.path().join("output")).and_then(|mut file| file.read_to_string(&mut text));
        if let Err(error) = read {
            return format!("its output cannot be read: {error}");
        }
        let from = text.len().saturating_sub(LAST_WORDS);
        text.chars().skip(from).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the simulator of the model.
pub(crate) async fn simulator(place: &Place, tokens_per_second: f64) -> anyhow::Result<Process> {
    simulators(place, tokens_per_second, false)
        .await
        .map(|(process, _)| process)
}

/// Starts the simulator of the model and, when asked, in the same process that of Composio; returns where the latter listens.
pub(crate) async fn simulators(
    place: &Place,
    tokens_per_second: f64,
    composio: bool,
) -> anyhow::Result<(Process, Option<SocketAddr>)> {
    let binary = place.binaries.join("kronos-sim");
    let composio = composio.then(free_address).transpose()?;
    let mut process = Process::start(place, "sim", &binary, "/sim/health", |command, _, address| {
        command
            .args(["--port", &address.port().to_string()])
            .args(["--tokens-per-second", &tokens_per_second.to_string()])
            .args(["--tokens-per-chunk", "1", "--first-token-ms", "20"])
            .args(["--max-recorded", "20000"]);
        if let Some(composio) = composio {
            command.args(["--composio-port", &composio.port().to_string()]);
        }
    })
    .await?;
    if let Some(composio) = composio {
        process.ready(composio, "/sim/health").await?;
    }
    Ok((process, composio))
}

/// Changes settings of a running simulator.
pub(crate) async fn configure(simulator: &Process, changes: &Value) -> anyhow::Result<()> {
    let reply = http::request(simulator.address(), "PUT", "/sim/config", Some(changes)).await?;
    ensure!(reply.status == 200, "simulator: {}", reply.text());
    Ok(())
}

/// Starts the server in front of `simulator`. `env` wins over what is set here.
pub(crate) async fn kronos(place: &Place, simulator: SocketAddr, env: &[(&str, &str)]) -> anyhow::Result<Process> {
    let binary = place.binaries.join("kronos");
    Process::start(place, "kronos", &binary, "/health/ready", |command, folder, address| {
        command
            .arg("serve")
            .env("HOST", Ipv4Addr::LOCALHOST.to_string())
            .env("PORT", address.port().to_string())
            .env("DATABASE_URL", format!("sled://{}", folder.join("data").display()))
            .env("ENVIRONMENT", "development")
            .env("LOG_LEVEL", "warning")
            .env("HEALTH_PROBE_INTERVAL", "0")
            .env("RATE_LIMIT_PER_ADDRESS", "0")
            .env("RATE_LIMIT_PER_USER", "0")
            .env("GEMINI_BASE_URL", format!("http://{simulator}"))
            .env("GEMINI_API_KEY", "benchmark")
            .env("GEMINI_MAX_CONCURRENT", "20000")
            .env("GEMINI_MAX_CONCURRENT_PER_USER", "20000")
            .env("GEMINI_MAX_WAITING", "20000")
            .env("MAX_CONNECTIONS", "20000")
            .env("MAX_CONNECTIONS_PER_USER", "20000")
            .env("COMMANDS_PER_SECOND", "1000000")
            .env("COMMANDS_BURST", "1000000")
            .envs(env.iter().copied());
    })
    .await
}

/// Says whether this server knows the setting: one that does not ignores it, and measures nothing new.
pub(crate) fn knows(place: &Place, setting: &str) -> anyhow::Result<bool> {
    let output = Command::new(place.binaries.join("kronos"))
        .args(["config", "--reference"])
        .current_dir(&place.folder)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    Ok(text.contains(&setting.to_lowercase()))
}

/// Starts the bare proxy in front of `simulator`.
pub(crate) async fn bare(place: &Place, simulator: SocketAddr) -> anyhow::Result<Process> {
    let binary = std::env::current_exe()?;
    Process::start(place, "bare", &binary, "/", |command, _, address| {
        command
            .args(["bare-proxy", "--port", &address.port().to_string()])
            .args(["--upstream", &format!("http://{simulator}")]);
    })
    .await
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Returns the time that all threads of a process have run so far.
///
/// It is what `utime + stime` of `/proc/PID/stat` say, in nanoseconds instead of hundredths of a second.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between its listing and its reading.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let ran = text.split_whitespace().next().and_then(|ran| ran.parse::<u64>().ok());
        nanos += ran.context("schedstat")?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Returns the resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
