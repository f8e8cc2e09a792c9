//! Auth configs of the project: how accounts of a toolkit are made. Credentials go through here and nowhere else: they are
//! never kept, returned or logged.

use std::rc::Rc;

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    client::{self, Ask, Op},
    failure::{ComposioError, ComposioErrorKind},
    service::Service,
    wire::{self, AuthConfig, AuthConfigChange, AuthConfigFilter, NewAuthConfig, Page, Read},
};

/// Items of a page: Composio takes no more everywhere, and says that there is one page when there are two.
const PAGE: usize = 50;
/// The one name of what there is once.
const ALL: &str = "all";

fn missing(error: ComposioError) -> ComposioError {
    match error.kind {
        ComposioErrorKind::NotFound => ComposioError::not_found("Auth config"),
        _ => error,
    }
}

/// What Composio masks when it shows credentials: written back it would replace them.
fn is_masked(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text == "REDACTED" || text.ends_with("...") || text.contains('*'))
}

fn unmasked(credentials: Map<String, Value>) -> Map<String, Value> {
    credentials.into_iter().filter(|(_, value)| !is_masked(value)).collect()
}

fn path(id: &str) -> Result<String, ComposioError> {
    if client::is_word(id) {
        Ok(format!("auth_configs/{id}"))
    } else {
        Err(ComposioError::not_found("Auth config"))
    }
}

impl Service {
    /// Lists auth configs: a page.
    pub(super) async fn auth_configs(&self, filter: AuthConfigFilter) -> Result<Page<AuthConfig>, ComposioError> {
        let ask = Ask::get(Op::AuthConfigs, "auth_configs")
            .with_some("toolkit_slug", filter.toolkit)
            .with_some("is_composio_managed", filter.managed.map(|managed| managed.to_string()))
            .with_some("show_disabled", filter.show_disabled.map(|show| show.to_string()))
            .with_some("search", filter.search)
            .with_some("limit", filter.limit.map(|limit| limit.to_string()))
            .with_some("cursor", filter.cursor);
        Ok(wire::page(&self.ask(None, ask).await?, wire::auth_config))
    }

    /// Shows an auth config.
    pub(super) async fn auth_config(&self, id: &str) -> Result<AuthConfig, ComposioError> {
        let answer = self.ask(None, Ask::get(Op::AuthConfig, path(id)?)).await;
        wire::auth_config(&answer.map_err(missing)?).ok_or_else(ComposioError::unreadable)
    }

    /// Makes an auth config.
    pub(super) async fn create_auth_config(&self, new: NewAuthConfig) -> Result<AuthConfig, ComposioError> {
        let toolkit = self.toolkit(&new.toolkit.to_ascii_lowercase()).await?;
        let mut config = json!({});
        match new.credentials {
            None => {
                if toolkit.managed_schemes.is_empty() {
                    return Err(no_managed(&toolkit.slug));
                }
                config["type"] = json!("use_composio_managed_auth");
            }
            Some(credentials) => {
                config["type"] = json!("use_custom_auth");
                config["authScheme"] = json!(new.scheme);
                config["credentials"] = Value::Object(credentials);
                if let Some(proxy) = new.proxy {
                    config["proxy_config"] = Value::Object(proxy);
                }
            }
        }
        if let Some(name) = new.name {
            config["name"] = json!(name);
        }
        let id = self.post_auth_config(&toolkit.slug, config).await?;
        self.auth_config(&id).await
    }

    async fn post_auth_config(&self, toolkit: &str, config: Value) -> Result<String, ComposioError> {
        let body = json!({"toolkit": {"slug": toolkit}, "auth_config": config});
        let ask = Ask::change(Op::AuthConfigCreate, Method::POST, "auth_configs").json(&body)?;
        let answer = self.ask(None, ask).await?;
        self.auth_configs_changed();
        let made = answer.get("auth_config").and_then(|config| config.text("id"));
        made.filter(|id| client::is_word(id))
            .ok_or_else(ComposioError::unreadable)
    }

