//! A cluster: a connection and a breaker for each primary, and the owners of the slots.
//!
//! [`crate::backend::slots`] decides; this module asks, sends, and sends again. The client library
//! has a client for clusters, which is not used. It hides the node that a command goes to, so all
//! nodes would share one breaker. While it looks for the nodes, it holds up all commands, for as
//! long as a hanging node may take to connect.
//!
//! - **Each node is a [`Link`] of its own**, with its deadline and its breaker. A failure of a node
//!   costs only its own keys.
//! - **Any node may report the owners of the slots.** Several are asked at a time, and the first
//!   answer counts. So a hanging node holds up neither a new store nor an open one.
//! - **They are asked again** when a node is silent, refuses, or redirects a command. This happens
//!   beside the commands, and at most once each [`PAUSE`]. A redirected command goes to its new
//!   node at once.
//! - **A primary that was silent for a second is believed once another node has confirmed it**,
//!   asked after the answer. Until then, it may have been replaced without knowing it. Any answer
//!   counts only if the node still owns the slot. A node that knows less than others confirms
//!   nothing: its epoch, which grows with each failover, is lower.
//!
//! Long because asking, redirecting and learning are one state, and each step needs the others.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, StreamExt};
use redis::{Cmd, ServerErrorKind, Value};
use tokio::time::{Instant, timeout_at};

use crate::backend::failure::{Word, timed_out, unexpected_answer};
use crate::backend::script::may_repeat;
use crate::backend::seams::{Deadlines, Lapse, Seams, after};
use crate::backend::slots::{Heard, Keys, Redirect, Slots, epoch, slot};
use crate::backend::target::Host;
use crate::base::error::{Error, ErrorKind};
use crate::base::lock::lock;
use crate::protocol::breaker::{BreakerState, micros};

/// The least time between two queries of the owners that run beside commands.
const PAUSE: Duration = Duration::from_millis(250);
/// The age at which a query is assumed to be dropped, or to stand still with its runtime. Then
/// others query as well.
const OVERDUE: Duration = Duration::from_secs(1);
/// The most redirections of one command.
const REDIRECTIONS: u32 = 8;
/// The number of nodes that are asked at a time, if any of them may answer.
const AT_ONCE: usize = 3;
/// The most nodes that an error names.
const NAMED: usize = 5;

/// Creates the link to a node.
pub(crate) type Dial<L> = Box<dyn Fn(&Host) -> Result<L, Error> + Send + Sync>;

/// The connection to one node, with its own deadline and breaker.
pub(crate) trait NodeLink: Send + Sync + 'static {
    /// Waits until there is a connection to the node.
    fn ready(&self, until: Instant) -> impl Future<Output = Result<(), Error>> + Send;
    /// Waits until the breaker is closed.
    fn closed(&self) -> impl Future<Output = ()> + Send + use<Self>;
    fn raw(
        &self,
        command: &Cmd,
        left: Duration,
    ) -> impl Future<Output = Result<Value, Lapse>> + Send;
    /// Like `raw`, for a key in a slot that is moving to the node.
    fn raw_asking(
        &self,
        command: &Cmd,
        left: Duration,
    ) -> impl Future<Output = Result<Value, Lapse>> + Send;
    /// The reason why commands to it are refused, if they are.
    fn why(&self) -> Option<Error>;
    fn silence(&self) -> Option<(u32, u64)>;
    fn told(&self, lapse: Lapse) -> Error;
    fn connect_in_background(&self);
    fn state(&self) -> BreakerState;
    fn close(&self);
}

/// Cheap to clone; all clones are one cluster.
#[derive(Clone)]
pub(crate) struct Cluster<L>(Arc<Shared<L>>);

struct Shared<L> {
    seeds: Vec<Host>,
    dial: Dial<L>,
    pub(crate) deadlines: Deadlines,
    pub(crate) seams: Seams,
    began: Instant,
    known: RwLock<Arc<Known<L>>>,
    /// Nodes without slots that are asked about the cluster, or get commands.
    others: Mutex<HashMap<Host, Arc<Node<L>>>>,
    /// Held by the caller that queries the owners, so that one caller does it for all. The others
    /// wait for it at most [`OVERDUE`].
    asking: tokio::sync::Mutex<()>,
    /// The time of the last query beside a command, and the time when the last such query ended.
    asked_beside: AtomicU64,
    over: AtomicU64,
}

