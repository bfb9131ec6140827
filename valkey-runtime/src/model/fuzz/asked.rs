//! The states of counters and of locks.

use crate::model::fuzz::outcome;
use crate::protocol::count;
use crate::protocol::lock::{self, Act, Answer, Ask, Then};

const NOW: u64 = 1_767_225_600_000_000;

/// Inputs to begin with: a number that chooses the request, and a state.
pub(super) fn states() -> Vec<Vec<u8>> {
    let mut state = None;
    let mut states = vec![b"\0 9223372036854775807".to_vec(), b"\x01-1".to_vec()];
    for token in 1..4 {
        let ask = Ask {
            act: Act::Acquire,
            token,
            life: 10_000,
            permits: 3,
        };
        if let (_, Then::Put(put, _)) = lock::decide(state.as_deref(), &ask, NOW) {
            states.push([&[token as u8], &put[..]].concat());
            state = Some(put);
        }
    }
    states
}

/// Bytes that are no state stay as they are. A state that is put is read again, a caller that holds
/// a lock has its fencing token then, and all numbers stay exact in Lua.
pub(super) fn asked(bytes: &[u8]) -> u64 {
    let (first, state) = bytes.split_first().unwrap_or((&0, &[]));
    outcome((counter(*first, state), locked(*first, state)))
}

fn counter(first: u8, state: &[u8]) -> u8 {
    let amounts = [1, -1, i64::MAX, i64::MIN];
    let act = count::Act::Add(amounts[usize::from(first) % 4]);
    let lasts = count::Lasts::Forever;
    let ask = count::Ask { act, lasts };
    match count::decide(Some(state), &ask, NOW) {
        (count::Count::Is(sum), count::Then::Put(put, _)) => {
            assert_eq!(sum, put);
            let look = count::Ask {
                act: count::Act::Look,
                lasts,
            };
            let seen = count::decide(Some(put.to_string().as_bytes()), &look, NOW).0;
            assert_eq!(seen, count::Count::Is(sum));
            0
        }
        (count::Count::Overflow, count::Then::Keep) => 1,
        (count::Count::NoCounter, count::Then::Keep) => 2,
        decided => panic!("{decided:?}"),
    }
}

fn locked(first: u8, state: &[u8]) -> (u8, usize) {
    let ask = Ask {
        act: [Act::Acquire, Act::Renew, Act::Release][usize::from(first / 4) % 3],
        token: u64::from(first % 4) + 1,
        life: 1000,
        permits: 1 + u32::from(first / 16) % 3,
    };
    let (answer, then) = lock::decide(Some(state), &ask, NOW);
    let holders = match &then {
        Then::Keep => 0,
        Then::Put(put, life) => {
            assert!(*life >= lock::KEPT);
            let renew = Ask {
                act: Act::Renew,
                ..ask
            };
            let (again, _) = lock::decide(Some(put), &renew, NOW);
            match (answer, ask.act) {
                (Answer::Held(_), Act::Acquire | Act::Renew) => assert_eq!(again, answer),
                _ => assert_ne!(again, Answer::NoLock),
            }
            put.len() / 64
        }
    };
    let at = match answer {
        Answer::Held(fence) => {
            assert!(fence <= 1 << 53);
            0
        }
        Answer::Busy(left) => {
            assert!(left > 0);
            1
        }
        Answer::Gone => 2,
        Answer::NoLock => {
            assert_eq!(then, Then::Keep);
            3
        }
    };
    (at, holders.min(5))
}
