//! The server's half of the conditional verbs: the new entry and the answer.
//!
//! Pure functions of the entry's bytes, the verb and the server's time. The in-process store runs
//! them. The Lua scripts in `scripts/` repeat them in the server, each on one key, and a test
//! compares both on random sequences. A client may resend a command that got no answer. So every
//! verb can run a second time, at any later moment, without harm. The exceptions are the
//! conditional sets, which like a plain `SET` may store an outdated value.
//!
//! Long because the commands and their effects on an entry are one table, which the scripts repeat.

use std::borrow::Cow;

use crate::protocol::envelope;
use crate::protocol::envelope::epoch::Epoch;
use crate::protocol::envelope::placeholder::{Guard, Lease, Name, Writer, stamp};
use crate::protocol::envelope::timing::{
    Claim, FOR_EVER, LONGEST_CLAIM, Timing, claim_token, next_stamp,
};
use crate::protocol::envelope::{Head, Header, HeaderBytes, Kind, Standing, seal};
use crate::protocol::only_copy::There;
use crate::protocol::versions::Versions;

/// A command that is answered by whether it took effect.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb<'a> {
    /// Stores, unless the entry is a value of this version, a newer one, or a guard. A value with
    /// the given stamp counts as absent: its tags were found to be invalidated. So does a newer
    /// entry whose stamp is more than the given number of milliseconds old.
    SetIfAbsent(Put<'a>, Option<u64>, u64),
    /// Stores, if the entry is a value of this version; with a stamp, only if it is the value with
    /// that stamp.
    SetIfPresent(Put<'a>, Option<u64>),
    /// Stores over what was read, or removes it, unless it has changed since.
    Swap(Swap<'a>),
    /// Stores a value whose only copy is in the store, unless a newer one is there; or, where it is
    /// to be absent, unless any value or guard is there, readable or not.
    SetOnlyCopy { put: Put<'a>, absent: bool },
    /// As `Delete` without a hold, of a value whose only copy is in the store: if it is not
    /// confirmed, nothing is delivered later.
    DeleteOnlyCopy,
    /// Removes the entry; a guard stays, and is marked as shared. True if it was a fresh value of
    /// any version. With a hold, a guard is left for that long.
    Delete(Option<Hold>),
    /// Like a deletion, but a timed value stays, stale and without a claim, for at most this many
    /// milliseconds.
    MarkStale { keep: u64 },
    /// Restarts the life of a value of this version.
    Touch(Touch),
    /// Raises the epoch of a tag. If the epoch is unknown, a load's mark is removed, and a guard
    /// stays. True if it was known.
    Raise(Raise),
    /// Replaces the value with that stamp and version by what it has become: an entry of a later
    /// version. Its life, freshness and pause stay. Its stamp counts on, so that no other request
    /// under the old stamp finds it. Nothing happens while a load has claimed the value.
    Migrate {
        stamp: u64,
        version: u16,
        entry: &'a [u8],
    },
    /// Removes the entry if it still has these bytes, which a reader found corrupt.
    RemoveIfSame(Fingerprint),
    /// Stores a loaded value under this lease, if it still exists.
    Fill { lease: Lease, put: Put<'a> },
    /// Gives a claimed value this header, if the claim still exists: its loader found the value
    /// unchanged.
    Confirm {
        lease: Lease,
        header: HeaderBytes,
        ttl: Option<u64>,
    },
    /// Extends the lease to this many milliseconds from now, if it still exists.
    RenewLease { lease: Lease, life: u64 },
    /// Removes the lease, or the claimed value, if it still exists: the load has nothing to store.
    Discard(Lease),
    /// Gives the lease back, if it still exists. A claimed value stays, and nobody can claim it for
    /// this many milliseconds.
    Release { lease: Lease, pause: u64 },
    /// Extends the writer's place in the guard to this many milliseconds from now. True if it had
    /// one.
    RenewGuard { token: u64, life: u64 },
    /// Takes the writer out of the guard, and removes any other entry. True if it had a place. With
    /// a hold, its place stays for this many milliseconds from now.
    Leave { token: u64, hold: u64 },
    /// Stores the written value, if only this writer ever used the guard; else like `Leave`. True
    /// if it was stored.
    StoreThrough {
        guard: Name,
        hold: u64,
        put: Put<'a>,
    },
}

/// A command that places or extends an entry, and is answered by the entry afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Placing {
    /// Makes a lease if the key is free, or holds the entry that the reader rejects.
    Lease {
        token: u64,
        life: u64,
        rejected: Rejected,
    },
    /// Gives a writer a place in the guard for this many milliseconds, and makes the guard if there
    /// is none. `ours`: only our entries belong at the key, so another data type of the server is
    /// replaced.
    Enter { token: u64, life: u64, ours: bool },
    /// Lets the epoch of a tag live for at least this many milliseconds from now; `None` is
    /// unlimited. A mark or a guard is not extended. A damaged entry is removed, because it would
    /// hide from each load whether its tag was invalidated.
    Extend { life: Option<u64> },
}

/// A request to the tag clock of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    Read,
    Advance,
    /// Moves the clock to at least this number, which an epoch was seen to have.
    Reach(u64),
}

/// An invalidation of a tag, and the clock after its advance. `over` is the time in milliseconds
/// over which entries become stale; they may still serve as a fallback. Without it, entries are
/// invalidated at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raise {
    pub(crate) clock: u64,
    pub(crate) over: Option<u64>,
}

/// The entry that a lease may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Rejected {
    None,
    /// The value or absence with this stamp, which the reader can't use.
    Stamp(u64),
    /// The value with this stamp, which stays until its successor is stored: it is claimed.
    Claim(u64),
    /// Any value or absence up to this version, and any lease: the caller wants a value that is
    /// loaded now. Also a newer entry whose stamp is more than `newer_wins` milliseconds old.
    Any {
        version: u16,
        newer_wins: u64,
    },
}

/// The entry that a verb stores. The TTL is in milliseconds, `None` for unlimited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put<'a> {
    /// A value of one of these versions is there for a conditional `set`.
    pub(crate) versions: Versions,
    pub(crate) bytes: &'a [u8],
    pub(crate) ttl: Option<u64>,
}

/// A change of what was read at a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swap<'a> {
    pub(crate) read: Read,
    /// The entry that is stored; of a removal only a header, which tells the key and the shape.
    pub(crate) put: Put<'a>,
    pub(crate) becomes: Becomes,
    /// Whether it may have been carried out before. Then it also took effect if the entry is the
    /// one that it stores.
    pub(crate) again: bool,
}

/// The content of the key that was read before a [`Swap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Read {
    /// The value with this stamp.
    Value(u64),
    /// No value. `rejected` and `newer_wins` as in [`Verb::SetIfAbsent`].
    Nothing {
        rejected: Option<u64>,
        newer_wins: u64,
    },
}

/// The effect of a [`Swap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Becomes {
    /// The entry is stored with its own life.
    Stored,
    /// It is stored with the remaining life of the value that it replaces.
    StoredForTheRest,
    Removed,
}

/// A restart of a value's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) versions: Versions,
    pub(crate) shape: u32,
    /// The key hash in the header of an entry of this key.
    pub(crate) key: u32,
    /// In milliseconds, `None` for unlimited.
    pub(crate) ttl: Option<u64>,
    /// The time for which the entry outlives its freshness.
    pub(crate) keep: u64,
    /// The longest life, counted from its stamp.
    pub(crate) max_age: Option<u64>,
    /// Only if it has this stamp and this freshness, and only to a longer life.
    pub(crate) seen: Option<(u64, u64)>,
}

/// A guard that a deletion leaves: its writer's token, and its life in milliseconds. `ours` as in
/// [`Placing::Enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) token: u64,
    pub(crate) life: u64,
    pub(crate) ours: bool,
}

/// Identifies an entry's bytes, so that they need not be sent back for a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) len: usize,
    /// SHA-1 in hexadecimal, which a script in the server can compute.
    pub(crate) sha1: [u8; 40],
}

impl Fingerprint {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut sha1 = [0; 40];
        for (hex, byte) in sha1
            .chunks_exact_mut(2)
            .zip(sha1_smol::Sha1::from(bytes).digest().bytes())
        {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            hex[0] = DIGITS[usize::from(byte >> 4)];
            hex[1] = DIGITS[usize::from(byte & 15)];
        }
        Self {
            len: bytes.len(),
            sha1,
        }
    }
}

