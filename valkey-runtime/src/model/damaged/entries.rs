//! The same for other kinds of entries: values without an expiry, absences, aliases, and the epoch
//! of a type that can be cleared.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{PATIENCE, damages, epoch, is_newer, now_millis, on_each};
use crate::api::alias::{Aliased, get_by, load_by};
use crate::base::ttl::Ttl;
use crate::core::store::Store;
use crate::key::tag::TagWriter;
use crate::protocol::envelope::epoch::Epoch;
use crate::protocol::found::Found;
use crate::protocol::lease::LEASE_LIFE;
use crate::protocol::transition::Verb;
use crate::schema::cached_type::{Clearable, Tagged};
use crate::schema::guarding::BestEffort;
use crate::schema::policy::Policy;
use crate::{Cached, CachedType};

/// A row with its number: without tags and without an expiry. Its absence is cached, and it is also
/// found by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seat {
    id: u64,
    row: u32,
    name: String,
}

impl CachedType for Seat {
    const PREFIX: &'static str = "seat";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy::new().ttl_absent(Duration::from_secs(3600));
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

impl Aliased<0> for Seat {
    const NAME: &'static str = "name";
    type Field = String;

    fn field(&self) -> &String {
        &self.name
    }
}

fn seat(id: u64, row: u32, name: &str) -> Seat {
    let name = name.to_owned();
    Seat { id, row, name }
}

/// The keys of the seat, and of its alias.
const SEAT: &[u8] = b"seat:1";
const ALIAS: &[u8] = b":seat:name:ada";

/// Damaged bytes in a message.
fn shown(damaged: &[u8]) -> String {
    let shown = &damaged[..damaged.len().min(60)];
    format!("{shown:02x?} ({} bytes)", damaged.len())
}

/// Stores these bytes directly, without an expiry.
async fn plant(store: &Store, key: &[u8], bytes: &[u8]) {
    let backend = store.inner().gateway.backend();
    backend.set(key, bytes.to_vec(), None).await.unwrap();
}

/// The stored bytes.
async fn entry(store: &Store, key: &[u8]) -> Vec<u8> {
    match store.inner().gateway.backend().get(key).await.unwrap() {
        Found::Entry(bytes) => bytes.to_vec(),
        found => panic!("{found:?}"),
    }
}

/// Repeats a step until it holds, at most twice. A step that took half of a lease's life does not
/// count: the machine is busy, and the lease may have run out.
async fn soon(what: &str, mut step: impl AsyncFnMut() -> bool) {
    let (mut tries, began) = (0, Instant::now());
    while tries < 2 && began.elapsed() < PATIENCE {
        let before = Instant::now();
        if step().await {
            return;
        }
        tries += u32::from(before.elapsed() < LEASE_LIFE / 2);
    }
    panic!("{what}: nothing is stored");
}

/// The first seat, of Ada.
struct First<'s> {
    store: &'s Store,
    name: String,
}

impl First<'_> {
    async fn found(&self) -> Option<u32> {
        let found = Seat::get(self.store, 1).await;
        found
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
            .map(|seat| seat.row)
    }

    /// What a load returns. `None` means that there is no such seat.
    async fn given(&self, row: Option<u32>) -> Option<u32> {
        let load = async || Ok::<_, ()>(row.map(|row| seat(1, row, "ada")));
        let given = Seat::get_or_load(self.store, 1, load).await;
        given.unwrap().map(|seat| seat.row)
    }

    /// The next load, or the one after it, is stored: then no loader runs.
    async fn is_stored(&self, row: Option<u32>) {
        soon(&self.name, async || {
            assert_eq!(self.given(row).await, row, "{}", self.name);
            let loads = self.store.stats().loads();
            assert_eq!(self.given(row).await, row, "{}", self.name);
            self.store.stats().loads() == loads
        })
        .await;
    }

    async fn deleted(&self) {
        Seat::del(self.store, 1).await.unwrap();
        assert_eq!(self.found().await, None, "{}: deleted", self.name);
    }

    async fn updated(&self) {
        let write = async || Ok::<_, ()>(());
        Seat::update(self.store, 1, write).await.unwrap();
        assert_eq!(self.found().await, None, "{}: updated", self.name);
    }

    /// Loads are stored, and an invalidated value is not read any more.
    async fn is_well(&self, row: u32) {
        self.is_stored(Some(row)).await;
        let hit = self.given(Some(row + 1)).await;
        assert_eq!(hit, Some(row), "{}: a hit", self.name);
        self.deleted().await;
        self.is_stored(Some(row + 1)).await;
        self.updated().await;
        self.is_stored(Some(row + 2)).await;
        self.deleted().await;
    }
}

