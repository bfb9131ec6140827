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
    pub(crate) max_loads: u16,
    pub(crate) hold_millis: u32,
}

impl Policy {
    /// The policy of a type without further annotations.
    pub const fn new() -> Self {
        Self {
            on_corrupt: OnCorrupt::Miss,
            keep_corrupt: false,
            ttl_env: None,
            max_loads: 64,
            hold_millis: 0,
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

    /// How many milliseconds a guard stays after its write, and after a deletion: for loaders that read from a replica that
    /// lags. Default none.
    pub const fn hold_millis(mut self, hold: u32) -> Self {
        self.hold_millis = hold;
        self
    }

    /// The most loads of the type that run at a time in this process; default 64.
    ///
    /// # Panics
    /// If it is zero: nothing would ever be loaded.
    pub const fn max_loads(mut self, max_loads: u16) -> Self {
        assert!(
            max_loads > 0,
            "max_loads is zero: nothing would ever be loaded"
        );
        self.max_loads = max_loads;
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
