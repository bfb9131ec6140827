//! The example runs, without a server and on one, and says what it promises.

use std::process::Output;

use valkey_tests::example::{command, printed, steady, steady_on};
use valkey_tests::{ClosedPort, Server};

/// The example, with nothing in its environment but these variables of the store.
fn quickstart(variables: &[(&str, &str)]) -> Output {
    let mut command = command(env!("CARGO_BIN_EXE_quickstart"));
    let variables = variables.iter().copied();
    command.envs(variables).output().expect("it can be run")
}

/// The lines that it printed, with runs of spaces as one.
#[track_caller]
fn lines(output: Output) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    printed(output)
        .lines()
        .map(|line| words(line) + "\n")
        .collect()
}

#[track_caller]
fn assert_story(printed: &str) {
    for line in [
        "set_many, all airports 3,376 stored",
        "get_many, all airports 3,376 found, as they were stored",
        "get ANC Ted Stevens Anchorage International, Anchorage, AK",
        "get XXX a miss: there is no such airport",
        "ttl ANC, 400 ms later none: it has expired",
        "get ANC as version 2 a miss",
        "set ANC as version 1, if absent stored: false",
        "get ANC as the other type a miss: it was removed",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "no {line:?} in\n{printed}"
        );
    }
    for counted in [
        "airport 7560 92.0 % 0 0 0 - -",
        "breaker closed; corrupt 201; no errors",
    ] {
        assert!(printed.contains(counted), "no {counted:?} in\n{printed}");
    }
}

#[test]
fn it_runs_in_its_own_process() {
    let printed = lines(quickstart(&[]));
    assert_story(&printed);
    assert!(printed.contains("in this process"), "{printed}");
}

#[test]
fn it_fills_a_server() {
    let server = Server::plain();
    let port = server.port().to_string();
    steady_on(&server, || {
        server.flush();
        let variables = [("VALKEY_HOST", "127.0.0.1"), ("VALKEY_PORT", &*port)];
        assert_story(&lines(quickstart(&variables)));

        assert_eq!(server.cli(&["DBSIZE"]), "3376");
        let keys = server.cli(&["--scan", "--pattern", "airport:*"]);
        assert_eq!(keys.lines().count(), 3376);
        let left = server.cli(&["TTL", "airport:ANC"]);
        let left: u64 = left.parse().expect("a number");
        // An hour, less the jitter and the time that this took.
        assert!((3400..=3600).contains(&left), "{left} s");
    });
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_so() {
    let nobody = ClosedPort::new();
    let port = nobody.port().to_string();
    steady(|| {
        let output = quickstart(&[("VALKEY_HOST", "127.0.0.1"), ("VALKEY_PORT", &port)]);
        assert!(!output.status.success());
        let message = String::from_utf8_lossy(&output.stderr);
        let address = format!("can't connect to 127.0.0.1:{port}");
        for part in [&*address, "Is a Valkey server running?"] {
            assert!(message.contains(part), "{message}");
        }
    });
}
