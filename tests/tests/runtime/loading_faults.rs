//! Loads and guarded writes while servers, networks and clocks fail: a caller is given what it
//! would be given without a cache, nothing older is given after a write, and no caller waits for
//! something that will never come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::mpsc;
use valkey_runtime::{Builder, Cached, Clock, ErrorKind, Store, UpdateError};
use valkey_tests::resp::Value;
use valkey_tests::{FakeServer, Proxy, Reply, Server};

use crate::database::{Database, PATIENCE, User, all_given, settle, until, user};
use crate::relay::{BEHIND, Relay};
use crate::steady::writes_into;
use crate::stores::On;

suite! {
    crate::loading_faults =>
    a_value_that_is_too_large_is_given_and_not_stored
    a_value_that_can_t_be_encoded_is_given_and_not_stored
    rubbish_that_is_kept_is_no_herd_on_the_database
    a_clock_that_jumps_at_every_look
}

suite! {
    @alone [crate::loading_faults]
    whatever_message_is_lost_nothing_older_is_given
    a_call_that_is_overtaken_by_an_update_leaves_nothing_older
    a_lease_whose_reply_is_lost_keeps_others_waiting_for_its_life_only
    a_value_whose_fill_is_not_confirmed_is_given_and_stays
    a_guard_whose_reply_is_lost_is_taken_away_all_the_same
    a_strict_write_whose_guard_is_not_confirmed_is_refused_and_leaves_no_guard
    an_update_whose_end_is_not_confirmed_has_its_deletion_delivered
    a_loader_that_panics_gives_its_lease_back
    a_server_that_is_killed_in_mid_load
    a_server_that_restarts_in_mid_load_takes_nothing_of_what_it_forgot
    a_server_that_hangs_in_mid_load
    scripts_that_are_forgotten_between_any_two_steps_are_sent_again
    a_strict_write_without_a_server_is_refused_and_nothing_is_written
    a_write_without_a_server_is_made_and_its_deletion_delivered_later
    a_guard_without_a_server_that_is_dropped_has_its_deletion_delivered_later
    a_server_at_its_memory_limit_still_guards_and_invalidates
    a_server_that_refuses_everything_is_no_matter_to_a_load
}

/// How long a lease lives that is not renewed, and what a caller may wait beyond.
const LEASE_LIFE: Duration = Duration::from_secs(1);
const MORE: Duration = Duration::from_secs(9);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", strict)]
struct StrictUser {
    #[cached(key)]
    id: u64,
    row: u32,
}

async fn open(url: &str, namespace: &str) -> Store {
    patient(Store::builder().url(url), namespace).await
}

/// A store that gives no command up because the machine is busy.
async fn patient(builder: Builder, namespace: &str) -> Store {
    writes_into(std::slice::from_ref(&*BEHIND), namespace);
    let builder = builder.namespace(namespace).command_timeout(PATIENCE);
    builder.connect().await.unwrap()
}

/// Until the store has noticed that its server is gone, and fails at once.
async fn is_down(store: &Store) {
    for _ in 0..2 {
        User::get(store, 1).await.unwrap_err();
    }
}

async fn is_up(store: &Store) {
    until("the store is back", async || store.ping().await.is_ok()).await;
}

async fn all_delivered(store: &Store) {
    until("the deletions are delivered", async || {
        store.undelivered() == 0
    })
    .await;
}

/// Each kind of write, and after each what both are given: the row as it then is. (A deletion that
/// fails is reported, and tried again.)
async fn nothing_older_is_given(store: &Store, other: &Store) {
    let database = Database::open(1);
    let look = async |after: &str| {
        let row = database.row();
        for store in [store, other] {
            let given = database.clone().call(store.clone()).await;
            assert_eq!(given, Some(user(row)), "after {after}");
            if let Ok(Some(read)) = User::get(store, 1).await {
                assert_eq!(read, user(row), "read after {after}");
            }
        }
    };
    look("the beginning").await;
    User::update(store, 1, async || database.commit(2))
        .await
        .unwrap();
    look("an update").await;
    User::write_through(store, &user(3), async || database.commit(3))
        .await
        .unwrap();
    look("a write-through").await;
    database.write(4);
    until("a deletion succeeds", async || {
        User::del(store, 1).await.is_ok()
    })
    .await;
    look("a deletion").await;
    User::update_many(store, &[1, 2], async || database.commit(5))
        .await
        .unwrap();
    look("an update of many").await;
}

