//! The program while it runs, when its cache is lost, and at its end.

use std::io::{BufReader, Read};
use std::time::Duration;

use prometheus_parse::{LineInfo, Scrape, Value as Sample};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use valkey_tests::example::{steady, steady_on};
use valkey_tests::{Server, eventually};

use crate::program::{LONG, Program, command, long_window, read_line, write};

async fn get(program: &Program, path: &str) -> Response {
    let url = program.url(path);
    Client::new().get(url).send().await.expect("an answer")
}

async fn json(program: &Program, path: &str) -> Value {
    get(program, path).await.json().await.expect("JSON")
}

async fn scrape(program: &Program) -> Scrape {
    let response = get(program, "/metrics").await;
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = response.text().await.expect("text");
    let ignored = |line: &str| LineInfo::parse(line) == LineInfo::Ignored;
    let ignored: Vec<_> = text.lines().filter(|line| ignored(line)).collect();
    assert!(ignored.is_empty(), "{ignored:?}");
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    Scrape::parse(lines).expect("Prometheus text")
}

/// The sum of all samples of that name with these labels.
fn total(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let with_labels = scrape.samples.iter().filter(|sample| {
        let mut labels = labels.iter();
        sample.metric == name
            && labels.all(|(label, value)| sample.labels.get(label) == Some(value))
    });
    let values = with_labels.map(|sample| match &sample.value {
        Sample::Counter(value) | Sample::Gauge(value) | Sample::Untyped(value) => *value,
        Sample::Histogram(buckets) => buckets.last().map_or(0.0, |bucket| bucket.count),
        Sample::Summary(_) => 0.0,
    });
    values.sum()
}

#[tokio::test]
async fn the_101st_request_in_a_window_is_refused() {
    let window = long_window();
    let program = Program::start(&[("API_LIMIT", &format!("100/{window}s"))]);
    let fields = |response: &Response| {
        let names = ["ratelimit-policy", "ratelimit", "retry-after"];
        let field = |name| response.headers().get(name)?.to_str().ok();
        names.map(|name| field(name).unwrap_or_default().to_owned())
    };
    for left in (0..100).rev() {
        let response = get(&program, "/users/42").await;
        assert_eq!(response.status(), 200);
        let [policy, limit, retry] = fields(&response);
        assert_eq!(policy, format!("\"api\";q=100;w={window}"));
        assert!(
            limit.starts_with(&format!("\"api\";r={left};t=")),
            "{limit}"
        );
        assert_eq!(retry, "");
    }
    let refused = get(&program, "/users/42").await;
    assert_eq!(refused.status(), 429);
    let [_, limit, retry] = fields(&refused);
    assert_eq!(limit, format!("\"api\";r=0;t={retry}"));
    let retry: u64 = retry.parse().expect("seconds");
    assert!((1..=window).contains(&retry), "{retry}");

    // The pages for operators are not limited, and show the refusal.
    let status = json(&program, "/status.json").await;
    assert_eq!(
        (&status["allowed"], &status["refused"]),
        (&json!(100), &json!(1))
    );
    let scrape = scrape(&program).await;
    let requests = |status| total(&scrape, "http_requests_total", &[("status", status)]);
    assert_eq!((requests("200"), requests("429")), (100.0, 1.0));
}

/// A load is stored under a lease of a second, which is real time. A value that is not stored has
/// another `ETag` the next time.
#[test]
fn a_client_that_has_a_user_is_not_sent_it_again() {
    steady(|| {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(is_not_sent_again());
    });
}

async fn is_not_sent_again() {
    let program = Program::start(&[]);
    let first = get(&program, "/users/42").await;
    let tag = first.headers()["etag"].clone();
    let ask = || {
        let request = Client::new().get(program.url("/users/42"));
        request.header("if-none-match", &tag).send()
    };
    let again = ask().await.expect("an answer");
    assert_eq!(
        (again.status().as_u16(), &again.headers()["etag"]),
        (304, &tag)
    );
    assert_eq!(again.text().await.expect("a body"), "");

    let put = Client::new().put(program.url("/users/42"));
    let put = put.json(&json!({ "name": "Ada P.", "email": "ada@atl.example" }));
    assert_eq!(put.send().await.expect("an answer").status(), 200);
    let changed = ask().await.expect("an answer");
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"], tag);
}

#[tokio::test]
async fn the_prometheus_metrics_count_the_requests() {
    let program = Program::start(&[]);
    for path in ["/users/42", "/users/42", "/users/43", "/users/100000"] {
        get(&program, path).await;
    }
    let scrape = scrape(&program).await;
    let route = ("route", "/users/:id");
    for (status, count) in [("200", 3.0), ("404", 1.0)] {
        let labels = [("method", "GET"), route, ("status", status)];
        assert_eq!(total(&scrape, "http_requests_total", &labels), count);
        assert_eq!(
            total(&scrape, "http_request_duration_seconds", &labels),
            count
        );
    }
}

