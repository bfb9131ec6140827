//! What one call decides for itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::ttl::Ttl;
use crate::key::tag::Tag;

/// How a value is stored by one call.
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
    /// The type's TTL, no condition.
    pub const fn new() -> Self {
        Self {
            ttl: None,
            condition: Condition::Always,
        }
    }

    /// The TTL of this call.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Store only where a `get` would give no value. An entry of a newer version counts as a value here: it is not
    /// overwritten.
    pub const fn if_absent(mut self) -> Self {
        self.condition = Condition::IfAbsent;
        self
    }

    /// Store only where a `get` would give a value.
    pub const fn if_present(mut self) -> Self {
        self.condition = Condition::IfPresent;
        self
    }
}

/// When a value is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    #[default]
    Always,
    IfAbsent,
    IfPresent,
}

/// How a row is written under a guard by one call.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::UpdateOptions;
///
/// # #[derive(Debug)]
/// # enum DbError { UniqueViolation, Other }
/// let options = UpdateOptions::new()
///     .strict()
///     .hold(Duration::from_millis(500))
///     .unwritten_if(|error: &DbError| matches!(error, DbError::UniqueViolation));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct UpdateOptions<P = NeverSure> {
    pub(crate) strict: Option<bool>,
    pub(crate) hold: Option<Duration>,
    pub(crate) guard_life: Option<Duration>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) report: Option<UpdateReport>,
    pub(crate) unwritten: P,
}

impl UpdateOptions {
    /// As the type has it.
    pub const fn new() -> Self {
        Self {
            strict: None,
            hold: None,
            guard_life: None,
            ttl: None,
            tags: Vec::new(),
            report: None,
            unwritten: NeverSure,
        }
    }
}

impl Default for UpdateOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> UpdateOptions<P> {
    /// Refuse the write where its guard can't be placed.
    pub fn strict(mut self) -> Self {
        self.strict = Some(true);
        self
    }

    /// Write all the same where the guard can't be placed; the invalidation is then delivered later.
    pub fn best_effort(mut self) -> Self {
        self.strict = Some(false);
        self
    }

    /// How long the guard stays after the write: for loaders that read from a replica that lags.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = Some(hold);
        self
    }

    /// How long the guard lasts that is not renewed any more, since its process died or its call was dropped; default 10 s. It
    /// is renewed each third of this time, so two thirds are sure: at one and a half times the database's own limit for a
    /// statement, a write can't be committed after its guard ran out.
    pub fn guard_life(mut self, life: Duration) -> Self {
        self.guard_life = Some(life);
        self
    }

    /// The TTL of what a write-through stores.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Invalidates tags with the write: while it is under way nothing that carries one of them is read or stored, and nothing that
    /// was stored or loaded before is read after it. In two round trips more, and with a guard at each tag: of a writer that dies
    /// that keeps all under the tag from being cached for up to 18 s.
    ///
    /// A write-through that invalidates a tag of its own value stores nothing.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Result, Store, UpdateOptions};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # #[cached(tag = "org:{org_id}")]
    /// # struct User { #[cached(key)] id: u64, org_id: u64 }
    /// # struct Db;
    /// # impl Db { async fn move_user(&self, _: u64, _: u64) -> Result<()> { Ok(()) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), valkey_runtime::UpdateError<valkey_runtime::Error>> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let tags = [User::tags().org(7), User::tags().org(42)];
    /// let options = UpdateOptions::new().invalidating(tags);
    /// User::update_with(&store, 1, options, || db.move_user(1, 42)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidating<I>(mut self, tags: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Says in this report what became of the guard. For a write that goes on without one, since the type is not `strict`, it is the
    /// only way to tell.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store, UpdateOptions, UpdateReport};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # struct Db;
    /// # impl Db { async fn rename(&self, _: u64, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let report = UpdateReport::new();
    /// let options = UpdateOptions::new().report(&report);
    /// User::update_with(&store, 42, options, || db.rename(42, "Grace")).await?;
    /// assert!(report.was_guarded() && report.is_confirmed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn report(mut self, report: &UpdateReport) -> Self {
        self.report = Some(report.clone());
        self
    }

    /// After which errors of the write it is certain that nothing was written: the guard then ends at once, and else is
    /// left to run out.
    pub fn unwritten_if<E, F: Fn(&E) -> bool + Send>(self, is_sure: F) -> UpdateOptions<SureIf<F>> {
        let (
            UpdateOptions {
                strict,
                hold,
                guard_life,
                ttl,
                tags,
                report,
                unwritten: _,
            },
            _,
        ) = self.split();
        UpdateOptions {
            strict,
            hold,
            guard_life,
            ttl,
            tags,
            report,
            unwritten: SureIf(is_sure),
        }
    }

    /// What is plain data, and what the application says of its errors.
    pub(crate) fn split(self) -> (UpdateOptions, P) {
        let Self {
            strict,
            hold,
            guard_life,
            ttl,
            tags,
            report,
            unwritten,
        } = self;
        (
            UpdateOptions {
                strict,
                hold,
                guard_life,
                ttl,
                tags,
                report,
                unwritten: NeverSure,
            },
            unwritten,
        )
    }
}

