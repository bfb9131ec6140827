//! The code that the derives generate for a type, tested by its behaviour on the in-process store.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, CachedType, KeyPart, Keyed, OnCorrupt, Policy, Store, Ttl};

/// The key under which the value is stored: as the error says that refuses a value for its size.
async fn key_of(value: &impl Keyed) -> String {
    let too_small = Store::builder()
        .memory()
        .max_size(0)
        .connect()
        .await
        .unwrap();
    let error = value.set(&too_small).await.expect_err("too large");
    error.key().expect("it is about one key").to_owned()
}

/// The value is found under its own key after it is stored, and under no other.
async fn is_found_again<T: Keyed + PartialEq + std::fmt::Debug>(value: T) {
    let store = Store::memory();
    value.set(&store).await.unwrap();
    assert_eq!(
        T::get(&store, value.cache_key()).await.unwrap().as_ref(),
        Some(&value)
    );
    assert!(T::del(&store, value.cache_key()).await.unwrap());
    assert_eq!(T::get(&store, value.cache_key()).await.unwrap(), None);
}

#[tokio::test]
async fn defaults() {
    #[derive(Serialize, Deserialize, Cached)]
    struct UserProfile {
        #[cached(key)]
        id: u64,
    }

    assert_eq!(UserProfile::PREFIX, "user-profile");
    assert_eq!(UserProfile::TTL, Ttl::from_millis(300_000));
    assert_eq!(UserProfile::VERSION, 1);
    assert_eq!(UserProfile::POLICY, Policy::new());
    assert_eq!(key_of(&UserProfile { id: 42 }).await, "user-profile:42");
}

#[tokio::test]
async fn every_attribute_of_a_type() {
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(prefix = "user", ttl = "1h30m", version = 65535)]
    #[cached(
        ttl_env = "A_TTL",
        on_corrupt = "error",
        keep_corrupt,
        crate = "valkey_runtime"
    )]
    struct U {
        #[cached(key)]
        id: u64,
    }

    assert_eq!(U::PREFIX, "user");
    assert_eq!(U::TTL, Ttl::from_millis(5_400_000));
    assert_eq!(U::VERSION, u16::MAX);
    assert_eq!(
        U::POLICY,
        Policy::new()
            .on_corrupt(OnCorrupt::Error)
            .keep_corrupt()
            .ttl_env("A_TTL")
    );
    assert_eq!(key_of(&U { id: 1 }).await, "user:1");
}

#[test]
fn attributes_for_values_that_grow_old() {
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(ttl = "10m", stale_if_error = "1h", retry_after = "1d")]
    #[cached(refresh_ahead = "1%", load_timeout = "1ms", sliding, max_age = "10m")]
    struct Timed;
    /// No stale value is kept for ever, but a ceiling may be as high as a TTL.
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(stale_if_error = "36500d", sliding, max_age = "36500d")]
    struct Longest;
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(stale_if_error = "1h", retry_after = "5s")]
    struct Default;

    let longest = 36_500 * 86_400_000;
    assert_eq!(
        Timed::POLICY,
        Policy::new()
            .stale_if_error(Duration::from_millis(3_600_000))
            .retry_after(Duration::from_millis(86_400_000))
            .refresh_ahead_percent(1)
            .load_timeout(Duration::from_millis(1))
            .sliding(Duration::from_millis(600_000))
    );
    assert_eq!(
        Longest::POLICY,
        Policy::new()
            .stale_if_error(Duration::from_millis(longest))
            .sliding(Duration::from_millis(longest))
    );
    assert_eq!(
        Default::POLICY,
        Policy::new().stale_if_error(Duration::from_millis(3_600_000))
    );
}

#[test]
fn attributes_for_near_caches() {
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(near = "5s")]
    struct Short;
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(
        ttl = "1d",
        near(ttl = "1d", max_bytes = "1KiB", stale = "36500d", get_stale)
    )]
    struct Widest;
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(near(ttl = "5s", max_bytes = "64MiB"))]
    struct Default;

    let short = Policy::new().near(Duration::from_secs(5));
    assert_eq!(Short::POLICY, short);
    assert_eq!(
        Widest::POLICY,
        Policy::new()
            .near(Duration::from_secs(86_400))
            .near_max_bytes(1024)
            .near_stale(Duration::from_millis(36_500 * 86_400_000))
            .near_get_stale()
    );
    assert_eq!(Default::POLICY, short);
}

