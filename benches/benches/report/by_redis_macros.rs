//! redis-macros: derives for values as JSON, over the redis crate.

use benches::contender;
use benches::turns::Contender;
use redis::AsyncCommands;

use crate::world::{TTL_MILLIS, User, World, bulk as bulk_of};

const NAME: &str = "redis-macros, JSON";

fn key(id: u64) -> String {
    format!("redis-macros:{id}")
}

pub(crate) async fn fill(world: &World) {
    let mut connection = world.connection.clone();
    for id in 0..benches::KEYS {
        let user = world.expected.user(id);
        let () = connection.pset_ex(key(id), user, TTL_MILLIS).await.unwrap();
    }
}

pub(crate) fn get(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(NAME, [connection, expected], id => {
        let found: User = connection.get(key(id)).await.unwrap();
        assert!(found == *expected.user(id));
    })
}

pub(crate) fn set(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(NAME, [connection, expected], id => {
        let user = expected.user(id);
        let () = connection.pset_ex(key(id), user, TTL_MILLIS).await.unwrap();
    })
}

pub(crate) fn bulk(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(NAME, [connection, expected], id => {
        let keys: Vec<String> = bulk_of(id).map(key).collect();
        let found: Vec<User> = connection.mget(keys).await.unwrap();
        assert!(found.iter().eq(bulk_of(id).map(|id| expected.user(id))));
    })
}
