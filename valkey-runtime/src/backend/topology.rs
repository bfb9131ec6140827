//! The nodes of a cluster that a scan must cover so that no key is missed: all nodes with slots,
//! and again each node that gets slots meanwhile.
//!
//! A key that moves with its slot may reach a node after the scan of that node, and leave the other
//! node before its scan. But then the receiving node has more slots than at its scan, or imports
//! them key by key, and is scanned once more. So is a node that was restarted meanwhile: the cursor
//! of its scan means nothing to it. A key that is found on both nodes, or both times, is found
//! twice.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::backend::failure::unexpected_answer;
use crate::backend::link::Link;
use crate::backend::slots::SLOTS;
use crate::backend::target::Host;
use crate::base::error::{Error, ErrorKind};

/// The number of attempts and the pause between them, for a cluster that does not serve all slots:
/// in a failover, or with a new node.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// The nodes that are still to be scanned, and the slots for which each was scanned.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    waiting: VecDeque<Host>,
    covered: HashMap<Host, Covered>,
}

#[derive(Debug, Default)]
struct Covered {
    slots: Slots,
    run: Run,
}

/// A node's identifier of its run, from start to end. Empty if the user may not query it: then the
/// node is assumed to run on.
type Run = String;

/// The report of a node on itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    owned: Slots,
    /// Slots that still belong to another node, while some of their keys are here.
    imported: Slots,
    run: Run,
}

#[derive(Clone, PartialEq, Eq)]
struct Slots(Vec<bool>);

impl Nodes {
    /// The next node to scan.
    pub(crate) async fn next(&mut self, link: &Link) -> Result<Option<Host>, Error> {
        if self.waiting.is_empty() {
            self.learn(shares(link).await?);
        }
        Ok(self.waiting.pop_front())
    }

    fn learn(&mut self, shares: Vec<(Host, Share)>) {
        let first = self.covered.is_empty();
        for (node, share) in shares {
            let Share {
                owned,
                imported,
                run,
            } = share;
            let covered = self.covered.entry(node.clone()).or_default();
            if covered.run != run {
                let slots = Slots::default();
                *covered = Covered { slots, run };
            }
            let mut all = owned.clone();
            all.add(&imported);
            if all.any_beside(&covered.slots) {
                self.waiting.push_back(node);
                // At the first scan of a node, an imported slot is not complete yet.
                covered.slots.add(if first { &owned } else { &all });
            }
        }
    }
}

