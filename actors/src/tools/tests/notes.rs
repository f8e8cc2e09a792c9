//! Notes: `remember`, `recall`, `forget`.

use super::*;

fn memories(store: &StoreRef, most: usize, most_chars: usize) -> Memories {
    let config = ToolsConfig {
        memories: most,
        memory_chars: most_chars,
        ..ToolsConfig::default()
    };
    Memories::new(store.clone(), Clock::default(), &config)
}

fn new(text: &str) -> NewMemory {
    NewMemory {
        text: text.to_owned(),
        session: None,
        key: None,
    }
}

#[actix::test]
async fn what_is_remembered_is_offered_recalled_and_forgotten() {
    let mut bench = Bench::new();
    let tea = bench.done("remember", json!({"text": "Likes green tea"})).await;
    let dog = bench.done("remember", json!({"text": "Has a dog called Argos"})).await;
    assert_eq!(
        bench.offer(None).await.notes,
        ["Likes green tea", "Has a dog called Argos"]
    );
    assert_eq!(bench.done("recall", json!({})).await, json!({"memories": [tea, dog]}));
    assert_eq!(bench.done("recall", json!({"query": null})).await["memories"][1], dog);
    assert_eq!(
        bench.done("recall", json!({"query": "DOG argos"})).await,
        json!({"memories": [dog]})
    );
    assert_eq!(
        bench.done("recall", json!({"query": "cat"})).await,
        json!({"memories": []})
    );
    let forget = json!({"id": tea["id"]});
    assert_eq!(bench.done("forget", forget.clone()).await, json!({"forgotten": true}));
    assert_eq!(bench.done("forget", forget).await, json!({"forgotten": false}));
    for nobody in ["n_0", "../ada", "é", &"x".repeat(70)] {
        assert_eq!(
            bench.done("forget", json!({"id": nobody})).await,
            json!({"forgotten": false})
        );
    }
    assert_eq!(bench.offer(None).await.notes, ["Has a dog called Argos"]);
    let kept = bench.tools.memories().list(&user("ada"), None, 10).await.unwrap();
    assert_eq!(kept[0].session.as_ref().map(SessionId::as_str), Some("s_1"));
}

#[actix::test]
async fn a_call_that_is_made_again_with_its_key_makes_one_note() {
    let mut bench = Bench::new();
    let first = execution("remember", json!({"text": "Likes tea"}));
    let again = first.clone();
    let made = bench.call(first).await;
    assert_eq!(bench.call(again).await, made);
    assert_eq!(bench.offer(None).await.notes, ["Likes tea"]);
    // At once.
    let twice = execution("remember", json!({"text": "Has a dog"}));
    let sink = bench.sink.clone().recipient();
    let handles: Vec<_> = (0..8)
        .map(|_| bench.tools.execute(twice.clone(), sink.clone()))
        .collect();
    let mut outcomes = Vec::new();
    for _ in 0..8 {
        match bench.answer().await {
            ToolAnswer::Finished { outcome, .. } => outcomes.push(outcome),
            other => panic!("{other:?}"),
        }
    }
    drop(handles);
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
    assert_eq!(bench.offer(None).await.notes, ["Likes tea", "Has a dog"]);
}

#[actix::test]
async fn notes_of_a_user_are_bounded_in_number() {
    let store = store();
    let memories = memories(&store, 3, 10);
    let ada = user("ada");
    for count in 1..=3 {
        memories
            .add(&ada, new("a note"))
            .await
            .unwrap_or_else(|error| panic!("{count}: {error}"));
    }
    let full = MemoryError::Full { limit: 3 };
    assert_eq!(memories.add(&ada, new("a note")).await, Err(full.clone()));
    // Others have theirs.
    memories.add(&user("ad"), new("a note")).await.unwrap();
    memories.add(&user("ada/"), new("a note")).await.unwrap();
    assert_eq!(memories.list(&ada, None, 10).await.unwrap().len(), 3);
    let first = memories.list(&ada, None, 1).await.unwrap().remove(0);
    assert!(memories.forget(&ada, &first.id).await.unwrap());
    memories.add(&ada, new("a note")).await.unwrap();
    assert_eq!(memories.add(&ada, new("a note")).await, Err(full));
}