/// A part of a round trip.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Request,
    Reply,
}

/// Loses this part of the first command for this purpose, and the connection with it.
fn losing(lost: Part, of: &'static str) -> Relay {
    let whole = AtomicBool::new(true);
    Relay::meddling(&BEHIND, move |purpose, pass_on| {
        if purpose != of || !whole.swap(false, Ordering::SeqCst) {
            return pass_on();
        }
        if let Part::Reply = lost {
            pass_on();
        }
        Reply::Close
    })
}

async fn whatever_message_is_lost_nothing_older_is_given() {
    let purposes = [
        "read",
        "lease",
        "fill",
        "enter",
        "leave",
        "store through",
        "delete",
    ];
    let ways = [Part::Request, Part::Reply];
    let runs = purposes.iter().flat_map(|of| ways.map(|lost| (lost, *of)));
    join_all(runs.map(|(lost, of)| async move {
        let relay = losing(lost, of);
        let namespace = format!("lost-{lost:?}-{of}").replace(' ', "-");
        let store = open(&relay.url(), &namespace).await;
        nothing_older_is_given(&store, &open(&BEHIND.url(), &namespace).await).await;
        let stats = store.stats();
        assert_eq!(stats.errors(ErrorKind::Connection), stats.errors_total());
        // A lost read is sent once more.
        assert_eq!(stats.errors_total() > 0, of != "read", "{lost:?} of {of}");
        all_delivered(&store).await;
    }))
    .await;
}

/// Any request or reply may be on its way while another process updates: FusionCache 613, and more.
async fn a_call_that_is_overtaken_by_an_update_leaves_nothing_older() {
    for (part, of, stored) in [
        (Part::Reply, "read", Some(7)),
        (Part::Reply, "read", None),
        (Part::Request, "lease", None),
        (Part::Reply, "lease", None),
        (Part::Request, "fill", None),
        (Part::Reply, "fill", None),
    ] {
        let (reached, mut overtake) = mpsc::unbounded_channel();
        let (go_on, held) = std::sync::mpsc::channel();
        let held = Mutex::new(Some(held));
        let relay = Relay::meddling(&BEHIND, move |purpose, pass_on| {
            let held = held.lock().unwrap().take_if(|_| purpose == of);
            let hold = || {
                if let Some(held) = &held {
                    reached.send(()).unwrap();
                    held.recv().unwrap();
                }
            };
            if part == Part::Request {
                hold();
            }
            let reply = pass_on();
            if part == Part::Reply {
                hold();
            }
            reply
        });
        let namespace = format!("overtaken-{part:?}-{of}-{stored:?}");
        let store = open(&relay.url(), &namespace).await;
        let other = open(&BEHIND.url(), &namespace).await;
        if let Some(row) = stored {
            user(row).set(&other).await.unwrap();
        }
        let database = Database::open(7);
        let call = tokio::spawn(database.clone().call(store.clone()));
        overtake.recv().await.unwrap();
        User::update(&other, 1, async || database.commit(8))
            .await
            .unwrap();
        go_on.send(()).unwrap();
        assert!(call.await.unwrap().is_some(), "it called before");
        for store in [&store, &other] {
            let read = User::get(store, 1).await.unwrap();
            assert!(
                read.is_none() || read == Some(user(8)),
                "{part:?} {of}: {read:?}"
            );
            assert_eq!(
                database.clone().call(store.clone()).await,
                Some(user(8)),
                "{part:?} {of}"
            );
        }
    }
}

