//! The telemetry of a store: counters by type, spans, log lines, metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use valkey_runtime::{BreakerState, Cached, ErrorKind, KeyTracing, ManualClock, Store};
use valkey_tests::{Proxy, Server};

use crate::database::until;
use crate::stores::{On, PLAIN, connect, patient};

suite! {
    @alone [crate::telemetry]
    callers_that_join_and_that_wait_for_another_process_are_counted
}

suite! {
    crate::telemetry =>
    operations_are_counted_by_type
    verbs_and_loads_have_spans
    keys_are_shown_only_where_the_setting_allows_it
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl_absent = "1m", alias = "email")]
struct User {
    #[cached(key)]
    id: u64,
    email: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "team")]
struct Team {
    #[cached(key)]
    id: u64,
}

fn user(id: u64) -> User {
    let email = format!("{id}@example.org");
    User { id, email }
}

async fn load(store: &Store, id: u64, row: Result<Option<User>, DbError>) {
    let given = User::get_or_load(store, id, async || row.clone()).await;
    assert_eq!(given, row);
}

/// Loads by a loader that takes a while. Returns how long the loader took, and the whole call.
async fn slow_load(
    store: &Store,
    id: u64,
    row: Result<Option<User>, DbError>,
) -> (Duration, Duration) {
    let (called, took) = (Instant::now(), Mutex::new(Duration::ZERO));
    let given = User::get_or_load(store, id, async || {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        *took.lock().unwrap() = began.elapsed();
        row.clone()
    });
    assert_eq!(given.await, row);
    (took.into_inner().unwrap(), called.elapsed())
}

#[derive(Clone, Debug, PartialEq)]
struct DbError;

async fn operations_are_counted_by_type(on: On) {
    let store = on.store("counted").await;
    assert_eq!(store.stats().types().count(), 0);
    user(1).set(&store).await.unwrap();
    User::get(&store, 1).await.unwrap();
    User::get_many(&store, [1, 2]).await.unwrap();
    let mut times = vec![
        slow_load(&store, 3, Ok(Some(user(3)))).await,
        slow_load(&store, 4, Ok(None)).await,
    ];
    User::get_or_load(&store, 4, async || {
        Err::<Option<User>, _>("it is known that there is none")
    })
    .await
    .unwrap();
    times.push(slow_load(&store, 5, Err(DbError)).await);
    Team::get(&store, 1).await.unwrap();
    let email = "1@example.org";
    assert!(User::get_by_email(&store, email).await.unwrap().is_none());

    let stats = store.stats();
    let names: Vec<_> = stats.types().map(|of| of.name()).collect();
    assert_eq!(names, ["team", "user", "user by email"]);
    let [team, users, by_email] = [0, 1, 2].map(|at| stats.types().nth(at).unwrap());
    assert_eq!((users.hits(), users.misses(), users.absences()), (2, 4, 1));
    assert_eq!((users.requests(), users.hit_ratio()), (7, Some(3.0 / 7.0)));
    assert_eq!((users.loads(), users.failed_loads()), (3, 1));
    let (loaders, calls): (Vec<Duration>, Vec<Duration>) = times.into_iter().unzip();
    // Each load is counted in whole microseconds.
    let rounded = Duration::from_micros(3);
    let longest = |times: &[Duration]| times.iter().copied().max().unwrap();
    let counted = users.longest_load();
    assert!(counted + rounded > longest(&loaders), "{counted:?}");
    assert!(counted <= longest(&calls), "{counted:?} of {calls:?}");
    let total = |times: &[Duration]| times.iter().sum::<Duration>();
    let counted = users.load_time();
    assert!(counted + rounded > total(&loaders), "{counted:?}");
    assert!(counted <= total(&calls), "{counted:?} of {calls:?}");
    assert_eq!((team.misses(), team.requests(), team.loads()), (1, 1, 0));
    assert_eq!((by_email.misses(), by_email.requests()), (1, 1));
    assert_eq!((stats.hits(), stats.misses(), stats.loads()), (2, 6, 3));

    // Two entries as long as each other, two readings of the one; and an absence that is shorter.
    let entry = users.read_bytes() / 2;
    assert!(users.written_bytes() > 2 * entry && users.written_bytes() < 3 * entry);
    assert_eq!((team.read_bytes(), team.written_bytes()), (0, 0));

    store.close().await;
    User::get(&store, 1).await.unwrap_err();
    Team::del(&store, 1).await.unwrap_err();
    store.ping().await.unwrap_err();
    let stats = store.stats();
    let of_types: Vec<_> = stats
        .types()
        .map(|of| of.errors(ErrorKind::Closed))
        .collect();
    assert_eq!(of_types, [1, 1, 0]);
    assert_eq!(stats.errors(ErrorKind::Closed), 3);
}

