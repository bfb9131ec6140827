//! Changing a value that was read: a conditional write, and the reads and attempts around it.
//!
//! The value is read from the server, and never from a near copy. The caller's closure turns it
//! into another one. A [`Swap`] stores that, if what was read is still there; else all of it begins
//! again. [`Course`] decides. What can't be read here and is not of this caller's making (a newer
//! entry, an older one that can't be migrated, an encrypted one without its key) is an error, and
//! is not replaced.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::base::counters::Count;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::runtime;
use crate::base::ttl::Ttl;
use crate::core::inner::{Inner, view};
use crate::core::key_turns::Turn;
use crate::core::modify_options::{Life, ModifyOptions};
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::envelope::{self, Head, Header, Kind, Standing, seal};
use crate::protocol::found::Found;
use crate::protocol::modify::{Answer, Course, Next, stamp_after};
use crate::protocol::transition::{Becomes, Put, Read, Swap, Verb, has_lapsed, is_left_over};
use crate::value::codec::Refusal;
use crate::verbs::corrupt::CorruptEntries;
use crate::verbs::lifetimes::Lifetimes;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::raw::Raw;
use crate::verbs::read::Reader;
use crate::verbs::tags::fill::{Bid, TagAdmission};
use crate::verbs::tags::read::TagReader;
use crate::verbs::{Sealed, Seen, ttl_left};

const OPERATION: &str = "modify";
/// The first pause between two attempts, at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// In place of an end that no clock reaches.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The end of a change that is not made, or perhaps not.
pub(crate) enum Stop {
    Store(Error),
    Contended(Error),
    Unknown(Error),
}

/// A change that is under way.
pub(crate) struct Modifying<'m> {
    inner: &'m Inner,
    of: &'m Arc<Type>,
    place: &'m Place,
    options: ModifyOptions,
    until: Instant,
    /// Reads of the key.
    attempts: u32,
    /// The tag clock before the last read.
    clock: Option<u64>,
    _turn: Turn<'m>,
}

/// The content of the key that was read.
pub(crate) struct Sight {
    /// The value, undecoded.
    pub(crate) value: Option<Raw>,
    read: Read,
    /// The remaining life of the value.
    left: Option<Ttl>,
}

/// The change.
pub(crate) enum Outcome {
    Stored(Sealed),
    Removed,
}

view! {
    /// Begins changes.
    Modifier
}

impl<'m> Modifier<'m> {
    /// Waits for the turn of this process's callers at the key.
    pub(crate) async fn begin(
        self,
        place: &'m Place,
        options: ModifyOptions,
        of: &'m Arc<Type>,
    ) -> Result<Modifying<'m>, Stop> {
        let key = &*place.key;
        let fail = |error| Stop::Store(of.failed_at(OPERATION, key, error));
        Lifetimes(self.0).ttl_override(of.meta()).map_err(fail)?;
        if !self.is_enabled() {
            let off =
                "the store is switched off (`Store::set_enabled`), so nothing is read or changed";
            return Err(fail(Error::new(ErrorKind::Disabled, off)));
        }
        let now = Instant::now();
        let until = now.checked_add(options.within).unwrap_or(now + A_YEAR);
        let Some(turn) = of.modifying.enter(key, until).await else {
            let error = contended(
                "other callers of this process are changing the value",
                0,
                options,
            );
            return Err(Stop::Contended(of.failed_at(OPERATION, key, error)));
        };
        Ok(Modifying {
            inner: self.0,
            of,
            place,
            options,
            until,
            attempts: 0,
            clock: None,
            _turn: turn,
        })
    }
}

