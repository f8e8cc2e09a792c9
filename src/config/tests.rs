//! The configuration as an operator meets it: precedence, refusals, masks, the reference file.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use super::*;

fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Layers {
        environment: variables(pairs),
        ..Layers::default()
    }
    .load()
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    let text = environment(pairs).expect_err("must be refused").to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kronos.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn source(config: &Config, key: &str) -> Source {
    config
        .effective
        .iter()
        .find(|effective| effective.key == key)
        .unwrap()
        .source
        .clone()
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let (_folder, path) = file("[server]\nport = 1\n");
    let mut layers = Layers {
        file: Some(path.clone()),
        ..Layers::default()
    };
    let port = |layers: &Layers| {
        let config = layers.load().unwrap();
        (config.server.port, source(&config, "server.port"))
    };
    assert_eq!(port(&layers), (1, Source::File(path)));
    layers.dotenv = variables(&[("PORT", "2")]);
    assert_eq!(port(&layers), (2, Source::DotEnv));
    layers.environment = variables(&[("PORT", "3")]);
    assert_eq!(port(&layers), (3, Source::Environment));
    layers.flags = vec![("--port", "4".to_owned())];
    assert_eq!(port(&layers), (4, Source::Flag("--port")));
    assert_eq!(port(&Layers::default()), (8000, Source::Default));
}

#[test]
fn a_variable_set_to_nothing_counts_as_not_set() {
    let config = environment(&[("GEMINI_API_KEY", ""), ("PORT", " ")]).unwrap();
    assert!(config.gemini.api_key.is_none());
    assert_eq!(config.server.port, 8000);
}

#[test]
fn a_bad_value_is_one_line_with_name_value_and_what_is_allowed() {
    for (name, value, allowed) in [
        ("PORT", "65536", "from 0 to 65535"),
        ("PORT", "eight", "a whole number"),
        ("PORT", "-1", "a whole number"),
        ("DEBUG", "maybe", "true or false"),
        ("ENVIRONMENT", "prod", "development, staging, production, testing"),
        ("GEMINI_TEMPERATURE", "2.01", "from 0 to 2"),
        ("GEMINI_TEMPERATURE", "NaN", "from 0 to 2"),
        ("GEMINI_MAX_TOKENS", "0", "from 1 to 65536"),
        ("GEMINI_BASE_URL", "gemini", "http:// or https://"),
        ("SESSION_IDLE_TIMEOUT", "60 parsecs", "time span"),
        ("SESSION_IDLE_TIMEOUT", "99ms", "from 100ms"),
        ("FRAME_BYTES", "1KiB", "from 4KiB"),
        ("ALLOWED_HOSTS", "example.com", "JSON list"),
        ("LOG_LEVEL", "loud", "warning"),
        ("DATABASE_URL", "postgresql://localhost/kronos", "sled://PATH"),
        ("DATABASE_URL", "redis://localhost", "comes with a later version"),
        ("JWT_ALGORITHM", "none", "HS256"),
    ] {
        let text = refusal(&[(name, value)]);
        assert!(
            text.contains(name) && text.contains(value) && text.contains(allowed),
            "{text}"
        );
        assert!(text.contains("environment"), "{text}");
    }
}

