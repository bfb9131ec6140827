//! The connection to the server: one, multiplexed, made anew when it is lost, and not used while the server is silent.
//!
//! [`breaker`](super::breaker) decides; here is what connects, sends and waits. The breaker is the one state, in a watch
//! channel, so there is nothing to get out of step.
//!
//! The client's own connection manager is not used: it gives up for good where a reconnection fails with anything but an
//! I/O error (a server that is still loading, a password that is being rotated), and lets commands wait through its
//! back-off. Here connecting is a task of its own that goes on until it succeeds.
//!
//! A store has one link. That to a cluster leads by a link to each node: see [`super::cluster`].

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisError, RedisResult,
    Value,
};
use tokio::runtime::Id;
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Advice, Breaker, BreakerState};
use super::cluster::{Cluster, Dial};
use super::failure::{self, Word, Words, timed_out, unexpected_answer};
use super::limits::{self, Care, Limits};
use super::rights;
use super::server::Host;
use super::time::ServerTime;
use crate::background::{BEAT, Background, Claim, MOMENT, Pulse, with_beats};
use crate::runtime;
use crate::stats::Counters;
use crate::warnings::{Detail, Topic, Warnings};
use crate::{Error, ErrorKind, Random};

/// How the server is reached.
enum Connector {
    Node(Box<Client>),
    Cluster(Cluster),
}

/// What became of a command that has no value for an answer.
pub(super) enum Lapse {
    /// The server answered with an error.
    Said(RedisError),
    /// The connection was lost.
    Lost(Error),
    /// Nothing was answered.
    Silent(Error),
    /// It was not sent, since the breaker is open.
    Refused(Error),
    /// It could not be sent, or was answered in a way that it can't be.
    Failed(Error),
}

/// Deadlines for connecting, for each command, and for the commands of one operation together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) command: Duration,
    pub(super) operation: Duration,
}

/// What a link takes from its store.
#[derive(Clone)]
pub(crate) struct Seams {
    pub(crate) time: Arc<ServerTime>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) background: Background,
    pub(crate) warnings: Arc<Warnings>,
}

/// Cheap to clone; all clones are one connection.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    connector: Connector,
    /// Which node of a cluster it is, where it is one.
    node: Option<Host>,
    deadlines: Deadlines,
    words: Words,
    seams: Seams,
    generations: AtomicU64,
    breaker: watch::Sender<Breaker<Wire, Arc<Down>>>,
    /// How often the connection was made anew on what a server said by it.
    renewals: watch::Sender<u64>,
    /// Whether the breaker wants to be told of answers. Most of the time it does not, and they cost one look at this.
    listens: AtomicBool,
    /// The number of the task that connects. Another one takes its place where its runtime stands still, and then it may do
    /// nothing more. Changed and looked at in steps of the breaker alone.
    task: AtomicU64,
    /// Whether that task lives.
    pulse: Pulse,
    /// Runtimes in which no connection can be made.
    without_io: Mutex<Vec<Id>>,
    /// The connection of this generation was made in that runtime.
    home: Mutex<Option<(u64, Id)>>,
    /// How large a value may be.
    limits: Limits,
    /// What the user may not run that the store needs, as of the last connection.
    denied: Mutex<Vec<String>>,
    /// What all keys begin with.
    namespace: Box<str>,
}

#[derive(Clone)]
enum Wire {
    Node(MultiplexedConnection),
    Cluster(Cluster),
}

/// Why the server is not asked.
struct Down {
    why: Error,
    /// The same, as a command is told that was not sent.
    refusal: Error,
}

impl Down {
    fn new(why: Error) -> Arc<Self> {
        let refusal = why.clone().refused();
        Arc::new(Self { why, refusal })
    }
}

/// A connection to send something by.
struct Passage {
    generation: u64,
    wire: Wire,
    /// How long an answer is waited for, and until when, where that is not simply a command's deadline from now: the
    /// client sees to that itself.
    limit: Duration,
    until: Option<Instant>,
}

impl Link {
    /// To a server. Nothing is connected yet, and nothing spawned.
    pub(super) fn to_server(
        client: Client,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
        namespace: &str,
    ) -> Self {
        let connector = Connector::Node(Box::new(client));
        Self::new(connector, None, deadlines, words, seams, namespace)
    }

