//! The fuzzed parts, and the promises that each must keep for any bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::error::ErrorKind;
use crate::config::{Builder, url};
use crate::key;
use crate::key::read::ReadKey;
use crate::key::writer::KeyWriter;
use crate::model::fuzz::{Target, asked, changed, outcome};
use crate::model::vectors;
use crate::protocol::envelope::Kind as Is;
use crate::protocol::envelope::epoch::Epoch;
use crate::protocol::envelope::placeholder::{Guard, Name};
use crate::protocol::envelope::{Head, Header, Standing, bounds, head, standing, tags};
use crate::protocol::rate::{self, Act, Ask, Rule, STATE, Then};
use crate::protocol::transition::{
    self, Becomes, Change, Fingerprint, Placing, Put, Raise, Read, Rejected, Swap, Tick, Verb,
};
use crate::value::codec::encode::encode_to;
use crate::value::codec::{self, private};

/// All targets. Whatever else reads bytes from outside belongs here.
pub(super) const ALL: &[Target] = &[
    Target {
        name: "envelope",
        run: envelope,
        seeds: entries,
        words: MARKERS,
    },
    Target {
        name: "transition",
        run: transition,
        seeds: entries,
        words: MARKERS,
    },
    Target {
        name: "key",
        run: key,
        seeds: keys,
        words: &[
            b":",
            b"%3A",
            b"%25",
            b"%7B",
            b"{",
            b"}",
            b"0",
            b"-",
            b"2026-01-01T000000Z",
        ],
    },
    Target {
        name: "limit",
        run: limit,
        seeds: states,
        words: &[
            b"g",
            b"f",
            b"s",
            b"0000000000000000",
            b"9999999999999999",
            b"0004503599627370",
        ],
    },
    Target {
        name: "value",
        run: value,
        seeds: values,
        words: MARKERS,
    },
    Target {
        name: "packed",
        run: changed::packed,
        seeds: entries,
        words: MARKERS,
    },
    Target {
        name: "migration",
        run: changed::migration,
        seeds: entries,
        words: MARKERS,
    },
    Target {
        name: "config",
        run: config,
        seeds: urls,
        words: &[
            b"valkey://",
            b"valkeys://",
            b"+cluster",
            b"unix:",
            b"memory:",
            b"@",
            b":",
            b"/",
            b"?",
            b"#",
            b"%2F",
            b"namespace=",
            b"db=",
            b"user=",
            b"pass=",
            b"[::1]",
            b",",
            b"6379",
        ],
    },
    Target {
        name: "asked",
        run: asked::asked,
        seeds: asked::states,
        words: &[
            b"k",
            b"-",
            b"0000000000000001",
            b"9007199254740991",
            b"1767225600000000",
        ],
    },
];

const MARKERS: &[&[u8]] = &[
    b"\xc0",
    b"\x80",
    b"\x90",
    b"\x81\xa1A",
    b"\xa0",
    b"\xc1",
    b"\xc4\x08",
    b"\xcf",
    b"\xd9\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"$serde_json::private::Number",
    b"\xbc$serde_json::private::Number",
];

/// The time of the vectors' reading, in microseconds.
const NOW: u64 = 1_767_225_660_000_000;
const VERSION: u16 = 2;

fn entries() -> Vec<Vec<u8>> {
    let epochs = vectors::epochs().map(|(_, epoch)| epoch.to_bytes());
    let entries = vectors::vectors().into_iter().map(|(_, bytes)| bytes);
    entries.chain(epochs).collect()
}