#[test]
fn default_prefixes_of_awkward_names() {
    #[derive(Serialize, Deserialize, Cached)]
    struct HTTPServer;
    #[derive(Serialize, Deserialize, Cached)]
    struct UserV2;
    #[allow(non_camel_case_types, reason = "what it is about")]
    #[derive(Serialize, Deserialize, Cached)]
    struct r#type;

    assert_eq!(HTTPServer::PREFIX, "http-server");
    assert_eq!(UserV2::PREFIX, "user-v2");
    assert_eq!(r#type::PREFIX, "type");
}

/// The texts are read twice, by the derive and by the runtime.
#[test]
fn a_ttl_means_the_same_in_an_annotation_and_in_a_variable() {
    macro_rules! same {
        ($($ttl:literal)*) => {$({
            #[derive(Serialize, Deserialize, Cached)]
            #[cached(ttl = $ttl)]
            struct T;
            assert_eq!(Ok(T::TTL), $ttl.parse(), "{}", $ttl);
        })*};
    }
    same! { "1ms" "500ms" "1s" "90" "5m" "1h30m" "1d2h3m4s5ms" "36500d" "0h1s" "never" }
}

#[tokio::test]
async fn several_fields_are_a_tuple_in_order_of_declaration() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Member {
        #[cached(key)]
        name: String,
        since: u16,
        #[cached(key)]
        org: u64,
    }

    let member = Member {
        name: "ada".into(),
        since: 1833,
        org: 7,
    };
    assert_eq!(member.cache_key(), ("ada", 7));
    assert_eq!(key_of(&member).await, "member:ada:7");

    let store = Store::memory();
    member.set(&store).await.unwrap();
    assert_eq!(
        Member::get(&store, (&member.name, 7))
            .await
            .unwrap()
            .as_ref(),
        Some(&member)
    );
    let owned: Vec<(String, u64)> = vec![("ada".into(), 7), ("bob".into(), 7)];
    let found = Member::get_many(&store, &owned).await.unwrap();
    assert_eq!(found, [Some(member), None]);
    is_found_again(Member {
        name: "a:b".into(),
        since: 0,
        org: 0,
    })
    .await;
}

#[tokio::test]
async fn as_many_key_fields_as_can_be() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Six(
        #[cached(key)] u8,
        #[cached(key)] char,
        #[cached(key)] bool,
        #[cached(key)] i64,
        #[cached(key)] (u16, Box<str>),
        #[cached(key)] String,
    );

    let six = Six(1, 'x', true, -5, (7, "y".into()), "z".into());
    assert_eq!(key_of(&six).await, "six:1:x:true:-5:7:y:z");
    is_found_again(six).await;
}

#[tokio::test]
async fn a_singleton() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Settings {
        dark: bool,
    }

    assert_eq!(key_of(&Settings { dark: true }).await, "settings:");
    is_found_again(Settings { dark: true }).await;
    assert_eq!(Settings::get(&Store::memory(), ()).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_that_is_not_in_the_value() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    #[cached(prefix = "rates", key = (String, u32))]
    struct Rates(Vec<u32>);

    let store = Store::memory();
    Rates(vec![1, 2])
        .set_at(&store, ("eur", 2026))
        .await
        .unwrap();
    assert_eq!(
        Rates::get(&store, ("eur", 2026)).await.unwrap(),
        Some(Rates(vec![1, 2]))
    );
    assert_eq!(Rates::get(&store, ("eur", 2027)).await.unwrap(), None);
}

#[derive(Serialize, Deserialize, KeyPart, Clone, PartialEq, Debug)]
struct UserId(u64);

#[derive(Serialize, Deserialize, KeyPart, Clone, PartialEq, Debug)]
struct Slug {
    text: String,
}

/// An identifier of one kind of thing.
#[derive(Serialize, Deserialize, KeyPart, PartialEq, Debug)]
#[serde(transparent)]
struct Id<T> {
    raw: u64,
    of: std::marker::PhantomData<fn() -> T>,
}

#[derive(Serialize, Deserialize, KeyPart, PartialEq, Debug)]
struct Pair<A, B = A>((A, B));

