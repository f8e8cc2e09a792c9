//! The dashboards as their files say.

use serde_json::Value;

use super::{grafana, promql::Query};

/// One dashboard.
pub(super) struct Board {
    /// Its file, without the folder.
    pub(super) file: String,
    pub(super) json: Value,
}

/// An expression of a panel, an annotation or a variable.
pub(super) struct Asked {
    /// Where it stands: dashboard and panel.
    pub(super) place: String,
    pub(super) expression: String,
    /// Its legend; empty when it has none.
    pub(super) legend: String,
}

impl Asked {
    pub(super) fn query(&self) -> Query {
        Query::new(&self.expression)
    }
}

impl Board {
    /// All of them, in the order of their names.
    pub(super) fn all() -> Vec<Self> {
        let folder = std::fs::read_dir(grafana("dashboards")).expect("the dashboards");
        let mut files: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let board = |file: String| {
            let text = super::read(&format!("dashboards/{file}"));
            let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            Self { file, json }
        };
        files.into_iter().map(board).collect()
    }

    pub(super) fn title(&self) -> &str {
        self.json["title"].as_str().expect("a title")
    }

    pub(super) fn uid(&self) -> &str {
        self.json["uid"].as_str().expect("a uid")
    }

    /// Every panel and every row, those inside rows, too.
    pub(super) fn items(&self) -> Vec<&Value> {
        let outer = self.json["panels"].as_array().expect("panels").iter();
        outer
            .flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
            .collect()
    }

    /// Every panel that shows something.
    pub(super) fn panels(&self) -> Vec<&Value> {
        self.items()
            .into_iter()
            .filter(|panel| panel["type"] != "row")
            .collect()
    }

    /// `Dashboard / Panel`.
    pub(super) fn place(&self, panel: &Value) -> String {
        format!("{} / {}", self.title(), panel["title"].as_str().unwrap_or("?"))
    }

    /// What it asks of Prometheus.
    pub(super) fn asks(&self) -> Vec<Asked> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of_panel = |panel: &Value| -> Vec<Asked> {
            let targets = panel["targets"].as_array().expect("targets").iter();
            let asked = |target: &Value| Asked {
                place: self.place(panel),
                expression: text(&target["expr"]),
                legend: text(&target["legendFormat"]),
            };
            targets.map(asked).collect()
        };
        let notes = self.json["annotations"]["list"].as_array().expect("annotations").iter();
        let of_notes = notes
            .filter(|note| note["target"]["expr"].is_string())
            .map(|note| Asked {
                place: format!("{} / annotation {}", self.title(), note["name"]),
                expression: text(&note["target"]["expr"]),
                legend: String::new(),
            });
        self.panels().into_iter().flat_map(of_panel).chain(of_notes).collect()
    }
}
