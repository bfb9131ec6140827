//! Values that are found by another field than their key, over every backend.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use valkey_runtime::{Cached, Store};
use valkey_tests::ClosedPort;
use valkey_tests::resp::Value;

use crate::database::until;
use crate::stores::On;

suite! {
    crate::alias =>
    an_alias_that_was_looked_up_is_found
    an_alias_that_was_not_looked_up_is_not_found
    the_entry_is_stored_where_no_key_of_a_type_is
    types_share_no_alias
    a_change_of_an_alias_needs_to_invalidate_only_the_value
    swapped_aliases_lead_to_the_other_value
    a_deleted_value_is_not_found
    an_alias_may_pass_to_another_value
    an_entry_that_leads_nowhere_is_looked_up_once_more_and_mended
    a_second_look_up_is_final
    a_second_look_up_joins_nothing
    nothing_is_found_by_none
    aliases_that_normalise_alike_find_the_same_value
    a_look_up_that_finds_a_key_is_shared
    a_look_up_that_finds_nothing_is_shared_by_those_who_came_before
    a_look_up_that_finds_nothing_is_not_stored
    a_caller_after_a_write_is_not_given_the_absence_from_before_it
    errors_are_those_of_the_look_up_and_of_the_load
    a_corrupt_entry_is_a_miss
    a_store_that_is_off_looks_up_and_loads
}

/// Absences are remembered, of users: not of their aliases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m", ttl_absent = "5m", alias = "email")]
struct User {
    #[cached(key)]
    id: u64,
    email: String,
    #[cached(alias(with = "lower"))]
    nick: Option<String>,
}

fn lower(nick: &str) -> String {
    nick.to_lowercase()
}

fn user(id: u64, email: &str) -> User {
    let email = email.to_owned();
    User {
        id,
        email,
        nick: None,
    }
}

/// Users, of which look-ups and loads are counted. Look-ups read at once, and end when the test
/// lets them go.
struct Users {
    rows: Mutex<BTreeMap<u64, User>>,
    finds: AtomicUsize,
    loads: AtomicUsize,
    gate: Semaphore,
}

const OPEN: usize = 1 << 16;
/// The length of the header, which an entry has before its payload.
const HEADER: usize = 35;

impl Users {
    fn of<const N: usize>(users: [User; N]) -> Arc<Self> {
        let rows = users.into_iter().map(|user| (user.id, user)).collect();
        Arc::new(Self {
            rows: Mutex::new(rows),
            finds: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
            gate: Semaphore::new(OPEN),
        })
    }

    fn close(&self) {
        self.gate.forget_permits(OPEN);
    }

    fn let_go(&self) {
        self.gate.add_permits(OPEN);
    }

    fn write(&self, user: User) -> Result<(), ()> {
        self.rows.lock().unwrap().insert(user.id, user);
        Ok(())
    }

    fn delete(&self, id: u64) -> Result<(), ()> {
        self.rows.lock().unwrap().remove(&id);
        Ok(())
    }

    async fn find(&self, is_wanted: impl Fn(&User) -> bool) -> Result<Option<u64>, &'static str> {
        let id = {
            let rows = self.rows.lock().unwrap();
            rows.values()
                .find(|user| is_wanted(user))
                .map(|user| user.id)
        };
        self.finds.fetch_add(1, SeqCst);
        drop(self.gate.acquire().await.unwrap());
        Ok(id)
    }

    async fn load(&self, id: u64) -> Result<Option<User>, &'static str> {
        self.loads.fetch_add(1, SeqCst);
        Ok(self.rows.lock().unwrap().get(&id).cloned())
    }

    async fn by_email(&self, store: &Store, email: &str) -> Option<User> {
        let find = || self.find(|user| user.email == email);
        let found = User::load_by_email(store, email)
            .run(find, |id| self.load(id))
            .await;
        found.unwrap()
    }

    async fn by_nick(&self, store: &Store, nick: &str) -> Option<User> {
        let find = || self.find(|user| user.nick.as_deref().map(lower) == Some(lower(nick)));
        let found = User::load_by_nick(store, nick)
            .run(find, |id| self.load(id))
            .await;
        found.unwrap()
    }

    /// Look-ups and loads since this was last asked.
    fn take(&self) -> (usize, usize) {
        (self.finds.swap(0, SeqCst), self.loads.swap(0, SeqCst))
    }
}

