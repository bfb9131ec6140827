//! What the project promises of its speed, and whether a report keeps it.

use benches::statistics::Quartiles;
use benches::{BARE, BY_HAND, OWN, RUSTIS};

use super::Report;
use super::measured::Measured;

/// A bound of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn admits(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound:.2}"),
            Self::AtMost(bound) => write!(f, "≤ {bound:.2}"),
        }
    }
}

/// A promise beside what was measured.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    pub(crate) measured: Quartiles,
    /// A peer that the figure must also be ahead of, and the ratio to it.
    pub(crate) ahead_of: Option<(&'static str, f64)>,
}

impl Kept {
    pub(crate) fn is_met(&self) -> bool {
        let ahead = self.ahead_of.is_none_or(|(_, ratio)| ratio > 1.0);
        self.bound.admits(self.measured.median) && ahead
    }
}

/// A least ratio of throughput to the first contender, for values of 200 B: operation, tasks and
/// ratio, and a peer that it must also be ahead of.
type Throughput = (&'static str, u64, f64, Option<&'static str>);

const THROUGHPUT: [Throughput; 19] = [
    ("get", 1, 0.97, Some(RUSTIS)),
    ("get", 8, 1.0, Some(RUSTIS)),
    ("get", 64, 1.7, Some(RUSTIS)),
    ("get", 256, 2.0, Some(RUSTIS)),
    ("get", 1024, 2.3, Some(RUSTIS)),
    ("get_or_load", 1, 0.97, None),
    ("get_or_load", 8, 0.97, None),
    ("get_or_load", 64, 0.97, None),
    ("get_or_load", 256, 0.97, None),
    ("get_or_load", 1024, 0.97, None),
    ("set", 1, 0.97, None),
    ("set", 8, 0.95, None),
    ("set", 64, 1.2, None),
    ("set", 1024, 1.3, None),
    ("bulk", 1, 0.7, Some(BY_HAND)),
    ("bulk", 8, 0.7, Some(BY_HAND)),
    ("bulk", 64, 0.7, Some(BY_HAND)),
    ("bulk", 256, 0.7, Some(BY_HAND)),
    ("bulk", 1024, 0.7, Some(BY_HAND)),
];

/// The most that the 99th percentile of `get` with 64 tasks may be, relative to the bare client.
const P99: f64 = 1.0;
/// The most instructions of an encode, relative to rmp-serde alone.
const ENCODE: f64 = 1.15;
/// The most time to compile 100 structs, relative to serde's derives alone.
const DERIVE: f64 = 1.25;

/// The promises whose figures were measured.
pub(crate) fn kept(report: &Report) -> Vec<Kept> {
    let mut all = of_throughput(&report.measured);
    all.extend(of_latency(&report.measured));
    for size in ["200 B", "8 KiB"] {
        let figure = |name: &str| {
            report
                .figures
                .as_ref()?
                .get(&format!("{name}, {size}"))
                .copied()
        };
        if let (Some(own), Some(bare)) = (figure("encode"), figure("encode by rmp-serde alone")) {
            all.push(Kept {
                what: format!("instructions of an encode of {size}, beside rmp-serde alone"),
                bound: Bound::AtMost(ENCODE),
                measured: Quartiles::of([own / bare]),
                ahead_of: None,
            });
        }
    }
    all.extend(report.derive.as_ref().map(|times| Kept {
        what: "compile time of 100 structs, beside serde's derives alone".to_owned(),
        bound: Bound::AtMost(DERIVE),
        measured: times.ratio(),
        ahead_of: None,
    }));
    all
}

fn of_throughput(measured: &Measured) -> Vec<Kept> {
    let all = THROUGHPUT
        .iter()
        .filter_map(|(operation, tasks, least, peer)| {
            let group = measured.group(operation, "200 B", *tasks)?;
            let beside = match *operation {
                "get_or_load" => "beside `get`",
                "bulk" => "decoded, beside bytes",
                _ => "beside the bare client",
            };
            let ahead_of = peer.and_then(|peer| Some((peer, group.ratio_to(OWN, peer)?.median)));
            Some(Kept {
                what: format!("`{operation}`, {}, {beside}", tasks_of(*tasks)),
                bound: Bound::AtLeast(*least),
                measured: group.ratio(OWN)?,
                ahead_of,
            })
        });
    all.collect()
}

fn of_latency(measured: &Measured) -> Option<Kept> {
    let latency = measured
        .latencies
        .iter()
        .find(|latency| latency.tasks == 64)?;
    Some(Kept {
        what: format!("p99 of `get`, {}, beside the bare client", tasks_of(64)),
        bound: Bound::AtMost(P99),
        measured: latency.ratio_to(1, OWN, BARE)?,
        ahead_of: None,
    })
}

pub(crate) fn tasks_of(tasks: u64) -> String {
    match tasks {
        1 => "1 task".to_owned(),
        tasks => format!("{tasks} tasks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measured::tests::measured;

    fn report() -> Report {
        let figures = [
            ("encode, 200 B", 120.0),
            ("encode by rmp-serde alone, 200 B", 100.0),
        ];
        let figures = figures.map(|(name, figure)| (name.to_owned(), figure));
        Report {
            measured: measured(),
            figures: Some(figures.into()),
            derive: None,
        }
    }

    #[test]
    fn promises_are_compared_with_what_was_measured() {
        let kept = kept(&report());
        let shown: Vec<_> = kept
            .iter()
            .map(|kept| (&*kept.what, kept.measured.median, kept.is_met()))
            .collect();
        let expected = [
            ("`get`, 8 tasks, beside the bare client", 1.2, true),
            (
                "p99 of `get`, 64 tasks, beside the bare client",
                1.25,
                false,
            ),
            (
                "instructions of an encode of 200 B, beside rmp-serde alone",
                1.2,
                false,
            ),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_figure_that_is_behind_its_peer_misses_its_target() {
        let mut report = report();
        let (_, rustis) = &mut report.measured.groups[0].throughput[1];
        *rustis = vec![121.0, 210.0, 76.0];
        let kept = kept(&report);
        assert!(kept[0].bound.admits(kept[0].measured.median));
        assert!(!kept[0].is_met(), "{:?}", kept[0]);
    }
}
