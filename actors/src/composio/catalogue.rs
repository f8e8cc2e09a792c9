//! What there is: toolkits, their tools, the tools of an offer. Asked for seldom, kept for `COMPOSIO_CATALOGUE_TTL`, never
//! stored.

use std::{collections::BTreeSet, rc::Rc, sync::Arc};

use futures_util::{FutureExt, future::join_all};
use kronos_protocol::ids::UserId;
use serde_json::Value;

use super::{
    Offered,
    choose::{self, Candidate},
    client::{self, Ask, Op},
    failure::{ComposioError, ComposioErrorKind},
    metrics, schema,
    service::Service,
    wire::{self, AccountStatus, Action, Read, Toolkit},
};
use crate::tools::{BUILTIN, Tool};

/// Tools asked for with one request.
const PAGE: usize = 200;
/// Toolkits of one offer: more would be asked for in vain, an offer has few tools.
const MAX_TOOLKITS: usize = 24;
/// Longest description that is passed on, in characters.
const DESCRIPTION_CHARS: usize = 2_000;
/// The one name of what there is once.
const ALL: &str = "all";

/// The tools of a toolkit.
#[derive(Debug, Default)]
pub(super) struct Kit {
    pub(super) tools: Vec<KitTool>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct KitTool {
    pub(super) tool: Tool,
    /// Its name for people.
    pub(super) title: String,
    /// Schemas as they came.
    pub(super) input: Arc<Value>,
    pub(super) output: Arc<Value>,
    /// Composio's own choice.
    pub(super) important: bool,
    /// It needs no account.
    pub(super) no_auth: bool,
    /// It may be offered.
    pub(super) offered: bool,
    /// Words of its slug, and its description in lower case: what a hint is compared with.
    pub(super) words: Vec<String>,
    pub(super) text: String,
}

/// A tool that was asked for by its slug alone.
#[derive(Debug, Clone)]
pub(super) struct OneTool {
    pub(super) slug: String,
    pub(super) toolkit: String,
    pub(super) version: Option<String>,
    pub(super) no_auth: bool,
    pub(super) read_only: bool,
}

impl Service {
    /// Chooses the tools of a run.
    pub(super) async fn offer(&self, user: &UserId, toolkits: Option<Vec<String>>, hint: &str) -> Offered {
        let mut missing = Vec::new();
        let accounts = match self.connected(user).await {
            Ok(accounts) => accounts,
            Err(error) => {
                if toolkits.is_none() {
                    missing.push(format!("The tools of connected accounts cannot be had: {error}."));
                }
                Rc::new(Vec::new())
            }
        };
        let active = accounts
            .iter()
            .filter(|account| account.status == AccountStatus::Active);
        let connected: BTreeSet<String> = active.map(|account| account.toolkit.clone()).collect();
        let wanted = match toolkits {
            Some(named) => named_toolkits(named, &mut missing),
            None => self.usual_toolkits(&connected, &mut missing).await,
        };
        let kits = join_all(wanted.iter().map(|toolkit| self.kit(toolkit))).await;
        let mut found = Vec::new();
        for (toolkit, kit) in wanted.iter().zip(kits) {
            match kit {
                Ok(kit) if kit.tools.is_empty() => {
                    missing.push(format!("There is no toolkit {toolkit}, or it has no tools."));
                }
                Ok(kit) => found.push((toolkit, kit)),
                Err(error) => missing.push(choose::unavailable(toolkit, &error)),
            }
        }
        let candidates: Vec<_> = found
            .iter()
            .map(|(toolkit, kit)| Candidate {
                connected: connected.contains(*toolkit) || kit.tools.iter().all(|tool| tool.no_auth),
                tools: &kit.tools,
            })
            .collect();
        let tools = choose::choose(&candidates, hint, self.shared.config.max_tools);
        Offered { tools, missing }
    }

