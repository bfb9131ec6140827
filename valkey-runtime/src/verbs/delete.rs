//! Deleting entries, and making them stale.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::core::entry::Stamp;
use crate::core::inner::view;
use crate::core::meta::Meta;
use crate::core::types::Type;
use crate::protocol::transition::{Becomes, Hold, Put, Read, Swap, Verb};
use crate::verbs::all;
use crate::verbs::apply;
use crate::verbs::only_copy::OnlyCopies;

view! {
    /// Deletes entries, and makes them stale.
    Remover
}

impl<'a> Remover<'a> {
    /// The deletion of the type: with a guard that stays for the hold, if the type's loaders may
    /// read old rows.
    pub(crate) fn deletion(self, meta: &Meta) -> Verb<'static> {
        match meta.policy.only_copy {
            true => Verb::DeleteOnlyCopy,
            false => self.deletion_with(u64::from(meta.policy.hold_millis)),
        }
    }

    /// A deletion with a guard that lives for `life` milliseconds; without a guard for 0.
    pub(crate) fn deletion_with(self, life: u64) -> Verb<'static> {
        let token = if life > 0 { self.random.next_u64() } else { 0 };
        let ours = false;
        Verb::Delete((life > 0).then_some(Hold { token, life, ours }))
    }

    /// The soft invalidation of the type; a deletion, if the type has a hold.
    pub(crate) fn expiry(self, meta: &Meta) -> Verb<'static> {
        let keep = meta.policy.stale_if_error_millis;
        match meta.policy.hold_millis {
            0 => Verb::MarkStale { keep },
            _ => self.deletion(meta),
        }
    }

    pub(crate) async fn del(self, key: &[u8], of: &Type) -> Result<bool> {
        let fail = |error| of.failed_at("del", key, error);
        OnlyCopies(self.0).is_on(of.meta()).map_err(fail)?;
        apply(self.0, "del", key, &self.deletion(of.meta()), of).await
    }

    /// Removes the value with this stamp, if it is still there.
    pub(crate) async fn del_if(self, key: &[u8], Stamp(stamp): Stamp, of: &Type) -> Result<bool> {
        let meta = of.meta();
        let header = meta.header(key, self.stamp()).to_bytes();
        let put = Put {
            versions: meta.versions,
            bytes: &header,
            ttl: None,
        };
        let verb = Verb::Swap(Swap {
            read: Read::Value(stamp),
            put,
            becomes: Becomes::Removed,
            again: false,
        });
        apply(self.0, "del", key, &verb, of).await
    }

    /// As [`del`](Self::del), but keeps the value as a fallback for a failing loader.
    pub(crate) async fn mark_stale(self, key: &[u8], of: &Type) -> Result<bool> {
        apply(self.0, "mark_stale", key, &self.expiry(of.meta()), of).await
    }

    /// Removes the alias entries at these keys, because a value has these aliases now. A look-up
    /// under way is then not stored.
    pub(crate) async fn end_absences(self, keys: &[Vec<u8>], of: &Type) -> Result<()> {
        self.del_many(keys, of).await.map(drop)
    }

    pub(crate) async fn del_many(self, keys: &[Vec<u8>], of: &Type) -> Result<u64> {
        let fail = |error: Error| of.failed(error.during("del_many"));
        OnlyCopies(self.0).is_on(of.meta()).map_err(fail)?;
        let answers = self
            .gateway
            .apply_many(keys, &self.deletion(of.meta()))
            .await
            .map_err(fail)?;
        let removed = all("del_many", keys, answers, of.keys()).map_err(fail)?;
        Ok(removed.into_iter().map(u64::from).sum())
    }
}
