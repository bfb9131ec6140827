//! Single-flight within one process as plain data: which caller loads, and which callers wait.
//!
//! Callers of one key share a load if its result can't be older than the state of the key when they
//! called. A *flight* is one such load, from its leader's first request to the server on. Other
//! callers *follow* it in two cases. They called before the sending of the request that decides the
//! flight's next step, or the server showed them the lease under which it loads. All others gather
//! in the *next* flight of the key. So at most one load runs and one waits if no lease can be seen
//! (a guard, a newer version, a server that is down).
//!
//! Nothing here waits, sends or locks. Both the async shell ([`crate::verbs::loading`]) and the
//! model check drive it.

use std::collections::BTreeMap;

use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::share::Share;

/// Moments of this process, in order. A call has the moment of its start, a request that of its
/// sending.
pub(crate) type Moment = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlightId(u64);

/// The flights of a type. `K` is a key, `V` the result of a load, and `W` wakes a flight's
/// followers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flights<K, V, W> {
    slots: BTreeMap<K, Slot>,
    flights: BTreeMap<FlightId, Flight<K, V, W>>,
    ids: u64,
    /// The wakers of flights that have changed since the last call of `take_wakes`.
    wakes: Vec<W>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slot {
    running: Option<FlightId>,
    /// Waits for the running one to end, unless the server gives it a lease first.
    next: Option<FlightId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight<K, V, W> {
    key: K,
    stage: Stage,
    /// Whether the load is over and its result is being checked: nobody joins any more.
    closed: bool,
    /// Callers that have joined and have not yet taken the outcome.
    followers: usize,
    outcome: Option<Outcome<V>>,
    wake: W,
}

/// The progress of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Has not queried the server yet: anyone may follow.
    Waiting,
    /// Has requested a lease with this token.
    Asking { sent: Moment, token: u64 },
    /// Loads under a lease that the request of that moment got.
    Leased { sent: Moment, lease: Lease },
    /// Loads without a lease since that moment.
    Alone { since: Moment },
    /// Its leader is gone. The next follower that looks becomes the leader, under its lease.
    Orphaned { sent: Moment, lease: Lease },
    /// Its leader is gone and had requested nothing yet: anyone may follow, and the next follower
    /// that looks becomes the leader.
    Left,
}

/// The outcome of a flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome<V> {
    Loaded(Share<V>),
    /// The load failed. Only its leader gets the error: followers load for themselves.
    Failed,
    /// Its leader is gone, without a lease that a follower could take over: followers join again.
    Abandoned,
    /// The request of that moment found a value or an absence. It is for callers that had called by
    /// then. The same holds for a value that the request claimed, if no better one was loaded.
    Found(Share<V>, Moment),
    /// The request of that moment found the lease of another flight of this process: callers that
    /// had called by then follow that one.
    Merged(Lease, Moment),
}

/// The role of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Leader(FlightId),
    Follower(FlightId),
    /// The caller can follow neither the running flight nor the next one: it looks again when the
    /// next one has changed.
    Later(FlightId),
    /// The previous load failed and another caller has taken the lead: this one loads beside it.
    Solo,
}

/// The state of a flight for a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Look<V> {
    Wait,
    /// The leader is gone, and this follower takes over: under the leader's lease, if it had one.
    Lead(Option<Lease>),
    Done(Outcome<V>),
}

