//! The rules of a type whose only copy is in the store, which are checked when it is compiled.
//!
//! The derive refuses the mistakes that it sees. The checks here are for generic types, for types
//! that are implemented by hand, and for the verbs that such a type does not have. The compiler
//! runs the latter when it generates code for a call: in `cargo build` and `cargo test`, not in
//! `cargo check`.

use crate::protocol::versions::Versions;
use crate::schema::cached_type::CachedType;
use crate::schema::policy::{OnCorrupt, Policy};

/// The versions of a type whose only copy is in the store. Checks that it reads each of them.
#[doc(hidden)]
pub const fn all_versions<T: CachedType>() -> Versions {
    assert!(
        T::VERSIONS.reads_each_since(T::POLICY.oldest_version),
        "`only_copy`: the store may have entries of a version that this type does not read, and the \
         store has their only copy. The chain of `migrate_from` needs a type for each version from \
         1 on. If no entry of an older version exists any more, write the oldest one that may: \
         `oldest_version = 2`"
    );
    T::VERSIONS
}

/// Checks a type when it is first used.
pub(crate) const fn check<T: CachedType>() {
    if T::POLICY.only_copy {
        let _ = all_versions::<T>();
        assert!(
            !T::TAGGED,
            "`only_copy`: the type has tags. The invalidation of a tag would lose its entries: leave \
             out the tags"
        );
        assert!(
            T::POLICY.suits_only_copy(),
            "`only_copy`: the type's policy loses or hides entries: no `jitter`, `hold`, `ttl_absent`, \
             `stale_if_error`, `refresh_ahead` nor stale near copies; call `Policy::only_copy` after \
             the other setters"
        );
    }
}

impl Policy {
    const fn suits_only_copy(&self) -> bool {
        matches!(self.on_corrupt, OnCorrupt::Error)
            && self.keep_corrupt
            && self.jitter_percent == 0
            && self.hold_millis == 0
            && self.ttl_absent_millis == 0
            && self.stale_if_error_millis == 0
            && self.refresh_ahead_percent == 0
            && self.near_stale_millis == 0
            && !self.near_get_stale
    }

    /// Checks that values of the type can be loaded.
    pub(crate) const fn can_load(&self) {
        assert!(
            !self.only_copy,
            "the store has the only copy of this type's values (`only_copy`), so there is nothing to \
             load them from. Write `get`, and `set` if there is none: `set_with` with `if_absent` \
             stores only the first one"
        );
    }

    /// Checks that a write to a database may invalidate values of the type.
    pub(crate) const fn can_update(&self) {
        assert!(
            !self.only_copy,
            "the store has the only copy of this type's values (`only_copy`). `update`, \
             `write_through` and `guard` are for a row of a database: they would remove the entry. \
             Write `set`, or `modify` to change what is there"
        );
    }

    /// Checks that values of the type can be stale.
    pub(crate) const fn can_be_stale(&self) {
        assert!(
            !self.only_copy,
            "the store has the only copy of this type's values (`only_copy`). Only a load reads a \
             stale value, and this type has none: `mark_stale` would lose the entry. Write `del`"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schema::policy::Compression;

    #[test]
    fn a_policy_that_loses_entries_does_not_suit() {
        const MILLI: Duration = Duration::from_millis(1);
        let own = Policy::new().only_copy(1);
        assert!(own.suits_only_copy());
        assert!(own.sliding(MILLI).near(MILLI).show_keys().suits_only_copy());
        #[cfg(feature = "zstd")]
        assert!(own.compress(Compression::Zstd).suits_only_copy());
        let _ = Compression::Zstd;
        for (at, not) in [
            own.on_corrupt(OnCorrupt::Miss),
            own.jitter_percent(1),
            own.hold(MILLI),
            own.ttl_absent(MILLI),
            own.stale_if_error(MILLI),
            own.refresh_ahead_percent(1),
            own.near(MILLI).near_stale(MILLI),
            own.near(MILLI).near_get_stale(),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(!not.suits_only_copy(), "{at}");
        }
    }

    #[test]
    fn it_is_checked_by_the_last_setter() {
        let loose = Policy::new()
            .jitter_percent(9)
            .on_corrupt(OnCorrupt::Miss)
            .only_copy(3);
        assert!(loose.suits_only_copy());
        assert_eq!(loose.oldest_version, 3);
    }
}
