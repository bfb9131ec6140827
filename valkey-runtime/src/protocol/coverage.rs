//! Whether all changes on the servers are reported, and when there is a gap: a state machine
//! without I/O.
//!
//! Each node of a cluster reports its changes to the connections that requested them. So each node
//! with slots, a *required* one, needs a connection. The nodes themselves say which ones these are.
//! The *seeds* are queried first, and again while anything is missing. A single server is a cluster
//! of one node that names itself.
//!
//! There is a gap
//!
//! - when a required node **loses** its connection: changes just before that are not reported any
//!   more;
//! - when a required node **gets** one: earlier changes on it were not reported. A copy may have
//!   been made between the two, and this gap drops it;
//! - when a node becomes required. Slots were moved to it, or it replaces a dead node;
//! - when a node without a connection is not required any more: other nodes have its slots, and
//!   they did not report the changes on it in between.
//!
//! So after a copy that was made at any time and is not coherent, a gap follows once all required
//! nodes have a connection. A node that leaves while it has a connection causes no gap: it reports
//! that its keys go, and the nodes that take them report that they come.
//!
//! Before all nodes had a connection for the first time nobody listens, and nothing is a gap.

use std::collections::{BTreeMap, BTreeSet};

/// `N` names a node, `E` is the reason why it has no connection.
#[derive(Clone, Debug)]
pub(crate) struct Coverage<N, E> {
    seeds: Vec<N>,
    up: BTreeMap<N, Up<N>>,
    /// The last connection of each node that was lost.
    lost: BTreeMap<N, u64>,
    /// The nodes that were required according to the last connected nodes.
    known: BTreeSet<N>,
    /// The reason why a node has no connection, and the number of that failure.
    failures: BTreeMap<N, (u64, E)>,
    failed: u64,
    begun: bool,
}

#[derive(Clone, Debug)]
struct Up<N> {
    /// Distinguishes this connection from those before it.
    generation: u64,
    requires: Vec<N>,
}

impl<N: Clone + Ord, E> Coverage<N, E> {
    pub(crate) fn new(seeds: Vec<N>) -> Self {
        Self {
            seeds,
            up: BTreeMap::new(),
            lost: BTreeMap::new(),
            known: BTreeSet::new(),
            failures: BTreeMap::new(),
            failed: 0,
            begun: false,
        }
    }

    /// A node confirmed that it reports changes, or still does, and names the required nodes. True
    /// for a gap. A confirmation may come after the loss of its connection, and then says nothing.
    pub(crate) fn confirmed(&mut self, node: N, generation: u64, requires: Vec<N>) -> bool {
        if self.lost.get(&node).is_some_and(|lost| *lost >= generation) {
            return false;
        }
        self.step(|coverage| {
            coverage.failures.remove(&node);
            let up = Up {
                generation,
                requires,
            };
            coverage.up.insert(node, up);
        })
    }

    /// A connection was lost. True for a gap.
    pub(crate) fn lost(&mut self, node: &N, generation: u64) -> bool {
        let last = self.lost.entry(node.clone()).or_default();
        *last = generation.max(*last);
        self.step(|coverage| {
            let same = |up: &Up<N>| up.generation == generation;
            if coverage.up.get(node).is_some_and(same) {
                coverage.up.remove(node);
            }
        })
    }

    /// Nothing connects to a node any more. True for a gap.
    pub(crate) fn left(&mut self, node: &N) -> bool {
        self.step(|coverage| {
            coverage.failures.remove(node);
            coverage.up.remove(node);
        })
    }

    /// An attempt to connect to a node failed.
    pub(crate) fn failed(&mut self, node: N, why: E) {
        self.failed += 1;
        self.failures.insert(node, (self.failed, why));
    }

    /// The nodes that should have a connection, or be tried.
    pub(crate) fn targets(&self) -> BTreeSet<N> {
        let mut targets = self.required();
        if !self.is_whole() {
            targets.extend(self.seeds.iter().cloned());
            // These connections are needed to learn the required nodes.
            targets.extend(self.up.keys().cloned());
        }
        targets
    }

    /// Whether all required nodes have a connection.
    pub(crate) fn is_whole(&self) -> bool {
        let required = self.required();
        // A node that names no nodes knows nothing.
        let known = !self.up.is_empty() && !required.is_empty();
        known && required.iter().all(|node| self.up.contains_key(node))
    }

    /// The nodes that have a connection.
    pub(crate) fn connected(&self) -> impl Iterator<Item = &N> {
        self.up.keys()
    }

