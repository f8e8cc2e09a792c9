use super::*;
use crate::clock::{Clock, now};

fn begin(flight: &Flight, run: &str) -> Option<Arc<Timeline>> {
    flight.begin(&Begun {
        run: &run.parse().unwrap(),
        session: &"s".parse().unwrap(),
        attempt: 1,
        at: now(),
        at_ms: Clock::default().now_ms(),
    })
}

fn held(flight: &Flight) -> Vec<String> {
    flight.all().iter().map(|turn| turn.run().to_string()).collect()
}

#[test]
fn the_oldest_gives_way_at_the_bound() {
    let flight = Flight::new(2);
    begin(&flight, "r_1").unwrap();
    assert_eq!(held(&flight), ["r_1"], "n-1");
    begin(&flight, "r_2").unwrap();
    assert_eq!(held(&flight), ["r_1", "r_2"], "n");
    let third = begin(&flight, "r_3").unwrap();
    assert_eq!(held(&flight), ["r_2", "r_3"], "n+1");
    assert!(flight.of(&"r_1".parse().unwrap()).is_none());
    assert!(Arc::ptr_eq(&flight.of(&"r_3".parse().unwrap()).unwrap(), &third));
    assert!(begin(&Flight::new(0), "r_1").is_none(), "off");
}

#[test]
fn exclusive_phases_add_up_and_the_largest_is_named() {
    let timeline = begin(&Flight::new(1), "r_1").unwrap();
    let start = timeline.started;
    let after = |ms| start + Duration::from_millis(ms);
    timeline.add(Phase::Request, Duration::from_millis(300));
    timeline.add(Phase::Upstream, Duration::from_millis(100));
    timeline.add(Phase::Upstream, Duration::from_millis(500));
    timeline.add(Phase::Commit, Duration::from_millis(5_000));
    let report = timeline.report(after(1_000));
    assert_eq!(report.summary.largest, Some("upstream"));
    assert_eq!((report.summary.wall_ms, report.explained), (1000.0, 0.9));
    assert_eq!(report.summary.outcome, None, "it goes on");
    timeline.ended(("finished", None), None, after(1_000));
    timeline.first(Moment::EndDurable, after(1_010));
    timeline.wrote_end(after(2_000));
    timeline.wrote_end(after(1_500));
    timeline.acked(after(2_010));
    let report = timeline.report(after(9_000));
    assert_eq!(report.summary.largest, Some("final_write"));
    assert_eq!(report.summary.wall_ms, 2010.0, "the last device counts");
    assert_eq!((report.devices, report.devices_acked), (2, 1));
    let names: Vec<_> = report.moments.iter().map(|moment| moment.name).collect();
    assert_eq!(names, ["end", "end_durable", "end_written", "acked"]);
}

#[test]
fn gaps_are_counted_in_powers_of_two() {
    let timeline = begin(&Flight::new(1), "r_1").unwrap();
    assert_eq!(timeline.report(now()).gaps.median_below_ms, None);
    for ms in [0, 3, 5, 6, 100] {
        timeline.shown(now(), Some(Duration::from_millis(ms)));
    }
    timeline.shown(now(), Some(Duration::from_secs(1 << 40)));
    let gaps = timeline.report(now()).gaps;
    assert_eq!((gaps.count, gaps.median_below_ms), (6, Some(8.0)));
}

#[test]
fn calls_have_their_bound() {
    let timeline = begin(&Flight::new(1), "r_1").unwrap();
    for n in 0..CALLS + 1 {
        timeline.call_began(&format!("call_{n}"), &"x".repeat(1_000), now());
    }
    timeline.call_ended("call_0", "done", now());
    let calls = timeline.report(now()).calls;
    assert_eq!(calls.len(), CALLS);
    assert_eq!((calls[0].outcome, calls[1].outcome), (Some("done"), None));
    assert_eq!(calls[0].tool.len(), NAME_CHARS);
}