#[actix::test]
async fn no_more_notes_are_made_at_once_than_are_allowed() {
    let store = store();
    let memories = memories(&store, 5, 10);
    let ada = user("ada");
    let all = (0..12).map(|_| memories.add(&ada, new("a note")));
    let results = futures_util::future::join_all(all).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5, "{results:?}");
    assert_eq!(memories.list(&ada, None, 100).await.unwrap().len(), 5);
}

#[actix::test]
async fn notes_are_bounded_in_length() {
    let store = store();
    let memories = memories(&store, 10, 5);
    let ada = user("ada");
    for (text, fits) in [("aaaa", true), ("ééééé", true), ("éééééé", false)] {
        let result = memories.add(&ada, new(text)).await;
        assert_eq!(result.is_ok(), fits, "{text}");
        if !fits {
            assert_eq!(result, Err(MemoryError::TooLong { limit: 5, length: 6 }));
        }
    }
    assert_eq!(memories.add(&ada, new("")).await, Err(MemoryError::Empty));
    let mut bench = Bench::new();
    for (length, fits) in [(999, true), (1000, true), (1001, false)] {
        let outcome = bench.run("remember", json!({"text": "x".repeat(length)})).await;
        assert_eq!(matches!(outcome, Outcome::Done(_)), fits, "{length}");
    }
}

#[actix::test]
async fn a_page_of_notes_goes_on_where_the_last_ended() {
    let store = store();
    let memories = memories(&store, 10, 10);
    let ada = user("ada");
    for count in 0..5 {
        memories.add(&ada, new(&count.to_string())).await.unwrap();
    }
    let first = memories.list(&ada, None, 3).await.unwrap();
    let rest = memories.list(&ada, Some(&first[2].id), 3).await.unwrap();
    let texts: Vec<_> = first.iter().chain(&rest).map(|memory| memory.text.as_str()).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4"]);
    memories.forget_all(&ada).await.unwrap();
    assert_eq!(memories.list(&ada, None, 10).await.unwrap(), []);
    memories.add(&ada, new("again")).await.unwrap();
}

#[actix::test]
async fn a_run_begins_with_the_newest_notes_that_fit() {
    let mut bench = Bench::new();
    for count in 0..17 {
        let text = format!("{count:02}{}", "x".repeat(998));
        bench.done("remember", json!({ "text": text })).await;
    }
    let notes = bench.offer(None).await.notes;
    let first: Vec<&str> = notes.iter().map(|note| &note[..2]).collect();
    assert_eq!(notes.len(), 16);
    assert_eq!((first[0], first[15]), ("01", "16"));
}

#[actix::test]
async fn nothing_is_remembered_of_a_user_who_was_deleted() {
    let store = store();
    let memories = memories(&store, 10, 10);
    let mark = DocumentWrite {
        family: REMOVED,
        key: "ada".to_owned(),
        value: Some("{}".into()),
        expect: Expect::Any,
    };
    let request = Request {
        documents: vec![mark],
        ..Request::default()
    };
    store.commit(request).await.unwrap();
    assert_eq!(
        memories.add(&user("ada"), new("a note")).await,
        Err(MemoryError::UserGone)
    );
    memories.add(&user("eve"), new("a note")).await.unwrap();
}

#[actix::test]
async fn others_neither_see_nor_forget_a_note() {
    let store = store();
    let memories = memories(&store, 10, 10);
    let (ada, eve) = (user("ada"), user("eve"));
    let note = memories.add(&ada, new("a secret")).await.unwrap();
    assert_eq!(memories.list(&eve, None, 10).await.unwrap(), []);
    assert!(!memories.forget(&eve, &note.id).await.unwrap());
    memories.forget_all(&eve).await.unwrap();
    assert_eq!(memories.list(&ada, None, 10).await.unwrap(), [note]);
}