    /// The number of failed attempts to connect.
    pub(crate) fn failures(&self) -> u64 {
        self.failed
    }

    /// The result for callers that have waited since `since` failures. `None` while an attempt may
    /// still succeed.
    pub(crate) fn outcome(&self, since: u64) -> Option<Result<(), Vec<&E>>> {
        if self.is_whole() {
            return Some(Ok(()));
        }
        let mut missing = match self.up.is_empty() {
            true => self.targets(),
            false => self.required(),
        };
        missing.retain(|node| !self.up.contains_key(node));
        if missing.is_empty() {
            return None;
        }
        let why = missing.iter().map(|node| {
            let (at, why) = self.failures.get(node)?;
            (*at > since).then_some(why)
        });
        why.collect::<Option<Vec<_>>>().map(Err)
    }

    fn required(&self) -> BTreeSet<N> {
        if self.up.is_empty() {
            return self.known.clone();
        }
        let said = self.up.values().flat_map(|up| &up.requires);
        said.cloned().collect()
    }

    /// The connection by which each required node reports.
    fn cover(&self) -> BTreeMap<N, Option<u64>> {
        let generation = |node: &N| self.up.get(node).map(|up| up.generation);
        let required = self.required().into_iter();
        required
            .map(|node| {
                let generation = generation(&node);
                (node, generation)
            })
            .collect()
    }