/// A header that is read is written as the same bytes, and nothing beyond the entry is looked at.
fn envelope(bytes: &[u8]) -> u64 {
    let found = head(bytes);
    let seen = match found {
        Head::Known(header) => {
            let written = header.to_bytes();
            assert_eq!(bytes[..written.len()], written[..]);
            let payload = header.payload_at(bytes);
            assert!(payload.is_none_or(|at| at <= bytes.len()));
            let names = header.tags(bytes).count();
            assert!(names <= bytes.len() + 1);
            let kind = format!("{:?}", header.kind);
            let sealed = header.is_seal_of(bytes);
            let timed = header.timing.map(|timing| timing.is_fresh(NOW / 1000));
            outcome((kind, sealed, timed, payload.is_some(), names))
        }
        Head::Newer => {
            // A later format, or an element that this format reserves.
            assert!((0x90..=0x9f).contains(&bytes[0]) && bytes.len() >= 35);
            outcome((
                bytes[1],
                bytes[30..33]
                    .iter()
                    .map(|byte| *byte == 0xc0)
                    .collect::<Vec<_>>(),
            ))
        }
        Head::Corrupt(why) => outcome(why),
    };
    let standings = [1, VERSION, u16::MAX].map(|version| {
        let standing = standing(head(bytes), version, 0, || NOW / 1000);
        matches!(standing, Standing::Protected)
    });
    let epoch = Epoch::from_bytes(bytes).map(|epoch| {
        assert_eq!(epoch.to_bytes(), bytes);
        let clock = epoch.newest();
        assert_eq!(
            Epoch::from_bytes(&epoch.raised(clock).to_bytes()),
            Some(epoch.raised(clock))
        );
        let judged = epoch.judge(clock, NOW << 12);
        (format!("{judged:?}").len(), epoch.soft.is_some())
    });
    let guard = Guard::from_bytes(bytes).map(|guard| {
        assert_eq!(Guard::from_bytes(&guard.to_bytes()), Some(guard.clone()));
        (guard.shared, guard.writers.len())
    });
    let lease = Name::of_lease(bytes).is_some();
    let tags = tags::length(bytes).is_some();
    outcome((seen, standings, epoch, guard, lease, tags))
}

/// An entry that must stay is not replaced, and an entry that is made can be read.
fn transition(bytes: &[u8]) -> u64 {
    let put = Put {
        versions: VERSION.into(),
        bytes: b"entry",
        ttl: Some(1000),
    };
    let verbs = [
        Verb::SetIfAbsent(put, None, u64::MAX),
        Verb::SetIfPresent(put, None),
        Verb::Swap(Swap {
            read: Read::Nothing {
                rejected: None,
                newer_wins: u64::MAX,
            },
            put,
            becomes: Becomes::StoredForTheRest,
            again: true,
        }),
        Verb::SetOnlyCopy { put, absent: false },
        Verb::SetOnlyCopy { put, absent: true },
        Verb::Delete(None),
        Verb::MarkStale { keep: 1000 },
        Verb::Raise(Raise {
            clock: NOW,
            over: Some(1000),
        }),
        Verb::RemoveIfSame(Fingerprint::of(bytes)),
        Verb::RenewGuard {
            token: 0x0102_0304_0506_0708,
            life: 1000,
        },
        Verb::Leave {
            token: 0x0102_0304_0506_0708,
            hold: 0,
        },
    ];
    let newer = matches!(head(bytes), Head::Newer);
    let mut seen = Vec::new();
    for verb in &verbs {
        let (change, done) = transition::apply(Some(bytes), verb, NOW);
        let stays = matches!(change, Change::Keep);
        match verb {
            Verb::SetIfAbsent(..)
            | Verb::SetIfPresent(..)
            | Verb::Swap(_)
            | Verb::SetOnlyCopy { .. }
                if newer =>
            {
                assert!(stays && !done);
            }
            Verb::RemoveIfSame(_) => assert_eq!((&change, done), (&Change::Remove, true)),
            _ => {}
        }
        seen.push((made(&change, bytes), done));
    }
    for rejected in [
        Rejected::None,
        Rejected::Stamp(NOW),
        Rejected::Any {
            version: VERSION,
            newer_wins: u64::MAX,
        },
    ] {
        let lease = Placing::Lease {
            token: 7,
            life: 1000,
            rejected,
        };
        let change = transition::apply_placing(Some(bytes), &lease, NOW);
        if newer && !matches!(rejected, Rejected::Any { .. }) {
            assert_eq!(change, Change::Keep);
        }
        seen.push((made(&change, bytes), false));
    }
    let enter = Placing::Enter {
        token: 7,
        life: 1000,
        ours: true,
    };
    seen.push((
        made(&transition::apply_placing(Some(bytes), &enter, NOW), bytes),
        true,
    ));
    let clock = transition::clock(Some(bytes), Tick::Advance, NOW);
    assert!(transition::recent_clock(clock.to_string().as_bytes(), NOW) == Some(clock));
    let left_over = transition::is_left_over(bytes, NOW);
    // The verbs do few things, but for many reasons.
    outcome((envelope(bytes), seen, clock == NOW, left_over))
}