#[tokio::test]
async fn newtypes_are_written_as_what_they_hold() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Post {
        #[cached(key)]
        author: UserId,
        #[cached(key)]
        slug: Slug,
        #[cached(key)]
        site: Id<UserId>,
        #[cached(key)]
        pair: Pair<u8, String>,
    }

    let post = Post {
        author: UserId(3),
        slug: Slug { text: "a-b".into() },
        site: Id {
            raw: 9,
            of: std::marker::PhantomData,
        },
        pair: Pair((1, "x".into())),
    };
    assert_eq!(key_of(&post).await, "post:3:a-b:9:1:x");
    is_found_again(post).await;
}

/// Types that name themselves or a lifetime, or that the derive does not know by name.
#[tokio::test]
async fn any_type_that_is_a_key_part_can_be_a_key() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Node {
        #[cached(key)]
        id: Id<Self>,
        #[cached(key)]
        name: std::borrow::Cow<'static, str>,
        #[cached(key)]
        rank: std::num::NonZeroU8,
        next: Option<Box<Self>>,
    }

    let node = |raw, next| Node {
        id: Id {
            raw,
            of: std::marker::PhantomData,
        },
        name: "n".into(),
        rank: 1.try_into().unwrap(),
        next,
    };
    let list = node(1, Some(Box::new(node(2, None))));
    assert_eq!(key_of(&list).await, "node:1:n:1");
    is_found_again(list).await;
}

#[tokio::test]
async fn newtypes_in_look_ups_and_bulk_verbs() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug, Clone)]
    struct User {
        #[cached(key)]
        id: UserId,
    }

    let store = Store::memory();
    let user = User { id: UserId(1) };
    user.set(&store).await.unwrap();
    assert_eq!(
        User::get(&store, &UserId(1)).await.unwrap(),
        Some(user.clone())
    );

    let ids = vec![UserId(1), UserId(2)];
    let expected = [Some(user), None];
    assert_eq!(User::get_many(&store, &ids).await.unwrap(), expected);
    assert_eq!(User::get_many(&store, ids.iter()).await.unwrap(), expected);
    assert_eq!(User::get_many(&store, ids).await.unwrap(), expected);
}

/// A foreign type in two places, written in two ways.
#[tokio::test]
async fn foreign_types_are_written_by_their_functions() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Route {
        #[cached(key(with = "ToString::to_string"))]
        from: IpAddr,
        #[cached(key(with = "version"))]
        to: IpAddr,
        #[cached(key(with = "names::first"))]
        names: BTreeMap<u8, String>,
        #[cached(key(with = "Vec::<u8>::len"))]
        hops: Vec<u8>,
    }
    fn version(address: &IpAddr) -> u8 {
        if address.is_ipv4() { 4 } else { 6 }
    }
    mod names {
        pub(super) fn first(names: &super::BTreeMap<u8, String>) -> &str {
            names.values().next().map_or("", String::as_str)
        }
    }

    let route = Route {
        from: Ipv4Addr::LOCALHOST.into(),
        to: "::1".parse().unwrap(),
        names: BTreeMap::from([(1, "a:b".to_owned())]),
        hops: vec![1, 2, 3],
    };
    assert_eq!(key_of(&route).await, "route:127.0.0.1:6:a%3Ab:3");
    let found = Route::get(
        &Store::memory(),
        (&route.from, &route.to, &route.names, &route.hops),
    )
    .await;
    assert_eq!(found.unwrap(), None);
    let found = Route::get_many(
        &Store::memory(),
        [(route.from, &route.to, &route.names, vec![0])],
    )
    .await;
    assert_eq!(found.unwrap(), [None]);
    is_found_again(route).await;
}

#[tokio::test]
async fn the_part_that_decides_the_slot_is_in_braces() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Order {
        #[cached(key)]
        number: u64,
        #[cached(key(hash_tag))]
        customer: String,
    }
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Cart {
        #[cached(key(hash_tag, with = "customer"))]
        customer: Vec<u8>,
    }
    fn customer(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    let order = Order {
        number: 7,
        customer: "{a}".into(),
    };
    assert_eq!(key_of(&order).await, "order:7:{%7Ba%7D}");
    is_found_again(order).await;
    let cart = Cart {
        customer: b"ada".to_vec(),
    };
    assert_eq!(key_of(&cart).await, "cart:{ada}");
    is_found_again(cart).await;
}

