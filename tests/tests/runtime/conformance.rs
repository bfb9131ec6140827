//! One suite over every backend: the in-process store and real servers behave alike.

use std::time::Duration;

use crate::database::until;
use crate::steady::writes_into;
use crate::stores::On;
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, ErrorKind, SetOptions, Store, Ttl};

suite! {
    crate::conformance =>
    a_value_comes_back
    a_missing_key_is_a_miss
    the_last_writer_wins
    deleting_tells_whether_a_value_was_there
    only_if_absent_stores_once
    only_if_present_needs_a_value
    a_ttl_can_be_read_set_and_restarted
    an_entry_of_its_own_ttl_expires
    many_are_read_in_the_order_of_the_keys
    bulk_verbs_of_none
    bulk_verbs_of_a_hundred_thousand
    keys_of_every_shape
    an_older_version_is_a_miss_and_is_replaced
    a_newer_version_is_a_miss_and_is_left_alone
    another_types_value_is_a_miss_and_is_removed
    corrupt_entries_are_kept_where_the_type_says_so
    corrupt_entries_are_errors_where_the_type_says_so
    a_corrupt_entry_in_a_batch_leaves_the_others
    a_value_over_the_size_limit_is_refused
    namespaces_do_not_meet
    dropped_and_spawned_calls
    hits_and_misses_are_counted
    the_handle_has_the_same_verbs
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m", version = 2)]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick: Option<String>,
}

/// The same keys as [`User`], of the release before.
#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 1)]
struct OldUser {
    #[cached(key)]
    id: u64,
    full_name: String,
}

/// The same keys and version as [`User`], but another type.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2)]
struct Impostor {
    #[cached(key)]
    id: u64,
    name: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, keep_corrupt)]
struct Keeping {
    #[cached(key)]
    id: u64,
    name: String,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, on_corrupt = "error")]
struct Strict {
    #[cached(key)]
    id: u64,
    name: String,
}

fn user(id: u64) -> User {
    User {
        id,
        name: format!("user {id}"),
        nick: None,
    }
}

async fn a_value_comes_back(on: On) {
    let store = on.store("comes-back").await;
    let ada = User {
        nick: Some("Countess".into()),
        ..user(42)
    };
    ada.set(&store).await.unwrap();
    assert_eq!(User::get(&store, 42).await.unwrap(), Some(ada));
    assert!(User::exists(&store, 42).await.unwrap());
}

async fn a_missing_key_is_a_miss(on: On) {
    let store = on.store("not-there").await;
    assert_eq!(User::get(&store, 42).await.unwrap(), None);
    assert!(!User::exists(&store, 42).await.unwrap());
    assert_eq!(store.of::<User>().ttl(42).await.unwrap(), None);
    assert!(!User::touch(&store, 42).await.unwrap());
}

async fn the_last_writer_wins(on: On) {
    let store = on.store("last-writer").await;
    user(1).set(&store).await.unwrap();
    let second = User {
        name: "second".into(),
        ..user(1)
    };
    second.set(&store).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(second));
}

async fn deleting_tells_whether_a_value_was_there(on: On) {
    let store = on.store("deleting").await;
    assert!(!User::del(&store, 1).await.unwrap());
    user(1).set(&store).await.unwrap();
    assert!(User::del(&store, 1).await.unwrap());
    assert!(!User::del(&store, 1).await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), None);

    OldUser {
        id: 1,
        full_name: "Ada".into(),
    }
    .set(&store)
    .await
    .unwrap();
    assert!(
        User::del(&store, 1).await.unwrap(),
        "a value of another version is one"
    );
}

async fn only_if_absent_stores_once(on: On) {
    let store = on.store("if-absent").await;
    let once = SetOptions::new().if_absent();
    assert!(user(1).set_with(&store, once).await.unwrap());
    let second = User {
        name: "second".into(),
        ..user(1)
    };
    assert!(!second.set_with(&store, once).await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));
}

