//! Readers and writers at once: a read after an invalidation has returned is given nothing older.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Loaded, Store};
use valkey_tests::Server;
use valkey_tests::resp::Value;

use crate::stores::{On, patient};

suite! {
    crate::tags_race =>
    no_read_is_older_than_an_invalidation
}

const ORGS: u64 = 3;
const USERS: u64 = 12;
const READERS: u64 = 6;

/// The tags of a user are known from its row; that of the region only to its loader.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "user",
    ttl = "5m",
    stale_if_error = "5m",
    tag = "org:{org_id}",
    tags
)]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
    row: u64,
}

/// The rows of all users of an organisation have the number of its last commit.
#[derive(Default)]
struct Org {
    row: AtomicU64,
    /// The lowest row that a read may be given from now on.
    floor: AtomicU64,
}

#[derive(Default)]
struct Database {
    orgs: [Org; ORGS as usize],
    done: AtomicBool,
}

impl Database {
    fn org(&self, id: u64) -> &Org {
        &self.orgs[(id % ORGS) as usize]
    }

    async fn load(&self, id: u64) -> Loaded<User> {
        tokio::task::yield_now().await;
        let row = self.org(id).row.load(SeqCst);
        // Others commit, and invalidate, meanwhile.
        for _ in 0..id % 5 {
            tokio::task::yield_now().await;
        }
        let org_id = id % ORGS;
        let user = User { id, org_id, row };
        Loaded::value(user).tags([format!("region:{org_id}")])
    }

    async fn read(&self, store: &Store, id: u64, how: u64) {
        let floor = self.org(id).floor.load(SeqCst);
        let load = async |id| Ok::<_, ()>(self.load(id).await);
        let users = match how % 4 {
            0 => User::get(store, id).await.unwrap().into_iter().collect(),
            1 => {
                let many = User::get_many(store, [id, id + ORGS]).await;
                many.unwrap().into_iter().flatten().collect()
            }
            2 => {
                let ids = [id, id + ORGS];
                let many = User::get_or_load_many(store, ids, async |ids: Vec<u64>| {
                    let org_id = id % ORGS;
                    let row = self.org(id).row.load(SeqCst);
                    tokio::task::yield_now().await;
                    let rows = ids.into_iter().map(|id| (id, User { id, org_id, row }));
                    Ok::<_, ()>(rows.collect::<Vec<_>>())
                });
                many.await.unwrap().into_iter().flatten().collect()
            }
            _ => {
                let one = User::get_or_load(store, id, || load(id)).await;
                one.unwrap().into_iter().collect::<Vec<_>>()
            }
        };
        for user in users {
            assert!(user.row >= floor, "{user:?} after {floor}");
        }
    }

    /// Commits and invalidates, or both under a guard.
    async fn write(&self, store: &Store, org: u64, how: u64) {
        let commit = || self.org(org).row.fetch_add(1, SeqCst) + 1;
        let org_tag = User::cache_tags().org(org);
        let row = match how % 3 {
            0 => {
                let row = commit();
                org_tag.invalidate(store).await.unwrap();
                row
            }
            // The tag that only the loader adds is invalidated too, for values that were loaded one
            // by one.
            1 => {
                let row = commit();
                let tags = [format!("region:{org}"), org_tag.to_string()];
                store.invalidate_tags(tags).await.unwrap();
                row
            }
            _ => {
                let updated =
                    store
                        .of::<User>()
                        .update(org)
                        .invalidating([org_tag])
                        .run(async || {
                            tokio::task::yield_now().await;
                            Ok::<_, ()>(commit())
                        });
                updated.await.unwrap()
            }
        };
        self.org(org).floor.fetch_max(row, SeqCst);
    }

    /// Once nobody invalidates anything more: of how many users what was loaded is there.
    async fn cached(&self, store: &Store) -> u64 {
        let mut cached = 0;
        for id in 0..USERS {
            let found = User::get_or_load(store, id, async || Ok::<_, ()>(self.load(id).await));
            let found = found.await.unwrap().unwrap();
            if let Some(there) = User::get(store, id).await.unwrap() {
                assert_eq!(there.row, found.row);
                cached += 1;
            }
        }
        cached
    }

