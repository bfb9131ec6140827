//! The state of each type on a store: the constants that verbs need, its counters, its loads.
//!
//! Every call of a verb looks up its type, so this takes no lock, and allocates once a type. The
//! table only grows, and nothing in it moves.

use std::any::TypeId;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::base::counters::{Count, TypeCounters};
use crate::base::error::{Error, ErrorKind};
use crate::base::shown_keys::ShownKeys;
use crate::base::warnings::{Detail, Topic, Warnings};
use crate::core::key_turns::KeyTurns;
use crate::core::loads::TypeLoads;
use crate::core::locked::Locked;
use crate::core::meta::Meta;
use crate::core::near::Near;
use crate::schema::cached_type::CachedType;
use crate::schema::{only_copy, registry};
use crate::value::read_back::ReadBack;

/// The state of a type on a store.
pub(crate) struct Type {
    id: TypeId,
    meta: Meta,
    /// Its prefix; for an alias, the prefix of its values and the field.
    name: Box<str>,
    counters: TypeCounters,
    pub(crate) loads: TypeLoads,
    /// Its near cache, if it has one.
    pub(crate) near: Option<Near>,
    keys: ShownKeys,
    pub(crate) read_back: ReadBack,
    /// The keys whose migrated entries are being written back.
    pub(crate) writing_back: Mutex<HashSet<Vec<u8>>>,
    /// The callers that change a value.
    pub(crate) modifying: KeyTurns,
    /// Whether the server was asked if it keeps its entries, for a type whose only copy they are.
    pub(crate) looked_at_server: AtomicBool,
    warnings: Arc<Warnings>,
    /// The name of the store.
    #[cfg(feature = "metrics")]
    store: Arc<str>,
}

impl Type {
    fn new<T: CachedType>(of: &Types) -> Self {
        const { only_copy::check::<T>() };
        let meta = Meta::of::<T>();
        if of.checks
            && let Some(text) = of.conflict::<T>(&meta)
        {
            tracing::error!("{text}");
        }
        let name: Box<str> = match T::ALIAS_OF {
            None => T::PREFIX.into(),
            Some((prefix, field)) => format!("{prefix} by {field}").into(),
        };
        let allows = meta.policy.show_keys;
        Self {
            id: TypeId::of::<T>(),
            loads: TypeLoads::new(&meta),
            near: Near::of::<T>(),
            meta,
            keys: of.keys.of_type(&name, allows, T::ALIAS_OF.is_some()),
            name,
            counters: TypeCounters::default(),
            read_back: ReadBack::every(of.read_back_every),
            writing_back: Mutex::default(),
            modifying: KeyTurns::default(),
            looked_at_server: AtomicBool::new(false),
            warnings: of.warnings.clone(),
            #[cfg(feature = "metrics")]
            store: of.store.clone(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) fn counters(&self) -> &TypeCounters {
        &self.counters
    }

    pub(crate) fn keys(&self) -> &ShownKeys {
        &self.keys
    }

    /// Records the time of a loader that has ended.
    pub(crate) fn loaded(&self, time: Duration) {
        self.counters.loaded(time);
        #[cfg(feature = "metrics")]
        crate::core::load_time::loaded(&self.store, &self.name, time);
    }

    /// Adds the operation and the key to an error.
    pub(crate) fn at(&self, operation: &'static str, key: &[u8], error: Error) -> Error {
        error.at(operation, self.keys.told(key))
    }

    /// Counts a failure that is returned to the caller.
    pub(crate) fn failed(&self, error: Error) -> Error {
        self.counters.error(error.kind());
        error
    }

    pub(crate) fn failed_at(&self, operation: &'static str, key: &[u8], error: Error) -> Error {
        self.failed(self.at(operation, key, error))
    }

    /// Counts and logs a failure that is not returned to the caller.
    pub(crate) fn log_failure(&self, error: Error, what: &'static str) {
        let error = self.failed(error);
        error.log(&self.warnings, Some(&self.name), what);
    }

    /// Warns of something other than a failure: at once the first time, and then once a minute.
    pub(crate) fn warn(
        &self,
        what: &'static str,
        kind: Option<ErrorKind>,
        detail: impl FnOnce() -> Detail,
    ) {
        let of = Some(&*self.name);
        self.warnings.warn(Topic { of, what, kind }, detail);
    }

    /// Counts and logs an entry that is not read, because of its encryption.
    pub(crate) fn locked(&self, operation: &'static str, key: &[u8], locked: Locked) {
        self.counters.count(Count::Undecrypted);
        self.warn(locked.what(), None, || Detail {
            operation: Some(operation),
            key: self.keys.of_failure(key),
            text: locked.to_string(),
        });
    }

    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    pub(crate) fn log_failure_at(
        &self,
        operation: &'static str,
        key: &[u8],
        error: Error,
        what: &'static str,
    ) {
        self.log_failure(self.at(operation, key, error), what);
    }
}

/// The types that a store was used with: a table with open addressing, and another one when it is
/// full.
pub(crate) struct Types {
    first: Block,
    keys: ShownKeys,
    warnings: Arc<Warnings>,
    /// One value in so many is read back.
    read_back_every: u32,
    /// Whether a type is compared with the others at its first use.
    checks: bool,
    #[cfg(feature = "metrics")]
    store: Arc<str>,
}

const SLOTS: usize = 64;

struct Block {
    slots: [OnceLock<Arc<Type>>; SLOTS],
    next: OnceLock<Box<Block>>,
}

impl Types {
    /// `store` is the name of the store.
    pub(crate) fn new(
        keys: ShownKeys,
        warnings: Arc<Warnings>,
        read_back_every: u32,
        store: &str,
        checks: bool,
    ) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = store;
        Self {
            first: Block::new(),
            keys,
            warnings,
            read_back_every,
            checks,
            #[cfg(feature = "metrics")]
            store: store.into(),
        }
    }

    #[inline]
    pub(crate) fn of<T: CachedType>(&self) -> &Arc<Type> {
        let id = TypeId::of::<T>();
        let home = home(id);
        match self.first.slots[home].get() {
            Some(known) if known.id == id => known,
            _ => self.look_further(id, home, || Type::new::<T>(self)),
        }
    }

    /// Looks further if the first slot belongs to another type, or to none yet.
    #[cold]
    fn look_further(&self, id: TypeId, home: usize, new: impl Fn() -> Type) -> &Arc<Type> {
        let mut block = &self.first;
        loop {
            for at in 0..SLOTS {
                // A new type takes the first free slot in this order, and slots never become free.
                let slot = &block.slots[(home + at) % SLOTS];
                let taken = slot.get_or_init(|| Arc::new(new()));
                if taken.id == id {
                    return taken;
                }
            }
            block = block.next.get_or_init(|| Box::new(Block::new()));
        }
    }

    /// The text about a type that shares its prefix with another type of the store, unless both
    /// are registered.
    fn conflict<T: CachedType>(&self, meta: &Meta) -> Option<String> {
        let (rust, prefix) = ((meta.name)(), T::PREFIX);
        let shares = |other: &&Type| {
            *other.name == *prefix
                && !registry::share_a_chain(meta.versions, other.meta.versions)
                && !(registry::has(rust) && registry::has((other.meta.name)()))
        };
        let other = (self.iter().find(shares)?.meta.name)();
        let (one, other) = (format!("`{rust}`"), format!("`{other}`"));
        Some(registry::conflict(prefix, one, other))
    }

    pub(crate) fn keys(&self) -> &ShownKeys {
        &self.keys
    }

    /// The name of the store.
    #[cfg(feature = "metrics")]
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// All types, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Type> {
        let blocks = std::iter::successors(Some(&self.first), |block| {
            block.next.get().map(Deref::deref)
        });
        blocks.flat_map(|block| block.slots.iter().filter_map(|slot| Some(&**slot.get()?)))
    }
}

