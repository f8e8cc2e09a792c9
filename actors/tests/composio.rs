//! The Composio service as sessions use it, over the simulator.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kronos_actors::{
    clock::Clock,
    composio::{ComposioDeps, ComposioErrorKind, ComposioRef, ComposioStatus},
    config::{ComposioConfig, GeminiConfig, SessionConfig, StoreBackend, StoreConfig, ToolsConfig},
    directory::DirectoryRef,
    gemini::GeminiShared,
    store::service::{self, StoreRef, StoreService},
    tools::{BUILTIN, Execution, Outcome, Tool, ToolsRef},
};
use kronos_protocol::ids::{SessionId, UserId};
use kronos_sim::{ComposioHandle, ComposioScript, ComposioSim, ComposioSimConfig};
use kronos_testkit::eventually;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

type Told = Arc<Mutex<Vec<(String, String, String)>>>;

/// The service, what it asks, and what sessions were told.
struct Bench {
    sim: ComposioHandle,
    store: StoreRef,
    directory: DirectoryRef,
    clock: Clock,
    told: Told,
    /// Sessions take what they are told.
    take: Arc<AtomicBool>,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::default();
        let config = StoreConfig {
            backend: StoreBackend::Memory,
            ..StoreConfig::default()
        };
        let store = StoreService::start(service::open(&config).unwrap(), &config, clock.clone()).unwrap();
        let gemini = GeminiShared::new(GeminiConfig::default(), clock.clone()).unwrap();
        let tools = ToolsRef::new(store.clone(), clock.clone(), Arc::new(ToolsConfig::default()));
        let directory = DirectoryRef::new(SessionConfig::default(), store.clone(), gemini, tools, clock.clone());
        directory.join();
        Self {
            sim: ComposioSim::start(ComposioSimConfig::default()).unwrap(),
            store,
            directory,
            clock,
            told: Told::default(),
            take: Arc::new(AtomicBool::new(true)),
        }
    }

    async fn start(&self, change: impl FnOnce(&mut ComposioConfig)) -> ComposioRef {
        let mut config = ComposioConfig {
            base_url: self.sim.url(),
            api_key: Some("ak_test".into()),
            backoff: Duration::from_millis(5),
            breaker_failures: 1000,
            ..ComposioConfig::default()
        };
        change(&mut config);
        let (told, take) = (Arc::clone(&self.told), Arc::clone(&self.take));
        ComposioRef::start(ComposioDeps {
            config,
            clock: self.clock.clone(),
            store: self.store.clone(),
            directory: self.directory.clone(),
            awake: Arc::new(move |user, session, toolkit| {
                told.lock()
                    .unwrap()
                    .push((user.to_string(), session.to_string(), toolkit));
                let taken = take.load(Ordering::SeqCst);
                Box::pin(std::future::ready(taken))
            }),
        })
        .await
        .unwrap()
    }

    fn told(&self) -> Vec<(String, String, String)> {
        self.told.lock().unwrap().clone()
    }

    /// Requests of a path's end.
    fn asked(&self, end: &str) -> usize {
        let requests = self.sim.requests();
        requests.iter().filter(|request| request.path.ends_with(end)).count()
    }
}

fn ada() -> UserId {
    UserId::try_from("ada").unwrap()
}

fn session(name: &str) -> SessionId {
    SessionId::try_from(name).unwrap()
}

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| tool.name.as_str()).collect()
}

fn toolkits(tools: &[Tool]) -> Vec<&str> {
    let mut all: Vec<&str> = tools.iter().map(|tool| tool.toolkit.as_str()).collect();
    all.dedup();
    all
}

fn list(slugs: &[&str]) -> Vec<String> {
    slugs.iter().map(|slug| (*slug).to_owned()).collect()
}

fn execution(clock: &Clock, tool: &str, arguments: Value) -> Execution {
    Execution {
        run: "r_1".try_into().unwrap(),
        session: session("s"),
        user: ada(),
        call: "c_1".to_owned(),
        key: "key-1".to_owned(),
        tool: tool.to_owned(),
        toolkit: "github".to_owned(),
        version: None,
        read_only: false,
        repeatable: false,
        arguments: arguments.as_object().cloned().unwrap(),
        deadline: clock.instant() + LIMIT,
    }
}

