//! The example prints the figures that the page shows.

use std::process::Command;

const PAGE: &str = include_str!("../../../docs/loading.md");

/// The example in its own process, with nothing in its environment that names a server.
fn printed() -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressure"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VALKEY_") {
            command.env_remove(name);
        }
    }
    let output = command.output().expect("it can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// The rows of each way: hits, waited, stale, errors, the longest call in milliseconds, queries, and how many at a time.
fn ways(printed: &str) -> Vec<[[u64; 7]; 4]> {
    let rows = printed.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?.replace(" ms", "");
        let numbers: Vec<_> = line.split_whitespace().skip(1).map(str::parse).collect();
        let numbers: Vec<u64> = numbers.into_iter().collect::<Result<_, _>>().ok()?;
        numbers.try_into().ok()
    });
    let rows: Vec<[u64; 7]> = rows.collect();
    rows.as_chunks().0.to_vec()
}

#[test]
fn it_prints_the_figures_of_the_page() {
    let printed = printed();
    let block = format!("```text\n{printed}```\n");
    assert!(
        PAGE.contains(&block),
        "docs/loading.md should have\n{block}"
    );
}

/// Whatever the figures are, this is what the page says of them.
#[test]
fn the_figures_are_what_the_page_says_of_them() {
    const KEYS: u64 = 8;
    let ways = ways(&printed());
    let [by_hand, by_hand_once, load, refresh, refresh_or_stale] = ways[..] else {
        panic!("{ways:?}")
    };
    let [calm, slow, down, back] = [0, 1, 2, 3];
    let [_, waited, stale, errors, longest, queries, at_a_time] = [0, 1, 2, 3, 4, 5, 6];
    // A herd; one load a key and process; one load a key.
    assert!(by_hand[slow][at_a_time] > 2 * KEYS);
    assert_eq!(by_hand_once[slow][at_a_time], 2 * KEYS);
    assert_eq!(load[slow][at_a_time], KEYS);
    assert!(load[slow][queries] < by_hand_once[slow][queries]);
    // Nobody waits after the first time.
    assert!(load[slow][longest] >= 300);
    assert_eq!((refresh[slow][waited], refresh[slow][longest]), (0, 0));
    // An outage reaches the callers of all ways but one, which tries once a key and pause of half a second.
    for way in [by_hand, by_hand_once, load, refresh] {
        assert!(way[down][errors] > 0);
    }
    for phase in [calm, slow, down, back] {
        assert_eq!(refresh_or_stale[phase][errors], 0);
    }
    assert!(refresh_or_stale[down][stale] > 0);
    assert!(refresh_or_stale[down][queries] <= KEYS * 4);
}
