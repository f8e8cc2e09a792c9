//! What the dashboards and rules name exists, and what exists is on a dashboard: without Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    all,
    board::Board,
    declared, has_label, may_be,
    promql::{Query, Selector},
    read,
    rules::{alerts, rules},
};

/// What Prometheus makes itself, with its labels.
const OF_PROMETHEUS: [(&str, &[&str]); 2] = [
    ("up", &["job", "instance"]),
    ("ALERTS", &["alertname", "alertstate", "severity", "job", "instance"]),
];

/// The names in the list of the README's section.
fn not_shown() -> Vec<String> {
    let text = read("README.md");
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with("Not on a dashboard"));
    let section = section.expect("a section `Not on a dashboard`");
    let name = |line: &str| Some(line.strip_prefix("- `")?.split_once("`: ")?.0.to_owned());
    section.lines().filter_map(name).collect()
}

#[test]
fn every_metric_is_on_a_dashboard_or_named_as_not() {
    let asked: BTreeSet<&str> = Board::all()
        .iter()
        .flat_map(Board::asks)
        .flat_map(|asked| asked.query().selectors())
        .filter_map(|selector| declared(&selector.name))
        .map(|metric| metric.name)
        .collect();
    let not_shown = not_shown();
    let missing: Vec<_> = all()
        .map(|metric| metric.name)
        .filter(|name| !asked.contains(name))
        .collect();
    let not_shown: Vec<&str> = not_shown.iter().map(String::as_str).collect();
    assert_eq!(
        missing, not_shown,
        "on no dashboard, and what grafana/README.md names so"
    );
}

/// What is wrong with a selector: unknown names, labels and values.
fn wrong(selector: &Selector, recorded: &BTreeSet<String>) -> Vec<String> {
    let known = declared(&selector.name).is_some() || recorded.contains(&selector.name);
    let of_prometheus = OF_PROMETHEUS.iter().find(|(name, _)| *name == selector.name);
    if !known && of_prometheus.is_none() {
        return vec![format!("there is no metric {}", selector.name)];
    }
    let mut wrong = Vec::new();
    for matcher in &selector.matchers {
        let label = &matcher.label;
        let exists = of_prometheus.map_or_else(
            || has_label(&selector.name, label),
            |(_, all)| all.contains(&label.as_str()),
        );
        if !exists {
            wrong.push(format!("{} has no label {label}", selector.name));
        }
        for value in matcher.values().into_iter().filter(|value| !value.starts_with('$')) {
            if exists && !may_be(&selector.name, label, value) {
                wrong.push(format!("{}: {label} is never {value}", selector.name));
            }
        }
        for beginning in matcher.beginnings() {
            let some = declared(&selector.name).is_none_or(|metric| {
                metric.labels.iter().any(|(_, values)| match values {
                    kronos_actors::metrics::Values::One(all) => all.iter().any(|value| value.starts_with(beginning)),
                    _ => true,
                })
            });
            if !some {
                wrong.push(format!("{}: {label} never begins with {beginning}", selector.name));
            }
        }
    }
    wrong
}

/// What is wrong with an expression, its groupings included.
fn wrong_in(query: &Query, recorded: &BTreeSet<String>) -> Vec<String> {
    let mut all: Vec<String> = query
        .selectors()
        .iter()
        .flat_map(|selector| wrong(selector, recorded))
        .collect();
    for grouping in query.groupings() {
        for label in &grouping.labels {
            for selector in grouping.of.iter().filter(|selector| !has_label(&selector.name, label)) {
                all.push(format!("{} has no label {label} to group by", selector.name));
            }
        }
    }
    all
}

fn recorded() -> BTreeSet<String> {
    rules()
        .into_iter()
        .filter(|rule| !rule.is_alert)
        .map(|rule| rule.name)
        .collect()
}

#[test]
fn names_of_the_load_tester_are_its_own() {
    let names: Vec<&str> = all().map(|metric| metric.name).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len());
    let of_load = names.iter().filter(|name| name.starts_with("kronos_load_"));
    assert_eq!(of_load.count(), super::OF_LOAD.len());
}

