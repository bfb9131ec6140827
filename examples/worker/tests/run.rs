//! The example runs in one process and in several, and says how often each object was loaded.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use valkey_tests::Server;
use valkey_tests::example::{command, printed, steady, steady_on};

static SERVER: LazyLock<Server> = LazyLock::new(Server::plain);

/// The example, without a server.
fn alone(arguments: &[&str]) -> Output {
    let mut command = command(env!("CARGO_BIN_EXE_worker"));
    command.args(arguments).output().expect("it can be run")
}

/// The example, on the server.
fn on_server(arguments: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_worker"));
    command.env("VALKEY_URL", SERVER.url()).args(arguments);
    command
}

#[track_caller]
fn assert_says(printed: &str, line: &str) {
    assert!(
        printed.lines().any(|said| said == line),
        "no {line:?} in\n{printed}"
    );
}

#[track_caller]
fn assert_says_prefix(printed: &str, begin: &str) {
    assert!(
        printed.lines().any(|said| said.starts_with(begin)),
        "no {begin:?} in\n{printed}"
    );
}

// A lease lives for a second. A process that stands still for longer loses it, and another loads
// the same object as well. So whatever counts loads goes by real time.

#[test]
fn one_process_needs_no_server() {
    steady(|| {
        let printed = printed(alone(&[]));
        assert_says(&printed, "process 1: 80 of 80 jobs, 8 loads, 0 undelivered");
        assert_says(
            &printed,
            "8 objects, loaded 8 times in all, at most 1 each; 0 loads were lost",
        );
    });
}

#[test]
fn several_processes_need_one() {
    let output = alone(&["--processes", "2"]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("set VALKEY_URL or VALKEY_HOST"),
        "{message}"
    );
}

#[test]
fn three_processes_load_each_object_once() {
    steady_on(&SERVER, || {
        let output = on_server(&["--processes", "3"]).output();
        let printed = printed(output.expect("it can be run"));
        assert_says(
            &printed,
            "8 objects, loaded 8 times in all, at most 1 each; 0 loads were lost",
        );
        assert_eq!(printed.matches(": 80 of 80 jobs,").count(), 3, "{printed}");
    });
}

#[test]
fn the_loads_of_a_killed_process_are_repeated_once() {
    steady_on(&SERVER, || {
        let output = on_server(&["--processes", "3", "--kill"]).output();
        let printed = printed(output.expect("it can be run"));
        let killed = printed
            .lines()
            .find_map(|line| line.strip_suffix(" was killed while it loaded"));
        let killed = killed.expect("one was killed");
        let loads = printed
            .lines()
            .filter_map(|line| line.split_once(" loads "));
        let began = loads.filter(|(name, _)| *name == killed);
        let began: Vec<&str> = began.map(|(_, object)| object).collect();
        assert!(!began.is_empty(), "{printed}");
        let lost = began.len();
        assert_says(
            &printed,
            &format!("8 objects, loaded 8 times in all, at most 1 each; {lost} loads were lost"),
        );
        for object in began {
            let again = printed
                .lines()
                .filter(|line| line.ends_with(&format!(" loads {object}")));
            assert_eq!(again.count(), 2, "{object}, in\n{printed}");
        }
        assert_eq!(printed.matches(": 80 of 80 jobs,").count(), 2, "{printed}");
    });
}

#[test]
fn interrupted_processes_finish_what_they_began_and_close() {
    steady_on(&SERVER, || {
        let mut command = on_server(&["--processes", "2", "--load-takes", "1000"]);
        // An interrupt from a terminal reaches all processes of the group.
        let mut child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut printed = String::new();
        // The four tasks of each process have begun: their jobs need seven objects.
        while printed.matches(" loads object ").count() < 7 {
            let read = output.read_line(&mut printed).expect("text");
            assert!(read > 0, "{printed}");
        }
        let group = format!("-{}", child.id());
        let sent = Command::new("kill").args(["-INT", "--", &group]).status();
        assert!(sent.expect("there is kill").success());
        output.read_to_string(&mut printed).expect("text");
        assert!(child.wait().expect("it ends").success(), "{printed}");
        for name in 1..=2 {
            // Its four tasks were at a job each.
            assert_says_prefix(&printed, &format!("process {name}: 4 of 80 jobs, "));
        }
        assert!(
            printed.contains("at most 1 each; 0 loads were lost"),
            "{printed}"
        );
        assert_eq!(printed.matches(", 0 undelivered").count(), 2, "{printed}");
    });
}
