//! What all contenders share: the values, and the connections of the two clients that several use.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use benches::KEYS;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use redis_macros::{FromRedisValue, ToRedisArgs};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

use crate::by_glide::Node;

benches::user!(
    #[derive(FromRedisValue, ToRedisArgs)]
    pub(crate) User: prefix = "user", ttl = "1h"
);

benches::user!(pub(crate) Near: prefix = "near", ttl = "1h", near = "1h");

impl Near {
    /// Whether it is the same user.
    pub(crate) fn is(&self, user: &User) -> bool {
        let own = (self.id, &self.name, &self.email, &self.city);
        let rest = (self.created, self.active, &self.tags);
        own == (user.id, &user.name, &user.email, &user.city)
            && rest == (user.created, user.active, &user.tags)
    }

    /// Stores the values, and reads them until all have copies.
    async fn fill_of(size: Size, store: &Store) {
        for id in 0..KEYS {
            let user = match size {
                Size::Small => Self::new(id),
                Size::Large => Self::large(id),
            };
            user.set(store).await.unwrap();
        }
        let mut copied = 0;
        while copied < KEYS {
            let before = store.stats().near_hits();
            for id in 0..KEYS {
                assert!(Self::get_shared(store, id).await.unwrap().is_some());
            }
            copied = store.stats().near_hits() - before;
        }
    }
}

/// The entries of a bulk.
pub(crate) const BULK: u64 = 100;
/// The TTL of every entry.
pub(crate) const TTL_MILLIS: u64 = 3_600_000;
/// More than any command takes on a machine that stands still for a moment.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Size {
    Small,
    Large,
}

impl Size {
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// As an argument.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "200 B",
            Self::Large => "8 KiB",
        }
    }

    /// About so many in a payload.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Small => 200,
            Self::Large => 8 << 10,
        }
    }
}

/// What is written and must be read again.
pub(crate) struct Expected {
    users: Vec<User>,
    /// Their entries, as this project stores them.
    entries: Vec<Vec<u8>>,
}

impl Expected {
    pub(crate) fn users(&self) -> &[User] {
        &self.users
    }

    pub(crate) fn user(&self, id: u64) -> &User {
        &self.users[at(id)]
    }

    pub(crate) fn entry(&self, id: u64) -> &[u8] {
        &self.entries[at(id)]
    }
}

fn at(id: u64) -> usize {
    (id % KEYS) as usize
}

/// Connects a client that belongs to one contender.
pub(crate) fn connected<T, E: std::fmt::Debug>(connect: impl Future<Output = Result<T, E>>) -> T {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| runtime.block_on(connect)).unwrap()
}

/// The numbers of a bulk.
pub(crate) fn bulk(id: u64) -> impl ExactSizeIterator<Item = u64> + Clone {
    // As usize, because a range of those knows its length.
    (0..BULK as usize).map(move |more| (id + more as u64) % KEYS)
}

pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) store: Store,
    pub(crate) connection: MultiplexedConnection,
    pub(crate) expected: Arc<Expected>,
    /// Where it is installed.
    pub(crate) node: Option<Rc<RefCell<Node>>>,
}

impl World {
    /// Fills the server with values of a size, under the keys of every contender.
    pub(crate) async fn new(server: &Server, size: Size) -> Self {
        let url = server.url();
        let builder = Store::builder().url(&url);
        let builder = builder.command_timeout(TIMEOUT).operation_timeout(TIMEOUT);
        let store = builder.connect().await.unwrap();
        // As without the test kit.
        store.faults().set_yielding(false);
        let client = redis::Client::open(format!("{url}?protocol=resp3")).unwrap();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
        let connected = client.get_multiplexed_async_connection_with_config(&config);
        let connection = connected.await.unwrap();
        let user = match size {
            Size::Small => User::new,
            Size::Large => User::large,
        };
        let users: Vec<User> = (0..KEYS).map(user).collect();
        let mut entries = Vec::new();
        for user in &users {
            user.set(&store).await.unwrap();
            let key = format!("user:{}", user.id);
            let mut connection = connection.clone();
            let entry: Vec<u8> = redis::AsyncCommands::get(&mut connection, key)
                .await
                .unwrap();
            entries.push(entry);
        }
        let expected = Arc::new(Expected { users, entries });
        let node = Node::start(server.addr().port(), &expected);
        let world = Self {
            url,
            store,
            connection,
            expected,
            node,
        };
        Near::fill_of(size, &world.store).await;
        crate::by_bare_client::fill(&world).await;
        crate::by_hand::fill(&world).await;
        crate::by_redis_macros::fill(&world).await;
        crate::by_cached::fill(&world).await;
        world
    }

    /// The sizes of an entry and of its payload.
    pub(crate) fn bytes(&self) -> Value {
        let payload = rmp_serde::to_vec_named(self.expected.user(0)).unwrap();
        json!({ "entry": self.expected.entry(0).len(), "payload": payload.len() })
    }
}
