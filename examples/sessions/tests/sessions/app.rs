//! The application, and the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use axum::http::StatusCode;
use sessions::{ValkeySessions, app};
use valkey_runtime::Store;
use valkey_tests::Server;
use valkey_tests::example::{command, steady_on};

use crate::browser::Browser;
use crate::{SERVER, both, connect};

#[tokio::test]
async fn a_visitor_is_known_until_they_log_out() {
    for sessions in both().await {
        let mut browser = Browser::new(app(sessions.clone()));
        assert_eq!(browser.get("/").await.body, "Hello, stranger. Visits: 0\n");
        assert_eq!(
            browser.post("/visit").await.body,
            "Hello, stranger. Visits: 1\n"
        );
        let stranger = browser.id.clone().expect("a session");

        assert_eq!(
            browser.post("/login/Ada").await.body,
            "Hello, Ada. Visits: 1\n"
        );
        assert_eq!(browser.post("/visit").await.body, "Hello, Ada. Visits: 2\n");
        let ada = browser.id.clone().expect("a session");
        assert_ne!(stranger, ada);

        assert_eq!(browser.post("/logout").await.body, "Bye.\n");
        assert_eq!(browser.id, None);
        for id in [stranger, ada] {
            let mut old = Browser::with_id(app(sessions.clone()), &id);
            assert_eq!(old.get("/").await.body, "Hello, stranger. Visits: 0\n");
        }
    }
}

#[tokio::test]
async fn instances_share_their_sessions() {
    let instance = async || app(ValkeySessions::new(connect(&SERVER).await));
    let mut here = Browser::new(instance().await);
    here.post("/login/Ada").await;
    let mut there = Browser::with_id(instance().await, &here.id.expect("a session"));
    assert_eq!(there.get("/").await.body, "Hello, Ada. Visits: 0\n");
}

#[tokio::test]
async fn while_the_server_is_down_nobody_is_taken_for_a_stranger() {
    let server = Server::plain();
    let mut browser = Browser::new(app(ValkeySessions::new(connect(&server).await)));
    browser.post("/login/Ada").await;
    let before = browser.id.clone();
    server.kill();
    assert_eq!(
        browser.get("/").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    for path in ["/visit", "/login/Ada", "/logout"] {
        let answer = browser.post(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.set_cookie, None, "{path}");
    }
    assert_eq!(browser.id, before);
    // No visit, no login and no logout has happened, and nothing of them happens later.
    let answer = browser.get("/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It goes by real time: a command has half a second.
#[test]
fn the_program_serves_until_it_is_interrupted() {
    steady_on(&SERVER, || {
        let mut command = command(env!("CARGO_BIN_EXE_sessions"));
        command.arg("127.0.0.1:0").stdout(Stdio::piped());
        command.env("VALKEY_URL", SERVER.url());
        let mut program = Program(command.spawn().expect("it can be run"));
        let mut line = String::new();
        let output = program.0.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line
            .strip_prefix("http://")
            .and_then(|line| line.split(',').next());
        assert!(line.contains(&SERVER.port().to_string()), "{line}");

        let mut stream = TcpStream::connect(address.expect("an address")).expect("it listens");
        stream
            .write_all(b"POST /login/Ada HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("set-cookie: id="),
            "{answer}"
        );
        assert!(answer.ends_with("Hello, Ada. Visits: 0\n"), "{answer}");

        let pid = program.0.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.expect("there is kill").success());
        assert!(program.0.wait().expect("it ends").success());
    });
}

#[tokio::test]
async fn a_store_that_is_switched_off_is_no_store_without_sessions() {
    let store = Store::memory();
    let mut browser = Browser::new(app(ValkeySessions::new(store.clone())));
    browser.post("/login/Ada").await;
    store.set_enabled(false);
    assert_eq!(
        browser.get("/").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    store.set_enabled(true);
    assert_eq!(browser.get("/").await.body, "Hello, Ada. Visits: 0\n");
}
