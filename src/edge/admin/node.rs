//! The process as a whole: its end.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::{
    Stop,
    edge::{
        EdgeState,
        accounts::Accounts,
        auth::Caller,
        endpoint::{Endpoint, Tag, post},
        error::ApiError,
    },
};

/// The endpoints of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/admin/drain"], drain)
            .named("admin_drain", Tag::Admin, "Drain the process and end it")
            .about(
                "As SIGTERM does: nothing new begins, clients are told to come back (`goaway`, then 1012), runs get their time, \
                 everything is committed, and the process ends with 0. A second call changes nothing; a SIGTERM then skips the waiting.",
            )
            .superuser()
            .returns::<Draining>(202, "It drains", || json!({"draining": true, "begun": true})),
    ]
}

/// Lets an operator end the process as a signal does. Nothing happens before the server runs.
#[derive(Debug, Default)]
pub(crate) struct Departure {
    stop: OnceLock<Stop>,
    asked: AtomicBool,
}

impl Departure {
    /// Says what ends the process.
    pub(crate) fn by(&self, stop: &Stop) {
        // A server runs once.
        drop(self.stop.set(stop.clone()));
    }

    /// Begins the drain; false when an operator has begun it before.
    fn begin(&self) -> bool {
        let Some(stop) = self.stop.get() else { return false };
        let first = !self.asked.swap(true, Ordering::Relaxed);
        if first && !stop.is_signalled() {
            stop.signal();
            return true;
        }
        false
    }
}

/// A process that drains.
#[derive(Debug, Serialize, JsonSchema)]
struct Draining {
    /// It drains.
    draining: bool,
    /// With this call; false: it did before.
    begun: bool,
}

async fn drain(edge: web::Data<EdgeState>, caller: Caller) -> Result<HttpResponse, ApiError> {
    std::future::ready(Accounts::only_superusers(&caller.principal)).await?;
    let begun = edge.departure.begin();
    tracing::info!(user.id = %caller.principal.user, begun, "an operator drains the process");
    let draining = Draining { draining: true, begun };
    Ok(HttpResponse::Accepted().json(draining))
}
