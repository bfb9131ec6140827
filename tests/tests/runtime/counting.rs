//! The cost of a call: commands at the server, and loads at the database where the cache is no
//! help.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Loaded, Source, Stale, Store};
use valkey_tests::Server;

use crate::database::{Database, PATIENCE, User, all_given, settle, until, user};
use crate::relay::{BEHIND, Relay};
use crate::steady::writes_into;

suite! {
    @alone [crate::counting]
    a_hit_costs_one_round_trip
    a_hit_of_a_type_with_everything_costs_one_round_trip
    a_miss_costs_three_round_trips
    tags_cost_a_hit_nothing_or_one_round_trip
    a_value_is_found_by_an_alias_in_two_round_trips
    a_batch_costs_a_command_an_item
    a_guarded_write_costs_two_round_trips
    a_load_of_a_guarded_key_costs_one_round_trip
    callers_that_share_a_load_share_their_reads
    many_who_wait_for_another_process_ask_as_one
    a_server_that_is_dead_is_no_herd_on_the_database
    a_key_that_is_guarded_is_no_herd_on_the_database
    a_loader_that_fails_while_the_server_is_dead_fails_for_each_and_ends
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "limited", max_loads = 4)]
struct Limited {
    #[cached(key)]
    id: u64,
}

const TASKS: usize = 1000;

