//! Properties that only a real server shows: the keys and bytes in it, and how bytes that others
//! put there are read.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, ErrorKind, SetOptions, Ttl};
use valkey_tests::resp::Value;

use crate::database::until;
use crate::stores::{On, connect};

suite! {
    @alone [crate::servers]
    key_bytes_and_ttl_are_as_documented
    bytes_that_are_no_entry_are_corrupt
    an_entry_of_another_key_is_corrupt
    no_flipped_bit_gives_another_value
    a_list_is_left_where_it_is
    scripts_that_the_server_forgot_are_sent_again
    a_verb_is_one_round_trip
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m", version = 2)]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, on_corrupt = "error")]
struct Strict {
    #[cached(key)]
    id: u64,
    name: String,
}

fn ada(id: u64) -> User {
    User {
        id,
        name: "Ada".into(),
    }
}

const SERVERS: [On; 2] = [On::Plain, On::Cluster];

async fn key_bytes_and_ttl_are_as_documented() {
    let store = On::Plain.store("seen").await;
    ada(42).set(&store).await.unwrap();
    let Value::Bulk(bytes) = On::Plain.raw(&["GET", "seen:user:42"]) else {
        panic!("no entry")
    };
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    // All but the stamp: docs/internals/envelope.md.
    assert_eq!(hex[..24], *"9d0100cd0002ce00000000cf");
    assert_eq!((&hex[40..42], &hex[50..52]), ("ce", "ce"));
    assert_eq!(hex[60..], *"c0c0c0c0c082a269642aa46e616d65a3416461");
    let Value::Integer(left) = On::Plain.raw(&["PTTL", "seen:user:42"]) else {
        panic!("no TTL")
    };
    assert!((280_000..=300_000).contains(&left), "{left}");

    ada(42)
        .set_with(&store, SetOptions::new().ttl(Ttl::Never))
        .await
        .unwrap();
    assert_eq!(On::Plain.raw(&["PTTL", "seen:user:42"]), Value::Integer(-1));
}

/// Bytes that others put under a key are never a value. All of them are reported, and only those
/// that can be compared are removed.
async fn bytes_that_are_no_entry_are_corrupt() {
    for on in SERVERS {
        let store = on.store("rubbish").await;
        ada(1).set(&store).await.unwrap();
        let Value::Bulk(whole) = on.raw(&["GET", "rubbish:user:1"]) else {
            panic!("no entry")
        };
        let trailing = [&whole[..], b"\xc0"].concat();
        let deep = [&whole[..35], &[0x91; 100_000][..], b"\xc0"].concat();
        for bytes in [
            &whole[..0],
            &whole[..10],
            &whole[..35],
            &whole[..whole.len() - 1],
            b"plain text",
            &trailing,
            &deep,
        ] {
            let put = || on.raw(&[&b"SET"[..], b"rubbish:user:1", bytes]);
            put();
            assert_eq!(
                Strict::get(&store, 1).await.unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{on:?}: {bytes:x?}"
            );
            assert_eq!(
                on.raw(&["EXISTS", "rubbish:user:1"]),
                Value::Integer(0),
                "{on:?}: {bytes:x?}"
            );
            put();
            assert_eq!(User::get(&store, 1).await.unwrap(), None);
            put();
            assert_eq!(User::get_many(&store, [1]).await.unwrap(), [None]);
            // These go by the header alone.
            let headed = bytes.len() >= 35;
            put();
            assert_eq!(User::del(&store, 1).await.unwrap(), headed);
            put();
            let stored = ada(1).set_with(&store, SetOptions::new().if_absent()).await;
            assert_eq!(stored.unwrap(), !headed);
        }
    }
}

/// As a user, but for a field that an account does not have.
#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "acct", version = 2)]
struct Account {
    #[cached(key)]
    id: u64,
    name: String,
    #[serde(default)]
    limit: u32,
}

/// An entry that a tool has copied to another key is invalid there: whatever it is, and however
/// well it would decode.
async fn an_entry_of_another_key_is_corrupt() {
    for on in SERVERS {
        let (store, elsewhere) = (on.store("copied").await, on.store("copied-from").await);
        let entry = |key: &str| match on.raw(&["GET", key]) {
            Value::Bulk(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        ada(2).set(&store).await.unwrap();
        ada(1).set(&elsewhere).await.unwrap();
        let account = Account {
            id: 1,
            name: "Ada".into(),
            limit: 7,
        };
        account.set(&store).await.unwrap();
        for from in ["copied:user:2", "copied:acct:1", "copied-from:user:1"] {
            let bytes = entry(from);
            let put = || on.raw(&[&b"SET"[..], b"copied:user:1", &bytes]);
            let is_gone = || on.raw(&["EXISTS", "copied:user:1"]) == Value::Integer(0);
            let corrupt = store.stats().corrupt();
            put();
            assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?}: {from}");
            assert!(is_gone());
            put();
            assert_eq!(User::get_many(&store, [1]).await.unwrap(), [None]);
            assert!(is_gone());
            put();
            assert!(store.of::<User>().get_entry(1).await.unwrap().is_none());
            assert_eq!(store.stats().corrupt(), corrupt + 3);
            put();
            let error = Strict::get(&store, 1).await.unwrap_err();
            assert!(
                error.to_string().contains("an entry of another key"),
                "{error}"
            );

            put();
            assert!(!User::exists(&store, 1).await.unwrap());
            assert_eq!(store.of::<User>().ttl(1).await.unwrap(), None);
            assert!(!User::touch(&store, 1).await.unwrap());
            let only = SetOptions::new();
            assert!(!ada(1).set_with(&store, only.if_present()).await.unwrap());
            assert!(ada(1).set_with(&store, only.if_absent()).await.unwrap());
            assert_eq!(User::get(&store, 1).await.unwrap(), Some(ada(1)));

            put();
            let load = async || Ok::<_, ()>(Some(ada(1)));
            let loaded = User::get_or_load(&store, 1, load).await;
            assert_eq!(loaded, Ok(Some(ada(1))));
            let unused = async || -> Result<Option<User>, ()> { panic!("it was stored") };
            let found = User::get_or_load(&store, 1, unused).await;
            assert_eq!(found, Ok(Some(ada(1))));

            put();
            let scanned: HashMap<u64, User> =
                store.of::<User>().scan().try_collect().await.unwrap();
            assert_eq!(scanned, HashMap::from([(2, ada(2))]), "{on:?}: {from}");
            put();
            assert_eq!(store.of::<User>().count().await.unwrap(), 1);
            on.raw(&["DEL", "copied:user:1"]);
        }
    }
}

/// Each bit of an entry changed, one after the other: the value is read as it was, or it is not
/// read.
async fn no_flipped_bit_gives_another_value() {
    let on = On::Plain;
    let store = on.store("flipped").await;
    ada(1).set(&store).await.unwrap();
    let Value::Bulk(mut bytes) = on.raw(&["GET", "flipped:user:1"]) else {
        panic!("no entry")
    };
    let mut read = Vec::new();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        on.raw(&[&b"SET"[..], b"flipped:user:1", &bytes]);
        if let Some(user) = User::get(&store, 1).await.unwrap() {
            assert_eq!(user, ada(1), "bit {bit}");
            read.push(bit / 8);
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    // The stamp alone is rewritten by scripts, so that it is not in the checksum.
    read.dedup();
    assert_eq!(read, (12..20).collect::<Vec<_>>());
}

async fn a_list_is_left_where_it_is() {
    for on in SERVERS {
        let store = on.store("list").await;
        on.raw(&["DEL", "list:user:1"]);
        on.raw(&["RPUSH", "list:user:1", "a", "b"]);
        assert_eq!(User::get(&store, 1).await.unwrap(), None);
        assert_eq!(User::get_many(&store, [1]).await.unwrap(), [None]);
        assert_eq!(
            Strict::get(&store, 1).await.unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        assert!(!User::exists(&store, 1).await.unwrap());
        assert_eq!(store.of::<User>().ttl(1).await.unwrap(), None);
        assert!(!User::touch(&store, 1).await.unwrap());
        assert!(
            !ada(1)
                .set_with(&store, SetOptions::new().if_present())
                .await
                .unwrap()
        );
        let stored = ada(1).set_with(&store, SetOptions::new().if_absent()).await;
        assert!(!stored.unwrap(), "it is not ours to replace");
        assert!(!User::del(&store, 1).await.unwrap());
        assert_eq!(User::del_many(&store, [1]).await.unwrap(), 0);
        let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(ada(1)))).await;
        assert_eq!(loaded, Ok(Some(ada(1))));
        assert_eq!(
            User::update(&store, 1, async || Ok::<_, ()>(7)).await,
            Ok(7)
        );
        assert_eq!(
            on.raw(&["LLEN", "list:user:1"]),
            Value::Integer(2),
            "{on:?}"
        );
        // The plain SET that a `set` is replaces whatever is there.
        ada(1).set(&store).await.unwrap();
        assert_eq!(User::get(&store, 1).await.unwrap(), Some(ada(1)));
    }
}

/// A restart and `SCRIPT FLUSH` lose the scripts.
async fn scripts_that_the_server_forgot_are_sent_again() {
    for on in SERVERS {
        let store = on.store("forgotten").await;
        let flush = || match on {
            On::Cluster => crate::stores::CLUSTER
                .nodes()
                .iter()
                .for_each(|node| drop(node.command(&["SCRIPT", "FLUSH"]))),
            _ => drop(on.raw(&["SCRIPT", "FLUSH"])),
        };
        User::set_many(&store, &[ada(1), ada(2), ada(3)])
            .await
            .unwrap();
        flush();
        assert!(User::del(&store, 1).await.unwrap());
        flush();
        assert_eq!(User::del_many(&store, 1..=3).await.unwrap(), 2);
        flush();
        assert!(
            ada(1)
                .set_with(&store, SetOptions::new().if_absent())
                .await
                .unwrap()
        );
        flush();
        assert!(User::touch(&store, 1).await.unwrap());
    }
}

/// Counted at the server: a verb is one command, a batch one command or one pipeline a chunk.
async fn a_verb_is_one_round_trip() {
    let server = valkey_tests::Server::plain();
    let store = connect(&server.url()).await;
    ada(1).set(&store).await.unwrap();
    User::del(&store, 2).await.unwrap();
    server.reset_command_counts();
    User::get(&store, 1).await.unwrap();
    User::exists(&store, 1).await.unwrap();
    User::get_many(&store, 0..2500).await.unwrap();
    ada(1).set(&store).await.unwrap();
    User::del(&store, 1).await.unwrap();
    let counts = server.command_counts();
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(
        (count("get"), count("mget"), count("set"), count("evalsha")),
        (1, 3, 1, 1),
        "{counts:?}"
    );
    assert_eq!(count("eval"), 0);
}

/// A store may outlive the runtime that its connection was made in.
#[test]
fn a_store_outlives_its_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let store = runtime().block_on(On::Plain.store("runtimes"));
    for round in 0..3 {
        runtime().block_on(async {
            // The first command on a connection whose task is gone may tell; the second has a new
            // one. The value that a failed set may have stored is deleted. A late deletion also
            // removes the value of the next set.
            until("the value is stored", async || {
                let stored = ada(round).set(&store).await.is_ok();
                stored && User::get(&store, round).await.unwrap() == Some(ada(round))
            })
            .await;
        });
    }
}
