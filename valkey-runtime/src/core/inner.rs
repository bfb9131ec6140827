//! The state of a store, and the views of it: small structs that borrow it, each with the methods
//! of one subject.

use crate::backend::gateway::Gateway;
use crate::base::clock::Random;
use crate::base::counters::Counters;
use crate::base::peer::Peer;
use crate::base::shown_keys::KeyTracing;
use crate::base::tasks::Background;
use crate::base::variables::Variables;
use crate::base::warnings::Warnings;
use crate::core::loads::Moments;
use crate::core::locked::Locked;
use crate::core::meta::Meta;
#[cfg(any(test, feature = "testing"))]
use crate::core::records::Records;
use crate::core::refusals::Refusals;
use crate::core::ttl_env::Overrides;
use crate::core::types::Types;
use crate::protocol::envelope::Header;
use crate::protocol::envelope::flags::Flags;
use crate::value::codec::Limits;
use crate::value::keys::EncryptionKeys;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Inner {
    pub(crate) gateway: Arc<Gateway>,
    /// The text with which all keys begin: empty, or ending in `:`.
    pub(crate) namespace: Arc<str>,
    pub(crate) limits: Limits,
    /// The age in milliseconds up to which a newer entry is not replaced by a load.
    pub(crate) newer_wins: u64,
    /// The keys that encrypt values.
    pub(crate) keys: Option<EncryptionKeys>,
    /// Whether entries of encrypted types are also read in plain text.
    pub(crate) accepts_plaintext: bool,
    pub(crate) enabled: AtomicBool,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) overrides: Overrides,
    pub(crate) moments: Moments,
    pub(crate) types: Types,
    pub(crate) warnings: Arc<Warnings>,
    /// The address of the server, as spans show it.
    pub(crate) peer: Peer,
    /// The recent refusals of rate limits.
    pub(crate) refusals: Refusals,
    #[cfg(feature = "metrics")]
    pub(crate) published: crate::core::published::Published,
    pub(crate) background: Background,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) records: Arc<Records>,
}

/// The settings of a store, beside its address.
pub(crate) struct Settings {
    /// The text with which all keys begin: empty, or ending in `:`.
    pub(crate) namespace: String,
    pub(crate) limits: Limits,
    /// One value in so many is read back before it is stored.
    pub(crate) read_back_every: u32,
    /// In milliseconds.
    pub(crate) newer_wins: u64,
    pub(crate) encryption: Option<EncryptionKeys>,
    pub(crate) accepts_plaintext: bool,
    pub(crate) check_types: bool,
    pub(crate) enabled: bool,
    pub(crate) variables: Variables,
    pub(crate) keys: KeyTracing,
    pub(crate) peer: Peer,
    pub(crate) warnings: Arc<Warnings>,
}

impl Inner {
    /// The limits on stored entries: the store's own, or the server's if it is known and lower.
    pub(crate) fn limits_to_store(&self) -> Limits {
        let largest = self.gateway.backend().largest();
        let largest = largest.and_then(|largest| usize::try_from(largest).ok());
        let size = largest.map_or(self.limits.size, |largest| largest.min(self.limits.size));
        Limits {
            size,
            ..self.limits
        }
    }

    /// Whether an entry of the type can't be decrypted here, or must not be read in plain text.
    #[inline]
    pub(crate) fn locked(&self, header: &Header, entry: &[u8], meta: &Meta) -> Option<Locked> {
        if header.flags.has(Flags::ENCRYPTED) || meta.policy.encrypt {
            let accepts = self.accepts_plaintext || !meta.policy.encrypt;
            return Locked::of(header, entry, self.keys.as_ref(), accepts);
        }
        None
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// The server's time in milliseconds, as estimated.
    pub(crate) fn now_millis(&self) -> u64 {
        self.gateway.now_micros() / 1000
    }

    /// The stamp for an entry created now.
    pub(crate) fn stamp(&self) -> u64 {
        self.gateway.now_micros() << 12 | self.random.next_u64() & 0xfff
    }
}

/// Declares a view of [`Inner`].
macro_rules! view {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name<'a>(pub(crate) &'a $crate::core::inner::Inner);

        impl std::ops::Deref for $name<'_> {
            type Target = $crate::core::inner::Inner;

            fn deref(&self) -> &Self::Target {
                self.0
            }
        }
    };
}
pub(crate) use view;
