//! The store by itself: what the trait asks of it, and what becomes of it when things go wrong.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration as StdDuration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sessions::ValkeySessions;
use time::{Duration, OffsetDateTime};
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::Error;
use tracing_subscriber::fmt::MakeWriter;
use valkey_runtime::testing::{Fault, Request};
use valkey_runtime::{ErrorKind, ManualClock, Store};
use valkey_tests::Server;

use crate::{both, connect};

fn record(value: Value, life: Duration) -> Record {
    Record {
        id: Id::default(),
        data: HashMap::from([("value".to_owned(), value)]),
        expiry_date: OffsetDateTime::now_utc() + life,
    }
}

#[tokio::test]
async fn a_record_is_loaded_as_it_was_saved_until_it_is_deleted() {
    let value = json!({"none": null, "list": [1, -2, 2.5, u64::MAX, "\u{1f511}"], "deep": {"er": {"": true}}});
    for sessions in both().await {
        let mut record = record(value.clone(), Duration::HOUR);
        sessions.create(&mut record).await.unwrap();
        assert_eq!(
            sessions.load(&record.id).await.unwrap(),
            Some(record.clone())
        );
        record.data.insert("more".into(), 1.into());
        sessions.save(&record).await.unwrap();
        assert_eq!(
            sessions.load(&record.id).await.unwrap(),
            Some(record.clone())
        );
        sessions.delete(&record.id).await.unwrap();
        assert_eq!(sessions.load(&record.id).await.unwrap(), None);
        // A second logout succeeds as well.
        sessions.delete(&record.id).await.unwrap();
    }
}

#[tokio::test]
async fn of_many_that_are_created_under_one_id_each_gets_its_own() {
    for sessions in both().await {
        let id = Id::default();
        let records = (0..8).map(|n| Record {
            id,
            ..record(n.into(), Duration::HOUR)
        });
        let created = join_all(records.map(async |mut record| {
            sessions.create(&mut record).await.unwrap();
            record
        }));
        let created = created.await;
        let ids: HashSet<Id> = created.iter().map(|record| record.id).collect();
        assert_eq!((ids.len(), ids.contains(&id)), (8, true));
        for record in created {
            assert_eq!(sessions.load(&record.id).await.unwrap(), Some(record));
        }
    }
}

