//! Commands that wait for the socket, and the callers that wait for their answers.

use crate::backend::wire::frames::Reply;
use crate::base::lock::lock;
use redis::{RedisError, RedisResult, Value};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Waker};
use tokio::sync::{Notify, oneshot};

/// The bytes that may wait to be sent. A caller that comes then waits until they are gone.
const MOST_BYTES: usize = 1 << 20;

/// A caller that waits for answers.
pub(super) enum Waiting {
    One(oneshot::Sender<RedisResult<Reply>>),
    Several {
        /// The answers that are still to come, and how many of them are dropped.
        left: usize,
        skip: usize,
        answers: Vec<Value>,
        sender: oneshot::Sender<RedisResult<Vec<Value>>>,
    },
}

impl Waiting {
    /// For a pipeline of `count` commands.
    pub(super) fn several(
        count: usize,
        skip: usize,
        sender: oneshot::Sender<RedisResult<Vec<Value>>>,
    ) -> Self {
        let answers = Vec::with_capacity(count.saturating_sub(skip));
        Waiting::Several {
            left: count,
            skip,
            answers,
            sender,
        }
    }

    /// Gives the caller of several commands their answers. (It may be gone.)
    pub(super) fn finish(self) {
        if let Waiting::Several {
            answers, sender, ..
        } = self
        {
            let _ = sender.send(Ok(answers));
        }
    }

    /// Tells the caller why there is no answer. (It may be gone.)
    pub(super) fn fail(self, error: &RedisError) {
        match self {
            Waiting::One(sender) => drop(sender.send(Err(error.clone()))),
            Waiting::Several { sender, .. } => drop(sender.send(Err(error.clone()))),
        }
    }
}

/// The commands of a queue, as the driver finds them.
#[derive(Debug, PartialEq)]
pub(super) enum Commands {
    None,
    Wait,
    Taken,
    /// There will be no more.
    Over,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when the queue was emptied, or has ended.
    room: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    callers: Vec<Waiting>,
    /// The driver, if it waits for commands.
    driver: Option<Waker>,
    /// No more commands are sent: the driver has ended, or all handles are gone.
    over: bool,
}

impl Queue {
    /// Adds commands, once there is room. Takes the caller that waits, or drops it if the
    /// connection has ended.
    pub(super) async fn push(&self, pack: impl Fn(&mut Vec<u8>), caller: &mut Option<Waiting>) {
        loop {
            let room = self.room.notified();
            if self.try_push(&pack, caller) {
                return;
            }
            room.await;
        }
    }

    /// False if there is no room.
    fn try_push(&self, pack: impl Fn(&mut Vec<u8>), caller: &mut Option<Waiting>) -> bool {
        let mut state = lock(&self.state);
        if state.over {
            *caller = None;
            return true;
        }
        if state.bytes.len() >= MOST_BYTES {
            return false;
        }
        pack(&mut state.bytes);
        state.callers.extend(caller.take());
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        true
    }

    /// If `now`, moves all commands into `bytes`, which is empty, and their callers behind those in
    /// `callers`. If there are none, the driver is woken by the next one.
    pub(super) fn take(
        &self,
        now: bool,
        bytes: &mut Vec<u8>,
        callers: &mut VecDeque<Waiting>,
        context: &Context<'_>,
    ) -> Commands {
        let mut state = lock(&self.state);
        if state.bytes.is_empty() {
            let waker = context.waker();
            if !state
                .driver
                .as_ref()
                .is_some_and(|own| own.will_wake(waker))
            {
                state.driver = Some(waker.clone());
            }
            return match state.over {
                true => Commands::Over,
                false => Commands::None,
            };
        }
        if !now {
            return Commands::Wait;
        }
        let was_full = state.bytes.len() >= MOST_BYTES;
        std::mem::swap(&mut state.bytes, bytes);
        callers.extend(state.callers.drain(..));
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        Commands::Taken
    }

    /// Ends the queue: callers that wait in it, and later ones, are dropped.
    pub(super) fn end(&self) {
        let (driver, callers) = {
            let mut state = lock(&self.state);
            state.over = true;
            state.bytes = Vec::new();
            (state.driver.take(), std::mem::take(&mut state.callers))
        };
        drop(callers);
        self.room.notify_waiters();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}
