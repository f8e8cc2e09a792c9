//! The pages for browsers, what they load, and the AsyncAPI document. `tests/browser` looks at the pages with a browser.

use std::io::Read as _;

use flate2::read::GzDecoder;

use crate::harness::Edge;

mod asyncapi;
mod live;

/// Unpacks gzip.
fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip");
    plain
}

/// Names of files that a page loads.
fn loaded(page: &str) -> Vec<String> {
    let links = page.split("docs/assets/").skip(1);
    links.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[actix_web::test]
async fn pages_and_their_files_are_served_to_anybody_under_a_strict_policy() {
    let edge = Edge::start().await;
    for path in ["/docs", "/redoc"] {
        let page = edge.get(path, None).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let files = loaded(&page.text());
        assert!(files.len() >= 4, "{files:?}");
        for file in files {
            let reply = edge.get(&format!("/docs/assets/{file}"), None).await;
            assert_eq!(reply.status, 200, "{file}");
            let kept = if file.contains(|c: char| c.is_ascii_digit()) {
                "public, max-age=31536000, immutable"
            } else {
                "no-cache"
            };
            assert_eq!(reply.header("cache-control"), Some(kept), "{file}");
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
            let kind = match file.rsplit('.').next().unwrap() {
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                _ => "image/svg+xml",
            };
            assert_eq!(reply.header("content-type"), Some(kind), "{file}");
        }
        let slashed = edge.get(&format!("{path}/"), None).await;
        assert_eq!(
            (slashed.status, slashed.header("location")),
            (308, Some(format!("..{path}").as_str()))
        );
    }
    for licence in ["swagger-ui.LICENSE", "swagger-ui.NOTICE", "redoc.LICENSE"] {
        let reply = edge.get(&format!("/docs/assets/{licence}"), None).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("text/plain; charset=utf-8"))
        );
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_vendored_file_is_compressed_for_those_who_take_it_and_sent_once() {
    let edge = Edge::start().await;
    for file in loaded(&edge.get("/docs", None).await.text()) {
        let path = format!("/docs/assets/{file}");
        let plain = edge.get(&path, None).await;
        assert!(plain.header("content-encoding").is_none(), "{file}");
        for (accept, packed) in [
            ("gzip", true),
            ("br, gzip;q=0.5", true),
            ("gzip;q=0, identity", false),
            ("deflate", false),
            ("br", true),
        ] {
            let reply = edge.call("GET", &path, &[("Accept-Encoding", accept)], None).await;
            let coding = reply.header("content-encoding");
            assert_eq!(coding.is_some(), packed && plain.body.len() > 1024, "{file} {accept}");
            match coding {
                None => assert!(reply.body == plain.body, "{file} {accept}"),
                Some("gzip") => assert!(unpack(&reply.body) == plain.body, "{file} {accept}"),
                Some(_) => assert!(
                    accept.contains("br") && reply.body.len() < plain.body.len(),
                    "{file} {accept}"
                ),
            }
            let tag = reply.header("etag").expect("a tag");
            for (known, status) in [(tag, 304), ("\"x\", *", 304), ("W/\"0\"", 200)] {
                let headers = [("Accept-Encoding", accept), ("If-None-Match", known)];
                let again = edge.call("GET", &path, &headers, None).await;
                assert_eq!(
                    (again.status, again.body.is_empty()),
                    (status, status == 304),
                    "{file} {known}"
                );
            }
        }
        // Who takes another packing only gets it unpacked, and packed on the way.
        let other = edge.call("GET", &path, &[("Accept-Encoding", "br")], None).await;
        assert_eq!(
            (other.status, other.header("content-encoding") == Some("gzip")),
            (200, false),
            "{file}"
        );
        let head = edge.call("HEAD", &path, &[("Accept-Encoding", "gzip")], None).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{file}");
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_file_that_there_is_not_is_404_and_a_name_that_is_none_422() {
    let edge = Edge::start().await;
    for (name, status) in [
        ("nothing.js", 404),
        ("swagger-ui-bundle-5.35.0.js.gz", 404),
        ("..", 404),
        ("..%2Fdocs.html", 422),
        ("a%20b", 422),
        ("%C3%A4", 422),
    ] {
        let reply = edge.get(&format!("/docs/assets/{name}"), None).await;
        let body = reply.expect(status);
        assert!(body["error"]["request_id"].is_string(), "{name}: {body}");
    }
    let length = |n: usize| "a".repeat(n);
    edge.get(&format!("/docs/assets/{}", length(64)), None)
        .await
        .expect(404);
    edge.get(&format!("/docs/assets/{}", length(65)), None)
        .await
        .expect(422);
    edge.finish().await;
}