#[tokio::test]
async fn instantiations_of_a_generic_type_share_no_keys() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct Item(#[cached(key)] u8);
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    #[cached(prefix = "page-of")]
    struct Page<T, const N: i8 = 0, const C: char = 'a', const B: bool = false>
    where
        T: Clone,
    {
        #[cached(key)]
        number: u64,
        items: Vec<T>,
    }

    let store = Store::memory();
    let numbers: Page<u64> = Page {
        number: 1,
        items: vec![5],
    };
    numbers.set(&store).await.unwrap();
    assert_eq!(Page::get(&store, 1).await.unwrap(), Some(numbers));
    assert_eq!(Page::<u64, 1>::get(&store, 1).await.unwrap(), None);
    assert_eq!(Page::<u64, 0, 'b'>::get(&store, 1).await.unwrap(), None);
    assert_eq!(
        Page::<u64, 0, 'a', true>::get(&store, 1).await.unwrap(),
        None
    );
    assert_eq!(Page::<u32>::get(&store, 1).await.unwrap(), None);
    assert_eq!(
        Page::<Option<Vec<String>>, -3>::PREFIX,
        "page-of<option<vec<string>>,-3,97,0>"
    );
    assert_eq!(
        key_of(&Page::<(), 2> {
            number: 9,
            items: vec![]
        })
        .await,
        "page-of<unit,2,97,0>:9"
    );

    /// A page of pages: the name of a cached type is its prefix.
    #[derive(Serialize, Deserialize, Cached)]
    struct Shelf<T>(Option<T>);
    assert_eq!(Shelf::<Shelf<Item>>::PREFIX, "shelf<shelf<item>>");
}

#[tokio::test]
async fn aliases_of_many_types() {
    #[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug, KeyPart)]
    struct UserId(u64);
    #[derive(Serialize, Deserialize, Clone, PartialEq, Debug, KeyPart)]
    struct Email(String);
    #[derive(Serialize, Deserialize, Cached, Clone, PartialEq, Debug)]
    #[cached(prefix = "user", alias = "store", alias = "email", alias = "both")]
    struct User<T> {
        #[cached(key(hash_tag))]
        id: UserId,
        #[cached(key(with = "IpAddr::to_string"))]
        host: IpAddr,
        email: Option<Email>,
        both: (u8, String),
        store: char,
        #[cached(alias(with = "hundreds"))]
        r#type: Option<u64>,
        of: T,
    }
    fn hundreds(number: u64) -> (u64, bool) {
        (number / 100, true)
    }
    let user = User {
        id: UserId(7),
        host: Ipv4Addr::LOCALHOST.into(),
        email: Some(Email("ada@example.org".into())),
        both: (1, "a:b".into()),
        store: '%',
        r#type: Some(345),
        of: 5_u8,
    };

    let store = Store::memory();
    let find = async || Ok::<_, ()>(Some((user.id, user.host)));
    let load = async |_| Ok(user.clone());
    let email = Email("ada@example.org".into());
    let found = Some(user.clone());
    let loaded = User::load_by_email(&store, &email).run(find, load).await;
    assert_eq!(loaded.as_ref(), Ok(&found));
    let loaded = User::load_by_both(&store, (1, "a:b")).run(find, load).await;
    assert_eq!(loaded.as_ref(), Ok(&found));
    let loaded = User::load_by_store(&store, '%').run(find, load).await;
    assert_eq!(loaded.as_ref(), Ok(&found));
    let loaded = User::load_by_type(&store, 301).run(find, load).await;
    assert_eq!(loaded.as_ref(), Ok(&found));

    assert_eq!(User::get_by_email(&store, &email).await.unwrap(), found);
    assert_eq!(User::get_by_both(&store, (1, "a:b")).await.unwrap(), found);
    assert_eq!(User::get_by_store(&store, '%').await.unwrap(), found);
    assert_eq!(User::get_by_type(&store, 399).await.unwrap(), found);
    assert_eq!(User::<u8>::get_by_type(&store, 400).await.unwrap(), None);
    // Another instantiation has other values, and other aliases.
    assert_eq!(User::<u16>::get_by_type(&store, 399).await.unwrap(), None);
}

