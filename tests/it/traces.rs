//! Traces: what a collector gets of a turn, what upstreams are told, and what a collector that is broken costs.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kronos_sim::{ComposioSim, ComposioSimConfig};
use kronos_testkit::{ConnectOptions, eventually, eventually_now};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{Kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(20);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// Words that are said, and that no span may hold.
const SAID: [&str; 4] = ["plantedquestion", "plantedanswer", "plantedowner", "test-key"];

/// A collector that decodes what it gets.
struct Collector {
    address: SocketAddr,
    got: Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<_>>>::default();
        let keep = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&keep)));
            }
        });
        Self { address, got }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn spans(&self) -> Vec<Span> {
        let got = self.got.lock().unwrap();
        got.iter()
            .flat_map(|(_, request)| &request.resource_spans)
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| scope.spans.clone())
            .collect()
    }

    /// Waits for spans with these names, and returns all.
    async fn with(&self, names: &[(&str, usize)]) -> Vec<Span> {
        eventually_now(LIMIT, "the spans are there", || {
            let spans = self.spans();
            let seen: BTreeMap<String, usize> = spans.iter().fold(BTreeMap::new(), |mut seen, span| {
                *seen.entry(span.name.clone()).or_default() += 1;
                seen
            });
            let complete = names.iter().all(|(name, count)| seen.get(*name) == Some(count));
            if complete { Ok(spans) } else { Err(seen) }
        })
        .await
    }
}

