//! Questions about the state at one key: of a rate limit, a counter or a lock.
//!
//! A pure function answers each from the state and the time, and may change the state. The
//! in-process store runs that function. In a server a script does the same.

use bytes::Bytes;
use redis::{Cmd, Value};

use crate::backend::failure::unexpected_answer;
#[cfg(any(test, feature = "testing"))]
use crate::backend::faults::Request;
use crate::backend::script::{Call, count_command, limit_command, lock_command};
use crate::base::error::Error;
use crate::protocol::transition::Life;
use crate::protocol::{count, lock, rate};

/// The change of a state.
pub(crate) enum Then {
    Keep,
    Remove,
    Put(Bytes, Life),
}

/// A request that a state decides.
pub(crate) trait Question: Send + Sync {
    type Answer: Send;

    #[cfg(any(test, feature = "testing"))]
    const REQUEST: Request;

    /// The command by which the server decides.
    fn command(&self, call: Call, key: &[u8]) -> Cmd;

    /// The answer to that command.
    fn answered(&self, answer: &[u8]) -> Option<Self::Answer>;

    /// The decision at that time, in microseconds.
    fn decide(&self, state: Option<&[u8]>, now: u64) -> (Self::Answer, Then);
}

/// The answer of a server.
pub(crate) fn answer<Q: Question>(question: &Q, answer: Value) -> Result<Q::Answer, Error> {
    let answered = match &answer {
        Value::BulkString(answer) => question.answered(answer),
        _ => None,
    };
    answered.ok_or_else(unexpected_answer)
}

impl Question for rate::Ask {
    type Answer = rate::Verdict;

    #[cfg(any(test, feature = "testing"))]
    const REQUEST: Request = Request::Limit;

    fn command(&self, call: Call, key: &[u8]) -> Cmd {
        limit_command(call, key, self)
    }

    /// The script has stored the new state. The verdict follows from the state before, which it
    /// answers.
    fn answered(&self, answer: &[u8]) -> Option<rate::Verdict> {
        let (now, state) = rate::answered(answer)?;
        Some(rate::decide(Some(state), self, now).0)
    }

    fn decide(&self, state: Option<&[u8]>, now: u64) -> (rate::Verdict, Then) {
        let (verdict, then) = rate::decide(state, self, now);
        let then = match then {
            rate::Then::Keep => Then::Keep,
            rate::Then::Remove => Then::Remove,
            rate::Then::Put(state, life) => {
                Then::Put(Bytes::copy_from_slice(&state), Life::Exactly(Some(life)))
            }
        };
        (verdict, then)
    }
}

impl Question for count::Ask {
    type Answer = count::Count;

    #[cfg(any(test, feature = "testing"))]
    const REQUEST: Request = Request::Count;

    fn command(&self, call: Call, key: &[u8]) -> Cmd {
        count_command(call, key, self)
    }

    fn answered(&self, answer: &[u8]) -> Option<count::Count> {
        count::answered(answer)
    }

    fn decide(&self, state: Option<&[u8]>, now: u64) -> (count::Count, Then) {
        let (count, then) = count::decide(state, self, now);
        let then = match then {
            count::Then::Keep => Then::Keep,
            count::Then::Remove => Then::Remove,
            count::Then::Put(count, life) => Then::Put(count.to_string().into(), life),
        };
        (count, then)
    }
}

impl Question for lock::Ask {
    type Answer = lock::Answer;

    #[cfg(any(test, feature = "testing"))]
    const REQUEST: Request = Request::Lock;

    fn command(&self, call: Call, key: &[u8]) -> Cmd {
        lock_command(call, key, self)
    }

    fn answered(&self, answer: &[u8]) -> Option<lock::Answer> {
        lock::answered(answer)
    }

    fn decide(&self, state: Option<&[u8]>, now: u64) -> (lock::Answer, Then) {
        let (answer, then) = lock::decide(state, self, now);
        let then = match then {
            lock::Then::Keep => Then::Keep,
            lock::Then::Put(state, life) => Then::Put(state.into(), Life::Exactly(Some(life))),
        };
        (answer, then)
    }
}
