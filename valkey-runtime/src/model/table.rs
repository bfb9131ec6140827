//! Compares `docs/guides/consistency.md` with the code. The transition functions make its tables of
//! the effect of each verb on each entry. Its figures are the constants, and its snippets are
//! [`recipes`], which compile and run. (After an intended change the test prints the new content of
//! the page.)

#[cfg(feature = "derive")]
pub(crate) mod recipes;

use std::time::Duration;

use crate::protocol::envelope::placeholder::{Guard, Lease, Name, Writer};
use crate::protocol::envelope::timing::{Claim, Timing};
use crate::protocol::envelope::{Head, Header, HeaderBytes, Kind, head};
use crate::protocol::transition::{
    Change, Fingerprint, Hold, Life, Placing, Put, Rejected, Touch, Verb, apply, apply_placing,
};
use crate::verbs::tags::invalidate::hold_of_tags;
use crate::verbs::update::{GUARD_LIFE, TAG_GUARD_LIFE};

const PAGE: &str = include_str!("../../../docs/guides/consistency.md");
const BEGIN: &str =
    "<!-- Made by valkey-runtime/src/table.rs from the transition functions. Not by hand. -->\n";
const END: &str = "<!-- End of what is made. -->";

/// The version of the acting type.
const VERSION: u16 = 2;
const NOW: u64 = 1_767_225_600_000_000;
/// The stamp of every stored entry: a second old.
const STAMP: u64 = (NOW - 1_000_000) << 12;
const LIFE: u64 = 10_000;
const HOLD: u64 = 500;

/// The tokens of the acting loader or writer, of another one, and of a deletion's hold.
const W: u64 = 1;
const O: u64 = 2;
const H: u64 = 3;

const RUBBISH: &[u8] = b"rubbish";
/// For the key with the hash 0, like the stored entries.
const STORED: &[u8] = b"what a verb stores...\0\0\0\0";
const PUT: Put<'static> = Put {
    version: VERSION,
    bytes: STORED,
    ttl: None,
};

/// A possible content of a key, with example entries: each must give the same row.
type State = (&'static str, Vec<Option<Vec<u8>>>);

fn value(version: u16) -> Vec<u8> {
    Header::value(version, STAMP).to_bytes().to_vec()
}

fn headed(kind: Kind, version: u16, shape: u32) -> Vec<u8> {
    Header {
        kind,
        shape,
        ..Header::value(version, STAMP)
    }
    .to_bytes()
    .to_vec()
}

/// A timed value of the type's version, fresh for this many milliseconds from now.
fn timed(fresh_for: i64, claim: Claim) -> Vec<u8> {
    let until = (NOW / 1000).saturating_add_signed(fresh_for);
    confirmed(Timing { until, claim }).to_vec()
}

fn confirmed(timing: Timing) -> HeaderBytes {
    let header = Header::value(VERSION, STAMP);
    Header {
        timing: Some(timing),
        ..header
    }
    .to_bytes()
}

fn claim_of(token: u64) -> Claim {
    // Some time after it was renewed.
    Claim::new(token as u32, NOW / 1000, LIFE / 2)
}

fn later_format() -> Vec<u8> {
    let mut bytes = value(VERSION);
    bytes[1] = 2;
    bytes
}

fn later_element() -> Vec<u8> {
    let mut bytes = value(VERSION);
    bytes[31] = 1;
    bytes
}

fn lease(token: u64, stamp: u64) -> Vec<u8> {
    Name { token, stamp }.to_lease().to_vec()
}

fn guard(shared: bool, tokens: &[u64]) -> Vec<u8> {
    // Some time after they were renewed.
    let deadline = NOW / 1000 + LIFE / 2;
    let writers = tokens
        .iter()
        .map(|&token| Writer { token, deadline })
        .collect();
    Guard {
        stamp: STAMP,
        shared,
        writers,
    }
    .to_bytes()
}

fn state<const N: usize>(name: &'static str, entries: [Vec<u8>; N]) -> State {
    (name, entries.into_iter().map(Some).collect())
}

fn nothing() -> State {
    ("nothing", vec![None])
}

fn own() -> State {
    state("a value of the type's version", [value(VERSION)])
}

fn older() -> State {
    state(
        "a value of an older version, or of another layout",
        [value(VERSION - 1), headed(Kind::Value, VERSION, 9)],
    )
}

fn newer() -> State {
    state("a value of a newer version", [value(VERSION + 1)])
}

fn later() -> State {
    state(
        "an entry of a later format",
        [later_format(), later_element()],
    )
}

fn fresh() -> State {
    state(
        "a value that says until when it is fresh, and is",
        [timed(1, Claim::NONE)],
    )
}

fn stale() -> State {
    state("the same, not fresh any more", [timed(0, Claim::NONE)])
}

fn absence() -> State {
    state(
        "an absence",
        [
            headed(Kind::Absence, VERSION, 0),
            headed(Kind::Absence, VERSION - 1, 0),
        ],
    )
}

fn newer_absence() -> State {
    state(
        "an absence of a newer version",
        [headed(Kind::Absence, VERSION + 1, 0)],
    )
}

fn misplaced() -> State {
    let of = |version| Header::value(version, STAMP).of(b"another").to_bytes();
    state(
        "an entry of another key",
        [of(VERSION).to_vec(), of(VERSION - 1).to_vec()],
    )
}

fn rubbish() -> State {
    state("rubbish", [RUBBISH.to_vec()])
}

/// A request to the server.
enum Asked {
    /// Answered by yes or no.
    Verb(Verb<'static>),
    /// Answered by the entry afterwards.
    Placing(Placing),
}

/// A column: its heading in the page, and the request for an entry. `None` if no client sends one.
type Column<'a> = (&'a str, Box<dyn Fn(Option<&[u8]>) -> Option<Asked>>);

fn verb<'a>(head: &'a str, verb: Verb<'static>) -> Column<'a> {
    (head, Box::new(move |_| Some(Asked::Verb(verb))))
}

fn placing<'a>(head: &'a str, placing: Placing) -> Column<'a> {
    (head, Box::new(move |_| Some(Asked::Placing(placing))))
}

