//! The small world in which tools act: lists of things, changed and read in the way the catalogue says.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::catalog::{Seed, Toolkit};

/// Things kept in one list; the oldest goes first.
const MAX_ITEMS: usize = 10_000;

/// What a tool does. Texts in `object`, `set` and `result` are templates: `$name` is an argument, `@now` and the like
/// are made, `${..}` stands inside a longer text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Act {
    pub(crate) op: Op,
    #[serde(default)]
    pub(crate) collection: String,
    /// Arguments that say which list of the collection is meant.
    #[serde(default)]
    pub(crate) scope: Vec<String>,
    /// The argument and the field that name one thing.
    #[serde(default)]
    pub(crate) key: Option<(String, String)>,
    /// What a new thing consists of.
    #[serde(default)]
    pub(crate) object: Value,
    /// Fields that change; what renders to null stays.
    #[serde(default)]
    pub(crate) set: Map<String, Value>,
    /// Which things are listed: argument to field; `~a,b` looks for the words in these fields.
    #[serde(default)]
    pub(crate) filter: BTreeMap<String, String>,
    /// The argument that limits a list.
    #[serde(default)]
    pub(crate) limit: Option<String>,
    /// The data of the answer.
    pub(crate) result: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    Create,
    List,
    Get,
    Update,
    Delete,
    /// Answers without looking at the world.
    Answer,
}

/// One list of things.
#[derive(Debug, Default)]
struct Things {
    items: Vec<Value>,
    made: u64,
}

/// All lists.
#[derive(Debug, Default)]
pub(crate) struct World {
    lists: HashMap<String, Things>,
}

/// Who acts with what.
#[derive(Debug)]
pub(crate) struct Actor<'a> {
    pub(crate) user: &'a str,
    /// RFC 3339.
    pub(crate) now: String,
    pub(crate) unix: i64,
    /// 32 hexadecimal digits that are new.
    pub(crate) hex: String,
    pub(crate) arguments: &'a Map<String, Value>,
}

/// What made a tool fail: its data and the text of the error.
pub(crate) type Failure = (Value, String);

impl World {
    /// Carries out what a tool does.
    pub(crate) fn act(&mut self, toolkit: &Toolkit, act: &Act, actor: &Actor<'_>) -> Result<Value, Failure> {
        let missing = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("missing-"));
        if actor.arguments.values().any(missing) {
            return Err(not_found());
        }
        let mut made = Map::new();
        made.insert("now".to_owned(), json!(actor.now));
        made.insert("unix".to_owned(), json!(actor.unix.to_string()));
        made.insert("user".to_owned(), json!(actor.user));
        made.insert("hex".to_owned(), json!(actor.hex.get(..16)));
        made.insert("uuid".to_owned(), json!(dashed(&actor.hex)));
        let things = self.things(toolkit, act, actor);
        match act.op {
            Op::Answer => {}
            Op::Create => {
                things.made += 1;
                made.insert("id".to_owned(), json!(things.made));
                let object = render(&act.object, actor.arguments, &made);
                things.items.push(object.clone());
                if things.items.len() > MAX_ITEMS {
                    things.items.remove(0);
                }
                made.insert("object".to_owned(), object);
            }
            Op::List => {
                let items = things.select(act, actor.arguments);
                made.insert("count".to_owned(), json!(items.len()));
                made.insert("items".to_owned(), json!(items));
            }
            Op::Get => {
                let at = things.find(act, actor.arguments).ok_or_else(not_found)?;
                made.insert("object".to_owned(), json!(things.items.get(at)));
            }
            Op::Update => {
                let at = things.find(act, actor.arguments).ok_or_else(not_found)?;
                let changes = render(&Value::Object(act.set.clone()), actor.arguments, &made);
                let object = things.items.get_mut(at).ok_or_else(not_found)?;
                for (name, value) in changes
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(_, value)| !value.is_null())
                {
                    object[name] = value.clone();
                }
                made.insert("object".to_owned(), object.clone());
            }
            Op::Delete => {
                let at = things.find(act, actor.arguments).ok_or_else(not_found)?;
                made.insert("object".to_owned(), things.items.remove(at));
            }
        }
        Ok(render(&act.result, actor.arguments, &made))
    }

    fn things(&mut self, toolkit: &Toolkit, act: &Act, actor: &Actor<'_>) -> &mut Things {
        let parts = act.scope.iter().map(|name| plain(actor.arguments.get(name)));
        let scope = parts.collect::<Vec<_>>().join("/").to_lowercase();
        let owner = if toolkit.private { actor.user } else { "" };
        let place = format!("{}|{owner}|{}|{scope}", toolkit.slug, act.collection);
        self.lists.entry(place).or_insert_with(|| {
            let fits = |seed: &&Seed| seed.collection == act.collection && seed.scope.to_lowercase() == scope;
            let seeds = toolkit.seed.iter().filter(fits);
            let items: Vec<Value> = seeds.flat_map(|seed| seed.items.iter().cloned()).collect();
            let made = u64::try_from(items.len()).unwrap_or(u64::MAX);
            Things { items, made }
        })
    }
}