async fn callers_that_join_and_that_wait_for_another_process_are_counted() {
    let server = Server::plain();
    let stores = [connect(&server.url()).await, connect(&server.url()).await];
    let (begun, ends) = (Notify::new(), Notify::new());
    let leading = User::get_or_load(&stores[0], 1, async || {
        begun.notify_one();
        ends.notified().await;
        Ok::<_, ()>(user(1))
    });
    let others = async {
        begun.notified().await;
        let never = async || Err::<User, _>(());
        let ending = async {
            until("the other process waits", async || {
                stores[1].stats().waited() == 1
            })
            .await;
            // It goes on waiting, and is counted once.
            let looks = server.command_count("get");
            until("it looks three times more", async || {
                server.command_count("get") >= looks + 3
            })
            .await;
            ends.notify_one();
        };
        tokio::join!(
            User::get_or_load(&stores[0], 1, never),
            User::get_or_load(&stores[1], 1, never),
            ending
        )
    };
    let (led, (joined, waited, ())) = tokio::join!(leading, others);
    assert!(
        [led, joined, waited]
            .iter()
            .all(|given| *given == Ok(user(1)))
    );
    let counted = stores.map(|store| {
        let stats = store.stats();
        (stats.loads(), stats.coalesced(), stats.waited())
    });
    assert_eq!(counted, [(1, 1, 0), (0, 0, 1)]);
}

/// The spans and events that a subscriber gets on this thread.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    spans: Vec<Span>,
    /// Which span has the identity now.
    by_id: BTreeMap<u64, usize>,
    events: Vec<Fields>,
}

#[derive(Clone, Debug, Default)]
struct Span {
    name: &'static str,
    parent: Option<usize>,
    follows: Option<usize>,
    fields: Fields,
}

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: tracing::Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>> Layer<S>
    for Recording
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = context.span(id).and_then(|span| span.parent());
        let mut recorded = self.0.lock().unwrap();
        let parent = parent.map(|parent| recorded.by_id[&parent.id().into_u64()]);
        let at = recorded.spans.len();
        recorded.by_id.insert(id.into_u64(), at);
        recorded.spans.push(Span {
            name: attributes.metadata().name(),
            parent,
            follows: None,
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut recorded = self.0.lock().unwrap();
        let at = recorded.by_id[&id.into_u64()];
        values.record(&mut recorded.spans[at].fields);
    }

    fn on_follows_from(&self, id: &Id, cause: &Id, _: Context<'_, S>) {
        let mut recorded = self.0.lock().unwrap();
        let [at, cause] = [id, cause].map(|id| recorded.by_id[&id.into_u64()]);
        recorded.spans[at].follows = Some(cause);
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().events.push(fields);
    }
}

impl Recording {
    /// Records for as long as the returned value is kept.
    fn begin(&self) -> impl Sized + use<> {
        let subscriber = || tracing_subscriber::registry().with(self.clone());
        // See `Log::takes`.
        let second = tracing::Dispatch::new(subscriber());
        (second, tracing::subscriber::set_default(subscriber()))
    }

    fn take(&self) -> Vec<Span> {
        self.0.lock().unwrap().spans.clone()
    }

    /// All that was recorded.
    fn text(&self) -> String {
        let recorded = self.0.lock().unwrap();
        format!("{:?} {:?}", recorded.spans, recorded.events)
    }
}

