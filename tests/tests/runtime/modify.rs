//! Changes of a value that was read: conditional writes, and `modify`.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use valkey_runtime::testing::{Fault, Request};
use valkey_runtime::{
    Cached, Change, ErrorKind, Invalid, ModifyError, ModifyOptions, SetOptions, Store, Ttl,
};

use crate::stores::On;

suite! {
    crate::modify =>
    nothing_is_lost_however_many_change_a_value
    a_get_and_a_set_lose_what_modify_keeps
    a_closure_creates_changes_keeps_and_deletes
    a_closure_that_fails_changes_nothing
    a_closure_that_panics_gives_its_turn_to_the_next
    a_change_renews_sets_or_keeps_the_ttl
    a_kept_ttl_of_a_sliding_value_is_that_of_the_server
    a_lost_answer_is_neither_a_second_change_nor_an_error
    an_outcome_that_nobody_knows_is_an_error
    a_change_that_was_not_carried_out_is_an_error_of_the_store
    others_that_are_always_first_are_an_error_in_the_end
    a_guard_is_waited_for_and_not_for_ever
    a_load_under_way_is_not_stored_over_a_change
    what_a_change_sees_of_each_entry
    an_older_entry_is_changed_in_its_new_form
    an_older_entry_that_is_not_converted_is_left_alone
    a_newer_entry_is_an_error_and_is_left_alone
    a_change_asks_the_server_and_no_near_copy
    tags_decide_what_a_change_sees_and_stores
    an_invalidation_during_a_change_begins_it_again
    a_set_if_unchanged_is_stored_once
    a_deletion_if_unchanged
    conditions_of_a_batch
    a_store_that_is_switched_off_changes_nothing
    records_tell_what_was_done
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "1h", jitter = "0%", validate = Cart::check)]
struct Cart {
    #[cached(key)]
    id: u64,
    articles: Vec<u64>,
}

impl Cart {
    fn check(&self) -> Result<(), Invalid> {
        match self.articles.contains(&0) {
            true => Err(Invalid::new("articles", "there is no article 0")),
            false => Ok(()),
        }
    }
}

fn cart<const N: usize>(id: u64, articles: [u64; N]) -> Cart {
    let articles = articles.into();
    Cart { id, articles }
}

fn with(article: u64) -> impl FnMut(Option<Cart>) -> Cart {
    move |cart| {
        let mut cart = cart.unwrap_or_default();
        cart.id = 1;
        cart.articles.push(article);
        cart
    }
}

async fn add(store: &Store, article: u64) -> Result<Cart, ModifyError<Infallible>> {
    Cart::modify(store, 1, with(article)).await
}

async fn articles(store: &Store) -> Option<Vec<u64>> {
    let cart = store.of::<Cart>().skip_near().get(1).await.unwrap();
    cart.map(|cart| cart.articles)
}

/// Two processes, or one where the store is in the process.
async fn two_stores(on: On, namespace: &str) -> Vec<Store> {
    let first = on.store(namespace).await;
    match on {
        On::Memory => vec![first],
        _ => vec![first, on.store(namespace).await],
    }
}

async fn nothing_is_lost_however_many_change_a_value(on: On) {
    let stores = two_stores(on, "modify-many").await;
    for tasks in [2_u64, 30, 300] {
        Cart::del(&stores[0], 1).await.unwrap();
        let changes = (0..tasks).map(|task| {
            let store = stores[task as usize % stores.len()].clone();
            tokio::spawn(async move {
                let patient = ModifyOptions::new().within(Duration::from_secs(600));
                for round in 0..2 {
                    let article = 1 + 2 * task + round;
                    let cart = store.of::<Cart>().modify_with(1, patient, with(article));
                    assert!(cart.await.unwrap().articles.contains(&article));
                }
            })
        });
        for change in changes.collect::<Vec<_>>() {
            change.await.unwrap();
        }
        let mut found = articles(&stores[0]).await.unwrap();
        found.sort_unstable();
        assert_eq!(found, (1..=2 * tasks).collect::<Vec<_>>(), "{tasks} tasks");
    }
}

