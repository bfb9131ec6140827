//! Instructions of an operation, counted by callgrind.
//!
//! A bench runs itself in a process per count, and passes it its task in a variable. Each contender
//! runs with few and with many operations. The difference is divided by the difference of the
//! operations, so that the cost of the start cancels out.

use std::path::Path;
use std::process::Command;

const FEW: u64 = 200;
const MANY: u64 = 2_200;

/// The instructions that a program executes for one operation. `task` makes the value of `variable`
/// from the number of operations. With `only`, a pattern of function names, just the time in the
/// matching function counts.
pub fn each(
    program: &Path,
    variable: &str,
    task: impl Fn(u64) -> String,
    only: Option<&str>,
) -> f64 {
    let counted = |count| instructions(program, variable, &task(count), only);
    (counted(MANY) - counted(FEW)) / (MANY - FEW) as f64
}

fn instructions(program: &Path, variable: &str, task: &str, only: Option<&str>) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(only.map(|function| format!("--toggle-collect={function}")))
        .arg(program)
        .env(variable, task)
        .output()
        .expect("valgrind is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let counted = said
        .lines()
        .find_map(|line| line.split("Collected :").nth(1));
    counted
        .and_then(|count| count.trim().parse().ok())
        .expect("callgrind tells how many")
}
