//! The constants of a type, as a value.

use crate::base::ttl::Ttl;
use crate::protocol::envelope::Header;
use crate::protocol::versions::Versions;
use crate::schema::cached_type::CachedType;
use crate::schema::policy::Policy;
use crate::value::migrate::{Migrate, migrate};

/// The properties of a type that the verbs need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) version: u16,
    /// Its version, and the older ones from which it migrates.
    pub(crate) versions: Versions,
    /// `None` if it migrates from no other type.
    pub(crate) migrate: Option<Migrate>,
    /// The shape in the header of its values: 0 for the named layout.
    pub(crate) shape: u32,
    pub(crate) ttl: Ttl,
    pub(crate) policy: Policy,
    /// Whether its entries have tags.
    pub(crate) tagged: bool,
    /// The name of the Rust type.
    pub(crate) name: fn() -> &'static str,
}

impl Meta {
    pub(crate) const fn of<T: CachedType>() -> Self {
        Self {
            version: T::VERSION,
            versions: T::VERSIONS,
            migrate: match T::VERSIONS.is_alone() {
                true => None,
                false => Some(migrate::<T>),
            },
            shape: T::SHAPE,
            ttl: T::TTL,
            policy: T::POLICY,
            tagged: T::TAGGED,
            name: std::any::type_name::<T>,
        }
    }

    /// The header of a value of the type at this key.
    pub(crate) fn header(&self, key: &[u8], stamp: u64) -> Header {
        Header::value(self.version, stamp)
            .shaped(self.shape)
            .of(key)
    }

    /// The longest life of an entry from its stamp on, in milliseconds.
    pub(crate) fn max_age(&self) -> Option<u64> {
        Some(self.policy.max_age_millis).filter(|age| *age > 0)
    }

    /// The end of an entry's freshness: `until`, or earlier if `max_age` ends before.
    pub(crate) fn ceiling(&self, stamp: u64, until: u64) -> u64 {
        match self.max_age() {
            Some(age) => until.min((stamp >> 12) / 1000 + age),
            None => until,
        }
    }
}