/// The reports of all nodes with slots, by the client's names of the nodes.
async fn shares(link: &Link) -> Result<Vec<(Host, Share)>, Error> {
    let mut attempt = 1;
    loop {
        link.learn_nodes().await?;
        let said = said(link, ["CLUSTER", "NODES"]).await?;
        let mut shares: Vec<_> = said
            .iter()
            .filter_map(|(node, text)| Some((node.clone(), own_share(text)?)))
            .collect();
        let mut served = Slots::default();
        shares
            .iter()
            .for_each(|(_, share)| served.add(&share.owned));
        if served.0.iter().all(|served| *served) {
            let mut runs = runs(link).await?;
            for (node, share) in &mut shares {
                share.run = runs.remove(node).unwrap_or_default();
            }
            return Ok(shares);
        }
        if attempt == ATTEMPTS {
            let why = "some slots of the cluster have no known node";
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn runs(link: &Link) -> Result<HashMap<Host, Run>, Error> {
    let said = match said(link, ["INFO", "server"]).await {
        Ok(said) => said,
        Err(error) if error.kind() == ErrorKind::Auth => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let runs = said.into_iter().map(|(node, text)| {
        let run = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        Ok((node, run.ok_or_else(unexpected_answer)?.to_owned()))
    });
    runs.collect()
}

/// The answer of each node that the client takes for a primary.
async fn said(link: &Link, [name, what]: [&str; 2]) -> Result<Vec<(Host, String)>, Error> {
    let mut command = redis::cmd(name);
    command.arg(what);
    let answers = link.send_to_primaries(command).await?.into_iter();
    let answers = answers.map(|(host, said)| {
        let said = redis::from_redis_value(said).map_err(|_| unexpected_answer())?;
        Ok((host, said))
    });
    answers.collect()
}

/// The node's own line. The fields are id, address, flags, primary, ping, pong, epoch, link, and
/// then slots.
fn own_share(text: &str) -> Option<Share> {
    let is_own = |line: &&str| {
        let flags = line.split_ascii_whitespace().nth(2);
        flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"))
    };
    let slots = text.lines().find(is_own)?.split_ascii_whitespace().skip(8);
    let mut share = Share::default();
    for said in slots {
        match said.strip_prefix('[') {
            None => share.owned.add_range(said)?,
            Some(moving) => {
                if let Some((slot, _from)) = moving.split_once("-<-") {
                    share.imported.add_range(slot)?;
                }
            }
        }
    }
    Some(share)
}

impl Default for Slots {
    fn default() -> Self {
        Self(vec![false; SLOTS])
    }
}

impl Slots {
    /// Adds `17`, or `0-5460`. `None` for anything else.
    fn add_range(&mut self, said: &str) -> Option<()> {
        let (first, last) = said.split_once('-').unwrap_or((said, said));
        let range = first.parse().ok()?..=last.parse::<usize>().ok()?;
        self.0.get_mut(range)?.fill(true);
        Some(())
    }

    fn add(&mut self, others: &Self) {
        let pairs = self.0.iter_mut().zip(&others.0);
        pairs.for_each(|(slot, other)| *slot |= other);
    }

    /// Whether there are slots that `others` lacks.
    fn any_beside(&self, others: &Self) -> bool {
        self.0
            .iter()
            .zip(&others.0)
            .any(|(slot, other)| *slot && !other)
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.iter().filter(|slot| **slot).count();
        write!(f, "{count} slots")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Host {
        let name = "127.0.0.1".to_owned();
        Host { name, port }
    }

    fn share(owned: &[&str], imported: &[&str]) -> Share {
        let slots = |ranges: &[&str]| {
            let mut slots = Slots::default();
            ranges
                .iter()
                .for_each(|range| slots.add_range(range).unwrap());
            slots
        };
        Share {
            owned: slots(owned),
            imported: slots(imported),
            run: "a run".into(),
        }
    }

    fn learn(nodes: &mut Nodes, shares: Vec<(Host, Share)>) -> Vec<Host> {
        nodes.learn(shares);
        nodes.waiting.drain(..).collect()
    }

    #[test]
    fn a_node_reports_its_own_slots() {
        let text = "\
            a1 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5459 5461 [93-<-b2] [17->-b2]\n\
            b2 127.0.0.1:7002@17002,host master - 0 1 2 connected 5462-16383\n\
            c3 127.0.0.1:7003@17003 slave a1 0 1 2 connected\n";
        let run = Run::new();
        let own = share(&["0-5459", "5461"], &["93"]);
        assert_eq!(own_share(text), Some(Share { run, ..own }));
        let replica = text.replace("myself,", "").replace("slave", "myself,slave");
        assert_eq!(own_share(&replica), Some(Share::default()));
        assert_eq!(own_share("rubbish"), None);
        assert_eq!(own_share(&text.replace("5461 ", "16384 ")), None);
    }

    #[test]
    fn each_node_is_asked_once_where_nothing_moves() {
        let mut nodes = Nodes::default();
        let shares = || {
            vec![
                (node(1), share(&["0-8000"], &[])),
                (node(2), share(&["8001-16383"], &[])),
                (node(3), share(&[], &[])),
            ]
        };
        assert_eq!(learn(&mut nodes, shares()), [node(1), node(2)]);
        assert_eq!(learn(&mut nodes, shares()), []);
    }

    #[test]
    fn a_node_that_was_given_slots_is_scanned_again() {
        let mut nodes = Nodes::default();
        let before = vec![
            (node(1), share(&["0-8000"], &[])),
            (node(2), share(&["8001-16383"], &[])),
        ];
        assert_eq!(learn(&mut nodes, before).len(), 2);
        let after = || {
            vec![
                (node(1), share(&["0-7999"], &[])),
                (node(2), share(&["8001-16383"], &[])),
                (node(3), share(&["8000"], &[])),
            ]
        };
        assert_eq!(learn(&mut nodes, after()), [node(3)]);
        assert_eq!(learn(&mut nodes, after()), []);
    }

    #[test]
    fn a_node_that_keeps_importing_a_slot_is_scanned_once_more() {
        let mut nodes = Nodes::default();
        let shares = || {
            vec![
                (node(1), share(&["0-8000"], &[])),
                (node(2), share(&["8001-16383"], &["93"])),
            ]
        };
        assert_eq!(learn(&mut nodes, shares()).len(), 2);
        assert_eq!(learn(&mut nodes, shares()), [node(2)]);
        assert_eq!(learn(&mut nodes, shares()), []);
    }
    #[test]
    fn a_restarted_node_is_scanned_again() {
        let mut nodes = Nodes::default();
        let shares = |run: &str| {
            let run = run.to_owned();
            let first = share(&["0-8000"], &[]);
            vec![
                (node(1), Share { run, ..first }),
                (node(2), share(&["8001-16383"], &[])),
            ]
        };
        assert_eq!(learn(&mut nodes, shares("a run")).len(), 2);
        assert_eq!(learn(&mut nodes, shares("another")), [node(1)]);
        assert_eq!(learn(&mut nodes, shares("another")), []);
    }
}