/// The owners of the slots.
struct Known<L> {
    slots: Slots,
    /// The primaries, in the order of `slots.primaries`.
    nodes: Vec<Arc<Node<L>>>,
    /// The time of the query, and the node that answered.
    asked: u64,
    by: Option<Host>,
    /// The highest epoch that any node has reported.
    epoch: Option<u64>,
}

struct Node<L> {
    host: Host,
    link: L,
    heard: Mutex<Heard>,
}

impl<L> Clone for Known<L> {
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
            nodes: self.nodes.clone(),
            asked: self.asked,
            by: self.by.clone(),
            epoch: self.epoch,
        }
    }
}

impl<L: NodeLink> Cluster<L> {
    /// A cluster without connections yet.
    pub(crate) fn new(seeds: Vec<Host>, dial: Dial<L>, deadlines: Deadlines, seams: Seams) -> Self {
        let known = Known {
            slots: Slots::none(),
            nodes: Vec::new(),
            asked: 0,
            by: None,
            epoch: None,
        };
        Self(Arc::new(Shared {
            seeds,
            dial,
            deadlines,
            seams,
            began: Instant::now(),
            known: RwLock::new(Arc::new(known)),
            others: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            asked_beside: AtomicU64::new(0),
            over: AtomicU64::new(0),
        }))
    }

    /// Learns the owners of the slots, and returns once there is a connection to one of them.
    pub(crate) async fn discover(&self, until: Instant) -> Result<(), Error> {
        let now = self.0.now();
        let known = self.0.refreshed(now, None, until, true).await?;
        let nodes = known.nodes.clone();
        let waits = nodes.iter().cloned();
        let waits = waits.map(|node| async move { node.link.ready(until).await });
        let mut waits = stream::iter(waits).buffer_unordered(nodes.len().max(1));
        let mut failures = Vec::new();
        loop {
            match waits.next().await {
                Some(Ok(())) => break,
                Some(Err(failure)) => failures.push(failure),
                None => return Err(self.unreachable(&known, none_of(failures))),
            }
        }
        // The others are waited for no longer than a command to them would wait.
        let until = until.min(after(self.0.deadlines.command));
        while let Ok(Some(_)) = timeout_at(until, waits.next()).await {}
        Ok(())
    }

    /// The error if no owner of slots accepts a connection.
    fn unreachable(&self, known: &Known<L>, error: Error) -> Error {
        let Some(by) = &known.by else {
            return error;
        };
        let announced = known.slots.primaries.contains(by) || known.slots.replicas.contains(by);
        let unreachable = matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout);
        match unreachable && !announced {
            true => Error::config(format!(
                "{by} answers, but the addresses that it announces for the nodes with slots can't be reached from here. \
                 Let the nodes announce others (`cluster-announce-ip`, `cluster-announce-hostname`): {error}"
            )),
            false => error,
        }
    }

    /// The silences of the owners of slots, if all of them are silent.
    pub(crate) fn silence(&self) -> Option<Vec<(u32, u64)>> {
        let known = self.0.known();
        known.nodes.iter().map(|node| node.link.silence()).collect()
    }

    /// Closes all links.
    pub(crate) fn close(&self) {
        let known = self.0.known();
        known.nodes.iter().for_each(|node| node.link.close());
        self.0.others().values().for_each(|node| node.link.close());
    }

    /// Sends a command to the owner of its keys.
    pub(crate) fn send<'c>(
        &'c self,
        command: &'c Cmd,
        until: Instant,
    ) -> BoxFuture<'c, Result<Value, Lapse>> {
        Box::pin(async move {
            match Keys::of(command) {
                Keys::One(key) => self.0.send_keyed(command, slot(key), until, true).await,
                Keys::Many(keys) => self.0.read_many(command, &keys, until).await,
                Keys::None => self.0.send_anywhere(command, until).await,
            }
        })
    }

    /// Sends a command to the owner of its key, and not again after a lost answer.
    pub(crate) fn send_once<'c>(
        &'c self,
        command: &'c Cmd,
        until: Instant,
    ) -> BoxFuture<'c, Result<Value, Lapse>> {
        Box::pin(async move {
            match Keys::of(command) {
                Keys::One(key) => self.0.send_keyed(command, slot(key), until, false).await,
                Keys::Many(_) | Keys::None => Err(Lapse::Failed(unexpected_answer())),
            }
        })
    }

    /// Sends a command to exactly this node.
    pub(crate) fn send_to<'c>(
        &'c self,
        host: &'c Host,
        command: &'c Cmd,
        until: Instant,
    ) -> BoxFuture<'c, Result<Value, Lapse>> {
        Box::pin(async move {
            let node = self.0.node(host).map_err(Lapse::Failed)?;
            match self.0.ask(&node, command, until).await.0 {
                Err(Lapse::Lost(_)) => self.0.ask(&node, command, until).await.0,
                answer => answer,
            }
        })
    }

    /// Sends a command to all owners of slots.
    pub(crate) fn send_to_primaries<'c>(
        &'c self,
        command: &'c Cmd,
        until: Instant,
    ) -> BoxFuture<'c, Result<Vec<(Host, Value)>, Lapse>> {
        Box::pin(async move {
            let known = self.0.known();
            let hosts = known.nodes.iter().map(|node| node.host.clone());
            let asked = hosts.map(|host| async move {
                let answer = self.send_to(&host, command, until).await?;
                Ok((host, answer))
            });
            join_all(asked).await.into_iter().collect()
        })
    }

    /// Queries the owners of the slots.
    pub(crate) fn learn(&self, until: Instant) -> BoxFuture<'_, Result<(), Lapse>> {
        Box::pin(async move {
            let learnt = self.0.refreshed(self.0.now(), None, until, false).await;
            learnt.map(drop).map_err(Lapse::Failed)
        })
    }
}