/// The cell of a column for an entry.
fn cell(entry: Option<&[u8]>, asked: &Asked) -> String {
    let (change, yes) = match asked {
        Asked::Verb(verb) => apply(entry, verb, NOW),
        Asked::Placing(placing) => (apply_placing(entry, placing, NOW), false),
    };
    let left = match &change {
        Change::Keep => "–".to_owned(),
        Change::Put { bytes, .. } if Some(&**bytes) == entry => "–".to_owned(),
        Change::Remove => "nothing".to_owned(),
        Change::Live(_) => "lives on".to_owned(),
        Change::Replace(_) => unreachable!("no row of the table raises an epoch"),
        Change::Rewrite { header, life } => rewritten(entry, header, *life),
        Change::Put { bytes, .. } if **bytes == *STORED => "the value".to_owned(),
        Change::Put { bytes, .. } => placeholder(bytes, entry),
    };
    if yes { format!("**{left}**") } else { left }
}

/// Describes the same value with another header.
fn rewritten(before: Option<&[u8]>, after: &HeaderBytes, life: Life) -> String {
    let timed = |bytes| match head(bytes) {
        Head::Known(header) => (header, header.timing.expect("a timed value")),
        other => panic!("{other:?}"),
    };
    let (was, before) = timed(before.expect("a value"));
    let (is, after) = timed(after);
    let now = NOW / 1000;
    let renamed = if was.stamp == is.stamp {
        ""
    } else {
        ", under a new stamp"
    };
    let what = match (before.until == after.until, life) {
        (false, Life::AtMost(_)) if after.until == 0 => {
            assert_eq!(after.claim, Claim::NONE);
            "not fresh any more"
        }
        (false, Life::Exactly(_)) => "lives on",
        (true, Life::AtLeast(_)) if after.claim == before.claim => "–",
        (true, Life::AtLeast(_)) if before.claim.is_live(now) => "renewed",
        (true, Life::AtLeast(_)) => "claimed",
        (true, Life::AsItWas) if after.claim.is_live(now) => "paused",
        (true, Life::AsItWas) => "claimed by nobody",
        other => panic!("{other:?}"),
    };
    format!("{what}{renamed}")
}

