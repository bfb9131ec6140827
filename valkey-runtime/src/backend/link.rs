//! The connection to the server: one, multiplexed, made anew when it is lost.
//!
//! The client's own connection manager is not used: it gives up for good where a reconnection fails with anything but an
//! I/O error (a server that is still loading, a password that is being rotated), and lets commands wait through its
//! back-off. Here connecting is a task of its own that goes on until it succeeds; commands wait for its first attempt
//! only, and fail at once while the server is known to be down. The state is one word in a watch channel, so there is
//! nothing to get out of step.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::watch;

use super::failure::{from_redis, timed_out, unexpected_answer};
use super::time::ServerTime;
use crate::{Error, ErrorKind, Random};

/// The wait before the second attempt to connect, doubled for each further one up to the longest. Jittered.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How the server is reached.
pub(super) enum Connector {
    Node(Box<Client>),
    /// With its seeds one by one, to find out why none of them lets us in: the cluster's client does not tell.
    Cluster(Box<ClusterClient>, Vec<Client>),
}

/// Deadlines for connecting and for each command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) command: Duration,
}

/// Cheap to clone; all clones are one connection.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    connector: Connector,
    deadlines: Deadlines,
    time: Arc<ServerTime>,
    random: Arc<dyn Random>,
    generations: AtomicU64,
    state: watch::Sender<State>,
}

enum State {
    /// Nobody is connecting: the next command starts it.
    Idle,
    /// The first attempt since the connection was lost is under way: commands wait for it.
    Connecting,
    Up(Connection),
    /// The last attempt failed with this, and the next is due. Commands fail at once.
    Down(Error),
}

#[derive(Clone)]
struct Connection {
    /// Tells this connection from the ones before and after it.
    generation: u64,
    wire: Wire,
}

#[derive(Clone)]
enum Wire {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Nothing is connected yet, and nothing spawned.
    pub(super) fn new(
        connector: Connector,
        deadlines: Deadlines,
        time: Arc<ServerTime>,
        random: Arc<dyn Random>,
    ) -> Self {
        let (state, _) = watch::channel(State::Idle);
        Self(Arc::new(Shared {
            connector,
            deadlines,
            time,
            random,
            generations: AtomicU64::new(0),
            state,
        }))
    }

    /// Connects, or gives the reason why the first attempt failed.
    pub(super) async fn connect(&self) -> Result<(), Error> {
        // The attempt has the deadline for connecting; this one is for a runtime that never polls it.
        self.connection(self.0.deadlines.connect + self.0.deadlines.command)
            .await
            .map(|_| ())
    }

    /// Starts connecting in the background, where there is a runtime to do it in; else the first command does.
    pub(super) fn connect_in_background(&self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.0.start();
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.0.connector, Connector::Cluster(..))
    }

    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Error> {
        let Connection {
            generation,
            mut wire,
        } = self.connection(self.0.deadlines.command).await?;
        let answer = match &mut wire {
            Wire::Node(node) => node.send_packed_command(command).await,
            Wire::Cluster(cluster) => cluster.req_packed_command(command).await,
        };
        self.0
            .checked(generation, answer.and_then(Value::extract_error))
    }

    /// One answer a command, in order; an error for all where nothing is known of any. On a cluster all keys of a
    /// pipeline must be of one slot.
    pub(super) async fn send_all(
        &self,
        pipeline: &Pipeline,
        count: usize,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let Connection {
            generation,
            mut wire,
        } = self.connection(self.0.deadlines.command).await?;
        let answers = match &mut wire {
            Wire::Node(node) => node.send_packed_commands(pipeline, 0, count).await,
            Wire::Cluster(cluster) => cluster.req_packed_commands(pipeline, 0, count).await,
        };
        let answers = self.0.checked(generation, answers)?;
        if answers.len() != count {
            return Err(unexpected_answer());
        }
        Ok(answers
            .into_iter()
            .map(|answer| self.0.checked(generation, answer.extract_error()))
            .collect())
    }

    /// The connection, waited for at most so long.
    async fn connection(&self, deadline: Duration) -> Result<Connection, Error> {
        match &*self.0.state.borrow() {
            State::Up(connection) => return Ok(connection.clone()),
            State::Down(error) => return Err(error.clone()),
            State::Idle | State::Connecting => {}
        }
        match tokio::time::timeout(deadline, self.0.connected()).await {
            Ok(connection) => connection,
            Err(_) => Err(timed_out(deadline).context("still connecting")),
        }
    }
}