/// The same with a read and a write, in an order that loses one.
async fn a_get_and_a_set_lose_what_modify_keeps(on: On) {
    let store = on.store("modify-naive").await;
    let naive = async |article| {
        let read = Cart::get(&store, 1).await.unwrap();
        with(article)(read).set(&store).await.unwrap();
    };
    let held = store.faults().hold_next(Request::Store);
    let first = async {
        held.reached().await;
        naive(1).await;
        held.release();
    };
    tokio::join!(naive(2), first);
    assert_eq!(articles(&store).await, Some(vec![2]), "1 is lost");

    Cart::del(&store, 1).await.unwrap();
    let held = store.faults().hold_next(Request::Store);
    let first = async {
        held.reached().await;
        // The other caller has its turn, and waits for this one.
        cart(1, [1]).set(&store).await.unwrap();
        held.release();
    };
    let (changed, ()) = tokio::join!(add(&store, 2), first);
    assert_eq!(changed.unwrap().articles, [1, 2]);
    assert_eq!(articles(&store).await, Some(vec![1, 2]));
}

async fn a_closure_creates_changes_keeps_and_deletes(on: On) {
    let store = on.store("modify-all").await;
    let carts = store.of::<Cart>();
    let seen = |expected: Option<Cart>| move |found: Option<Cart>| assert_eq!(found, expected);
    // Nothing is there, and nothing is made of it.
    for change in [Change::Keep, Change::Delete] {
        let kept = carts.modify(1, |found| {
            seen(None)(found);
            change.clone()
        });
        assert_eq!(kept.await.unwrap(), None);
        assert_eq!(articles(&store).await, None);
    }
    let deleted = carts.modify(1, |found| {
        seen(None)(found);
        None
    });
    assert_eq!(deleted.await.unwrap(), None);

    assert_eq!(add(&store, 7).await.unwrap(), cart(1, [7]));
    assert_eq!(add(&store, 8).await.unwrap(), cart(1, [7, 8]));
    let before = carts.get_entry(1).await.unwrap().unwrap();
    let kept = carts.modify(1, |found| {
        seen(Some(cart(1, [7, 8])))(found);
        Change::Keep
    });
    assert_eq!(kept.await.unwrap(), Some(cart(1, [7, 8])));
    let after = carts.get_entry(1).await.unwrap().unwrap();
    assert_eq!(after.stamp(), before.stamp(), "nothing was written");

    let emptied = carts.modify(1, |found: Option<Cart>| {
        found.filter(|cart| cart.articles.len() < 2)
    });
    assert_eq!(emptied.await.unwrap(), None);
    assert_eq!(articles(&store).await, None);
}

#[derive(Debug, PartialEq)]
struct Full;

async fn a_closure_that_fails_changes_nothing(on: On) {
    let store = on.store("modify-fails").await;
    cart(1, [1]).set(&store).await.unwrap();
    let calls = AtomicUsize::new(0);
    let failed = Cart::modify(&store, 1, |cart: Option<Cart>| {
        calls.fetch_add(1, SeqCst);
        match cart.unwrap().articles.len() {
            0 => Ok(None),
            _ => Err(Full),
        }
    });
    let failed = failed.await;
    assert!(
        matches!(failed, Err(ModifyError::Change(Full))),
        "{failed:?}"
    );
    assert_eq!(calls.load(SeqCst), 1);

    // Neither does a value that is not stored.
    let invalid = add(&store, 0).await.unwrap_err();
    let ModifyError::Store(error) = &invalid else {
        panic!("{invalid:?}")
    };
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        (error.operation(), error.key()),
        (Some("modify"), error.key())
    );
    assert!(invalid.to_string().starts_with("modify cart#"), "{invalid}");
    assert_eq!(articles(&store).await, Some(vec![1]));
}

async fn a_closure_that_panics_gives_its_turn_to_the_next(on: On) {
    let store = on.store("modify-panics").await;
    let panics = Cart::modify(&store, 1, |_: Option<Cart>| -> Cart { panic!("of a test") });
    assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
    assert_eq!(add(&store, 1).await.unwrap(), cart(1, [1]));
}

