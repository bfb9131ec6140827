//! The choices of a type's annotation besides prefix, TTL and version.

use std::time::Duration;

/// The result of reading a corrupt or invalid entry. It may have no envelope, trailing or missing
/// bytes, or a value that its type or the type's rules reject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCorrupt {
    /// A miss, which is counted and logged. The default.
    #[default]
    Miss,
    /// An error of kind [`Corrupt`](crate::base::error::ErrorKind::Corrupt), or
    /// [`Invalid`](crate::base::error::ErrorKind::Invalid).
    Error,
}

/// The algorithm that compresses the values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// zstd, which makes values smaller. Needs the feature `zstd`.
    Zstd,
    /// LZ4, which is faster. Needs the feature `lz4`.
    Lz4,
}

/// The less common choices of a type. `#[derive(Cached)]` fills it from the annotation.
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
    /// Zero if absences are not cached.
    pub(crate) ttl_absent_millis: u64,
    /// Zero if no stale values are kept.
    pub(crate) stale_if_error_millis: u64,
    pub(crate) retry_after_millis: u64,
    /// Zero if nothing is refreshed before its expiry.
    pub(crate) refresh_ahead_percent: u8,
    /// Zero if callers wait until the end of the load.
    pub(crate) load_timeout_millis: u64,
    pub(crate) load_deadline_millis: u64,
    /// Zero if a hit does not extend an entry's life.
    pub(crate) max_age_millis: u64,
    /// Zero if the type has no near cache.
    pub(crate) near_millis: u64,
    pub(crate) near_max_bytes: u64,
    /// Zero if no copy older than `near_millis` is served.
    pub(crate) near_stale_millis: u64,
    pub(crate) near_get_stale: bool,
    pub(crate) compression: Option<Compression>,
    /// The size of the smallest payload that is compressed.
    pub(crate) compress_above: u32,
    pub(crate) encrypt: bool,
    /// Whether the store has the only copy of the type's values.
    pub(crate) only_copy: bool,
    /// The oldest version of which entries may exist.
    pub(crate) oldest_version: u16,
}

/// Whole milliseconds. Shorter parts of a time are dropped.
const fn millis(time: Duration) -> u64 {
    let millis = time.as_millis();
    match millis > u64::MAX as u128 {
        true => u64::MAX,
        false => millis as u64,
    }
}

/// A time of more than a hundred years is a mistake, as for a TTL.
const LONGEST_MILLIS: u64 = 100 * 365 * 86_400_000;

