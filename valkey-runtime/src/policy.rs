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
    pub(crate) jitter_percent: u8,
    /// Zero where absences are not kept.
    pub(crate) ttl_absent_millis: u64,
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
            jitter_percent: 5,
            ttl_absent_millis: 0,
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
    ///
    /// # Panics
    /// If it is over a day: nothing would be cached for so long after each write.
    pub const fn hold_millis(mut self, hold: u32) -> Self {
        assert!(
            hold <= 86_400_000,
            "a hold over a day: nothing would be cached for so long after each write"
        );
        self.hold_millis = hold;
        self
    }

    /// By how many percent at most the type's TTL is shortened, at random for each entry, so that what was stored at once does
    /// not expire at once; default 5. A TTL of a call is taken as it is.
    ///
    /// # Panics
    /// If it is over 50.
    pub const fn jitter_percent(mut self, percent: u8) -> Self {
        assert!(percent <= 50, "a jitter over 50 %: write a shorter TTL");
        self.jitter_percent = percent;
        self
    }

    /// How many milliseconds it is remembered that a load found nothing. Default not at all.
    pub const fn ttl_absent_millis(mut self, ttl: u64) -> Self {
        self.ttl_absent_millis = ttl;
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
