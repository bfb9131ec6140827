//! What one call decides for itself.

use crate::Ttl;

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
