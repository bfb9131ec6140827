//! Several verbs in one go, over every backend, and what becomes of those that fail.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::{BatchResults, Cached, Error, ErrorKind, Result, SetOptions, Store, Ttl};
use valkey_tests::resp::Value;
use valkey_tests::{FakeServer, Proxy, Reply, Server};

use crate::database::{PATIENCE, until};
use crate::steady::writes_into;
use crate::stores::{On, connect};

suite! {
    crate::batch =>
    items_of_several_types_are_carried_out
    a_value_that_is_to_be_served_stale_is_kept_by_expire
    values_with_tags_are_set
    a_tag_is_invalidated_with_the_rest
    one_that_fails_fails_alone
    operations_on_one_key_are_done_in_order
    many_items_are_carried_out_in_order
    an_empty_one_does_nothing
    it_can_be_used_again
    while_the_store_is_off_values_are_deleted
    after_a_close_each_item_fails
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

/// Its key is not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "org", key = (u32, String), ttl = "never")]
struct Org {
    seats: u32,
}

/// Replaced by nothing but what was loaded for `hold` after its deletion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "held", hold = "1m")]
struct Held {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "kept", stale_if_error = "1h")]
struct Kept {
    #[cached(key)]
    id: u64,
}

/// Of a team.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "member", tag = "team:{team}")]
struct Member {
    #[cached(key)]
    id: u64,
    team: u64,
}

fn member(id: u64) -> Member {
    let team = id / 10;
    Member { id, team }
}

/// Which of these are there.
async fn members<const N: usize>(store: &Store, ids: [u64; N]) -> [bool; N] {
    let found = Member::get_many(store, ids).await.unwrap();
    let found: Vec<_> = found.iter().map(Option::is_some).collect();
    found.try_into().unwrap()
}

fn user(id: u64, name: &str) -> User {
    let name = name.to_owned();
    User { id, name }
}

async fn name(store: &Store, id: u64) -> Option<String> {
    let user = User::get(store, id).await.unwrap();
    user.map(|user| user.name)
}

fn kinds(results: BatchResults) -> Vec<Result<bool, ErrorKind>> {
    let results = results.into_iter();
    results
        .map(|result| result.map_err(|error| error.kind()))
        .collect()
}

async fn items_of_several_types_are_carried_out(on: On) {
    let store = on.store("batch").await;
    user(2, "Grace").set(&store).await.unwrap();
    user(3, "Hedy").set(&store).await.unwrap();
    let (if_absent, if_present) = (
        SetOptions::new().if_absent(),
        SetOptions::new().if_present(),
    );
    let an_hour = SetOptions::new().ttl(Duration::from_secs(3600));
    let mut batch = store.batch();
    batch
        .set(&user(1, "Ada"))
        .set_with(&user(2, "Alan"), if_absent)
        .set_with(&user(3, "Alan"), if_present)
        .set_with(&user(4, "Alan"), if_present)
        .set_at::<Org>((7, "eu"), &Org { seats: 5 });
    batch.set_with(&user(5, "Mary"), an_hour).del::<User>(6);
    assert_eq!((batch.len(), batch.is_empty()), (7, false));
    let answers = batch.send().await.all().unwrap();
    assert_eq!(answers, [true, false, true, false, true, true, false]);
    for (id, expected) in [
        (1, Some("Ada")),
        (2, Some("Grace")),
        (3, Some("Alan")),
        (4, None),
    ] {
        assert_eq!(name(&store, id).await.as_deref(), expected, "{id}");
    }
    let Some(Ttl::After(left)) = store.of::<User>().ttl(5).await.unwrap() else {
        panic!("it has a TTL");
    };
    assert!(left > Duration::from_secs(3000), "{left:?}");

    let org = SetOptions::new().if_present().ttl(Duration::from_secs(60));
    let mut batch = store.batch();
    batch
        .del::<User>(1)
        .del::<Org>((7, "us"))
        .mark_stale::<User>(2);
    batch.set_at_with::<Org>((7, "eu"), &Org { seats: 6 }, org);
    let answers = batch.send().await.all().unwrap();
    assert_eq!(answers, [true, false, true, true]);
    assert_eq!((name(&store, 1).await, name(&store, 2).await), (None, None));
    let seats = Org::get(&store, (7, "eu")).await.unwrap();
    assert_eq!(seats, Some(Org { seats: 6 }));
    assert_ne!(
        store.of::<Org>().ttl((7, "eu")).await.unwrap(),
        Some(Ttl::Never)
    );
}