async fn cached(store: &Store, email: &str) -> Option<User> {
    User::get_by_email(store, email).await.unwrap()
}

/// A store on which this user was looked up.
async fn with_ada(on: On, namespace: &str) -> (Store, Arc<Users>, User) {
    let (store, ada) = (on.store(namespace).await, user(1, "ada@example.org"));
    let users = Users::of([ada.clone()]);
    let found = users.by_email(&store, &ada.email).await;
    assert_eq!((found.as_ref(), users.take()), (Some(&ada), (1, 1)));
    (store, users, ada)
}

async fn an_alias_that_was_looked_up_is_found(on: On) {
    let (store, users, ada) = with_ada(on, "alias-found").await;
    assert_eq!(cached(&store, &ada.email).await, Some(ada.clone()));
    assert_eq!(users.by_email(&store, &ada.email).await, Some(ada.clone()));
    assert_eq!(users.take(), (0, 0));
    // The value alone is loaded where only that is not there.
    User::del(&store, 1).await.unwrap();
    assert_eq!(cached(&store, &ada.email).await, None);
    assert_eq!(users.by_email(&store, &ada.email).await, Some(ada));
    assert_eq!(users.take(), (0, 1));
}

async fn an_alias_that_was_not_looked_up_is_not_found(on: On) {
    let (store, ada) = (on.store("alias-miss").await, user(1, "ada@example.org"));
    ada.set(&store).await.unwrap();
    assert_eq!(cached(&store, &ada.email).await, None);
    let users = Users::of([ada.clone()]);
    assert_eq!(users.by_email(&store, &ada.email).await, Some(ada));
    assert_eq!(users.take(), (1, 0));
}

async fn the_entry_is_stored_where_no_key_of_a_type_is(on: On) {
    if on == On::Memory {
        return;
    }
    let (store, users, _) = with_ada(on, "alias-key").await;
    let ttl = |key: &str| match on.raw(&["PTTL", key]) {
        Value::Integer(ttl) => ttl,
        other => panic!("{other:?}"),
    };
    let left = ttl("alias-key::user:email:ada@example.org");
    assert!((280_000..=300_000).contains(&left), "{left}");
    // It holds the key, and nothing else of the value.
    let Value::Bulk(entry) = on.raw(&["GET", "alias-key::user:email:ada@example.org"]) else {
        panic!("the entry is not there");
    };
    assert_eq!(entry.get(HEADER..), Some(&[1][..]), "{entry:?}");
    let escaped = user(2, "a:b{c}");
    users.write(escaped.clone()).unwrap();
    assert_eq!(users.by_email(&store, "a:b{c}").await, Some(escaped));
    assert!(ttl("alias-key::user:email:a%3Ab%7Bc%7D") > 0);
}

/// With another prefix, and a key of another type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
struct Member {
    #[cached(key)]
    name: String,
    #[cached(key)]
    team: u8,
    email: String,
    #[cached(alias)]
    number: u64,
}

async fn types_share_no_alias(on: On) {
    let (store, _, ada) = with_ada(on, "alias-types").await;
    let member = Member {
        name: "Ada:Lovelace".into(),
        team: 7,
        email: ada.email.clone(),
        number: 1,
    };
    let by_email = async || Member::get_by_email(&store, &ada.email).await.unwrap();
    let by_number = async || Member::get_by_number(&store, 1).await.unwrap();
    assert_eq!(by_email().await, None);
    let key = async || Ok::<_, ()>(Some(("Ada:Lovelace".to_owned(), 7)));
    let load = async |(name, team)| {
        assert_eq!((&name, team), (&member.name, member.team));
        Ok::<_, ()>(member.clone())
    };
    let found = Member::load_by_email(&store, &ada.email).run(key, load);
    assert_eq!(found.await, Ok(Some(member.clone())));
    assert_eq!(by_email().await, Some(member.clone()));
    assert_eq!(by_number().await, None, "it is another alias");
    let found = Member::load_by_number(&store, 1).run(key, load);
    assert_eq!(found.await, Ok(Some(member.clone())));
    assert_eq!(by_number().await, Some(member));
    assert_eq!(cached(&store, &ada.email).await, Some(ada));
}

