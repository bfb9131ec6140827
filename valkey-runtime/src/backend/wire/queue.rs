//! Commands on their way to the socket, and their callers.

use crate::backend::wire::callers::Caller;
use crate::base::lock::lock;
use std::sync::Mutex;
use std::task::{Context, Waker};
use tokio::sync::Notify;

/// The bytes that may wait for the socket. A caller that comes then waits until there are fewer.
const MOST_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when there is room again, or the queue has ended.
    room: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    callers: Vec<Caller>,
    /// The bytes that the driver took and has not sent.
    taken: usize,
    /// The driver, if it waits for commands.
    driver: Option<Waker>,
    /// No more commands are sent: the driver has ended, or all handles are gone.
    over: bool,
}

/// The commands of a queue, as the driver finds them.
#[derive(Debug, PartialEq)]
pub(super) enum Commands {
    None,
    /// There are some, and none was taken.
    Wait,
    Taken,
    /// There will be no more.
    Over,
}

impl State {
    fn has_room(&self) -> bool {
        self.bytes.len() + self.taken < MOST_BYTES
    }
}

impl Queue {
    /// Adds commands, once there is room. The caller is dropped if the connection has ended.
    pub(super) async fn push(&self, pack: impl Fn(&mut Vec<u8>), caller: Caller) {
        let mut caller = Some(caller);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // From here on a notification is not missed.
            room.as_mut().enable();
            if self.try_push(&pack, &mut caller) {
                return;
            }
            room.await;
        }
    }

    /// Takes the caller and adds its commands, or drops it if the connection has ended. False if
    /// there is no room.
    pub(super) fn try_push(
        &self,
        pack: impl Fn(&mut Vec<u8>),
        caller: &mut Option<Caller>,
    ) -> bool {
        let mut state = lock(&self.state);
        if state.over {
            *caller = None;
            return true;
        }
        if !state.has_room() {
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

    /// If `now`, moves all commands behind those in `bytes`, of which `sent` are on their way, and
    /// their callers into `callers`. If there are none, the driver is woken by the next one.
    pub(super) fn take(
        &self,
        now: bool,
        (bytes, sent): (&mut Vec<u8>, usize),
        callers: &mut Vec<Caller>,
        context: &Context<'_>,
    ) -> Commands {
        let mut state = lock(&self.state);
        let had_room = state.has_room();
        let commands = if state.bytes.is_empty() {
            let waker = context.waker();
            if !{ &state.driver }
                .as_ref()
                .is_some_and(|own| own.will_wake(waker))
            {
                state.driver = Some(waker.clone());
            }
            match state.over {
                true => Commands::Over,
                false => Commands::None,
            }
        } else if now {
            match bytes.is_empty() {
                true => std::mem::swap(&mut state.bytes, bytes),
                false => bytes.append(&mut state.bytes),
            }
            std::mem::swap(&mut state.callers, callers);
            Commands::Taken
        } else {
            Commands::Wait
        };
        state.taken = bytes.len() - sent;
        let has_room = state.has_room();
        drop(state);
        if has_room && !had_room {
            self.room.notify_waiters();
        }
        commands
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