impl Block {
    fn new() -> Self {
        Self {
            slots: [const { OnceLock::new() }; SLOTS],
            next: OnceLock::new(),
        }
    }
}

/// The slot in which a type is looked for first. Its `TypeId` is a hash already.
#[inline]
fn home(id: TypeId) -> usize {
    struct Last(u64);
    impl Hasher for Last {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
            }
        }
        fn write_u64(&mut self, part: u64) {
            self.0 = part;
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut hasher = Last(0);
    id.hash(&mut hasher);
    hasher.finish() as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::shown_keys::KeyTracing;
    use crate::base::ttl::Ttl;
    use crate::schema::guarding::BestEffort;

    #[derive(Serialize, Deserialize)]
    struct Numbered<const N: usize>;

    impl<const N: usize> CachedType for Numbered<N> {
        const PREFIX: &'static str = "numbered";
        const TTL: Ttl = Ttl::Never;
        const VERSION: u16 = N as u16;
        type Guarding = BestEffort;
        type Tags = ();
        type OwnedKey = u64;
        type Key<'k> = u64;
    }

    type Lookup = fn(&Types) -> &Arc<Type>;

    /// More types than there are slots.
    macro_rules! lookups {
        ($($hundreds:literal)*) => { [$(
            Types::of::<Numbered<$hundreds>> as Lookup,
            Types::of::<Numbered<{ $hundreds + 1 }>>,
            Types::of::<Numbered<{ $hundreds + 2 }>>,
            Types::of::<Numbered<{ $hundreds + 3 }>>,
            Types::of::<Numbered<{ $hundreds + 4 }>>,
            Types::of::<Numbered<{ $hundreds + 5 }>>,
            Types::of::<Numbered<{ $hundreds + 6 }>>,
            Types::of::<Numbered<{ $hundreds + 7 }>>,
        )*] };
    }

    #[test]
    fn each_type_is_there_once_however_many_look_it_up_at_once() {
        let lookups = lookups!(0 100 200 300 400 500 600 700 800 900);
        let types = Types::new(
            ShownKeys::new(KeyTracing::default()),
            Warnings::new(Arc::new(SystemClock::new())),
            0,
            "",
            false,
        );
        let barrier = Barrier::new(4);
        let all = std::thread::scope(|scope| {
            let look = || {
                barrier.wait();
                lookups.map(|lookup| Arc::as_ptr(lookup(&types)) as usize)
            };
            let running = [(); 4].map(|()| scope.spawn(look));
            running.map(|running| running.join().unwrap())
        });
        assert!(all.iter().all(|one| one == &all[0]));
        assert_eq!(types.iter().count(), lookups.len());
        for (lookup, at) in lookups.iter().zip(0..) {
            let version = lookup(&types).meta().version;
            assert_eq!(version, at / 8 * 100 + at % 8);
        }
    }

    /// Neither type is registered: both are implemented by hand, and generic.
    #[test]
    fn a_type_is_compared_with_those_that_were_used_before() {
        let types = Types::new(
            ShownKeys::new(KeyTracing::default()),
            Warnings::new(Arc::new(SystemClock::new())),
            0,
            "",
            true,
        );
        let conflict = || types.conflict::<Numbered<2>>(&Meta::of::<Numbered<2>>());
        assert_eq!(conflict(), None);
        types.of::<Numbered<1>>();
        let text = conflict().unwrap();
        for name in ["Numbered<1>`", "Numbered<2>`", "\"numbered\""] {
            assert!(text.contains(name), "{text}");
        }
    }
}
