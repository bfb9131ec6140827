//! The connection to the server: one multiplexed connection, replaced when it is lost, and unused
//! while the server is silent.
//!
//! [`breaker`](crate::protocol::breaker) decides; this module connects, sends and waits. The
//! breaker is the only state, and is inside a watch channel, so nothing can get out of step.
//!
//! The client's own connection manager is not used. It gives up for good if a reconnection fails
//! with anything but an I/O error, for example because the server is still loading or a password is
//! being rotated. It also makes commands wait through its back-off. Here, a separate task connects
//! until it succeeds.
//!
//! A store has one link. The link to a cluster uses one link to each node: see
//! [`crate::backend::cluster`].
//!
//! Long because a connection has one method for each question about it.

use crate::backend::seams::{Deadlines, Lapse, Seams, after};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::runtime::Id;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backend::cluster::{Cluster, Dial, NodeLink};
use crate::backend::failure;
use crate::backend::failure::{Word, Words, timed_out, unexpected_answer};
use crate::backend::limits;
use crate::backend::limits::{Care, Limits};
use crate::backend::target::Host;
use crate::backend::wire::Connection;
use crate::backend::wire::dial::Dialer;
use crate::base::error::{Error, ErrorKind};
use crate::base::runtime;
use crate::base::tasks::{Claim, Pulse, with_beats};
use crate::base::warnings::{Detail, Topic};
use crate::protocol::breaker::{Advice, Breaker, BreakerState};

/// The way to the server.
pub(crate) enum Connector {
    Node(Box<Dialer>),
    Cluster(Cluster<Link>),
}

/// A handle to a connection. Cheap to clone; all clones share the connection.
#[derive(Clone)]
pub(crate) struct Link(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) connector: Connector,
    /// The node of a cluster that this link leads to.
    pub(crate) node: Option<Host>,
    pub(crate) deadlines: Deadlines,
    pub(crate) words: Words,
    pub(crate) seams: Seams,
    pub(crate) generations: AtomicU64,
    pub(crate) breaker: watch::Sender<Breaker<Wire, Arc<Down>>>,
    /// The number of times that the connection was replaced because of a server's answer.
    renewals: watch::Sender<u64>,
    /// Whether the breaker needs to know of answers. Usually it does not, and each answer costs one
    /// look at this.
    pub(crate) listens: AtomicBool,
    /// The number of the task that connects. If its runtime stands still, another task takes its
    /// place, and the first may do nothing more. It changes only in steps of the breaker.
    pub(crate) task: AtomicU64,
    /// Whether that task is alive.
    pub(crate) pulse: Pulse,
    /// The runtimes in which no connection can be made.
    pub(crate) without_io: Mutex<Vec<Id>>,
    /// The generation of a connection, and the runtime in which it was made.
    pub(crate) home: Mutex<Option<(u64, Id)>>,
    /// The limits on the size of a value.
    pub(crate) limits: Limits,
    /// The commands that the store needs and the user may not run, as of the last connection.
    pub(crate) denied: Mutex<Vec<String>>,
    /// The text with which all keys begin.
    pub(crate) namespace: Box<str>,
}

#[derive(Clone)]
pub(crate) enum Wire {
    Node(Connection),
    Cluster(Cluster<Link>),
}

/// The reason why no command is sent.
pub(crate) struct Down {
    why: Error,
    /// The same, as the error of a command that was not sent.
    pub(crate) refusal: Error,
}

impl Down {
    pub(crate) fn new(why: Error) -> Arc<Self> {
        let refusal = why.clone().refused();
        Arc::new(Self { why, refusal })
    }
}

/// Permission to send a command by a connection.
pub(crate) struct Passage {
    pub(crate) generation: u64,
    pub(crate) wire: Wire,
    /// The time to wait for an answer, and its end. Without an end, it is a command's deadline from
    /// now, which the client enforces itself.
    pub(crate) limit: Duration,
    pub(crate) until: Option<Instant>,
    /// The runtime of the caller.
    pub(crate) here: Id,
}