    fn step(&mut self, step: impl FnOnce(&mut Self)) -> bool {
        let before = self.cover();
        step(self);
        if !self.up.is_empty() {
            self.known = self.required();
        }
        let after = self.cover();
        let comes = |(node, generation)| before.get(node) != Some(generation);
        let goes = |(node, generation): (&N, &Option<u64>)| {
            generation.is_none() && !after.contains_key(node)
        };
        let gap = self.begun && (after.iter().any(comes) || before.iter().any(goes));
        self.begun |= self.is_whole();
        gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Tested = Coverage<u8, &'static str>;

    fn targets(coverage: &Tested) -> Vec<u8> {
        coverage.targets().into_iter().collect()
    }

    /// A cluster of 1, 2 and 3, with a connection to each.
    fn whole() -> Tested {
        let mut coverage = Tested::new(vec![1]);
        for node in [1, 2, 3] {
            assert!(!coverage.is_whole());
            let gap = coverage.confirmed(node, node.into(), vec![1, 2, 3]);
            assert!(!gap, "nobody listens yet");
        }
        assert!(coverage.is_whole());
        coverage
    }

    #[test]
    fn a_server_that_was_lost_leaves_two_gaps() {
        let mut coverage = Tested::new(vec![1]);
        assert_eq!(targets(&coverage), [1]);
        assert!(!coverage.confirmed(1, 1, vec![1]));
        assert!(coverage.is_whole());
        assert!(!coverage.confirmed(1, 1, vec![1]), "the same connection");
        assert!(!coverage.lost(&1, 0), "another connection");
        assert!(coverage.lost(&1, 1));
        assert!(!coverage.lost(&1, 1), "again");
        assert!(!coverage.confirmed(1, 1, vec![1]), "said before the loss");
        assert!(!coverage.is_whole());
        assert_eq!(targets(&coverage), [1]);
        assert!(coverage.confirmed(1, 2, vec![1]));
        assert!(coverage.is_whole());
    }

    #[test]
    fn a_connection_that_takes_the_place_of_another_is_a_gap() {
        let mut coverage = whole();
        assert!(coverage.confirmed(2, 9, vec![1, 2, 3]));
        assert!(!coverage.lost(&2, 2), "the one before");
        assert!(coverage.is_whole());
    }

    #[test]
    fn seeds_are_asked_until_the_nodes_are_known_and_connected() {
        // By names that the cluster does not know.
        let mut coverage = Tested::new(vec![8, 9]);
        assert_eq!(targets(&coverage), [8, 9]);
        coverage.confirmed(8, 1, vec![1, 2]);
        assert_eq!(targets(&coverage), [1, 2, 8, 9]);
        coverage.confirmed(1, 2, vec![1, 2]);
        assert!(!coverage.is_whole());
        coverage.confirmed(2, 3, vec![1, 2]);
        assert!(coverage.is_whole());
        assert_eq!(targets(&coverage), [1, 2]);
        assert!(!coverage.left(&8) && !coverage.left(&9));
        assert!(coverage.lost(&1, 2));
        assert_eq!(targets(&coverage), [1, 2, 8, 9], "one may know who follows");
        assert!(coverage.lost(&2, 3));
        assert_eq!(targets(&coverage), [1, 2, 8, 9]);
    }

    #[test]
    fn a_node_that_knows_of_none_is_not_enough() {
        let mut coverage = Tested::new(vec![1]);
        coverage.confirmed(1, 1, vec![]);
        assert!(!coverage.is_whole());
        assert_eq!(coverage.outcome(0), None);
        assert_eq!(targets(&coverage), [1]);
        coverage.confirmed(1, 1, vec![1]);
        assert!(coverage.is_whole());
    }

    #[test]
    fn the_successor_of_a_dead_node_is_a_gap_and_so_is_its_connection() {
        let mut coverage = whole();
        assert!(coverage.lost(&3, 3));
        assert!(
            !coverage.confirmed(1, 1, vec![1, 2, 3]),
            "they don't know yet"
        );
        assert!(coverage.confirmed(1, 1, vec![1, 2, 4]));
        assert!(!coverage.is_whole());
        assert!(coverage.confirmed(2, 2, vec![1, 2, 4]), "3 is out");
        assert!(coverage.confirmed(4, 4, vec![1, 2, 4]));
        assert!(coverage.is_whole());
        assert_eq!(targets(&coverage), [1, 2, 4]);
    }

    #[test]
    fn slots_that_others_took_over_from_a_lost_node_are_a_gap() {
        let mut coverage = whole();
        assert!(coverage.lost(&3, 3));
        coverage.confirmed(1, 1, vec![1, 2]);
        assert!(!coverage.is_whole());
        assert!(coverage.confirmed(2, 2, vec![1, 2]));
        assert!(coverage.is_whole());
    }

    #[test]
    fn a_node_that_leaves_while_it_tells_is_none() {
        let mut coverage = whole();
        for node in [1, 2, 3] {
            assert!(!coverage.confirmed(node, node.into(), vec![1, 2]));
        }
        assert_eq!(targets(&coverage), [1, 2]);
        assert!(!coverage.left(&3));
        assert!(coverage.is_whole());
    }

    #[test]
    fn a_waiter_sees_only_failures_that_came_after_it() {
        let told = |coverage: &Tested, since| coverage.outcome(since).map(|told| told.is_ok());
        let mut coverage = Tested::new(vec![1, 9]);
        assert_eq!(told(&coverage, 0), None);
        coverage.failed(9, "down");
        assert_eq!(told(&coverage, 0), None, "the other may succeed");
        coverage.failed(1, "down");
        assert_eq!(told(&coverage, 0), Some(false));
        assert_eq!(told(&coverage, 1), None, "one of them is tried again");
        coverage.failed(9, "down");
        assert_eq!(told(&coverage, 1), Some(false));
        coverage.confirmed(1, 1, vec![1, 2]);
        let since = coverage.failures();
        assert_eq!(told(&coverage, 0), None, "a seed is not needed any more");
        coverage.failed(9, "down");
        assert_eq!(told(&coverage, since), None);
        coverage.failed(2, "down");
        assert_eq!(coverage.outcome(since), Some(Err(vec![&"down"])));
        coverage.confirmed(2, 2, vec![1, 2]);
        assert_eq!(told(&coverage, since), Some(true));
    }

    /// The events in a cluster of nodes 0 to 3 with two slots.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Connects(u8),
        Loses(u8),
        /// The node answers from its knowledge of the slots.
        Says(u8),
        /// The node learns the owners of the slots.
        Hears(u8),
        /// The slot moves to this node. Its keys go and come as changes.
        Moves(usize, u8),
        /// The node gets a slot whose keys are lost with a node that is known to have no
        /// connection. (A node that had them for less time than it takes to be known causes no
        /// gap.)
        TakesOver(usize, u8),
        Changes(usize),
        Copies(usize),
        Reads,
        /// Connections that are not needed are closed.
        Tidies,
    }

    #[derive(Debug)]
    struct World {
        coverage: Tested,
        /// The existing connections by node, even if their loss is not yet known.
        tracked: [Option<u64>; 4],
        owners: [u8; 2],
        hears: [[u8; 2]; 4],
        values: [u64; 2],
        copies: [Option<u64>; 2],
        /// `None` for a gap.
        told: Vec<Option<usize>>,
        generation: u64,
    }

    impl World {
        fn new() -> Self {
            Self {
                coverage: Tested::new(vec![0, 1, 2, 3]),
                tracked: [None; 4],
                owners: [0, 1],
                hears: [[0, 1]; 4],
                values: [0; 2],
                copies: [None; 2],
                told: Vec::new(),
                generation: 0,
            }
        }

