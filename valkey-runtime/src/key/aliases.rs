//! The aliases of values, for the writes that give a value an alias.

use std::fmt;
use std::marker::PhantomData;

/// An alias of a value, such as an e-mail address, for the writes that give a value this alias.
/// From the method `…_alias` of a type with an alias whose absences are cached (`ttl_absent`).
///
/// See [`Handle::create`](crate::Handle::create) and
/// [`Update::with_aliases`](crate::update::Update::with_aliases).
pub struct Alias<T> {
    /// The key of the alias entry, without the namespace.
    key: Vec<u8>,
    of: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Alias<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An alias may be a secret: an e-mail address, a token.
        f.debug_struct("Alias").finish_non_exhaustive()
    }
}

impl<T> Clone for Alias<T> {
    fn clone(&self) -> Self {
        Self::new(self.key.clone())
    }
}

impl<T> Alias<T> {
    /// The alias with this key of its entry, which has no namespace.
    pub(crate) fn new(key: Vec<u8>) -> Self {
        Self {
            key,
            of: PhantomData,
        }
    }

    /// The key of the alias entry in a namespace, which is empty or ends in `:`.
    pub(crate) fn key_in(&self, namespace: &str) -> Vec<u8> {
        [namespace.as_bytes(), &self.key].concat()
    }
}

/// Gathers the keys of the aliases of a value, of those whose absences are cached. Only generated
/// code needs it.
#[doc(hidden)]
#[derive(Debug)]
pub struct AliasKeys<'n> {
    /// Empty, or ending in `:`.
    pub(crate) namespace: &'n str,
    pub(crate) keys: Vec<Vec<u8>>,
}