/// The least memory for near copies. A smaller one would hold no copy.
const LEAST_NEAR_BYTES: u64 = 1 << 10;

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
            near_millis: 0,
            near_max_bytes: 64 << 20,
            near_stale_millis: 0,
            near_get_stale: false,
            compression: None,
            compress_above: 1024,
            encrypt: false,
            only_copy: false,
            oldest_version: 1,
        }
    }

    /// Sets the result of reading a corrupt entry.
    pub const fn on_corrupt(mut self, on_corrupt: OnCorrupt) -> Self {
        self.on_corrupt = on_corrupt;
        self
    }

    /// Leaves corrupt entries in place. By default they are removed, if their bytes are still the
    /// same.
    pub const fn keep_corrupt(mut self) -> Self {
        self.keep_corrupt = true;
        self
    }

    /// Shows the type's keys in log lines and error texts, if the store leaves that to its types
    /// ([`KeyTracing::Hidden`](crate::base::shown_keys::KeyTracing::Hidden)). By default a hash is
    /// shown, since a key may be a secret.
    pub const fn show_keys(mut self) -> Self {
        self.show_keys = true;
        self
    }

    /// Names an environment variable that overrides the TTL at run time: seconds, or `10m`.
    pub const fn ttl_env(mut self, variable: &'static str) -> Self {
        self.ttl_env = Some(variable);
        self
    }

    /// Sets the time for which a guard stays after a write or a deletion, for loaders that
    /// read from a lagging replica. Default 0.
    ///
    /// # Panics
    /// If it is over a day: after each write nothing would be cached for that time.
    pub const fn hold(mut self, hold: Duration) -> Self {
        let hold = millis(hold);
        assert!(
            hold <= 86_400_000,
            "a hold over a day: nothing would be cached for that time after each write"
        );
        self.hold_millis = hold as u32;
        self
    }

    /// Sets the maximal reduction of the type's TTL in percent, random for each entry, so that
    /// entries stored together do not expire together. Default 5. The TTL of a call is not reduced.
    ///
    /// # Panics
    /// If it is over 50.
    pub const fn jitter_percent(mut self, percent: u8) -> Self {
        assert!(percent <= 50, "a jitter over 50 %: write a shorter TTL");
        self.jitter_percent = percent;
        self
    }

    /// Sets the time for which a "not found" result is cached (negative caching). Default
    /// 0: never.
    pub const fn ttl_absent(mut self, ttl: Duration) -> Self {
        let ttl = millis(ttl);
        self.ttl_absent_millis = ttl;
        self
    }

    /// Sets the time after its TTL for which a value is kept, to be served if the loader
    /// fails (stale-if-error). Default 0: never.
    ///
    /// # Panics
    /// If it is over a hundred years.
    pub const fn stale_if_error(mut self, time: Duration) -> Self {
        let time = millis(time);
        assert!(
            time <= LONGEST_MILLIS,
            "stale values for over a hundred years would hide that the loader fails"
        );
        self.stale_if_error_millis = time;
        self
    }

    /// Sets the time after a failed load in which a stale value is served without another
    /// load. Default 5 s.
    ///
    /// # Panics
    /// If it is zero, or over a day.
    pub const fn retry_after(mut self, pause: Duration) -> Self {
        let pause = millis(pause);
        assert!(
            pause > 0,
            "a pause of zero after a failed load: every call would try again"
        );
        assert!(
            pause <= 86_400_000,
            "a pause over a day after a failed load: the value would be stale for that time"
        );
        self.retry_after_millis = pause;
        self
    }

    /// Sets the percentage of its life after which a read loads a value in the background
    /// (refresh-ahead). Default 0: never before its expiry.
    ///
    /// # Panics
    /// If it is over 99: the life is over then.
    pub const fn refresh_ahead_percent(mut self, percent: u8) -> Self {
        assert!(
            percent < 100,
            "a refresh after 100 % of a life: the life is over by then"
        );
        self.refresh_ahead_percent = percent;
        self
    }

    /// Sets the soft timeout: after it a caller that waits for another caller's load gets the stale
    /// value, if one exists. In [`in_background`](crate::load::Load::in_background) it also applies
    /// to the caller's own load. Default 0: wait until the end of the load.
    pub const fn load_timeout(mut self, timeout: Duration) -> Self {
        let timeout = millis(timeout);
        self.load_timeout_millis = timeout;
        self
    }

    /// Extends the life of an entry by its TTL on each hit, up to this age
    /// (sliding expiration). Default: not extended.
    ///
    /// # Panics
    /// If it is zero or over a hundred years: an entry whose invalidation was lost could be served
    /// without end.
    pub const fn sliding(mut self, max_age: Duration) -> Self {
        let max_age = millis(max_age);
        assert!(
            max_age > 0 && max_age <= LONGEST_MILLIS,
            "sliding without an upper limit: an entry whose invalidation was lost might never expire"
        );
        self.max_age_millis = max_age;
        self
    }

    /// Whether entries have a freshness time in their header.
    pub(crate) const fn is_timed(&self) -> bool {
        self.stale_if_error_millis > 0 || self.refresh_ahead_percent > 0 || self.max_age_millis > 0
    }

    /// Sets the maximal number of concurrent loads of the type in this process. Default 64.
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
    /// Sets the hard timeout of a load. Default 30 s. After it the load counts
    /// as failed and frees its turn, its lease and its waiters. A caller of a verb that can't
    /// return the timeout as an error still waits for its own loader.
    ///
    /// # Panics
    /// If it is zero, or over a hundred years.
    pub const fn load_deadline(mut self, deadline: Duration) -> Self {
        let deadline = millis(deadline);
        assert!(
            deadline > 0 && deadline <= LONGEST_MILLIS,
            "load_deadline is a time from 1ms to 100 years"
        );
        self.load_deadline_millis = deadline;
        self
    }
}

impl Policy {
    /// Keeps near copies of the type's values in this process (near cache). `ttl` is the time for
    /// which a copy may be used, counted from when its read was sent. A value whose invalidation
    /// was lost is served from this process for at most that time. Default: no near cache.
    ///
    /// It is not longer than the type's TTL: a copy can't be kept longer than its entry. With
    /// [`sliding`](Self::sliding), a hit in the near cache does not extend the entry's life.
    ///
    /// # Panics
    /// If it is zero, or over a day.
    pub const fn near(mut self, ttl: Duration) -> Self {
        let ttl = millis(ttl);
        assert!(ttl > 0, "a near cache of zero: no copy would ever be used");
        assert!(
            ttl <= 86_400_000,
            "a near cache over a day: a copy whose invalidation was lost would be used for that time"
        );
        self.near_millis = ttl;
        self
    }

    /// Sets the most memory, in bytes, that near copies of the type take in a store. Default
    /// 64 MiB. It has no effect without [`near`](Self::near).
    ///
    /// # Panics
    /// If it is under 1 KiB: hardly any copy would fit.
    pub const fn near_max_bytes(mut self, bytes: u64) -> Self {
        assert!(
            bytes >= LEAST_NEAR_BYTES,
            "near_max_bytes is under 1 KiB: hardly any copy would fit"
        );
        self.near_max_bytes = bytes;
        self
    }

    /// Sets the age up to which near copies are served while the server can't be asked. Loading
    /// verbs return them as [`Source::Stale`](crate::Source::Stale), if the loader fails too.
    /// Default 0: never.
    ///
    /// It has no effect unless it is longer than the time of [`near`](Self::near).
    ///
    /// # Panics
    /// If it is zero, or over a hundred years.
    pub const fn near_stale(mut self, time: Duration) -> Self {
        let time = millis(time);
        assert!(
            time > 0 && time <= LONGEST_MILLIS,
            "near_stale is a time from 1ms to 100 years"
        );
        self.near_stale_millis = time;
        self
    }