/// The kind of a change, after a check of the entry that it makes.
fn made(change: &Change<'_>, before: &[u8]) -> u8 {
    match change {
        Change::Keep => 0,
        Change::Remove => 1,
        Change::Put { bytes, .. } if &**bytes == b"entry" => 2,
        Change::Put { bytes, .. } => {
            let is_epoch = Epoch::from_bytes(bytes).is_some();
            let is_entry = matches!(head(bytes), Head::Known(_));
            assert!(is_epoch || is_entry, "{bytes:x?}");
            3
        }
        Change::Live(_) => 4,
        Change::Replace(bytes) => {
            assert!(!bytes.is_empty());
            5
        }
        Change::Rewrite { header, .. } => {
            assert!(header.len() <= before.len());
            assert!(
                matches!(
                    head(header),
                    Head::Known(Header {
                        kind: Is::Value,
                        ..
                    })
                ) || header.len() > 51
            );
            6
        }
    }
}

fn keys() -> Vec<Vec<u8>> {
    let keys = [
        "42",
        "-7",
        "a%3Ab",
        "7:ada",
        "{7}:ada",
        "2026-01-01",
        "",
        "%",
        "true",
        "x:1:y",
    ];
    keys.map(|key| key.as_bytes().to_vec()).to_vec()
}

/// A key that is read is written as the same bytes.
fn key(bytes: &[u8]) -> u64 {
    fn read<P: ReadKey<Read = P>>(bytes: &[u8]) -> bool {
        let Some(key) = key::read::read::<P>(bytes) else {
            return false;
        };
        let mut again = KeyWriter::new("", "");
        P::write(key.key_ref(), &mut again);
        assert_eq!(
            &again.into_bytes()[1..],
            bytes,
            "{}",
            std::any::type_name::<P>()
        );
        true
    }
    let mut seen = vec![
        read::<u64>(bytes),
        read::<i8>(bytes),
        read::<i128>(bytes),
        read::<bool>(bytes),
        read::<char>(bytes),
        read::<String>(bytes),
        read::<std::num::NonZeroU16>(bytes),
        read::<(u64, String)>(bytes),
        read::<(String, u64, String)>(bytes),
    ];
    #[cfg(feature = "uuid")]
    seen.push(read::<uuid::Uuid>(bytes));
    #[cfg(feature = "chrono")]
    seen.extend([
        read::<chrono::NaiveDate>(bytes),
        read::<chrono::NaiveDateTime>(bytes),
        read::<chrono::DateTime<chrono::Utc>>(bytes),
    ]);
    #[cfg(feature = "time")]
    seen.extend([read::<time::Date>(bytes), read::<time::UtcDateTime>(bytes)]);
    #[cfg(feature = "jiff")]
    seen.extend([
        read::<jiff::civil::Date>(bytes),
        read::<jiff::Timestamp>(bytes),
    ]);
    outcome((seen, bytes.len().min(8)))
}

fn states() -> Vec<Vec<u8>> {
    let mut states = Vec::new();
    for (number, ask) in asks().iter().enumerate() {
        let first = [number as u8];
        states.push(first.to_vec());
        if let (_, Then::Put(state, _)) = rate::decide(None, ask, NOW) {
            states.push([&first[..], &state].concat());
        }
    }
    states
}