impl<L: NodeLink> Shared<L> {
    /// Microseconds since this was created.
    fn now(&self) -> u64 {
        micros(self.began.elapsed())
    }

    fn known(&self) -> Arc<Known<L>> {
        // Nothing panics under this lock.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn others(&self) -> MutexGuard<'_, HashMap<Host, Arc<Node<L>>>> {
        lock(&self.others)
    }

    /// The node at an address.
    fn node(&self, host: &Host) -> Result<Arc<Node<L>>, Error> {
        if let Some(node) = self.known().at(host) {
            return Ok(node);
        }
        let mut others = self.others();
        if let Some(node) = others.get(host) {
            return Ok(node.clone());
        }
        let node = Arc::new(Node {
            host: host.clone(),
            link: (self.dial)(host)?,
            heard: Mutex::default(),
        });
        others.insert(host.clone(), node.clone());
        Ok(node)
    }

    /// Sends a command to one node. Also returns since when the node's word is doubted, if it is.
    async fn ask(
        &self,
        node: &Node<L>,
        command: &Cmd,
        until: Instant,
    ) -> (Result<Value, Lapse>, Option<u64>) {
        let answer = node.link.raw(command, left(until)).await;
        let doubted = self.hears(node, &answer);
        (answer, doubted)
    }

    fn hears(&self, node: &Node<L>, answer: &Result<Value, Lapse>) -> Option<u64> {
        match answer {
            Ok(_) | Err(Lapse::Said(_)) => node.heard().answered(self.now()),
            Err(_) => None,
        }
    }