impl Shared {
    /// Waits for the attempt that is under way, and starts one where none is.
    async fn connected(self: &Arc<Self>) -> Result<Connection, Error> {
        let mut watch = self.state.subscribe();
        loop {
            match &*watch.borrow_and_update() {
                State::Up(connection) => return Ok(connection.clone()),
                State::Down(error) => return Err(error.clone()),
                State::Idle | State::Connecting => {}
            }
            // Again after each change: the task that connects dies with the runtime that it was spawned in.
            self.start();
            if watch.changed().await.is_err() {
                return Err(Error::new(ErrorKind::Connection, "the store was closed"));
            }
        }
    }

    fn start(self: &Arc<Self>) {
        let idle = self.state.send_if_modified(|state| match state {
            State::Idle => {
                *state = State::Connecting;
                true
            }
            _ => false,
        });
        if idle {
            self.spawn();
        }
    }

    /// Takes note that this connection is lost, and starts to make another.
    fn lost(self: &Arc<Self>, generation: u64) {
        let was_up = self.state.send_if_modified(|state| match state {
            State::Up(connection) if connection.generation == generation => {
                *state = State::Connecting;
                true
            }
            _ => false,
        });
        if was_up {
            tracing::warn!("the connection to the server was lost; connecting again");
            self.spawn();
        }
    }

    fn spawn(self: &Arc<Self>) {
        tokio::spawn(connect_until_up(
            Arc::downgrade(self),
            GiveBack(Arc::downgrade(self)),
        ));
    }

    /// Translates an error, and takes note where it means that the connection is lost.
    fn checked<T>(self: &Arc<Self>, generation: u64, answer: RedisResult<T>) -> Result<T, Error> {
        answer.map_err(|error| {
            let lost = match self.connector {
                Connector::Node(_) => error.is_unrecoverable_error(),
                // The cluster's client looks after the nodes' connections itself; its own task, once gone, is gone.
                Connector::Cluster(..) => error.is_connection_dropped(),
            };
            if lost {
                self.lost(generation);
            }
            match self.connector {
                Connector::Node(_) if error.redirect_node().is_some() => Error::config(
                    "the server is a node of a cluster, and the key is on another: write `valkey+cluster://`, or set \
                     VALKEY_CLUSTER=true",
                ),
                _ => from_redis(error, self.deadlines.command),
            }
        })
    }

    async fn attempt(self: &Arc<Self>) -> Result<Connection, Error> {
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
                match self.in_time(cluster.get_async_connection()).await {
                    Ok(connection) => Wire::Cluster(connection),
                    Err(error) => return Err(self.why_no_seed(seeds).await.unwrap_or(fail(error))),
                }
            }
        };
        let sent = self.time.sent();
        let answer = match &mut wire {
            Wire::Node(node) => node.send_packed_command(&time_command()).await,
            Wire::Cluster(cluster) => cluster.req_packed_command(&time_command()).await,
        };
        match answer
            .and_then(Value::extract_error)
            .map_err(fail)
            .and_then(time_of)
        {
            Ok(time) => self.time.learn(sent, time),
            Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) => {
                return Err(error);
            }
            // A user may be denied the command: then our own clock has to do.
            Err(error) => tracing::warn!("the server does not tell its time: {error}"),
        }
        Ok(Connection { generation, wire })
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        match tokio::time::timeout(self.deadlines.connect, connecting).await {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
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

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadlines.connect))
            .set_response_timeout(Some(self.deadlines.command))
    }
}

/// Says that nobody connects any more, where the task ends without having connected: its runtime was shut down.
struct GiveBack(Weak<Shared>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.state.send_if_modified(|state| match state {
                State::Connecting | State::Down(_) => {
                    *state = State::Idle;
                    true
                }
                State::Up(_) | State::Idle => false,
            });
        }
    }
}

/// Tries until it succeeds, or until nobody has the link any more.
async fn connect_until_up(link: Weak<Shared>, _give_back: GiveBack) {
    let mut wait = FIRST_WAIT;
    while let Some(shared) = link.upgrade() {
        match shared.attempt().await {
            Ok(connection) => {
                shared.state.send_replace(State::Up(connection));
                return;
            }
            Err(error) => {
                tracing::warn!(kind = %error.kind(), "connecting to the server failed: {error}");
                shared.state.send_replace(State::Down(error));
            }
        }
        // Between half of the wait and all of it, so that many processes don't come back as one.
        let half = wait / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        let pause = half + Duration::from_micros(shared.random.next_u64() % spread);
        drop(shared);
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
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
        let state = match &*self.0.state.borrow() {
            State::Idle => "idle",
            State::Connecting => "connecting",
            State::Up(_) => "up",
            State::Down(_) => "down",
        };
        f.debug_struct("Link")
            .field("state", &state)
            .field("deadlines", &self.0.deadlines)
            .finish_non_exhaustive()
    }
}