fn placeholder(bytes: &[u8], before: Option<&[u8]>) -> String {
    if let Some(lease) = Name::of_lease(bytes) {
        assert_eq!(lease.token, W);
        return "its lease".to_owned();
    }
    let guard = Guard::from_bytes(bytes).expect("a value, a lease or a guard");
    let tokens = |guard: &Guard| guard.writers.iter().map(|w| w.token).collect::<Vec<_>>();
    let held = |writer: &Writer| writer.deadline == NOW / 1000 + HOLD;
    let before = before.and_then(Guard::from_bytes);
    if before.is_some_and(|b| b.shared == guard.shared && tokens(&b) == tokens(&guard))
        && !guard.writers.iter().any(held)
    {
        return "renewed".to_owned();
    }
    let writers: Vec<_> = guard
        .writers
        .iter()
        .map(|writer| match writer.token {
            W if held(writer) => "w for the hold",
            W => "w",
            O => "o",
            H if held(writer) => "h for the hold",
            token => panic!("{token}"),
        })
        .collect();
    let shared = if guard.shared { ", shared" } else { "" };
    format!("guard of {}{shared}", writers.join(" and "))
}

fn table(columns: &[Column<'_>], states: &[State]) -> String {
    let mut lines = vec![
        row(
            "the key holds",
            columns.iter().map(|(head, _)| (*head).to_owned()),
        ),
        row("---", columns.iter().map(|_| "---".to_owned())),
    ];
    for (name, entries) in states {
        let cells = columns.iter().map(|(head, ask)| {
            let cells: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let entry = entry.as_deref();
                    ask(entry).map_or_else(String::new, |asked| cell(entry, &asked))
                })
                .collect();
            assert!(
                cells.iter().all(|cell| *cell == cells[0]),
                "{head} of {name}: {cells:?}"
            );
            cells[0].clone()
        });
        lines.push(row(name, cells));
    }
    lines.concat()
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// The effects of the verbs of values on an entry.
fn values() -> String {
    let touch = Verb::Touch(Touch {
        version: VERSION,
        key: 0,
        ttl: Some(LIFE),
        keep: LIFE,
        max_age: None,
        seen: None,
    });
    let hold = Hold {
        token: H,
        life: HOLD,
        ours: false,
    };
    table(
        &[
            verb("`set`, only if absent", Verb::SetIfAbsent(PUT, None)),
            verb("`set`, only if present", Verb::SetIfPresent(PUT, None)),
            verb("`touch`", touch),
            verb("`del`", Verb::Delete(None)),
            verb("`del` with a hold", Verb::Delete(Some(hold))),
            verb(
                "`mark_stale`, with `stale_if_error`",
                Verb::MarkStale { keep: LIFE },
            ),
            verb(
                "remove the rubbish that was read",
                Verb::RemoveIfSame(Fingerprint::of(RUBBISH)),
            ),
        ],
        &[
            nothing(),
            own(),
            fresh(),
            stale(),
            older(),
            newer(),
            later(),
            state(
                "an absence",
                [VERSION - 1, VERSION, VERSION + 1]
                    .map(|version| headed(Kind::Absence, version, 0)),
            ),
            state("a lease", [lease(W, STAMP), lease(O, STAMP)]),
            state("a guard of o", [guard(false, &[O])]),
            misplaced(),
            rubbish(),
        ],
    )
}

