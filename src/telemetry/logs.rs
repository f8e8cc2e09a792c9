//! Log lines: what is written where, and which lines.
//!
//! Nobody who writes a line waits for whoever takes it: stderr and each file have a thread of their own behind a bounded
//! queue, and what does not fit is counted and left out.

use std::{
    fs,
    io::{self, IsTerminal as _, Write},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::JoinHandle,
    time::Duration,
};

use kronos_actors::{
    metrics::{LOG_LINES, LOG_LINES_DROPPED},
    trace,
};
use tracing::{Event, Level, Metadata, level_filters::LevelFilter, span, subscriber::Interest};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::MakeWriter,
    layer::{Context, Filter, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

mod burst;
mod files;
mod format;
pub(crate) mod level;

use burst::Burst;
use files::Rotating;
use format::{ForMachines, ForPeople, JsonLines};

use super::{TelemetryError, traces::TracesError};
use crate::config::{LogConfig, LogFormat};

/// Pause between two looks at what was left out.
const TELL: Duration = Duration::from_secs(1);
/// The file of all lines, and that of errors.
const MAIN: &str = "kronos.log";
const ERRORS: &str = "kronos-errors.log";

/// What a level does not mean, unless a filter names it: the web framework tells of every start and stop of a worker, sled of
/// every page (and at `trace` of every byte of what was said), the HTTP client of every connection that it keeps.
const QUIET: &str = ",actix_server=warn,actix_http=warn,actix_http::h1=off,sled=warn,hyper_util=info,reqwest=info";

/// What no level means: the HTTP parser writes an error for whatever a stranger sends; ours are written where they are made.
const NEVER: &str = ",actix_http::h1=off";

/// Completes a level; a filter is taken at its word, and a level that is as quiet needs nothing.
fn filter_for(level: &str) -> String {
    match level {
        "info" | "debug" | "trace" => format!("{level}{QUIET}"),
        "warn" | "error" => format!("{level}{NEVER}"),
        _ => level.to_owned(),
    }
}

/// Reads a level as guides spell it (`INFO`, `WARNING`, `CRITICAL`) or a filter; `None` when it is neither.
pub(crate) fn read_level(text: &str) -> Option<String> {
    let level = match text.to_ascii_lowercase().as_str() {
        "trace" | "debug" | "info" | "error" | "off" => text.to_ascii_lowercase(),
        "warn" | "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        _ if text.contains(['=', ',']) => text.to_owned(),
        _ => return None,
    };
    EnvFilter::try_new(&level).ok().map(|_filter| level)
}

/// A folder that takes no log files.
#[derive(Debug, thiserror::Error)]
#[error("LOG_DIR={dir} cannot be written: {cause}")]
pub struct LogError {
    dir: String,
    cause: io::Error,
}

/// Lines written by level, in the order of [`LEVELS`].
static WRITTEN: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "trace"),
];

static LOGS: OnceLock<Logs> = OnceLock::new();

/// The log lines of this process.
struct Logs {
    level: level::Control,
    burst: Arc<Burst>,
    outputs: Vec<ErrorCounter>,
    ends: Mutex<Option<Ends>>,
}

/// What is to be ended so that everything is written.
struct Ends {
    teller: Option<Teller>,
    /// Each writes what it has when it is dropped.
    writers: Vec<WorkerGuard>,
}

/// The thread that says what was left out; it ends with its sender.
type Teller = (SyncSender<()>, JoinHandle<()>);

/// Starts the log lines of this process, the first time; called again, it changes nothing.
///
/// `spans` makes what hears of spans beside the lines.
///
/// # Errors
/// The folder for the files cannot be written; what `spans` fails with.
pub(crate) fn start(
    config: &LogConfig,
    spans: impl FnOnce() -> Result<Option<Lines>, TracesError>,
) -> Result<(), TelemetryError> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = lock(&STARTING);
    if LOGS.get().is_some() {
        return Ok(());
    }
    let mut outputs = Outputs::default();
    let files = match &config.dir {
        Some(dir) => Some(outputs.files(dir, config)?),
        None => None,
    };
    let spans = spans()?;
    let stderr = config.stderr.then(|| outputs.add(io::stderr(), config, "log-stderr"));
    let level = EnvFilter::try_new(filter_for(&config.level)).unwrap_or_else(|_checked_at_load| EnvFilter::new("info"));
    let (level, handle) = reload::Layer::new(level);
    let burst = Arc::new(Burst::new(config.burst));
    let control = level::Control::new(&config.level, handle);
    let which = Which {
        level,
        spans: control.spans(),
    };
    let lines = lines(config, stderr, files, Arc::clone(&burst)).with_filter(which);
    // Where another subscriber was set before (an embedder's), it stays.
    let layers: Vec<Lines> = [Some(lines.boxed()), spans].into_iter().flatten().collect();
    drop(tracing_subscriber::registry().with(layers).try_init());
    let teller = tell_now_and_then(&burst);
    LOGS.get_or_init(|| Logs {
        level: control,
        burst,
        outputs: outputs.counters,
        ends: Mutex::new(Some(Ends {
            teller,
            writers: outputs.guards,
        })),
    });
    Ok(())
}

