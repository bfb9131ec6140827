//! A Valkey Cluster of three masters.

use std::collections::BTreeMap;

use crate::wait::eventually;
use crate::{Server, resp::Value};

/// The slots of a cluster, in three parts.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// Three [`Server`]s that form a cluster without replicas, by
/// [`Server::cluster`].
///
/// Ready about two seconds after its start: so long does a master wait before
/// it takes writes, in case the cluster has something to tell it. Tests do
/// well to share one.
#[derive(Debug)]
pub struct Cluster {
    nodes: [Server; 3],
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let cluster = Self {
            nodes: SLOTS.map(|_| Server::builder().cluster_node().start()),
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
    pub fn nodes(&self) -> &[Server] {
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

    /// Waits until every node sees all slots served, as after a
    /// [`Server::restart`] of one.
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

    /// [`Server::command_counts`], summed over the nodes.
    pub fn command_counts(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for (name, calls) in self.nodes.iter().flat_map(Server::command_counts) {
            *sum.entry(name).or_default() += calls;
        }
        sum
    }
}

fn expect_ok(node: &Server, command: &[&str]) {
    let reply = node.command(command);
    assert_eq!(reply, Value::Simple("OK".into()), "{command:?}");
}