fn ttl_of(ttl: Option<Ttl>) -> Duration {
    match ttl {
        Some(Ttl::After(ttl)) => ttl,
        ttl => panic!("{ttl:?}"),
    }
}

async fn a_change_renews_sets_or_keeps_the_ttl(on: On) {
    let store = on.store("modify-ttl").await;
    let carts = store.of::<Cart>();
    let short = Duration::from_secs(600);
    let left = async || ttl_of(carts.ttl(1).await.unwrap());
    let set_short = async || {
        let options = SetOptions::new().ttl(short);
        cart(1, [1]).set_with(&store, options).await.unwrap()
    };
    set_short().await;
    add(&store, 2).await.unwrap();
    assert!(left().await > short, "that of the type");

    set_short().await;
    let keep = ModifyOptions::new().keep_ttl();
    carts.modify_with(1, keep, with(3)).await.unwrap();
    let kept = left().await;
    assert!(kept <= short && kept > short / 2, "{kept:?}");
    assert_eq!(articles(&store).await, Some(vec![1, 3]));

    let long = ModifyOptions::new().ttl(Duration::from_secs(7200));
    carts.modify_with(1, long, with(4)).await.unwrap();
    assert!(left().await > Duration::from_secs(3600));
    let for_ever = ModifyOptions::new().ttl(Ttl::Never);
    carts.modify_with(1, for_ever, with(5)).await.unwrap();
    assert_eq!(carts.ttl(1).await.unwrap(), Some(Ttl::Never));
    carts.modify_with(1, keep, with(6)).await.unwrap();
    assert_eq!(carts.ttl(1).await.unwrap(), Some(Ttl::Never));

    // A new value has no TTL that could be kept.
    Cart::del(&store, 1).await.unwrap();
    carts.modify_with(1, keep, with(7)).await.unwrap();
    assert!(left().await > short);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "session",
    ttl = "30m",
    jitter = "0%",
    sliding,
    max_age = "7d"
)]
struct Session {
    #[cached(key)]
    id: u64,
    pages: u64,
}

/// The same entries, without a freshness in the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "session", ttl = "30m", jitter = "0%")]
struct Plain {
    #[cached(key)]
    id: u64,
    pages: u64,
}

async fn a_kept_ttl_of_a_sliding_value_is_that_of_the_server(on: On) {
    let store = on.store("modify-sliding").await;
    let sessions = store.of::<Session>();
    let left = async || ttl_of(sessions.ttl(1).await.unwrap());
    let short = Duration::from_secs(600);
    let options = SetOptions::new().ttl(short);
    let first = Session { id: 1, pages: 1 };
    first.set_with(&store, options).await.unwrap();
    let keep = ModifyOptions::new().keep_ttl();
    let visit = |session: Option<Session>| {
        let session = session.unwrap();
        let pages = session.pages + 1;
        Session { pages, ..session }
    };
    // It is extended between the read and the write.
    let held = store.faults().hold_next(Request::Store);
    let touched = async {
        held.reached().await;
        assert!(Session::touch(&store, 1).await.unwrap());
        held.release();
    };
    let (changed, ()) = tokio::join!(sessions.modify_with(1, keep, visit), touched);
    assert_eq!(changed.unwrap().pages, 2);
    let kept = left().await;
    assert!(
        kept > short && kept <= Duration::from_secs(1800),
        "{kept:?}"
    );
    assert_eq!(sessions.get(1).await.unwrap().unwrap().pages, 2);

    // A type that has become sliding since, and one that is no longer so.
    let plain = Plain { id: 1, pages: 3 };
    plain.set_with(&store, options).await.unwrap();
    sessions.modify_with(1, keep, visit).await.unwrap();
    assert!(left().await <= short);
    let pages = |plain: Option<Plain>| Plain {
        id: 1,
        pages: plain.unwrap().pages + 1,
    };
    store
        .of::<Plain>()
        .modify_with(1, keep, pages)
        .await
        .unwrap();
    assert!(left().await <= short);
    assert_eq!(sessions.get(1).await.unwrap().unwrap().pages, 5);
}

