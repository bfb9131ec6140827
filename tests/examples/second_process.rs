//! A process beside a test. It reads commands from its standard input and reports its progress on
//! its standard output.
//!
//! ```text
//! load           begins to load the row; `loading` once the loader runs, which then waits for `row N`; `loaded N`
//! update         writes the row under a guard; `updated`
//! get            `cached N`, or `cached none`
//! herd N MILLIS  N tasks load the row at once, by a loader of so many milliseconds; `loading` for each run of it, and
//!                `herd LOADS LONGEST FILLED MEDIAN`: milliseconds of the longest call; when the caller that loaded had its
//!                answer, and the median of when the others had theirs, in microseconds since the epoch
//! hot N MILLIS   N tasks read hot keys for so long, each of them refreshed ahead by a loader that takes 50 ms and now and
//!                then dies in the middle; `hot CALLS WAITED KILLED LOADS…`: how many calls there were; how many of them, after
//!                the first second, waited for a load; how many loads died; how many loads each key had
//! stale          stores what its time is over for; `stale`
//! fall N MILLIS  N tasks read those keys by a loader that fails; `fall CALLS STALE FAILED LOADS…`: how
//!                many calls there were, how many were given the stale value, how many failed, how often each key was tried
//! lock           takes a lock with a lease of a second, or waits for it, and holds it to the end of the process; `locked FENCE`
//! limit N LOOPS MILLIS PERIOD QUOTA
//!                N tasks ask limits of all algorithms, and a counter that is none: each so often at least, and for so many
//!                milliseconds. The windows have that quota in so many seconds; `limit ASKED GCRA FIXED SLIDING COUNTER`: how
//!                often each was asked, and how often each let through
//! still          `still MILLIS`: the longest that it was not answered, or had no turn to ask, since it began
//! ```

#![allow(clippy::print_stdout, reason = "that is how it answers")]

use std::io::{BufRead, Lines, StdinLock};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::lock::Lock;
use valkey_runtime::{Cached, Source, Store};

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "row")]
struct Row {
    #[cached(key)]
    id: u64,
    value: u64,
}

const KEYS: u64 = 100;

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "hot", ttl = "5s", jitter = "0%", refresh_ahead = "40%")]
struct Hot {
    #[cached(key)]
    id: u64,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "fall",
    ttl = "1s",
    stale_if_error = "1h",
    retry_after = "1s",
    jitter = "0%"
)]
struct Fall {
    #[cached(key)]
    id: u64,
}

/// A counter that is no limiter.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "counter", ttl = "1h")]
struct Counter {
    #[cached(key)]
    id: u64,
    taken: u32,
}

fn lock() -> Lock<u64> {
    let lock = Lock::builder("process").lease(Duration::from_secs(1));
    lock.wait(Duration::from_secs(60)).build().expect("a rule")
}

fn row(value: u64) -> Row {
    Row { id: 1, value }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the URL of the server");
    // However busy the machine is.
    let builder = Store::builder().url(&url);
    let builder = builder.command_timeout(Duration::from_secs(30));
    let store = builder.connect().await.expect("a server");
    tokio::spawn(turns(store.clone()));
    println!("ready");
    let mut locks = Vec::new();
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
            ["still"] => println!("still {}", STILL.load(SeqCst)),
            ["herd", tasks, millis] => {
                let takes = Duration::from_millis(number(millis));
                herd(&store, number(tasks), takes).await;
            }
            ["hot", tasks, millis] => hot(&store, number(tasks), number(millis)).await,
            ["stale"] => stale(&store).await,
            ["fall", tasks, millis] => fall(&store, number(tasks), number(millis)).await,
            ["lock"] => {
                let held = lock().lock(&store, 1).await.expect("the lock");
                println!("locked {}", held.fencing_token());
                locks.push(held);
            }
            ["limit", tasks, loops, millis, period, quota] => {
                let windows = (number(quota), Duration::from_secs(number(period)));
                limit(&url, number(tasks), number(loops), number(millis), windows).await;
            }
            _ => panic!("not understood: {line}"),
        }
    }
}

/// The longest between two of [`turns`], in milliseconds.
static STILL: AtomicU64 = AtomicU64::new(0);

/// Asks the server all the time: beside what the tasks ask it, and as their leases are renewed.
async fn turns(store: Store) {
    loop {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(10)).await;
        store.ping().await.expect("a server");
        STILL.fetch_max(began.elapsed().as_millis() as u64, SeqCst);
    }
}