    /// Sends a command of one slot to the owner, and again after each redirection. `again`: also
    /// once more if it may have been carried out, by a node whose answer was lost or does not
    /// count.
    async fn send_keyed(
        self: &Arc<Self>,
        command: &Cmd,
        slot: u16,
        until: Instant,
        repeats: bool,
    ) -> Result<Value, Lapse> {
        let repeats = || repeats && may_repeat(command);
        let mut again = true;
        let mut asks = None;
        for _ in 0..REDIRECTIONS {
            if left(until).is_zero() {
                return Err(Lapse::Silent(timed_out(self.deadlines.command)));
            }
            let (node, moving) = match asks.take() {
                Some(node) => (node, true),
                None => (self.owner(slot, until).await?, false),
            };
            let (answer, doubted) = match moving {
                true => {
                    let answer = node.link.raw_asking(command, left(until)).await;
                    self.hears(&node, &answer);
                    (answer, None)
                }
                false => self.ask(&node, command, until).await,
            };
            let lapse = match answer {
                Ok(value) => {
                    if let Some(since) = doubted {
                        self.confirm(&node, since, until).await?;
                    }
                    if moving || self.known().has(&node, slot) {
                        return Ok(value);
                    }
                    if !repeats() {
                        let why =
                            "the node that answered does not own the slot of the key any more";
                        return Err(Lapse::Failed(Error::new(ErrorKind::Unavailable, why)));
                    }
                    continue;
                }
                Err(lapse) => lapse,
            };
            match &lapse {
                Lapse::Said(error) => match Redirect::of(error, &node.host) {
                    Some(Redirect::Moved(slot, Some(to))) => {
                        self.moved(slot, to).map_err(Lapse::Failed)?;
                        self.refresh_beside().await;
                    }
                    Some(Redirect::Moved(_, None)) => {
                        let now = self.now();
                        let refreshed = self.refreshed(now, Some(&node.host), until, false).await;
                        refreshed.map_err(Lapse::Failed)?;
                    }
                    Some(Redirect::Ask(to)) => {
                        asks = Some(self.node(&to).map_err(Lapse::Failed)?);
                    }
                    None => {
                        let down = redis::ErrorKind::Server(ServerErrorKind::ClusterDown);
                        if Word::of(error) != Word::Here || error.kind() == down {
                            self.refresh_beside().await;
                        }
                        return Err(lapse);
                    }
                },
                // The client's own client for clusters does the same: a command without an answer
                // is sent once more. Another node may own the slot by now.
                Lapse::Lost(_) if again && repeats() => {
                    again = false;
                    let half = Instant::now() + left(until) / 2;
                    let _ = self.refreshed(self.now(), None, half, false).await;
                }
                _ => {
                    self.refresh_beside().await;
                    return Err(lapse);
                }
            }
        }
        let why = "the nodes of the cluster redirect the command in a circle";
        Err(Lapse::Failed(Error::new(ErrorKind::Unavailable, why)))
    }

    /// The owner of a slot.
    async fn owner(self: &Arc<Self>, slot: u16, until: Instant) -> Result<Arc<Node<L>>, Lapse> {
        if let Some(node) = self.known().owner(slot) {
            return Ok(node);
        }
        let since = self.now().saturating_sub(micros(PAUSE));
        let known = self.refreshed(since, None, until, false).await;
        let known = known.map_err(Lapse::Failed)?;
        known.owner(slot).ok_or_else(|| {
            let why = "no node of the cluster owns the slot of the key now";
            Lapse::Failed(Error::new(ErrorKind::Unavailable, why))
        })
    }