impl Link {
    /// A link to a server. It connects and spawns nothing yet.
    pub(crate) fn to_server(
        dialer: Dialer,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
        namespace: &str,
    ) -> Self {
        let connector = Connector::Node(Box::new(dialer));
        Self::new(connector, None, deadlines, words, seams, namespace)
    }

    /// A link to a cluster, found through any of the seeds.
    pub(crate) fn to_cluster(
        seeds: Vec<Host>,
        dialer: impl Fn(&Host) -> RedisResult<Dialer> + Send + Sync + 'static,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
        namespace: &str,
    ) -> Self {
        let (of_nodes, told) = (seams.clone(), words.clone());
        let dial: Dial<Link> = Box::new(move |host| {
            let dialer = dialer(host).map_err(|e| told.of(e, deadlines.connect))?;
            let connector = Connector::Node(Box::new(dialer));
            let (node, words) = (Some(host.clone()), told.clone());
            Ok(Self::new(
                connector,
                node,
                deadlines,
                words,
                of_nodes.clone(),
                "",
            ))
        });
        let cluster = Cluster::new(seeds, dial, deadlines, seams.clone());
        Self::new(
            Connector::Cluster(cluster),
            None,
            deadlines,
            words,
            seams,
            namespace,
        )
    }

    fn new(
        connector: Connector,
        node: Option<Host>,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
        namespace: &str,
    ) -> Self {
        let (breaker, _) = watch::channel(Breaker::new(deadlines.command));
        Self(Arc::new(Shared {
            connector,
            node,
            deadlines,
            words,
            seams,
            generations: AtomicU64::new(0),
            breaker,
            renewals: watch::Sender::new(0),
            listens: AtomicBool::new(false),
            task: AtomicU64::new(0),
            pulse: Pulse::default(),
            without_io: Mutex::default(),
            home: Mutex::default(),
            limits: Limits::default(),
            denied: Mutex::default(),
            namespace: namespace.into(),
        }))
    }