impl Span {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.0.get(name).map(String::as_str)
    }
}

async fn verbs_and_loads_have_spans(on: On) {
    let store = on
        .builder()
        .namespace("spans")
        .trace_keys(KeyTracing::Plain);
    let store = store.connect().await.unwrap();
    let recording = Recording::default();
    let _recorded = recording.begin();
    user(1).set(&store).await.unwrap();
    User::get(&store, 1).await.unwrap();
    User::get_many(&store, [1, 2]).await.unwrap();
    load(&store, 3, Err(DbError)).await;
    store.close().await;
    User::get(&store, 1).await.unwrap_err();

    let spans = recording.take();
    let names: Vec<_> = spans
        .iter()
        .map(|span| span.field("otel.name").unwrap())
        .collect();
    let verbs = ["set user", "get user", "get_many user", "get_or_load user"];
    assert_eq!(names, [&verbs[..], &["load user", "get user"]].concat());
    let [set, get, many, loading, load, closed] = &spans[..] else {
        panic!("{spans:?}");
    };
    for verb in [set, get, many, loading, closed] {
        let is = |name, value: Option<&str>| {
            assert_eq!(verb.field(name), value, "{name} of {verb:?}");
        };
        assert_eq!((verb.name, verb.parent), ("valkey", None));
        let location = store.location();
        let (system, kind, database) = match on {
            On::Memory => ("memory", "internal", None),
            _ => ("redis", "client", Some("0")),
        };
        is("db.system.name", Some(system));
        is("otel.kind", Some(kind));
        is("db.namespace", database);
        is("db.collection.name", Some("user"));
        is("valkey.namespace", Some("spans"));
        let address = verb.field("server.address");
        let told = match verb.field("server.port") {
            Some(port) => format!("{}:{port}", address.unwrap()),
            None => address.unwrap_or("this process").to_owned(),
        };
        assert_eq!(told, location);
    }
    assert_eq!(get.field("db.operation.name"), Some("get"));
    assert_eq!(
        get.field("db.operation.parameter.key"),
        Some("spans:user:1")
    );
    assert_eq!(get.field("db.response.returned_rows"), Some("1"));
    assert_eq!(get.field("db.operation.batch.size"), None);
    assert_eq!(
        (get.field("error.type"), get.field("otel.status_code")),
        (None, None)
    );
    assert_eq!(many.field("db.operation.batch.size"), Some("2"));
    assert_eq!(many.field("db.response.returned_rows"), Some("1"));
    assert_eq!(many.field("db.operation.parameter.key"), None);

    assert_eq!((load.name, load.parent), ("load", Some(3)));
    assert_eq!(load.field("otel.kind"), Some("internal"));
    let failure = std::any::type_name::<DbError>();
    assert_eq!(load.field("error.type"), Some(failure));
    assert_eq!(loading.field("error.type"), Some(failure));
    assert_eq!(closed.field("error.type"), Some("closed"));
    assert_eq!(closed.field("otel.status_code"), Some("ERROR"));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "ahead", ttl = "1m", jitter = "0%", refresh_ahead = "50%")]
struct Ahead {
    #[cached(key)]
    id: u64,
}

#[tokio::test]
async fn a_load_beside_its_caller_is_a_trace_that_follows_from_it() {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    let store = store.connect().await.unwrap();
    Ahead { id: 1 }.set(&store).await.unwrap();
    clock.advance(Duration::from_secs(40));
    let recording = Recording::default();
    let _recorded = recording.begin();
    let loaded = Arc::new(Notify::new());
    let ending = loaded.clone();
    store
        .of::<Ahead>()
        .load(1)
        .in_background()
        .run(move || async move {
            ending.notify_one();
            Ok::<_, ()>(Ahead { id: 1 })
        })
        .await
        .unwrap();
    loaded.notified().await;
    let spans = recording.take();
    let [call, load] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(call.field("otel.name"), Some("get_or_load ahead"));
    assert_eq!(
        (load.name, load.parent, load.follows),
        ("load", None, Some(0))
    );
    assert_eq!(store.stats().refreshes(), 1);
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "secret",
    ttl_absent = "1m",
    on_corrupt = "error",
    version = 1
)]
struct Secret {
    #[cached(key)]
    name: String,
    row: u32,
}

