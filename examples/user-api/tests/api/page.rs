//! The status page, in a browser.

use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::program::{LONG, Program, long_window};

/// Resolves with what the page was drawn from, at its next poll.
const NEXT_POLL: &str = "new Promise(done => document.addEventListener('polled', polled => done(polled.detail), { once: true }))";

/// The text of an element.
fn text(page: &mut Chromium, selector: &str) -> String {
    let text = page.evaluate(&format!("document.querySelector({selector:?}).textContent"));
    text.as_str().expect("text").to_owned()
}

/// The last point of each line of a chart, as it was drawn.
fn last(page: &mut Chromium, chart: &str) -> Vec<Option<f64>> {
    let last = format!(
        "JSON.parse(document.querySelector('#{chart} svg').dataset.points).map(line => line.at(-1))"
    );
    let last = page.evaluate(&last);
    last.as_array()
        .expect("lines")
        .iter()
        .map(Value::as_f64)
        .collect()
}

/// Waits until the page has asked and was told this number.
fn until_polled(page: &mut Chromium, name: &str, number: u64) {
    let started = Instant::now();
    while page.evaluate(NEXT_POLL)[name] != number {
        assert!(started.elapsed() < LONG, "{name} is not {number}");
    }
}

#[tokio::test]
async fn the_page_shows_what_was_done() {
    let program = Program::start(&[("API_LIMIT", &format!("10/{}s", long_window()))]);
    let client = Client::new();
    let get = async |path| {
        client
            .get(program.url(path))
            .send()
            .await
            .expect("an answer")
            .status()
    };
    // One load, three hits.
    for _ in 0..4 {
        assert_eq!(get("/users/42").await, 200);
    }

    let mut page = Chromium::start();
    page.open(&program.url("/?every=50"));
    until_polled(&mut page, "hits", 3);
    for (selector, shown) in [
        ("#location", "this process"),
        ("#breaker", "closed"),
        ("#requests", "4"),
        ("#reads", "4"),
        ("#errors", "0"),
        ("#hits b", "75.0 %"),
        ("#loads b", "1"),
        ("#limits b", "0"),
    ] {
        assert_eq!(text(&mut page, selector), shown, "{selector}");
    }
    assert!(text(&mut page, "#latencies b").starts_with("< "));

    // Nothing happens: no ratio, no latency, and no loads.
    page.evaluate(NEXT_POLL);
    page.evaluate(NEXT_POLL);
    assert_eq!(last(&mut page, "hits"), [None]);
    assert_eq!(last(&mut page, "latencies"), [None, None]);
    assert_eq!(last(&mut page, "loads"), [Some(0.0)]);
    assert_eq!(last(&mut page, "limits"), [Some(0.0), Some(0.0)]);

    // Six more are allowed: three loads, three hits. Then two are refused.
    for path in ["/users/43", "/users/44", "/users/45"].repeat(2) {
        assert_eq!(get(path).await, 200);
    }
    for _ in 0..2 {
        assert_eq!(get("/users/42").await, 429);
    }
    until_polled(&mut page, "refused", 2);
    assert_eq!(text(&mut page, "#hits b"), "60.0 %");
    assert_eq!(text(&mut page, "#loads b"), "4");
    assert_eq!(text(&mut page, "#limits b"), "2");
    // It did happen in the points of the charts, and was drawn.
    for (chart, lines) in [("hits", 1), ("loads", 1), ("latencies", 2), ("limits", 2)] {
        let drawn = format!(
            "Array.from({{ length: {lines} }}, (_, at) => \
                JSON.parse(document.querySelector('#{chart} svg').dataset.points)[at].some(value => value > 0) && \
                document.querySelectorAll('#{chart} polyline.' + ['first', 'second'][at]).length > 0)"
        );
        assert_eq!(page.evaluate(&drawn), json!(vec![true; lines]), "{chart}");
    }
    assert_eq!(page.complaints, [] as [Value; 0]);
}

/// `USER_API_SCREENSHOT=path cargo test -p user-api a_picture` makes the picture of the README, of a minute's traffic.
#[tokio::test]
async fn a_picture_can_be_taken() {
    let path = std::env::var_os("USER_API_SCREENSHOT");
    let (polls, every) = if path.is_some() { (60, 1000) } else { (2, 50) };
    let program = Program::start(&[("API_LIMIT", "250/1s")]);
    let mut page = Chromium::start();
    page.call(
        "Emulation.setDeviceMetricsOverride",
        json!({ "width": 960, "height": 590, "deviceScaleFactor": 1, "mobile": false }),
    );
    page.open(&program.url(&format!("/?every={every}")));
    let mut random = fastrand::Rng::with_seed(7);
    let client = Client::new();
    for poll in 0..polls {
        // Waves of readers, some of whom read what was written since.
        let readers = 150 + 120 * (poll % 20) / 10;
        for _ in 0..readers {
            let id = 1 + random.u32(..600) * random.u32(..600) / 600;
            let user = client.get(program.url(&format!("/users/{id}")));
            user.send().await.expect("an answer");
        }
        for _ in 0..random.u32(..30) {
            let id = 1 + random.u32(..200);
            let body = json!({ "name": "Ada", "email": format!("ada{id}@example.org") });
            let put = client.request(Method::PUT, program.url(&format!("/users/{id}")));
            put.json(&body).send().await.expect("an answer");
        }
        page.evaluate(NEXT_POLL);
    }
    let picture = page.call("Page.captureScreenshot", json!({ "format": "png" }));
    let picture = picture["data"].as_str().expect("base64");
    let picture = BASE64_STANDARD.decode(picture).expect("base64");
    assert!(picture.starts_with(b"\x89PNG"));
    if let Some(path) = path {
        std::fs::write(path, picture).expect("it can be written");
    }
}
