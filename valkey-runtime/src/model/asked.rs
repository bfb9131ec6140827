//! Compares the scripts of counters and of locks with their functions: the same answer, and the same
//! state to the byte.
//!
//! A script gets a time to use in place of the server's. No window and no lease would end to the
//! microsecond at an arbitrary time.

use std::cell::{Cell, RefCell};
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::protocol::transition::Life;
use crate::protocol::{count, lock};
use crate::testing::resp::{self, Value};
use crate::testing::server::TestServer;

const KEY: &[u8] = b"asked";
const TIME: &str = "redis.call('TIME')";
const NOW: u64 = 1_767_225_600_000_000;

/// A server, a script that gets its time in the arguments after `arguments`, and a way to it.
struct Script {
    connection: RefCell<BufReader<UnixStream>>,
    body: String,
    _server: TestServer,
}

impl Script {
    fn new(body: &str, arguments: usize) -> Self {
        let server = TestServer::plain();
        let connection = BufReader::new(UnixStream::connect(server.socket()).unwrap());
        assert_eq!(body.matches(TIME).count(), 1);
        let time = format!("{{ARGV[{}], ARGV[{}]}}", arguments + 1, arguments + 2);
        Self {
            connection: RefCell::new(connection),
            body: body.replace(TIME, &time),
            _server: server,
        }
    }

    fn command(&self, command: &[&[u8]]) -> Value {
        let mut connection = self.connection.borrow_mut();
        let bytes = resp::encode(command);
        connection.get_mut().write_all(&bytes).unwrap();
        resp::read_value(&mut *connection).unwrap()
    }

    fn run(&self, arguments: &[&str], now: u64) -> Vec<u8> {
        let time = [now / 1_000_000, now % 1_000_000].map(|part| part.to_string());
        let mut command = vec![b"EVAL", self.body.as_bytes(), b"1", KEY];
        command.extend(arguments.iter().map(|argument| argument.as_bytes()));
        command.extend(time.iter().map(|part| part.as_bytes()));
        match self.command(&command) {
            Value::Bulk(answer) => answer,
            answer => panic!("{answer:?}"),
        }
    }

    fn plant(&self, state: Option<&[u8]>, life: Option<u64>) {
        self.command(&[b"DEL", KEY]);
        let life = life.map(|life| life.to_string());
        match (state, &life) {
            (None, _) => return,
            (Some(state), None) => self.command(&[b"SET", KEY, state]),
            (Some(state), Some(life)) => {
                self.command(&[b"SET", KEY, state, b"PX", life.as_bytes()])
            }
        };
    }

    fn state(&self) -> Option<Vec<u8>> {
        match self.command(&[b"GET", KEY]) {
            Value::Bulk(state) => Some(state),
            Value::Null => None,
            answer => panic!("{answer:?}"),
        }
    }

    /// The milliseconds to live.
    fn life(&self) -> Option<u64> {
        match self.command(&[b"PTTL", KEY]) {
            Value::Integer(-1) => None,
            Value::Integer(left) => Some(left as u64),
            answer => panic!("{answer:?}"),
        }
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

fn are_close(one: Option<u64>, other: Option<u64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) < 5_000,
        (one, other) => one == other,
    }
}

/// Amounts and counts: small ones, and those around which a sum does not fit.
fn numbers() -> impl Strategy<Value = i64> {
    let edge = 0..3i64;
    prop_oneof![
        -3..4i64,
        any::<i64>(),
        edge.clone().prop_map(|less| i64::MAX - less),
        edge.prop_map(|more| i64::MIN + more),
        // Where a double is no longer exact.
        ((1i64 << 53) - 2)..((1i64 << 53) + 2),
    ]
}