fn lost() -> Fault {
    Fault::lost_reply().on(Request::Store)
}

async fn a_lost_answer_is_neither_a_second_change_nor_an_error(on: On) {
    let store = on.store("modify-lost").await;
    for times in 1..=3 {
        store.faults().fail_times(times, lost());
        add(&store, times as u64).await.unwrap();
        assert_eq!(store.faults().pending(), 0);
    }
    assert_eq!(articles(&store).await, Some(vec![1, 2, 3]));
    assert_eq!(store.undelivered(), 0, "nothing is deleted later");

    // It was not carried out: then it is, when it is sent again.
    let fault = Fault::error(ErrorKind::Timeout).on(Request::Store);
    store.faults().fail_next(fault);
    add(&store, 4).await.unwrap();
    assert_eq!(articles(&store).await, Some(vec![1, 2, 3, 4]));
}

async fn an_outcome_that_nobody_knows_is_an_error(on: On) {
    let store = on.store("modify-unknown").await;
    cart(1, [1]).set(&store).await.unwrap();
    store.faults().fail_times(4, lost());
    let error = add(&store, 2).await.unwrap_err();
    assert!(matches!(error, ModifyError::Unknown(_)), "{error:?}");
    assert!(error.to_string().contains("unknown whether"), "{error}");
    assert_eq!(
        articles(&store).await,
        Some(vec![1, 2]),
        "it was made, once"
    );

    // Another caller is first before it is sent again.
    store.faults().fail_next(lost());
    let held = store.faults().hold_next(Request::Store);
    let other = async {
        held.reached().await;
        cart(1, [9]).set(&store).await.unwrap();
        held.release();
    };
    let (changed, ()) = tokio::join!(add(&store, 3), other);
    assert!(
        matches!(changed, Err(ModifyError::Unknown(_))),
        "{changed:?}"
    );
    assert_eq!(articles(&store).await, Some(vec![9]));

    // A deletion leaves no stamp.
    let fault = Fault::lost_reply().on(Request::Delete);
    store.faults().fail_next(fault);
    let deleted = Cart::modify(&store, 1, |_: Option<Cart>| None::<Cart>).await;
    assert!(
        matches!(deleted, Err(ModifyError::Unknown(_))),
        "{deleted:?}"
    );
    assert_eq!(articles(&store).await, None);
}

async fn a_change_that_was_not_carried_out_is_an_error_of_the_store(on: On) {
    let store = on.store("modify-refused").await;
    cart(1, [1]).set(&store).await.unwrap();
    for fault in [
        Fault::error(ErrorKind::OutOfMemory).on(Request::Store),
        Fault::error(ErrorKind::ReadOnly).on(Request::Store),
        Fault::error(ErrorKind::Timeout).on(Request::Read),
    ] {
        store.faults().fail_next(fault);
        let error = add(&store, 2).await.unwrap_err();
        assert!(matches!(error, ModifyError::Store(_)), "{error:?}");
        assert_eq!(store.faults().pending(), 0);
    }
    store.faults().take_down();
    let error = add(&store, 2).await.unwrap_err();
    assert!(error.store_error().unwrap().is_refused());
    store.faults().recover();
    assert_eq!(articles(&store).await, Some(vec![1]));
    assert_eq!(store.undelivered(), 0);
}

async fn others_that_are_always_first_are_an_error_in_the_end(on: On) {
    let store = on.store("modify-contended").await;
    let twice = ModifyOptions::new().attempts(2);
    let calls = AtomicUsize::new(0);
    let disturb = async || {
        for n in 0..2 {
            let held = store.faults().hold_next(Request::Store);
            held.reached().await;
            cart(1, [100 + n]).set(&store).await.unwrap();
            held.release();
        }
    };
    let change = store.of::<Cart>().modify_with(1, twice, |cart| {
        calls.fetch_add(1, SeqCst);
        with(1)(cart)
    });
    let (changed, ()) = tokio::join!(change, disturb());
    let Err(ModifyError::Contended(error)) = changed else {
        panic!("{changed:?}")
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("2 attempts"), "{error}");
    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(articles(&store).await, Some(vec![101]));
}

