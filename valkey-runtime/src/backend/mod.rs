//! The places where entries are stored: a server, or this process. Both make the same transitions.
//!
//! A backend works on bytes: it knows keys, entries and times to live, and no types. Its errors
//! name no operation and no key; the store adds them.

pub(crate) mod connecting;
pub(crate) mod delivery;
pub(crate) mod seams;
pub(crate) mod sending;
pub(crate) mod tag_clock;
pub(crate) mod withheld;
use crate::backend::write::Write;
pub(crate) mod target;
pub(crate) mod write;
use crate::protocol::found::Found;
pub(crate) mod buffer;
pub(crate) mod cluster;
pub(crate) mod failure;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod faults;
pub(crate) mod following;
pub(crate) mod gateway;
pub(crate) mod hub;
pub(crate) mod invalidations;
pub(crate) mod keeping;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod marks;
pub(crate) mod memory;
pub(crate) mod near;
pub(crate) mod question;
pub(crate) mod rights;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod slots;
pub(crate) mod time;
pub(crate) mod tls;
pub(crate) mod topology;
pub(crate) mod tracked;
pub(crate) mod tracker;
#[cfg(feature = "tls")]
pub(crate) mod trust;
pub(crate) mod wire;

use std::sync::Arc;
use std::time::Duration;

use crate::backend::keeping::Keeping;
use crate::backend::keys::Keys;
use crate::backend::memory::Memory;
use crate::backend::question::Question;
use crate::backend::server::Server;
use crate::backend::tracker::Interest;
pub(crate) use crate::protocol::breaker::BreakerState;
use crate::protocol::breaker::pause;
use crate::protocol::scope::Scope;

use crate::backend::buffer::Buffer;
use crate::backend::hub::Hub;
use crate::base::error::Error;
use crate::protocol::envelope::HEAD;
use crate::protocol::transition::{Placing, Tick, Verb};

#[derive(Debug)]
pub(crate) enum Backend {
    Memory(Memory),
    Server(Server),
}

impl Backend {
    pub(crate) async fn get(&self, key: &[u8]) -> Result<Found, Error> {
        match self {
            Backend::Memory(memory) => Ok(in_process(|| memory.get(key)).await),
            Backend::Server(server) => server.get(key).await,
        }
    }

    /// Reads a key and a few others. An entry of a foreign type counts as nothing.
    pub(crate) async fn get_with(
        &self,
        key: &[u8],
        others: &[Vec<u8>],
    ) -> Result<(Found, Vec<Found>), Error> {
        match self {
            Backend::Memory(memory) => {
                let read = || others.iter().map(|key| memory.get(key)).collect();
                Ok(in_process(|| (memory.get(key), read())).await)
            }
            Backend::Server(server) => server.get_with(key, others).await,
        }
    }

    /// Reads the keys, in order. An entry of a foreign type counts as nothing, because the server's
    /// bulk read does not distinguish it.
    pub(crate) async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Found>, Error> {
        match self {
            Backend::Memory(memory) => {
                Ok(in_process(|| keys.iter().map(|key| memory.get(key)).collect()).await)
            }
            Backend::Server(server) => server.get_many(keys).await,
        }
    }

    /// Reads the first [`HEAD`] bytes.
    pub(crate) async fn head(&self, key: &[u8]) -> Result<Found, Error> {
        match self {
            Backend::Memory(memory) => Ok(head_of(memory.get(key))),
            Backend::Server(server) => server.head(key).await,
        }
    }

    /// Reads the first [`HEAD`] bytes of each entry, in the order of the keys.
    pub(crate) async fn heads(&self, keys: &[Vec<u8>]) -> Result<Vec<Found>, Error> {
        match self {
            Backend::Memory(memory) => {
                Ok(keys.iter().map(|key| head_of(memory.get(key))).collect())
            }
            Backend::Server(server) => server.heads(keys).await,
        }
    }

