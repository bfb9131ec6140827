//! The example prints the figures that the page shows.

use std::panic::{catch_unwind, resume_unwind};
use std::process::Command;

use valkey_tests::Server;

const PAGE: &str = include_str!("../../../docs/guides/loading.md");

const KEYS: u64 = 8;

/// The example in its own process, with nothing in its environment that names a server but this.
fn printed(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressure"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VALKEY_") {
            command.env_remove(name);
        }
    }
    let variables = variables.iter().copied();
    let output = command.envs(variables).output().expect("it can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[derive(Clone, Copy, Debug)]
struct Row {
    calls: u64,
    hits: u64,
    stale: u64,
    errors: u64,
    waited: u64,
    longest: u64,
    queries: u64,
    at_a_time: u64,
}

/// The rows of a way.
#[derive(Clone, Copy, Debug)]
struct Phases {
    calm: Row,
    slow: Row,
    down: Row,
    back: Row,
}

fn ways(printed: &str) -> [Phases; 6] {
    let rows = printed.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?.replace(" ms", "");
        let numbers = line.split_whitespace().skip(1).map(str::parse);
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
        let [
            calls,
            hits,
            stale,
            errors,
            waited,
            longest,
            queries,
            at_a_time,
        ] = numbers[..]
        else {
            return None;
        };
        Some(Row {
            calls,
            hits,
            stale,
            errors,
            waited,
            longest,
            queries,
            at_a_time,
        })
    });
    let rows: Vec<Row> = rows.collect();
    let (ways, rest) = rows.as_chunks();
    assert!(rest.is_empty(), "{printed}");
    let ways = ways.iter().map(|&[calm, slow, down, back]| Phases {
        calm,
        slow,
        down,
        back,
    });
    let ways: Vec<_> = ways.collect();
    ways.try_into().expect("six ways")
}

/// What the page says of the figures, as far as it holds wherever the program runs.
#[track_caller]
fn assert_story(printed: &str) -> [Phases; 6] {
    let ways = ways(printed);
    let [by_hand, by_hand_once, load, refresh, or_stale, all] = ways;
    for Phases {
        calm,
        slow,
        down,
        back,
    } in ways
    {
        for row in [calm, slow, down, back] {
            assert!(row.hits + row.stale + row.errors <= row.calls, "{printed}");
        }
        assert_eq!(calm.errors + slow.errors, 0, "{printed}");
    }
    // A herd; at most one load a key and process; at most one a key.
    assert!(by_hand.slow.at_a_time > 2 * KEYS, "{printed}");
    assert!(by_hand_once.slow.at_a_time > KEYS, "{printed}");
    assert!(by_hand_once.slow.at_a_time <= 2 * KEYS, "{printed}");
    for way in [load, refresh, or_stale, all] {
        assert!(way.calm.at_a_time <= KEYS, "{printed}");
        assert!(way.slow.at_a_time <= KEYS, "{printed}");
    }
    assert!(load.slow.queries < by_hand_once.slow.queries, "{printed}");
    // An outage reaches the callers of these ways.
    for way in [by_hand, by_hand_once, load, refresh] {
        assert!(way.down.errors > 0, "{printed}");
        assert_eq!(way.down.stale, 0, "{printed}");
    }
    // And not of those, which try once a key and pause: five times at the most in a phase of four pauses.
    for way in [or_stale, all] {
        assert_eq!(way.down.errors + way.back.errors, 0, "{printed}");
        assert!(way.down.stale > 0, "{printed}");
        assert!(way.down.queries <= 5 * KEYS, "{printed}");
    }
    ways
}

#[test]
fn it_prints_the_figures_of_the_page() {
    let printed = printed(&[]);
    let block = format!("```text\n{printed}```\n");
    assert!(
        PAGE.contains(&block),
        "docs/guides/loading.md should have\n{block}"
    );
    let [_, _, load, refresh, or_stale, all] = assert_story(&printed);
    // Nobody waits for a slow database, after the first time.
    assert_eq!((refresh.slow.waited, all.slow.waited), (0, 0));
    // Or not to the end.
    assert!(load.slow.waited > 0 && or_stale.slow.stale > 0);
}

/// Whether the machine stood still meanwhile, or left the processes little time: by what nothing but that makes of the calls. A
/// query takes 5 ms while the database is calm, and 100 ms while it is slow; and the last two ways wait for none in a phase of
/// 800 ms, in which each of 40 callers calls about every 25 ms.
fn is_disturbed(printed: &str) -> bool {
    let ways = ways(printed);
    let [.., or_stale, all] = ways;
    let is_late = |row: Row, longest| row.longest > longest || row.calls < 800;
    let is_any = |way: Phases| is_late(way.calm, 60) || way.slow.longest > 180;
    let is_sure = |way: Phases| {
        let rows = [way.slow, way.down, way.back];
        rows.into_iter().any(|row| is_late(row, 100))
    };
    ways.into_iter().any(is_any) || [or_stale, all].into_iter().any(is_sure)
}

/// A machine that is that busy is of no use for tests.
const ATTEMPTS: usize = 10;

/// It goes by real time.
#[test]
fn two_processes_share_a_server() {
    for attempt in 1.. {
        let server = Server::plain();
        let port = server.port().to_string();
        let printed = printed(&[("VALKEY_HOST", "127.0.0.1"), ("VALKEY_PORT", &port)]);
        let Err(panic) = catch_unwind(|| assert_story(&printed)) else {
            return;
        };
        if !is_disturbed(&printed) || attempt == ATTEMPTS {
            resume_unwind(panic);
        }
        eprintln!("attempt {attempt} failed, but was disturbed");
    }
}
