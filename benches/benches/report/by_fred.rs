//! fred with the same bytes as the bare client, not decoded.

use benches::contender;
use benches::turns::Contender;
use fred::bytes::Bytes;
use fred::prelude::{Client, ClientLike, Config, Expiration, KeysInterface};

use crate::by_bare_client::key;
use crate::world::{TTL_MILLIS, World, bulk as bulk_of, connected};

const NAME: &str = "fred, bytes";

fn client(world: &World) -> Client {
    let config = Config::from_url(&world.url.replacen("valkey:", "redis:", 1)).unwrap();
    let client = Client::new(config, None, None, None);
    connected(client.init());
    client
}

pub(crate) fn get(world: &World) -> Contender {
    let (client, expected) = (client(world), &world.expected);
    contender!(NAME, [client, expected], id => {
        let found: Bytes = client.get(key(id)).await.unwrap();
        assert!(found == expected.entry(id));
    })
}

pub(crate) fn set(world: &World) -> Contender {
    let (client, expected) = (client(world), &world.expected);
    contender!(NAME, [client, expected], id => {
        let ttl = Some(Expiration::PX(TTL_MILLIS as i64));
        let () = client.set(key(id), expected.entry(id), ttl, None, false).await.unwrap();
    })
}

pub(crate) fn bulk(world: &World) -> Contender {
    let (client, expected) = (client(world), &world.expected);
    contender!(NAME, [client, expected], id => {
        let keys: Vec<String> = bulk_of(id).map(key).collect();
        let found: Vec<Bytes> = client.mget(keys).await.unwrap();
        assert!(found.iter().map(|found| &**found).eq(bulk_of(id).map(|id| expected.entry(id))));
    })
}

/// A deletion after the write, without a guard.
pub(crate) fn update(world: &World) -> Contender {
    let client = client(world);
    contender!(NAME, [client], id => {
        let deleted: u64 = client.del(format!("bare:updated:{id}")).await.unwrap();
        assert!(deleted == 0);
    })
}