/// The longest time that a writer's place in a guard may last from now, in milliseconds: a day.
pub(crate) const LONGEST_PLACE: u64 = 24 * 60 * 60 * 1000;
/// The farthest that the clock of a namespace may be ahead of the server's time, in microseconds: a
/// day. A clock farther ahead is damaged.
pub(crate) const LONGEST_AHEAD: u64 = LONGEST_PLACE * 1000;
/// The farthest that a read leaves the clock behind the server's time, in microseconds: a minute.
const LONGEST_BEHIND: u64 = 60_000_000;

/// The life of an epoch, in milliseconds, for an entry with this life: a minute longer, so that not
/// each entry has to extend it.
pub(crate) fn epoch_life(life: u64) -> u64 {
    life.saturating_add(60_000)
}

/// The change of the entry. TTLs are in milliseconds, `None` for unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Keep,
    Remove,
    Put {
        bytes: Cow<'a, [u8]>,
        ttl: Option<u64>,
    },
    /// The same bytes, with this life.
    Live(Life),
    /// Other bytes, with the same life.
    Replace(Vec<u8>),
    /// The same value with another header of the same length.
    Rewrite {
        header: HeaderBytes,
        life: Life,
    },
}

/// The life of an entry after a change, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    AsItWas,
    AtLeast(u64),
    AtMost(u64),
    /// This life, if less than `below` is left.
    Renewed {
        below: u64,
        to: u64,
    },
    Exactly(Option<u64>),
}

/// The effect of the verb on the entry, and whether it took effect. `now` is in microseconds.
pub(crate) fn apply<'a>(entry: Option<&[u8]>, verb: &Verb<'a>, now: u64) -> (Change<'a>, bool) {
    let standing = |versions, shape, key: &dyn Fn(&[u8]) -> bool| {
        let millis = || now / 1000;
        let entry = entry.filter(|bytes| !is_left_over(bytes, now));
        entry.map(|bytes| match envelope::head(bytes) {
            Head::Known(Header {
                kind: Kind::Value | Kind::Absence,
                ..
            }) if !key(bytes) => Standing::Corrupt(seal::MISPLACED),
            head => envelope::standing(head, versions, shape, millis),
        })
    };
    match verb {
        Verb::SetIfAbsent(put, outdated, newer_wins) => {
            let there = standing(put.versions, put.shape(), &|there| put.is_for_key_of(there));
            match is_absent(there, entry, *outdated, *newer_wins, now) {
                true => (put.change(), true),
                false => (Change::Keep, false),
            }
        }
        Verb::SetIfPresent(put, seen) => match standing(put.versions, put.shape(), &|there| {
            put.is_for_key_of(there)
        }) {
            Some(Standing::Own) if seen.is_none() || entry.and_then(envelope::stamp) == *seen => {
                (put.change(), true)
            }
            _ => (Change::Keep, false),
        },
        Verb::Swap(swap) => {
            let put = swap.put;
            let there = standing(put.versions, put.shape(), &|there| put.is_for_key_of(there));
            swap.effect(there, entry, now)
        }
        Verb::Raise(Raise { clock, over }) => {
            match entry.map(|bytes| (bytes, Epoch::from_bytes(bytes))) {
                Some((_, Some(epoch))) => {
                    let epoch = match over {
                        None => epoch.raised(*clock),
                        Some(length) => epoch.softened(*clock, *length, now / 1000),
                    };
                    (Change::Replace(epoch.to_bytes()), true)
                }
                Some((bytes, None)) if !is_guarded(bytes, now) => (Change::Remove, false),
                Some(_) | None => (Change::Keep, false),
            }
        }
        Verb::Delete(hold) => delete(entry, *hold, now),
        Verb::DeleteOnlyCopy => delete(entry, None, now),
        Verb::SetOnlyCopy { put, absent } => {
            let admits = entry.is_none_or(|there| {
                let seen = There {
                    head: envelope::head(there),
                    is_for_key: put.is_for_key_of(there),
                    is_left_over: is_left_over(there, now),
                };
                seen.admits(put.versions.own(), *absent, now / 1000)
            });
            match admits {
                true => (put.change(), true),
                false => (Change::Keep, false),
            }
        }
        Verb::MarkStale { keep } => match timed_value(entry) {
            Some((header, timing)) if *keep > 0 => {
                let was_fresh = timing.is_fresh(now / 1000);
                let header = Header {
                    stamp: next_stamp(header.stamp),
                    timing: Some(Timing::fresh_until(0)),
                    ..header
                };
                let (header, life) = (header.to_bytes(), Life::AtMost(*keep));
                (Change::Rewrite { header, life }, was_fresh)
            }
            _ => delete(entry, None, now),
        },
        Verb::Touch(touch) => match standing(touch.versions, touch.shape, &|there| {
            seal::key_in(there) == Some(touch.key.to_be_bytes())
        }) {
            Some(Standing::Own) => touch.change(timed_value(entry), now / 1000),
            _ => (Change::Keep, false),
        },
        Verb::Migrate {
            stamp,
            version,
            entry: new,
        } => match entry.map(envelope::head) {
            Some(Head::Known(header)) if (header.stamp, header.version) == (*stamp, *version) => {
                migrate(header, new, now / 1000)
            }
            _ => (Change::Keep, false),
        },
        Verb::RemoveIfSame(fingerprint) => match entry {
            Some(bytes)
                if bytes.len() == fingerprint.len && Fingerprint::of(bytes) == *fingerprint =>
            {
                (Change::Remove, true)
            }
            _ => (Change::Keep, false),
        },
        Verb::Fill { lease, .. }
        | Verb::Confirm { lease, .. }
        | Verb::RenewLease { lease, .. }
        | Verb::Discard(lease)
        | Verb::Release { lease, .. } => match held(entry, *lease, now / 1000) {
            Some(held) => on_lease(verb, held, now / 1000),
            None => (Change::Keep, false),
        },
        Verb::RenewGuard { token, life } => match entry
            .and_then(Guard::from_bytes)
            .map(|guard| guard.pruned(now))
        {
            Some(guard) if guard.has(*token) => (place(Some(guard), *token, *life, now), true),
            _ => (Change::Keep, false),
        },
        Verb::Leave { token, hold } => leave(entry, *token, *hold, now),
        Verb::StoreThrough {
            guard: Name { token, stamp },
            hold,
            put,
        } => {
            match entry
                .and_then(Guard::from_bytes)
                .map(|guard| guard.pruned(now))
            {
                Some(guard)
                    if guard.stamp == *stamp
                        && !guard.shared
                        && guard.writers.len() == 1
                        && guard.has(*token) =>
                {
                    (put.change(), true)
                }
                _ => (leave(entry, *token, *hold, now).0, false),
            }
        }
    }
}

/// The effect of the verb on the entry. `now` is in microseconds.
pub(crate) fn apply_placing(entry: Option<&[u8]>, verb: &Placing, now: u64) -> Change<'static> {
    match *verb {
        Placing::Lease {
            token,
            life,
            rejected,
        } => {
            let rejects = |bytes: &[u8]| match (envelope::head(bytes), rejected) {
                (
                    Head::Known(Header {
                        kind: Kind::Value | Kind::Absence,
                        stamp,
                        ..
                    }),
                    Rejected::Stamp(seen),
                ) => stamp == seen,
                (
                    Head::Known(Header {
                        kind: Kind::Value | Kind::Absence,
                        version,
                        ..
                    }),
                    Rejected::Any {
                        version: own,
                        newer_wins,
                    },
                ) => version <= own || has_lapsed(bytes, newer_wins, now),
                (Head::Newer, Rejected::Any { newer_wins, .. }) => {
                    has_lapsed(bytes, newer_wins, now)
                }
                (
                    Head::Known(Header {
                        kind: Kind::Lease, ..
                    }),
                    Rejected::Any { .. },
                ) => true,
                _ => false,
            };
            if let Rejected::Claim(seen) = rejected
                && let Some((header, timing)) = timed_value(entry)
                && header.stamp == seen
                && !timing.claim.is_live(now / 1000)
            {
                let claim = Claim::new(claim_token(token), now / 1000, life);
                return header.claimed(timing, claim, Life::AtLeast(life));
            }
            if entry.is_some_and(|bytes| !rejects(bytes) && !is_left_over(bytes, now)) {
                return Change::Keep;
            }
            let lease = Name {
                token,
                stamp: stamp(now, token),
            }
            .to_lease();
            Change::Put {
                bytes: Cow::Owned(lease.to_vec()),
                ttl: Some(life),
            }
        }
        Placing::Enter { token, life, .. } => {
            place(entry.and_then(Guard::from_bytes), token, life, now)
        }
        Placing::Extend { life } => match (entry.and_then(Epoch::from_bytes), life) {
            (Some(_), Some(life)) => Change::Live(Life::Renewed {
                below: life,
                to: epoch_life(life),
            }),
            (Some(_), None) => Change::Live(Life::Exactly(None)),
            (None, _) if entry.is_some_and(|bytes| !stands_for_an_epoch(bytes, now)) => {
                Change::Remove
            }
            (None, _) => Change::Keep,
        },
    }
}