    /// To a cluster, which is found by any of these.
    pub(super) fn to_cluster(
        seeds: Vec<Host>,
        client: impl Fn(&Host) -> RedisResult<Client> + Send + Sync + 'static,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
        namespace: &str,
    ) -> Self {
        let (of_nodes, told) = (seams.clone(), words.clone());
        let dial: Dial = Box::new(move |host| {
            let client = client(host).map_err(|e| told.of(e, deadlines.connect))?;
            let connector = Connector::Node(Box::new(client));
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

    /// Connects, or gives the reason why the first attempt failed.
    pub(super) async fn connect(&self) -> Result<(), Error> {
        runtime::fit()?;
        // The attempt has the deadline for connecting; this one is for a runtime that never polls it.
        let Deadlines {
            connect, command, ..
        } = self.0.deadlines;
        let deadline = connect.saturating_add(command);
        match tokio::time::timeout(deadline, self.0.connected()).await {
            Ok(connected) => connected.map(drop).map_err(|down| down.why.clone()),
            Err(_) => Err(timed_out(deadline).context("still connecting")),
        }
    }

    /// Waits until there is a connection, or gives the reason why there is none.
    pub(super) async fn ready(&self, until: Instant) -> Result<(), Error> {
        let waits = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout_at(until, self.0.connected()).await {
            Ok(connected) => connected.map(drop).map_err(|down| down.why.clone()),
            Err(_) => Err(timed_out(waits)),
        }
    }

    /// Why the server is not asked, where it is not.
    pub(super) fn why(&self) -> Option<Error> {
        match self.0.breaker.borrow().advice() {
            Advice::Refuse(down) => Some(down.why.clone()),
            Advice::Send(..) | Advice::Wait => None,
        }
    }

    /// See [`Breaker::silence`].
    pub(super) fn silence(&self) -> Option<(u32, u64)> {
        self.0.breaker.borrow().silence()
    }

    /// Starts connecting in the background, where there is a runtime to do it in; else the first command does.
    pub(super) fn connect_in_background(&self) {
        if self.0.seams.background.has_runtime() {
            self.0.step(Breaker::start);
        }
    }

    /// Changes when the address has led to another server, perhaps: the connection was made anew on what a server said by it.
    pub(super) fn renewals(&self) -> watch::Receiver<u64> {
        self.0.renewals.subscribe()
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.0.connector, Connector::Cluster(..))
    }

    pub(super) fn state(&self) -> BreakerState {
        self.0.breaker.borrow().state()
    }

    /// Lets go of the connection, and makes no other. What was sent by it is still answered: the last of these closes it.
    pub(super) fn close(&self) {
        let (why, refusal) = (Error::closed(), Error::closed());
        let down = Arc::new(Down { why, refusal });
        self.0.breaker.send_modify(|breaker| breaker.close(down));
        if let Connector::Cluster(cluster) = &self.0.connector {
            cluster.close();
        }
    }

    /// Returns once commands are not refused, or never will be sent again. The future does not keep the link.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut watch = self.0.breaker.subscribe();
        async move {
            // An error says that the link is gone.
            let _ = watch
                .wait_for(|breaker| breaker.state() == BreakerState::Closed || breaker.is_over())
                .await;
        }
    }

    /// An error where a value of this size is more than the server takes.
    pub(super) fn admit(&self, size: usize) -> Result<(), Error> {
        self.0.limits.admit(size, self.0.seams.time.sent())
    }

    /// The largest value that the server takes, as far as that is known.
    pub(super) fn largest(&self) -> Option<u64> {
        self.0.limits.largest(self.0.seams.time.sent())
    }

    /// Takes note of how it went to send values of these sizes.
    pub(super) fn note_sent<A>(&self, sizes: &[usize], answers: &mut [Result<A, Error>]) {
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
                            what: "the connection was closed while a large value was sent, and such are not sent for a while",
                            kind: Some(ErrorKind::TooLarge),
                        };
                        let text = format_args!("{size} bytes");
                        self.0.seams.warnings.warn(topic, || Detail::text(text));
                    }
                }
            }
        }
    }

    /// How a key is to be read whose value may be more than the server sends.
    pub(super) fn care(&self, key: &[u8]) -> Option<Care> {
        self.0.limits.care(key, self.0.seams.time.sent())
    }

    /// Takes note of how it went to read the keys at once.
    pub(super) fn note_read<A>(&self, keys: &[&[u8]], answer: &Result<A, Error>) {
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

    /// The key was read with care, and is none to be careful with.
    pub(super) fn acquit(&self, key: &[u8]) {
        self.0.limits.acquit(key);
    }

    /// How long an operation may take.
    pub(super) fn operation(&self) -> Duration {
        self.0.deadlines.operation
    }

    /// How long an operation may still take after its first command.
    pub(super) fn rest_of_operation(&self) -> Duration {
        let Deadlines {
            command, operation, ..
        } = self.0.deadlines;
        operation.saturating_sub(command)
    }

    pub(super) fn send<'s>(
        &'s self,
        command: &'s Cmd,
    ) -> impl Future<Output = Result<Value, Error>> + Send + 's {
        self.send_within(command, Duration::MAX)
    }

    /// `left` is how long the operation may still take that the command is part of.
    pub(super) async fn send_within(&self, command: &Cmd, left: Duration) -> Result<Value, Error> {
        let answer = self.raw(command, left).await;
        answer.map_err(|lapse| self.told(lapse))
    }

    /// As [`send_within`](Self::send_within); what a server says is left as it said it.
    pub(super) async fn raw(&self, command: &Cmd, left: Duration) -> Result<Value, Lapse> {
        let passage = self.passage(left).await?;
        match &passage.wire {
            Wire::Node(node) => {
                let mut node = node.clone();
                let answer = match passage.until {
                    None => node.send_packed_command(command).await,
                    Some(until) => {
                        in_time(until, Box::pin(node.send_packed_command(command))).await
                    }
                };
                self.0
                    .noted(&passage, answer.and_then(Value::extract_error))
            }
            Wire::Cluster(cluster) => {
                let answer = cluster.send(command, passage.end()).await;
                self.0.noted_of_cluster(&passage, cluster, answer)
            }
        }
    }

    /// Sends a node of a cluster a command for a key that another has, but for what moved already.
    pub(super) async fn raw_asking(&self, command: &Cmd, left: Duration) -> Result<Value, Lapse> {
        let passage = self.passage(left).await?;
        let Wire::Node(node) = &passage.wire else {
            return Err(Lapse::Failed(unexpected_answer()));
        };
        let (mut node, mut pipeline) = (node.clone(), Pipeline::with_capacity(2));
        pipeline.cmd("ASKING").add_command(command.clone());
        let sent = Box::pin(node.send_packed_commands(&pipeline, 1, 1));
        let answers = in_time(passage.end(), sent).await;
        let answers = self.0.noted(&passage, answers)?;
        let answer = answers.into_iter().next();
        let answer = answer.ok_or_else(|| Lapse::Failed(unexpected_answer()))?;
        self.0.noted(&passage, answer.extract_error())
    }

    /// Sends a command to this very node of a cluster. With the answer comes by which connection it came: what a server said
    /// by one is not for the server behind another.
    pub(super) async fn send_to(
        &self,
        node: Option<&Host>,
        command: Cmd,
    ) -> Result<(Value, u64), Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(Duration::MAX).await.map_err(told)?;
        let generation = passage.generation;
        let answer = match (&passage.wire, node) {
            (Wire::Cluster(cluster), Some(node)) => {
                let answer = cluster.send_to(node, &command, passage.end()).await;
                self.0.noted_of_cluster(&passage, cluster, answer)
            }
            _ => self.raw(&command, Duration::MAX).await,
        };
        Ok((answer.map_err(told)?, generation))
    }

    /// Sends a command to all primaries of a cluster.
    pub(super) async fn send_to_primaries(
        &self,
        command: Cmd,
    ) -> Result<Vec<(Host, Value)>, Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(Duration::MAX).await.map_err(told)?;
        let Wire::Cluster(cluster) = &passage.wire else {
            return Ok(Vec::new());
        };
        let answers = cluster.send_to_primaries(&command, passage.end()).await;
        let answers = self.0.noted_of_cluster(&passage, cluster, answers);
        answers.map_err(told)
    }

    /// Asks the nodes of a cluster who has the slots.
    pub(super) async fn learn_nodes(&self) -> Result<(), Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(Duration::MAX).await.map_err(told)?;
        let Wire::Cluster(cluster) = &passage.wire else {
            return Ok(());
        };
        let learnt = cluster.learn(passage.end()).await;
        let learnt = self.0.noted_of_cluster(&passage, cluster, learnt);
        learnt.map_err(told)
    }

    /// One answer a command, in order; an error for all where nothing is known of any.
    pub(super) async fn send_all(
        &self,
        pipeline: &Pipeline,
        count: usize,
        left: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(left).await.map_err(told)?;
        let node = match &passage.wire {
            Wire::Node(node) => node,
            Wire::Cluster(cluster) => {
                let end = passage.end();
                let sent = pipeline
                    .cmd_iter()
                    .map(|command| cluster.send(command, end));
                let answers = join_all(sent).await.into_iter();
                let noted = answers.map(|answer| {
                    let answer = self.0.noted_of_cluster(&passage, cluster, answer);
                    answer.map_err(told)
                });
                return Ok(noted.collect());
            }
        };
        let mut node = node.clone();
        let answers = match passage.until {
            None => node.send_packed_commands(pipeline, 0, count).await,
            Some(until) => {
                let sent = Box::pin(node.send_packed_commands(pipeline, 0, count));
                in_time(until, sent).await
            }
        };
        let answers = self.0.noted(&passage, answers).map_err(told)?;
        if answers.len() != count {
            return Err(unexpected_answer());
        }
        let noted = answers.into_iter().map(|answer| {
            let answer = self.0.noted(&passage, answer.extract_error());
            answer.map_err(told)
        });
        Ok(noted.collect())
    }

    /// As an error.
    pub(super) fn told(&self, lapse: Lapse) -> Error {
        match lapse {
            Lapse::Said(error) => {
                let strays = error.redirect_node().is_some();
                match self.0.connector {
                    Connector::Node(_) if strays && self.0.node.is_none() => Error::config(
                        "the server is a node of a cluster, and the key is on another: write `valkey+cluster://`, or set \
                         VALKEY_CLUSTER=true",
                    ),
                    _ => {
                        let error = self.0.words.of(error, self.0.deadlines.command);
                        self.0.naming(error)
                    }
                }
            }
            Lapse::Lost(error)
            | Lapse::Silent(error)
            | Lapse::Refused(error)
            | Lapse::Failed(error) => error,
        }
    }

    /// The connection, waited for no longer than a command may take.
    async fn passage(&self, left: Duration) -> Result<Passage, Lapse> {
        let command = self.0.deadlines.command;
        let limit = left.min(command);
        runtime::fit().map_err(Lapse::Failed)?;
        let refused = match self.0.breaker.borrow().advice() {
            Advice::Send(wire, generation) => {
                return Ok(Passage {
                    generation,
                    wire: wire.clone(),
                    limit,
                    until: (limit < command).then(|| after(limit)),
                });
            }
            Advice::Refuse(down) => Some(down.clone()),
            Advice::Wait => None,
        };
        let until = after(limit);
        if let Some(down) = refused {
            let Some(claim) = self.0.claim() else {
                self.0.seams.counters.refused();
                return Err(Lapse::Refused(down.refusal.clone()));
            };
            // Nobody tries to connect, though it is time: this caller does, and waits for what comes of it.
            Box::pin(self.0.see_to_connecting(claim, until)).await;
        }
        match tokio::time::timeout_at(until, self.0.connected()).await {
            Ok(Ok((wire, generation))) => Ok(Passage {
                generation,
                wire,
                limit,
                until: Some(until),
            }),
            Ok(Err(down)) => {
                self.0.seams.counters.refused();
                Err(Lapse::Refused(down.refusal.clone()))
            }
            Err(_) => {
                let error = self.0.named(timed_out(limit).context("still connecting"));
                self.0.unanswered(None, &error);
                Err(Lapse::Silent(error))
            }
        }
    }
}