async fn only_if_present_needs_a_value(on: On) {
    let store = on.store("if-present").await;
    let replace = SetOptions::new().if_present();
    assert!(!user(1).set_with(&store, replace).await.unwrap());
    assert!(!User::exists(&store, 1).await.unwrap());
    user(1).set(&store).await.unwrap();
    let second = User {
        name: "second".into(),
        ..user(1)
    };
    assert!(second.set_with(&store, replace).await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(second));
}

/// With room for the jitter of five minutes, and for a slow machine.
fn about(ttl: Option<Ttl>, seconds: u64) -> bool {
    let at_most = Duration::from_secs(seconds);
    matches!(ttl, Some(Ttl::After(left)) if left <= at_most && left + Duration::from_secs(40) > at_most)
}

async fn a_ttl_can_be_read_set_and_restarted(on: On) {
    let store = on.store("life").await;
    user(1).set(&store).await.unwrap();
    assert!(about(store.of::<User>().ttl(1).await.unwrap(), 300));

    user(1)
        .set_with(&store, SetOptions::new().ttl(Duration::from_secs(60)))
        .await
        .unwrap();
    assert!(about(store.of::<User>().ttl(1).await.unwrap(), 60));
    assert!(User::touch(&store, 1).await.unwrap());
    assert!(about(store.of::<User>().ttl(1).await.unwrap(), 300));

    user(1)
        .set_with(&store, SetOptions::new().ttl(Ttl::Never))
        .await
        .unwrap();
    assert_eq!(store.of::<User>().ttl(1).await.unwrap(), Some(Ttl::Never));
    user(1)
        .set_with(&store, SetOptions::new().ttl(Ttl::Never).if_present())
        .await
        .unwrap();
    assert_eq!(store.of::<User>().ttl(1).await.unwrap(), Some(Ttl::Never));

    let error = user(1)
        .set_with(&store, SetOptions::new().ttl(Duration::ZERO))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

async fn an_entry_of_its_own_ttl_expires(on: On) {
    let store = on.store("expires").await;
    user(1)
        .set_with(&store, SetOptions::new().ttl(Duration::from_millis(20)))
        .await
        .unwrap();
    until("it expires", async || {
        User::get(&store, 1).await.unwrap().is_none()
    })
    .await;
}

async fn many_are_read_in_the_order_of_the_keys(on: On) {
    let store = on.store("many").await;
    User::set_many(&store, &[user(1), user(3), user(5)])
        .await
        .unwrap();
    let ids: Vec<u64> = vec![5, 4, 3, 3, 1];
    let found = User::get_many(&store, &ids).await.unwrap();
    assert_eq!(
        found,
        [
            Some(user(5)),
            None,
            Some(user(3)),
            Some(user(3)),
            Some(user(1))
        ]
    );
    assert_eq!(User::del_many(&store, [1, 2, 3]).await.unwrap(), 2);
    assert_eq!(
        User::get_many(&store, ids).await.unwrap(),
        [Some(user(5)), None, None, None, None]
    );
}

async fn bulk_verbs_of_none(on: On) {
    let store = on.store("none").await;
    User::set_many(&store, []).await.unwrap();
    assert_eq!(User::get_many(&store, [0u64; 0]).await.unwrap(), []);
    assert_eq!(User::del_many(&store, [0u64; 0]).await.unwrap(), 0);
}

async fn bulk_verbs_of_a_hundred_thousand(on: On) {
    const COUNT: u64 = 100_000;
    writes_into(on.nodes(), "hundred-thousand");
    let store = on.builder().namespace("hundred-thousand");
    let store = store.connect().await.unwrap();
    let users: Vec<User> = (0..COUNT).map(user).collect();
    User::set_many(&store, &users).await.unwrap();
    let found = User::get_many(&store, 0..COUNT).await.unwrap();
    assert!(found.iter().flatten().eq(&users));
    assert_eq!(User::del_many(&store, 0..COUNT).await.unwrap(), COUNT);
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "site-config", ttl = "never")]
struct SiteConfig {
    motd: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
struct Membership {
    #[cached(key(hash_tag))]
    org: String,
    #[cached(key)]
    user: u64,
    role: char,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(key = String)]
struct Page {
    html: String,
}

async fn keys_of_every_shape(on: On) {
    let store = on.store("shapes").await;
    let config = SiteConfig {
        motd: "hello".into(),
    };
    config.set(&store).await.unwrap();
    assert_eq!(SiteConfig::get(&store, ()).await.unwrap(), Some(config));

    for (org, user) in [("a:b", 1), ("a", 1), ("{x}", 2), ("%3A", 3), ("", 4)] {
        Membership {
            org: org.into(),
            user,
            role: 'x',
        }
        .set(&store)
        .await
        .unwrap();
    }
    let found = Membership::get(&store, ("a:b", 1)).await.unwrap().unwrap();
    assert_eq!((&*found.org, found.user), ("a:b", 1));
    let names = [
        ("a:b".to_owned(), 1),
        ("{x}".to_owned(), 2),
        ("".to_owned(), 4),
        ("b".to_owned(), 1),
    ];
    let found = Membership::get_many(&store, &names).await.unwrap();
    assert_eq!(
        found.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, true, true, false]
    );

