//! How drains are followed, and what is shown meanwhile.

use serde_json::{Value, json};

use super::*;

fn draining(backend: &str, flows: Option<u64>) -> Value {
    json!({"service": "web", "backend": backend, "zone": "x", "leaving": false, "flows": flows,
        "silent_seconds": 1.5, "over_in_seconds": 58.5, "ends_in_seconds": 65.0})
}

fn ended(backend: &str, end: &str, generation: u64) -> Value {
    json!({"service": "web", "backend": backend, "zone": "x", "leaving": false, "end": end, "flows": 3,
        "generation": generation})
}

/// What is known of the zone's drains after the agent has said all that, one thing after the other.
fn seen(views: &[(Vec<Value>, Vec<Value>)]) -> BTreeMap<Name, State> {
    let waited = Waited::Selection(Selection::of_zone("x".parse().expect("a zone")));
    let mut drains = BTreeMap::new();
    for (drains_now, ended) in views {
        let view = json!({"generation": 9, "drains": drains_now, "ended": ended});
        let view = serde_json::from_value(view).expect("a view");
        observe(&mut drains, &view, 7, &waited);
    }
    drains
}

#[test]
fn each_drain_is_followed_to_its_end() {
    let (a, b) = ("10.0.0.5", "10.0.0.6");
    let first = (vec![draining(a, Some(1)), draining(b, None)], vec![]);
    assert_eq!(
        summary(&seen(std::slice::from_ref(&first))),
        "2 of 2 backends drain, 1 flow left, the last ends in 1m 5s"
    );
    let one_over = (vec![draining(a, Some(2))], vec![ended(b, "no-flows", 8)]);
    let shown = summary(&seen(&[first.clone(), one_over.clone()]));
    assert_eq!(
        shown,
        "web 10.0.0.5: 2 flows left, silent for 1s, over in 58s if it stays so, ends in 1m 5s"
    );
    let over = (vec![], vec![ended(b, "no-flows", 8), ended(a, "deadline", 9)]);
    let expected = "web 10.0.0.5 is out, 3 flows were cut: its deadline has passed\n\
                    web 10.0.0.6 is drained: no flows are left";
    assert_eq!(lines(&seen(&[first.clone(), one_over, over])), expected);
    let cancelled = (vec![draining(a, None)], vec![]);
    let cancelled = lines(&seen(&[first, cancelled]));
    assert!(cancelled.contains("10.0.0.6 drains no longer"), "{cancelled}");
}

#[test]
fn ends_from_before_are_others() {
    let old = vec![ended("10.0.0.5", "deadline", 7)];
    assert!(seen(&[(vec![], old.clone())]).is_empty());
    let again = seen(&[(vec![draining("10.0.0.5", None)], old)]);
    assert!(again.values().all(|state| matches!(state, State::UnderWay(_))));
    let at_once = seen(&[(vec![], vec![ended("10.0.0.5", "down", 8)])]);
    assert_eq!(lines(&at_once), "web 10.0.0.5 is drained: it is down");
}