    /// One writer for each organisation, and readers on all stores until they are done. They fill
    /// the store, if they are to.
    async fn race(self: Arc<Self>, stores: &[Store], writes: u64, fills: bool) {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (database, store) =
                    (self.clone(), stores[reader as usize % stores.len()].clone());
                tokio::spawn(async move {
                    let mut reads = 0;
                    while !database.done.load(SeqCst) || reads < 100 {
                        let id = (reader + reads * 7) % USERS;
                        database.read(&store, id, reader + reads).await;
                        reads += 1;
                        if fills && reads % 4 == 0 {
                            let id = 1_000_000 * (reader + 1) + reads;
                            fill(&store, id..id + 1).await;
                        }
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..ORGS)
            .map(|org| {
                let (database, store) = (self.clone(), stores[org as usize % stores.len()].clone());
                tokio::spawn(async move {
                    for how in 0..writes {
                        database.write(&store, org, how).await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        self.done.store(true, SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

pub(crate) async fn no_read_is_older_than_an_invalidation(on: On) {
    let first = on.store("tags-race").await;
    let stores = match on {
        On::Memory => vec![first],
        _ => vec![first, on.store("tags-race").await],
    };
    let database = Arc::new(Database::default());
    let writes = if on == On::Cluster { 200 } else { 1000 };
    database.clone().race(&stores, writes, false).await;
    assert_eq!(database.cached(&stores[0]).await, USERS, "{on:?}");
}

/// The server evicts whatever it likes: values, epochs, the clock.
#[tokio::test]
async fn no_read_is_older_where_everything_is_evicted() {
    let server = Server::plain();
    let used = info(&server, "used_memory:");
    let limit = (used + (4 << 20)).to_string();
    for setting in [
        ["maxmemory-policy", "allkeys-lru"],
        ["maxmemory-samples", "10"],
        ["maxmemory", &limit],
    ] {
        let set = server.command(&["CONFIG", "SET", setting[0], setting[1]]);
        assert_eq!(set, Value::Simple("OK".to_owned()));
    }
    let open = || async {
        let store = patient(Store::builder().url(&server.url())).namespace("lru");
        store.connect().await.unwrap()
    };
    let stores = vec![open().await, open().await];
    let database = Arc::new(Database::default());
    fill(&stores[0], 0..4000).await;
    let before = info(&server, "evicted_keys:");
    database.clone().race(&stores, 500, true).await;
    assert!(info(&server, "evicted_keys:") > before + 100);
    // Entries that are evicted between a load and a look are not there.
    assert!(database.cached(&stores[0]).await > 0);
}

/// The in-process store evicts by its bound.
#[tokio::test]
async fn no_read_is_older_where_the_process_evicts() {
    let store = Store::builder().memory().memory_capacity(64 << 10);
    let store = store.connect().await.unwrap();
    let database = Arc::new(Database::default());
    fill(&store, 0..100).await;
    database
        .clone()
        .race(std::slice::from_ref(&store), 1000, true)
        .await;
    assert!(database.cached(&store).await > 0);
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "filler")]
struct Filler {
    #[cached(key)]
    id: u64,
    text: String,
}

/// Leaves little room for anything else.
async fn fill(store: &Store, ids: std::ops::Range<u64>) {
    let text = "x".repeat(2000);
    let fillers = ids.map(|id| Filler {
        id,
        text: text.clone(),
    });
    let fillers: Vec<_> = fillers.collect();
    Filler::set_many(store, &fillers).await.unwrap();
}

/// A number that the server tells of itself.
fn info(server: &Server, name: &str) -> u64 {
    let Value::Bulk(text) = server.command(&["INFO"]) else {
        panic!("no INFO");
    };
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}