    /// The toolkits of a run that names none: those of accounts, then those that the project has set up.
    async fn usual_toolkits(&self, connected: &BTreeSet<String>, missing: &mut Vec<String>) -> Vec<String> {
        let mut wanted: Vec<String> = connected.iter().cloned().collect();
        let configured = &self.shared.config.toolkits;
        let others = if configured.is_empty() {
            self.configured_toolkits().await.unwrap_or_else(|error| {
                missing.push(format!("Not all tools can be had: {error}."));
                Vec::new()
            })
        } else {
            configured.iter().map(|toolkit| toolkit.to_ascii_lowercase()).collect()
        };
        for toolkit in others {
            if client::is_word(&toolkit) && !wanted.contains(&toolkit) {
                wanted.push(toolkit);
            }
        }
        wanted.truncate(MAX_TOOLKITS);
        wanted
    }

    /// Returns the tools of a toolkit; without any when Composio knows none.
    pub(super) async fn kit(&self, toolkit: &str) -> Result<Rc<Kit>, ComposioError> {
        let own = self.own.clone();
        let (name, pinned) = (toolkit.to_owned(), self.pinned(toolkit));
        let fetch = move || {
            async move {
                let service = own.upgrade().ok_or_else(ComposioError::internal)?;
                let ask = Ask::get(Op::Tools, "tools")
                    .with("toolkit_slug", name.clone())
                    .with("include_deprecated", "false");
                let ask = match &pinned {
                    Some(version) => ask.with(format!("toolkit_versions[{name}]"), version.clone()),
                    None => ask,
                };
                // A filter that was overlooked would offer what nobody asked for.
                let of_this = |tool: &KitTool| tool.tool.toolkit == name;
                let tools = service
                    .pages(None, &ask, PAGE, |value| read_tool(value).filter(of_this))
                    .await?;
                Ok(Kit { tools })
            }
            .boxed_local()
        };
        let (kit, age) = self.kits.get(toolkit, fetch).await?;
        metrics::age(age);
        Ok(kit)
    }

    /// The version that the configuration pins.
    pub(super) fn pinned(&self, toolkit: &str) -> Option<String> {
        self.shared.config.toolkit_versions.get(toolkit).cloned()
    }

    /// Finds a tool by its slug alone.
    pub(super) async fn one_tool(&self, slug: &str) -> Result<Rc<OneTool>, ComposioError> {
        if !client::is_word(slug) {
            return Err(ComposioError::not_found("Tool"));
        }
        let own = self.own.clone();
        let name = slug.to_ascii_uppercase();
        let asked = name.clone();
        let fetch = move || {
            async move {
                let service = own.upgrade().ok_or_else(ComposioError::internal)?;
                let value = service.ask(None, Ask::get(Op::Tool, format!("tools/{asked}"))).await?;
                let tool = read_tool(&value).ok_or_else(ComposioError::unreadable)?;
                let (toolkit, mut version) = (tool.tool.toolkit, tool.tool.version);
                if let Some(pinned) = service.pinned(&toolkit) {
                    version = Some(pinned);
                }
                Ok(OneTool {
                    slug: tool.tool.name,
                    toolkit,
                    version,
                    no_auth: tool.no_auth,
                    read_only: tool.tool.read_only,
                })
            }
            .boxed_local()
        };
        let found = self.tools.get(&name, fetch).await;
        found.map(|(tool, _)| tool).map_err(|error| match error.kind {
            ComposioErrorKind::NotFound => ComposioError::not_found("Tool"),
            _ => error,
        })
    }

    /// Lists toolkits.
    pub(super) async fn toolkits(&self, search: Option<&str>, limit: usize) -> Result<Vec<Toolkit>, ComposioError> {
        let own = self.own.clone();
        let fetch = move || {
            async move {
                let service = own.upgrade().ok_or_else(ComposioError::internal)?;
                let ask = Ask::get(Op::Toolkits, "toolkits").with("sort_by", "usage");
                service.pages(None, &ask, 500, wire::toolkit).await
            }
            .boxed_local()
        };
        let (all, age) = self.toolkits.get(ALL, fetch).await?;
        metrics::age(age);
        let search = search.map(str::to_lowercase);
        let holds = |toolkit: &&Toolkit| {
            search.as_ref().is_none_or(|search| {
                let texts = [&toolkit.slug, &toolkit.name, &toolkit.description];
                texts.iter().any(|text| text.to_lowercase().contains(search.as_str()))
            })
        };
        Ok(all.iter().filter(holds).take(limit).cloned().collect())
    }