impl Passage {
    /// Until when an answer is waited for.
    fn end(&self) -> Instant {
        self.until.unwrap_or_else(|| after(self.limit))
    }
}

impl Shared {
    /// Makes a step of the breaker, and does what follows from it. True if it changed more than a number.
    fn step(self: &Arc<Self>, step: impl FnOnce(&mut Breaker<Wire, Arc<Down>>)) -> bool {
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
        // What is told of a store is whether it asks anybody.
        if opens && self.node.is_none() {
            self.seams.counters.breaker_opened();
        }
        if connects {
            self.begin(task);
        }
        changed
    }

    /// Has a task connect.
    fn begin(self: &Arc<Self>, task: u64) {
        self.pulse.beat(self.seams.time.sent());
        let give_back = GiveBack(Some(Arc::downgrade(self)), task);
        let connecting = connect_until_up(Arc::downgrade(self), task, give_back);
        self.seams.background.spawn_needed(connecting);
    }

    /// As [`step`](Self::step), of the task that connects. Nothing if another one has taken its place: then false.
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

    /// A claim to connect in place of a task that gave no sign of life.
    fn claim(&self) -> Option<Claim> {
        self.pulse.claim(self.seams.time.sent())
    }

    /// Has a task of this runtime connect in place of one that gave no sign of life.
    fn take_over(self: &Arc<Self>) {
        let mut task = None;
        self.step(|breaker| {
            if breaker.connects() {
                breaker.attempt();
                task = Some(self.next_task());
            }
        });
        if let Some(task) = task {
            tracing::debug!(
                "the task that connects gives no sign of life, and another takes its place"
            );
            self.begin(task);
        }
    }

