//! Every interleaving of reads through a near cache, writes of this process and of others, and the
//! messages that report them, exhaustively.
//!
//! The marks are the real ones ([`Marks`]). Simulated are the server with one entry under one tag,
//! the connection that reports its changes, and the shells of reads and writes.
//!
//! Two promises are checked at each answer of a copy:
//!
//! - After a write of this process has returned, no read that begins later returns an older row.
//! - A copy differs from the server's entry only while a message about the change is under way, or
//!   while nobody has noticed that the connection is lost.
//!
//! The time of a copy, `near`, bounds the second one; it is outside of the check. [`Mutation`]s show
//! that the check can find a departure from each rule.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use crate::backend::marks::{Change, Depends, Marks};
use crate::model::explore::{Flaw, State, explore};

const ENTRY: &[u8] = b"page:1";
const TAG: &[u8] = b"::tag:site:7";

/// A departure from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutation {
    /// The last change is noted when the answer has come.
    NotedLate,
    /// A write of this process leaves the marks to the server's message.
    UnmarkedWrite,
    /// Nobody notices a gap when a connection is lost.
    NoGap,
    /// Copies are made while changes are not reported.
    KeptWhileDown,
    /// A copy depends on its key alone.
    TagForgotten,
    /// The gap of a lost connection comes before copies are forbidden.
    GapFirst,
}

/// A read, as far as it has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Read {
    Idle,
    /// It found no copy, and is about to be sent.
    Noted(Option<Change>),
    /// The server has answered.
    Answered(Option<Change>, Option<u8>),
}

/// A write of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Write {
    Idle,
    /// The server has carried it out, when so many rows were written.
    Applied(Key, u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key {
    Entry,
    Tag,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Connection {
    Up,
    /// Messages are lost, and nobody has noticed.
    Lost,
    /// The first of the two steps after the notice is done.
    Noticed,
    Down,
}

#[derive(Clone)]
struct World {
    mutation: Option<Mutation>,
    /// The row that reads of the server return; none after its tag was invalidated.
    row: Option<u8>,
    /// The number of rows written so far.
    rows: u8,
    messages: VecDeque<Key>,
    connection: Connection,
    /// Whether copies may be made.
    covered: bool,
    marks: Marks,
    copy: Option<(Change, Option<u8>)>,
    reads: [Read; 2],
    write: Write,
    /// Reads, writes and losses that may still begin.
    left: [u8; 3],
    /// The oldest row that a read may return after the writes of this process that have returned.
    oldest: u8,
    flaw: bool,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.row, self.rows, &self.messages, self.connection).hash(state);
        (self.covered, &self.marks, self.copy, self.reads, self.write).hash(state);
        (self.left, self.oldest, self.flaw).hash(state);
    }
}

impl Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "server {:?}, {:?}, messages {:?}, copy {:?}, {:?}",
            self.row, self.connection, self.messages, self.copy, self.marks
        )
    }
}

impl World {
    fn new(mutation: Option<Mutation>) -> Self {
        let marks = Marks::with_places(4);
        assert_ne!(marks.place_of(ENTRY), marks.place_of(TAG));
        Self {
            mutation,
            row: Some(0),
            rows: 0,
            messages: VecDeque::new(),
            connection: Connection::Up,
            covered: true,
            marks,
            copy: None,
            reads: [Read::Idle; 2],
            write: Write::Idle,
            left: [4, 2, 1],
            oldest: 0,
            flaw: false,
        }
    }

    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn bytes(key: Key) -> &'static [u8] {
        match key {
            Key::Entry => ENTRY,
            Key::Tag => TAG,
        }
    }

    /// The server carries out a write: a new row, or an invalidation of the tag.
    fn apply(&mut self, key: Key) {
        match key {
            Key::Entry => {
                self.rows += 1;
                self.row = Some(self.rows);
            }
            Key::Tag => self.row = None,
        }
        if self.connection == Connection::Up {
            self.messages.push_back(key);
        }
    }

    fn is_valid(&self, since: Change) -> bool {
        let tag = (!self.has(Mutation::TagForgotten)).then(|| TAG.to_vec());
        let depends = Depends::new(&self.marks, ENTRY, tag.as_slice());
        self.marks.without_gap(since) && self.marks.unchanged(since, &depends)
    }

    fn noted(&self) -> Option<Change> {
        let last = self.marks.last();
        (self.covered || self.has(Mutation::KeptWhileDown)).then_some(last)
    }

    /// A read begins. A copy may answer it.
    fn begin(&mut self, at: usize) {
        match self.copy {
            Some((since, row)) if self.is_valid(since) => self.check(row),
            _ => self.reads[at] = Read::Noted(self.noted()),
        }
    }

    fn check(&mut self, row: Option<u8>) {
        let unnoticed = matches!(self.connection, Connection::Lost | Connection::Noticed);
        let may_differ = unnoticed || !self.messages.is_empty();
        self.flaw |= row.is_some_and(|row| row < self.oldest);
        self.flaw |= row != self.row && !may_differ;
    }
}

