//! Every kind of key, damaged in every field: nothing old is returned, nothing panics, and each key
//! recovers by itself.
//!
//! An entry that a read takes for one of a later release is left alone by design; a deletion ends
//! it.

mod entries;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::base::error::ErrorKind;
use crate::base::ttl::Ttl;
use crate::core::options::SetOptions;
use crate::core::store::Store;
use crate::key::tag::TagWriter;
use crate::limit::RateLimiter;
use crate::protocol::envelope;
use crate::protocol::envelope::epoch::{Epoch, Soft};
use crate::protocol::envelope::placeholder::{Guard, Name, Writer};
use crate::protocol::envelope::timing::{Claim, Timing};
use crate::protocol::envelope::{Head, Header, Kind};
use crate::protocol::found::Found;
use crate::protocol::transition::Verb;
use crate::schema::guarding::BestEffort;
use crate::schema::policy::Policy;
use crate::testing::server::TestServer;
use crate::{Cached, CachedType};

/// A limit for steps that are slow only on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A row with its number, and a tag that follows from its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row(u64, u32);

impl CachedType for Row {
    const PREFIX: &'static str = "row";
    const TTL: Ttl = Ttl::After(std::time::Duration::from_secs(3600));
    const VERSION: u16 = 1;
    const TAGGED: bool = true;
    const POLICY: Policy = Policy::new().stale_if_error(std::time::Duration::from_secs(3600));
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;

    fn write_tags(&self, out: &mut TagWriter<'_>) {
        Self::write_key_tags(self.0, out);
    }

    fn write_key_tags(key: u64, out: &mut TagWriter<'_>) {
        out.extend([format!("t:{key}")]);
    }
}

/// A separate world for each case: the rows of one key.
struct Case<'s> {
    store: &'s Store,
    id: u64,
    name: String,
}

impl Case<'_> {
    fn key(&self) -> Vec<u8> {
        format!("row:{}", self.id).into_bytes()
    }

    fn epoch(&self) -> Vec<u8> {
        format!("::tag:t:{}", self.id).into_bytes()
    }

    fn tag(&self) -> String {
        format!("t:{}", self.id)
    }

    /// Stores these bytes directly, without an expiry.
    async fn plant(&self, key: &[u8], bytes: Vec<u8>) {
        let backend = self.backend();
        backend.set(key, bytes, None).await.unwrap();
    }

    fn backend(&self) -> &Backend {
        self.store.inner().gateway.backend()
    }

    /// The stored entry of the value, and its header.
    async fn entry(&self) -> (Vec<u8>, Header) {
        let found = self.backend().get(&self.key()).await.unwrap();
        let Found::Entry(bytes) = found else {
            panic!("{}: {found:?}", self.name)
        };
        match envelope::head(&bytes) {
            Head::Known(header) => (bytes.to_vec(), header),
            head => panic!("{}: {head:?}", self.name),
        }
    }

    async fn found(&self) -> Option<u32> {
        let found = Row::get(self.store, self.id).await;
        found
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
            .map(|row| row.1)
    }

    async fn given(&self, row: u32) -> u32 {
        let load = async || Ok::<_, ()>(Some(Row(self.id, row)));
        let given = Row::get_or_load(self.store, self.id, load).await;
        given.unwrap().unwrap().1
    }

    async fn invalidated(&self) {
        let invalidated = self.store.invalidate_tag(self.tag()).await;
        invalidated.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// A load is stored, at the latest the second one. A load that took half of its lease's life
    /// does not count: the machine is busy, and the lease may have run out.
    async fn is_cached(&self, row: u32) {
        let (mut tries, began) = (0, Instant::now());
        while tries < 2 && began.elapsed() < PATIENCE {
            let before = Instant::now();
            self.given(row).await;
            if self.found().await == Some(row) {
                return;
            }
            tries += u32::from(before.elapsed() < crate::protocol::lease::LEASE_LIFE / 2);
        }
        panic!("{}: nothing is stored", self.name);
    }

    /// Loads are stored, and an invalidated value is not read any more.
    async fn is_well(&self, row: u32) {
        self.is_cached(row).await;
        assert_eq!(self.given(row + 1).await, row, "{}: a hit", self.name);
        self.invalidated().await;
        assert_eq!(self.found().await, None, "{}: invalidated", self.name);
        self.is_cached(row + 1).await;
        Row::update(self.store, self.id, async || Ok::<_, ()>(()))
            .await
            .unwrap();
        assert_eq!(self.found().await, None, "{}: updated", self.name);
        self.is_cached(row + 2).await;
    }
}