    let page = Page { html: "<p>".into() };
    page.set_at(&store, "/über?x=1").await.unwrap();
    assert_eq!(
        Page::get(&store, "/über?x=1").await.unwrap().as_ref(),
        Some(&page)
    );
    assert!(
        !store
            .of::<Page>()
            .set_at_with("/über?x=1", &page, SetOptions::new().if_absent())
            .await
            .unwrap()
    );
    let paths = vec!["/".to_owned(), "/über?x=1".to_owned()];
    assert_eq!(
        Page::get_many(&store, &paths).await.unwrap(),
        [None, Some(page)]
    );
}

async fn an_older_version_is_a_miss_and_is_replaced(on: On) {
    let store = on.store("older").await;
    OldUser {
        id: 1,
        full_name: "Ada".into(),
    }
    .set(&store)
    .await
    .unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert!(!User::exists(&store, 1).await.unwrap());
    assert_eq!(store.of::<User>().ttl(1).await.unwrap(), None);
    assert!(!User::touch(&store, 1).await.unwrap());
    assert!(
        !user(1)
            .set_with(&store, SetOptions::new().if_present())
            .await
            .unwrap()
    );
    assert!(
        OldUser::exists(&store, 1).await.unwrap(),
        "a miss removes nothing"
    );
    assert!(
        user(1)
            .set_with(&store, SetOptions::new().if_absent())
            .await
            .unwrap()
    );
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));
}

async fn a_newer_version_is_a_miss_and_is_left_alone(on: On) {
    let store = on.store("newer").await;
    let old = || OldUser {
        id: 1,
        full_name: "Ada".into(),
    };
    user(1).set(&store).await.unwrap();
    assert_eq!(OldUser::get(&store, 1).await.unwrap(), None);
    assert_eq!(OldUser::get_many(&store, [1]).await.unwrap(), [None]);
    assert!(!OldUser::exists(&store, 1).await.unwrap());
    assert!(
        !old()
            .set_with(&store, SetOptions::new().if_absent())
            .await
            .unwrap()
    );
    assert!(
        !old()
            .set_with(&store, SetOptions::new().if_present())
            .await
            .unwrap()
    );
    assert!(!OldUser::touch(&store, 1).await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));
    assert_eq!(store.stats().corrupt(), 0);
    assert!(
        OldUser::del(&store, 1).await.unwrap(),
        "an invalidation is one for every version"
    );
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

