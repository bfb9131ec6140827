//! Corrupt entries: counted, logged and removed.

use crate::base::counters::Count;
use crate::base::error::Result;
use crate::base::warnings::Detail;
use crate::core::inner::view;
use crate::core::types::Type;
use crate::protocol::transition::{Fingerprint, Verb};
use crate::schema::policy::OnCorrupt;
use crate::value::codec::Refusal;
use crate::verbs::only_copy::OnlyCopies;

view! {
    /// Counts, logs and removes entries that are corrupt.
    CorruptEntries
}

impl<'a> CorruptEntries<'a> {
    /// Treats a corrupt or invalid entry as its type demands: as a miss or an error, removed or
    /// left.
    pub(crate) async fn corrupt(
        self,
        operation: &'static str,
        key: &[u8],
        bytes: Option<&[u8]>,
        why: Refusal,
        of: &Type,
    ) -> Result<()> {
        self.note_corrupt(operation, key, bytes, &why, of).await;
        match of.meta().policy.on_corrupt {
            OnCorrupt::Miss => {
                of.counters().count(Count::Miss);
                Ok(())
            }
            OnCorrupt::Error => {
                let error = OnlyCopies::kept(why.into_error(), of);
                Err(of.failed_at(operation, key, error))
            }
        }
    }

    /// Counts and logs a corrupt entry, and removes it unless its type keeps such entries. Returns
    /// whether it was removed.
    pub(crate) async fn note_corrupt(
        self,
        operation: &'static str,
        key: &[u8],
        bytes: Option<&[u8]>,
        why: &Refusal,
        of: &Type,
    ) -> bool {
        of.counters().count(Count::Corrupt);
        of.read_back.failed();
        of.warn("a corrupt entry", Some(why.kind()), || Detail {
            operation: Some(operation),
            key: of.keys().of_failure(key),
            text: why.to_string(),
        });
        let Some(bytes) = bytes.filter(|_| !of.meta().policy.keep_corrupt) else {
            return false;
        };
        let verb = Verb::RemoveIfSame(Fingerprint::of(bytes));
        self.gateway
            .apply(key, &verb)
            .await
            .unwrap_or_else(|error| {
                let what = "a corrupt entry could not be removed";
                of.log_failure_at(operation, key, error, what);
                false
            })
    }
}