#[test]
fn names_labels_and_values_in_every_expression_exist() {
    let recorded = recorded();
    let on_boards = Board::all().into_iter().flat_map(|board| board.asks());
    let mut asked: Vec<(String, Query)> = on_boards.map(|asked| (asked.place.clone(), asked.query())).collect();
    asked.extend(rules().into_iter().map(|rule| (rule.name.clone(), rule.query())));
    assert!(asked.len() > 200, "only {}", asked.len());
    let wrong: Vec<String> = asked
        .iter()
        .flat_map(|(place, query)| {
            wrong_in(query, &recorded)
                .into_iter()
                .map(move |why| format!("{place}: {why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_series_of_the_rules_tests_are_such_as_the_server_exports() {
    let text = read("alerts_test.yaml");
    let series = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- series: '")?.strip_suffix('\''));
    let mut seen = 0;
    for series in series {
        let selectors = Query::new(series).selectors();
        assert_eq!(selectors.len(), 1, "{series}");
        assert_eq!(wrong(&selectors[0], &BTreeSet::new()), Vec::<String>::new(), "{series}");
        let given: BTreeSet<&str> = selectors[0]
            .matchers
            .iter()
            .map(|matcher| matcher.label.as_str())
            .collect();
        let labels = declared(&selectors[0].name)
            .map(|metric| metric.labels)
            .unwrap_or_default();
        for (label, _) in labels {
            assert!(given.contains(label), "{series} has no {label}");
        }
        seen += 1;
    }
    assert!(seen > 100, "only {seen}");
}

#[test]
fn there_are_these_dashboards_and_their_variables() {
    let boards = Board::all();
    let named: Vec<_> = boards
        .iter()
        .map(|board| (board.file.as_str(), board.title(), board.uid()))
        .collect();
    assert_eq!(
        named,
        [
            ("load-test.json", "Load test", "kronos-load-test"),
            ("model-and-tools.json", "Model and tools", "kronos-model-and-tools"),
            ("overview.json", "Overview", "kronos-overview"),
            (
                "sessions-and-delivery.json",
                "Sessions and delivery",
                "kronos-sessions-and-delivery"
            ),
            (
                "storage-and-process.json",
                "Storage and process",
                "kronos-storage-and-process"
            ),
        ]
    );
    for board in &boards {
        let variables = board.json["templating"]["list"].as_array().unwrap();
        let names: Vec<_> = variables
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["datasource", "job", "instance"], "{}", board.title());
        for variable in &variables[1..] {
            assert!(
                variable["multi"] == true && variable["includeAll"] == true,
                "{variable}"
            );
            assert!(
                variable["query"]["query"]
                    .as_str()
                    .unwrap()
                    .starts_with("label_values(kronos_build_info"),
                "{variable}"
            );
        }
    }
}

#[test]
fn every_panel_is_explained_has_a_unit_and_a_place_of_its_own() {
    for board in Board::all() {
        let mut taken: BTreeMap<(u64, u64), String> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for panel in board.items() {
            let place = board.place(panel);
            assert!(
                ids.insert(panel["id"].as_u64().expect("an id")),
                "{place}: its id is taken"
            );
            let at = |key: &str| {
                panel["gridPos"][key]
                    .as_u64()
                    .unwrap_or_else(|| panic!("{place}: no {key}"))
            };
            assert!(
                at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24,
                "{place} leaves the grid"
            );
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    let other = taken.insert((x, y), place.clone());
                    assert_eq!(other, None, "under {place}");
                }
            }
        }
        for panel in board.panels() {
            let place = board.place(panel);
            assert!(
                panel["description"].as_str().is_some_and(|text| text.len() > 20),
                "{place} is not explained"
            );
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
            assert!(unit.is_some_and(|unit| !unit.is_empty()), "{place} has no unit");
            assert!(!panel["title"].as_str().unwrap_or_default().is_empty(), "{place}");
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                let scoped =
                    expression.contains(r#"job=~"$job", instance=~"$instance""#) || expression.contains("ALERTS");
                // A load tester is a target of its own, and there is one at a time.
                let selectors = Query::new(expression).selectors();
                let scoped = scoped
                    || selectors
                        .iter()
                        .all(|selector| selector.name.starts_with("kronos_load_"));
                assert!(scoped, "{place} does not follow the variables: {expression}");
                for window in ["rate(", "increase("] {
                    assert!(!expression.contains(window) || expression.contains('['), "{place}");
                }
            }
        }
    }
}

