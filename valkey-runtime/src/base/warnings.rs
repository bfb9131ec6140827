//! Log lines that can't flood a log: the first one at once, then the number of further ones, once a
//! minute.
//!
//! Lines have one [`Topic`] if they have the same text, the same type and the same kind of error.
//! The first line of a topic is logged in full. Lines within the next minute are counted, and
//! logged at `debug`. The first line after the minute is logged in full again, with their number.
//! If no line follows, the number is logged with the store's next warning, or at the next call of
//! its [statistics](crate::core::store::Store::stats), or when the store is closed or dropped. No
//! task waits for this.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::lock::lock;

/// The time for which lines of one topic are counted before their number is logged, in
/// microseconds.
const WINDOW: u64 = 60_000_000;

/// The warnings of a store.
#[derive(Debug)]
pub(crate) struct Warnings {
    clock: Arc<dyn Clock>,
    counts: Mutex<Counts>,
}

/// The subject of a log line. The texts are few and fixed, so there are few topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic<'a> {
    /// The type, if the line is about one.
    pub(crate) of: Option<&'a str>,
    /// The event: the beginning of the line.
    pub(crate) what: &'static str,
    /// The kind of the error, if there is one.
    pub(crate) kind: Option<ErrorKind>,
}

/// The rest of a log line. It is made only if the line is logged.
#[derive(Debug, Default)]
pub(crate) struct Detail {
    pub(crate) operation: Option<&'static str>,
    /// As [`ShownKeys`](crate::base::shown_keys::ShownKeys) shows it.
    pub(crate) key: Option<String>,
    /// The text after the topic's text; it may be empty.
    pub(crate) text: String,
}

impl Detail {
    pub(crate) fn text(text: impl fmt::Display) -> Self {
        Self {
            text: text.to_string(),
            ..Self::default()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Warn,
    Info,
}

impl Warnings {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let counts = Mutex::default();
        Arc::new(Self { clock, counts })
    }

    /// Logs a warning, or counts it.
    pub(crate) fn warn(&self, topic: Topic<'_>, detail: impl FnOnce() -> Detail) {
        self.tell(Level::Warn, topic, detail);
    }

    /// The same for a line that is no warning, such as the end of a trouble.
    pub(crate) fn note(&self, topic: Topic<'_>, detail: impl FnOnce() -> Detail) {
        self.tell(Level::Info, topic, detail);
    }

    fn tell(&self, level: Level, topic: Topic<'_>, detail: impl FnOnce() -> Detail) {
        let (due, sums) = self.with(|counts, now| {
            let due = counts.count(level, topic, now);
            (due, counts.sums(now))
        });
        match due {
            Some(since) => log(level, topic, &detail(), since),
            None if tracing::enabled!(tracing::Level::DEBUG) => {
                let Detail {
                    operation,
                    key,
                    text,
                } = detail();
                tracing::debug!(
                    "db.collection.name" = topic.of,
                    "db.operation.name" = operation,
                    "db.operation.parameter.key" = key,
                    "error.type" = topic.kind.map(ErrorKind::as_str),
                    "{}",
                    Line(topic.what, &text)
                );
            }
            None => {}
        }
        log_all(sums);
    }

    /// Logs the numbers of lines that were counted for a minute.
    pub(crate) fn flush(&self) {
        log_all(self.with(Counts::sums));
    }

    /// Logs the numbers of all counted lines at the end.
    pub(crate) fn end(&self) {
        log_all(self.with(Counts::all_sums));
    }

    fn with<R>(&self, step: impl FnOnce(&mut Counts, u64) -> R) -> R {
        let now = self.clock.now_micros();
        let mut counts = lock(&self.counts);
        step(&mut counts, now)
    }
}

impl Drop for Warnings {
    fn drop(&mut self) {
        self.end();
    }
}

/// The counts of each topic. Without I/O.
#[derive(Debug, Default)]
struct Counts(Vec<Count>);

#[derive(Debug)]
struct Count {
    level: Level,
    of: Option<Box<str>>,
    what: &'static str,
    kind: Option<ErrorKind>,
    /// The time of the last logged line.
    logged: u64,
    /// The number of lines that were not logged since.
    more: u64,
}

/// The number of lines that were not logged, and the seconds since the last logged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Since {
    more: u64,
    seconds: u64,
}

/// The number of a topic's lines, to be logged without the lines.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    level: Level,
    of: Option<Box<str>>,
    what: &'static str,
    kind: Option<ErrorKind>,
    since: Since,
}

impl Counts {
    /// Counts a line. If the line is to be logged, returns the lines that were not logged before
    /// it.
    fn count(&mut self, level: Level, topic: Topic<'_>, now: u64) -> Option<Since> {
        match self.0.iter_mut().find(|count| count.topic() == topic) {
            Some(count) if count.is_over(now) => Some(count.take(now)),
            Some(count) => {
                count.more += 1;
                None
            }
            None => {
                let Topic { of, what, kind } = topic;
                self.0.push(Count {
                    level,
                    of: of.map(Box::from),
                    what,
                    kind,
                    logged: now,
                    more: 0,
                });
                Some(Since {
                    more: 0,
                    seconds: 0,
                })
            }
        }
    }

    fn sums(&mut self, now: u64) -> Vec<Sum> {
        self.sums_of(now, |count| count.is_over(now))
    }

    fn all_sums(&mut self, now: u64) -> Vec<Sum> {
        self.sums_of(now, |_| true)
    }

    fn sums_of(&mut self, now: u64, is_due: impl Fn(&Count) -> bool) -> Vec<Sum> {
        let due = self
            .0
            .iter_mut()
            .filter(|count| count.more > 0 && is_due(count));
        due.map(|count| Sum {
            level: count.level,
            of: count.of.clone(),
            what: count.what,
            kind: count.kind,
            since: count.take(now),
        })
        .collect()
    }
}

