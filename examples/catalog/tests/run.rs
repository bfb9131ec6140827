//! The example runs, without a server and on one, and prints the counts that its page has.

use std::process::Output;

use valkey_tests::Server;
use valkey_tests::example::{command, printed, steady_on};

/// The example, with nothing in its environment but this variable of the store.
fn catalog(variable: Option<(&str, &str)>) -> Output {
    let mut command = command(env!("CARGO_BIN_EXE_catalog"));
    command.envs(variable).output().expect("it can be run")
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

/// It goes by real time: prices fall due over a second, and a command has half of one.
#[test]
fn a_server_is_asked_as_often_as_the_page_says() {
    let server = Server::plain();
    steady_on(&server, || {
        server.flush();
        is_as_on_page(&printed(catalog(Some(("VALKEY_URL", &server.url())))));
    });
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
