//! An open connection to a server, shared by all callers.
//!
//! Callers write their commands into one buffer, the [`Queue`]. One task, the [`Driver`], owns the
//! socket: it sends the buffer whole, and gives each answer to its caller. So commands that come
//! while the socket is busy go out together, and a command alone goes out at once. Answers are
//! slices of the receive buffer.
//!
//! The client library makes the connection and the handshake ([`Dialer`]), and encodes commands.

pub(crate) mod dial;
mod driver;
mod frames;
mod queue;

use crate::backend::wire::driver::Driver;
pub(crate) use crate::backend::wire::frames::Reply;
use crate::backend::wire::queue::{Queue, Waiting};
use redis::{Cmd, Pipeline, RedisResult, Value};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// A handle to a connection. Cheap to clone. The connection ends with the last of them.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Handle>);

struct Handle {
    queue: Arc<Queue>,
    /// The time to wait for an answer.
    patience: Duration,
}

impl Connection {
    /// Starts the task that owns the stream. `end` is dropped when the connection ends, in any way.
    pub(crate) fn start(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        patience: Duration,
        end: impl Send + Unpin + 'static,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        tokio::spawn(Driver::new(stream, queue.clone(), end));
        Self(Arc::new(Handle { queue, patience }))
    }

    /// Sends a command, and waits for its answer for the time of a command.
    pub(crate) async fn send(&self, command: &Cmd) -> RedisResult<Reply> {
        in_time(self.0.patience, self.send_untimed(command)).await
    }

    /// Like [`send`](Self::send), without an end.
    pub(crate) async fn send_untimed(&self, command: &Cmd) -> RedisResult<Reply> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = Some(Waiting::One(sender));
        let pack = |bytes: &mut Vec<u8>| command.write_packed_command(bytes);
        self.0.queue.push(pack, &mut waiting).await;
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Sends commands together, and waits for the time of a command. The first `skip` answers are
    /// dropped.
    pub(crate) async fn send_all(
        &self,
        pipeline: &Pipeline,
        skip: usize,
    ) -> RedisResult<Vec<Value>> {
        in_time(self.0.patience, self.send_all_untimed(pipeline, skip)).await
    }

    /// Like [`send_all`](Self::send_all), without an end.
    pub(crate) async fn send_all_untimed(
        &self,
        pipeline: &Pipeline,
        skip: usize,
    ) -> RedisResult<Vec<Value>> {
        let count = pipeline.cmd_iter().count();
        if count == 0 {
            return Ok(Vec::new());
        }
        let (sender, receiver) = oneshot::channel();
        let mut waiting = Some(Waiting::several(count, skip, sender));
        let pack = |bytes: &mut Vec<u8>| {
            for command in pipeline.cmd_iter() {
                command.write_packed_command(bytes);
            }
        };
        self.0.queue.push(pack, &mut waiting).await;
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.end();
    }
}

async fn in_time<T>(
    time: Duration,
    answer: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    tokio::time::timeout(time, answer)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// The error of a command whose connection ended before its answer came.
fn lost() -> redis::RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}