/// Writes what is on its way. Lines that come later may be left out.
pub(crate) fn finish() {
    let Some(Ends { teller, writers }) = LOGS.get().and_then(|logs| lock(&logs.ends).take()) else {
        return;
    };
    if let Some((stop, thread)) = teller {
        drop(stop);
        // It has a last word, which the writers are to take.
        drop(thread.join());
    }
    drop(writers);
}

/// Brings the metrics of the lines up to date.
pub(crate) fn report() {
    for ((_, level), written) in LEVELS.iter().zip(&WRITTEN) {
        metrics::counter!(LOG_LINES, "level" => *level).absolute(written.load(Ordering::Relaxed));
    }
    let Some(logs) = LOGS.get() else { return };
    let full: usize = logs.outputs.iter().map(ErrorCounter::dropped_lines).sum();
    let full = u64::try_from(full).unwrap_or(u64::MAX);
    let slow = full.saturating_add(files::REFUSED.load(Ordering::Relaxed));
    for (reason, lines) in [("burst", logs.burst.left_out()), ("slow_disk", slow)] {
        metrics::counter!(LOG_LINES_DROPPED, "reason" => reason).absolute(lines);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads that write.
#[derive(Default)]
struct Outputs {
    counters: Vec<ErrorCounter>,
    guards: Vec<WorkerGuard>,
}

impl Outputs {
    fn add(&mut self, writer: impl Write + Send + 'static, config: &LogConfig, thread: &str) -> NonBlocking {
        let builder = NonBlockingBuilder::default().buffered_lines_limit(config.queue_lines);
        let (output, guard) = builder.thread_name(thread).finish(writer);
        self.counters.push(output.error_counter());
        self.guards.push(guard);
        output
    }

    fn files(&mut self, dir: &Path, config: &LogConfig) -> Result<Files, LogError> {
        let open = |name: &str| {
            fs::create_dir_all(dir)?;
            Rotating::open(dir.join(name), config.file_bytes, config.files)
        };
        let failed = |cause| LogError {
            dir: dir.display().to_string(),
            cause,
        };
        let (main, errors) = (open(MAIN).map_err(failed)?, open(ERRORS).map_err(failed)?);
        Ok(Files {
            main: self.add(main, config, "log-file"),
            errors: self.add(errors, config, "log-errors"),
        })
    }
}

/// The files of `LOG_DIR`.
struct Files {
    main: NonBlocking,
    errors: NonBlocking,
}

/// Where one line goes.
struct ToFiles {
    main: NonBlocking,
    errors: Option<NonBlocking>,
}

impl<'a> MakeWriter<'a> for Files {
    type Writer = ToFiles;

    fn make_writer(&'a self) -> ToFiles {
        ToFiles {
            main: self.main.clone(),
            errors: None,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> ToFiles {
        ToFiles {
            errors: (*metadata.level() == Level::ERROR).then(|| self.errors.clone()),
            ..self.make_writer()
        }
    }
}

impl Write for ToFiles {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(errors) = &mut self.errors {
            errors.write_all(line)?;
        }
        self.main.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

fn lines(config: &LogConfig, stderr: Option<NonBlocking>, files: Option<Files>, burst: Arc<Burst>) -> Lines {
    let colours = io::stderr().is_terminal();
    let stderr = stderr.map(|writer| line_layer::<true, _>(config.format, writer, colours));
    let files = files.map(|writer| line_layer::<false, _>(config.format, writer, false));
    Box::new(Bounded {
        lines: Box::new([stderr, files].into_iter().flatten().collect::<Vec<Lines>>()),
        burst,
    })
}

/// `COLOURS` tells apart what is kept with the spans.
fn line_layer<const COLOURS: bool, W>(format: LogFormat, writer: W, colours: bool) -> Lines
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // It would say so on stderr, which is what has failed, and panic.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false);
    match format {
        LogFormat::Pretty => Box::new(
            layer
                .fmt_fields(ForPeople::<COLOURS>)
                .with_target(false)
                .with_ansi(colours)
                .with_writer(writer),
        ),
        LogFormat::Json => Box::new(
            layer
                .fmt_fields(ForMachines)
                .event_format(JsonLines)
                .with_ansi(false)
                .with_writer(writer),
        ),
    }
}

/// Leaves lines out of which one place has too many, and counts the others.
///
/// A layer and no filter: what a filter turns down as late as it knows the event keeps the filter's state for what comes next
/// (tracing-subscriber 0.3.23).
struct Bounded {
    lines: Lines,
    burst: Arc<Burst>,
}

impl Layer<Registry> for Bounded {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, Registry>) {
        let metadata = event.metadata();
        if !self.burst.admits(metadata) {
            return;
        }
        let place = LEVELS.iter().position(|(each, _)| each == metadata.level());
        if let Some(written) = place.and_then(|place| WRITTEN.get(place)) {
            written.fetch_add(1, Ordering::Relaxed);
        }
        self.lines.on_event(event, context);
    }

    fn on_layer(&mut self, subscriber: &mut Registry) {
        self.lines.on_layer(subscriber);
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, Registry>) {
        self.lines.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, Registry>) {
        self.lines.on_record(id, values, context);
    }
}

/// Which lines are written: those of the level.
struct Which {
    level: reload::Layer<EnvFilter, Registry>,
    /// The filter names spans, and so is to hear of each that is entered.
    spans: Arc<AtomicBool>,
}

impl Filter<Registry> for Which {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, Registry>) -> bool {
        metadata.target() != trace::TARGET && Filter::enabled(&self.level, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == trace::TARGET {
            return Interest::never();
        }
        let interest = Filter::callsite_enabled(&self.level, metadata);
        // A filter that refuses a line of which it said "always" breaks an assertion of the registry, in builds that have them.
        if interest.is_always() && metadata.is_event() {
            Interest::sometimes()
        } else {
            interest
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::max_level_hint(&self.level)
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, Registry>) {
        Filter::on_new_span(&self.level, attributes, id, context);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, Registry>) {
        Filter::on_record(&self.level, id, values, context);
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, Registry>) {
        if self.spans.load(Ordering::Relaxed) {
            Filter::on_enter(&self.level, id, context);
        }
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, Registry>) {
        if self.spans.load(Ordering::Relaxed) {
            Filter::on_exit(&self.level, id, context);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, Registry>) {
        Filter::on_close(&self.level, id, context);
    }
}

fn tell_now_and_then(burst: &Arc<Burst>) -> Option<Teller> {
    let burst = Arc::clone(burst);
    let (stop, stopped) = mpsc::sync_channel::<()>(0);
    let work = move || {
        while matches!(stopped.recv_timeout(TELL), Err(RecvTimeoutError::Timeout)) {
            burst.tell();
        }
        burst.tell();
    };
    let thread = std::thread::Builder::new().name("log-burst".to_owned()).spawn(work);
    thread.ok().map(|thread| (stop, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_never_made_louder_by_what_it_does_not_mean() {
        for level in ["off", "info,sled=trace"] {
            assert_eq!(filter_for(level), level);
        }
        for level in ["error", "warn"] {
            assert_eq!(filter_for(level), format!("{level},actix_http::h1=off"));
        }
        for level in ["info", "debug", "trace"] {
            assert!(EnvFilter::try_new(filter_for(level)).is_ok() && filter_for(level).contains("sled=warn"));
        }
    }

    #[test]
    fn levels_are_taken_as_older_guides_spell_them() {
        for (text, level) in [
            ("INFO", "info"),
            ("WARNING", "warn"),
            ("critical", "error"),
            ("info,kronos=debug", "info,kronos=debug"),
        ] {
            assert_eq!(read_level(text).as_deref(), Some(level));
        }
        for text in ["", "loud", "kronos=loud"] {
            assert_eq!(read_level(text), None, "{text}");
        }
    }
}
