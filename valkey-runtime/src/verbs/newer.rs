//! The removal of newer entries after a release was taken back.

use crate::base::error::{Error, Result};
use crate::core::inner::view;
use crate::core::types::Type;
use crate::protocol::envelope::{self, Head, Kind};
use crate::protocol::found::Found;
use crate::protocol::scope::Scope;
use crate::protocol::transition::{Fingerprint, Verb};
use crate::verbs::all;
use crate::verbs::scan::Scanner;

/// The number of keys per page and server: the newer entries of a page are in memory at once.
const PAGE: usize = 250;

view! {
    /// Removes the newer entries of a type.
    NewerPurger
}

impl<'a> NewerPurger<'a> {
    /// Removes each newer entry that still has the bytes that were read. Returns the number of
    /// values.
    pub(crate) async fn purge(self, scope: Result<Scope>, of: &Type) -> Result<u64> {
        let fail = |error: Error| of.failed(error.during("purge_newer"));
        let mut pages = self.gateway.keys(scope.map_err(fail)?, PAGE);
        let mut removed = 0;
        loop {
            self.gateway.open().map_err(fail)?;
            let Some(keys) = self.gateway.page(&mut pages).await.map_err(fail)? else {
                return Ok(removed);
            };
            removed += self.purge_page(&keys, of).await.map_err(fail)?;
        }
    }

    async fn purge_page(self, keys: &[Vec<u8>], of: &Type) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let version = of.meta().version;
        let heads = self.gateway.heads(keys).await?;
        let newer = keys.iter().zip(&heads);
        let newer = newer.filter(|(_, head)| is_newer(head, version));
        let newer: Vec<&[u8]> = newer.map(|(key, _)| key.as_slice()).collect();
        if newer.is_empty() {
            return Ok(0);
        }
        let entries = self.gateway.get_many(&newer).await?;
        // Another entry may have come meanwhile.
        let still = newer.into_iter().zip(&entries);
        let (keys, verbs): (Vec<_>, Vec<_>) = still
            .filter(|(_, entry)| is_newer(entry, version))
            .filter_map(|(key, entry)| match entry {
                Found::Entry(bytes) => Some((key, Verb::RemoveIfSame(Fingerprint::of(bytes)))),
                _ => None,
            })
            .unzip();
        let answers = self.gateway.apply_each(&keys, &verbs).await?;
        let removed = all("purge_newer", &keys, answers, of.keys())?;
        let values = removed.into_iter().zip(keys);
        let values = values.filter(|(removed, key)| *removed && !Scanner(self.0).is_alias(key));
        Ok(values.count() as u64)
    }
}

/// Whether it is a value or an absence of a later version, or anything of a later release.
fn is_newer(found: &Found, version: u16) -> bool {
    match found {
        Found::Entry(bytes) => match envelope::head(bytes) {
            Head::Newer => true,
            Head::Known(header) => {
                matches!(header.kind, Kind::Value | Kind::Absence) && header.version > version
            }
            Head::Corrupt(_) => false,
        },
        _ => false,
    }
}
