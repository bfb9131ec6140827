//! Migrations: a value of an older version of a type becomes a value of the type.
//!
//! `#[cached(migrate_from = UserV2)]` names the older type, which may name a still older one. Each
//! step is the conversion that the application wrote. This module walks along the chain. It neither
//! reads nor writes entries.

use crate::protocol::versions::Versions;
use crate::schema::cached_type::{CachedType, OldEntry};
use crate::schema::unmigrated::Unmigrated;

/// The versions of `T`, which migrates from `From`. Checks the chain when it is compiled.
#[doc(hidden)]
pub const fn versions<From, T>() -> Versions
where
    From: CachedType<OwnedKey = T::OwnedKey>,
    T: CachedType,
{
    assert!(
        is_same(From::PREFIX, T::PREFIX),
        "`migrate_from`: the two types have different prefixes, so their entries have different \
         keys. Write the same `prefix = \"…\"` on both; without it a prefix is made of the type's \
         name"
    );
    assert!(
        From::VERSION < T::VERSION,
        "`migrate_from`: the older type needs a lower `version` than the type that migrates from \
         it. Raise the `version` of the newer type"
    );
    Versions::of(T::VERSION).after(const { &From::VERSIONS })
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The value of `T` that an entry of an older version becomes.
#[doc(hidden)]
pub fn migrated<From, T, E>(entry: &E) -> Result<T, Unmigrated>
where
    From: CachedType,
    T: CachedType + TryFrom<From>,
    E: OldEntry,
{
    let older = match entry.version() == From::VERSION {
        true => entry.value::<From>()?,
        false => From::__migrate(entry)?,
    };
    T::try_from(older).map_err(|_| Unmigrated::Refused {
        from: From::VERSION,
        to: T::VERSION,
    })
}
