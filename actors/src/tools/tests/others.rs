//! Tools of other services, from Composio's simulator.

use std::net::TcpListener;

use kronos_sim::{ComposioSim, ComposioSimConfig};

use super::*;
use crate::{
    composio::{ComposioDeps, ComposioRef},
    config::{ComposioConfig, GeminiConfig, SessionConfig},
    directory::DirectoryRef,
    gemini::GeminiShared,
};

async fn composio(bench: &Bench, url: String) -> ComposioRef {
    let clock = Clock::default();
    let gemini = GeminiShared::new(GeminiConfig::default(), clock.clone()).unwrap();
    let (store, tools) = (bench.store.clone(), bench.tools.clone());
    let directory = DirectoryRef::new(SessionConfig::default(), store.clone(), gemini, tools, clock.clone());
    let deps = ComposioDeps {
        config: ComposioConfig {
            api_key: Some("key".into()),
            base_url: url,
            ..ComposioConfig::default()
        },
        clock,
        store,
        directory,
        awake: Arc::new(|_, _, _| Box::pin(async { true })),
    };
    ComposioRef::start(deps).await.unwrap()
}

#[actix::test]
async fn tools_of_a_service_are_offered_called_and_linked() {
    let mut bench = Bench::new();
    let sim = ComposioSim::start(ComposioSimConfig::default()).unwrap();
    bench.tools.set_composio(Some(composio(&bench, sim.url()).await));
    let offer = bench.offer(Some(&["github", "kronos"])).await;
    assert_eq!(offer.missing, Vec::<String>::new());
    let (built_in, others): (Vec<_>, Vec<_>) = offer.tools.iter().partition(|tool| tool.toolkit == BUILTIN);
    assert_eq!(built_in.len(), 5);
    assert!(!others.is_empty());
    assert!(
        others
            .iter()
            .all(|tool| tool.toolkit == "github" && tool.asks != tool.read_only),
        "{others:?}"
    );
    // Without an account nothing is done, and the user is asked to connect one.
    let tool = others.iter().find(|tool| tool.asks).unwrap();
    let mut call = execution(&tool.name, json!({}));
    call.toolkit = "github".to_owned();
    call.version.clone_from(&tool.version);
    let outcome = bench.call(call).await;
    assert!(
        matches!(&outcome, Outcome::NotConnected { toolkit, .. } if toolkit == "github"),
        "{outcome:?}"
    );
    assert_eq!(sim.effects().len(), 0);
    let request = LinkRequest {
        run: RunId::try_from("r_1").unwrap(),
        session: SessionId::try_from("s_1").unwrap(),
        user: user("ada"),
        toolkit: "github".to_owned(),
    };
    let _handle = bench.tools.link(request, bench.sink.clone().recipient());
    match bench.answer().await {
        ToolAnswer::Linked { link: Ok(link), .. } => assert!(link.redirect_url.starts_with("http"), "{link:?}"),
        other => panic!("{other:?}"),
    }
    // What is taken away is missing.
    bench.tools.set_composio(None);
    assert_eq!(bench.offer(Some(&["github"])).await.missing.len(), 1);
}

#[actix::test]
async fn a_run_does_not_wait_for_a_service_that_is_silent() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bench = Bench::with(ToolsConfig {
        offer_timeout: Duration::from_millis(50),
        ..ToolsConfig::default()
    });
    let url = format!("http://{}", silent.local_addr().unwrap());
    bench.tools.set_composio(Some(composio(&bench, url).await));
    let offer = bench.offer(Some(&["github", "kronos"])).await;
    assert_eq!(offer.tools.len(), 5);
    assert!(
        offer.missing[0].contains("github") && offer.missing.len() == 1,
        "{:?}",
        offer.missing
    );
    bench.tools.set_composio(None);
}
