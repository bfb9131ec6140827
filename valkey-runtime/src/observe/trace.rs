//! Spans of verbs and of loads, with the names that OpenTelemetry gives to the work of a database
//! client. Also the visibility of keys.
//!
//! Without a recorder of spans, no span is created: the check is one look at a number.

use crate::base::peer::Peer;
use crate::observe::answer::{About, Ending, Told};
use std::time::Duration;

use tracing::field::Empty;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::{Instrument, Level, Span};

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::warnings::{Detail, Topic, Warnings};
use crate::core::entry::Origin;
use crate::core::inner::view;
use crate::core::types::Type;
#[cfg(any(test, feature = "testing"))]
use crate::observe::record::Pending;

/// The subject of a verb with these keys.
pub(crate) fn about(keys: &[Vec<u8>]) -> About<'_> {
    match keys {
        [key] => About::Key(key),
        keys => About::Keys(keys),
    }
}

/// A verb that is observed, by a recorder of spans or by a test. It is rare, and boxed, so that the
/// futures of verbs have no room for it.
pub(crate) struct Watched(Box<Observed>);

struct Observed {
    span: Span,
    #[cfg(any(test, feature = "testing"))]
    call: Option<Pending>,
}

impl From<Span> for Watched {
    fn from(span: Span) -> Self {
        Self(Box::new(Observed {
            span,
            #[cfg(any(test, feature = "testing"))]
            call: None,
        }))
    }
}

view! {
    /// Opens the spans and records of calls.
    Tracer
}

impl<'a> Tracer<'a> {
    /// The span of a verb, which may be about entries of a type. `None` if nobody observes it.
    #[inline]
    pub(crate) fn span(
        self,
        operation: &'static str,
        of: Option<&Type>,
        about: About<'_>,
    ) -> Option<Watched> {
        #[cfg(any(test, feature = "testing"))]
        if self.records.any() {
            return Some(self.recorded(operation, of, about));
        }
        match may_be_recorded() {
            false => None,
            true => self.span_of(operation, of, about).map(Watched::from),
        }
    }

    /// Whether a span or a record of a verb may be made.
    #[inline]
    pub(crate) fn is_recording(self) -> bool {
        #[cfg(any(test, feature = "testing"))]
        if self.records.any() {
            return true;
        }
        may_be_recorded()
    }

    /// A verb that a test observes.
    #[cfg(any(test, feature = "testing"))]
    #[cold]
    fn recorded(self, operation: &'static str, of: Option<&Type>, about: About<'_>) -> Watched {
        let span = self.span_of(operation, of, about);
        let of = of.map(Type::name);
        Watched(Box::new(Observed {
            span: span.unwrap_or_else(Span::none),
            call: Pending::new(&self.records, &self.namespace, operation, of, about),
        }))
    }

    #[cold]
    fn span_of(self, operation: &'static str, of: Option<&Type>, about: About<'_>) -> Option<Span> {
        let target = of.map(Type::name);
        let keys = of.map_or(self.types.keys(), Type::keys);
        let key = |about| match about {
            About::Key(key) => keys.in_span(key),
            About::Keys(_) | About::Places(_) | About::Items(_) | About::All => None,
        };
        // A single operation is no batch.
        let batch = about.count().filter(|count| *count > 1);
        let Peer {
            address,
            port,
            database,
        } = &self.peer;
        let system = match address {
            Some(_) => "redis",
            None => "memory",
        };
        let span = tracing::debug_span!(
            target: "valkey_runtime",
            "valkey",
            "db.system.name" = system,
            "db.operation.name" = operation,
            "db.collection.name" = target,
            "db.namespace" = database.as_deref(),
            "db.operation.batch.size" = batch,
            "db.operation.parameter.key" = key(about).as_deref(),
            "db.response.returned_rows" = Empty,
            "server.address" = address.as_deref(),
            "server.port" = port,
            "error.type" = Empty,
            "valkey.namespace" = self.namespace.strip_suffix(':'),
            "otel.name" = named(operation, target),
            "otel.kind" = if address.is_some() { "client" } else { "internal" },
            "otel.status_code" = Empty,
        );
        (!span.is_disabled()).then_some(span)
    }
}

