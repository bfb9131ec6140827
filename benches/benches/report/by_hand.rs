//! Handwritten code over the redis crate and rmp-serde.

use benches::turns::Contender;
use benches::{BY_HAND, contender};
use redis::AsyncCommands;

use crate::world::{TTL_MILLIS, User, World, bulk as bulk_of};

fn key(id: u64) -> String {
    format!("by-hand:{id}")
}

pub(crate) async fn fill(world: &World) {
    let mut connection = world.connection.clone();
    for id in 0..benches::KEYS {
        let bytes = rmp_serde::to_vec_named(world.expected.user(id)).unwrap();
        let () = connection
            .pset_ex(key(id), bytes, TTL_MILLIS)
            .await
            .unwrap();
    }
}

pub(crate) fn get(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(BY_HAND, [connection, expected], id => {
        let found: Option<Vec<u8>> = connection.get(key(id)).await.unwrap();
        let found: User = rmp_serde::from_slice(&found.unwrap()).unwrap();
        assert!(found == *expected.user(id));
    })
}

pub(crate) fn set(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(BY_HAND, [connection, expected], id => {
        let bytes = rmp_serde::to_vec_named(expected.user(id)).unwrap();
        let () = connection.pset_ex(key(id), bytes, TTL_MILLIS).await.unwrap();
    })
}

/// Without protection from stampedes.
pub(crate) fn get_or_load(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(BY_HAND, [connection, expected], id => {
        let found: Option<Vec<u8>> = connection.get(key(id)).await.unwrap();
        let found: User = match found {
            Some(found) => rmp_serde::from_slice(&found).unwrap(),
            None => {
                let loaded = expected.user(id).clone();
                let bytes = rmp_serde::to_vec_named(&loaded).unwrap();
                let () = connection.pset_ex(key(id), bytes, TTL_MILLIS).await.unwrap();
                loaded
            }
        };
        assert!(found == *expected.user(id));
    })
}

pub(crate) fn bulk(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(BY_HAND, [connection, expected], id => {
        let keys: Vec<String> = bulk_of(id).map(key).collect();
        let found: Vec<Option<Vec<u8>>> = connection.mget(keys).await.unwrap();
        let decode = |found: &Option<Vec<u8>>| -> Option<User> {
            Some(rmp_serde::from_slice(found.as_ref()?).unwrap())
        };
        let found: Vec<Option<User>> = found.iter().map(decode).collect();
        assert!(found.iter().map(Option::as_ref).eq(bulk_of(id).map(|id| Some(expected.user(id)))));
    })
}