#[tokio::test]
async fn a_value_without_an_expiry() {
    on_each(|store| async move {
        let name = "an intact value".to_owned();
        let first = First {
            store: &store,
            name,
        };
        first.is_stored(Some(1)).await;
        for damaged in damages(&entry(&store, SEAT).await) {
            let name = format!("a value {}", shown(&damaged));
            let first = First {
                store: &store,
                name,
            };
            plant(&store, SEAT, &damaged).await;
            let found = first.found().await;
            assert!(matches!(found, None | Some(1)), "{}: {found:?}", first.name);
            assert_eq!(first.given(Some(1)).await, Some(1), "{}", first.name);
            if is_newer(&damaged) {
                first.deleted().await;
            }
            first.is_well(1).await;
        }
    })
    .await;
}

/// It says that there is no row, which is true until the row is created.
#[tokio::test]
async fn an_absence() {
    on_each(|store| async move {
        let name = "an intact absence".to_owned();
        let first = First {
            store: &store,
            name,
        };
        first.is_stored(None).await;
        for damaged in damages(&entry(&store, SEAT).await) {
            let name = format!("an absence {}", shown(&damaged));
            let first = First {
                store: &store,
                name,
            };
            plant(&store, SEAT, &damaged).await;
            assert_eq!(first.found().await, None, "{}", first.name);
            assert_eq!(first.given(None).await, None, "{}", first.name);
            if is_newer(&damaged) {
                first.deleted().await;
            }
            first.is_stored(None).await;
            first.updated().await;
            let given = first.given(Some(1)).await;
            assert_eq!(given, Some(1), "{}: the row is there", first.name);
            first.is_well(1).await;
        }
    })
    .await;
}

/// Two seats. The name of the first may pass to the second.
struct Both<'s> {
    store: &'s Store,
    name: String,
}

impl Both<'_> {
    /// The number of the seat that is cached for Ada.
    async fn found(&self) -> Option<u64> {
        let found = get_by::<Seat, 0>(self.store, "ada").await;
        found
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
            .map(|seat| seat.id)
    }

    /// The number of the seat that a look-up returns, while Ada has the seat `of_ada`.
    async fn given(&self, of_ada: u64) -> Option<u64> {
        let find = async || Ok::<_, ()>(Some(of_ada));
        let load = async |id: u64| {
            let name = if id == of_ada { "ada" } else { "bob" };
            Ok::<_, ()>(Some(seat(id, 1, name)))
        };
        let given = load_by::<Seat, 0>(self.store, "ada").run(find, load).await;
        given.unwrap().map(|seat| seat.id)
    }

    async fn updated(&self) {
        let write = async || Ok::<_, ()>(());
        let updated = Seat::update_many(self.store, [1, 2], write).await;
        updated.unwrap();
    }
}

/// An alias entry leads to a key. The value under that key must have the alias.
#[tokio::test]
async fn an_alias_entry() {
    on_each(|store| async move {
        let name = "an intact alias".to_owned();
        let both = Both {
            store: &store,
            name,
        };
        soon(&both.name, async || {
            both.given(1).await == Some(1) && both.found().await == Some(1)
        })
        .await;
        for damaged in damages(&entry(&store, ALIAS).await) {
            let name = format!("an alias {}", shown(&damaged));
            let both = Both {
                store: &store,
                name,
            };
            plant(&store, ALIAS, &damaged).await;
            let found = both.found().await;
            assert!(matches!(found, None | Some(1)), "{}: {found:?}", both.name);
            assert_eq!(both.given(1).await, Some(1), "{}", both.name);
            if is_newer(&damaged) {
                let forget = Verb::Delete(None);
                let backend = store.inner().gateway.backend();
                backend.apply(ALIAS, &forget).await.unwrap();
            }
            soon(&both.name, async || {
                assert_eq!(both.given(1).await, Some(1), "{}", both.name);
                both.found().await == Some(1)
            })
            .await;
            // Both change their names.
            both.updated().await;
            assert_eq!(both.found().await, None, "{}: updated", both.name);
            soon(&both.name, async || {
                assert_eq!(both.given(2).await, Some(2), "{}", both.name);
                both.found().await == Some(2)
            })
            .await;
            both.updated().await;
        }
    })
    .await;
}