/// The clock of a namespace after this request; it is also the answer. `now` is in microseconds.
///
/// The clock only grows. A lost or [damaged](sound_clock) clock is replaced by one above all its
/// earlier values, because it grows no faster than time. A read moves a clock that lags far behind
/// up to the server's time. So a clock that damage has set back does not stay so; otherwise a new
/// epoch could be below the clocks of entries that were invalidated before.
pub(crate) fn clock(bytes: Option<&[u8]>, tick: Tick, now: u64) -> u64 {
    ticked(bytes.and_then(|bytes| sound_clock(bytes, now)), tick, now)
}

/// The same for a sound clock, or for none.
pub(crate) fn ticked(clock: Option<u64>, tick: Tick, now: u64) -> u64 {
    match (clock, tick) {
        (Some(clock), Tick::Advance) => now.max(clock + 1),
        (Some(clock), Tick::Reach(floor)) if is_sound(floor, now) => clock.max(floor),
        (None, Tick::Reach(floor)) if is_sound(floor, now) => now.max(floor),
        (Some(clock), _) if is_recent(clock, now) => clock,
        _ => now,
    }
}

/// The clock in these bytes, if a read returns it unchanged.
pub(crate) fn recent_clock(bytes: &[u8], now: u64) -> Option<u64> {
    sound_clock(bytes, now).filter(|clock| is_recent(*clock, now))
}

/// The clock in these bytes, as [`clock`] writes it: a decimal number that is not far ahead of
/// time. `None` for damage, so that nobody ever loads under it.
fn sound_clock(bytes: &[u8], now: u64) -> Option<u64> {
    let is_decimal = bytes.iter().all(u8::is_ascii_digit) && !bytes.starts_with(b"0");
    let digits = std::str::from_utf8(bytes).ok().filter(|_| is_decimal)?;
    digits.parse().ok().filter(|clock| is_sound(*clock, now))
}

fn is_recent(clock: u64, now: u64) -> bool {
    clock.saturating_add(LONGEST_BEHIND) >= now
}

fn is_sound(clock: u64, now: u64) -> bool {
    clock <= now.saturating_add(LONGEST_AHEAD)
}

/// Whether the entry is a guard with a writer whose place is neither over nor absurdly far ahead.
fn is_guarded(entry: &[u8], now: u64) -> bool {
    Guard::from_bytes(entry).is_some_and(|guard| !guard.pruned(now).writers.is_empty())
}

/// Whether the entry is a placeholder without a holder: a lease that is older than the longest
/// load, or from the future, or a guard without a place. The server expires such keys, unless their
/// expiry was lost or was never set.
pub(crate) fn is_left_over(entry: &[u8], now: u64) -> bool {
    match envelope::head(entry) {
        Head::Known(Header {
            kind: Kind::Lease,
            stamp,
            ..
        }) => (stamp >> 12).abs_diff(now) > LONGEST_CLAIM * 1000,
        Head::Known(Header {
            kind: Kind::Guard, ..
        }) => !is_guarded(entry, now),
        _ => false,
    }
}

/// Whether a newer entry no longer wins over a load: its stamp is more than this many milliseconds
/// old; with 0, whatever its stamp. `now` is in microseconds. A later format has no stamp that this
/// release can read, and wins for as long as it exists.
pub(crate) fn has_lapsed(newer: &[u8], newer_wins: u64, now: u64) -> bool {
    let age = |stamp: u64| now.saturating_sub(stamp >> 12);
    envelope::made(newer)
        .is_some_and(|stamp| newer_wins == 0 || age(stamp) > newer_wins.saturating_mul(1000))
}

/// Whether a conditional `set` finds no value: nothing of use to its type, or a value with the
/// stamp of one that counts as none, or a newer entry that has lapsed. `there` is the standing of
/// the entry.
fn is_absent(
    there: Option<Standing>,
    entry: Option<&[u8]>,
    outdated: Option<u64>,
    newer_wins: u64,
    now: u64,
) -> bool {
    match there {
        Some(Standing::Own) => outdated.is_some() && entry.and_then(envelope::stamp) == outdated,
        Some(Standing::Protected) => entry.is_some_and(|newer| has_lapsed(newer, newer_wins, now)),
        None | Some(Standing::Stale | Standing::Replaceable | Standing::Corrupt(_)) => true,
    }
}

/// Whether the entry is the mark of a load, a guard of writers, or of a later format: it may stay
/// in place of an epoch.
fn stands_for_an_epoch(entry: &[u8], now: u64) -> bool {
    match envelope::head(entry) {
        Head::Newer => true,
        _ => Name::of_lease(entry).is_some() || is_guarded(entry, now),
    }
}

impl<'a> Put<'a> {
    /// Whether the stored entry has the same key hash as the new one.
    fn is_for_key_of(&self, there: &[u8]) -> bool {
        let key = seal::key_in(there);
        key.is_some() && key == seal::key_in(self.bytes)
    }

    /// The shape in the new entry, which is its type's.
    fn shape(&self) -> u32 {
        envelope::shape_in(self.bytes)
    }

    fn change(&self) -> Change<'a> {
        Change::Put {
            bytes: Cow::Borrowed(self.bytes),
            ttl: self.ttl,
        }
    }

    /// Whether the entry is this one, by its stamp and its checksum.
    fn is_stored_in(&self, entry: &[u8]) -> bool {
        fn name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
            Some((bytes.get(12..20)?, bytes.get(26..30)?))
        }
        name(entry).is_some_and(|there| name(self.bytes) == Some(there))
    }

    /// The new entry with the remaining life of a value, and with its freshness. `None` if only one
    /// of the two is timed.
    fn for_the_rest_of(&self, value: &[u8]) -> Option<Change<'a>> {
        let (Head::Known(was), Head::Known(becomes)) =
            (envelope::head(value), envelope::head(self.bytes))
        else {
            return None;
        };
        if becomes.kind != Kind::Value || was.timing.is_some() != becomes.timing.is_some() {
            return None;
        }
        let claim = Claim::NONE;
        let timing = was.timing.map(|timing| Timing { claim, ..timing });
        let header = Header { timing, ..becomes };
        let mut bytes = self.bytes.to_vec();
        bytes[..header.len()].copy_from_slice(&header.to_bytes());
        Some(Change::Replace(bytes))
    }
}

impl Guard {
    /// Without the writers whose places have run out, or are damaged: no guard lasts forever.
    fn pruned(mut self, now: u64) -> Self {
        let now = now / 1000;
        self.writers
            .retain(|writer| (now + 1..=now + LONGEST_PLACE).contains(&writer.deadline));
        self
    }

    fn has(&self, token: u64) -> bool {
        self.writers.iter().any(|writer| writer.token == token)
    }

    fn change(&self, now: u64) -> Change<'static> {
        let last = self
            .writers
            .iter()
            .map(|writer| writer.deadline)
            .max()
            .unwrap_or(0);
        match last.saturating_sub(now / 1000) {
            0 => Change::Remove,
            left => Change::Put {
                bytes: Cow::Owned(self.to_bytes()),
                ttl: Some(left),
            },
        }
    }
}

