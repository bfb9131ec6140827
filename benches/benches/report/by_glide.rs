//! GLIDE for Node, with values as JSON that zod checks: a program beside this one, where
//! `cargo xtask bench` has installed its packages.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use benches::turns::{Contender, Outcome};
use serde_json::{Value, json};

use crate::world::{BULK, Expected, TTL_MILLIS};

const NAME: &str = "GLIDE for Node, JSON and zod";

/// The program. It ends with this value.
pub(crate) struct Node {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts it, if the variable `GLIDE` names the folder where it is installed.
    pub(crate) fn start(port: u16, expected: &Expected) -> Option<Rc<RefCell<Self>>> {
        let folder = std::env::var_os("GLIDE")?;
        let mut child = Command::new("node")
            .arg("glide.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is there");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut node = Self {
            child,
            input,
            output,
        };
        let ready = node.ask(&json!({
            "host": "127.0.0.1",
            "port": port,
            "ttl": TTL_MILLIS,
            "bulk": BULK,
            "users": expected.users(),
        }));
        assert_eq!(ready["ready"], true);
        Some(Rc::new(RefCell::new(node)))
    }

    fn ask(&mut self, line: &Value) -> Value {
        writeln!(self.input, "{line}").expect("it reads");
        let answer = self.output.next().expect("it answers");
        let answer = answer.expect("it writes text");
        serde_json::from_str(&answer).expect("it writes JSON")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A contender for an operation that the program knows by this name.
pub(crate) fn contender(node: &Rc<RefCell<Node>>, operation: &'static str) -> Contender {
    let node = node.clone();
    Contender::outside(NAME, move |cell| {
        let answer = node.borrow_mut().ask(&json!({
            "operation": operation,
            "tasks": cell.tasks,
            "millis": cell.time.as_millis() as u64,
            "latencies": cell.latencies,
        }));
        let throughput = answer["throughput"].as_f64().expect("it is a number");
        let nanos = answer["nanos"].as_array().into_iter().flatten();
        let nanos = nanos.filter_map(|nanos| nanos.as_u64()?.try_into().ok());
        Outcome::new(throughput, nanos.collect())
    })
}