    /// Makes `get` serve the copies of [`near_stale`](Self::near_stale) as well. By default only
    /// loading verbs serve them.
    pub const fn near_get_stale(mut self) -> Self {
        self.near_get_stale = true;
        self
    }
}

impl Policy {
    /// Compresses the type's values, if they are [large enough](Self::compress_above) and become
    /// smaller. Default: not compressed. Every reader understands both forms, as long as its build
    /// has the feature of the algorithm; to other builds a compressed entry is a newer one.
    ///
    /// # Panics
    /// If the build lacks the feature of the algorithm.
    pub const fn compress(mut self, compression: Compression) -> Self {
        match compression {
            Compression::Zstd if !cfg!(feature = "zstd") => {
                panic!("`compress = \"zstd\"` needs the feature `zstd` of valkey-runtime")
            }
            Compression::Lz4 if !cfg!(feature = "lz4") => {
                panic!("`compress = \"lz4\"` needs the feature `lz4` of valkey-runtime")
            }
            Compression::Zstd | Compression::Lz4 => self.compression = Some(compression),
        }
        self
    }

    /// Sets the size in bytes from which on a payload is compressed. Default 1024. It has no effect
    /// without [`compress`](Self::compress).
    pub const fn compress_above(mut self, bytes: u32) -> Self {
        self.compress_above = bytes;
        self
    }

    /// Encrypts the type's values with the keys of the store
    /// ([`Builder::encryption_keys`](crate::Builder::encryption_keys)). An entry in plain text is a
    /// miss then, unless the store
    /// [accepts it](crate::Builder::accept_plaintext). Keys of entries and tags are stored in plain
    /// text. Default: not encrypted.
    ///
    /// # Panics
    /// If the build lacks the feature `encrypt`.
    pub const fn encrypt(mut self) -> Self {
        if !cfg!(feature = "encrypt") {
            panic!("`encrypt` needs the feature `encrypt` of valkey-runtime");
        }
        self.encrypt = true;
        self
    }
}

impl Policy {
    /// Treats the type's values as data whose only copy is in the store, and not as a cache. An
    /// entry that can't be read is an error and stays, the TTL has no jitter, and no verb that
    /// loads compiles. `oldest_version` is the lowest version of which entries may still exist,
    /// usually 1: the type migrates from each version since then. Call it after the other setters.
    ///
    /// # Panics
    /// If the oldest version is zero: versions begin with 1.
    pub const fn only_copy(mut self, oldest_version: u16) -> Self {
        assert!(oldest_version > 0, "versions begin with 1");
        self.only_copy = true;
        self.oldest_version = oldest_version;
        self.on_corrupt = OnCorrupt::Error;
        self.keep_corrupt = true;
        self.jitter_percent = 0;
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
        const MILLI: Duration = Duration::from_millis(1);
        for timed in [
            DEFAULT.stale_if_error(MILLI),
            DEFAULT.refresh_ahead_percent(99),
            DEFAULT.sliding(MILLI),
        ] {
            assert!(timed.is_timed(), "{timed:?}");
        }
        for not in [
            DEFAULT,
            DEFAULT.near(MILLI).near_stale(MILLI),
            DEFAULT.retry_after(MILLI).load_timeout(MILLI),
            DEFAULT.ttl_absent(MILLI).hold(MILLI),
        ] {
            assert!(!not.is_timed(), "{not:?}");
        }
    }

    #[test]
    fn a_near_cache_has_bounds() {
        const DAY: Duration = Duration::from_secs(86_400);
        const DEFAULT: Policy = Policy::new();
        const WIDEST: Policy = DEFAULT
            .near(DAY)
            .near_max_bytes(1024)
            .near_stale(Duration::from_millis(LONGEST_MILLIS))
            .near_get_stale();
        let numbers = |policy: Policy| {
            (
                policy.near_millis,
                policy.near_max_bytes,
                policy.near_stale_millis,
                policy.near_get_stale,
            )
        };
        assert_eq!(numbers(DEFAULT), (0, 64 * 1024 * 1024, 0, false));
        assert_eq!(numbers(WIDEST), (86_400_000, 1024, LONGEST_MILLIS, true));

        let refused: [fn() -> Policy; 5] = [
            || DEFAULT.near(Duration::ZERO),
            || DEFAULT.near(DAY + Duration::from_millis(1)),
            || DEFAULT.near_max_bytes(1023),
            || DEFAULT.near_stale(Duration::ZERO),
            || DEFAULT.near_stale(Duration::from_millis(LONGEST_MILLIS + 1)),
        ];
        for (at, refused) in refused.into_iter().enumerate() {
            assert!(std::panic::catch_unwind(refused).is_err(), "{at}");
        }
    }
}
