//! The test vectors of the envelope. The code makes them here, together with each reader's result
//! under the epochs of the vector file. The test compares them with
//! `docs/internals/envelope-vectors.json`, which the readers of `tests/readers` check, and with
//! `docs/internals/envelope.md`, which shows them all. (After an intended change: empty that file,
//! and the test prints its new content.)

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::ManualClock;
use crate::base::error::ErrorKind;
use crate::base::ttl::Ttl;
use crate::core::store::Store;
use crate::protocol::envelope::epoch::{Epoch, Soft};
use crate::protocol::envelope::flags::Flags;
use crate::protocol::envelope::timing::{Claim, Timing};
use crate::protocol::envelope::{Head, Header, HeaderBytes, Kind, Standing, head, standing, tags};
use crate::protocol::found::Found;
use crate::schema::policy::{OnCorrupt, Policy};
use crate::schema::shape::Shape;
use crate::schema::shape::fingerprint::Fingerprint;
use crate::value::codec;
use crate::value::pack::Packing;
use crate::value::read_back::ReadBack;
use crate::{Cached, CachedType};

const FILE: &str = include_str!("../../../docs/internals/envelope-vectors.json");
const PAGE: &str = include_str!("../../../docs/internals/envelope.md");

/// The reader's version.
const VERSION: u16 = 2;
/// The beginning of 2026, with `abc` as the random bits.
const STAMP: u64 = 1_767_225_600_000_000 << 12 | 0xabc;
/// The time between the stamp and the reading of the entries.
const LATER: Duration = Duration::from_secs(60);
/// The time of the reading, in milliseconds.
const NOW: u64 = STAMP / 4_096_000 + 60_000;
/// The clock of the entries that have one.
const CLOCK: u64 = STAMP >> 12;
const SECOND: u64 = 1_000_000;
/// The key of the entries.
const KEY: &[u8] = b"user:42";

/// The reader. For it a corrupt entry is an error, and stays.
#[derive(Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