/// The effects of the steps of a load on an entry.
fn loads() -> String {
    let asks = |rejected| Placing::Lease {
        token: W,
        life: 1000,
        rejected,
    };
    // Both have the same token and stamp: w holds one or the other.
    let held = |verb: fn(Lease) -> Verb<'static>| -> Column<'static> {
        let (token, stamp) = (W, STAMP);
        let lease = Lease::Placed(Name { token, stamp });
        let claim = Lease::Claim { token: 1, stamp };
        let is_timed = |entry: Option<&[u8]>| {
            let known = entry.map(head);
            matches!(
                known,
                Some(Head::Known(Header {
                    timing: Some(_),
                    ..
                }))
            )
        };
        let asked = move |entry: Option<&[u8]>| {
            Some(Asked::Verb(verb(if is_timed(entry) {
                claim
            } else {
                lease
            })))
        };
        ("", Box::new(asked))
    };
    let named = |name, (_, ask): Column<'static>| (name, ask);
    let fill = named("fill", held(|lease| Verb::Fill { lease, put: PUT }));
    let confirm = named(
        "confirm",
        held(|lease| Verb::Confirm {
            lease,
            header: confirmed(Timing::fresh_until(NOW / 1000 + LIFE)),
            ttl: Some(LIFE),
        }),
    );
    let renew = named(
        "renew",
        held(|lease| Verb::RenewLease { lease, life: LIFE }),
    );
    let discard = named("discard", held(Verb::Discard));
    let release = named(
        "release, after an error",
        held(|lease| Verb::Release { lease, pause: LIFE }),
    );
    // Only a replaceable entry is rejected by its stamp.
    let rejecting: Column<'_> = (
        "lease, having read and rejected it",
        Box::new(move |entry| {
            [older(), absence(), newer_absence()]
                .iter()
                .any(|(_, entries)| entries.iter().any(|known| known.as_deref() == entry))
                .then(|| Asked::Placing(asks(Rejected::Stamp(STAMP))))
        }),
    );
    table(
        &[
            placing("lease", asks(Rejected::None)),
            rejecting,
            placing(
                "lease, wanting a fresh load",
                asks(Rejected::Any { version: VERSION }),
            ),
            placing("claim, having read it", asks(Rejected::Claim(STAMP))),
            fill,
            confirm,
            renew,
            discard,
            release,
        ],
        &[
            nothing(),
            own(),
            state(
                "a value that says until when it is fresh",
                [timed(1, Claim::NONE), timed(0, Claim::NONE)],
            ),
            state("the same, claimed by w", [timed(0, claim_of(W))]),
            state(
                "the same, claimed by another, or paused",
                [timed(0, claim_of(O)), timed(0, claim_of(0))],
            ),
            older(),
            newer(),
            later(),
            absence(),
            newer_absence(),
            state("its lease", [lease(W, STAMP)]),
            state(
                "another's lease, or its own made again at another time",
                [lease(O, STAMP), lease(W, STAMP + 1)],
            ),
            state("a guard", [guard(false, &[O]), guard(true, &[W, O])]),
            rubbish(),
        ],
    )
}

/// The effects of the steps of a guarded write on an entry.
fn writes() -> String {
    let leave = |hold| Verb::Leave { token: W, hold };
    let through = Verb::StoreThrough {
        guard: Name {
            token: W,
            stamp: STAMP,
        },
        hold: 0,
        put: PUT,
    };
    table(
        &[
            placing(
                "enter",
                Placing::Enter {
                    token: W,
                    life: LIFE,
                    ours: false,
                },
            ),
            verb(
                "renew",
                Verb::RenewGuard {
                    token: W,
                    life: LIFE,
                },
            ),
            verb("leave", leave(0)),
            verb("leave with a hold", leave(HOLD)),
            verb("store through", through),
        ],
        &[
            nothing(),
            state(
                "a value of any version, an absence, a lease, rubbish, an entry of a later format",
                [
                    value(VERSION),
                    value(VERSION - 1),
                    value(VERSION + 1),
                    timed(0, claim_of(O)),
                    headed(Kind::Absence, VERSION, 0),
                    lease(W, STAMP),
                    lease(O, STAMP),
                    RUBBISH.to_vec(),
                    later_format(),
                    later_element(),
                ],
            ),
            state("a guard of w, never shared", [guard(false, &[W])]),
            state("a guard of w, shared before", [guard(true, &[W])]),
            state("a guard of w and o", [guard(true, &[W, O])]),
            state("a guard of o", [guard(false, &[O])]),
        ],
    )
}

#[test]
fn the_page_has_the_tables_of_the_transition_functions() {
    let made = format!(
        "\n**Values**\n\n{}\n**Loads**\n\n{}\n**Guarded writes**\n\n{}\n",
        values(),
        loads(),
        writes()
    );
    let in_page = PAGE
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END));
    let in_page = in_page.map(|(block, _)| block);
    assert!(
        in_page == Some(&*made),
        "docs/guides/consistency.md should have between the two marks\n{made}"
    );
}

/// The value of a private constant in the source of its module.
fn constant(source: &str, name: &str) -> Duration {
    let written = source
        .split_once(&format!("const {name}: Duration = Duration::from_"))
        .and_then(|(_, rest)| rest.split_once(");"))
        .map(|(value, _)| value);
    let (unit, number) = written
        .and_then(|value| value.split_once('('))
        .unwrap_or_else(|| panic!("no constant {name}"));
    let number = number.parse().unwrap();
    match unit {
        "secs" => Duration::from_secs(number),
        "millis" => Duration::from_millis(number),
        _ => panic!("{name} in {unit}"),
    }
}

