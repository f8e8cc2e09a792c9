//! The rules as their file says. It is YAML of one shape, and read line by line; Prometheus reads all of YAML and is asked
//! whether this saw the same.

use super::{promql::Query, read};

/// A rule: an alert, or what is recorded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) is_alert: bool,
    pub(super) expression: String,
    pub(super) severity: String,
    pub(super) summary: String,
    pub(super) description: String,
    pub(super) runbook: String,
}

impl Rule {
    pub(super) fn query(&self) -> Query {
        Query::new(&self.expression)
    }
}

/// Every rule, in their order.
pub(super) fn rules() -> Vec<Rule> {
    let text = read("alerts.yaml");
    let mut lines = text.lines().peekable();
    let mut rules: Vec<Rule> = Vec::new();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.trim_start().trim_start_matches("- ").split_once(": ") else {
            continue;
        };
        if matches!(key, "alert" | "record") {
            rules.push(Rule {
                name: value.to_owned(),
                is_alert: key == "alert",
                expression: String::new(),
                severity: String::new(),
                summary: String::new(),
                description: String::new(),
                runbook: String::new(),
            });
            continue;
        }
        let Some(rule) = rules.last_mut() else { continue };
        let field = match key {
            "expr" => &mut rule.expression,
            "severity" => &mut rule.severity,
            "summary" => &mut rule.summary,
            "description" => &mut rule.description,
            "runbook_url" => &mut rule.runbook,
            _ => continue,
        };
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        value.replace("\\\"", "\"").clone_into(field);
        if value == "|-" {
            field.clear();
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                let between = if field.is_empty() { "" } else { "\n" };
                field.push_str(&format!("{between}{}", &more[10..]));
            }
        }
    }
    rules
}

/// Only the alerts.
pub(super) fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| rule.is_alert).collect()
}
