//! A browser for one test, and one page of it.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use kronos_testkit::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// A first start of a browser on a busy machine takes seconds.
const START: Duration = Duration::from_secs(40);

/// How long a page may take to do what is waited for.
const LIMIT: Duration = Duration::from_secs(40);

/// Runs in every page before anything else: what the policy forbids becomes an error of the console.
const WATCH: &str = "addEventListener('securitypolicyviolation', event => \
    console.error(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber} ${event.sample}`))";

/// Returns the browser: `$CHROMIUM`, or the one of the system.
///
/// # Panics
/// When there is none and CI asks for everything.
pub(crate) fn find() -> Option<PathBuf> {
    let given = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].map(PathBuf::from);
    let found = given.into_iter().chain(known).find(|path| path.is_file());
    if found.is_none() {
        let how = "no chromium: set CHROMIUM, or `apt-get install --no-install-recommends chromium`";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{how}");
        println!("SKIPPED: {how}");
    }
    found
}

/// A browser with one page. Killed when dropped.
pub(crate) struct Page {
    browser: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    last_id: u64,
    /// What went wrong so far.
    pub(crate) problems: Vec<String>,
    /// Addresses that were asked for.
    pub(crate) requests: Vec<String>,
    _profile: TempDir,
}

impl Page {
    /// Starts `browser` with an empty page of a usual size.
    pub(crate) async fn open(browser: PathBuf) -> Self {
        let profile = TempDir::with_prefix("kronos-chromium-").expect("a temporary directory");
        let child = Command::new(browser)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args(["--disable-sync", "--disable-extensions", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium starts");
        let told = profile.path().join("DevToolsActivePort");
        let address = eventually(START, "chromium says where it listens", async || {
            let text = std::fs::read_to_string(&told).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some(format!("ws://127.0.0.1:{port}{}", path.trim()))
        })
        .await;
        let (socket, _) = connect_async(&address).await.expect("chromium takes connections");
        let mut page = Self {
            browser: child,
            socket,
            session: String::new(),
            last_id: 0,
            problems: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        page.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        let size = json!({"width": 1280, "height": 1000, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", size).await;
        page.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": WATCH}))
            .await;
        page
    }

    /// Goes to an address.
    pub(crate) async fn go(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({"url": url})).await;
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
    }

    /// Waits until the expression is true in the page.
    pub(crate) async fn until(&mut self, what: &str, expression: &str) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let value = self.value(expression).await;
            if value == true {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                let text = self.value("document.body.innerText").await;
                panic!(
                    "{what}: {expression} is {value}; problems: {:#?}; the page: {text}",
                    self.problems
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns what an expression is in the page; an error as text.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let evaluate = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", evaluate).await;
        match answer.get("exceptionDetails") {
            Some(error) => Value::from(error.to_string()),
            None => answer["result"]["value"].take(),
        }
    }

    /// Keeps a picture of the page in the folder of `KRONOS_SCREENSHOTS`, if that is set.
    pub(crate) async fn keep_picture(&mut self, name: &str) {
        use base64::Engine as _;
        let Some(folder) = std::env::var_os("KRONOS_SCREENSHOTS") else {
            return;
        };
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap());
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), bytes.unwrap()).unwrap();
    }

    /// Does one command of the protocol, and notes what happened meanwhile.
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut command = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let sent = self.socket.send(Message::text(command.to_string())).await;
        sent.expect("chromium listens");
        loop {
            let next = tokio::time::timeout(LIMIT, self.socket.next()).await;
            let message = next.unwrap_or_else(|_| panic!("no answer to {method}"));
            let message = message.expect("chromium lives").expect("chromium answers");
            let Message::Text(text) = message else { continue };
            let mut value: Value = serde_json::from_str(&text).expect("JSON");
            if value["id"] == id {
                assert!(value.get("error").is_none(), "{method}: {value}");
                return value["result"].take();
            }
            self.note(&value);
        }
    }

    fn note(&mut self, event: &Value) {
        let about = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.consoleAPICalled" if about["type"] == "error" || about["type"] == "assert" => {
                self.problems.push(format!("console: {}", about["args"]));
            }
            "Runtime.exceptionThrown" => self.problems.push(format!("exception: {}", about["exceptionDetails"])),
            "Log.entryAdded" if about["entry"]["level"] == "error" => {
                self.problems.push(format!("log: {}", about["entry"]));
            }
            "Audits.issueAdded" if about["issue"]["code"] == "ContentSecurityPolicyIssue" => {
                self.problems.push(format!("policy: {}", about["issue"]["details"]));
            }
            "Network.loadingFailed" => self.problems.push(format!("network: {about}")),
            "Network.requestWillBeSent" => {
                let url = about["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(url.to_owned());
            }
            _ => {}
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Its other processes end with it.
        self.browser.kill().ok();
        self.browser.wait().ok();
    }
}