    fn next_task(&self) -> u64 {
        self.task.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sees to it that there is an attempt to connect, and waits until it has ended, or until then.
    async fn see_to_connecting(self: &Arc<Self>, claim: Claim, until: Instant) {
        let attempt = async {
            let mut watch = self.breaker.subscribe();
            let changed = tokio::time::timeout(MOMENT, watch.changed()).await.is_ok();
            if !changed && !self.pulse.lives(claim) {
                self.take_over();
            }
            // An error says that the link is gone.
            let _ = watch
                .wait_for(|breaker| breaker.state() != BreakerState::HalfOpen)
                .await;
        };
        // Beyond that it is refused as it would have been.
        let _ = tokio::time::timeout_at(until, attempt).await;
    }

    /// Waits until there is a connection or commands are refused.
    async fn connected(self: &Arc<Self>) -> Result<(Wire, u64), Arc<Down>> {
        let mut watch = self.breaker.subscribe();
        loop {
            match watch.borrow_and_update().advice() {
                Advice::Send(wire, generation) => return Ok((wire.clone(), generation)),
                Advice::Refuse(down) => return Err(down.clone()),
                Advice::Wait => {}
            }
            // Again after each change: the task that connects dies with the runtime that it was spawned in.
            self.step(Breaker::start);
            match tokio::time::timeout(BEAT, watch.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Down::new(Error::closed())),
                Err(_) if self.claim().is_some() => self.take_over(),
                Err(_) => {}
            }
        }
    }

