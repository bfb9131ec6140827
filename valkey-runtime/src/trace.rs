//! Spans of verbs and of loads, named as OpenTelemetry names what a database client does; and where keys are shown.
//!
//! Nothing is made of a span that nobody records: whether anybody may is one look at a number.

use std::any::type_name;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tracing::field::Empty;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::{Instrument, Level, Span};

use crate::entry::Origin;
use crate::error::{self, printable};
use crate::limiter::{Decision, Verdict};
use crate::store::Inner;
use crate::tags::Place;
#[cfg(any(test, feature = "testing"))]
use crate::testing::Pending;
use crate::types::Type;
use crate::warnings::{Detail, Topic, Warnings};
use crate::{Error, Guard, Result, Source};

/// Where the keys of entries are shown: in spans, in log lines, and in the text of errors.
///
/// A key may be a secret, as a session's is, or say whom an entry is about, as one with an e-mail address does. So what is shown in
/// its place by default is its type and a hash, `session#5a81f6b2c9d0e374`, which tells that two lines are about one key.
///
/// | | spans | log lines, text of errors | [`Error::key`](crate::Error::key) |
/// |---|---|---|---|
/// | [`Hidden`](Self::Hidden), the default | | type and hash | the key |
/// | [`Failures`](Self::Failures) | | the key | the key |
/// | [`Plain`](Self::Plain) | the key | the key | the key |
/// | [`Hashed`](Self::Hashed) | type and hash | type and hash | type and hash |
/// | [`Off`](Self::Off) | | | |
///
/// A type whose keys are no secret says so by `#[cached(show_keys)]`: under `Hidden` it is treated as under `Failures`. The value that is
/// looked up by an alias is a secret always: where a key would be shown there is its hash.
///
/// The hash is one of this store: nobody finds out a key by trying, and another process has other hashes.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, KeyTracing, Store};
///
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct User { #[cached(key)] id: u64 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::builder().memory().trace_keys(KeyTracing::Failures).connect().await?;
/// store.close().await;
/// let error = User::get(&store, 42).await.err().unwrap();
/// assert_eq!(error.to_string(), "get user:42: closed: the store was closed");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyTracing {
    /// Nowhere, but for types that [allow it](crate::Policy::show_keys). Where something has failed, or is wrong, there are the
    /// type and a hash. [`Error::key`](crate::Error::key) is the key.
    #[default]
    Hidden,
    /// Only where something has failed, or is wrong, with the entry under it.
    Failures,
    /// In all of them.
    Plain,
    /// In none of them, but a hash in its place in all. [`Error::key`](crate::Error::key) is the hash, too.
    Hashed,
    /// Nowhere, nor a hash. [`Error::key`](crate::Error::key) is `None`.
    Off,
}

/// How a store shows its keys, or those of one of its types.
#[derive(Clone)]
pub(crate) struct ShownKeys {
    shown: KeyTracing,
    hasher: RandomState,
    /// What stands before a hash.
    of: Box<str>,
    /// Never to be shown plainly.
    secret: bool,
}

impl ShownKeys {
    pub(crate) fn new(shown: KeyTracing) -> Self {
        let hasher = RandomState::new();
        Self {
            shown,
            hasher,
            of: "".into(),
            secret: false,
        }
    }

    /// Those of a type, which may allow more than the store, or be one of aliases.
    pub(crate) fn of_type(&self, name: &str, allows: bool, is_alias: bool) -> Self {
        let shown = match self.shown {
            KeyTracing::Hidden if allows => KeyTracing::Failures,
            shown => shown,
        };
        Self {
            shown,
            hasher: self.hasher.clone(),
            of: name.into(),
            secret: is_alias,
        }
    }

    /// In a log line, or the text of an error.
    pub(crate) fn of_failure(&self, key: &[u8]) -> Option<String> {
        match self.shown {
            KeyTracing::Failures | KeyTracing::Plain if !self.secret => Some(printable(key)),
            KeyTracing::Off => None,
            _ => Some(self.hashed(key)),
        }
    }

