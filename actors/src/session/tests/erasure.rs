//! Everything of a deleted user goes, whatever is made at the same time.

use futures_util::future::join_all;
use kronos_protocol::ids::UserId;

use super::*;
use crate::{
    erasure::erase,
    principal::REMOVED,
    store::{DocumentWrite, Expect, Request},
};

fn memory() -> StoreRef {
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    StoreService::start(service::open(&store).unwrap(), &store, Clock::default()).unwrap()
}

fn bob() -> Arc<Principal> {
    let user = "bob".parse().unwrap();
    Arc::new(Principal {
        user,
        ..ann().as_ref().clone()
    })
}

async fn mark(store: &StoreRef, user: &UserId) {
    let document = DocumentWrite {
        family: REMOVED,
        key: user.to_string(),
        value: Some("{}".into()),
        expect: Expect::Any,
    };
    let request = Request {
        documents: vec![document],
        ..Request::default()
    };
    store.commit(request).await.unwrap();
}

async fn make(directory: &DirectoryRef, owner: &Arc<Principal>) -> Result<SessionRef, SessionError> {
    let mut session = directory.create(owner, None, SessionSettings::default()).await?;
    loop {
        // Its first answer comes when it is durable.
        match ask(&session, owner, SessionCommand::View(Page::last(1))).await {
            Ok(_) => return Ok(session),
            // One that may not be leaves memory at once: then it is asked for again, as every caller does.
            Err(error) if error.closed => session = directory.resolve(session.id()).await?,
            Err(error) => return Err(error),
        }
    }
}

async fn count(store: &StoreRef, user: &UserId) -> usize {
    store.list(Some(user), None, 1000).await.unwrap().len()
}

#[actix::test]
async fn every_session_of_a_user_is_erased_and_nobody_elses() {
    let store = memory();
    let (directory, _sim) = directory_over(SessionConfig::default(), store.clone());
    let (ann, bob) = (ann(), bob());
    for _ in 0..5 {
        make(&directory, &ann).await.unwrap();
    }
    let busy = make(&directory, &ann).await.unwrap();
    let mut reader = SessionReader::attach(&directory, &busy, &ann, 0).await.unwrap();
    say(&busy, "m_1", "[[tokens 5000]] a novel").await;
    make(&directory, &bob).await.unwrap();
    let feed = DirectoryRef::feed_of(&ann.user).unwrap();
    let told = async {
        while store.meta(&feed).await.unwrap().is_none() {
            actix::clock::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    mark(&store, &ann.user).await;
    let end = async {
        loop {
            if let Err(error) = reader.next().await {
                return error.code;
            }
        }
    };
    let both = async { tokio::join!(erase(&directory, &store, &ann.user), end) };
    let (erased, end) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    assert_eq!((erased.unwrap(), end), (6, ErrorCode::NotFound), "who reads is told");
    let left = (count(&store, &ann.user).await, count(&store, &bob.user).await);
    assert_eq!(left, (0, 1));
    assert_eq!(store.meta(&feed).await.unwrap(), None);
    assert!(store.unfinished().await.unwrap().is_empty());
    assert_eq!(
        erase(&directory, &store, &ann.user).await.unwrap(),
        0,
        "again is no harm"
    );
}

#[actix::test]
async fn nothing_is_made_for_a_user_who_is_gone() {
    let store = memory();
    let (directory, _sim) = directory_over(SessionConfig::default(), store.clone());
    mark(&store, &ann().user).await;
    assert_eq!(make(&directory, &ann()).await.unwrap_err().code, ErrorCode::NotFound);
    let feed = directory.feed(&ann().user).await.unwrap();
    assert!(ask(&feed, &ann(), SessionCommand::View(Page::last(1))).await.is_err());
    erase(&directory, &store, &ann().user).await.unwrap();
    assert_eq!(count(&store, &ann().user).await, 0);
    assert_eq!(
        store.meta(&DirectoryRef::feed_of(&ann().user).unwrap()).await.unwrap(),
        None
    );
    make(&directory, &bob()).await.unwrap();
}

#[actix::test]
async fn what_is_made_beside_a_deletion_is_not_left_over() {
    let store = memory();
    let (directory, _sim) = directory_over(SessionConfig::default(), store.clone());
    for pause_us in [0, 50, 200, 500, 1000, 2000] {
        let owner = Arc::new(Principal {
            user: format!("user-{pause_us}").parse().unwrap(),
            ..ann().as_ref().clone()
        });
        let made = join_all((0..40).map(|n| {
            let (directory, owner) = (&directory, &owner);
            async move {
                actix::clock::sleep(Duration::from_micros(n * 50)).await;
                make(directory, owner).await.is_ok()
            }
        }));
        let deletion = async {
            actix::clock::sleep(Duration::from_micros(pause_us)).await;
            mark(&store, &owner.user).await;
            erase(&directory, &store, &owner.user).await.unwrap();
        };
        tokio::join!(made, deletion);
        assert_eq!(count(&store, &owner.user).await, 0, "{pause_us}");
        let feed = DirectoryRef::feed_of(&owner.user).unwrap();
        assert_eq!(store.meta(&feed).await.unwrap(), None, "{pause_us}");
    }
}

#[actix::test]
async fn a_parked_session_is_erased_too() {
    let store = memory();
    let config = SessionConfig {
        max_restarts: 1,
        ..SessionConfig::default()
    };
    let (directory, _sim) = directory_over(config, store.clone());
    let session = make(&directory, &ann()).await.unwrap();
    let id = session.id().clone();
    while !directory.is_parked(&id) {
        if let Ok(session) = directory.resolve(&id).await {
            // It dies of it: there is no answer.
            session.addr().send(Bomb).await.ok();
        }
        actix::clock::sleep(Duration::from_millis(5)).await;
    }
    mark(&store, &ann().user).await;
    assert_eq!(erase(&directory, &store, &ann().user).await.unwrap(), 1);
    assert!(!directory.is_parked(&id));
    assert_eq!(store.documents("parked", "", None, 10).await.unwrap(), []);
}