    /// An `MGET` of keys in any slots.
    async fn read_many(
        self: &Arc<Self>,
        command: &Cmd,
        keys: &[&[u8]],
        until: Instant,
    ) -> Result<Value, Lapse> {
        let mut parts: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            parts.entry(slot(key)).or_default().push(at);
        }
        if let (1, Some(slot)) = (parts.len(), parts.keys().next()) {
            match self.send_keyed(command, *slot, until, true).await {
                Err(lapse) if is_between(&lapse) => {}
                answer => return answer,
            }
        }
        let read = parts.into_iter().map(|(slot, part)| async move {
            let of_part = part.iter().map(|at| keys[*at]);
            let values = self.read_part(slot, of_part.collect(), until).await?;
            Ok(part.into_iter().zip(values).collect::<Vec<_>>())
        });
        let mut all = vec![Value::Nil; keys.len()];
        for part in join_all(read).await {
            for (at, value) in part? {
                all[at] = value;
            }
        }
        Ok(Value::Array(all))
    }

    /// Reads keys of one slot. While the slot moves, some keys may be on one node and some on
    /// another: then each key is read alone.
    async fn read_part(
        self: &Arc<Self>,
        slot: u16,
        keys: Vec<&[u8]>,
        until: Instant,
    ) -> Result<Vec<Value>, Lapse> {
        let read = async |keys: &[&[u8]]| {
            let mut command = redis::cmd("MGET");
            command.arg(keys);
            match self.send_keyed(&command, slot, until, true).await? {
                Value::Array(values) if values.len() == keys.len() => Ok(values),
                _ => Err(Lapse::Failed(unexpected_answer())),
            }
        };
        match read(&keys).await {
            Err(lapse) if is_between(&lapse) && keys.len() > 1 => {
                let mut values = Vec::with_capacity(keys.len());
                for key in keys {
                    values.extend(read(&[key]).await?);
                }
                Ok(values)
            }
            answer => answer,
        }
    }

    /// Sends a command without a key to the nodes that were heard of last, two at a time: any
    /// answer will do.
    async fn send_anywhere(&self, command: &Cmd, until: Instant) -> Result<Value, Lapse> {
        let mut nodes = self.known().nodes.clone();
        let last = |node: &Arc<Node<L>>| (node.is_asked(), node.heard().last());
        nodes.sort_by_cached_key(|node| std::cmp::Reverse(last(node)));
        let asked = nodes.into_iter();
        let asked = asked.map(|node| async move { self.ask(&node, command, until).await.0 });
        let mut answers = stream::iter(asked).buffer_unordered(2);
        let mut lapse = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Err(next @ (Lapse::Lost(_) | Lapse::Silent(_) | Lapse::Refused(_))) => {
                    lapse = Some(next);
                }
                answer => return answer,
            }
        }
        let nobody = || Error::new(ErrorKind::Unavailable, "no node of the cluster is known");
        Err(lapse.unwrap_or_else(|| Lapse::Failed(nobody())))
    }

    /// Lets another node confirm the owners, because this node's word is doubted. If no node is
    /// known that could have taken its place, no confirmation is required.
    async fn confirm(
        self: &Arc<Self>,
        node: &Node<L>,
        since: u64,
        until: Instant,
    ) -> Result<(), Lapse> {
        let replicated = self.known().slots.is_replicated(&node.host);
        let patience = match replicated {
            true => until,
            false => until.min(after(self.deadlines.command / 4)),
        };
        let refreshed = self.refreshed(since, Some(&node.host), patience, false);
        match refreshed.await {
            Ok(known) => node.heard().confirmed(known.asked),
            Err(_) if !replicated => node.heard().confirmed(self.now()),
            Err(error) => {
                let host = &node.host;
                let why = format_args!(
                    "{host} was silent before, and no other node confirms that it still owns the key"
                );
                return Err(Lapse::Silent(error.context(why)));
            }
        }
        Ok(())
    }

    /// Records that a slot belongs to another node, by its former owner's redirection.
    fn moved(&self, slot: u16, to: Host) -> Result<(), Error> {
        let node = self.node(&to)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Known::clone(&known);
        if next.slots.moved(slot, to) {
            if next.nodes.len() < next.slots.primaries.len() {
                next.nodes.push(node);
            }
            *known = Arc::new(next);
        }
        Ok(())
    }

    /// Queries the owners in the background, for a caller that noticed a possible change.
    async fn refresh_beside(self: &Arc<Self>) {
        let now = self.now();
        let last = self.asked_beside.load(Ordering::Relaxed);
        if last != 0 && now.saturating_sub(last) < micros(PAUSE) {
            return;
        }
        let (this, order) = (&self.asked_beside, Ordering::Relaxed);
        if this.compare_exchange(last, now, order, order).is_err() {
            return;
        }
        let weak = Arc::downgrade(self);
        let ask = async move {
            let Some(shared) = weak.upgrade() else { return };
            let until = after(shared.deadlines.command);
            if let Err(error) = shared.refreshed(now, None, until, false).await {
                tracing::debug!("the owners of the slots could not be queried again: {error}");
            }
            shared.over.store(shared.now(), Ordering::Relaxed);
        };
        let dropped = self.over.load(Ordering::Relaxed) < last;
        match dropped && now.saturating_sub(last) > micros(OVERDUE) {
            // The runtime of the last query does not poll it, so this caller runs the query itself.
            true => ask.await,
            false => drop(self.seams.background.spawn(ask)),
        }
    }

    /// The owners of the slots, as reported after `since`, and by another node than `but`.
    async fn refreshed(
        &self,
        since: u64,
        but: Option<&Host>,
        until: Instant,
        patient: bool,
    ) -> Result<Arc<Known<L>>, Error> {
        let waits = left(until);
        // The caller whose turn it is may be in a runtime that stands still.
        let overdue = until.min(after(OVERDUE));
        let _turn = timeout_at(overdue, self.asking.lock()).await.ok();
        if left(until).is_zero() {
            return Err(timed_out(waits));
        }
        let known = self.known();
        let asked_before = known.by.is_some() && known.asked >= since;
        if asked_before && (but.is_none() || known.by.as_ref() != but) {
            return Ok(known);
        }
        let nodes = self.candidates(&known, but)?;
        if nodes.is_empty() {
            // There is no other node, so none can have taken its place.
            return Ok(known);
        }
        let asked = self.now();
        let at_once = if patient { nodes.len() } else { AT_ONCE };
        let asks = nodes.iter().cloned().map(|node| async move {
            let answer = self.slots_of(&node, until, patient).await;
            answer.map_err(|error| (node.host.clone(), error))
        });
        let alone = |failures: Vec<(Host, Error)>| {
            let failures = failures.into_iter();
            none_of(failures.map(|(_, error)| error).collect())
        };
        let mut answers = stream::iter(asks).buffer_unordered(at_once);
        let mut failures = Vec::new();
        loop {
            match timeout_at(until, answers.next()).await {
                Ok(Some(Ok((slots, by, epoch)))) => {
                    // A node that stood still does not know what others know.
                    if epoch.is_some() && epoch < known.epoch {
                        let why = "its view of the cluster is older than that of another node";
                        let error = Error::new(ErrorKind::Unavailable, why).context(&by);
                        failures.push((by, error));
                        continue;
                    }
                    let epoch = epoch.max(known.epoch);
                    return self.learn(slots, by, asked, epoch);
                }
                Ok(Some(Err(failure))) => failures.push(failure),
                Ok(None) => return Err(alone(failures)),
                Err(_) => break,
            }
        }
        for node in &nodes {
            if !failures.iter().any(|(host, _)| *host == node.host) {
                let nothing = || timed_out(waits).context(&node.host);
                let why = node.link.why().unwrap_or_else(nothing);
                failures.push((node.host.clone(), why));
            }
        }
        Err(alone(failures))
    }

    /// The nodes to ask, in the order in which they are likely to answer.
    fn candidates(&self, known: &Known<L>, but: Option<&Host>) -> Result<Vec<Arc<Node<L>>>, Error> {
        let nodes = known.nodes.iter().filter(|node| Some(&node.host) != but);
        let (mut likely, silent): (Vec<_>, Vec<_>) = nodes.cloned().partition(|n| n.is_asked());
        if !likely.is_empty() {
            let random = self.seams.random.next_u64() % likely.len() as u64;
            likely.rotate_left(usize::try_from(random).unwrap_or(0));
        }
        let replicas = match likely.len() < AT_ONCE {
            true => &known.slots.replicas[..],
            false => &[],
        };
        for host in replicas.iter().chain(&self.seeds) {
            let is_known = likely.iter().chain(&silent).any(|node| node.host == *host);
            if !is_known && Some(host) != but {
                likely.push(self.node(host)?);
            }
        }
        likely.extend(silent);
        Ok(likely)
    }

    async fn slots_of(
        &self,
        node: &Node<L>,
        until: Instant,
        patient: bool,
    ) -> Result<(Slots, Host, Option<u64>), Error> {
        if patient {
            if !node.is_asked() {
                node.link.closed().await;
            }
            node.link.ready(until).await?;
        }
        let (mut asks_epoch, mut asks_slots) = (redis::cmd("CLUSTER"), redis::cmd("CLUSTER"));
        asks_epoch.arg("INFO");
        asks_slots.arg("SLOTS");
        let ((said, _), (answer, _)) = tokio::join!(
            self.ask(node, &asks_epoch, until),
            self.ask(node, &asks_slots, until)
        );
        // A user may lack the right to the first command: then the node's epoch is unknown.
        let epoch = said.ok().and_then(|said| epoch(&said));
        let answer = answer.map_err(|lapse| match lapse {
            Lapse::Said(_) => node.link.told(lapse).context(&node.host),
            _ => node.link.told(lapse),
        })?;
        let slots = Slots::parse(&answer, &node.host);
        let slots = slots.ok_or_else(|| unexpected_answer().context(&node.host))?;
        if slots.primaries.is_empty() {
            let why = format!("{} knows no node that has slots", node.host);
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        Ok((slots, node.host.clone(), epoch))
    }

    /// Takes a node's report on the owners. Only the caller with the `asking` lock does so, so the
    /// report is newer than `known`.
    fn learn(
        &self,
        slots: Slots,
        by: Host,
        asked: u64,
        epoch: Option<u64>,
    ) -> Result<Arc<Known<L>>, Error> {
        let nodes = slots.primaries.iter().map(|host| self.node(host));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        for node in &nodes {
            node.link.connect_in_background();
        }
        let replicas = slots.replicas.clone();
        let next = Arc::new(Known {
            slots,
            nodes,
            asked,
            by: Some(by),
            epoch,
        });
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.asked > asked {
                // A query that began later has been answered meanwhile.
                return Ok(known.clone());
            }
            *known = next.clone();
        }
        self.others().retain(|host, _| replicas.contains(host));
        Ok(next)
    }
}