async fn take(mut stream: TcpStream, keep: Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = head
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            })
            .expect("a length");
        while bytes.len() < end + 4 + length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body: Vec<u8> = bytes.drain(..end + 4 + length).skip(end + 4).collect();
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("a request of OTLP");
        keep.lock().unwrap().push((head, request));
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn attribute(attributes: &[KeyValue], name: &str) -> Value {
    let read = |value: &AnyValue| match value.value.as_ref() {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::BoolValue(value)) => json!(value),
        _ => json!(null),
    };
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.as_ref()) {
        Some(AnyValue {
            value: Some(Any::ArrayValue(list)),
        }) => list.values.iter().map(read).collect(),
        Some(value) => read(value),
        None => json!(null),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The `traceparent` of a request made within a span.
fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn assert_attributes(span: &Span, expected: &[(&str, Value)]) {
    for (name, value) in expected {
        assert_eq!(attribute(&span.attributes, name), *value, "{name} of {span:#?}");
    }
}

fn assert_says_nothing(collector: &Collector) {
    let all = format!(
        "{:?}",
        collector
            .got
            .lock()
            .unwrap()
            .iter()
            .map(|(_, request)| request)
            .collect::<Vec<_>>()
    );
    for word in SAID {
        assert!(!all.contains(word), "{word}");
    }
}

async fn traced(collector: &Collector, env: &[(&str, &str)]) -> Kronos {
    let url = collector.url();
    let mut all = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop, x-token=plantedtoken"),
        ("OTEL_SERVICE_NAME", "assistant"),
        ("LOG_LEVEL", "off"),
    ];
    all.extend_from_slice(env);
    kronos_with(0.0, &all).await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one tree, span by span")]
async fn a_turn_with_a_tool_is_a_tree_that_says_nothing_of_what_was_said() {
    let collector = Collector::start().await;
    let composio = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let url = composio.url();
    let env = [("COMPOSIO_BASE_URL", url.as_str()), ("COMPOSIO_API_KEY", "ak_test")];
    let kronos = traced(&collector, &env).await;
    composio.connect("ann", "github").unwrap();
    let mut client = kronos.server.connect(ConnectOptions::user("ann")).await;
    let session = client.attach_new().await;
    let call = r#"[[call GITHUB_LIST_REPOSITORY_ISSUES {"owner":"plantedowner","repo":"r"}]] plantedquestion"#;
    client.ask(&session, "m_1", call).await;
    let model = eventually_now(LIMIT, "a generation", || {
        collector
            .spans()
            .into_iter()
            .find(|span| span.name.starts_with("chat "))
            .map(|span| span.name)
    })
    .await;
    let tool = "execute_tool GITHUB_LIST_REPOSITORY_ISSUES";
    let spans = collector
        .with(&[("GET /ws", 1), ("invoke_agent kronos", 1), (&model, 2), (tool, 1)])
        .await;
    let (socket, run, tool) = (
        named(&spans, "GET /ws")[0],
        named(&spans, "invoke_agent kronos")[0],
        named(&spans, tool)[0],
    );
    assert_attributes(
        socket,
        &[
            ("http.request.method", json!("GET")),
            ("http.route", json!("/ws")),
            ("http.response.status_code", json!(101)),
            ("url.path", json!("/ws")),
        ],
    );
    assert!(run.parent_span_id.is_empty(), "{run:#?}");
    assert_eq!(run.links.len(), 1);
    assert_eq!(
        (&run.links[0].trace_id, &run.links[0].span_id),
        (&socket.trace_id, &socket.span_id)
    );
    assert_attributes(
        run,
        &[
            ("gen_ai.operation.name", json!("invoke_agent")),
            ("gen_ai.agent.name", json!("kronos")),
            ("gen_ai.conversation.id", json!(session.as_str())),
            ("user.id", json!("ann")),
        ],
    );
    assert_attributes(
        tool,
        &[
            ("gen_ai.operation.name", json!("execute_tool")),
            ("gen_ai.tool.name", json!("GITHUB_LIST_REPOSITORY_ISSUES")),
            ("error.type", json!(null)),
        ],
    );
    assert!(attribute(&tool.attributes, "gen_ai.tool.call.id").is_string());
    let chats = named(&spans, &model);
    for chat in &chats {
        assert_attributes(
            chat,
            &[
                ("gen_ai.operation.name", json!("chat")),
                ("gen_ai.provider.name", json!("gcp.gemini")),
                ("gen_ai.request.model", json!(model.strip_prefix("chat ").unwrap())),
                ("gen_ai.response.finish_reasons", json!(["STOP"])),
                ("error.type", json!(null)),
            ],
        );
        for tokens in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
            assert!(attribute(&chat.attributes, tokens).as_i64() > Some(0), "{chat:#?}");
        }
    }
    for child in chats.iter().copied().chain([tool]) {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&run.trace_id, &run.span_id));
    }
    let asked: Vec<String> = kronos
        .gemini
        .requests()
        .iter()
        .filter_map(|asked| asked.headers.get("traceparent").cloned())
        .collect();
    let mut expected: Vec<String> = chats.iter().map(|chat| traceparent(chat)).collect();
    expected.sort_by_key(|parent| asked.iter().position(|asked| asked == parent));
    assert_eq!(asked, expected);
    let executed = composio.requests();
    let executed = executed
        .iter()
        .find(|asked| asked.path.contains("/execute/"))
        .expect("a call");
    assert_eq!(executed.headers.get("traceparent"), Some(&traceparent(tool)));
    assert_says_nothing(&collector);
    let got = collector.got.lock().unwrap();
    let (head, request) = &got[0];
    assert!(
        head.starts_with("POST /v1/traces ")
            && head.contains("x-tenant: shop")
            && head.contains("x-token: plantedtoken"),
        "{head}"
    );
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name"), "assistant");
}

