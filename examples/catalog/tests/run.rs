//! The example runs, without a server and on one, and prints the counts that its page has.

use std::panic::{catch_unwind, resume_unwind};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use valkey_tests::Server;

/// The example, with nothing in its environment but this variable of the store.
fn catalog(variable: Option<(&str, &str)>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_catalog"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VALKEY_") {
            command.env_remove(name);
        }
    }
    command.envs(variable).output().expect("it can be run")
}

#[track_caller]
fn printed(output: Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The page has what it prints.
const README: &str = include_str!("../README.md");

#[test]
fn it_prints_what_the_page_says() {
    let printed = printed(catalog(None));
    assert!(README.contains(&printed), "not on the page:\n{printed}");
}

/// Hits, misses, absences, queries and rows of a line.
#[track_caller]
fn counts(line: &str) -> [u64; 5] {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let numbers = words.split_off(words.len() - 5);
    let numbers = numbers.iter().map(|word| word.parse().expect("a number"));
    let numbers: Vec<u64> = numbers.collect();
    numbers.try_into().expect("five")
}

/// How long the example sleeps on a server, and what it may take more unless the machine stood still: two fifths of the time
/// in which its prices fall due.
const SLEEPS: Duration = Duration::from_millis(2 * 600 + 5 * 200);
const MORE: Duration = Duration::from_millis(400);
/// A machine that is that busy is of no use for tests.
const ATTEMPTS: usize = 20;

/// It goes by real time. Where it fails and the machine stood still, that shows in how long it took: then it is run again.
#[test]
fn a_server_is_asked_as_often_as_the_page_says() {
    for attempt in 1.. {
        let server = Server::plain();
        let began = Instant::now();
        let printed = printed(catalog(Some(("VALKEY_URL", &server.url()))));
        let took = began.elapsed();
        let Err(panic) = catch_unwind(|| is_as_on_page(&printed)) else {
            return;
        };
        if took < SLEEPS + MORE || attempt == ATTEMPTS {
            resume_unwind(panic);
        }
        eprintln!("attempt {attempt} failed, but took {took:?}");
    }
}

#[track_caller]
fn is_as_on_page(printed: &str) {
    let on_page = README.split("```text\n").nth(1).expect("the output");
    // Which prices fall due in which fifth is chance there; but each of them once.
    let (mut due, mut spread) = (0, 0);
    for (line, told) in printed.lines().zip(on_page.lines()).skip(3) {
        if line.contains("/5 of it") || line.contains("in all") {
            let [hits, misses, absences, queries, rows] = counts(line);
            assert_eq!((hits + misses, absences, rows), (240, 0, misses), "{line}");
            assert_eq!(queries, u64::from(misses > 0), "{line}");
            due += misses;
            spread += queries;
        } else {
            assert_eq!(line, told);
        }
    }
    assert_eq!(due, 240, "{printed}");
    assert!(spread >= 3, "{printed}");
    let new = "6443835 in all, 6137100 before";
    assert!(printed.contains(new) && on_page.contains(new), "{printed}");
}
