//! Compares the scripts with the transition functions. The same verbs run on a real server and on
//! the in-process store, which runs the functions. Answers and entries must be equal.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::testing::resp;
use crate::testing::resp::Value;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use crate::backend::Backend;
use crate::backend::hub::Hub;
use crate::backend::memory::Memory;
use crate::backend::seams::Seams;
use crate::backend::server::Server;
use crate::backend::target::{Host, ServerConfig, Target};
use crate::base::clock::Clock;
use crate::base::clock::SystemClock;
use crate::protocol::envelope::epoch::{Epoch, Soft};
use crate::protocol::envelope::placeholder::{Guard, Lease, Name, Writer};
use crate::protocol::envelope::timing::{Claim, FOR_EVER, Timing, claim_token};
use crate::protocol::envelope::{Head, Header, Kind, head};
use crate::protocol::found::Found;
use crate::protocol::rate::{Act, Ask, Rule, Then, answered, decide};
use crate::protocol::transition::{
    Becomes, Fingerprint, Hold, Placing, Put, Raise, Read, Rejected, Swap, Tick, Touch, Verb,
};
use crate::protocol::versions::Versions;

const KEY: &[u8] = b"differential";
/// The token of most claims.
const HOLDER: u64 = 1;
/// The stamp of all entries that are stored directly.
const STAMP: u64 = 0x1122_3344_5566_7788;
/// A sequence that fails is kept in this file, and runs first from then on.
const FAILURES: FileFailurePersistence = FileFailurePersistence::Direct(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proptest-regressions/differential.txt"
));

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Option<u64>),
    SetIfAbsent(u16, Vec<u8>, Option<u64>, Option<u64>, u64),
    SetIfPresent(u16, Vec<u8>, Option<u64>, Option<u64>),
    Swap(u16, Read, Vec<u8>, Option<u64>, Becomes, bool),
    SetOnlyCopy(u16, Vec<u8>, Option<u64>, bool),
    DeleteOnlyCopy,
    Delete(Option<Hold>),
    MarkStale(u64),
    Touch(Touch),
    Migrate(u64, u16, Vec<u8>),
    Raise(Raise),
    Extend(Option<u64>),
    RemoveIfSame(Vec<u8>),
    Lease(u64, Rejected),
    Fill(Load, Vec<u8>, Option<u64>),
    Confirm(Load, Option<u64>),
    RenewLease(Load, u64),
    Discard(Load),
    Release(Load, u64),
    Enter(u64, bool),
    RenewGuard(u64),
    Leave(u64, u64),
    StoreThrough(u64, u64, Vec<u8>),
}

/// The lease of a load: the lease that was made for that token, or a claim on the value with that
/// stamp.
#[derive(Clone, Copy, Debug)]
enum Load {
    Lease(u64),
    Claim(u64, u64),
}

fn versions() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 1..4u16, 1 => 255..258u16]
}

/// Few, so that equal ones occur; one with awkward bytes.
fn tokens() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1..4u64, 1 => Just(u64::MAX - 0xff)]
}

fn in_an_hour() -> u64 {
    now_millis() + 3_600_000
}

fn now_millis() -> u64 {
    SystemClock::new().now_micros() / 1000
}

/// The origin of the clocks of epochs.
fn some_clock() -> u64 {
    static BEGAN: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| now_millis() * 1000);
    *BEGAN
}

/// Longer and shorter than the TTLs that verbs set, and than each other, by more than the tolerance
/// of [`are_close`].
fn ttls() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(prop_oneof![Just(40_000u64), 60_000..120_000u64])
}

/// Minimum lives of an epoch, which is extended by much if it has less left. None is
/// [close](are_close) to a stored TTL or one that a verb sets. Otherwise a millisecond would
/// decide.
fn lives() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(prop_oneof![Just(50_000u64), Just(130_000)])
}

/// Hashes of keys: mostly the same.
fn keys() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0x0102_0304), 1 => Just(0x0102_0305), 1 => Just(0)]
}

/// Shapes: the named layout, and two compact ones that differ in one byte.
fn shapes() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(0u32), 3 => Just(0x0a0b_0c0d), 1 => Just(0x0a0b_0c0e)]
}