async fn a_guard_is_waited_for_and_not_for_ever(on: On) {
    let store = on.store("modify-guard").await;
    let carts = store.of::<Cart>();
    let guard = carts.update(1).guard().await.unwrap();
    let soon = ModifyOptions::new().within(Duration::from_millis(50));
    let changed = carts.modify_with(1, soon, with(1)).await;
    assert!(
        matches!(changed, Err(ModifyError::Contended(_))),
        "{changed:?}"
    );
    let released = async {
        tokio::task::yield_now().await;
        guard.release().await.unwrap();
    };
    let patient = ModifyOptions::new().within(Duration::from_secs(60));
    let (changed, ()) = tokio::join!(carts.modify_with(1, patient, with(2)), released);
    assert_eq!(changed.unwrap().articles, [2]);
}

async fn a_load_under_way_is_not_stored_over_a_change(on: On) {
    let store = on.store("modify-load").await;
    let loaded = Cart::get_or_load(&store, 1, async || {
        add(&store, 1).await.unwrap();
        Ok::<_, ()>(cart(1, [9]))
    });
    assert_eq!(loaded.await.unwrap(), cart(1, [9]));
    assert_eq!(articles(&store).await, Some(vec![1]));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "1h", stale_if_error = "1h", ttl_absent = "1h")]
struct Page {
    #[cached(key)]
    id: u64,
    text: String,
}

/// The same entries with a number for a text, and errors for what it can't read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "page",
    ttl = "1h",
    stale_if_error = "1h",
    on_corrupt = "error"
)]
struct Number {
    #[cached(key)]
    id: u64,
    text: u64,
}

fn page(text: &str) -> Page {
    let text = text.to_owned();
    Page { id: 1, text }
}

async fn what_a_change_sees_of_each_entry(on: On) {
    let store = on.store("modify-sees").await;
    let pages = store.of::<Page>();
    let change = async |expected: Option<Page>| {
        let changed = pages.modify(1, |found| {
            assert_eq!(found, expected);
            page("changed")
        });
        assert_eq!(changed.await.unwrap(), page("changed"));
        assert_eq!(pages.get(1).await.unwrap(), Some(page("changed")));
    };
    change(None).await;
    change(Some(page("changed"))).await;
    // A stale value is none.
    pages.mark_stale(1).await.unwrap();
    change(None).await;
    // Neither is a cached "not found".
    Page::del(&store, 1).await.unwrap();
    let nothing = Page::get_or_load(&store, 1, async || Ok::<_, ()>(None));
    assert_eq!(nothing.await.unwrap(), None);
    change(None).await;
    // Nor a corrupt entry, which is counted.
    Number { id: 1, text: 7 }.set(&store).await.unwrap();
    let before = store.stats().corrupt();
    change(None).await;
    assert_eq!(store.stats().corrupt(), before + 1);
    // A type may treat it as an error.
    let failed = Number::modify(&store, 1, |_| Number { id: 1, text: 8 }).await;
    let error = failed.unwrap_err();
    let ModifyError::Store(error) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    if on != On::Memory {
        on.raw(&["SET", "modify-sees:page:1", "rubbish"]);
        change(None).await;
        on.raw(&["DEL", "modify-sees:page:1"]);
        on.raw(&["RPUSH", "modify-sees:page:1", "x"]);
        let foreign = pages.modify(1, |_| page("changed")).await;
        assert!(matches!(foreign, Err(ModifyError::Store(_))), "{foreign:?}");
        on.raw(&["DEL", "modify-sees:page:1"]);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "basket", ttl = "1h", jitter = "0%")]
struct BasketV1 {
    #[cached(key)]
    id: u64,
    article: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "basket", ttl = "1h", version = 2, migrate_from = BasketV1)]
struct Basket {
    #[cached(key)]
    id: u64,
    articles: Vec<u64>,
}

impl TryFrom<BasketV1> for Basket {
    type Error = &'static str;

