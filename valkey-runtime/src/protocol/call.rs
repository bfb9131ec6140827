//! One call of a loading verb, step by step: from what was seen to what is to be done next.
//!
//! A state machine without I/O. The async shell ([`super`]) does what a [`Step`] says and tells the call what came of it;
//! the exhaustive check does the same with a simulated server, one step of one caller at a time.

use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::flights::{FlightId, Flights, Look, Moment, Outcome, Role};
use crate::protocol::share::Share;
use crate::protocol::transition::Rejected;

/// What the server showed, as far as loading is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen<V> {
    /// A value that the type takes.
    Hit(V),
    Nothing,
    /// It is known that there is no value.
    Absent,
    /// A lease, or a claim on a value that is no longer fresh.
    Lease(Lease),
    /// An entry with this stamp that a lease may replace: an older version, another layout, an absence.
    Old(u64),
    /// A value with this stamp that is no longer fresh and stays until there is another: it may be claimed.
    Stale(u64),
    /// A value that is no longer fresh, while nobody is to try again.
    Paused(V),
    /// No lease is to be had: a guard, a newer version, bytes that are kept, or no answer.
    Closed,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step<V> {
    /// Wait for a [turn](crate::protocol::turns) to load, then [`Call::at_turn`]. Nothing is asked for before, so that no lease is held
    /// for a load that does not run.
    Turn,
    /// Draw a token and a moment, tell them by [`Call::asking`], ask for a lease, and tell the answer by [`Call::asked`].
    Ask { rejected: Rejected },
    /// Draw a moment, read the entry once more, and tell what that showed by [`Call::looked`].
    Look,
    /// Another process loads: give the turn back, wait a little, then [`Call::look_again`].
    Pause { attempt: u32 },
    /// Wait until the flight has moved, then [`Call::moved`].
    Await(FlightId),
    /// Run the loader, under the lease if there is one, and tell by [`Call::loaded`].
    Load(Option<Lease>),
    /// The answer, which was found or loaded by another.
    Done(Share<V>),
}

/// What came of the caller's own load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loaded<V> {
    Share(Share<V>),
    /// The same, for those alone who had called before the request was sent that it began with.
    Early(Share<V>),
    /// It failed, or gave what can't be shared.
    Failed,
    /// One of its tags was invalidated meanwhile, or may have been: who joined it may have come after that.
    Overtaken,
}

/// How often a call asks anew because the entry was replaced under it by another that it can't use.
const ANEW: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call<K> {
    key: K,
    began: Moment,
    place: Place,
    /// The entry that was there and is not a value for this call.
    rejected: Rejected,
    /// Whether the server was seen to give no lease.
    closed: bool,
    /// The lease that it leads on under, whose leader is gone.
    inherited: Option<Lease>,
    pauses: u32,
    anew: u32,
}

/// Where the caller stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Outside,
    Leading(FlightId),
    /// Leads the next flight, whose turn has not come.
    Queued(FlightId),
    Following(FlightId),
    /// Waits to look again whether it can follow; with the lease that it was shown.
    Later(Option<Lease>),
}

impl<K: Ord + Clone> Call<K> {
    /// A call that begins now, before it asks the server for the entry; what that shows is told by [`got`](Self::got).
    pub(crate) fn new(key: K, began: Moment) -> Self {
        Self {
            key,
            began,
            place: Place::Outside,
            rejected: Rejected::None,
            closed: false,
            inherited: None,
            pauses: 0,
            anew: 0,
        }
    }

    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    /// What the server showed first.
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

    /// The caller is given a value, and would have the next one before that is no longer fresh. Where no load of the key is
    /// under way it is to ask for a claim on it.
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

    /// What others have is of no use to the caller, or it must not wait for it: it loads beside them.
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

    /// The caller's turn to load has come. If it has `waited` for that, what it saw before may be over.
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

    /// The turn does not come at once. The lease that the call leads on under, if it does: it is not kept for a load that waits.
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

    /// What the server showed in answer to a [look](Step::Look) of that moment. `patient` as for [`asked`](Self::asked).
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

    /// The request for a lease goes out.
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

    /// What the server showed in answer to the request of that moment and token. `patient` while the caller may still wait
    /// for another process.
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
            // It stood still, and another leads. A lease that it has been given it loads under all the same.
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
            Seen::Old(stamp) if self.anew < ANEW => {
                self.rejected = Rejected::Stamp(stamp);
                self.ask_anew(flights, id)
            }
            Seen::Stale(stamp) if self.anew < ANEW => {
                self.rejected = Rejected::Claim(stamp);
                self.ask_anew(flights, id)
            }
            Seen::Nothing if self.anew < ANEW => self.ask_anew(flights, id),
            Seen::Lease(_) | Seen::Old(_) | Seen::Stale(_) | Seen::Nothing | Seen::Closed => {
                self.load_alone(flights, now, id)
            }
        }
    }

    /// The server showed the answer to a request of that moment.
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

    fn ask_anew<V: Clone, W: Clone + Default>(
        &mut self,
        flights: &mut Flights<K, V, W>,
        id: FlightId,
    ) -> Step<V> {
        self.anew += 1;
        flights.waiting(id);
        self.ask()
    }

    /// The pause is over.
    pub(crate) fn look_again<V>(&self) -> Step<V> {
        Step::Look
    }

    /// The flight that the caller waits on has moved, or is over.
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
                        // It followed because of the lease that this request had made, when a second copy of it was run.
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

    /// The caller's own load is over, and it is to be found out whether it was overtaken. From here on nobody joins it.
    pub(crate) fn closing<V: Clone, W: Clone + Default>(&self, flights: &mut Flights<K, V, W>) {
        if let Place::Leading(id) = self.place {
            flights.close(id);
        }
    }

    /// What came of the caller's own load: its followers are told. A value that it claimed, and that has to serve, was there
    /// when the claim was made: it is for those who had called by then.
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

    /// The caller is gone before it was done. The lease that nobody needs any more, if there is one.
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

/// What the exhaustive check renames after each step.
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
        // They only say how long the next one lasts.
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

    /// A call that began at that moment, was shown nothing, and has asked for a lease at the next.
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

    /// A call that follows, or waits to.
    fn waiting(flights: &mut TestFlights, began: Moment, seen: Seen<u8>) -> Call<()> {
        let mut call = Call::new((), began);
        let step = call.got(flights, seen);
        assert!(matches!(step, Step::Await(_)), "{step:?}");
        call
    }

    /// The first copy of the leader's request found a value, which was deleted before a second copy made a lease. The caller
    /// that was shown that lease began after the deletion.
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

    /// The first copy of the leader's request claimed a value, which was deleted before a second copy made a lease.
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
    fn followers_of_a_load_without_a_lease_join_anew_when_its_leader_is_gone() {
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
