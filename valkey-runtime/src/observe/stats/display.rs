//! The statistics as text: a table with a row for each type, and a line for the store itself.

use std::fmt;
use std::time::Duration;

use crate::base::error::ErrorKind;
use crate::observe::stats::{Stats, TypeStats};
use crate::protocol::breaker::BreakerState;

const COLUMNS: [&str; 7] = [
    "requests", "hits", "stale", "loads", "failed", "mean", "longest",
];
const WIDTH: usize = 8;

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TOTAL: &str = "total";
        let names = self.types.iter().map(|of| of.name.chars().count());
        let width = names.max().unwrap_or(0).max(TOTAL.len());
        row(f, width, "type", &COLUMNS.map(str::to_owned))?;
        for of in &self.types {
            row(f, width, &of.name, &cells(of))?;
        }
        row(f, width, TOTAL, &cells(&self.total))?;
        self.store_line(f)
    }
}

fn row(f: &mut fmt::Formatter<'_>, width: usize, name: &str, cells: &[String]) -> fmt::Result {
    write!(f, "{name:<width$}")?;
    for cell in cells {
        write!(f, " {cell:>WIDTH$}")?;
    }
    writeln!(f)
}

fn cells(of: &TypeStats) -> [String; COLUMNS.len()] {
    let ratio = of
        .hit_ratio()
        .map(|ratio| format!("{:.1} %", ratio * 100.0));
    let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    let time = |time: Duration| or_none((of.loads() > 0).then(|| printed(time)));
    [
        of.requests().to_string(),
        or_none(ratio),
        of.stale().to_string(),
        of.loads().to_string(),
        of.failed_loads().to_string(),
        time(of.load_time().div_f64(of.loads().max(1) as f64)),
        time(of.longest_load()),
    ]
}

/// About three digits, in a suitable unit.
fn printed(time: Duration) -> String {
    match time.as_micros() {
        micros @ ..1_000 => format!("{micros} µs"),
        micros @ ..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros => format!("{:.2} s", micros as f64 / 1e6),
    }
}

impl Stats {
    /// Names each problem, and leaves out the numbers that are 0.
    fn store_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.breaker {
            BreakerState::Closed => "breaker closed",
            BreakerState::Open => "breaker open",
            BreakerState::HalfOpen => "breaker half-open",
        })?;
        let mut list = List::after("; ");
        for (what, number) in [
            ("openings", self.breaker_openings),
            ("commands not sent", self.refused),
            ("deletions waiting", self.undelivered),
            ("deletions lost", self.lost_deletions),
            ("background tasks refused", self.background_refused),
            ("requests limited", self.rate_limited),
            ("limit checks failed", self.rate_limit_failures),
            ("requests without an address", self.requests_without_address),
            ("near hits", self.near_hits()),
            ("coalesced", self.coalesced()),
            ("waits", self.waited()),
            ("fills refused", self.refused_fills()),
            ("writes without guard", self.unguarded_writes()),
            ("writes not confirmed", self.unconfirmed_writes()),
            ("corrupt", self.corrupt()),
            ("migrated", self.migrations()),
            ("migrations failed", self.failed_migrations()),
            ("not decrypted", self.undecrypted()),
        ] {
            list.add(f, what, number)?;
        }
        if self.errors_total() == 0 {
            return f.write_str("; no errors");
        }
        let mut list = List::after("; errors: ");
        for kind in ErrorKind::ALL {
            list.add(f, kind.as_str(), self.errors(kind))?;
        }
        Ok(())
    }
}

/// Numbers with their names, without those that are 0.
struct List {
    before: &'static str,
}

impl List {
    fn after(before: &'static str) -> Self {
        Self { before }
    }

    fn add(&mut self, f: &mut fmt::Formatter<'_>, what: &str, number: u64) -> fmt::Result {
        if number > 0 {
            write!(f, "{}{what} {number}", self.before)?;
            self.before = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::counters::{Count, KINDS};
    use crate::observe::stats::summed;

    #[test]
    fn a_table_with_a_row_a_type_and_a_line_for_the_store() {
        let mut user = TypeStats::none();
        user.name = "user".to_owned();
        for (what, number) in [
            (Count::Hit, 980),
            (Count::Miss, 15),
            (Count::Absence, 5),
            (Count::Stale, 3),
            (Count::Load, 15),
            (Count::FailedLoad, 1),
            (Count::LoadMicros, 15 * 12_340),
            (Count::Coalesced, 7),
        ] {
            user.counts[what as usize] = number;
        }
        user.longest_load = 1_250_000;
        user.errors[ErrorKind::Timeout as usize] = 2;
        let mut page = TypeStats::none();
        page.name = "page<article>".to_owned();
        let (types, total) = summed([user, page].into_iter());
        let mut errors = [0; KINDS];
        errors[ErrorKind::Connection as usize] = 1;
        let stats = Stats {
            types,
            total,
            queued_deletions: 4,
            lost_deletions: 0,
            breaker: BreakerState::HalfOpen,
            breaker_openings: 1,
            refused: 12,
            rate_limited: 0,
            rate_limited_locally: 0,
            rate_limit_failures: 0,
            requests_without_address: 0,
            undelivered: 4,
            background_running: 1,
            background_refused: 0,
            errors,
        };
        assert_eq!(
            stats.to_string(),
            "\
type          requests     hits    stale    loads   failed     mean  longest
page<article>        0        -        0        0        0        -        -
user              1000   98.5 %        3       15        1  12.3 ms   1.25 s
total             1000   98.5 %        3       15        1  12.3 ms   1.25 s
breaker half-open; openings 1, commands not sent 12, deletions waiting 4, coalesced 7; errors: connection 1, timeout 2"
        );
    }

    #[test]
    fn types_with_one_prefix_share_a_row() {
        let mut one = TypeStats::none();
        one.name = "user".to_owned();
        one.counts[Count::Hit as usize] = 1;
        one.longest_load = 5;
        let mut other = one.clone();
        other.longest_load = 7;
        let (types, total) = summed([one, other].into_iter());
        assert_eq!(types.len(), 1);
        assert_eq!((types[0].hits(), types[0].longest_load), (2, 7));
        assert_eq!((total.hits(), total.longest_load), (2, 7));
    }

    #[test]
    fn times_have_a_unit_that_fits() {
        let printed = |micros| printed(Duration::from_micros(micros));
        assert_eq!(
            [0, 999, 1_000, 999_949, 1_000_000, 61_000_000].map(printed),
            ["0 µs", "999 µs", "1.0 ms", "999.9 ms", "1.00 s", "61.00 s"]
        );
    }
}