#[tokio::test]
async fn each_request_is_a_line_of_json() {
    let program = Program::start(&[]);
    get(&program, "/users/42").await;
    let request = program.wait_for("request");
    assert_eq!(request["method"], "GET");
    assert_eq!(request["path"], "/users/42");
    assert_eq!(request["status"], 200);
    assert!(request["micros"].is_u64());
}

/// It goes by real time: a command has half a second, and one that has none is a miss.
#[test]
fn without_valkey_it_goes_on_from_the_database() {
    let server = Server::plain();
    steady_on(&server, || {
        server.restart();
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(goes_on_without_valkey(&server));
    });
}

async fn goes_on_without_valkey(server: &Server) {
    let program = Program::start(&[("VALKEY_URL", &server.url())]);
    let user = json(&program, "/users/42").await;
    assert_eq!(json(&program, "/users/42").await, user);
    assert_eq!(json(&program, "/status.json").await["hits"], 1);
    let health = json(&program, "/health").await;
    assert_eq!(
        (&health["status"], &health["cache"]["breaker"]),
        (&json!("ok"), &json!("closed"))
    );

    server.kill();
    assert_eq!(json(&program, "/users/42").await, user);
    let put = Client::new().put(program.url("/users/42"));
    let put = put.json(&json!({ "name": "Ada P.", "email": "ada@atl.example" }));
    let written: Value = put
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(written["name"], "Ada P.");
    assert_eq!(json(&program, "/users/42").await, written);

    // The health says so, and keeps the instance in service.
    let response = get(&program, "/health").await;
    assert_eq!(response.status(), 200);
    let health: Value = response.json().await.expect("JSON");
    assert_eq!(health["status"], "degraded");
    assert_ne!(health["cache"]["breaker"], "closed");
    // The user, and the tag of the lists that show it.
    assert_eq!(health["cache"]["undelivered"], 2);
    let status = json(&program, "/status.json").await;
    assert!(status["errors"].as_u64() > Some(0), "{status}");
    let scrape = scrape(&program).await;
    assert!(total(&scrape, "valkey_errors_total", &[]) > 0.0);
    assert_eq!(total(&scrape, "valkey_undelivered_deletions", &[]), 2.0);
    assert_eq!(
        total(&scrape, "valkey_breaker_state", &[("state", "closed")]),
        0.0
    );

    server.restart();
    let back = async {
        let mut health = health;
        while health["status"] != "ok" || health["cache"]["undelivered"] != 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            health = json(&program, "/health").await;
        }
    };
    let back = tokio::time::timeout(LONG, back).await;
    back.expect("it is well again");
    assert_eq!(json(&program, "/users/42").await, written);
    let hits = json(&program, "/status.json").await["hits"].as_u64();
    assert_eq!(json(&program, "/users/42").await, written);
    assert_eq!(
        json(&program, "/status.json").await["hits"].as_u64(),
        hits.map(|hits| hits + 1)
    );
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let mut program = Program::start(&[]);
    let body = r#"{"name":"Ada P.","email":"ada@atl.example"}"#;
    let stream = program.connect().expect("it listens");
    let mut responses = BufReader::new(&stream);
    let length = body.len();
    write(
        &stream,
        &format!(
            "PUT /users/42 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        ),
    );
    // Said when the body is asked for: so the request is under way.
    assert_eq!(read_line(&mut responses), "HTTP/1.1 100 Continue");

    program.terminate();
    program.wait_for("shutting down: no new connections; requests in progress are answered");
    eventually("it does not listen any more", || program.connect().is_err());
    write(&stream, body);
    let mut response = String::new();
    responses.read_to_string(&mut response).expect("an answer");
    assert!(response.contains("HTTP/1.1 200 OK"), "{response}");
    assert!(response.contains(r#""name":"Ada P.""#), "{response}");
    assert_eq!(program.wait(), Some(0));
    program.wait_for("ended");
}

#[test]
fn a_mistake_in_the_environment_is_named() {
    let run = |name: &str, value: &str| {
        let output = command()
            .env("DATABASE_URL", "sqlite::memory:")
            .env(name, value)
            .output();
        let output = output.expect("it can be run");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (name, value) in [
        ("API_LIMIT", "many"),
        ("LOGIN_LIMIT", "5"),
        ("ADDRESS", "here"),
    ] {
        let said = run(name, value);
        assert!(said.contains(name), "{said}");
    }
}