#[test]
fn the_page_has_the_figures_of_the_code() {
    let loading = include_str!("../protocol/lease.rs");
    let undelivered = include_str!("../protocol/outbox.rs");
    let most = undelivered
        .split_once("const MOST: usize = ")
        .and_then(|(_, rest)| rest.split_once(';'));
    let most = most.expect("the number").0.replace('_', ",");
    let tasks = include_str!("../base/tasks.rs")
        .split_once("const MOST: u32 = ")
        .and_then(|(_, rest)| rest.split_once(';'));
    let tasks = tasks.expect("the number").0;
    let fill = include_str!("../verbs/tags/fill.rs");
    let millis = |name| {
        let number = fill.split_once(&format!("const {name}: u64 = "));
        let number = number.and_then(|(_, rest)| rest.split_once(';'));
        let number = number.expect("the number").0.replace('_', "");
        time(Duration::from_millis(number.parse().unwrap()))
    };
    let eighth = include_str!("../verbs/touch.rs")
        .split_once("left >= ttl - ttl / ")
        .and_then(|(_, rest)| rest.split_once(' '));
    let eighth = eighth.expect("the number").0;
    let breaker = include_str!("../protocol/breaker.rs");
    let config = include_str!("../config/mod.rs");
    let figures = [
        ("a lease lives", time(constant(loading, "LEASE_LIFE"))),
        (
            "a lease is renewed each",
            time(constant(loading, "RENEWAL")),
        ),
        ("the longest load", time(constant(loading, "LONGEST_LOAD"))),
        (
            "the first pause between two looks at another's lease",
            time(constant(loading, "FIRST_PAUSE")),
        ),
        (
            "the longest such pause",
            time(constant(loading, "LONGEST_PAUSE")),
        ),
        (
            "the pause after a failed load",
            time(Duration::from_millis(
                crate::schema::policy::Policy::new().retry_after_millis,
            )),
        ),
        ("loads that go on beside their callers", tasks.to_owned()),
        (
            "of a sliding life is over before a hit extends it",
            format!("1/{eighth}"),
        ),
        ("a place in a guard lasts", time(GUARD_LIFE)),
        (
            "a place in a guard lasts, if the write invalidates tags, at least",
            time(Duration::from_millis(TAG_GUARD_LIFE)),
        ),
        (
            "a hold of tags is longer than the type's by",
            time(Duration::from_millis(hold_of_tags(500) - 500)),
        ),
        (
            "an epoch outlives what is stored under it by up to",
            time(Duration::from_millis(
                crate::protocol::transition::epoch_life(0),
            )),
        ),
        ("a mark in place of an epoch lives", millis("MARK_MILLIS")),
        (
            "the first pause before a kept deletion is tried again",
            time(constant(breaker, "FIRST_PAUSE")),
        ),
        (
            "the longest such pause of deletions",
            time(constant(breaker, "LONGEST_PAUSE")),
        ),
        ("deletions that are kept", most),
        (
            "the deadline of a command",
            time(constant(config, "COMMAND_TIMEOUT")),
        ),
        (
            "the longest pause between two attempts to connect",
            time(constant(breaker, "LONGEST_PAUSE")),
        ),
        (
            "a node of a cluster is silent before its word is doubted",
            time(constant(include_str!("../backend/slots.rs"), "SILENCE")),
        ),
        (
            "between two connections that are made anew on what a server says, at least",
            time(constant(breaker, "RENEWAL")),
        ),
    ];
    for (what, figure) in figures {
        let line = format!("| {what} | {figure} |");
        assert!(
            PAGE.contains(&line),
            "docs/guides/consistency.md should have\n{line}"
        );
    }
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

/// Every snippet of the page is code of [`recipes`].
#[cfg(feature = "derive")]
#[test]
fn the_page_s_snippets_compile() {
    let source = include_str!("table/recipes.rs");
    let mut snippets = 0;
    for block in PAGE.split("```rust\n").skip(1) {
        let (snippet, _) = block.split_once("```").expect("the end of a snippet");
        assert!(
            source.contains(snippet),
            "valkey-runtime/src/table/recipes.rs does not have\n{snippet}"
        );
        snippets += 1;
    }
    assert!(snippets > 0);
}