/// The policies of the types hold: one keeps a value after `mark_stale`, one a guard after a
/// deletion.
async fn a_value_that_is_to_be_served_stale_is_kept_by_expire(on: On) {
    let store = on.store("batch-policies").await;
    let mut batch = store.batch();
    batch.set(&Kept { id: 1 }).set(&Held { id: 1 });
    batch.send().await.all().unwrap();
    let mut batch = store.batch();
    batch.mark_stale::<Kept>(1).del::<Held>(1);
    assert_eq!(batch.send().await.all().unwrap(), [true, true]);
    let fails = async || Err::<Kept, _>("no database");
    let kept = Kept::get_or_load(&store, 1, fails).await;
    assert_eq!(kept, Ok(Kept { id: 1 }));
    let loads = async || Ok::<_, ()>(Held { id: 1 });
    Held::get_or_load(&store, 1, loads).await.unwrap();
    assert_eq!(Held::get(&store, 1).await.unwrap(), None, "it is guarded");
}

async fn values_with_tags_are_set(on: On) {
    let store = on.store("batch-tagged").await;
    let (if_absent, if_present) = (
        SetOptions::new().if_absent(),
        SetOptions::new().if_present(),
    );
    let mut batch = store.batch();
    batch.set(&member(10)).set(&user(1, "Ada")).set(&member(20));
    assert_eq!(batch.send().await.all().unwrap(), [true; 3]);
    assert_eq!(members(&store, [10, 20]).await, [true, true]);
    store.invalidate_tag("team:2").await.unwrap();
    // For these, an entry that no read gives is not there.
    batch.set_with(&member(10), if_absent);
    batch.set_with(&member(20), if_present);
    batch.set_with(&member(20), if_absent);
    batch.set_with(&member(10), if_present);
    let answers = batch.send().await.all().unwrap();
    assert_eq!(answers, [false, false, true, true]);
    assert_eq!(members(&store, [10, 20]).await, [true, true]);
    Member::set_many(&store, &[member(11), member(21)])
        .await
        .unwrap();
    assert_eq!(members(&store, [11, 21]).await, [true, true]);
}

/// Wherever it stands, it is for the values of its batch too.
async fn a_tag_is_invalidated_with_the_rest(on: On) {
    let store = on.store("batch-tag").await;
    let mut batch = store.batch();
    batch.set(&member(10)).set(&member(20)).set(&member(30));
    batch.send().await.all().unwrap();
    batch.set(&user(1, "Ada")).invalidate_tag("team:1");
    batch.del::<User>(2).set(&member(11));
    batch
        .invalidate_tag(Member::cache_tags().team(2))
        .set(&member(31));
    let answers = batch.send().await.all().unwrap();
    assert_eq!(answers, [true, true, false, true, true, true]);
    let found = members(&store, [10, 11, 20, 30, 31]).await;
    assert_eq!(found, [false, false, false, true, true]);
    assert_eq!(name(&store, 1).await.as_deref(), Some("Ada"));
    batch.set(&member(10)).set(&member(20));
    batch.send().await.all().unwrap();
    assert_eq!(members(&store, [10, 20]).await, [true, true]);
}

