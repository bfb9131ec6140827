//! Fuzzing in the process: bytes from outside, mutated, on everything that reads them.
//!
//! A [`Target`] is a function on bytes that panics if one of its promises is broken. It returns its
//! *outcome*: a number for what it found in the bytes. An input with a new outcome is mutated
//! further. So outcomes stand for the coverage that a compiler's instrumentation would give, which
//! stable Rust has only with unsafe code.
//!
//! Each target has a folder of inputs, `valkey-runtime/fuzz/NAME`. Its test replays them, then runs
//! some thousand mutations, the same each time. With `FUZZ_SECONDS` in the environment it goes on
//! for that long with a random seed; `cargo xtask fuzz` sets that. An input that makes a target
//! panic is made smaller, and written into the folder, where it is replayed from then on.
//!
//! A new target is a function and a row in [`targets::ALL`].

mod asked;
mod changed;
mod mutator;
mod targets;

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutator::Mutator;

/// The mutations of a run without a time.
const EXECUTIONS: u64 = 3000;
/// The longest input.
const LONGEST: usize = 4096;
/// The inputs that are mutated further.
const POOL: usize = 4096;

struct Target {
    name: &'static str,
    run: fn(&[u8]) -> u64,
    /// Whole inputs to begin with.
    seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that mutations insert.
    words: &'static [&'static [u8]],
}

/// A number for what was found.
fn outcome(found: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    found.hash(&mut hasher);
    hasher.finish()
}

impl Target {
    fn folder(&self) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "fuzz", self.name]
            .iter()
            .collect()
    }

    /// The committed inputs, in the order of their names.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let Ok(folder) = fs::read_dir(self.folder()) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// `None` if it panics.
    fn outcome(&self, input: &[u8]) -> Option<u64> {
        catch_unwind(AssertUnwindSafe(|| (self.run)(input))).ok()
    }

    /// A smaller input that still makes the target panic.
    fn smaller(&self, input: &[u8]) -> Vec<u8> {
        let mut input = input.to_vec();
        let mut size = input.len();
        while size > 0 {
            let mut at = 0;
            while at + size <= input.len() {
                let without = [&input[..at], &input[at + size..]].concat();
                match self.outcome(&without) {
                    None => input = without,
                    Some(_) => at += size,
                }
            }
            size /= 2;
        }
        input
    }

    fn keep(&self, what: &str, input: &[u8]) -> PathBuf {
        let path = self
            .folder()
            .join(format!("{what}-{:016x}", outcome(input)));
        fs::create_dir_all(self.folder()).unwrap();
        fs::write(&path, input).unwrap();
        path
    }

    /// Runs an input, and fails the test if the target panics.
    fn check(&self, input: &[u8], is_new: bool) -> u64 {
        if let Some(outcome) = self.outcome(input) {
            return outcome;
        }
        let place = match is_new {
            true => self
                .keep("found", &self.smaller(input))
                .display()
                .to_string(),
            false => "an input of its folder".to_owned(),
        };
        panic!("the target `{}` panics: see {place}", self.name);
    }
}

/// Replays the inputs of a target, then mutates them.
fn run(name: &str) {
    let target = targets::ALL.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no target is called `{name}`"));
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.map(|seconds| seconds.parse().expect("FUZZ_SECONDS is a number"));
    let seed = match seconds {
        Some(_) => fastrand::u64(..),
        None => 1,
    };
    let mut pool = [target.corpus(), (target.seeds)()].concat();
    let mut outcomes: HashSet<u64> = pool
        .iter()
        .map(|input| target.check(input, false))
        .collect();
    assert!(!pool.is_empty(), "`{name}` has inputs to begin with");
    let begun = pool.len();
    let mut mutator = Mutator::new(seed, target.words);
    let (start, mut executions, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let is_over = |executions| match seconds {
        Some(seconds) => start.elapsed() >= Duration::from_secs(seconds),
        None => executions >= EXECUTIONS,
    };
    while !is_over(executions) {
        let input = mutator.mutated(&pool);
        let started = Instant::now();
        let outcome = target.check(&input, true);
        slowest = slowest.max(started.elapsed());
        executions += 1;
        if outcomes.insert(outcome) && pool.len() < POOL {
            pool.push(input);
        }
    }
    if seconds.is_some() {
        eprintln!(
            "fuzz {name}: {executions} executions in {:.0?}, seed {seed}, {begun} inputs at first, {} outcomes, \
             slowest {slowest:.1?}, no finding",
            start.elapsed(),
            outcomes.len(),
        );
    }
    if std::env::var_os("FUZZ_KEEP").is_some() {
        keep_distinct(target, &pool[begun..]);
    }
}

/// The most inputs that a run adds to a folder, and the longest.
const KEPT: usize = 40;
const LONGEST_KEPT: usize = 256;

/// Writes inputs with new outcomes into the folder, spread over the run.
fn keep_distinct(target: &Target, found: &[Vec<u8>]) {
    let found: Vec<_> = found
        .iter()
        .filter(|input| input.len() <= LONGEST_KEPT)
        .collect();
    for input in found.iter().step_by(found.len().div_ceil(KEPT).max(1)) {
        target.keep("input", input);
    }
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn each_target_has_a_test() {
            let tests = [$(stringify!($name)),*];
            let all: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
            assert_eq!(all, tests);
        }
    };
}

tests! { envelope transition key limit value packed migration config asked }

/// A target that breaks its promise is found, and its input is made smaller.
#[test]
fn a_panic_is_found_and_made_smaller() {
    let target = Target {
        name: "none",
        run: |input| {
            assert!(!input.windows(2).any(|pair| pair == b"\xdd\xff"));
            outcome(input.len())
        },
        seeds: || vec![b"some input".to_vec()],
        words: &[b"\xdd\xff"],
    };
    let mut mutator = Mutator::new(7, target.words);
    let seeds = (target.seeds)();
    let found = (0..10_000).find_map(|_| {
        let input = mutator.mutated(&seeds);
        target.outcome(&input).is_none().then_some(input)
    });
    assert_eq!(target.smaller(&found.unwrap()), b"\xdd\xff");
}