async fn put_impostor(store: &Store, id: u64) {
    Impostor {
        id,
        name: vec![1, 2, 3],
    }
    .set(store)
    .await
    .unwrap();
}

async fn another_types_value_is_a_miss_and_is_removed(on: On) {
    let store = on.store("impostor").await;
    put_impostor(&store, 1).await;
    assert!(
        User::exists(&store, 1).await.unwrap(),
        "as far as the header tells"
    );
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert!(!Impostor::exists(&store, 1).await.unwrap());
    assert_eq!(
        (
            store.stats().corrupt(),
            store.stats().misses(),
            store.stats().errors_total()
        ),
        (1, 1, 0)
    );
}

async fn corrupt_entries_are_kept_where_the_type_says_so(on: On) {
    let store = on.store("keeping").await;
    put_impostor(&store, 1).await;
    assert!(Keeping::get(&store, 1).await.unwrap().is_none());
    assert!(Impostor::exists(&store, 1).await.unwrap());
}

async fn corrupt_entries_are_errors_where_the_type_says_so(on: On) {
    let store = on.store("strict").await;
    put_impostor(&store, 1).await;
    let error = Strict::get(&store, 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Corrupt, Some("strict:user:1"))
    );
    assert!(!error.is_transient());
    assert!(
        Strict::get(&store, 1).await.unwrap().is_none(),
        "it was removed"
    );
    assert_eq!(store.stats().errors(ErrorKind::Corrupt), 1);
}

async fn a_corrupt_entry_in_a_batch_leaves_the_others(on: On) {
    let store = on.store("batch").await;
    user(1).set(&store).await.unwrap();
    put_impostor(&store, 2).await;
    user(3).set(&store).await.unwrap();
    assert_eq!(
        User::get_many(&store, [1, 2, 3]).await.unwrap(),
        [Some(user(1)), None, Some(user(3))]
    );
    assert_eq!(
        User::get_many(&store, [1, 2, 3]).await.unwrap(),
        [Some(user(1)), None, Some(user(3))]
    );
    assert_eq!(store.stats().corrupt(), 1);
}

async fn a_value_over_the_size_limit_is_refused(on: On) {
    writes_into(on.nodes(), "size");
    let small = on
        .builder()
        .namespace("size")
        .max_size(1000)
        .connect()
        .await
        .unwrap();
    let large = on.builder().namespace("size").connect().await.unwrap();
    user(1).set(&small).await.unwrap();
    let long = User {
        name: "x".repeat(1000),
        ..user(1)
    };
    let error = long.set(&small).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::TooLarge, Some("size:user:1"))
    );
    let error = User::set_many(&small, [&user(2), &long]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        User::get_many(&small, [1, 2]).await.unwrap(),
        [Some(user(1)), None],
        "nothing is lost, nothing half"
    );
    if on != On::Memory {
        long.set(&large).await.unwrap();
        assert_eq!(User::get(&small, 1).await.unwrap(), None, "nor is it read");
        assert_eq!(small.stats().corrupt(), 1);
    }
}

async fn namespaces_do_not_meet(on: On) {
    let (a, b) = (on.store("one").await, on.store("two").await);
    user(1).set(&a).await.unwrap();
    assert_eq!(User::get(&b, 1).await.unwrap(), None);
    assert!(!User::del(&b, 1).await.unwrap());
    assert_eq!(User::get(&a.clone(), 1).await.unwrap(), Some(user(1)));
}

async fn dropped_and_spawned_calls(on: On) {
    let store = on.store("dropped").await;
    user(1).set(&store).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                if n % 2 == 0 {
                    // Polled once, then dropped with its answer on the way.
                    let mut call = std::pin::pin!(User::get(&store, 1));
                    let _ = futures_util::poll!(&mut call);
                    return None;
                }
                User::get(&store, 1).await.unwrap()
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), (n % 2 == 1).then(|| user(1)));
    }
}