    fn unanswered(self: &Arc<Self>, by: Option<u64>, error: &Error) {
        let now = self.seams.time.sent();
        self.step(|breaker| {
            breaker.unanswered(by, now, || {
                let what = "the server is silent, and not asked until it lets us in again";
                self.warn(what, Some(error));
                Down::new(error.clone())
            });
        });
    }

    fn lost(self: &Arc<Self>, generation: u64) {
        let lost = self.step(|breaker| {
            breaker.lost(generation, || {
                let why = "the connection was lost before anything was answered";
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

    /// Takes note of what an answer, or none, says of the connection.
    fn noted<T>(self: &Arc<Self>, passage: &Passage, answer: RedisResult<T>) -> Result<T, Lapse> {
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
            // In a cluster it is told who is.
            _ if self.node.is_some() => self.answered(generation),
            Word::Here => self.answered(generation),
            word => self.strayed(generation, word, &error),
        }
        Err(Lapse::Said(error))
    }

    /// The same of an answer of a cluster, whose nodes have taken note already.
    fn noted_of_cluster<T>(
        self: &Arc<Self>,
        passage: &Passage,
        cluster: &Cluster,
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
                            let what = "no node of the cluster answers, and none is asked until one lets us in again";
                            self.warn(what, Some(error));
                            Down::new(error.clone())
                        });
                    });
                }
            }
        }
        answer
    }

    /// The server said by a connection that it is not the one to ask, or not yet.
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
                "the server is not the one to ask; connecting anew",
                Some(&error),
            );
        }
    }

    /// Says which node of a cluster it is.
    fn named(&self, error: Error) -> Error {
        match &self.node {
            Some(node) => error.context(node),
            None => error,
        }
    }

    /// Says so where a connection that was lost belonged to another runtime: it ends with that.
    fn of_another_runtime(&self, generation: u64, error: Error) -> Error {
        let home = *lock(&self.home);
        match (home, runtime::current()) {
            (Some((made, home)), Some(here)) if made == generation && home != here => error.context(
                "the connection was made in another tokio runtime, and ends with that (`Builder::runtime` names one that lasts)",
            ),
            _ => error,
        }
    }

    /// Names what the user may not run, where the server does not.
    fn naming(&self, error: Error) -> Error {
        let denied = lock(&self.denied);
        match error.to_string().contains("to run the '") || denied.is_empty() {
            true => error,
            false => {
                let names = denied.join(", ");
                error.context(format_args!("the user may not run {names}"))
            }
        }
    }

    fn answered(self: &Arc<Self>, generation: u64) {
        if self.listens.load(Ordering::Relaxed) {
            self.step(|breaker| breaker.answered(generation));
        }
    }

    /// As [`attempt`](Self::attempt), where the runtime lets a connection be made: tokio panics where it does not.
    async fn attempt_here(self: &Arc<Self>) -> Result<(u64, Wire), Error> {
        runtime::fit()?;
        let here = runtime::current();
        if here.is_some_and(|here| lock(&self.without_io).contains(&here)) {
            return Err(runtime::without_io());
        }
        let attempt = AssertUnwindSafe(self.attempt()).catch_unwind().await;
        let attempt = attempt.unwrap_or_else(|_| {
            lock(&self.without_io).extend(here);
            Err(runtime::without_io())
        });
        if let Ok((generation, _)) = &attempt {
            *lock(&self.home) = here.map(|here| (*generation, here));
        }
        attempt
    }

    /// Connects once, and learns the server's time.
    async fn attempt(self: &Arc<Self>) -> Result<(u64, Wire), Error> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let Deadlines {
            connect, command, ..
        } = self.deadlines;
        let wire = match &self.connector {
            Connector::Node(client) => {
                let config = self
                    .config()
                    .set_push_sender(on_disconnect(Arc::downgrade(self), generation));
                let connected = client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await;
                let told = |error| self.words.of_handshake(error, connect);
                Wire::Node(connected.map_err(told)?)
            }
            Connector::Cluster(cluster) => {
                let discovered = Box::pin(cluster.discover(after(connect)));
                discovered.await?;
                Wire::Cluster(cluster.clone())
            }
        };
        if self.node.is_some() {
            return Ok((generation, wire));
        }
        let (sent, ask) = (self.seams.time.sent(), time_command());
        let answer = match &wire {
            Wire::Node(node) => {
                let answer = node.clone().send_packed_command(&ask).await;
                answer.and_then(Value::extract_error).map_err(Lapse::Said)
            }
            Wire::Cluster(cluster) => cluster.send(&ask, after(command)).await,
        };
        let told = |lapse| match lapse {
            Lapse::Said(error) => self.words.of(error, command),
            Lapse::Lost(error)
            | Lapse::Silent(error)
            | Lapse::Refused(error)
            | Lapse::Failed(error) => error,
        };
        match answer.map_err(told).and_then(time_of) {
            Ok(time) => self.seams.time.learn(sent, time),
            Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) => {
                return Err(error);
            }
            // That is told with all else that the user may not do.
            Err(error) if error.kind() == ErrorKind::Auth => {}
            Err(error) => self.warn("the server does not tell its time", Some(&error)),
        }
        self.ask_around(&wire).await;
        Ok((generation, wire))
    }

    /// Learns what the user may not do, and how large a value may be. A server that does not say is asked all the same.
    async fn ask_around(&self, wire: &Wire) {
        let command = self.deadlines.command;
        let [by_body, by_digest] = rights::commands(&self.namespace);
        let commands = [by_body, by_digest, limits::command()];
        let mut answers = Vec::with_capacity(commands.len());
        match wire {
            Wire::Node(node) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                commands.iter().for_each(|command| {
                    pipeline.add_command(command.clone());
                });
                let mut sent = node.clone();
                match sent
                    .send_packed_commands(&pipeline, 0, commands.len())
                    .await
                {
                    Ok(values) => answers.extend(values.into_iter().map(|value| {
                        let answer = value.extract_error();
                        answer.map_err(|error| self.words.of(error, command))
                    })),
                    Err(_) => return,
                }
            }
            // Each goes to some node.
            Wire::Cluster(cluster) => {
                for one in &commands {
                    let answer = Box::pin(cluster.send(one, after(command))).await;
                    answers.push(answer.map_err(|lapse| match lapse {
                        Lapse::Said(error) => self.words.of(error, command),
                        Lapse::Lost(error)
                        | Lapse::Silent(error)
                        | Lapse::Refused(error)
                        | Lapse::Failed(error) => error,
                    }));
                }
            }
        }
        let Ok([by_body, by_digest, limits]) = <[_; 3]>::try_from(answers) else {
            return;
        };
        self.limits.learn(&limits.unwrap_or(Value::Nil));
        self.tell_denied(rights::denied(&[by_body, by_digest]));
    }

    fn tell_denied(&self, denied: Vec<String>) {
        let mut known = lock(&self.denied);
        if *known != denied && !denied.is_empty() {
            let names = denied.join(", ");
            tracing::error!(
                "error.type" = ErrorKind::Auth.as_str(),
                "the user may not run {names}: what needs that fails, as loads that are to be stored, guards of writes, deletions \
                 and limits do. The commands that a user needs are listed in docs/operations.md"
            );
        }
        *known = denied;
    }

    /// The task that connects lives, unless another has taken its place.
    fn beat(&self, task: u64) {
        if self.task.load(Ordering::Relaxed) == task {
            self.pulse.beat(self.seams.time.sent());
        }
    }

    fn can_connect_here(&self) -> bool {
        let is_without = |here| lock(&self.without_io).contains(&here);
        runtime::has_timers() && !runtime::current().is_some_and(is_without)
    }

    fn warn(&self, what: &'static str, error: Option<&Error>) {
        let (of, kind) = (None, error.map(Error::kind));
        self.seams
            .warnings
            .warn(Topic { of, what, kind }, || match (error, &self.node) {
                (Some(error), _) => Detail::text(error),
                (None, Some(node)) => Detail::text(node),
                (None, None) => Detail::default(),
            });
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadlines.connect))
            .set_response_timeout(Some(self.deadlines.command))
    }
}

