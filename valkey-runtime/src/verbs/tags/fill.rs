//! Whether a loaded value may be stored: not if one of its tags was invalidated since the load
//! began.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::core::failures::Failures;
use crate::core::inner::view;
use crate::protocol::envelope::Header;
use crate::protocol::envelope::epoch::Epoch;
use crate::protocol::envelope::placeholder::{Lease, Name};
use crate::protocol::settle::{Seen, Settling, Step};
use crate::protocol::transition::{Fingerprint, Placing, Put, Rejected, Verb, epoch_life};
use crate::verbs::tags::Epochs;

/// The life of a mark that is not settled.
const MARK_MILLIS: u64 = 1000;

/// A value to be stored under the epochs of its tags.
#[derive(Clone, Copy)]
pub(crate) struct Bid<'e> {
    pub(crate) epochs: &'e [Vec<u8>],
    /// The clock when its load began; `None` if it is unknown.
    pub(crate) clock: Option<u64>,
    /// The value's life in milliseconds; `None` for unlimited.
    pub(crate) life: Option<u64>,
}

view! {
    /// Decides whether the tags of a value allow that it is stored.
    TagAdmission
}

impl<'a> TagAdmission<'a> {
    /// Whether none of the value's tags was invalidated since the load began.
    pub(crate) async fn admits(self, bid: Bid<'_>) -> bool {
        self.admit_each(&[bid]).await == [true]
    }

    /// As [`admits`](Self::admits), for many values. A shared epoch is read once, and extended to
    /// the longest of their lives.
    pub(crate) async fn admit_each(self, bids: &[Bid<'_>]) -> Vec<bool> {
        let known = || bids.iter().filter(|bid| bid.clock.is_some());
        let mut epochs: Vec<&[u8]> = known()
            .flat_map(|bid| bid.epochs)
            .map(Vec::as_slice)
            .collect();
        epochs.sort_unstable();
        epochs.dedup();
        let lives = known().map(|bid| bid.life);
        let life = lives.reduce(|one, other| Some(one?.max(other?))).flatten();
        let settled = self.settled(&epochs, life).await;
        if let Some(began) = known().filter_map(|bid| bid.clock).min() {
            self.mend(&epochs, &settled, began).await;
        }
        let epoch = |key: &[u8]| settled[epochs.binary_search(&key).ok()?];
        let admits = |bid: &Bid<'_>| {
            let admits = |clock| {
                let mut epochs = bid.epochs.iter().map(|key| epoch(key));
                epochs.all(|epoch| epoch.is_some_and(|epoch| epoch.admits(clock)))
            };
            bid.clock.is_some_and(admits)
        };
        bids.iter().map(admits).collect()
    }

    /// The epochs of tags, extended to at least that life; `None` for those that can't be known. A
    /// missing epoch is created between two reads of the clock. A load with the first of them then
    /// knows whether an invalidation happened in between.
    async fn settled(self, epochs: &[&[u8]], life: Option<u64>) -> Vec<Option<Epoch>> {
        match self.try_settled(epochs, life).await {
            Ok(settled) => settled,
            Err(error) => {
                Failures(self.0).log_failure(
                    error.during("get_or_load"),
                    "the epochs of the tags could not be determined",
                );
                vec![None; epochs.len()]
            }
        }
    }

    async fn try_settled(self, epochs: &[&[u8]], life: Option<u64>) -> Result<Vec<Option<Epoch>>> {
        if epochs.is_empty() {
            return Ok(Vec::new());
        }
        let token = self.random.next_u64();
        let seen = self.look_at(epochs, Placing::Extend { life }).await?;
        let (mut settling, mut step) = Settling::new(token, seen);
        loop {
            step = match step {
                Step::Mark(places) => {
                    let mark = Placing::Lease {
                        token,
                        life: MARK_MILLIS,
                        rejected: Rejected::Any {
                            version: 0,
                            newer_wins: u64::MAX,
                        },
                    };
                    let keys: Vec<_> = places.iter().map(|place| epochs[*place]).collect();
                    let marked = self.look_at(&keys, mark).await?;
                    settling.marked(places.into_iter().zip(marked))
                }
                Step::Clock => settling.clock(self.gateway.clock().await?),
                Step::Fill(marks, epoch) => {
                    let bytes = epoch.to_bytes();
                    let put = Put {
                        versions: 0.into(),
                        bytes: &bytes,
                        ttl: life.map(epoch_life),
                    };
                    let fill = |(_, name): &(usize, Name)| Verb::Fill {
                        lease: Lease::Placed(*name),
                        put,
                    };
                    let fills: Vec<_> = marks.iter().map(fill).collect();
                    let keys: Vec<_> = marks.iter().map(|(at, _)| epochs[*at]).collect();
                    let filled = self.gateway.apply_each(&keys, &fills).await?;
                    let filled: Vec<bool> = filled.into_iter().collect::<Result<_>>()?;
                    let places = marks.iter().map(|(place, _)| *place);
                    settling.filled(epoch, places.zip(filled))
                }
                Step::Done => return Ok(settling.epochs().collect()),
            };
        }
    }

    /// No epoch is above the clock, since the clock is advanced first. If an epoch is above the
    /// clock of a load's beginning, its tag was invalidated since, or one of the two is damaged. In
    /// the latter case nothing could be stored under the tag any more. So the clock is raised to
    /// the epoch. An epoch that is absurdly far ahead is removed, and the next load creates
    /// another.
    async fn mend(self, epochs: &[&[u8]], settled: &[Option<Epoch>], began: u64) {
        let newest = settled.iter().flatten().map(|epoch| epoch.newest()).max();
        let Some(newest) = newest.filter(|newest| *newest > began) else {
            return;
        };
        let mended = async {
            let clock = self.gateway.reach(newest).await?;
            for (key, epoch) in epochs.iter().zip(settled) {
                if let Some(epoch) = epoch.filter(|epoch| epoch.newest() > clock) {
                    let same = Verb::RemoveIfSame(Fingerprint::of(&epoch.to_bytes()));
                    self.gateway.apply(key, &same).await?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = mended.await {
            Failures(self.0).log_failure(
                error.during("get_or_load"),
                "the tag clock could not be compared with an epoch",
            );
        }
    }

    /// Extends the epochs of an entry's tags to the entry's life, in milliseconds.
    pub(crate) fn extensions(
        self,
        entry: &[u8],
        header: Header,
        life: Option<u64>,
    ) -> (Vec<Vec<u8>>, Placing) {
        let epochs = match header.clock {
            Some(_) => header
                .tags(entry)
                .flatten()
                .map(|name| Epochs(self.0).epoch_named(name))
                .collect(),
            None => Vec::new(),
        };
        (epochs, Placing::Extend { life })
    }

    async fn look_at(self, keys: &[&[u8]], verb: Placing) -> Result<Vec<Seen>> {
        let found = self
            .gateway
            .place_many(keys, &vec![verb; keys.len()])
            .await?;
        found
            .into_iter()
            .map(|found| Ok(Seen::of(&found?)))
            .collect()
    }
}