async fn a_lease_whose_reply_is_lost_keeps_others_waiting_for_its_life_only() {
    let relay = losing(Part::Reply, "lease");
    let store = open(&relay.url(), "lost-lease").await;
    let other = open(&BEHIND.url(), "lost-lease").await;
    let given = Database::open(7).call(store.clone()).await;
    assert_eq!(given, Some(user(7)));
    assert_eq!(store.stats().errors(ErrorKind::Connection), 1);
    assert_eq!(User::get(&other, 1).await.unwrap(), None, "it had no lease");
    let started = Instant::now();
    assert_eq!(Database::open(8).call(other.clone()).await, Some(user(8)));
    let waited = started.elapsed();
    assert!(waited < LEASE_LIFE + MORE, "{waited:?}");
    assert_eq!(User::get(&other, 1).await.unwrap(), Some(user(8)));
}

async fn a_value_whose_fill_is_not_confirmed_is_given_and_stays() {
    let relay = losing(Part::Reply, "fill");
    let store = open(&relay.url(), "lost-fill").await;
    let given = Database::open(7).call(store.clone()).await;
    assert_eq!(given, Some(user(7)));
    assert_eq!(store.stats().errors(ErrorKind::Connection), 1);
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(7)));
}

/// Long before a guard that nobody takes away would run out. (The deletion that was kept when the
/// reply was lost may come late, and take a value with it: that is why it is not asked only once.)
async fn no_guard_is_left(store: &Store) {
    let started = Instant::now();
    until("a load is stored", async || {
        Database::open(8).call(store.clone()).await;
        User::get(store, 1).await.unwrap() == Some(user(8))
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(15));
}

async fn a_guard_whose_reply_is_lost_is_taken_away_all_the_same() {
    let relay = losing(Part::Reply, "enter");
    let store = open(&relay.url(), "lost-enter").await;
    let other = open(&BEHIND.url(), "lost-enter").await;
    user(7).set(&other).await.unwrap();
    let during = User::update(&store, 1, async || {
        Ok::<_, ()>(User::get(&other, 1).await.unwrap())
    });
    assert_eq!(during.await, Ok(None), "it was placed");
    assert_eq!(store.undelivered(), 0);
    no_guard_is_left(&other).await;
}

async fn a_strict_write_whose_guard_is_not_confirmed_is_refused_and_leaves_no_guard() {
    let relay = losing(Part::Reply, "enter");
    let store = open(&relay.url(), "lost-strict").await;
    let other = open(&BEHIND.url(), "lost-strict").await;
    let refused = StrictUser::update(&store, 1, async || -> Result<(), ()> {
        panic!("it must not be written")
    });
    is_refused(refused.await, ErrorKind::Connection);
    no_guard_is_left(&other).await;
}

async fn an_update_whose_end_is_not_confirmed_has_its_deletion_delivered() {
    let relay = losing(Part::Reply, "leave");
    let store = open(&relay.url(), "lost-leave").await;
    user(7).set(&store).await.unwrap();
    assert_eq!(
        User::update(&store, 1, async || Ok::<_, ()>(3)).await,
        Ok(3)
    );
    assert_eq!(store.stats().queued_deletions(), 1);
    all_delivered(&store).await;
    Database::open(8).call(store.clone()).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(8)));
}

