//! How a line looks: fields of spans stand beside those of the event, and what is meant for traces only stays out.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::{
    field::{RecordFields, VisitOutput as _},
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{DefaultVisitor, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// Fields that spans have for traces: a line would say everything twice.
const TRACES_ONLY: [&str; 2] = ["otel.", "gen_ai."];
/// What lines of libraries that use `log` carry about themselves.
const OF_LOG: &str = "log.";

fn is_shown(field: &Field) -> bool {
    let name = field.name();
    !name.starts_with(OF_LOG) && !TRACES_ONLY.iter().any(|prefix| name.starts_with(prefix))
}

/// Fields for people: `name=value`. `COLOURS` tells two outputs apart that share the spans.
#[derive(Debug, Default)]
pub(super) struct ForPeople<const COLOURS: bool>;

impl<'writer, const COLOURS: bool> FormatFields<'writer> for ForPeople<COLOURS> {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut shown = Shown(DefaultVisitor::new(writer, true));
        fields.record(&mut shown);
        shown.0.finish()
    }
}

struct Shown<'writer>(DefaultVisitor<'writer>);

impl Visit for Shown<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_shown(field) {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        if is_shown(field) {
            self.0.record_error(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if is_shown(field) {
            self.0.record_debug(field, value);
        }
    }
}

/// Fields for machines, kept with each span as a JSON object.
#[derive(Debug, Default)]
pub(super) struct ForMachines;

impl<'writer> FormatFields<'writer> for ForMachines {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = Members::default();
        fields.record(&mut members);
        write_object(&mut writer, &members.0)
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let mut members = Members(read_object(&current.fields));
        fields.record(&mut members);
        current.fields.clear();
        write_object(&mut current.as_writer(), &members.0)
    }
}

/// One JSON object a line: time, level, message, then the fields of the event and of the spans around it, the innermost
/// first where two have the same name, and what it is about.
#[derive(Debug, Default)]
pub(super) struct JsonLines;

impl<S> FormatEvent<S, ForMachines> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, ForMachines>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut members = Members::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<ForMachines>>() {
                members.0.extend(read_object(&fields.fields));
            }
        }
        event.record(&mut members);
        let mut members = members.0;
        let message = members.remove("message").unwrap_or_default();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let head = [
            ("timestamp", Value::String(time)),
            ("level", Value::String(metadata.level().to_string())),
            ("message", message),
        ];
        writer.write_char('{')?;
        for (name, value) in head {
            write_member(&mut writer, name, &value)?;
            writer.write_char(',')?;
        }
        for (name, value) in &members {
            if !matches!(name.as_str(), "timestamp" | "level" | "target") {
                write_member(&mut writer, name, value)?;
                writer.write_char(',')?;
            }
        }
        write_member(&mut writer, "target", &Value::from(metadata.target()))?;
        writer.write_str("}\n")
    }
}

fn write_member(writer: &mut Writer<'_>, name: &str, value: &Value) -> fmt::Result {
    write!(writer, "{}:{value}", Value::from(name))
}

fn read_object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

fn write_object(writer: &mut Writer<'_>, members: &Map<String, Value>) -> fmt::Result {
    let text = serde_json::to_string(members).map_err(|_no_json| fmt::Error)?;
    writer.write_str(&text)
}

#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        if is_shown(field) {
            // Raw identifiers: `r#type`.
            let name = field.name();
            self.0
                .insert(name.strip_prefix("r#").unwrap_or(name).to_owned(), value.into());
        }
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if is_shown(field) {
            self.put(field, format!("{value:?}"));
        }
    }
}