async fn a_change_of_an_alias_needs_to_invalidate_only_the_value(on: On) {
    let (store, users, ada) = with_ada(on, "alias-changed").await;
    let moved = user(1, "ada@example.com");
    let write = async || users.write(moved.clone());
    User::update(&store, 1, write).await.unwrap();
    // The old one still leads to the value, which is there.
    let loaded = User::get_or_load(&store, 1, || users.load(1)).await;
    assert_eq!(loaded.unwrap().as_ref(), Some(&moved));
    for _ in 0..2 {
        assert_eq!(cached(&store, &ada.email).await, None);
        assert_eq!(users.by_email(&store, &ada.email).await, None);
    }
    let found = users.by_email(&store, &moved.email).await;
    assert_eq!(found.as_ref(), Some(&moved));
    assert_eq!(cached(&store, &moved.email).await, Some(moved));
    assert_eq!(cached(&store, &ada.email).await, None);
}

async fn swapped_aliases_lead_to_the_other_value(on: On) {
    let (store, users, ada) = with_ada(on, "alias-swapped").await;
    let grace = user(2, "grace@example.org");
    users.write(grace.clone()).unwrap();
    assert_eq!(
        users.by_email(&store, &grace.email).await,
        Some(grace.clone())
    );
    let swap = async || {
        users.write(user(1, &grace.email))?;
        users.write(user(2, &ada.email))
    };
    User::update_many(&store, [1, 2], swap).await.unwrap();
    users.take();
    for email in [&ada.email, &grace.email] {
        assert_eq!(cached(&store, email).await, None);
    }
    let owner = async |email: &str| users.by_email(&store, email).await.unwrap().id;
    assert_eq!((owner(&ada.email).await, owner(&grace.email).await), (2, 1));
    // Each way led to the wrong user first, who was then there for the other.
    assert_eq!(users.take(), (2, 2));
    assert_eq!((owner(&ada.email).await, owner(&grace.email).await), (2, 1));
    assert_eq!(users.take(), (0, 0));
}

async fn a_deleted_value_is_not_found(on: On) {
    let (store, users, ada) = with_ada(on, "alias-deleted").await;
    let delete = async || users.delete(1);
    User::update(&store, 1, delete).await.unwrap();
    assert_eq!(cached(&store, &ada.email).await, None);
    assert_eq!(users.by_email(&store, &ada.email).await, None);
}

async fn an_alias_may_pass_to_another_value(on: On) {
    let (store, users, ada) = with_ada(on, "alias-passed").await;
    let delete = async || users.delete(1);
    User::update(&store, 1, delete).await.unwrap();
    let successor = user(2, &ada.email);
    let create = async || users.write(successor.clone());
    User::update(&store, 2, create).await.unwrap();
    let found = users.by_email(&store, &ada.email).await;
    assert_eq!(found.as_ref(), Some(&successor));
    assert_eq!(cached(&store, &ada.email).await, Some(successor));
}

async fn an_entry_that_leads_nowhere_is_looked_up_once_more_and_mended(on: On) {
    let (store, users, ada) = with_ada(on, "alias-mended").await;
    users.write(user(1, "ada@example.com")).unwrap();
    users.write(user(2, &ada.email)).unwrap();
    User::del_many(&store, [1, 2]).await.unwrap();
    let found = users.by_email(&store, &ada.email).await;
    assert_eq!(found.map(|user| user.id), Some(2));
    assert_eq!(users.take(), (1, 2));
    let found = users.by_email(&store, &ada.email).await;
    assert_eq!(found.map(|user| user.id), Some(2));
    assert_eq!(users.take(), (0, 0));
}

/// A database that takes two e-mails for one gives the user of another, whenever it is asked.
async fn a_second_look_up_is_final(on: On) {
    let (store, users, _) = with_ada(on, "alias-final").await;
    let other = "ADA@example.org";
    let found = async || {
        let find = || users.find(|user| user.email.eq_ignore_ascii_case(other));
        User::load_by_email(&store, other)
            .run(find, |id| users.load(id))
            .await
    };
    assert_eq!((found().await, users.take()), (Ok(None), (2, 0)));
    // The result of the second look-up was stored like that of any other.
    assert_eq!((found().await, users.take()), (Ok(None), (1, 0)));
    assert_eq!(cached(&store, other).await, None);
}

