//! Counts of requests, by handles that are looked up once on each thread.

use std::{cell::RefCell, collections::HashMap, sync::LazyLock, time::Duration};

use actix_web::http::Method;
use kronos_actors::metrics as names;
use metrics::{Counter, Gauge, Histogram};

/// Status classes, from 1xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The route of what the table of routes does not have.
pub(super) const UNMATCHED: &str = "unmatched";

/// The handles of a method on a route.
struct Handles {
    duration: Histogram,
    /// By status class, each from its first answer.
    answers: [Option<Counter>; CLASSES.len()],
}

type ByMethod = HashMap<&'static str, Handles>;

thread_local! {
    /// By pattern of the route table: as many as it has.
    static HANDLES: RefCell<HashMap<String, ByMethod>> = RefCell::default();
}

/// Counts an answer; `route` is a pattern of the route table.
pub(crate) fn record(method: &'static str, route: Option<&str>, status: u16, taken: Duration) {
    let route = route.unwrap_or(UNMATCHED);
    HANDLES.with_borrow_mut(|routes| {
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), ByMethod::new());
        }
        let Some(methods) = routes.get_mut(route) else { return };
        let handles = methods.entry(method).or_insert_with(|| Handles {
            duration: metrics::histogram!(names::HTTP_DURATION, "method" => method, "route" => route.to_owned()),
            answers: Default::default(),
        });
        handles.duration.record(taken.as_secs_f64());
        let class = usize::from((status / 100).clamp(1, 5)) - 1;
        let counter = |class: &'static str| {
            metrics::counter!(names::HTTP_REQUESTS, "method" => method, "route" => route.to_owned(), "status" => class)
        };
        if let Some((answers, class)) = handles.answers.get_mut(class).zip(CLASSES.get(class)) {
            answers.get_or_insert_with(|| counter(class)).increment(1);
        }
    });
}

/// Requests that wait for their answer.
pub(super) fn active() -> &'static Gauge {
    static ACTIVE: LazyLock<Gauge> = LazyLock::new(|| metrics::gauge!(names::HTTP_ACTIVE));
    &ACTIVE
}

/// Returns the label of a method.
pub(super) fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
