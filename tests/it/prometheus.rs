//! Prometheus and Grafana: what `grafana/` asks of the metrics is there, and a real Prometheus says so.

mod board;
mod declared;
mod live;
mod load;
mod process;
mod promql;
mod rules;
mod tools;

use std::path::PathBuf;

use kronos_actors::metrics::{ALL, Metric, Values};

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
    let find = |name: &str| ALL.iter().find(|metric| metric.name == name);
    let of_histogram = |tail| {
        let metric = find(series.strip_suffix(tail)?)?;
        matches!(metric.kind, kronos_actors::metrics::Kind::Histogram(_)).then_some(metric)
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
        let kronos_actors::metrics::Kind::Histogram(bounds) = metric.kind else {
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
