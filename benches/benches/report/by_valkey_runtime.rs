//! This project.

use benches::turns::Contender;
use benches::{OWN, contender};
use valkey_runtime::Cached;

use crate::world::{Near, User, World, bulk as bulk_of};

pub(crate) fn get(name: &'static str, world: &World) -> Contender {
    let (store, expected) = (&world.store, &world.expected);
    contender!(name, [store, expected], id => {
        let found = User::get(&store, id).await.unwrap();
        assert!(found.as_ref() == Some(expected.user(id)));
    })
}

pub(crate) fn set(world: &World) -> Contender {
    let (store, expected) = (&world.store, &world.expected);
    contender!(OWN, [store, expected], id => expected.user(id).set(&store).await.unwrap())
}

pub(crate) fn get_or_load(world: &World) -> Contender {
    let (store, expected) = (&world.store, &world.expected);
    contender!(OWN, [store, expected], id => {
        let load = async || Err::<User, _>("it is there");
        let found = User::get_or_load(&store, id, load).await.unwrap();
        assert!(found == *expected.user(id));
    })
}

pub(crate) fn bulk(world: &World) -> Contender {
    let (store, expected) = (&world.store, &world.expected);
    contender!(OWN, [store, expected], id => {
        let found = User::get_many(&store, bulk_of(id)).await.unwrap();
        assert!(found.iter().map(Option::as_ref).eq(bulk_of(id).map(|id| Some(expected.user(id)))));
    })
}

/// Of a type with a near cache.
pub(crate) fn near(world: &World) -> Contender {
    let (store, expected) = (&world.store, &world.expected);
    contender!(OWN, [store, expected], id => {
        let found = Near::get_shared(&store, id).await.unwrap();
        assert!(found.is_some_and(|found| found.is(expected.user(id))));
    })
}

/// With a guard before the write, which the deletion ends.
pub(crate) fn update(world: &World) -> Contender {
    let store = &world.store;
    contender!(OWN, [store], id => {
        let write = async || Ok::<_, ()>(id);
        let written = User::update(&store, id + benches::KEYS, write).await.unwrap();
        assert!(written == id);
    })
}
