//! What settings must be together, and what follows from them.

use kronos_actors::config::{ComposioConfig, GeminiConfig};
use secrecy::ExposeSecret;

use super::{AuthMode, Config, ConfigError, Environment, Source};
use crate::edge::accounts::inputs;

/// Shortest `SECRET_KEY` that strangers may be kept out with: the block size of HS256's hash.
const MIN_SECRET_BYTES: usize = 32;

/// Keys that stand in guides and templates: everybody knows them.
const KNOWN_SECRETS: [&str; 4] = [
    "your-secret-key-here-change-in-production",
    "your-super-secret-key-change-this-in-production",
    "change-me-change-me-change-me-change-me",
    "kronos-development-secret-key-change-me",
];

/// Decides what depends on several settings, and refuses what does not go together.
pub(super) fn finish(config: &mut Config) -> Result<(), ConfigError> {
    decide_auth_mode(config);
    decide_simulation(config);
    check_safety(config)?;
    check_provider(config)?;
    check_first_superuser(config)?;
    check_bounds(config)?;
    warn(config);
    Ok(())
}

fn is_given(config: &Config, key: &str) -> bool {
    config
        .effective
        .iter()
        .any(|effective| effective.key == key && effective.source != Source::Default)
}

/// Makes what was decided visible in `kronos config`.
fn show(config: &mut Config, key: &str, value: &str) {
    if let Some(effective) = config.effective.iter_mut().find(|effective| effective.key == key) {
        value.clone_into(&mut effective.value);
    }
}

fn decide_auth_mode(config: &mut Config) {
    if !is_given(config, "auth.mode") {
        let open = config.server.environment == Environment::Development && config.server.is_loopback();
        config.auth.mode = if open {
            AuthMode::Development
        } else {
            AuthMode::Required
        };
        show(config, "auth.mode", config.auth.mode.as_str());
    }
    if config.server.debug && !is_given(config, "log.level") {
        "debug".clone_into(&mut config.log.level);
        show(config, "log.level", "debug");
    }
}

/// Simulates the model, and Composio, only where nobody could mistake it: without a key, without another address, on a desk.
fn decide_simulation(config: &mut Config) {
    let own_address = config.gemini.base_url != GeminiConfig::default().base_url;
    let on_a_desk = !config.server.environment.is_guarded();
    config.simulator.start = config.gemini.api_key.is_none() && !own_address && on_a_desk;
    config.gemini.simulated = config.simulator.start;
    let own_address = config.composio.base_url != ComposioConfig::default().base_url;
    config.simulator.start_composio = config.composio.api_key.is_none() && !own_address && on_a_desk;
    config.composio.simulated = config.simulator.start_composio;
}

fn check_safety(config: &Config) -> Result<(), ConfigError> {
    let environment = config.server.environment;
    let refuse = |text: String| Err(ConfigError::Together(text));
    if environment == Environment::Production && config.auth.mode == AuthMode::Development {
        return refuse(
            "AUTH_MODE=development is not allowed with ENVIRONMENT=production: use AUTH_MODE=required".into(),
        );
    }
    if environment == Environment::Production && config.server.allowed_hosts.iter().any(|host| host == "*") {
        return refuse("ALLOWED_HOSTS=[\"*\"] is not allowed with ENVIRONMENT=production: list the origins".into());
    }
    if !environment.is_guarded() {
        return Ok(());
    }
    if config.session.fault_injection {
        return refuse("FAULT_INJECTION=true is not allowed with ENVIRONMENT=staging or production".into());
    }
    if config.session.abort_at.is_some() {
        return refuse("ABORT_AT is not allowed with ENVIRONMENT=staging or production".into());
    }
    let environment = environment.as_str();
    match &config.auth.secret_key {
        None => refuse(format!(
            "SECRET_KEY must be set with ENVIRONMENT={environment}: at least {MIN_SECRET_BYTES} random bytes"
        )),
        Some(key) if KNOWN_SECRETS.contains(&key.expose_secret()) => refuse(format!(
            "SECRET_KEY=*** is a published default, not allowed with ENVIRONMENT={environment}: make a random one"
        )),
        Some(key) if key.expose_secret().len() < MIN_SECRET_BYTES => refuse(format!(
            "SECRET_KEY=*** has {} bytes, with ENVIRONMENT={environment} it must have at least {MIN_SECRET_BYTES}",
            key.expose_secret().len()
        )),
        Some(_) => Ok(()),
    }
}

