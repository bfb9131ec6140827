//! The instructions of the parts of a hit and of a write in the process: figures without noise, for
//! `cargo xtask bench --check`. A server's answer would bring the noise of the network.
//!
//! ```text
//! cargo bench -p benches --bench instructions
//! ```
//!
//! callgrind counts, so valgrind must be installed. The parts are reached by the public API:
//!
//! - key: a `get` that is called and not polled.
//! - encode: a `set` that is called and not polled, without its key.
//! - decode: the type's `Deserialize` over the runtime's decoder, in a hit.
//! - header check: a hit without a miss of the same key's length, and without its decoding.
//! - hit in process: a `get` on `Store::memory`.
//! - compact: the same of a type with `layout = "compact"`.
//! - hit of a cached function: a call of a `#[cached_fn]` whose result is cached.
//! - near hit: `get_shared` of a type with a near cache, whose value was decoded before.
//!
//! A further figure is an operation of `work` and a line of `count`.
//!
//! With the variable `FIGURES` the figures are also written there, as JSON.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;

use benches::counted;
use serde::{Deserialize, Deserializer, Serialize};
use valkey_runtime::{Cached, Store, cached_fn};

benches::user!(User: prefix = "user");
benches::user!(Compact: prefix = "compact", layout = "compact");
benches::user!(Near: prefix = "near", ttl = "1h", near = "1h");

/// Reads entries of [`User`], and does so in a function that callgrind can name.
#[derive(Serialize, Cached)]
#[cached(prefix = "user")]
struct Marked {
    #[cached(key)]
    id: u64,
    active: bool,
}

impl<'de> Deserialize<'de> for Marked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let User { id, active, .. } = decoding_of_a_user(deserializer)?;
        Ok(Self { id, active })
    }
}

#[inline(never)]
fn decoding_of_a_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<User, D::Error> {
    User::deserialize(deserializer)
}

/// A function whose result is a user of either size.
#[cached_fn(prefix = "user-of")]
async fn user_of(store: &Store, #[context] is_large: bool, id: u64) -> Result<User, ()> {
    Ok(match is_large {
        true => User::large(id),
        false => User::new(id),
    })
}

/// The variable with the task of a process: the operation, the size, and the number of operations.
const TASK: &str = "INSTRUCTIONS_TASK";

fn main() {
    match std::env::var(TASK) {
        Ok(task) => work(&task),
        Err(_) => count(),
    }
}

/// Runs an operation many times, in a process of its own.
fn work(task: &str) {
    let words: Vec<&str> = task.split(' ').collect();
    let [operation, size, count] = words[..] else {
        panic!("a task has three words");
    };
    let user = match size {
        "small" => User::new(0),
        _ => User::large(0),
    };
    let compact = match size {
        "small" => Compact::new(0),
        _ => Compact::large(0),
    };
    let count: u64 = count.parse().expect("the last word is a number");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let store = Store::memory();
        // As without the test kit.
        store.faults().set_yielding(false);
        user.set(&store).await.expect("it is stored");
        let found = User::get(&store, 0).await.expect("it is read");
        assert_eq!(found.as_ref(), Some(&user));
        compact.set(&store).await.expect("it is stored");
        Near::new(0).set(&store).await.expect("it is stored");
        for _ in 0..2 {
            Near::get_shared(&store, 0).await.expect("it is read");
        }
        let is_large = size != "small";
        let result = user_of(&store, is_large, 0).await;
        assert_eq!(result.as_ref(), Ok(&user));
        for _ in 0..count {
            match operation {
                "get-called" => _ = black_box(&pin!(User::get(&store, black_box(0)))),
                "set-called" => _ = black_box(&pin!(black_box(&user).set(&store))),
                "compact-set-called" => _ = black_box(&pin!(black_box(&compact).set(&store))),
                "compact" => assert!(Compact::get(&store, 0).await.unwrap().unwrap().active),
                "rmp-serde" => drop(black_box(rmp_serde::to_vec_named(black_box(&user)))),
                "hit" => assert!(User::get(&store, 0).await.unwrap().unwrap().active),
                "load" => {
                    let load = async || Err::<User, ()>(());
                    let found = User::get_or_load(&store, 0, load).await;
                    assert!(found.unwrap().active);
                }
                "function" => assert!(user_of(&store, is_large, 0).await.unwrap().active),
                "near" => assert!(Near::get_shared(&store, 0).await.unwrap().unwrap().active),
                "miss" => assert!(User::get(&store, 1).await.unwrap().is_none()),
                "marked" => assert!(Marked::get(&store, 0).await.unwrap().unwrap().active),
                _ => panic!("no operation is called `{operation}`"),
            }
        }
    });
}

fn count() {
    let program = std::env::current_exe().expect("this program has a path");
    let each = |operation: &str, size: &str, only| {
        let task = |count| format!("{operation} {size} {count}");
        counted::each(&program, TASK, task, only).round()
    };
    let key = each("get-called", "small", None);
    let miss = each("miss", "small", None);
    let mut figures = BTreeMap::from([
        ("key".to_owned(), key),
        ("near hit".to_owned(), each("near", "small", None)),
    ]);
    for (size, bytes) in [("small", "200 B"), ("large", "8 KiB")] {
        let hit = each("hit", size, None);
        let load = each("load", size, None);
        let decode = each("marked", size, Some("*decoding_of_a_user*"));
        let marked = each("marked", size, None);
        let mut figure = |name: &str, figure| figures.insert(format!("{name}, {bytes}"), figure);
        figure("hit in process", hit);
        figure("hit of get_or_load in process", load);
        figure(
            "hit of a cached function in process",
            each("function", size, None),
        );
        figure("decode", decode);
        figure("header check", marked - miss - decode);
        figure("encode", each("set-called", size, None) - key);
        let compact = each("compact-set-called", size, None);
        figure("encode, compact", compact - key);
        figure("hit in process, compact", each("compact", size, None));
        figure("encode by rmp-serde alone", each("rmp-serde", size, None));
    }
    for (name, figure) in &figures {
        println!("{name:<34}{figure:>12}");
    }
    if let Some(path) = std::env::var_os("FIGURES") {
        let text = serde_json::to_string_pretty(&figures).expect("figures are JSON");
        std::fs::write(Path::new(&path), text + "\n").expect("the figures can be written");
    }
}