#[tokio::test]
async fn an_alias_of_a_value_without_its_key() {
    #[derive(Serialize, Deserialize, Cached, Clone, PartialEq, Debug)]
    #[cached(key = (u64, String), alias = "number")]
    struct Rates {
        number: u64,
    }
    let (store, rates) = (Store::memory(), Rates { number: 7 });
    let find = async || Ok::<_, ()>(Some((1, "eur".to_owned())));
    let load = async |(day, currency): (u64, String)| {
        assert_eq!((day, currency.as_str()), (1, "eur"));
        Ok(rates.clone())
    };
    let loaded = Rates::load_by_number(&store, 7).run(find, load).await;
    assert_eq!(loaded, Ok(Some(rates.clone())));
    assert_eq!(
        Rates::get_by_number(&store, 7).await.unwrap(),
        Some(rates.clone())
    );
    assert_eq!(Rates::get(&store, (1, "eur")).await.unwrap(), Some(rates));
}

#[tokio::test]
async fn futures_of_look_ups_borrow_nothing_but_the_store() {
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(alias = "email")]
    struct User {
        #[cached(key)]
        id: u64,
        email: String,
    }
    fn spawned<F: Future<Output: Send + 'static> + Send + 'static>(future: F) -> F {
        future
    }
    static STORE: std::sync::LazyLock<Store> = std::sync::LazyLock::new(Store::memory);
    let found = {
        let email = String::from("ada@example.org");
        spawned(User::get_by_email(&STORE, &email))
    };
    let loaded = {
        let email = String::from("ada@example.org");
        let find = async || Ok::<_, ()>(Some(1));
        let load = async |_| Ok(None::<User>);
        spawned(User::load_by_email(&STORE, &email).run(find, load))
    };
    assert!(found.await.unwrap().is_none());
    assert!(loaded.await.unwrap().is_none());
}

#[tokio::test]
async fn inherent_methods_do_not_get_in_the_way() {
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    struct User {
        #[cached(key)]
        key: u64,
    }
    #[allow(dead_code, reason = "they are there to be in the way")]
    impl User {
        const PREFIX: u8 = 1;
        const TTL: u8 = 2;
        fn get(&self) {}
        fn set(&self) {}
        fn key(&self) {}
        fn cache_key(&self) {}
        fn key_ref(&self) {}
        fn write(&self) {}
        fn del() {}
        fn of() {}
    }

    let store = Store::memory();
    let users = store.of::<User>();
    users.set(&User { key: 1 }).await.unwrap();
    assert_eq!(users.get(1).await.unwrap(), Some(User { key: 1 }));
    assert_eq!(Keyed::cache_key(&User { key: 3 }), 3);
    is_found_again(User { key: 2 }).await;
}

/// A crate that offers the runtime under a name of its own.
mod facade {
    pub(crate) mod cache {
        pub(crate) use valkey_runtime::*;
    }
}

#[tokio::test]
async fn the_runtime_may_be_re_exported() {
    #[derive(Serialize, Deserialize, facade::cache::KeyPart, PartialEq, Debug)]
    #[cached(crate = "facade::cache")]
    struct Name(String);
    #[derive(Serialize, Deserialize, facade::cache::Cached, PartialEq, Debug)]
    #[cached(crate = "crate::facade::cache")]
    struct User(#[cached(key)] Name);

    is_found_again(User(Name("ada".into()))).await;
}

#[tokio::test]
async fn serde_decides_how_the_fields_are_written() {
    fn one() -> u8 {
        1
    }
    #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
    #[serde(rename_all = "camelCase")]
    struct User {
        #[cached(key)]
        #[serde(rename = "#", alias = "id")]
        user_id: u64,
        #[serde(skip, default = "one")]
        skipped: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
        #[serde(skip)]
        label: &'static str,
    }

    let store = Store::memory();
    let user = User {
        user_id: 1,
        skipped: 9,
        rest: BTreeMap::new(),
        label: "x",
    };
    user.set(&store).await.unwrap();
    let found = User::get(&store, 1).await.unwrap().unwrap();
    assert_eq!((found.skipped, found.label), (1, ""));
}

macro_rules! cached_type {
    ($name:ident, $prefix:literal, $key:ty, $field:ident) => {
        #[derive(Serialize, Deserialize, Cached, PartialEq, Debug)]
        #[cached(prefix = $prefix)]
        struct $name {
            #[cached(key)]
            $field: $key,
        }
    };
}

#[tokio::test]
async fn a_macro_may_write_the_type() {
    cached_type!(Made, "made", (u8, UserId), r#type);
    let made = Made {
        r#type: (1, UserId(2)),
    };
    assert_eq!(key_of(&made).await, "made:1:2");
    is_found_again(made).await;
}
