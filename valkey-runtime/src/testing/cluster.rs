//! A Valkey cluster of three masters, with a replica of each if wanted.

use std::collections::BTreeMap;

use crate::config::Builder;
use crate::core::store::Store;
use crate::testing::connected::connected;
use crate::testing::resp::Value;
use crate::testing::server::TestServer;
use crate::testing::wait::{COMMAND_TIMEOUT, eventually};

/// The slots of a cluster, in three parts.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// Three [`TestServer`]s that form a cluster: without replicas by [`TestServer::cluster`], with one
/// each by [`TestServer::cluster_with_replicas`].
///
/// Its start takes about two seconds: a master waits that long before it accepts writes, to learn
/// the state of the cluster. Tests should share one cluster.
#[derive(Debug)]
pub struct TestCluster {
    nodes: [TestServer; 3],
    /// One of each master, or none at all.
    replicas: Vec<TestServer>,
}

impl TestServer {
    /// Starts three masters that share the slots.
    pub fn cluster() -> TestCluster {
        TestCluster::start()
    }

    /// Starts three masters that share the slots, and a replica of each, which replaces it when it
    /// fails.
    pub fn cluster_with_replicas() -> TestCluster {
        TestCluster::start_with_replicas()
    }
}

impl TestCluster {
    pub(crate) fn start() -> Self {
        // No replica could replace a lost master. The timeout is so long that a busy machine does
        // not look like a lost node.
        Self::of_masters("30000")
    }

    fn of_masters(node_timeout: &str) -> Self {
        let cluster = Self {
            nodes: SLOTS.map(|_| node(node_timeout)),
            replicas: Vec::new(),
        };
        for (epoch, (node, (first, last))) in cluster.nodes.iter().zip(SLOTS).enumerate() {
            expect_ok(node, &["CLUSTER", "ADDSLOTSRANGE", first, last]);
            // Distinct from the beginning, or the nodes would first have to resolve the conflict.
            expect_ok(
                node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()],
            );
        }
        // Each pair is introduced, as waiting for gossip takes a second longer.
        for (index, node) in cluster.nodes.iter().enumerate() {
            for other in &cluster.nodes[index + 1..] {
                let port = other.port().to_string();
                let bus_port = other.bus_port().to_string();
                expect_ok(node, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]);
            }
        }
        cluster.wait_until_ok();
        cluster
    }

    pub(crate) fn start_with_replicas() -> Self {
        // Low enough that a test sees a failover, and high enough that a slightly busy machine does
        // not look like a lost node.
        const TIMEOUT: &str = "2000";
        let mut cluster = Self::of_masters(TIMEOUT);
        cluster.replicas = SLOTS.map(|_| node(TIMEOUT)).into();
        for (master, replica) in cluster.nodes.iter().zip(&cluster.replicas) {
            for node in &cluster.nodes {
                let (port, bus_port) = (node.port().to_string(), node.bus_port().to_string());
                expect_ok(replica, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]);
            }
            let id = master.command(&["CLUSTER", "MYID"]).text();
            let id = id.expect("a node of a cluster has a name");
            eventually("a replica knows its master", || {
                let reply = replica.command(&["CLUSTER", "REPLICATE", &id]);
                reply == Value::Simple("OK".into())
            });
        }
        eventually("the replicas have what their masters have", || {
            cluster.replicas.iter().all(|replica| {
                let info = replica.command(&["INFO", "replication"]).text();
                info.is_some_and(|info| info.contains("master_link_status:up"))
            })
        });
        cluster.wait_until_ok();
        cluster
    }

    /// The masters, in the order of their slots.
    pub fn nodes(&self) -> &[TestServer] {
        &self.nodes
    }

    /// The replica of each master, in the same order; empty for a cluster without replicas.
    ///
    /// About three seconds after a master is [paused](TestServer::pause) or
    /// [killed](TestServer::kill), its replica replaces it.
    pub fn replicas(&self) -> &[TestServer] {
        &self.replicas
    }

    /// The URL of the cluster for a store: `valkey+cluster://` with all nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .all()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("valkey+cluster://{}/", hosts.join(","))
    }

    /// Opens a store on the cluster.
    ///
    /// # Panics
    ///
    /// If the store can't be opened.
    pub async fn store(&self) -> Store {
        connected(self.store_builder()).await
    }

    /// Opens a store with a namespace, so that tests share a cluster but no keys.
    ///
    /// # Panics
    ///
    /// If the store can't be opened, or the namespace is invalid.
    pub async fn store_in(&self, namespace: &str) -> Store {
        connected(self.store_builder().namespace(namespace)).await
    }

    /// The builder of [`TestCluster::store`], for further settings. A command waits up to 10 s, as
    /// on a [`TestServer`].
    pub fn store_builder(&self) -> Builder {
        Store::builder()
            .url(&self.url())
            .command_timeout(COMMAND_TIMEOUT)
    }

    /// Waits until every node sees all slots served, for example after [`TestServer::restart`] of a
    /// node.
    ///
    /// # Panics
    ///
    /// If that does not happen within a minute.
    pub fn wait_until_ok(&self) {
        let known = format!("cluster_known_nodes:{}", self.all().count());
        eventually("every node of the cluster sees it whole", || {
            self.all().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]).text();
                let info = info.unwrap_or_default();
                let says = |line: &str| info.lines().any(|candidate| candidate == line);
                says("cluster_state:ok") && says("cluster_slots_ok:16384") && says(&known)
            })
        });
    }

    /// [`TestServer::command_counts`], summed over the nodes.
    pub fn command_counts(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for (name, calls) in self.all().flat_map(TestServer::command_counts) {
            *sum.entry(name).or_default() += calls;
        }
        sum
    }

    fn all(&self) -> impl Iterator<Item = &TestServer> {
        self.nodes.iter().chain(&self.replicas)
    }
}

fn node(timeout: &str) -> TestServer {
    let builder = TestServer::builder().cluster_node();
    let builder = builder.setting("cluster-node-timeout", timeout);
    // A master delays a replica's first synchronization to wait for other replicas, by five seconds
    // by default.
    builder.setting("repl-diskless-sync-delay", "0").start()
}

fn expect_ok(node: &TestServer, command: &[&str]) {
    let reply = node.command(command);
    assert_eq!(reply, Value::Simple("OK".into()), "{command:?}");
}
