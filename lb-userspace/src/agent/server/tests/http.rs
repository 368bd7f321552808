//! What arrives over HTTP as it should not.

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use proptest::{prelude::*, strategy::ValueTree};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::actor::Lab;
use lb_core::desired::Change;

pub(super) const JSON: &str = "application/json";

async fn send(lab: &Lab, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let stream = UnixStream::connect(lab.socket()).await.expect("connected");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let connection = tokio::spawn(connection);
    let (head, body) = sender
        .send_request(request)
        .await
        .expect("an answer")
        .into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    connection.abort();
    Response::from_parts(head, bytes)
}

/// Status, and the body, which is always JSON.
pub(super) async fn ask(
    lab: &Lab,
    method: &str,
    path: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "lb");
    let request = request
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(body.into()))
        .expect("a request");
    let response = send(lab, request).await;
    let value = serde_json::from_slice(response.body()).expect("a JSON body");
    (response.status(), value)
}

pub(super) fn web() -> Value {
    json!({"name": "web", "vips": ["10.0.0.1"], "protocol": "tcp", "port": 80, "forwarder": "ipip",
           "backend": [{"address": "10.1.0.1"}]})
}

#[tokio::test]
async fn each_mistake_has_its_status_and_code() {
    let lab = Lab::start();
    let (status, applied) = ask(&lab, "POST", "/v1/services", JSON, web().to_string()).await;
    assert_eq!((status, &applied["generation"]), (StatusCode::OK, &json!(1)));
    assert!(applied["apply_us"].is_u64());
    let other = |key: &str, value: Value| {
        let mut service = web();
        service["name"] = json!("other");
        service[key] = value;
        service.to_string()
    };
    let (services, web_backends) = ("/v1/services", "/v1/services/web/backends");
    #[rustfmt::skip]
    let rows = [
        ("GET", "/", JSON, String::new(), 404, "not_found", "there is no /"),
        ("GET", "/v2/services", JSON, String::new(), 404, "not_found", "/v2/services"),
        ("GET", "/v1/services/none", JSON, String::new(), 404, "not_found", "no service none"),
        ("GET", "/v1/services/%FF", JSON, String::new(), 400, "bad_request", "path"),
        ("GET", "/v1/services/a%20b", JSON, String::new(), 404, "not_found", "no service name"),
        ("PUT", services, JSON, String::new(), 405, "method_not_allowed", "does not take PUT"),
        ("DELETE", "/v1/status", JSON, String::new(), 405, "method_not_allowed", "does not take DELETE"),
        ("POST", services, JSON, web().to_string(), 409, "exists", "lb service set web"),
        ("POST", services, "text/plain", web().to_string(), 415, "unsupported_media_type", "application/json"),
        ("POST", services, JSON, " ".repeat((1 << 20) + 1), 413, "too_large", "1048576"),
        ("POST", services, JSON, String::new(), 400, "bad_json", "line 1 column 0"),
        ("POST", services, JSON, "{\n \"name\": web}".into(), 400, "bad_json", "line 2 column 10"),
        ("POST", services, JSON, "[".repeat(100_000), 400, "bad_json", "line 1"),
        ("POST", services, JSON, "{} {}".into(), 400, "bad_json", "missing key `name`"),
        ("POST", services, JSON, format!("{}x", web()), 400, "bad_json", "trailing"),
        ("POST", services, JSON, other("prot", json!(1)), 400, "bad_json", "expected one of `name`"),
        ("POST", services, JSON, other("port", json!(0)), 400, "bad_json", "port: "),
        ("POST", services, JSON, other("vips", json!(["x"])), 400, "bad_json", "vips[0]: "),
        ("POST", services, JSON, other("protocol", json!("tpc")), 400, "bad_json", "did you mean `tcp`?"),
        ("POST", services, JSON, other("vips", json!([])), 422, "invalid", "vips: expected 1 to 256"),
        ("POST", services, JSON, other("slots", json!(100)), 422, "invalid", "power of two"),
        ("POST", services, JSON, other("affinity", json!("flow")), 422, "invalid", "both claim"),
        ("PATCH", "/v1/services/web", JSON, "{\"port\": 81}".into(), 400, "bad_json", "unknown key `port`"),
        ("PATCH", "/v1/services/none", JSON, "{}".into(), 404, "not_found", "no service none"),
        ("DELETE", "/v1/services/none", JSON, String::new(), 404, "not_found", "no service none"),
        ("POST", web_backends, JSON, "{\"address\": \"10.1.0.1\"}".into(), 409, "exists", "lb backend set web"),
        ("POST", web_backends, JSON, "{\"address\": \"10.0.0.1\"}".into(), 422, "invalid", "is a VIP"),
        ("PATCH", "/v1/services/web/backends/10.1.0.9", JSON, "{}".into(), 404, "not_found", "10.1.0.9"),
        ("PATCH", "/v1/services/web/backends/host", JSON, "{}".into(), 404, "not_found", "names no backend"),
        ("PATCH", "/v1/services/web/backends/10.1.0.1", JSON, "{\"state\": \"leaving\"}".into(), 422, "invalid", "remove it"),
        ("POST", web_backends, JSON, "{\"address\": \"10.1.0.2\", \"state\": \"leaving\"}".into(), 422, "invalid", "state: "),
        ("PATCH", "/v1/services/web/backends/10.1.0.1", JSON, "{\"deadline\": \"5m\"}".into(), 422, "invalid", "deadline: "),
        ("DELETE", "/v1/services/web/backends/10.1.0.1?now=1", JSON, String::new(), 400, "bad_request", "?now=true"),
        ("DELETE", "/v1/services/web/backends/10.1.0.1?later=true", JSON, String::new(), 400, "bad_request", "?now=true"),
        ("POST", "/v1/drain", JSON, "{}".into(), 422, "invalid", "either `host` or `zone`"),
        ("POST", "/v1/drain", JSON, "{\"host\": \"10.1.0.1\", \"zone\": \"x\"}".into(), 422, "invalid", "either"),
        ("POST", "/v1/drain", JSON, "{\"host\": \"10.1.0.1:80\"}".into(), 400, "bad_json", "host: "),
        ("POST", "/v1/drain", JSON, "{\"zone\": \"x\"}".into(), 404, "not_found", "no backend has the zone x"),
        ("POST", "/v1/ready", JSON, "{\"host\": \"10.1.0.1\", \"deadline\": \"5m\"}".into(), 422, "invalid", "leave it out"),
        ("GET", "/v1/drain", JSON, String::new(), 405, "method_not_allowed", "does not take GET"),
        ("POST", "/v1/reload?now", JSON, String::new(), 400, "bad_request", "?now=true"),
        ("POST", "/v1/reload", JSON, String::new(), 422, "config", "no such file"),
        ("POST", "/v1/plan", JSON, "{}".into(), 400, "bad_json", "line 1"),
        ("POST", "/v1/plan", JSON, "{\"drain\": {}}".into(), 422, "invalid", "either `host` or `zone`"),
        ("POST", "/v1/plan", JSON, "{\"set_service\": {\"service\": \"web\", \"patch\": {\"slot\": 64}}}".into(), 400, "bad_json", "set_service"),
        ("GET", "/v1/plan", JSON, String::new(), 405, "method_not_allowed", "does not take GET"),
        ("POST", "/v1/write", JSON, "{}".into(), 400, "bad_json", "line 1"),
        ("POST", "/v1/write", JSON, "{\"end_drains\": []}".into(), 400, "bad_json", "expected one of `add_service`"),
        ("POST", "/v1/write", JSON, "{\"replace_all\": []}".into(), 400, "bad_json", "expected one of `add_service`"),
        ("POST", "/v1/write", JSON, "{\"ready\": {\"zone\": \"x\", \"deadline\": \"5m\"}}".into(), 422, "invalid", "leave it out"),
        ("POST", "/v1/write", JSON, "{\"remove_backend\": {\"service\": \"web\", \"backend\": \"10.1.0.1\", \"now\": 1}}".into(), 400, "bad_json", "remove_backend.now: "),
        ("POST", "/v1/write", JSON, "{\"remove_service\": {\"service\": \"none\"}}".into(), 404, "not_found", "no service none"),
        ("POST", "/v1/write", JSON, "{\"reload\": {\"now\": true, \"force\": true}}".into(), 422, "config", "no such file"),
        ("GET", "/v1/write", JSON, String::new(), 405, "method_not_allowed", "does not take GET"),
        ("POST", "/v1/stop", JSON, "[true]".into(), 400, "bad_json", "in braces, not a list"),
        ("PATCH", "/v1/services/web", JSON, "[[\"10.7.0.81\"]]".into(), 400, "bad_json", "in braces, not a list"),
        ("POST", services, JSON, other("check", json!(["tcp"])), 400, "bad_json", "check: "),
        ("POST", services, JSON, other("backend", json!([["10.1.0.1"]])), 400, "bad_json", "backend[0]: "),
        ("POST", "/v1/plan", JSON, "{\"set_service\": [\"web\", {}]}".into(), 400, "bad_json", "in braces"),
        ("POST", "/v1/drain", JSON, "[\"10.1.0.1\"]".into(), 400, "bad_json", "in braces"),
        ("PATCH", "/v1/services/web", JSON, "{\"vips\": null}".into(), 400, "bad_json", "vips: "),
        ("PATCH", "/v1/services/web", JSON, "{\"forwarder\": null}".into(), 400, "bad_json", "has no default"),
        ("POST", "/v1/reload", JSON, "{\"now\": true}".into(), 400, "bad_request", "?now=true"),
        ("DELETE", "/v1/services/web", JSON, "{}".into(), 400, "bad_request", "takes no body"),
        ("GET", "/v1/status", JSON, " ".into(), 400, "bad_request", "takes no body"),
        ("POST", "/v1/checkpoints", JSON, "{}".into(), 400, "bad_request", "takes no body"),
        ("POST", "/v1/explain", JSON, "{}".into(), 422, "invalid", "either `frame_hex` or `flow`"),
        ("POST", "/v1/explain", JSON, "{\"frame_hex\": \"0g\"}".into(), 422, "invalid", "'g'"),
        ("POST", "/v1/explain", JSON, "{\"frame_hex\": \"00\"}".into(), 422, "invalid", "expected 14 to"),
    ];
    for (method, path, content_type, body, status, code, message) in rows {
        let (found, answer) = ask(&lab, method, path, content_type, body).await;
        let error = &answer["error"];
        assert_eq!(
            (found.as_u16(), error["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {answer}"
        );
        assert!(
            error["message"].as_str().is_some_and(|m| m.contains(message)),
            "{method} {path}: {answer}"
        );
    }
    let view = lab.client.services().await.expect("still served");
    assert_eq!(
        (view.generation, view.services.len()),
        (1, 1),
        "no mistake has changed anything"
    );
}

#[tokio::test]
async fn a_read_gives_the_tag_that_a_write_takes() {
    let lab = Lab::start();
    lab.client
        .write(
            &Change::AddService(serde_json::from_value(web()).expect("a service")),
            None,
        )
        .await
        .expect("added");
    for path in [
        "/v1/status",
        "/v1/stats",
        "/v1/services",
        "/v1/services/web",
        "/v1/drains",
    ] {
        let request = Request::get(path)
            .header(header::HOST, "lb")
            .body(Full::default())
            .expect("a request");
        let response = send(&lab, request).await;
        assert_eq!(response.headers()[header::ETAG], "\"1\"", "{path}");
    }
    for (tag, status) in [
        ("\"0\"", 412),
        ("x", 400),
        ("\"-1\"", 400),
        ("1", 200),
        ("\"2\"", 200),
        ("*", 200),
    ] {
        let request = Request::patch("/v1/services/web")
            .header(header::HOST, "lb")
            .header(header::IF_MATCH, tag);
        let request = request
            .header(header::CONTENT_TYPE, JSON)
            .body(Full::from("{}"))
            .expect("a request");
        assert_eq!(send(&lab, request).await.status().as_u16(), status, "{tag}");
    }
}

#[tokio::test]
async fn drains_are_made_for_a_generation_and_can_be_watched() {
    let lab = Lab::start();
    let mut service = web();
    service["backend"] = json!([{"address": "10.1.0.1", "zone": "a"}, {"address": "10.1.0.2"}]);
    lab.client
        .write(
            &Change::AddService(serde_json::from_value(service).expect("a service")),
            None,
        )
        .await
        .expect("added");
    let host = "{\"host\": \"10.1.0.1\", \"deadline\": \"10m\"}";
    for (tag, status) in [("\"0\"", 412), ("\"1\"", 200)] {
        let request = Request::post("/v1/drain")
            .header(header::HOST, "lb")
            .header(header::IF_MATCH, tag);
        let request = request
            .header(header::CONTENT_TYPE, JSON)
            .body(Full::from(host))
            .expect("a request");
        assert_eq!(send(&lab, request).await.status().as_u16(), status, "{tag}");
    }
    ask(&lab, "DELETE", "/v1/services/web/backends/10.1.0.2", JSON, "").await;
    let (status, mut view) = ask(&lab, "GET", "/v1/drains", JSON, "").await;
    assert_eq!((status, &view["generation"]), (StatusCode::OK, &json!(3)));
    for (drain, deadline) in [(0, 600.0), (1, 3600.0)] {
        let drain = view["drains"][drain].as_object_mut().expect("a drain");
        let ends = drain
            .remove("ends_in_seconds")
            .and_then(|v| v.as_f64())
            .expect("a time");
        assert!(
            (deadline - 60.0..=deadline).contains(&ends),
            "{ends} of {deadline}"
        );
        for time in ["silent_seconds", "over_in_seconds"] {
            assert!(drain.remove(time).is_some_and(|v| v.is_f64()));
        }
    }
    let drains = json!([
        {"service": "web", "backend": "10.1.0.1", "zone": "a", "leaving": false, "flows": null},
        {"service": "web", "backend": "10.1.0.2", "zone": null, "leaving": true, "flows": null},
    ]);
    assert_eq!((&view["drains"], &view["ended"]), (&drains, &json!([])));
    let (status, _) = ask(&lab, "POST", "/v1/ready", JSON, "{\"zone\": \"a\"}").await;
    assert_eq!(status, StatusCode::OK);
    ask(
        &lab,
        "DELETE",
        "/v1/services/web/backends/10.1.0.2?now=true",
        JSON,
        "",
    )
    .await;
    let (_, view) = ask(&lab, "GET", "/v1/drains", JSON, "").await;
    assert_eq!((&view["drains"], &view["generation"]), (&json!([]), &json!(5)));
}

#[tokio::test]
async fn what_is_no_http_at_all_leaves_the_server_up() {
    let lab = Lab::start();
    for noise in [
        &b"\0\xff\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"POST /v1/services HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ] {
        let mut stream = UnixStream::connect(lab.socket()).await.expect("connected");
        stream.write_all(noise).await.expect("sent");
        stream.shutdown().await.expect("shut down");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an end");
    }
    // A body shorter than it says.
    let mut stream = UnixStream::connect(lab.socket()).await.expect("connected");
    let half = b"POST /v1/services HTTP/1.1\r\nHost: lb\r\nContent-Length: 10\r\n\r\n{";
    stream.write_all(half).await.expect("sent");
    drop(stream);
    lab.client.status().await.expect("still served");
}

/// Bodies that are nearly right reach deeper than noise does.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let good = web().to_string().into_bytes();
    let len = good.len();
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (0..len, any::<u8>()).prop_map({
            let good = good.clone();
            move |(at, byte)| {
                let mut bytes = good.clone();
                bytes[at] = byte;
                bytes
            }
        }),
        (0..len).prop_map(move |end| good[..end].to_vec()),
    ]
}

