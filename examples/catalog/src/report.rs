//! The counters, and the layout of their report.

#![allow(clippy::print_stdout, reason = "output is what this program is for")]

use std::fmt::Display;

use valkey_runtime::{Stats, Store};

use crate::database::{Asked, Database};

/// Prints the counters of the store and of the database since the previous line.
pub(crate) struct Report<'a> {
    store: &'a Store,
    database: &'a Database,
    before: (Stats, Asked),
}

impl<'a> Report<'a> {
    pub(crate) fn begin(store: &'a Store, database: &'a Database) -> Self {
        println!("A catalog of 240 products, in {}.", store.location());
        println!(
            "\n{:46}{:>7}{:>8}{:>10}{:>9}{:>6}",
            "", "hits", "misses", "absences", "queries", "rows"
        );
        let before = (store.stats(), database.asked());
        Self {
            store,
            database,
            before,
        }
    }

    pub(crate) fn line(&mut self, done: impl Display) {
        let now = (self.store.stats(), self.database.asked());
        let since = |count: fn(&Stats) -> u64| count(&now.0) - count(&self.before.0);
        let [hits, misses, absences] = [Stats::hits, Stats::misses, Stats::absences].map(since);
        let [queries, rows] = [
            now.1.queries - self.before.1.queries,
            now.1.rows - self.before.1.rows,
        ];
        println!("{done:<46}{hits:>7}{misses:>8}{absences:>10}{queries:>9}{rows:>6}");
        self.before = now;
    }
}
