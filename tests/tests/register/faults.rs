//! The faults: one after another, each over after a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use valkey_tests::resp::Value;
use valkey_tests::{Cluster, Proxy, Server};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Nothing, so that something is stored.
    Rest,
    /// The server is killed, and comes back empty.
    Restart,
    /// It stops, and goes on with what it was sent.
    Stop,
    /// Connections are cut.
    Cut,
    /// A command is carried out, and its answer is lost.
    LoseReply,
    /// One process has no way to the server for a while.
    Part,
    /// Keys are gone, as if evicted: values, guards, the clock of the namespace, epochs.
    Evict,
    /// All of them.
    Empty,
    /// A replica takes the place of its primary without a loss, and the primary becomes its replica.
    FailOver,
}

enum Target {
    Server(Arc<Server>, Vec<Arc<Proxy>>),
    Cluster(Arc<Cluster>),
}

pub(crate) struct Faults {
    target: Target,
    counts: BTreeMap<Fault, u32>,
}

impl Faults {
    pub(crate) fn of_server(server: Arc<Server>, proxies: Vec<Arc<Proxy>>) -> Self {
        Self::of(Target::Server(server, proxies))
    }

    pub(crate) fn of_cluster(cluster: Arc<Cluster>) -> Self {
        Self::of(Target::Cluster(cluster))
    }

    fn of(target: Target) -> Self {
        Self {
            target,
            counts: BTreeMap::new(),
        }
    }

    /// How often each was caused.
    pub(crate) fn counts(self) -> BTreeMap<String, u32> {
        let counts = self.counts.into_iter();
        counts
            .map(|(fault, count)| (format!("{fault:?}"), count))
            .collect()
    }

    /// All nodes, whatever their roles are at the moment.
    fn nodes(&self) -> Vec<&Server> {
        match &self.target {
            Target::Server(server, _) => vec![server],
            Target::Cluster(cluster) => cluster.nodes().iter().chain(cluster.replicas()).collect(),
        }
    }

    /// Returns once it is over.
    pub(crate) fn cause_one(&mut self, rng: &mut Rng) {
        let fault = match rng.u8(0..35) {
            0..9 => Fault::Rest,
            9..11 => Fault::Restart,
            11..14 => Fault::Stop,
            14..18 => Fault::Cut,
            18..21 => Fault::LoseReply,
            21..24 => Fault::Part,
            24..31 => Fault::Evict,
            31 => Fault::Empty,
            _ => match self.target {
                Target::Cluster(_) => Fault::FailOver,
                Target::Server(..) => Fault::Rest,
            },
        };
        *self.counts.entry(fault).or_default() += 1;
        let node = rng.choice(self.nodes()).unwrap();
        let a_while = Duration::from_millis(rng.u64(20..400));
        match (fault, &self.target) {
            (Fault::Rest, _) => sleep(a_while),
            (Fault::Restart, _) => {
                node.kill();
                sleep(a_while);
                node.restart();
                if let Target::Cluster(cluster) = &self.target {
                    cluster.wait_until_ok();
                }
            }
            (Fault::Stop, _) => {
                node.pause();
                sleep(a_while);
                node.resume();
            }
            (Fault::Cut, Target::Server(_, proxies)) => rng.choice(proxies).unwrap().cut(),
            (Fault::LoseReply, Target::Server(_, proxies)) => {
                rng.choice(proxies).unwrap().cut_at_next_reply();
            }
            (Fault::Part, Target::Server(_, proxies)) => {
                let proxy = rng.choice(proxies).unwrap();
                if rng.bool() {
                    proxy.stall();
                    sleep(a_while);
                    proxy.resume();
                } else {
                    proxy.refuse();
                    proxy.cut();
                    sleep(a_while);
                    proxy.accept();
                }
            }
            (Fault::Cut | Fault::LoseReply | Fault::Part, Target::Cluster(_)) => {
                node.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
            (Fault::Evict, _) => self.evict(rng, 8),
            // A replica refuses it.
            (Fault::Empty, _) => drop(node.command(&["FLUSHALL"])),
            (Fault::FailOver, Target::Cluster(cluster)) => {
                let at = rng.usize(0..cluster.nodes().len());
                fail_over(cluster, at);
            }
            (Fault::FailOver, Target::Server(..)) => {}
        }
        sleep(Duration::from_millis(rng.u64(0..60)));
    }

    /// Deletes so many keys, whatever is there.
    fn evict(&self, rng: &mut Rng, count: usize) {
        for node in self.nodes() {
            let Value::Array(keys) = node.command(&["KEYS", "*"]) else {
                continue;
            };
            let mut keys: Vec<Vec<u8>> = keys
                .into_iter()
                .filter_map(|key| match key {
                    Value::Bulk(key) => Some(key),
                    _ => None,
                })
                .collect();
            rng.shuffle(&mut keys);
            for key in keys.into_iter().take(count) {
                node.command(&[b"DEL".to_vec(), key]);
            }
        }
    }
}

/// Swaps the roles of a primary and its replica. It may be refused, after another fault.
fn fail_over(cluster: &Cluster, at: usize) {
    let pair = [&cluster.nodes()[at], &cluster.replicas()[at]];
    let leads = |node: &Server| match node.command(&["ROLE"]) {
        Value::Array(role) => role.first().and_then(Value::text).as_deref() == Some("master"),
        _ => false,
    };
    let Some(replica) = pair.into_iter().find(|node| !leads(node)) else {
        return;
    };
    replica.command(&["CLUSTER", "FAILOVER"]);
    let began = Instant::now();
    while !leads(replica) && began.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_millis(10));
    }
    cluster.wait_until_ok();
}