#[actix::test]
async fn a_run_that_names_no_toolkits_is_offered_those_of_accounts_and_of_the_project() {
    let bench = Bench::new();
    let composio = bench.start(|_| {}).await;
    let nothing = composio.offer(&ada(), None, "hello").await;
    assert!(nothing.tools.is_empty() && nothing.missing.is_empty(), "{nothing:?}");
    bench.sim.connect("ada", "slack").unwrap();
    bench.sim.connect("eve", "github").unwrap();
    let composio = bench.start(|_| {}).await;
    let offered = composio.offer(&ada(), None, "hello").await;
    // An account of somebody else leaves an auth config of the project.
    assert_eq!(toolkits(&offered.tools), ["github", "slack"]);
    assert!(offered.missing.is_empty());
    let listed = bench.start(|config| config.toolkits = list(&["notion"])).await;
    assert_eq!(
        toolkits(&listed.offer(&ada(), None, "hello").await.tools),
        ["notion", "slack"],
        "the setting names them instead"
    );
    // The user's own come first.
    let few = bench.start(|config| config.max_tools = 3).await;
    assert_eq!(toolkits(&few.offer(&ada(), None, "hello").await.tools), ["slack"]);
}

#[actix::test]
async fn a_list_is_taken_as_it_is_and_what_is_missing_is_said() {
    let bench = Bench::new();
    let composio = bench.start(|_| {}).await;
    let asked = list(&[BUILTIN, "GitHub", "nonsense", "../x", "github"]);
    let offered = composio.offer(&ada(), Some(&asked), "star the repository").await;
    assert_eq!(toolkits(&offered.tools), ["github"]);
    assert_eq!(offered.missing.len(), 2, "{:?}", offered.missing);
    assert!(offered.missing.iter().any(|text| text.contains("nonsense")));
    let none = composio.offer(&ada(), Some(&[]), "hello").await;
    assert!(none.tools.is_empty() && none.missing.is_empty());
    bench
        .sim
        .script(vec![ComposioScript::fault("500").at("/tools").times(100)]);
    let failed = composio.offer(&ada(), Some(&list(&["gmail", "github"])), "hello").await;
    assert_eq!(toolkits(&failed.tools), ["github"], "what is known is offered");
    assert!(failed.missing[0].contains("gmail"), "{:?}", failed.missing);
}

#[actix::test]
async fn tools_are_what_they_say_and_those_that_take_files_are_hidden() {
    let bench = Bench::new();
    let composio = bench.start(|config| config.max_tools = 128).await;
    let offered = composio.offer(&ada(), Some(&list(&["github", "gmail"])), "").await;
    let find = |name: &str| offered.tools.iter().find(|tool| tool.name == name);
    let read = find("GITHUB_GET_A_REPOSITORY").unwrap();
    assert!(read.read_only && read.repeatable && !read.asks);
    let write = find("GITHUB_CREATE_ISSUE").unwrap();
    assert!(!write.read_only && !write.repeatable && write.asks);
    assert_eq!(
        write.parameters.as_ref().unwrap()["required"],
        json!(["owner", "repo", "title"])
    );
    assert!(write.version.as_deref().is_some_and(|version| version != "latest"));
    assert!(find("GMAIL_SEND_EMAIL").is_some());
    assert!(find("GMAIL_SEND_EMAIL_WITH_ATTACHMENT").is_none());
    let mut sorted = names(&offered.tools);
    sorted.sort_unstable();
    assert_eq!(sorted, names(&offered.tools), "a stable order");
    for most in [1, 2, 3] {
        let few = bench.start(|config| config.max_tools = most).await;
        assert_eq!(few.offer(&ada(), Some(&list(&["github"])), "").await.tools.len(), most);
    }
    // A word of the user's brings a tool in.
    let one = bench.start(|config| config.max_tools = 1).await;
    let hinted = one
        .offer(&ada(), Some(&list(&["github"])), "who are the stargazers of it?")
        .await;
    assert_eq!(names(&hinted.tools), ["GITHUB_LIST_STARGAZERS"]);
}