impl Type {
    /// The span of a load. A load that goes on beside its caller, in a task, is a trace of its own
    /// that follows from the caller's: as a child it would keep the caller's span open.
    #[inline]
    pub(crate) fn load_span(
        &self,
        keys: usize,
        beside: Option<&Span>,
        queued: Duration,
    ) -> Option<Span> {
        match may_be_recorded() {
            false => None,
            true => self.load_span_of(keys, beside, queued),
        }
    }

    #[cold]
    fn load_span_of(&self, keys: usize, beside: Option<&Span>, queued: Duration) -> Option<Span> {
        let parent = match beside {
            None => Span::current().id(),
            Some(_) => None,
        };
        let span = tracing::debug_span!(
            target: "valkey_runtime",
            parent: parent,
            "load",
            "db.collection.name" = self.name(),
            "db.operation.batch.size" = Some(keys).filter(|keys| *keys > 1),
            "valkey.load.queued_ms" = queued.as_millis() as u64,
            "error.type" = Empty,
            "otel.name" = named("load", Some(self.name())),
            "otel.kind" = "internal",
            "otel.status_code" = Empty,
        );
        if let Some(cause) = beside {
            span.follows_from(cause);
        }
        (!span.is_disabled()).then_some(span)
    }
}

fn named(operation: &str, target: Option<&str>) -> String {
    match target {
        Some(target) => format!("{operation} {target}"),
        None => operation.to_owned(),
    }
}

/// Whether spans of this level may be recorded, of any crate.
#[inline]
fn may_be_recorded() -> bool {
    Level::DEBUG <= STATIC_MAX_LEVEL && Level::DEBUG <= LevelFilter::current()
}

/// The number of rows: 1 for a value, 0 for none.
pub(crate) fn row<V, E>(result: &Result<Option<V>, E>) -> Option<usize> {
    let found = result.as_ref().ok()?;
    Some(usize::from(found.is_some()))
}

/// The number of values.
pub(crate) fn rows<V, E>(result: &Result<Vec<Option<V>>, E>) -> Option<usize> {
    Some(result.as_ref().ok()?.iter().flatten().count())
}

/// The origin of a loaded or found value.
pub(crate) fn source<V, E>(given: &Result<Option<(V, Origin)>, E>) -> Told {
    let given = given.as_ref().ok().and_then(Option::as_ref);
    Told::From(given.map(|(_, origin)| origin.source))
}

/// Runs some work in a span, and records its ending there.
pub(crate) async fn within<F: Future>(
    watched: impl Into<Watched>,
    work: F,
    ending: impl FnOnce(&F::Output) -> Ending,
) -> F::Output {
    let Watched(watched) = watched.into();
    let output = work.instrument(watched.span.clone()).await;
    let ending = ending(&output);
    ending.record(&watched.span);
    #[cfg(any(test, feature = "testing"))]
    if let Some(call) = watched.call {
        call.end(ending);
    }
    output
}

/// Runs some work, in a span if there is one. It is a macro, so that without a span the work is not
/// moved: that costs a comparison.
macro_rules! traced {
    ($span:expr, $work:expr, $ending:expr) => {
        match $span {
            None => $work.await,
            Some(span) => Box::pin($crate::observe::trace::within(span, $work, $ending)).await,
        }
    };
}
pub(crate) use traced;

impl Error {
    /// Logs a failure that is not returned to the caller. In a known outage that costs only misses,
    /// this is no warning.
    pub(crate) fn log(&self, warnings: &Warnings, of: Option<&str>, what: &'static str) {
        match self.is_refused() {
            true => tracing::debug!(
                "db.collection.name" = of,
                "db.operation.name" = self.operation(),
                "db.operation.parameter.key" = self.shown_key(),
                "error.type" = self.kind().as_str(),
                "{what}: {self}"
            ),
            false => self.warn(warnings, of, what),
        }
    }