impl State for World {
    type Event = String;

    fn steps(&self) -> Vec<(String, Self)> {
        let mut steps = Vec::new();
        let mut step = |name: String, change: &dyn Fn(&mut Self)| {
            let mut next = self.clone();
            change(&mut next);
            steps.push((name, next));
        };
        for (at, read) in self.reads.into_iter().enumerate() {
            match read {
                Read::Idle if self.left[0] > 0 => step(format!("read {at} begins"), &|next| {
                    next.left[0] -= 1;
                    next.begin(at);
                }),
                Read::Idle => {}
                Read::Noted(since) => step(format!("read {at} is answered"), &|next| {
                    next.reads[at] = Read::Answered(since, next.row);
                }),
                Read::Answered(since, row) => step(format!("read {at} ends"), &|next| {
                    next.reads[at] = Read::Idle;
                    let since = match next.has(Mutation::NotedLate) {
                        true => next.noted(),
                        false => since,
                    };
                    // The shell keeps no answer without a value.
                    if let (Some(since), Some(_)) = (since, row) {
                        next.copy = Some((since, row));
                    }
                }),
            }
        }
        for key in [Key::Entry, Key::Tag] {
            if self.left[1] > 0 {
                step(format!("another process writes {key:?}"), &|next| {
                    next.left[1] -= 1;
                    next.apply(key);
                });
                if self.write == Write::Idle {
                    step(format!("this process writes {key:?}"), &|next| {
                        next.left[1] -= 1;
                        next.apply(key);
                        next.write = Write::Applied(key, next.rows);
                    });
                }
            }
        }
        if let Write::Applied(key, rows) = self.write {
            step("its write returns".into(), &|next| {
                if !next.has(Mutation::UnmarkedWrite) {
                    next.marks.changed(Self::bytes(key));
                }
                next.write = Write::Idle;
                // A tag ends the rows before it.
                let oldest = rows + u8::from(key == Key::Tag);
                next.oldest = next.oldest.max(oldest);
            });
        }
        if let Some(key) = self.messages.front().copied() {
            step(format!("a message about {key:?}"), &|next| {
                next.messages.pop_front();
                next.marks.changed(Self::bytes(key));
            });
        }
        let gap_first = self.has(Mutation::GapFirst);
        let gap = |next: &mut Self| {
            if !next.has(Mutation::NoGap) {
                next.marks.gap();
            }
        };
        match self.connection {
            Connection::Up if self.left[2] > 0 => step("the connection is lost".into(), &|next| {
                next.left[2] -= 1;
                next.messages.clear();
                next.connection = Connection::Lost;
            }),
            Connection::Up => {}
            Connection::Lost => step("the loss is noticed".into(), &|next| {
                next.connection = Connection::Noticed;
                match gap_first {
                    true => gap(next),
                    false => next.covered = false,
                }
            }),
            Connection::Noticed => step("its second step".into(), &|next| {
                next.connection = Connection::Down;
                match gap_first {
                    true => next.covered = false,
                    false => gap(next),
                }
            }),
            Connection::Down => step("a new connection".into(), &|next| {
                next.connection = Connection::Up;
                next.covered = true;
                gap(next);
            }),
        }
        steps
    }

    fn flaw(&self) -> Option<Flaw> {
        self.flaw.then_some(Flaw::StaleRead)
    }

    fn is_over(&self) -> bool {
        true
    }
}

fn flaw(mutation: Option<Mutation>) -> Result<usize, Flaw> {
    explore(&World::new(mutation)).map_err(|trace| {
        if mutation.is_none() {
            panic!("{trace}");
        }
        trace.flaw
    })
}

#[test]
fn a_copy_is_as_new_as_the_messages_that_have_come() {
    let states = flaw(None).unwrap();
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn a_departure_from_each_rule_is_found() {
    let mutations = [
        Mutation::NotedLate,
        Mutation::UnmarkedWrite,
        Mutation::NoGap,
        Mutation::KeptWhileDown,
        Mutation::TagForgotten,
        Mutation::GapFirst,
    ];
    for mutation in mutations {
        assert_eq!(flaw(Some(mutation)), Err(Flaw::StaleRead), "{mutation:?}");
    }
}