/// And nobody is kept waiting for its lease.
async fn a_loader_that_panics_gives_its_lease_back() {
    let relay = Relay::to(&BEHIND);
    let store = open(&relay.url(), "lease-panic").await;
    let other = store.clone();
    let panicked = tokio::spawn(async move {
        User::get_or_load(&other, 1, async || -> Result<User, ()> {
            panic!("the loader's")
        })
        .await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    until("the lease is given back", async || {
        relay.take().contains_key("release")
    })
    .await;
}

fn is_refused<R: std::fmt::Debug, E: std::fmt::Debug>(
    update: Result<R, UpdateError<E>>,
    kind: ErrorKind,
) {
    match update {
        Err(UpdateError::Refused(error)) => assert_eq!(error.kind(), kind, "{error}"),
        other => panic!("{other:?}"),
    }
}

async fn a_server_that_is_killed_in_mid_load() {
    let server = Server::plain();
    let store = open(&server.url(), "killed").await;
    let database = Database::closed(7);
    let before = database.calls(&store, 100);
    database.begun(1).await;
    settle(&store).await;
    server.kill();
    is_down(&store).await;
    let after = database.calls(&store, 100);
    settle(&store).await;
    database.let_go();
    all_given(before, 7).await;
    all_given(after, 7).await;
    assert_eq!((database.most(), database.loads()), (1, 2));
    server.restart();
    is_up(&store).await;
    assert_eq!(database.call(store.clone()).await, Some(user(7)));
    assert_eq!(
        User::get(&store, 1).await.unwrap(),
        Some(user(7)),
        "as ever"
    );
}

async fn a_server_that_restarts_in_mid_load_takes_nothing_of_what_it_forgot() {
    let server = Server::plain();
    let store = open(&server.url(), "restarted").await;
    let database = Database::closed(7);
    let old = database.calls(&store, 1);
    database.begun(1).await;
    server.kill();
    server.restart();
    is_up(&store).await;
    // Its guard is forgotten too: what was begun before the write must not be stored after it.
    User::update(&store, 1, async || database.commit(8))
        .await
        .unwrap();
    database.let_go();
    all_given(old, 7).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.stats().refused_fills(), 1);
}

async fn a_server_that_hangs_in_mid_load() {
    let server = Server::plain();
    let open = async || {
        let builder = Store::builder().url(&server.url()).namespace("hangs");
        builder
            .command_timeout(Duration::from_secs(2))
            .connect()
            .await
            .unwrap()
    };
    let (store, writer) = (open().await, open().await);
    let database = Database::closed(7);
    let old = database.calls(&store, 10);
    database.begun(1).await;
    server.pause();
    database.let_go();
    all_given(old, 7).await;
    let written = User::update(&writer, 1, async || database.commit(8));
    assert_eq!(written.await, Ok(()), "the database goes first");
    assert_eq!(database.clone().call(store.clone()).await, Some(user(8)));
    assert_eq!(writer.undelivered(), 1);
    // Now it does all of that, in an order of its own.
    server.resume();
    all_delivered(&writer).await;
    for store in [&store, &writer] {
        until("the store is back", async || store.ping().await.is_ok()).await;
        assert_eq!(database.clone().call(store.clone()).await, Some(user(8)));
        if let Ok(read) = User::get(store, 1).await {
            assert_ne!(read, Some(user(7)));
        }
    }
    assert!(store.stats().errors(ErrorKind::Timeout) > 0);
}

async fn scripts_that_are_forgotten_between_any_two_steps_are_sent_again() {
    static FORGETFUL: LazyLock<Server> = LazyLock::new(Server::plain);
    let forgets = |_, pass_on: &dyn Fn() -> Reply| {
        let flush = || FORGETFUL.command(&["SCRIPT", "FLUSH"]);
        flush();
        let reply = pass_on();
        flush();
        reply
    };
    let relay = Relay::meddling(&FORGETFUL, forgets);
    let (store, other) = (
        open(&relay.url(), "forgets").await,
        open(&relay.url(), "forgets").await,
    );
    nothing_older_is_given(&store, &other).await;
    assert!(
        User::get(&store, 1).await.unwrap().is_some(),
        "it is stored"
    );
    assert_eq!((store.stats().errors_total(), store.undelivered()), (0, 0));
    let seen = relay.take();
    assert!(seen["unknown script"] > 8, "{seen:?}");
}

async fn a_strict_write_without_a_server_is_refused_and_nothing_is_written() {
    let server = Server::plain();
    let store = open(&server.url(), "alone").await;
    server.kill();
    is_down(&store).await;
    let write = async || -> Result<(), ()> { panic!("it must not be written") };
    is_refused(
        StrictUser::update(&store, 1, write).await,
        ErrorKind::Connection,
    );
    is_refused(
        store.of::<User>().update(1).strict().run(write).await,
        ErrorKind::Connection,
    );
    let through = StrictUser { id: 1, row: 7 };
    is_refused(
        StrictUser::write_through(&store, &through, write).await,
        ErrorKind::Connection,
    );
    is_refused(
        StrictUser::update_many(&store, &[1, 2], write).await,
        ErrorKind::Connection,
    );
    let error = store
        .of::<StrictUser>()
        .update(1)
        .guard()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    // Unless the call says otherwise.
    store
        .of::<StrictUser>()
        .update(1)
        .best_effort()
        .run(async || Ok::<_, ()>(()))
        .await
        .unwrap();
}

async fn a_write_without_a_server_is_made_and_its_deletion_delivered_later() {
    let proxy = Proxy::to(BEHIND.addr());
    let store = open(&proxy.url(), "undelivered").await;
    let other = open(&BEHIND.url(), "undelivered").await;
    user(7).set(&store).await.unwrap();
    proxy.refuse();
    proxy.cut();
    is_down(&store).await;
    let database = Database::open(7);
    User::update(&store, 1, async || database.commit(8))
        .await
        .unwrap();
    User::update(&store, 1, async || database.commit(9))
        .await
        .unwrap();
    assert_eq!(database.row(), 9);
    assert_eq!(store.undelivered(), 1, "one key");
    assert_eq!(
        User::get(&other, 1).await.unwrap(),
        Some(user(7)),
        "as it is said"
    );
    proxy.accept();
    all_delivered(&store).await;
    assert_eq!(User::get(&other, 1).await.unwrap(), None);
    assert_eq!(
        (
            store.stats().queued_deletions(),
            store.stats().lost_deletions()
        ),
        (4, 0)
    );
}

/// The write that it was to guard may have been committed, with nobody left to say so.
async fn a_guard_without_a_server_that_is_dropped_has_its_deletion_delivered_later() {
    let proxy = Proxy::to(BEHIND.addr());
    let store = open(&proxy.url(), "undelivered-guard").await;
    user(7).set(&store).await.unwrap();
    proxy.refuse();
    proxy.cut();
    is_down(&store).await;
    let guard = store.of::<User>().update(1).guard().await.unwrap();
    assert!(!guard.is_placed());
    drop(guard);
    assert_eq!(store.undelivered(), 1, "the write may have been committed");
    proxy.accept();
    all_delivered(&store).await;
    is_up(&store).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

async fn a_server_at_its_memory_limit_still_guards_and_invalidates() {
    let server = Server::builder()
        .setting("maxmemory", "2mb")
        .setting("maxmemory-policy", "noeviction")
        .start();
    let store = open(&server.url(), "alone").await;
    user(7).set(&store).await.unwrap();
    let fillers = AtomicU64::new(0);
    // Large ones, then small ones: not even a lease fits.
    let fill = || {
        for size in [10_000, 10] {
            let value = "x".repeat(size);
            let key = || format!("filler:{}", fillers.fetch_add(1, Ordering::SeqCst));
            while server.command(&["SET", &key(), &value]) == Value::Simple("OK".into()) {}
        }
    };
    fill();
    let nobody = User::get_or_load(&store, 2, async || {
        Ok::<_, ()>(Some(User { id: 2, row: 7 }))
    });
    assert_eq!(nobody.await, Ok(Some(User { id: 2, row: 7 })));
    assert_eq!(
        store.stats().errors(ErrorKind::OutOfMemory),
        1,
        "it was given no lease"
    );

    let during = User::update(&store, 1, async || {
        Ok::<_, ()>(User::get(&store, 1).await.unwrap())
    });
    assert_eq!(during.await, Ok(None));
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    for id in [1, 2] {
        let guard = store.of::<StrictUser>().update(id).guard().await.unwrap();
        assert!(guard.is_placed() && guard.still_held().await.unwrap());
        assert!(guard.release().await.unwrap());
    }
    assert_eq!((store.stats().errors_total(), store.undelivered()), (1, 0));

    let through = User::write_through(&store, &user(8), async || {
        fill();
        Ok::<_, ()>(3)
    });
    assert_eq!(through.await, Ok(3), "the write is made");
    assert_eq!(store.stats().errors(ErrorKind::OutOfMemory), 2);
    assert_eq!(
        server.command(&["EXISTS", "alone:user:1"]),
        Value::Integer(0),
        "no guard is left"
    );
}

async fn a_server_that_refuses_everything_is_no_matter_to_a_load() {
    for (said, kind) in [
        (
            "LOADING server is loading the dataset in memory",
            ErrorKind::Loading,
        ),
        (
            "READONLY You can't write against a read only replica.",
            ErrorKind::ReadOnly,
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            ErrorKind::OutOfMemory,
        ),
        (
            "BUSY The server is busy running a script.",
            ErrorKind::Unavailable,
        ),
        ("NOPERM User ada has no permissions", ErrorKind::Auth),
        ("ERR something else", ErrorKind::Server),
    ] {
        // The first does so to writes only, as most that say it.
        for reads in [true, false] {
            let server = FakeServer::start(move |command| match &*command[0] {
                b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
                b"GET" if reads => Reply::null(),
                _ => Reply::error(said),
            });
            let store = open(&server.url(), "alone").await;
            let database = Database::closed(7);
            let calls = database.calls(&store, 100);
            database.begun(1).await;
            settle(&store).await;
            let counted = store.stats().errors(kind);
            database.let_go();
            all_given(calls, 7).await;
            assert_eq!(database.most(), 1, "{said}");
            assert!(database.loads() <= 2, "{said}: {} loads", database.loads());
            assert!(counted > 0, "{said} is counted");

            let written = User::update(&store, 1, async || Ok::<_, ()>(3)).await;
            assert_eq!(written, Ok(3), "{said}");
            assert_eq!(store.undelivered(), 1, "{said}");
            let strict = StrictUser::update(&store, 1, async || Ok::<_, ()>(3)).await;
            is_refused(strict, kind);
            let failed = User::get_or_load(&store, 2, async || Err::<User, _>("no database")).await;
            assert_eq!(failed, Err("no database"), "{said}");
        }
    }
}

async fn a_value_that_is_too_large_is_given_and_not_stored(on: On) {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    struct Text {
        #[cached(key)]
        id: u64,
        text: String,
    }
    let store = patient(on.builder().max_size(1000), "load-large").await;
    let text = |length| Text {
        id: 1,
        text: "x".repeat(length),
    };
    let call =
        async |length| Text::get_or_load(&store, 1, async || Ok::<_, ()>(Some(text(length)))).await;
    for calls in [1, 20] {
        // A value that can't be stored is passed on all the same to the callers that wait.
        for given in join_all((0..calls).map(|_| call(2000))).await {
            assert_eq!(given, Ok(Some(text(2000))));
        }
    }
    assert!(is_empty(on, "load-large:text:1"), "the lease is given back");
    assert_eq!(store.stats().errors(ErrorKind::TooLarge), 2);
    assert_eq!(store.stats().errors_total(), 2);
    assert_eq!(Text::get(&store, 1).await.unwrap(), None);
    assert_eq!(call(200).await, Ok(Some(text(200))));
    assert_eq!(Text::get(&store, 1).await.unwrap(), Some(text(200)));
}

async fn a_value_that_can_t_be_encoded_is_given_and_not_stored(on: On) {
    #[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
    struct Odd {
        #[cached(key)]
        id: u64,
        #[serde(serialize_with = "even_only")]
        number: u64,
    }
    fn even_only<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        match number % 2 {
            0 => serializer.serialize_u64(*number),
            _ => Err(serde::ser::Error::custom("odd")),
        }
    }
    let store = patient(on.builder(), "load-odd").await;
    let call = async |number| {
        Odd::get_or_load(&store, 1, async || Ok::<_, ()>(Some(Odd { id: 1, number }))).await
    };
    assert_eq!(call(7).await, Ok(Some(Odd { id: 1, number: 7 })));
    assert!(is_empty(on, "load-odd:odd:1"), "the lease is given back");
    assert_eq!(store.stats().errors(ErrorKind::Encode), 1);
    assert_eq!(Odd::get(&store, 1).await.unwrap(), None);
    call(8).await.unwrap();
    assert!(Odd::exists(&store, 1).await.unwrap());
}

/// Whether nothing is under the key: no lease either. (The in-process store can't be looked into.)
fn is_empty(on: On, key: &str) -> bool {
    on == On::Memory || on.raw(&["EXISTS", key]) == Value::Integer(0)
}

async fn rubbish_that_is_kept_is_no_herd_on_the_database(on: On) {
    #[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(prefix = "user")]
    struct Impostor {
        #[cached(key)]
        id: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(prefix = "user", keep_corrupt)]
    struct Keeper {
        #[cached(key)]
        id: u64,
        row: u32,
    }
    let store = patient(on.builder(), "load-kept").await;
    let rubbish = Impostor { id: "1".into() };
    rubbish.set(&store).await.unwrap();
    let database = Database::closed(7);
    let call = |_| {
        let (store, database) = (store.clone(), database.clone());
        tokio::spawn(async move {
            Keeper::get_or_load(&store, 1, async || {
                let User { id, row } = database.load().await;
                Ok::<_, ()>(Some(Keeper { id, row }))
            })
            .await
        })
    };
    let calls: Vec<_> = (0..200).map(call).collect();
    database.begun(1).await;
    settle(&store).await;
    database.let_go();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(Some(Keeper { id: 1, row: 7 })));
    }
    assert_eq!(database.most(), 1);
    assert!(database.loads() <= 2, "{} loads", database.loads());
    assert_eq!(store.stats().corrupt(), 200);
    assert_eq!(
        Impostor::get(&store, "1").await.unwrap(),
        Some(rubbish),
        "it is kept"
    );
}