/// The same keys, and another layout.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "secret", version = 1)]
struct Other {
    #[cached(key)]
    name: String,
    row: String,
}

const SECRET: &str = "ada-lovelace";

/// Does all kinds of things, well and in vain, and returns the texts that the application gets.
async fn tell_all(store: &Store) -> String {
    let mut told = Vec::new();
    let other = || Other {
        name: SECRET.into(),
        row: "one".into(),
    };
    let row = || Secret {
        name: SECRET.into(),
        row: 1,
    };
    let update = async || Ok::<_, ()>(());
    other().set(store).await.unwrap();
    told.push(Secret::get(store, SECRET).await.err());
    other().set(store).await.unwrap();
    Secret::get_or_load(store, SECRET, async || Ok::<_, ()>(row()))
        .await
        .unwrap();
    let guard = store.of::<Secret>().update(SECRET).guard().await.unwrap();
    let shown = format!("{guard:?}");
    guard.release().await.unwrap();
    Secret::update(store, SECRET, update).await.unwrap();
    store.close().await;
    told.push(Secret::get(store, SECRET).await.err());
    told.push(Secret::get_many(store, [SECRET, "x"]).await.err());
    told.push(Secret::del(store, SECRET).await.err());
    told.push(Secret::del_many(store, [SECRET, "x"]).await.err());
    drop(store.of::<Secret>().update(SECRET).guard().await.unwrap());
    told.push(row().set(store).await.err());
    told.extend(
        store
            .batch()
            .set(&row())
            .del::<Secret>(SECRET)
            .send()
            .await
            .into_iter()
            .map(Result::err),
    );
    Secret::get_or_load(store, SECRET, async || Ok::<_, ()>(row()))
        .await
        .unwrap();
    Secret::update(store, SECRET, update).await.unwrap();
    assert!(told.iter().all(Option::is_some), "{told:?}");
    let errors = told
        .iter()
        .flatten()
        .map(|error| format!("{error} {error:?}"));
    format!("{shown} {}", errors.collect::<Vec<_>>().join("\n"))
}

async fn keys_are_shown_only_where_the_setting_allows_it(on: On) {
    for (keys, in_spans, in_failures) in [
        (KeyTracing::Hidden, false, false),
        (KeyTracing::Failures, false, true),
        (KeyTracing::Plain, true, true),
        (KeyTracing::Hashed, false, false),
        (KeyTracing::Off, false, false),
    ] {
        let namespace = format!("told-{}", format!("{keys:?}").to_lowercase());
        let builder = on.builder().namespace(&namespace).trace_keys(keys);
        let store = builder.connect().await.unwrap();
        let recording = Recording::default();
        let recorded = recording.begin();
        let told = tell_all(&store).await;
        drop(recorded);
        assert_eq!(told.contains(SECRET), in_failures, "{keys:?}: {told}");
        let spans = recording.take();
        assert!(spans.len() > 10, "{spans:?}");
        assert_eq!(
            format!("{spans:?}").contains(SECRET),
            in_spans,
            "{keys:?}: {spans:?}"
        );
        let text = recording.text();
        assert!(text.contains("a corrupt entry"), "{text}");
        assert_eq!(text.contains(SECRET), in_failures, "{keys:?}: {text}");
    }
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "public", show_keys, alias = "email")]
struct Public {
    #[cached(key)]
    id: u64,
    email: String,
}