/// An identity provider needs all of its settings, and an algorithm whose keys it can publish.
fn check_provider(config: &Config) -> Result<(), ConfigError> {
    let refuse = |text: &str| Err(ConfigError::Together(text.to_owned()));
    let outside = &config.auth.outside;
    let Some(url) = &outside.url else {
        return match outside.algorithm.of_provider() {
            None => Ok(()),
            Some(_) => refuse("JWT_ALGORITHM=RS256 and ES256 need JWT_JWKS_URL: the keys of an identity provider"),
        };
    };
    if outside.algorithm.of_provider().is_none() {
        return refuse("JWT_JWKS_URL needs JWT_ALGORITHM=RS256 or ES256: a provider cannot publish the key of HS256");
    }
    for (name, value) in [("JWT_ISSUER", &outside.issuer), ("JWT_AUDIENCE", &outside.audience)] {
        if value.is_none() {
            return refuse(&format!(
                "JWT_JWKS_URL needs {name}: else the provider's tokens for others would be taken"
            ));
        }
    }
    let is_plain = url.starts_with("http:") && !is_loopback(url);
    if config.server.environment.is_guarded() && is_plain {
        let environment = config.server.environment.as_str();
        return refuse(&format!("JWT_JWKS_URL must be https:// with ENVIRONMENT={environment}"));
    }
    Ok(())
}

fn is_loopback(url: &str) -> bool {
    let host = reqwest::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

fn check_first_superuser(config: &Config) -> Result<(), ConfigError> {
    let first = &config.auth.first;
    let given = [
        first.username.is_some(),
        first.email.is_some(),
        first.password.is_some(),
    ];
    let refuse = |text: &str| Err(ConfigError::Together(text.to_owned()));
    if given.contains(&true) && given.contains(&false) {
        return refuse("FIRST_SUPERUSER_USERNAME, FIRST_SUPERUSER_EMAIL and FIRST_SUPERUSER_PASSWORD go together");
    }
    let short = |password: &secrecy::SecretString| !inputs::is_password(password.expose_secret());
    if first.password.as_ref().is_some_and(short) {
        return refuse("FIRST_SUPERUSER_PASSWORD=*** is not allowed: must have 8 to 128 characters");
    }
    Ok(())
}

fn check_bounds(config: &Config) -> Result<(), ConfigError> {
    let refuse = |text: &str| Err(ConfigError::Together(text.to_owned()));
    if config.connection.pre_auth_frame_bytes > config.connection.frame_bytes {
        return refuse("PRE_AUTH_FRAME_BYTES must be at most FRAME_BYTES");
    }
    if config.session.batch_bytes > config.connection.frame_bytes {
        return refuse("SESSION_BATCH_BYTES must be at most FRAME_BYTES");
    }
    if config.gemini.backoff > config.gemini.max_backoff {
        return refuse("GEMINI_BACKOFF must be at most GEMINI_MAX_BACKOFF");
    }
    if config.composio.backoff > config.composio.max_backoff {
        return refuse("COMPOSIO_BACKOFF must be at most COMPOSIO_MAX_BACKOFF");
    }
    Ok(())
}

fn warn(config: &mut Config) {
    let mut warnings = Vec::new();
    if config.server.reload {
        warnings.push("RELOAD=true does nothing here: restart the server, sessions resume".to_owned());
    }
    if config.auth.mode == AuthMode::Development && !config.server.is_loopback() {
        let host = &config.server.host;
        warnings.push(format!(
            "AUTH_MODE=development on HOST={host}: everybody who reaches it is served as a guest"
        ));
    }
    if config.auth.mode == AuthMode::Required && config.auth.secret_key.is_none() && config.auth.outside.url.is_none() {
        warnings.push("SECRET_KEY is not set: tokens end with this process".to_owned());
    }
    if config
        .auth
        .secret_key
        .as_ref()
        .is_some_and(|key| key.expose_secret().len() < MIN_SECRET_BYTES)
    {
        warnings.push(format!("SECRET_KEY=*** has less than {MIN_SECRET_BYTES} bytes"));
    }
    if config.auth.outside.url.is_some() && config.auth.first.username.is_some() {
        warnings
            .push("FIRST_SUPERUSER_USERNAME does nothing with JWT_JWKS_URL: nobody logs in with a password".to_owned());
    }
    if config.gemini.api_key.is_none() && !config.simulator.start {
        warnings.push("GEMINI_API_KEY is not set: runs end with not_configured".to_owned());
    }
    if config.composio.api_key.is_some() && config.composio.webhook_secret.is_none() {
        warnings.push("COMPOSIO_WEBHOOK_SECRET is not set: Composio's events are not taken".to_owned());
    }
    config.warnings = warnings;
}