impl Modifying<'_> {
    /// Reads the value.
    pub(crate) async fn look(&mut self) -> Result<Sight, Stop> {
        loop {
            self.attempts += 1;
            let (found, left) = self.found().await.map_err(|error| self.failed(error))?;
            match self.sight(found, left).await? {
                Some(sight) => return Ok(sight),
                None => self.pause("a write holds a guard at the key").await?,
            }
        }
    }

    async fn found(&mut self) -> Result<(Found, Option<Ttl>)> {
        let (inner, place, meta) = (self.inner, self.place, self.of.meta());
        if meta.tagged {
            // Before the read: what is made of the value is as old as that.
            self.clock = Some(Box::pin(inner.gateway.clock()).await?);
        }
        if self.options.life != Life::Kept {
            return Ok((TagReader(inner).read(place, meta).await?, None));
        }
        let (found, left) = inner.gateway.get_and_ttl(&place.key).await?;
        let found = TagReader(inner).checked(found, &place.epochs, meta).await?;
        Ok((found, Some(ttl_left(left))))
    }

    /// The meaning of an answer; `None` if nothing can be changed for now.
    async fn sight(&self, found: Found, left: Option<Ttl>) -> Result<Option<Sight>, Stop> {
        let (inner, meta) = (self.inner, self.of.meta());
        // Where the store has the only copy, nothing that can't be read is replaced.
        let there = OnlyCopies(inner).is_nothing(&found, meta);
        there.map_err(|error| self.failed(error))?;
        let bytes = match found {
            Found::Nothing => return Ok(Some(self.nothing(None))),
            Found::Outdated(stamp) => return Ok(Some(self.nothing(Some(stamp)))),
            // Its deletion is undelivered.
            Found::Withheld => return Ok(None),
            Found::Foreign => {
                let error = Error::new(ErrorKind::Server, "the key does not hold a string");
                return Err(self.failed(error));
            }
            Found::Misplaced(bytes) => {
                let why = seal::MISPLACED;
                return self.corrupt(Some(&bytes), why.into()).await.map(Some);
            }
            Found::Entry(bytes) => bytes,
        };
        let (head, now) = (envelope::head(&bytes), inner.gateway.now_micros());
        let standing = envelope::standing(head, meta.versions, meta.shape, || now / 1000);
        match (standing, head) {
            (
                Standing::Protected,
                Head::Known(Header {
                    kind: Kind::Guard, ..
                }),
            ) => return Ok(is_left_over(&bytes, now).then(|| self.nothing(None))),
            (Standing::Protected, _) => {
                return match has_lapsed(&bytes, inner.newer_wins, now) {
                    true => Ok(Some(self.nothing(None))),
                    false => Err(self.failed(Error::new(ErrorKind::Unavailable, NEWER))),
                };
            }
            _ => {}
        }
        let found = Found::Entry(bytes.clone());
        match Reader(inner).seen(OPERATION, &self.place.key, found, self.of) {
            Seen::Value(raw) => Ok(Some(Sight {
                read: Read::Value(stamp_there(&bytes, &raw)),
                left: raw
                    .header
                    .timing
                    .map(|timing| timing.left(now / 1000))
                    .or(left),
                value: Some(raw),
            })),
            Seen::Corrupt(bytes, why) => self.corrupt(bytes.as_deref(), why.into()).await.map(Some),
            Seen::Unreadable(error) => Err(self.failed(error)),
            Seen::Nothing if standing == Standing::Own => {
                Err(self.failed(Error::new(ErrorKind::Corrupt, UNREADABLE)))
            }
            // Its tags may have made it stale, which the server does not know.
            Seen::Nothing => Ok(Some(self.nothing(envelope::stamp(&bytes)))),
        }
    }

    /// There is no value to this caller. An entry with the stamp is none, too.
    fn nothing(&self, rejected: Option<u64>) -> Sight {
        let newer_wins = match self.of.meta().policy.only_copy {
            true => u64::MAX,
            false => self.inner.newer_wins,
        };
        Sight {
            value: None,
            read: Read::Nothing {
                rejected,
                newer_wins,
            },
            left: None,
        }
    }

    /// Treats a corrupt or invalid entry as its type demands. If it is no error, it is no value.
    pub(crate) async fn corrupt(&self, bytes: Option<&[u8]>, why: Refusal) -> Result<Sight, Stop> {
        let treated = CorruptEntries(self.inner);
        let treated = treated.corrupt(OPERATION, &self.place.key, bytes, why, self.of);
        Box::pin(treated).await.map_err(Stop::Store)?;
        Ok(self.nothing(bytes.and_then(envelope::stamp)))
    }

    /// The stamp of the value that replaces what was read.
    pub(crate) fn stamp(&self, sight: &Sight) -> u64 {
        let read = match sight.read {
            Read::Value(stamp) => Some(stamp),
            Read::Nothing { rejected, .. } => rejected,
        };
        stamp_after(read, self.inner.stamp(), self.inner.random.next_u64())
    }

    /// The TTL of the call for that value; `None` for the type's.
    pub(crate) fn ttl(&self, sight: &Sight) -> Option<Ttl> {
        match self.options.life {
            Life::Renewed(ttl) => ttl,
            Life::Kept => sight.left,
        }
    }

    /// Makes the change, if what was read is still there. False if it is not: then look again.
    pub(crate) async fn make(&mut self, sight: &Sight, outcome: Outcome) -> Result<bool, Stop> {
        let meta = self.of.meta();
        let (bytes, ttl, becomes) = match outcome {
            Outcome::Stored(mut sealed) => {
                if !self.admits(&mut sealed).await {
                    self.pause("the tags of the value are invalidated").await?;
                    return Ok(false);
                }
                let becomes = self.becomes(sight, sealed.header);
                (sealed.bytes, sealed.ttl, becomes)
            }
            Outcome::Removed => {
                let header = meta.header(&self.place.key, self.stamp(sight));
                (header.to_bytes().to_vec(), None, Becomes::Removed)
            }
        };
        let put = Put {
            versions: meta.versions,
            bytes: &bytes,
            ttl,
        };
        let mut course = Course::default();
        loop {
            let swap = Swap {
                read: sight.read,
                put,
                becomes,
                again: course.may_be_done(),
            };
            let verb = Verb::Swap(swap);
            let answer = self.inner.gateway.apply(&self.place.key, &verb).await;
            let (next, error) = match answer {
                Ok(true) => (course.after(Answer::Yes), None),
                Ok(false) => (course.after(Answer::No), None),
                Err(error) if may_have_run(&error) => (course.after(Answer::Lost), Some(error)),
                Err(error) => (course.after(Answer::Failed), Some(error)),
            };
            match next {
                Next::Done => {
                    let size = put.bytes.len();
                    if becomes != Becomes::Removed {
                        self.of.counters().add(Count::WrittenBytes, size);
                    }
                    return Ok(true);
                }
                Next::Again => {
                    self.pause("other callers changed the value").await?;
                    return Ok(false);
                }
                Next::Repeat => self.rest(LONGEST_PAUSE).await,
                Next::Failed => return Err(self.failed(error.unwrap_or_else(lost))),
                Next::Unknown => {
                    let error = error.unwrap_or_else(lost).context(UNKNOWN);
                    return Err(Stop::Unknown(self.told(error)));
                }
            }
        }
    }

    /// Whether the tags of the new value admit it: none was invalidated since the value was read.
    async fn admits(&self, sealed: &mut Sealed) -> bool {
        let Some(clock) = self.clock else {
            return true;
        };
        envelope::stamp_clock(&mut sealed.bytes, sealed.header, clock);
        let bid = Bid {
            epochs: &sealed.epochs,
            clock: Some(clock),
            life: sealed.ttl,
        };
        Box::pin(TagAdmission(self.inner).admits(bid)).await
    }

    /// The server keeps the remaining life itself, if both values are timed or neither is: it may
    /// have been extended since the read.
    fn becomes(&self, sight: &Sight, header: Header) -> Becomes {
        let alike = |raw: &Raw| raw.header.timing.is_some() == header.timing.is_some();
        match self.options.life {
            Life::Kept if sight.value.as_ref().is_some_and(alike) => Becomes::StoredForTheRest,
            _ => Becomes::Stored,
        }
    }

    /// Lets others finish before the next attempt, if there is one.
    async fn pause(&self, why: &str) -> Result<(), Stop> {
        if self.attempts >= self.options.attempts || Instant::now() >= self.until {
            let error = contended(why, self.attempts, self.options);
            return Err(Stop::Contended(self.told(error)));
        }
        // The first attempt needs no pause, and neither does the second.
        if self.attempts > 1 {
            let doubled = FIRST_PAUSE * (1 << (self.attempts - 2).min(5));
            self.rest(doubled.min(LONGEST_PAUSE)).await;
        }
        Ok(())
    }

    /// Rests for a random time up to this, and not beyond the end.
    async fn rest(&self, most: Duration) {
        if !runtime::has_timers() {
            return tokio::task::yield_now().await;
        }
        let micros = self.inner.random.next_u64() % (most.as_micros() as u64 + 1);
        let rested = Instant::now() + Duration::from_micros(micros);
        tokio::time::sleep_until(rested.min(self.until)).await;
    }

    pub(crate) fn failed(&self, error: Error) -> Stop {
        Stop::Store(self.told(error))
    }

    fn told(&self, error: Error) -> Error {
        self.of.failed_at(OPERATION, &self.place.key, error)
    }
}

