//! `/docs` and `/redoc`.

use kronos_testkit::KronosProc;
use serde_json::{Value, json};

use crate::chromium::{Page, find};

async fn start() -> Option<(KronosProc, Page)> {
    let browser = find()?;
    let server = KronosProc::serve(env!("CARGO_BIN_EXE_kronos"), &[]).await;
    Some((server, Page::open(browser).await))
}

/// Checks that nothing went wrong, and that nobody but the server was asked.
fn check(page: &Page, server: &KronosProc) {
    assert!(page.problems.is_empty(), "{:#?}", page.problems);
    assert!(page.requests.len() >= 4, "{:?}", page.requests);
    for url in page.requests.iter().filter(|url| !url.starts_with("data:")) {
        assert!(url.starts_with(&server.http_url()) || url == "about:blank", "{url}");
    }
}

/// The operation of a path in Swagger UI, as an expression.
fn operation(method: &str, path: &str) -> String {
    format!("document.querySelector('.opblock-{method} [data-path=\"{path}\"]').closest('.opblock')")
}

/// Opens an operation, presses "Try it out" and "Execute", and returns the body of its answer with 200.
async fn try_out(page: &mut Page, method: &str, path: &str) -> Value {
    let block = operation(method, path);
    page.value(&format!("{block}.querySelector('.opblock-summary-control').click()"))
        .await;
    page.until("it opens", &format!("{block}.querySelector('.try-out__btn') !== null"))
        .await;
    page.value(&format!("{block}.querySelector('.try-out__btn').click()"))
        .await;
    page.until(
        "it can be tried",
        &format!("{block}.querySelector('.execute') !== null"),
    )
    .await;
    page.value(&format!("{block}.querySelector('.execute').click()")).await;
    let live = format!("{block}.querySelector('.live-responses-table .response')");
    page.until("it is answered", &format!("{live} !== null")).await;
    let status = page
        .value(&format!("{live}.querySelector('.response-col_status').innerText"))
        .await;
    let body = page
        .value(&format!("{live}.querySelector('.highlight-code').innerText"))
        .await;
    assert!(
        status.as_str().unwrap().starts_with("200"),
        "{method} {path}: {status} {body}"
    );
    body
}

#[tokio::test]
async fn swagger_ui_shows_the_routes_and_calls_them() {
    let Some((server, mut page)) = start().await else {
        return;
    };
    page.go(&format!("{}/docs", server.http_url())).await;
    page.until(
        "operations are shown",
        "document.querySelectorAll('.opblock').length > 3",
    )
    .await;
    assert_eq!(
        page.value("document.querySelector('.info .title').firstChild.data")
            .await,
        "Kronos"
    );
    page.until(
        "tokens can be given",
        "document.querySelector('.btn.authorize') !== null",
    )
    .await;
    page.keep_picture("docs").await;
    let health = try_out(&mut page, "get", "/health").await;
    assert!(health.as_str().unwrap().contains("healthy"), "{health}");
    let answer = try_out(&mut page, "post", "/api/v1/chat/message").await;
    assert!(answer.as_str().unwrap().contains("conversation_id"), "{answer}");
    let list = try_out(&mut page, "get", "/api/v1/chat/").await;
    assert!(list.as_str().unwrap().contains("items"), "{list}");
    page.keep_picture("docs-tried").await;
    check(&page, &server);
}

#[tokio::test]
async fn swagger_ui_calls_with_the_token_that_it_was_given() {
    let Some((server, mut page)) = start().await else {
        return;
    };
    let login = json!({"username": "demo", "password": "demo"});
    let login = kronos_testkit::request(server.address(), "POST", "/api/v1/auth/login", &[], Some(&login)).await;
    let token = login.unwrap().expect(200)["access_token"].as_str().unwrap().to_owned();
    page.go(&format!("{}/docs", server.http_url())).await;
    page.until(
        "tokens can be given",
        "document.querySelector('.btn.authorize') !== null",
    )
    .await;
    page.value("document.querySelector('.btn.authorize').click()").await;
    page.until("it asks", "document.querySelector('.modal-ux input') !== null")
        .await;
    // As typing does: the page's framework hears of it.
    page.value(&format!(
        "(field => {{ Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, '{token}'); \
         field.dispatchEvent(new Event('input', {{bubbles: true}})); }})(document.querySelector('.modal-ux input'))"
    ))
    .await;
    page.value("document.querySelector('.modal-ux .btn.modal-btn.auth.authorize').click()")
        .await;
    page.until("it has it", "document.querySelector('.modal-ux input') === null")
        .await;
    page.value("document.querySelector('.modal-ux .btn-done').click()")
        .await;
    let me = try_out(&mut page, "get", "/api/v1/auth/me").await;
    assert!(me.as_str().unwrap().contains("\"demo\""), "{me}");
    check(&page, &server);
}

#[tokio::test]
async fn swagger_ui_works_with_a_slash_at_the_end() {
    let Some((server, mut page)) = start().await else {
        return;
    };
    page.go(&format!("{}/docs/", server.http_url())).await;
    page.until(
        "operations are shown",
        "document.querySelectorAll('.opblock').length > 3",
    )
    .await;
    assert_eq!(page.value("location.pathname").await, "/docs");
    check(&page, &server);
}

#[tokio::test]
async fn redoc_shows_the_routes() {
    let Some((server, mut page)) = start().await else {
        return;
    };
    page.go(&format!("{}/redoc", server.http_url())).await;
    page.until(
        "the title is shown",
        "document.querySelector('h1')?.innerText.startsWith('Kronos')",
    )
    .await;
    page.until(
        "operations are shown",
        "document.querySelectorAll('[id^=\"operation/\"], [data-section-id*=\"operation/\"]').length > 3",
    )
    .await;
    page.until(
        "the menu has them",
        "document.querySelectorAll('.menu-content li').length > 3",
    )
    .await;
    page.keep_picture("redoc").await;
    page.value("document.querySelector('[data-section-id*=\"chat_\"]')?.scrollIntoView()")
        .await;
    page.until(
        "styles are there",
        "getComputedStyle(document.querySelector('.menu-content')).overflow !== 'visible'",
    )
    .await;
    page.keep_picture("redoc-chat").await;
    check(&page, &server);
}
