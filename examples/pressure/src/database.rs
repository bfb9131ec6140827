//! The database, which counts its queries.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::sleep;

/// Its condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Calm,
    Slow,
    Down,
}

impl State {
    /// The duration of a query.
    pub(crate) const fn takes(self) -> Duration {
        Duration::from_millis(match self {
            State::Calm => 5,
            State::Slow => 100,
            State::Down => 20,
        })
    }
}

/// The database is down.
#[derive(Debug)]
pub(crate) struct Down;

#[derive(Default)]
pub(crate) struct Database(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    state: State,
    running: usize,
    counts: Counts,
}

/// The queries since this was last read.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) queries: usize,
    /// The most queries that ran at a time.
    pub(crate) most: usize,
}

impl Database {
    /// An article's price in cents.
    pub(crate) async fn price(&self, article: u32) -> Result<u64, Down> {
        let state = self.with(|inner| {
            inner.running += 1;
            inner.counts.queries += 1;
            inner.counts.most = inner.counts.most.max(inner.running);
            inner.state
        });
        sleep(state.takes()).await;
        self.with(|inner| inner.running -= 1);
        match state {
            State::Calm | State::Slow => Ok(100 * u64::from(article) + 99),
            State::Down => Err(Down),
        }
    }

    pub(crate) fn set(&self, state: State) {
        self.with(|inner| inner.state = state);
    }

    pub(crate) fn take(&self) -> Counts {
        self.with(|inner| std::mem::take(&mut inner.counts))
    }

    fn with<R>(&self, step: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.0.lock().expect("no step panics");
        step(&mut inner)
    }
}