    fn try_from(BasketV1 { id, article }: BasketV1) -> Result<Self, Self::Error> {
        match article {
            13 => Err("nobody wants it"),
            article => Ok(Self {
                id,
                articles: vec![article],
            }),
        }
    }
}

fn more(basket: Option<Basket>) -> Basket {
    let mut basket = basket.unwrap();
    basket.articles.push(7);
    basket
}

async fn an_older_entry_is_changed_in_its_new_form(on: On) {
    let store = on.store("modify-older").await;
    let short = SetOptions::new().ttl(Duration::from_secs(600));
    let old = BasketV1 { id: 1, article: 1 };
    old.set_with(&store, short).await.unwrap();
    let keep = ModifyOptions::new().keep_ttl();
    let changed = store.of::<Basket>().modify_with(1, keep, more);
    assert_eq!(changed.await.unwrap().articles, [1, 7]);
    assert_eq!(
        Basket::get(&store, 1).await.unwrap().unwrap().articles,
        [1, 7]
    );
    let left = ttl_of(store.of::<Basket>().ttl(1).await.unwrap());
    assert!(left <= Duration::from_secs(600), "{left:?}");
}

async fn an_older_entry_that_is_not_converted_is_left_alone(on: On) {
    let store = on.store("modify-unmigrated").await;
    let old = BasketV1 { id: 1, article: 13 };
    old.set(&store).await.unwrap();
    let changed = Basket::modify(&store, 1, |_| Basket {
        id: 1,
        articles: vec![],
    });
    let error = changed.await.unwrap_err();
    assert!(matches!(error, ModifyError::Store(_)), "{error:?}");
    assert_eq!(BasketV1::get(&store, 1).await.unwrap(), Some(old));
}

async fn a_newer_entry_is_an_error_and_is_left_alone(on: On) {
    let store = on.store("modify-newer").await;
    let new = Basket {
        id: 1,
        articles: vec![1],
    };
    new.set(&store).await.unwrap();
    let change = async |store: &Store| {
        BasketV1::modify(store, 1, |seen| {
            assert_eq!(seen, None);
            BasketV1 { id: 1, article: 2 }
        })
        .await
    };
    let error = change(&store).await.unwrap_err();
    assert!(matches!(error, ModifyError::Store(_)), "{error:?}");
    assert!(error.to_string().contains("newer"), "{error}");
    assert_eq!(Basket::get(&store, 1).await.unwrap(), Some(new));
    if on != On::Memory {
        // After a rollback it gives way in the end.
        let builder = on.builder().namespace("modify-newer");
        let builder = builder.newer_wins_for(Duration::ZERO);
        let later = builder.connect().await.unwrap();
        assert_eq!(change(&later).await.unwrap().article, 2);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "balance", ttl = "1h", near = "1h")]
struct Balance {
    #[cached(key)]
    id: u64,
    cents: i64,
}

async fn a_change_asks_the_server_and_no_near_copy(on: On) {
    let stores = two_stores(on, "modify-near").await;
    let (one, other) = (&stores[0], &stores[stores.len() - 1]);
    Balance { id: 1, cents: 1 }.set(one).await.unwrap();
    for _ in 0..20 {
        let near = Balance::get(one, 1).await.unwrap();
        let of_other = other.of::<Balance>().skip_near().get(1).await.unwrap();
        assert_eq!(near, of_other);
        let add = |balance: Option<Balance>| Balance {
            id: 1,
            cents: balance.unwrap().cents + 1,
        };
        let before = of_other.unwrap().cents;
        let changed = Balance::modify(other, 1, add).await.unwrap();
        assert_eq!(changed.cents, before + 1);
        // The copy of `one` may be old for a moment; its change is made of the server's value.
        let changed = Balance::modify(one, 1, add).await.unwrap();
        assert_eq!(changed.cents, before + 2);
        // A process does not read what it has changed itself.
        assert_eq!(Balance::get(one, 1).await.unwrap(), Some(changed));
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "item", ttl = "1h", tag = "shelf:{shelf}")]
struct Item {
    #[cached(key)]
    id: u64,
    shelf: u64,
    count: u64,
}

