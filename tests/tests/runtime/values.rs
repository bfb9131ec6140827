//! Values that are stored and read back: a value that no read would give is not stored, and a
//! damaged entry is not decoded to more than its size allows.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::{Cached, Error, ErrorKind, SetOptions, Source, Store};

/// serde buffers what is flattened, and an address is read from a buffer as a text alone. It is
/// written as bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    ip: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "login", alias = "name")]
struct Login {
    #[cached(key)]
    id: u64,
    name: String,
    #[serde(flatten)]
    from: Origin,
}

fn login(id: u64) -> Login {
    Login {
        id,
        name: "ada".into(),
        from: Origin {
            ip: [10, 0, 0, 1].into(),
        },
    }
}

fn is_unstorable(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Encode);
    let text = error.to_string();
    let why = "::Login` can't be stored: its `Deserialize` does not read the output of its `Serialize`: invalid type, expected ";
    assert!(text.contains(why), "{text}");
    assert!(!text.contains("10.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_value_that_no_read_gives_is_not_stored() {
    let store = Store::memory();
    let value = login(1);
    is_unstorable(&value.set(&store).await.unwrap_err());
    is_unstorable(&Login::set_many(&store, [&value]).await.unwrap_err());
    is_unstorable(
        store.batch().set(&value).send().await[0]
            .as_ref()
            .unwrap_err(),
    );
    assert!(!Login::exists(&store, 1).await.unwrap());
    // The row is written, whatever becomes of its entry.
    let written = Login::write_through(&store, &value, async || Ok::<_, ()>(7)).await;
    assert_eq!(written, Ok(7));
    assert!(!Login::exists(&store, 1).await.unwrap());

    // A loader's value is given, and not stored.
    let loads = AtomicUsize::new(0);
    for _ in 0..3 {
        let load = async || {
            loads.fetch_add(1, SeqCst);
            Ok::<_, ()>(Some(login(1)))
        };
        let entry = store.of::<Login>().load(1).entry().run(load).await;
        let entry = entry.unwrap().unwrap();
        assert_eq!((entry.source(), entry.expires_in()), (Source::Loaded, None));
        assert_eq!(*entry, value);
    }
    assert_eq!(loads.load(SeqCst), 3);
    let found = Login::load_by_name(&store, "ada").run(
        async || Ok::<_, ()>(Some(1)),
        async |id| Ok(Some(login(id))),
    );
    assert_eq!(found.await, Ok(Some(value)));
    assert!(!Login::exists(&store, 1).await.unwrap());
    assert_eq!(store.stats().corrupt(), 0);
    assert!(store.stats().errors(ErrorKind::Encode) >= 8);
}

/// A value of a variant that is read, and one of a variant that is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum From {
    Here,
    Address { ip: IpAddr },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "visit")]
struct Visit {
    #[cached(key)]
    id: u64,
    from: From,
}

/// The first value of a type tells nothing of other variants. A corrupt entry does.
#[tokio::test]
async fn after_a_corrupt_entry_values_are_read_back_again() {
    let store = Store::memory();
    let here = Visit {
        id: 1,
        from: From::Here,
    };
    let away = Visit {
        id: 2,
        from: From::Address {
            ip: [10, 0, 0, 1].into(),
        },
    };
    here.set(&store).await.unwrap();
    assert_eq!(Visit::get(&store, 1).await.unwrap(), Some(here.clone()));
    away.set(&store).await.unwrap();
    assert_eq!(Visit::get(&store, 2).await.unwrap(), None);
    assert_eq!(store.stats().corrupt(), 1);
    here.set(&store).await.unwrap();
    let error = away.set(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert_eq!(store.stats().corrupt(), 1);
}

/// One visit in `every`, after the first one, is read back: so many of these are stored before an
/// error.
async fn stored_before_an_error(every: Option<u32>, most: u32) -> u32 {
    let builder = Store::builder().memory();
    let builder = every.map_or(builder.clone(), |every| builder.read_back_every(every));
    let store = builder.connect().await.unwrap();
    let from = From::Here;
    Visit { id: 0, from }.set(&store).await.unwrap();
    for id in 1..most {
        let ip = [10, 0, 0, 1].into();
        let from = From::Address { ip };
        let stored = Visit {
            id: id.into(),
            from,
        }
        .set(&store)
        .await;
        if let Err(error) = stored {
            assert_eq!(error.kind(), ErrorKind::Encode);
            assert!(!Visit::exists(&store, id.into()).await.unwrap());
            return id;
        }
    }
    most
}

#[tokio::test]
async fn one_value_in_n_is_read_back() {
    for (every, stored) in [(None, 256), (Some(1), 1), (Some(7), 7), (Some(0), 1000)] {
        assert_eq!(
            stored_before_an_error(every, 1000).await,
            stored,
            "{every:?}"
        );
    }
}

/// After an error the next hundred are read back, however seldom that is else.
#[tokio::test]
async fn after_a_refused_value_each_is_read_back() {
    let store = Store::builder().memory().read_back_every(3);
    let store = store.connect().await.unwrap();
    let visit = |id, from| Visit { id, from };
    let away = || From::Address {
        ip: [10, 0, 0, 1].into(),
    };
    visit(0, From::Here).set(&store).await.unwrap();
    visit(1, away()).set(&store).await.unwrap();
    visit(2, away()).set(&store).await.unwrap();
    visit(3, away()).set(&store).await.unwrap_err();
    for id in 0..100 {
        visit(id, From::Here).set(&store).await.unwrap();
        if id < 99 {
            visit(id, away()).set(&store).await.unwrap_err();
        }
    }
}

/// Written as a whole number, and read as a real one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Real(f64),
    Whole(i64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "reading")]
