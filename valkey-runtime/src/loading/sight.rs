//! What a look at the server shows a loading verb.

use bytes::Bytes;

use super::call::Seen;
use crate::backend::Found;
use crate::envelope::placeholder::Name;
use crate::envelope::{self, Head, Header, Kind, Standing};
use crate::store::Inner;
use crate::verbs::{Meta, Raw, ttl_left};
use crate::{Error, Ttl};

/// What was seen, as far as loading is concerned.
pub(super) enum Sight {
    /// A value of the type's version: whether it is one, its payload has to show.
    Value(Raw),
    Other(Seen<Bytes>),
}

impl Inner {
    pub(super) async fn look(&self, key: &[u8], meta: &Meta) -> Sight {
        let found = match self.ttl_override(meta) {
            Ok(_) if !self.is_enabled() => return Sight::Other(Seen::Closed),
            Ok(_) => self.backend.get(key).await,
            Err(error) => Err(error),
        };
        self.sight(key, found, meta).await
    }

    /// As [`look`](Self::look), with how long what is there will still live.
    pub(super) async fn look_with_ttl(&self, key: &[u8], meta: &Meta) -> (Sight, Option<Ttl>) {
        match self.ttl_override(meta) {
            Ok(_) if self.is_enabled() => match self.backend.get_and_ttl(key).await {
                Ok((found, left)) => (self.sight(key, Ok(found), meta).await, Some(ttl_left(left))),
                Err(error) => (self.sight(key, Err(error), meta).await, None),
            },
            _ => (self.look(key, meta).await, None),
        }
    }

    /// A failure is logged and counted, and not told: the loader is there.
    pub(super) async fn sight(
        &self,
        key: &[u8],
        found: Result<Found, Error>,
        meta: &Meta,
    ) -> Sight {
        let bytes = match found {
            Ok(Found::Entry(bytes)) => bytes,
            Ok(Found::Nothing) => return Sight::Other(Seen::Nothing),
            Ok(Found::Withheld) => return Sight::Other(Seen::Closed),
            Ok(Found::Outdated(stamp)) => return Sight::Other(Seen::Old(stamp)),
            Ok(Found::Foreign) => {
                self.note_corrupt(
                    "get_or_load",
                    key,
                    None,
                    "another type of the server's",
                    meta,
                )
                .await;
                return Sight::Other(Seen::Closed);
            }
            Err(error) => {
                self.log_failure(error.at("get_or_load", key), "the cache is not read");
                return Sight::Other(Seen::Closed);
            }
        };
        let head = envelope::head(&bytes);
        let why = match (head, envelope::standing(head, meta.version)) {
            (
                Head::Known(Header {
                    kind: Kind::Absence,
                    version,
                    ..
                }),
                _,
            ) if version == meta.version && meta.policy.ttl_absent_millis > 0 => {
                return Sight::Other(Seen::Absent);
            }
            (_, Standing::Own) if bytes.len() <= self.max_size => {
                return Sight::Value(Raw::new(bytes));
            }
            (_, Standing::Own) => "larger than the limit",
            (_, Standing::Protected) => return Sight::Other(Seen::Closed),
            (_, Standing::Corrupt(why)) => why,
            (
                Head::Known(Header {
                    kind: Kind::Lease, ..
                }),
                _,
            ) => match Name::of_lease(&bytes) {
                Some(lease) => return Sight::Other(Seen::Lease(lease)),
                None => "a damaged lease",
            },
            (Head::Known(Header { stamp, .. }), Standing::Replaceable) => {
                return Sight::Other(Seen::Old(stamp));
            }
            (Head::Newer | Head::Corrupt(_), Standing::Replaceable) => "of no known form",
        };
        Sight::Other(self.reject(key, &Raw::new(bytes), why, meta).await)
    }

    /// An entry that is not one of the type's values.
    pub(super) async fn reject(
        &self,
        key: &[u8],
        entry: &Raw,
        why: &str,
        meta: &Meta,
    ) -> Seen<Bytes> {
        match self
            .note_corrupt("get_or_load", key, Some(entry.bytes()), why, meta)
            .await
        {
            true => Seen::Nothing,
            false => Seen::Closed,
        }
    }
}