const NEWER: &str = "the entry is of a newer release or a newer version of its type, and this release neither reads nor replaces it \
                     while it is young (`Builder::newer_wins_for`); nothing was changed";
const UNREADABLE: &str = "the entry can't be read here: its older version could not be migrated, or its encryption is not that of \
                          this store (the log has the reason); nothing was changed";
const UNKNOWN: &str = "it is unknown whether the change was made: its answer was lost, and the entry does not show it (read the \
                       value before trying again)";

fn lost() -> Error {
    let why = "another caller has changed or deleted the value since";
    Error::new(ErrorKind::Timeout, why)
}

fn contended(why: &str, attempts: u32, options: ModifyOptions) -> Error {
    let within = options.within;
    let text = format!(
        "{why}: {attempts} attempts within {within:?}, and nothing was changed; try again later, or allow more \
         (`ModifyOptions::within`, `ModifyOptions::attempts`)"
    );
    Error::new(ErrorKind::Unavailable, text)
}

/// Whether a command with this error may have been carried out, or may be still.
fn may_have_run(error: &Error) -> bool {
    let lost = matches!(
        error.kind(),
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Unavailable
    );
    lost && !error.is_refused()
}

/// The stamp of the entry in the store, of which the value may have been converted.
fn stamp_there(bytes: &Bytes, raw: &Raw) -> u64 {
    envelope::stamp(bytes).unwrap_or(raw.header.stamp)
}
