//! What a type's annotation decides besides prefix, TTL and version.

/// What a read makes of an entry that is not this type's: bytes that are no envelope, trailing or missing bytes, a value
/// that its type refuses, or that breaks the type's rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCorrupt {
    /// A miss; it is counted and logged. The default.
    #[default]
    Miss,
    /// An error of kind [`Corrupt`](crate::base::error::ErrorKind::Corrupt), or [`Invalid`](crate::base::error::ErrorKind::Invalid).
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
    pub(crate) show_keys: bool,
    pub(crate) ttl_env: Option<&'static str>,
    pub(crate) max_loads: u16,
    pub(crate) hold_millis: u32,
    pub(crate) jitter_percent: u8,
    /// Zero where absences are not kept.
    pub(crate) ttl_absent_millis: u64,
    /// Zero where no stale value is kept.
    pub(crate) stale_if_error_millis: u64,
    pub(crate) retry_after_millis: u64,
    /// Zero where nothing is refreshed ahead of its expiry.
    pub(crate) refresh_ahead_percent: u8,
    /// Zero where callers wait until the load is over.
    pub(crate) load_timeout_millis: u64,
    pub(crate) load_deadline_millis: u64,
    /// Zero where a hit does not extend an entry's life.
    pub(crate) max_age_millis: u64,
}

/// Longer than a hundred years is a mistake, as it is of a TTL.
const LONGEST_MILLIS: u64 = 100 * 365 * 86_400_000;

impl Policy {
    /// The policy of a type without further annotations.
    pub const fn new() -> Self {
        Self {
            on_corrupt: OnCorrupt::Miss,
            keep_corrupt: false,
            show_keys: false,
            ttl_env: None,
            max_loads: 64,
            hold_millis: 0,
            jitter_percent: 5,
            ttl_absent_millis: 0,
            stale_if_error_millis: 0,
            retry_after_millis: 5000,
            refresh_ahead_percent: 0,
            load_timeout_millis: 0,
            load_deadline_millis: 30_000,
            max_age_millis: 0,
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

    /// Shows the type's keys in log lines and the text of errors, where the store leaves that to its types
    /// ([`KeyTracing::Hidden`](crate::base::shown_keys::KeyTracing::Hidden)). By default a hash is shown, since a key may be a secret.
    pub const fn show_keys(mut self) -> Self {
        self.show_keys = true;
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

    /// How many milliseconds after its TTL a value is kept, and served where the loader fails. Default not at all.
    ///
    /// # Panics
    /// If it is over a hundred years.
    pub const fn stale_if_error_millis(mut self, time: u64) -> Self {
        assert!(
            time <= LONGEST_MILLIS,
            "stale values for over a hundred years: they would hide that the loader fails"
        );
        self.stale_if_error_millis = time;
        self
    }

    /// How many milliseconds after a failed load a stale value is served without another try; default 5000.
    ///
    /// # Panics
    /// If it is zero, or over a day.
    pub const fn retry_after_millis(mut self, pause: u64) -> Self {
        assert!(
            pause > 0,
            "a pause of zero after a failed load: every call would try again"
        );
        assert!(
            pause <= 86_400_000,
            "a pause over a day after a failed load: the value would be stale for so long"
        );
        self.retry_after_millis = pause;
        self
    }

    /// After how many percent of its life a value that is read is loaded anew in the background. Default never: it is loaded
    /// when it has expired.
    ///
    /// # Panics
    /// If it is over 99: the life is over then.
    pub const fn refresh_ahead_percent(mut self, percent: u8) -> Self {
        assert!(
            percent < 100,
            "a refresh after 100 % of a life: it is over then"
        );
        self.refresh_ahead_percent = percent;
        self
    }

    /// How many milliseconds a caller waits for a load that another runs, or with [`in_background`](crate::load::Load::in_background)
    /// its own, before it is given the stale value, where there is one. Default until the load is over.
    pub const fn load_timeout_millis(mut self, timeout: u64) -> Self {
        self.load_timeout_millis = timeout;
        self
    }

    /// A hit extends the life of an entry by its TTL, but to no more than these milliseconds in all. Default not at all.
    ///
    /// # Panics
    /// If it is zero or over a hundred years: an entry whose invalidation was lost could live for ever.
    pub const fn sliding(mut self, max_age_millis: u64) -> Self {
        assert!(
            max_age_millis > 0 && max_age_millis <= LONGEST_MILLIS,
            "sliding without a ceiling: an entry whose invalidation was lost could live for ever"
        );
        self.max_age_millis = max_age_millis;
        self
    }

    /// Whether entries say until when they are fresh.
    pub(crate) const fn is_timed(&self) -> bool {
        self.stale_if_error_millis > 0 || self.refresh_ahead_percent > 0 || self.max_age_millis > 0
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

impl Policy {
    /// How many milliseconds a loader may run; default 30 s. What takes longer is a failed load: its turn, its lease and those who
    /// wait for it are free. A caller that can be given no error of ours goes on waiting for its own loader.
    ///
    /// # Panics
    /// If it is zero, or over a hundred years.
    pub const fn load_deadline_millis(mut self, deadline: u64) -> Self {
        assert!(
            deadline > 0 && deadline <= LONGEST_MILLIS,
            "load_deadline is a time from 1ms to 100 years"
        );
        self.load_deadline_millis = deadline;
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_some_types_say_until_when_they_are_fresh() {
        const DEFAULT: Policy = Policy::new();
        for timed in [
            DEFAULT.stale_if_error_millis(1),
            DEFAULT.refresh_ahead_percent(99),
            DEFAULT.sliding(1),
        ] {
            assert!(timed.is_timed(), "{timed:?}");
        }
        for not in [
            DEFAULT,
            DEFAULT.retry_after_millis(1).load_timeout_millis(1),
            DEFAULT.ttl_absent_millis(1).hold_millis(1),
        ] {
            assert!(!not.is_timed(), "{not:?}");
        }
    }
}
