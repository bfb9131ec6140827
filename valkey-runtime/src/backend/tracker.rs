//! The connections by which a server, or each primary of a cluster, reports changes.
//!
//! They exist while there are subscribers: one connection and one task for each node. The task
//! connects, and turns on tracking of the namespace's keys (`CLIENT TRACKING`, broadcast). It
//! checks now and then that the node still answers, and connects again after a loss. Notifications
//! go from the connection to the [`Hub`] without a task in between. [`Coverage`] decides which
//! nodes have a task, and when there is a gap.
//!
//! All of this runs on a thread of its own, because unread notifications take up the server's
//! memory for entries. A runtime of the application may run only now and then, or wait for a
//! blocking call.
//!
//! These connections are separate from the store's, because their loss must be noticed. They are
//! also replaced when the store's connection was replaced because of a server's answer: the address
//! may lead to another server now.
//!
//! Long because the connections of all nodes and their gaps are one state.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Client, Cmd, PushInfo, PushKind, RedisResult, Value};
use tokio::runtime::{self, Handle};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use crate::backend::buffer::Buffer;
use crate::backend::failure::{Words, timed_out, unexpected_answer};
use crate::backend::hub::Hub;
use crate::backend::seams::{Deadlines, Seams};
use crate::backend::slots::Slots;
use crate::backend::target::{Host, ServerConfig, Target};
use crate::backend::tracked::{Tracked, Wanted};
use crate::base::clock::Random;
use crate::base::error::{Error, ErrorKind};
use crate::base::tasks::Background;
use crate::base::warnings::{Detail, Topic, Warnings};
use crate::protocol::breaker::pause;
use crate::protocol::coverage::Coverage;

/// The silence of a connection after which the node is asked for an answer.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// The tracking of a store. It ends with the store.
pub(crate) struct Tracker(Arc<Shared>);

/// Keeps the tracking on, until it is dropped.
#[derive(Debug)]
pub(crate) struct Interest(Arc<Shared>);

struct Shared {
    hub: Arc<Hub>,
    servers: Servers,
    pub(crate) deadlines: Deadlines,
    pub(crate) words: Words,
    random: Arc<dyn Random>,
    background: Background,
    warnings: Arc<Warnings>,
    /// Changes when the address may lead to another server.
    renewals: watch::Receiver<u64>,
    state: Mutex<State>,
    /// The part of the wanted keys whose changes all nodes report, readable without the lock. It
    /// shrinks before the gap of a lost connection is sent: a reader that sees it, and then no gap,
    /// misses no change.
    covered: AtomicUsize,
    /// Whether a server refuses to report changes, as one without the command or the right does.
    refused: AtomicBool,
    /// Changes when more keys are wanted.
    widened: watch::Sender<()>,
    /// Notified when the state may have changed.
    changed: watch::Sender<()>,
}

enum Servers {
    One(Box<Client>),
    Cluster(Box<ServerConfig>),
}

/// The name of a server. The single server needs none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Only,
    At(Host),
}

#[derive(Default)]
struct State {
    interests: usize,
    wanted: Wanted,
    /// The run, while there is interest.
    run: Option<Run>,
    /// Whether a task ended with its runtime, or could not begin.
    neglected: bool,
    /// Whether it was logged that unread notifications take up a node's memory for entries.
    warned: bool,
    over: bool,
    /// The last of the numbers that distinguish tasks and connections.
    number: u64,
}

struct Run {
    coverage: Coverage<Node, Error>,
    /// The keys that the last connection of each node tracks.
    tracked: BTreeMap<Node, Tracked>,
    tasks: BTreeMap<Node, Task>,
    /// `None` if no thread could be started: then the tasks run in the runtimes of their callers.
    reader: Option<Reader>,
}

/// A thread that reads the servers' notifications, until this is dropped.
struct Reader {
    runtime: Handle,
    _end: oneshot::Sender<()>,
}

impl Reader {
    fn start() -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("valkey-invalidations".into())
            .spawn(move || {
                // Nothing is ever sent: this returns when the sender is dropped.
                let _ = runtime.block_on(ended);
            })?;
        Ok(Self {
            runtime: handle,
            _end: end,
        })
    }
}

struct Task {
    number: u64,
    handle: AbortHandle,
}