async fn a_second_look_up_joins_nothing(on: On) {
    let (store, users) = (on.store("alias-alone").await, Users::of([]));
    users.write(user(1, "ada@example.org")).unwrap();
    users.close();
    let calls = calls(10, &store, &users, "ada@example.org").await;
    // They share a look-up that has read this already.
    let swap = async || {
        users.write(user(1, "ada@example.com"))?;
        users.write(user(2, "ada@example.org"))
    };
    User::update_many(&store, [1, 2], swap).await.unwrap();
    users.let_go();
    for call in calls {
        assert_eq!(call.await.unwrap(), Some(user(2, "ada@example.org")));
    }
    assert_eq!(users.take().0, 1 + 10);
    assert_eq!(
        cached(&store, "ada@example.org").await,
        Some(user(2, "ada@example.org"))
    );
}

async fn nothing_is_found_by_none(on: On) {
    let (store, users, ada) = with_ada(on, "alias-none").await;
    // Even if someone says that this is the one.
    for nick in ["", "None", "null"] {
        let find = async || Ok(Some(1));
        let found = User::load_by_nick(&store, nick).run(find, |id| users.load(id));
        assert_eq!(found.await, Ok(None));
        assert_eq!(User::get_by_nick(&store, nick).await.unwrap(), None);
    }
    assert_eq!(users.by_nick(&store, "ada").await, None);
    let nick = Some("ada".to_owned());
    let named = User { nick, ..ada };
    let write = async || users.write(named.clone());
    User::update(&store, 1, write).await.unwrap();
    assert_eq!(users.by_nick(&store, "ada").await, Some(named.clone()));
    let unnamed = User {
        nick: None,
        ..named
    };
    let write = async || users.write(unnamed.clone());
    User::update(&store, 1, write).await.unwrap();
    assert_eq!(users.by_nick(&store, "ada").await, None);
}

async fn aliases_that_normalise_alike_find_the_same_value(on: On) {
    let store = on.store("alias-with").await;
    let ada = User {
        nick: Some("Ada".into()),
        ..user(1, "ada@example.org")
    };
    let users = Users::of([ada.clone()]);
    assert_eq!(users.by_nick(&store, "ADA").await, Some(ada.clone()));
    for nick in ["Ada", "ada", "aDA"] {
        assert_eq!(users.by_nick(&store, nick).await, Some(ada.clone()));
        let found = User::get_by_nick(&store, nick).await.unwrap();
        assert_eq!(found.as_ref(), Some(&ada));
    }
    assert_eq!(users.take(), (1, 1));
    assert_eq!(User::get_by_nick(&store, "Adá").await.unwrap(), None);
}

/// So many calls that are all under way.
async fn calls(
    count: usize,
    store: &Store,
    users: &Arc<Users>,
    email: &'static str,
) -> Vec<tokio::task::JoinHandle<Option<User>>> {
    let misses = store.stats().misses();
    let call = |_| {
        let (store, users) = (store.clone(), users.clone());
        tokio::spawn(async move { users.by_email(&store, email).await })
    };
    let calls = (0..count).map(call).collect();
    until("all have missed", async || {
        store.stats().misses() == misses + count as u64 && users.finds.load(SeqCst) > 0
    })
    .await;
    calls
}

async fn a_look_up_that_finds_a_key_is_shared(on: On) {
    let (store, ada) = (on.store("alias-shared").await, user(1, "ada@example.org"));
    let users = Users::of([ada.clone()]);
    users.close();
    let calls = calls(20, &store, &users, "ada@example.org").await;
    users.let_go();
    for call in calls {
        assert_eq!(call.await.unwrap().as_ref(), Some(&ada));
    }
    assert_eq!(users.take(), (1, 1));
}

async fn a_look_up_that_finds_nothing_is_shared_by_those_who_came_before(on: On) {
    let (store, users) = (on.store("alias-unshared").await, Users::of([]));
    users.close();
    let calls = calls(20, &store, &users, "ada@example.org").await;
    users.let_go();
    for call in calls {
        assert_eq!(call.await.unwrap(), None);
    }
    assert_eq!(users.take(), (1, 0));
    assert_eq!(store.stats().failed_loads(), 0);
}