    /// Connects, or returns why the first attempt failed.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        runtime::fit()?;
        // The attempt has the deadline for connecting. This one is for a runtime that never polls
        // the attempt.
        let Deadlines {
            connect, command, ..
        } = self.0.deadlines;
        let deadline = connect.saturating_add(command);
        match tokio::time::timeout(deadline, self.0.connected()).await {
            Ok(connected) => connected.map(drop).map_err(|down| down.why.clone()),
            Err(_) => Err(timed_out(deadline).context("still connecting")),
        }
    }

    /// Waits until there is a connection, or returns why there is none.
    pub(crate) async fn ready(&self, until: Instant) -> Result<(), Error> {
        let waits = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout_at(until, self.0.connected()).await {
            Ok(connected) => connected.map(drop).map_err(|down| down.why.clone()),
            Err(_) => Err(timed_out(waits)),
        }
    }

    /// The reason why commands are refused, if they are.
    pub(crate) fn why(&self) -> Option<Error> {
        match self.0.breaker.borrow().advice() {
            Advice::Refuse(down) => Some(down.why.clone()),
            Advice::Send(..) | Advice::Wait => None,
        }
    }

    /// See [`Breaker::silence`].
    pub(crate) fn silence(&self) -> Option<(u32, u64)> {
        self.0.breaker.borrow().silence()
    }

    /// Starts to connect in the background if there is a runtime. Otherwise the first command does.
    pub(crate) fn connect_in_background(&self) {
        if self.0.seams.background.has_runtime() {
            self.0.step(Breaker::start);
        }
    }

    /// Changes when the connection was replaced because of a server's answer: the address may lead
    /// to another server now.
    pub(crate) fn renewals(&self) -> watch::Receiver<u64> {
        self.0.renewals.subscribe()
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.connector, Connector::Cluster(..))
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.0.breaker.borrow().state()
    }

    /// Drops the connection, and makes no other. Commands that were sent are still answered: the
    /// last of them closes the connection.
    pub(crate) fn close(&self) {
        let (why, refusal) = (Error::closed(), Error::closed());
        let down = Arc::new(Down { why, refusal });
        self.0.breaker.send_modify(|breaker| breaker.close(down));
        if let Connector::Cluster(cluster) = &self.0.connector {
            cluster.close();
        }
    }

    /// Returns once the breaker admits commands, or the link is closed for good. The future does
    /// not keep the link.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut watch = self.0.breaker.subscribe();
        async move {
            // An error means that the link is gone.
            let _ = watch
                .wait_for(|breaker| breaker.state() == BreakerState::Closed || breaker.is_over())
                .await;
        }
    }

    /// Fails if a value of this size is larger than the server accepts.
    pub(crate) fn admit(&self, size: usize) -> Result<(), Error> {
        self.0.limits.admit(size, self.0.seams.time.sent())
    }

    /// The size of the largest value that the server accepts, if known.
    pub(crate) fn largest(&self) -> Option<u64> {
        self.0.limits.largest(self.0.seams.time.sent())
    }

    /// Records the outcome of sending values of these sizes.
    pub(crate) fn note_sent<A>(&self, sizes: &[usize], answers: &mut [Result<A, Error>]) {
        let (limits, now) = (&self.0.limits, self.0.seams.time.sent());
        let failed = sizes.iter().zip(answers.iter());
        let failed = failed.filter(|(_, answer)| answer.is_err());
        let largest = failed.map(|(size, _)| *size).max().unwrap_or(0);
        for (size, answer) in sizes.iter().zip(answers) {
            match answer {
                Ok(_) => limits.took(*size),
                Err(error) if error.kind() == ErrorKind::TooLarge => {
                    if *size < largest {
                        *answer = Err(limits::beside_too_large());
                    } else if *size > 0 {
                        limits.refused(*size, now);
                        *answer = Err(limits::too_large(*size, *size as u64 - 1));
                    }
                }
                Err(error) => {
                    if let Some(generation) = error.closed_connection()
                        && limits.closed(generation, *size, now)
                    {
                        let topic = Topic {
                            of: None,
                            what: "the connection was closed while a large value was sent; values of that size are refused for a while",
                            kind: Some(ErrorKind::TooLarge),
                        };
                        let text = format_args!("{size} bytes");
                        self.0.seams.warnings.warn(topic, || Detail::text(text));
                    }
                }
            }
        }
    }

    /// The care with which to read a key whose value may be larger than the server sends.
    pub(crate) fn care(&self, key: &[u8]) -> Option<Care> {
        let limits = &self.0.limits;
        match limits.has_suspects() {
            true => limits.care(key, self.0.seams.time.sent()),
            false => None,
        }
    }

    /// Records the outcome of reading the keys in one command.
    pub(crate) fn note_read<A>(&self, keys: &[&[u8]], answer: &Result<A, Error>) {
        let is_closed = |error: &Error| error.closed_connection().is_some();
        if answer.as_ref().is_err_and(is_closed) {
            let (care, now) = match keys {
                [_] => (Care::Bounded, self.0.seams.time.sent()),
                _ => (Care::Alone, self.0.seams.time.sent()),
            };
            let limits = &self.0.limits;
            keys.iter().for_each(|key| limits.suspect(key, care, now));
        }
    }

    /// Records that a careful read of the key succeeded, so it needs no care any more.
    pub(crate) fn acquit(&self, key: &[u8]) {
        self.0.limits.acquit(key);
    }

    /// The longest time of an operation.
    pub(crate) fn operation(&self) -> Duration {
        self.0.deadlines.operation
    }

    /// The time that an operation has left after its first command.
    pub(crate) fn rest_of_operation(&self) -> Duration {
        let Deadlines {
            command, operation, ..
        } = self.0.deadlines;
        operation.saturating_sub(command)
    }
}

