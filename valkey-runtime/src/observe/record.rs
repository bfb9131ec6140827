//! The record of calls on a store: the verbs as an application calls them, with their outcomes.
//!
//! The seam is the place where verbs get their spans ([`crate::observe::trace`]).

use crate::base::lock::lock;
use crate::core::records::{Call, Outcome};
use crate::core::records::{Log, Records};
use std::fmt;
use std::sync::Arc;

use crate::base::error::Result;
use crate::base::error::printable;
use crate::core::entry::Source;
use crate::core::inner::view;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::SPACE;
use crate::observe::answer::{About, Ending, Told};

/// The most calls that a record holds.
const MOST: usize = 100_000;

impl Store {
    /// Records the verbs that are called on this store, or on a clone of it, from now on.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// let record = store.record();
    /// User { id: 42 }.set(&store).await?;
    /// User::get(&store, 42).await?;
    /// User::get(&store, 7).await?;
    /// assert_eq!(record.take(), ["set user:42: stored", "get user:42: hit", "get user:7: miss"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn record(&self) -> Record {
        let inner = self.inner();
        let log = Arc::new(Log::default());
        inner.records.add(log.clone());
        Record {
            records: inner.records.clone(),
            log,
        }
    }
}

/// A record of the calls on a store, from [`Store::record`]. It ends when this is dropped.
///
/// It contains the verbs as they are called, and not the commands that are sent for them. Commands
/// depend on the release and on the backend;
/// [`TestServer::command_counts`](crate::testing::server::TestServer::command_counts) counts them.
/// A verb is added when it has ended, so the order is that of their ends. A verb whose future was
/// dropped is not added. The variants of a verb have its name: `get_or_load_with` is a
/// `get_or_load`. A look-up by alias is recorded for the alias, and then for the value. The items
/// of a batch are one call each, and so is each page of a scan.
#[must_use = "it ends when it is dropped"]
pub struct Record {
    records: Arc<Records>,
    log: Arc<Log>,
}

impl Record {
    /// Returns the calls that have ended since the record began, or since this was last called.
    ///
    /// # Panics
    /// If there were more than 100,000 calls, which is what a record holds.
    #[track_caller]
    pub fn take(&self) -> Vec<Call> {
        let calls = std::mem::take(&mut *lock(&self.log));
        assert!(calls.len() <= MOST, "more calls than a record holds");
        calls
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.records.remove(&self.log);
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&*lock(&self.log)).finish()
    }
}

/// A call that has not ended.
pub(crate) struct Pending {
    records: Arc<Records>,
    call: Call,
}

impl Pending {
    /// A call, if it is to be recorded.
    pub(crate) fn new(
        records: &Arc<Records>,
        namespace: &str,
        verb: &'static str,
        of: Option<&str>,
        about: About<'_>,
    ) -> Option<Self> {
        let keys = match about {
            // Its items are recorded.
            About::Items(_) => return None,
            _ if !records.any() => return None,
            About::Key(key) => vec![shown(key, namespace)],
            About::Keys(keys) => keys.iter().map(|key| shown(key, namespace)).collect(),
            About::Places(places) => {
                let keys = places.iter().map(|place| shown(&place.key, namespace));
                keys.collect()
            }
            About::All => Vec::new(),
        };
        let (of, outcome) = (of.map(str::to_owned), Outcome::Done);
        let call = Call {
            verb,
            of,
            keys,
            outcome,
        };
        let records = records.clone();
        Some(Self { records, call })
    }

    pub(crate) fn end(mut self, ending: Ending) {
        self.call.outcome = Outcome::of(self.call.verb, ending);
        for log in &*lock(&self.records.logs) {
            let mut log = lock(log);
            // One call above the limit shows that there were more.
            if log.len() <= MOST {
                log.push(self.call.clone());
            }
        }
    }
}

impl Outcome {
    pub(crate) fn of(verb: &str, ending: Ending) -> Self {
        if let Some(why) = ending.failure {
            return Outcome::Failed(why);
        }
        match (ending.told, verb) {
            (Told::From(Some(Source::Cached)), _) => Outcome::Hit,
            (Told::From(Some(Source::Loaded)), _) => Outcome::Loaded,
            (Told::From(Some(Source::Coalesced)), _) => Outcome::Coalesced,
            (Told::From(Some(Source::Stale)), _) => Outcome::Stale,
            (Told::From(None), _) => Outcome::Nothing,
            (Told::Yes(true), "get" | "get_entry") => Outcome::Hit,
            (Told::Yes(false), "get" | "get_entry") => Outcome::Miss,
            (Told::Yes(_), "invalidate_tag" | "reset") => Outcome::Done,
            (Told::Yes(true), "check" | "check_all" | "peek") => Outcome::Allowed,
            (Told::Yes(false), "check" | "check_all" | "peek") => Outcome::Refused,
            (Told::Yes(true), "set" | "modify") => Outcome::Stored,
            (Told::Yes(false), "set") => Outcome::NotStored,
            (Told::Yes(true), _) => Outcome::There,
            (Told::Yes(false), _) => Outcome::NotThere,
            (Told::Count(count), _) => Outcome::Count(count),
            (Told::Nothing, "update" | "write_through") => Outcome::Written,
            (Told::Nothing, "set_many") => Outcome::Stored,
            (Told::Nothing, _) => Outcome::Done,
        }
    }
}

view! {
    /// Records the items of a batch.
    Recorder
}

impl<'a> Recorder<'a> {
    /// Records a verb that is an item of a batch.
    pub(crate) fn note(
        self,
        verb: &'static str,
        of: Option<&Type>,
        key: &[u8],
        result: &Result<bool>,
    ) {
        let (of, about) = (of.map(Type::name), About::Key(key));
        if let Some(call) = Pending::new(&self.records, &self.namespace, verb, of, about) {
            call.end(Ending::of(result));
        }
    }
}

/// A key without the namespace; for an epoch, only its tag.
fn shown(key: &[u8], namespace: &str) -> String {
    let own = key.strip_prefix(namespace.as_bytes()).unwrap_or(key);
    let tag = own.strip_prefix(SPACE.as_bytes());
    let tag = tag.map(|tag| tag.strip_prefix(b"tag:").unwrap_or(tag));
    printable(tag.unwrap_or(own))
}
