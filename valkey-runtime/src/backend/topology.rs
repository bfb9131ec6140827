//! Which nodes of a cluster are to be asked, so that no key is missed: all that have slots, and again those that were given
//! some meanwhile.
//!
//! A key that moves with its slot may have come to a node after it was asked, and have left the other before. But then the
//! node that it came to has more slots than when it was asked, or imports them key by key, and is asked once more. So is a node
//! that was started anew meanwhile: how far it was asked says nothing to it. What is found on both, or both times, is found
//! twice.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use redis::Value;

use super::failure::unexpected_answer;
use super::link::{Link, Node};
use crate::{Error, ErrorKind};

const SLOTS: usize = 16384;
/// How often, and after which pauses, a cluster is asked that does not serve all slots: a failover, a client that has not
/// heard of a new node.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// The nodes that are still to be asked, and for what each has been.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    waiting: VecDeque<Node>,
    covered: HashMap<Node, Covered>,
}

#[derive(Debug, Default)]
struct Covered {
    slots: Slots,
    run: Run,
}

/// What a node calls itself from its start to its end. Nothing where the user may not ask: then it is taken to run on.
type Run = String;

/// What a node says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    owned: Slots,
    /// Of these some keys are there, while the slot is still another's.
    imported: Slots,
    run: Run,
}

#[derive(Clone, PartialEq, Eq)]
struct Slots(Vec<bool>);

impl Nodes {
    /// The next one to be asked.
    pub(super) async fn next(&mut self, link: &Link) -> Result<Option<Node>, Error> {
        if self.waiting.is_empty() {
            self.learn(shares(link).await?);
        }
        Ok(self.waiting.pop_front())
    }

    fn learn(&mut self, shares: Vec<(Node, Share)>) {
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
                // What is imported as it is asked for the first time is not all there yet.
                covered.slots.add(if first { &owned } else { &all });
            }
        }
    }
}

/// All nodes with slots, by the client's names for them.
async fn shares(link: &Link) -> Result<Vec<(Node, Share)>, Error> {
    let mut attempt = 1;
    loop {
        let said = said(link, ["CLUSTER", "NODES"]).await?;
        let mut shares: Vec<_> = said
            .iter()
            .filter_map(|(node, text)| Some((node.clone(), own_share(text)?)))
            .collect();
        let mut served = Slots::default();
        shares
            .iter()
            .for_each(|(_, share)| served.add(&share.owned));
        let Some(missing) = served.0.iter().position(|served| !served) else {
            let mut runs = runs(link).await?;
            for (node, share) in &mut shares {
                share.run = runs.remove(node).unwrap_or_default();
            }
            return Ok(shares);
        };
        if attempt == ATTEMPTS {
            let why = "no node that is known serves some slots of the cluster";
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        attempt += 1;
        // The client looks for the nodes anew where it is told of one that it does not know.
        let owner = said.iter().find_map(|(_, text)| owner_of(text, missing));
        if let Some(owner) = owner {
            let _ = link.send_to(Some(&owner), redis::cmd("PING")).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn runs(link: &Link) -> Result<HashMap<Node, Run>, Error> {
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

/// What each node that the client takes for a primary answers.
async fn said(link: &Link, [name, what]: [&str; 2]) -> Result<Vec<(Node, String)>, Error> {
    let mut command = redis::cmd(name);
    command.arg(what);
    let Value::Map(answers) = link.send_to_primaries(command).await? else {
        return Err(unexpected_answer());
    };
    let text = |value| redis::from_redis_value::<String>(value).map_err(|_| unexpected_answer());
    let answers = answers.into_iter().map(|(node, said)| {
        let node = Node::parse(&text(node)?).ok_or_else(unexpected_answer)?;
        Ok((node, text(said)?))
    });
    answers.collect()
}

/// A line: id, address, flags, primary, ping, pong, epoch, link, and then slots.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str, impl Iterator<Item = &str>)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (address, flags) = (fields.next()?, fields.next()?);
        Some((address, flags, fields.skip(5)))
    })
}

fn own_share(text: &str) -> Option<Share> {
    let (_, _, slots) =
        lines(text).find(|(_, flags, _)| flags.split(',').any(|f| f == "myself"))?;
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

fn owner_of(text: &str, slot: usize) -> Option<Node> {
    lines(text).find_map(|(address, _, said)| {
        let mut owned = Slots::default();
        for said in said.filter(|said| !said.starts_with('[')) {
            owned.add_range(said)?;
        }
        let address = address.split(['@', ',']).next()?;
        owned.0[slot].then(|| Node::parse(address)).flatten()
    })
}

impl Default for Slots {
    fn default() -> Self {
        Self(vec![false; SLOTS])
    }
}

impl Slots {
    /// `17`, or `0-5460`. `None` for anything else.
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

    /// Whether there are some that the others lack.
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

    fn node(port: u16) -> Node {
        Node::parse(&format!("127.0.0.1:{port}")).unwrap()
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

    fn learn(nodes: &mut Nodes, shares: Vec<(Node, Share)>) -> Vec<Node> {
        nodes.learn(shares);
        nodes.waiting.drain(..).collect()
    }

    #[test]
    fn what_a_node_says_of_itself() {
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
        assert_eq!(owner_of(text, 5461), Some(node(7001)));
        assert_eq!(owner_of(text, 5462), Some(node(7002)));
        assert_eq!(owner_of(text, 5460), None);
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
    fn who_was_given_slots_is_asked_again() {
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
    fn who_imports_a_slot_all_the_while_is_asked_once_more() {
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
    fn who_was_started_anew_is_asked_again() {
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
