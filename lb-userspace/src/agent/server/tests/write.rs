//! `POST /v1/write`, against the routes that say one kind of write each.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::actor::Lab;
use super::http::{JSON, ask, web};
use lb_core::desired::Change;

/// Takes out of the services what goes on by itself.
fn without_times(view: &mut Value) {
    let services = view["services"].as_array_mut().into_iter().flatten();
    let backends = services.flat_map(|service| service["backends"].as_array_mut().into_iter().flatten());
    for drain in backends.filter_map(|backend| backend["drain"].as_object_mut()) {
        drain.retain(|key, _| !key.ends_with("_seconds"));
    }
}

#[tokio::test]
async fn a_route_of_its_own_says_what_the_write_says() {
    let backend = json!({"address": "10.1.0.9", "zone": "a"});
    let rows = [
        (
            ("POST", "/v1/services/web/backends", backend.clone()),
            json!({"add_backend": {"service": "web", "backend": backend}}),
        ),
        (
            ("PATCH", "/v1/services/web", json!({"slots": 64})),
            json!({"set_service": {"service": "web", "patch": {"slots": 64}}}),
        ),
        (
            (
                "PATCH",
                "/v1/services/web/backends/10.1.0.1",
                json!({"weight": 7}),
            ),
            json!({"set_backend": {"service": "web", "backend": "10.1.0.1", "patch": {"weight": 7}}}),
        ),
        (
            (
                "DELETE",
                "/v1/services/web/backends/10.1.0.1?now=true",
                Value::Null,
            ),
            json!({"remove_backend": {"service": "web", "backend": "10.1.0.1", "now": true}}),
        ),
        (
            ("DELETE", "/v1/services/web/backends/10.1.0.1", Value::Null),
            json!({"remove_backend": {"service": "web", "backend": "10.1.0.1"}}),
        ),
        (
            ("POST", "/v1/drain", json!({"host": "10.1.0.1", "deadline": "5m"})),
            json!({"drain": {"host": "10.1.0.1", "deadline": "5m"}}),
        ),
        (
            ("POST", "/v1/ready", json!({"host": "10.1.0.1", "service": "web"})),
            json!({"ready": {"host": "10.1.0.1", "service": "web"}}),
        ),
        (
            ("POST", "/v1/reload?now=true&force=true", Value::Null),
            json!({"reload": {"now": true, "force": true}}),
        ),
        (
            ("DELETE", "/v1/services/web", Value::Null),
            json!({"remove_service": {"service": "web"}}),
        ),
    ];
    for ((method, path, body), write) in rows {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut ends = Vec::new();
        for (method, path, body) in [(method, path, body), ("POST", "/v1/write", write.to_string())] {
            let lab = Lab::start();
            std::fs::write(lab.directory.path().join("lb.toml"), "").expect("written");
            ask(&lab, "POST", "/v1/services", JSON, web().to_string()).await;
            let (status, mut answer) = ask(&lab, method, path, JSON, body).await;
            assert_eq!(status, StatusCode::OK, "{method} {path}: {answer}");
            assert!(answer["apply_us"].take().is_u64());
            let (_, mut view) = ask(&lab, "GET", "/v1/services", JSON, "").await;
            without_times(&mut view);
            ends.push((answer, view));
        }
        assert_eq!(ends[0], ends[1], "{write}");
        let change: Change = serde_json::from_value(write).expect("a write");
        let again = serde_json::to_string(&change).expect("JSON");
        assert_eq!(serde_json::from_str::<Change>(&again).expect("a write"), change);
    }
}

const REFERENCE: &str = include_str!("../../../../../docs/api.md");

#[test]
fn the_reference_names_every_route() {
    let routes = include_str!("../routes.rs").split(".route(").skip(1);
    let mut paths = 0;
    for path in routes.filter_map(|route| route.split('"').nth(1)) {
        let shown = [("{name}", "NAME"), ("{id}", "ID"), ("{number}", "N")]
            .iter()
            .fold(path.to_owned(), |path, (here, there)| path.replace(here, there));
        assert!(
            REFERENCE.contains(&format!(" {shown}`")),
            "{shown} is not in docs/api.md"
        );
        paths += 1;
    }
    assert!(paths > 10, "only {paths} routes were found");
}

#[test]
fn the_reference_shows_every_write() {
    let examples = REFERENCE.lines().filter(|line| line.starts_with("    {\""));
    let mut shown: Vec<String> = Vec::new();
    for example in examples {
        let whole = if example.contains("add_service") {
            example.replace("{…}", &web().to_string())
        } else if example.contains("add_backend") {
            example.replace("{…}", "{\"address\": \"10.0.0.5\"}")
        } else {
            example.replace("{…}", "{}")
        };
        serde_json::from_str::<Change>(&whole).unwrap_or_else(|error| panic!("{example}: {error}"));
        shown.extend(example.split('"').nth(1).map(str::to_owned));
    }
    let unknown = serde_json::from_str::<Change>("{\"x\": null}").expect_err("no write");
    let unknown = unknown.to_string();
    let verbs: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert_eq!(shown, verbs);
}