/// These bytes with each one changed in turn, cut at each place, and with each 64-bit number at its
/// limits.
fn damages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![bytes.to_vec()];
    for at in 0..bytes.len() {
        for byte in [
            0,
            1,
            0x7f,
            0x80,
            0xc0,
            0xff,
            bytes[at] ^ 1,
            bytes[at] ^ 0x80,
        ] {
            let mut damaged = bytes.to_vec();
            damaged[at] = byte;
            all.push(damaged);
        }
        all.push(bytes[..at].to_vec());
        if bytes[at] == 0xcf && at + 9 <= bytes.len() {
            let numbers = [0, 1, (1 << 53) - 1, 1 << 53, u64::MAX >> 1, u64::MAX];
            for number in numbers {
                let mut damaged = bytes.to_vec();
                damaged[at + 1..at + 9].copy_from_slice(&number.to_be_bytes());
                all.push(damaged);
            }
        }
    }
    all.push([bytes, bytes].concat());
    all.push(vec![b'9'; 65_536]);
    all.sort();
    all.dedup();
    all
}

/// Runs on both kinds of stores.
async fn on_each<F>(run: impl Fn(Store) -> F)
where
    F: Future<Output = ()>,
{
    run(Store::memory()).await;
    let server = TestServer::plain();
    // Even if the machine is busy.
    let builder = server.store_builder().connect_timeout(PATIENCE);
    let builder = builder.command_timeout(PATIENCE);
    run(builder.connect().await.unwrap()).await;
}

/// A case for each of these, under its own key.
async fn each<'s>(
    store: &'s Store,
    what: &str,
    all: Vec<Vec<u8>>,
    run: impl AsyncFn(Case<'s>, Vec<u8>),
) {
    for (at, damaged) in all.into_iter().enumerate() {
        let shown = &damaged[..damaged.len().min(60)];
        let name = format!("{what} {shown:02x?} ({} bytes)", damaged.len());
        let id = at as u64;
        run(Case { store, id, name }, damaged).await;
    }
}

fn now_millis(store: &Store) -> u64 {
    store.inner().now_millis()
}

/// Whether a later release may have written it.
fn is_newer(bytes: &[u8]) -> bool {
    match envelope::head(bytes) {
        Head::Known(header) => {
            matches!(header.kind, Kind::Value | Kind::Absence) && header.version > Row::VERSION
        }
        head => head == Head::Newer,
    }
}

