//! Commands on their way to the socket, and their callers.
//!
//! A read of a key whose read still waits in the queue is not added: both callers get the one
//! answer. It never shares a read that was taken for the socket. The server may have carried that
//! out before the second caller began, so its answer could be too old.

use crate::backend::wire::callers::Caller;
use crate::backend::wire::request::Request;
use crate::base::lock::lock;
use std::sync::Mutex;
use std::task::{Context, Waker};
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

/// The bytes that may wait for the socket. A caller that comes then waits until there are fewer.
const MOST_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when there is room again, or the queue has ended.
    room: Notify,
}

/// The number of reads that are remembered, by the hashes of their keys. A power of two.
const READS: usize = 64;

/// A read in the queue.
#[derive(Clone, Copy, Default)]
struct Read {
    /// The commands that it is among: see [`State::taken_times`].
    among: u64,
    /// Where its key is in the bytes.
    key: (usize, usize),
    /// The position of its caller.
    caller: usize,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    callers: Vec<Caller>,
    /// The last read of each place. Empty until the first read.
    reads: Vec<Read>,
    /// How often the driver took the commands.
    taken_times: u64,
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

    /// Lets a caller share the read of its key that waits in the queue, if there is one.
    fn share(&mut self, key: &[u8], caller: &mut Option<Caller>) -> bool {
        let Some(read) = self.reads.get(place_of(key)) else {
            return false;
        };
        let (from, to) = read.key;
        if read.among != self.taken_times || self.bytes.get(from..to) != Some(key) {
            return false;
        }
        if let (Some(first), Some(caller)) = (self.callers.get_mut(read.caller), caller.take()) {
            first.join(caller);
        }
        true
    }

    /// Adds commands. `read` is the key that they read, if they are a read and nothing else.
    fn add(&mut self, pack: impl Fn(&mut Vec<u8>), read: Option<&[u8]>, caller: Option<Caller>) {
        pack(&mut self.bytes);
        if let Some(key) = read {
            self.reads.resize(READS, Read::default());
            let to = self.bytes.len() - Request::AFTER_KEY;
            self.reads[place_of(key)] = Read {
                among: self.taken_times,
                key: (to - key.len(), to),
                caller: self.callers.len(),
            };
        }
        self.callers.extend(caller);
    }
}

fn place_of(key: &[u8]) -> usize {
    xxh3_64(key) as usize % READS
}

impl Queue {
    /// Adds commands, once there is room. The caller is dropped if the connection has ended.
    pub(super) async fn push(
        &self,
        pack: impl Fn(&mut Vec<u8>),
        read: Option<&[u8]>,
        caller: Caller,
    ) {
        let mut caller = Some(caller);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // From here on a notification is not missed.
            room.as_mut().enable();
            if self.try_push(&pack, read, &mut caller) {
                return;
            }
            room.await;
        }
    }

    /// Takes the caller and adds its commands, or lets it share those of another, or drops it if
    /// the connection has ended. False if there is no room. `read`: see [`State::add`].
    pub(super) fn try_push(
        &self,
        pack: impl Fn(&mut Vec<u8>),
        read: Option<&[u8]>,
        caller: &mut Option<Caller>,
    ) -> bool {
        let mut state = lock(&self.state);
        if state.over {
            *caller = None;
            return true;
        }
        if read.is_some_and(|key| state.share(key, caller)) {
            return true;
        }
        if !state.has_room() {
            return false;
        }
        state.add(pack, read, caller.take());
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
            state.taken_times += 1;
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
