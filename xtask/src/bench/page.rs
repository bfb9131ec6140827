//! The generated part of docs/performance.md: tables in Markdown.

use std::fmt::Write as _;

use benches::statistics::Quartiles;
use benches::{BARE, OWN};

use super::Report;
use super::measured::{Group, Latency, Measured};
use super::targets::{self, tasks_of};
use crate::Result;

const BEGIN: &str = "<!-- report -->\n";
const END: &str = "<!-- /report -->";

/// The operations in the order of the page: name, title, and the picture for values of 200 B.
const OPERATIONS: [(&str, &str, Option<&str>); 6] = [
    ("get", "`get`", Some("get.svg")),
    ("set", "`set`", Some("set.svg")),
    ("get_or_load", "`get_or_load`, a hit", None),
    ("bulk", "100 entries in one call", Some("bulk.svg")),
    ("near", "`get_shared` with a near copy, beside `GET`", None),
    (
        "update",
        "`update`, beside a deletion after the write",
        None,
    ),
];

/// The text before the table of layouts, compression and encryption.
const PACKED: &str = "
## Layout, compression and encryption

In an in-process store, beside the same type stored plain, by one task. Beside a server a call waits for the
network, and the ratios come closer to 1. A value is a list of 10, 100 or 1000 rows with five fields each.

";

/// A page with a new generated part.
pub(crate) fn replaced(page: &str, report: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .ok_or("the page has no mark `report`")?;
    let (_, after) = rest
        .split_once(END)
        .ok_or("the page has no mark `/report`")?;
    Ok(format!("{before}{BEGIN}{report}{END}{after}"))
}

/// The tables. `facts` are the lines about the machine and the versions.
pub(crate) fn tables(report: &Report, facts: &str, pictures: bool) -> String {
    let mut text = format!("{facts}\n## Targets\n\n{}", of_targets(report));
    for (operation, title, picture) in OPERATIONS {
        for size in ["200 B", "8 KiB"] {
            let groups = groups(&report.measured, operation, size);
            if groups.is_empty() {
                continue;
            }
            // It sends no value.
            let of_size = match operation {
                "update" => String::new(),
                _ => format!(", {size}"),
            };
            let table = of_throughput(&groups, |group| tasks_of(group.tasks));
            _ = write!(text, "\n## {title}{of_size}\n\n{table}");
            if let Some(picture) = picture.filter(|_| pictures && size == "200 B") {
                _ = writeln!(
                    text,
                    "\n![Ratios of {operation} by tasks](performance/{picture})"
                );
            }
        }
    }
    for latency in &report.measured.latencies {
        let tasks = tasks_of(latency.tasks);
        _ = write!(
            text,
            "\n## Latency of `get`, 200 B, {tasks}\n\n{}",
            of_latency(latency)
        );
    }
    let packed: Vec<&Group> = ["hit of rows", "set of rows"]
        .into_iter()
        .flat_map(|operation| {
            let all = report.measured.groups.iter();
            all.filter(move |group| group.operation == operation)
        })
        .collect();
    if !packed.is_empty() {
        text.push_str(PACKED);
        text.push_str(&of_throughput(&packed, |group| {
            format!("{}, {}", group.operation, group.size)
        }));
    }
    if let Some(figures) = &report.figures {
        text.push_str("\n## Instructions\n\n| part | instructions |\n|---|---:|\n");
        for (name, figure) in figures {
            _ = writeln!(text, "| {name} | {} |", thousands(*figure));
        }
    }
    if let Some(times) = &report.derive {
        text.push_str("\n## Compile time\n\n| 100 structs | seconds | ratio |\n|---|---:|---:|\n");
        let seconds = |times: &[f64]| Quartiles::of(times.iter().copied()).median;
        _ = writeln!(
            text,
            "| serde's derives alone | {:.2} | 1 |",
            seconds(&times.serde)
        );
        let ratio = shown(times.ratio());
        _ = writeln!(
            text,
            "| and `Cached` | {:.2} | {ratio} |",
            seconds(&times.cached)
        );
    }
    text
}

fn groups<'m>(measured: &'m Measured, operation: &str, size: &str) -> Vec<&'m Group> {
    let groups = measured.groups.iter();
    groups
        .filter(|group| group.operation == operation && group.size == size)
        .collect()
}

fn of_targets(report: &Report) -> String {
    let mut text =
        "| figure | target | measured | ahead of | |\n|---|---|---|---|---|\n".to_owned();
    for kept in targets::kept(report) {
        let ahead = kept
            .ahead_of
            .map(|(peer, ratio)| format!("{peer}: {ratio:.2}"));
        let met = if kept.is_met() { "met" } else { "**missed**" };
        _ = writeln!(
            text,
            "| {} | {} | {} | {} | {met} |",
            kept.what,
            kept.bound,
            shown(kept.measured),
            ahead.unwrap_or_default(),
        );
    }
    text
}