async fn one_that_fails_fails_alone(on: On) {
    writes_into(on.nodes(), "batch-alone");
    let builder = on.builder().namespace("batch-alone").max_size(1000);
    let store = builder.connect().await.unwrap();
    user(3, "Hedy").set(&store).await.unwrap();
    let never = SetOptions::new().ttl(Duration::ZERO);
    let mut batch = store.batch();
    batch.set(&user(1, "Ada")).set(&user(2, &"x".repeat(1000)));
    batch.del::<User>(3).set_with(&user(4, "Alan"), never);
    let results = batch.send().await;
    let Err(error) = &results[1] else {
        panic!("it is too large");
    };
    assert_eq!(
        (error.kind(), error.operation(), error.key()),
        (ErrorKind::TooLarge, Some("set"), Some("batch-alone:user:2"))
    );
    let errors = store.stats();
    let counted = |kind| errors.errors(kind);
    assert_eq!(
        (counted(ErrorKind::TooLarge), counted(ErrorKind::Config)),
        (1, 1)
    );
    let first = results.clone().all().unwrap_err();
    assert_eq!(first.kind(), ErrorKind::TooLarge);
    assert!(first.to_string().contains("2 of 4 failed"), "{first}");
    assert_eq!(
        kinds(results),
        [
            Ok(true),
            Err(ErrorKind::TooLarge),
            Ok(true),
            Err(ErrorKind::Config)
        ]
    );
    assert_eq!(name(&store, 1).await.as_deref(), Some("Ada"));
    assert_eq!(name(&store, 3).await, None);
    // Alone, it is the verb's own error.
    let alone = store.batch().set(&user(2, &"x".repeat(1000))).send().await;
    let alone = alone.all().unwrap_err().to_string();
    let by_verb = user(2, &"x".repeat(1000)).set(&store).await.unwrap_err();
    assert_eq!(alone, by_verb.to_string());
}

/// Also where the server does not know the scripts yet, which are then sent again.
async fn operations_on_one_key_are_done_in_order(on: On) {
    let store = on.store("batch-order").await;
    on.forget_scripts();
    let if_absent = SetOptions::new().if_absent();
    let mut batch = store.batch();
    batch.del::<User>(1).set(&user(1, "Ada"));
    batch.set(&user(2, "Grace")).del::<User>(2);
    batch.set(&user(3, "Hedy")).del::<User>(3);
    batch
        .set_with(&user(3, "Mary"), if_absent)
        .set_with(&user(3, "Joan"), if_absent);
    batch.del::<User>(4);
    let answers = batch.send().await.all().unwrap();
    assert_eq!(
        answers,
        [false, true, true, true, true, true, true, false, false]
    );
    assert_eq!(name(&store, 1).await.as_deref(), Some("Ada"));
    assert_eq!(name(&store, 2).await, None);
    assert_eq!(name(&store, 3).await.as_deref(), Some("Mary"));
}

/// More than go in one pipeline.
async fn many_items_are_carried_out_in_order(on: On) {
    const KEYS: u64 = 1200;
    writes_into(on.nodes(), "batch-many");
    let builder = on
        .builder()
        .namespace("batch-many")
        .command_timeout(PATIENCE);
    // It is not connected yet, so that nothing but their turns keeps the pipelines in order.
    let store = builder.operation_timeout(PATIENCE).connect_lazy().unwrap();
    on.forget_scripts();
    let mut batch = store.batch();
    for id in 0..KEYS {
        batch.set(&user(id, &"x".repeat(1000)));
    }
    for id in 0..KEYS {
        match id % 3 {
            0 => batch.set(&user(id, "again")),
            _ => batch.del::<User>(id),
        };
    }
    let answers = batch.send().await.all().unwrap();
    assert_eq!(answers, vec![true; 2 * KEYS as usize]);
    let found = User::get_many(&store, 0..KEYS).await.unwrap();
    for (id, found) in (0..KEYS).zip(found) {
        let expected = (id % 3 == 0).then(|| user(id, "again"));
        assert_eq!(found, expected);
    }
}

async fn an_empty_one_does_nothing(on: On) {
    let store = on.store("batch-empty").await;
    let results = store.batch().send().await;
    assert!(results.is_empty());
    assert_eq!(results.all().unwrap(), [true; 0]);
}

/// And what was not sent does nothing.
async fn it_can_be_used_again(on: On) {
    let store = on.store("batch-again").await;
    let mut batch = store.batch();
    batch.set(&user(1, "Ada"));
    drop(batch.send());
    batch.set(&user(2, "Grace"));
    assert_eq!(batch.send().await.all().unwrap(), [true]);
    assert!(batch.is_empty());
    batch.del::<User>(1).del::<User>(2);
    assert_eq!(batch.send().await.all().unwrap(), [false, true]);
    batch.set(&user(3, "Hedy"));
    assert_eq!(name(&store, 3).await, None);
}

