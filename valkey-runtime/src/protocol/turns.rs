//! The turns of a type's loads: a limited number runs at a time, and the others queue.
//!
//! A turn is granted before a lease is requested, so no lease is held for a waiting load. A short
//! queue is served first come, first served. If more loads wait than can run at a time, every other
//! turn goes to the newest. The oldest are about to be given up then, and a load that its caller
//! gives up is lost work. (Maurer, "Fail at Scale", ACM Queue 13(8), 2015, serves only the newest
//! under overload; alternation also starves nobody.)
//!
//! Nothing here waits or locks. Both the async shell ([`crate::verbs::loading`]) and the model
//! check drive it.

use std::collections::BTreeMap;

use crate::protocol::flights::Moment;

/// A turn, named by the moment of its request.
pub(crate) type TurnId = Moment;

/// The turns of a type. `W` wakes a waiter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Turns<W> {
    limit: usize,
    running: BTreeMap<TurnId, W>,
    queue: BTreeMap<TurnId, W>,
    /// Whether the next turn goes to the newest if too many wait.
    newest: bool,
    /// The waiters that got a turn since the last call of `take_granted`.
    granted: Vec<W>,
}

impl<W: Clone> Turns<W> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            running: BTreeMap::new(),
            queue: BTreeMap::new(),
            newest: false,
            granted: Vec::new(),
        }
    }

    /// Requests a turn. True if it is granted at once.
    pub(crate) fn enter(&mut self, id: TurnId, wake: W) -> bool {
        let free = self.running.len() < self.limit && self.queue.is_empty();
        let entered = match free {
            true => &mut self.running,
            false => &mut self.queue,
        };
        entered.insert(id, wake);
        free
    }

    /// Whether the turn is granted and was not taken away.
    pub(crate) fn has(&self, id: TurnId) -> bool {
        self.running.contains_key(&id)
    }

    /// Whether the turn is granted or queued.
    pub(crate) fn contains(&self, id: TurnId) -> bool {
        self.running.contains_key(&id) || self.queue.contains_key(&id)
    }

    /// Ends a turn: it is over, given up, or taken away. Grants the next turns.
    pub(crate) fn leave(&mut self, id: TurnId) {
        if self.queue.remove(&id).is_none() {
            self.running.remove(&id);
        }
        while self.running.len() < self.limit
            && let Some((id, wake)) = self.next()
        {
            self.granted.push(wake.clone());
            self.running.insert(id, wake);
        }
    }

    fn next(&mut self) -> Option<(TurnId, W)> {
        let overloaded = self.queue.len() > self.limit;
        let newest = self.newest;
        self.newest = overloaded && !newest;
        match newest {
            true => self.queue.pop_last(),
            false => self.queue.pop_first(),
        }
    }

    /// The waiters to wake.
    pub(crate) fn take_granted(&mut self) -> Vec<W> {
        std::mem::take(&mut self.granted)
    }

    /// The number of waiters.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The granted turns and their owners.
    pub(crate) fn running(&self) -> impl Iterator<Item = (TurnId, &W)> {
        self.running.iter().map(|(id, wake)| (*id, wake))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.queue.is_empty()
    }
}

/// The names that the model checks rename after each step.
#[cfg(test)]
impl<W: Clone> Turns<W> {
    pub(crate) fn visit(&mut self, visitor: &mut impl crate::model::explore::names::Visitor) {
        for turns in [&mut self.running, &mut self.queue] {
            let renamed = std::mem::take(turns).into_iter();
            let renamed = renamed.map(|(mut id, wake)| {
                visitor.moment(&mut id);
                (id, wake)
            });
            *turns = renamed.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(limit: usize, asked: impl IntoIterator<Item = TurnId>) -> Turns<TurnId> {
        let mut turns = Turns::new(limit);
        for id in asked {
            turns.enter(id, id);
        }
        turns
    }

    #[test]
    fn so_many_run_and_the_rest_wait_for_one_to_end() {
        let mut turns = turns(2, 1..=4);
        assert_eq!(
            [1, 2, 3, 4].map(|id| turns.has(id)),
            [true, true, false, false]
        );
        assert_eq!(turns.queued(), 2);
        turns.leave(1);
        assert_eq!(turns.take_granted(), [3]);
        assert!(turns.has(3) && !turns.has(4));
        turns.leave(2);
        turns.leave(3);
        turns.leave(4);
        assert_eq!(turns.take_granted(), [4]);
        assert!(turns.is_empty());
    }

    #[test]
    fn a_waiter_that_gives_up_costs_no_turn() {
        let mut turns = turns(1, 1..=3);
        turns.leave(2);
        assert!(turns.take_granted().is_empty());
        turns.leave(1);
        assert_eq!(turns.take_granted(), [3]);
    }

    #[test]
    fn nobody_overtakes_those_who_wait() {
        let mut turns = turns(1, 1..=2);
        turns.leave(1);
        assert!(!turns.enter(3, 3), "2 runs");
        turns.leave(2);
        assert_eq!(turns.take_granted(), [2, 3]);
    }

    #[test]
    fn a_turn_that_was_taken_away_is_given_back_once() {
        let mut turns = turns(1, 1..=3);
        turns.leave(1);
        turns.leave(1);
        assert_eq!(
            turns.take_granted(),
            [2],
            "the second time there is nothing to give back"
        );
    }

    #[test]
    fn a_short_queue_is_served_in_order_and_a_long_one_from_both_ends() {
        let served = |limit, waiting: u64| {
            let mut turns = turns(limit, 1..=limit as u64 + waiting);
            for at in 0.. {
                let Some((id, _)) = turns.running().next() else {
                    break;
                };
                assert!(at < 100, "it comes to an end");
                turns.leave(id);
            }
            turns.take_granted()
        };
        assert_eq!(served(2, 2), [3, 4]);
        assert_eq!(served(1, 5), [2, 6, 3, 5, 4]);
    }
}
