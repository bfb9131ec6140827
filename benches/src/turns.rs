//! Contenders that work until their time is over, in turn.
//!
//! A cell is one contender with some tasks, for a short time. A round is a cell of every contender,
//! in a rotating order.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::KEYS;

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A way to do an operation. [`contender!`](crate::contender) makes one.
pub struct Contender {
    name: &'static str,
    run: Box<dyn Fn(Cell) -> Run>,
}

type Run = Pin<Box<dyn Future<Output = Outcome>>>;

/// One task of a contender, while its time lasts.
pub struct Turn {
    id: u64,
    over: Arc<AtomicBool>,
    /// With latencies: when the last operation began.
    began: Option<Option<Instant>>,
    done: Done,
}

/// What a task has done.
#[derive(Default)]
pub struct Done {
    operations: u64,
    /// How long each operation took, if that was asked for.
    nanos: Vec<u32>,
}

/// How a cell runs.
#[derive(Clone, Copy)]
pub struct Cell {
    /// The number of tasks that work at once.
    pub tasks: u64,
    /// How long they work.
    pub time: Duration,
    /// Whether the time of each operation is recorded.
    pub latencies: bool,
}

/// The result of a cell.
pub struct Outcome {
    /// Operations a second.
    pub throughput: f64,
    /// The sorted times of all operations, in nanoseconds, if they were recorded.
    nanos: Vec<u32>,
}

impl Contender {
    /// A contender with that name, whose tasks are started by a function.
    pub fn new(name: &'static str, start: impl Fn(Turn) -> Work + 'static) -> Self {
        let run = move |cell: Cell| -> Run {
            let over = Arc::new(AtomicBool::new(false));
            let started = Instant::now();
            let tasks: Vec<_> = (0..cell.tasks)
                .map(|task| {
                    tokio::spawn(start(Turn {
                        id: task * KEYS / cell.tasks,
                        over: over.clone(),
                        began: cell.latencies.then_some(None),
                        done: Done::default(),
                    }))
                })
                .collect();
            // A thread and no timer, because the contender may keep the runtime busy.
            std::thread::spawn(move || {
                std::thread::sleep(cell.time);
                over.store(true, Ordering::Relaxed);
            });
            Box::pin(async move {
                let mut all = Done::default();
                for task in tasks {
                    let done = task.await.expect("a contender does not panic");
                    all.operations += done.operations;
                    all.nanos.extend(done.nanos);
                }
                let throughput = all.operations as f64 / started.elapsed().as_secs_f64();
                Outcome::new(throughput, all.nanos)
            })
        };
        let run = Box::new(run);
        Self { name, run }
    }

    /// A contender with that name that works outside of this process. It blocks.
    pub fn outside(name: &'static str, run: impl Fn(Cell) -> Outcome + 'static) -> Self {
        let run = move |cell| -> Run {
            let outcome = tokio::task::block_in_place(|| run(cell));
            Box::pin(std::future::ready(outcome))
        };
        let run = Box::new(run);
        Self { name, run }
    }

    /// Its name in the report.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Lets it work.
    pub async fn run(&self, cell: Cell) -> Outcome {
        (self.run)(cell).await
    }
}

impl Turn {
    /// The key of the next operation, which begins now; `None` if the time is over. The operation
    /// before it has ended.
    pub fn next_id(&mut self) -> Option<u64> {
        if let Some(began) = &mut self.began {
            let now = Instant::now();
            if let Some(began) = began.replace(now) {
                let nanos = (now - began).as_nanos();
                self.done.nanos.push(nanos.try_into().unwrap_or(u32::MAX));
            }
        }
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        self.done.operations += 1;
        let id = self.id % KEYS;
        self.id += 1;
        Some(id)
    }

    /// What was done, after the last operation.
    pub fn done(self) -> Done {
        self.done
    }
}

impl Outcome {
    /// The throughput, and the times of all operations in any order.
    pub fn new(throughput: f64, mut nanos: Vec<u32>) -> Self {
        nanos.sort_unstable();
        Self { throughput, nanos }
    }

    /// The time in microseconds within which that part of the operations ended.
    pub fn micros(&self, part: f64) -> f64 {
        let at = (self.nanos.len() as f64 * part) as usize;
        let nanos = self.nanos.get(at.min(self.nanos.len().saturating_sub(1)));
        nanos.map_or(f64::NAN, |nanos| f64::from(*nanos) / 1000.0)
    }
}

/// A contender by its name, the values that each of its tasks has a clone of, and the operation on
/// the key of a number.
#[macro_export]
macro_rules! contender {
    ($name:expr, [$($own:ident),*], $id:ident => $operation:expr) => {{
        $(let $own = $own.clone();)*
        $crate::turns::Contender::new($name, move |mut turn| {
            $(
                #[allow(unused_mut, reason = "only some clients need it")]
                let mut $own = $own.clone();
            )*
            Box::pin(async move {
                while let Some($id) = turn.next_id() {
                    $operation
                }
                turn.done()
            })
        })
    }};
}