#[tokio::test]
async fn a_request_goes_on_with_the_trace_of_its_caller() {
    let collector = Collector::start().await;
    // Nothing that begins here is sampled: what its caller sampled is.
    let kronos = traced(
        &collector,
        &[("OTEL_TRACES_SAMPLER_ARG", "0"), ("GEMINI_MAX_ATTEMPTS", "1")],
    )
    .await;
    let ask = async |message: &str, traceparent: &str| {
        let headers = [("traceparent", traceparent), ("tracestate", "shop=1")];
        let body = json!({"message": message, "user_id": "ann"});
        kronos.server.post("/api/v1/chat/message", &headers, &body).await
    };
    ask("plantedquestion", &format!("00-{TRACE}-{PARENT}-00"))
        .await
        .expect(200);
    ask("plantedquestion", "nonsense").await.expect(200);
    ask("[[503]] plantedquestion", &format!("00-{TRACE}-{PARENT}-01"))
        .await
        .expect(503);
    let route = "POST /api/v1/chat/message";
    let spans = collector.with(&[(route, 1), ("invoke_agent kronos", 1)]).await;
    let (request, run) = (named(&spans, route)[0], named(&spans, "invoke_agent kronos")[0]);
    assert_eq!(
        (hex(&request.trace_id), hex(&request.parent_span_id)),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    assert_eq!(
        (&run.trace_id, &run.parent_span_id),
        (&request.trace_id, &request.span_id)
    );
    let chats: Vec<&Span> = spans.iter().filter(|span| span.name.starts_with("chat ")).collect();
    assert_eq!(chats.len(), 1);
    assert_eq!(chats[0].parent_span_id, run.span_id);
    for (span, error) in [
        (request, "503"),
        (run, "upstream_unavailable"),
        (chats[0], "upstream_unavailable"),
    ] {
        assert_attributes(span, &[("error.type", json!(error))]);
        assert_eq!(span.status.as_ref().unwrap().code, 2, "{span:#?}");
    }
    let asked: Vec<_> = kronos
        .gemini
        .requests()
        .into_iter()
        .map(|asked| asked.headers)
        .collect();
    assert!(asked[0]["traceparent"].starts_with(&format!("00-{TRACE}-")) && asked[0]["traceparent"].ends_with("-00"));
    assert!(!asked[1]["traceparent"].contains(TRACE));
    assert_eq!(asked[2]["traceparent"], traceparent(chats[0]));
    assert_eq!(asked[2]["tracestate"], "shop=1");
    assert_says_nothing(&collector);
}

#[tokio::test]
async fn without_a_collector_the_callers_traceparent_is_passed_on_as_it_is() {
    let kronos = kronos_with(0.0, &[]).await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let body = json!({"message": "Hello!", "user_id": "ann"});
    let ask = async |headers: &[(&str, &str)]| {
        kronos
            .server
            .post("/api/v1/chat/message", headers, &body)
            .await
            .expect(200);
        kronos.gemini.requests().pop().unwrap().headers
    };
    let told = ask(&[("traceparent", &parent), ("tracestate", "shop=1")]).await;
    assert_eq!(
        (told["traceparent"].as_str(), told["tracestate"].as_str()),
        (parent.as_str(), "shop=1")
    );
    for headers in [&[][..], &[("traceparent", "nonsense"), ("tracestate", "shop=1")]] {
        let told = ask(headers).await;
        assert!(
            !told.contains_key("traceparent") && !told.contains_key("tracestate"),
            "{told:?}"
        );
    }
    for result in ["exported", "dropped"] {
        assert_eq!(
            kronos
                .series(&format!(r#"kronos_trace_spans_total{{result="{result}"}}"#))
                .await,
            0
        );
    }
}

#[tokio::test]
async fn a_collector_that_is_broken_costs_spans_and_nothing_else() {
    // One that refuses, and one that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [closed, silent.local_addr().unwrap()] {
        let url = format!("http://{address}");
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ];
        let mut kronos = kronos_with(0.0, &env).await;
        let body = json!({"message": "Hello!", "user_id": "ann"});
        eventually(LIMIT, "spans are dropped", || async {
            kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(200);
            kronos.series(r#"kronos_trace_spans_total{result="dropped"}"#).await > 0
        })
        .await;
        assert_eq!(kronos.series(r#"kronos_trace_spans_total{result="exported"}"#).await, 0);
        kronos.server.sigterm();
        assert!(kronos.server.wait(LIMIT).await.success());
    }
}