async fn while_the_store_is_off_values_are_deleted(on: On) {
    let store = on.store("batch-off").await;
    let mut batch = store.batch();
    batch.set(&user(1, "Ada")).set(&user(2, "Grace"));
    batch.send().await.all().unwrap();
    store.set_enabled(false);
    batch
        .set(&user(1, "Alan"))
        .set(&user(3, "Alan"))
        .del::<User>(2);
    let answers = batch.send().await.all().unwrap();
    assert_eq!(answers, [false, false, true]);
    store.set_enabled(true);
    for id in 1..=3 {
        assert_eq!(name(&store, id).await, None, "{id}");
    }
}

async fn after_a_close_each_item_fails(on: On) {
    let store = on.store("batch-closed").await;
    let mut batch = store.batch();
    batch.set(&user(1, "Ada")).del::<User>(2);
    store.close().await;
    let closed = Err(ErrorKind::Closed);
    assert_eq!(kinds(batch.send().await), [closed, closed]);
    assert_eq!(store.undelivered(), 0);
}

#[test]
fn a_future_borrows_nothing_but_the_store() {
    fn spawned<F: Future<Output: Send + 'static> + Send + 'static>(_: F) {}
    static STORE: std::sync::LazyLock<Store> = std::sync::LazyLock::new(Store::memory);
    let user = user(1, "Ada");
    spawned(STORE.batch().set(&user).del::<Org>((1, "eu")).send());
}

/// A server that answers as the closure says, and else that all went well.
fn fake(answer: impl Fn(&[Vec<u8>]) -> Option<Reply> + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |command| match &*command[0] {
        b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        b"EVALSHA" | b"EVAL" => answer(command).unwrap_or_else(|| Reply::integer(1)),
        _ => answer(command).unwrap_or_else(Reply::ok),
    })
}

/// None of the commands waits for the answer to another: the server says nothing, and was sent all
/// of them.
#[tokio::test]
async fn it_is_sent_in_one_round_trip() {
    let server = fake(|_| Some(Reply::Nothing));
    let builder = Store::builder().url(&server.url());
    let store = builder.command_timeout(Duration::from_secs(2));
    let store = store.connect().await.unwrap();
    let mut batch = store.batch();
    for id in 0..50 {
        batch.set(&user(id, "Ada")).del::<Org>((7, "eu"));
        batch.mark_stale::<Kept>(id);
    }
    let errors = kinds(batch.send().await);
    assert_eq!(errors, vec![Err(ErrorKind::Timeout); 150]);
    assert!(server.wait_for("SET", 50, PATIENCE));
    let scripts = server.count("EVALSHA") + server.count("EVAL");
    assert_eq!((server.count("SET"), scripts), (50, 100));
}

/// Of several pipelines, one may have been carried out.
#[tokio::test]
async fn each_unanswered_item_gets_an_error() {
    let server = fake(|command| match command {
        [set, key, ..] if set == b"SET" && key == b"user:1" => Some(Reply::Nothing),
        _ => None,
    });
    let builder = Store::builder().url(&server.url());
    let store = builder.command_timeout(Duration::from_secs(2));
    let store = store.connect().await.unwrap();
    let megabyte = "x".repeat(1 << 20);
    let mut batch = store.batch();
    batch.set(&user(0, &megabyte)).set(&user(1, &megabyte));
    batch.del::<User>(2);
    let (done, lost) = (Ok(true), Err(ErrorKind::Timeout));
    assert_eq!(kinds(batch.send().await), [done, lost, lost]);
    assert_eq!(store.undelivered(), 2);
}

#[tokio::test]
async fn each_refused_item_gets_an_error() {
    let server = fake(|command| {
        let key = match &*command[0] {
            b"SET" => &command[1],
            _ => command.get(3)?,
        };
        match &**key {
            b"user:2" => Some(Reply::error("OOM command not allowed.")),
            b"user:4" => Some(Reply::error("WRONGTYPE Operation against a key.")),
            b"user:5" => Some(Reply::error("READONLY You can't write.")),
            b"user:6" => Some(Reply::raw("*0\r\n")),
            _ => None,
        }
    });
    let store = connect(&server.url()).await;
    let mut batch = store.batch();
    for id in 1..=4 {
        batch.set(&user(id, "Ada"));
    }
    batch.del::<User>(5).del::<User>(6).del::<User>(7);
    let results = batch.send().await;
    let keys: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().and_then(Error::key))
        .map(|key| key.map(str::to_owned))
        .collect();
    let of = |id: u64| Some(format!("user:{id}"));
    assert_eq!(keys, [None, of(2), None, of(4), of(5), of(6), None]);
    assert_eq!(
        kinds(results),
        [
            Ok(true),
            Err(ErrorKind::OutOfMemory),
            Ok(true),
            Err(ErrorKind::Server),
            Err(ErrorKind::ReadOnly),
            Err(ErrorKind::Server),
            Ok(true)
        ]
    );
    // As of the verbs: a deletion without a word, and a value that may be stored later, are made up
    // for.
    assert_eq!(store.undelivered(), 3);
    assert_eq!(name(&store, 2).await, None);
}