#[test]
fn any_body_gets_an_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let lab = Lab::start();
        let routes = [
            ("POST", "/v1/services"),
            ("PATCH", "/v1/services/web"),
            ("POST", "/v1/services/web/backends"),
            ("PATCH", "/v1/services/web/backends/10.1.0.1"),
            ("POST", "/v1/drain"),
            ("POST", "/v1/ready"),
            ("POST", "/v1/write"),
            ("POST", "/v1/plan"),
            ("POST", "/v1/explain"),
        ];
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..400 {
            let body = nearly_json().new_tree(&mut runner).expect("a body").current();
            for (method, path) in routes {
                let (status, answer) = ask(&lab, method, path, JSON, body.clone()).await;
                let fine =
                    status.is_success() || status.is_client_error() && answer["error"]["message"].is_string();
                assert!(
                    fine,
                    "{method} {path} {:?}: {status} {answer}",
                    String::from_utf8_lossy(&body)
                );
            }
        }
        lab.client.status().await.expect("still served");
    });
}

/// Sends plain text, and says that this was all, if asked to; the answer.
async fn say(stream: &mut UnixStream, half_close: bool) -> String {
    let request = b"GET /v1/status HTTP/1.1\r\nhost: lb\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("written");
    if half_close {
        stream.shutdown().await.expect("one half closed");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn who_has_said_everything_is_answered() {
    let lab = Lab::start();
    let mut stream = UnixStream::connect(lab.socket()).await.expect("connected");
    assert!(say(&mut stream, true).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_out() {
    let lab = Lab::start();
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(UnixStream::connect(lab.socket()).await.expect("connected"));
        let mut stream = UnixStream::connect(lab.socket()).await.expect("connected");
        assert!(say(&mut stream, false).await.starts_with("HTTP/1.1 200"));
    }
    // Who has been silent for longest has made room.
    let mut nothing = String::new();
    let read = silent[0].read_to_string(&mut nothing).await;
    assert!(read.is_ok() && nothing.is_empty());
    let last = silent.last_mut().expect("the youngest");
    assert!(say(last, false).await.starts_with("HTTP/1.1 200"));
}
