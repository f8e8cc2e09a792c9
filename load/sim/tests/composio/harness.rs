//! Starts simulators and receivers of webhooks, and speaks to them.

use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use kronos_sim::{ComposioHandle, ComposioSim, ComposioSimConfig};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

pub(crate) const ISSUE: &str = "GITHUB_CREATE_ISSUE";

pub(crate) fn start(change: impl FnOnce(&mut ComposioSimConfig)) -> ComposioHandle {
    let mut config = ComposioSimConfig::default();
    change(&mut config);
    ComposioSim::start(config).unwrap()
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().redirect(Policy::none()).build().unwrap()
}

pub(crate) async fn send(sim: &ComposioHandle, method: &str, path: &str, body: &Value) -> Response {
    let url = format!("{}/api/v3.1{path}", sim.url());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client().request(method, url).header("x-api-key", "ak_test");
    if !body.is_null() {
        request = request.body(body.to_string());
    }
    request.send().await.unwrap()
}

pub(crate) async fn call(sim: &ComposioHandle, method: &str, path: &str, body: Value) -> (u16, Value) {
    let response = send(sim, method, path, &body).await;
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

pub(crate) async fn get(sim: &ComposioHandle, path: &str) -> Value {
    call(sim, "GET", path, Value::Null).await.1
}

/// Executes a tool under a key.
pub(crate) fn request(sim: &ComposioHandle, tool: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
    let url = format!("{}/api/v3.1/tools/execute/{tool}", sim.url());
    let request = client()
        .post(url)
        .header("x-api-key", "ak_test")
        .header("idempotency-key", key);
    request.body(body.to_string())
}

pub(crate) async fn execute(sim: &ComposioHandle, tool: &str, key: &str, body: &Value) -> (u16, Value) {
    let response = request(sim, tool, key, body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

pub(crate) fn issue(title: &str) -> Value {
    json!({"user_id": "anna", "arguments": {"owner": "octocat", "repo": "notes", "title": title}})
}

pub(crate) fn counts(sim: &ComposioHandle) -> Vec<(String, u32)> {
    sim.effects()
        .into_iter()
        .map(|effect| (effect.key, effect.count))
        .collect()
}

/// Makes a managed auth config and a link of it: (account id, URL).
pub(crate) async fn link(sim: &ComposioHandle, toolkit: &str, callback: &str) -> (String, String) {
    let config = json!({"toolkit": {"slug": toolkit}});
    let (_, config) = call(sim, "POST", "/auth_configs", config).await;
    let body = json!({"auth_config_id": config["auth_config"]["id"], "user_id": "anna", "callback_url": callback});
    let (status, made) = call(sim, "POST", "/connected_accounts/link", body).await;
    assert_eq!(status, 201);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("connected_account_id"), text("redirect_url"))
}

pub(crate) async fn press(url: &str, decision: &str) -> Response {
    let form = format!("decision={decision}");
    let request = client()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    request.body(form).send().await.unwrap()
}

/// One webhook: headers by name and the raw body.
pub(crate) type Webhook = (Vec<(String, String)>, String);
/// What a receiver has got.
pub(crate) type Inbox = Arc<Mutex<Vec<Webhook>>>;

/// Starts a receiver that answers the first `refused` webhooks with 500.
pub(crate) fn receiver(refused: usize) -> (String, Inbox) {
    let inbox = Inbox::default();
    let shared = Arc::clone(&inbox);
    let (ready, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let take = move |request: HttpRequest, body: String| {
                let headers = request.headers().iter();
                let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
                let mut inbox = shared.lock().unwrap();
                inbox.push((headers.collect(), body));
                let status = if inbox.len() <= refused { 500 } else { 200 };
                let status = actix_web::http::StatusCode::from_u16(status).unwrap();
                async move { HttpResponse::build(status).finish() }
            };
            let server = HttpServer::new(move || App::new().route("/hook", web::post().to(take.clone())));
            let server = server.workers(1).bind(("127.0.0.1", 0)).unwrap();
            ready.send(server.addrs()[0]).unwrap();
            server.run().await.unwrap();
        });
    });
    (format!("http://{}/hook", address.recv().unwrap()), inbox)
}
