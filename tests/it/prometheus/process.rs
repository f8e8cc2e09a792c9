//! A real Prometheus for one test.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kronos_testkit::{KronosProc, eventually, request};
use serde_json::Value;
use tempfile::TempDir;

use super::read;

const START: Duration = Duration::from_secs(40);

/// Returns `prometheus` or `promtool`: the one that the variable of that name in capitals tells, or the system's.
///
/// # Panics
/// When there is none and CI asks for everything.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let given = std::env::var_os(program.to_uppercase()).map(PathBuf::from);
    let known = ["/usr/bin", "/usr/local/bin"].map(|folder| Path::new(folder).join(program));
    let found = given.into_iter().chain(known).find(|path| path.is_file());
    if found.is_none() {
        let name = program.to_uppercase();
        let how = format!("no {program}: set {name}, or `apt-get install --no-install-recommends prometheus`");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{how}");
        println!("SKIPPED: {how}");
    }
    found
}

/// A Prometheus that scrapes one server each second, with the rules of `grafana/`. Killed when dropped.
pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Prometheus {
    /// Starts it with `grafana/prometheus.yml`, of which only the addresses of the server and of the load tester and the pauses are
    /// other ones.
    pub(super) async fn start(binary: &Path, server: &KronosProc, tester: SocketAddr) -> Self {
        let dir = TempDir::with_prefix("kronos-prometheus-").expect("a temporary directory");
        let change = |text: String, from: &str, to: &str| {
            assert!(text.contains(from), "{from} is not there");
            text.replace(from, to)
        };
        let config = change(read("prometheus.yml"), "localhost:8000", &server.address().to_string());
        let testers = r#""localhost:9101", "host.docker.internal:9101""#;
        let config = change(config, testers, &format!("\"{tester}\""));
        let config = change(
            config,
            "scrape_interval: 5s",
            "scrape_interval: 1s\n  scrape_timeout: 1s",
        );
        let config = change(config, "evaluation_interval: 15s", "evaluation_interval: 2s");
        let rules = change(read("alerts.yaml"), "interval: 30s", "interval: 2s");
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        std::fs::write(
            dir.path().join("alerts.yaml"),
            change(rules, "interval: 15s", "interval: 2s"),
        )
        .unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { child, address, dir };
        let ready = || async {
            let reply = request(address, "GET", "/-/ready", &[], None).await;
            match reply {
                Ok(reply) if reply.status == 200 => Ok(()),
                _ => Err(std::fs::read_to_string(prometheus.dir.path().join("log")).unwrap_or_default()),
            }
        };
        eventually(START, "prometheus is ready", ready).await;
        prometheus
    }

    /// Asks its API. `path` begins behind `/api/v1/`.
    ///
    /// # Errors
    /// What it says.
    pub(super) async fn get(&self, path: &str) -> Result<Value, String> {
        let reply = request(self.address, "GET", &format!("/api/v1/{path}"), &[], None).await;
        let body = reply.map_err(|error| error.to_string())?.json();
        if body["status"] == "success" {
            Ok(body["data"].clone())
        } else {
            Err(body["error"].to_string())
        }
    }

    /// Executes an expression now; the values of the series that it gives.
    ///
    /// # Errors
    /// What Prometheus says of it.
    pub(super) async fn query(&self, expression: &str) -> Result<Vec<f64>, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("query?query={encoded}")).await?;
        if data["resultType"] != "vector" {
            return Err(format!("not a vector: {}", data["resultType"]));
        }
        let series = data["result"].as_array().ok_or("no result")?.iter();
        let value = |series: &Value| series["value"][1].as_str().and_then(|text| text.parse().ok());
        Ok(series.map(|series| value(series).unwrap_or(f64::NAN)).collect())
    }

    /// The sum of what an expression gives now; 0 of nothing.
    pub(super) async fn sum(&self, expression: &str) -> f64 {
        let values = self.query(expression).await;
        let values = values.unwrap_or_else(|error| panic!("{expression}: {error}"));
        values.into_iter().filter(|value| value.is_finite()).sum()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