fn number<N: FromStr>(text: &str) -> N {
    text.parse().ok().expect("a number")
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
    let loaded = call.await.expect("no panic").expect("no error");
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
                let entry = store.of::<Row>().load(1).entry().run(load).await;
                let entry = entry.expect("no error");
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

/// The counts of all tasks of a command together.
struct Counts {
    calls: AtomicU64,
    /// Calls that waited for a load.
    waited: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
    killed: AtomicU64,
    /// One a key.
    loads: Vec<AtomicU64>,
}

impl Counts {
    fn new() -> Arc<Self> {
        let zero = AtomicU64::default;
        Arc::new(Self {
            calls: zero(),
            waited: zero(),
            stale: zero(),
            failed: zero(),
            killed: zero(),
            loads: (0..KEYS).map(|_| zero()).collect(),
        })
    }

    fn loads(&self) -> String {
        let loads = self
            .loads
            .iter()
            .map(|loads| loads.load(SeqCst).to_string());
        loads.collect::<Vec<_>>().join(" ")
    }
}

/// Has tasks call for so many milliseconds, each on one key after the other.
async fn calls<C, Fut>(tasks: u64, millis: u64, call: C)
where
    C: Fn(u64, Instant) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let began = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut key = task;
                while began.elapsed() < Duration::from_millis(millis) {
                    call(key % KEYS, began).await;
                    key += 1;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

async fn hot(store: &Store, tasks: u64, millis: u64) {
    // One load in ten dies.
    std::panic::set_hook(Box::new(|_| {}));
    let (store, counts) = (store.clone(), Counts::new());
    let counted = counts.clone();
    let call = move |key: u64, began: Instant| {
        let (store, counts) = (store.clone(), counted.clone());
        async move {
            let warm = began.elapsed() > Duration::from_secs(1);
            let loading = counts.clone();
            // Only a refresh dies: the panic of a load that somebody waits for is passed on to its
            // caller.
            let load = move |current: Option<_>| async move {
                loading.loads[key as usize].fetch_add(1, SeqCst);
                let dies = current.is_some() && fastrand::u8(..10) == 0;
                let takes = if dies { fastrand::u64(..50) } else { 50 };
                tokio::time::sleep(Duration::from_millis(takes)).await;
                if dies {
                    loading.killed.fetch_add(1, SeqCst);
                    panic!("killed");
                }
                Ok::<_, ()>(Hot { id: key })
            };
            let entry = store
                .of::<Hot>()
                .load(key)
                .in_background()
                .entry()
                .revalidate(load)
                .await;
            let entry = entry.expect("no error");
            counts.calls.fetch_add(1, SeqCst);
            if warm && entry.source() != Source::Cached {
                counts.waited.fetch_add(1, SeqCst);
            }
        }
    };
    calls(tasks, millis, call).await;
    let of = |count: &AtomicU64| count.load(SeqCst);
    let (calls, waited, killed) = (of(&counts.calls), of(&counts.waited), of(&counts.killed));
    println!("hot {calls} {waited} {killed} {}", counts.loads());
}

async fn stale(store: &Store) {
    for id in 0..KEYS {
        Fall { id }.set(store).await.expect("it is stored");
        store
            .of::<Fall>()
            .mark_stale(id)
            .await
            .expect("it is expired");
    }
    println!("stale");
}

async fn fall(store: &Store, tasks: u64, millis: u64) {
    let (store, counts) = (store.clone(), Counts::new());
    let counted = counts.clone();
    let call = move |key: u64, _| {
        let (store, counts) = (store.clone(), counted.clone());
        async move {
            let load = async || {
                counts.loads[key as usize].fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err::<Fall, _>("no database")
            };
            let entry = store.of::<Fall>().load(key).entry().run(load).await;
            counts.calls.fetch_add(1, SeqCst);
            match entry {
                Ok(entry) if entry.source() == Source::Stale => &counts.stale,
                Ok(_) => return,
                Err(_) => &counts.failed,
            }
            .fetch_add(1, SeqCst);
        }
    };
    calls(tasks, millis, call).await;
    let of = |count: &AtomicU64| count.load(SeqCst);
    let (calls, stale, failed) = (of(&counts.calls), of(&counts.stale), of(&counts.failed));
    println!("fall {calls} {stale} {failed} {}", counts.loads());
}

/// The first of them drains while it is asked.
fn limiters((quota, period): (u32, Duration)) -> [RateLimiter; 3] {
    let gcra = RateLimiter::builder("gcra").quota(100, Duration::from_secs(1));
    let window = |name| RateLimiter::builder(name).quota(quota, period);
    let all = [
        gcra.burst(1000),
        window("fixed").fixed_window(),
        window("sliding").sliding_window(),
    ];
    all.map(|builder| builder.fail_closed().build().expect("a rule"))
}

async fn count(store: &Store, quota: u32) -> bool {
    let found = Counter::get(store, 1).await.expect("a read");
    let taken = found.map_or(0, |counter| counter.taken);
    if taken < quota {
        let taken = taken + 1;
        let set = Counter { id: 1, taken }.set(store).await;
        set.expect("it is stored");
    }
    taken < quota
}

async fn limit(url: &str, tasks: usize, loops: u64, millis: u64, windows: (u32, Duration)) {
    // A machine that stands still is no server that fails.
    let patience = Duration::from_secs(30);
    let builder = Store::builder().url(url).command_timeout(patience);
    let store = builder.operation_timeout(patience).connect().await;
    let (store, began) = (store.expect("a server"), Instant::now());
    let tasks = (0..tasks).map(|_| {
        let (store, limiters) = (store.clone(), limiters(windows));
        tokio::spawn(async move {
            let (mut asked, mut allowed) = (0, [0; 4]);
            while asked < loops || began.elapsed() < Duration::from_millis(millis) {
                for (limiter, allowed) in limiters.iter().zip(&mut allowed) {
                    let decision = limiter.check(&store, "all").await.expect("a decision");
                    assert_eq!(decision.failure(), None);
                    *allowed += u64::from(decision.is_allowed());
                }
                allowed[3] += u64::from(count(&store, windows.0).await);
                asked += 1;
            }
            (asked, allowed)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let (mut asked, mut allowed) = (0, [0; 4]);
    for task in tasks {
        let (more, let_through) = task.await.expect("no panic");
        asked += more;
        allowed
            .iter_mut()
            .zip(let_through)
            .for_each(|(all, more)| *all += more);
    }
    let [gcra, fixed, sliding, counter] = allowed;
    println!("limit {asked} {gcra} {fixed} {sliding} {counter}");
}

fn now_micros() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_micros()
}