/// Entries of few versions and all kinds, some with a byte changed, some cut short.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![4 => Just(Kind::Value), 1 => Just(Kind::Absence)];
    let clocks = prop_oneof![2 => Just(None), 1 => any::<Option<u64>>()];
    // Known and unknown ones.
    let flags = prop_oneof![8 => Just(0xc0), 2 => 1..8u8, 1 => any::<u8>()];
    let values = (
        kinds,
        versions(),
        shapes(),
        keys(),
        timings(),
        clocks,
        flags,
    );
    let values = values.prop_map(|(kind, version, shape, key, timing, clock, flags)| {
        let header = Header {
            kind,
            shape,
            key,
            sum: 0x0a0b_0c0d,
            timing: timing.filter(|_| kind == Kind::Value),
            clock,
            ..Header::value(version, STAMP)
        };
        let tags = if clock.is_some() {
            &b"\x91\xa3abc"[..]
        } else {
            b""
        };
        let mut bytes = [&header.to_bytes()[..], tags, b"\x2a"].concat();
        bytes[30] = flags;
        bytes
    });
    // Mostly numbers as they are written, and sometimes damaged ones.
    let awkward = || prop_oneof![12 => Just(None), 1 => prop_oneof![Just((1 << 53) - 1), Just(u64::MAX), Just(0)].prop_map(Some)];
    let damage = (awkward(), awkward(), awkward());
    let epochs = (0..4u64, prop::option::of((0..6u64, 0..6u64)), damage);
    let epochs = epochs.prop_map(|(hard, soft, (first, start, length))| {
        let hard = first.unwrap_or(some_clock() + hard);
        let soft = soft.map(|(due, clock)| Soft {
            due: some_clock() + due,
            clock: some_clock() + clock,
            start: start.unwrap_or(7),
            length: length.unwrap_or(60_000),
        });
        Epoch { hard, soft }.to_bytes()
    });
    // Some are older than any load lasts, or from the future.
    let made = prop_oneof![2 => Just(None), 3 => Just(Some(0)), 1 => Just(Some(3_600_000))];
    let leases = (tokens(), made).prop_map(|(token, later)| {
        let stamp = later.map_or(STAMP, |later: u64| ((now_millis() + later) * 1000) << 12);
        Name { token, stamp }.to_lease().to_vec()
    });
    // Places that ran out long ago, places that will not run out, and places that last absurdly
    // long.
    let deadline = prop_oneof![2 => Just(1u64), 3 => Just(in_an_hour()), 1 => Just(in_an_hour() + 86_400_000), 1 => Just(u64::MAX)];
    let writer = (tokens(), deadline);
    let writer = writer.prop_map(|(token, deadline)| Writer { token, deadline });
    let guards = (any::<bool>(), prop::collection::vec(writer, 0..4));
    let guards = guards.prop_map(|(shared, writers)| {
        Guard {
            stamp: STAMP,
            shared,
            writers,
        }
        .to_bytes()
    });
    let whole = prop_oneof![4 => values, 1 => leases, 3 => guards, 2 => epochs].boxed();
    let damaged = (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        },
    );
    let cut = (whole.clone(), any::<prop::sample::Index>())
        .prop_map(|(bytes, at)| bytes[..at.index(bytes.len())].to_vec());
    prop_oneof![4 => whole, 1 => damaged, 1 => cut]
}

/// Times long ago and far ahead. The claims too, and some that nobody makes.
fn timings() -> impl Strategy<Value = Option<Timing>> {
    let until = prop_oneof![Just(0), Just(7), Just(in_an_hour()), Just(FOR_EVER)];
    let token = tokens().prop_map(claim_token).boxed();
    let claim = prop_oneof![
        2 => Just(Claim::NONE),
        1 => token.clone().prop_map(|token| Claim::new(token, 0, 7)),
        1 => token.clone().prop_map(|token| Claim::new(token, now_millis(), LEASE)),
        1 => token.prop_map(|token| Claim::new(token, in_an_hour(), 0)),
        1 => Just(Claim::new(0, in_an_hour(), 0)),
        1 => Just(Claim::new(0, in_an_hour() + 86_400_000, 0)),
        1 => any::<u64>().prop_map(Claim::from_bits),
        // Mostly the claim that a load holds below.
        6 => Just(()).prop_map(|()| Claim::new(HOLDER as u32, now_millis(), LEASE)),
    ];
    let timing = (until, claim).prop_map(|(until, claim)| Timing { until, claim });
    prop::option::of(timing)
}

fn loads() -> impl Strategy<Value = Load> {
    prop_oneof![
        tokens().prop_map(Load::Lease),
        (tokens(), stamps()).prop_map(|(token, stamp)| Load::Claim(token, stamp)),
        stamps().prop_map(|stamp| Load::Claim(HOLDER, stamp)),
    ]
}

/// The stamp of directly stored entries, and the stamps after one and two changes.
fn stamps() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(STAMP), 2 => Just(STAMP + 1), 1 => Just(STAMP + 2)]
}

/// Types with an odd version migrate from two older ones, of which one has two digits.
fn older(version: u16) -> Versions {
    const FIRST: Versions = Versions::of(1);
    const SECOND: Versions = Versions::of(256).after(&FIRST);
    match version {
        1 => version.into(),
        odd if odd % 2 == 1 => Versions::of(odd).after(&SECOND),
        even => even.into(),
    }
}

/// Times after which newer entries give way: most entries are older than the first, and none is
/// older than the second.
fn newer_wins() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(60_000u64), 2 => Just(u64::MAX), 1 => Just(0)]
}

fn touches() -> impl Strategy<Value = Touch> {
    let untils =
        prop_oneof![1 => Just(0), 1 => Just(7), 2 => Just(in_an_hour()), 1 => Just(FOR_EVER)];
    let seen = prop::option::of((stamps(), untils));
    // The stamp is old: one age from it is over, and one is not.
    let now = in_an_hour() - 3_600_000;
    let age = now - (STAMP >> 12) / 1000 + 100_000;
    let ages = prop_oneof![2 => Just(None), 1 => Just(Some(1)), 2 => Just(Some(age))];
    let touches = (versions(), shapes(), keys(), ttls(), 0..2u64, ages, seen);
    touches.prop_map(|(version, shape, key, ttl, keep, max_age, seen)| Touch {
        versions: older(version),
        shape,
        key,
        ttl,
        keep: keep * 60_000,
        max_age,
        seen,
    })
}

