//! A rolling deployment: the release before this one and this one, as two processes on one server.
//! Nobody is logged out by it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use valkey_tests::Server;
use valkey_tests::example::{command, steady_on};

/// An instance of the application.
struct Instance {
    process: Child,
    address: String,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The status of an answer, its text, and the cookie that it sets.
struct Answer {
    status: String,
    body: String,
    cookie: Option<String>,
}

impl Instance {
    fn start(program: &str, server: &Server) -> Self {
        let mut command = command(program);
        command.arg("127.0.0.1:0").stdout(Stdio::piped());
        command.env("VALKEY_URL", server.url());
        let mut process = command.spawn().expect("it can be run");
        let output = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line
            .strip_prefix("http://")
            .and_then(|l| l.split(',').next());
        let address = address.expect("an address").to_owned();
        Self { process, address }
    }

    fn send(&self, request: &str, cookie: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let head = format!(
            "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let mut cookies = head.lines().filter_map(|l| l.strip_prefix("set-cookie: "));
        let cookie = cookies.next().and_then(|cookie| cookie.split(';').next());
        Answer {
            status: head.get(9..12).expect("a status").to_owned(),
            body: body.to_owned(),
            cookie: cookie.map(str::to_owned),
        }
    }

    /// The text of an answer that succeeds.
    #[track_caller]
    fn told(&self, request: &str, cookie: &str) -> String {
        let answer = self.send(request, cookie);
        assert_eq!(answer.status, "200", "{request}: {}", answer.body);
        answer.body
    }

    /// The session of a visitor who logs in here.
    fn log_in(&self, name: &str) -> String {
        let answer = self.send(&format!("POST /login/{name}"), "");
        assert_eq!(answer.body, format!("Hello, {name}. Visits: 0\n"));
        answer.cookie.expect("a session")
    }
}

const OLD: &str = env!("CARGO_BIN_EXE_sessions-release1");
const NEW: &str = env!("CARGO_BIN_EXE_sessions");

#[test]
fn an_upgrade_of_the_struct_logs_nobody_out() {
    let server = Server::plain();
    steady_on(&server, || {
        server.flush();
        let old = Instance::start(OLD, &server);
        let names: Vec<String> = (0..20).map(|n| format!("Visitor{n}")).collect();
        let cookies: Vec<String> = names.iter().map(|name| old.log_in(name)).collect();
        let visitors = || names.iter().zip(&cookies);

        // The deployment begins: both releases read what the old one has written.
        let new = Instance::start(NEW, &server);
        for (name, cookie) in visitors() {
            let hello = format!("Hello, {name}. Visits: 0\n");
            assert_eq!(new.told("GET /", cookie), hello);
            assert_eq!(old.told("GET /", cookie), hello);
        }

        // A visitor is at both in turn. The new one reads all that the old one writes.
        let (name, cookie) = visitors().next().expect("a visitor");
        assert_eq!(
            old.told("POST /visit", cookie),
            format!("Hello, {name}. Visits: 1\n")
        );
        assert_eq!(
            new.told("POST /visit", cookie),
            format!("Hello, {name}. Visits: 2\n")
        );
        // The old one can't read what the new one has written. That is an error, and no end of the
        // session: nothing is lost, in the store nor in the browser.
        for request in ["GET /", "POST /visit"] {
            let answer = old.send(request, cookie);
            assert_eq!((&*answer.status, answer.cookie), ("503", None), "{request}");
        }
        assert_eq!(
            new.told("GET /", cookie),
            format!("Hello, {name}. Visits: 2\n")
        );

        // A visitor who is new at the new one, and a logout there.
        let late = new.log_in("Late");
        assert_eq!(old.send("GET /", &late).status, "503");
        let (_, gone) = visitors().next_back().expect("a visitor");
        assert_eq!(new.told("POST /logout", gone), "Bye.\n");
        let stranger = "Hello, stranger. Visits: 0\n";
        assert_eq!(old.told("GET /", gone), stranger);

        // The deployment ends.
        drop(old);
        for (name, cookie) in visitors().take(names.len() - 1) {
            let text = new.told("GET /", cookie);
            assert!(text.starts_with(&format!("Hello, {name}.")), "{text}");
        }
        assert_eq!(new.told("GET /", &late), "Hello, Late. Visits: 0\n");
        assert_eq!(new.told("GET /", gone), stranger);
    });
}