fn asks() -> Vec<Ask> {
    let second = Duration::from_secs(1);
    let century = Duration::from_secs(366 * 86_400);
    let rules = [
        Rule::gcra(10, second, 5),
        Rule::gcra(rate::MOST, century, 1),
        Rule::fixed(10, second),
        Rule::sliding(10, second),
        Rule::sliding(rate::MOST, century),
    ];
    let rules = rules.map(Result::unwrap);
    let acts = [
        (Act::Take, 1),
        (Act::Take, 1_000_000),
        (Act::Look, 1),
        (Act::Reset, 1),
    ];
    let asks = rules
        .into_iter()
        .flat_map(|rule| acts.map(|(act, cost)| Ask { rule, act, cost }));
    asks.collect()
}

/// A state that is made is read, a request that is let through need not wait, and no more is left
/// than the limit. The first byte chooses the request, the rest is the state.
fn limit(bytes: &[u8]) -> u64 {
    let (first, state) = bytes.split_first().unwrap_or((&0, &[]));
    let asks = asks();
    let ask = asks[usize::from(*first) % asks.len()];
    let (verdict, then) = rate::decide(Some(state), &ask, NOW);
    assert_eq!(verdict.allowed, verdict.retry_after == 0, "{verdict:?}");
    assert!(verdict.remaining <= ask.rule.limit());
    if let Then::Put(state, life) = &then {
        assert!(*life > 0);
        let later = rate::decide(Some(&state[..]), &ask, NOW);
        assert!(later.0.remaining <= ask.rule.limit());
        // The numbers stay exact in Lua.
        for digits in state[1..].chunks(16) {
            let number: u64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
            assert!(number < 1 << 53, "{number}");
        }
    }
    let answered = rate::answered(bytes).map(|(_, state)| state.len() == STATE);
    let then = match then {
        Then::Keep => 0,
        Then::Remove => 1,
        Then::Put(..) => 2,
    };
    let left = verdict.remaining.checked_ilog2();
    outcome((
        *first,
        verdict.allowed,
        then,
        left,
        verdict.reset == 0,
        answered,
    ))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    id: u64,
    name: Option<String>,
    #[serde(default)]
    kind: Kind,
    list: Vec<(i16, bool)>,
    map: BTreeMap<String, Option<f64>>,
    tagged: Option<Tagged>,
    untagged: Vec<Untagged>,
    wide: Option<i128>,
    #[serde(flatten)]
    more: BTreeMap<String, u8>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    A,
    B(Box<Kind>),
    C {
        deep: Option<Box<Kind>>,
    },
    D(u8, char),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t")]
enum Tagged {
    One { kind: Kind },
    Two,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Pair(bool, u8),
}

fn values() -> Vec<Vec<u8>> {
    let wide = Wide {
        id: 42,
        name: Some("Ada".into()),
        kind: Kind::B(Box::new(Kind::C {
            deep: Some(Box::new(Kind::D(1, 'ä'))),
        })),
        list: vec![(-1, true), (300, false)],
        map: BTreeMap::from([("a".into(), Some(0.5)), ("b".into(), None)]),
        tagged: Some(Tagged::One { kind: Kind::A }),
        untagged: vec![
            Untagged::Number(-7),
            Untagged::Text("x".into()),
            Untagged::Pair(true, 1),
        ],
        wide: Some(i128::MIN),
        more: BTreeMap::from([("z".into(), 1)]),
    };
    let json = serde_json::json!({"a": [1, -1, 0.5, null, true, "x"], "b": {"c": {}}});
    vec![
        written(&wide),
        written(&Some(Tagged::Two)),
        written(&json),
        b"\x81\xbc$serde_json::private::Number\xa219".to_vec(),
        [&[0x91; 128][..], b"\xc0"].concat(),
        b"\xd4\x05\x01".to_vec(),
        b"\xa2\xff\xfe".to_vec(),
    ]
}

fn written<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let walked = encode_to::<_, true>(value, &mut bytes).unwrap();
    assert_eq!(bounds::check(&bytes), Ok(walked));
    bytes
}

