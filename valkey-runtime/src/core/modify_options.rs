//! The options of a read-modify-write.

use std::time::Duration;

use crate::base::ttl::Ttl;

/// The time that a change may take, with all its attempts, unless the call sets another.
const WITHIN: Duration = Duration::from_secs(5);

/// Options of a [`Handle::modify_with`](crate::Handle::modify_with): the TTL of the new value, and
/// the bounds on its attempts.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::ModifyOptions;
///
/// let patient = ModifyOptions::new().keep_ttl().within(Duration::from_secs(10));
/// let once = ModifyOptions::new().attempts(1);
/// # let _ = (patient, once);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ModifyOptions {
    pub(crate) life: Life,
    pub(crate) within: Duration,
    pub(crate) attempts: u32,
}

/// The life of a changed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The TTL of a `set`: of the type, or of the call.
    Renewed(Option<Ttl>),
    /// The rest of the value that it replaces; the TTL of a `set` if there is none.
    Kept,
}

impl ModifyOptions {
    /// The type's TTL, 5 seconds, and any number of attempts.
    pub const fn new() -> Self {
        Self {
            life: Life::Renewed(None),
            within: WITHIN,
            attempts: u32::MAX,
        }
    }

    /// Sets the TTL of the new value, in place of the type's.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.life = Life::Renewed(Some(ttl.into()));
        self
    }

    /// Keeps the remaining TTL of the value that is changed. A value that is created gets the
    /// type's TTL. Without this choice each change restarts the TTL, as a `set` does.
    pub const fn keep_ttl(mut self) -> Self {
        self.life = Life::Kept;
        self
    }

    /// Sets the time after which no further attempt begins: 5 seconds by default. It includes the
    /// wait for other callers of this process that change the same value.
    pub const fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Sets the number of attempts, at least 1: how often the value is read and the closure called.
    /// Without it only the time limits them.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = match attempts {
            0 => 1,
            attempts => attempts,
        };
        self
    }
}

impl Default for ModifyOptions {
    fn default() -> Self {
        Self::new()
    }
}