/// A connection with tracking.
struct Tracking {
    connection: MultiplexedConnection,
    generation: u64,
    tracked: Tracked,
    /// Notified when it is lost.
    lost: Arc<Notify>,
}

impl Tracker {
    pub(crate) fn new(
        config: &ServerConfig,
        deadlines: Deadlines,
        hub: Arc<Hub>,
        seams: &Seams,
        renewals: watch::Receiver<u64>,
    ) -> RedisResult<Self> {
        let servers = match &config.target {
            Target::Cluster(_) => Servers::Cluster(Box::new(config.clone())),
            Target::Tcp(host) => Servers::One(Box::new(config.node(host)?)),
            Target::Unix(path) => Servers::One(Box::new(config.socket(path)?)),
        };
        Ok(Self(Arc::new(Shared {
            hub,
            servers,
            deadlines,
            words: Words::without(config.password.clone()),
            random: seams.random.clone(),
            background: seams.background.clone(),
            warnings: seams.warnings.clone(),
            renewals,
            state: Mutex::default(),
            covered: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            widened: watch::Sender::new(()),
            changed: watch::Sender::new(()),
        })))
    }

    /// A subscriber that receives all changes from now on.
    pub(crate) async fn subscribe(&self) -> Result<(Arc<Buffer>, Interest), Error> {
        crate::base::runtime::fit()?;
        let (interest, since) = Interest::new(&self.0)?;
        self.0.widen(Wanted::want_all);
        // An attempt under way may fail. Then, after the pause, comes the next one. On a cluster, a
        // seed is connected first, and then the nodes that it names.
        let limit = self.0.attempt().saturating_add(self.0.attempt());
        let joined = tokio::time::timeout(limit, self.0.joined(since)).await;
        let joined = joined.unwrap_or_else(|_| Err(timed_out(limit).context("still connecting")));
        let buffer = joined?;
        Ok((buffer, interest))
    }

    /// Begins to report the changes that are asked for by [`Interest::track`].
    pub(crate) fn follow(&self) -> Result<Interest, Error> {
        Interest::new(&self.0).map(|(interest, _)| interest)
    }

    /// Ends all notifications.
    pub(crate) fn close(&self) {
        {
            let mut state = self.0.lock();
            state.over = true;
            self.0.stop(&mut state);
        }
        self.0.hub.end();
        self.0.changed.send_replace(());
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.close();
    }
}

impl Interest {
    /// Also returns the number of failures so far.
    fn new(shared: &Arc<Shared>) -> Result<(Self, u64), Error> {
        let mut state = shared.lock();
        if state.over {
            return Err(Error::closed());
        }
        state.interests += 1;
        let run = state.run.get_or_insert_with(|| Run {
            coverage: Coverage::new(shared.servers.seeds()),
            tracked: BTreeMap::new(),
            tasks: BTreeMap::new(),
            reader: Reader::start()
                .inspect_err(|error| {
                    tracing::warn!("no thread for invalidations could be started; the callers' runtimes read them: {error}")
                })
                .ok(),
        });
        Ok((Self(shared.clone()), run.coverage.failures()))
    }

    /// Asks for the changes of all keys with this prefix, and does not wait for them. Returns the
    /// number of the prefix.
    pub(crate) fn track(&self, prefix: &[u8]) -> usize {
        let number = self.0.widen(|wanted| wanted.want(prefix));
        self.0.arrange(self.0.lock());
        number
    }

    /// The part of the wanted keys whose changes are reported.
    pub(crate) fn tracked(&self) -> Tracked {
        Tracked::from_number(self.0.covered.load(Ordering::SeqCst))
    }

    /// Whether a server refuses to report changes.
    pub(crate) fn is_refused(&self) -> bool {
        self.0.refused.load(Ordering::SeqCst)
    }

    /// Whether all changes are reported.
    pub(crate) fn is_live(&self) -> bool {
        self.tracked() == Tracked::ALL
    }