/// Replaces a value by an entry of a later version. `now` is in milliseconds.
fn migrate<'a>(header: Header, new: &'a [u8], now: u64) -> (Change<'a>, bool) {
    let refused = (Change::Keep, false);
    let Head::Known(becomes) = envelope::head(new) else {
        return refused;
    };
    if (header.kind, becomes.kind) != (Kind::Value, Kind::Value)
        || header.key != becomes.key
        || header.timing.is_some() != becomes.timing.is_some()
    {
        return refused;
    }
    let is_loading = |timing: Timing| timing.claim.token() != 0 && timing.claim.is_live(now);
    if header.timing.is_some_and(is_loading) {
        return refused;
    }
    let becomes = Header {
        stamp: next_stamp(header.stamp),
        timing: header.timing,
        ..becomes
    };
    let mut bytes = new.to_vec();
    bytes[..becomes.len()].copy_from_slice(&becomes.to_bytes());
    (Change::Replace(bytes), true)
}

/// The entry that a load holds.
enum Held {
    Lease,
    Claimed(Header, Timing),
}

/// The entry under this lease, if the lease still exists.
fn held(entry: Option<&[u8]>, lease: Lease, now: u64) -> Option<Held> {
    match lease {
        Lease::Placed(name) => (entry == Some(&name.to_lease())).then_some(Held::Lease),
        Lease::Claim { token, stamp } => {
            let (header, timing) = timed_value(entry)?;
            let claim = timing.claim;
            (header.stamp == stamp && claim.token() == token && claim.is_live(now))
                .then_some(Held::Claimed(header, timing))
        }
    }
}

/// The effect of a verb on the entry that its load holds. `now` is in milliseconds.
fn on_lease<'a>(verb: &Verb<'a>, held: Held, now: u64) -> (Change<'a>, bool) {
    match (verb, held) {
        (Verb::Fill { put, .. }, _) => (put.change(), true),
        (Verb::Confirm { header, ttl, .. }, Held::Claimed(..)) => {
            let (header, life) = (*header, Life::Exactly(*ttl));
            (Change::Rewrite { header, life }, true)
        }
        (Verb::RenewLease { life, .. }, Held::Lease) => {
            (Change::Live(Life::Exactly(Some(*life))), true)
        }
        (Verb::RenewLease { life, .. }, Held::Claimed(header, timing)) => {
            let claim = Claim::new(timing.claim.token(), now, *life);
            let life = Life::AtLeast(*life);
            (header.claimed(timing, claim, life), true)
        }
        (Verb::Release { .. }, Held::Lease) | (Verb::Discard(_), _) => (Change::Remove, true),
        (Verb::Release { pause, .. }, Held::Claimed(header, timing)) => {
            let claim = match pause {
                0 => Claim::NONE,
                pause => Claim::new(0, now, *pause),
            };
            let stamp = next_stamp(header.stamp);
            let header = Header { stamp, ..header };
            (header.claimed(timing, claim, Life::AsItWas), true)
        }
        _ => (Change::Keep, false),
    }
}

/// A timed value.
fn timed_value(entry: Option<&[u8]>) -> Option<(Header, Timing)> {
    match envelope::head(entry?) {
        Head::Known(header) => Some((header, header.timing?)),
        Head::Newer | Head::Corrupt(_) => None,
    }
}

fn delete(entry: Option<&[u8]>, hold: Option<Hold>, now: u64) -> (Change<'static>, bool) {
    let was_value = match entry.map(envelope::head) {
        Some(Head::Known(Header { kind, timing, .. })) => {
            kind == Kind::Value && timing.is_none_or(|timing| timing.is_fresh(now / 1000))
        }
        _ => false,
    };
    match (entry.and_then(Guard::from_bytes), hold) {
        (None, None) if entry.is_none() => (Change::Keep, false),
        (None, None) => (Change::Remove, was_value),
        (Some(guard), None) => {
            let guard = Guard {
                shared: true,
                ..guard.pruned(now)
            };
            (guard.change(now), false)
        }
        (guard, Some(Hold { token, life, .. })) => (place(guard, token, life, now), was_value),
    }
}

impl<'a> Swap<'a> {
    /// The effect on an entry with this standing. `now` is in microseconds.
    fn effect(
        &self,
        there: Option<Standing>,
        entry: Option<&[u8]>,
        now: u64,
    ) -> (Change<'a>, bool) {
        let is_own = there == Some(Standing::Own);
        if self.again && is_own && entry.is_some_and(|entry| self.put.is_stored_in(entry)) {
            return (Change::Keep, true);
        }
        let is_as_read = match self.read {
            Read::Value(stamp) => is_own && entry.and_then(envelope::stamp) == Some(stamp),
            Read::Nothing {
                rejected,
                newer_wins,
            } => is_absent(there, entry, rejected, newer_wins, now),
        };
        let change = match (self.becomes, entry.filter(|_| is_own)) {
            _ if !is_as_read => None,
            (Becomes::Stored, _) | (Becomes::StoredForTheRest, None) => Some(self.put.change()),
            (Becomes::StoredForTheRest, Some(entry)) => self.put.for_the_rest_of(entry),
            (Becomes::Removed, _) => Some(Change::Remove),
        };
        match change {
            Some(change) => (change, true),
            None => (Change::Keep, false),
        }
    }
}

impl Touch {
    /// The effect on a value of the version. `now` is in milliseconds.
    fn change<'a>(&self, timed: Option<(Header, Timing)>, now: u64) -> (Change<'a>, bool) {
        let Some((header, timing)) = timed else {
            return match self.seen {
                None => (Change::Live(Life::Exactly(self.ttl)), true),
                Some(_) => (Change::Keep, false),
            };
        };
        if self
            .seen
            .is_some_and(|seen| seen != (header.stamp, timing.until))
        {
            return (Change::Keep, false);
        }
        let last = self.max_age.map(|age| (header.stamp >> 12) / 1000 + age);
        let until = match (self.ttl.map(|ttl| now + ttl), last) {
            (Some(until), Some(last)) => until.min(last),
            (until, last) => until.or(last).unwrap_or(FOR_EVER),
        };
        if self.seen.is_some() && until <= timing.until {
            return (Change::Keep, false);
        }
        let left = (until < FOR_EVER).then(|| until.saturating_sub(now) + self.keep);
        let header = Header {
            timing: Some(Timing { until, ..timing }),
            ..header
        };
        let (header, life) = (header.to_bytes(), Life::Exactly(left));
        (Change::Rewrite { header, life }, true)
    }
}

impl Header {
    fn claimed<'a>(self, timing: Timing, claim: Claim, life: Life) -> Change<'a> {
        let header = Header {
            timing: Some(Timing { claim, ..timing }),
            ..self
        };
        let header = header.to_bytes();
        Change::Rewrite { header, life }
    }
}

/// Gives a writer a place for `life` milliseconds, or extends the one it has. A writer that joins
/// others makes the guard shared.
fn place(guard: Option<Guard>, token: u64, life: u64, now: u64) -> Change<'static> {
    let guard = guard
        .map(|guard| guard.pruned(now))
        .filter(|guard| !guard.writers.is_empty());
    let mut guard = guard.unwrap_or_else(|| Guard {
        stamp: stamp(now, token),
        shared: false,
        writers: Vec::new(),
    });
    let deadline = now / 1000 + life;
    match guard
        .writers
        .iter_mut()
        .find(|writer| writer.token == token)
    {
        Some(writer) => writer.deadline = deadline,
        None => {
            guard.shared |= !guard.writers.is_empty();
            guard.writers.push(Writer { token, deadline });
        }
    }
    guard.change(now)
}

