//! rustis with the same bytes as the bare client, not decoded.

use benches::turns::Contender;
use benches::{RUSTIS, contender};
use rustis::client::Client;
use rustis::commands::{GenericCommands, SetExpiration, StringCommands};
use rustis::resp::{BulkString, RefBulkString};

use crate::by_bare_client::key;
use crate::world::{TTL_MILLIS, World, bulk as bulk_of, connected};

fn client(world: &World) -> Client {
    connected(Client::connect(world.url.replacen("valkey:", "redis:", 1)))
}

pub(crate) fn get(world: &World) -> Contender {
    let (client, expected) = (client(world), &world.expected);
    contender!(RUSTIS, [client, expected], id => {
        let found: BulkString = client.get(key(id)).await.unwrap();
        assert!(found.as_bytes() == expected.entry(id));
    })
}

pub(crate) fn set(world: &World) -> Contender {
    let (client, expected) = (client(world), &world.expected);
    contender!(RUSTIS, [client, expected], id => {
        let entry = RefBulkString::new(expected.entry(id));
        let ttl = SetExpiration::Px(TTL_MILLIS);
        let set = client.set_with_options(key(id), entry, None, ttl).await.unwrap();
        assert!(set);
    })
}

pub(crate) fn bulk(world: &World) -> Contender {
    let (client, expected) = (client(world), &world.expected);
    contender!(RUSTIS, [client, expected], id => {
        let keys: Vec<String> = bulk_of(id).map(key).collect();
        let found: Vec<BulkString> = client.mget(keys).await.unwrap();
        assert!(found.iter().map(BulkString::as_bytes).eq(bulk_of(id).map(|id| expected.entry(id))));
    })
}

/// A deletion after the write, without a guard.
pub(crate) fn update(world: &World) -> Contender {
    let client = client(world);
    contender!(RUSTIS, [client], id => {
        let deleted = client.del(format!("bare:updated:{id}")).await.unwrap();
        assert!(deleted == 0);
    })
}
