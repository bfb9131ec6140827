//! Encrypted values: nobody without the key reads them, and nobody replaces them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde::{Deserialize, Serialize};
use valkey_runtime::{
    Builder, Cached, EncryptionKeys, ErrorKind, SetOptions, Source, Stale, Store,
};
use valkey_tests::resp::Value;

use crate::database::until;
use crate::stores::On;

suite! {
    crate::encrypted =>
    values_come_back_and_are_unreadable_on_the_server
    every_verb_reads_an_encrypted_value
    those_who_wait_for_a_load_get_its_value
    a_near_copy_is_decrypted
    an_entry_under_a_newer_key_is_left_alone
    an_entry_under_a_retired_key_is_replaced_by_a_load
    plain_text_is_not_accepted_unless_the_store_says_so
    without_keys_the_first_use_is_an_error
}

suite! {
    @alone [crate::encrypted]
    an_entry_of_another_key_version_or_type_is_not_accepted
    a_changed_byte_is_corrupt
    settings_of_keys
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "person",
    ttl = "1h",
    stale_if_error = "1h",
    encrypt,
    compress = "zstd",
    tag = "org:{org}"
)]
struct Person {
    #[cached(key)]
    id: u64,
    org: u64,
    #[cached(redact)]
    diary: String,
}

/// Without tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "letter", ttl = "1h", near = "1h", encrypt)]
struct Letter {
    #[cached(key)]
    id: u64,
    text: String,
}

/// The same keys, of a release that does not encrypt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "letter", ttl = "1h")]
struct PlainLetter {
    #[cached(key)]
    id: u64,
    text: String,
}

const ONE: [u8; 32] = [1; 32];
const TWO: [u8; 32] = [2; 32];

/// The first key of a deployment.
fn first() -> EncryptionKeys {
    EncryptionKeys::new(1, ONE)
}

/// After a rotation.
fn rotated() -> EncryptionKeys {
    EncryptionKeys::new(2, TWO).and(1, ONE)
}

fn builder(on: On, namespace: &str) -> Builder {
    crate::steady::writes_into(on.nodes(), namespace);
    on.builder().namespace(namespace)
}

async fn store(on: On, namespace: &str, keys: EncryptionKeys) -> Store {
    let builder = builder(on, namespace).encryption_keys(keys);
    builder.connect().await.unwrap()
}

fn person(id: u64) -> Person {
    Person {
        id,
        org: 7,
        diary: "dear diary, hunter2; ".repeat(200),
    }
}

fn letter(id: u64) -> Letter {
    Letter {
        id,
        text: "dear Ada".into(),
    }
}

