//! What a type's annotation decides besides prefix, TTL and version.

/// What a read makes of an entry that is not this type's: bytes that are no envelope, trailing or missing bytes, a value
/// that its type refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCorrupt {
    /// A miss; it is counted and logged. The default.
    #[default]
    Miss,
    /// An error of kind [`Corrupt`](crate::ErrorKind::Corrupt).
    Error,
}

/// The choices of a type that are seldom made; `#[derive(Cached)]` fills it from the annotation.
///
/// ```
/// use valkey_runtime::{OnCorrupt, Policy};
///
/// const STRICT: Policy = Policy::new().on_corrupt(OnCorrupt::Error).keep_corrupt();
/// # let _ = STRICT;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) keep_corrupt: bool,
    pub(crate) ttl_env: Option<&'static str>,
}

impl Policy {
    /// The policy of a type without further annotations.
    pub const fn new() -> Self {
        Self {
            on_corrupt: OnCorrupt::Miss,
            keep_corrupt: false,
            ttl_env: None,
        }
    }

    /// What a read makes of a corrupt entry.
    pub const fn on_corrupt(mut self, on_corrupt: OnCorrupt) -> Self {
        self.on_corrupt = on_corrupt;
        self
    }

    /// Leaves corrupt entries in place. By default they are removed, if they are still the same bytes.
    pub const fn keep_corrupt(mut self) -> Self {
        self.keep_corrupt = true;
        self
    }

    /// An environment variable that overrides the TTL at run time: seconds, or `10m`.
    pub const fn ttl_env(mut self, variable: &'static str) -> Self {
        self.ttl_env = Some(variable);
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