impl<L: NodeLink> Known<L> {
    fn owner(&self, slot: u16) -> Option<Arc<Node<L>>> {
        self.nodes.get(self.slots.owner(slot)?).cloned()
    }

    fn has(&self, node: &Node<L>, slot: u16) -> bool {
        self.owner(slot)
            .is_some_and(|owner| owner.host == node.host)
    }

    fn at(&self, host: &Host) -> Option<Arc<Node<L>>> {
        self.nodes.iter().find(|node| node.host == *host).cloned()
    }
}

impl<L: NodeLink> Node<L> {
    fn is_asked(&self) -> bool {
        self.link.state() == BreakerState::Closed
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }
}

/// An error that says more than that a node is silent, if there is one; otherwise all errors in
/// one.
fn none_of(mut failures: Vec<Error>) -> Error {
    let is_silence =
        |error: &Error| matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout);
    let telling = failures.iter().position(|error| !is_silence(error));
    match telling {
        Some(at) => return failures.swap_remove(at),
        None if failures.len() == 1 => return failures.swap_remove(0),
        None => {}
    }
    let kind = failures.first().map_or(ErrorKind::Connection, Error::kind);
    let mut said: Vec<_> = failures.iter().map(Error::to_string).collect();
    said.sort_unstable();
    if said.len() > NAMED {
        let others = said.split_off(NAMED).len();
        said.push(format!("and {others} more"));
    }
    match said.is_empty() {
        true => Error::new(kind, "no node of the cluster is known"),
        false => Error::new(kind, said.join("; ")),
    }
}