    /// Ensures that the tasks run. They end with the runtime in which they were spawned, and a
    /// subscriber may be in another.
    pub(crate) fn renew(&self) {
        let state = self.0.lock();
        if state.is_neglected() {
            self.0.arrange(state);
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.interests -= 1;
        if state.interests == 0 {
            self.0.stop(&mut state);
        }
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn is_neglected(&self) -> bool {
        let ended = |run: &Run| run.tasks.values().any(|task| task.handle.is_finished());
        self.neglected || self.run.as_ref().is_some_and(ended)
    }

    /// The run, if this is still the task of the node.
    fn run_of(&mut self, node: &Node, task: u64) -> Option<&mut Run> {
        let run = self.run.as_mut()?;
        (run.tasks.get(node)?.number == task).then_some(run)
    }
}

impl Run {
    /// The part of the wanted keys whose changes all nodes report.
    fn covered(&self) -> Tracked {
        if !self.coverage.is_whole() {
            return Tracked::NOTHING;
        }
        let tracked = |node| self.tracked.get(node).copied();
        let all = self.coverage.connected().map(tracked);
        all.min().flatten().unwrap_or(Tracked::NOTHING)
    }
}

impl Shared {
    /// The longest time of an attempt to connect.
    fn attempt(&self) -> Duration {
        let Deadlines {
            connect, command, ..
        } = self.deadlines;
        connect.saturating_add(command)
    }

    /// Ends all tasks, and with them their connections.
    fn stop(&self, state: &mut State) {
        if let Some(run) = state.run.take() {
            run.tasks.values().for_each(|task| task.handle.abort());
        }
        self.note_coverage(state);
    }

    fn note_coverage(&self, state: &State) {
        let covered = state.run.as_ref().map_or(Tracked::NOTHING, Run::covered);
        self.covered.store(covered.as_number(), Ordering::SeqCst);
    }

    /// Asks for more keys.
    fn widen<R>(&self, widen: impl FnOnce(&mut Wanted) -> R) -> R {
        let (widened, more) = {
            let mut state = self.lock();
            let before = state.wanted.tracked();
            let widened = widen(&mut state.wanted);
            (widened, state.wanted.tracked() != before)
        };
        if more {
            self.widened.send_replace(());
        }
        widened
    }

    /// Waits until all changes are reported. Fails with the reason why they can't be.
    async fn joined(self: &Arc<Self>, since: u64) -> Result<Arc<Buffer>, Error> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            self.arrange(self.lock());
            {
                let state = self.lock();
                if state.over {
                    return Err(Error::closed());
                }
                let outcome = state
                    .run
                    .as_ref()
                    .and_then(|run| run.coverage.outcome(since));
                let all = state.run.as_ref().map(Run::covered) == Some(Tracked::ALL);
                match outcome {
                    // This is under the lock: a loss after it is a gap for the subscriber.
                    Some(Ok(())) if all => return Ok(self.hub.subscribe()),
                    // A connection that tracks less is about to be replaced.
                    Some(Ok(())) => {}
                    Some(Err(why)) => return Err(most_telling(&why).clone()),
                    None => {}
                }
            }
            // The sender is in `self`.
            let _ = changed.changed().await;
        }
    }

    /// Starts the missing tasks, and ends the needless ones.
    fn arrange(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.neglected = false;
        let Some(mut run) = state.run.take() else {
            return;
        };
        let targets = run.coverage.targets();
        let mut gap = false;
        run.tasks.retain(|node, task| {
            let needed = targets.contains(node);
            let runs = !task.handle.is_finished();
            if !needed {
                task.handle.abort();
            }
            if !needed || !runs {
                gap |= run.coverage.left(node);
            }
            needed && runs
        });
        for node in targets {
            if let Entry::Vacant(place) = run.tasks.entry(node) {
                let number = state.next_number();
                let task = follow(self.clone(), place.key().clone(), number);
                let spawned = match &run.reader {
                    Some(reader) => {
                        let task = as_here(task);
                        self.background.spawn_for_holder_in(&reader.runtime, task)
                    }
                    None => self.background.spawn_for_holder(task),
                };
                match spawned {
                    Some(handle) => drop(place.insert(Task { number, handle })),
                    None => state.neglected = true,
                }
            }
        }
        state.run = Some(run);
        self.note_coverage(&state);
        self.tell(state, gap);
    }

    /// Sends the gap, if there is one: without the lock, because this wakes others.
    fn tell(&self, state: MutexGuard<'_, State>, gap: bool) {
        drop(state);
        if gap {
            self.hub.gap();
        }
    }