#[test]
fn bounds_are_allowed_themselves() {
    for (name, value) in [
        ("PORT", "0"),
        ("PORT", "65535"),
        ("GEMINI_TEMPERATURE", "0"),
        ("GEMINI_TEMPERATURE", "2"),
        ("GEMINI_MAX_TOKENS", "1"),
        ("GEMINI_MAX_TOKENS", "65536"),
        ("SESSION_IDLE_TIMEOUT", "100ms"),
        ("SESSION_IDLE_TIMEOUT", "1d"),
    ] {
        environment(&[(name, value)]).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn files_may_hold_native_values_and_bad_ones_name_their_key() {
    let (_folder, path) = file(
        "[server]\ndebug = true\nallowed_hosts = [\"https://a.example\"]\n[gemini]\ntemperature = 0.5\n[session]\nrun_deadline = \"5m\"\n",
    );
    let config = Layers {
        file: Some(path),
        ..Layers::default()
    }
    .load()
    .unwrap();
    assert!(config.server.debug);
    assert_eq!(config.server.allowed_hosts, ["https://a.example"]);
    assert_eq!(config.gemini.temperature, Some(0.5));
    assert_eq!(config.session.run_deadline, Duration::from_secs(300));
    for (text, expected) in [
        ("[server]\nprot = 1\n", "unknown setting server.prot"),
        ("[sever]\nport = 1\n", "unknown setting [sever]"),
        ("port = 1\n", "unknown setting port"),
        ("[server]\nport = 70000\n", "server.port=70000"),
        ("[server]\nport = { a = 1 }\n", "server.port={ a = 1 }"),
        ("[server]\nport =\n", "line 2"),
    ] {
        let (_folder, path) = file(text);
        let error = Layers {
            file: Some(path),
            ..Layers::default()
        }
        .load()
        .unwrap_err()
        .to_string();
        assert!(error.contains(expected) && error.contains("kronos.toml"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_file_that_was_named_must_exist() {
    let error = Layers {
        file: Some("/nowhere/kronos.toml".into()),
        ..Layers::default()
    }
    .load()
    .unwrap_err();
    assert!(matches!(error, ConfigError::File { .. }), "{error}");
}

#[test]
fn secrets_are_never_printed() {
    let secret = "0123456789abcdef0123456789abcdef";
    let config = environment(&[
        ("SECRET_KEY", secret),
        ("GEMINI_API_KEY", secret),
        ("COMPOSIO_API_KEY", secret),
    ])
    .unwrap();
    for text in [
        config.table(),
        config.json().to_string(),
        format!("{config:?}"),
        config.warnings.join("\n"),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(config.table().contains("***   "));
    let text = refusal(&[("SECRET_KEY", "short-secret"), ("ENVIRONMENT", "production")]);
    assert!(
        !text.contains("short-secret") && text.contains("SECRET_KEY=***"),
        "{text}"
    );
}

#[test]
fn production_refuses_what_is_convenient_and_unsafe() {
    let good = ("SECRET_KEY", "0123456789abcdef0123456789abcdef");
    let production = ("ENVIRONMENT", "production");
    assert!(refusal(&[production]).contains("SECRET_KEY"));
    assert!(refusal(&[production, ("SECRET_KEY", "0123456789abcdef0123456789abcde")]).contains("31 bytes"));
    assert!(refusal(&[production, ("SECRET_KEY", "your-secret-key-here-change-in-production")]).contains("published"));
    assert!(refusal(&[production, good, ("AUTH_MODE", "development")]).contains("AUTH_MODE"));
    assert!(refusal(&[production, good, ("ALLOWED_HOSTS", r#"["*"]"#)]).contains("ALLOWED_HOSTS"));
    assert!(refusal(&[("ENVIRONMENT", "staging")]).contains("SECRET_KEY"));
    let config = environment(&[production, good]).unwrap();
    assert_eq!(config.auth.mode, AuthMode::Required);
}

#[test]
fn guests_are_served_only_on_a_developers_own_machine() {
    let mode = |pairs: &[(&str, &str)]| environment(pairs).unwrap().auth.mode;
    assert_eq!(mode(&[]), AuthMode::Development);
    assert_eq!(mode(&[("HOST", "::1")]), AuthMode::Development);
    assert_eq!(mode(&[("HOST", "localhost")]), AuthMode::Development);
    assert_eq!(mode(&[("HOST", "0.0.0.0")]), AuthMode::Required);
    assert_eq!(mode(&[("ENVIRONMENT", "testing")]), AuthMode::Required);
    assert_eq!(mode(&[("AUTH_MODE", "required")]), AuthMode::Required);
    let open = environment(&[("HOST", "0.0.0.0"), ("AUTH_MODE", "development")]).unwrap();
    assert_eq!(open.auth.mode, AuthMode::Development);
    assert!(open.warnings.iter().any(|warning| warning.contains("guest")));
}

#[test]
fn the_model_is_simulated_only_on_a_desk_without_a_key() {
    let simulated = |pairs: &[(&str, &str)]| environment(pairs).unwrap().gemini.simulated;
    let secret = ("SECRET_KEY", "0123456789abcdef0123456789abcdef");
    assert!(simulated(&[]));
    assert!(simulated(&[("ENVIRONMENT", "testing")]));
    assert!(!simulated(&[("GEMINI_API_KEY", "k")]));
    assert!(!simulated(&[("GEMINI_BASE_URL", "http://127.0.0.1:9")]));
    assert!(!simulated(&[("ENVIRONMENT", "staging"), secret]));
    assert!(!simulated(&[("ENVIRONMENT", "production"), secret]));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    assert!(refusal(&[("FRAME_BYTES", "8KiB")]).contains("PRE_AUTH_FRAME_BYTES"));
    assert!(refusal(&[("GEMINI_BACKOFF", "30s")]).contains("GEMINI_MAX_BACKOFF"));
    assert!(refusal(&[("SESSION_BATCH_BYTES", "512KiB"), ("FRAME_BYTES", "256KiB")]).contains("SESSION_BATCH_BYTES"));
}

#[test]
fn an_identity_provider_needs_all_of_its_settings() {
    let url = ("JWT_JWKS_URL", "https://id.example.com/jwks");
    let (issuer, audience) = (("JWT_ISSUER", "https://id.example.com/"), ("JWT_AUDIENCE", "kronos"));
    let algorithm = ("JWT_ALGORITHM", "RS256");
    assert!(refusal(&[url, issuer, audience]).contains("JWT_ALGORITHM"));
    assert!(refusal(&[algorithm]).contains("JWT_JWKS_URL"));
    assert!(refusal(&[url, algorithm, audience]).contains("JWT_ISSUER"));
    assert!(refusal(&[url, algorithm, issuer]).contains("JWT_AUDIENCE"));
    let config = environment(&[url, algorithm, issuer, audience]).unwrap();
    assert_eq!(config.auth.outside.algorithm.as_str(), "RS256");
    let guarded = [
        ("ENVIRONMENT", "staging"),
        ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
    ];
    for (url, good) in [
        ("http://id.example.com/jwks", false),
        ("http://127.0.0.1:1/jwks", true),
        ("http://[::1]/jwks", true),
        ("https://id.example.com/jwks", true),
    ] {
        let rest = [algorithm, issuer, audience, ("JWT_JWKS_URL", url)];
        assert_eq!(environment(&[&guarded[..], &rest].concat()).is_ok(), good, "{url}");
    }
}

#[test]
fn a_first_superuser_is_told_altogether_and_its_password_nowhere() {
    let (name, email) = (
        ("FIRST_SUPERUSER_USERNAME", "root"),
        ("FIRST_SUPERUSER_EMAIL", "root@example.com"),
    );
    assert!(refusal(&[name]).contains("go together"));
    assert!(refusal(&[name, email]).contains("go together"));
    let refused = refusal(&[name, email, ("FIRST_SUPERUSER_PASSWORD", "too sho")]);
    assert!(
        refused.contains("8 to 128") && !refused.contains("too sho"),
        "{refused}"
    );
    assert!(refusal(&[("FIRST_SUPERUSER_USERNAME", "a b")]).contains("letters"));
    assert!(refusal(&[("FIRST_SUPERUSER_EMAIL", "root")]).contains("an e-mail address"));
    let secret = "correct horse battery";
    let config = environment(&[name, email, ("FIRST_SUPERUSER_PASSWORD", secret)]).unwrap();
    assert!(!format!("{config:?} {} {}", config.table(), config.json()).contains(secret));
}

#[test]
fn what_does_nothing_is_said() {
    let config = environment(&[("RELOAD", "true")]).unwrap();
    assert!(config.warnings.iter().any(|warning| warning.contains("RELOAD")));
}

#[test]
fn debug_lowers_the_level_unless_one_is_given() {
    assert_eq!(environment(&[("DEBUG", "true")]).unwrap().log.level, "debug");
    assert_eq!(
        environment(&[("DEBUG", "true"), ("LOG_LEVEL", "WARNING")])
            .unwrap()
            .log
            .level,
        "warn"
    );
}

#[test]
fn the_reference_file_is_current() {
    let committed = include_str!("reference.toml");
    assert!(
        committed == reference(),
        "run: cargo run -- config --reference > src/config/reference.toml"
    );
}

#[test]
fn the_reference_file_changes_nothing() {
    let (_folder, path) = file(&reference());
    let from_file = Layers {
        file: Some(path),
        ..Layers::default()
    }
    .load()
    .unwrap();
    let mut from_nothing = Layers::default().load().unwrap();
    from_nothing.effective.clone_from(&from_file.effective);
    assert_eq!(format!("{from_file:?}"), format!("{from_nothing:?}"));
}

#[test]
fn the_table_has_a_line_for_every_setting() {
    let config = Layers::default().load().unwrap();
    let lines: Vec<String> = config.table().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), config.effective.len());
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("auth.mode") && line.contains("= development") && line.ends_with("# default"))
    );
}

#[test]
fn the_server_is_asked_where_it_listens() {
    for (host, url) in [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("[::]", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ] {
        let mut config = Config::default();
        host.clone_into(&mut config.server.host);
        assert_eq!(config.local_url(), url, "{host}");
    }
}
