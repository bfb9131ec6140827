//! cached: its asynchronous store on a server, which encodes as MessagePack and has no bulk reads.

use std::sync::Arc;
use std::time::Duration;

use benches::contender;
use benches::turns::Contender;
use cached::{AsyncRedisCache, ConcurrentCachedAsync, SerializeCachedAsync};

use crate::world::{TTL_MILLIS, User, World, connected};

const NAME: &str = "cached";

type Cache = Arc<AsyncRedisCache<u64, User>>;

fn cache(world: &World) -> Cache {
    let builder = AsyncRedisCache::builder("cached")
        .ttl(Duration::from_millis(TTL_MILLIS))
        .connection_string(&world.url);
    Arc::new(connected(builder.build()))
}

pub(crate) async fn fill(world: &World) {
    let cache = cache(world);
    for id in 0..benches::KEYS {
        let user = world.expected.user(id);
        cache.async_cache_set_ref(&id, user).await.unwrap();
    }
}

pub(crate) fn get(world: &World) -> Contender {
    let (cache, expected) = (cache(world), &world.expected);
    contender!(NAME, [cache, expected], id => {
        let found = cache.async_cache_get(&id).await.unwrap();
        assert!(found.as_ref() == Some(expected.user(id)));
    })
}

pub(crate) fn set(world: &World) -> Contender {
    let (cache, expected) = (cache(world), &world.expected);
    contender!(NAME, [cache, expected], id => {
        cache.async_cache_set_ref(&id, expected.user(id)).await.unwrap();
    })
}

/// What its macros do at a hit.
pub(crate) fn get_or_load(world: &World) -> Contender {
    let (cache, expected) = (cache(world), &world.expected);
    contender!(NAME, [cache, expected], id => {
        let found = match cache.async_cache_get(&id).await.unwrap() {
            Some(found) => found,
            None => {
                let loaded = expected.user(id).clone();
                cache.async_cache_set_ref(&id, &loaded).await.unwrap();
                loaded
            }
        };
        assert!(found == *expected.user(id));
    })
}

/// A deletion after the write, without a guard.
pub(crate) fn update(world: &World) -> Contender {
    let cache = cache(world);
    contender!(NAME, [cache], id => {
        let deleted = cache.async_cache_remove(&(id + benches::KEYS)).await.unwrap();
        assert!(deleted.is_none());
    })
}
