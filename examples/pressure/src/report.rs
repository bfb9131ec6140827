//! What is counted of the callers, and how it is laid out.

#![allow(clippy::print_stdout, reason = "output is what this program is for")]

use std::sync::Mutex;
use std::time::Duration;

use crate::database;
use crate::ways::Answer;
use crate::{ARTICLES, CALLERS, PHASE, PROCESSES};

/// What callers were given since this was last taken.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Default)]
pub(crate) struct Counts {
    hits: usize,
    waited: usize,
    stale: usize,
    errors: usize,
    /// The longest call, whatever it was given.
    longest: Duration,
}

impl Tally {
    pub(crate) fn add(&self, answer: Answer, took: Duration) {
        let mut counts = self.0.lock().expect("nothing panics under it");
        counts.longest = counts.longest.max(took);
        *match answer {
            Answer::Hit => &mut counts.hits,
            Answer::Waited => &mut counts.waited,
            Answer::Stale => &mut counts.stale,
            Answer::Error => &mut counts.errors,
        } += 1;
    }

    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.0.lock().expect("nothing panics under it"))
    }
}

pub(crate) fn introduction(place: &str) {
    println!(
        "{PROCESSES} processes of {CALLERS} callers each read {ARTICLES} prices, in {place}. The database is calm (5 ms a query),"
    );
    println!(
        "slow (300 ms), down (an error after 20 ms) and back, for {} s each.",
        PHASE.as_secs()
    );
}

pub(crate) fn heading(name: &str) {
    println!("\n{name}");
    println!(
        "  {:8}{:>8}{:>8}{:>8}{:>8}{:>12}{:>10}{:>11}",
        "", "hits", "waited", "stale", "errors", "longest", "queries", "at a time"
    );
}

pub(crate) fn row(phase: &str, callers: &Counts, database: &database::Counts) {
    let Counts {
        hits,
        waited,
        stale,
        errors,
        longest,
    } = callers;
    let (longest, queries, most) = (longest.as_millis(), database.queries, database.most);
    println!(
        "  {phase:8}{hits:>8}{waited:>8}{stale:>8}{errors:>8}{longest:>9} ms{queries:>10}{most:>11}"
    );
}