/// The entry that a change was made of, and its effect.
fn swaps() -> impl Strategy<Value = Step> {
    let nothing = (prop::option::of(stamps()), newer_wins());
    let nothing = nothing.prop_map(|(rejected, newer_wins)| Read::Nothing {
        rejected,
        newer_wins,
    });
    let read = prop_oneof![3 => stamps().prop_map(Read::Value), 2 => nothing];
    let becomes = prop_oneof![
        2 => Just(Becomes::Stored),
        3 => Just(Becomes::StoredForTheRest),
        1 => Just(Becomes::Removed),
    ];
    let swaps = (versions(), read, entries(), ttls(), becomes, any::<bool>());
    swaps.prop_map(|(version, read, bytes, ttl, becomes, again)| {
        Step::Swap(version, read, bytes, ttl, becomes, again)
    })
}

fn rejections() -> impl Strategy<Value = Rejected> {
    prop_oneof![
        2 => Just(Rejected::None),
        2 => Just(Rejected::Stamp(STAMP)),
        1 => Just(Rejected::Stamp(7)),
        4 => stamps().prop_map(Rejected::Claim),
        2 => (versions(), newer_wins())
            .prop_map(|(version, newer_wins)| Rejected::Any { version, newer_wins }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let hold = || prop_oneof![3 => Just(0u64), 1 => Just(90_000)];
    let delete = (tokens(), any::<bool>()).prop_map(|(token, ours)| Hold {
        token,
        life: 90_000,
        ours,
    });
    prop_oneof![
        3 => (entries(), ttls()).prop_map(|(bytes, ttl)| Step::Put(bytes, ttl)),
        1 => (versions(), entries(), ttls(), prop::option::of(stamps()), newer_wins())
            .prop_map(|(v, bytes, ttl, stamp, wins)| Step::SetIfAbsent(v, bytes, ttl, stamp, wins)),
        1 => (versions(), entries(), ttls(), prop::option::of(stamps()))
            .prop_map(|(v, bytes, ttl, stamp)| Step::SetIfPresent(v, bytes, ttl, stamp)),
        4 => swaps(),
        2 => (versions(), entries(), ttls(), any::<bool>())
            .prop_map(|(v, bytes, ttl, absent)| Step::SetOnlyCopy(v, bytes, ttl, absent)),
        1 => Just(Step::DeleteOnlyCopy),
        2 => prop_oneof![2 => Just(None), 1 => delete.prop_map(Some)].prop_map(Step::Delete),
        2 => prop_oneof![Just(0u64), Just(30_000), Just(300_000)].prop_map(Step::MarkStale),
        3 => touches().prop_map(Step::Touch),
        2 => (stamps(), versions(), entries()).prop_map(|(stamp, version, bytes)| Step::Migrate(stamp, version, bytes)),
        2 => (0..8u64, prop_oneof![Just(None), Just(Some(0)), Just(Some(9000))])
            .prop_map(|(clock, over)| Step::Raise(Raise { clock: some_clock() + clock, over })),
        1 => lives().prop_map(Step::Extend),
        1 => entries().prop_map(Step::RemoveIfSame),
        3 => (tokens(), rejections())
            .prop_map(|(token, rejected)| Step::Lease(token, rejected)),
        2 => (loads(), entries(), ttls()).prop_map(|(load, bytes, ttl)| Step::Fill(load, bytes, ttl)),
        2 => (loads(), ttls()).prop_map(|(load, ttl)| Step::Confirm(load, ttl)),
        2 => (loads(), prop_oneof![3 => Just(LEASE), 1 => Just(LIFE)]).prop_map(|(load, life)| Step::RenewLease(load, life)),
        1 => loads().prop_map(Step::Discard),
        2 => (loads(), hold()).prop_map(|(load, pause)| Step::Release(load, pause)),
        3 => (tokens(), any::<bool>()).prop_map(|(token, ours)| Step::Enter(token, ours)),
        2 => tokens().prop_map(Step::RenewGuard),
        2 => (tokens(), hold()).prop_map(|(token, hold)| Step::Leave(token, hold)),
        2 => (tokens(), hold(), entries()).prop_map(|(token, hold, bytes)| Step::StoreThrough(token, hold, bytes)),
    ]
}

/// A backend, and the names of the placeholders made on it, by token: their stamps differ between
/// backends.
struct Side<'b> {
    backend: &'b Backend,
    leases: HashMap<u64, u64>,
    guards: HashMap<u64, u64>,
}

const LIFE: u64 = 90_000;
/// The life of leases and claims: no longer than the longest load.
const LEASE: u64 = 10_000;

impl<'b> Side<'b> {
    fn new(backend: &'b Backend) -> Self {
        Self {
            backend,
            leases: HashMap::new(),
            guards: HashMap::new(),
        }
    }

    /// The answer, without the parts that depend on time.
    async fn run(&mut self, step: &Step) -> Seen {
        let put = |version: u16, bytes, ttl| Put {
            versions: older(version),
            bytes,
            ttl,
        };
        let lease = |load| match load {
            Load::Lease(token) => Lease::Placed(Name {
                token,
                stamp: self.leases.get(&token).copied().unwrap_or(STAMP),
            }),
            Load::Claim(token, stamp) => Lease::Claim {
                token: claim_token(token),
                stamp,
            },
        };
        let verb = match step {
            Step::Put(bytes, ttl) => {
                self.backend.set(KEY, bytes.clone(), *ttl).await.unwrap();
                return Seen::Answer(true);
            }
            Step::Lease(token, rejected) => {
                let verb = Placing::Lease {
                    token: *token,
                    life: LEASE,
                    rejected: *rejected,
                };
                let found = self.backend.place(KEY, &verb).await.unwrap();
                if let Found::Entry(bytes) = &found
                    && let Some(name) = Name::of_lease(bytes)
                {
                    self.leases.insert(name.token, name.stamp);
                }
                return Seen::of(found);
            }
            Step::Enter(token, ours) => {
                let verb = Placing::Enter {
                    token: *token,
                    life: LIFE,
                    ours: *ours,
                };
                let found = self.backend.place(KEY, &verb).await.unwrap();
                if let Found::Entry(bytes) = &found
                    && let Some(guard) = Guard::from_bytes(bytes)
                {
                    self.guards.insert(*token, guard.stamp);
                }
                return Seen::of(found);
            }
            Step::SetIfAbsent(version, bytes, ttl, stamp, newer_wins) => {
                Verb::SetIfAbsent(put(*version, bytes, *ttl), *stamp, *newer_wins)
            }
            Step::SetIfPresent(version, bytes, ttl, stamp) => {
                Verb::SetIfPresent(put(*version, bytes, *ttl), *stamp)
            }
            Step::Swap(version, read, bytes, ttl, becomes, again) => Verb::Swap(Swap {
                read: *read,
                put: put(*version, bytes, *ttl),
                becomes: *becomes,
                again: *again,
            }),
            Step::SetOnlyCopy(version, bytes, ttl, absent) => Verb::SetOnlyCopy {
                put: put(*version, bytes, *ttl),
                absent: *absent,
            },
            Step::DeleteOnlyCopy => Verb::DeleteOnlyCopy,
            Step::Delete(hold) => Verb::Delete(*hold),
            Step::MarkStale(keep) => Verb::MarkStale { keep: *keep },
            Step::Touch(touch) => Verb::Touch(*touch),
            Step::Migrate(stamp, version, entry) => Verb::Migrate {
                stamp: *stamp,
                version: *version,
                entry,
            },
            Step::Raise(raise) => Verb::Raise(*raise),
            Step::Extend(life) => {
                let verb = Placing::Extend { life: *life };
                return Seen::of(self.backend.place(KEY, &verb).await.unwrap());
            }
            Step::RemoveIfSame(bytes) => Verb::RemoveIfSame(Fingerprint::of(bytes)),
            Step::Fill(load, bytes, ttl) => Verb::Fill {
                lease: lease(*load),
                put: put(1, bytes, *ttl),
            },
            Step::Confirm(load, ttl) => {
                let timing = Some(Timing::fresh_until(in_an_hour()));
                let header = Header {
                    timing,
                    ..Header::value(2, STAMP)
                };
                Verb::Confirm {
                    lease: lease(*load),
                    header: header.to_bytes(),
                    ttl: *ttl,
                }
            }
            Step::RenewLease(load, life) => Verb::RenewLease {
                lease: lease(*load),
                life: *life,
            },
            Step::Discard(load) => Verb::Discard(lease(*load)),
            Step::Release(load, pause) => Verb::Release {
                lease: lease(*load),
                pause: *pause,
            },
            Step::RenewGuard(token) => Verb::RenewGuard {
                token: *token,
                life: LIFE,
            },
            Step::Leave(token, hold) => Verb::Leave {
                token: *token,
                hold: *hold,
            },
            Step::StoreThrough(token, hold, bytes) => {
                let stamp = self.guards.get(token).copied().unwrap_or(STAMP);
                Verb::StoreThrough {
                    guard: Name {
                        token: *token,
                        stamp,
                    },
                    hold: *hold,
                    put: put(1, bytes, None),
                }
            }
        };
        Seen::Answer(self.backend.apply(KEY, &verb).await.unwrap())
    }

    /// The entry, and its remaining life.
    async fn seen(&self) -> (Seen, Option<u64>) {
        let (found, ttl) = self.backend.get_and_ttl(KEY).await.unwrap();
        (Seen::of(found), ttl)
    }
}

/// An answer or an entry, without the stamps and deadlines of this run.
#[derive(Debug)]
enum Seen {
    Answer(bool),
    Lease(u64),
    Guard {
        shared: bool,
        tokens: Vec<u64>,
    },
    /// A timed value, and the bytes after its header.
    Timed(Header, Vec<u8>),
    Other(Found),
}

/// Whether two times in milliseconds differ by no more than the running times of the two backends.
fn are_close(one: u64, other: u64) -> bool {
    one.abs_diff(other) < 5_000
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Seen::Answer(one), Seen::Answer(other)) => one == other,
            (Seen::Lease(one), Seen::Lease(other)) => one == other,
            (
                Seen::Guard { shared, tokens },
                Seen::Guard {
                    shared: other_shared,
                    tokens: other_tokens,
                },
            ) => shared == other_shared && tokens == other_tokens,
            (Seen::Timed(one, payload), Seen::Timed(other, other_payload)) => {
                let same = |one: Timing, other: Timing| {
                    let deadline = |claim: Claim| (claim.to_bits() >> 24) * 10;
                    one.claim.token() == other.claim.token()
                        && are_close(one.until, other.until)
                        && are_close(deadline(one.claim), deadline(other.claim))
                };
                let untimed = |header: &Header| Header {
                    timing: None,
                    ..*header
                };
                untimed(one) == untimed(other)
                    && one
                        .timing
                        .zip(other.timing)
                        .is_some_and(|(one, other)| same(one, other))
                    && payload == other_payload
            }
            (Seen::Other(one), Seen::Other(other)) => one == other,
            _ => false,
        }
    }
}