#[test]
fn legends_name_labels_that_are_left() {
    for asked in Board::all().iter().flat_map(Board::asks) {
        let query = asked.query();
        let kept: BTreeSet<String> = query
            .groupings()
            .into_iter()
            .flat_map(|grouping| grouping.labels)
            .collect();
        for label in asked
            .legend
            .split("{{")
            .skip(1)
            .map(|rest| rest.split("}}").next().unwrap())
        {
            let plain = kept.is_empty()
                && query
                    .selectors()
                    .iter()
                    .all(|selector| has_label(&selector.name, label));
            assert!(
                kept.contains(label) || plain,
                "{}: {{{{{label}}}}} in {}",
                asked.place,
                asked.expression
            );
        }
    }
}

/// Every link below `value`.
fn links(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| links(value, found)),
        Value::Object(all) => {
            found.extend(
                all.get("links")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            all.values().for_each(|value| links(value, found));
        }
        _ => {}
    }
}

#[test]
fn links_lead_to_dashboards_that_exist() {
    let boards = Board::all();
    let uids: BTreeSet<&str> = boards.iter().map(Board::uid).collect();
    let mut reached = BTreeSet::new();
    for board in &boards {
        let mut all = Vec::new();
        links(&board.json, &mut all);
        let menus = all.iter().filter(|link| link["type"] == "dashboards");
        for menu in menus.clone() {
            for tag in menu["tags"].as_array().unwrap() {
                let tagged = |board: &&Board| board.json["tags"].as_array().unwrap().contains(tag);
                assert_eq!(
                    boards.iter().filter(tagged).count(),
                    boards.len(),
                    "{}: {tag}",
                    board.title()
                );
            }
        }
        assert_eq!(menus.count(), 1, "{} has a menu of the others", board.title());
        for link in all.iter().filter(|link| link["type"] != "dashboards") {
            let url = link["url"].as_str().expect("a url");
            let uid = url
                .strip_prefix("/d/")
                .and_then(|rest| rest.split('?').next())
                .expect("a dashboard");
            assert!(uids.contains(uid), "{}: {url}", board.title());
            for variable in ["datasource", "job", "instance"] {
                assert!(
                    url.contains(&format!("${{{variable}:queryparam}}")),
                    "{url} forgets {variable}"
                );
            }
            reached.insert(uid.to_owned());
        }
    }
    assert!(reached.len() >= 3, "the overview leads to the others: {reached:?}");
}

#[test]
fn every_alert_has_a_runbook_a_case_and_a_severity() {
    let (readme, cases) = (read("README.md"), read("alerts_test.yaml"));
    let alerts = alerts();
    assert!(alerts.len() > 40, "only {}", alerts.len());
    for alert in &alerts {
        let name = &alert.name;
        assert_eq!(
            alert.runbook,
            format!("grafana/README.md#{}", name.to_lowercase()),
            "{name}"
        );
        let heading = format!("#### {name}\n");
        let runbook = readme
            .split(&heading)
            .nth(1)
            .unwrap_or_else(|| panic!("{name} has no runbook"));
        let runbook = runbook.split("\n#").next().unwrap();
        for part in ["- Means: ", "- Look: ", "- Do: "] {
            assert!(runbook.contains(part), "{name}: {part}");
        }
        assert!(
            cases.contains(&format!("alertname=\"{name}\"")),
            "{name} has no case that fires it"
        );
        assert!(
            ["page", "ticket"].contains(&alert.severity.as_str()),
            "{name}: {}",
            alert.severity
        );
        assert!(!alert.summary.is_empty() && !alert.description.is_empty(), "{name}");
    }
    let headings = readme.lines().filter_map(|line| line.strip_prefix("#### "));
    for heading in headings {
        assert!(
            alerts.iter().any(|alert| alert.name == heading),
            "a runbook for no alert: {heading}"
        );
    }
    let troubles = [
        "upstream 503s",
        "slow disk",
        "stalled reader",
        "panic loop",
        "tool failures",
        "full mailboxes",
    ];
    for trouble in troubles {
        assert!(
            cases.contains(&format!("- name: \"{trouble}: ")),
            "no case of {trouble}"
        );
    }
}