impl Passage {
    /// The time at which the wait for an answer ends.
    pub(crate) fn end(&self) -> Instant {
        self.until.unwrap_or_else(|| after(self.limit))
    }
}

impl Shared {
    /// Makes a step of the breaker, and carries out its consequences. True if the phase changed,
    /// not only a number.
    pub(crate) fn step(self: &Arc<Self>, step: impl FnOnce(&mut Breaker<Wire, Arc<Down>>)) -> bool {
        let (mut opens, mut connects, mut task) = (false, false, 0);
        let changed = self.breaker.send_if_modified(|breaker| {
            let (phase, state, connecting) = (breaker.phase(), breaker.state(), breaker.connects());
            step(breaker);
            opens = state == BreakerState::Closed && breaker.state() != BreakerState::Closed;
            connects = !connecting && breaker.connects();
            if connects {
                task = self.next_task();
            }
            self.listens.store(breaker.listens(), Ordering::Relaxed);
            breaker.phase() != phase
        });
        // Counters are about the store as a whole, so the breakers of nodes do not count.
        if opens && self.node.is_none() {
            self.seams.counters.breaker_opened();
        }
        if connects {
            self.begin(task);
        }
        changed
    }

    /// Starts a task that connects.
    fn begin(self: &Arc<Self>, task: u64) {
        self.pulse.beat(self.seams.time.sent());
        let give_back = GiveBack(Some(Arc::downgrade(self)), task);
        let connecting = connect_until_up(Arc::downgrade(self), task, give_back);
        self.seams.background.spawn_needed(connecting);
    }

    /// A [`step`](Self::step) of the task that connects. If another task has taken its place, it
    /// does nothing and returns false.
    fn step_of(
        self: &Arc<Self>,
        task: u64,
        step: impl FnOnce(&mut Breaker<Wire, Arc<Down>>),
    ) -> bool {
        let mut its_own = false;
        self.step(|breaker| {
            its_own = self.task.load(Ordering::Relaxed) == task;
            if its_own {
                step(breaker);
            }
        });
        its_own
    }

