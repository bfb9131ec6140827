//! The scripts against the transition function: the same verbs on a real server and on the in-process store, which runs
//! the function, leave the same entries and give the same answers.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Backend, Found, Host, Memory, Server, ServerConfig, Target};
use crate::ManualClock;
use crate::clock::{SystemClock, ThreadRandom};
use crate::envelope::{Header, Kind};
use crate::transition::{Fingerprint, Put, Verb};

const KEY: &[u8] = b"differential";

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    SetIfAbsent(u16, Vec<u8>, Option<u64>),
    SetIfPresent(u16, Vec<u8>, Option<u64>),
    Delete,
    Touch(u16, Option<u64>),
    RemoveIfSame(Vec<u8>),
}

/// Entries of few versions and all kinds, some with a byte of their header changed, some cut short.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![
        4 => Just(Kind::Value),
        1 => Just(Kind::Absence),
        1 => Just(Kind::Lease),
        1 => Just(Kind::Guard),
    ];
    let versions = prop_oneof![8 => 1..4u16, 1 => 255..258u16];
    let headers = (
        kinds,
        versions,
        prop_oneof![8 => Just(0u32), 1 => any::<u32>()],
    );
    let whole = headers.prop_map(|(kind, version, shape)| {
        let header = Header {
            kind,
            version,
            shape,
            stamp: 7,
        };
        [&header.to_bytes()[..], b"\x2a"].concat()
    });
    let damaged = (whole.clone(), 0..26usize, any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        bytes[at] = byte;
        bytes
    });
    let cut = (whole.clone(), 0..26usize).prop_map(|(bytes, len)| bytes[..len].to_vec());
    prop_oneof![4 => whole, 2 => damaged, 1 => cut]
}

fn steps() -> impl Strategy<Value = Step> {
    let version = || prop_oneof![8 => 1..4u16, 1 => 255..258u16];
    let ttl = || prop::option::of(60_000..120_000u64);
    prop_oneof![
        3 => entries().prop_map(Step::Put),
        2 => (version(), entries(), ttl()).prop_map(|(v, bytes, ttl)| Step::SetIfAbsent(v, bytes, ttl)),
        2 => (version(), entries(), ttl()).prop_map(|(v, bytes, ttl)| Step::SetIfPresent(v, bytes, ttl)),
        1 => Just(Step::Delete),
        2 => (version(), ttl()).prop_map(|(v, ttl)| Step::Touch(v, ttl)),
        1 => entries().prop_map(Step::RemoveIfSame),
    ]
}

impl Step {
    async fn on(&self, backend: &Backend) -> bool {
        let put = |version, bytes, ttl| Put {
            version,
            bytes,
            ttl,
        };
        let verb = match self {
            Step::Put(bytes) => {
                backend.set(KEY, bytes.clone(), None).await.unwrap();
                return true;
            }
            Step::SetIfAbsent(version, bytes, ttl) => Verb::SetIfAbsent(put(*version, bytes, *ttl)),
            Step::SetIfPresent(version, bytes, ttl) => {
                Verb::SetIfPresent(put(*version, bytes, *ttl))
            }
            Step::Delete => Verb::Delete,
            Step::Touch(version, ttl) => Verb::Touch {
                version: *version,
                ttl: *ttl,
            },
            Step::RemoveIfSame(bytes) => Verb::RemoveIfSame(Fingerprint::of(bytes)),
        };
        backend.apply(KEY, &verb).await.unwrap()
    }
}

/// What is seen of the entry: its bytes, and whether it will expire.
async fn seen(backend: &Backend) -> (Found, bool) {
    let (_, ttl) = backend.head_and_ttl(KEY).await.unwrap();
    (backend.get(KEY).await.unwrap(), ttl.is_some())
}

#[test]
fn the_scripts_do_what_the_transition_function_does() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let process = valkey_tests::Server::plain();
    let config = ServerConfig {
        target: Target::Tcp(Host {
            name: "127.0.0.1".into(),
            port: process.port(),
        }),
        username: None,
        password: None,
        database: 0,
        tls: None,
        connect_timeout: Duration::from_secs(5),
        command_timeout: Duration::from_secs(5),
    };
    let server = Server::new(
        &config,
        Arc::new(SystemClock::new()),
        Arc::new(ThreadRandom),
    )
    .unwrap();
    let server = Backend::Server(server);
    let mut runner = TestRunner::new(Config::with_cases(200));
    let outcome = runner.run(&prop::collection::vec(steps(), 1..40), |steps| {
        runtime.block_on(async {
            let memory = Backend::Memory(Memory::new(1 << 20, Arc::new(ManualClock::new())));
            Step::Delete.on(&server).await;
            for (at, step) in steps.iter().enumerate() {
                prop_assert_eq!(
                    step.on(&memory).await,
                    step.on(&server).await,
                    "the answer to step {}",
                    at
                );
                prop_assert_eq!(
                    seen(&memory).await,
                    seen(&server).await,
                    "the entry after step {}",
                    at
                );
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