/// A service may print errors without a thought: they contain no token of a session, and no e-mail
/// by which somebody was looked up.
#[tokio::test]
async fn by_default_a_text_has_type_and_hash_and_error_key_gives_the_key() {
    let store = Store::builder().memory().namespace("shop");
    let store = store.connect().await.unwrap();
    store.close().await;
    let error = Secret::get(&store, SECRET).await.unwrap_err();
    let text = error.to_string();
    let hash = text.strip_prefix("get secret#").unwrap();
    let (hash, rest) = hash.split_at(16);
    assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    assert_eq!(rest, ": closed: the store was closed");
    assert_eq!(error.key(), Some("shop:secret:ada-lovelace"));
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");

    // The type has no secrets, but its alias is one.
    let error = Public::get(&store, 42).await.unwrap_err();
    assert!(error.to_string().starts_with("get shop:public:42: closed"));
    let error = Public::get_by_email(&store, "ada@example.org")
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("get public by email#"),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains("ada@"), "{error:?}");
    assert_eq!(error.key(), Some("shop::public:email:ada@example.org"));
}

/// A store that shows its keys shows no alias.
#[tokio::test]
async fn an_alias_is_a_secret_wherever_keys_are_shown() {
    for keys in [
        KeyTracing::Hidden,
        KeyTracing::Failures,
        KeyTracing::Plain,
        KeyTracing::Hashed,
        KeyTracing::Off,
    ] {
        let store = Store::builder().memory().trace_keys(keys).connect();
        let store = store.await.unwrap();
        let recording = Recording::default();
        let recorded = recording.begin();
        let email = "ada@example.org";
        let found = async || Ok::<_, ()>(Some(42));
        let load = async |id| {
            Ok::<_, ()>(Some(Public {
                id,
                email: email.into(),
            }))
        };
        let by_email = Public::load_by_email(&store, email).run(found, load);
        by_email.await.unwrap().unwrap();
        store.faults().fail_all(ErrorKind::Timeout);
        let told = Public::get_by_email(&store, email).await.unwrap_err();
        let by_email = Public::load_by_email(&store, email).run(found, load);
        by_email.await.unwrap().unwrap();
        drop(recorded);
        let text = format!("{told} {told:?} {}", recording.text());
        assert!(text.contains("timeout") && !text.contains("ada@"), "{text}");
    }
}

#[tokio::test]
async fn a_hash_tells_keys_apart_within_a_store_and_not_beyond() {
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let builder = Store::builder().memory().trace_keys(KeyTracing::Hashed);
        let store = builder.connect().await.unwrap();
        store.close().await;
        for id in [1, 1, 2] {
            let error = User::get(&store, id).await.unwrap_err();
            hashes.push(error.key().unwrap().to_owned());
        }
    }
    let [one, again, two, beyond, ..] = &hashes[..] else {
        panic!("{hashes:?}");
    };
    assert_eq!(one, again);
    assert!(one != two && one != beyond, "{hashes:?}");
}

/// A recorder of what a store publishes: counters and gauges by name and labels, and how often a
/// histogram was told something.
#[derive(Default)]
struct Metrics {
    numbers: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    described: Mutex<Vec<String>>,
}

struct Tellings(Arc<AtomicU64>);

impl HistogramFn for Tellings {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Metrics {
    fn number(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        self.numbers
            .lock()
            .unwrap()
            .entry(name)
            .or_default()
            .clone()
    }

