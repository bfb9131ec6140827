//! The sessions of the README: each command is run, and prints what it says there. `…` stands for
//! anything.

use std::process::Command;

use valkey_tests::Server;
use valkey_tests::example::steady_on;

use crate::program::{Program, long_window};

const README: &str = include_str!("../../README.md");

struct Step {
    command: String,
    printed: Vec<String>,
}

/// The commands under a heading, with what they print; those without that begin the service.
fn session(heading: &str) -> Vec<Step> {
    let (_, text) = README.split_once(heading).expect("it is a heading");
    let text = text.split("\n## ").next().expect("a part");
    let mut steps: Vec<Step> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("its end");
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.into(),
                    printed: Vec::new(),
                }),
                (None, Some(step)) => step.printed.push(line.into()),
                (None, None) => panic!("{line:?} is printed by nothing"),
            }
        }
    }
    steps.retain(|step| !step.command.contains("cargo run"));
    assert!(!steps.is_empty());
    steps
}

/// Runs what the README runs, with something in place of what it names: other ports.
#[track_caller]
fn run(step: &Step, others: &[(&str, &str)]) {
    let here = |text: &str| {
        let replace = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        others.iter().fold(text.to_owned(), replace)
    };
    let command = here(&step.command);
    let output = Command::new("sh").args(["-c", &command]).output();
    let printed = output.expect("a shell").stdout;
    let printed = String::from_utf8(printed).expect("text");
    let lines: Vec<_> = printed.lines().collect();
    let expected = step.printed.iter().map(|line| here(line));
    let expected: Vec<_> = expected.collect();
    let alike = lines.len() == expected.len()
        && lines
            .iter()
            .zip(&expected)
            .all(|(line, expected)| is_like(line, expected));
    assert!(
        alike,
        "{command}\nprinted {lines:#?}\nand not {expected:#?}"
    );
}

fn is_like(line: &str, expected: &str) -> bool {
    match expected.split_once('…') {
        Some((begin, end)) => line
            .strip_prefix(begin)
            .is_some_and(|rest| rest.ends_with(end)),
        None => line == expected,
    }
}

#[test]
fn the_session_goes_as_the_readme_says() {
    let window = long_window();
    let program = Program::start(&[("API_LIMIT", &format!("100/{window}s"))]);
    let port = program.address.port().to_string();
    for step in session("\n## A session") {
        run(&step, &[("3000", &port), ("w=900", &format!("w={window}"))]);
    }
}

/// It goes by real time: a command has half a second, and one that has none is a miss.
#[test]
fn the_session_on_valkey_goes_as_the_readme_says() {
    let server = Server::plain();
    let valkey = server.port().to_string();
    steady_on(&server, || {
        // The session ends it.
        server.restart();
        let program = Program::start(&[("VALKEY_URL", &server.url())]);
        let port = program.address.port().to_string();
        for step in session("\n## On Valkey") {
            run(&step, &[("3000", &port), ("6379", &valkey)]);
        }
    });
}
