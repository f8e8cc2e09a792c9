//! The built-in tools and the seam to sessions, as a session sees them.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    calculate::calculate,
    memory::{Memories, MemoryError, NewMemory},
    *,
};
use crate::{
    clock::Clock,
    config::{StoreBackend, StoreConfig, ToolsConfig},
    principal::REMOVED,
    store::{
        DocumentWrite, Expect, Request,
        service::{self, StoreRef, StoreService},
    },
};

mod calculator;
mod notes;
mod others;
mod schemas;
mod seam;

fn store() -> StoreRef {
    let config = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    StoreService::start(service::open(&config).unwrap(), &config, Clock::default()).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::try_from(name).unwrap()
}

/// What tells a test of the events that a session would get.
struct Sink(mpsc::Sender<ToolEvent>);

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<ToolEvent> for Sink {
    type Result = ();

    fn handle(&mut self, event: ToolEvent, _: &mut Self::Context) {
        self.0.try_send(event).unwrap();
    }
}

/// The tools, a user's session, and what it was told.
struct Bench {
    tools: ToolsRef,
    store: StoreRef,
    sink: Addr<Sink>,
    events: mpsc::Receiver<ToolEvent>,
    told: VecDeque<ToolAnswer>,
}

impl Bench {
    fn new() -> Self {
        Self::with(ToolsConfig::default())
    }

    fn with(config: ToolsConfig) -> Self {
        let store = store();
        let (told, events) = mpsc::channel(64);
        Self {
            tools: ToolsRef::new(store.clone(), Clock::default(), Arc::new(config)),
            store,
            sink: Sink(told).start(),
            events,
            told: VecDeque::new(),
        }
    }

    /// Waits for the next answer.
    async fn answer(&mut self) -> ToolAnswer {
        if let Some(answer) = self.told.pop_front() {
            return answer;
        }
        let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv());
        let event = event.await.expect("an answer in time").expect("the sink lives");
        assert_eq!(event.run.as_str(), "r_1");
        event.answer
    }

    /// Nothing else has come: what comes of a later request comes first.
    async fn nothing_else(&mut self) {
        let offer = self
            .tools
            .offer(offer_request(Some(vec![])), self.sink.clone().recipient());
        assert!(matches!(self.answer().await, ToolAnswer::Offered(offer) if offer == Offer::default()));
        drop(offer);
        assert!(self.events.try_recv().is_err());
    }

    async fn offer(&mut self, toolkits: Option<&[&str]>) -> Offer {
        let toolkits = toolkits.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        let _handle = self.tools.offer(offer_request(toolkits), self.sink.clone().recipient());
        match self.answer().await {
            ToolAnswer::Offered(offer) => offer,
            other => panic!("{other:?}"),
        }
    }

    async fn call(&mut self, execution: Execution) -> Outcome {
        let id = execution.call.clone();
        let _handle = self.tools.execute(execution, self.sink.clone().recipient());
        match self.answer().await {
            ToolAnswer::Finished { call, outcome } if call == id => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Calls a built-in tool with a key of its own.
    async fn run(&mut self, tool: &str, arguments: Value) -> Outcome {
        self.call(execution(tool, arguments)).await
    }

    async fn done(&mut self, tool: &str, arguments: Value) -> Value {
        match self.run(tool, arguments).await {
            Outcome::Done(value) => value,
            other => panic!("{other:?}"),
        }
    }
}

fn offer_request(toolkits: Option<Vec<String>>) -> OfferRequest {
    OfferRequest {
        run: RunId::try_from("r_1").unwrap(),
        user: user("ada"),
        toolkits,
        hint: "What can you do?".to_owned(),
    }
}

fn execution(tool: &str, arguments: Value) -> Execution {
    let Value::Object(arguments) = arguments else {
        panic!("{arguments}")
    };
    let known = builtin::tools().into_iter().find(|known| known.name == tool);
    Execution {
        run: RunId::try_from("r_1").unwrap(),
        session: SessionId::try_from("s_1").unwrap(),
        user: user("ada"),
        call: format!("call_{tool}"),
        key: crate::ids::detached_run().to_string(),
        tool: tool.to_owned(),
        toolkit: BUILTIN.to_owned(),
        version: None,
        read_only: known.as_ref().is_some_and(|known| known.read_only),
        repeatable: known.is_some_and(|known| known.repeatable),
        arguments,
        deadline: Clock::default().instant() + Duration::from_secs(60),
    }
}
