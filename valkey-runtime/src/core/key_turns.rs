//! Turns at a key: of the callers in this process that want to change one value, one tries at a
//! time, in the order of their calls. So they do not disturb each other, and nobody starves.
//!
//! A turn saves work and protects nothing: a change is conditional in any case. So if no turn ends
//! for a while, because its owner is not polled or the server does not answer, the next caller goes
//! on beside it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::base::lock::lock;
use crate::base::runtime;

/// The time without an end of a turn after which the next caller goes on.
const LONGEST_TURN: Duration = Duration::from_millis(100);

/// The turns at the keys of a type. A key without callers has no entry.
#[derive(Default)]
pub(crate) struct KeyTurns {
    lines: Mutex<HashMap<Box<[u8]>, Arc<Line>>>,
}

/// The callers at a key.
struct Line {
    turn: Arc<Semaphore>,
    /// The number of turns that have ended or were taken away.
    ended: AtomicU64,
}

/// A place in the line of a key, with a turn or without.
pub(crate) struct Turn<'t> {
    turns: &'t KeyTurns,
    key: &'t [u8],
    line: Option<Arc<Line>>,
    permit: Option<(OwnedSemaphorePermit, u64)>,
}

impl KeyTurns {
    /// Waits for a turn at the key. `None` if the time is over before that.
    pub(crate) async fn enter<'t>(&'t self, key: &'t [u8], until: Instant) -> Option<Turn<'t>> {
        let line = lock(&self.lines)
            .entry(key.into())
            .or_insert_with(|| Arc::new(Line::new()))
            .clone();
        let mut turn = Turn {
            turns: self,
            key,
            line: Some(line.clone()),
            permit: None,
        };
        let permit = match line.turn.clone().try_acquire_owned() {
            Ok(permit) => permit,
            // Without timers nobody could go on beside a turn that does not end.
            Err(_) if !runtime::has_timers() => return Some(turn),
            Err(_) => line.wait(until).await?,
        };
        turn.permit = Some((permit, line.ended.load(Ordering::SeqCst)));
        Some(turn)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.lines).is_empty()
    }
}

impl Line {
    fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            ended: AtomicU64::new(0),
        }
    }

    async fn wait(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        let mut granted = pin!(self.turn.clone().acquire_owned());
        loop {
            let ended = self.ended.load(Ordering::SeqCst);
            let patience = until.min(Instant::now() + LONGEST_TURN);
            match tokio::time::timeout_at(patience, granted.as_mut()).await {
                // The semaphore is never closed.
                Ok(permit) => return permit.ok(),
                Err(_) if Instant::now() >= until => return None,
                Err(_) => {
                    if self.ends(ended) {
                        self.turn.add_permits(1);
                    }
                }
            }
        }
    }

    /// Ends the turn with this number, unless it has ended.
    fn ends(&self, number: u64) -> bool {
        let next = number.wrapping_add(1);
        let ended = &self.ended;
        ended
            .compare_exchange(number, next, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else {
            return;
        };
        if let Some((permit, number)) = self.permit.take() {
            match line.ends(number) {
                true => drop(permit),
                // It was taken away, and another one has been granted in its place.
                false => permit.forget(),
            }
        }
        let mut lines = lock(&self.turns.lines);
        drop(line);
        if lines
            .get(self.key)
            .is_some_and(|line| Arc::strong_count(line) == 1)
        {
            lines.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const KEY: &[u8] = b"cart:1";

    fn in_a_second() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_of_a_key_have_their_turns_in_order_and_others_do_not_wait() {
        let turns = KeyTurns::default();
        let first = turns.enter(KEY, in_a_second()).now_or_never().unwrap();
        let other = turns.enter(b"cart:2", in_a_second()).now_or_never();
        assert!(other.is_some(), "another key");
        let mut second = Box::pin(turns.enter(KEY, in_a_second()));
        let mut third = Box::pin(turns.enter(KEY, in_a_second()));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "not its turn");
        let second = second.await;
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        drop(third.await);
        drop(other);
        assert!(turns.is_empty(), "nothing is kept of keys without callers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_costs_no_turn() {
        let turns = KeyTurns::default();
        let first = turns.enter(KEY, in_a_second()).await;
        let mut second = Box::pin(turns.enter(KEY, in_a_second()));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(turns.enter(KEY, in_a_second()));
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        drop(first);
        assert!(third.now_or_never().is_some());
        assert!(turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_end_is_taken_away_for_one_caller() {
        let turns = KeyTurns::default();
        let stuck = turns.enter(KEY, in_a_second()).await;
        let began = Instant::now();
        let mut second = Box::pin(turns.enter(KEY, in_a_second()));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(turns.enter(KEY, in_a_second()));
        assert!((&mut third).now_or_never().is_none());
        let second = second.await.unwrap();
        assert!(began.elapsed() >= LONGEST_TURN);
        assert!(
            (&mut third).now_or_never().is_none(),
            "one goes on, not all"
        );
        // The turn that was taken away gives nothing back.
        drop(stuck);
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        let third = third.now_or_never().expect("its turn").unwrap();
        let mut fourth = Box::pin(turns.enter(KEY, in_a_second()));
        assert!(
            (&mut fourth).now_or_never().is_none(),
            "one at a time still"
        );
        drop(third);
        drop(fourth.await);
        assert!(turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_its_time() {
        let turns = KeyTurns::default();
        let _stuck = turns.enter(KEY, in_a_second()).await;
        let soon = Instant::now() + Duration::from_millis(50);
        assert!(turns.enter(KEY, soon).await.is_none());
        assert_eq!(Instant::now(), soon);
    }
}