impl Count {
    fn topic(&self) -> Topic<'_> {
        Topic {
            of: self.of.as_deref(),
            what: self.what,
            kind: self.kind,
        }
    }

    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.logged) >= WINDOW
    }

    /// Starts a new count at `now`.
    fn take(&mut self, now: u64) -> Since {
        let since = Since {
            more: self.more,
            seconds: now.saturating_sub(self.logged).div_ceil(1_000_000),
        };
        (self.logged, self.more) = (now, 0);
        since
    }
}

fn log_all(sums: Vec<Sum>) {
    for Sum {
        level,
        of,
        what,
        kind,
        since,
    } in sums
    {
        let of = of.as_deref();
        log(level, Topic { of, what, kind }, &Detail::default(), since);
    }
}

fn log(level: Level, topic: Topic<'_>, detail: &Detail, since: Since) {
    let repeated = Some(since.more).filter(|more| *more > 0);
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                "db.collection.name" = topic.of,
                "db.operation.name" = detail.operation,
                "db.operation.parameter.key" = detail.key,
                "error.type" = topic.kind.map(ErrorKind::as_str),
                repeated,
                "{}{since}",
                Line(topic.what, &detail.text)
            )
        };
    }
    match level {
        Level::Warn => log!(warn),
        Level::Info => log!(info),
    }
}

/// The topic's text, and the rest.
struct Line<'a>(&'static str, &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            "" => f.write_str(self.0),
            text => write!(f, "{}: {text}", self.0),
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.more {
            0 => Ok(()),
            more => write!(f, " ({more} more in {} s)", self.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORRUPT: Topic<'static> = Topic {
        of: Some("user"),
        what: "a corrupt entry",
        kind: Some(ErrorKind::Corrupt),
    };

    const SECOND: u64 = 1_000_000;

    fn count(counts: &mut Counts, topic: Topic<'_>, now: u64) -> Option<u64> {
        let due = counts.count(Level::Warn, topic, now);
        due.map(|since| since.more)
    }

    fn of(sums: &[Sum]) -> Vec<(Option<&str>, u64, u64)> {
        let sums = sums.iter();
        sums.map(|sum| (sum.of.as_deref(), sum.since.more, sum.since.seconds))
            .collect()
    }

    #[test]
    fn the_first_is_logged_and_the_others_once_a_minute_as_a_number() {
        let mut counts = Counts::default();
        assert_eq!(count(&mut counts, CORRUPT, 0), Some(0));
        for second in 1..60 {
            assert_eq!(count(&mut counts, CORRUPT, second * SECOND), None);
        }
        assert_eq!(count(&mut counts, CORRUPT, 60 * SECOND - 1), None);
        assert_eq!(count(&mut counts, CORRUPT, 60 * SECOND), Some(60));
        assert_eq!(count(&mut counts, CORRUPT, 61 * SECOND), None);
        assert_eq!(count(&mut counts, CORRUPT, 120 * SECOND), Some(1));
        assert_eq!(
            count(&mut counts, CORRUPT, 300 * SECOND),
            Some(0),
            "after silence it is the first"
        );
    }

    #[test]
    fn each_type_text_and_kind_is_counted_by_itself() {
        let mut counts = Counts::default();
        let others = [
            Topic {
                of: Some("team"),
                ..CORRUPT
            },
            Topic {
                of: None,
                ..CORRUPT
            },
            Topic {
                what: "another",
                ..CORRUPT
            },
            Topic {
                kind: Some(ErrorKind::Timeout),
                ..CORRUPT
            },
            Topic {
                kind: None,
                ..CORRUPT
            },
        ];
        for topic in others.into_iter().chain([CORRUPT]) {
            assert_eq!(count(&mut counts, topic, 0), Some(0), "{topic:?}");
            assert_eq!(count(&mut counts, topic, 1), None, "{topic:?}");
        }
        assert_eq!(counts.0.len(), 6);
    }

    #[test]
    fn a_count_is_reported_once_even_if_no_warning_follows() {
        let mut counts = Counts::default();
        for now in [0, SECOND, 2 * SECOND] {
            count(&mut counts, CORRUPT, now);
        }
        assert_eq!(counts.sums(60 * SECOND - 1), []);
        assert_eq!(of(&counts.sums(60 * SECOND)), [(Some("user"), 2, 60)]);
        assert_eq!(counts.sums(600 * SECOND), []);

        count(&mut counts, CORRUPT, 600 * SECOND);
        count(&mut counts, CORRUPT, 601 * SECOND);
        assert_eq!(of(&counts.all_sums(605 * SECOND)), [(Some("user"), 1, 5)]);
        assert_eq!(counts.all_sums(605 * SECOND), []);
    }

    #[test]
    fn a_reported_count_is_not_reported_again_with_the_next() {
        let mut counts = Counts::default();
        count(&mut counts, CORRUPT, 0);
        count(&mut counts, CORRUPT, 1);
        counts.sums(70 * SECOND);
        assert_eq!(count(&mut counts, CORRUPT, 71 * SECOND), None);
        assert_eq!(count(&mut counts, CORRUPT, 130 * SECOND), Some(1));
    }

    #[test]
    fn lines_say_how_many_more_there_were() {
        let since = Since {
            more: 99,
            seconds: 61,
        };
        let text = format!("{}{since}", Line("a corrupt entry", "it ends early"));
        assert_eq!(text, "a corrupt entry: it ends early (99 more in 61 s)");
        let first = Since {
            more: 0,
            seconds: 0,
        };
        assert_eq!(format!("{}{first}", Line("lost", "")), "lost");
    }
}