    /// In an error.
    pub(crate) fn told(&self, key: &[u8]) -> error::Told {
        let shown = self.of_failure(key).map(String::into_boxed_str);
        let key = match self.shown {
            KeyTracing::Hidden | KeyTracing::Failures | KeyTracing::Plain => {
                Some(String::from_utf8_lossy(key).into())
            }
            KeyTracing::Hashed | KeyTracing::Off => shown.clone(),
        };
        error::Told { key, shown }
    }

    fn in_span(&self, key: &[u8]) -> Option<String> {
        match self.shown {
            KeyTracing::Plain if !self.secret => Some(printable(key)),
            KeyTracing::Plain | KeyTracing::Hashed => Some(self.hashed(key)),
            KeyTracing::Hidden | KeyTracing::Failures | KeyTracing::Off => None,
        }
    }

    fn hashed(&self, key: &[u8]) -> String {
        format!("{}#{:016x}", self.of, self.hasher.hash_one(key))
    }
}

/// Where a store's commands go, as spans say it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Host, path, or hosts; none in the process.
    pub(crate) address: Option<String>,
    /// Where there is one host.
    pub(crate) port: Option<u16>,
    pub(crate) database: Option<String>,
}

/// What a verb is about.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    Key(&'a [u8]),
    Keys(&'a [Vec<u8>]),
    Places(&'a [Place]),
    /// So many items of a batch, each a verb of its own.
    Items(usize),
    /// All keys there are.
    All,
}

/// What a verb with these keys is about.
pub(crate) fn about(keys: &[Vec<u8>]) -> About<'_> {
    match keys {
        [key] => About::Key(key),
        keys => About::Keys(keys),
    }
}

impl About<'_> {
    /// How many operations it is in one.
    fn count(self) -> Option<usize> {
        match self {
            About::Keys(keys) => Some(keys.len()),
            About::Places(places) => Some(places.len()),
            About::Items(count) => Some(count),
            About::Key(_) | About::All => None,
        }
    }
}

/// A verb that is watched: by who records spans, or by a test.
pub(crate) struct Watched {
    span: Span,
    #[cfg(any(test, feature = "testing"))]
    call: Option<Pending>,
}

impl From<Span> for Watched {
    fn from(span: Span) -> Self {
        Self {
            span,
            #[cfg(any(test, feature = "testing"))]
            call: None,
        }
    }
}

