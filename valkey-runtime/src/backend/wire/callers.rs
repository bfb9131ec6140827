//! The callers that wait for answers, in the order of their commands.

use crate::backend::wire::frames::Reply;
use redis::{RedisError, RedisResult, Value};
use std::collections::VecDeque;
use std::io;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A caller that waits for answers.
pub(super) enum Caller {
    One(oneshot::Sender<RedisResult<Reply>>),
    /// Callers that share a read.
    Sharing(Vec<oneshot::Sender<RedisResult<Reply>>>),
    Several(Box<Several>),
    /// It got a timeout and left. So many answers to it may still arrive.
    Gone(usize),
}

pub(super) struct Several {
    /// The answers that are still to come, and how many of them are dropped.
    left: usize,
    skip: usize,
    answers: Vec<Value>,
    sender: oneshot::Sender<RedisResult<Vec<Value>>>,
}

impl Caller {
    /// A caller of `count` commands, which does not want the first `skip` answers.
    pub(super) fn several(
        count: usize,
        skip: usize,
        sender: oneshot::Sender<RedisResult<Vec<Value>>>,
    ) -> Self {
        let answers = Vec::with_capacity(count.saturating_sub(skip));
        Caller::Several(Box::new(Several {
            left: count,
            skip,
            answers,
            sender,
        }))
    }

    /// Lets another caller of one command share the answer.
    pub(super) fn join(&mut self, other: Caller) {
        let Caller::One(other) = other else {
            unreachable!("only a caller of one read joins another");
        };
        match std::mem::replace(self, Caller::Gone(1)) {
            Caller::One(first) => *self = Caller::Sharing(vec![first, other]),
            Caller::Sharing(mut all) => {
                all.push(other);
                *self = Caller::Sharing(all);
            }
            Caller::Several(_) | Caller::Gone(_) => {
                unreachable!("a read has callers of one command")
            }
        }
    }

    /// Tells it why there is no answer, and returns how many would have been still to come.
    fn fail(self, error: &RedisError) -> usize {
        // It may have stopped to wait.
        match self {
            Caller::One(sender) => {
                let _ = sender.send(Err(error.clone()));
                1
            }
            Caller::Sharing(senders) => {
                for sender in senders {
                    let _ = sender.send(Err(error.clone()));
                }
                1
            }
            Caller::Several(several) => {
                let _ = several.sender.send(Err(error.clone()));
                several.left
            }
            Caller::Gone(left) => left,
        }
    }
}

/// Callers whose commands were taken from the queue at once, and the end of their time.
struct Batch {
    callers: usize,
    due: Instant,
}

#[derive(Default)]
pub(super) struct Callers {
    waiting: VecDeque<Caller>,
    batches: VecDeque<Batch>,
    /// The number of batches that got a timeout.
    late: usize,
}

impl Callers {
    /// Adds callers behind the others.
    pub(super) fn add(&mut self, callers: &mut Vec<Caller>, due: Instant) {
        let batch = Batch {
            callers: callers.len(),
            due,
        };
        self.waiting.extend(callers.drain(..));
        self.batches.push_back(batch);
    }

    /// Gives the first caller an answer. False if there is none.
    pub(super) fn answer(&mut self, reply: Reply) -> bool {
        let Some(first) = self.waiting.front_mut() else {
            return false;
        };
        let is_done = match first {
            Caller::One(_) | Caller::Sharing(_) => true,
            Caller::Several(several) => {
                several.left -= 1;
                match several.skip {
                    0 => several.answers.push(reply.into_value()),
                    _ => several.skip -= 1,
                }
                if several.left == 0 {
                    self.finish();
                }
                return true;
            }
            Caller::Gone(left) => {
                *left -= 1;
                *left == 0
            }
        };
        // A caller may have stopped to wait.
        match is_done.then(|| self.pop()).flatten() {
            Some(Caller::One(sender)) => drop(sender.send(Ok(reply))),
            Some(Caller::Sharing(senders)) => {
                for sender in senders {
                    let _ = sender.send(Ok(reply.clone()));
                }
            }
            _ => {}
        }
        true
    }

    fn finish(&mut self) {
        if let Some(Caller::Several(several)) = self.pop() {
            let _ = several.sender.send(Ok(several.answers));
        }
    }

    fn pop(&mut self) -> Option<Caller> {
        let caller = self.waiting.pop_front()?;
        if let Some(batch) = self.batches.front_mut() {
            batch.callers -= 1;
            if batch.callers == 0 {
                self.batches.pop_front();
                self.late = self.late.saturating_sub(1);
            }
        }
        Some(caller)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the time of the first callers ends that are not late.
    pub(super) fn due(&self) -> Option<Instant> {
        self.batches.get(self.late).map(|batch| batch.due)
    }

    /// Tells callers whose time has ended. Their answers are dropped when they come.
    pub(super) fn expire(&mut self, now: Instant, error: &RedisError) {
        let mut at: usize = { self.batches.iter().take(self.late) }
            .map(|batch| batch.callers)
            .sum();
        while let Some(batch) = self.batches.get(self.late).filter(|batch| batch.due <= now) {
            for caller in self.waiting.iter_mut().skip(at).take(batch.callers) {
                let left = std::mem::replace(caller, Caller::Gone(0)).fail(error);
                *caller = Caller::Gone(left);
            }
            at += batch.callers;
            self.late += 1;
        }
    }

    /// Tells all callers that there will be no answer.
    pub(super) fn fail(&mut self, error: &RedisError) {
        for caller in self.waiting.drain(..) {
            caller.fail(error);
        }
        self.batches.clear();
        self.late = 0;
    }
}

/// The error of a command whose connection ended before its answer came.
pub(super) fn lost() -> RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}

/// The error of a command whose answer did not come in time.
pub(super) fn late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