struct Reading {
    #[cached(key)]
    id: u64,
    value: Number,
}

#[tokio::test]
async fn a_value_that_comes_back_as_another_is_not_stored_and_logged_once() {
    let log = crate::faults::Log::default();
    let _taken = log.takes();
    let store = Store::memory();
    for id in 1..=3 {
        let value = Number::Whole(4711);
        let error = Reading { id, value }.set(&store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        let text = error.to_string();
        let why = "::Reading` can't be stored: its `Deserialize` reads another value than its `Serialize` wrote in `value`";
        assert!(text.ends_with(why) && !text.contains("4711"), "{text}");
        assert!(!Reading::exists(&store, id).await.unwrap());
    }
    let text = log.text();
    let of = |line: &&str| line.contains("WARN") && line.contains("a value could not be stored");
    assert_eq!(text.lines().filter(of).count(), 1, "{text}");
    let line = text.lines().find(of).unwrap();
    assert!(
        line.contains("::Reading`") && line.contains("in `value`"),
        "{line}"
    );
    assert!(!line.contains("4711"), "{line}");
}

/// Values with a part in a position where serde buffers it: flattened, or in an enum with its tag
/// inside.
mod buffered {
    use futures_util::future::join_all;
    use valkey_runtime::testing;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wide {
        number: u128,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Marked {
        mark: Unit,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Address(Origin),
        Wide { number: u128 },
        Marked { mark: Unit },
        Mark(Unit),
    }

    /// serde has another rule for a unit struct here.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Marked { mark: Unit },
    }

    macro_rules! rows {
        ($($name:ident: $(#[$how:meta])? $part:ident;)*) => { $(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
            struct $name {
                #[cached(key)]
                id: u64,
                $(#[$how])?
                part: $part,
            }
        )* };
    }

    rows! {
        FlatAddress: #[serde(flatten)] Origin;
        FlatWide: #[serde(flatten)] Wide;
        FlatUnit: #[serde(flatten)] Marked;
        WithTag: Tagged;
        WithoutTag: Untagged;
    }

    fn address() -> Origin {
        let ip = [10, 0, 0, 1].into();
        Origin { ip }
    }

    /// Twenty callers of a value at once: one loads, and all get its value.
    macro_rules! is_shared {
        ($type:ident, $part:expr, stored: $stored:literal) => {{
            let (store, _clock) = testing::memory();
            let (value, is_stored): ($type, bool) = ($type { id: 1, part: $part }, $stored);
            let loads = AtomicUsize::new(0);
            let call = async || {
                let load = async || {
                    loads.fetch_add(1, SeqCst);
                    // Time goes on once nobody has anything to do: by then all wait.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    Ok::<_, ()>(value.clone())
                };
                $type::get_or_load(&store, 1, load).await
            };
            for given in join_all((0..20).map(|_| call())).await {
                assert_eq!(given, Ok(value.clone()));
            }
            let stats = store.stats();
            let failures = u64::from(!is_stored);
            assert_eq!((stats.loads(), stats.coalesced()), (1, 19), "{value:?}");
            assert_eq!(stats.errors(ErrorKind::Encode), failures, "{value:?}");
            assert_eq!(loads.load(SeqCst), 1, "{value:?}");

            // A caller who comes later shares nothing.
            let stored = $type::get(&store, 1).await.unwrap();
            assert_eq!(stored, is_stored.then(|| value.clone()));
            assert_eq!(call().await, Ok(value.clone()));
            assert_eq!(store.stats().loads(), 1 + failures, "{value:?}");
            assert_eq!(store.stats().coalesced(), 19, "{value:?}");
            let refused = value.set(&store).await.err().map(|error| error.kind());
            let expected = (!is_stored).then_some(ErrorKind::Encode);
            assert_eq!(refused, expected, "{value:?}");
        }};
    }

    #[tokio::test(start_paused = true)]
    async fn joined_callers_get_a_value_that_no_read_gives() {
        is_shared!(FlatAddress, address(), stored: false);
        is_shared!(WithTag, Tagged::Address(address()), stored: false);
        for number in [0, u128::MAX] {
            is_shared!(FlatWide, Wide { number }, stored: false);
            is_shared!(WithTag, Tagged::Wide { number }, stored: false);
        }
        is_shared!(WithoutTag, Untagged::Marked { mark: Unit }, stored: false);
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_struct_is_read_where_it_is_flattened_or_beside_a_tag() {
        is_shared!(FlatUnit, Marked { mark: Unit }, stored: true);
        is_shared!(WithTag, Tagged::Marked { mark: Unit }, stored: true);
        is_shared!(WithTag, Tagged::Mark(Unit), stored: true);
    }

    /// Without `Clone`.
    #[derive(Debug, Serialize, Deserialize, Cached)]
    struct Owned {
        #[cached(key)]
        id: u64,
        #[serde(flatten)]
        part: Wide,
    }

    /// Such a value can be neither stored nor cloned.
    #[tokio::test(start_paused = true)]
    async fn each_caller_that_shares_nothing_loads_and_is_not_counted_as_one_that_does() {
        let (store, _clock) = testing::memory();
        let call = async || {
            let load = async || {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let part = Wide { number: 7 };
                Ok::<_, ()>(Owned { id: 1, part })
            };
            Owned::get_or_load(&store, 1, load).await.unwrap()
        };
        for given in join_all((0..20).map(|_| call())).await {
            assert_eq!(given.part, Wide { number: 7 });
        }
        let stats = store.stats();
        assert_eq!((stats.loads(), stats.coalesced()), (20, 0));
        assert_eq!(stats.errors(ErrorKind::Encode), 20);
        assert!(!Owned::exists(&store, 1).await.unwrap());
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "sparse", on_corrupt = "error")]
struct Sparse {
    #[cached(key)]
    id: u64,
    rows: Vec<Option<[u64; 32]>>,
}

/// An `Option` of 264 bytes is one byte in the entry.
#[tokio::test]
async fn a_value_that_would_take_too_much_memory_is_not_stored() {
    let sparse = |id, rows| Sparse {
        id,
        rows: vec![None; rows],
    };
    let store = Store::memory();
    sparse(1, 1000).set(&store).await.unwrap();
    assert_eq!(Sparse::get(&store, 1).await.unwrap(), Some(sparse(1, 1000)));
    let error = sparse(1, 1 << 18).set(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert!(
        error.to_string().contains("`Builder::max_expansion`"),
        "{error}"
    );

    let builder = Store::builder().memory().max_expansion(1000);
    let store = builder.connect().await.unwrap();
    sparse(1, 1 << 18).set(&store).await.unwrap();
    let read = Sparse::get(&store, 1).await.unwrap().unwrap();
    assert_eq!(read.rows.len(), 1 << 18);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "timed", stale_if_error = "1h", max_loads = 1)]
struct Timed {
    #[cached(key)]
    id: u64,
}

/// A call may refuse a length of time at its limits, and neither panics nor hangs.
#[tokio::test]
async fn no_length_of_time_panics() {
    let load = async || {
        tokio::task::yield_now().await;
        Ok::<_, ()>(Timed { id: 1 })
    };
    for time in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(u64::MAX),
        Duration::MAX,
    ] {
        let builder = Store::builder().url("memory:").connect_timeout(time);
        let _ = builder
            .command_timeout(time)
            .operation_timeout(time)
            .connect()
            .await;
        let store = Store::memory();
        let timed = store.of::<Timed>();
        let one = |id| timed.load(id).ttl(time).timeout(time).queue_timeout(time);
        // The second waits for the first, and the third for a turn.
        let _ = tokio::join!(one(1).run(load), one(1).run(load), one(2).run(load));
        let many = timed.load_many([3, 4]).timeout(time).queue_timeout(time);
        let _ = many.run(async |_| Ok::<_, ()>([Timed { id: 3 }])).await;
        let update = timed.update(1).hold(time).guard_life(time);
        let _ = update.run(async || Ok::<_, ()>(())).await;
        let options = SetOptions::new().ttl(time);
        let _ = Timed { id: 5 }.set_with(&store, options).await;
        if let Ok(limiter) = RateLimiter::builder("timed").quota(1, time).build() {
            let _ = limiter.check(&store, 1).await;
        }
    }
}
