//! The picture of the README, which is of the page of a service under load.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fastrand::Rng;
use reqwest::{Client, Method};
use serde_json::json;

use crate::chromium::Chromium;
use crate::page::NEXT_POLL;
use crate::program::Program;

/// `USER_API_SCREENSHOT=path cargo test -p user-api a_picture` makes it, after five minutes of
/// traffic.
#[tokio::test]
async fn a_picture_can_be_taken() {
    let path = std::env::var_os("USER_API_SCREENSHOT");
    let (seconds, every) = if path.is_some() { (300, 1000) } else { (2, 50) };
    let program = Program::start(&[("API_LIMIT", "250/1s")]);
    let mut page = Chromium::start();
    let size = json!({ "width": 1000, "height": 800, "deviceScaleFactor": 1, "mobile": false });
    page.call("Emulation.setDeviceMetricsOverride", size);
    page.open(&program.url(&format!("/?every={every}")));
    let mut random = Rng::with_seed(7);
    for second in 0..seconds {
        traffic(&program, &mut random, second).await;
        page.evaluate(NEXT_POLL);
    }
    // As high as the page is.
    let height = page.evaluate("document.documentElement.getBoundingClientRect().height");
    let clip = json!({ "x": 0, "y": 0, "width": 1000, "height": height, "scale": 1 });
    let parameters = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
    let picture = page.call("Page.captureScreenshot", parameters);
    let picture = picture["data"].as_str().expect("base64");
    let picture = BASE64_STANDARD.decode(picture).expect("base64");
    assert!(picture.starts_with(b"\x89PNG"));
    if let Some(path) = path {
        std::fs::write(path, picture).expect("it can be written");
    }
}

/// Waves of readers; some of them read rows that were written since.
async fn traffic(program: &Program, random: &mut Rng, second: u32) {
    let client = Client::new();
    let readers = 150 + 120 * (second % 60) / 30;
    for _ in 0..readers {
        let id = 1 + random.u32(..600) * random.u32(..600) / 600;
        let path = match random.u32(..20) {
            0 => format!("/orgs/{}", 1 + id / 30),
            1 | 2 => format!("/orgs/{}/users", 1 + id / 30),
            3 => format!("/users?email=ada{}@example.org", 1 + id % 200),
            _ => format!("/users/{id}"),
        };
        client
            .get(program.url(&path))
            .send()
            .await
            .expect("an answer");
    }
    for _ in 0..random.u32(..30) {
        let id = 1 + random.u32(..200);
        let body = json!({ "name": "Ada", "email": format!("ada{id}@example.org") });
        let put = client.request(Method::PUT, program.url(&format!("/users/{id}")));
        put.json(&body).send().await.expect("an answer");
    }
}