fn counted(shelf: u64) -> impl FnMut(Option<Item>) -> Item {
    move |item| Item {
        id: 1,
        shelf,
        count: item.map_or(0, |item| item.count) + 1,
    }
}

async fn tags_decide_what_a_change_sees_and_stores(on: On) {
    let store = on.store("modify-tags").await;
    let change = async |shelf| Item::modify(&store, 1, counted(shelf)).await.unwrap().count;
    assert_eq!(change(7).await, 1);
    assert_eq!(change(7).await, 2);
    store.invalidate_tag("shelf:7").await.unwrap();
    assert_eq!(change(8).await, 1, "it was invalidated");
    // It has the tags of the new value.
    store.invalidate_tag("shelf:7").await.unwrap();
    assert_eq!(change(8).await, 2);
    assert_eq!(Item::get(&store, 1).await.unwrap().unwrap().count, 2);
    store.invalidate_tag("shelf:8").await.unwrap();
    assert_eq!(Item::get(&store, 1).await.unwrap(), None);
    let keep = ModifyOptions::new().keep_ttl();
    let kept = store.of::<Item>().modify_with(1, keep, counted(8)).await;
    assert_eq!(kept.unwrap().count, 1);
    let kept = store.of::<Item>().modify_with(1, keep, counted(8)).await;
    assert_eq!(kept.unwrap().count, 2);
    assert_eq!(Item::get(&store, 1).await.unwrap().unwrap().count, 2);
}

async fn an_invalidation_during_a_change_begins_it_again(on: On) {
    let store = on.store("modify-tag-race").await;
    Item::modify(&store, 1, counted(7)).await.unwrap();
    let calls = AtomicUsize::new(0);
    // The tag is invalidated after the read.
    let held = store.faults().hold_next(Request::Store);
    let invalidated = async {
        held.reached().await;
        store.invalidate_tag("shelf:7").await.unwrap();
        held.release();
    };
    let change = Item::modify(&store, 1, |item| {
        calls.fetch_add(1, SeqCst);
        counted(7)(item)
    });
    let (changed, ()) = tokio::join!(change, invalidated);
    assert_eq!(changed.unwrap().count, 1, "made of nothing");
    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(Item::get(&store, 1).await.unwrap().unwrap().count, 1);
}

async fn a_set_if_unchanged_is_stored_once(on: On) {
    let store = on.store("unchanged").await;
    let carts = store.of::<Cart>();
    let set = async |stamp: u64, article| {
        let unchanged = SetOptions::new().if_unchanged(stamp);
        cart(1, [article])
            .set_with(&store, unchanged)
            .await
            .unwrap()
    };
    assert!(!set(7, 1).await, "nothing is there");
    cart(1, [1]).set(&store).await.unwrap();
    let read = carts.get_entry(1).await.unwrap().unwrap();
    assert!(carts.touch(1).await.unwrap(), "it changes nothing");
    assert!(set(read.stamp(), 2).await);
    assert!(!set(read.stamp(), 3).await, "it is another one");
    assert_eq!(articles(&store).await, Some(vec![2]));
    let read = carts.get_entry(1).await.unwrap().unwrap();
    let options = SetOptions::new().ttl(Duration::from_secs(7200));
    let options = options.if_unchanged(&read);
    assert!(cart(1, [4]).set_with(&store, options).await.unwrap());
    assert!(ttl_of(carts.ttl(1).await.unwrap()) > Duration::from_secs(3600));
    let read = carts.get_entry(1).await.unwrap().unwrap();
    Cart::del(&store, 1).await.unwrap();
    assert!(!set(read.stamp(), 5).await);

    // Its answer may be lost: then it is an error, and nothing is deleted.
    cart(1, [6]).set(&store).await.unwrap();
    let read = carts.get_entry(1).await.unwrap().unwrap();
    store.faults().fail_next(lost());
    let unchanged = SetOptions::new().if_unchanged(&read);
    let unknown = cart(1, [7]).set_with(&store, unchanged).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(store.undelivered(), 0);
    assert_eq!(articles(&store).await, Some(vec![7]));

    // Under a guard nothing is stored.
    let read = carts.get_entry(1).await.unwrap().unwrap();
    let guard = carts.update(1).guard().await.unwrap();
    assert!(!set(read.stamp(), 8).await);
    guard.release().await.unwrap();

    // A value that its tags have invalidated is not what was read.
    let first = Item::modify(&store, 1, counted(7)).await.unwrap();
    let read = store.of::<Item>().get_entry(1).await.unwrap().unwrap();
    let unchanged = SetOptions::new().if_unchanged(&read);
    store.invalidate_tag("shelf:7").await.unwrap();
    assert!(!first.set_with(&store, unchanged).await.unwrap());
    let second = Item::modify(&store, 1, counted(7)).await.unwrap();
    let read = store.of::<Item>().get_entry(1).await.unwrap().unwrap();
    let unchanged = SetOptions::new().if_unchanged(&read);
    assert!(second.set_with(&store, unchanged).await.unwrap());
}

