//! The real binary as a child process: started, killed, started again on the same data.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::http::{HttpReply, request};
use crate::ws::{ConnectOptions, WsClient};

/// How long a start may take, a recovery of its data included.
const READY: Duration = Duration::from_secs(15);

/// How often another port is tried when somebody else took the free one first.
const PORT_TRIES: usize = 5;

/// What is kept of each of stdout and stderr, in bytes; the oldest goes first.
const OUTPUT: usize = 1 << 20;

/// How a [`KronosProc`] is started.
#[derive(Debug, Clone)]
pub struct KronosOptions {
    /// The binary: `env!("CARGO_BIN_EXE_kronos")`.
    pub binary: PathBuf,
    /// Its arguments. Default `["serve"]`.
    pub args: Vec<String>,
    /// Environment variables on top of the defaults; they win over those.
    pub env: Vec<(String, String)>,
}

impl KronosOptions {
    /// Returns the options for `binary serve` in development, with an embedded store in a directory of its own.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            args: vec!["serve".to_owned()],
            env: Vec::new(),
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A running server, or one that was stopped and can be started again. Killed when dropped.
///
/// Nothing of the caller's environment reaches it but `PATH`; its working directory, `HOME` and data are in a
/// directory of its own, so that no `.env` file is read by accident.
#[derive(Debug)]
pub struct KronosProc {
    options: KronosOptions,
    address: SocketAddr,
    dir: TempDir,
    child: Option<Child>,
    output: Output,
}

impl KronosProc {
    /// Starts the server on a free port and waits until it is ready.
    ///
    /// # Panics
    /// When it exits or is not ready within 15 s: with its output.
    pub async fn start(options: KronosOptions) -> Self {
        let dir = TempDir::with_prefix("kronos-").expect("a temporary directory");
        let mut process = Self {
            options,
            address: free_address(),
            dir,
            child: None,
            output: Output::default(),
        };
        for attempt in 1..=PORT_TRIES {
            process.spawn();
            match process.ready().await {
                Ok(()) => return process,
                Err(_) if attempt < PORT_TRIES && process.lost_its_port() => process.address = free_address(),
                Err(error) => process.fail(&error),
            }
        }
        unreachable!("the last attempt returns or panics")
    }

    /// Starts the server with `binary` and additional environment variables: [`KronosProc::start`] in short.
    ///
    /// # Panics
    /// As [`KronosProc::start`].
    pub async fn serve(binary: &str, env: &[(&str, &str)]) -> Self {
        let options = KronosOptions::new(binary);
        Self::start(
            env.iter()
                .fold(options, |options, (name, value)| options.env(*name, *value)),
        )
        .await
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process id; `None` after it was stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns `http://` and the address, without a slash at the end.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the address of the websocket.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// Returns the directory with its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns its whole directory: working directory and home.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns what it wrote to stdout and stderr so far, over all its starts.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Opens a websocket to it.
    ///
    /// # Panics
    /// As [`WsClient::connect`], with the server's output.
    pub async fn connect(&self, options: ConnectOptions) -> WsClient {
        match WsClient::try_connect(&self.ws_url(), options).await {
            Ok(client) => client,
            Err(error) => self.fail(&error),
        }
    }

    /// Sends a GET. `path` starts with `/`.
    ///
    /// # Panics
    /// When there is no answer: with the server's output.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> HttpReply {
        self.request("GET", path, headers, None).await
    }

    /// Sends a POST with a JSON body. `path` starts with `/`.
    ///
    /// # Panics
    /// When there is no answer: with the server's output.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> HttpReply {
        self.request("POST", path, headers, Some(body)).await
    }