impl CachedType for User {
    const PREFIX: &'static str = "user";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = VERSION;
    const POLICY: Policy = Policy::new()
        .on_corrupt(OnCorrupt::Error)
        .keep_corrupt()
        .show_keys();
    type Guarding = crate::schema::guarding::BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

/// The same with the default policy: a corrupt entry is a miss, and is removed.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Lenient(User);

impl CachedType for Lenient {
    const PREFIX: &'static str = User::PREFIX;
    const TTL: Ttl = User::TTL;
    const VERSION: u16 = VERSION;
    type Guarding = crate::schema::guarding::BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

/// The reader with the compact layout.
#[derive(Debug, Serialize, Deserialize)]
struct Compact {
    id: u64,
    name: String,
}

impl CachedType for Compact {
    const PREFIX: &'static str = User::PREFIX;
    const TTL: Ttl = User::TTL;
    const VERSION: u16 = VERSION;
    const POLICY: Policy = User::POLICY;
    const SHAPE: u32 =
        Fingerprint::structure(&[("id", u64::FINGERPRINT), ("name", String::FINGERPRINT)])
            .in_arrays()
            .to_u32();
    type Guarding = crate::schema::guarding::BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

/// The header of a value with this freshness and claim.
fn timed(until: u64, claim: Claim) -> HeaderBytes {
    Header {
        timing: Some(Timing { until, claim }),
        ..Header::value(VERSION, STAMP).of(KEY)
    }
    .to_bytes()
}

/// The entry with this header and payload, and its checksum if it has one.
fn entry(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [header, payload].concat();
    if let Head::Known(header) = head(&bytes)
        && matches!(header.kind, Kind::Value | Kind::Absence)
    {
        header.seal(&mut bytes);
    }
    bytes
}

/// A value with these flags and this payload.
fn packed(flags: u8, payload: &str) -> Vec<u8> {
    let header = Header {
        flags: Flags::from_byte(flags).unwrap(),
        ..Header::value(VERSION, STAMP).of(KEY)
    };
    let payload = payload.as_bytes().chunks(2).map(|pair| {
        let pair = str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    });
    entry(&header.to_bytes(), &payload.collect::<Vec<_>>())
}

/// A header with a clock, and these tags after it.
fn tagged(header: Header, names: &[&str]) -> Vec<u8> {
    let clock = Some(CLOCK);
    let mut bytes = Header { clock, ..header }.to_bytes().to_vec();
    tags::write(names.iter().copied(), &mut bytes);
    bytes
}

/// The known epochs of tags when the entries are read.
pub(crate) fn epochs() -> [(&'static str, Epoch); 5] {
    let before = Epoch::new(CLOCK - SECOND);
    let halfway = CLOCK + 30 * SECOND;
    let expired = |length| Epoch {
        soft: Some(Soft {
            due: 0,
            clock: halfway,
            start: NOW - 30_000,
            length,
        }),
        ..before
    };
    [
        ("tag:org:7", before),
        ("type:user", before),
        ("tag:org:8", Epoch::new(halfway)),
        ("tag:catalog", expired(10_000)),
        ("tag:prices", expired(3_600_000)),
    ]
}

/// Name and bytes of each vector.
pub(crate) fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let header = |kind, version, shape| {
        let of = match kind {
            Kind::Value | Kind::Absence => Header::value(version, STAMP).of(KEY),
            Kind::Lease | Kind::Guard => Header::value(version, STAMP),
        };
        Header { kind, shape, ..of }.to_bytes()
    };
    let own = header(Kind::Value, VERSION, 0);
    let (fresh, stale) = (NOW + 240_000, NOW - 30_000);
    let loader = Claim::new(0x0a_0b0c, NOW, 1000);
    let pause = Claim::new(0, NOW, 5000);
    let claimed = timed(fresh, loader);
    let at_31 = |kind| [&header(kind, VERSION, 0)[..31], &claimed[31..]].concat();
    let without_claim = [&claimed[..40], &[0xc0; 3]].concat();
    let ada = b"\x82\xa2id\x2a\xa4name\xa3Ada".to_vec();
    let damaged = |at: usize, byte| {
        let mut bytes = entry(&own, &ada);
        bytes[at] = byte;
        bytes
    };
    let later_and_longer = [&[0x9e, 2], &own[2..], &[0xc0], &ada].concat();
    let shortest_integers = [&[0x9d, 1, 0, 2, 0], &own[11..], &ada].concat();
    let another = Header::value(VERSION, STAMP).of(b"user:43").to_bytes();
    let version_raised = {
        let mut bytes = entry(&header(Kind::Value, 1, 0), &ada);
        bytes[5] = VERSION as u8;
        bytes
    };
    let plain = Header::value(VERSION, STAMP).of(KEY);
    let lasting = Header {
        timing: Some(Timing::fresh_until(fresh)),
        ..plain
    };
    let clock_alone = [&own[..33], &tagged(plain, &[])[33..42], b"\xc0"].concat();
    let one_tag_of_two = {
        let mut bytes = tagged(plain, &["tag:org:7"]);
        bytes[42] += 1;
        bytes
    };
    let unknown_flag = {
        let mut bytes = [&own[..], &ada].concat();
        bytes[30] = 8;
        let content = &ada;
        let header = Header::value(VERSION, STAMP).of(KEY);
        let seed = 8 << 56 | u64::from(VERSION) << 32 | u64::from(header.key);
        let sum = xxhash_rust::xxh3::xxh3_64_with_seed(content, seed) as u32;
        bytes[26..30].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let text = br#"{"id":42,"name":"Ada","born":1815,"died":1852}"#;

    vec![
        ("a value", entry(&own, &ada)),
        (
            "other order, unknown field",
            entry(&own, b"\x83\xa4name\xa3Ada\xa4born\xcd\x07\x17\xa2id\x2a"),
        ),
        ("fresh", entry(&timed(fresh, Claim::NONE), &ada)),
        ("fresh, claimed", entry(&claimed, &ada)),
        ("with a tag", entry(&tagged(plain, &["tag:org:7"]), &ada)),
        (
            "fresh, with two tags",
            entry(&tagged(lasting, &["tag:org:7", "type:user"]), &ada),
        ),
        (
            "to fall due by its tag",
            entry(&tagged(lasting, &["tag:prices"]), &ada),
        ),
        (
            "compressed by zstd",
            packed(1, "c60000001b0000000e28b52ffd200e71000082a269642aa46e616d65a3416461"),
        ),
        (
            "compressed by LZ4",
            packed(2, "c6000000130000000ee082a269642aa46e616d65a3416461"),
        ),
        ("not fresh", entry(&timed(stale, Claim::NONE), &ada)),
        ("not fresh, claimed", entry(&timed(stale, loader), &ada)),
        ("not fresh, paused", entry(&timed(stale, pause), &ada)),
        ("expired by hand", entry(&timed(0, Claim::NONE), &ada)),
        (
            "fallen due by its tag",
            entry(&tagged(lasting, &["tag:catalog"]), &ada),
        ),
        (
            "tag invalidated",
            entry(&tagged(plain, &["tag:org:7", "tag:org:8"]), &ada),
        ),
        (
            "tag unknown",
            entry(&tagged(plain, &["tag:org:9"]), &ada),
        ),
        ("older version", entry(&header(Kind::Value, 1, 0), &ada)),
        ("newer version", entry(&header(Kind::Value, 3, 0), &ada)),
        (
            "another shape",
            entry(&header(Kind::Value, VERSION, 0x0102_0304), &ada),
        ),
        ("absence", entry(&header(Kind::Absence, VERSION, 0), b"\xc0")),
        (
            "absence with a tag",
            entry(
                &tagged(Header::absence(VERSION, STAMP).of(KEY), &["tag:org:7"]),
                b"\xc0",
            ),
        ),
        (
            "lease",
            entry(
                &header(Kind::Lease, 0, 0),
                b"\xc4\x08\x01\x02\x03\x04\x05\x06\x07\x08",
            ),
        ),
        (
            "guard",
            entry(
                &header(Kind::Guard, 0, 0),
                b"\x92\xc2\xdc\0\x01\x92\xc4\x08\x01\x02\x03\x04\x05\x06\x07\x08\xcf\0\0\x01\x9b\x76\xda\xcf\x10",
            ),
        ),
        (
            "encrypted",
            packed(4, "c60000003a00000007000102030405060708090a0b0c0d0e0f1011121314151617fa72b2e1b735b9e98e23c9097053693df2a9ccd97a46cdd1b37e3b799f06"),
        ),
        (
            "compressed and encrypted",
            packed(6, "c60000003f00000007000102030405060708090a0b0c0d0e0f101112131415161778d0db8b7d1375e1876cce26755f1313b4d2fd9dfa00a2bdf626b6348c495300f7a7b0"),
        ),
        ("later format", damaged(1, 2)),
        ("later format, 14 elements", later_and_longer),
        ("unknown flag", unknown_flag),
        ("reserved element in use", damaged(31, 1)),
        ("freshness of an absence", entry(&at_31(Kind::Absence), b"\xc0")),
        ("freshness without claim", entry(&without_claim, &ada)),
        ("clock without tags", entry(&clock_alone, &ada)),
        (
            "header alone",
            entry(
                &Header::value(VERSION, 0x0123_4567_89ab_cdef).of(KEY).to_bytes(),
                b"",
            ),
        ),
        ("another key's entry", entry(&another, &ada)),
        ("a bit flipped", damaged(own.len() + ada.len() - 1, b'a' ^ 1)),
        (
            "another version's checksum",
            version_raised,
        ),
        ("payload cut short", entry(&own, &ada[..ada.len() - 1])),
        ("byte after the payload", entry(&own, &[&ada[..], b"\xc0"].concat())),
        ("false length", entry(&own, b"\xdd\xff\xff\xff\xff\x01")),
        ("reserved byte", entry(&own, b"\x82\xa2id\xc1\xa4name\xa3Ada")),
        ("another shape of value", entry(&own, b"\x82\xa2id\x2a\xa5title\xa5Notes")),
        ("text for a number", entry(&own, b"\x82\xa2id\xa242\xa4name\xa3Ada")),
        ("129 levels", entry(&own, &[&[0x91; 129][..], b"\xc0"].concat())),
        ("header cut short", own[..34].to_vec()),
        ("timed header cut short", claimed[..50].to_vec()),
        ("clock cut short", tagged(plain, &[])[..42].to_vec()),
        ("a tag too few", entry(&one_tag_of_two, &ada)),
        ("unknown kind", damaged(2, 4)),
        ("shortest integers", shortest_integers),
        ("bare payload", ada),
        ("text", text.to_vec()),
    ]
}

/// Name and bytes of each vector for the reader with the compact layout.
fn compact_vectors() -> Vec<(&'static str, Vec<u8>)> {
    let header = Header {
        shape: Compact::SHAPE,
        ..Header::value(VERSION, STAMP).of(KEY)
    };
    let own = header.to_bytes();
    let ada = b"\x92\x2a\xa3Ada";
    let named = b"\x82\xa2id\x2a\xa4name\xa3Ada";
    let other = |shape| Header { shape, ..header }.to_bytes();
    let zstd = Header {
        flags: Flags::from_byte(1).unwrap(),
        ..header
    };
    let packed = b"\xc6\0\0\0\x13\0\0\0\x06\x28\xb5\x2f\xfd\x20\x06\x31\0\0\x92\x2a\xa3Ada";
    vec![
        ("compact", entry(&own, ada)),
        (
            "compact, with a tag",
            entry(&tagged(header, &["tag:org:7"]), ada),
        ),
        (
            "compact, compressed by zstd",
            entry(&zstd.to_bytes(), packed),
        ),
        ("compact, another shape", entry(&other(0x0102_0304), ada)),
        ("compact, no shape", entry(&other(0), named)),
        ("compact, a map", entry(&own, named)),
        ("compact, a field too few", entry(&own, b"\x91\x2a")),
        (
            "compact, a field too many",
            entry(&own, b"\x93\x2a\xa3Ada\xc0"),
        ),
        ("compact, other order", entry(&own, b"\x92\xa3Ada\x2a")),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The freshness and the claim in a header.
fn times(Timing { until, claim }: Timing) -> String {
    let (claimed, token) = ((claim.to_bits() >> 24) * 10, claim.token());
    format!(
        r#", "fresh_until_millis": {until}, "claimed_until_millis": {claimed}, "claim_token": {token}"#
    )
}

fn flags_of(header: Header) -> String {
    match header.flags.bits() {
        0 => String::new(),
        bits => format!(r#", "flags": {bits}"#),
    }
}

/// The clock and the tags of an entry; null if the tags are damaged.
fn tags_of(bytes: &[u8], header: Header, clock: u64) -> String {
    let names: Option<Vec<&str>> = tags::read(&bytes[header.len()..]).collect();
    let names = names.map_or("null".into(), |names| format!("{names:?}"));
    format!(r#", "clock": {clock}, "tags": {names}"#)
}

/// The vector as an object of the file, with the code's results: for a reader of this shape, and
/// what it gives.
fn described(
    (name, bytes): (&str, &[u8]),
    shape: u32,
    given: Result<Option<(u64, String)>, String>,
) -> String {
    let mut json = format!(
        "    {{\n      \"name\": {name:?},\n      \"hex\": {:?},\n",
        hex(bytes)
    );
    let header = match head(bytes) {
        Head::Known(header) => {
            let (micros, random) = (header.stamp >> 12, header.stamp & 0xfff);
            format!(
                r#"{{ "kind": "{}", "version": {}, "shape": {}, "stamp_micros": {micros}, "stamp_random": {random}, "key": {}, "sum": {}{}{}{} }}"#,
                format!("{:?}", header.kind).to_lowercase(),
                header.version,
                header.shape,
                header.key,
                header.sum,
                flags_of(header),
                header.timing.map_or_else(String::new, times),
                header
                    .clock
                    .map_or_else(String::new, |clock| tags_of(bytes, header, clock)),
            )
        }
        Head::Newer => "\"newer\"".to_owned(),
        Head::Corrupt(_) => "null".to_owned(),
    };
    let standing = match standing(head(bytes), VERSION, shape, || NOW) {
        Standing::Own => "own",
        Standing::Stale => "stale",
        Standing::Replaceable => "replaceable",
        Standing::Protected => "protected",
        Standing::Corrupt(_) => "corrupt",
    };
    let get = match given {
        Ok(Some((id, name))) => {
            format!(r#""value", "value": {{ "id": {id}, "name": {name:?} }}"#)
        }
        Ok(None) => r#""miss""#.to_owned(),
        Err(why) => format!(r#""corrupt", "why": {why:?}"#),
    };
    let get = get.replacen(", ", ",\n      ", 1);
    write!(
        json,
        "      \"header\": {header},\n      \"standing\": \"{standing}\",\n      \"get\": {get}\n    }}"
    )
    .unwrap();
    json
}

/// The result of `get` for these bytes, or the reason why they are corrupt.
async fn read<T>(bytes: &[u8]) -> (Result<Option<T>, String>, Store)
where
    T: for<'k> CachedType<Key<'k> = u64>,
{
    let clock = Arc::new(ManualClock::new());
    clock.advance(LATER);
    let store = Store::builder().memory().clock(clock).connect();
    let store = store.await.unwrap();
    assert_eq!(store.inner().now_millis(), NOW);
    let backend = &store.inner().gateway;
    for (name, epoch) in epochs() {
        let key = format!("::{name}");
        let epoch = epoch.to_bytes();
        backend.set(key.as_bytes(), epoch, None).await.unwrap();
    }
    backend.set(KEY, bytes.to_vec(), None).await.unwrap();
    let result = T::get(&store, 42).await.map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let message = error.to_string();
        message
            .strip_prefix("get user:42: corrupt: ")
            .unwrap()
            .to_owned()
    });

    (result, store)
}

async fn read_by_name(bytes: &[u8]) -> Result<Option<(u64, String)>, String> {
    let (result, store) = read::<User>(bytes).await;
    let lenient = Lenient::get(&store, 42).await.unwrap();
    assert_eq!(lenient.is_some(), matches!(result, Ok(Some(_))));
    let left = store.inner().gateway.get(KEY).await.unwrap();
    assert_eq!(
        left == Found::Nothing,
        result.is_err(),
        "only what is corrupt is removed"
    );
    result.map(|user| user.map(|User { id, name }| (id, name)))
}

async fn read_by_position(bytes: &[u8]) -> Result<Option<(u64, String)>, String> {
    let (result, _) = read::<Compact>(bytes).await;
    result.map(|user| user.map(|Compact { id, name }| (id, name)))
}

#[tokio::test]
async fn the_file_holds_what_the_code_writes_and_how_it_reads() {
    let mut objects = Vec::new();
    for (name, bytes) in vectors() {
        let given = read_by_name(&bytes).await;
        objects.push(described((name, &bytes), 0, given));
    }
    let mut compact = Vec::new();
    for (name, bytes) in compact_vectors() {
        let given = read_by_position(&bytes).await;
        compact.push(described((name, &bytes), Compact::SHAPE, given));
    }
    let known = epochs().map(|(name, epoch)| format!("    {name:?}: {:?}", hex(&epoch.to_bytes())));
    let file = format!(
        "{{\n  \"about\": \"Entries of the envelope (envelope.md), and what a reader of version {VERSION} of `struct User {{ id: \
         u64, name: String }}` makes of each, a minute after the stamp, where no other epochs are known. `standing` is what the header \
         alone says. The reader of the compact vectors has `layout = \\\"compact\\\"`, and this shape.\",\n  \"now_millis\": {NOW},\n  \"epochs\":          {{\n{}\n  }},\n  \"vectors\": [\n{}\n  ],\n  \"compact_shape\": {},\n  \"compact_vectors\": [\n{}\n  ]\n}}\n",
        known.join(",\n"),
        objects.join(",\n"),
        Compact::SHAPE,
        compact.join(",\n")
    );
    for (number, (made, written)) in file.lines().zip(FILE.lines()).enumerate() {
        assert_eq!(
            made,
            written,
            "line {} of docs/internals/envelope-vectors.json",
            number + 1
        );
    }
    assert_eq!(
        file.len(),
        FILE.len(),
        "docs/internals/envelope-vectors.json should be\n{file}"
    );
}

#[test]
fn the_first_vector_is_what_the_codec_writes() {
    let ada = User {
        id: 42,
        name: "Ada".into(),
    };
    let limits = codec::Limits {
        size: 100,
        expansion: codec::EXPANSION,
    };
    let header = Header::value(VERSION, STAMP).of(KEY);
    let read_back = ReadBack::every(0);
    let written = codec::encode(header, None, &ada, limits, &read_back, Packing::NONE).unwrap();
    assert_eq!(hex(&written), hex(&vectors()[0].1));
}

#[test]
fn the_page_shows_every_vector() {
    let epochs = epochs().map(|(name, epoch)| (name, epoch.to_bytes()));
    let shown = vectors().into_iter().chain(compact_vectors());
    for (name, bytes) in shown.chain(epochs) {
        let hex = hex(&bytes);
        let shows = |line: &str| line.starts_with(name) && line.ends_with(&format!(" {hex}"));
        assert!(
            PAGE.lines().any(shows),
            "docs/internals/envelope.md has no line `{name}  {hex}`"
        );
    }
}