#[actix::test]
async fn the_catalogue_is_asked_for_once_and_served_old_while_it_cannot_be_had() {
    let bench = Bench::new();
    let composio = bench
        .start(|config| config.catalogue_ttl = Duration::from_millis(50))
        .await;
    let asked = list(&["github"]);
    let user = ada();
    let all = futures_util::future::join_all((0..8).map(|_| composio.offer(&user, Some(&asked), ""))).await;
    assert!(
        all.iter()
            .all(|offered| offered == &all[0] && !offered.tools.is_empty())
    );
    assert_eq!(bench.asked("/tools"), 1);
    bench
        .sim
        .script(vec![ComposioScript::fault("503").at("/tools").times(100)]);
    eventually(LIMIT, "it was asked for again", || async {
        let old = composio.offer(&ada(), Some(&asked), "").await;
        assert_eq!(old, all[0]);
        bench.asked("/tools") > 1
    })
    .await;
    assert_eq!(composio.offer(&ada(), Some(&asked), "").await, all[0]);
}

#[actix::test]
async fn a_session_that_waits_is_told_when_an_account_is_there() {
    let bench = Bench::new();
    let composio = bench.start(|_| {}).await;
    bench.take.store(false, Ordering::SeqCst);
    let link = composio.link(&ada(), "GitHub", Some(session("s_1"))).await.unwrap();
    let again = composio.link(&ada(), "github", Some(session("s_1"))).await.unwrap();
    assert_eq!(link, again, "one link for one session");
    let other = composio.link(&ada(), "github", Some(session("s_2"))).await.unwrap();
    assert_ne!(link.connection, other.connection);
    composio.link(&ada(), "slack", Some(session("s_3"))).await.unwrap();
    assert!(bench.told().is_empty());
    assert!(bench.sim.set_status(&link.connection, "ACTIVE"));
    eventually(LIMIT, "both sessions were told", || async {
        let told = bench.told();
        ["s_1", "s_2"]
            .iter()
            .all(|name| told.iter().any(|(_, session, _)| session == name))
    })
    .await;
    // They did not take it: it is said again until they do.
    bench.take.store(true, Ordering::SeqCst);
    let before = bench.told().len();
    eventually(LIMIT, "they were told again", || async {
        bench.told().len() >= before + 2
    })
    .await;
    assert!(
        bench
            .told()
            .iter()
            .all(|(user, session, toolkit)| user == "ada" && session != "s_3" && toolkit == "github")
    );
    // Who asks when there is one is told at once.
    let told = bench.told().len();
    composio.awaits(&ada(), "github", &session("s_4")).await.unwrap();
    eventually(LIMIT, "it was told", || async { bench.told().len() > told }).await;
    composio.awaits(&ada(), "slack", &session("s_5")).await.unwrap();
    composio.waits_no_more(&ada(), "slack", &session("s_5")).await.unwrap();
}

#[actix::test]
async fn what_was_awaited_is_told_after_a_restart() {
    let bench = Bench::new();
    let composio = bench.start(|_| {}).await;
    let link = composio.link(&ada(), "github", Some(session("s_1"))).await.unwrap();
    drop(composio);
    assert!(bench.sim.set_status(&link.connection, "ACTIVE"));
    let composio = bench.start(|_| {}).await;
    composio.resume().await;
    eventually(LIMIT, "the session was told", || async { !bench.told().is_empty() }).await;
    assert_eq!(
        bench.told(),
        [("ada".to_owned(), "s_1".to_owned(), "github".to_owned())]
    );
}