    /// Shows one toolkit.
    pub(super) async fn toolkit(&self, slug: &str) -> Result<Toolkit, ComposioError> {
        if !client::is_word(slug) {
            return Err(ComposioError::not_found("Toolkit"));
        }
        let answer = self.ask(None, Ask::get(Op::Toolkit, format!("toolkits/{slug}"))).await;
        let value = answer.map_err(|error| match error.kind {
            ComposioErrorKind::NotFound => ComposioError::not_found("Toolkit"),
            _ => error,
        })?;
        wire::toolkit(&value).ok_or_else(ComposioError::unreadable)
    }

    /// Lists the tools of a toolkit.
    pub(super) async fn actions(&self, toolkit: &str, limit: usize) -> Result<Vec<Action>, ComposioError> {
        let slug = toolkit.to_ascii_lowercase();
        if !client::is_word(&slug) {
            return Err(ComposioError::not_found("Toolkit"));
        }
        let kit = self.kit(&slug).await?;
        if kit.tools.is_empty() {
            // Composio answers an unknown toolkit with an empty list.
            self.toolkit(&slug).await?;
        }
        let action = |tool: &KitTool| Action {
            slug: tool.tool.name.clone(),
            name: tool.title.clone(),
            description: tool.tool.description.clone(),
            parameters: (*tool.input).clone(),
            response: (*tool.output).clone(),
            toolkit: tool.tool.toolkit.clone(),
        };
        Ok(kit.tools.iter().take(limit).map(action).collect())
    }
}

/// The toolkits that a run names, in their order, each once.
fn named_toolkits(named: Vec<String>, missing: &mut Vec<String>) -> Vec<String> {
    let mut wanted: Vec<String> = Vec::new();
    for toolkit in named {
        let slug = toolkit.to_ascii_lowercase();
        if slug == BUILTIN || wanted.contains(&slug) {
            continue;
        }
        if !client::is_word(&slug) {
            missing.push("A name among the toolkits cannot be one.".to_owned());
        } else if wanted.len() == MAX_TOOLKITS {
            missing.push(format!(
                "More than {MAX_TOOLKITS} toolkits are too many: {slug} was left out."
            ));
        } else {
            wanted.push(slug);
        }
    }
    wanted
}

/// Reads a tool; `None` for what cannot be called.
fn read_tool(value: &Value) -> Option<KitTool> {
    let slug = value.text("slug").filter(|slug| client::is_word(slug))?;
    let toolkit = value.slug_in("toolkit")?;
    let input = value.get("input_parameters").cloned().unwrap_or(Value::Null);
    let output = value.get("output_parameters").cloned().unwrap_or(Value::Null);
    let tags = value.texts("tags");
    let tagged = |tag: &str| tags.iter().any(|own| own == tag);
    let description: String = value
        .text_or_empty("description")
        .chars()
        .take(DESCRIPTION_CHARS)
        .collect();
    let input = Arc::new(input);
    let parameters = schema::parameters(&input).is_some().then(|| Arc::clone(&input));
    let offered = schema::is_offerable(&input) && !value.truth("is_deprecated");
    let read_only = tagged("readOnlyHint") && !tagged("destructiveHint");
    Some(KitTool {
        title: value.text("name").unwrap_or_else(|| slug.clone()),
        words: choose::words(&slug.replace('_', " ")),
        text: description.to_lowercase(),
        important: tagged("important"),
        no_auth: value.truth("no_auth"),
        offered,
        output: Arc::new(output),
        input,
        tool: Tool {
            name: slug,
            description,
            parameters,
            toolkit,
            version: value.text("version"),
            read_only,
            asks: !read_only,
            // Composio promises nothing about keys.
            repeatable: read_only,
        },
    })
}