/// What became of the guard of an update: see [`UpdateOptions::report`]. A clone is the same report.
///
/// | guarded | confirmed | what others are given |
/// |---|---|---|
/// | yes | yes | nothing older than the write, from its end on |
/// | yes | no | the same, unless the server has lost the guard; the deletion is queued, and the guard runs out |
/// | no | yes | perhaps the old row while the write was under way, and nothing older from its end on |
/// | no | no | perhaps the old row until the queued deletion is delivered |
#[derive(Clone, Debug, Default)]
pub struct UpdateReport(Arc<Outcome>);

#[derive(Debug, Default)]
struct Outcome {
    guarded: AtomicBool,
    confirmed: AtomicBool,
}

impl UpdateReport {
    /// Of an update that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there was a guard at each key before the row was written.
    pub fn was_guarded(&self) -> bool {
        self.0.guarded.load(Ordering::Relaxed)
    }

    /// Whether the write succeeded, and the server confirmed the end of the guard: what was there before is gone.
    pub fn is_confirmed(&self) -> bool {
        self.0.confirmed.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, guarded: bool, confirmed: bool) {
        self.0.guarded.store(guarded, Ordering::Relaxed);
        self.0.confirmed.store(confirmed, Ordering::Relaxed);
    }
}

/// Whether an error of a write says that nothing was written.
#[doc(hidden)]
pub trait Unwritten<E>: Send {
    fn is_sure(&self, error: &E) -> bool;
}

/// No error is certain to mean that nothing was written.
#[derive(Clone, Copy, Debug)]
pub struct NeverSure;

/// What the application says of its errors.
#[derive(Clone, Copy, Debug)]
pub struct SureIf<F>(F);

impl<E> Unwritten<E> for NeverSure {
    fn is_sure(&self, _: &E) -> bool {
        false
    }
}

impl<E, F: Fn(&E) -> bool + Send> Unwritten<E> for SureIf<F> {
    fn is_sure(&self, error: &E) -> bool {
        (self.0)(error)
    }
}

/// How one call loads.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::LoadOptions;
///
/// let refreshed = LoadOptions::new().fresh().ttl(Duration::from_secs(10));
/// # let _ = refreshed;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct LoadOptions {
    pub(crate) ttl: Option<Ttl>,
    pub(crate) mode: LoadMode,
}

/// What a load does about what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LoadMode {
    #[default]
    Normal,
    Fresh,
    Bypass,
    OnlyIfCached,
}

impl LoadOptions {
    /// The type's TTL; what is there is taken.
    pub const fn new() -> Self {
        Self {
            ttl: None,
            mode: LoadMode::Normal,
        }
    }

    /// The TTL of what is stored. What the loader says goes first.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Load and store, whatever is there: for who knows that it is old. A load that is under way is not waited for, and
    /// not stored.
    pub const fn fresh(mut self) -> Self {
        self.mode = LoadMode::Fresh;
        self
    }

    /// Load, and leave the cache alone.
    pub const fn bypass(mut self) -> Self {
        self.mode = LoadMode::Bypass;
        self
    }

    /// Take what is there, and load nothing.
    pub const fn only_if_cached(mut self) -> Self {
        self.mode = LoadMode::OnlyIfCached;
        self
    }
}

/// How long a load may take.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::LoadLimits;
///
/// let limits = LoadLimits::new().deadline(Duration::from_secs(2)).queue(Duration::from_millis(100));
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct LoadLimits {
    pub(crate) deadline: Option<Duration>,
    pub(crate) queue: Option<Duration>,
}

impl LoadLimits {
    /// None.
    pub const fn new() -> Self {
        Self {
            deadline: None,
            queue: None,
        }
    }

    /// How long the loader may run.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How long to wait for a turn to load, where `max_loads` of the type are running.
    pub const fn queue(mut self, longest: Duration) -> Self {
        self.queue = Some(longest);
        self
    }
}

/// Why a load with limits gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed with this.
    Load(E),
    /// The loader ran for longer than its deadline.
    Deadline,
    /// The turn to load did not come in time.
    Queue,
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Load(error) => error.fmt(f),
            LoadError::Deadline => f.write_str("the load took longer than its deadline"),
            LoadError::Queue => f.write_str(
                "too many loads are running, and the turn of this one did not come in time",
            ),
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