    /// Sends any request. `path` starts with `/`.
    ///
    /// # Panics
    /// When there is no answer: with the server's output.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> HttpReply {
        match request(self.address, method, path, headers, body).await {
            Ok(reply) => reply,
            Err(error) => self.fail(&error),
        }
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child that was not waited for can be killed");
            child.wait().expect("a killed child ends");
        }
    }

    /// Asks it to stop, as a service manager does. See [`KronosProc::wait`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn sigterm(&self) {
        let pid = self.pid().expect("sigterm: the server does not run");
        // `kill` is built into every POSIX shell, and it needs no unsafe code.
        let status = Command::new("sh")
            .args(["-c", &format!("kill -TERM {pid}")])
            .status()
            .expect("sh");
        assert!(status.success(), "kill -TERM {pid}: {status}");
    }

    /// Waits until it has ended by itself and returns its status.
    ///
    /// # Panics
    /// When it still runs after `limit`: with its output.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            if Instant::now() >= deadline {
                self.fail(&anyhow::anyhow!("it still runs {limit:?} after it was to stop"));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts it again with the same data on the same port; kills it first when it still runs.
    ///
    /// # Panics
    /// As [`KronosProc::start`].
    pub async fn restart(&mut self) {
        self.relaunch();
        self.until_ready().await;
    }

    /// Starts it again like [`KronosProc::restart`], and does not wait for anything.
    pub fn relaunch(&mut self) {
        self.kill9();
        self.spawn();
    }

    /// Waits until it is ready, after a [`KronosProc::relaunch`], or has ended instead.
    ///
    /// # Errors
    /// How it ended.
    ///
    /// # Panics
    /// When it does neither within 15 s: with its output.
    pub async fn ready_or_ended(&mut self) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + READY;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                self.output.wait_for_end();
                return Err(status);
            }
            if self.is_ready().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.fail(&anyhow::anyhow!("neither ready nor ended within {READY:?}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        request(self.address, "GET", "/health/ready", &[], None)
            .await
            .is_ok_and(|reply| reply.status == 200)
    }

    /// Forgets what it wrote so far.
    pub fn forget_output(&mut self) {
        self.output.forget();
    }

    /// Waits until it is ready, after a [`KronosProc::relaunch`].
    ///
    /// # Panics
    /// As [`KronosProc::start`].
    pub async fn until_ready(&mut self) {
        if let Err(error) = self.ready().await {
            self.fail(&error);
        }
    }

    /// Sets an environment variable for the next [`KronosProc::restart`].
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.options.env.push((name.to_owned(), value.to_owned()));
    }

    fn spawn(&mut self) {
        let mut command = Command::new(&self.options.binary);
        command
            .args(&self.options.args)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LLVM_PROFILE_FILE"))
            .env("HOME", self.dir.path())
            .env("HOST", Ipv4Addr::LOCALHOST.to_string())
            .env("PORT", self.address.port().to_string())
            .env("DATABASE_URL", format!("sled://{}", self.data_dir().display()))
            .env("ENVIRONMENT", "development")
            .env("LOG_FORMAT", "json")
            // Tests count what the model is asked.
            .env("HEALTH_PROBE_INTERVAL", "0")
            .envs(self.options.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.options.binary.display()));
        let log = kept_log(&self.options.binary);
        self.output.follow(child.stdout.take(), log.as_ref());
        self.output.follow(child.stderr.take(), log.as_ref());
        self.child = Some(child);
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                bail!("it ended before it was ready: {status}");
            }
            if self.is_ready().await {
                // Somebody else on that port may have answered while ours died of it.
                if self.exited().is_none() {
                    return Ok(());
                }
                continue;
            }
            if Instant::now() >= deadline {
                bail!("it was not ready within {READY:?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("the server was not started");
        child.try_wait().expect("the state of a child")
    }

    fn lost_its_port(&self) -> bool {
        self.child.is_none() && self.last_words().to_lowercase().contains("in use")
    }

    fn fail(&self, error: &anyhow::Error) -> ! {
        panic!("kronos on {}: {error:#}\n{}", self.address, self.last_words())
    }

    /// Returns its output; when it has ended, all of it.
    fn last_words(&self) -> String {
        if self.child.is_none() {
            self.output.wait_for_end();
        }
        self.output()
    }
}

impl Drop for KronosProc {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .context("a free port")
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Returns the folder in which the logs of test runs are kept, in the target folder that `binary` is built in: `tests/logs`
/// looks through them for what no log line may hold.
#[must_use]
pub fn log_folder(binary: &Path) -> Option<PathBuf> {
    let target = binary.parent()?.parent().filter(|target| target.is_absolute())?;
    let folder = target.join("test-logs");
    fs::create_dir_all(&folder).ok()?;
    Some(folder)
}

/// A file for what one process writes, named by the test that starts it.
fn kept_log(binary: &Path) -> Option<Arc<File>> {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let test = thread::current().name().unwrap_or("test").replace("::", ".");
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let name = format!("{test}-{}-{number}.log", std::process::id());
    File::create(log_folder(binary)?.join(name)).ok().map(Arc::new)
}

/// What a child wrote, collected by one thread for each pipe.
#[derive(Debug, Default)]
struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Output {
    /// Collects what comes out of a pipe, and writes it to `log`, too.
    fn follow(&mut self, pipe: Option<impl Read + Send + 'static>, log: Option<&Arc<File>>) {
        let Some(mut pipe) = pipe else { return };
        let log = log.cloned();
        let kept = Arc::clone(&self.kept);
        self.readers.push(thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                if let Some(mut log) = log.as_deref() {
                    // A full disk fails no test that does not mind.
                    drop(log.write_all(buffer.get(..read).unwrap_or_default()));
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
                let surplus = kept.len().saturating_sub(OUTPUT);
                kept.drain(..surplus);
            }
        }));
    }

    /// Waits until everything that an ended child wrote is here, but not for a grandchild that keeps a pipe open.
    fn wait_for_end(&self) {
        for _ in 0..100 {
            if self.readers.iter().all(JoinHandle::is_finished) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn forget(&mut self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        format!("--- its output:\n{}", String::from_utf8_lossy(&kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> KronosOptions {
        KronosOptions {
            binary: "sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: Vec::new(),
        }
    }

    #[tokio::test]
    #[should_panic(expected = "DATABASE_URL is wrong")]
    async fn a_server_that_refuses_to_start_shows_why() {
        KronosProc::start(shell("echo 'DATABASE_URL is wrong' >&2; exit 3")).await;
    }

    #[tokio::test]
    async fn the_environment_of_the_caller_does_not_reach_it() {
        let dir = TempDir::new().unwrap();
        let mut process = KronosProc {
            options: shell("env; exit 7").env("PORT", "1"),
            address: free_address(),
            dir,
            child: None,
            output: Output::default(),
        };
        process.spawn();
        assert_eq!(process.wait(Duration::from_secs(5)).await.code(), Some(7));
        crate::eventually_now(Duration::from_secs(5), "its output", || {
            process.output().contains("PORT=1")
        })
        .await;
        assert!(!process.output().contains("CARGO"), "{}", process.output());
    }

    #[tokio::test]
    async fn a_term_signal_ends_it() {
        let dir = TempDir::new().unwrap();
        let options = shell("exec sleep 30");
        let mut process = KronosProc {
            options,
            address: free_address(),
            dir,
            child: None,
            output: Output::default(),
        };
        process.spawn();
        process.sigterm();
        assert!(!process.wait(Duration::from_secs(5)).await.success());
        assert_eq!(process.pid(), None);
    }
}