    /// Makes a step of the coverage and carries out its consequences, if this is still the task of
    /// the node.
    fn step(
        self: &Arc<Self>,
        node: &Node,
        task: u64,
        step: impl FnOnce(&mut Coverage<Node, Error>) -> bool,
    ) {
        let mut state = self.lock();
        let Some(run) = state.run_of(node, task) else {
            return;
        };
        let was_whole = run.coverage.is_whole();
        let gap = step(&mut run.coverage);
        let whole = run.coverage.is_whole();
        self.note_coverage(&state);
        self.tell(state, gap);
        self.arrange(self.lock());
        match (was_whole, whole) {
            (true, false) => self.warn("invalidations are not received", None, || {
                Detail::text(format_args!("{node} is not tracked"))
            }),
            (false, true) => tracing::debug!("invalidations are received"),
            _ => {}
        }
        self.changed.send_replace(());
    }

    /// Connects once, and turns on tracking. Also returns the nodes that this one names as
    /// required.
    async fn track(
        self: &Arc<Self>,
        node: &Node,
        task: u64,
    ) -> Result<(Tracking, Vec<Node>), Error> {
        let limit = self.attempt();
        let attempt = pin!(self.try_to_track(node, task));
        let attempt = tokio::time::timeout(limit, attempt).await;
        attempt.unwrap_or_else(|_| Err(timed_out(limit)))
    }

