//! A process beside a test, which does what it is told on its standard input and says on its standard output how far it is.
//!
//! ```text
//! load           begins to load the row; `loading` once the loader runs, which then waits for `row N`; `loaded N`
//! update         writes the row under a guard; `updated`
//! get            `cached N`, or `cached none`
//! herd N MILLIS  N tasks load the row at once, by a loader of so many milliseconds; `loading` for each run of it, and
//!                `herd LOADS LONGEST FILLED MEDIAN`: milliseconds of the longest call; when the caller that loaded had its
//!                answer, and the median of when the others had theirs, in microseconds since the epoch
//! ```

#![allow(clippy::print_stdout, reason = "that is how it answers")]

use std::io::{BufRead, Lines, StdinLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use valkey_runtime::{Cached, Source, Store};

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "row")]
struct Row {
    #[cached(key)]
    id: u64,
    value: u64,
}

fn row(value: u64) -> Row {
    Row { id: 1, value }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the URL of the server");
    let store = Store::connect(&url).await.expect("a server");
    println!("ready");
    let mut lines = std::io::stdin().lock().lines();
    while let Some(line) = next(&mut lines) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["load"] => load(&store, &mut lines).await,
            ["update"] => {
                Row::update(&store, 1, async || Ok::<_, ()>(()))
                    .await
                    .expect("the write");
                println!("updated");
            }
            ["get"] => match Row::get(&store, 1).await.expect("a read") {
                Some(row) => println!("cached {}", row.value),
                None => println!("cached none"),
            },
            ["herd", tasks, millis] => {
                let (tasks, millis) = (
                    tasks.parse().expect("a number"),
                    millis.parse().expect("a number"),
                );
                herd(&store, tasks, Duration::from_millis(millis)).await;
            }
            _ => panic!("not understood: {line}"),
        }
    }
}

fn next(lines: &mut Lines<StdinLock<'_>>) -> Option<String> {
    lines.next().map(|line| line.expect("a line"))
}

async fn load(store: &Store, lines: &mut Lines<StdinLock<'_>>) {
    let (tell, told) = oneshot::channel::<u64>();
    let store = store.clone();
    let call = tokio::spawn(async move {
        Row::get_or_load(&store, 1, async || {
            println!("loading");
            Ok::<_, oneshot::error::RecvError>(row(told.await?))
        })
        .await
    });
    let line = next(lines).expect("row N");
    let value = line
        .strip_prefix("row ")
        .and_then(|value| value.parse().ok());
    tell.send(value.expect("row N")).expect("the loader waits");
    let loaded = call
        .await
        .expect("no panic")
        .expect("no error")
        .expect("a row");
    println!("loaded {}", loaded.value);
}

async fn herd(store: &Store, tasks: usize, takes: Duration) {
    let calls: Vec<_> = (0..tasks)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let began = Instant::now();
                let load = async || {
                    println!("loading");
                    tokio::time::sleep(takes).await;
                    Ok::<_, ()>(row(7))
                };
                let entry = Row::get_or_load_entry(&store, 1, Default::default(), load).await;
                let entry = entry.expect("no error").expect("a row");
                (entry.source(), began.elapsed(), now_micros())
            })
        })
        .collect();
    let (mut loads, mut longest, mut filled, mut answered) = (0, Duration::ZERO, 0, Vec::new());
    for call in calls {
        let (source, took, at) = call.await.expect("no panic");
        longest = longest.max(took);
        if source == Source::Loaded {
            loads += 1;
            filled = at;
        } else {
            answered.push(at);
        }
    }
    answered.sort_unstable();
    let median = answered.get(answered.len() / 2).copied().unwrap_or(0);
    println!("herd {loads} {} {filled} {median}", longest.as_millis());
}

fn now_micros() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_micros()
}
