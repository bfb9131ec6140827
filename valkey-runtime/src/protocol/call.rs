//! One call of a loading verb, step by step: from each answer to the next action.
//!
//! A state machine without I/O. The async shell ([`crate::verbs::loading`]) carries out each
//! [`Step`] and reports the result to the call. The model check does the same with a simulated
//! server, one step of one caller at a time.

use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::flights::{FlightId, Flights, Look, Moment, Outcome, Role};
use crate::protocol::share::Share;
use crate::protocol::transition::Rejected;

/// The server's answer, as far as loading needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen<V> {
    /// A value that the type accepts.
    Hit(V),
    Nothing,
    /// A negative cache entry: there is no value.
    Absent,
    /// A lease, or a claim on a stale value.
    Lease(Lease),
    /// An entry with this stamp that a lease may replace: an older version, another layout, an
    /// absence.
    Old(u64),
    /// A stale value with this stamp. It stays until its successor is stored, and may be claimed.
    Stale(u64),
    /// A stale value, during the pause in which nobody loads.
    Paused(V),
    /// No lease is available: a guard, a newer version, protected bytes, or no answer.
    Closed,
}

/// The next action of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step<V> {
    /// Wait for a [turn](crate::protocol::turns) to load, then call [`Call::at_turn`]. Nothing is
    /// requested before, so that no lease is held for a load that does not run.
    Turn,
    /// Draw a token and a moment and report them by [`Call::asking`]. Then request a lease, and
    /// report the answer by [`Call::asked`].
    Ask { rejected: Rejected },
    /// Draw a moment, read the entry once more, and report the answer by [`Call::looked`].
    Look,
    /// Another process loads: give the turn back, wait a little, then call [`Call::look_again`].
    Pause { attempt: u32 },
    /// Wait until the flight has changed, then call [`Call::moved`].
    Await(FlightId),
    /// Run the loader, under the lease if there is one, and report the result by [`Call::loaded`].
    Load(Option<Lease>),
    /// Return this result, which was found or loaded by another caller.
    Done(Share<V>),
}

/// The result of the caller's own load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loaded<V> {
    Share(Share<V>),
    /// A result only for callers that had called before the load's first request was sent.
    Early(Share<V>),
    /// The load failed, or its result can't be shared.
    Failed,
    /// One of its tags was, or may have been, invalidated during the load: some followers may have
    /// called after that.
    Overtaken,
}

/// The number of times that a call requests again because another unusable entry replaced the one
/// it saw.
const REPEATS: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call<K> {
    key: K,
    began: Moment,
    place: Place,
    /// The stored entry, which is no value for this call.
    rejected: Rejected,
    /// Whether the server has shown that it gives no lease.
    closed: bool,
    /// The lease of a leader that is gone, under which this call takes over.
    inherited: Option<Lease>,
    pauses: u32,
    repeats: u32,
}

/// The place of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Outside,
    Leading(FlightId),
    /// Leads the next flight, which can't run yet.
    Queued(FlightId),
    Following(FlightId),
    /// Waits to look again whether it can follow; with the lease that it saw.
    Later(Option<Lease>),
}