/// Jumps to and fro by hours whenever it is looked at.
#[derive(Debug)]
struct Jumping(AtomicU64);

impl Clock for Jumping {
    fn now_micros(&self) -> u64 {
        let look = self.0.fetch_add(1, Ordering::SeqCst);
        let hours = look.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
        1_767_225_600_000_000 + look + hours * 3_600_000_000
    }
}

async fn a_clock_that_jumps_at_every_look(on: On) {
    let open = async || {
        let clock = Arc::new(Jumping(AtomicU64::new(0)));
        patient(on.builder().clock(clock), "clock").await
    };
    let store = open().await;
    let other = if on == On::Memory {
        store.clone()
    } else {
        open().await
    };
    for _ in 0..20 {
        // The in-process store has no other time than this: its guards run out when the clock jumps
        // ahead, as a server's do when the server's is set. That is outside of what is promised.
        if on != On::Memory {
            nothing_older_is_given(&store, &other).await;
        }
        let database = Database::closed(9);
        User::del(&store, 1).await.unwrap();
        let calls: Vec<_> = [&store, &other]
            .into_iter()
            .flat_map(|store| database.calls(store, 20))
            .collect();
        database.begun(1).await;
        settle(&store).await;
        database.let_go();
        all_given(calls, 9).await;
        User::del(&store, 1).await.unwrap();
    }
    if on != On::Memory {
        // A server goes by its own clock.
        assert_eq!(store.stats().errors_total(), 0);
    }
}