    /// Changes an auth config.
    pub(super) async fn update_auth_config(
        &self,
        id: &str,
        change: AuthConfigChange,
    ) -> Result<AuthConfig, ComposioError> {
        let path = path(id)?;
        let before = self.auth_config(id).await?;
        let custom = before.kind == "custom";
        let mut body = json!({"type": if custom { "custom" } else { "default" }});
        let empty = body.clone();
        if let Some(name) = change.name {
            body["name"] = json!(name);
        }
        let credentials = change
            .credentials
            .map(unmasked)
            .filter(|credentials| !credentials.is_empty());
        match (credentials, custom) {
            (Some(credentials), true) => body["credentials"] = Value::Object(credentials),
            // Of Composio's own app only the scopes are the project's.
            (Some(credentials), false) => {
                for name in ["scopes", "user_scopes"] {
                    if let Some(value) = credentials.get(name) {
                        body[name] = value.clone();
                    }
                }
            }
            (None, _) => {}
        }
        if let Some(proxy) = change.proxy.filter(|_| custom) {
            body["proxy_config"] = Value::Object(proxy);
        }
        if body != empty {
            let ask = Ask::change(Op::AuthConfigUpdate, Method::PATCH, path.clone()).safe();
            self.ask(None, ask.json(&body)?).await.map_err(missing)?;
        }
        if let Some(enabled) = change.enabled {
            let word = if enabled { "ENABLED" } else { "DISABLED" };
            let ask = Ask::change(Op::AuthConfigUpdate, Method::PATCH, format!("{path}/{word}")).safe();
            self.ask(None, ask).await.map_err(missing)?;
        }
        self.auth_configs_changed();
        self.auth_config(id).await
    }

    /// Deletes an auth config.
    pub(super) async fn delete_auth_config(&self, id: &str) -> Result<(), ComposioError> {
        let ask = Ask::change(Op::AuthConfigDelete, Method::DELETE, path(id)?).safe();
        self.ask(None, ask).await.map_err(missing)?;
        self.auth_configs_changed();
        Ok(())
    }

    fn auth_configs_changed(&self) {
        self.configs.clear();
        self.makers.clear();
    }

    /// The toolkits for which the project has an enabled auth config.
    pub(super) async fn configured_toolkits(&self) -> Result<Vec<String>, ComposioError> {
        let own = self.own.clone();
        let fetch = move || {
            async move {
                let service = own.upgrade().ok_or_else(ComposioError::internal)?;
                let ask = Ask::get(Op::AuthConfigs, "auth_configs");
                service.pages(None, &ask, PAGE, wire::auth_config).await
            }
            .boxed_local()
        };
        let (all, _) = self.configs.get(ALL, fetch).await?;
        let mut toolkits: Vec<String> = Vec::new();
        for config in all.iter().filter(|config| config.status == "ENABLED") {
            if !toolkits.contains(&config.toolkit) {
                toolkits.push(config.toolkit.clone());
            }
        }
        Ok(toolkits)
    }

    /// Returns the auth config with which a toolkit's accounts are made: the newest that is enabled, or a new one with
    /// Composio's own app. Two who want it at once get the same.
    pub(super) async fn maker(&self, toolkit: &str) -> Result<Rc<String>, ComposioError> {
        let own = self.own.clone();
        let slug = toolkit.to_owned();
        let fetch = move || {
            async move {
                let service = own.upgrade().ok_or_else(ComposioError::internal)?;
                let ask = Ask::get(Op::AuthConfigs, "auth_configs").with("toolkit_slug", slug.clone());
                let all = service.pages(None, &ask, PAGE, wire::auth_config).await?;
                let enabled = all
                    .into_iter()
                    .filter(|config| config.status == "ENABLED" && config.toolkit == slug);
                if let Some(newest) = enabled.max_by(|a, b| a.created_at.cmp(&b.created_at)) {
                    return Ok(newest.id);
                }
                let kit = service.toolkit(&slug).await?;
                if kit.no_auth {
                    return Err(ComposioError::refused(format!("{slug} needs no account")));
                }
                if kit.managed_schemes.is_empty() {
                    return Err(no_managed(&slug));
                }
                let config = json!({"type": "use_composio_managed_auth"});
                service.post_auth_config(&slug, config).await
            }
            .boxed_local()
        };
        self.makers.get(toolkit, fetch).await.map(|(id, _)| id)
    }
}

fn no_managed(toolkit: &str) -> ComposioError {
    ComposioError::refused(format!(
        "Composio has no OAuth app of its own for {toolkit}: an auth config with credentials must be made first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_credentials_are_not_written_back() {
        let Value::Object(shown) = json!({"client_id": "Iv1.abc", "client_secret": "abcd...", "token": "REDACTED",
            "other": "****", "scopes": ["repo"]})
        else {
            panic!("no object")
        };
        let kept: Vec<String> = unmasked(shown).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, ["client_id", "scopes"]);
    }
}