impl<K: Ord + Clone, V: Clone, W: Clone + Default> Flights<K, V, W> {
    pub(crate) fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            flights: BTreeMap::new(),
            ids: 0,
            wakes: Vec::new(),
        }
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.flights.is_empty() && self.slots.is_empty()
    }

    /// Joins a caller that found no value: it follows a flight or leads one. `began` is the moment
    /// of its call, `seen` the lease that the server has shown it since.
    pub(crate) fn join(&mut self, key: &K, began: Moment, seen: Option<Lease>) -> Role {
        let slot = self.slots.get(key).cloned().unwrap_or_default();
        for id in [slot.running, slot.next].into_iter().flatten() {
            if let Some(flight) = self.flights.get_mut(&id)
                && !flight.closed
                && flight.stage.takes(began, seen)
            {
                flight.followers += 1;
                return Role::Follower(id);
            }
        }
        if let Some(next) = slot.next {
            return Role::Later(next);
        }
        let id = self.create(key.clone());
        let slot = self.slots.entry(key.clone()).or_default();
        match slot.running {
            None => slot.running = Some(id),
            Some(_) => slot.next = Some(id),
        }
        Role::Leader(id)
    }

    /// Lets a caller lead if no load of the key is under way.
    pub(crate) fn lead(&mut self, key: &K) -> Option<FlightId> {
        if self.slots.contains_key(key) {
            return None;
        }
        let id = self.create(key.clone());
        self.slots.entry(key.clone()).or_default().running = Some(id);
        Some(id)
    }

    /// Joins a follower whose flight failed: one such follower leads a new flight, the others load
    /// beside it.
    pub(crate) fn join_after_failure(&mut self, key: &K) -> Role {
        if self
            .slots
            .get(key)
            .is_some_and(|slot| slot.running.is_some())
        {
            return Role::Solo;
        }
        let id = self.create(key.clone());
        self.slots.entry(key.clone()).or_default().running = Some(id);
        Role::Leader(id)
    }

    fn create(&mut self, key: K) -> FlightId {
        self.ids += 1;
        let id = FlightId(self.ids);
        let (stage, followers, outcome) = (Stage::Waiting, 0, None);
        self.flights.insert(
            id,
            Flight {
                key,
                stage,
                closed: false,
                followers,
                outcome,
                wake: W::default(),
            },
        );
        id
    }

    /// The wakers of those that wait on a flight that has changed.
    pub(crate) fn take_wakes(&mut self) -> Vec<W> {
        std::mem::take(&mut self.wakes)
    }

    /// The waker of those that wait on a flight. `None` if it is over: there is nothing to wait
    /// for.
    pub(crate) fn wake(&self, id: FlightId) -> Option<W> {
        self.flights.get(&id).map(|flight| flight.wake.clone())
    }

    /// The leader sends its request.
    pub(crate) fn asking(&mut self, id: FlightId, sent: Moment, token: u64) {
        self.set_stage(id, Stage::Asking { sent, token });
    }

    /// The leader will send another request later.
    pub(crate) fn waiting(&mut self, id: FlightId) {
        self.set_stage(id, Stage::Waiting);
    }

    /// The server gave the leader a lease. This flight is now the running one. A flight that ran
    /// before and loads has lost its lease, if it had one. A flight that ran before and does not
    /// load becomes the next one.
    pub(crate) fn leased(&mut self, id: FlightId, sent: Moment, lease: Lease) {
        self.set_stage(id, Stage::Leased { sent, lease });
        let Some(flight) = self.flights.get(&id) else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(&flight.key)
            && slot.next == Some(id)
        {
            let before = slot.running.replace(id);
            slot.next = before.filter(|before| {
                let before = self.flights.get(before);
                before.is_some_and(|flight| !flight.stage.loads())
            });
        }
    }

    /// No lease is available: the leader loads without one, now, or waits for the running flight to
    /// end.
    pub(crate) fn alone(&mut self, id: FlightId, now: Moment) -> Result<(), FlightId> {
        if let Some(running) = self.running_before(id) {
            self.waiting(id);
            return Err(running);
        }
        self.set_stage(id, Stage::Alone { since: now });
        Ok(())
    }

    /// The running flight, if this flight is the next one.
    pub(crate) fn running_before(&self, id: FlightId) -> Option<FlightId> {
        let slot = self.slots.get(&self.flights.get(&id)?.key)?;
        if slot.next == Some(id) {
            slot.running
        } else {
            None
        }
    }

    /// Whether the lease belongs to another flight of this process.
    pub(crate) fn is_anothers(&self, id: FlightId, lease: Lease) -> bool {
        let slot = self
            .flights
            .get(&id)
            .and_then(|flight| self.slots.get(&flight.key));
        let others = slot
            .into_iter()
            .flat_map(|slot| [slot.running, slot.next])
            .flatten();
        others.filter(|other| *other != id).any(|other| {
            let open = self.flights.get(&other).filter(|flight| !flight.closed);
            match open.map(|flight| flight.stage) {
                Some(Stage::Asking { token, .. }) => lease.is_of(token),
                Some(Stage::Leased { lease: own, .. } | Stage::Orphaned { lease: own, .. }) => {
                    own == lease
                }
                _ => false,
            }
        })
    }

    /// Whether the flight is still under way. Its leader may have lost it: see
    /// [`depose`](Self::depose).
    pub(crate) fn contains(&self, id: FlightId) -> bool {
        self.flights
            .get(&id)
            .is_some_and(|flight| flight.outcome.is_none())
    }

    /// Whether its loader runs.
    pub(crate) fn loads(&self, id: FlightId) -> bool {
        self.flights
            .get(&id)
            .is_some_and(|flight| flight.outcome.is_none() && flight.stage.loads())
    }

    /// Its leader stands still, or its load takes longer than anyone waits: the flight is over, and
    /// its followers join another. If the leader continues, it does so only for its own caller.
    pub(crate) fn depose(&mut self, id: FlightId) {
        if self.contains(id) {
            self.end(id, Outcome::Abandoned);
        }
    }

    /// The load is over, and an invalidation may have overtaken its result.
    pub(crate) fn close(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.closed = true;
        }
    }

    /// The moment of the request that claimed a value for this flight, if it has a claim.
    pub(crate) fn claimed_since(&self, id: FlightId) -> Option<Moment> {
        match self.flights.get(&id)?.stage {
            Stage::Leased {
                sent,
                lease: Lease::Claim { .. },
            } => Some(sent),
            _ => None,
        }
    }

    /// The moment of the request with which its load began, or of the load itself if it sent none.
    pub(crate) fn asked_at(&self, id: FlightId) -> Option<Moment> {
        match self.flights.get(&id)?.stage {
            Stage::Leased { sent, .. } => Some(sent),
            Stage::Alone { since } => Some(since),
            _ => None,
        }
    }

    /// Ends the flight: its followers are woken, and the next one becomes the running one.
    pub(crate) fn end(&mut self, id: FlightId, outcome: Outcome<V>) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        if flight.outcome.is_some() {
            return;
        }
        let key = flight.key.clone();
        self.wakes.push(flight.wake.clone());
        flight.outcome = Some(outcome);
        if flight.followers == 0 {
            self.flights.remove(&id);
        }
        self.clear(&key, id);
    }

    fn clear(&mut self, key: &K, id: FlightId) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        if slot.running == Some(id) {
            slot.running = slot.next.take();
        } else if slot.next == Some(id) {
            slot.next = None;
        }
        if slot.running.is_none() {
            self.slots.remove(key);
        }
    }

    /// The leader is gone, by cancellation or panic. A follower takes over if it can: under the
    /// lease, or if nothing was requested yet. Otherwise the followers join another flight. Returns
    /// the lease that nobody needs any more, if there is one.
    pub(crate) fn abandon(&mut self, id: FlightId) -> Option<Lease> {
        let flight = self.flights.get_mut(&id)?;
        if flight.outcome.is_some() {
            return None;
        }
        let (stage, lease) = match flight.stage {
            Stage::Leased { sent, lease } | Stage::Orphaned { sent, lease } => {
                (Stage::Orphaned { sent, lease }, Some(lease))
            }
            Stage::Waiting | Stage::Left => (Stage::Left, None),
            Stage::Asking { .. } | Stage::Alone { .. } => {
                self.end(id, Outcome::Abandoned);
                return None;
            }
        };
        if flight.followers == 0 {
            self.end(id, Outcome::Abandoned);
            return lease;
        }
        self.set_stage(id, stage);
        None
    }

    /// A follower looks at its flight. If it is to lead, or gets the outcome, it is no longer a
    /// follower.
    pub(crate) fn look(&mut self, id: FlightId) -> Look<V> {
        let Some(flight) = self.flights.get_mut(&id) else {
            return Look::Done(Outcome::Failed);
        };
        if let Some(outcome) = flight.outcome.clone() {
            self.leave(id);
            return Look::Done(outcome);
        }
        let (stage, lease) = match flight.stage {
            Stage::Orphaned { sent, lease } => (Stage::Leased { sent, lease }, Some(lease)),
            Stage::Left => (Stage::Waiting, None),
            _ => return Look::Wait,
        };
        flight.followers -= 1;
        flight.stage = stage;
        // It loads once more.
        flight.closed = false;
        Look::Lead(lease)
    }

    /// A follower has taken the outcome, or is gone. Returns the lease that nobody needs any more,
    /// if this was the last follower of an abandoned flight.
    pub(crate) fn leave(&mut self, id: FlightId) -> Option<Lease> {
        let flight = self.flights.get_mut(&id)?;
        flight.followers = flight.followers.saturating_sub(1);
        if flight.followers > 0 {
            return None;
        }
        if flight.outcome.is_some() {
            self.flights.remove(&id);
            return None;
        }
        match flight.stage {
            Stage::Orphaned { .. } | Stage::Left => self.abandon(id),
            _ => None,
        }
    }

    fn set_stage(&mut self, id: FlightId, stage: Stage) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.stage = stage;
            self.wakes.push(flight.wake.clone());
        }
    }
}

