//! The task that owns the socket of a connection.

use crate::backend::wire::frames::{self, Scan};
use crate::backend::wire::queue::{Commands, Queue, Waiting};
use bytes::BytesMut;
use redis::{RedisError, RedisResult};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// The bytes that are asked for in one read.
const READ: usize = 64 * 1024;
/// A send buffer that grew beyond this is not kept.
const KEPT: usize = 1 << 20;

/// A future that ends when the connection does. All callers are answered then.
pub(super) struct Driver<S, E> {
    stream: S,
    queue: Arc<Queue>,
    /// The commands that are being sent, and how many bytes of them are.
    sending: Vec<u8>,
    sent: usize,
    /// Whether bytes may be in the stream's own buffer.
    unflushed: bool,
    received: BytesMut,
    scan: Scan,
    /// The callers of the commands that were taken from the queue, in order.
    callers: VecDeque<Waiting>,
    /// Other callers had a turn to add commands since the last ones were sent.
    gathered: bool,
    _end: E,
}

impl<S, E> Driver<S, E> {
    pub(super) fn new(stream: S, queue: Arc<Queue>, end: E) -> Self {
        Self {
            stream,
            queue,
            sending: Vec::new(),
            sent: 0,
            unflushed: false,
            received: BytesMut::with_capacity(READ),
            scan: Scan::default(),
            callers: VecDeque::new(),
            gathered: false,
            _end: end,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: Unpin> Driver<S, E> {
    /// Sends what waits. Pending once nothing more can be sent now.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.sending.len() == self.sent {
                self.sending.clear();
                self.sent = 0;
                if self.sending.capacity() > KEPT {
                    self.sending = Vec::new();
                }
                let (bytes, callers) = (&mut self.sending, &mut self.callers);
                let now = std::mem::take(&mut self.gathered);
                match self.queue.take(now, bytes, callers, context) {
                    Commands::Taken => {}
                    Commands::None => break,
                    Commands::Over => return Poll::Ready(Ok(())),
                    Commands::Wait => {
                        // Callers that are ready to run add theirs, before one write takes all.
                        self.gathered = true;
                        context.waker().wake_by_ref();
                        break;
                    }
                }
            }
            let rest = &self.sending[self.sent..];
            match Pin::new(&mut self.stream).poll_write(context, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    self.sent += count;
                    self.unflushed = true;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    /// Receives answers and gives them to their callers. Ready once there will be no more.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<RedisResult<()>> {
        loop {
            self.received.reserve(READ / 4);
            let read = pin!(self.stream.read_buf(&mut self.received)).poll(context);
            match ready!(read) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => self.answer()?,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn answer(&mut self) -> RedisResult<()> {
        while !self.received.is_empty() {
            let malformed =
                |_| RedisError::from((redis::ErrorKind::Parse, "no answer of a server"));
            let Some(end) = self.scan.end(&self.received).map_err(malformed)? else {
                return Ok(());
            };
            let frame = self.received.split_to(end).freeze();
            if frames::is_push(&frame) {
                continue;
            }
            let reply = frames::reply(frame)?;
            match self.callers.front_mut() {
                None => return Err((redis::ErrorKind::Parse, "an answer to no command").into()),
                Some(Waiting::One(_)) => {}
                Some(Waiting::Several {
                    left,
                    skip,
                    answers,
                    ..
                }) => {
                    *left -= 1;
                    match *skip {
                        0 => answers.push(reply.into_value()),
                        _ => *skip -= 1,
                    }
                    if *left > 0 {
                        continue;
                    }
                    self.callers
                        .pop_front()
                        .into_iter()
                        .for_each(Waiting::finish);
                    continue;
                }
            }
            if let Some(Waiting::One(sender)) = self.callers.pop_front() {
                // The caller may be gone.
                let _ = sender.send(Ok(reply));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: Unpin> Future for Driver<S, E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let ended = match self.poll_receive(context) {
            Poll::Ready(ended) => ended,
            Poll::Pending => match self.poll_send(context) {
                Poll::Ready(ended) => ended.map_err(RedisError::from),
                Poll::Pending => return Poll::Pending,
            },
        };
        // Nobody can be told more than that it is over.
        self.queue.end();
        if let Err(error) = ended {
            self.callers
                .drain(..)
                .for_each(|caller| caller.fail(&error));
        }
        Poll::Ready(())
    }
}

impl<S, E> Drop for Driver<S, E> {
    fn drop(&mut self) {
        self.queue.end();
    }
}
