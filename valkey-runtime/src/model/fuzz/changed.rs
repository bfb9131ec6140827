//! The targets of what changes the bytes of a value on the way: packing, and migrations.

use serde::{Deserialize, Serialize};

use crate::base::ttl::Ttl;
use crate::model::fuzz::outcome;
use crate::protocol::envelope::{Head, Header, Kind, head};
use crate::protocol::transition::{self, Change, Verb};
use crate::protocol::versions::Versions;
use crate::schema::cached_type::{CachedType, OldEntry};
use crate::schema::guarding::BestEffort;
use crate::schema::migration::{migrated, versions};
use crate::schema::unmigrated::Unmigrated;
use crate::value::codec::{self, Limits};
use crate::value::migrate::{Old, migrate};
use crate::value::pack;
use crate::value::read_back::ReadBack;

const LIMITS: Limits = Limits {
    size: 1 << 16,
    expansion: 8,
};

/// What is unpacked is within the limits, whatever it declares. Without keys nothing is decrypted.
pub(super) fn packed(bytes: &[u8]) -> u64 {
    let Head::Known(header) = head(bytes) else {
        return 0;
    };
    let payload = header.payload_at(bytes).and_then(|at| bytes.get(at..));
    let payload = payload.unwrap_or_default();
    match pack::unpack(payload, header.flags, None, LIMITS) {
        Ok(plain) => {
            // A plain payload is not bounded here: it has the size of its entry.
            let most = LIMITS.unpacked(payload.len()).max(payload.len());
            assert!(plain.len() <= most, "{} of {most}", plain.len());
            let read = codec::decode::<serde_json::Value>(&plain[..]).is_ok();
            outcome((header.flags.bits(), plain.len().checked_ilog2(), read))
        }
        Err(why) => outcome((header.flags.bits(), why)),
    }
}

#[derive(Serialize, Deserialize)]
struct First {
    id: u64,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Second {
    id: u64,
    names: Vec<String>,
}

impl CachedType for First {
    const PREFIX: &'static str = "user";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 2;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

impl CachedType for Second {
    const PREFIX: &'static str = "user";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 3;
    const VERSIONS: Versions = versions::<First, Self>();
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;

    fn __migrate<E: OldEntry>(entry: &E) -> Result<Self, Unmigrated> {
        migrated::<First, Self, E>(entry)
    }
}

impl TryFrom<First> for Second {
    type Error = ();

    fn try_from(First { id, name }: First) -> Result<Self, ()> {
        match name.is_empty() {
            true => Err(()),
            false => Ok(Self {
                id,
                names: name.split(' ').map(str::to_owned).collect(),
            }),
        }
    }
}

/// An entry of an older version becomes an entry of the type's version that is read, or nothing. It
/// takes the place of the older one alone.
pub(super) fn migration(bytes: &[u8]) -> u64 {
    let Head::Known(header) = head(bytes) else {
        return 0;
    };
    if header.kind != Kind::Value {
        return 1;
    }
    let old = Old {
        bytes,
        header,
        key: b"user:42",
        namespace: "",
        limits: LIMITS,
        keys: None,
    };
    let entry = match migrate::<Second>(&old, &ReadBack::every(1)) {
        Ok(entry) => entry,
        Err(why) => return outcome(format!("{why:?}").len()),
    };
    let Head::Known(new) = head(&entry) else {
        panic!("{entry:x?}");
    };
    assert!(new.is_seal_of(&entry));
    let expected = Header {
        version: Second::VERSION,
        sum: new.sum,
        flags: new.flags,
        ..header
    };
    assert_eq!(new, expected);
    let at = new.payload_at(&entry).expect("the tags are whole");
    let value: Second = codec::decode(&entry[at..]).expect("it was read back");
    let verb = Verb::Migrate {
        stamp: header.stamp,
        version: header.version,
        entry: &entry,
    };
    const NOW: u64 = 1_767_225_660_000_000;
    let (change, done) = transition::apply(Some(bytes), &verb, NOW);
    let is_replaced = match &change {
        Change::Replace(made) => {
            assert!(matches!(head(made), Head::Known(made) if made.version == Second::VERSION));
            // It has another stamp, so that a second run finds nothing.
            let again = transition::apply(Some(made), &verb, NOW);
            assert_eq!(again, (Change::Keep, false));
            true
        }
        other => {
            assert_eq!(other, &Change::Keep);
            false
        }
    };
    assert_eq!(is_replaced, done);
    outcome((
        value.names.len(),
        header.timing.is_some(),
        header.clock.is_some(),
        done,
    ))
}
