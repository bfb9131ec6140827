//! The logs of a store's calls, for tests.

use crate::base::lock::lock;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) type Log = Mutex<Vec<Call>>;

/// The records of a store.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) logs: Mutex<Vec<Arc<Log>>>,
    /// The number of logs, readable without the lock.
    pub(crate) count: AtomicUsize,
}

impl Records {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn add(&self, log: Arc<Log>) {
        let mut logs = lock(&self.logs);
        logs.push(log);
        self.count.store(logs.len(), Ordering::SeqCst);
    }

    pub(crate) fn remove(&self, log: &Arc<Log>) {
        let mut logs = lock(&self.logs);
        logs.retain(|other| !Arc::ptr_eq(other, log));
        self.count.store(logs.len(), Ordering::SeqCst);
    }
}

/// A call of a verb. It is equal to its text: `get_or_load user:42: loaded`.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    pub(crate) verb: &'static str,
    pub(crate) of: Option<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) outcome: Outcome,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// There was a value: `hit`.
    Hit,
    /// There was no value: `miss`.
    Miss,
    /// This call loaded the value: `loaded`.
    Loaded,
    /// Another call loaded the value while this one waited: `joined`.
    Coalesced,
    /// A stale value was returned: `stale`.
    Stale,
    /// No such value exists, in the store or for the loader: `nothing`.
    Nothing,
    /// The value was stored: `stored`.
    Stored,
    /// The condition of a `set` did not hold: `not stored`.
    NotStored,
    /// A rate limit allowed the request: `allowed`.
    Allowed,
    /// A rate limit refused the request: `refused`.
    Refused,
    /// A value exists, or was deleted: `there`.
    There,
    /// No value exists, or none was deleted: `not there`.
    NotThere,
    /// The row was written: `written`.
    Written,
    /// The number that was found, deleted or counted: `3`.
    Count(u64),
    /// The call succeeded, without another outcome: `done`.
    Done,
    /// The call failed with this kind of error, or with an application error of this type:
    /// `failed: timeout`.
    Failed(&'static str),
}

impl Call {
    /// Returns the verb's name.
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// Returns the prefix of the call's type; for an alias, also the field.
    pub fn type_name(&self) -> Option<&str> {
        self.of.as_deref()
    }

    /// Returns the keys of the call, without the store's namespace; for an invalidation, the tags.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Returns the outcome of the call.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl fmt::Display for Call {
    /// `get user:42: hit`, `del_many user:1 user:2: 2`, `count user: 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb)?;
        match (&*self.keys, &self.of) {
            ([], Some(of)) => write!(f, " {of}")?,
            (keys, _) => keys.iter().try_for_each(|key| write!(f, " {key}"))?,
        }
        write!(f, ": {}", self.outcome)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl PartialEq<str> for Call {
    fn eq(&self, text: &str) -> bool {
        self.to_string().as_str() == text
    }
}

impl PartialEq<&str> for Call {
    fn eq(&self, text: &&str) -> bool {
        self == *text
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Hit => "hit",
            Outcome::Miss => "miss",
            Outcome::Loaded => "loaded",
            Outcome::Coalesced => "coalesced",
            Outcome::Stale => "stale",
            Outcome::Nothing => "nothing",
            Outcome::Stored => "stored",
            Outcome::NotStored => "not stored",
            Outcome::Allowed => "allowed",
            Outcome::Refused => "refused",
            Outcome::There => "there",
            Outcome::NotThere => "not there",
            Outcome::Written => "written",
            Outcome::Done => "done",
            Outcome::Count(count) => return count.fmt(f),
            Outcome::Failed(why) => return write!(f, "failed: {why}"),
        })
    }
}