/// A store whose commands are counted. The server knows all scripts.
async fn counted(namespace: &str) -> (Relay, Store) {
    let relay = Relay::to(&BEHIND);
    let store = open(&relay.url(), namespace).await;
    load(&store, 4711, Ok(Some(7))).await.unwrap();
    load(&store, 4712, Ok(None)).await.unwrap();
    User::update(&store, 4711, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    let through = User { id: 4711, row: 7 };
    User::write_through(&store, &through, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    User::del(&store, 4711).await.unwrap();
    relay.take();
    (relay, store)
}

async fn load(
    store: &Store,
    id: u64,
    row: Result<Option<u32>, &'static str>,
) -> Result<Option<User>, &'static str> {
    let row = row.map(|row| row.map(|row| User { id, row }));
    User::get_or_load(store, id, async || row).await
}

async fn open(url: &str, namespace: &str) -> Store {
    writes_into(std::slice::from_ref(&*BEHIND), namespace);
    let builder = Store::builder().url(url).namespace(namespace);
    builder.command_timeout(PATIENCE).connect().await.unwrap()
}

fn counts<const N: usize>(counts: [(&'static str, usize); N]) -> BTreeMap<&'static str, usize> {
    counts.into()
}

async fn a_hit_costs_one_round_trip() {
    let (relay, store) = counted("count-hit").await;
    user(7).set(&store).await.unwrap();
    relay.take();
    assert!(load(&store, 1, Err("it is there")).await.is_ok());
    assert_eq!(relay.take(), counts([("read", 1)]));
}

/// Everything that a type may ask of its loads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "user",
    ttl = "20s",
    jitter = "5%",
    ttl_absent = "20s",
    sliding,
    max_age = "1h",
    stale_if_error = "1h",
    refresh_ahead = "80%",
    load_timeout = "1s"
)]
struct Everything {
    #[cached(key)]
    id: u64,
    row: u32,
}

async fn a_hit_of_a_type_with_everything_costs_one_round_trip() {
    let (relay, store) = counted("count-everything").await;
    let load = async || {
        let load = |_| async { Ok::<_, ()>(Everything { id: 1, row: 7 }) };
        let entry = store
            .of::<Everything>()
            .load(1)
            .in_background()
            .entry()
            .revalidate(load)
            .await;
        entry.unwrap().source()
    };
    assert_eq!(load().await, Source::Loaded);
    assert_eq!(
        relay.take(),
        counts([("read", 1), ("lease", 1), ("fill", 1)])
    );
    assert_eq!(load().await, Source::Cached);
    assert!(Everything::get(&store, 1).await.unwrap().is_some());
    assert_eq!(relay.take(), counts([("read", 2)]));
    assert_eq!(store.stats().background_running(), 0);
    // Where it is stale, and unchanged.
    assert!(store.of::<Everything>().mark_stale(1).await.unwrap());
    assert_eq!(relay.take(), counts([("mark_stale", 1)]));
    let unchanged = async |stale: Option<Stale<Everything>>| {
        Ok::<_, ()>(stale.map_or_else(Loaded::absent, Stale::unchanged))
    };
    let found = store.of::<Everything>().load(1).revalidate(unchanged).await;
    assert!(found.unwrap().is_some());
    let three = counts([("read", 1), ("claim", 1), ("confirm", 1)]);
    assert_eq!(relay.take(), three);
}

async fn a_miss_costs_three_round_trips() {
    let (relay, store) = counted("count-miss").await;
    for (id, row, last) in [
        (1, Ok(Some(7)), "fill"),
        (2, Ok(None), "discard"),
        (3, Err("no database"), "release"),
    ] {
        let given = load(&store, id, row).await;
        assert_eq!(given.map(|user| user.map(|user| user.row)), row);
        assert_eq!(
            relay.take(),
            counts([("read", 1), ("lease", 1), (last, 1)]),
            "{row:?}"
        );
    }
}

/// With a tag that follows from the key, and others that do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "one", tag = "one:{id}")]
struct OneTag {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "five",
    tag = "one:{id}",
    tag = "a:{row}",
    tag = "b:{row}",
    tag = "c:{row}",
    tag = "d:{row}"
)]
struct FiveTags {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// A load under tags costs a round trip more: that for the clock comes with the lease. Where an
/// epoch is missing it costs three more, once for all loads.
async fn tags_cost_a_hit_nothing_or_one_round_trip() {
    let (relay, store) = counted("count-tags").await;
    let one = async |id| {
        let loaded = OneTag::get_or_load(&store, id, async || Ok::<_, ()>(Some(OneTag { id })));
        assert!(loaded.await.unwrap().is_some());
    };
    let five = async |id| {
        let five = FiveTags { id, row: 7 };
        let loaded = FiveTags::get_or_load(&store, id, async || Ok::<_, ()>(Some(five)));
        assert!(loaded.await.unwrap().is_some());
    };
    // The scripts become known.
    one(1).await;
    store.invalidate_tag("one:1").await.unwrap();
    relay.take();

    one(2).await;
    let unmarked = [
        ("read many", 1),
        ("lease", 2),
        ("clock", 2),
        ("epoch", 1),
        ("fill", 2),
    ];
    assert_eq!(relay.take(), counts(unmarked));
    OneTag::del(&store, 2).await.unwrap();
    relay.take();
    one(2).await;
    let known = [
        ("read many", 1),
        ("lease", 1),
        ("clock", 1),
        ("epoch", 1),
        ("fill", 1),
    ];
    assert_eq!(relay.take(), counts(known));
    one(2).await;
    assert!(OneTag::get(&store, 2).await.unwrap().is_some());
    assert_eq!(relay.take(), counts([("read many", 2)]));

    five(1).await;
    let unmarked = [
        ("read many", 1),
        ("lease", 5),
        ("clock", 2),
        ("epoch", 5),
        ("fill", 5),
    ];
    assert_eq!(relay.take(), counts(unmarked));
    five(1).await;
    assert!(FiveTags::get(&store, 1).await.unwrap().is_some());
    assert_eq!(relay.take(), counts([("read many", 4)]));
    // Of many, too.
    FiveTags { id: 3, row: 9 }.set(&store).await.unwrap();
    relay.take();
    let found = FiveTags::get_many(&store, 0..100).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 2);
    assert_eq!(relay.take(), counts([("read many", 2)]));

    store.invalidate_tag("a:7").await.unwrap();
    assert_eq!(relay.take(), counts([("advance", 1), ("raise", 1)]));
    let updated = store
        .of::<FiveTags>()
        .update(3)
        .invalidating(["a:9"])
        .run(async || Ok::<_, ()>(()));
    updated.await.unwrap();
    let guarded = [("enter", 2), ("advance", 2), ("leave", 2)];
    assert_eq!(relay.take(), counts(guarded));
}

/// Found by its row too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", alias = "row")]
struct ByRow {
    #[cached(key)]
    id: u64,
    row: u32,
}

async fn a_value_is_found_by_an_alias_in_two_round_trips() {
    let (relay, store) = counted("count-alias").await;
    let load = async |row: u32, now: u32, found: Option<u64>| {
        let find = async || Ok::<_, ()>(found);
        let load = async |id| Ok(Some(ByRow { id, row: now }));
        let found = ByRow::load_by_row(&store, row).run(find, load).await;
        found.unwrap().map(|found| found.row)
    };
    assert_eq!(load(7, 7, Some(1)).await, Some(7));
    let miss = counts([("read", 2), ("lease", 2), ("fill", 2)]);
    assert_eq!(relay.take(), miss);
    assert_eq!(load(7, 0, None).await, Some(7));
    assert_eq!(relay.take(), counts([("read", 2)]));
    assert!(ByRow::get_by_row(&store, 7).await.unwrap().is_some());
    assert_eq!(relay.take(), counts([("read", 2)]));
    // Where nothing is known of it, nothing else is read.
    assert!(ByRow::get_by_row(&store, 8).await.unwrap().is_none());
    assert_eq!(relay.take(), counts([("read", 1)]));
    assert_eq!(load(8, 8, None).await, None);
    let nothing = counts([("read", 1), ("lease", 1), ("discard", 1)]);
    assert_eq!(relay.take(), nothing);
    // An entry that leads to another value, and one that leads to nothing.
    user(9).set(&store).await.unwrap();
    relay.take();
    assert_eq!(load(7, 0, None).await, None);
    let looked_up = counts([("read", 2), ("lease", 1), ("discard", 1)]);
    assert_eq!(relay.take(), looked_up);
}

async fn a_batch_costs_a_command_an_item() {
    let (relay, store) = counted("count-batch").await;
    let mut batch = store.batch();
    batch.set(&user(7)).set(&User { id: 2, row: 7 });
    batch.del::<User>(3).del::<Limited>(3).mark_stale::<User>(4);
    assert_eq!(batch.send().await.all().unwrap().len(), 5);
    let sent = counts([("set", 2), ("delete", 2), ("mark_stale", 1)]);
    assert_eq!(relay.take(), sent);
    assert!(store.batch().send().await.is_empty());
    assert_eq!(relay.take(), counts([]));
    // Tags have the clock advanced first, once for all of them.
    batch.invalidate_tag("a").set(&user(7)).invalidate_tag("b");
    batch.send().await.all().unwrap();
    relay.take();
    batch.invalidate_tag("a").set(&user(7)).invalidate_tag("b");
    batch.send().await.all().unwrap();
    let sent = counts([("advance", 1), ("raise", 2), ("set", 1)]);
    assert_eq!(relay.take(), sent);
    // No command is sent twice, although the server knows no script.
    let server = Server::plain();
    let relay = Relay::to(&server);
    let store = open(&relay.url(), "count-batch").await;
    relay.take();
    let mut batch = store.batch();
    batch.del::<User>(1).set(&user(7));
    batch.send().await.all().unwrap();
    assert_eq!(relay.take(), counts([("set", 1), ("delete", 1)]));
}

async fn a_guarded_write_costs_two_round_trips() {
    let (relay, store) = counted("count-update").await;
    User::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    assert_eq!(relay.take(), counts([("enter", 1), ("leave", 1)]));
    let user = user(7);
    User::write_through(&store, &user, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    assert_eq!(relay.take(), counts([("enter", 1), ("store through", 1)]));
}

async fn a_load_of_a_guarded_key_costs_one_round_trip() {
    let (relay, store) = counted("count-guarded").await;
    let guard = store.of::<User>().update(1).guard().await.unwrap();
    relay.take();
    load(&store, 1, Ok(Some(7))).await.unwrap();
    assert_eq!(relay.take(), counts([("read", 1)]));
    guard.release().await.unwrap();
}

async fn callers_that_share_a_load_share_their_reads() {
    let (relay, store) = counted("count-shared").await;
    let database = Database::closed(7);
    let calls = database.calls(&store, TASKS);
    database.begun(1).await;
    settle(&store).await;
    database.let_go();
    all_given(calls, 7).await;
    let counted = relay.take();
    let of = |what| counted.get(what).copied().unwrap_or(0);
    assert_eq!((of("lease"), of("fill")), (1, 1), "{counted:?}");
    // Those of callers that wait for the socket together are one.
    assert!((1..=TASKS / 8).contains(&of("read")), "{counted:?}");
}

/// While another process loads, this one asks after its lease by one of its callers only.
async fn many_who_wait_for_another_process_ask_as_one() {
    const WAITING: usize = 500;
    let (relay, there) = counted("count-poll").await;
    let here = open(&BEHIND.url(), "count-poll").await;
    let database = Database::closed(7);
    let owner = database.calls(&here, 1);
    database.begun(1).await;
    let loads = there.stats().loads();
    let unasked = Database::closed(7);
    let waiting = unasked.calls(&there, WAITING);
    let looks = || {
        let sent = relay.take();
        let of = |what| sent.get(what).copied().unwrap_or(0);
        of("lease") + of("read")
    };
    // Each of them looks once, some together; then one looks for all.
    settle(&there).await;
    let (each, mut asked) = (looks(), 0);
    until("one has looked ten times more", async || {
        asked += looks();
        asked >= 10
    })
    .await;
    database.let_go();
    // Where the machine stood still, the lease ran out, and this one loads after all.
    unasked.let_go();
    all_given(owner, 7).await;
    all_given(waiting, 7).await;
    asked += each + looks();
    assert!(
        asked < WAITING + WAITING / 5,
        "{asked} requests of {WAITING} callers"
    );
    assert_eq!(there.stats().loads(), loads);
}

async fn a_server_that_is_dead_is_no_herd_on_the_database() {
    let server = Server::plain();
    let processes = [
        open(&server.url(), "dead").await,
        open(&server.url(), "dead").await,
    ];
    server.kill();
    for store in &processes {
        // The first learns it, the second waits until the first attempt to connect again has
        // failed.
        User::get(store, 1).await.unwrap_err();
        User::get(store, 1).await.unwrap_err();
    }
    let mut all = Vec::new();
    for store in &processes {
        let database = Database::closed(7);
        let calls = database.calls(store, TASKS);
        database.begun(1).await;
        settle(store).await;
        all.push((database, calls));
    }
    for (database, calls) in all {
        database.let_go();
        all_given(calls, 7).await;
        // One that began when nobody else had come yet, and one for all of those who came
        // meanwhile.
        assert_eq!((database.most(), database.loads()), (1, 2));
    }
}

async fn a_key_that_is_guarded_is_no_herd_on_the_database() {
    let store = open(&BEHIND.url(), "count-guard").await;
    let other = open(&BEHIND.url(), "count-guard").await;
    let guard = other.of::<User>().update(1).guard().await.unwrap();
    let database = Database::closed(7);
    let first = database.calls(&store, TASKS / 2);
    database.begun(1).await;
    settle(&store).await;
    let second = database.calls(&store, TASKS / 2);
    settle(&store).await;
    database.let_go();
    all_given(first, 7).await;
    all_given(second, 7).await;
    assert_eq!((database.most(), database.loads()), (1, 2));
    assert!(guard.release().await.unwrap());
    assert_eq!(
        User::get(&store, 1).await.unwrap(),
        None,
        "none of it was stored"
    );
}

/// Each caller gets the error of its own load, and the database sees no more than the type's limit
/// at a time.
async fn a_loader_that_fails_while_the_server_is_dead_fails_for_each_and_ends() {
    let server = Server::plain();
    let store = open(&server.url(), "dead").await;
    server.kill();
    User::get(&store, 1).await.unwrap_err();
    User::get(&store, 1).await.unwrap_err();
    let database = Database::closed(7);
    let calls: Vec<_> = (0..TASKS)
        .map(|call| {
            let (store, database) = (store.clone(), database.clone());
            tokio::spawn(async move {
                Limited::get_or_load(&store, 1, async || {
                    database.load().await;
                    Err::<Limited, _>(call)
                })
                .await
            })
        })
        .collect();
    database.begun(1).await;
    settle(&store).await;
    database.let_go();
    for (at, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Err(at));
    }
    assert_eq!(database.loads(), TASKS);
    assert!(database.most() <= 4, "{} at a time", database.most());
}
