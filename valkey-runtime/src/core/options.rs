//! The options of a single call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::ttl::Ttl;
use crate::core::entry::Stamp;
use crate::key::tag::Tag;

/// Options of a `set`: its TTL and its condition.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::{SetOptions, Ttl};
///
/// let first_only = SetOptions::new().if_absent().ttl(Duration::from_secs(30));
/// let for_ever = SetOptions::new().ttl(Ttl::Never);
/// # let _ = (first_only, for_ever);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct SetOptions {
    pub(crate) ttl: Option<Ttl>,
    pub(crate) condition: Condition,
}

impl SetOptions {
    /// The type's TTL, and no condition.
    pub const fn new() -> Self {
        Self {
            ttl: None,
            condition: Condition::Always,
        }
    }

    /// Sets the TTL of this call.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Stores only if a `get` would return no value. (For a type with `only_copy`, only if no value
    /// is there, readable or not.) An entry of a newer version counts as a value
    /// here: it is not overwritten, as long as it [wins](crate::Builder::newer_wins_for). So does
    /// an older entry from which the type migrates.
    pub const fn if_absent(mut self) -> Self {
        self.condition = Condition::IfAbsent;
        self
    }

    /// Stores only if a `get` would return a value.
    pub const fn if_present(mut self) -> Self {
        self.condition = Condition::IfPresent;
        self
    }

    /// Stores only if the value under the key is still this one: an [`Entry`](crate::Entry) that
    /// was read, or its [`stamp`](crate::Entry::stamp). Any other `set` in between, any load and
    /// any deletion makes the condition false. A [`touch`](crate::Cached::touch) does not.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, SetOptions, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct Draft { #[cached(key)] id: u64, text: String }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// # Draft { id: 1, text: "one".into() }.set(&store).await?;
    /// let read = store.of::<Draft>().get_entry(1).await?.unwrap();
    /// let unchanged = SetOptions::new().if_unchanged(&read);
    /// assert!(Draft { id: 1, text: "two".into() }.set_with(&store, unchanged).await?);
    /// assert!(!Draft { id: 1, text: "three".into() }.set_with(&store, unchanged).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_unchanged(mut self, read: impl Into<Stamp>) -> Self {
        self.condition = Condition::IfUnchanged(read.into());
        self
    }
}

/// The condition of a `set`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    #[default]
    Always,
    IfAbsent,
    IfPresent,
    IfUnchanged(Stamp),
}

/// The outcome of an update's guard: see [`Update::report`](crate::update::Update::report). A clone
/// is the same report.
///
/// | guarded | confirmed | other callers read |
/// |---|---|---|
/// | yes | yes | nothing older than the write, after its end |
/// | yes | no | the same, unless the server has lost the guard; the deletion is queued, and the guard expires |
/// | no | yes | perhaps the old row during the write, and nothing older after its end |
/// | no | no | perhaps the old row until the queued deletion is delivered |
#[derive(Clone, Debug, Default)]
pub struct UpdateReport(Arc<Outcome>);

#[derive(Debug, Default)]
struct Outcome {
    guarded: AtomicBool,
    confirmed: AtomicBool,
}

impl UpdateReport {
    /// The report of an update that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether there was a guard at each key before the row was written.
    pub fn was_guarded(&self) -> bool {
        self.0.guarded.load(Ordering::Relaxed)
    }

    /// Returns whether the write succeeded and the server confirmed the end of the guard: the old
    /// entry is gone.
    pub fn is_confirmed(&self) -> bool {
        self.0.confirmed.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, guarded: bool, confirmed: bool) {
        self.0.guarded.store(guarded, Ordering::Relaxed);
        self.0.confirmed.store(confirmed, Ordering::Relaxed);
    }
}

/// The guard options of one write.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpdateOptions {
    pub(crate) hold: Option<Duration>,
    pub(crate) guard_life: Option<Duration>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) report: Option<UpdateReport>,
}

/// The options of one load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadOptions {
    pub(crate) mode: LoadMode,
    /// The TTL of the loaded value, if the loader sets none.
    pub(crate) ttl: Option<Ttl>,
    /// The caller needs the remaining TTL of the entry.
    pub(crate) with_ttl: bool,
    /// The load may go on after its call has returned.
    pub(crate) in_background: bool,
    /// The loader always returns a value: a cached "not found" is no answer for this call.
    pub(crate) needs_value: bool,
}

/// The treatment of a cached value by a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadMode {
    /// Returns it.
    Normal,
    /// Ignores it, and replaces it.
    Fresh,
    /// Ignores it, and stores nothing.
    Bypass,
}

impl LoadOptions {
    pub(crate) const fn new() -> Self {
        Self {
            mode: LoadMode::Normal,
            ttl: None,
            with_ttl: false,
            in_background: false,
            needs_value: false,
        }
    }
}

/// The failure of a load with time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed with this error.
    Load(E),
    /// The loader ran for longer than its deadline.
    Deadline,
    /// The wait for a turn to load exceeded its limit.
    Queue,
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Load(error) => error.fmt(f),
            LoadError::Deadline => f.write_str("the load took longer than its deadline"),
            LoadError::Queue => {
                f.write_str("too many loads are running; this load did not get a turn in time")
            }
        }
    }
}

impl<E: std::error::Error> std::error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadError::Load(error) => error.source(),
            LoadError::Deadline | LoadError::Queue => None,
        }
    }
}