impl Stage {
    fn loads(self) -> bool {
        match self {
            Stage::Leased { .. } | Stage::Orphaned { .. } | Stage::Alone { .. } => true,
            Stage::Waiting | Stage::Left | Stage::Asking { .. } => false,
        }
    }

    /// Whether a caller may follow a flight in this stage.
    fn takes(self, began: Moment, seen: Option<Lease>) -> bool {
        match self {
            Stage::Waiting | Stage::Left => true,
            // The lease with this token is the one that the flight has requested, although it does
            // not know yet.
            Stage::Asking { sent, token } => {
                began < sent || seen.is_some_and(|lease| lease.is_of(token))
            }
            Stage::Leased { sent, lease } | Stage::Orphaned { sent, lease } => {
                began < sent || seen == Some(lease)
            }
            Stage::Alone { since } => began < since,
        }
    }
}

/// The names that the model check renames after each step.
#[cfg(test)]
mod names {
    use super::{FlightId, Flights, Outcome, Stage};
    use crate::model::explore::names::{Bell, Visitor};

    impl<V> Flights<(), V, Bell> {
        pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
            let renames = |id: &FlightId, visitor: &mut _| renamed(*id, visitor) != *id;
            if self.flights.keys().any(|id| renames(id, visitor)) {
                let flights = std::mem::take(&mut self.flights).into_iter();
                let flights = flights.map(|(id, flight)| (renamed(id, visitor), flight));
                self.flights = flights.collect();
            }
            for slot in self.slots.values_mut() {
                let ids = [&mut slot.running, &mut slot.next].into_iter().flatten();
                ids.for_each(|id| id.visit(visitor));
            }
            for (id, flight) in &mut self.flights {
                flight.wake = id.bell();
                match &mut flight.outcome {
                    Some(outcome) => {
                        // Nobody looks at the stage any more.
                        flight.stage = Stage::Waiting;
                        outcome.visit(visitor);
                    }
                    None => flight.stage.visit(visitor),
                }
            }
            self.ids = self.flights.keys().next_back().map_or(0, |id| id.0);
        }
    }

    impl<V> Flights<(), V, Bell> {
        /// A caller that lost its flight still knows its number.
        pub(crate) fn knows(&mut self, id: FlightId) {
            self.ids = self.ids.max(id.0);
        }
    }

    impl<V> Outcome<V> {
        fn visit(&mut self, visitor: &mut impl Visitor) {
            match self {
                Outcome::Found(_, sent) => visitor.moment(sent),
                Outcome::Merged(lease, sent) => {
                    visitor.moment(sent);
                    visitor.lease(lease);
                }
                Outcome::Loaded(_) | Outcome::Failed | Outcome::Abandoned => {}
            }
        }
    }

    impl Stage {
        fn visit(&mut self, visitor: &mut impl Visitor) {
            match self {
                Stage::Waiting | Stage::Left => {}
                Stage::Asking { sent, token } => {
                    visitor.moment(sent);
                    visitor.token(token);
                }
                Stage::Leased { sent, lease } | Stage::Orphaned { sent, lease } => {
                    visitor.moment(sent);
                    visitor.lease(lease);
                }
                Stage::Alone { since } => visitor.moment(since),
            }
        }
    }

    fn renamed(mut id: FlightId, visitor: &mut impl Visitor) -> FlightId {
        id.visit(visitor);
        id
    }

    impl FlightId {
        pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
            visitor.flight(&mut self.0);
        }

        pub(crate) fn bell(self) -> Bell {
            Bell(self.0)
        }
    }
}