    async fn try_to_track(
        self: &Arc<Self>,
        node: &Node,
        task: u64,
    ) -> Result<(Tracking, Vec<Node>), Error> {
        let Deadlines { connect, .. } = self.deadlines;
        let fail = |error| self.words.of_handshake(error, connect);
        let generation = self.lock().next_number();
        let lost = Arc::new(Notify::new());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(self.silence()))
            .set_push_sender(self.hears(node.clone(), task, generation, lost.clone()));
        let client = self.servers.client(node).map_err(fail)?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(fail)?;
        let mut tracking = Tracking {
            connection,
            generation,
            tracked: Tracked::NOTHING,
            lost,
        };
        self.track_wanted(&mut tracking).await?;
        let required = self.asked(&mut tracking, node).await?;
        self.look_at_limits(&mut tracking, node).await;
        Ok((tracking, required))
    }

    /// Tracks all keys that are wanted. False if that needs another connection.
    async fn track_wanted(&self, tracking: &mut Tracking) -> Result<bool, Error> {
        let wanted = self.lock().wanted.clone();
        if !wanted.is_reachable_from(tracking.tracked) {
            return Ok(false);
        }
        if let Some(command) = wanted.command(self.hub.namespace(), tracking.tracked) {
            let tracks = tracking.ask(&command).await;
            let tracks = tracks.map_err(|error| self.words.of(error, self.silence()));
            self.note_refusal(tracks.as_ref().err());
            tracks?;
            tracking.tracked = wanted.tracked();
        }
        Ok(true)
    }

    /// Notes whether a server refuses to report changes.
    fn note_refusal(&self, error: Option<&Error>) {
        let is_refusal =
            |error: &Error| matches!(error.kind(), ErrorKind::Auth | ErrorKind::Server);
        let refused = error.is_some_and(is_refusal);
        let was_refused = self.refused.swap(refused, Ordering::SeqCst);
        if let (false, true, Some(error)) = (was_refused, refused, error) {
            tracing::warn!(
                "the server does not report changes ({error}): near copies are used until the end of their `near` time, \
                 whatever other processes write. Grant `+client|tracking`, or shorten `near`"
            );
        }
        if was_refused && !refused {
            // Copies made meanwhile may be old.
            self.hub.gap();
        }
    }

    /// Checks whether the node bounds its memory for clients that do not read, if the user may
    /// query it.
    async fn look_at_limits(&self, tracking: &mut Tracking, node: &Node) {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(&LIMITS);
        let answer = tracking.ask(&command).await;
        match answer.map_err(|error| self.words.of(error, self.silence())) {
            Ok(answer) => {
                if is_unbounded(answer) {
                    self.warn_once(node);
                }
            }
            Err(error) => tracing::debug!("{node} does not report its memory limits: {error}"),
        }
    }

    /// Warns once that this process can fill the server's memory if it stops.
    fn warn_once(&self, node: &Node) {
        let warned = std::mem::replace(&mut self.lock().warned, true);
        if !warned {
            tracing::warn!(
                "{node} has `maxmemory` but no `maxmemory-clients`: if a process with a near cache or a stream of \
                 invalidations hangs, its unread notifications displace entries, and then writes are refused. Set \
                 `maxmemory-clients` (docs/guides/invalidations.md)"
            );
        }
    }

    /// The longest wait for a node's answer: as long as for a peer that vanished silently (see
    /// `tcp_settings`). It is not as short as the deadline of a command: a server that is slow for
    /// a moment changes nothing in that time, and dropping all copies would be wrong.
    fn silence(&self) -> Duration {
        self.deadlines.connect.max(self.deadlines.command)
    }

    /// Asks a node for a sign of life, and for the required nodes.
    async fn asked(&self, tracking: &mut Tracking, node: &Node) -> Result<Vec<Node>, Error> {
        let told = |error| self.words.of(error, self.silence());
        match node {
            Node::Only => {
                tracking.ask(&redis::cmd("PING")).await.map_err(told)?;
                Ok(vec![Node::Only])
            }
            Node::At(host) => {
                let mut command = redis::cmd("CLUSTER");
                command.arg("SLOTS");
                let answer = tracking.ask(&command).await.map_err(told)?;
                primaries(&answer, host).ok_or_else(unexpected_answer)
            }
        }
    }

    /// Handles the messages of a connection.
    fn hears(
        self: &Arc<Self>,
        node: Node,
        task: u64,
        generation: u64,
        lost: Arc<Notify>,
    ) -> impl Fn(PushInfo) -> Result<(), SendError> + use<> {
        let shared = Arc::downgrade(self);
        move |push| {
            let Some(shared) = shared.upgrade() else {
                return Err(SendError);
            };
            match push.kind {
                PushKind::Invalidate => shared.invalidated(push.data),
                PushKind::Disconnection => {
                    shared.step(&node, task, |coverage| coverage.lost(&node, generation));
                    lost.notify_one();
                }
                _ => {}
            }
            Ok(())
        }
    }

    /// Reports the keys in a list, or a gap.
    fn invalidated(&self, mut data: Vec<Value>) {
        let Some(Value::Array(keys)) = data.pop() else {
            self.hub.gap();
            return;
        };
        for key in keys {
            match key {
                Value::BulkString(key) => self.hub.changed(|| Bytes::from(key)),
                _ => self.hub.gap(),
            }
        }
    }

    /// Notes the keys that the connection of a node tracks.
    fn note_tracked(self: &Arc<Self>, node: &Node, task: u64, tracked: Tracked) {
        let mut state = self.lock();
        if let Some(run) = state.run_of(node, task) {
            run.tracked.insert(node.clone(), tracked);
            self.note_coverage(&state);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Returns when the connection is lost. True if the node answered by it.
    async fn keep(self: &Arc<Self>, node: &Node, task: u64, mut tracking: Tracking) -> bool {
        let (lost, generation) = (tracking.lost.clone(), tracking.generation);
        let mut answered = false;
        let mut renewals = self.renewals.clone();
        renewals.mark_unchanged();
        let mut widened = self.widened.subscribe();
        // More may have been wanted since the connection asked.
        widened.mark_changed();
        loop {
            tokio::select! {
                () = lost.notified() => break,
                Ok(()) = renewals.changed() => break,
                Ok(()) = widened.changed() => match self.track_wanted(&mut tracking).await {
                    Ok(true) => self.note_tracked(node, task, tracking.tracked),
                    Ok(false) => break,
                    Err(error) => {
                        let what = "more keys can't be tracked; the tracking connection is replaced";
                        self.warn(what, Some(&error), || {
                            Detail::text(format_args!("{node}: {error}"))
                        });
                        break;
                    }
                },
                () = tokio::time::sleep(KEEPALIVE) => {}
            }
            match self.asked(&mut tracking, node).await {
                Ok(required) => {
                    answered = true;
                    self.step(node, task, |coverage| {
                        coverage.confirmed(node.clone(), generation, required)
                    });
                }
                Err(error) if is_silence(&error) => {
                    let what = "a node does not answer; its tracking connection is replaced";
                    self.warn(what, Some(&error), || {
                        Detail::text(format_args!("{node}: {error}"))
                    });
                    break;
                }
                // The node answers, but may be loading.
                Err(error) => tracing::debug!(
                    "{node} answers the check of its connection with an error: {error}"
                ),
            }
        }
        self.step(node, task, |coverage| coverage.lost(node, generation));
        answered
    }

    fn warn(&self, what: &'static str, error: Option<&Error>, detail: impl FnOnce() -> Detail) {
        let kind = error.map(Error::kind);
        self.warnings.warn(
            Topic {
                of: None,
                what,
                kind,
            },
            detail,
        );
    }

    /// A panic under this lock leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        crate::base::lock::lock(&self.state)
    }
}

