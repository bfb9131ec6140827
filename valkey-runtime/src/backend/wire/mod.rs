//! An open connection to a server, shared by all callers.
//!
//! Callers write their commands into one buffer, the [`Queue`]. One task, the [`Driver`], owns the
//! socket: it sends the buffer whole, and gives each answer to its caller. So commands that come
//! while the socket is busy go out together, and a command alone goes out at once. Reads of one key
//! that wait for the socket are one command. Answers are slices of the receive buffer.
//!
//! The driver also watches the time of the commands, with one timer for all of them. Only a caller
//! in another runtime, which may go on while that of the driver stands still, has its own.
//!
//! The client library makes the connection and the handshake ([`dial`]), and encodes commands.

mod callers;
pub(crate) mod dial;
mod driver;
mod frames;
mod queue;
mod request;

use crate::backend::wire::callers::{Caller, late, lost};
use crate::backend::wire::driver::Driver;
pub(crate) use crate::backend::wire::frames::Reply;
use crate::backend::wire::queue::Queue;
pub(crate) use crate::backend::wire::request::Request;
use redis::{Pipeline, RedisResult, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

/// A handle to a connection. Cheap to clone. The connection ends with the last of them.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Shared>);

struct Shared {
    queue: Arc<Queue>,
    /// The time to wait for an answer.
    patience: Duration,
    /// The runtime of the driver.
    home: Id,
}

impl Connection {
    /// Starts the task that owns the stream. `end` is dropped when the connection ends, in any way.
    pub(crate) fn start(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        patience: Duration,
        end: impl Send + Unpin + 'static,
    ) -> Self {
        let (queue, runtime) = (Arc::new(Queue::default()), Handle::current());
        let home = runtime.id();
        runtime.spawn(Driver::new(stream, queue.clone(), patience, end));
        Self(Arc::new(Shared {
            queue,
            patience,
            home,
        }))
    }

    /// Sends a command from a runtime, and waits for its answer for the time of a command.
    pub(crate) async fn send(&self, request: &Request<'_>, here: Id) -> RedisResult<Reply> {
        self.exchange_one(request, Some(here)).await
    }

    /// Like [`send`](Self::send), for a caller that watches the time.
    pub(crate) async fn send_untimed(&self, request: &Request<'_>) -> RedisResult<Reply> {
        self.exchange_one(request, None).await
    }

    /// Sends commands together, and waits for the time of a command. The first `skip` answers are
    /// dropped.
    pub(crate) async fn send_all(
        &self,
        pipeline: &Pipeline,
        skip: usize,
        here: Id,
    ) -> RedisResult<Vec<Value>> {
        self.exchange_all(pipeline, skip, Some(here)).await
    }

    /// Like [`send_all`](Self::send_all), for a caller that watches the time.
    pub(crate) async fn send_all_untimed(
        &self,
        pipeline: &Pipeline,
        skip: usize,
    ) -> RedisResult<Vec<Value>> {
        self.exchange_all(pipeline, skip, None).await
    }

    async fn exchange_one(&self, request: &Request<'_>, here: Option<Id>) -> RedisResult<Reply> {
        let (sender, answer) = oneshot::channel();
        let pack = |bytes: &mut Vec<u8>| request.pack(bytes);
        let caller = Caller::One(sender);
        self.exchange(pack, request.read(), caller, answer, here)
            .await
    }

    async fn exchange_all(
        &self,
        pipeline: &Pipeline,
        skip: usize,
        here: Option<Id>,
    ) -> RedisResult<Vec<Value>> {
        let count = pipeline.cmd_iter().count();
        if count == 0 {
            return Ok(Vec::new());
        }
        let (sender, answers) = oneshot::channel();
        let pack = |bytes: &mut Vec<u8>| {
            for command in pipeline.cmd_iter() {
                command.write_packed_command(bytes);
            }
        };
        let caller = Caller::several(count, skip, sender);
        self.exchange(pack, None, caller, answers, here).await
    }

    /// `here` is the runtime of a caller that does not watch the time.
    async fn exchange<T>(
        &self,
        pack: impl Fn(&mut Vec<u8>),
        read: Option<&[u8]>,
        caller: Caller,
        answer: oneshot::Receiver<RedisResult<T>>,
        here: Option<Id>,
    ) -> RedisResult<T> {
        let queue = &self.0.queue;
        let mut caller = Some(caller);
        if here == Some(self.0.home) && queue.try_push(&pack, read, &mut caller) {
            return answer.await.unwrap_or_else(|_| Err(lost()));
        }
        // Boxed, as it is rare, so that the future of most commands is small.
        Box::pin(async {
            let exchanged = async {
                if let Some(caller) = caller {
                    queue.push(pack, read, caller).await;
                }
                answer.await.unwrap_or_else(|_| Err(lost()))
            };
            match here {
                None => exchanged.await,
                Some(_) => tokio::time::timeout(self.0.patience, exchanged)
                    .await
                    .unwrap_or_else(|_| Err(late())),
            }
        })
        .await
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.end();
    }
}

#[cfg(test)]
mod tests;
