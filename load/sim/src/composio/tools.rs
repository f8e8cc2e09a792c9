//! `/tools`, except executions.

use serde_json::{Value, json};

use super::call::Call;
use super::catalog::{Tool, Toolkit};
use super::error::{Answer, ApiError, Reply};
use super::execute;
use super::page::{self, page};

pub(crate) fn route(call: &Call<'_>, rest: &[&str]) -> Reply {
    match (call.method, rest) {
        ("GET", []) => list(call),
        ("GET", ["enum"]) => {
            let mut slugs: Vec<&str> = call.state.catalog.tools().map(|(_, tool)| tool.slug.as_str()).collect();
            slugs.sort_unstable();
            Ok(Answer::ok(json!(slugs)))
        }
        ("POST", ["scopes", "required"]) => Ok(Answer::ok(json!({"scopes": scopes(call)}))),
        ("GET", [slug]) => get(call, slug),
        ("POST", ["execute", "proxy"]) => execute::proxy(call),
        ("POST", ["execute", slug, "input"]) => execute::input(call, slug),
        ("POST", ["execute", slug]) => execute::execute(call, slug),
        _ => Err(call.no_route()),
    }
}

/// Returns the version of a toolkit that a query asks for: by map, by one value for all, or none.
fn asked<'a>(call: &'a Call<'_>, toolkit: &Toolkit) -> Option<&'a str> {
    let by_toolkit = call.query.map("toolkit_versions");
    let single = call.query.get("toolkit_versions").or_else(|| call.query.get("version"));
    by_toolkit.get(toolkit.slug.as_str()).copied().or(single)
}

/// Finds a tool in the version that is meant.
pub(crate) fn find<'a>(
    call: &'a Call<'_>,
    slug: &str,
    version: Option<&str>,
) -> Result<(&'a Toolkit, &'a Tool, &'a str), ApiError> {
    let unknown = || ApiError::unknown_tool(slug);
    let (toolkit, tool) = call.state.catalog.tool(slug).ok_or_else(unknown)?;
    let version = toolkit
        .version(version, call.version)
        .filter(|version| tool.in_version(version));
    Ok((toolkit, tool, version.ok_or_else(unknown)?))
}

fn get(call: &Call<'_>, slug: &str) -> Reply {
    let (toolkit, _) = call
        .state
        .catalog
        .tool(slug)
        .ok_or_else(|| ApiError::unknown_tool(slug))?;
    let wanted = call.query.get("version").or_else(|| asked(call, toolkit));
    let (toolkit, tool, version) = find(call, slug, wanted)?;
    Ok(Answer::ok(tool.render(toolkit, version)))
}

fn list(call: &Call<'_>) -> Reply {
    let slugs = call.query.csv("tool_slugs");
    let words: Vec<String> = call
        .query
        .get("query")
        .or_else(|| call.query.get("search"))
        .map(|text| text.to_lowercase().split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default();
    let mut found: Vec<(usize, Value)> = Vec::new();
    for (toolkit, tool) in call.state.catalog.tools() {
        let wanted = match &slugs {
            Some(slugs) => slugs.contains(&tool.slug),
            None => passes(call, toolkit, tool),
        };
        let version = toolkit
            .version(asked(call, toolkit), call.version)
            .filter(|version| tool.in_version(version));
        let hits = if slugs.is_some() { 0 } else { hits(tool, &words) };
        if let (true, Some(version)) = (wanted && (hits > 0 || words.is_empty() || slugs.is_some()), version) {
            found.push((hits, tool.render(toolkit, version)));
        }
    }
    found.sort_by_key(|(hits, _)| std::cmp::Reverse(*hits));
    let found: Vec<Value> = found.into_iter().map(|(_, tool)| tool).collect();
    page(call, &found, page::MAX)
}

/// Applies the filters that count when no slugs are given.
fn passes(call: &Call<'_>, toolkit: &Toolkit, tool: &Tool) -> bool {
    let any = |name: &str, own: &[String]| {
        let wanted = call.query.csv(name);
        wanted.is_none_or(|wanted| wanted.iter().any(|item| own.contains(item)))
    };
    let important = call.query.flag("important") != Some(true) || tool.has("important");
    let deprecated = call.query.flag("include_deprecated") != Some(false) || !tool.deprecated;
    call.query.allows("toolkit_slug", &toolkit.slug)
        && important
        && deprecated
        && any("tags", &tool.tags)
        && (tool.scopes.is_empty() || any("scopes", &tool.scopes))
}

/// Counts the words that a tool has in its slug, name or description.
fn hits(tool: &Tool, words: &[String]) -> usize {
    let text = format!("{} {} {}", tool.slug.replace('_', " "), tool.name, tool.description).to_lowercase();
    words.iter().filter(|word| text.contains(word.as_str())).count()
}

fn scopes<'a>(call: &'a Call<'_>) -> Vec<&'a str> {
    let slugs = call.body["tool_slugs"]
        .as_array()
        .or_else(|| call.body["tools"].as_array());
    let slugs: Vec<&str> = slugs.into_iter().flatten().filter_map(Value::as_str).collect();
    let tools = call
        .state
        .catalog
        .tools()
        .filter(|(_, tool)| slugs.contains(&tool.slug.as_str()));
    let mut scopes: Vec<&str> = tools
        .flat_map(|(_, tool)| tool.scopes.iter().map(String::as_str))
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}