impl Seen {
    fn of(found: Found) -> Self {
        let Found::Entry(bytes) = &found else {
            return Seen::Other(found);
        };
        if let Some(Name { token, .. }) = Name::of_lease(bytes)
            && bytes.len() == crate::protocol::envelope::placeholder::LEASE
        {
            return Seen::Lease(token);
        }
        if let Head::Known(header) = head(bytes)
            && header.timing.is_some()
        {
            return Seen::Timed(header, bytes[header.len()..].to_vec());
        }
        if let Some(Epoch {
            hard,
            soft: Some(soft),
        }) = Epoch::from_bytes(bytes)
        {
            // The start of the spread depends on the time of each backend, unless it was stored
            // directly.
            let start = if soft.start == 7 { 7 } else { 0 };
            let soft = Some(Soft { start, ..soft });
            return Seen::Other(Found::Entry(Epoch { hard, soft }.to_bytes().into()));
        }
        match Guard::from_bytes(bytes) {
            // A guard that no verb has rewritten is the same on both, to the byte.
            Some(guard) if guard.to_bytes() == **bytes => Seen::Guard {
                shared: guard.shared,
                tokens: guard.writers.iter().map(|writer| writer.token).collect(),
            },
            _ => Seen::Other(found),
        }
    }
}

fn server(process: &crate::testing::server::TestServer) -> Backend {
    let config = ServerConfig {
        target: Target::Tcp(Host {
            name: "127.0.0.1".into(),
            port: process.port(),
        }),
        username: None,
        password: None,
        database: 0,
        tls: None,
        connect_timeout: Duration::from_secs(30),
        command_timeout: Duration::from_secs(30),
        operation_timeout: Duration::from_secs(60),
    };
    let server = Server::new(&config, Seams::plain(), Hub::new("")).unwrap();
    Backend::Server(server)
}