#[tokio::test]
async fn a_request_under_way_does_not_restore_an_ended_session() {
    for sessions in both().await {
        let mut record = record(1.into(), Duration::HOUR);
        sessions.create(&mut record).await.unwrap();
        sessions.delete(&record.id).await.unwrap();
        let saved = sessions.save(&record).await;
        assert!(matches!(saved, Err(Error::Backend(_))), "{saved:?}");
        assert_eq!(sessions.load(&record.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_saves_at_a_time_one_stands_whole() {
    for sessions in both().await {
        let mut first = record(0.into(), Duration::HOUR);
        sessions.create(&mut first).await.unwrap();
        let saved: Vec<Record> = (1..=8)
            .map(|n| {
                let value = Value::from(n.to_string().repeat(20_000));
                let data = HashMap::from([("a".into(), value.clone()), ("b".into(), value)]);
                Record {
                    data,
                    ..first.clone()
                }
            })
            .collect();
        for saved in join_all(saved.iter().map(|record| sessions.save(record))).await {
            saved.unwrap();
        }
        let stands = sessions.load(&first.id).await.unwrap().unwrap();
        assert!(saved.contains(&stands));
    }
}

#[tokio::test]
async fn a_date_that_is_over_ends_a_session() {
    for sessions in both().await {
        let mut over = record(1.into(), Duration::seconds(-1));
        sessions.create(&mut over).await.unwrap();
        assert_eq!(sessions.load(&over.id).await.unwrap(), None);

        let mut record = record(1.into(), Duration::HOUR);
        sessions.create(&mut record).await.unwrap();
        record.expiry_date = over.expiry_date;
        sessions.save(&record).await.unwrap();
        record.expiry_date = OffsetDateTime::now_utc() + Duration::HOUR;
        assert!(sessions.save(&record).await.is_err());
    }
}

#[tokio::test]
async fn the_server_keeps_a_session_no_longer_than_its_date_or_half_an_hour() {
    let server = Server::plain();
    let sessions = ValkeySessions::new(connect(&server).await);
    let lives = async |life| {
        let mut record = record(1.into(), life);
        sessions.create(&mut record).await.unwrap();
        let key = server.cli(&["--scan", "--pattern", "session:*"]);
        let left: i64 = server.cli(&["PTTL", &key]).parse().unwrap();
        sessions.delete(&record.id).await.unwrap();
        Duration::milliseconds(left)
    };
    let left = lives(Duration::MINUTE).await;
    assert!(
        left > Duration::seconds(30) && left <= Duration::MINUTE,
        "{left}"
    );
    let left = lives(Duration::WEEK).await;
    assert!(
        left > 29 * Duration::MINUTE && left <= 30 * Duration::MINUTE,
        "{left}"
    );
}

/// Sessions in this process, on a clock that a test moves.
async fn on_a_clock() -> (ValkeySessions, Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    let store = store.connect().await.unwrap();
    (ValkeySessions::new(store.clone()), store, clock)
}

/// Loads it, and waits for what that does in the background.
async fn found(sessions: &ValkeySessions, store: &Store, id: &Id) -> bool {
    let found = sessions.load(id).await.unwrap();
    store.settled().await;
    found.is_some()
}

const MINUTE: StdDuration = StdDuration::from_secs(60);

#[tokio::test]
async fn a_session_that_is_read_stays_and_one_that_is_not_goes() {
    let (sessions, store, clock) = on_a_clock().await;
    let [mut read, mut left] = [1, 2].map(|n| record(n.into(), 365 * Duration::DAY));
    sessions.create(&mut read).await.unwrap();
    sessions.create(&mut left).await.unwrap();
    for _ in 0..3 {
        clock.advance(20 * MINUTE);
        assert!(found(&sessions, &store, &read.id).await);
    }
    assert!(!found(&sessions, &store, &left.id).await);
    clock.advance(30 * MINUTE);
    assert!(!found(&sessions, &store, &read.id).await);
}

#[tokio::test]
async fn no_session_is_read_for_longer_than_two_weeks() {
    let (sessions, store, clock) = on_a_clock().await;
    let mut record = record(1.into(), 365 * Duration::DAY);
    sessions.create(&mut record).await.unwrap();
    let mut minutes = 0;
    while found(&sessions, &store, &record.id).await {
        clock.advance(20 * MINUTE);
        minutes += 20;
        assert!(minutes <= 14 * 24 * 60);
    }
    assert_eq!(minutes, 14 * 24 * 60);
}

#[tokio::test]
async fn no_read_extends_a_session_beyond_its_date() {
    let (sessions, store, clock) = on_a_clock().await;
    let mut record = record(1.into(), Duration::seconds(2));
    sessions.create(&mut record).await.unwrap();
    assert!(found(&sessions, &store, &record.id).await);
    // The entry in the store lives on, because it was read; its date does not change.
    clock.advance(MINUTE);
    let hits = store.stats().hits();
    while found(&sessions, &store, &record.id).await {
        let late = OffsetDateTime::now_utc() - record.expiry_date;
        assert!(late < Duration::seconds(10));
        tokio::time::sleep(StdDuration::from_millis(10)).await;
    }
    assert!(store.stats().hits() > hits);
    assert!(OffsetDateTime::now_utc() >= record.expiry_date);
}

#[tokio::test]
async fn while_the_server_is_down_every_verb_fails() {
    let server = Server::plain();
    let store = connect(&server).await;
    let sessions = ValkeySessions::new(store.clone());
    let mut record = record(1.into(), Duration::HOUR);
    sessions.create(&mut record).await.unwrap();
    server.kill();
    assert_all_fail(&sessions, &mut record).await;
    // One that was never there is not told from one that was.
    let unknown = sessions.load(&Id::default()).await;
    assert!(matches!(unknown, Err(Error::Backend(_))), "{unknown:?}");
}

#[tokio::test]
async fn while_the_store_is_switched_off_every_verb_fails() {
    for store in [Store::memory(), connect(&crate::SERVER).await] {
        let sessions = ValkeySessions::new(store.clone());
        let mut record = record(1.into(), Duration::HOUR);
        sessions.create(&mut record).await.unwrap();
        store.set_enabled(false);
        assert_all_fail(&sessions, &mut record).await;
        store.set_enabled(true);
        assert_eq!(sessions.load(&record.id).await.unwrap(), Some(record));
    }
}

async fn assert_all_fail(sessions: &ValkeySessions, record: &mut Record) {
    let loaded = sessions.load(&record.id).await;
    assert!(matches!(loaded, Err(Error::Backend(_))), "{loaded:?}");
    for failed in [
        sessions.create(record).await,
        sessions.save(record).await,
        sessions.delete(&record.id).await,
    ] {
        assert!(matches!(failed, Err(Error::Backend(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_session_that_cant_be_read_is_an_error_and_stays() {
    let server = Server::plain();
    let sessions = ValkeySessions::new(connect(&server).await);
    let mut record = record(1.into(), Duration::HOUR);
    sessions.create(&mut record).await.unwrap();
    let key = server.cli(&["--scan", "--pattern", "session:*"]);
    server.cli(&["SET", &key, "rubbish"]);
    for _ in 0..2 {
        let loaded = sessions.load(&record.id).await;
        assert!(matches!(loaded, Err(Error::Decode(_))), "{loaded:?}");
    }
    let saved = sessions.save(&record).await;
    assert!(matches!(saved, Err(Error::Decode(_))), "{saved:?}");
    assert_eq!(server.cli(&["GET", &key]), "rubbish");
}

#[tokio::test]
async fn a_save_that_was_not_confirmed_ends_no_session() {
    let store = connect(&crate::SERVER).await;
    let sessions = ValkeySessions::new(store.clone());
    let mut record = record(1.into(), Duration::HOUR);
    sessions.create(&mut record).await.unwrap();
    let before = record.clone();
    record.data.insert("more".into(), 1.into());
    for (fault, expected) in [
        (Fault::error(ErrorKind::Timeout), &before),
        (Fault::lost_reply(), &record),
    ] {
        store.faults().fail_next(fault.on(Request::Store));
        let saved = sessions.save(&record).await;
        assert!(matches!(saved, Err(Error::Backend(_))), "{saved:?}");
        assert_eq!(store.undelivered(), 0);
        let loaded = sessions.load(&record.id).await.unwrap();
        assert_eq!(loaded.as_ref(), Some(expected));
    }
}

#[tokio::test]
async fn a_session_may_be_large_but_not_larger_than_the_store_takes() {
    let server = Server::plain();
    for builder in [
        Store::builder().memory(),
        Store::builder()
            .url(&server.url())
            .command_timeout(StdDuration::from_secs(30)),
    ] {
        let store = builder.max_size(1024 * 1024).connect().await.unwrap();
        let sessions = ValkeySessions::new(store);
        let mut large = record("x".repeat(1000 * 1024).into(), Duration::HOUR);
        sessions.create(&mut large).await.unwrap();
        assert_eq!(sessions.load(&large.id).await.unwrap(), Some(large.clone()));

        let before = large.clone();
        large
            .data
            .insert("more".into(), "x".repeat(100 * 1024).into());
        let saved = sessions.save(&large).await;
        assert!(matches!(saved, Err(Error::Encode(_))), "{saved:?}");
        assert_eq!(sessions.load(&large.id).await.unwrap(), Some(before));
    }
}

#[tokio::test]
async fn a_session_that_could_not_be_read_back_is_not_stored() {
    let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
    for sessions in both().await {
        let created = sessions
            .create(&mut record(deep.clone(), Duration::HOUR))
            .await;
        assert!(matches!(created, Err(Error::Encode(_))), "{created:?}");
    }
}

/// All that was logged, at any level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn an_id_is_neither_in_the_server_nor_in_errors_nor_in_the_log() {
    let log = Log::default();
    let subscriber = || {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        tracing::Dispatch::new(subscriber.with_writer(log.clone()).finish())
    };
    // Of two: where there is one only, what logs first in another thread is taken to interest
    // nobody.
    let _second = subscriber();
    let _logging = tracing::dispatcher::set_default(&subscriber());

    let server = Server::plain();
    let sessions = ValkeySessions::new(connect(&server).await);
    let mut record = record("a secret".into(), Duration::HOUR);
    sessions.create(&mut record).await.unwrap();
    let mut told = vec![format!("{sessions:?}")];
    let key = server.cli(&["--scan"]);
    let prefixed = key
        .strip_prefix("session:")
        .is_some_and(|digest| digest.len() == 64);
    assert!(prefixed, "{key}");
    told.push(server.cli(&["GET", &key]));
    told.push(key.clone());

    server.cli(&["SET", &key, "rubbish"]);
    told.push(sessions.load(&record.id).await.unwrap_err().to_string());
    told.push(sessions.save(&record).await.unwrap_err().to_string());
    server.kill();
    told.push(sessions.load(&record.id).await.unwrap_err().to_string());
    told.push(sessions.delete(&record.id).await.unwrap_err().to_string());
    told.push(String::from_utf8(log.0.lock().unwrap().clone()).unwrap());

    let logged = told.last().unwrap();
    assert!(logged.contains("a corrupt entry"), "{logged}");
    let id = record.id;
    for secret in [id.to_string(), id.0.to_string(), format!("{:x}", id.0)] {
        for told in &told {
            assert!(!told.contains(&secret), "{told}");
        }
    }
    // The log does not contain the data of the session either.
    assert!(!logged.contains("a secret"), "{logged}");
}
