//! Scenarios are found, and changed as the command line says.

use std::time::Duration;

use super::*;

const TOML: &str = r#"
about = "x"
seed = 7
thresholds = ["errors == 0"]
[load]
stages = [{ over = "10s", to = 4 }, { over = "30s", to = 2 }]
users = "sign-up"
[network]
storm_at = "20s"
devices = 2
slow_share = 0.5
slow = "4KiB/s"
[spawn]
env = { LOG = "info" }
sim = { tokens_per_second = 5.0 }
[[mix]]
steps = [{ say = "hi" }]
"#;

const KRONOSREC: &str = r#"{"kronosrec":1,"session":"s","epoch":"e","started_at_ms":0}
{"at_ms":1,"device":"1","command":{"op":"send","ref":"1","session":"s","id":"m","content":"hi"}}
"#;

fn of(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

fn error(names: &[String], overrides: &Overrides) -> String {
    format!("{:#}", load(names, overrides).unwrap_err())
}

#[test]
fn a_file_is_read_with_its_defaults() {
    let (_folder, path) = of("mine.toml", TOML);
    let scenario = load(&[path], &Overrides::default()).unwrap();
    assert_eq!(
        (scenario.name.as_str(), scenario.seed, scenario.model),
        ("mine", 7, Model::Open)
    );
    assert_eq!((scenario.grace, scenario.max_users), (Duration::from_secs(30), 20_000));
    assert_eq!((scenario.users, scenario.codec), (Users::SignUp, CodecMix::Json));
    assert_eq!(scenario.network.slow_bytes_per_second, 4096);
    assert_eq!(scenario.network.away, Duration::from_secs(1));
    assert_eq!(scenario.spawn.env["LOG"], "info");
    assert_eq!(scenario.spawn.sim["tokens_per_second"], 5.0);
    assert_eq!(scenario.mix[0].weight, 1);
}

#[test]
fn the_command_line_changes_peak_length_and_the_rest() {
    let (_folder, path) = of("mine.toml", TOML);
    let overrides = Overrides {
        users: Some(200.0),
        duration: Some(Duration::from_secs(20)),
        codec: Some(CodecMix::Msgpack),
        seed: Some(3),
        users_kind: Some(Users::Named),
        ..Overrides::default()
    };
    let scenario = load(std::slice::from_ref(&path), &overrides).unwrap();
    let to: Vec<_> = scenario.stages.iter().map(|stage| stage.to).collect();
    assert_eq!((to, scenario.model), (vec![200.0, 100.0], Model::Closed));
    assert_eq!(scenario.length(), Duration::from_secs(20));
    assert_eq!(scenario.network.storm_at, Some(Duration::from_secs(10)));
    assert_eq!(
        (scenario.users, scenario.codec, scenario.seed),
        (Users::Named, CodecMix::Msgpack, 3)
    );
    let both = Overrides {
        users: Some(1.0),
        rate: Some(1.0),
        ..Overrides::default()
    };
    assert!(error(std::slice::from_ref(&path), &both).contains("not both"));
    let none = Overrides {
        speed: Some(0.0),
        ..Overrides::default()
    };
    assert!(error(&[path], &none).contains("--speed: above 0"));
}

#[test]
fn recordings_get_a_load_around_them() {
    let (_one, one) = of("one.kronosrec", KRONOSREC);
    let (_two, two) = of("two.kronosrec", KRONOSREC);
    let scenario = load(
        &[one.clone(), two],
        &Overrides {
            rate: Some(5.0),
            ..Overrides::default()
        },
    )
    .unwrap();
    assert_eq!((scenario.name.as_str(), scenario.mix.len()), ("one+two", 2));
    assert_eq!(scenario.wanted(Duration::from_secs(5)), 5.0);
    assert!(error(&[one, "smoke".to_owned()], &Overrides::default()).contains("smoke: several files are recordings"));
    let (_folder, toml) = of(
        "mix.toml",
        &TOML.replace("steps = [{ say = \"hi\" }]", "recording = \"no.kronosrec\""),
    );
    let found = error(&[toml], &Overrides::default());
    assert!(found.contains("mix.toml") && found.contains("no.kronosrec"), "{found}");
}

#[test]
fn what_is_wrong_is_named_with_file_and_key() {
    let wrong = |from: &str, to: &str| {
        assert!(TOML.contains(from), "{from}");
        let (_folder, path) = of("bad.toml", &TOML.replace(from, to));
        let found = error(&[path], &Overrides::default());
        assert!(found.contains("bad.toml"), "{found}");
        found
    };
    assert!(wrong("seed = 7", "sed = 7").contains("unknown field `sed`"));
    assert!(wrong("to = 4", "to = -4").contains("load.stages: to is 0 or more"));
    assert!(wrong("to = 4", "too = 4").contains("unknown field `too`, expected `over` or `to`"));
    assert!(wrong("\"10s\"", "\"10\"").contains("such as 250ms"));
    assert!(wrong("\"10s\"", "10").contains("a span of time in quotes"));
    assert!(wrong("sign-up", "signup").contains("`sign-up`"));
    assert!(wrong("slow_share = 0.5", "slow_share = 5").contains("from 0 to 1"));
    assert!(wrong("slow = \"4KiB/s\"", "").contains("slow_bytes_per_second"));
    assert!(wrong("devices = 2", "devices = 0").contains("from 1 to 100"));
    assert!(wrong("steps = [{ say = \"hi\" }]", "").contains("mix \"part 1\": needs steps"));
    let unknown = error(&["smok".to_owned()], &Overrides::default());
    assert!(
        unknown.contains("no scenario smok: one of") && unknown.contains("smoke"),
        "{unknown}"
    );
    assert!(error(&["no.toml".to_owned()], &Overrides::default()).contains("no.toml"));
    assert!(error(&[], &Overrides::default()).contains("smoke"));
}