/// And those that look at what is there find nothing under such a key.
#[tokio::test]
async fn undelivered_items_are_deleted_later() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let builder = Store::builder().url(&proxy.url());
    let store = builder.command_timeout(PATIENCE);
    let store = store.connect().await.unwrap();
    let mut batch = store.batch();
    for id in 1..=4 {
        batch.set(&user(id, "Ada"));
    }
    batch.send().await.all().unwrap();
    proxy.refuse();
    proxy.cut();
    batch
        .set(&user(1, "Alan"))
        .del::<User>(2)
        .mark_stale::<User>(3);
    batch.invalidate_tag("team:1").set(&member(11));
    let lost = kinds(batch.send().await);
    assert_eq!(lost, [Err(ErrorKind::Connection); 5]);
    assert_eq!(store.undelivered(), 5);
    until("the breaker is open", async || {
        let error = User::get(&store, 4).await.unwrap_err();
        error.is_refused()
    })
    .await;
    let if_present = SetOptions::new().if_present();
    batch.set_with(&user(2, "Alan"), if_present).del::<User>(4);
    let results = batch.send().await;
    assert!(matches!(results[0], Ok(false)), "{results:?}");
    assert!(matches!(&results[1], Err(error) if error.is_refused()));
    assert_eq!(store.undelivered(), 6);
    proxy.accept();
    until("they are delivered", async || store.undelivered() == 0).await;
    for id in 1..=4 {
        assert_eq!(server.cli(&["EXISTS", &format!("user:{id}")]), "0");
    }
}

#[tokio::test]
async fn one_that_is_dropped_half_way_is_made_up_for() {
    let server = fake(|_| Some(Reply::Nothing));
    let store = connect(&server.url()).await;
    let mut batch = store.batch();
    batch.set(&user(1, "Ada")).del::<User>(2);
    batch.set_with(&user(3, "Hedy"), SetOptions::new().if_absent());
    {
        let mut sent = pin!(batch.send());
        let polled = sent.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    }
    assert_eq!(store.undelivered(), 2);
    // Also while it asks after tags, before anything is sent.
    batch
        .set(&member(10))
        .del::<User>(4)
        .invalidate_tag("team:2");
    {
        let mut sent = pin!(batch.send());
        let polled = sent.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    }
    assert_eq!(store.undelivered(), 4);
}

/// Those of the other nodes are carried out.
#[tokio::test]
async fn a_node_that_is_silent_fails_its_items() {
    let cluster = Server::cluster();
    let builder = Store::builder().url(&cluster.url());
    let store = builder.command_timeout(Duration::from_secs(5));
    let store = store.connect().await.unwrap();
    const KEYS: u64 = 30;
    let silent = &cluster.nodes()[1];
    let is_there = |id: u64| {
        let answer = silent.command(&["EXISTS", &format!("user:{id}")]);
        matches!(answer, Value::Integer(_))
    };
    let of_silent: Vec<bool> = (0..KEYS).map(is_there).collect();
    assert!(of_silent.contains(&true) && of_silent.contains(&false));
    silent.pause();
    let mut batch = store.batch();
    for id in 0..KEYS {
        batch.set(&user(id, "Ada"));
    }
    let results = batch.send().await;
    let failed: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(failed, of_silent);
    let lost = failed.iter().filter(|failed| **failed).count() as u64;
    assert_eq!(store.stats().queued_deletions(), lost);
    // None of them had waited for another.
    silent.resume();
    until("it has read them", async || {
        silent.command_count("set") == lost
    })
    .await;
}
