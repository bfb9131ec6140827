//! Who loads and who waits, in one process: single-flight as plain data.
//!
//! Callers of one key share a load where that can't give them anything older than what was there when they called. A
//! *flight* is one such load from the moment that its leader first asks the server. Others *follow* it if they called
//! before the request was sent that decides what the flight does, or if the server showed them the very lease that it
//! loads under. Everyone else is gathered in the *next* flight of the key, so that there is at most one load running and
//! one waiting where there is no lease to see (a guard, a newer version, a server that is down).
//!
//! Nothing here waits, sends or locks. The async shell ([`super`]) and the exhaustive check both drive it.

use std::collections::BTreeMap;

use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::share::Share;

/// Moments of this process, in order. A call has the moment of its beginning, a request that of its sending.
pub(crate) type Moment = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlightId(u64);

/// The flights of a type. `K` is a key, `V` what a load gives, and `W` what wakes a flight's followers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flights<K, V, W> {
    slots: BTreeMap<K, Slot>,
    flights: BTreeMap<FlightId, Flight<K, V, W>>,
    ids: u64,
    /// Of the flights that have moved since these were last taken.
    wakes: Vec<W>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slot {
    running: Option<FlightId>,
    /// Waits for the running one to end, unless the server gives it a lease before.
    next: Option<FlightId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight<K, V, W> {
    key: K,
    stage: Stage,
    /// Whether it is being found out if what it loaded is still good: nobody joins any more.
    closed: bool,
    /// Callers that have joined and have not yet taken the outcome.
    followers: usize,
    outcome: Option<Outcome<V>>,
    wake: W,
}

/// How far a flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Will ask the server: anyone may follow.
    Waiting,
    /// Has asked the server for a lease, with this token.
    Asking { sent: Moment, token: u64 },
    /// Loads under a lease that the server gave for a request of that moment.
    Leased { sent: Moment, lease: Lease },
    /// Loads without a lease, since that moment.
    Alone { since: Moment },
    /// Its leader is gone. The follower that looks next leads on, under its lease.
    Orphaned { sent: Moment, lease: Lease },
    /// Its leader is gone and had asked for nothing yet: anyone may follow, and the follower that looks next leads on.
    Left,
}

/// What came of a flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome<V> {
    Loaded(Share<V>),
    /// The load failed. Its error was its leader's alone: followers load for themselves.
    Failed,
    /// Its leader is gone, and had no lease to lead on under: followers join anew.
    Abandoned,
    /// The server showed a value, or that there is none, in answer to a request of that moment: it is for those who had
    /// called by then. So is a value that was claimed by it, where there came no better one.
    Found(Share<V>, Moment),
    /// Likewise a lease of another flight of this process: that is the one to follow.
    Merged(Lease, Moment),
}

/// What a caller is in a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Leader(FlightId),
    Follower(FlightId),
    /// It can follow neither what runs nor what is next: it looks again when that flight has moved.
    Later(FlightId),
    /// The load before failed and another caller has taken the lead: this one loads beside it.
    Solo,
}

/// What a follower sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Look<V> {
    Wait,
    /// The leader is gone, and this follower leads on: under its lease, if it had one.
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

    /// A caller that found no value: it follows a flight or leads one. `began` is when it called, `seen` the lease that the
    /// server showed it since.
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

    /// The flight of a caller that leads where no load of the key is under way.
    pub(crate) fn lead(&mut self, key: &K) -> Option<FlightId> {
        if self.slots.contains_key(key) {
            return None;
        }
        let id = self.create(key.clone());
        self.slots.entry(key.clone()).or_default().running = Some(id);
        Some(id)
    }

    /// A follower whose flight failed: one of them leads anew, the others load beside it.
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

    /// What is to be woken: who waits on a flight that has moved.
    pub(crate) fn take_wakes(&mut self) -> Vec<W> {
        std::mem::take(&mut self.wakes)
    }

    /// What wakes those who wait on a flight. `None` where it is over: there is nothing to wait for.
    pub(crate) fn wake(&self, id: FlightId) -> Option<W> {
        self.flights.get(&id).map(|flight| flight.wake.clone())
    }

    /// The leader sends its request.
    pub(crate) fn asking(&mut self, id: FlightId, sent: Moment, token: u64) {
        self.set_stage(id, Stage::Asking { sent, token });
    }

    /// The leader will ask again, later.
    pub(crate) fn waiting(&mut self, id: FlightId) {
        self.set_stage(id, Stage::Waiting);
    }

    /// The server gave the leader a lease. The flight is now the one that runs: what loads already has lost its own lease,
    /// if it had one, and what does not is next.
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

    /// There is no lease to be had: the leader loads without one, now, or waits for the flight that runs to end.
    pub(crate) fn alone(&mut self, id: FlightId, now: Moment) -> Result<(), FlightId> {
        if let Some(running) = self.running_before(id) {
            self.waiting(id);
            return Err(running);
        }
        self.set_stage(id, Stage::Alone { since: now });
        Ok(())
    }

    /// The flight that runs while this one is next.
    pub(crate) fn running_before(&self, id: FlightId) -> Option<FlightId> {
        let slot = self.slots.get(&self.flights.get(&id)?.key)?;
        if slot.next == Some(id) {
            slot.running
        } else {
            None
        }
    }

    /// Whether the lease is that of another flight of this process.
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

    /// Whether the flight is still under way. Its leader may have lost it: see [`depose`](Self::depose).
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

    /// Its leader stands still, or its load takes longer than anybody waits: the flight is over, and its followers join
    /// another. If the leader goes on it does so for its own caller.
    pub(crate) fn depose(&mut self, id: FlightId) {
        if self.contains(id) {
            self.end(id, Outcome::Abandoned);
        }
    }

    /// The load is over, and what it gave may have been overtaken.
    pub(crate) fn close(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.closed = true;
        }
    }

    /// When the request was sent that claimed a value for this flight, if it has one.
    pub(crate) fn claimed_since(&self, id: FlightId) -> Option<Moment> {
        match self.flights.get(&id)?.stage {
            Stage::Leased {
                sent,
                lease: Lease::Claim { .. },
            } => Some(sent),
            _ => None,
        }
    }

    /// When the request was sent by which its load began, or the load itself if it asked for none.
    pub(crate) fn asked_at(&self, id: FlightId) -> Option<Moment> {
        match self.flights.get(&id)?.stage {
            Stage::Leased { sent, .. } => Some(sent),
            Stage::Alone { since } => Some(since),
            _ => None,
        }
    }

    /// The flight has ended: its followers are told, and the next one is at its turn.
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

    /// The leader is gone, whether by cancellation or panic. A follower leads on where that can be: under the lease, or
    /// where nothing was asked for yet. Else the followers join another flight. The lease that nobody needs any more, if it
    /// had one.
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

    /// A follower looks how its flight stands. Having been told to lead or what came of it, it is a follower no more.
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

    /// A follower has taken the outcome, or is gone. The lease that nobody needs any more, where it was the last of an
    /// abandoned flight.
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

    /// Whether a caller may follow a flight of this stage.
    fn takes(self, began: Moment, seen: Option<Lease>) -> bool {
        match self {
            Stage::Waiting | Stage::Left => true,
            // The lease with this token is the one that it is asking for, though it does not know yet.
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

/// What the exhaustive check renames after each step.
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
                        // Nobody looks at it any more.
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
        /// A caller that lost its flight still knows it by its number.
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
