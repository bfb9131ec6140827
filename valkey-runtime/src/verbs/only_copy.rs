//! Types whose only copy is in the store.
//!
//! For them an entry that this process can't read is an error and no miss, and nothing removes it.
//! This module says why such an entry is not read, refuses what a store that is switched off can't
//! do, and asks a server once whether it keeps its entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::Backend;
use crate::base::counters::Count;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::ttl::Ttl;
use crate::base::warnings::Detail;
use crate::core::inner::view;
use crate::core::locked::Locked;
use crate::core::meta::Meta;
use crate::core::options::Condition;
use crate::core::types::Type;
use crate::protocol::envelope::{self, Head, Kind, seal};
use crate::protocol::found::Found;
use crate::schema::unmigrated::Unmigrated;

view! {
    /// Treats the entries of types whose only copy is in the store.
    OnlyCopies
}

impl<'a> OnlyCopies<'a> {
    /// Fails for such a type while the store is switched off.
    pub(crate) fn is_on(self, meta: &Meta) -> Result<()> {
        if !meta.policy.only_copy || self.is_enabled() {
            return Ok(());
        }
        let why = "the store is switched off, and it has the only copy of the type's values: nothing was read or \
                   written. Switch it on (`Store::set_enabled`, or VALKEY_CACHE)";
        Err(Error::new(ErrorKind::Disabled, why))
    }

    /// Fails for such a type if an entry is there all the same, after a read that found no value.
    pub(crate) fn is_nothing(self, found: &Found, meta: &Meta) -> Result<()> {
        match meta.policy.only_copy {
            true => self.unread(found, meta).map_or(Ok(()), Err),
            false => Ok(()),
        }
    }

    /// Why the value that is there is not read, according to its header. `None` if there is none,
    /// or if the header forbids nothing.
    pub(crate) fn unread(self, found: &Found, meta: &Meta) -> Option<Error> {
        let bytes = match found {
            Found::Nothing | Found::Withheld => return None,
            Found::Outdated(_) => return Some(Self::outdated()),
            Found::Foreign => return Some(corrupt("the key does not hold a string")),
            Found::Misplaced(_) => return Some(corrupt(seal::MISPLACED)),
            // A server answers so for the first bytes of a key that does not exist.
            Found::Entry(bytes) if bytes.is_empty() => return None,
            Found::Entry(bytes) => bytes,
        };
        let header = match envelope::head(bytes) {
            Head::Newer => return Some(of_a_later_release()),
            Head::Corrupt(why) => return Some(corrupt(why)),
            Head::Known(header) if header.kind == Kind::Value => header,
            // A placeholder or an absence, from when the type was a cache.
            Head::Known(_) => return None,
        };
        let (version, own) = (header.version, meta.version);
        if version > own {
            return Some(newer(version, own));
        }
        let is_fresh = |timing: envelope::timing::Timing| timing.is_fresh(self.now_millis());
        if !header.timing.is_none_or(is_fresh) {
            return None;
        }
        if version < own && !meta.versions.migrates(version) {
            return Some(older(version));
        }
        if version == own && header.shape != meta.shape {
            return Some(of_another_shape());
        }
        self.locked(&header, bytes, meta).map(locked_by)
    }

    /// The error of an entry that was found to be invalidated.
    pub(crate) fn outdated() -> Error {
        unreadable(
            "an invalidation covers the entry: one of its tags was invalidated, or a deletion under its prefix was \
             lost. It stays; delete it, or write it again",
        )
    }

    /// Counts an entry that can't be decrypted here, and returns the error.
    pub(crate) fn locked(locked: Locked, of: &Type) -> Error {
        of.counters().count(Count::Undecrypted);
        locked_by(locked)
    }

    /// The error of an entry of an older version that could not be converted.
    pub(crate) fn unmigrated(version: u16, why: &Unmigrated) -> Error {
        unreadable(format!(
            "the entry of version {version} could not be migrated: {why}. It stays as it is; correct the conversion, and \
             read it again"
        ))
    }

