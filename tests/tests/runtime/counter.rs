//! Counters, over every backend.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use valkey_runtime::counter::{Counter, CounterBatch};
use valkey_runtime::testing::{self, Fault, Outcome, Request};
use valkey_runtime::{Error, ErrorKind, Store, Ttl};
use valkey_tests::Server;
use valkey_tests::resp::Value;

use crate::relay::{BEHIND, Relay};
use crate::stores::{On, connect, patient};

suite! {
    crate::counter =>
    no_addition_is_lost
    a_counter_is_added_to_read_and_reset
    a_sum_that_does_not_fit_is_an_error_and_changes_nothing
    a_batch_does_each_item_by_itself_and_in_order
    an_answer_that_is_missing_is_an_error_and_no_zero
}

fn counter(name: &str) -> Counter<u64> {
    Counter::builder(name).build().unwrap()
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// 30 tasks on two stores, as two processes have them.
pub(crate) async fn no_addition_is_lost(on: On) {
    let one = on.store("count-sum").await;
    let other = match on {
        On::Memory => one.clone(),
        _ => on.store("count-sum").await,
    };
    let views = counter("views");
    views.reset(&one, 42).await.unwrap();
    let tasks = (0..30).map(|task| {
        let (views, store) = (views.clone(), [&one, &other][task % 2].clone());
        tokio::spawn(async move {
            for _ in 0..50 {
                views.add(&store, 42, 1).await.unwrap();
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    assert_eq!(views.get(&one, 42).await.unwrap(), 1500);
}

pub(crate) async fn a_counter_is_added_to_read_and_reset(on: On) {
    let store = on.store("count-verbs").await;
    let sold = Counter::<(u32, String)>::builder("sold").build().unwrap();
    for key in [(7, "tea"), (7, "te:a")] {
        sold.reset(&store, key).await.unwrap();
        assert_eq!(sold.get(&store, key).await.unwrap(), 0);
        assert_eq!(sold.add(&store, key, 3).await.unwrap(), 3);
        assert_eq!(sold.add(&store, key, -5).await.unwrap(), -2);
        assert_eq!(sold.add(&store, key, 0).await.unwrap(), -2);
        assert_eq!(sold.get(&store, key).await.unwrap(), -2);
    }
    assert_eq!(sold.reset(&store, (7, "tea")).await.unwrap(), -2);
    let counts = sold.get_many(&store, [(7, "tea"), (7, "te:a")]).await;
    assert_eq!(counts.unwrap(), [0, -2]);
    on.forget_scripts();
    assert_eq!(sold.add(&store, (7, "tea"), 1).await.unwrap(), 1);
    let none: [(u32, &str); 0] = [];
    assert_eq!(sold.get_many(&store, none).await.unwrap(), [0; 0]);
}

pub(crate) async fn a_sum_that_does_not_fit_is_an_error_and_changes_nothing(on: On) {
    let store = on.store("count-overflow").await;
    let count = counter("large");
    for (key, most, more) in [(1, i64::MAX, 1), (2, i64::MIN, -1)] {
        count.reset(&store, key).await.unwrap();
        assert_eq!(count.add(&store, key, most).await.unwrap(), most);
        let error = count.add(&store, key, more).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        assert!(text.starts_with("add large#"), "{text}");
        assert!(text.contains("nothing was added"), "{text}");
        assert_eq!(count.get(&store, key).await.unwrap(), most);
        assert_eq!(count.add(&store, key, -more).await.unwrap(), most - more);
    }
    assert_eq!(store.stats().errors(ErrorKind::TooLarge), 2);
}

pub(crate) async fn a_batch_does_each_item_by_itself_and_in_order(on: On) {
    let store = on.store("count-batch").await;
    let (views, sold) = (counter("views"), Counter::<String>::builder("sold"));
    let sold = sold.ttl(Duration::from_secs(3600)).build().unwrap();
    let keys = 0..200;
    let mut batch = CounterBatch::new();
    for key in keys.clone() {
        batch = batch.reset(&views, key).add(&sold, &format!("p{key}"), 1);
    }
    assert_eq!((batch.len(), batch.is_empty()), (400, false));
    let counts: Result<Vec<i64>, _> = batch.send(&store).await.into_iter().collect();
    counts.unwrap();
    views.add(&store, 7, i64::MAX).await.unwrap();
    let mut batch = CounterBatch::new();
    for key in keys.clone() {
        batch = batch.add(&views, key, 2);
    }
    let batch = batch.add(&views, 8, 3).get(&views, 8).reset(&views, 8);
    on.forget_scripts();
    let counts = batch.get(&views, 8).send(&store).await;
    for (key, count) in counts.iter().enumerate().take(200) {
        match key {
            7 => assert_eq!(kind(count.clone()), Some(ErrorKind::TooLarge)),
            _ => assert_eq!(count.clone().unwrap(), 2, "{key}"),
        }
    }
    let last: Vec<_> = counts[200..]
        .iter()
        .map(|count| count.clone().unwrap())
        .collect();
    assert_eq!(last, [5, 5, 5, 0]);
    assert!(CounterBatch::new().send(&store).await.is_empty());
    let read = views.get_many(&store, keys).await.unwrap();
    assert_eq!(read[6..=8], [2, i64::MAX, 0]);
}

pub(crate) async fn an_answer_that_is_missing_is_an_error_and_no_zero(on: On) {
    let store = on.store("count-off").await;
    let count = counter("off");
    count.reset(&store, 1).await.unwrap();
    count.add(&store, 1, 5).await.unwrap();
    let each = async || {
        let batch = CounterBatch::new().add(&count, 1, 1).get(&count, 1);
        let mut kinds = vec![
            kind(count.get(&store, 1).await),
            kind(count.add(&store, 1, 1).await),
            kind(count.reset(&store, 1).await),
            kind(count.get_many(&store, [1, 2]).await),
        ];
        kinds.extend(batch.send(&store).await.into_iter().map(kind));
        kinds
    };
    store.set_enabled(false);
    assert_eq!(each().await, [Some(ErrorKind::Disabled); 6]);
    store.set_enabled(true);
    store.faults().take_down();
    assert_eq!(each().await, [Some(ErrorKind::Connection); 6]);
    let error = count.add(&store, 1, 1).await.unwrap_err();
    assert!(error.is_refused(), "it was not sent: {error}");
    store.faults().recover();
    assert_eq!(
        count.get(&store, 1).await.unwrap(),
        5,
        "nothing was counted"
    );

    // The outcome is unknown to the caller, and nothing counts it again.
    let lost = Fault::lost_reply().on(Request::Count);
    store.faults().fail_next(lost);
    let error = count.add(&store, 1, 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_refused()),
        (ErrorKind::Timeout, false)
    );
    store.settled().await;
    assert_eq!(count.get(&store, 1).await.unwrap(), 6);

    store.close().await;
    assert_eq!(each().await, [Some(ErrorKind::Closed); 6]);
}

async fn what_is_no_counter_is_an_error_and_stays(on: On) {
    let store = on.store("count-foreign").await;
    let count = counter("foreign");
    let key = "count-foreign:::count:foreign:1";
    let plants: [&[&str]; 3] = [
        &["SET", key, "what?"],
        &["SET", key, "007"],
        &["RPUSH", key, "1"],
    ];
    for plant in plants {
        on.raw(&["DEL", key]);
        on.raw(plant);
        for error in [
            count.get(&store, 1).await,
            count.add(&store, 1, 1).await,
            count.reset(&store, 1).await,
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(
                error
                    .to_string()
                    .contains("holds something else than a counter"),
                "{error}"
            );
            assert!(!error.to_string().contains("what?"), "{error}");
            assert_eq!(error.key(), Some(key));
        }
        assert_eq!(on.raw(&["EXISTS", key]), Value::Integer(1), "{plant:?}");
    }
    on.raw(&["DEL", key]);
}

#[tokio::test]
async fn what_is_no_counter_on_a_server_is_an_error_and_stays() {
    what_is_no_counter_is_an_error_and_stays(On::Plain).await;
}

#[tokio::test]
async fn what_is_no_counter_on_a_cluster_is_an_error_and_stays() {
    what_is_no_counter_is_an_error_and_stays(On::Cluster).await;
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_counter_ends_as_its_rule_says() {
    let (store, clock) = testing::memory();
    let first = Counter::<u64>::builder("first").ttl(HOUR).build().unwrap();
    let last = Counter::<u64>::builder("last").ttl(HOUR).sliding();
    let last = last.build().unwrap();
    let window = Counter::<u64>::builder("window")
        .window(HOUR)
        .build()
        .unwrap();
    let for_ever = counter("ever");
    let counts = async || {
        let mut counts = Vec::new();
        for counter in [&first, &last, &window, &for_ever] {
            counts.push(counter.get(&store, 1).await.unwrap());
        }
        counts
    };
    // The clock begins at a full hour.
    for (minutes, expected) in [
        (0, [1, 1, 1, 1]),
        (59, [2, 2, 2, 2]),
        (1, [1, 3, 1, 3]),
        (30, [2, 4, 2, 4]),
        (30, [1, 5, 1, 5]),
        (60, [1, 1, 1, 6]),
    ] {
        clock.advance(Duration::from_secs(60 * minutes));
        for counter in [&first, &last, &window, &for_ever] {
            counter.add(&store, 1, 1).await.unwrap();
        }
        assert_eq!(counts().await, expected, "{minutes}");
    }
    clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(counts().await, [1, 1, 1, 6]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(counts().await, [0, 0, 0, 6]);
}

async fn a_counter_is_a_number_that_expires(on: On) {
    let store = on.store("count-bytes").await;
    let builder = || Counter::<u64>::builder("a:b");
    let day = Duration::from_secs(86_400);
    let key = "count-bytes:::count:a%3Ab:7";
    let left = || match on.raw(&["PTTL", key]) {
        Value::Integer(left) => left,
        answer => panic!("{answer:?}"),
    };
    on.raw(&["DEL", key]);
    // Each rule takes a counter of the one before.
    builder().build().unwrap().add(&store, 7, 1).await.unwrap();
    assert_eq!(left(), -1);
    let ttl = builder().ttl(2 * day).build().unwrap();
    ttl.add(&store, 7, 1).await.unwrap();
    let two_days = left();
    assert!((86_400_000..=172_800_000).contains(&two_days), "{two_days}");
    // A window that does not end while the test runs.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    let long = [300u64, 347].map(|days| days * 86_400);
    let long = long.into_iter().max_by_key(|all| all - now % all).unwrap();
    let window = builder().window(Duration::from_secs(long)).build().unwrap();
    window.add(&store, 7, 1).await.unwrap();
    assert!(left() <= two_days, "it lives no longer than before");
    builder().build().unwrap().add(&store, 7, 1).await.unwrap();
    assert_eq!(left(), -1);
    window.add(&store, 7, 1).await.unwrap();
    let rest = i64::try_from((long - now % long) * 1000).unwrap();
    assert!(
        (rest - 60_000..=rest).contains(&left()),
        "{} {rest}",
        left()
    );
    let sliding = builder().ttl(day).sliding().build().unwrap();
    sliding.add(&store, 7, 1).await.unwrap();
    assert!(left() > 86_000_000);
    assert_eq!(on.raw(&["GET", key]), Value::Bulk(b"6".to_vec()));
    let never = builder().ttl(Ttl::Never).build().unwrap();
    assert_eq!(never.reset(&store, 7).await.unwrap(), 6);
    assert_eq!(on.raw(&["EXISTS", key]), Value::Integer(0));
}

#[tokio::test]
async fn a_counter_on_a_server_is_a_number_that_expires() {
    a_counter_is_a_number_that_expires(On::Plain).await;
}

#[tokio::test]
async fn a_counter_on_a_cluster_is_a_number_that_expires() {
    a_counter_is_a_number_that_expires(On::Cluster).await;
}

#[tokio::test]
async fn each_verb_is_one_script() {
    let relay = Relay::to(&BEHIND);
    let store = patient(Store::builder().url(&relay.url())).namespace("count-trips");
    let store = store.connect().await.unwrap();
    let count = counter("trips");
    count.add(&store, 1, 1).await.unwrap();
    relay.take();
    count.add(&store, 1, 1).await.unwrap();
    count.get(&store, 1).await.unwrap();
    count.reset(&store, 1).await.unwrap();
    let batch = CounterBatch::new().add(&count, 1, 1).get(&count, 2);
    assert_eq!(batch.send(&store).await.len(), 2);
    assert_eq!(relay.take(), [("count", 5)].into());
}

#[tokio::test]
async fn a_server_at_its_memory_limit_refuses_and_counts_nothing() {
    let server = Server::plain();
    let store = connect(&server.url()).await;
    let count = counter("full");
    count.add(&store, 1, 1).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for key in [1, 2] {
        let error = count.add(&store, key, 1).await;
        assert_eq!(kind(error), Some(ErrorKind::OutOfMemory));
    }
    assert_eq!(count.get(&store, 1).await.unwrap(), 1);
    assert_eq!(count.reset(&store, 1).await.unwrap(), 1);
}

#[tokio::test]
async fn counters_are_recorded() {
    let store = Store::memory();
    let count = counter("seen");
    let record = store.record();
    count.add(&store, 1, 2).await.unwrap();
    count.add(&store, 1, -3).await.unwrap();
    count.get(&store, 2).await.unwrap();
    let calls = record.take();
    let outcomes: Vec<_> = calls.iter().map(|call| call.outcome()).collect();
    assert_eq!(
        outcomes,
        [Outcome::Count(2), Outcome::Done, Outcome::Count(0)]
    );
    assert_eq!(calls[0], "add count:seen:1: 2");
}
