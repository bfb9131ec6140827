//! The task that owns the socket of a connection.

use crate::backend::seams::after;
use crate::backend::wire::callers::{Caller, Callers, late};
use crate::backend::wire::frames::{self, Scan};
use crate::backend::wire::queue::{Commands, Queue};
use bytes::BytesMut;
use redis::{RedisError, RedisResult};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};

/// The bytes that are asked for in one read.
const READ: usize = 64 * 1024;
/// The part of the callers, and the least number of them, that are answered before their next
/// commands are sent. So the server works on those while the others are answered. If all were
/// answered at once, client and server would take turns.
const PART: usize = 4;
const FEW: usize = 4;
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
    /// The callers of all commands that were taken from the queue.
    callers: Callers,
    /// Those that were taken last. Kept for its memory.
    taken: Vec<Caller>,
    /// Other callers had a turn to add commands since the last ones were taken.
    gathered: bool,
    /// The time of a command, and a timer that ends not after that of the first caller.
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    is_timed: bool,
    _end: E,
}

impl<S, E> Driver<S, E> {
    pub(super) fn new(stream: S, queue: Arc<Queue>, patience: Duration, end: E) -> Self {
        Self {
            stream,
            queue,
            sending: Vec::new(),
            sent: 0,
            unflushed: false,
            received: BytesMut::with_capacity(READ),
            scan: Scan::default(),
            callers: Callers::default(),
            taken: Vec::new(),
            gathered: false,
            patience,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            is_timed: false,
            _end: end,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: Unpin> Driver<S, E> {
    /// Sends what waits. Ready once there will be no more, or nothing can be sent.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.sending.len() == self.sent {
                self.sending.clear();
                self.sent = 0;
                if self.sending.capacity() > KEPT {
                    self.sending = Vec::new();
                }
            }
            let now = std::mem::take(&mut self.gathered);
            let sending = (&mut self.sending, self.sent);
            match self.queue.take(now, sending, &mut self.taken, context) {
                Commands::Taken => {
                    self.callers.add(&mut self.taken, after(self.patience));
                }
                Commands::Wait => {
                    // Callers that are ready to run add theirs, before one write takes all.
                    self.gathered = true;
                    context.waker().wake_by_ref();
                }
                Commands::None => {}
                Commands::Over => return Poll::Ready(Ok(())),
            }
            if self.sending.len() == self.sent {
                break;
            }
            let rest = &self.sending[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
            self.unflushed = true;
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
            if self.answer()? {
                // The callers have a turn before there are more answers.
                self.gathered = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.received.reserve(READ / 4);
            let read = pin!(self.stream.read_buf(&mut self.received)).poll(context);
            match ready!(read) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Gives received answers to their callers, up to a part of all callers. True if there may be
    /// more.
    fn answer(&mut self) -> RedisResult<bool> {
        let most = (self.callers.len() / PART).max(FEW);
        for _ in 0..most {
            if self.received.is_empty() {
                return Ok(false);
            }
            let malformed = |_| parse("not an answer of a server");
            let Some(end) = self.scan.end(&self.received).map_err(malformed)? else {
                return Ok(false);
            };
            let frame = self.received.split_to(end).freeze();
            if !frames::is_push(&frame) && !self.callers.answer(frames::reply(frame)?) {
                return Err(parse("an answer without a command"));
            }
        }
        Ok(!self.received.is_empty())
    }

    /// Tells callers that wait too long, and is polled again when the next ones do.
    fn watch(&mut self, context: &mut Context<'_>) {
        while let Some(due) = self.callers.due() {
            if !self.is_timed {
                self.timer.as_mut().reset(due);
                self.is_timed = true;
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return;
            }
            self.is_timed = false;
            self.callers.expire(Instant::now(), &late());
        }
    }
}

fn parse(why: &'static str) -> RedisError {
    (redis::ErrorKind::Parse, why).into()
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: Unpin> Future for Driver<S, E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let ended = match self.poll_receive(context) {
            Poll::Ready(ended) => ended,
            Poll::Pending => match self.poll_send(context) {
                Poll::Ready(ended) => ended.map_err(RedisError::from),
                Poll::Pending => {
                    self.watch(context);
                    return Poll::Pending;
                }
            },
        };
        self.queue.end();
        if let Err(error) = ended {
            self.callers.fail(&error);
        }
        Poll::Ready(())
    }
}

impl<S, E> Drop for Driver<S, E> {
    fn drop(&mut self) {
        self.queue.end();
    }
}
