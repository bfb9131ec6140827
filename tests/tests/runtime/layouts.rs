//! The compact layout, on every backend: an entry of the type's own shape is its value, and one of
//! another shape is a miss that a load and a conditional `set` replace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, SetOptions, Shape};

use crate::stores::On;

suite! {
    crate::layouts =>
    compact_values_come_back
    an_entry_of_another_shape_is_a_miss_and_is_replaced
    an_own_entry_is_touched_and_kept
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Shape)]
enum Kind {
    Unit,
    Newtype(Box<Kind>),
    Tuple(u8, String),
    Struct { a: Option<u8>, b: Vec<Kind> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Shape)]
#[serde(tag = "type")]
enum Internal {
    Unit,
    Struct { name: String, kind: Kind },
    Newtype(Part),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Shape)]
#[serde(tag = "type", content = "content")]
enum Adjacent {
    Newtype(Part),
    Tuple(u8, u8),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Shape)]
struct Part {
    a: u8,
    #[serde(skip)]
    b: u8,
    #[serde(default)]
    c: Option<Vec<(u8, f32)>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Shape)]
struct Marker;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "thing", layout = "compact")]
struct Thing {
    #[cached(key)]
    id: u64,
    name: String,
    kinds: Vec<Kind>,
    internal: Vec<Internal>,
    adjacent: Vec<Adjacent>,
    parts: BTreeMap<(u8, u8), Part>,
    marker: Option<Marker>,
    next: Option<Box<Thing>>,
    empty: (),
}

fn thing(id: u64) -> Thing {
    let part = Part {
        a: 7,
        b: 0,
        c: Some(vec![(1, 0.5)]),
    };
    Thing {
        id,
        name: format!("thing {id}"),
        kinds: vec![
            Kind::Unit,
            Kind::Newtype(Box::new(Kind::Tuple(1, "x".into()))),
            Kind::Struct {
                a: None,
                b: vec![Kind::Unit],
            },
        ],
        internal: vec![
            Internal::Unit,
            Internal::Struct {
                name: "y".into(),
                kind: Kind::Struct {
                    a: Some(1),
                    b: vec![],
                },
            },
            Internal::Newtype(part.clone()),
        ],
        adjacent: vec![Adjacent::Newtype(part.clone()), Adjacent::Tuple(1, 2)],
        parts: BTreeMap::from([((1, 2), part)]),
        marker: Some(Marker),
        next: (id > 0).then(|| Box::new(thing(id - 1))),
        empty: (),
    }
}

pub(crate) async fn compact_values_come_back(on: On) {
    let store = on.store("compact").await;
    let value = thing(2);
    value.set(&store).await.unwrap();
    assert_eq!(Thing::get(&store, 2).await.unwrap().as_ref(), Some(&value));
    let load = async || Ok::<_, ()>(thing(1));
    for loads in [1, 1] {
        let loaded = Thing::get_or_load(&store, 1, load).await.unwrap();
        assert_eq!(loaded, thing(1));
        assert_eq!(store.stats().loads(), loads);
    }
    assert_eq!(store.stats().corrupt(), 0);
}

/// Two fields of one type, reordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "pair", layout = "compact")]
struct Pair {
    #[cached(key)]
    id: u64,
    left: u8,
    right: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "pair", layout = "compact")]
struct Reordered {
    #[cached(key)]
    id: u64,
    right: u8,
    left: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "pair")]
struct Named {
    #[cached(key)]
    id: u64,
    left: u8,
    right: u8,
}

const PAIR: Pair = Pair {
    id: 1,
    left: 7,
    right: 8,
};
const REORDERED: Reordered = Reordered {
    id: 1,
    right: 8,
    left: 7,
};
const NAMED: Named = Named {
    id: 1,
    left: 7,
    right: 8,
};

pub(crate) async fn an_entry_of_another_shape_is_a_miss_and_is_replaced(on: On) {
    let store = on.store("another-shape").await;
    let if_absent = || SetOptions::new().if_absent();
    let if_present = || SetOptions::new().if_present();
    PAIR.set(&store).await.unwrap();

    assert_eq!(Reordered::get(&store, 1).await.unwrap(), None);
    assert!(!Reordered::exists(&store, 1).await.unwrap());
    assert!(!Reordered::touch(&store, 1).await.unwrap());
    assert!(!REORDERED.set_with(&store, if_present()).await.unwrap());
    assert!(REORDERED.set_with(&store, if_absent()).await.unwrap());
    assert_eq!(Reordered::get(&store, 1).await.unwrap(), Some(REORDERED));

    // The other layout, both ways.
    assert_eq!(Named::get(&store, 1).await.unwrap(), None);
    assert!(!NAMED.set_with(&store, if_present()).await.unwrap());
    assert!(NAMED.set_with(&store, if_absent()).await.unwrap());
    assert_eq!(Reordered::get(&store, 1).await.unwrap(), None);
    assert!(!REORDERED.set_with(&store, if_present()).await.unwrap());

    // A load replaces it, too.
    let load = async || Ok::<_, ()>(PAIR);
    assert_eq!(Pair::get_or_load(&store, 1, load).await.unwrap(), PAIR);
    assert_eq!(Pair::get(&store, 1).await.unwrap(), Some(PAIR));
    assert_eq!(store.stats().corrupt(), 0);
}

pub(crate) async fn an_own_entry_is_touched_and_kept(on: On) {
    let store = on.store("own-shape").await;
    PAIR.set(&store).await.unwrap();
    let other = Pair { left: 9, ..PAIR };
    let if_absent = SetOptions::new().if_absent();
    assert!(!other.set_with(&store, if_absent).await.unwrap());
    assert!(Pair::touch(&store, 1).await.unwrap());
    assert!(Pair::exists(&store, 1).await.unwrap());
    let if_present = SetOptions::new().if_present();
    assert!(other.set_with(&store, if_present).await.unwrap());
    assert_eq!(Pair::get(&store, 1).await.unwrap(), Some(other));
}