    /// Scans the keys in this scope. Each page examines about `page` keys.
    pub(crate) fn keys(&self, scope: Scope, page: usize) -> Keys<'_> {
        let source = match self {
            Backend::Memory(memory) => keys::Source::Memory(memory.keys()),
            Backend::Server(server) => keys::Source::Server(Box::new(server.keys(&scope))),
        };
        Keys::new(scope, page, source)
    }

    /// Reads the entry and its remaining milliseconds to live (none for no expiry).
    pub(crate) async fn get_and_ttl(&self, key: &[u8]) -> Result<(Found, Option<u64>), Error> {
        match self {
            Backend::Memory(memory) => Ok(memory.get_and_ttl(key)),
            Backend::Server(server) => server.get_and_ttl(key).await,
        }
    }

    /// Reads the first [`HEAD`] bytes and the remaining milliseconds to live (none for no expiry).
    pub(crate) async fn head_and_ttl(&self, key: &[u8]) -> Result<(Found, Option<u64>), Error> {
        match self {
            Backend::Memory(memory) => {
                let (found, ttl) = memory.get_and_ttl(key);
                Ok((head_of(found), ttl))
            }
            Backend::Server(server) => server.head_and_ttl(key).await,
        }
    }

    pub(crate) async fn set(
        &self,
        key: &[u8],
        bytes: Vec<u8>,
        ttl: Option<u64>,
    ) -> Result<(), Error> {
        match self {
            Backend::Memory(memory) => memory.set(key, bytes.into(), ttl),
            Backend::Server(server) => {
                let answer = server.set(key, &bytes, ttl).await;
                server.hub().wrote(key);
                answer
            }
        }
    }

    pub(crate) async fn apply(&self, key: &[u8], verb: &Verb<'_>) -> Result<bool, Error> {
        match self {
            Backend::Memory(memory) => in_process(|| memory.apply(key, verb)).await,
            Backend::Server(server) => {
                let answer = server.apply(key, verb).await;
                server.hub().wrote(key);
                answer
            }
        }
    }

    /// Returns the entry as the verb leaves it.
    pub(crate) async fn place(&self, key: &[u8], verb: &Placing) -> Result<Found, Error> {
        match self {
            Backend::Memory(memory) => in_process(|| memory.place(key, verb)).await,
            Backend::Server(server) => {
                let answer = server.place(key, verb).await;
                server.hub().wrote(key);
                answer
            }
        }
    }

    /// Performs the tick on a namespace's tag clock and returns the clock. Creates a missing clock.
    pub(crate) async fn clock(&self, key: &[u8], tick: Tick) -> Result<u64, Error> {
        match self {
            Backend::Memory(memory) => in_process(|| memory.clock(key, tick)).await,
            Backend::Server(server) => server.clock(key, tick).await,
        }
    }

    /// Performs one write on each key, and returns one answer a key, in order. Writes to a key that
    /// occurs twice run in order. An outer error means that no outcome is known.
    pub(crate) async fn write_each(
        &self,
        keys: &[&[u8]],
        writes: &[Write<'_>],
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        match self {
            Backend::Memory(memory) => {
                let written = || {
                    let items = keys.iter().zip(writes);
                    items.map(|(key, write)| memory.write(key, write)).collect()
                };
                Ok(in_process(written).await)
            }
            Backend::Server(server) => {
                let answers = server.write_each(keys, writes).await;
                keys.iter().for_each(|key| server.hub().wrote(key));
                answers
            }
        }
    }

    /// Like [`place`](Self::place), with one verb for each key.
    pub(crate) async fn place_many(
        &self,
        keys: &[&[u8]],
        verbs: &[Placing],
    ) -> Result<Vec<Result<Found, Error>>, Error> {
        match self {
            Backend::Memory(memory) => {
                let placed = || {
                    let items = keys.iter().zip(verbs);
                    items.map(|(key, verb)| memory.place(key, verb)).collect()
                };
                Ok(in_process(placed).await)
            }
            Backend::Server(server) => {
                let answers = server.place_many(keys, verbs).await;
                keys.iter().for_each(|key| server.hub().wrote(key));
                answers
            }
        }
    }

    /// Decides a question about the state at a key.
    pub(crate) async fn decide<Q: Question>(
        &self,
        key: &[u8],
        question: &Q,
    ) -> Result<Q::Answer, Error> {
        match self {
            Backend::Memory(memory) => in_process(|| memory.decide(key, question)).await,
            Backend::Server(server) => server.decide(key, question).await,
        }
    }

    /// Decides one question for each key, in one round trip. Those for a key that occurs twice are
    /// decided in order.
    pub(crate) async fn decide_each<Q: Question>(
        &self,
        keys: &[&[u8]],
        questions: &[Q],
    ) -> Result<Vec<Result<Q::Answer, Error>>, Error> {
        match self {
            Backend::Memory(memory) => {
                let decided = || {
                    let items = keys.iter().zip(questions);
                    items.map(|(key, one)| memory.decide(key, one)).collect()
                };
                Ok(in_process(decided).await)
            }
            Backend::Server(server) => server.decide_each(keys, questions).await,
        }
    }

    /// The server's time by the present estimate, in microseconds since the Unix epoch.
    pub(crate) fn now_micros(&self) -> u64 {
        match self {
            Backend::Memory(memory) => memory.now_micros(),
            Backend::Server(server) => server.time().now_micros(),
        }
    }

    /// The time by this process's clock, in microseconds.
    pub(crate) fn clock_micros(&self) -> u64 {
        match self {
            Backend::Memory(memory) => memory.now_micros(),
            Backend::Server(server) => server.time().sent(),
        }
    }

    /// Whether a moment of this process's clock has not come yet.
    #[inline]
    pub(crate) fn is_before(&self, moment: u64) -> bool {
        match self {
            Backend::Memory(memory) => memory.is_before(moment),
            Backend::Server(server) => server.time().is_before(moment),
        }
    }

    /// The server's time at a moment of this process's clock, by the present estimate.
    pub(crate) fn server_micros(&self, clock_micros: u64) -> u64 {
        match self {
            Backend::Memory(_) => clock_micros,
            Backend::Server(server) => server.time().at(clock_micros),
        }
    }

    /// Checks that the server answers.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        match self {
            Backend::Memory(_) => Ok(()),
            Backend::Server(server) => server.ping().await,
        }
    }

    /// Host and port, or a path.
    pub(crate) fn location(&self) -> &str {
        match self {
            Backend::Memory(_) => "this process",
            Backend::Server(server) => server.address(),
        }
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        match self {
            Backend::Memory(_) => BreakerState::Closed,
            Backend::Server(server) => server.breaker(),
        }
    }

    /// A subscriber that receives all changes from now on. The changes keep coming as long as the
    /// `Interest` is kept.
    pub(crate) async fn subscribe(&self) -> Result<(Arc<Buffer>, Option<Interest>), Error> {
        match self {
            Backend::Memory(memory) => Ok((memory.hub().subscribe(), None)),
            Backend::Server(server) => {
                let (buffer, interest) = server.subscribe().await?;
                Ok((buffer, Some(interest)))
            }
        }
    }

    /// Begins to mark all changes, for a near cache, and does not wait until all are reported.
    /// `None` for the in-process store, which reports them anyway.
    pub(crate) fn follow(&self) -> Result<Option<Interest>, Error> {
        // From here on, changes are marked.
        self.hub().marks();
        match self {
            Backend::Memory(_) => Ok(None),
            Backend::Server(server) => server.follow().map(Some),
        }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        match self {
            Backend::Memory(memory) => memory.hub(),
            Backend::Server(server) => server.hub(),
        }
    }

    /// The size of the largest entry that the server accepts, if known.
    pub(crate) fn largest(&self) -> Option<u64> {
        match self {
            Backend::Memory(_) => None,
            Backend::Server(server) => server.largest(),
        }
    }

    /// How each primary keeps its entries, as far as it says; nothing for the in-process store.
    pub(crate) async fn keeping(&self) -> Result<Vec<(String, Keeping)>, Error> {
        match self {
            Backend::Memory(_) => Ok(Vec::new()),
            Backend::Server(server) => server.keeping().await,
        }
    }

    /// Ends all requests to a server, and all notifications.
    pub(crate) fn close(&self) {
        match self {
            Backend::Memory(memory) => memory.hub().end(),
            Backend::Server(server) => server.close(),
        }
    }

    /// The longest time of an operation, unless it ends at once.
    pub(crate) fn operation_timeout(&self) -> Option<Duration> {
        match self {
            Backend::Memory(_) => None,
            Backend::Server(server) => Some(server.operation_timeout()),
        }
    }

    /// Returns once the breaker admits commands, or the store is closed for good. The future keeps
    /// nothing alive.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let closed = match self {
            Backend::Memory(_) => None,
            Backend::Server(server) => Some(server.closed()),
        };
        async move {
            if let Some(closed) = closed {
                closed.await;
            }
        }
    }
}

/// Answers at once, as the in-process store does. Under the scheduler of a test, other tasks may
/// run before and after the answer, as they would during a round trip.
async fn in_process<T>(answer: impl FnOnce() -> T) -> T {
    #[cfg(test)]
    crate::model::schedule::point().await;
    let answer = answer();
    #[cfg(test)]
    crate::model::schedule::point().await;
    answer
}

fn head_of(found: Found) -> Found {
    match found {
        Found::Entry(bytes) => Found::Entry(bytes.slice(..bytes.len().min(HEAD))),
        other => other,
    }
}