/// Tracks a node, for as long as it is polled.
async fn follow(shared: Arc<Shared>, node: Node, task: u64) {
    // Created at the first poll: a future that is dropped earlier is dropped under the lock.
    let _gone = Gone(&shared, &node, task);
    let mut failures = 0;
    loop {
        if failures > 0 {
            tokio::time::sleep(pause(failures, shared.random.next_u64())).await;
        }
        match shared.track(&node, task).await {
            Ok((tracking, required)) => {
                let generation = tracking.generation;
                shared.note_tracked(&node, task, tracking.tracked);
                shared.step(&node, task, |coverage| {
                    coverage.confirmed(node.clone(), generation, required)
                });
                // A node that accepts connections and then loses them is not asked all the time.
                failures = match shared.keep(&node, task, tracking).await {
                    true => 0,
                    false => failures + 1,
                };
            }
            Err(error) => {
                let error = error.context(format_args!("can't track {node}"));
                shared.warn("invalidations are not received", Some(&error), || {
                    Detail::text(&error)
                });
                failures += 1;
                shared.step(&node, task, |coverage| {
                    coverage.failed(node.clone(), error);
                    false
                });
            }
        }
    }
}

/// A task for another thread, whose log lines go to the subscriber of this caller, if there is one.
fn as_here(task: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
    let here = tracing::dispatcher::get_default(tracing::Dispatch::clone);
    match here.is::<NoSubscriber>() {
        true => task.boxed(),
        false => task.with_subscriber(here).boxed(),
    }
}

/// Records that nobody tracks a node any more, if the task ends with its runtime.
struct Gone<'a>(&'a Arc<Shared>, &'a Node, u64);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let Gone(shared, node, task) = *self;
        let mut state = shared.lock();
        let Some(run) = state.run_of(node, task) else {
            return;
        };
        run.tasks.remove(node);
        let gap = run.coverage.left(node);
        state.neglected = true;
        shared.tell(state, gap);
    }
}

impl Tracking {
    async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = self.connection.send_packed_command(command).await;
        answer.and_then(Value::extract_error)
    }
}

impl Servers {
    fn seeds(&self) -> Vec<Node> {
        match self {
            Servers::One(_) => vec![Node::Only],
            Servers::Cluster(config) => match &config.target {
                Target::Cluster(seeds) => seeds.iter().cloned().map(Node::At).collect(),
                _ => Vec::new(),
            },
        }
    }

    fn client(&self, node: &Node) -> RedisResult<Client> {
        match (self, node) {
            (Servers::One(client), _) => Ok(Client::clone(client)),
            (Servers::Cluster(config), Node::At(host)) => config.node(host),
            (Servers::Cluster(_), Node::Only) => Err((
                redis::ErrorKind::InvalidClientConfig,
                "a cluster's nodes have names",
            )
                .into()),
        }
    }
}

/// The settings that are queried. A server answers with those that it has.
const LIMITS: [&str; 3] = [
    "maxmemory",
    "maxmemory-clients",
    "client-output-buffer-limit",
];

/// Whether a server bounds its entries, but not its memory for clients that do not read. Servers
/// before Redis 7 have no `maxmemory-clients`; an output limit of class `normal` also bounds it.
fn is_unbounded(settings: Value) -> bool {
    let pairs: Vec<(Value, Value)> = match settings {
        Value::Map(pairs) => pairs,
        Value::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
        }
        _ => return false,
    };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let setting = |name: &str| {
        let mut pairs = pairs.iter();
        let found = pairs.find(|(key, _)| text(key).as_deref() == Some(name));
        found.and_then(|(_, value)| text(value))
    };
    let is_set = |value: &str| value != "0" && value != "0%";
    let bounds_entries = setting("maxmemory").is_some_and(|bytes| is_set(&bytes));
    let bounds_clients = setting("maxmemory-clients").is_some_and(|bytes| is_set(&bytes));
    // `normal 0 0 0 slave 268435456 67108864 60 …`: a hard limit, a soft limit, and its seconds.
    let output = setting("client-output-buffer-limit").unwrap_or_default();
    let mut words = output
        .split_whitespace()
        .skip_while(|word| *word != "normal");
    let bounds_output = words.nth(1).is_some_and(is_set) || words.next().is_some_and(is_set);
    bounds_entries && !bounds_clients && !bounds_output
}