async fn a_deletion_if_unchanged(on: On) {
    let store = on.store("del-unchanged").await;
    let carts = store.of::<Cart>();
    cart(1, [1]).set(&store).await.unwrap();
    let read = carts.get_entry(1).await.unwrap().unwrap();
    add(&store, 2).await.unwrap();
    assert!(!carts.del_if_unchanged(1, &read).await.unwrap());
    assert_eq!(articles(&store).await, Some(vec![1, 2]));
    let read = carts.get_entry(1).await.unwrap().unwrap();
    assert!(carts.del_if_unchanged(1, read.stamp()).await.unwrap());
    assert_eq!(articles(&store).await, None);
    assert!(!carts.del_if_unchanged(1, &read).await.unwrap());
    let guard = carts.update(1).guard().await.unwrap();
    assert!(!carts.del_if_unchanged(1, &read).await.unwrap());
    assert!(guard.still_held().await.unwrap());
}

async fn conditions_of_a_batch(on: On) {
    let store = on.store("batch-unchanged").await;
    let carts = store.of::<Cart>();
    for id in 1..=2 {
        cart(id, [id]).set(&store).await.unwrap();
    }
    let read = carts.get_entry(1).await.unwrap().unwrap();
    let unchanged = SetOptions::new().if_unchanged(&read);
    let mut batch = store.batch();
    batch
        .set_with(&cart(1, [7]), unchanged)
        .set_with(&cart(2, [7]), unchanged)
        .set_with(&cart(3, [7]), unchanged);
    assert_eq!(batch.send().await.all().unwrap(), [true, false, false]);
    let found = Cart::get_many(&store, [1, 2, 3]).await.unwrap();
    assert_eq!(found, [Some(cart(1, [7])), Some(cart(2, [2])), None]);
}

async fn a_store_that_is_switched_off_changes_nothing(on: On) {
    let store = on.store("modify-off").await;
    cart(1, [1]).set(&store).await.unwrap();
    store.set_enabled(false);
    let error = add(&store, 2).await.unwrap_err();
    let ModifyError::Store(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.kind(), ErrorKind::Disabled);
    assert!(error.to_string().contains("switched off"), "{error}");
    store.set_enabled(true);
    assert_eq!(articles(&store).await, Some(vec![1]));
}

async fn records_tell_what_was_done(on: On) {
    let store = on.store("modify-record").await;
    let record = store.record();
    let carts = store.of::<Cart>();
    add(&store, 1).await.unwrap();
    carts.modify(1, |_| Change::Keep).await.unwrap();
    carts.modify(1, |_| Change::Delete).await.unwrap();
    let failed = carts.modify(1, |_| Err::<Cart, _>(Full)).await;
    assert!(failed.is_err());
    store.faults().fail_next(ErrorKind::OutOfMemory);
    assert!(add(&store, 1).await.is_err());
    let full = std::any::type_name::<Full>();
    assert_eq!(
        record.take(),
        [
            "modify cart:1: stored",
            "modify cart:1: done",
            "modify cart:1: not there",
            &format!("modify cart:1: failed: {full}"),
            "modify cart:1: failed: out_of_memory",
        ]
    );
}
