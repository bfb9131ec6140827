//! The chores of this workspace, reached by the alias `cargo xtask`.
//!
//! They are written in Rust so that nothing but a Rust toolchain is needed to
//! run them. Each chore is a module with one entry point; this file only picks
//! one.

#![allow(
    clippy::print_stdout,
    reason = "a command-line tool reports on standard output"
)]

mod apt;
mod browser;
mod cargo;
mod deny;
mod lanes;
mod load;
mod soak;
mod test;
mod valkey;

use std::process::ExitCode;

/// What a chore gives back; the error is a message for a person.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Chore {
    name: &'static str,
    summary: &'static str,
    run: fn() -> Result<ExitCode>,
}

const CHORES: [Chore; 4] = [
    Chore {
        name: "test",
        summary: "everything a change must pass: format, lints, features, tests, docs",
        run: test::run,
    },
    Chore {
        name: "soak",
        summary: "the checks that take minutes: the exhaustive ones, further than `test` goes",
        run: soak::run,
    },
    Chore {
        name: "load",
        summary: "requests a second of examples/user-api, with its cache and without",
        run: load::run,
    },
    Chore {
        name: "deny",
        summary: "licences, advisories, duplicate versions and sources of the dependencies",
        run: deny::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        print_chores();
        return ExitCode::SUCCESS;
    };
    if let Some(extra) = arguments.next() {
        eprintln!("error: `{name}` takes no arguments, but was given `{extra}`");
        return ExitCode::FAILURE;
    }
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprintln!("error: no chore is called `{name}`; `cargo xtask` lists them");
        return ExitCode::FAILURE;
    };
    match (chore.run)() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_chores() {
    println!("usage: cargo xtask <chore>\n");
    for chore in &CHORES {
        println!("  {:<6} {}", chore.name, chore.summary);
    }
}