    fn read(&self, name: &str) -> Option<u64> {
        Some(self.numbers.lock().unwrap().get(name)?.load(SeqCst))
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described.lock().unwrap().push(key.as_str().to_owned());
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe_counter(key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe_counter(key, unit, text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Tellings(self.number(key))))
    }
}

/// The store is opened, and used, before there is a recorder.
#[tokio::test]
async fn metrics_are_what_the_statistics_say_whenever_a_recorder_comes() {
    let store = On::Plain.store("metrics").await;
    user(1).set(&store).await.unwrap();
    User::get(&store, 1).await.unwrap();
    let recorder = Metrics::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    load(&store, 2, Ok(Some(user(2)))).await;
    store.publish_metrics();
    let of = format!("store={}/metrics", store.location());
    let is = |name: &str, labels: &str, number: u64| {
        let name = format!("{name} {of}{labels}");
        assert_eq!(
            recorder.read(&name),
            Some(number),
            "{name}: {:?}",
            recorder.numbers
        );
    };
    let stats = store.stats();
    is("valkey_requests_total", " type=user outcome=hit", 1);
    is("valkey_requests_total", " type=user outcome=miss", 1);
    is("valkey_requests_total", " type=user outcome=absence", 0);
    is("valkey_loads_total", " type=user", 1);
    is("valkey_load_duration_seconds", " type=user", 1);
    is("valkey_read_bytes_total", " type=user", stats.read_bytes());
    is(
        "valkey_written_bytes_total",
        " type=user",
        stats.written_bytes(),
    );
    is("valkey_breaker_state", " state=closed", 1.0_f64.to_bits());
    is("valkey_breaker_state", " state=open", 0.0_f64.to_bits());
    assert_eq!(stats.breaker(), BreakerState::Closed);

    // Counts that were published are not published again.
    User::get(&store, 1).await.unwrap();
    store.publish_metrics();
    store.publish_metrics();
    is("valkey_requests_total", " type=user outcome=hit", 2);

    store.close().await;
    User::get(&store, 1).await.unwrap_err();
    store.ping().await.unwrap_err();
    store.publish_metrics();
    is("valkey_errors_total", " type=user kind=closed", 1);
    is("valkey_errors_total", " type= kind=closed", 1);

    let described = recorder.described.lock().unwrap();
    for name in recorder.numbers.lock().unwrap().keys() {
        let (name, _) = name.split_once(' ').unwrap();
        assert!(
            described.iter().any(|one| one == name),
            "{name} is not described"
        );
        assert!(
            name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{name}"
        );
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "narrow", max_loads = 1)]
struct Narrow {
    #[cached(key)]
    id: u64,
}

/// One load runs for two seconds of stopped time, and another one waits for its turn.
#[tokio::test(start_paused = true)]
async fn a_queue_of_loads_is_in_metrics_and_spans() {
    let recorder = Metrics::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    let recording = Recording::default();
    let _recorded = recording.begin();
    let store = Store::memory();
    let number = |name: &str| {
        let begins = format!("{name} ");
        let numbers = recorder.numbers.lock().unwrap();
        let found = numbers
            .iter()
            .find(|(key, _)| key.starts_with(&begins) && key.ends_with(" type=narrow"));
        let Some((_, number)) = found else {
            panic!("no {name} among {numbers:?}");
        };
        number.load(SeqCst)
    };
    let gauges = || {
        let gauges = ["valkey_loads_running", "valkey_loads_queued"];
        gauges.map(|name| f64::from_bits(number(name)))
    };
    let begun = Notify::new();
    let running = async {
        let load = async || {
            begun.notify_one();
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<_, ()>(Narrow { id: 1 })
        };
        Narrow::get_or_load(&store, 1, load).await.unwrap()
    };
    let queued = async {
        begun.notified().await;
        let load = async || Ok::<_, ()>(Narrow { id: 2 });
        Narrow::get_or_load(&store, 2, load).await.unwrap()
    };
    let looking = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.publish_metrics();
        gauges()
    };
    let (_, _, seen) = tokio::join!(running, queued, looking);
    assert_eq!(seen, [1.0, 1.0]);
    store.publish_metrics();
    assert_eq!(gauges(), [0.0, 0.0]);
    assert_eq!(number("valkey_queued_loads_total"), 1);
    assert_eq!(number("valkey_queue_microseconds_total"), 2_000_000);

    let spans = recording.take();
    let loads = spans.iter().filter(|span| span.name == "load");
    let waited: Vec<_> = loads
        .map(|span| span.field("valkey.load.queued_ms"))
        .collect();
    assert_eq!(waited, [Some("0"), Some("2000")]);
}

/// Stores that share their labels add up.
#[tokio::test]
async fn stores_of_one_name_share_their_counters() {
    let recorder = Metrics::default();
    let _local = metrics::set_default_local_recorder(&recorder);
    for _ in 0..2 {
        let store = On::Plain.store("shared-metrics").await;
        Team::get(&store, 1).await.unwrap();
        store.publish_metrics();
    }
    let name = format!(
        "valkey_requests_total store={}/shared-metrics type=team outcome=miss",
        PLAIN.store_builder().connect().await.unwrap().location()
    );
    assert_eq!(recorder.read(&name), Some(2));
}