fn put(on: On, key: &str, bytes: &[u8]) {
    on.raw(&[b"SET", key.as_bytes(), bytes]);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn undecrypted(store: &Store) -> u64 {
    store.stats().undecrypted()
}

async fn values_come_back_and_are_unreadable_on_the_server(on: On) {
    let store = store(on, "secret", first()).await;
    person(1).set(&store).await.unwrap();
    letter(2).set(&store).await.unwrap();
    assert_eq!(Person::get(&store, 1).await.unwrap(), Some(person(1)));
    assert_eq!(Letter::get(&store, 2).await.unwrap(), Some(letter(2)));
    assert_eq!((store.stats().corrupt(), undecrypted(&store)), (0, 0));
    if on == On::Memory {
        return;
    }
    let person = on.stored("secret:person:1");
    assert_eq!(person[30], 1 | 4, "compressed, then encrypted");
    assert!(person.len() < 300, "{}", person.len());
    let first = on.stored("secret:letter:2");
    assert_eq!(first[30], 4);
    assert!(!contains(&first, "Ada") && !contains(&first, "text"));
    letter(2).set(&store).await.unwrap();
    let again = on.stored("secret:letter:2");
    assert_ne!(first[44..], again[44..], "no nonce is used twice");
}

async fn every_verb_reads_an_encrypted_value(on: On) {
    let store = store(on, "secret-verbs", first()).await;
    let of = store.of::<Person>();
    person(1).set(&store).await.unwrap();
    assert!(Person::exists(&store, 1).await.unwrap());
    let absent = SetOptions::new().if_absent();
    assert!(!person(1).set_with(&store, absent).await.unwrap());
    assert!(Person::touch(&store, 1).await.unwrap());
    let many = Person::get_many(&store, [1, 2]).await.unwrap();
    assert_eq!(many, [Some(person(1)), None]);
    let entry = of.get_entry(1).await.unwrap().unwrap();
    assert_eq!(*entry, person(1));
    assert!(!format!("{entry:?}").contains("hunter2"), "{entry:?}");
    // A header that a loader writes over an unchanged value keeps its flags.
    assert!(of.mark_stale(1).await.unwrap());
    let unchanged = async |stale: Option<Stale<Person>>| {
        let stale = stale.expect("the value that is there");
        Ok::<_, ()>(stale.unchanged())
    };
    let loaded = of.load(1).revalidate(unchanged).await;
    assert_eq!(loaded, Ok(Some(person(1))));
    assert_eq!(Person::get(&store, 1).await.unwrap(), Some(person(1)));
    assert!(of.mark_stale(1).await.unwrap());
    let failing = async || Err::<Option<Person>, _>("the database is down");
    let served = of.load(1).entry().run(failing).await.unwrap().unwrap();
    assert_eq!((served.source(), &*served), (Source::Stale, &person(1)));
    Person::del(&store, 1).await.unwrap();
    assert!(!Person::exists(&store, 1).await.unwrap());
    assert_eq!((store.stats().corrupt(), undecrypted(&store)), (0, 0));
}

async fn those_who_wait_for_a_load_get_its_value(on: On) {
    let store = store(on, "secret-waiting", first()).await;
    let loads = AtomicUsize::new(0);
    let call = || {
        let load = async || {
            loads.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
            Ok::<_, ()>(person(1))
        };
        Person::get_or_load(&store, 1, load)
    };
    let given = futures_util::future::join_all((0..50).map(|_| call())).await;
    assert_eq!(given, vec![Ok(person(1)); 50]);
    assert_eq!(loads.load(SeqCst), 1);
}

async fn a_near_copy_is_decrypted(on: On) {
    let store = store(on, "secret-near", first()).await;
    letter(1).set(&store).await.unwrap();
    until("a near copy answers", async || {
        let before = store.stats().near_hits();
        Letter::get(&store, 1).await.unwrap();
        store.stats().near_hits() > before
    })
    .await;
    assert_eq!(Letter::get(&store, 1).await.unwrap(), Some(letter(1)));
    let shared = store.of::<Letter>().get_shared(1).await.unwrap().unwrap();
    assert_eq!(*shared, letter(1));
}

/// Loads a letter and says whether it was stored.
async fn is_stored_by_a_load(store: &Store) -> bool {
    let loads = AtomicUsize::new(0);
    for _ in 0..2 {
        let load = async || {
            loads.fetch_add(1, SeqCst);
            Ok::<_, ()>(letter(1))
        };
        let loaded = Letter::get_or_load(store, 1, load).await;
        assert_eq!(loaded, Ok(letter(1)));
    }
    loads.load(SeqCst) == 1
}

/// As an instance that was not restarted yet, or lacks the key by mistake.
async fn an_entry_under_a_newer_key_is_left_alone(on: On) {
    if on == On::Memory {
        return;
    }
    let (new, old) = (
        store(on, "newer-key", rotated()).await,
        store(on, "newer-key", first()).await,
    );
    letter(1).set(&new).await.unwrap();
    let before = on.stored("newer-key:letter:1");
    assert_eq!(Letter::get(&old, 1).await.unwrap(), None);
    assert_eq!(Letter::get_many(&old, [1]).await.unwrap(), [None]);
    assert!(!Letter::exists(&old, 1).await.unwrap());
    assert!(!is_stored_by_a_load(&old).await);
    let absent = SetOptions::new().if_absent();
    assert!(!letter(1).set_with(&old, absent).await.unwrap());
    assert_eq!(on.stored("newer-key:letter:1"), before);
    assert_eq!((old.stats().corrupt(), undecrypted(&old)), (0, 4));
    assert_eq!(Letter::get(&new, 1).await.unwrap(), Some(letter(1)));
    // A whole `set` and a deletion do as always.
    letter(1).set(&old).await.unwrap();
    assert_eq!(Letter::get(&old, 1).await.unwrap(), Some(letter(1)));
    assert_eq!(Letter::get(&new, 1).await.unwrap(), Some(letter(1)));
}

async fn an_entry_under_a_retired_key_is_replaced_by_a_load(on: On) {
    if on == On::Memory {
        return;
    }
    let old = store(on, "retired-key", first()).await;
    let new = store(on, "retired-key", EncryptionKeys::new(2, TWO)).await;
    letter(1).set(&old).await.unwrap();
    assert_eq!(Letter::get(&new, 1).await.unwrap(), None);
    assert_eq!((new.stats().corrupt(), undecrypted(&new)), (0, 1));
    assert_eq!(
        Letter::get(&old, 1).await.unwrap(),
        Some(letter(1)),
        "no read removes it"
    );
    assert!(is_stored_by_a_load(&new).await);
    assert_eq!(Letter::get(&new, 1).await.unwrap(), Some(letter(1)));
    // Tagged and timed ones too.
    person(1).set(&old).await.unwrap();
    let loaded = Person::get_or_load(&new, 1, async || Ok::<_, ()>(person(1))).await;
    assert_eq!(loaded, Ok(person(1)));
    assert_eq!(Person::get(&new, 1).await.unwrap(), Some(person(1)));
}

async fn plain_text_is_not_accepted_unless_the_store_says_so(on: On) {
    let namespace = "downgrade";
    let strict = store(on, namespace, first()).await;
    let plain = PlainLetter {
        id: 1,
        text: "forged".into(),
    };
    plain.set(&strict).await.unwrap();
    assert_eq!(Letter::get(&strict, 1).await.unwrap(), None);
    assert!(!Letter::exists(&strict, 1).await.unwrap());
    assert_eq!((strict.stats().corrupt(), undecrypted(&strict)), (0, 1));
    let kept = PlainLetter::get(&strict, 1).await.unwrap();
    assert_eq!(kept, Some(plain.clone()), "no read removes it");
    assert!(is_stored_by_a_load(&strict).await);
    assert_eq!(Letter::get(&strict, 1).await.unwrap(), Some(letter(1)));
    // The type that does not encrypt reads what is encrypted: a release can be taken back.
    let back = PlainLetter::get(&strict, 1).await.unwrap();
    assert_eq!(back.map(|letter| letter.text), Some(letter(1).text));
    if on == On::Memory {
        return;
    }
    plain.set(&strict).await.unwrap();
    let lenient = builder(on, namespace)
        .encryption_keys(first())
        .accept_plaintext();
    let lenient = lenient.connect().await.unwrap();
    let read = Letter::get(&lenient, 1).await.unwrap();
    assert_eq!(read.map(|letter| letter.text), Some("forged".into()));
}

async fn without_keys_the_first_use_is_an_error(on: On) {
    let store = builder(on, "no-keys").connect().await.unwrap();
    for error in [
        letter(1).set(&store).await.unwrap_err(),
        Letter::get(&store, 1).await.unwrap_err(),
        Letter::get_many(&store, [1]).await.unwrap_err(),
        Letter::exists(&store, 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        for part in [
            "::Letter` is encrypted",
            "VALKEY_ENCRYPTION_KEYS",
            "Builder::encryption_keys",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    // A load goes on without the cache, and nothing is stored.
    assert!(!is_stored_by_a_load(&store).await);
    assert!(store.stats().errors(ErrorKind::Config) >= 6);
    // An invalidation needs no key.
    Letter::del(&store, 1).await.unwrap();
    let keys = self::store(on, "no-keys", first()).await;
    if on != On::Memory {
        assert_eq!(Letter::get(&keys, 1).await.unwrap(), None);
        // To a type that does not encrypt, an encrypted entry is as one under a newer key.
        letter(1).set(&keys).await.unwrap();
        assert_eq!(PlainLetter::get(&store, 1).await.unwrap(), None);
        assert_eq!(undecrypted(&store), 1);
        assert_eq!(Letter::get(&keys, 1).await.unwrap(), Some(letter(1)));
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "letter", ttl = "1h", version = 2, encrypt)]
struct LetterV2 {
    #[cached(key)]
    id: u64,
    text: String,
}

/// The entry with another key's hash or version in its header, and its checksum.
fn forged(mut entry: Vec<u8>, of: &str, version: u16) -> Vec<u8> {
    let key = xxhash_rust::xxh3::xxh3_64(of.as_bytes()) as u32;
    entry[4..6].copy_from_slice(&version.to_be_bytes());
    entry[21..25].copy_from_slice(&key.to_be_bytes());
    let seed = u64::from(entry[30]) << 56 | u64::from(version) << 32 | u64::from(key);
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&entry[35..], seed) as u32;
    entry[26..30].copy_from_slice(&sum.to_be_bytes());
    entry
}

async fn an_entry_of_another_key_version_or_type_is_not_accepted() {
    let on = On::Plain;
    let store = store(on, "moved", first()).await;
    letter(1).set(&store).await.unwrap();
    let (one, two) = ("moved:letter:1", "moved:letter:2");
    let entry = on.stored(one);
    put(on, one, &forged(entry.clone(), one, 1));
    assert_eq!(
        Letter::get(&store, 1).await.unwrap(),
        Some(letter(1)),
        "the forger is able"
    );
    put(on, two, &forged(entry.clone(), two, 1));
    assert_eq!(Letter::get(&store, 2).await.unwrap(), None);
    assert_eq!(store.stats().corrupt(), 1);
    put(on, one, &forged(entry.clone(), one, 2));
    assert_eq!(LetterV2::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.stats().corrupt(), 2);
    let mut compressed = entry.clone();
    compressed[30] |= 1;
    put(on, one, &forged(compressed, one, 1));
    assert_eq!(Letter::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.stats().corrupt(), 3);
    // In another namespace the key is another one.
    let other = self::store(on, "moved-away", first()).await;
    put(
        on,
        "moved-away:letter:1",
        &forged(entry, "moved-away:letter:1", 1),
    );
    assert_eq!(Letter::get(&other, 1).await.unwrap(), None);
    assert_eq!(other.stats().corrupt(), 1);
}

async fn a_changed_byte_is_corrupt() {
    let on = On::Plain;
    let store = store(on, "tampered", first()).await;
    let key = "tampered:letter:1";
    letter(1).set(&store).await.unwrap();
    let entry = on.stored(key);
    // After the number of the key: the nonce, the document and the tag.
    let mut corrupt = 0;
    for at in (44..entry.len()).step_by(7).chain([entry.len() - 1]) {
        let mut changed = entry.clone();
        changed[at] ^= 1;
        put(on, key, &forged(changed, key, 1));
        assert_eq!(Letter::get(&store, 1).await.unwrap(), None, "byte {at}");
        corrupt += 1;
        assert_eq!(store.stats().corrupt(), corrupt);
        assert_eq!(on.raw(&["EXISTS", key]), Value::Integer(0));
    }
    // Another key under the same number.
    put(on, key, &entry);
    let wrong = self::store(on, "tampered", EncryptionKeys::new(1, TWO)).await;
    assert_eq!(Letter::get(&wrong, 1).await.unwrap(), None);
    assert_eq!(wrong.stats().corrupt(), 1);
}

async fn settings_of_keys() {
    let refused = |text: &str| text.parse::<EncryptionKeys>().unwrap_err();
    let hex = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
    let keys: EncryptionKeys = format!("7:{hex}, 1:{hex}").parse().unwrap();
    assert_eq!(format!("{keys:?}"), "EncryptionKeys([7, 1])");
    for text in [
        "",
        "1",
        "1:",
        &hex,
        &format!("1:{hex}0"),
        &format!("x:{hex}"),
        &format!("1:{hex},"),
    ] {
        let error = refused(text);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!error.to_string().contains("0123"), "{error}");
    }
    let twice = refused(&format!("1:{hex},1:{hex}")).to_string();
    assert!(
        twice.contains("two encryption keys have the number 1"),
        "{twice}"
    );
    let twice = first().and(1, TWO);
    let error = Store::builder().memory().encryption_keys(twice).connect();
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Config);

    let variables = move |keys: String| {
        Builder::from_variables(move |name| match name {
            "VALKEY_URL" => Some("memory:".into()),
            "VALKEY_ENCRYPTION_KEYS" => Some(keys.clone()),
            _ => None,
        })
    };
    let builder = variables(format!("1:{hex}")).unwrap();
    assert!(!format!("{builder:?}").contains("0123"), "{builder:?}");
    let store = builder.connect().await.unwrap();
    letter(1).set(&store).await.unwrap();
    assert_eq!(Letter::get(&store, 1).await.unwrap(), Some(letter(1)));
    let error = variables(hex.clone()).unwrap_err().to_string();
    assert!(
        error.contains("VALKEY_ENCRYPTION_KEYS: encryption key 1"),
        "{error}"
    );
    assert!(!error.contains(&hex), "{error}");
}
