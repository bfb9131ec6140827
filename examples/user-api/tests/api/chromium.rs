//! Chromium without a window, driven by its DevTools protocol: JSON over a pair of pipes, each
//! message ended by a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::folder::Folder;

const MISSING: &str = "\
chromium is not there: `cargo xtask test` installs it on Debian 12; elsewhere install your system's package `chromium`";

/// A browser with one page. It ends when its pipes are closed, so also when the test's process
/// dies.
pub(crate) struct Chromium {
    child: Child,
    commands: Option<ChildStdin>,
    messages: BufReader<ChildStdout>,
    session: Value,
    count: u64,
    /// The errors of the page, and all that its script wrote to the console.
    pub(crate) complaints: Vec<Value>,
    _profile: Folder,
}

impl Chromium {
    pub(crate) fn start() -> Self {
        let profile = Folder::new();
        // The protocol is spoken on the descriptors 3 and 4. The output of the browser itself goes
        // to the test's stderr.
        let script = "exec chromium \"$@\" 3<&0 4>&1 0</dev/null 1>&2";
        let mut child = Command::new("sh")
            .args(["-c", script, "chromium", "--headless", "--no-sandbox"])
            .args(["--remote-debugging-pipe", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync"])
            .arg("--disable-dev-shm-usage")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect(MISSING);
        let commands = child.stdin.take();
        let messages = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut chromium = Self {
            child,
            commands,
            messages,
            session: Value::Null,
            count: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = chromium.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let session = chromium.call("Target.attachToTarget", target);
        chromium.session = session["sessionId"].clone();
        chromium.call("Runtime.enable", json!({}));
        chromium.call("Log.enable", json!({}));
        chromium.call("Page.enable", json!({}));
        chromium
    }

    /// Calls a method and returns its answer.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut command = json!({ "id": self.count, "method": method, "params": parameters });
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        let pipe = self.commands.as_mut().expect("it is open");
        write!(pipe, "{command}\0").expect(MISSING);
        loop {
            let mut message = self.receive();
            if message["id"] == self.count {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    /// The value of an expression of JavaScript. A promise is awaited.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", parameters);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Opens a page.
    pub(crate) fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{answer}");
        while self.receive()["method"] != "Page.loadEventFired" {}
    }

    /// The next message, which is an answer or an event.
    fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        self.messages
            .read_until(0, &mut message)
            .expect("it speaks");
        assert_eq!(message.pop(), Some(0), "{MISSING}");
        let message: Value = serde_json::from_slice(&message).expect("JSON");
        let event = message["method"].as_str();
        if let Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") =
            event
        {
            self.complaints.push(message.clone());
        }
        message
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It ends by itself, with its profile at rest.
        self.commands = None;
        self.child.wait().ok();
    }
}