        fn tell(&mut self, slot: usize) {
            if self.tracked[usize::from(self.owners[slot])].is_some() {
                self.told.push(Some(slot));
            }
        }

        fn says(&mut self, node: u8) {
            let at = usize::from(node);
            if let Some(generation) = self.tracked[at] {
                let gap = self
                    .coverage
                    .confirmed(node, generation, self.hears[at].to_vec());
                self.told.extend(gap.then_some(None));
            }
        }

        fn step(&mut self, event: Event) {
            match event {
                Event::Connects(node) => {
                    let at = usize::from(node);
                    if self.tracked[at].is_none() {
                        self.generation += 1;
                        self.tracked[at] = Some(self.generation);
                        self.says(node);
                    }
                }
                Event::Loses(node) => {
                    if let Some(generation) = self.tracked[usize::from(node)].take() {
                        let gap = self.coverage.lost(&node, generation);
                        self.told.extend(gap.then_some(None));
                    }
                }
                Event::Says(node) => self.says(node),
                Event::Hears(node) => self.hears[usize::from(node)] = self.owners,
                Event::Moves(slot, node) => {
                    // Both nodes know it at once, the others later.
                    let before = self.owners[slot];
                    self.tell(slot);
                    self.owners[slot] = node;
                    self.tell(slot);
                    self.hears[usize::from(before)][slot] = node;
                    self.hears[usize::from(node)][slot] = node;
                }
                Event::TakesOver(slot, node) => {
                    if self.coverage.cover().get(&self.owners[slot]) == Some(&None) {
                        self.owners[slot] = node;
                        self.hears[usize::from(node)][slot] = node;
                        self.values[slot] += 1;
                    }
                }
                Event::Changes(slot) => {
                    self.values[slot] += 1;
                    self.tell(slot);
                }
                Event::Copies(slot) => self.copies[slot] = Some(self.values[slot]),
                Event::Tidies => {
                    let targets = self.coverage.targets();
                    for node in (0..4).filter(|node| !targets.contains(node)) {
                        self.tracked[usize::from(node)] = None;
                        let gap = self.coverage.left(&node);
                        self.told.extend(gap.then_some(None));
                    }
                }
                Event::Reads => {
                    for told in self.told.drain(..) {
                        match told {
                            Some(slot) => self.copies[slot] = None,
                            None => self.copies = [None; 2],
                        }
                    }
                }
            }
        }

        /// All nodes learn the slots, all needed connections are made, and all reports are read.
        fn heals(&mut self) {
            for node in 0..4 {
                self.step(Event::Hears(node));
                self.step(Event::Says(node));
            }
            while !self.coverage.is_whole() {
                for node in self.coverage.targets() {
                    self.step(Event::Connects(node));
                }
            }
            self.step(Event::Reads);
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        let (node, slot) = (0u8..4, 0usize..2);
        prop_oneof![
            node.clone().prop_map(Event::Connects),
            node.clone().prop_map(Event::Loses),
            node.clone().prop_map(Event::Says),
            node.clone().prop_map(Event::Hears),
            (slot.clone(), node.clone()).prop_map(|(slot, node)| Event::Moves(slot, node)),
            (slot.clone(), node).prop_map(|(slot, node)| Event::TakesOver(slot, node)),
            slot.clone().prop_map(Event::Changes),
            slot.prop_map(Event::Copies),
            Just(Event::Reads),
            Just(Event::Tidies),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Under any changes of connections and slots, and with copies made at any time.
        #[test]
        fn no_copy_stays_old(events in proptest::collection::vec(event(), 0..40)) {
            let mut world = World::new();
            world.heals();
            for event in events {
                world.step(event);
            }
            world.heals();
            prop_assert!(world.coverage.is_whole());
            for (slot, copy) in world.copies.iter().enumerate() {
                prop_assert!(copy.is_none_or(|copy| copy == world.values[slot]), "{slot} of {world:?}");
            }
        }

        /// Reports without an interruption leave no gap: copies are not dropped needlessly.
        #[test]
        fn without_a_loss_there_is_no_gap(changes in proptest::collection::vec(0usize..2, 0..9)) {
            let mut world = World::new();
            world.heals();
            for slot in changes {
                world.step(Event::Changes(slot));
                world.step(Event::Says(0));
            }
            prop_assert!(!world.told.contains(&None));
        }
    }
}
