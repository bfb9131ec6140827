//! The decisions of a read-modify-write: when its write is done, sent again, or begun again.
//!
//! The write is a [`Swap`](crate::protocol::transition::Swap): it takes effect only if what was
//! read is still there. Its stamp names it. If its answer was lost, it is sent again with the same
//! stamp, as one that may have been carried out before. So it is neither applied twice, nor
//! reported as failed although it is stored.

/// The part of a stamp, in its own unit, from which a random one is drawn: about a millisecond.
const SPREAD: u64 = 1 << 22;
/// How often a write without an answer is sent again.
const MOST_REPEATS: u32 = 3;

/// The answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// It took effect, now or when it was sent before.
    Yes,
    /// Something else is there.
    No,
    /// It failed, and was not carried out.
    Failed,
    /// Nobody knows whether it was carried out.
    Lost,
}

/// The step after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The change is made.
    Done,
    /// Another caller was first: read again.
    Again,
    /// Send the same write again, as one that may have been carried out.
    Repeat,
    /// The change is not made.
    Failed,
    /// Nobody knows whether the change is made.
    Unknown,
}

/// One write, from its first sending on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Course {
    /// The number of lost answers.
    lost: u32,
}

impl Course {
    /// Whether the write may have been carried out before.
    pub(crate) fn may_be_done(self) -> bool {
        self.lost > 0
    }

    pub(crate) fn after(&mut self, answer: Answer) -> Next {
        match (answer, self.may_be_done()) {
            (Answer::Yes, _) => Next::Done,
            (Answer::No, false) => Next::Again,
            (Answer::Failed, false) => Next::Failed,
            // It was carried out and another caller has changed the value since, or it was not.
            (Answer::No | Answer::Failed, true) => Next::Unknown,
            (Answer::Lost, _) if self.lost == MOST_REPEATS => Next::Unknown,
            (Answer::Lost, _) => {
                self.lost += 1;
                Next::Repeat
            }
        }
    }
}

/// The stamp of a value that replaces one with the stamp `read`. It is later than that, so that no
/// stamp comes twice in a chain of changes. It is drawn from about a millisecond if there is room,
/// so that two callers which change the same value do not draw the same.
pub(crate) fn stamp_after(read: Option<u64>, now: u64, random: u64) -> u64 {
    let read = read.unwrap_or(0);
    match now.checked_sub(read) {
        Some(room) if room > 0 => now - random % room.min(SPREAD),
        // The server's time was set back, or this process estimates it to be earlier.
        _ => read.saturating_add(1 + random % 0x1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_without_an_answer_is_sent_again_and_not_begun_again() {
        let mut course = Course::default();
        assert!(!course.may_be_done());
        assert_eq!(course.after(Answer::Lost), Next::Repeat);
        assert!(course.may_be_done());
        let after = |answer| course.clone().after(answer);
        assert_eq!(after(Answer::Yes), Next::Done);
        assert_eq!(after(Answer::No), Next::Unknown, "it may have been first");
        assert_eq!(after(Answer::Failed), Next::Unknown);
        assert_eq!(course.after(Answer::Lost), Next::Repeat);
        assert_eq!(course.after(Answer::Lost), Next::Repeat);
        assert_eq!(course.after(Answer::Lost), Next::Unknown);
    }

    #[test]
    fn a_write_with_an_answer_is_over_or_begins_again() {
        for (answer, next) in [
            (Answer::Yes, Next::Done),
            (Answer::No, Next::Again),
            (Answer::Failed, Next::Failed),
        ] {
            assert_eq!(Course::default().after(answer), next);
        }
    }

    #[test]
    fn a_stamp_is_later_than_the_one_it_follows_and_not_from_the_future() {
        let now = 1_767_225_600_000_000 << 12;
        for random in [0, 1, 4095, SPREAD - 1, SPREAD, u64::MAX] {
            for read in [now - 1, now - 4096, now - SPREAD, now - 2 * SPREAD] {
                let stamp = stamp_after(Some(read), now, random);
                assert!((read + 1..=now).contains(&stamp), "{random} {read}");
                assert!(stamp > now - SPREAD);
            }
            let alone = stamp_after(None, now, random);
            assert!((now - SPREAD + 1..=now).contains(&alone));
            for read in [now, now + SPREAD] {
                let stamp = stamp_after(Some(read), now, random);
                assert!((read + 1..=read + 4096).contains(&stamp));
            }
        }
        assert_eq!(
            stamp_after(Some(u64::MAX), now, 7),
            u64::MAX,
            "a damaged one"
        );
    }
}