    /// A claim to connect in place of a task without signs of life.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.pulse.claim(self.seams.time.sent())
    }

    /// Starts a task in this runtime that connects in place of one without signs of life.
    pub(crate) fn take_over(self: &Arc<Self>) {
        let mut task = None;
        self.step(|breaker| {
            if breaker.connects() {
                breaker.attempt(self.seams.time.sent());
                task = Some(self.next_task());
            }
        });
        if let Some(task) = task {
            tracing::debug!("the connecting task shows no sign of life; another task replaces it");
            self.begin(task);
        }
    }

    pub(crate) fn unanswered(self: &Arc<Self>, by: Option<u64>, error: &Error) {
        let now = self.seams.time.sent();
        self.step(|breaker| {
            breaker.unanswered(by, now, || {
                let what = "the server does not answer; commands are refused until a new connection succeeds";
                self.warn(what, Some(error));
                Down::new(error.clone())
            });
        });
    }

    fn lost(self: &Arc<Self>, generation: u64) {
        let lost = self.step(|breaker| {
            breaker.lost(generation, || {
                let why = "the connection was lost before its first answer";
                Down::new(Error::new(ErrorKind::Connection, why))
            });
        });
        if lost {
            self.warn(
                "the connection to the server was lost; connecting again",
                None,
            );
        }
    }

    /// Records what an answer, or a missing answer, reveals about the connection.
    pub(crate) fn noted<T>(
        self: &Arc<Self>,
        passage: &Passage,
        answer: RedisResult<T>,
    ) -> Result<T, Lapse> {
        let Passage {
            generation, limit, ..
        } = *passage;
        let error = match answer {
            Ok(answer) => {
                self.answered(generation);
                return Ok(answer);
            }
            Err(error) => error,
        };
        if error.is_unrecoverable_error() {
            self.lost(generation);
            let error = self.named(self.words.of(error, limit));
            let error = self.of_another_runtime(generation, error);
            return Err(Lapse::Lost(error.with_closed(generation)));
        }
        if !is_answer(&error) {
            let error = self.named(self.words.of(error, limit));
            self.unanswered(Some(generation), &error);
            return Err(Lapse::Silent(error));
        }
        match Word::of(&error) {
            // In a cluster, the cluster's own layer learns which node to ask instead.
            _ if self.node.is_some() => self.answered(generation),
            Word::Here => self.answered(generation),
            word => self.strayed(generation, word, &error),
        }
        Err(Lapse::Said(error))
    }

    /// The same for an answer of a cluster, whose nodes have recorded it already.
    pub(crate) fn noted_of_cluster<T>(
        self: &Arc<Self>,
        passage: &Passage,
        cluster: &Cluster<Link>,
        answer: Result<T, Lapse>,
    ) -> Result<T, Lapse> {
        match &answer {
            Ok(_) | Err(Lapse::Said(_)) => self.answered(passage.generation),
            Err(
                Lapse::Lost(error)
                | Lapse::Silent(error)
                | Lapse::Refused(error)
                | Lapse::Failed(error),
            ) => {
                let silence = cluster.silence();
                let now = self.seams.time.sent();
                if silence.is_some_and(|all| self.breaker.borrow().is_silence(&all, now)) {
                    self.step(|breaker| {
                        breaker.all_silent(passage.generation, || {
                            let what = "no node of the cluster answers; commands are refused until a new connection succeeds";
                            self.warn(what, Some(error));
                            Down::new(error.clone())
                        });
                    });
                }
            }
        }
        answer
    }

    /// Records that the server behind a connection is the wrong one, or not ready yet.
    fn strayed(self: &Arc<Self>, generation: u64, word: Word, error: &RedisError) {
        let (now, random) = (self.seams.time.sent(), self.seams.random.next_u64());
        let mut begins = false;
        self.step(|breaker| {
            let renews = breaker.renews();
            match word {
                Word::Loading => breaker.loads(generation, now, random),
                Word::Elsewhere | Word::Here => breaker.elsewhere(generation, now, random),
            }
            begins = !renews && breaker.renews();
        });
        if begins {
            let error = self.words.of(error.clone(), self.deadlines.command);
            self.warn(
                "the server is a replica, takes no writes, or is loading; a new connection is being made",
                Some(&error),
            );
        }
    }
}

/// Records that nobody connects any more, if the task ends without a connection: its runtime was
/// shut down, or the store was closed.
struct GiveBack(Option<Weak<Shared>>, u64);

impl Drop for GiveBack {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take().as_ref().and_then(Weak::upgrade)
            && shared.step_of(self.1, Breaker::abandoned)
        {
            shared.pulse.stop();
        }
    }
}