/// The nodes with slots in an answer to `CLUSTER SLOTS` by the node at `asked`. `None` if it is
/// something else.
fn primaries(answer: &Value, asked: &Host) -> Option<Vec<Node>> {
    let primaries = Slots::parse(answer, asked)?.primaries;
    Some(primaries.into_iter().map(Node::At).collect())
}

fn is_silence(error: &Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Tls
    )
}

/// An error that says more than that a node is silent, if there is one.
fn most_telling<'e>(why: &[&'e Error]) -> &'e Error {
    let telling = why.iter().find(|error| !is_silence(error));
    telling.or(why.first()).expect("a node that is missing")
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Only => f.write_str("the server"),
            Node::At(host) => host.fmt(f),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("interests", &self.lock().interests)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        let name = name.to_owned();
        Host { name, port }
    }

    fn range(slots: (i64, i64), nodes: &[(&str, i64)]) -> Value {
        let node = |(name, port): &(&str, i64)| {
            let name = Value::BulkString(name.as_bytes().to_vec());
            Value::Array(vec![name, Value::Int(*port), Value::Nil])
        };
        let mut range = vec![Value::Int(slots.0), Value::Int(slots.1)];
        range.extend(nodes.iter().map(node));
        Value::Array(range)
    }

    #[test]
    fn a_server_is_unbounded_that_bounds_its_entries_alone() {
        const NONE: &str = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        let settings = |pairs: &[(&str, &str)]| {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            let pairs = pairs.iter().map(|(name, value)| (text(name), text(value)));
            Value::Map(pairs.collect())
        };
        let (limit, clients, output) = (
            "maxmemory",
            "maxmemory-clients",
            "client-output-buffer-limit",
        );
        for unbounded in [
            &[(limit, "1048576"), (clients, "0"), (output, NONE)][..],
            &[(limit, "1048576"), (clients, "0")],
            &[(output, NONE), (limit, "1")],
        ] {
            assert!(is_unbounded(settings(unbounded)), "{unbounded:?}");
        }
        for bounded in [
            &[(limit, "0"), (clients, "0"), (output, NONE)][..],
            &[(limit, "1048576"), (clients, "5%"), (output, NONE)],
            &[(limit, "1048576"), (clients, "65536")],
            &[
                (limit, "1"),
                (clients, "0"),
                (output, "normal 32 0 0 slave 0 0 0"),
            ],
            &[(limit, "1"), (output, "slave 0 0 0 normal 0 8 60")],
            &[],
        ] {
            assert!(!is_unbounded(settings(bounded)), "{bounded:?}");
        }
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let list = [limit, "1", clients, "0"].map(text).to_vec();
        assert!(is_unbounded(Value::Array(list)), "as version 2 has it");
        assert!(!is_unbounded(Value::Okay));
    }

    #[test]
    fn primaries_are_the_first_of_each_range() {
        let answer = Value::Array(vec![
            range((0, 99), &[("10.0.0.1", 7001), ("10.0.0.9", 7009)]),
            range((100, 199), &[("", 7002)]),
            range((200, 299), &[("?", 7003)]),
            range((300, 16383), &[("10.0.0.1", 7001)]),
        ]);
        let asked = host("here", 7002);
        let found = primaries(&answer, &asked);
        let named = [host("10.0.0.1", 7001), host("here", 7002)];
        assert_eq!(found, Some(named.map(Node::At).to_vec()));
        assert_eq!(primaries(&Value::Array(vec![]), &asked), Some(vec![]));
        assert_eq!(primaries(&Value::Okay, &asked), None);
        let rubbish = Value::Array(vec![range((0, 1), &[])]);
        assert_eq!(primaries(&rubbish, &asked), None);
    }
}
