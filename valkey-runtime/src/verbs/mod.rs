//! The verbs on bytes: they carry out a handle's typed methods once key and value are encoded.
//!
//! The code depends on the type only through [`Meta`], so it is compiled once. It also adds the
//! operation and the key to a failure, and counts it.

use crate::verbs::raw::Raw;
pub(crate) mod corrupt;
pub(crate) mod delete;
pub(crate) mod encode;
pub(crate) mod lifetimes;
pub(crate) mod migrate;
pub(crate) mod modify;
pub(crate) mod near;
pub(crate) mod newer;
pub(crate) mod only_copy;
pub(crate) mod raw;
pub(crate) mod read;
pub(crate) mod touch;
pub(crate) mod write;
use crate::core::meta::Meta;
pub(crate) mod loading;
pub(crate) mod scan;
pub(crate) mod tags;
pub(crate) mod update;

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::gateway::Gateway;
use crate::backend::write::Write;
use crate::base::counters::Count;
use crate::base::error;
use crate::base::error::{Error, Result};
use crate::base::shown_keys::ShownKeys;
use crate::base::ttl::Ttl;
use crate::core::inner::Inner;
use crate::core::options::Condition;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::envelope;
use crate::protocol::envelope::{Head, Header, Standing};
use crate::protocol::found::Found;
use crate::protocol::transition::{Placing, Verb};

/// The result of a read.
pub(crate) enum Seen {
    Value(Raw),
    Nothing,
    /// There is an entry whose only copy this is, and it can't be read.
    Unreadable(Error),
    /// The bytes, if the server returns them, and the defect.
    Corrupt(Option<Bytes>, &'static str),
}

/// An encoded entry, ready to be stored, and its TTL in milliseconds, `None` for never. With tags,
/// the clock still has to be [stamped](envelope::stamp_clock) on it, and its epochs checked.
pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ttl: Option<u64>,
    pub(crate) header: Header,
    pub(crate) epochs: Vec<Vec<u8>>,
}

/// The header, if the entry is a value that `get` returns, or converts.
pub(crate) fn own_header(inner: &Inner, found: &Found, meta: &Meta) -> Option<Header> {
    let Found::Entry(bytes) = found else {
        return None;
    };
    let head = envelope::head(bytes);
    let standing = envelope::standing(head, meta.versions, meta.shape, || inner.now_millis());
    match head {
        Head::Known(header) if standing == Standing::Own => {
            let is_locked = inner.locked(&header, bytes, meta).is_some();
            (!is_locked).then_some(header)
        }
        _ => None,
    }
}

pub(crate) async fn apply(
    inner: &Inner,
    operation: &'static str,
    key: &[u8],
    verb: &Verb<'_>,
    of: &Type,
) -> Result<bool> {
    inner
        .gateway
        .apply(key, verb)
        .await
        .map_err(|error| of.failed_at(operation, key, error))
}

/// All answers of a bulk verb, or the first error.
pub(crate) fn all<A>(
    operation: &'static str,
    keys: &[impl AsRef<[u8]>],
    answers: Vec<Result<A>>,
    shown: &ShownKeys,
) -> Result<Vec<A>> {
    let answers = keys
        .iter()
        .zip(answers)
        .map(|(key, answer)| answer.map_err(|error| error.at(operation, shown.told(key.as_ref()))));
    error::all(answers.collect())
}

/// A `set` of a value of a type with tags.
pub(crate) struct Setting<'s> {
    pub(crate) place: &'s Place,
    pub(crate) sealed: &'s mut Sealed,
    pub(crate) condition: Condition,
    pub(crate) meta: &'s Meta,
}

/// Whether the tags of a value allow a `set`.
#[derive(Clone, Debug)]
pub(crate) enum Admission {
    /// The value may be stored. For a conditional `set`, with the entry that decides.
    Admitted(Option<Found>),
    /// It may be older than an invalidation.
    Overtaken,
}

impl Admission {
    /// For a value without tags.
    pub(crate) const UNTAGGED: Self = Admission::Admitted(None);
}

/// Whether a value was stored, given whether the write took effect. Counts its bytes.
pub(crate) fn has_stored(write: &Write<'_>, done: bool, of: &Type) -> bool {
    let stored = done && !matches!(write, Write::Apply(Verb::Delete(_)));
    if stored {
        of.counters().add(Count::WrittenBytes, write.size());
    }
    stored
}

async fn extend_all(front: &Arc<Gateway>, epochs: &[Vec<u8>], extend: Placing) -> Result<()> {
    if epochs.is_empty() {
        return Ok(());
    }
    let keys: Vec<&[u8]> = epochs.iter().map(Vec::as_slice).collect();
    let extended = front.place_many(&keys, &vec![extend; keys.len()]).await?;
    extended
        .into_iter()
        .try_for_each(|extended| extended.map(drop))
}

pub(crate) fn ttl_left(millis: Option<u64>) -> Ttl {
    millis.map_or(Ttl::Never, Ttl::from_millis)
}