impl<K: Ord + Clone> Call<K> {
    /// A call that begins now, before it queries the server for the entry. [`got`](Self::got) takes
    /// the answer.
    pub(crate) fn new(key: K, began: Moment) -> Self {
        Self {
            key,
            began,
            place: Place::Outside,
            rejected: Rejected::None,
            closed: false,
            inherited: None,
            pauses: 0,
            repeats: 0,
        }
    }

    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    /// The server's first answer.
    pub(crate) fn got<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        seen: Seen<V>,
    ) -> Step<V> {
        let lease = match seen {
            Seen::Hit(value) => return Step::Done(Share::Value(value)),
            Seen::Paused(value) => return Step::Done(Share::Stale(value)),
            Seen::Absent => return Step::Done(Share::Nothing),
            Seen::Lease(lease) => Some(lease),
            Seen::Nothing => None,
            Seen::Old(stamp) => {
                self.rejected = Rejected::Stamp(stamp);
                None
            }
            Seen::Stale(stamp) => {
                self.rejected = Rejected::Claim(stamp);
                None
            }
            Seen::Closed => {
                self.closed = true;
                None
            }
        };
        self.join(flights, lease)
    }

    /// The caller has a value, and wants its successor before the value is stale. If no load of the
    /// key is under way, the call is to request a claim on the value.
    pub(crate) fn refreshes<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        stamp: u64,
    ) -> Option<Step<V>> {
        let id = flights.lead(&self.key)?;
        self.place = Place::Leading(id);
        self.rejected = Rejected::Claim(stamp);
        Some(Step::Turn)
    }

    /// The results of others are useless to the caller, or it must not wait for them: it loads
    /// beside them.
    pub(crate) fn goes_alone<V>(&mut self) -> Step<V> {
        self.place = Place::Outside;
        Step::Turn
    }

    /// The flight that the caller leads.
    pub(crate) fn leads(&self) -> Option<FlightId> {
        match self.place {
            Place::Leading(id) | Place::Queued(id) => Some(id),
            Place::Outside | Place::Following(_) | Place::Later(_) => None,
        }
    }

    fn join<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        seen: Option<Lease>,
    ) -> Step<V> {
        let role = flights.join(&self.key, self.began, seen);
        self.take(role, seen)
    }

    fn take<V>(&mut self, role: Role, seen: Option<Lease>) -> Step<V> {
        match role {
            Role::Leader(id) => {
                self.place = Place::Leading(id);
                Step::Turn
            }
            Role::Follower(id) => {
                self.place = Place::Following(id);
                Step::Await(id)
            }
            Role::Later(id) => {
                self.place = Place::Later(seen);
                Step::Await(id)
            }
            Role::Solo => self.goes_alone(),
        }
    }

    /// The caller's turn to load has come. If it has `waited` for the turn, its earlier answer may
    /// be outdated.
    pub(crate) fn at_turn<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        now: Moment,
        waited: bool,
    ) -> Step<V> {
        let inherited = self.inherited.take();
        let Place::Leading(id) = self.place else {
            return match waited {
                true => Step::Look,
                false => Step::Load(None),
            };
        };
        if !flights.contains(id) {
            return self.join(flights, None);
        }
        if let Some(lease) = inherited {
            return Step::Load(Some(lease));
        }
        if waited {
            self.closed = false;
        }
        match self.closed {
            true => self.load_alone(flights, now, id),
            false => self.ask(),
        }
    }

    /// The turn does not come at once. Returns the lease that the call took over, if any: no lease
    /// is kept for a waiting load.
    pub(crate) fn queues<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
    ) -> Option<Lease> {
        let lease = self.inherited.take()?;
        if let Place::Leading(id) = self.place {
            flights.waiting(id);
        }
        Some(lease)
    }

    fn ask<V>(&self) -> Step<V> {
        Step::Ask {
            rejected: self.rejected,
        }
    }

    /// The server's answer to a [look](Step::Look) of that moment. `patient` as for
    /// [`asked`](Self::asked).
    pub(crate) fn looked<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        sent: Moment,
        seen: Seen<V>,
        patient: bool,
    ) -> Step<V> {
        let Place::Leading(id) = self.place else {
            return match seen {
                Seen::Hit(value) => Step::Done(Share::Value(value)),
                Seen::Paused(value) => Step::Done(Share::Stale(value)),
                Seen::Absent => Step::Done(Share::Nothing),
                _ => Step::Load(None),
            };
        };
        if !flights.contains(id) {
            return self.join(flights, None);
        }
        self.closed = false;
        match seen {
            Seen::Hit(value) => self.found(flights, id, Share::Value(value), sent),
            Seen::Paused(value) => self.found(flights, id, Share::Stale(value), sent),
            Seen::Absent => self.found(flights, id, Share::Nothing, sent),
            Seen::Lease(lease) if flights.is_anothers(id, lease) => {
                flights.end(id, Outcome::Merged(lease, sent));
                self.join(flights, Some(lease))
            }
            Seen::Lease(_) if patient => self.pause(flights, id),
            Seen::Old(stamp) => self.turns(Rejected::Stamp(stamp)),
            Seen::Stale(stamp) => self.turns(Rejected::Claim(stamp)),
            Seen::Nothing => self.turns(Rejected::None),
            Seen::Lease(_) | Seen::Closed => {
                self.closed = true;
                Step::Turn
            }
        }
    }

    fn turns<V>(&mut self, rejected: Rejected) -> Step<V> {
        self.rejected = rejected;
        Step::Turn
    }

    fn pause<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        id: FlightId,
    ) -> Step<V> {
        flights.waiting(id);
        self.pauses += 1;
        Step::Pause {
            attempt: self.pauses,
        }
    }

    fn load_alone<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        now: Moment,
        id: FlightId,
    ) -> Step<V> {
        match flights.alone(id, now) {
            Ok(()) => {
                self.place = Place::Leading(id);
                Step::Load(None)
            }
            Err(running) => {
                self.place = Place::Queued(id);
                Step::Await(running)
            }
        }
    }

    /// The request for a lease is sent.
    pub(crate) fn asking<V: Clone, W: Clone + Default>(
        &self,
        flights: &mut Flights<K, V, W>,
        sent: Moment,
        token: u64,
    ) {
        if let Place::Leading(id) = self.place {
            flights.asking(id, sent, token);
        }
    }

    /// The server's answer to the request of that moment and token. `patient` while the caller may
    /// still wait for another process.
    pub(crate) fn asked<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        now: Moment,
        (sent, token): (Moment, u64),
        seen: Seen<V>,
        patient: bool,
    ) -> Step<V> {
        let Place::Leading(id) = self.place else {
            return Step::Load(None);
        };
        if !flights.contains(id) {
            // This call stood still, and another one leads now. If it was given its lease, it still
            // loads under that.
            return match seen {
                Seen::Lease(lease) if lease.is_of(token) => Step::Load(Some(lease)),
                _ => self.join(flights, None),
            };
        }
        match seen {
            Seen::Hit(value) => self.found(flights, id, Share::Value(value), sent),
            Seen::Paused(value) => self.found(flights, id, Share::Stale(value), sent),
            Seen::Absent => self.found(flights, id, Share::Nothing, sent),
            Seen::Lease(lease) if lease.is_of(token) => {
                flights.leased(id, sent, lease);
                Step::Load(Some(lease))
            }
            Seen::Lease(lease) if flights.is_anothers(id, lease) => {
                flights.end(id, Outcome::Merged(lease, sent));
                self.join(flights, Some(lease))
            }
            Seen::Lease(_) if patient => self.pause(flights, id),
            Seen::Old(stamp) if self.repeats < REPEATS => {
                self.rejected = Rejected::Stamp(stamp);
                self.ask_again(flights, id)
            }
            Seen::Stale(stamp) if self.repeats < REPEATS => {
                self.rejected = Rejected::Claim(stamp);
                self.ask_again(flights, id)
            }
            Seen::Nothing if self.repeats < REPEATS => self.ask_again(flights, id),
            Seen::Lease(_) | Seen::Old(_) | Seen::Stale(_) | Seen::Nothing | Seen::Closed => {
                self.load_alone(flights, now, id)
            }
        }
    }

    /// The server's answer to a request of that moment is a result.
    fn found<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        id: FlightId,
        share: Share<V>,
        sent: Moment,
    ) -> Step<V> {
        flights.end(id, Outcome::Found(share.clone(), sent));
        self.place = Place::Outside;
        Step::Done(share)
    }

    fn ask_again<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        id: FlightId,
    ) -> Step<V> {
        self.repeats += 1;
        flights.waiting(id);
        self.ask()
    }

    /// The pause is over.
    pub(crate) fn look_again<V>(&self) -> Step<V> {
        Step::Look
    }

    /// The flight that the caller waits on has changed, or is over.
    pub(crate) fn moved<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
    ) -> Step<V> {
        match self.place {
            Place::Outside | Place::Leading(_) => Step::Turn,
            Place::Later(seen) => self.join(flights, seen),
            Place::Queued(id) => match flights.running_before(id) {
                Some(running) => Step::Await(running),
                None => {
                    self.place = Place::Leading(id);
                    Step::Turn
                }
            },
            Place::Following(id) => match flights.look(id) {
                Look::Wait => Step::Await(id),
                Look::Lead(lease) => {
                    self.place = Place::Leading(id);
                    self.inherited = lease;
                    Step::Turn
                }
                Look::Done(outcome) => {
                    self.place = Place::Outside;
                    match outcome {
                        Outcome::Loaded(share) => Step::Done(share),
                        Outcome::Found(found, sent) if self.began < sent => Step::Done(found),
                        Outcome::Merged(lease, sent) if self.began < sent => {
                            self.join(flights, Some(lease))
                        }
                        // It followed because of a lease that a second run of this request had
                        // made.
                        Outcome::Found(..) | Outcome::Merged(..) | Outcome::Abandoned => {
                            self.join(flights, None)
                        }
                        Outcome::Failed => {
                            let role = flights.join_after_failure(&self.key);
                            self.take(role, None)
                        }
                    }
                }
            },
        }
    }

    /// The caller's own load is over, and the caller checks whether an invalidation has overtaken
    /// it. Nobody joins it any more.
    pub(crate) fn closing<V: Clone, W: Clone + Default>(&self, flights: &mut Flights<K, V, W>) {
        if let Place::Leading(id) = self.place {
            flights.close(id);
        }
    }

    /// Gives the result of the caller's own load to its followers. A claimed value that has to
    /// serve as a fallback existed when the claim was made. So it is only for callers that had
    /// called by then.
    pub(crate) fn loaded<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        loaded: Loaded<V>,
    ) {
        let Place::Leading(id) = std::mem::replace(&mut self.place, Place::Outside) else {
            return;
        };
        let outcome = match loaded {
            Loaded::Share(stale @ Share::Stale(_)) => match flights.claimed_since(id) {
                Some(sent) => Outcome::Found(stale, sent),
                None => Outcome::Failed,
            },
            Loaded::Share(share) => Outcome::Loaded(share),
            Loaded::Early(share) => match flights.asked_at(id) {
                Some(sent) => Outcome::Found(share, sent),
                None => Outcome::Abandoned,
            },
            Loaded::Failed => Outcome::Failed,
            Loaded::Overtaken => Outcome::Abandoned,
        };
        flights.end(id, outcome);
    }

    /// The caller is gone before it was done. Returns the lease that nobody needs any more, if
    /// there is one.
    pub(crate) fn dropped<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
    ) -> Option<Lease> {
        match std::mem::replace(&mut self.place, Place::Outside) {
            Place::Outside | Place::Later(_) => None,
            Place::Leading(id) | Place::Queued(id) => flights.abandon(id),
            Place::Following(id) => flights.leave(id),
        }
    }
}