/// A row a contender, and a column a group, under its heading.
fn of_throughput(groups: &[&Group], heading: impl Fn(&Group) -> String) -> String {
    let mut text = "| contender |".to_owned();
    for group in groups {
        _ = write!(text, " {} |", heading(group));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(groups.len()));
    text.push('\n');
    for (at, (name, _)) in groups[0].throughput.iter().enumerate() {
        let bold = if name == OWN { "**" } else { "" };
        _ = write!(text, "| {bold}{name}{bold} |");
        for group in groups {
            let ratio = group.ratio(name).map(shown).unwrap_or_default();
            match at {
                0 => _ = write!(text, " 1: {}/s |", thousands(group.reference())),
                _ => _ = write!(text, " {ratio} |"),
            }
        }
        text.push('\n');
    }
    text
}

fn of_latency(latency: &Latency) -> String {
    let mut text = "| contender | p50, µs | p99, µs | p99.9, µs | ratio of p99 |\n".to_owned();
    text.push_str("|---|---:|---:|---:|---|\n");
    for (at, (name, _)) in latency.micros[0].iter().enumerate() {
        _ = write!(text, "| {name} |");
        for part in &latency.micros {
            let micros = Quartiles::of(part[at].1.iter().copied()).median;
            _ = write!(text, " {micros:.0} |");
        }
        let ratio = latency.ratio_to(1, name, BARE).filter(|_| name != BARE);
        _ = writeln!(text, " {} |", ratio.map_or("1".to_owned(), shown));
    }
    text
}

/// A median, and the middle half.
fn shown(ratio: Quartiles) -> String {
    let Quartiles { low, median, high } = ratio;
    if low == high {
        return format!("{median:.2}");
    }
    format!("{median:.2} ({low:.2}–{high:.2})")
}

/// A whole number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The charts of the pictures, as the program `plots` reads them.
pub(crate) fn charts(measured: &Measured) -> serde_json::Value {
    let mut charts = Vec::new();
    for (operation, _, picture) in OPERATIONS {
        let groups = groups(measured, operation, "200 B");
        let (Some(picture), Some(first)) = (picture, groups.first()) else {
            continue;
        };
        let line = |name: &String| {
            let ratio = |group: &&Group| group.ratio(name).map(|ratio| ratio.median);
            let y: Vec<Option<f64>> = groups.iter().map(ratio).collect();
            serde_json::json!({ "name": name, "y": y, "bold": name == OWN })
        };
        let lines: Vec<_> = first
            .throughput
            .iter()
            .map(|(name, _)| line(name))
            .collect();
        charts.push(serde_json::json!({
            "file": picture,
            "title": format!("{operation} of 200 B: throughput relative to {BARE}"),
            "x_name": "tasks",
            "y_name": "ratio",
            "x": groups.iter().map(|group| group.tasks).collect::<Vec<_>>(),
            "lines": lines,
        }));
    }
    charts.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measured::tests::measured;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let page = format!("head\n{BEGIN}old\n{END}\nfoot\n");
        let new = replaced(&page, "new\n").unwrap();
        assert_eq!(new, format!("head\n{BEGIN}new\n{END}\nfoot\n"));
        assert!(replaced("no marks", "new").is_err());
    }

    #[test]
    fn a_table_has_the_references_throughput_and_the_ratios_of_the_others() {
        let measured = measured();
        let groups = groups(&measured, "get", "200 B");
        let table = of_throughput(&groups, |group| tasks_of(group.tasks));
        let expected = "\
| contender | 8 tasks |
|---|---|
| redis-rs, bytes | 1: 100/s |
| rustis, bytes | 1.10 (0.90–1.10) |
| **valkey-runtime** | 1.20 (1.00–1.50) |
";
        assert_eq!(table, expected);
    }

    #[test]
    fn latencies_have_their_ratio_to_the_bare_client() {
        let table = of_latency(&measured().latencies[0]);
        assert!(
            table.contains("| redis-rs, bytes | 1 | 4 | 8 | 1 |\n"),
            "{table}"
        );
        assert!(
            table.contains("| valkey-runtime | 1 | 5 | 8 | 1.25 |\n"),
            "{table}"
        );
    }

    #[test]
    fn a_page_shows_targets_before_tables_and_a_chart_has_a_line_a_contender() {
        let report = Report {
            measured: measured(),
            figures: None,
            derive: None,
        };
        let page = tables(&report, "facts\n", true);
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
        assert!(at("## Targets") < at("## `get`, 200 B"));
        assert!(at("| ≥ 1.00 | 1.20 (1.00–1.50) | rustis, bytes: 1.11 | met |") > 0);
        assert!(at("(performance/get.svg)") < at("## Latency of `get`, 200 B, 64 tasks"));
        assert!(!page.contains("Compile time"), "{page}");
        let charts = charts(&report.measured);
        assert_eq!(charts[0]["file"], "get.svg");
        assert_eq!(charts[0]["lines"][2]["y"][0], 1.2);
    }

    #[test]
    fn numbers_have_commas() {
        let shown = [7.0, 999.6, 123_456.0, 1_234_567.0].map(thousands);
        assert_eq!(shown, ["7", "1,000", "123,456", "1,234,567"]);
    }
}