impl Things {
    fn find(&self, act: &Act, arguments: &Map<String, Value>) -> Option<usize> {
        let (argument, field) = act.key.as_ref()?;
        let wanted = plain(arguments.get(argument));
        let fits = |item: &Value| plain(item.get(field)).eq_ignore_ascii_case(&wanted);
        self.items.iter().rposition(fits)
    }

    /// Returns what fits all filters, newest first.
    fn select(&self, act: &Act, arguments: &Map<String, Value>) -> Vec<Value> {
        let limit = act.limit.as_ref().and_then(|name| arguments.get(name)?.as_u64());
        let limit = limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX);
        let fits = |item: &&Value| {
            act.filter.iter().all(|(argument, field)| {
                let wanted = plain(arguments.get(argument)).to_lowercase();
                let fields = field.strip_prefix('~');
                wanted.is_empty()
                    || wanted == "all"
                    || fields.map_or_else(
                        || plain(item.get(field)).eq_ignore_ascii_case(&wanted),
                        |fields| has_words(item, fields, &wanted),
                    )
            })
        };
        self.items.iter().rev().filter(fits).take(limit).cloned().collect()
    }
}

/// Looks for each word of a search in the fields; `from:anna` looks for `anna`.
fn has_words(item: &Value, fields: &str, wanted: &str) -> bool {
    let text = fields.split(',').map(|field| plain(item.get(field)).to_lowercase());
    let text = text.collect::<Vec<_>>().join("\n");
    let bare = |word: &str| word.rsplit(':').next().unwrap_or(word).trim_matches('"').to_owned();
    wanted.split_whitespace().all(|word| text.contains(&bare(word)))
}

fn not_found() -> Failure {
    let data = json!({"status_code": 404, "message": "Not Found"});
    (data, "404 Client Error: Not Found".to_owned())
}

/// Returns the text of a value; of text itself without quotes, of nothing nothing.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Writes 32 hexadecimal digits like a UUID.
fn dashed(hex: &str) -> String {
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// Fills in a template.
fn render(template: &Value, arguments: &Map<String, Value>, made: &Map<String, Value>) -> Value {
    let lookup = |name: &str| match name.strip_prefix('@') {
        Some(name) => made.get(name).cloned(),
        None => arguments.get(name).cloned(),
    };
    match template {
        Value::String(text) if text.starts_with('@') => lookup(text).unwrap_or_default(),
        Value::String(text) if text.starts_with('$') && !text.starts_with("${") => {
            lookup(text.trim_start_matches('$')).unwrap_or_default()
        }
        Value::String(text) => json!(interpolate(text, lookup)),
        Value::Array(items) => items.iter().map(|item| render(item, arguments, made)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), render(value, arguments, made)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn interpolate(text: &str, lookup: impl Fn(&str) -> Option<Value>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&plain(lookup(name).as_ref()));
        rest = tail;
    }
    out.push_str(rest);
    out
}