async fn hits_and_misses_are_counted(on: On) {
    let store = on.store("counted").await;
    user(1).set(&store).await.unwrap();
    User::get(&store, 1).await.unwrap();
    User::get(&store, 2).await.unwrap();
    User::get_many(&store, [1, 2, 3]).await.unwrap();
    let stats = store.stats();
    assert_eq!(
        (
            stats.hits(),
            stats.misses(),
            stats.corrupt(),
            stats.errors_total()
        ),
        (2, 3, 0, 0)
    );
}

async fn the_handle_has_the_same_verbs(on: On) {
    let store = on.store("handle").await;
    let users = store.of::<User>();
    users.set(&user(1)).await.unwrap();
    users.set_many(&[user(2)]).await.unwrap();
    assert!(
        users
            .set_with(&user(3), SetOptions::new().if_absent())
            .await
            .unwrap()
    );
    users.set_at(4, &user(4)).await.unwrap();
    assert!(
        users
            .set_at_with(5, &user(5), SetOptions::new())
            .await
            .unwrap()
    );
    assert_eq!(users.get(1).await.unwrap(), Some(user(1)));
    assert_eq!(
        users
            .get_many(1..=5)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .count(),
        5
    );
    assert!(users.exists(1).await.unwrap() && users.touch(1).await.unwrap());
    assert!(about(users.ttl(1).await.unwrap(), 300));
    assert!(users.del(1).await.unwrap());
    assert_eq!(users.del_many(1..=5).await.unwrap(), 4);
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(ttl = "5m", ttl_env = "TUNED_TTL", jitter = "0%")]
struct Tuned {
    #[cached(key)]
    id: u64,
}

/// A store in the process whose environment says this of `TUNED_TTL`.
async fn tuned(ttl: Option<&'static str>) -> Store {
    let variables = move |name: &str| match name {
        "VALKEY_URL" => Some("memory:".to_owned()),
        "TUNED_TTL" => ttl.map(str::to_owned),
        _ => None,
    };
    let builder = valkey_runtime::Builder::from_variables(variables).unwrap();
    builder.open().await.unwrap()
}

#[tokio::test]
async fn an_environment_variable_overrides_the_ttl_of_a_type() {
    for (said, seconds) in [
        (None, 300),
        (Some(""), 300),
        (Some("90"), 90),
        (Some("10m"), 600),
    ] {
        let store = tuned(said).await;
        Tuned { id: 1 }.set(&store).await.unwrap();
        assert!(
            about(store.of::<Tuned>().ttl(1).await.unwrap(), seconds),
            "{said:?}"
        );
    }
    let store = tuned(Some("never")).await;
    Tuned { id: 1 }.set(&store).await.unwrap();
    assert_eq!(store.of::<Tuned>().ttl(1).await.unwrap(), Some(Ttl::Never));
}

#[tokio::test]
async fn a_malformed_variable_shows_at_the_first_use_of_its_type() {
    for said in ["soon", "0", "5x", "-1"] {
        let store = tuned(Some(said)).await;
        for error in [
            Tuned::get(&store, 1).await.unwrap_err(),
            Tuned::exists(&store, 1).await.unwrap_err(),
            Tuned { id: 1 }.set(&store).await.unwrap_err(),
            Tuned::get_many(&store, [1]).await.unwrap_err(),
            store.of::<Tuned>().ttl(1).await.unwrap_err(),
            Tuned::touch(&store, 1).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("TUNED_TTL"), "{error}");
        }
        user(1).set(&store).await.unwrap();
        assert!(
            !Tuned::del(&store, 1).await.unwrap(),
            "an invalidation does not fail for it"
        );
        // The loader is there whatever the cache's configuration.
        let load = async || Ok::<_, ()>(Some(Tuned { id: 1 }));
        assert!(Tuned::get_or_load(&store, 1, load).await.unwrap().is_some());
        assert_eq!(store.stats().errors(ErrorKind::Config), 7);
    }
}