async fn a_look_up_that_finds_nothing_is_not_stored(on: On) {
    let (store, users) = (on.store("alias-unstored").await, Users::of([]));
    for _ in 0..3 {
        assert_eq!(users.by_email(&store, "ada@example.org").await, None);
        assert_eq!(users.take(), (1, 0));
    }
    let key = "alias-unstored::user:email:ada@example.org";
    if on != On::Memory {
        assert_eq!(on.raw(&["EXISTS", key]), Value::Integer(0));
    }
}

async fn a_caller_after_a_write_is_not_given_the_absence_from_before_it(on: On) {
    let (store, users) = (on.store("alias-after").await, Users::of([]));
    users.close();
    let early = calls(1, &store, &users, "ada@example.org").await;
    let ada = user(1, "ada@example.org");
    let register = async || users.write(ada.clone());
    User::update(&store, 1, register).await.unwrap();
    // The look-up under way has its lease still, which shows the late ones what to follow.
    let late = calls(5, &store, &users, "ada@example.org").await;
    users.let_go();
    for call in late {
        assert_eq!(call.await.unwrap().as_ref(), Some(&ada));
    }
    for call in early {
        assert_eq!(call.await.unwrap(), None);
    }
}

async fn errors_are_those_of_the_look_up_and_of_the_load(on: On) {
    let (store, users) = (on.store("alias-errors").await, Users::of([]));
    let find = async || Err("no index");
    let found = User::load_by_email(&store, "ada@example.org").run(find, |id| users.load(id));
    assert_eq!(found.await, Err("no index"));
    let load = async |_| Err::<Option<User>, _>("no table");
    let found = async || {
        let find = async || Ok(Some(1));
        User::load_by_email(&store, "ada@example.org")
            .run(find, load)
            .await
    };
    assert_eq!(found().await, Err("no table"));
    assert_eq!(found().await, Err("no table"));
}

#[tokio::test]
async fn without_a_server_values_are_looked_up_and_loaded() {
    let nobody = ClosedPort::new();
    let store = Store::connect_lazy(&nobody.url()).unwrap();
    let ada = user(1, "ada@example.org");
    let users = Users::of([ada.clone()]);
    User::get_by_email(&store, &ada.email).await.unwrap_err();
    for _ in 0..2 {
        assert_eq!(users.by_email(&store, &ada.email).await, Some(ada.clone()));
        assert_eq!(users.take(), (1, 1));
        assert_eq!(users.by_email(&store, "nobody").await, None);
        assert_eq!(users.take(), (1, 0));
    }
}

async fn a_corrupt_entry_is_a_miss(on: On) {
    if on == On::Memory {
        return;
    }
    let (store, users, ada) = with_ada(on, "alias-corrupt").await;
    // Rubbish, and the entry of a value: what holds another thing than a key.
    on.raw(&["SET", "alias-corrupt::user:email:rubbish", "rubbish"]);
    let Value::Bulk(value) = on.raw(&["GET", "alias-corrupt:user:1"]) else {
        panic!("the value is not there");
    };
    let key = "alias-corrupt::user:email:ada@example.org".as_bytes();
    on.raw(&["SET".as_bytes(), key, &value]);
    assert_eq!(cached(&store, "rubbish").await, None);
    assert_eq!(users.by_email(&store, &ada.email).await, Some(ada.clone()));
    assert_eq!((users.take(), store.stats().corrupt()), ((1, 0), 2));
    assert_eq!(cached(&store, &ada.email).await, Some(ada));
}

async fn a_store_that_is_off_looks_up_and_loads(on: On) {
    let (store, users, ada) = with_ada(on, "alias-off").await;
    store.set_enabled(false);
    assert_eq!(cached(&store, &ada.email).await, None);
    assert_eq!(users.by_email(&store, &ada.email).await, Some(ada.clone()));
    assert_eq!(users.take(), (1, 1));
    store.set_enabled(true);
    assert_eq!(users.by_email(&store, &ada.email).await, Some(ada));
    assert_eq!(users.take(), (1, 1));
}