/// The codec reads what rmp-serde reads, and writes what rmp-serde writes: but for negative wide
/// numbers. A written value is read as the same again.
fn value(bytes: &[u8]) -> u64 {
    let walked = bounds::check(bytes);
    let wide = codec::decode::<Wide>(bytes);
    if let Ok(wide) = &wide {
        assert!(walked.is_ok());
        let again = written(wide);
        if wide.wide.is_none_or(|number| number >= 0) {
            let theirs = rmp_serde::from_slice::<Wide>(bytes);
            // A NaN equals nothing.
            assert_eq!(format!("{wide:?}"), format!("{:?}", theirs.unwrap()));
            assert_eq!(again, rmp_serde::to_vec_named(wide).unwrap());
        }
        let again = codec::decode::<Wide>(&again[..]).unwrap();
        assert_eq!(format!("{wide:?}"), format!("{again:?}"));
    }
    let json = codec::decode::<serde_json::Value>(bytes);
    if let Ok(json) = &json {
        assert!(walked.is_ok());
        let again = written(json);
        assert_eq!(again, rmp_serde::to_vec_named(json).unwrap());
        assert_eq!(
            codec::decode::<serde_json::Value>(&again[..]).as_ref(),
            Ok(json)
        );
    }
    let texts = codec::decode::<Vec<String>>(bytes);
    let plain = walked.as_ref().ok().map(|_| private::without_tokens(bytes));
    if let Some(Ok(plain)) = &plain {
        assert!(bounds::check(plain).is_ok());
    }
    let items = walked
        .as_ref()
        .ok()
        .map(|walked| (walked.items.ilog2(), walked.token));
    let said = [wide.err(), json.err(), texts.err()];
    outcome((
        items,
        walked.err().map(|why| why.as_str()),
        said,
        plain.map(|plain| plain.err()),
    ))
}

fn urls() -> Vec<Vec<u8>> {
    let urls = [
        "valkey://ada:hunter2@h:6379/0?namespace=n",
        "rediss://:p%40ss@[::1]:6379",
        "valkey+cluster://h1:7000,h2:7001/",
        "unix:/v.sock?db=1&user=ada&pass=x",
        "memory:?namespace=a",
    ];
    urls.map(|url| url.as_bytes().to_vec()).to_vec()
}

/// A URL is a store or an error of kind `Config`, and no `Debug` or error shows its password.
fn config(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let (said, secret) = match url::parse(&text) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            (error.to_string(), None)
        }
        Ok(said) => {
            let shown = format!("{said:?}");
            let password = said.password.map(|password| password.reveal().to_owned());
            let endpoint = format!("{:?}", said.endpoint);
            let kind = endpoint.split(['(', ' ']).next().unwrap_or_default();
            let seen = format!(
                "{kind} {} {:?} {} {} {:?} {}",
                said.cluster,
                said.tls,
                said.username.is_some(),
                said.database.is_some(),
                said.namespace.is_some(),
                password.is_some()
            );
            if let Some(password) = password.filter(|password| is_telling(password, &text)) {
                assert!(!shown.contains(&password), "{shown}");
                (seen, Some(password))
            } else {
                (seen, None)
            }
        }
    };
    let builder = Builder::new().url(&text);
    let shown = format!("{builder:?}");
    if let Some(secret) = secret {
        assert!(!shown.contains(&secret), "{shown}");
    }
    // The quotes of names differ with each input.
    let without_quotes: String = said.split('"').step_by(2).collect();
    outcome(without_quotes)
}

/// Whether the password would be recognized: the URL has it once, and no name or number of a `Debug`
/// looks like it.
fn is_telling(password: &str, url: &str) -> bool {
    password.len() >= 6
        && password.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && password.contains(|c: char| c.is_ascii_digit())
        && password.contains(|c: char| c.is_ascii_alphabetic())
        && url.matches(password).count() == 1
}
