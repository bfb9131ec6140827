//! A Valkey Cluster of three masters.

use std::collections::BTreeMap;

use super::TestServer;
use super::resp::Value;
use super::server::connected;
use super::wait::eventually;
use crate::{Builder, Store};

/// The slots of a cluster, in three parts.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// Three [`TestServer`]s that form a cluster without replicas, by
/// [`TestServer::cluster`].
///
/// Ready about two seconds after its start: so long does a master wait before
/// it takes writes, in case the cluster has something to tell it. Tests do
/// well to share one.
#[derive(Debug)]
pub struct TestCluster {
    nodes: [TestServer; 3],
}

impl TestCluster {
    pub(crate) fn start() -> Self {
        let cluster = Self {
            nodes: SLOTS.map(|_| TestServer::builder().cluster_node().start()),
        };
        for (epoch, (node, (first, last))) in cluster.nodes.iter().zip(SLOTS).enumerate() {
            expect_ok(node, &["CLUSTER", "ADDSLOTSRANGE", first, last]);
            // Distinct from the beginning, or the nodes would first have to
            // settle whose is which.
            expect_ok(
                node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()],
            );
        }
        // Each pair is introduced: to wait for gossip takes a second longer.
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

    /// The nodes, in the order of their slots.
    pub fn nodes(&self) -> &[TestServer] {
        &self.nodes
    }

    /// Where a store finds the cluster: `valkey+cluster://`, all nodes named.
    pub fn url(&self) -> String {
        let hosts = self
            .nodes
            .each_ref()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        format!("valkey+cluster://{}/", hosts.join(","))
    }

    /// A store on the cluster.
    ///
    /// # Panics
    ///
    /// When it can't be opened.
    pub async fn store(&self) -> Store {
        connected(self.store_builder()).await
    }

    /// A store with a namespace, so that tests may share a cluster and no keys.
    ///
    /// # Panics
    ///
    /// When it can't be opened, or the namespace is none.
    pub async fn store_in(&self, namespace: &str) -> Store {
        connected(self.store_builder().namespace(namespace)).await
    }

    /// What [`TestCluster::store`] is opened by, for other settings beside.
    pub fn store_builder(&self) -> Builder {
        Store::builder().url(&self.url())
    }

    /// Waits until every node sees all slots served, as after a
    /// [`TestServer::restart`] of one.
    ///
    /// # Panics
    ///
    /// When that does not happen within half a minute.
    pub fn wait_until_ok(&self) {
        eventually("every node of the cluster sees it whole", || {
            self.nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]).text();
                let info = info.unwrap_or_default();
                let says = |line| info.lines().any(|candidate| candidate == line);
                says("cluster_state:ok")
                    && says("cluster_slots_ok:16384")
                    && says("cluster_known_nodes:3")
            })
        });
    }

    /// [`TestServer::command_counts`], summed over the nodes.
    pub fn command_counts(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for (name, calls) in self.nodes.iter().flat_map(TestServer::command_counts) {
            *sum.entry(name).or_default() += calls;
        }
        sum
    }
}

fn expect_ok(node: &TestServer, command: &[&str]) {
    let reply = node.command(command);
    assert_eq!(reply, Value::Simple("OK".into()), "{command:?}");
}