/// The names that the model check renames after each step.
#[cfg(test)]
impl Call<()> {
    pub(crate) fn visit(&mut self, visitor: &mut impl crate::model::explore::names::Visitor) {
        visitor.moment(&mut self.began);
        match &mut self.place {
            Place::Leading(id) | Place::Queued(id) | Place::Following(id) => id.visit(visitor),
            Place::Later(Some(lease)) => visitor.lease(lease),
            Place::Outside | Place::Later(None) => {}
        }
        if let Rejected::Stamp(stamp) | Rejected::Claim(stamp) = &mut self.rejected {
            visitor.stamp(stamp);
        }
        self.inherited
            .iter_mut()
            .for_each(|lease| visitor.lease(lease));
        // They only set the length of the next pause.
        self.pauses = 0;
    }

    pub(crate) fn is_in_a_flight(&self) -> bool {
        self.place != Place::Outside
    }

    pub(crate) fn flight(&self) -> Option<FlightId> {
        match self.place {
            Place::Leading(id) | Place::Queued(id) | Place::Following(id) => Some(id),
            Place::Outside | Place::Later(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope::placeholder::Name;

    const ASK: Step<u8> = Step::Ask {
        rejected: Rejected::None,
    };

    type TestFlights = Flights<(), u8, ()>;

    fn lease(token: u64) -> Lease {
        Lease::Placed(Name { token, stamp: 1 })
    }

    /// A call that began at that moment, saw nothing, and requested a lease at the next moment.
    fn asking(flights: &mut TestFlights, began: Moment, token: u64) -> Call<()> {
        let mut call = Call::new((), began);
        let step = call.got(flights, Seen::Nothing);
        assert_eq!(step, Step::<u8>::Turn);
        assert_eq!(call.at_turn(flights, began, false), ASK);
        call.asking(flights, began + 1, token);
        call
    }

    /// The turn of a call that is to load comes at once.
    fn at_turn(flights: &mut TestFlights, call: &mut Call<()>, step: Step<u8>) -> Step<u8> {
        assert_eq!(step, Step::Turn);
        call.at_turn(flights, 3, false)
    }

    /// A call that follows, or waits to follow.
    fn waiting(flights: &mut TestFlights, began: Moment, seen: Seen<u8>) -> Call<()> {
        let mut call = Call::new((), began);
        let step = call.got(flights, seen);
        assert!(matches!(step, Step::Await(_)), "{step:?}");
        call
    }

    /// The first run of the leader's request found a value, which was deleted before a second run
    /// made a lease. The caller that saw that lease began after the deletion.
    #[test]
    fn a_follower_is_not_given_what_was_shown_before_it_began() {
        let mut flights = TestFlights::new();
        let mut leader = asking(&mut flights, 1, 7);
        let mut early = waiting(&mut flights, 0, Seen::Nothing);
        let mut late = waiting(&mut flights, 3, Seen::Lease(lease(7)));
        let step = leader.asked(&mut flights, 4, (2, 7), Seen::Hit(5), true);
        assert_eq!(step, Step::Done(Share::Value(5)));
        assert_eq!(early.moved(&mut flights), Step::Done(Share::Value(5)));
        let step = late.moved(&mut flights);
        assert_eq!(at_turn(&mut flights, &mut late, step), ASK);
    }

    /// A leader that sees the lease of another flight joins that flight. So does its follower,
    /// which began before the leader saw it.
    #[test]
    fn a_follower_goes_with_its_leader_to_the_flight_that_holds_the_lease() {
        let mut flights = TestFlights::new();
        let mut first = asking(&mut flights, 1, 7);
        let step = first.asked(&mut flights, 4, (2, 7), Seen::Lease(lease(7)), true);
        assert_eq!(step, Step::Load(Some(lease(7))));
        let mut second = asking(&mut flights, 5, 8);
        let mut follower = waiting(&mut flights, 5, Seen::Nothing);
        let step = second.asked(&mut flights, 8, (6, 8), Seen::Lease(lease(7)), true);
        assert!(matches!(step, Step::Await(_)), "{step:?}");
        assert_eq!(follower.moved(&mut flights), step);
    }

    /// The first run of the leader's request claimed a value, which was deleted before a second run
    /// made a lease.
    #[test]
    fn a_follower_is_not_given_what_was_claimed_before_it_began() {
        let mut flights = TestFlights::new();
        let mut leader = asking(&mut flights, 1, 7);
        let mut early = waiting(&mut flights, 0, Seen::Stale(1));
        let mut late = waiting(&mut flights, 3, Seen::Lease(lease(7)));
        let claim = Lease::Claim { token: 7, stamp: 1 };
        let step = leader.asked(&mut flights, 4, (2, 7), Seen::Lease(claim), true);
        assert_eq!(step, Step::Load(Some(claim)));
        leader.loaded(&mut flights, Loaded::Share(Share::Stale(5)));
        assert_eq!(early.moved(&mut flights), Step::Done(Share::Stale(5)));
        let step = late.moved(&mut flights);
        assert_eq!(at_turn(&mut flights, &mut late, step), ASK);
    }

    #[test]
    fn a_value_that_was_not_claimed_serves_its_finder_alone() {
        let mut flights = TestFlights::new();
        let mut alone = Call::new((), 1);
        let step = alone.got(&mut flights, Seen::Closed);
        assert_eq!(at_turn(&mut flights, &mut alone, step), Step::Load(None));
        let mut other = waiting(&mut flights, 1, Seen::Closed);
        alone.loaded(&mut flights, Loaded::Share(Share::Stale(5)));
        let step = other.moved(&mut flights);
        assert_eq!(at_turn(&mut flights, &mut other, step), Step::Load(None));
    }

    #[test]
    fn a_flight_that_is_overtaken_before_it_loads_waits_for_its_turn() {
        let mut flights = TestFlights::new();
        let mut first = asking(&mut flights, 1, 1);
        let mut second = asking(&mut flights, 3, 2);
        let step = second.asked(&mut flights, 5, (4, 2), Seen::Lease(lease(2)), true);
        assert_eq!(step, Step::Load(Some(lease(2))));
        let step = first.asked(&mut flights, 6, (2, 1), Seen::Closed, true);
        assert!(matches!(step, Step::Await(_)), "{step:?}");
        second.loaded(&mut flights, Loaded::Share(Share::Value(5)));
        let step = first.moved(&mut flights);
        assert_eq!(at_turn(&mut flights, &mut first, step), ASK);
    }

    #[test]
    fn followers_of_a_load_without_a_lease_join_another_when_its_leader_is_gone() {
        let mut flights = TestFlights::new();
        let mut early = Call::new((), 1);
        let mut alone = Call::new((), 2);
        let step = alone.got(&mut flights, Seen::Closed);
        assert_eq!(at_turn(&mut flights, &mut alone, step), Step::Load(None));
        let step = early.got(&mut flights, Seen::Closed);
        assert!(matches!(step, Step::Await(_)), "{step:?}");
        let mut leased = asking(&mut flights, 5, 7);
        let step = leased.asked(&mut flights, 7, (6, 7), Seen::Lease(lease(7)), true);
        assert_eq!(step, Step::Load(Some(lease(7))));
        assert_eq!(alone.dropped(&mut flights), None);
        let step = early.moved(&mut flights);
        assert!(
            matches!(step, Step::Await(_)),
            "it follows the other load: {step:?}"
        );
        leased.loaded(&mut flights, Loaded::Share(Share::Value(5)));
        assert_eq!(early.moved(&mut flights), Step::Done(Share::Value(5)));
        assert!(flights.is_empty());
    }
}