impl Inner {
    /// The span of a verb, which may be about entries of a type; `None` where nobody watches it.
    #[inline]
    pub(crate) fn span(
        &self,
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

    /// A verb that a test watches.
    #[cfg(any(test, feature = "testing"))]
    #[cold]
    fn recorded(&self, operation: &'static str, of: Option<&Type>, about: About<'_>) -> Watched {
        let span = self.span_of(operation, of, about);
        let of = of.map(Type::name);
        Watched {
            span: span.unwrap_or_else(Span::none),
            call: Pending::new(&self.records, &self.namespace, operation, of, about),
        }
    }

    #[cold]
    fn span_of(
        &self,
        operation: &'static str,
        of: Option<&Type>,
        about: About<'_>,
    ) -> Option<Span> {
        let target = of.map(Type::name);
        let keys = of.map_or(self.types.keys(), Type::keys);
        let key = |about| match about {
            About::Key(key) => keys.in_span(key),
            About::Keys(_) | About::Places(_) | About::Items(_) | About::All => None,
        };
        // One operation is no batch.
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
    /// The span of a load. A load that goes on beside its caller, in a task, is a trace of its own that follows from the caller's:
    /// as a child it would keep the caller's span open.
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

/// Whether there is anybody who records spans of this level, whosever they are.
#[inline]
fn may_be_recorded() -> bool {
    Level::DEBUG <= STATIC_MAX_LEVEL && Level::DEBUG <= LevelFilter::current()
}

/// How the work of a span ended.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ending {
    pub(crate) failure: Option<&'static str>,
    rows: Option<usize>,
    /// Asked for by the records of tests alone.
    #[cfg_attr(not(any(test, feature = "testing")), expect(dead_code))]
    pub(crate) told: Told,
}

/// What a verb tells its caller, for those records.
#[derive(Clone, Copy, Default)]
#[cfg_attr(not(any(test, feature = "testing")), expect(dead_code))]
pub(crate) enum Told {
    #[default]
    Nothing,
    Yes(bool),
    Count(u64),
    /// A value from there, or none.
    From(Option<Source>),
}

/// An answer of a verb.
pub(crate) trait Tells {
    fn told(&self) -> Told {
        Told::Nothing
    }
}

impl Tells for () {}

impl Tells for Guard {}

impl<R> Tells for Vec<Result<R>> {}

impl Tells for bool {
    fn told(&self) -> Told {
        Told::Yes(*self)
    }
}

impl Tells for Decision {
    fn told(&self) -> Told {
        Told::Yes(self.is_allowed())
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

    /// Of what fails with an error of the application's: its type stands for its kind.
    pub(crate) fn of_foreign<R, E>(result: &Result<R, E>) -> Self {
        Self {
            failure: result.is_err().then(type_name::<E>),
            ..Self::default()
        }
    }

    /// Of a loader that panicked.
    pub(crate) fn panicked() -> Self {
        Self {
            failure: Some("panic"),
            ..Self::default()
        }
    }

    /// Of what has a result each: the first failure counts.
    pub(crate) fn of_each<R>(results: &[Result<R>]) -> Self {
        let mut failures = results.iter().filter_map(|result| result.as_ref().err());
        Self {
            failure: failures.next().map(|error| error.kind().as_str()),
            ..Self::default()
        }
    }

    /// It gave so many values.
    pub(crate) fn with_rows(self, rows: Option<usize>) -> Self {
        Self { rows, ..self }
    }

    /// It told this.
    pub(crate) fn telling(self, told: Told) -> Self {
        Self { told, ..self }
    }

    fn record(self, span: &Span) {
        if let Some(failure) = self.failure {
            span.record("error.type", failure);
            span.record("otel.status_code", "ERROR");
        }
        if let Some(rows) = self.rows {
            span.record("db.response.returned_rows", rows);
        }
    }
}

/// Whether there is a value, as a number of rows.
pub(crate) fn row<V, E>(result: &Result<Option<V>, E>) -> Option<usize> {
    let found = result.as_ref().ok()?;
    Some(usize::from(found.is_some()))
}

/// How many values there are.
pub(crate) fn rows<V, E>(result: &Result<Vec<Option<V>>, E>) -> Option<usize> {
    Some(result.as_ref().ok()?.iter().flatten().count())
}

/// From where a value is that was loaded or found.
pub(crate) fn source<V, E>(given: &Result<Option<(V, Origin)>, E>) -> Told {
    let given = given.as_ref().ok().and_then(Option::as_ref);
    Told::From(given.map(|(_, origin)| origin.source))
}

/// Does some work in a span, which then says how it ended.
pub(crate) async fn within<F: Future>(
    watched: impl Into<Watched>,
    work: F,
    ending: impl FnOnce(&F::Output) -> Ending,
) -> F::Output {
    let watched = watched.into();
    let output = work.instrument(watched.span.clone()).await;
    let ending = ending(&output);
    ending.record(&watched.span);
    #[cfg(any(test, feature = "testing"))]
    if let Some(call) = watched.call {
        call.end(ending);
    }
    output
}

/// Does some work, in a span if there is one. A macro, so that without one the work is not moved: it costs a comparison.
macro_rules! traced {
    ($span:expr, $work:expr, $ending:expr) => {
        match $span {
            None => $work.await,
            Some(span) => Box::pin($crate::trace::within(span, $work, $ending)).await,
        }
    };
}
pub(crate) use traced;

impl Error {
    /// Logs a failure that its caller is not told. What an outage that is known already costs in misses alone is no warning.
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

    /// Logs a failure that its caller is not told and that costs more than a miss, also in an outage that is known already.
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
    use super::*;

    const KEY: &[u8] = b"user:42";

    /// What is shown of the key in spans and in failures, and what an error says to who asks: the key, its hash, or nothing.
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
