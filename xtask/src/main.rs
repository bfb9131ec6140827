//! The chores of this workspace, reached by the alias `cargo xtask`.
//!
//! They are written in Rust, so that they need only a Rust toolchain. Each chore is a module with
//! one entry point; this file selects one.

#![allow(
    clippy::print_stdout,
    reason = "a command-line tool reports on standard output"
)]

mod apt;
mod bench;
mod browser;
mod cargo;
mod check;
mod deny;
mod fuzz;
mod lanes;
mod load;
mod mutants;
mod soak;
mod test;
mod valkey;

use std::process::ExitCode;

/// The result of a chore. The error is a message for the user.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Chore {
    name: &'static str,
    summary: &'static str,
    run: Run,
}

enum Run {
    Alone(fn() -> Result<ExitCode>),
    With(fn(&[String]) -> Result<ExitCode>),
}

const CHORES: [Chore; 8] = [
    Chore {
        name: "check",
        summary: "checks without a server: format, lints, unit tests",
        run: Run::Alone(check::run),
    },
    Chore {
        name: "test",
        summary: "everything a change must pass: format, lints, features, tests, docs",
        run: Run::Alone(test::run),
    },
    Chore {
        name: "soak",
        summary: "the checks that take minutes: the exhaustive ones, further than `test` goes",
        run: Run::Alone(soak::run),
    },
    Chore {
        name: "fuzz",
        summary: "mutated bytes for everything that reads bytes: [target] --minutes 10 --keep",
        run: Run::With(fuzz::run),
    },
    Chore {
        name: "load",
        summary: "requests a second of examples/user-api, with its cache and without",
        run: Run::Alone(load::run),
    },
    Chore {
        name: "bench",
        summary: "throughput beside the peers; --report writes docs/performance.md, --check compares",
        run: Run::With(bench::run),
    },
    Chore {
        name: "deny",
        summary: "licences, advisories, duplicate versions and sources of the dependencies",
        run: Run::Alone(deny::run),
    },
    Chore {
        name: "mutants",
        summary: "whether the tests notice a sample of mutants: --sample 40 --shard 0 --only protocol",
        run: Run::With(mutants::run),
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        print_chores();
        return ExitCode::SUCCESS;
    };
    let arguments: Vec<String> = arguments.collect();
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprintln!("error: no chore is called `{name}`; `cargo xtask` lists them");
        return ExitCode::FAILURE;
    };
    let done = match (&chore.run, arguments.first()) {
        (Run::Alone(run), None) => run(),
        (Run::Alone(_), Some(extra)) => {
            Err(format!("`{name}` takes no arguments, but was given `{extra}`").into())
        }
        (Run::With(run), _) => run(&arguments),
    };
    match done {
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
        println!("  {:<7} {}", chore.name, chore.summary);
    }
}