/// A row with its number, of a type that can be cleared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sheet(u64, u32);

impl CachedType for Sheet {
    const PREFIX: &'static str = "sheet";
    const TTL: Ttl = Ttl::After(Duration::from_secs(3600));
    const VERSION: u16 = 1;
    const TAGGED: bool = true;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;

    fn write_tags(&self, out: &mut TagWriter<'_>) {
        Self::write_key_tags(self.0, out);
    }

    fn write_key_tags(_: u64, out: &mut TagWriter<'_>) {
        out.of_type(Self::PREFIX);
    }
}

impl Tagged for Sheet {}
impl Clearable for Sheet {}

const EPOCH: &[u8] = b"::type:sheet";

/// One sheet: a world of its own, but for the epoch of its type.
struct One<'s> {
    store: &'s Store,
    id: u64,
    name: String,
}

impl One<'_> {
    fn key(&self) -> Vec<u8> {
        format!("sheet:{}", self.id).into_bytes()
    }

    async fn found(&self) -> Option<u32> {
        let found = Sheet::get(self.store, self.id).await;
        found
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
            .map(|sheet| sheet.1)
    }

    async fn given(&self, row: u32) -> u32 {
        let load = async || Ok::<_, ()>(Some(Sheet(self.id, row)));
        let given = Sheet::get_or_load(self.store, self.id, load).await;
        given.unwrap().unwrap().1
    }

    async fn is_cached(&self, row: u32) {
        soon(&self.name, async || {
            self.given(row).await;
            self.found().await == Some(row)
        })
        .await;
    }

    async fn cleared(&self) {
        let cleared = self.store.of::<Sheet>().clear().await;
        cleared.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    async fn is_well(&self, row: u32) {
        self.is_cached(row).await;
        assert_eq!(self.given(row + 1).await, row, "{}: a hit", self.name);
        self.cleared().await;
        assert_eq!(self.found().await, None, "{}: cleared", self.name);
        self.is_cached(row + 1).await;
        let write = async || Ok::<_, ()>(());
        Sheet::update(self.store, self.id, write).await.unwrap();
        assert_eq!(self.found().await, None, "{}: updated", self.name);
        self.is_cached(row + 2).await;
    }
}

/// The epoch of a type with a cached value, and with one from before the last `clear`.
#[tokio::test]
async fn the_epoch_of_a_type() {
    for is_soft in [false, true] {
        on_each(|store| {
            let all = damages(&epoch(now_millis(&store), is_soft).to_bytes());
            async move {
                for (at, damaged) in all.into_iter().enumerate() {
                    let one = One {
                        store: &store,
                        id: at as u64,
                        name: format!("the epoch of a type {}", shown(&damaged)),
                    };
                    one.is_cached(1).await;
                    let old = entry(&store, &one.key()).await;
                    one.cleared().await;
                    plant(&store, &one.key(), &old).await;
                    plant(&store, EPOCH, &damaged).await;
                    // A lower number hides what was cleared; other bytes hide nothing.
                    let found = one.found().await;
                    let hides = Epoch::from_bytes(&damaged).is_some();
                    assert!(found.is_none() || hides, "{}: {found:?}", one.name);
                    Sheet::del(&store, one.id).await.unwrap();
                    if is_newer(&damaged) {
                        one.cleared().await;
                    }
                    one.is_well(2).await;
                }
            }
        })
        .await;
    }
}
