//! The redis crate with the same bytes as this project's entries, which it does not decode.

use benches::turns::Contender;
use benches::{BARE, contender};
use redis::AsyncCommands;

use crate::world::{TTL_MILLIS, World, bulk as bulk_of};

/// A key that no peer of bytes shares with another contender.
pub(crate) fn key(id: u64) -> String {
    format!("bare:{id}")
}

pub(crate) async fn fill(world: &World) {
    let mut connection = world.connection.clone();
    for id in 0..benches::KEYS {
        let entry = world.expected.entry(id);
        let () = connection
            .pset_ex(key(id), entry, TTL_MILLIS)
            .await
            .unwrap();
    }
}

pub(crate) fn get(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(BARE, [connection, expected], id => {
        let found: Vec<u8> = connection.get(key(id)).await.unwrap();
        assert!(found == expected.entry(id));
    })
}

pub(crate) fn set(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(BARE, [connection, expected], id => {
        let entry = expected.entry(id);
        let () = connection.pset_ex(key(id), entry, TTL_MILLIS).await.unwrap();
    })
}

pub(crate) fn bulk(world: &World) -> Contender {
    let (connection, expected) = (&world.connection, &world.expected);
    contender!(BARE, [connection, expected], id => {
        let keys: Vec<String> = bulk_of(id).map(key).collect();
        let found: Vec<Vec<u8>> = connection.mget(keys).await.unwrap();
        assert!(found.iter().map(Vec::as_slice).eq(bulk_of(id).map(|id| expected.entry(id))));
    })
}

/// A deletion after the write, without a guard.
pub(crate) fn update(world: &World) -> Contender {
    let connection = &world.connection;
    contender!(BARE, [connection], id => {
        let deleted: u64 = connection.del(format!("bare:updated:{id}")).await.unwrap();
        assert!(deleted == 0);
    })
}