    /// Says of an error about a corrupt or invalid entry that nothing was removed.
    pub(crate) fn kept(error: Error, of: &Type) -> Error {
        match of.meta().policy.only_copy {
            true => error.context(
                "the entry stays as it is (after a change of the struct raise its `version`, and write `migrate_from`)",
            ),
            false => error,
        }
    }

    /// The answer of a `set` that has stored nothing: an error if it is an entry that this process
    /// can't read, which it would have lost.
    pub(crate) async fn not_stored(
        self,
        condition: Condition,
        key: &[u8],
        meta: &Meta,
    ) -> Result<bool> {
        if condition == Condition::IfAbsent {
            return Ok(false);
        }
        let found = self.gateway.head(key).await?;
        let why = match (self.unread(&found, meta), condition) {
            (Some(error), _) => error,
            // It was there a moment ago.
            (None, Condition::Always) => {
                unreadable("an entry of a later release was there: try again")
            }
            (None, _) => return Ok(false),
        };
        Err(why.context("nothing was stored"))
    }

    /// At the first use of a type, asks the server in the background whether it keeps its entries.
    #[inline]
    pub(crate) fn is_used(self, of: &Arc<Type>) {
        if !of.looked_at_server.load(Ordering::Relaxed) {
            self.look_at_server(of);
        }
    }

    #[cold]
    fn look_at_server(self, of: &Arc<Type>) {
        let looked = of.looked_at_server.swap(true, Ordering::Relaxed);
        // The builder warns of a store in this process.
        if looked || matches!(self.gateway.backend(), Backend::Memory(_)) {
            return;
        }
        let (gateway, asking) = (self.gateway.clone(), of.clone());
        let began = self.background.spawn(async move {
            match gateway.backend().keeping().await {
                Ok(nodes) => {
                    let expires = asking.meta().ttl != Ttl::Never;
                    let lacks = nodes.iter().filter_map(|(node, keeping)| {
                        let lacks = keeping.lacks(expires).join("; ");
                        (!lacks.is_empty()).then(|| format!("{node}: {lacks}"))
                    });
                    let lacks: Vec<_> = lacks.collect();
                    if !lacks.is_empty() {
                        let what =
                            "the server has the only copy of this type's values, and may lose them";
                        asking.warn(what, None, || Detail {
                            text: format!("{} (docs/guides/only-copy.md)", lacks.join(". ")),
                            ..Detail::default()
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(
                        "the server does not say whether it keeps its entries: {error}"
                    );
                    asking.looked_at_server.store(false, Ordering::Relaxed);
                }
            }
        });
        if !began {
            of.looked_at_server.store(false, Ordering::Relaxed);
        }
    }
}

fn unreadable(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unreadable, why)
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, why).context("the entry stays as it is")
}

fn newer(version: u16, own: u16) -> Error {
    unreadable(format!(
        "the entry has version {version}, and this process reads up to version {own}: a later release wrote it. It stays; \
         read it with that release"
    ))
}

fn of_a_later_release() -> Error {
    unreadable(
        "a later release of valkey-runtime, or a build with more of its features, wrote the entry. It stays; read it with \
         such a build",
    )
}

fn older(version: u16) -> Error {
    unreadable(format!(
        "the entry has version {version}, from which the type does not migrate. It stays; add a type of that version to \
         the chain of `migrate_from`"
    ))
}

fn of_another_shape() -> Error {
    unreadable(
        "the entry was written by a type of the same `version` and another shape. It stays; restore the struct, or raise \
         its `version` and write `migrate_from`",
    )
}

fn locked_by(locked: Locked) -> Error {
    unreadable(match locked {
        Locked::Newer(number) | Locked::Older(number) => format!(
            "the entry is encrypted with key number {number}, which this store does not have. It stays; add the key"
        ),
        Locked::Plain => "the entry is in plain text, and its type is encrypted. It stays; `Builder::accept_plaintext` \
                          reads it"
            .to_owned(),
    })
}
