//! What a connection stands on: deadlines, clock, chance, tasks; and how a request ends without an answer.

use crate::backend::time::ServerTime;
use crate::base::clock::Random;
use crate::base::counters::Counters;
use crate::base::error::Error;
use crate::base::tasks::Background;
use crate::base::warnings::Warnings;
use redis::RedisError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What became of a command that has no value for an answer.
pub(crate) enum Lapse {
    /// The server answered with an error.
    Said(RedisError),
    /// The connection was lost.
    Lost(Error),
    /// Nothing was answered.
    Silent(Error),
    /// It was not sent, since the breaker is open.
    Refused(Error),
    /// It could not be sent, or was answered in a way that it can't be.
    Failed(Error),
}

/// Deadlines for connecting, for each command, and for the commands of one operation together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
    pub(crate) operation: Duration,
}

/// What a link takes from its store.
#[derive(Clone)]
pub(crate) struct Seams {
    pub(crate) time: Arc<ServerTime>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) background: Background,
    pub(crate) warnings: Arc<Warnings>,
}

pub(crate) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    // What can't be told as a moment is as good as never: a day from now.
    let day = Duration::from_secs(24 * 60 * 60);
    now.checked_add(time).unwrap_or(now + day)
}
