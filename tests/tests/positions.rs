//! Which types come back in which position: the table of `docs/internals/envelope.md`, made from
//! the check that a store makes of the values that it reads back.
//!
//! A value that is read back as another one is a failure of this test, unless the type says so by
//! what its `Serialize` leaves out.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU128;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use valkey_runtime::ErrorKind;
use valkey_runtime::testing::round_trip;

const PAGE: &str = include_str!("../../docs/internals/envelope.md");
const POSITIONS: [&str; 5] = ["plain", "tagged", "untagged", "flattened", "map"];

#[derive(PartialEq, Serialize, Deserialize)]
struct Plain<P> {
    part: P,
    list: Vec<P>,
    variant: Variant<P>,
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Variant<P> {
    One(P),
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged<P> {
    One { part: P },
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<P> {
    One { part: P },
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Inner<P> {
    part: P,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Flattened<P> {
    id: u64,
    #[serde(flatten)]
    inner: Inner<P>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Map<P> {
    id: u64,
    #[serde(flatten)]
    parts: HashMap<String, P>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    ComesBack,
    Refused,
    /// `Serialize` leaves out what differs.
    LeftOut,
}

fn cell<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Cell {
    match round_trip(value) {
        Ok(read) if read == *value => Cell::ComesBack,
        Ok(_) => Cell::LeftOut,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
            Cell::Refused
        }
    }
}

struct Row {
    what: &'static str,
    cells: [Cell; 5],
}

fn row<P>(what: &'static str, value: P) -> Row
where
    P: Clone + PartialEq + Serialize + DeserializeOwned,
{
    let part = || value.clone();
    let cells = [
        cell(&Plain {
            part: part(),
            list: vec![part(), part()],
            variant: Variant::One(part()),
        }),
        cell(&Tagged::One { part: part() }),
        cell(&Untagged::One { part: part() }),
        cell(&Flattened {
            id: 1,
            inner: Inner { part: part() },
        }),
        cell(&Map {
            id: 1,
            parts: HashMap::from([("a".into(), part()), ("b".into(), part())]),
        }),
    ];
    Row { what, cells }
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
enum External {
    Unit,
    Newtype(u8),
    Tuple(u8, String),
    Struct { deep: Option<Box<External>> },
}

/// As serde_json writes a `RawValue`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "$serde_json::private::RawValue")]
struct Raw {
    #[serde(rename = "$serde_json::private::RawValue")]
    json: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Real(f64),
    Whole(i64),
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Narrow {
    a: u8,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Wide {
    a: u8,
    b: u8,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Narrow(Narrow),
    Wide(Wide),
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct NotWritten {
    #[serde(skip_serializing)]
    hash: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct WrittenOrDefault {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    list: Vec<u8>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct NotRead {
    #[serde(skip_deserializing)]
    count: u8,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Skipped {
    #[serde(skip)]
    hash: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Renamed {
    #[serde(rename(serialize = "b"))]
    a: u8,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Moved(
    u8,
    #[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>,
    #[serde(default)] Option<u8>,
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Masked {
    #[serde(serialize_with = "masked")]
    text: String,
}

fn masked<S: serde::Serializer>(_: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("***")
}

fn rows() -> Vec<Row> {
    let ip: IpAddr = [10, 0, 0, 1].into();
    let deep = External::Struct {
        deep: Some(Box::new(External::Tuple(1, "x".into()))),
    };
    let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 7);
    let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    #[cfg(unix)]
    let no_text = {
        use std::os::unix::ffi::OsStringExt;
        PathBuf::from(std::ffi::OsString::from_vec(vec![0xff]))
    };
    vec![
        row("`u64`, `i64`", (u64::MAX, i64::MIN)),
        row("`f64`", (-0.0, f64::MIN_POSITIVE, f64::INFINITY)),
        row("`bool`, `char`, `String`", (true, 'ä', "x".repeat(300))),
        row(
            "`Vec<u8>`, arrays, tuples",
            (vec![1u8, 200], [1u16; 8], ((), 1)),
        ),
        row(
            "`Option<T>`",
            (Some(1), None::<u8>, Some(vec![None, Some(2)])),
        ),
        row(
            "`HashMap` with texts or numbers",
            (
                HashMap::from([("a".to_owned(), 1)]),
                HashMap::from([(-7, 'x')]),
            ),
        ),
        row(
            "externally tagged enum",
            (External::Unit, External::Newtype(1), deep),
        ),
        row(
            "`Duration`, `SystemTime`",
            (Duration::new(1, 2), SystemTime::UNIX_EPOCH),
        ),
        row("`SystemTime` before 1970", before_1970),
        row("`PathBuf`", PathBuf::from("/a/b")),
        #[cfg(unix)]
        row("`PathBuf` that is not UTF-8", no_text),
        row(
            "`serde_json::Value`",
            serde_json::json!({"a": [1, -1, 0.5, null], "b": {}}),
        ),
        row("`()`", ()),
        row("unit struct", Unit),
        row("`PhantomData`", PhantomData::<u8>),
        row("`u128`, `i128`", (u128::MAX, -1i128)),
        row("`u128`, small", 7u128),
        row("`NonZeroU128`", NonZeroU128::MAX),
        row("`HashMap<u128, _>`", HashMap::from([(u128::MAX, 1)])),
        row("`IpAddr`", ip),
        row("`SocketAddr`", SocketAddr::new(ip, 80)),
        row("`Option<IpAddr>`, `Vec<IpAddr>`", (Some(ip), vec![ip])),
        row("`HashMap<IpAddr, _>`", HashMap::from([(ip, 1)])),
        row("`SocketAddrV6` with a scope", scoped),
        row("`RawValue`", Raw { json: "{}".into() }),
        row("`Some(None)`", Some(None::<u8>)),
        row("`Some(())`", Some(())),
        row("`Some(Value::Null)`", Some(Value::Null)),
        row("untagged: `i64` after `f64`", Number::Whole(5)),
        row(
            "untagged: a struct after one with fewer fields",
            Either::Wide(Wide { a: 1, b: 2 }),
        ),
        row(
            "untagged: a value of the first variant that fits",
            (Number::Real(5.0), Either::Narrow(Narrow { a: 1 })),
        ),
        row(
            "`skip_serializing` without `default`",
            NotWritten { hash: "x".into() },
        ),
        row(
            "`skip_serializing_if` with `default`",
            (
                WrittenOrDefault { list: vec![] },
                WrittenOrDefault { list: vec![1] },
            ),
        ),
        row(
            "`skip_deserializing`, not the default",
            NotRead { count: 1 },
        ),
        row("`rename(serialize = …)`", Renamed { a: 1 }),
        row(
            "tuple struct, skipped in the middle",
            Moved(1, None, Some(9)),
        ),
        row("`skip`", Skipped { hash: "x".into() }),
        row("`serialize_with` that masks", Masked { text: "x".into() }),
    ]
}

/// What the derive refuses in a field of the cached type, and the compile-fail test that shows it.
const AT_COMPILE_TIME: [(&str, &str, &str); 11] = [
    ("`IpAddr`", "map", "flatten_address"),
    ("`SocketAddr`", "map", "flatten_address"),
    ("`Option<IpAddr>`, `Vec<IpAddr>`", "map", "flatten_address"),
    ("`u128`, `i128`", "map", "flatten_address"),
    ("`NonZeroU128`", "map", "flatten_address"),
    ("`RawValue`", "plain", "raw_value"),
    ("`Some(None)`", "plain", "option_of_option"),
    ("`Some(())`", "plain", "option_of_option"),
    (
        "`skip_serializing` without `default`",
        "plain",
        "skip_serializing",
    ),
    ("`rename(serialize = …)`", "plain", "rename"),
    (
        "tuple struct, skipped in the middle",
        "plain",
        "tuple_in_the_middle",
    ),
];
/// The rows whose `Serialize` leaves something out.
const LEAVE_OUT: [&str; 3] = [
    "`SocketAddrV6` with a scope",
    "`skip`",
    "`serialize_with` that masks",
];

fn shown(row: &Row, position: usize) -> String {
    let at_compile_time = AT_COMPILE_TIME
        .iter()
        .find(|(what, at, _)| *what == row.what && *at == POSITIONS[position]);
    let cell = row.cells[position];
    let shown = match cell {
        Cell::ComesBack => "comes back",
        Cell::Refused => "refused",
        Cell::LeftOut => "left out",
    };
    match at_compile_time {
        None => shown.to_owned(),
        Some((what, _, test)) => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compile-fail/serde");
            let exists = folder.join(test).with_extension("stderr").exists();
            assert!(exists, "compile-fail/serde/{test} is there");
            // Behind an alias, or in a field of a field, the derive does not see it.
            assert_ne!(cell, Cell::ComesBack, "{what} could be accepted");
            format!("refused at compile time; else {shown}")
        }
    }
}

#[test]
fn no_value_is_silently_read_as_another() {
    for row in rows() {
        let left_out = row.cells.contains(&Cell::LeftOut);
        assert_eq!(left_out, LEAVE_OUT.contains(&row.what), "{}", row.what);
    }
}

#[test]
fn the_page_has_the_table() {
    let mut table = format!("| value | {} |\n|---|", POSITIONS.join(" | "));
    table += &"---|".repeat(POSITIONS.len());
    for row in rows() {
        let cells: Vec<_> = (0..POSITIONS.len()).map(|at| shown(&row, at)).collect();
        table += &format!("\n| {} | {} |", row.what, cells.join(" | "));
    }
    let (_, page) = PAGE.split_once("<!-- positions -->\n").unwrap();
    let (page, _) = page.split_once("\n<!-- /positions -->").unwrap();
    assert_eq!(
        page, table,
        "between the marks `positions` belongs\n{table}\n"
    );
}