fn counters() -> impl Strategy<Value = Option<Vec<u8>>> {
    let texts = [
        "",
        "-",
        "-0",
        "00",
        "+1",
        " 1",
        "1 ",
        "1.5",
        "1e3",
        "x",
        "9223372036854775808",
        "-9223372036854775809",
    ];
    let counter = numbers().prop_map(|number| number.to_string().into_bytes());
    let text = prop::sample::select(texts.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![
        1 => Just(None),
        6 => counter.prop_map(Some),
        2 => text.prop_map(Some),
        1 => prop::collection::vec(any::<u8>(), 0..22).prop_map(Some),
    ]
}

fn lasts() -> impl Strategy<Value = count::Lasts> {
    let lives = || 60_000..10_000_000u64;
    prop_oneof![
        Just(count::Lasts::Forever),
        lives().prop_map(count::Lasts::AfterFirst),
        lives().prop_map(count::Lasts::AfterLast),
        (1..10_000_000u64).prop_map(count::Lasts::Window),
    ]
}

#[test]
fn the_script_of_counters_does_what_the_function_does() {
    let script = Script::new(include_str!("../scripts/count.lua"), 5);
    let acts = prop_oneof![
        8 => numbers().prop_map(count::Act::Add),
        1 => Just(count::Act::Look),
        1 => Just(count::Act::Reset)
    ];
    let lives = prop::option::of(prop_oneof![40_000..50_000u64, 20_000_000..30_000_000u64]);
    let cases = (counters(), lives, acts, lasts(), 0..1u64 << 40);
    // Sums, sums that do not fit, and no counters.
    let counts = Cell::new([0; 3]);
    let outcome = runner(4000).run(&cases, |(state, life, act, lasts, past)| {
        let now = NOW + past;
        script.plant(state.as_deref(), life);
        let (name, amount) = match act {
            count::Act::Add(amount) => ("add", amount),
            count::Act::Look => ("look", 0),
            count::Act::Reset => ("reset", 0),
        };
        let (rule, millis) = lasts.parameters();
        let (amount, millis) = (amount.to_string(), millis.to_string());
        let answer = script.run(&["count", name, &amount, rule, &millis], now);
        let ask = count::Ask { act, lasts };
        let (count, then) = count::decide(state.as_deref(), &ask, now);
        prop_assert_eq!(count::answered(&answer), Some(count));
        let at = match count {
            count::Count::Is(_) => 0,
            count::Count::Overflow => 1,
            count::Count::NoCounter => 2,
        };
        let mut more = counts.get();
        more[at] += 1;
        counts.set(more);
        let left = script.state();
        match then {
            count::Then::Keep => prop_assert_eq!(left, state),
            count::Then::Remove => prop_assert_eq!(left, None),
            count::Then::Put(sum, then) => {
                let before = life.filter(|_| state.is_some());
                let expected = match then {
                    Life::Exactly(life) => life,
                    Life::AtMost(most) => Some(before.map_or(most, |before| before.min(most))),
                    life => panic!("{life:?}"),
                };
                // A counter that lives for a few milliseconds may be gone.
                if expected.is_none_or(|life| life > 5_000) || left.is_some() {
                    prop_assert_eq!(left, Some(sum.to_string().into_bytes()));
                }
                if expected.is_none_or(|life| life > 5_000) {
                    let life = script.life();
                    prop_assert!(are_close(life, expected), "{:?} {:?}", life, expected);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let counts = counts.get();
    assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
}

#[test]
fn another_type_of_the_server_is_no_counter_and_no_lock_and_stays() {
    let script = Script::new(include_str!("../scripts/count.lua"), 5);
    script.command(&[b"RPUSH", KEY, b"1"]);
    for act in ["add", "look", "reset"] {
        assert_eq!(script.run(&["count", act, "1", "forever", "0"], NOW), b"?");
    }
    let locks = Script::new(include_str!("../scripts/lock.lua"), 5);
    locks.command(&[b"RPUSH", KEY, b"1"]);
    for act in ["acquire", "renew", "release"] {
        assert_eq!(
            locks.run(&["lock", act, "0000000000000001", "10", "1"], NOW),
            b"?"
        );
    }
    for script in [script, locks] {
        assert_eq!(script.command(&[b"LLEN", KEY]), Value::Integer(1));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(lock::Ask),
    /// Time passes, in microseconds. A negative number sets the clock back.
    Pass(i64),
    /// A byte of the state is damaged, or what follows it is lost.
    Damage(usize, Option<u8>),
    /// Nobody holds it, and this was the last fencing token.
    Last(u64),
    Lost,
}

fn steps() -> impl Strategy<Value = Step> {
    let acts = prop_oneof![
        4 => Just(lock::Act::Acquire),
        2 => Just(lock::Act::Renew),
        2 => Just(lock::Act::Release)
    ];
    let lives = prop_oneof![Just(10u64), Just(1_000), Just(lock::LONGEST)];
    let asks = (acts, 1..5u64, lives, prop_oneof![Just(1u32), 1..4u32]);
    let ask = asks.prop_map(|(act, token, life, permits)| {
        // Tokens that need all digits.
        let token = token.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Step::Ask(lock::Ask {
            act,
            token,
            life,
            permits,
        })
    });
    let pass = prop_oneof![
        4 => prop::sample::select(vec![1, 9_999, 10_000, 999_999, 1_000_000]),
        1 => prop::sample::select(vec![-1, -10_001, -5_000_000]),
    ];
    let bytes = prop::option::of(prop::sample::select(b"0f9gF\nk".to_vec()));
    prop_oneof![
        16 => ask,
        8 => pass.prop_map(Step::Pass),
        1 => (0..200usize, bytes).prop_map(|(at, byte)| Step::Damage(at, byte)),
        1 => ((1u64 << 53) - 4..=1 << 53).prop_map(Step::Last),
        1 => Just(Step::Lost),
    ]
}

#[test]
fn the_script_of_locks_does_what_the_function_does() {
    let script = Script::new(include_str!("../scripts/lock.lua"), 5);
    // Held, busy, gone, and no locks.
    let counts = Cell::new([0; 4]);
    let cases = prop::collection::vec(steps(), 1..25);
    let outcome = runner(500).run(&cases, |steps| {
        let (mut state, mut now) = (None::<Vec<u8>>, NOW);
        script.plant(None, None);
        for step in steps {
            let ask = match step {
                Step::Pass(micros) => {
                    now = now.saturating_add_signed(micros);
                    continue;
                }
                Step::Lost => {
                    state = None;
                    script.plant(None, None);
                    continue;
                }
                Step::Last(last) => {
                    state = Some(format!("k{last:016}{:016x}", 0).into_bytes());
                    script.plant(state.as_deref(), None);
                    continue;
                }
                Step::Damage(at, byte) => {
                    if let Some(state) = &mut state {
                        match (byte, state.len()) {
                            (Some(byte), len) => state[at % len] = byte,
                            (None, len) => state.truncate(1 + at % len),
                        }
                        script.plant(Some(state), None);
                    }
                    continue;
                }
                Step::Ask(ask) => ask,
            };
            let act = match ask.act {
                lock::Act::Acquire => "acquire",
                lock::Act::Renew => "renew",
                lock::Act::Release => "release",
            };
            let token = format!("{:016x}", ask.token);
            let (life, permits) = (ask.life.to_string(), ask.permits.to_string());
            let answer = script.run(&["lock", act, &token, &life, &permits], now);
            let (decided, then) = lock::decide(state.as_deref(), &ask, now);
            prop_assert_eq!(lock::answered(&answer), Some(decided), "{:?}", state);
            let at = match decided {
                lock::Answer::Held(_) => 0,
                lock::Answer::Busy(_) => 1,
                lock::Answer::Gone => 2,
                lock::Answer::NoLock => 3,
            };
            let mut more = counts.get();
            more[at] += 1;
            counts.set(more);
            if let lock::Then::Put(put, life) = then {
                let left = script.life();
                prop_assert!(are_close(left, Some(life)), "{:?} {}", left, life);
                state = Some(put);
            }
            prop_assert_eq!(script.state(), state.clone());
        }
        Ok(())
    });
    outcome.unwrap();
    let counts = counts.get();
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}