    /// Logs a failure that is not returned to the caller and costs more than a miss. It is a
    /// warning even in a known outage.
    pub(crate) fn warn(&self, warnings: &Warnings, of: Option<&str>, what: &'static str) {
        let kind = Some(self.kind());
        warnings.warn(Topic { of, what, kind }, || Detail {
            operation: self.operation(),
            key: self.shown_key().map(str::to_owned),
            text: self.to_string(),
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::KeyTracing;
    use crate::base::shown_keys::ShownKeys;

    const KEY: &[u8] = b"user:42";

    /// The form of the key in spans, in failures, and in the method of an error: the key, its hash,
    /// or nothing.
    fn shown(keys: &ShownKeys) -> [&'static str; 3] {
        let what = |text: Option<&str>| match text {
            None => "",
            Some("user:42") => "key",
            Some(text) if text == keys.hashed(KEY) => "hash",
            Some(other) => panic!("{other}"),
        };
        let told = keys.told(KEY);
        let failure = keys.of_failure(KEY);
        assert_eq!(told.shown.as_deref(), failure.as_deref());
        [
            what(keys.in_span(KEY).as_deref()),
            what(failure.as_deref()),
            what(told.key.as_deref()),
        ]
    }

    #[test]
    fn a_key_is_shown_as_store_and_type_allow() {
        for (tracing, of_store, of_type_that_allows, of_alias) in [
            (
                KeyTracing::Hidden,
                ["", "hash", "key"],
                ["", "key", "key"],
                ["", "hash", "key"],
            ),
            (
                KeyTracing::Failures,
                ["", "key", "key"],
                ["", "key", "key"],
                ["", "hash", "key"],
            ),
            (
                KeyTracing::Plain,
                ["key", "key", "key"],
                ["key", "key", "key"],
                ["hash", "hash", "key"],
            ),
            (
                KeyTracing::Hashed,
                ["hash", "hash", "hash"],
                ["hash", "hash", "hash"],
                ["hash", "hash", "hash"],
            ),
            (KeyTracing::Off, ["", "", ""], ["", "", ""], ["", "", ""]),
        ] {
            let keys = ShownKeys::new(tracing);
            assert_eq!(shown(&keys), of_store, "{tracing:?}");
            let of_type = keys.of_type("user", false, false);
            assert_eq!(shown(&of_type), of_store, "{tracing:?}");
            let of_type = keys.of_type("user", true, false);
            assert_eq!(shown(&of_type), of_type_that_allows, "{tracing:?}");
            let alias = keys.of_type("user by email", true, true);
            assert_eq!(shown(&alias), of_alias, "{tracing:?}");
        }
        assert_eq!(KeyTracing::default(), KeyTracing::Hidden);
    }

    #[test]
    fn a_hash_stands_behind_its_type_and_is_the_stores_own() {
        let keys = ShownKeys::new(KeyTracing::Hidden);
        let user = keys.of_type("user", false, false);
        let hash = user.of_failure(KEY).unwrap();
        assert!(hash.starts_with("user#") && hash.len() == 21, "{hash}");
        assert_eq!(keys.of_failure(KEY).unwrap(), hash[4..]);
        assert_ne!(user.of_failure(b"user:43").unwrap(), hash);
        let other = ShownKeys::new(KeyTracing::Hidden);
        assert_ne!(other.of_failure(KEY).unwrap(), hash[4..]);
    }

    #[test]
    fn an_error_has_the_whole_key_for_who_asks() {
        let long = "k".repeat(1000);
        let keys = ShownKeys::new(KeyTracing::Failures);
        let told = keys.told(long.as_bytes());
        assert_eq!(told.key.as_deref(), Some(&*long));
        assert!(told.shown.unwrap().len() < 300);
    }
}
