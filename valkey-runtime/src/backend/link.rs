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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisError, RedisResult,
    Value,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Advice, Breaker, BreakerState};
use super::cluster::{Cluster, Dial};
use super::failure::{self, Word, Words, timed_out, unexpected_answer};
use super::server::Host;
use super::time::ServerTime;
use crate::background::Background;
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
    ) -> Self {
        let connector = Connector::Node(Box::new(client));
        Self::new(connector, None, deadlines, words, seams)
    }

    /// To a cluster, which is found by any of these.
    pub(super) fn to_cluster(
        seeds: Vec<Host>,
        client: impl Fn(&Host) -> RedisResult<Client> + Send + Sync + 'static,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
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
            ))
        });
        let cluster = Cluster::new(seeds, dial, deadlines, seams.clone());
        Self::new(Connector::Cluster(cluster), None, deadlines, words, seams)
    }

    fn new(
        connector: Connector,
        node: Option<Host>,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
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
        }))
    }

    /// Connects, or gives the reason why the first attempt failed.
    pub(super) async fn connect(&self) -> Result<(), Error> {
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
        if tokio::runtime::Handle::try_current().is_ok() {
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
                    _ => self.0.words.of(error, self.0.deadlines.command),
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
        match self.0.breaker.borrow().advice() {
            Advice::Send(wire, generation) => {
                return Ok(Passage {
                    generation,
                    wire: wire.clone(),
                    limit,
                    until: (limit < command).then(|| after(limit)),
                });
            }
            Advice::Refuse(down) => {
                self.0.seams.counters.refused();
                return Err(Lapse::Refused(down.refusal.clone()));
            }
            Advice::Wait => {}
        }
        let until = after(limit);
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
        let (mut opens, mut connects) = (false, false);
        let changed = self.breaker.send_if_modified(|breaker| {
            let (phase, state, connecting) = (breaker.phase(), breaker.state(), breaker.connects());
            step(breaker);
            opens = state == BreakerState::Closed && breaker.state() != BreakerState::Closed;
            connects = !connecting && breaker.connects();
            self.listens.store(breaker.listens(), Ordering::Relaxed);
            breaker.phase() != phase
        });
        // What is told of a store is whether it asks anybody.
        if opens && self.node.is_none() {
            self.seams.counters.breaker_opened();
        }
        if connects {
            let give_back = GiveBack(Some(Arc::downgrade(self)));
            let task = connect_until_up(Arc::downgrade(self), give_back);
            self.seams.background.spawn_needed(task);
        }
        changed
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
            if watch.changed().await.is_err() {
                return Err(Down::new(Error::closed()));
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
            return Err(Lapse::Lost(self.named(self.words.of(error, limit))));
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

    fn answered(self: &Arc<Self>, generation: u64) {
        if self.listens.load(Ordering::Relaxed) {
            self.step(|breaker| breaker.answered(generation));
        }
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
            // A user may be denied the command: then our own clock has to do.
            Err(error) => self.warn("the server does not tell its time", Some(&error)),
        }
        Ok((generation, wire))
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
struct GiveBack(Option<Weak<Shared>>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take().as_ref().and_then(Weak::upgrade) {
            shared.step(Breaker::abandoned);
        }
    }
}

/// Tries until it succeeds, or until nobody has the link any more.
async fn connect_until_up(link: Weak<Shared>, mut give_back: GiveBack) {
    loop {
        let (pause, mut watch) = match link.upgrade() {
            Some(shared) => {
                let random = shared.seams.random.next_u64();
                let watch = shared.breaker.subscribe();
                let breaker = shared.breaker.borrow();
                (breaker.pause(random), breaker.renews().then_some(watch))
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
        shared.step(Breaker::attempt);
        match shared.attempt().await {
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
                shared.step(|breaker| breaker.connected(generation, wire));
                if renews {
                    shared.renewals.send_modify(|count| *count += 1);
                }
                return;
            }
            Err(error) => {
                let error = shared.named(error);
                shared.warn("connecting to the server failed", Some(&error));
                let mut goes_on = true;
                shared.step(|breaker| {
                    breaker.failed(Down::new(error));
                    goes_on = breaker.connects();
                });
                if !goes_on {
                    // The connection that was to be replaced is used on.
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

/// The connection itself tells when it is lost, also while no command is under way.
fn on_disconnect(
    link: Weak<Shared>,
    generation: u64,
) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> {
    move |push| {
        if push.kind == PushKind::Disconnection
            && let Some(shared) = link.upgrade()
        {
            shared.lost(generation);
        }
        Ok(())
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
