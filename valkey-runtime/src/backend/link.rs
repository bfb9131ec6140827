//! The connection to the server: one, multiplexed, made anew when it is lost, and not used while the server is silent.
//!
//! [`breaker`](super::breaker) decides; here is what connects, sends and waits. The breaker is the one state, in a watch
//! channel, so there is nothing to get out of step.
//!
//! The client's own connection manager is not used: it gives up for good where a reconnection fails with anything but an
//! I/O error (a server that is still loading, a password that is being rotated), and lets commands wait through its
//! back-off. Here connecting is a task of its own that goes on until it succeeds.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Advice, Breaker, BreakerState};
use super::failure::{from_redis, timed_out, unexpected_answer};
use super::time::ServerTime;
use crate::background::Background;
use crate::stats::Counters;
use crate::warnings::{Detail, Topic, Warnings};
use crate::{Error, ErrorKind, Random};

/// How the server is reached.
pub(super) enum Connector {
    Node(Box<Client>),
    /// With its seeds one by one, to find out why none of them lets us in: the cluster's client does not tell.
    Cluster(Box<ClusterClient>, Vec<Client>),
}

/// A node of a cluster, by the client's name for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    host: String,
    port: u16,
}

impl Node {
    pub(super) fn parse(address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        Some(Self {
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }

    fn routing(&self) -> RoutingInfo {
        let Node { host, port } = self.clone();
        RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port })
    }
}

/// Deadlines for connecting, for each command, and for the commands of one operation together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) command: Duration,
    pub(super) operation: Duration,
}

/// What a link takes from its store.
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
    deadlines: Deadlines,
    seams: Seams,
    generations: AtomicU64,
    breaker: watch::Sender<Breaker<Wire, Arc<Down>>>,
    /// Whether the breaker wants to be told of answers. Most of the time it does not, and they cost one look at this.
    listens: AtomicBool,
}