/// In place of a value: a loaded value is returned, and then stored, whatever the bytes were.
async fn heals_in_place_of_a_value(what: &str, bytes: impl Fn(u64) -> Vec<u8>) {
    on_each(|store| {
        let all = damages(&bytes(now_millis(&store)));
        async move {
            each(&store, what, all, async |case, damaged| {
                case.plant(&case.key(), damaged.clone()).await;
                assert_eq!(case.found().await, None, "{}", case.name);
                assert_eq!(case.given(1).await, 1, "{}", case.name);
                if is_newer(&damaged) {
                    Row::del(case.store, case.id).await.unwrap();
                }
                case.is_well(1).await;
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lease() {
    let name = Name {
        token: 7,
        stamp: 9 << 12,
    };
    heals_in_place_of_a_value("a lease", |_| name.to_lease().to_vec()).await;
    let ahead = |now: u64| Name {
        token: 7,
        stamp: ((now + 3_600_000) * 1000) << 12,
    };
    heals_in_place_of_a_value("a lease to come", |now| ahead(now).to_lease().to_vec()).await;
}

fn guard(deadlines: [u64; 2]) -> Vec<u8> {
    let writers = deadlines.map(|deadline| Writer {
        token: deadline,
        deadline,
    });
    Guard {
        stamp: 9 << 12,
        shared: false,
        writers: writers.to_vec(),
    }
    .to_bytes()
}

#[tokio::test]
async fn a_guard() {
    heals_in_place_of_a_value("a guard", |_| guard([1, 7])).await;
    // Negative as a signed number.
    heals_in_place_of_a_value("a guard for ever", |_| guard([u64::MAX, u64::MAX - 1000])).await;
    heals_in_place_of_a_value("a guard to come", |_| guard([1 << 60, 1 << 60])).await;
}

/// On a stale value that may not be returned any more, or whose loader does not fail.
#[tokio::test]
async fn a_claim_and_a_pause() {
    for (what, hundredths, token) in [
        ("a claim for ever", (1 << 40) - 1, 7),
        ("a pause for ever", (1 << 40) - 1, 0),
        ("a claim that is over", 5, 7),
    ] {
        on_each(|store| async move {
            let model = Case {
                store: &store,
                id: 1,
                name: what.to_owned(),
            };
            model.is_cached(1).await;
            let (mut bytes, header) = model.entry().await;
            let claim = Claim::from_bits(hundredths << 24 | token);
            let timing = Some(Timing { until: 1, claim });
            let header = Header { timing, ..header }.to_bytes();
            bytes[..header.len()].copy_from_slice(&header);
            let all = damages(&bytes);
            each(&store, what, all, async |case, damaged| {
                // All under the one tag that the entry names. Its row still exists.
                let case = Case { id: 1, ..case };
                case.plant(&case.key(), damaged.clone()).await;
                assert_eq!(case.given(1).await, 1, "{}", case.name);
                if is_newer(&damaged) {
                    Row::del(case.store, case.id).await.unwrap();
                }
                case.is_cached(1).await;
                assert_eq!(case.given(2).await, 1, "{}: a hit", case.name);
            })
            .await;
            model.is_well(1).await;
        })
        .await;
    }
}

/// An invalidated value that was damaged since, in each way.
#[tokio::test]
async fn an_invalidated_value_is_not_read_when_its_clock_is_damaged() {
    on_each(|store| async move {
        for (at, clock) in [0, 1, (1 << 53) - 1, 1 << 53, u64::MAX]
            .into_iter()
            .enumerate()
        {
            let name = format!("a value with the clock {clock}");
            let case = Case {
                store: &store,
                id: at as u64,
                name,
            };
            case.is_cached(1).await;
            let (mut bytes, header) = case.entry().await;
            envelope::stamp_clock(&mut bytes, header, clock);
            case.invalidated().await;
            case.plant(&case.key(), bytes).await;
            assert_eq!(case.found().await, None, "{}", case.name);
            assert_eq!(case.given(2).await, 2, "{}", case.name);
            case.is_well(2).await;
        }
    })
    .await;
}

/// An epoch from a minute before now, and perhaps with a mark that makes values stale.
fn epoch(now: u64, is_soft: bool) -> Epoch {
    let soft = Soft {
        due: now * 1000 - 9000,
        clock: now * 1000,
        start: now,
        length: 1000,
    };
    Epoch {
        hard: (now - 60_000) * 1000,
        soft: is_soft.then_some(soft),
    }
}

/// The epoch of a tag with a cached value and an earlier invalidation.
#[tokio::test]
async fn an_epoch() {
    for is_soft in [false, true] {
        on_each(|store| {
            let all = damages(&epoch(now_millis(&store), is_soft).to_bytes());
            async move {
                each(&store, "an epoch", all, async |case, damaged| {
                    case.is_cached(1).await;
                    case.plant(&case.epoch(), damaged.clone()).await;
                    if is_newer(&damaged) {
                        case.invalidated().await;
                    }
                    case.is_well(1).await;
                })
                .await;
            }
        })
        .await;
    }
}

/// In place of an epoch: the remains of a load or a writer, and bytes that do not belong there.
#[tokio::test]
async fn other_bytes_in_place_of_an_epoch() {
    let mark = Name {
        token: 7,
        stamp: 9 << 12,
    };
    let value = Header::value(1, 9 << 12).to_bytes();
    for bytes in [
        mark.to_lease().to_vec(),
        guard([1, u64::MAX]),
        value.to_vec(),
        b"hello".to_vec(),
    ] {
        on_each(|store| {
            let all = damages(&bytes);
            async move {
                each(
                    &store,
                    "in place of an epoch",
                    all,
                    async |case, damaged| {
                        case.plant(&case.epoch(), damaged.clone()).await;
                        if is_newer(&damaged) {
                            case.invalidated().await;
                        }
                        case.is_well(1).await;
                    },
                )
                .await;
            }
        })
        .await;
    }
}

/// Under a damaged clock nothing is stored that an invalidation would not reach, and no invalidated
/// value comes back.
#[tokio::test]
async fn the_clock() {
    on_each(|store| {
        let now = now_millis(&store) * 1000;
        let hour = 3_600_000_000;
        let mut all = damages(now.to_string().as_bytes());
        let numbers = [
            1,
            5,
            now - hour,
            now + hour,
            now + 23 * hour,
            now + 366 * 24 * hour,
        ];
        all.extend(numbers.map(|number| number.to_string().into_bytes()));
        let texts = [
            "-5", "1.5", "1e300", "1e400", "inf", "-inf", "nan", "-nan", "0x7f", " 12 ",
        ];
        all.extend(texts.map(|text| text.as_bytes().to_vec()));
        let last = [
            (1u64 << 53) - 2,
            (1 << 53) - 1,
            1 << 53,
            (1 << 53) + 2,
            u64::MAX,
        ];
        all.extend(last.map(|number| number.to_string().into_bytes()));
        all.push(vec![b'9'; 20]);
        // A clock that damage has set back by less than a minute looks like a clock without a
        // recent advance.
        let hidden = |clock: &Vec<u8>| {
            let clock = std::str::from_utf8(clock)
                .ok()
                .and_then(|clock| clock.parse().ok());
            clock.is_some_and(|clock: u64| (now - 60_000_000..now + 60_000_000).contains(&clock))
        };
        all.retain(|clock| !hidden(clock));
        async move {
            each(&store, "the clock", all, async |case, damaged| {
                // The value is invalidated, and its epoch is forgotten.
                let forget = Verb::Delete(None);
                case.backend().apply(b"::clock", &forget).await.unwrap();
                case.is_cached(1).await;
                let (entry, _) = case.entry().await;
                case.invalidated().await;
                case.backend().apply(&case.epoch(), &forget).await.unwrap();
                case.plant(b"::clock", damaged).await;
                // Another load creates the epoch of the tag.
                case.is_cached(2).await;
                case.plant(&case.key(), entry).await;
                assert_eq!(case.found().await, None, "{}: it is back", case.name);
                case.is_well(3).await;
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_state_of_a_limit() {
    let second = std::time::Duration::from_secs(1);
    let builder = || RateLimiter::builder("l").quota(2, second).fail_closed();
    let limiters = [
        builder(),
        builder().fixed_window(),
        builder().sliding_window(),
    ];
    let limiters = limiters.map(|builder| builder.build().unwrap());
    on_each(|store| {
        let limiters = limiters.clone();
        async move {
            for limiter in limiters {
                assert!(
                    limiter
                        .check_n(&store, "model", 2)
                        .await
                        .unwrap()
                        .is_allowed()
                );
                let model = store
                    .inner()
                    .gateway
                    .backend()
                    .get(b"::limit:l:model")
                    .await
                    .unwrap();
                let Found::Entry(model) = model else {
                    panic!("{model:?}")
                };
                for (at, damaged) in damages(&model).into_iter().enumerate() {
                    let key = format!("::limit:l:{at}");
                    let backend = store.inner().gateway.backend();
                    backend
                        .set(key.as_bytes(), damaged.clone(), None)
                        .await
                        .unwrap();
                    let decision = limiter.check(&store, at as u64).await.unwrap();
                    let shown = String::from_utf8_lossy(&damaged[..damaged.len().min(60)]);
                    assert_eq!(decision.failure(), None, "{shown}");
                    let wait = decision.retry_after();
                    // A state slightly ahead of time refuses until its time has come.
                    assert!(wait <= 12 * second, "{limiter:?} {shown}: {wait:?}");
                }
                limiter.reset(&store, "model").await.unwrap();
            }
        }
    })
    .await;
}

/// Such a guard does not block a conditional `set`, just as it does not block a load.
#[tokio::test]
async fn a_guard_that_was_left_over_does_not_keep_a_value_from_being_set() {
    on_each(|store| async move {
        let case = Case {
            store: &store,
            id: 1,
            name: String::new(),
        };
        case.plant(&case.key(), guard([1, u64::MAX])).await;
        let if_absent = SetOptions::new().if_absent();
        assert!(
            store
                .of::<Row>()
                .set_at_with(1, &Row(1, 1), if_absent)
                .await
                .unwrap()
        );
        assert_eq!(case.found().await, Some(1));
        assert_eq!(store.stats().errors(ErrorKind::Server), 0);
    })
    .await;
}
