//! Spans for an OTLP collector over HTTP, when there is one; without it nothing of this is started.
//!
//! The spans are those of `kronos_actors::trace` and of HTTP requests; they hold ids, names and numbers, never what was said.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kronos_actors::{
    http,
    metrics::TRACE_SPANS,
    trace::{self, TraceContext},
};
use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanProcessor,
    },
};
use secrecy::ExposeSecret as _;
use tracing::{Span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

use crate::config::TracesConfig;

/// Where a collector takes traces, below its address.
const PATH: &str = "v1/traces";
/// Longest time that spans wait for a batch.
const DELAY: Duration = Duration::from_secs(1);
/// Most spans of a batch.
const BATCH: usize = 512;
/// Time for one batch, retries included.
const EXPORT: Duration = Duration::from_secs(5);
/// Time for what is left when the server ends.
const LAST: Duration = Duration::from_secs(2);

/// Spans that the collector has, and spans that it has not.
static EXPORTED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Traces cannot be exported with these settings.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be exported: {0}")]
pub struct TracesError(String);

type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts the export, and returns what hears of spans; `None` when there is no collector.
///
/// # Errors
/// Settings that make no client.
pub(crate) fn start(config: &TracesConfig) -> Result<Option<Spans>, TracesError> {
    let Some(endpoint) = &config.endpoint else {
        return Ok(None);
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new(endpoint.starts_with("https:")).map_err(TracesError)?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/{PATH}", endpoint.trim_end_matches('/')))
        .with_headers(headers(config)?)
        .with_timeout(EXPORT)
        .build()
        .map_err(|error| TracesError(error.to_string()))?;
    let resource = Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Counted::new(exporter, config.queue_spans))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            config.sample_ratio,
        ))))
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("kronos");
    drop(PROVIDER.set(provider));
    trace::install(Box::new(Exported(TraceContextPropagator::new())));
    // Those of libraries are theirs. Ours are all at the level that passes every filter, which spares others the question.
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("kronos"));
    let ours = ours.with_max_level_hint(LevelFilter::ERROR);
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        // What nobody reads costs something for each span that is entered.
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_threads(false)
        .with_location(false)
        .with_filter(ours);
    Ok(Some(Box::new(spans)))
}

/// Sends what is left, for a short time.
pub(crate) fn finish() {
    if let Some(provider) = PROVIDER.get() {
        drop(provider.shutdown_with_timeout(LAST));
    }
}

/// Brings the metrics of the spans up to date.
pub(crate) fn report() {
    for (result, spans) in [("exported", &EXPORTED), ("dropped", &DROPPED)] {
        metrics::counter!(TRACE_SPANS, "result" => result).absolute(spans.load(Ordering::Relaxed));
    }
}

/// Reads `NAME=VALUE,NAME=VALUE`.
fn headers(config: &TracesConfig) -> Result<HashMap<String, String>, TracesError> {
    let text = config.headers.as_ref().map_or("", |headers| headers.expose_secret());
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    });
    let pairs: Option<HashMap<String, String>> = pairs.collect();
    pairs.ok_or_else(|| TracesError("OTEL_EXPORTER_OTLP_HEADERS=*** must be NAME=VALUE,NAME=VALUE".to_owned()))
}

/// Counts what the collector gets, and bounds what waits for it.
#[derive(Debug)]
struct Counted {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicU64>,
    most: u64,
}

impl Counted {
    fn new(exporter: SpanExporter, most: usize) -> Self {
        let waiting = Arc::<AtomicU64>::default();
        let counting = Counting {
            inner: exporter,
            waiting: Arc::clone(&waiting),
        };
        // The batch that is on its way has left the queue: it never refuses what is let through here.
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(most)
            .with_max_export_batch_size(BATCH.min(most))
            .with_scheduled_delay(DELAY)
            .build();
        Self {
            inner: BatchSpanProcessor::builder(counting).with_batch_config(config).build(),
            waiting,
            most: most as u64,
        }
    }
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[derive(Debug)]
struct Counting {
    inner: SpanExporter,
    waiting: Arc<AtomicU64>,
}

impl opentelemetry_sdk::trace::SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let count = if result.is_ok() { &EXPORTED } else { &DROPPED };
        count.fetch_add(spans, Ordering::Relaxed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The HTTP client of this process' other requests, on a thread of its own: the exporter's is no task of a runtime.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl Client {
    fn new(tls: bool) -> Result<Self, String> {
        let http = http::client(tls, EXPORT).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("traces".to_owned());
        thread
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(|error| error.to_string())?;
        Ok(Self { http, runtime: handle })
    }
}

async fn send(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.extend(std::mem::take(answer.headers_mut()));
    }
    Ok(response.body(answer.bytes().await?)?)
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = send(self.http.clone(), request);
        let task = self.runtime.spawn(async { tokio::time::timeout(EXPORT, sent).await? });
        task.await?
    }
}

/// Joins spans to the traces of others.
struct Exported(TraceContextPropagator);

impl trace::Tracer for Exported {
    fn join(&self, span: &Span, place: &TraceContext, link: bool) {
        let context = self.0.extract_with_context(&Context::new(), &Read(place));
        if link {
            span.add_link(context.span().span_context().clone());
        } else {
            // It was made just now; a span that nobody listens to has no parent.
            drop(span.set_parent(context));
        }
    }

    fn place(&self, span: &Span) -> Option<TraceContext> {
        if span.is_disabled() {
            return None;
        }
        let mut written = Written::default();
        self.0.inject_context(&span.context(), &mut written);
        TraceContext::read(&written.parent?, written.state.as_deref())
    }

    fn list(&self, span: &Span, name: &'static str, word: &str) {
        let words = vec![StringValue::from(word.to_owned())];
        span.set_attribute(name, Value::Array(Array::String(words)));
    }

    fn rename(&self, span: &Span, name: String) {
        span.context().span().update_name(name);
    }
}

struct Read<'a>(&'a TraceContext);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.0.parent()),
            "tracestate" => self.0.state(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[derive(Default)]
struct Written {
    parent: Option<String>,
    state: Option<String>,
}

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => self.parent = Some(value),
            "tracestate" => self.state = Some(value),
            _ => {}
        }
    }
}