#[derive(Clone)]
enum Wire {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Wire {
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Wire::Node(node) => node.send_packed_command(command).await,
            Wire::Cluster(cluster) => cluster.req_packed_command(command).await,
        }
    }

    /// Where there are nodes to choose from.
    async fn send_to(&mut self, command: Cmd, routing: Option<RoutingInfo>) -> RedisResult<Value> {
        match (self, routing) {
            (Wire::Cluster(cluster), Some(routing)) => {
                cluster.route_command(command, routing).await
            }
            (wire, _) => wire.send(&command).await,
        }
    }

    async fn send_all(&mut self, pipeline: &Pipeline, count: usize) -> RedisResult<Vec<Value>> {
        match self {
            Wire::Node(node) => node.send_packed_commands(pipeline, 0, count).await,
            Wire::Cluster(cluster) => cluster.req_packed_commands(pipeline, 0, count).await,
        }
    }
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
    /// Nothing is connected yet, and nothing spawned.
    pub(super) fn new(connector: Connector, deadlines: Deadlines, seams: Seams) -> Self {
        let (breaker, _) = watch::channel(Breaker::new(deadlines.command));
        Self(Arc::new(Shared {
            connector,
            deadlines,
            seams,
            generations: AtomicU64::new(0),
            breaker,
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

    /// Starts connecting in the background, where there is a runtime to do it in; else the first command does.
    pub(super) fn connect_in_background(&self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.0.step(Breaker::start);
        }
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
        let mut passage = self.passage(left).await?;
        let answer = match passage.until {
            None => passage.wire.send(command).await,
            Some(until) => in_time(until, Box::pin(passage.wire.send(command))).await,
        };
        self.0
            .checked(&passage, answer.and_then(Value::extract_error))
    }

    /// Sends a command to this very node of a cluster. With the answer comes by which connection it came: what a server said
    /// by one is not for the server behind another.
    pub(super) async fn send_to(
        &self,
        node: Option<&Node>,
        command: Cmd,
    ) -> Result<(Value, u64), Error> {
        self.send_routed(command, node.map(Node::routing)).await
    }

    /// Sends a command to all primaries of a cluster. The answer is a map, by the names of [`Node`]s.
    pub(super) async fn send_to_primaries(&self, command: Cmd) -> Result<Value, Error> {
        let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        Ok(self.send_routed(command, Some(all)).await?.0)
    }

    async fn send_routed(
        &self,
        command: Cmd,
        routing: Option<RoutingInfo>,
    ) -> Result<(Value, u64), Error> {
        let mut passage = self.passage(Duration::MAX).await?;
        let sent = passage.wire.send_to(command, routing);
        let answer = match passage.until {
            None => sent.await,
            Some(until) => in_time(until, Box::pin(sent)).await,
        };
        let answer = answer.and_then(Value::extract_error);
        Ok((self.0.checked(&passage, answer)?, passage.generation))
    }

    /// One answer a command, in order; an error for all where nothing is known of any. On a cluster all keys of a
    /// pipeline must be of one slot.
    pub(super) async fn send_all(
        &self,
        pipeline: &Pipeline,
        count: usize,
        left: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let mut passage = self.passage(left).await?;
        let answers = match passage.until {
            None => passage.wire.send_all(pipeline, count).await,
            Some(until) => in_time(until, Box::pin(passage.wire.send_all(pipeline, count))).await,
        };
        let answers = self.0.checked(&passage, answers)?;
        if answers.len() != count {
            return Err(unexpected_answer());
        }
        Ok(answers
            .into_iter()
            .map(|answer| self.0.checked(&passage, answer.extract_error()))
            .collect())
    }

    /// The connection, waited for no longer than a command may take.
    async fn passage(&self, left: Duration) -> Result<Passage, Error> {
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
                return Err(down.refusal.clone());
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
                Err(down.refusal.clone())
            }
            Err(_) => {
                let error = timed_out(limit).context("still connecting");
                self.0.unanswered(None, &error);
                Err(error)
            }
        }
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
        if opens {
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

    /// Translates an error, and takes note of what an answer, or none, says of the connection.
    fn checked<T>(self: &Arc<Self>, passage: &Passage, answer: RedisResult<T>) -> Result<T, Error> {
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
        let lost = match self.connector {
            Connector::Node(_) => error.is_unrecoverable_error(),
            // The cluster's client looks after the nodes' connections itself; its own task, once gone, is gone.
            Connector::Cluster(..) => error.is_connection_dropped(),
        };
        let error = match self.connector {
            Connector::Node(_) if error.redirect_node().is_some() => Error::config(
                "the server is a node of a cluster, and the key is on another: write `valkey+cluster://`, or set \
                 VALKEY_CLUSTER=true",
            ),
            _ => from_redis(error, limit),
        };
        match error.kind() {
            _ if lost => self.lost(generation),
            ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Tls => {
                self.unanswered(Some(generation), &error);
            }
            _ => self.answered(generation),
        }
        Err(error)
    }

    fn answered(self: &Arc<Self>, generation: u64) {
        if self.listens.load(Ordering::Relaxed) {
            self.step(|breaker| breaker.answered(generation));
        }
    }

    /// Connects once, and learns the server's time.
    async fn attempt(self: &Arc<Self>) -> Result<(u64, Wire), Error> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let fail = |error| from_redis(error, self.deadlines.connect);
        let mut wire = match &self.connector {
            Connector::Node(client) => {
                let config = self
                    .config()
                    .set_push_sender(on_disconnect(Arc::downgrade(self), generation));
                Wire::Node(
                    client
                        .get_multiplexed_async_connection_with_config(&config)
                        .await
                        .map_err(fail)?,
                )
            }
            Connector::Cluster(cluster, seeds) => {
                let until = after(self.deadlines.connect);
                match in_time(until, cluster.get_async_connection()).await {
                    Ok(connection) => Wire::Cluster(connection),
                    Err(error) => return Err(self.why_no_seed(seeds).await.unwrap_or(fail(error))),
                }
            }
        };
        let sent = self.seams.time.sent();
        let answer = wire.send(&time_command()).await;
        match answer
            .and_then(Value::extract_error)
            .map_err(fail)
            .and_then(time_of)
        {
            Ok(time) => self.seams.time.learn(sent, time),
            Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) => {
                return Err(error);
            }
            // A user may be denied the command: then our own clock has to do.
            Err(error) => self.warn("the server does not tell its time", Some(&error)),
        }
        Ok((generation, wire))
    }

    /// Why the seeds of a cluster don't let us in, where one of them tells more than that it is not there.
    async fn why_no_seed(&self, seeds: &[Client]) -> Option<Error> {
        let mut reason = None;
        for seed in seeds {
            let answer = seed
                .get_multiplexed_async_connection_with_config(&self.config())
                .await;
            if let Err(error) = answer {
                let error = from_redis(error, self.deadlines.connect);
                if !matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) {
                    return Some(error);
                }
                reason = Some(error);
            }
        }
        reason
    }

    fn warn(&self, what: &'static str, error: Option<&Error>) {
        let (of, kind) = (None, error.map(Error::kind));
        self.seams.warnings.warn(Topic { of, what, kind }, || {
            error.map_or_else(Detail::default, Detail::text)
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
        let pause = match link.upgrade() {
            Some(shared) => {
                let random = shared.seams.random.next_u64();
                shared.breaker.borrow().pause(random)
            }
            None => return,
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let Some(shared) = link.upgrade() else { return };
        shared.step(Breaker::attempt);
        match shared.attempt().await {
            Ok((generation, wire)) => {
                give_back.0 = None;
                if shared.breaker.borrow().state() != BreakerState::Closed {
                    let what = "the server lets us in again";
                    let (of, kind) = (None, None);
                    let topic = Topic { of, what, kind };
                    shared.seams.warnings.note(topic, Detail::default);
                }
                shared.step(|breaker| breaker.connected(generation, wire));
                return;
            }
            Err(error) => {
                shared.warn("connecting to the server failed", Some(&error));
                shared.step(|breaker| breaker.failed(Down::new(error)));
            }
        }
    }
}

fn after(time: Duration) -> Instant {
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
