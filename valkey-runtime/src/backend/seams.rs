//! The seams of a connection: deadlines, clock, randomness, tasks. Also the ways in which a request
//! ends without an answer.

use crate::backend::time::ServerTime;
use crate::base::clock::{Random, later};
#[cfg(test)]
use crate::base::clock::{SystemClock, ThreadRandom};
use crate::base::counters::Counters;
use crate::base::error::Error;
use crate::base::tasks::Background;
use crate::base::warnings::Warnings;
use redis::RedisError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The reason why a command has no value as its answer.
pub(crate) enum Lapse {
    /// The server answered with an error.
    Said(RedisError),
    /// The connection was lost.
    Lost(Error),
    /// No answer came in time.
    Silent(Error),
    /// The command was not sent, because the breaker is open.
    Refused(Error),
    /// The command could not be sent, or its answer makes no sense.
    Failed(Error),
}

/// Deadlines for connecting, for each command, and for all commands of one operation together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
    pub(crate) operation: Duration,
}

/// The seams that a link takes from its store.
#[derive(Clone)]
pub(crate) struct Seams {
    pub(crate) time: Arc<ServerTime>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) background: Background,
    pub(crate) warnings: Arc<Warnings>,
}

#[cfg(test)]
impl Seams {
    /// The machine's own clock and randomness.
    pub(crate) fn plain() -> Self {
        let clock = Arc::new(SystemClock::new());
        let counters = Arc::<Counters>::default();
        Self {
            time: Arc::new(ServerTime::new(clock.clone())),
            random: Arc::new(ThreadRandom),
            background: Background::new(counters.clone()),
            counters,
            warnings: Warnings::new(clock),
        }
    }
}

/// The moment after a time from now.
pub(crate) fn after(time: Duration) -> Instant {
    later(Instant::now(), time)
}