/// Tries until it succeeds, another task takes its place, or the link is dropped.
async fn connect_until_up(link: Weak<Shared>, task: u64, mut give_back: GiveBack) {
    loop {
        let (pause, mut watch) = match link.upgrade() {
            Some(shared) => {
                let random = shared.seams.random.next_u64();
                let watch = shared.breaker.subscribe();
                let breaker = shared.breaker.borrow();
                let pause = breaker.pause(random);
                shared.pulse.rest(shared.seams.time.sent(), pause);
                (pause, breaker.renews().then_some(watch))
            }
            None => return,
        };
        match &mut watch {
            _ if pause.is_zero() => {}
            None => tokio::time::sleep(pause).await,
            // The old connection may be lost meanwhile. Then the new one is needed at once.
            Some(watch) => {
                let lost = watch.wait_for(|breaker| !breaker.renews());
                let _ = tokio::time::timeout(pause, lost).await;
            }
        }
        let Some(shared) = link.upgrade() else { return };
        let now = shared.seams.time.sent();
        if !shared.step_of(task, |breaker| breaker.attempt(now)) {
            return;
        }
        let beat = || shared.beat(task);
        let attempt = match runtime::has_timers() {
            true => with_beats(shared.attempt_here(), beat).await,
            false => shared.attempt_here().await,
        };
        match attempt {
            Ok((generation, wire)) => {
                give_back.0 = None;
                let (state, renews) = {
                    let breaker = shared.breaker.borrow();
                    (breaker.state(), breaker.renews())
                };
                if renews || state != BreakerState::Closed {
                    let what = match renews {
                        true => "the connection to the server was replaced",
                        false => "connected to the server; the breaker closes",
                    };
                    let (of, kind) = (None, None);
                    let topic = Topic { of, what, kind };
                    let node = || {
                        shared
                            .node
                            .as_ref()
                            .map_or_else(Detail::default, Detail::text)
                    };
                    shared.seams.warnings.note(topic, node);
                }
                let its_own = shared.step_of(task, |breaker| breaker.connected(generation, wire));
                if renews && its_own {
                    shared.renewals.send_modify(|count| *count += 1);
                }
                return;
            }
            Err(error) => {
                let error = shared.named(error);
                shared.warn("connecting to the server failed", Some(&error));
                let in_vain = error.kind() == ErrorKind::Config && !shared.can_connect_here();
                let mut goes_on = true;
                shared.step_of(task, |breaker| {
                    breaker.failed(Down::new(error));
                    goes_on = breaker.connects();
                });
                if !goes_on || in_vain {
                    // Either the old connection stays in use, or this runtime can never connect,
                    // and a call from another runtime takes over.
                    give_back.0 = None;
                    return;
                }
            }
        }
    }
}

/// Whether the error came from a server.
fn is_answer(error: &RedisError) -> bool {
    let silence = matches!(
        failure::kind_of(error),
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Tls
    );
    !silence && !error.is_timeout()
}

/// Waits for an answer, at most until `until`.
pub(crate) async fn in_time<T>(
    until: Instant,
    answer: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    tokio::time::timeout_at(until, answer)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

/// Reports the end of a connection, when it is dropped with it: also while no command is under
/// way, and if it ends with its runtime.
pub(crate) struct Ends(pub(crate) Weak<Shared>, pub(crate) u64);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.lost(self.1);
        }
    }
}

pub(crate) fn time_command() -> Cmd {
    redis::cmd("TIME")
}

/// The time in an answer to `TIME`, in microseconds since the Unix epoch.
pub(crate) fn time_of(answer: Value) -> Result<u64, Error> {
    let (seconds, micros): (u64, u64) =
        redis::from_redis_value(answer).map_err(|_| unexpected_answer())?;
    Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

impl NodeLink for Link {
    async fn ready(&self, until: Instant) -> Result<(), Error> {
        self.ready(until).await
    }

    fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.closed()
    }

    async fn raw(&self, command: &Cmd, left: Duration) -> Result<Value, Lapse> {
        self.raw(command, left).await
    }

    async fn raw_asking(&self, command: &Cmd, left: Duration) -> Result<Value, Lapse> {
        self.raw_asking(command, left).await
    }

    fn why(&self) -> Option<Error> {
        self.why()
    }

    fn silence(&self) -> Option<(u32, u64)> {
        self.silence()
    }

    fn told(&self, lapse: Lapse) -> Error {
        self.told(lapse)
    }

    fn connect_in_background(&self) {
        self.connect_in_background();
    }

    fn state(&self) -> BreakerState {
        self.state()
    }

    fn close(&self) {
        self.close();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("breaker", &self.state())
            .field("deadlines", &self.0.deadlines)
            .finish_non_exhaustive()
    }
}