/// Whether the keys of a command are partly on one node and partly on another.
fn is_between(lapse: &Lapse) -> bool {
    let try_again = redis::ErrorKind::Server(ServerErrorKind::TryAgain);
    matches!(lapse, Lapse::Said(error) if error.kind() == try_again)
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

impl<L> fmt::Debug for Cluster<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("seeds", &self.0.seeds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    /// A node with all slots. It answers at once, except to scripts: it counts them, and loses
    /// their answers, or answers the first once the test has seen it.
    #[derive(Clone, Default)]
    struct Only {
        scripts: Arc<AtomicU64>,
        first: Option<Arc<[Semaphore; 2]>>,
    }

    impl NodeLink for Only {
        async fn ready(&self, _until: Instant) -> Result<(), Error> {
            Ok(())
        }
        fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
            std::future::ready(())
        }
        async fn raw(&self, command: &Cmd, _left: Duration) -> Result<Value, Lapse> {
            if command.args_iter().next() == Some(redis::Arg::Simple(b"EVALSHA")) {
                let before = self.scripts.fetch_add(1, Ordering::SeqCst);
                let Some(first) = &self.first else {
                    return Err(Lapse::Lost(unexpected_answer()));
                };
                if before == 0 {
                    first[0].add_permits(1);
                    first[1].acquire().await.unwrap().forget();
                }
                return Ok(Value::Int(1));
            }
            let asks_slots = command.args_iter().nth(1) == Some(redis::Arg::Simple(b"SLOTS"));
            let node = Value::Array(vec![
                Value::BulkString(b"127.0.0.1".to_vec()),
                Value::Int(7001),
            ]);
            Ok(match asks_slots {
                true => Value::Array(vec![Value::Array(vec![
                    Value::Int(0),
                    Value::Int(16_383),
                    node,
                ])]),
                false => Value::BulkString(b"cluster_current_epoch:1".to_vec()),
            })
        }
        async fn raw_asking(&self, command: &Cmd, left: Duration) -> Result<Value, Lapse> {
            self.raw(command, left).await
        }
        fn why(&self) -> Option<Error> {
            None
        }
        fn silence(&self) -> Option<(u32, u64)> {
            None
        }
        fn told(&self, _lapse: Lapse) -> Error {
            unexpected_answer()
        }
        fn connect_in_background(&self) {}
        fn state(&self) -> BreakerState {
            BreakerState::Closed
        }
        fn close(&self) {}
    }

    fn cluster() -> Cluster<Only> {
        cluster_of(Only::default())
    }

    fn cluster_of(node: Only) -> Cluster<Only> {
        let host = Host {
            name: "127.0.0.1".into(),
            port: 7001,
        };
        let second = Duration::from_secs(1);
        let deadlines = Deadlines {
            connect: second * 30,
            command: second * 30,
            operation: second * 60,
        };
        Cluster::new(
            vec![host],
            Box::new(move |_| Ok(node.clone())),
            deadlines,
            Seams::plain(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_stands_still_with_its_runtime_holds_nobody_up_for_long() {
        let cluster = cluster();
        let _held = cluster.0.asking.lock().await;
        let began = Instant::now();
        cluster
            .discover(after(Duration::from_secs(30)))
            .await
            .unwrap();
        assert_eq!(began.elapsed().as_secs(), OVERDUE.as_secs());
    }

    #[tokio::test]
    async fn a_command_whose_answer_was_lost_is_sent_once_more_unless_it_would_count_twice() {
        use crate::backend::script::{Call, count_command, lock_command};
        use crate::protocol::{count, lock};
        let count = |act| {
            let lasts = count::Lasts::Forever;
            count_command(Call::Digest, b"key", &count::Ask { act, lasts })
        };
        let lock = lock::Ask {
            act: lock::Act::Acquire,
            token: 1,
            life: 10,
            permits: 1,
        };
        for (command, times) in [
            (count(count::Act::Add(1)), 1),
            (count(count::Act::Reset), 1),
            (count(count::Act::Look), 2),
            (lock_command(Call::Digest, b"key", &lock), 2),
        ] {
            let node = Only::default();
            let cluster = cluster_of(node.clone());
            let lost = cluster.send(&command, after(Duration::from_secs(30))).await;
            assert!(matches!(lost, Err(Lapse::Lost(_))));
            assert_eq!(node.scripts.load(Ordering::SeqCst), times);
        }
    }

    /// The slots move to another node while a node that had them answers.
    #[tokio::test]
    async fn what_a_node_without_the_slot_answered_is_sent_again_unless_it_would_count_twice() {
        use crate::backend::script::{Call, count_command};
        use crate::protocol::count;

        let later = after(Duration::from_secs(30));
        for (act, times) in [(count::Act::Add(1), 1), (count::Act::Look, 2)] {
            let lasts = count::Lasts::Forever;
            let command = count_command(Call::Digest, b"key", &count::Ask { act, lasts });
            let first = Arc::new([Semaphore::new(0), Semaphore::new(0)]);
            let node = Only {
                first: Some(first.clone()),
                ..Only::default()
            };
            let cluster = cluster_of(node.clone());
            let moves = async {
                first[0].acquire().await.unwrap().forget();
                let other = Host {
                    name: "127.0.0.1".into(),
                    port: 7002,
                };
                let owner = Value::Array(vec![
                    Value::BulkString(b"127.0.0.1".to_vec()),
                    Value::Int(7002),
                ]);
                let slots = [Value::Int(0), Value::Int(16_383), owner];
                let slots = Value::Array(vec![Value::Array(slots.to_vec())]);
                let slots = Slots::parse(&slots, &other).unwrap();
                cluster.0.learn(slots, other, u64::MAX, None).unwrap();
                first[1].add_permits(1);
            };
            let (answer, ()) = tokio::join!(cluster.send(&command, later), moves);
            assert_eq!(node.scripts.load(Ordering::SeqCst), times);
            assert_eq!(answer.is_ok(), times == 2);
        }
    }

    #[tokio::test]
    async fn an_answer_to_an_earlier_query_replaces_no_later_one() {
        let cluster = cluster();
        let host = |port| Host {
            name: "127.0.0.1".into(),
            port,
        };
        let learn = |by: u16, asked| {
            let learnt = cluster.0.learn(Slots::none(), host(by), asked, None);
            learnt.unwrap().by.clone().unwrap().port
        };
        assert_eq!(learn(1, 20), 1);
        assert_eq!(learn(2, 10), 1);
        assert_eq!(cluster.0.known().by, Some(host(1)));
        assert_eq!(learn(3, 20), 3);
    }
}