#[actix::test]
async fn a_call_ends_by_its_deadline() {
    let bench = Bench::new();
    let composio = bench.start(|_| {}).await;
    let arguments = json!({"owner": "octocat", "repo": "hello-world", "title": "x"});
    let mut call = execution(&bench.clock, "GITHUB_CREATE_ISSUE", arguments);
    assert!(matches!(composio.execute(&call).await, Outcome::NotConnected { toolkit, .. } if toolkit == "github"));
    bench.sim.connect("ada", "github").unwrap();
    let done = composio.execute(&call).await;
    assert!(matches!(&done, Outcome::Done(data) if data["title"] == "x"), "{done:?}");
    assert_eq!(bench.sim.effects()[0].key, "key-1");
    bench.sim.clear_effects();
    call.deadline = bench.clock.instant();
    assert!(
        matches!(composio.execute(&call).await, Outcome::Failed(_)),
        "nothing left"
    );
    assert!(bench.sim.effects().is_empty());
    call.deadline = bench.clock.instant() + Duration::from_millis(300);
    bench
        .sim
        .script(vec![ComposioScript::fault("hang-after-effect").on("GITHUB_*")]);
    assert!(matches!(composio.execute(&call).await, Outcome::Unknown(_)));
    assert_eq!(bench.sim.effects().len(), 1);
    // A tool whose name would be another address is none.
    call.tool = "../../connected_accounts".to_owned();
    assert!(matches!(composio.execute(&call).await, Outcome::Failed(_)));
}

#[actix::test]
async fn a_user_whose_id_would_be_a_list_sees_only_their_own() {
    let bench = Bench::new();
    let composio = bench.start(|_| {}).await;
    bench.sim.connect("ada", "github").unwrap();
    bench.sim.connect("eve", "github").unwrap();
    let both = UserId::try_from("ada,eve").unwrap();
    assert_eq!(composio.accounts(&both).await.unwrap(), []);
    assert_eq!(composio.accounts(&ada()).await.unwrap().len(), 1);
    assert!(
        composio
            .offer(&both, None, "")
            .await
            .tools
            .iter()
            .all(|tool| tool.toolkit == "github")
    );
}

#[actix::test]
async fn a_service_without_a_key_says_so() {
    let bench = Bench::new();
    let composio = bench.start(|config| config.api_key = None).await;
    assert_eq!(composio.health().status, ComposioStatus::NotConfigured);
    assert!(composio.offer(&ada(), None, "").await.tools.is_empty());
    let error = composio.link(&ada(), "github", None).await.unwrap_err();
    assert_eq!(error.kind, ComposioErrorKind::NotConfigured);
    let call = execution(&bench.clock, "GITHUB_CREATE_ISSUE", json!({}));
    assert!(matches!(composio.execute(&call).await, Outcome::Failed(_)));
    // Who has nothing there is forgotten without it.
    composio.forget(&ada()).await.unwrap();
    assert!(bench.sim.requests().is_empty());
    eventually(LIMIT, "nothing is left to do", || async {
        bench
            .store
            .documents("composio_forget", "", None, 10)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
}

#[actix::test]
async fn triggers_are_set_up_on_accounts_of_the_user_only() {
    let bench = Bench::new();
    let composio = bench.start(|_| {}).await;
    let (own, other) = (
        bench.sim.connect("ada", "github").unwrap(),
        bench.sim.connect("eve", "github").unwrap(),
    );
    let config = json!({"owner": "octocat", "repo": "hello-world"});
    let config = config.as_object().cloned().unwrap();
    let refused = composio
        .set_trigger(&ada(), "GITHUB_COMMIT_EVENT", &other, config.clone())
        .await;
    assert_eq!(refused.unwrap_err().kind, ComposioErrorKind::NotFound);
    let id = composio
        .set_trigger(&ada(), "GITHUB_COMMIT_EVENT", &own, config)
        .await
        .unwrap();
    let listed = composio.triggers(&ada()).await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].id.as_str(), listed[0].account.as_str()),
        (1, id.as_str(), own.as_str())
    );
    let eve = UserId::try_from("eve").unwrap();
    assert_eq!(composio.triggers(&eve).await.unwrap(), []);
    assert_eq!(
        composio.delete_trigger(&eve, &id).await.unwrap_err().kind,
        ComposioErrorKind::NotFound
    );
    composio.delete_trigger(&ada(), &id).await.unwrap();
    assert_eq!(composio.triggers(&ada()).await.unwrap(), []);
    let first = composio.subscribe("http://127.0.0.1:9/webhook").await.unwrap();
    let second = composio.subscribe("http://127.0.0.1:9/other").await.unwrap();
    assert_eq!(first.id, second.id, "there is one in a project");
    assert!(first.secret.is_some());
}