#[test]
fn the_scripts_do_what_the_transition_functions_do() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let process = crate::testing::server::TestServer::plain();
    let server = server(&process);
    let mut runner = TestRunner::new(Config {
        cases: 500,
        failure_persistence: Some(Box::new(FAILURES)),
        ..Config::default()
    });
    let outcome = runner.run(&prop::collection::vec(steps(), 1..40), |steps| {
        runtime.block_on(async {
            let clock = Arc::new(SystemClock::new());
            let memory = Backend::Memory(Memory::new(1 << 20, clock, Hub::new("")));
            process.command(&[&b"DEL"[..], KEY]);
            let (mut memory, mut server) = (Side::new(&memory), Side::new(&server));
            for (at, step) in steps.iter().enumerate() {
                prop_assert_eq!(
                    memory.run(step).await,
                    server.run(step).await,
                    "the answer to step {}",
                    at
                );
                let ((entry, life), (other, other_life)) =
                    (memory.seen().await, server.seen().await);
                prop_assert_eq!(&entry, &other, "the entry after step {}", at);
                let close = match (life, other_life) {
                    (Some(one), Some(other)) => are_close(one, other),
                    (one, other) => one == other,
                };
                prop_assert!(close, "{life:?} {other_life:?} after step {at}");
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

/// `mark_stale` never lengthens the life of an entry, and the renewal of a claim never shortens it.
#[tokio::test]
async fn marking_as_stale_shortens_a_life_and_renewing_a_claim_lengthens_it() {
    let process = crate::testing::server::TestServer::plain();
    let server = server(&process);
    let clock = Arc::new(SystemClock::new());
    let memory = Backend::Memory(Memory::new(1 << 20, clock, Hub::new("")));
    let renew = |life| Step::RenewLease(Load::Claim(HOLDER, STAMP), life);
    for (step, life, then) in [
        (Step::MarkStale(300_000), Some(60_000), Some(60_000)),
        (Step::MarkStale(30_000), Some(60_000), Some(30_000)),
        (Step::MarkStale(30_000), None, Some(30_000)),
        (renew(90_000), Some(40_000), Some(90_000)),
        (renew(10_000), Some(40_000), Some(40_000)),
        (renew(90_000), None, None),
    ] {
        for backend in [&memory, &server] {
            let claim = Claim::new(HOLDER as u32, now_millis(), LEASE);
            let timing = Some(Timing {
                until: in_an_hour(),
                claim,
            });
            let header = Header {
                timing,
                ..Header::value(1, STAMP)
            };
            let entry = [&header.to_bytes()[..], b"\x2a"].concat();
            let mut side = Side::new(backend);
            side.run(&Step::Put(entry, life)).await;
            assert_eq!(side.run(&step).await, Seen::Answer(true), "{step:?}");
            let (_, left) = side.seen().await;
            // Some time has passed since then.
            let is_right = match (left, then) {
                (Some(left), Some(then)) => (then - 20_000..=then).contains(&left),
                (left, then) => left == then,
            };
            assert!(is_right, "{step:?} of {life:?} leaves {left:?}");
        }
    }
}

/// The in-process store has no other data types.
#[tokio::test]
async fn another_type_of_the_servers_stays_where_others_may_have_put_it() {
    let process = crate::testing::server::TestServer::plain();
    let server = server(&process);
    let has_list = || process.command(&[&b"TYPE"[..], KEY]) == Value::Simple("list".into());
    let plant = || {
        process.command(&[&b"DEL"[..], KEY]);
        process.command(&[&b"RPUSH"[..], KEY, b"x"]);
        assert!(has_list());
    };
    let (token, life, ours) = (7, 90_000, false);
    let (versions, bytes, ttl) = (Versions::of(1), &b"x"[..], None);
    let put = Put {
        versions,
        bytes,
        ttl,
    };
    let lease = Lease::Placed(Name {
        token,
        stamp: STAMP,
    });
    let claim = Lease::Claim {
        token: 7,
        stamp: STAMP,
    };
    let touch = Touch {
        versions,
        shape: 0,
        key: 0,
        ttl,
        keep: 0,
        max_age: None,
        seen: None,
    };
    let swap = |read, becomes| Swap {
        read,
        put,
        becomes,
        again: true,
    };
    let nothing = Read::Nothing {
        rejected: Some(STAMP),
        newer_wins: 0,
    };
    let header = Header::value(1, STAMP).to_bytes();
    let guard = Name {
        token,
        stamp: STAMP,
    };
    let hold = Hold { token, life, ours };
    for verb in [
        Verb::SetIfAbsent(put, None, u64::MAX),
        Verb::SetIfAbsent(put, Some(STAMP), u64::MAX),
        Verb::SetIfPresent(put, None),
        Verb::Swap(swap(Read::Value(STAMP), Becomes::Stored)),
        Verb::Swap(swap(Read::Value(STAMP), Becomes::Removed)),
        Verb::Swap(swap(nothing, Becomes::StoredForTheRest)),
        Verb::SetOnlyCopy { put, absent: true },
        Verb::DeleteOnlyCopy,
        Verb::Delete(None),
        Verb::Delete(Some(hold)),
        Verb::MarkStale { keep: 1000 },
        Verb::Touch(touch),
        Verb::Migrate {
            stamp: STAMP,
            version: 1,
            entry: &header,
        },
        Verb::RemoveIfSame(Fingerprint::of(b"x")),
        Verb::RemoveIfSame(Fingerprint::of(b"")),
        Verb::Fill { lease, put },
        Verb::Fill { lease: claim, put },
        Verb::Confirm {
            lease: claim,
            header,
            ttl,
        },
        Verb::RenewLease { lease, life },
        Verb::RenewLease { lease: claim, life },
        Verb::Discard(lease),
        Verb::Release { lease, pause: 0 },
        Verb::RenewGuard { token, life },
        Verb::Leave { token, hold: 0 },
        Verb::Leave { token, hold: life },
        Verb::StoreThrough {
            guard,
            hold: 0,
            put,
        },
    ] {
        plant();
        let done = server.apply(KEY, &verb).await;
        assert!(matches!(done, Ok(false)), "{verb:?}: {done:?}");
        assert!(has_list(), "{verb:?}");
    }
    for rejected in [
        Rejected::None,
        Rejected::Any {
            version: 9,
            newer_wins: u64::MAX,
        },
    ] {
        plant();
        let verb = Placing::Lease {
            token,
            life,
            rejected,
        };
        assert_eq!(server.place(KEY, &verb).await.unwrap(), Found::Foreign);
        let verb = Placing::Enter { token, life, ours };
        assert_eq!(server.place(KEY, &verb).await.unwrap(), Found::Foreign);
        assert!(has_list());
    }

    // A plain `set` replaces it.
    plant();
    let verb = Verb::SetOnlyCopy { put, absent: false };
    assert!(matches!(server.apply(KEY, &verb).await, Ok(true)) && !has_list());

    // Where only our entries belong, it is replaced.
    let (clock, over, ours) = (STAMP, None, true);
    plant();
    let raised = server.apply(KEY, &Verb::Raise(Raise { clock, over })).await;
    assert!(matches!(raised, Ok(false)) && !has_list());
    plant();
    let extended = server.place(KEY, &Placing::Extend { life: None }).await;
    assert_eq!(extended.unwrap(), Found::Nothing);
    let is_guard = |found: Found| match found {
        Found::Entry(bytes) => Guard::from_bytes(&bytes).is_some(),
        _ => false,
    };
    plant();
    let verb = Placing::Enter { token, life, ours };
    assert!(is_guard(server.place(KEY, &verb).await.unwrap()));
    plant();
    let verb = Verb::Delete(Some(Hold { token, life, ours }));
    assert!(matches!(server.apply(KEY, &verb).await, Ok(false)));
    assert!(is_guard(server.get(KEY).await.unwrap()));
    for tick in [Tick::Read, Tick::Advance, Tick::Reach(7)] {
        plant();
        let clock = server.clock(KEY, tick).await.unwrap();
        assert!(are_close(clock / 1000, now_millis()), "{tick:?}: {clock}");
        assert!(!has_list());
    }
    plant();
    let (rule, cost) = (Rule::gcra(1, Duration::from_secs(9), 1).unwrap(), 1);
    for (act, allowed) in [(Act::Look, true), (Act::Take, true), (Act::Take, false)] {
        let verdict = server.decide(KEY, &Ask { rule, act, cost }).await.unwrap();
        assert_eq!(verdict.allowed, allowed, "{act:?}");
    }
}

/// The clock of a namespace: sound, damaged, ahead and behind.
#[tokio::test]
async fn the_script_of_the_clock_does_what_the_function_does() {
    let process = crate::testing::server::TestServer::plain();
    let server = server(&process);
    let now = now_millis() * 1000;
    let hour = 3_600_000_000;
    let numbers = [
        1,
        5,
        now - hour,
        now - 30_000_000,
        now + hour,
        now + 23 * hour,
        now + 25 * hour,
        (1 << 53) - 1,
        1 << 53,
        u64::MAX,
    ];
    let mut clocks: Vec<Option<Vec<u8>>> = vec![None];
    clocks.extend(numbers.map(|number| Some(number.to_string().into_bytes())));
    let texts = [
        "",
        "abc",
        "-5",
        "+5",
        "1.5",
        "1e300",
        "1e400",
        "inf",
        "-inf",
        "nan",
        "-nan",
        "0x7f",
        " 12 ",
        "0",
        "007",
        "99999999999999999999",
    ];
    clocks.extend(texts.map(|text| Some(text.as_bytes().to_vec())));
    clocks.extend([Some(vec![b'9'; 65_536]), Some(vec![0xff; 16])]);
    let floors = [0, 5, now - hour, now + hour, now + 25 * hour, u64::MAX >> 1];
    let ticks = [Tick::Read, Tick::Advance].into_iter();
    for tick in ticks.chain(floors.map(Tick::Reach)) {
        for planted in &clocks {
            process.command(&[&b"DEL"[..], KEY]);
            if let Some(planted) = planted {
                process.command(&[&b"SET"[..], KEY, planted]);
            }
            let answer = server.clock(KEY, tick).await.unwrap();
            let expected = crate::protocol::transition::clock(planted.as_deref(), tick, now);
            let shown = planted
                .as_ref()
                .map(|planted| &planted[..planted.len().min(30)]);
            let shown = shown.map(String::from_utf8_lossy);
            // Some time has passed since.
            assert!(
                are_close(answer / 1000, expected / 1000),
                "{tick:?} of {shown:?}: {answer} {expected}"
            );
            let kept = server.get(KEY).await.unwrap();
            assert_eq!(kept, Found::Entry(answer.to_string().into()), "{shown:?}");
        }
    }
}

/// A stored state of a limit, the time, and the request.
#[derive(Clone, Debug)]
struct Limited {
    rule: Rule,
    act: Act,
    cost: u64,
    state: Option<Vec<u8>>,
    now: u64,
}

fn rules() -> impl Strategy<Value = (Rule, u64)> {
    // Small numbers reach their limit exactly.
    let quotas = || prop_oneof![1..=5u32, 1..=1_000_000u32];
    let periods = prop_oneof![1_000..1_000_000u64, 1_000_000..40_000_000_000u64];
    let algorithms = prop_oneof![Just('g'), Just('f'), Just('s')];
    let numbers = (quotas(), periods, quotas(), algorithms);
    numbers.prop_filter_map("a rule", |(quota, micros, burst, algorithm)| {
        let period = Duration::from_micros(micros);
        let rule = match algorithm {
            'g' => Rule::gcra(quota, period, burst),
            'f' => Rule::fixed(quota, period),
            _ => Rule::sliding(quota, period),
        };
        Some((rule.ok()?, micros))
    })
}

/// States of all kinds. In many of the sound ones the request is allowed, or refused, by the
/// smallest margin.
fn limited() -> impl Strategy<Value = Limited> {
    let acts = prop_oneof![8 => Just(Act::Take), 1 => Just(Act::Look), 1 => Just(Act::Reset)];
    let costs = prop_oneof![3 => 1..=3u64, 1 => 1..=1_000_000u64];
    let kinds = prop_oneof![1 => Just("none"), 1 => Just("foreign"), 1 => Just("short"), 4 => Just("any"), 8 => Just("edge")];
    let counts = || prop_oneof![0..5u64, 0..1_000_000u64, 0..9_000_000_000_000_000u64];
    let numbers = (0..4u64, any::<u64>(), counts(), counts(), 0..3u64);
    let all = (rules(), acts, costs, kinds, numbers);
    all.prop_map(
        |((rule, micros), act, cost, kind, (periods, moment, x, y, step))| {
            let cost = cost.min(rule.limit());
            let (letter, [a, b, c]) = rule.parameters();
            let some_time = 1_767_225_600_000_000;
            let (mut now, mut numbers) = (some_time + moment % micros, [some_time, x, y]);
            match (letter, kind) {
                ('g', "edge") => {
                    // Drained until there is room for the request, or for slightly less or more.
                    let ago = moment % (c / a + 1);
                    now = some_time + ago;
                    numbers[1] = (c - cost * b + ago * a + step).saturating_sub(1).min(c);
                    numbers[2] = 0;
                }
                (_, "edge") => {
                    let period = b * c;
                    let start = some_time - some_time % period;
                    let taken = if moment % 2 == 0 {
                        a - cost
                    } else {
                        x % (a - cost + 1)
                    };
                    let before = 1 + y % a;
                    // The steps that may be left if the request is to be allowed. The time is in
                    // the last or the first microsecond of one of them.
                    let left = ((a - cost - taken) * c / before).clamp(1, c);
                    let sooner = [0, 1, b][step as usize];
                    now = (start + period - left * b + sooner).min(start + period - 1);
                    numbers = [start, taken, before];
                }
                // Sometimes in the future: the server's clock was set back.
                ('g', _) => numbers[0] = now + micros - (periods * micros).min(now),
                _ => {
                    let start = now - now % (b * c);
                    numbers[0] = start + b * c - periods * (b * c);
                }
            }
            let letter = if kind == "foreign" { 'x' } else { letter };
            let [x, y, z] = numbers;
            let mut state = format!("{letter}{x:016}{y:016}{z:016}").into_bytes();
            if kind == "short" {
                state.pop();
            }
            Limited {
                rule,
                act,
                cost,
                state: (kind != "none").then_some(state),
                now,
            }
        },
    )
}

/// The script answers with time and state, and leaves the new state of the function, to the byte.
/// It gets a time to use in place of the server's, because no limit would be reached to the
/// microsecond at an arbitrary time.
#[test]
fn the_script_of_limits_does_what_the_function_does() {
    let process = crate::testing::server::TestServer::plain();
    let connection = BufReader::new(UnixStream::connect(process.socket()).unwrap());
    let connection = RefCell::new(connection);
    let command = |command: &[&[u8]]| {
        let mut connection = connection.borrow_mut();
        connection
            .get_mut()
            .write_all(&resp::encode(command))
            .unwrap();
        resp::read_value(&mut *connection).unwrap()
    };
    let body = include_str!("../scripts/limit.lua");
    let time = "redis.call('TIME')";
    assert_eq!(body.matches(time).count(), 1);
    let mut runner = TestRunner::new(Config {
        cases: 6000,
        failure_persistence: None,
        ..Config::default()
    });
    let body = body.replace(time, "{ARGV[8], ARGV[9]}");
    // Refused, and allowed.
    let counts = Cell::new([0; 2]);
    let outcome = runner.run(&limited(), |case| {
        let Limited {
            rule,
            act,
            cost,
            state,
            now,
        } = case;
        command(&[b"DEL", KEY]);
        if let Some(state) = &state {
            command(&[b"SET", KEY, state]);
        }
        let act_name = match act {
            Act::Take => "take",
            Act::Look => "look",
            Act::Reset => "reset",
        };
        let (letter, [a, b, c]) = rule.parameters();
        let letter = letter.to_string();
        let numbers = [cost, a, b, c, now / 1_000_000, now % 1_000_000].map(|n| n.to_string());
        let [cost_text, a, b, c, seconds, micros] = numbers.each_ref().map(String::as_bytes);
        let answer = command(&[
            b"EVAL",
            body.as_bytes(),
            b"1",
            KEY,
            b"limit",
            act_name.as_bytes(),
            cost_text,
            letter.as_bytes(),
            a,
            b,
            c,
            seconds,
            micros,
        ]);
        let Value::Bulk(answer) = answer else {
            panic!("{answer:?}")
        };
        let planted = state.unwrap_or_default();
        prop_assert_eq!(answered(&answer).unwrap(), (now, &planted[..]));
        let left = command(&[b"GET", KEY]);
        let (verdict, then) = decide(Some(&planted), &Ask { rule, act, cost }, now);
        if act == Act::Take {
            let mut more = counts.get();
            more[usize::from(verdict.allowed)] += 1;
            counts.set(more);
        }
        match then {
            Then::Remove => prop_assert_eq!(left, Value::Null),
            Then::Keep if planted.is_empty() => prop_assert_eq!(left, Value::Null),
            Then::Keep => prop_assert_eq!(left, Value::Bulk(planted)),
            // A state that lives for a few milliseconds may be gone.
            Then::Put(_, life) if life < 5_000 && left == Value::Null => {}
            Then::Put(state, life) => {
                prop_assert_eq!(left, Value::Bulk(state.to_vec()));
                if life > 5_000 {
                    let Value::Integer(left) = command(&[b"PTTL", KEY]) else {
                        panic!("no TTL")
                    };
                    prop_assert!(are_close(left as u64, life), "{left} {life}");
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let [refused, allowed] = counts.get();
    assert!(refused > 1000 && allowed > 1000, "{refused} {allowed}");
}