/// Says that nobody connects any more, where the task ends without having connected: its runtime was shut down, or the
/// store was closed.
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

/// Tries until it succeeds, until another one takes its place, or until nobody has the link any more.
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
            // The connection that is to be replaced may be lost meanwhile, and then it is missed at once.
            Some(watch) => {
                let lost = watch.wait_for(|breaker| !breaker.renews());
                let _ = tokio::time::timeout(pause, lost).await;
            }
        }
        let Some(shared) = link.upgrade() else { return };
        if !shared.step_of(task, Breaker::attempt) {
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
                        true => "connected anew",
                        false => "the server lets us in again",
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
                    // The connection that was to be replaced is used on; or it never will in this runtime, and a call from another
                    // one takes this task's place.
                    give_back.0 = None;
                    return;
                }
            }
        }
    }
}

/// Whether a server said it.
fn is_answer(error: &RedisError) -> bool {
    let silence = matches!(
        failure::kind_of(error),
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Tls
    );
    !silence && !error.is_timeout()
}

/// A panic under these locks leaves what they hold whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    // What can't be told as a moment is as good as never: a day from now.
    let day = Duration::from_secs(24 * 60 * 60);
    now.checked_add(time).unwrap_or(now + day)
}

/// Waits for an answer until then.
async fn in_time<T>(
    until: Instant,
    answer: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    tokio::time::timeout_at(until, answer)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

/// The connection itself tells when it is lost, also while no command is under way; and when it ends with its runtime.
fn on_disconnect(
    link: Weak<Shared>,
    generation: u64,
) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> {
    let ends = Ends(link, generation);
    move |push| {
        if push.kind == PushKind::Disconnection {
            ends.tell();
        }
        Ok(())
    }
}

/// Belongs to a connection, and is dropped with it.
struct Ends(Weak<Shared>, u64);

impl Ends {
    fn tell(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.lost(self.1);
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.tell();
    }
}

pub(super) fn time_command() -> Cmd {
    redis::cmd("TIME")
}

/// The microseconds since the epoch in an answer to `TIME`.
pub(super) fn time_of(answer: Value) -> Result<u64, Error> {
    let (seconds, micros): (u64, u64) =
        redis::from_redis_value(answer).map_err(|_| unexpected_answer())?;
    Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("breaker", &self.state())
            .field("deadlines", &self.0.deadlines)
            .finish_non_exhaustive()
    }
}
