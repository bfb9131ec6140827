//! The subject of a verb, and its outcome.

use crate::base::error::Result;
use crate::core::entry::Source;
use crate::key::tag::Place;
use crate::protocol::rate::Verdict;
use std::any::type_name;
use tracing::Span;

/// The subject of a verb.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    Key(&'a [u8]),
    Keys(&'a [Vec<u8>]),
    Places(&'a [Place]),
    /// The number of items in a batch, each a verb of its own.
    Items(usize),
    /// All keys.
    All,
}

impl About<'_> {
    /// The number of operations in it.
    pub(crate) fn count(self) -> Option<usize> {
        match self {
            About::Keys(keys) => Some(keys.len()),
            About::Places(places) => Some(places.len()),
            About::Items(count) => Some(count),
            About::Key(_) | About::All => None,
        }
    }
}

/// The ending of a span's work.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ending {
    pub(crate) failure: Option<&'static str>,
    pub(crate) rows: Option<usize>,
    /// Used only by the records of tests.
    #[cfg_attr(not(any(test, feature = "testing")), expect(dead_code))]
    pub(crate) told: Told,
}

/// The answer of a verb to its caller, for those records.
#[derive(Clone, Copy, Default)]
#[cfg_attr(not(any(test, feature = "testing")), expect(dead_code))]
pub(crate) enum Told {
    #[default]
    Nothing,
    Yes(bool),
    Count(u64),
    /// A value of this origin, or none.
    From(Option<Source>),
}

/// An answer of a verb.
pub(crate) trait Tells {
    fn told(&self) -> Told {
        Told::Nothing
    }
}

impl Ending {
    pub(crate) fn of<R: Tells>(result: &Result<R>) -> Self {
        let (failure, told) = match result {
            Ok(answer) => (None, answer.told()),
            Err(error) => (Some(error.kind().as_str()), Told::Nothing),
        };
        let rows = None;
        Self {
            failure,
            rows,
            told,
        }
    }

    /// The ending of work that fails with an error of the application: the type of the error stands
    /// for its kind.
    pub(crate) fn of_foreign<R, E>(result: &Result<R, E>) -> Self {
        Self {
            failure: result.is_err().then(type_name::<E>),
            ..Self::default()
        }
    }

    /// The ending of a loader that panicked.
    pub(crate) fn panicked() -> Self {
        Self {
            failure: Some("panic"),
            ..Self::default()
        }
    }

    /// The ending of work with several results: the first failure counts.
    pub(crate) fn of_each<R>(results: &[Result<R>]) -> Self {
        let mut failures = results.iter().filter_map(|result| result.as_ref().err());
        Self {
            failure: failures.next().map(|error| error.kind().as_str()),
            ..Self::default()
        }
    }

    /// Adds the number of values.
    pub(crate) fn with_rows(self, rows: Option<usize>) -> Self {
        Self { rows, ..self }
    }

    /// Adds the answer.
    pub(crate) fn telling(self, told: Told) -> Self {
        Self { told, ..self }
    }

    pub(crate) fn record(self, span: &Span) {
        if let Some(failure) = self.failure {
            span.record("error.type", failure);
            span.record("otel.status_code", "ERROR");
        }
        if let Some(rows) = self.rows {
            span.record("db.response.returned_rows", rows);
        }
    }
}

impl Tells for () {}

impl<R> Tells for Vec<Result<R>> {}

impl Tells for bool {
    fn told(&self) -> Told {
        Told::Yes(*self)
    }
}

impl Tells for Verdict {
    fn told(&self) -> Told {
        Told::Yes(self.allowed)
    }
}

impl Tells for u64 {
    fn told(&self) -> Told {
        Told::Count(*self)
    }
}

/// A count.
impl Tells for i64 {
    fn told(&self) -> Told {
        u64::try_from(*self).map_or(Told::Nothing, Told::Count)
    }
}

impl<V> Tells for Option<V> {
    fn told(&self) -> Told {
        Told::Yes(self.is_some())
    }
}

impl<V> Tells for Vec<Option<V>> {
    fn told(&self) -> Told {
        Told::Count(self.iter().flatten().count() as u64)
    }
}
