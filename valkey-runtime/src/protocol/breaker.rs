//! The circuit breaker: whether commands are sent to the server. It also knows whether there is a
//! connection.
//!
//! A state machine without I/O; [`crate::backend::link`] carries out its decisions. Only
//! **silence** counts, and not the content of an answer. A server that answers that it is out of
//! memory, loading or read-only has cost one round trip, and may be used again. A server that does
//! not answer costs each caller a deadline. It gets no more commands once its silence is certain:
//!
//! - An attempt to connect failed. The first attempt after the loss of a connection is made at
//!   once, and commands wait for it.
//! - At least [`FEW`] commands in a row were not answered, over at least one command deadline. So
//!   at least one of them was sent after another had already failed. Neither one slow command opens
//!   the breaker, nor a thousand callers that wait behind it and fail with it. A failure rate would
//!   need a window and a minimum of traffic, and would open for one slow kind of command among fast
//!   ones.
//!
//! While it is open nothing is sent. A new connection decides: one task tries to connect, after a
//! jittered pause that grows with each failure. So there is never more than one probe, no caller
//! pays for it, and no caller can leave it half done. A dead connection is replaced even if nobody
//! was notified of its end. The pauses start from the shortest again when a command was answered,
//! and not when a connection was made. Otherwise a server that accepts connections and then is
//! silent would be tried all the time.
//!
//! An answer may say that the server behind the connection is the wrong one. It may be a replica,
//! which a primary becomes in a failover behind a fixed address, or a server that loads its data
//! for long. Then another connection is made beside the current one, after a jittered pause and at
//! most once a second. The old one is used until the new one exists, and stays if that fails.
//!
//! In a cluster each node has a breaker, and the store has one over all of them. The store's
//! breaker opens when all nodes with slots are silent ([`Breaker::all_silent`]). So a silent node
//! costs only its own keys.

use std::mem::{self, Discriminant};
use std::time::Duration;

/// The number of unanswered commands that is too many, if they also took long enough.
const FEW: u32 = 3;
/// The pause before the second attempt to connect, doubled for each further one up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The minimum time between two renewals of a connection on a server's answer. Also the time for
/// which a server may answer only that it is loading, before that counts.
const RENEWAL: Duration = Duration::from_secs(1);
/// The largest extra delay of a renewal, so that many processes don't connect at the same time.
const RENEWAL_JITTER: Duration = Duration::from_millis(100);

/// Whether a store sends commands to its server: the state of its circuit breaker, returned by
/// [`Store::breaker`](crate::core::store::Store::breaker).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Commands are sent. This includes the first connection of the store, and the first attempt
    /// after the loss of a connection: commands wait for it, within their deadline.
    Closed,
    /// The server did not answer, or the store was closed. Commands fail at once and are not sent.
    Open,
    /// Like open, while one attempt to connect decides.
    HalfOpen,
}

impl BreakerState {
    /// A stable name for programs: `closed`, `open` or `half_open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// `C` is a connection, `E` the reason why the server is not used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Breaker<C, E> {
    phase: Phase<C, E>,
    /// The number of unanswered commands in a row, and the time when the first of them failed, in
    /// microseconds.
    unanswered: Option<(u32, u64)>,
    /// Openings and failed attempts to connect since the last answer to a command.
    failures: u32,
    /// The deadline of a command, in microseconds.
    deadline: u64,
    /// [`RENEWAL`], in microseconds.
    renewal: u64,
    /// The time of the last attempt to renew a connection.
    renewed: Option<u64>,
    /// The time since which the server has answered only that it is loading.
    loading: Option<u64>,
}

/// A connection that is made beside the current one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Renewal {
    pause: Duration,
    attempts: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase<C, E> {
    /// Nothing connects: the next command starts it.
    Idle,
    Connecting,
    Up {
        connection: C,
        /// Distinguishes this connection from those before and after it.
        generation: u64,
        /// Whether it has answered a command.
        answered: bool,
        /// Set while another one is made, because this one's server answered that it is the wrong
        /// one.
        renewal: Option<Renewal>,
    },
    Open(E),
    HalfOpen(E),
    /// The store was closed. This phase never ends.
    Over(E),
}

