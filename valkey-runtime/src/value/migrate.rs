//! Makes an entry of a type's version out of an entry of an older one.
//!
//! The new entry has the header of the old one, with another version and checksum, and its tags. So
//! all that follows a read (freshness, claims, tags, decoding) treats it as any other.

use crate::key::tag::TagWriter;
use crate::protocol::envelope::Header;
use crate::protocol::envelope::flags::Flags;
use crate::schema::cached_type::{CachedType, OldEntry};
use crate::schema::unmigrated::Unmigrated;
use crate::value::codec::{self, Limits, Payload};
use crate::value::keys::{EncryptionKeys, Lock};
use crate::value::pack::Packing;
use crate::value::read_back::ReadBack;

/// The bytes of an entry, and where they belong.
#[derive(Clone, Copy)]
pub(crate) struct Old<'e> {
    pub(crate) bytes: &'e [u8],
    pub(crate) header: Header,
    pub(crate) key: &'e [u8],
    /// Empty, or ending in `:`.
    pub(crate) namespace: &'e str,
    pub(crate) limits: Limits,
    /// The keys that encrypt values.
    pub(crate) keys: Option<&'e EncryptionKeys>,
}

/// The conversion of entries of a type. A pointer, so that the verbs do not depend on the type.
pub(crate) type Migrate = fn(&Old<'_>, &ReadBack) -> Result<Vec<u8>, Unmigrated>;

impl OldEntry for Old<'_> {
    fn version(&self) -> u16 {
        self.header.version
    }

    fn value<T: CachedType>(&self) -> Result<T, Unmigrated> {
        if self.header.shape != T::SHAPE {
            return Err(Unmigrated::Unread("it has another shape".into()));
        }
        let at = self.header.payload_at(self.bytes);
        let payload = at.and_then(|at| self.bytes.get(at..));
        let payload = payload.ok_or_else(|| Unmigrated::Unread("its tags are damaged".into()))?;
        let is_encrypted = self.header.flags.has(Flags::ENCRYPTED);
        let keys = self.keys.filter(|_| is_encrypted);
        let lock = keys.map(|keys| Lock::new(keys, &self.header, self.key));
        let payload = Payload {
            bytes: payload,
            limits: self.limits,
            flags: self.header.flags,
            lock: lock.as_ref(),
            compact: T::SHAPE != 0,
        };
        codec::decode(payload).map_err(Unmigrated::Unread)
    }
}

/// The entry of a `T` that an entry of an older version becomes.
pub(crate) fn migrate<T: CachedType>(
    old: &Old<'_>,
    read_back: &ReadBack,
) -> Result<Vec<u8>, Unmigrated> {
    let value = T::__migrate(old)?;
    let rules = value.cache_validate();
    rules.map_err(|rules| Unmigrated::Invalid(rules.to_string()))?;
    let tags = kept_tags(&value, old)?;
    let header = Header {
        version: T::VERSION,
        shape: T::SHAPE,
        flags: Flags::NONE,
        ..old.header
    };
    let packing = Packing::of(&T::POLICY, old.keys, old.key);
    codec::encode(
        header,
        tags.as_ref(),
        &value,
        old.limits,
        read_back,
        packing,
    )
    .map_err(|error| Unmigrated::Unstorable(error.to_string()))
}

/// The tags of the old entry, if they cover those of the value: nothing shows whether a tag that it
/// lacks was invalidated since it was loaded.
fn kept_tags<'e, T: CachedType>(
    value: &T,
    old: &Old<'e>,
) -> Result<Option<TagWriter<'e>>, Unmigrated> {
    let mut wanted = TagWriter::new(old.namespace);
    value.write_tags(&mut wanted);
    let wanted = wanted.into_epochs();
    if old.header.clock.is_none() {
        return match wanted.is_empty() && !T::TAGGED {
            true => Ok(None),
            false => Err(Unmigrated::Tags),
        };
    }
    let mut kept = TagWriter::new(old.namespace);
    for name in old.header.tags(old.bytes) {
        kept.named(name.ok_or(Unmigrated::Tags)?);
    }
    match wanted.iter().all(|epoch| kept.epochs.contains(epoch)) {
        true => Ok(Some(kept)),
        false => Err(Unmigrated::Tags),
    }
}
