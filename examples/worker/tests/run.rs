//! The example runs in one process and in several, and says how often each object was loaded.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use valkey_tests::Server;

static SERVER: LazyLock<Server> = LazyLock::new(Server::plain);

/// The example, on the server or without one.
fn worker(on_server: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VALKEY_") {
            command.env_remove(name);
        }
    }
    if on_server {
        command.env("VALKEY_URL", SERVER.url());
    }
    command.args(arguments);
    command
}

#[track_caller]
fn printed(output: Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn assert_says(printed: &str, line: &str) {
    assert!(
        printed.lines().any(|said| said == line),
        "no {line:?} in\n{printed}"
    );
}

#[test]
fn one_process_needs_no_server() {
    let printed = printed(worker(false, &[]).output().expect("it can be run"));
    assert_says(&printed, "process 1: 80 of 80 jobs, 8 loads, 0 undelivered");
    assert_says(
        &printed,
        "8 objects, loaded 8 times in all, at most 1 each; 0 loads were lost",
    );
}

#[test]
fn several_processes_need_one() {
    let output = worker(false, &["--processes", "2"])
        .output()
        .expect("it can be run");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("set VALKEY_URL or VALKEY_HOST"),
        "{message}"
    );
}

#[test]
fn three_processes_load_each_object_once() {
    let printed = printed(
        worker(true, &["--processes", "3"])
            .output()
            .expect("it can be run"),
    );
    assert_says(
        &printed,
        "8 objects, loaded 8 times in all, at most 1 each; 0 loads were lost",
    );
    let done = printed
        .lines()
        .filter(|line| line.contains(": 80 of 80 jobs,"))
        .count();
    assert_eq!(done, 3, "{printed}");
}

#[test]
fn what_a_killed_process_was_loading_is_loaded_again_once() {
    let arguments = ["--processes", "3", "--kill"];
    let printed = printed(worker(true, &arguments).output().expect("it can be run"));
    let killed = printed
        .lines()
        .find_map(|line| line.strip_suffix(" was killed while it loaded"));
    let killed = killed.expect("one was killed");
    let began: Vec<&str> = printed
        .lines()
        .filter_map(|line| {
            line.split_once(" loads ")
                .filter(|(name, _)| *name == killed)
        })
        .map(|(_, object)| object)
        .collect();
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
    let done = printed
        .lines()
        .filter(|line| line.contains(": 80 of 80 jobs,"))
        .count();
    assert_eq!(done, 2, "{printed}");
}

#[test]
fn interrupted_processes_finish_what_they_began_and_close() {
    let arguments = ["--processes", "2", "--load-takes", "1000"];
    let mut command = worker(true, &arguments);
    // An interrupt from a terminal reaches all processes of the group.
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut printed = String::new();
    // Both have begun: each says so with its first load.
    while !(1..=2).all(|name| printed.contains(&format!("process {name} loads"))) {
        assert!(
            output.read_line(&mut printed).expect("text") > 0,
            "{printed}"
        );
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
}

#[track_caller]
fn assert_says_prefix(printed: &str, begin: &str) {
    assert!(
        printed.lines().any(|said| said.starts_with(begin)),
        "no {begin:?} in\n{printed}"
    );
}