/// The advice for a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advice<'b, C, E> {
    /// Use this connection, of this generation.
    Send(&'b C, u64),
    /// Call [`Breaker::start`], and wait for a change.
    Wait,
    /// Fail at once.
    Refuse(&'b E),
}

impl<C, E> Breaker<C, E> {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self {
            phase: Phase::Idle,
            unanswered: None,
            failures: 0,
            deadline: micros(deadline),
            renewal: micros(RENEWAL),
            renewed: None,
            loading: None,
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Idle | Phase::Connecting | Phase::Up { .. } => BreakerState::Closed,
            Phase::Open(_) | Phase::Over(_) => BreakerState::Open,
            Phase::HalfOpen(_) => BreakerState::HalfOpen,
        }
    }

    /// The value that waiters compare to see a change.
    pub(crate) fn phase(&self) -> Discriminant<Phase<C, E>> {
        mem::discriminant(&self.phase)
    }

    /// The advice for the next command.
    pub(crate) fn advice(&self) -> Advice<'_, C, E> {
        match &self.phase {
            Phase::Up {
                connection,
                generation,
                ..
            } => Advice::Send(connection, *generation),
            Phase::Idle | Phase::Connecting => Advice::Wait,
            Phase::Open(why) | Phase::HalfOpen(why) | Phase::Over(why) => Advice::Refuse(why),
        }
    }

    /// Whether [`answered`](Self::answered) would change anything: most answers need not be
    /// reported.
    pub(crate) fn listens(&self) -> bool {
        let fresh = matches!(
            self.phase,
            Phase::Up {
                answered: false,
                ..
            }
        );
        fresh || self.failures > 0 || self.unanswered.is_some() || self.loading.is_some()
    }

    /// The number of unanswered commands in a row, and the time of the first failure. An open
    /// breaker reports a sufficient number since time 0.
    pub(crate) fn silence(&self) -> Option<(u32, u64)> {
        match self.state() {
            BreakerState::Closed => self.unanswered,
            BreakerState::Open | BreakerState::HalfOpen => Some((FEW, 0)),
        }
    }

    /// Whether such silences of all nodes of a cluster are a silence of the cluster. The number and
    /// the duration are the same as for one server.
    pub(crate) fn is_silence(&self, of_nodes: &[(u32, u64)], now: u64) -> bool {
        let count = of_nodes.iter().map(|(count, _)| count).sum::<u32>();
        let since = of_nodes.iter().map(|(_, since)| *since).min();
        since.is_some_and(|since| count >= FEW && now.saturating_sub(since) >= self.deadline)
    }

    /// A caller needs a connection.
    pub(crate) fn start(&mut self) {
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Connecting;
        }
    }

    /// Whether a task should be connecting. The caller of the step that makes this true starts the
    /// task.
    pub(crate) fn connects(&self) -> bool {
        match self.phase {
            Phase::Connecting | Phase::Open(_) | Phase::HalfOpen(_) => true,
            Phase::Up { ref renewal, .. } => renewal.is_some(),
            Phase::Idle | Phase::Over(_) => false,
        }
    }

    /// Whether the new connection is to replace one that is still used.
    pub(crate) fn renews(&self) -> bool {
        matches!(
            self.phase,
            Phase::Up {
                renewal: Some(_),
                ..
            }
        )
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// The store is closed: the connection is dropped, and there will be no other.
    pub(crate) fn close(&mut self, why: E) {
        self.set(Phase::Over(why));
    }

    /// The connection of that generation answered a command, whatever the answer says.
    pub(crate) fn answered(&mut self, by: u64) {
        if let Phase::Up {
            generation,
            answered,
            ..
        } = &mut self.phase
            && *generation == by
        {
            *answered = true;
            self.failures = 0;
            self.unanswered = None;
            self.loading = None;
        }
    }

    /// The server behind the connection of that generation answers that it is the wrong one. The
    /// connection is used until there is another.
    pub(crate) fn elsewhere(&mut self, by: u64, now: u64, random: u64) {
        self.answered(by);
        if let Phase::Up {
            generation,
            renewal: renewal @ None,
            ..
        } = &mut self.phase
            && *generation == by
        {
            let due = self.renewed.map_or(0, |last| last + self.renewal);
            let jitter = random % micros(RENEWAL_JITTER);
            let wait = due.saturating_sub(now) + jitter;
            *renewal = Some(Renewal {
                pause: Duration::from_micros(wait),
                attempts: wait == 0,
            });
            if wait == 0 {
                self.renewed = Some(now);
            }
        }
    }

    /// The server behind the connection of that generation answers that it is loading. The time for
    /// this is limited, because the same address may lead to another server by now.
    pub(crate) fn loads(&mut self, by: u64, now: u64, random: u64) {
        let since = self.loading.unwrap_or(now);
        if now.saturating_sub(since) >= self.renewal {
            self.elsewhere(by, now, random);
        } else {
            self.answered(by);
        }
        if matches!(self.phase, Phase::Up { generation, .. } if generation == by) {
            self.loading = Some(since);
        }
    }

    /// A command was not answered in time: by the connection of that generation, or because there
    /// was none yet.
    pub(crate) fn unanswered(&mut self, by: Option<u64>, now: u64, why: impl FnOnce() -> E) {
        match (&self.phase, by) {
            (Phase::Up { generation, .. }, Some(by)) if *generation == by => {}
            (Phase::Connecting, None) => {}
            // It says nothing about the current connection.
            _ => return,
        }
        let (count, since) = self.unanswered.get_or_insert((0, now));
        *count = count.saturating_add(1);
        if *count < FEW || now.saturating_sub(*since) < self.deadline {
            return;
        }
        match &self.phase {
            // The running attempt is the probe.
            Phase::Connecting
            | Phase::Up {
                renewal: Some(Renewal { attempts: true, .. }),
                ..
            } => self.set(Phase::HalfOpen(why())),
            _ => self.open(why()),
        }
    }

    /// All nodes of a cluster are silent: [`is_silence`](Self::is_silence). The connection of that
    /// generation leads to all of them.
    pub(crate) fn all_silent(&mut self, by: u64, why: impl FnOnce() -> E) {
        if matches!(self.phase, Phase::Up { generation, .. } if generation == by) {
            self.open(why());
        }
    }

    /// The connection of that generation was lost. A new one is made at once, unless several in a
    /// row answered nothing.
    pub(crate) fn lost(&mut self, by: u64, why: impl FnOnce() -> E) {
        match self.phase {
            Phase::Up {
                generation,
                answered,
                ..
            } if generation == by => {
                self.failures += u32::from(!answered);
                match self.failures {
                    0 | 1 => self.set(Phase::Connecting),
                    _ => self.set(Phase::Open(why())),
                }
            }
            _ => {}
        }
    }

    /// The pause of the connecting task before its next attempt.
    pub(crate) fn pause(&self, random: u64) -> Duration {
        match &self.phase {
            Phase::Open(_) => pause(self.failures, random),
            Phase::Up {
                renewal: Some(renewal),
                ..
            } => renewal.pause,
            _ => Duration::ZERO,
        }
    }

    /// The connecting task makes its next attempt.
    pub(crate) fn attempt(&mut self, now: u64) {
        self.phase = match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Open(why) => Phase::HalfOpen(why),
            mut phase => {
                if let Phase::Up {
                    renewal: Some(renewal),
                    ..
                } = &mut phase
                {
                    renewal.attempts = true;
                    self.renewed = Some(now);
                }
                phase
            }
        };
    }

    /// The attempt succeeded, and the task is done.
    pub(crate) fn connected(&mut self, generation: u64, connection: C) {
        self.set(Phase::Up {
            connection,
            generation,
            answered: false,
            renewal: None,
        });
    }

    /// The attempt failed. If it was to replace a connection, that one stays in use, and nothing
    /// connects any more.
    pub(crate) fn failed(&mut self, why: E) {
        match &mut self.phase {
            Phase::Up { renewal, .. } => *renewal = None,
            _ => self.open(why),
        }
    }

    /// The task ended without a connection: its runtime was shut down.
    pub(crate) fn abandoned(&mut self) {
        match &mut self.phase {
            Phase::Up { renewal, .. } => *renewal = None,
            _ => self.set(Phase::Idle),
        }
    }

    fn open(&mut self, why: E) {
        self.set(Phase::Open(why));
        self.failures = self.failures.saturating_add(1);
    }

    fn set(&mut self, phase: Phase<C, E>) {
        if !self.is_over() {
            self.phase = phase;
        }
        self.unanswered = None;
        self.loading = None;
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Between half of the pause and all of it, so that many processes don't come back at the same
/// time.
pub(crate) fn pause(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    let half = longest / 2;
    let spread = micros(half).max(1);
    half + Duration::from_micros(random % spread)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const DEADLINE: Duration = Duration::from_micros(2);

    type Tested = Breaker<(), u64>;

    fn up() -> Tested {
        let mut breaker = Tested::new(DEADLINE);
        breaker.start();
        breaker.connected(1, ());
        breaker.answered(1);
        breaker
    }

    /// Fails at the given times, and returns the last state.
    fn silent(breaker: &mut Tested, times: &[u64]) -> BreakerState {
        for time in times {
            breaker.unanswered(Some(1), *time, || *time);
        }
        breaker.state()
    }

    #[test]
    fn one_slow_command_does_not_open_it_nor_do_all_that_wait_behind_it() {
        assert_eq!(silent(&mut up(), &[10]), BreakerState::Closed);
        assert_eq!(silent(&mut up(), &[10; 1000]), BreakerState::Closed);
        assert_eq!(silent(&mut up(), &[10, 11, 11, 11]), BreakerState::Closed);
        assert_eq!(
            silent(&mut up(), &[10, 100]),
            BreakerState::Closed,
            "two are few"
        );
    }

    #[test]
    fn silence_over_a_deadline_opens_it() {
        assert_eq!(silent(&mut up(), &[10, 10, 12]), BreakerState::Open);
        assert_eq!(silent(&mut up(), &[10, 12, 14]), BreakerState::Open);
    }

    #[test]
    fn an_answer_between_keeps_it_closed() {
        let mut breaker = up();
        for time in 0..100 {
            silent(&mut breaker, &[time, time]);
            breaker.answered(1);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn silence_while_it_connects_refuses_those_who_come_and_leaves_the_attempt_alone() {
        let mut breaker = Tested::new(DEADLINE);
        breaker.start();
        for time in [1, 2, 3] {
            breaker.unanswered(None, time, || 9);
        }
        assert_eq!(breaker.advice(), Advice::Refuse(&9));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.connected(1, ());
        assert_eq!(breaker.advice(), Advice::Send(&(), 1));
    }

    #[test]
    fn pauses_grow_until_a_command_is_answered_and_are_jittered() {
        let mut breaker = up();
        let whole = |breaker: &Tested| breaker.pause(u64::MAX);
        let mut pauses = Vec::new();
        breaker.lost(1, || 0);
        assert_eq!(
            whole(&breaker),
            Duration::ZERO,
            "the first attempt is made at once"
        );
        for _ in 0..7 {
            breaker.attempt(0);
            breaker.failed(0);
            let (least, most) = (breaker.pause(0), whole(&breaker));
            assert!(least * 2 <= LONGEST_PAUSE && most < least * 2, "{most:?}");
            pauses.push(least.as_millis() * 2);
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        for generation in 2..4 {
            breaker.attempt(0);
            breaker.connected(generation, ());
            breaker.lost(generation, || 0);
            assert_eq!(
                breaker.state(),
                BreakerState::Open,
                "it accepts connections and then is silent"
            );
            assert_eq!(breaker.pause(0), LONGEST_PAUSE / 2);
        }
        breaker.attempt(0);
        breaker.connected(4, ());
        breaker.answered(4);
        breaker.lost(4, || 0);
        breaker.attempt(0);
        breaker.failed(0);
        assert_eq!(breaker.pause(0), FIRST_PAUSE / 2);
    }

    #[test]
    fn a_connection_that_was_of_no_use_is_replaced_at_once_and_a_second_one_is_not() {
        let mut breaker = Tested::new(DEADLINE);
        breaker.start();
        breaker.connected(1, ());
        breaker.lost(1, || 0);
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.connected(2, ());
        breaker.lost(2, || 0);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn a_server_that_says_it_is_not_the_one_is_left_once_another_lets_us_in() {
        let mut breaker = up();
        breaker.elsewhere(1, 1000, 7);
        assert_eq!(breaker.advice(), Advice::Send(&(), 1), "it is used on");
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.connects() && breaker.renews());
        assert_eq!(breaker.pause(9), Duration::from_micros(7), "jittered");
        breaker.attempt(0);
        breaker.connected(2, ());
        assert_eq!(breaker.advice(), Advice::Send(&(), 2));
        assert!(!breaker.connects() && !breaker.renews());
    }

    #[test]
    fn a_connection_that_can_not_be_replaced_stays() {
        let mut breaker = up();
        breaker.elsewhere(1, 1000, 0);
        breaker.attempt(0);
        breaker.failed(3);
        assert_eq!(breaker.advice(), Advice::Send(&(), 1));
        assert!(!breaker.connects(), "until the server says so again");
        breaker.elsewhere(1, 1001, 0);
        assert!(breaker.renews());
        breaker.abandoned();
        assert_eq!(breaker.advice(), Advice::Send(&(), 1));
        assert!(!breaker.connects());
    }

    #[test]
    fn a_connection_is_renewed_at_most_once_a_second() {
        let (second, jitter) = (micros(RENEWAL), micros(RENEWAL_JITTER));
        let mut breaker = up();
        let mut attempts = Vec::new();
        let mut now = 5_000_000;
        for generation in 1..=20 {
            // As often as possible, and at the least lucky times.
            for random in [generation * 77_777, u64::MAX, 0] {
                breaker.elsewhere(generation, now, random);
            }
            now += micros(breaker.pause(0));
            // A busy machine is late with every third attempt.
            now += u64::from(generation % 3 == 0) * second;
            attempts.push(now);
            breaker.attempt(now);
            breaker.connected(generation + 1, ());
            now += generation * 10_000;
        }
        for pair in attempts.windows(2) {
            let apart = pair[1] - pair[0];
            assert!((second..=2 * second + jitter).contains(&apart), "{apart}");
        }
        assert!(attempts[0] < 5_000_000 + jitter, "the first one soon");
    }

    #[test]
    fn a_server_that_loads_for_long_is_left_and_one_that_loads_for_a_moment_is_not() {
        let second = micros(RENEWAL);
        let mut breaker = up();
        breaker.loads(1, 1000, 0);
        assert!(breaker.listens(), "to learn that loading is over");
        breaker.loads(1, 1000 + second - 1, 0);
        assert!(!breaker.renews());
        breaker.answered(1);
        breaker.loads(1, 1000 + second, 0);
        breaker.loads(1, 1000 + 2 * second - 1, 0);
        assert!(!breaker.renews(), "it answered between");
        breaker.loads(1, 1000 + 2 * second, 0);
        assert!(breaker.renews());
        breaker.attempt(0);
        breaker.connected(2, ());
        breaker.loads(2, 1000 + 2 * second, 0);
        breaker.loads(1, 1000 + 9 * second, 0);
        assert!(!breaker.renews(), "another connection has its own time");
    }

    #[test]
    fn an_answer_of_an_old_connection_renews_nothing() {
        let mut breaker = up();
        breaker.connected(2, ());
        breaker.elsewhere(1, 1000, 0);
        assert!(!breaker.renews());
        breaker.lost(2, || 0);
        breaker.elsewhere(2, 1000, 0);
        assert!(!breaker.renews());
    }

    #[test]
    fn a_silent_server_is_not_asked_whether_or_not_its_connection_is_renewed() {
        for attempts in [false, true] {
            let mut breaker = up();
            breaker.elsewhere(1, 10, 5);
            if attempts {
                breaker.attempt(0);
            }
            let state = silent(&mut breaker, &[10, 12, 14]);
            let expected = match attempts {
                true => BreakerState::HalfOpen,
                false => BreakerState::Open,
            };
            assert_eq!(state, expected);
            assert!(breaker.connects(), "the same task");
        }
    }

    #[test]
    fn a_cluster_is_not_asked_once_no_node_is() {
        let mut breaker = up();
        breaker.all_silent(7, || 7);
        assert_eq!(
            breaker.state(),
            BreakerState::Closed,
            "of an old connection"
        );
        breaker.all_silent(1, || 8);
        assert_eq!(breaker.advice(), Advice::Refuse(&8));
        assert!(breaker.connects() && !breaker.pause(0).is_zero());
    }

    #[test]
    fn silences_of_nodes_are_one_where_they_are_enough_and_long_enough() {
        let breaker = up();
        assert!(!breaker.is_silence(&[], 100));
        assert!(!breaker.is_silence(&[(1, 10), (1, 10)], 100), "two are few");
        assert!(
            !breaker.is_silence(&[(1, 10), (9, 11)], 11),
            "at one moment"
        );
        assert!(breaker.is_silence(&[(1, 10), (2, 11)], 12));
        let mut node = up();
        assert_eq!(node.silence(), None);
        silent(&mut node, &[10, 11]);
        assert_eq!(node.silence(), Some((2, 10)));
        node.answered(1);
        assert_eq!(node.silence(), None);
        silent(&mut node, &[10, 12, 14]);
        assert_eq!(node.state(), BreakerState::Open);
        assert!(breaker.is_silence(&[node.silence().unwrap()], 100));
    }

    /// The events of a breaker and of the one task that connects for it.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Command,
        Tick,
        Answered(u64),
        Unanswered(Option<u64>),
        Lost(u64),
        Elsewhere(u64),
        Loads(u64),
        AllSilent(u64),
        Attempt,
        Connected,
        Failed,
        TaskGone,
        Closed,
    }

    /// A breaker, and independent state from which the check derives its expected behaviour.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct World {
        breaker: Tested,
        now: u64,
        /// The last moment.
        end: u64,
        task: Task,
        generation: u64,
        /// The time before which the renewing task pauses, and of its last attempt.
        due: u64,
        renewed: Option<u64>,
        /// The failure times of unanswered commands, since the connection was made or last
        /// answered.
        silence: Vec<u64>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    enum Task {
        None,
        Pauses,
        Attempts,
    }

    impl World {
        /// The world after the event, or `None` if it can't happen.
        fn after(&self, event: Event) -> Option<Self> {
            let mut world = self.clone();
            let before = self.breaker.state();
            let usable = matches!(self.breaker.advice(), Advice::Send(..));
            let waiting = matches!(self.breaker.advice(), Advice::Wait);
            let over = self.breaker.is_over();
            let current = |by| usable && by == self.generation;
            match event {
                Event::Command if waiting => world.breaker.start(),
                Event::Command => return None,
                Event::Tick => {
                    world.now = self.now.checked_add(1).filter(|now| *now <= self.end)?
                }
                Event::Answered(by) => {
                    world.breaker.answered(by);
                    if current(by) {
                        world.silence.clear();
                        assert!(!world.breaker.listens(), "there is nothing more to learn");
                    }
                }
                Event::Elsewhere(by) | Event::Loads(by) => {
                    match event {
                        Event::Loads(_) => world.breaker.loads(by, self.now, 0),
                        _ => world.breaker.elsewhere(by, self.now, 0),
                    }
                    assert!(world.breaker.advice() == self.breaker.advice());
                    if current(by) {
                        world.silence.clear();
                    } else {
                        assert!(world.breaker == self.breaker, "it says nothing of now");
                    }
                    if matches!(event, Event::Elsewhere(_)) && current(by) {
                        assert!(world.breaker.renews());
                    }
                }
                Event::AllSilent(by) => {
                    world.breaker.all_silent(by, || 5);
                    let opened = world.breaker.state() != BreakerState::Closed;
                    assert!(!current(by) || opened);
                    // The connection to a whole cluster is never renewed.
                    if self.breaker.renews() {
                        return None;
                    }
                }
                Event::Unanswered(by) => {
                    world.breaker.unanswered(by, self.now, || 1);
                    let counts = match by {
                        Some(by) => current(by),
                        None => waiting && self.task != Task::None,
                    };
                    if counts {
                        world.silence.push(self.now);
                        let spans = self.now - world.silence[0];
                        let opens = world.silence.len() >= 3 && spans >= 2;
                        let opened = world.breaker.state() != BreakerState::Closed;
                        assert_eq!(opened, opens, "{:?}", world.silence);
                    } else {
                        assert!(world.breaker == self.breaker, "it says nothing of now");
                    }
                }
                Event::Lost(by) => {
                    world.breaker.lost(by, || 2);
                    assert!(current(by) || world.breaker == self.breaker);
                }
                Event::Attempt if self.task == Task::Pauses => {
                    if self.breaker.renews() {
                        world.renews()?;
                    }
                    world.breaker.attempt(self.now);
                    world.task = Task::Attempts;
                }
                Event::Connected if self.task == Task::Attempts => {
                    world.generation += 1;
                    world.breaker.connected(world.generation, ());
                    world.task = Task::None;
                    assert!(over || matches!(world.breaker.advice(), Advice::Send(..)));
                }
                Event::Failed if self.task == Task::Attempts => {
                    world.breaker.failed(3);
                    if self.breaker.renews() {
                        world.task = Task::None;
                        assert!(world.breaker.advice() == self.breaker.advice());
                    } else {
                        world.task = Task::Pauses;
                        assert_eq!(world.breaker.state(), BreakerState::Open);
                    }
                }
                Event::TaskGone if self.task != Task::None => {
                    world.breaker.abandoned();
                    world.task = Task::None;
                    assert!(
                        over || usable || world.breaker.advice() == Advice::Wait,
                        "the next command starts another"
                    );
                }
                Event::Closed => {
                    world.breaker.close(4);
                    assert_eq!(world.breaker.advice(), Advice::Refuse(&4));
                }
                Event::Attempt | Event::Connected | Event::Failed | Event::TaskGone => return None,
            }
            assert!(!over || world.breaker.phase() == self.breaker.phase());
            if world.breaker.connects() && !self.breaker.connects() {
                assert!(world.task == Task::None, "never two that connect");
                let pause = world.breaker.pause(0);
                world.due = world.now + micros(pause);
                world.task = match pause {
                    Duration::ZERO => Task::Attempts,
                    _ => Task::Pauses,
                };
                if world.breaker.renews() && pause.is_zero() {
                    world.renews()?;
                }
            }
            // A task that pauses beside a lost connection attempts at once.
            let needed = self.breaker.renews() && matches!(event, Event::Lost(_));
            if needed && !world.breaker.renews() && world.task == Task::Pauses {
                world.breaker.attempt(self.now);
                world.task = Task::Attempts;
            }
            if !matches!(event, Event::Unanswered(_) | Event::Tick | Event::Command)
                && world.breaker.phase() != self.breaker.phase()
                || before != world.breaker.state()
            {
                world.silence.clear();
            }
            // Larger numbers make no further difference.
            world.silence.truncate(FEW as usize);
            world.breaker.failures = world.breaker.failures.min(2);
            if let Some((count, _)) = &mut world.breaker.unanswered {
                *count = (*count).min(FEW);
            }
            Some(world)
        }

        /// A renewal is attempted, or it pauses still.
        fn renews(&mut self) -> Option<()> {
            if self.now < self.due {
                return None;
            }
            let last = self.renewed.replace(self.now);
            assert!(last.is_none_or(|last| self.now - last >= self.breaker.renewal));
            Some(())
        }

        fn check(&self) {
            let breaker = &self.breaker;
            match breaker.state() {
                BreakerState::Closed => {}
                BreakerState::Open if breaker.is_over() => {}
                BreakerState::Open => assert!(self.task == Task::Pauses, "someone will try"),
                BreakerState::HalfOpen => {
                    assert!(self.task == Task::Attempts, "someone tries")
                }
            }
            let refuses = matches!(breaker.advice(), Advice::Refuse(_));
            assert_eq!(refuses, breaker.state() != BreakerState::Closed);
            // `close` ends the connecting task separately.
            let connects = self.task != Task::None && !breaker.is_over();
            assert_eq!(breaker.connects(), connects);
        }

        /// A server that answers is used again after one pause and one attempt.
        fn check_recovery(&self) {
            let mut world = self.clone();
            for event in [
                Event::Command,
                Event::Attempt,
                Event::Connected,
                Event::Answered(self.generation + 1),
            ] {
                world = world.after(event).unwrap_or(world);
            }
            let sends = matches!(world.breaker.advice(), Advice::Send(..));
            assert_eq!(sends, !self.breaker.is_over());
        }
    }

    /// Any events in any order, up to three connections and six moments.
    #[test]
    fn every_order_of_events() {
        let states = explore(3, 5, |by| {
            vec![
                Event::Answered(by),
                Event::Unanswered(Some(by)),
                Event::Lost(by),
                Event::AllSilent(by),
            ]
        });
        assert!(states > 1000, "{states} states");
    }

    /// Answers that say that the server is the wrong one, among losses and silence.
    #[test]
    fn every_order_of_renewals() {
        let states = explore(3, 5, |by| {
            vec![
                Event::Answered(by),
                Event::Elsewhere(by),
                Event::Loads(by),
                Event::Lost(by),
            ]
        });
        assert!(states > 1000, "{states} states");
    }

    /// Explores and checks all reachable states, and returns their number.
    fn explore(generations: u64, end: u64, events_of: impl Fn(u64) -> Vec<Event>) -> usize {
        let breaker = Tested {
            renewal: 2,
            ..Tested::new(DEADLINE)
        };
        let first = World {
            breaker,
            now: 0,
            end,
            task: Task::None,
            generation: 0,
            due: 0,
            renewed: None,
            silence: Vec::new(),
        };
        let mut events = vec![
            Event::Command,
            Event::Tick,
            Event::Unanswered(None),
            Event::Attempt,
            Event::Connected,
            Event::Failed,
            Event::TaskGone,
            Event::Closed,
        ];
        for by in 1..=generations {
            events.extend(events_of(by));
        }
        let mut known = HashSet::from([first.clone()]);
        let mut open = vec![first];
        while let Some(world) = open.pop() {
            world.check();
            world.check_recovery();
            for next in events.iter().filter_map(|event| world.after(*event)) {
                if next.generation <= generations && known.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        known.len()
    }
}