/// The texts of the lines at this level.
fn lines(log: &crate::faults::Log, level: &str) -> Vec<String> {
    let text = log.text();
    let lines = text.lines().filter(|line| line.contains(level));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_warning_that_repeats_is_a_number_once_a_minute() {
    let log = crate::faults::Log::default();
    let _taken = log.takes();
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    let store = store.connect().await.unwrap();
    let fail = || async {
        store.faults().fail_next(ErrorKind::Timeout);
        load(&store, 1, Err(DbError)).await;
    };
    for _ in 0..100 {
        fail().await;
    }
    let warnings = lines(&log, "WARN");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("the cache could not be read: "));
    assert_eq!(
        store.stats().errors(ErrorKind::Timeout),
        100,
        "counted each"
    );

    clock.advance(Duration::from_secs(61));
    fail().await;
    let warnings = lines(&log, "WARN");
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings[1].contains("(99 more in 61 s)"), "{warnings:#?}");
    assert!(warnings[1].contains("repeated=99"), "{warnings:#?}");

    fail().await;
    assert_eq!(lines(&log, "WARN").len(), 2);
    store.close().await;
    let warnings = lines(&log, "WARN");
    assert_eq!(
        warnings.len(),
        3,
        "the remaining count is logged at the end"
    );
    assert!(
        warnings[2].contains("the cache could not be read (1 more in 0 s)"),
        "{warnings:#?}"
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "kept", ttl = "1h", keep_corrupt)]
struct Kept {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// The same keys, and another layout.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "kept", ttl = "1h")]
struct Impostor {
    #[cached(key)]
    id: u64,
    row: String,
}

#[tokio::test]
async fn a_corrupt_entry_that_stays_is_a_number_once_a_minute() {
    let log = crate::faults::Log::default();
    let _taken = log.takes();
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    let store = store.connect().await.unwrap();
    let row = "not a number".into();
    Impostor { id: 1, row }.set(&store).await.unwrap();
    for _ in 0..100 {
        assert_eq!(Kept::get(&store, 1).await.unwrap(), None);
    }
    let warnings = lines(&log, "WARN");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    clock.advance(Duration::from_secs(61));
    assert_eq!(Kept::get(&store, 1).await.unwrap(), None);
    let warnings = lines(&log, "WARN");
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(!warnings[0].contains("repeated="), "{warnings:#?}");
    assert!(warnings[1].contains("repeated=99"), "{warnings:#?}");
    for line in &warnings {
        assert!(
            line.contains("db.collection.name=\"kept\"") && line.contains("error.type=\"corrupt\""),
            "{line}"
        );
    }
    assert_eq!(store.stats().corrupt(), 101, "counted each");
}

#[tokio::test]
async fn a_connection_that_is_tried_again_and_again_is_a_number_once_a_minute() {
    let log = crate::faults::Log::default();
    let _taken = log.takes();
    let (clock, proxy) = (Arc::new(ManualClock::new()), Proxy::to(PLAIN.addr()));
    let builder = patient(Store::builder().url(&proxy.url())).clock(clock.clone());
    let store = builder.connect().await.unwrap();
    let failed = |level| {
        let mut lines = lines(&log, level);
        lines.retain(|line| line.contains("error.type=\"connection\""));
        lines
    };
    assert_eq!(failed("WARN").len(), 0);
    proxy.refuse();
    proxy.cut();
    // An attempt that is only counted has a line at `debug`.
    until("it is tried again and again", async || {
        failed("DEBUG").len() >= 4
    })
    .await;
    let warnings = failed("WARN");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    // No attempt is made meanwhile: all of it runs in this thread, which does not wait here.
    let repeated = format!("repeated={}", failed("DEBUG").len());
    clock.advance(Duration::from_secs(61));
    until("a minute is over", async || failed("WARN").len() >= 2).await;
    let warnings = failed("WARN");
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(!warnings[0].contains("repeated="), "{warnings:#?}");
    assert!(warnings[1].contains(&repeated), "{repeated}: {warnings:#?}");
    drop(store);
}
