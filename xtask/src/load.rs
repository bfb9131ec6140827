//! `cargo xtask load`: measures the requests per second of examples/user-api with its cache on
//! Valkey, with its cache in its process, and without a cache. A cache is one of rows and pages, or
//! also one of whole responses.
//!
//! Absolute figures depend on the machine, so it prints ratios. The variants alternate in rounds,
//! so that a busy moment affects all of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use crate::{Result, cargo};

const ROUNDS: usize = 3;
const SECONDS: u32 = 10;
const CONNECTIONS: u32 = 32;

const REMEDY: &str = "install `wrk` and `valkey-server`: both are packages of Debian's";

/// The requests of wrk: one of 1,200 users, or the first page of one of twenty organisations.
const ASKED: [(&str, &str); 2] = [
    ("GET /users/{id}", r#""/users/" .. math.random(1200)"#),
    (
        "GET /orgs/{id}/users",
        r#""/orgs/" .. math.random(20) .. "/users""#,
    ),
];

/// Measures and prints a table.
pub(crate) fn run() -> Result<ExitCode> {
    cargo::run(cargo::cargo().args(["build", "--release", "--package", "user-api"]))?;
    let folder = std::env::temp_dir().join(format!("user-api-load-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let outcome = measure(&folder);
    fs::remove_dir_all(&folder)?;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn measure(folder: &Path) -> Result {
    let port = TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    let mut valkey = Command::new("valkey-server");
    valkey.args([
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--maxmemory-clients",
        "64mb",
        "--dir",
    ]);
    let _valkey = Running::start(valkey.arg(folder), "Ready to accept connections")?;
    let valkey = format!("valkey://127.0.0.1:{port}");
    let rows = ("LIST_RESPONSES", "off");
    let ways: [(&str, &[(&str, &str)]); 5] = [
        (
            "without a cache",
            &[("VALKEY_URL", "memory:"), ("VALKEY_CACHE", "off"), rows],
        ),
        ("on Valkey", &[("VALKEY_URL", &valkey), rows]),
        ("on Valkey, responses", &[("VALKEY_URL", &valkey)]),
        ("in its process", &[rows]),
        ("in its process, responses", &[]),
    ];
    let mut services = Vec::new();
    for (number, (_, variables)) in ways.iter().enumerate() {
        services.push(Service::start(folder, number, variables)?);
    }

    println!(
        "\nRequests a second, as ratios to those without a cache (medians of {ROUNDS} rounds of {SECONDS} s):"
    );
    for (name, path) in ASKED {
        let script = folder.join("asked.lua");
        let request = format!("request = function() return wrk.format('GET', {path}) end\n");
        fs::write(&script, request)?;
        let mut rates = vec![Vec::new(); services.len()];
        for _ in 0..ROUNDS {
            for (rates, service) in rates.iter_mut().zip(&services) {
                rates.push(wrk(&script, &service.address)?);
            }
        }
        let rates: Vec<f64> = rates.into_iter().map(median).collect();
        println!("  {name}");
        for ((way, _), rate) in ways.iter().zip(&rates) {
            println!("    {way:<26} {:.2}", rate / rates[0]);
        }
    }
    Ok(())
}

/// The requests per second. An answer other than 2xx is an error.
fn wrk(script: &Path, address: &str) -> Result<f64> {
    let output = Command::new("wrk")
        .args([
            "-t1",
            &format!("-c{CONNECTIONS}"),
            &format!("-d{SECONDS}s"),
            "-s",
        ])
        .arg(script)
        .arg(format!("http://{address}"))
        .output()
        .map_err(|error| format!("`wrk` can't be run ({error}): {REMEDY}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        return Err(said.into());
    }
    let rate = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    let rate = rate.and_then(|rate| rate.trim().parse().ok());
    rate.ok_or_else(|| said.into())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The example service, with a database of its own.
struct Service {
    address: String,
    _running: Running,
}

impl Service {
    fn start(folder: &Path, number: usize, variables: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(cargo::target().join("release/user-api"));
        let database = format!("sqlite:{}", folder.join(format!("{number}.db")).display());
        command
            .env("DATABASE_URL", database)
            .env("ADDRESS", "127.0.0.1:0")
            .env("API_LIMIT", "off")
            // Without a log line per request.
            .env("LOG", "user_api=info,user_api::telemetry=warn")
            .env("TOKIO_WORKER_THREADS", "2")
            .envs(variables.iter().copied());
        let (running, line) = Running::start(&mut command, "listening")?;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        let address = line["fields"]["address"]
            .as_str()
            .unwrap_or_default()
            .into();
        Ok(Self {
            address,
            _running: running,
        })
    }
}

/// A program that is killed when this value is dropped.
struct Running(Child);

impl Running {
    /// Starts it, waits for a line with this text, and returns that line too.
    fn start(command: &mut Command, ready: &str) -> Result<(Self, String)> {
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| {
            format!("{} can't be run ({error}): {REMEDY}", cargo::shown(command))
        })?;
        let output = child.stdout.take().expect("it is piped");
        let running = Self(child);
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line.contains(ready) {
                return Ok((running, line));
            }
        }
        Err(format!("{} ended", cargo::shown(command)).into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
