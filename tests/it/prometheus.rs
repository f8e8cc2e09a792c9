//! Prometheus and Grafana: what `grafana/` asks of the metrics is there, and a real Prometheus says so.

mod board;
mod declared;
mod live;
mod load;
mod process;
mod promql;
mod rules;
mod tester;
mod tools;

use std::path::PathBuf;
use std::sync::LazyLock;

use kronos_actors::metrics::{ALL, Kind, Metric, Values};
use metrics::Unit;

/// The load tester is a program and no library: its table is read as it stands.
#[path = "../../load/src/watch/metrics.rs"]
mod of_load;

/// What a load tester shows, in the form of the server's declarations.
static OF_LOAD: LazyLock<Vec<Metric>> = LazyLock::new(|| {
    let labels = |labels: &[(&'static str, &'static [&'static str])]| {
        let of = |all: &'static [&'static str]| {
            if all.is_empty() {
                Values::Build
            } else {
                Values::One(all)
            }
        };
        labels
            .iter()
            .map(|(name, all)| (*name, of(all)))
            .collect::<Vec<_>>()
            .leak() as &'static [_]
    };
    let metric = |metric: &of_load::Metric| Metric {
        name: metric.name,
        kind: match metric.kind {
            of_load::Kind::Counter => Kind::Counter,
            of_load::Kind::Gauge => Kind::Gauge,
            of_load::Kind::Histogram => Kind::Histogram(of_load::BUCKETS),
        },
        unit: Unit::Count,
        help: metric.help,
        labels: labels(metric.labels),
    };
    of_load::ALL.iter().map(metric).collect()
});

/// Everything that is declared: the server's and the load tester's.
fn all() -> impl Iterator<Item = &'static Metric> {
    ALL.iter().chain(OF_LOAD.iter())
}

/// A file of the folder `grafana`.
fn grafana(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("grafana").join(path)
}

fn read(path: &str) -> String {
    let path = grafana(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The declaration of what a series is called; those of a histogram end with `_bucket`, `_sum`, `_count`.
fn declared(series: &str) -> Option<&'static Metric> {
    let find = |name: &str| all().find(|metric| metric.name == name);
    let of_histogram = |tail| {
        let metric = find(series.strip_suffix(tail)?)?;
        matches!(metric.kind, Kind::Histogram(_)).then_some(metric)
    };
    find(series).or_else(|| ["_bucket", "_sum", "_count"].into_iter().find_map(of_histogram))
}

/// The labels that Prometheus itself gives to every series.
const TARGET: [&str; 2] = ["job", "instance"];

/// Whether series of this name have this label; those that the rules record, and Prometheus' own, are not known here.
fn has_label(series: &str, label: &str) -> bool {
    let Some(metric) = declared(series) else { return true };
    let of_bucket = label == "le" && series.ends_with("_bucket");
    TARGET.contains(&label) || of_bucket || metric.labels.iter().any(|(name, _)| *name == label)
}

/// Whether a series of this name may have this value of the label.
fn may_be(series: &str, label: &str, value: &str) -> bool {
    let Some(metric) = declared(series) else { return true };
    if label == "le" {
        let Kind::Histogram(bounds) = metric.kind else {
            return false;
        };
        return value == "+Inf" || value.parse::<f64>().is_ok_and(|bound| bounds.contains(&bound));
    }
    if label == "job" {
        return value == "kronos" && read("prometheus.yml").contains("job_name: kronos");
    }
    let values: Option<Values> = metric
        .labels
        .iter()
        .find(|(name, _)| *name == label)
        .map(|(_, values)| *values);
    label == "instance" || values.is_some_and(|values| values.may_be(value))
}
