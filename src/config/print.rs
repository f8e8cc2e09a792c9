//! Writes configurations for people: the effective one with its sources, and the reference of all settings.

use super::{Config, settings, value::Kind};

impl Config {
    /// Returns `section.key = value   # source` lines, aligned; secrets are `***`, unset values `-`.
    #[must_use]
    pub fn table(&self) -> String {
        let shown = |value: &str| {
            if value.is_empty() {
                "-".to_owned()
            } else {
                value.to_owned()
            }
        };
        let keys = self
            .effective
            .iter()
            .map(|effective| effective.key.len())
            .max()
            .unwrap_or(0);
        let values = self
            .effective
            .iter()
            .map(|effective| effective.value.len())
            .max()
            .unwrap_or(0)
            .min(48);
        let mut text = String::new();
        for effective in &self.effective {
            let value = shown(&effective.value);
            line(
                &mut text,
                format_args!("{:keys$} = {value:values$}   # {}", effective.key, effective.source),
            );
        }
        text
    }

    /// Returns the same as a JSON object: `{"section.key": {"value", "env", "source"}}`; unset values are null.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let entries = self.effective.iter().map(|effective| {
            let value = (!effective.value.is_empty()).then_some(&effective.value);
            let source = effective.source.to_string();
            (
                effective.key.to_owned(),
                serde_json::json!({"value": value, "env": effective.env, "source": source}),
            )
        });
        serde_json::Value::Object(entries.collect())
    }
}

/// Returns a `kronos.toml` with every setting, its default and its documentation.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Every setting of Kronos with its default. Order: defaults < kronos.toml < .env < environment < flags.\n\
         # Made by `kronos config --reference`; what is commented out has no default.\n",
    );
    let mut section = "";
    for setting in settings::all() {
        if setting.section() != section {
            section = setting.section();
            line(&mut text, format_args!("\n[{section}]"));
        }
        line(&mut text, format_args!("# {}", setting.doc));
        let flag = setting.flag.map(|flag| format!(", flag {flag}")).unwrap_or_default();
        line(
            &mut text,
            format_args!("# {}; variable {}{flag}", capital(&setting.kind.allowed()), setting.env),
        );
        let off = if setting.default.is_empty() { "# " } else { "" };
        line(
            &mut text,
            format_args!("{off}{} = {}", setting.name(), literal(setting)),
        );
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.push_str(&arguments.to_string());
    text.push('\n');
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn literal(setting: &settings::Setting) -> String {
    match &setting.kind {
        Kind::Integer { .. } | Kind::Float { .. } | Kind::Bool(_) if !setting.default.is_empty() => {
            setting.default.to_owned()
        }
        Kind::List(_) => setting.default.to_owned(),
        _ => format!("{:?}", setting.default),
    }
}
