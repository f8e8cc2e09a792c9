//! What a session is told, also when things go wrong.

use super::*;

fn names(offer: &Offer) -> Vec<&str> {
    offer.tools.iter().map(|tool| tool.name.as_str()).collect()
}

const ALL: [&str; 5] = ["current_time", "calculate", "remember", "recall", "forget"];

#[test]
fn tools_are_shared_between_cores() {
    fn shared<T: Clone + Send + Sync>() {}
    shared::<ToolsRef>();
}

#[actix::test]
async fn built_in_tools_are_offered_unless_others_are_named() {
    let mut bench = Bench::new();
    bench.done("remember", json!({"text": "Likes tea"})).await;
    let offer = bench.offer(None).await;
    assert_eq!(names(&offer), ALL);
    assert!(
        offer
            .tools
            .iter()
            .all(|tool| tool.toolkit == BUILTIN && tool.repeatable && !tool.asks)
    );
    assert_eq!((offer.notes.len(), offer.missing.len()), (1, 0));
    assert_eq!(bench.offer(Some(&["kronos"])).await, offer);
    assert_eq!(bench.offer(Some(&[])).await, Offer::default());
    let others = bench.offer(Some(&["github", "gmail"])).await;
    assert_eq!((names(&others).len(), others.notes.len()), (0, 0));
    assert!(others.missing[0].contains("github") && others.missing[1].contains("gmail"));
    let both = bench.offer(Some(&["github", "kronos"])).await;
    assert_eq!(names(&both), ALL);
    assert_eq!((both.notes.len(), both.missing.len()), (1, 1));
}

#[actix::test]
async fn what_there_is_not_fails_clearly() {
    let mut bench = Bench::new();
    assert!(
        matches!(bench.run("no_such_tool", json!({})).await, Outcome::Failed(text) if text.contains("no_such_tool"))
    );
    let mut foreign = execution("calculate", json!({}));
    foreign.toolkit = "github".to_owned();
    assert!(matches!(bench.call(foreign).await, Outcome::Failed(text) if text.contains("not configured")));
    let request = LinkRequest {
        run: RunId::try_from("r_1").unwrap(),
        session: SessionId::try_from("s_1").unwrap(),
        user: user("ada"),
        toolkit: "github".to_owned(),
    };
    let _handle = bench.tools.link(request, bench.sink.clone().recipient());
    match bench.answer().await {
        ToolAnswer::Linked { toolkit, link } => {
            assert_eq!(toolkit, "github");
            assert!(link.unwrap_err().contains("not configured"));
        }
        other => panic!("{other:?}"),
    }
    bench.nothing_else().await;
}

#[actix::test]
async fn nothing_is_told_to_who_dropped_the_handle() {
    let mut bench = Bench::new();
    let sink = bench.sink.clone().recipient();
    drop(
        bench
            .tools
            .execute(execution("calculate", json!({"expression": "1"})), sink.clone()),
    );
    drop(bench.tools.offer(offer_request(None), sink.clone()));
    let handle = bench
        .tools
        .execute(execution("remember", json!({"text": "Likes tea"})), sink);
    // It has begun.
    tokio::task::yield_now().await;
    drop(handle);
    bench.nothing_else().await;
}

#[actix::test]
async fn a_store_that_is_gone_is_told_as_what_nobody_knows() {
    let mut bench = Bench::new();
    bench.store.close().await;
    assert!(matches!(
        bench.run("remember", json!({"text": "x"})).await,
        Outcome::Unknown(_)
    ));
    assert!(matches!(
        bench.run("forget", json!({"id": "n_1"})).await,
        Outcome::Unknown(_)
    ));
    assert!(matches!(bench.run("recall", json!({})).await, Outcome::Failed(_)));
    let offer = bench.offer(None).await;
    assert_eq!(names(&offer), ALL);
    assert_eq!((offer.notes.len(), offer.missing.len()), (0, 1));
}

#[actix::test]
async fn nothing_begins_after_the_deadline() {
    let mut bench = Bench::new();
    let mut late = execution("remember", json!({"text": "Likes tea"}));
    late.deadline = Clock::default().instant();
    assert!(matches!(bench.call(late).await, Outcome::Failed(_)));
    assert_eq!(bench.done("recall", json!({})).await, json!({"memories": []}));
}

/// The outlet of a call, as the work of one has it.
fn outlet(bench: &Bench, asked: outlet::Asked) -> outlet::Outlet {
    let run = RunId::try_from("r_1").unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    outlet::Outlet::new(run, asked, bench.sink.clone().recipient(), cancel, Clock::default())
}

fn call(read_only: bool) -> outlet::Asked {
    outlet::Asked::Call {
        call: "call_1".to_owned(),
        toolkit: BUILTIN.to_owned(),
        read_only,
    }
}

#[actix::test]
async fn work_that_panics_or_is_dropped_is_told_once() {
    let mut bench = Bench::new();
    for read_only in [false, true] {
        for panics in [false, true] {
            let outlet = outlet(&bench, call(read_only));
            let work = actix::spawn(async move {
                let _outlet = outlet;
                assert!(!panics, "a bomb");
            });
            assert_eq!(work.await.is_err(), panics);
            match bench.answer().await {
                ToolAnswer::Finished { call, outcome } => {
                    assert_eq!(call, "call_1");
                    assert_eq!(matches!(outcome, Outcome::Failed(_)), read_only, "{outcome:?}");
                    assert_eq!(matches!(outcome, Outcome::Unknown(_)), !read_only, "{outcome:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    drop(outlet(&bench, outlet::Asked::Offer));
    assert!(matches!(bench.answer().await, ToolAnswer::Offered(offer) if offer.missing.len() == 1));
    let toolkit = "github".to_owned();
    drop(outlet(&bench, outlet::Asked::Link { toolkit }));
    assert!(matches!(bench.answer().await, ToolAnswer::Linked { toolkit, link: Err(_) } if toolkit == "github"));
    bench.nothing_else().await;
}