fn leave(entry: Option<&[u8]>, token: u64, hold: u64, now: u64) -> (Change<'static>, bool) {
    let guard = entry
        .and_then(Guard::from_bytes)
        .map(|guard| guard.pruned(now));
    let had_place = guard.as_ref().is_some_and(|guard| guard.has(token));
    if hold > 0 {
        return (place(guard, token, hold, now), had_place);
    }
    match guard {
        Some(mut guard) => {
            guard.writers.retain(|writer| writer.token != token);
            // A remaining writer was not the only one.
            guard.shared = true;
            (guard.change(now), had_place)
        }
        None if entry.is_some() => (Change::Remove, false),
        None => (Change::Keep, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_000_000;
    const MILLIS: u64 = NOW / 1000;
    /// The stored bytes: for the key with the hash 0, like the existing entries here.
    const NEW: &[u8] = b"stored:\0\0\0\0..........\0\0\0\0";

    fn put(version: u16) -> Put<'static> {
        Put {
            versions: version.into(),
            bytes: NEW,
            ttl: None,
        }
    }

    fn guard(shared: bool, writers: &[(u64, u64)]) -> Guard {
        let writers = writers
            .iter()
            .map(|&(token, deadline)| Writer { token, deadline })
            .collect();
        Guard {
            stamp: 7,
            shared,
            writers,
        }
    }

    /// The guard that the change stores.
    fn guard_of(change: &Change<'_>) -> Guard {
        let Change::Put { bytes, .. } = change else {
            panic!("{change:?}")
        };
        Guard::from_bytes(bytes).expect("a guard")
    }

    #[test]
    fn plain_verbs_by_state_of_the_key() {
        let own = Header::value(2, 7).to_bytes();
        let older = Header::value(1, 7).to_bytes();
        let newer = Header::value(3, 7).to_bytes();
        let misplaced = Header::value(2, 7).of(b"another").to_bytes();
        let newer_misplaced = Header::value(3, 7).of(b"another").to_bytes();
        let lease = Name { token: 1, stamp: 7 }.to_lease();
        let guarded = guard(true, &[(1, MILLIS + 9)]).to_bytes();
        let keep = || (Change::Keep, false);
        let store = || (put(2).change(), true);
        let remove = |was| (Change::Remove, was);
        let expire = || (Change::Live(Life::Exactly(None)), true);
        let stays = || {
            (
                Change::Put {
                    bytes: guarded.clone().into(),
                    ttl: Some(9),
                },
                false,
            )
        };

        for (name, entry, absent, present, delete, touch) in [
            ("nothing", None, store(), keep(), keep(), keep()),
            (
                "own",
                Some(&own[..]),
                keep(),
                store(),
                remove(true),
                expire(),
            ),
            (
                "older",
                Some(&older[..]),
                store(),
                keep(),
                remove(true),
                keep(),
            ),
            (
                "newer",
                Some(&newer[..]),
                keep(),
                keep(),
                remove(true),
                keep(),
            ),
            (
                "lease",
                Some(&lease[..]),
                store(),
                keep(),
                remove(false),
                keep(),
            ),
            ("guard", Some(&guarded[..]), keep(), keep(), stays(), keep()),
            (
                "rubbish",
                Some(&b"rubbish"[..]),
                store(),
                keep(),
                remove(false),
                keep(),
            ),
            (
                "an entry of another key",
                Some(&misplaced[..]),
                store(),
                keep(),
                remove(true),
                keep(),
            ),
            (
                "a newer entry of another key",
                Some(&newer_misplaced[..]),
                store(),
                keep(),
                remove(true),
                keep(),
            ),
        ] {
            let touching = Verb::Touch(Touch {
                versions: 2.into(),
                shape: 0,
                key: 0,
                ttl: None,
                keep: 0,
                max_age: None,
                seen: None,
            });
            assert_eq!(
                apply(entry, &Verb::SetIfAbsent(put(2), None, u64::MAX), NOW),
                absent,
                "set if absent over {name}"
            );
            assert_eq!(
                apply(entry, &Verb::SetIfPresent(put(2), None), NOW),
                present,
                "set if present over {name}"
            );
            assert_eq!(
                apply(entry, &Verb::Delete(None), NOW),
                delete,
                "delete {name}"
            );
            assert_eq!(apply(entry, &touching, NOW), touch, "touch {name}");
        }
    }

    /// The entry with this version and stamp, fresh for so many milliseconds if it is timed.
    fn entry(version: u16, stamp: u64, fresh_for: Option<u64>) -> Vec<u8> {
        let timing = fresh_for.map(|left| Timing {
            until: MILLIS + left,
            claim: Claim::new(5, MILLIS, 1000),
        });
        let header = Header {
            timing,
            ..Header::value(version, stamp)
        };
        [&header.to_bytes()[..], b"\x2a"].concat()
    }

    fn swap(bytes: &[u8], read: Read, becomes: Becomes) -> Swap<'_> {
        Swap {
            read,
            put: Put { bytes, ..put(2) },
            becomes,
            again: false,
        }
    }

    #[test]
    fn a_change_is_made_if_what_was_read_is_there() {
        let (old, new) = (entry(2, 7, None), entry(2, 9, None));
        let nothing = Read::Nothing {
            rejected: None,
            newer_wins: u64::MAX,
        };
        let of = |there: Option<&[u8]>, read, becomes| {
            apply(there, &Verb::Swap(swap(&new, read, becomes)), NOW).1
        };
        for becomes in [Becomes::Stored, Becomes::StoredForTheRest, Becomes::Removed] {
            assert!(of(Some(&old), Read::Value(7), becomes));
            assert!(!of(Some(&old), Read::Value(8), becomes), "another one");
            assert!(!of(None, Read::Value(7), becomes), "it is gone");
            assert!(!of(Some(&old), nothing, becomes), "one has come");
            let stale = entry(2, 7, Some(0));
            assert!(!of(Some(&stale), Read::Value(7), becomes), "it is stale");
            let guarded = guard(false, &[(1, MILLIS + 9)]).to_bytes();
            assert!(!of(Some(&guarded), nothing, becomes));
        }
        assert!(of(None, nothing, Becomes::Stored));
        let rejected = Read::Nothing {
            rejected: Some(7),
            newer_wins: u64::MAX,
        };
        assert!(of(Some(&old), rejected, Becomes::Stored));
        assert!(!of(Some(&new), rejected, Becomes::Stored));
    }

    #[test]
    fn a_change_that_may_have_been_made_is_not_made_twice() {
        let (old, new) = (entry(2, 7, None), entry(2, 9, None));
        let again = Swap {
            again: true,
            ..swap(&new, Read::Value(7), Becomes::Stored)
        };
        let on = |there: &[u8], again| {
            let (change, done) = apply(Some(there), &Verb::Swap(again), NOW);
            (change != Change::Keep, done)
        };
        assert_eq!(on(&old, again), (true, true), "it was not");
        assert_eq!(on(&new, again), (false, true), "it was");
        let first = Swap {
            again: false,
            ..again
        };
        assert_eq!(on(&new, first), (false, false), "another's equal one");
        let mut other = new.clone();
        other[27] ^= 1;
        assert_eq!(on(&other, again), (false, false), "of another checksum");
        assert_eq!(on(&entry(2, 10, None), again), (false, false));
    }

    #[test]
    fn a_change_for_the_rest_keeps_the_freshness_and_no_claim() {
        let kept = |there: &[u8], new: &[u8]| {
            let swap = swap(new, Read::Value(7), Becomes::StoredForTheRest);
            match apply(Some(there), &Verb::Swap(swap), NOW) {
                (Change::Replace(bytes), true) => Some(envelope::head(&bytes)),
                (Change::Keep, false) => None,
                other => panic!("{other:?}"),
            }
        };
        let (old, new) = (entry(2, 7, Some(500)), entry(2, 9, Some(9000)));
        let Some(Head::Known(header)) = kept(&old, &new) else {
            panic!("it is kept")
        };
        assert_eq!(header.stamp, 9);
        assert_eq!(header.timing, Some(Timing::fresh_until(MILLIS + 500)));
        let untimed = entry(2, 7, None);
        assert!(kept(&untimed, &entry(2, 9, None)).is_some());
        assert!(kept(&untimed, &new).is_none(), "only one is timed");
        assert!(kept(&old, &entry(2, 9, None)).is_none());
        assert!(kept(&old, b"rubbish").is_none());
    }

    #[test]
    fn only_the_same_bytes_are_removed() {
        let seen = Fingerprint::of(b"rubbish");
        assert_eq!(
            apply(Some(b"rubbish"), &Verb::RemoveIfSame(seen), NOW),
            (Change::Remove, true)
        );
        assert_eq!(
            apply(Some(b"rubbisH"), &Verb::RemoveIfSame(seen), NOW),
            (Change::Keep, false)
        );
        assert_eq!(
            apply(None, &Verb::RemoveIfSame(seen), NOW),
            (Change::Keep, false)
        );
    }

    #[test]
    fn a_lease_is_made_in_place_of_nothing_or_of_a_rejected_entry() {
        let lease = |rejected| Placing::Lease {
            token: 5,
            life: 1000,
            rejected,
        };
        let made = Name {
            token: 5,
            stamp: stamp(NOW, 5),
        }
        .to_lease();
        let put = Change::Put {
            bytes: made.to_vec().into(),
            ttl: Some(1000),
        };
        let older = Header::value(1, 7).to_bytes();
        assert_eq!(apply_placing(None, &lease(Rejected::None), NOW), put);
        assert_eq!(
            apply_placing(Some(&older), &lease(Rejected::None), NOW),
            Change::Keep
        );
        assert_eq!(
            apply_placing(Some(&older), &lease(Rejected::Stamp(8)), NOW),
            Change::Keep
        );
        assert_eq!(
            apply_placing(Some(&older), &lease(Rejected::Stamp(7)), NOW),
            put
        );
        for entry in [
            &made[..],
            &guard(false, &[(1, MILLIS + 1)]).to_bytes(),
            b"rubbish",
        ] {
            assert_eq!(
                apply_placing(Some(entry), &lease(Rejected::Stamp(7)), NOW),
                Change::Keep
            );
        }
        let any = |version| {
            lease(Rejected::Any {
                version,
                newer_wins: u64::MAX,
            })
        };
        for entry in [&older[..], &Name { token: 6, stamp: 7 }.to_lease()] {
            assert_eq!(apply_placing(Some(entry), &any(1), NOW), put);
        }
        for entry in [
            &Header::value(2, 7).to_bytes()[..],
            &guard(false, &[(1, MILLIS + 1)]).to_bytes(),
            b"rubbish",
        ] {
            assert_eq!(apply_placing(Some(entry), &any(1), NOW), Change::Keep);
        }
    }

    #[test]
    fn only_the_very_lease_is_filled_renewed_and_released() {
        let name = Name { token: 5, stamp: 7 };
        let lease = Lease::Placed(name);
        let later = Name { stamp: 8, ..name };
        let others = Name { token: 6, ..name };
        let on = |verb: &Verb<'static>, held: Option<Name>| {
            apply(held.map(Name::to_lease).as_ref().map(|l| &l[..]), verb, NOW)
        };
        let verbs = [
            (Verb::Fill { lease, put: put(1) }, put(1).change()),
            (
                Verb::RenewLease { lease, life: 9 },
                Change::Live(Life::Exactly(Some(9))),
            ),
            (Verb::Discard(lease), Change::Remove),
            (Verb::Release { lease, pause: 9 }, Change::Remove),
        ];
        for (verb, change) in verbs {
            assert_eq!(on(&verb, Some(name)), (change, true));
            for held in [None, Some(later), Some(others)] {
                assert_eq!(
                    on(&verb, held),
                    (Change::Keep, false),
                    "{verb:?} on {held:?}"
                );
            }
        }
    }

    /// A value with this freshness, and with a claim of that token for `life` more milliseconds.
    fn timed(until: u64, token: u32, life: u64) -> HeaderBytes {
        let claim = match life {
            0 => Claim::NONE,
            life => Claim::new(token, MILLIS, life),
        };
        Header {
            timing: Some(Timing { until, claim }),
            ..Header::value(1, STAMP)
        }
        .to_bytes()
    }

    const STAMP: u64 = (NOW - 60_000_000) << 12;

    fn rewritten(change: (Change<'_>, bool)) -> (Header, Life) {
        let (Change::Rewrite { header, life }, true) = change else {
            panic!("{change:?}")
        };
        match envelope::head(&header) {
            Head::Known(header) => (header, life),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_value_is_claimed_by_one_at_a_time() {
        let claim = |entry: &[u8], stamp| {
            let verb = Placing::Lease {
                token: 5,
                life: 1000,
                rejected: Rejected::Claim(stamp),
            };
            apply_placing(Some(entry), &verb, NOW)
        };
        let fresh = timed(MILLIS + 9, 0, 0);
        let (claimed, life) = rewritten((claim(&fresh, STAMP), true));
        let timing = claimed.timing.unwrap();
        assert_eq!((claimed.stamp, timing.until), (STAMP, MILLIS + 9));
        assert_eq!(timing.claim, Claim::new(5, MILLIS, 1000));
        assert_eq!(life, Life::AtLeast(1000));
        for (entry, stamp) in [
            (fresh, STAMP + 1),
            (timed(0, 6, 50), STAMP),
            (timed(0, 0, 50), STAMP),
            (Header::value(1, STAMP).to_bytes(), STAMP),
        ] {
            assert_eq!(claim(&entry, stamp), Change::Keep, "{entry:?}");
        }
    }

    #[test]
    fn only_the_very_claim_is_filled_confirmed_renewed_and_released() {
        let lease = Lease::Claim {
            token: 5,
            stamp: STAMP,
        };
        let claimed = timed(MILLIS, 5, 50);
        let header = timed(MILLIS + 9, 0, 0);
        let fill = Verb::Fill { lease, put: put(1) };
        let ttl = Some(9);
        let confirm = Verb::Confirm { lease, header, ttl };
        let renew = Verb::RenewLease { lease, life: 1000 };
        let discard = Verb::Discard(lease);
        let release = |pause| Verb::Release { lease, pause };
        let on = |entry: &[u8], verb: &Verb<'static>| apply(Some(entry), verb, NOW);

        assert_eq!(on(&claimed, &fill), (put(1).change(), true));
        assert_eq!(on(&claimed, &discard), (Change::Remove, true));
        let life = Life::Exactly(ttl);
        let change = Change::Rewrite { header, life };
        assert_eq!(on(&claimed, &confirm), (change, true));
        let (renewed, life) = rewritten(on(&claimed, &renew));
        assert_eq!(renewed.timing.unwrap().claim, Claim::new(5, MILLIS, 1000));
        assert_eq!((renewed.stamp, life), (STAMP, Life::AtLeast(1000)));
        let (paused, life) = rewritten(on(&claimed, &release(500)));
        assert_eq!(paused.timing.unwrap().claim, Claim::new(0, MILLIS, 500));
        assert_eq!((paused.stamp, life), (STAMP + 1, Life::AsItWas));
        let (free, _) = rewritten(on(&claimed, &release(0)));
        assert_eq!(free.timing.unwrap().claim, Claim::NONE);

        let ran_out = Timing {
            until: MILLIS,
            claim: Claim::new(5, MILLIS - 100, 50),
        };
        let ran_out = Header {
            timing: Some(ran_out),
            ..Header::value(1, STAMP)
        };
        let again = Header {
            timing: Some(Timing {
                claim: Claim::new(5, MILLIS, 50),
                ..ran_out.timing.unwrap()
            }),
            ..Header::value(1, STAMP + 1)
        };
        for other in [
            timed(MILLIS, 6, 50),
            timed(MILLIS, 0, 50),
            ran_out.to_bytes(),
            again.to_bytes(),
        ] {
            for verb in [fill, confirm, renew, discard, release(500)] {
                let nothing = (Change::Keep, false);
                assert_eq!(on(&other, &verb), nothing, "{verb:?} on {other:?}");
            }
        }
    }

    #[test]
    fn an_entry_marked_stale_is_kept_for_a_while_and_claimed_by_nobody() {
        let expire = |entry: &[u8], keep| apply(Some(entry), &Verb::MarkStale { keep }, NOW);
        let (expired, life) = rewritten(expire(&timed(MILLIS + 9, 5, 50), 700));
        assert_eq!(expired.stamp, STAMP + 1);
        assert_eq!(expired.timing, Some(Timing::fresh_until(0)));
        assert_eq!(life, Life::AtMost(700));
        let was_stale = expire(&timed(MILLIS, 0, 0), 700);
        assert!(!was_stale.1 && was_stale.0 != Change::Remove);
        let plain = Header::value(1, STAMP).to_bytes();
        assert_eq!(expire(&plain, 700), (Change::Remove, true));
        assert_eq!(expire(&timed(MILLIS + 9, 0, 0), 0), (Change::Remove, true));
        let absence = Header::absence(1, STAMP).to_bytes();
        assert_eq!(expire(&absence, 700), (Change::Remove, false));
    }

    #[test]
    fn a_touch_goes_by_what_was_read_and_never_beyond_the_greatest_age() {
        let touch = Touch {
            versions: 1.into(),
            shape: 0,
            key: 0,
            ttl: Some(30_000),
            keep: 5_000,
            max_age: None,
            seen: Some((STAMP, MILLIS + 9)),
        };
        let on = |touch: Touch| apply(Some(&timed(MILLIS + 9, 5, 50)), &Verb::Touch(touch), NOW);
        let (touched, life) = rewritten(on(touch));
        let timing = touched.timing.unwrap();
        assert_eq!((touched.stamp, timing.until), (STAMP, MILLIS + 30_000));
        assert_eq!(timing.claim, Claim::new(5, MILLIS, 50));
        assert_eq!(life, Life::Exactly(Some(35_000)));
        // The value is a minute old.
        let max_age = Some(70_000);
        let (touched, life) = rewritten(on(Touch { max_age, ..touch }));
        assert_eq!(touched.timing.unwrap().until, MILLIS + 10_000);
        assert_eq!(life, Life::Exactly(Some(15_000)));
        for nothing in [
            Touch {
                max_age: Some(60_009),
                ..touch
            },
            Touch {
                seen: Some((STAMP, MILLIS + 8)),
                ..touch
            },
            Touch {
                seen: Some((STAMP + 1, MILLIS + 9)),
                ..touch
            },
            Touch {
                versions: 2.into(),
                ..touch
            },
            Touch { key: 1, ..touch },
        ] {
            assert_eq!(on(nothing), (Change::Keep, false), "{nothing:?}");
        }
        let (ttl, seen) = (None, None);
        let (touched, life) = rewritten(on(Touch { ttl, seen, ..touch }));
        assert_eq!(touched.timing.unwrap().until, FOR_EVER);
        assert_eq!(life, Life::Exactly(None));
    }

    #[test]
    fn a_guard_is_left_by_one_writer_after_the_other() {
        let first = apply_placing(
            Some(b"whatever"),
            &Placing::Enter {
                token: 1,
                life: 100,
                ours: false,
            },
            NOW,
        );
        let first = guard_of(&first);
        assert_eq!(
            first.writers,
            [Writer {
                token: 1,
                deadline: MILLIS + 100
            }]
        );
        assert!(!first.shared);
        let both = guard_of(&apply_placing(
            Some(&first.to_bytes()),
            &Placing::Enter {
                token: 2,
                life: 300,
                ours: false,
            },
            NOW,
        ));
        assert!(both.shared);
        let (change, had_place) = apply(
            Some(&both.to_bytes()),
            &Verb::Leave { token: 1, hold: 0 },
            NOW,
        );
        assert!(had_place);
        let left = guard_of(&change);
        assert_eq!(
            (left.shared, &*left.writers),
            (
                true,
                &[Writer {
                    token: 2,
                    deadline: MILLIS + 300
                }][..]
            )
        );
        let (change, had_place) = apply(
            Some(&left.to_bytes()),
            &Verb::Leave { token: 2, hold: 0 },
            NOW,
        );
        assert_eq!((change, had_place), (Change::Remove, true));
        let value = Header::value(1, 7).to_bytes();
        assert_eq!(
            apply(Some(&value), &Verb::Leave { token: 2, hold: 0 }, NOW),
            (Change::Remove, false)
        );
    }

    #[test]
    fn places_run_out_each_by_itself() {
        let both = guard(true, &[(1, MILLIS), (2, MILLIS + 5)]).to_bytes();
        assert_eq!(
            apply(Some(&both), &Verb::RenewGuard { token: 1, life: 9 }, NOW),
            (Change::Keep, false)
        );
        let (change, held) = apply(Some(&both), &Verb::RenewGuard { token: 2, life: 9 }, NOW);
        assert!(held);
        assert_eq!(
            guard_of(&change).writers,
            [Writer {
                token: 2,
                deadline: MILLIS + 9
            }]
        );
        let gone = guard(true, &[(1, MILLIS)]).to_bytes();
        let fresh = guard_of(&apply_placing(
            Some(&gone),
            &Placing::Enter {
                token: 3,
                life: 9,
                ours: false,
            },
            NOW,
        ));
        assert_eq!(
            (fresh.shared, fresh.stamp),
            (false, stamp(NOW, 3)),
            "what ran out is not shared"
        );
    }

    #[test]
    fn a_write_is_stored_only_by_who_was_alone() {
        let through = |token, stamp| Verb::StoreThrough {
            guard: Name { token, stamp },
            hold: 0,
            put: put(1),
        };
        let alone = guard(false, &[(1, MILLIS + 9)]).to_bytes();
        let shared = guard(true, &[(1, MILLIS + 9)]).to_bytes();
        assert_eq!(
            apply(Some(&alone), &through(1, 7), NOW),
            (put(1).change(), true)
        );
        assert_eq!(
            apply(Some(&shared), &through(1, 7), NOW),
            (Change::Remove, false)
        );
        assert_eq!(
            apply(Some(&alone), &through(1, 8), NOW),
            (Change::Remove, false),
            "a guard of another time"
        );
        assert_eq!(apply(None, &through(1, 7), NOW), (Change::Keep, false));
    }

    #[test]
    fn a_hold_keeps_the_guard_for_a_while() {
        let hold = Some(Hold {
            token: 9,
            life: 500,
            ours: false,
        });
        let value = Header::value(1, 7).to_bytes();
        let (change, was) = apply(Some(&value), &Verb::Delete(hold), NOW);
        assert!(was);
        assert_eq!(
            guard_of(&change).writers,
            [Writer {
                token: 9,
                deadline: MILLIS + 500
            }]
        );
        let alone = guard(false, &[(1, MILLIS + 9000)]).to_bytes();
        let (change, had) = apply(
            Some(&alone),
            &Verb::Leave {
                token: 1,
                hold: 500,
            },
            NOW,
        );
        assert!(had);
        assert_eq!(
            change,
            Change::Put {
                bytes: guard_of(&change).to_bytes().into(),
                ttl: Some(500)
            }
        );
        let (change, _) = apply(Some(&alone), &Verb::Delete(hold), NOW);
        assert!(guard_of(&change).shared);
    }

    fn text(clock: u64) -> Vec<u8> {
        clock.to_string().into_bytes()
    }

    #[test]
    fn a_clock_that_nothing_wrote_is_as_none() {
        const TOO_FAR: u64 = NOW + LONGEST_AHEAD + 1;
        let mut damaged: Vec<Vec<u8>> = [
            "",
            "abc",
            "-5",
            "+5",
            "1.5",
            "1e300",
            "1e400",
            "inf",
            "-inf",
            "nan",
            "-nan",
            "0x7f",
            " 12 ",
            "0",
            "007",
            "18446744073709551615",
            "99999999999999999999",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        damaged.extend([TOO_FAR, (1 << 53) - 1, 1 << 53].map(text));
        damaged.push(vec![b'9'; 65_536]);
        damaged.push(format!("{NOW}\n").into());
        damaged.push(vec![0xff; 16]);
        for clock_key in &damaged {
            let shown = String::from_utf8_lossy(&clock_key[..clock_key.len().min(30)]);
            for tick in [Tick::Read, Tick::Advance] {
                assert_eq!(clock(Some(clock_key), tick, NOW), NOW, "{shown:?} {tick:?}");
            }
            let reached = clock(Some(clock_key), Tick::Reach(NOW + 7), NOW);
            assert_eq!(reached, NOW + 7, "{shown:?}");
        }
        // Ahead of time, as after the server's time was set back: it continues from there.
        for ahead in [NOW, NOW + 7, TOO_FAR - 1] {
            assert_eq!(clock(Some(&text(ahead)), Tick::Read, NOW), ahead);
            assert_eq!(clock(Some(&text(ahead)), Tick::Advance, NOW), ahead + 1);
        }
    }

    #[test]
    fn a_clock_far_behind_time_is_moved_up_by_a_read() {
        let last = NOW - LONGEST_BEHIND;
        assert_eq!(clock(Some(&text(last)), Tick::Read, NOW), last);
        for behind in [1, 5, NOW - 3_600_000_000, last - 1] {
            let behind = text(behind);
            assert_eq!(clock(Some(&behind), Tick::Read, NOW), NOW);
            assert_eq!(clock(Some(&behind), Tick::Advance, NOW), NOW);
            assert_eq!(recent_clock(&behind, NOW), None);
        }
        assert_eq!(recent_clock(&text(last), NOW), Some(last));
    }

    #[test]
    fn a_clock_reaches_what_an_epoch_was_seen_to_be() {
        let reach = |from: u64, floor| clock(Some(&text(from)), Tick::Reach(floor), NOW);
        assert_eq!(reach(NOW, NOW + 9), NOW + 9);
        assert_eq!(reach(NOW + 9, NOW), NOW + 9, "it does not fall");
        assert_eq!(reach(5, NOW - 1), NOW - 1);
        assert_eq!(reach(NOW, NOW + LONGEST_AHEAD + 1), NOW, "absurd");
        assert_eq!(clock(None, Tick::Reach(NOW - 9), NOW), NOW);
    }

    /// Each of them without an expiry, or with one that was lost.
    #[test]
    fn leases_and_guards_that_nobody_holds_give_way() {
        let lease = |made: u64| {
            Name {
                token: 1,
                stamp: made << 12,
            }
            .to_lease()
            .to_vec()
        };
        let longest = LONGEST_CLAIM * 1000;
        let day = LONGEST_PLACE;
        let left_over = [
            lease(0),
            lease(NOW - longest - 1),
            lease(NOW + longest + 1),
            guard(false, &[]).to_bytes(),
            guard(true, &[(1, MILLIS), (2, 0)]).to_bytes(),
            guard(false, &[(1, MILLIS + day + 1)]).to_bytes(),
            guard(false, &[(1, u64::MAX), (2, 1)]).to_bytes(),
            // Its payload is damaged.
            guard(false, &[(1, MILLIS + 9)]).to_bytes()[..40].to_vec(),
        ];
        let held = [
            lease(NOW - longest),
            lease(NOW + longest),
            guard(false, &[(1, MILLIS + 1)]).to_bytes(),
            guard(false, &[(1, MILLIS + day)]).to_bytes(),
            guard(false, &[(1, 0), (2, MILLIS + 1)]).to_bytes(),
        ];
        let verb = Placing::Lease {
            token: 5,
            life: 1000,
            rejected: Rejected::None,
        };
        let lease_over = |entry: &[u8]| apply_placing(Some(entry), &verb, NOW) != Change::Keep;
        let stored_over =
            |entry: &[u8]| apply(Some(entry), &Verb::SetIfAbsent(put(1), None, u64::MAX), NOW).1;
        for entry in &left_over {
            assert!(is_left_over(entry, NOW), "{entry:?}");
            assert!(lease_over(entry) && stored_over(entry), "{entry:?}");
        }
        for entry in &held {
            assert!(!is_left_over(entry, NOW), "{entry:?}");
            assert!(!lease_over(entry), "{entry:?}");
            let is_guard = Guard::from_bytes(entry).is_some();
            assert_eq!(stored_over(entry), !is_guard, "{entry:?}");
        }
    }

    #[test]
    fn a_value_is_replaced_by_what_it_has_become_unless_it_has_changed_or_is_being_loaded() {
        let entry = |version, timing| {
            let header = Header {
                timing,
                key: 5,
                ..Header::value(version, STAMP)
            };
            [&header.to_bytes()[..], &[version as u8]].concat()
        };
        let timed = |claim| {
            let until = MILLIS + 9;
            Some(Timing { until, claim })
        };
        let migrate = |there: &[u8], stamp, version, entry: &[u8]| {
            let verb = Verb::Migrate {
                stamp,
                version,
                entry,
            };
            match apply(Some(there), &verb, NOW) {
                (Change::Replace(bytes), true) => Some(bytes),
                (Change::Keep, false) => None,
                other => panic!("{other:?}"),
            }
        };
        let (old, new) = (entry(1, None), entry(3, None));
        let mut renamed = new.clone();
        renamed[18..20].copy_from_slice(&((next_stamp(STAMP) & 0xffff) as u16).to_be_bytes());
        assert_eq!(migrate(&old, STAMP, 1, &new), Some(renamed.clone()));
        // A second run, and runs that are too late.
        assert_eq!(migrate(&renamed, STAMP, 1, &new), None);
        assert_eq!(migrate(&old, STAMP + 1, 1, &new), None);
        assert_eq!(migrate(&old, STAMP, 2, &new), None);
        for other in [
            Header::absence(1, STAMP).to_bytes().to_vec(),
            guard(false, &[(1, 50)]).to_bytes(),
            Name {
                token: 1,
                stamp: STAMP,
            }
            .to_lease()
            .to_vec(),
        ] {
            assert_eq!(migrate(&other, STAMP, 1, &new), None);
        }

        // A timed value keeps its freshness, also one that was extended since, and its pause.
        let new = entry(3, timed(Claim::NONE));
        for (claim, replaced) in [
            (Claim::NONE, true),
            (Claim::new(0, MILLIS, 500), true),
            (Claim::new(7, MILLIS, 500), false),
            (Claim::new(7, MILLIS - 1000, 500), true),
        ] {
            let until = MILLIS + 99;
            let bytes = migrate(&entry(1, Some(Timing { until, claim })), STAMP, 1, &new);
            let becomes = bytes.map(|bytes| (envelope::head(&bytes), bytes[bytes.len() - 1]));
            let expected = Header {
                timing: Some(Timing { until, claim }),
                key: 5,
                ..Header::value(3, next_stamp(STAMP))
            };
            assert_eq!(becomes, replaced.then_some((Head::Known(expected), 3)));
        }
    }

    #[test]
    fn a_newer_entry_gives_way_once_its_stamp_is_old_enough() {
        const WINS: u64 = 60_000;
        let made = NOW - WINS * 1000;
        let header = |kind, version, micros: u64| Header {
            kind,
            version,
            ..Header::value(version, micros << 12 | 7)
        };
        let mut unknown = header(Kind::Value, 1, made - 1).to_bytes();
        unknown[30] = 1;
        let mut later = header(Kind::Value, 1, made - 1).to_bytes();
        later[1] = 2;
        let of = |micros| header(Kind::Value, 3, micros).to_bytes();
        for (entry, wins, lapsed) in [
            (of(made), WINS, false),
            (of(made - 1), WINS, true),
            (of(NOW + 1), WINS, false),
            (of(NOW + 1), 0, true),
            (of(1), u64::MAX, false),
            (unknown, WINS, true),
            (later, 0, false),
            (header(Kind::Guard, 0, 1).to_bytes(), 0, false),
        ] {
            assert_eq!(has_lapsed(&entry, wins, NOW), lapsed, "{entry:?}");
        }
        for (entry, lapsed) in [(of(made), false), (of(made - 1), true), (unknown, true)] {
            let if_absent = Verb::SetIfAbsent(put(2), None, WINS);
            assert_eq!(apply(Some(&entry), &if_absent, NOW).1, lapsed);
            let rejected = Rejected::Any {
                version: 2,
                newer_wins: WINS,
            };
            let lease = Placing::Lease {
                token: 1,
                life: 1000,
                rejected,
            };
            let placed = apply_placing(Some(&entry), &lease, NOW) != Change::Keep;
            assert_eq!(placed, lapsed);
        }
    }

    #[test]
    fn damaged_bytes_in_place_of_an_epoch_are_removed() {
        let mut newer = Header::value(1, 7).to_bytes();
        newer[1] = 2;
        let lease = Name { token: 1, stamp: 7 }.to_lease();
        let live = guard(false, &[(1, MILLIS + 9)]).to_bytes();
        let stays: [&[u8]; 3] = [&newer, &lease, &live];
        let over = guard(false, &[(1, MILLIS)]).to_bytes();
        let value = Header::value(1, 7).to_bytes();
        let soft = Epoch::new(5).softened(9, u64::MAX, MILLIS).to_bytes();
        let goes: [&[u8]; 7] = [
            b"",
            b"hello",
            &over,
            &value,
            &soft,
            b"\x91\xcf",
            &lease[..30],
        ];
        let raise = Verb::Raise(Raise {
            clock: 5,
            over: None,
        });
        for life in [None, Some(9)] {
            let extend = |entry| apply_placing(Some(entry), &Placing::Extend { life }, NOW);
            for entry in stays {
                assert_eq!(extend(entry), Change::Keep, "{entry:?}");
            }
            for entry in goes {
                assert_eq!(extend(entry), Change::Remove, "{entry:?}");
            }
        }
        for entry in goes {
            assert_eq!(apply(Some(entry), &raise, NOW), (Change::Remove, false));
        }
        assert_eq!(apply(Some(&live), &raise, NOW), (Change::Keep, false));
    }
}
