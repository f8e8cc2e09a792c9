//! The layers of configuration and their order. The only reader of the environment.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{Config, ConfigError, Effective, Source, checks, settings};

/// The file that is read when it exists and no other is named.
const DEFAULT_FILE: &str = "kronos.toml";

/// What a secret prints as.
pub(super) const MASK: &str = "***";

/// Everything that a configuration is made from. Gathered first, then loaded, so that tests can bring their own.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The file named on the command line; absent: `./kronos.toml` when it exists.
    pub file: Option<PathBuf>,
    /// The variables of `.env`.
    pub dotenv: HashMap<String, String>,
    /// The variables of the process.
    pub environment: HashMap<String, String>,
    /// Values of flags, by the setting's flag.
    pub flags: Vec<(&'static str, String)>,
}

/// A file that was read: texts by `section.key`.
struct FileValues {
    path: PathBuf,
    values: HashMap<String, String>,
}

/// One value on its way in.
struct Given {
    text: String,
    name: String,
    source: Source,
}

impl Layers {
    /// Gathers the layers of this process: its environment, `./.env`, the given file and flags.
    ///
    /// # Errors
    /// [`ConfigError::File`] when `.env` exists and cannot be read.
    pub fn gather(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Ok(Self {
            file,
            dotenv: read_dotenv(Path::new(".env"))?,
            environment,
            flags,
        })
    }

    /// Makes the configuration: each setting from its strongest layer, then the checks between settings.
    ///
    /// # Errors
    /// [`ConfigError`]; the first value that is not allowed, in the order of the table.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let file = self.read_file()?;
        let mut config = Config::default();
        for setting in settings::all() {
            let given = self.strongest(setting, file.as_ref());
            let mask = |text: &str| {
                if setting.kind.is_secret() {
                    MASK.to_owned()
                } else {
                    without_login(text)
                }
            };
            if let Some(given) = &given
                && !setting.kind.apply(&mut config, &given.text)
            {
                return Err(ConfigError::Value {
                    name: given.name.clone(),
                    value: mask(&given.text),
                    origin: given.source.to_string(),
                    allowed: setting.kind.allowed(),
                });
            }
            let (value, source) = match given {
                Some(given) => (mask(&given.text), given.source),
                None => (setting.default.to_owned(), Source::Default),
            };
            config.effective.push(Effective {
                key: setting.key,
                env: setting.env,
                value,
                source,
            });
        }
        checks::finish(&mut config)?;
        Ok(config)
    }

    fn strongest(&self, setting: &settings::Setting, file: Option<&FileValues>) -> Option<Given> {
        if let Some((flag, text)) = self.flags.iter().find(|(flag, _)| Some(*flag) == setting.flag) {
            return Some(Given {
                text: text.clone(),
                name: (*flag).to_owned(),
                source: Source::Flag(flag),
            });
        }
        // A variable that is set to nothing counts as not set: `GEMINI_API_KEY=` in a template is no key.
        let variable = |layer: &HashMap<String, String>, source: Source| {
            let text = layer.get(setting.env)?.trim();
            (!text.is_empty()).then(|| Given {
                text: text.to_owned(),
                name: setting.env.to_owned(),
                source,
            })
        };
        variable(&self.environment, Source::Environment)
            .or_else(|| variable(&self.dotenv, Source::DotEnv))
            .or_else(|| {
                let file = file?;
                let text = file.values.get(setting.key)?.trim();
                let source = Source::File(file.path.clone());
                (!text.is_empty()).then(|| Given {
                    text: text.to_owned(),
                    name: setting.key.to_owned(),
                    source,
                })
            })
    }

    fn read_file(&self) -> Result<Option<FileValues>, ConfigError> {
        let path = match &self.file {
            Some(path) => path.clone(),
            None if Path::new(DEFAULT_FILE).exists() => PathBuf::from(DEFAULT_FILE),
            None => return Ok(None),
        };
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let values = read_toml(&path, &text)?;
        Ok(Some(FileValues { path, values }))
    }
}

/// Returns the token that the command line client sends, from `KRONOS_TOKEN`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
pub fn client_token() -> Option<String> {
    std::env::var("KRONOS_TOKEN").ok().filter(|token| !token.is_empty())
}

/// Returns the password that the command line sets, from `KRONOS_PASSWORD`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
pub fn client_password() -> Option<String> {
    std::env::var("KRONOS_PASSWORD")
        .ok()
        .filter(|password| !password.is_empty())
}

/// Masks the user and the password of an address: `scheme://user:password@host`.
fn without_login(text: &str) -> String {
    let login = text
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)));
    match login {
        Some((scheme, rest)) => format!("{scheme}://{MASK}@{rest}"),
        None => text.to_owned(),
    }
}

fn unreadable(path: &Path, cause: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::File {
        path: path.display().to_string(),
        cause: cause.to_string(),
    }
}

/// Reads `.env`. An error names the line's number, never the line: it may hold a secret.
fn read_dotenv(path: &Path) -> Result<HashMap<String, String>, ConfigError> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let lines = dotenvy::from_path_iter(path).map_err(|_cause| unreadable(path, &"the file cannot be opened"))?;
    let mut variables = HashMap::new();
    for (index, line) in lines.enumerate() {
        let (name, value) =
            line.map_err(|_secret| unreadable(path, &format!("variable {} is not NAME=value", index + 1)))?;
        variables.entry(name).or_insert(value);
    }
    Ok(variables)
}

/// Flattens a `kronos.toml` to `section.key` and text. Every section and key must exist.
fn read_toml(path: &Path, text: &str) -> Result<HashMap<String, String>, ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1
        });
        unreadable(path, &format!("line {line}: {}", error.message().replace('\n', " ")))
    })?;
    let unknown = |key: String| ConfigError::UnknownKey {
        path: path.display().to_string(),
        key,
    };
    let mut values = HashMap::new();
    for (section, entries) in table {
        let toml::Value::Table(entries) = entries else {
            return Err(unknown(section));
        };
        if !settings::all().any(|setting| setting.section() == section) {
            return Err(unknown(format!("[{section}]")));
        }
        for (name, value) in entries {
            let key = format!("{section}.{name}");
            let setting = settings::by_key(&key).ok_or_else(|| unknown(key.clone()))?;
            let text = flatten(&value).ok_or_else(|| ConfigError::Value {
                name: key.clone(),
                value: if setting.kind.is_secret() {
                    MASK.to_owned()
                } else {
                    value.to_string()
                },
                origin: path.display().to_string(),
                allowed: setting.kind.allowed(),
            })?;
            values.insert(key, text);
        }
    }
    Ok(values)
}

fn flatten(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            serde_json::to_string(&texts?).ok()
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
