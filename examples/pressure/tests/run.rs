//! The example prints the figures that the page shows.

use std::process::Output;

use valkey_tests::Server;
use valkey_tests::example::{command, printed, steady, steady_on};

const PAGE: &str = include_str!("../../../docs/guides/loading.md");

const KEYS: u64 = 8;

/// The example, with nothing in its environment but these variables of the store.
fn pressure(variables: &[(&str, &str)]) -> Output {
    let mut command = command(env!("CARGO_BIN_EXE_pressure"));
    let variables = variables.iter().copied();
    command.envs(variables).output().expect("it can be run")
}

#[derive(Clone, Copy, Debug)]
struct Row {
    calls: u64,
    hits: u64,
    stale: u64,
    errors: u64,
    waited: u64,
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
            _longest,
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

/// Checks the statements of the page about the figures, as far as they hold on any machine.
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
    assert!(by_hand_once.slow.at_a_time <= 2 * KEYS, "{printed}");
    for way in [load, refresh, or_stale, all] {
        assert!(way.calm.at_a_time <= KEYS, "{printed}");
        assert!(way.slow.at_a_time <= KEYS, "{printed}");
    }
    // An outage reaches the callers of these ways.
    for way in [by_hand, by_hand_once, load, refresh] {
        assert!(way.down.errors > 0, "{printed}");
        assert_eq!(way.down.stale, 0, "{printed}");
    }
    // And not of those, which try once a key and pause: five times at the most in a phase of four
    // pauses.
    for way in [or_stale, all] {
        assert_eq!(way.down.errors + way.back.errors, 0, "{printed}");
        assert!(way.down.stale > 0, "{printed}");
        assert!(way.down.queries <= 5 * KEYS, "{printed}");
    }
    ways
}

#[test]
fn it_prints_the_figures_of_the_page() {
    // A process that stands still gives its tasks their turns in another order.
    steady(prints_the_figures_of_the_page);
}

fn prints_the_figures_of_the_page() {
    let printed = printed(pressure(&[]));
    let block = format!("```text\n{printed}```\n");
    assert!(
        PAGE.contains(&block),
        "docs/guides/loading.md should have\n{block}"
    );
    let [_, by_hand_once, load, refresh, or_stale, all] = assert_story(&printed);
    // Two processes load a key at once. On a busy machine one of them may come too late for that.
    assert!(by_hand_once.slow.at_a_time > KEYS, "{printed}");
    assert!(load.slow.queries < by_hand_once.slow.queries, "{printed}");
    // Nobody waits for a slow database, after the first time.
    assert_eq!((refresh.slow.waited, all.slow.waited), (0, 0));
    // Or not to the end.
    assert!(load.slow.waited > 0 && or_stale.slow.stale > 0);
}

/// It goes by real time.
#[test]
fn two_processes_share_a_server() {
    let server = Server::plain();
    let port = server.port().to_string();
    steady_on(&server, || {
        server.flush();
        let variables = [("VALKEY_HOST", "127.0.0.1"), ("VALKEY_PORT", &*port)];
        assert_story(&printed(pressure(&variables)));
    });
}
