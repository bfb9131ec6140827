//! The counters of the callers, and the layout of their report.

#![allow(clippy::print_stdout, reason = "output is what this program is for")]

use std::sync::Mutex;
use std::time::Duration;

use crate::database::{self, State};
use crate::ways::Answer;
use crate::{ARTICLES, CALLERS, PHASE};

/// A faster call did not wait for a load: every query takes longer.
const AT_ONCE: Duration = Duration::from_millis(4);

/// The results of callers since this was last read.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Default)]
pub(crate) struct Counts {
    calls: usize,
    hits: usize,
    stale: usize,
    errors: usize,
    /// Calls that waited for a load, with any result.
    waited: usize,
    /// The longest call, with any result.
    longest: Duration,
}

impl Tally {
    pub(crate) fn add(&self, answer: Answer, took: Duration) {
        let mut counts = self.0.lock().expect("nothing panics under it");
        let waited = took >= AT_ONCE;
        counts.calls += 1;
        counts.waited += usize::from(waited);
        counts.longest = counts.longest.max(took);
        match answer {
            // Another process loaded it meanwhile.
            Answer::Hit if waited => {}
            Answer::Loaded => {}
            Answer::Hit => counts.hits += 1,
            Answer::Stale => counts.stale += 1,
            Answer::Error => counts.errors += 1,
        }
    }

    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.0.lock().expect("nothing panics under it"))
    }
}

pub(crate) fn introduction(place: &str) {
    let [calm, slow, down] =
        [State::Calm, State::Slow, State::Down].map(|state| state.takes().as_millis());
    println!("2 processes of {CALLERS} callers each read {ARTICLES} prices, in {place}.");
    println!(
        "The database is calm ({calm} ms a query), slow ({slow} ms), down (an error after {down} ms) and back, for {} ms each.",
        PHASE.as_millis()
    );
}

pub(crate) fn heading(name: &str) {
    println!("\n{name}");
    println!(
        "{:10}{:>7}{:>7}{:>7}{:>8}{:>8}{:>10}{:>9}{:>11}",
        "", "calls", "hits", "stale", "errors", "waited", "longest", "queries", "at a time"
    );
}

pub(crate) fn row(phase: &str, callers: &Counts, database: &database::Counts) {
    let Counts {
        calls,
        hits,
        stale,
        errors,
        waited,
        longest,
    } = callers;
    let (longest, queries, most) = (longest.as_millis(), database.queries, database.most);
    println!(
        "  {phase:8}{calls:>7}{hits:>7}{stale:>7}{errors:>8}{waited:>8}{longest:>7} ms{queries:>9}{most:>11}"
    );
}
