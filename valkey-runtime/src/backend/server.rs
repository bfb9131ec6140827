//! The backend for a server, or for a cluster of servers.
//!
//! Bulk verbs are cut into chunks, with a few under way at a time. So no single command occupies
//! the server for long, and each has its own deadline. On a cluster, a bulk read is split by slot,
//! and a bulk write sends one command a key.
//!
//! An operation has a deadline for all its commands: a script that the server did not know is sent
//! once more, within the remaining time.
//!
//! Long because it has one method for each request, beside the commands they send.

use crate::backend::target::{Host, ServerConfig, Target};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use redis::{Cmd, Pipeline, Value};

use crate::backend::buffer::Buffer;
use crate::backend::failure::{Words, unexpected_answer};
use crate::backend::hub::Hub;
use crate::backend::keeping;
use crate::backend::keeping::Keeping;
use crate::backend::keys::ServerKeys;
use crate::backend::limits;
use crate::backend::limits::{CAREFUL, Care};
use crate::backend::link::{Link, time_command, time_of};
use crate::backend::question;
use crate::backend::question::Question;
use crate::backend::script;
use crate::backend::script::Call;
use crate::backend::seams::{Deadlines, Seams};
use crate::backend::time::ServerTime;
use crate::backend::tracker::{Interest, Tracker};
use crate::backend::wire::{Reply, Request};
use crate::backend::write::Write;
use crate::base::error::{Error, ErrorKind};
use crate::base::tasks::Background;
use crate::protocol::breaker::BreakerState;
use crate::protocol::envelope::HEAD;
use crate::protocol::found::Found;
use crate::protocol::scope::Scope;
use crate::protocol::transition::{Placing, Tick, Verb, recent_clock};

/// The most keys in one command, and the most bytes of values in one pipeline (or one value that is
/// larger).
const CHUNK: usize = 1000;
const CHUNK_BYTES: usize = 1 << 20;
/// The chunks under way at a time, and the commands under way at a time if each key has its own.
const CHUNKS_UNDER_WAY: usize = 4;
const COMMANDS_UNDER_WAY: usize = 256;

pub(crate) struct Server {
    link: Link,
    tracker: Tracker,
    time: Arc<ServerTime>,
    background: Background,
    address: String,
    encrypted: bool,
}

impl ServerConfig {
    pub(crate) fn link(
        &self,
        deadlines: Deadlines,
        words: Words,
        seams: Seams,
        namespace: &str,
    ) -> redis::RedisResult<Link> {
        let dialer = match &self.target {
            Target::Tcp(host) => self.dialer(host)?,
            Target::Unix(path) => self.dialer_of_socket(path)?,
            Target::Cluster(seeds) => {
                // An error in the settings is an error for each node.
                for seed in seeds {
                    self.dialer(seed)?;
                }
                let (seeds, config) = (seeds.clone(), self.clone());
                let dialer = move |host: &Host| config.dialer(host);
                return Ok(Link::to_cluster(
                    seeds, dialer, deadlines, words, seams, namespace,
                ));
            }
        };
        Ok(Link::to_server(dialer, deadlines, words, seams, namespace))
    }
}

impl Server {
    /// Checks the configuration. Nothing is connected yet.
    pub(crate) fn new(config: &ServerConfig, seams: Seams, hub: Arc<Hub>) -> Result<Self, Error> {
        let deadlines = Deadlines {
            connect: config.connect_timeout,
            command: config.command_timeout,
            operation: config.operation_timeout,
        };
        let words = Words::without(config.password.clone());
        let wrong = |error| {
            let error = words.of(error, deadlines.connect);
            Error::config(error.to_string())
        };
        let link = config.link(deadlines, words.clone(), seams.clone(), hub.namespace());
        let link = link.map_err(wrong)?;
        let tracker = Tracker::new(config, deadlines, hub, &seams, link.renewals());
        let tracker = tracker.map_err(wrong)?;
        Ok(Self {
            time: seams.time,
            background: seams.background,
            link,
            tracker,
            address: config.target.address(),
            encrypted: config.tls.is_some(),
        })
    }

    pub(crate) async fn connect(&self) -> Result<(), Error> {
        self.link.connect().await.map_err(|error| {
            // A server without TLS takes the handshake for the beginning of a command, and waits
            // for the rest.
            let error = match error.kind() {
                ErrorKind::Timeout if self.encrypted => {
                    error.context("the TLS handshake got no answer; the port may not speak TLS")
                }
                _ => error,
            };
            error.context(format_args!("can't connect to {}", self.address))
        })
    }

    pub(crate) fn connect_in_background(&self) {
        self.link.connect_in_background();
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn time(&self) -> &ServerTime {
        &self.time
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        self.link.state()
    }

    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.link.closed()
    }

    pub(crate) fn close(&self) {
        self.link.close();
        self.tracker.close();
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        self.tracker.hub()
    }

    /// A subscriber that receives all changes from now on.
    pub(crate) async fn subscribe(&self) -> Result<(Arc<Buffer>, Interest), Error> {
        self.tracker.subscribe().await
    }

    /// Begins to report all changes, and does not wait until they are.
    pub(crate) fn follow(&self) -> Result<Interest, Error> {
        self.tracker.follow()
    }

    pub(crate) fn operation_timeout(&self) -> Duration {
        self.link.operation()
    }

    /// The size of the largest entry that the server accepts, if known.
    pub(crate) fn largest(&self) -> Option<u64> {
        self.link.largest()
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.link.send(&redis::cmd("PING")).await.map(drop)
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Result<Found, Error> {
        let answer = match self.link.care(key) {
            // Boxed, as it is rare, so that the future of most reads is small.
            Some(Care::Bounded) => Box::pin(self.get_bounded(key, Duration::MAX)).await,
            _ => {
                let answer = self.link.read(Request::Get { key }).await;
                self.link.note_read(&[key], &answer);
                read(answer)
            }
        };
        match answer {
            Err(lost) if self.is_repeated(&lost) => Box::pin(self.get_again(key)).await,
            answer => answer,
        }
    }

    /// Whether a read is sent once more, over the next connection: its answer was lost with the
    /// connection. On a cluster that has been done already.
    fn is_repeated(&self, error: &Error) -> bool {
        error.closed_connection().is_some() && !self.link.is_cluster()
    }

    /// Reads a key once more. Its value may have closed the connection.
    async fn get_again(&self, key: &[u8]) -> Result<Found, Error> {
        self.get_bounded(key, self.link.rest_of_operation()).await
    }

    /// Reads a key whose value may be larger than the server sends.
    async fn get_bounded(&self, key: &[u8], left: Duration) -> Result<Found, Error> {
        let found = found(self.link.send_within(&bounded_command(key), left).await)?;
        let found = bounded(found)?;
        self.link.acquit(key);
        Ok(found)
    }

    pub(crate) async fn get_with(
        &self,
        key: &[u8],
        others: &[Vec<u8>],
    ) -> Result<(Found, Vec<Found>), Error> {
        if self.link.care(key).is_some() {
            let first = Box::pin(self.get(key)).await?;
            return Box::pin(self.get_apart(first, others)).await;
        }
        let bytes = others.iter().map(Vec::len).sum::<usize>() + key.len();
        let mut command = Cmd::with_capacity(2 + others.len(), bytes + 4);
        command.arg(b"MGET").arg(key).arg(others);
        let answer = self.link.read((&command).into()).await;
        // The others are epochs of tags, which are small.
        self.link.note_read(&[key], &answer);
        match answer {
            Err(lost) if self.is_repeated(&lost) => {
                let first = Box::pin(self.get_again(key)).await?;
                Box::pin(self.get_apart(first, others)).await
            }
            answer => {
                let mut found = entries(answer?, 1 + others.len())?.into_iter();
                let first = found.next().ok_or_else(unexpected_answer)?;
                Ok((first, found.collect()))
            }
        }
    }

    /// Reads the others after the first: a caller that reads them together needs their state at or
    /// after that of the entry.
    async fn get_apart(
        &self,
        first: Found,
        others: &[Vec<u8>],
    ) -> Result<(Found, Vec<Found>), Error> {
        let others: Vec<_> = others.iter().map(Vec::as_slice).collect();
        Ok((first, self.get_many(&others).await?))
    }

    pub(crate) async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Found>, Error> {
        let chunks = chunks(keys.len(), |at| keys[at].len());
        in_order(chunks, CHUNKS_UNDER_WAY, |chunk| {
            self.get_chunk(&keys[chunk])
        })
        .await
    }

    async fn get_chunk(&self, keys: &[&[u8]]) -> Result<Vec<Found>, Error> {
        if keys.iter().any(|key| self.link.care(key).is_some()) {
            return self.get_one_by_one(keys).await;
        }
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        let answer = self.link.read((&command).into()).await;
        self.link.note_read(keys, &answer);
        match answer {
            // One of them may be too large to be sent.
            Err(lost) if self.is_repeated(&lost) => Box::pin(self.get_one_by_one(keys)).await,
            answer => entries(answer?, keys.len()),
        }
    }

    async fn get_one_by_one(&self, keys: &[&[u8]]) -> Result<Vec<Found>, Error> {
        let one = |at: usize| async move { Ok(vec![self.get(keys[at]).await?]) };
        in_order(0..keys.len(), 1, one).await
    }

    pub(crate) async fn head(&self, key: &[u8]) -> Result<Found, Error> {
        found(self.link.send(&head_command(key)).await)
    }

    pub(crate) async fn heads(&self, keys: &[Vec<u8>]) -> Result<Vec<Found>, Error> {
        if self.link.is_cluster() {
            let one = |at: usize| async move { Ok(vec![self.head(&keys[at]).await?]) };
            in_order(0..keys.len(), COMMANDS_UNDER_WAY, one).await
        } else {
            let chunks = chunks(keys.len(), |at| keys[at].len());
            in_order(chunks, CHUNKS_UNDER_WAY, |chunk| {
                self.heads_of_chunk(&keys[chunk])
            })
            .await
        }
    }

    async fn heads_of_chunk(&self, keys: &[Vec<u8>]) -> Result<Vec<Found>, Error> {
        let commands = keys.iter().map(|key| head_command(key));
        let answers = self.pipelined(commands, Duration::MAX).await?;
        answers.into_iter().map(found).collect()
    }

    pub(crate) async fn get_and_ttl(&self, key: &[u8]) -> Result<(Found, Option<u64>), Error> {
        if self.link.care(key) == Some(Care::Bounded) {
            let (found, ttl) = self.with_ttl(bounded_command(key), key).await?;
            let found = bounded(found)?;
            self.link.acquit(key);
            return Ok((found, ttl));
        }
        let get = Request::Get { key }.command().into_owned();
        let answer = self.with_ttl(get, key).await;
        self.link.note_read(&[key], &answer);
        answer
    }

    pub(crate) async fn head_and_ttl(&self, key: &[u8]) -> Result<(Found, Option<u64>), Error> {
        self.with_ttl(head_command(key), key).await
    }

    /// Runs the command and `PTTL` in one round trip.
    async fn with_ttl(&self, finds: Cmd, key: &[u8]) -> Result<(Found, Option<u64>), Error> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline
            .add_command(finds)
            .add_command(command(b"PTTL", key));
        let [seen, ttl] =
            <[_; 2]>::try_from(self.link.send_all(&pipeline, 2, Duration::MAX).await?)
                .map_err(|_| unexpected_answer())?;
        match ttl? {
            // The entry expired between the two commands.
            Value::Int(-2) => Ok((Found::Nothing, None)),
            Value::Int(-1) => Ok((found(seen)?, None)),
            Value::Int(left) => Ok((found(seen)?, Some(left.unsigned_abs()))),
            _ => Err(unexpected_answer()),
        }
    }

    /// How each primary keeps its entries, as far as it says.
    pub(crate) async fn keeping(&self) -> Result<Vec<(String, Keeping)>, Error> {
        keeping::ask(&self.link, &self.address).await
    }

    /// See [`Keys`](crate::backend::keys::Keys).
    pub(crate) fn keys(&self, scope: &Scope) -> ServerKeys<'_> {
        ServerKeys::new(&self.link, scope)
    }

    pub(crate) async fn set(
        &self,
        key: &[u8],
        bytes: &[u8],
        ttl: Option<u64>,
    ) -> Result<(), Error> {
        self.link.admit(bytes.len())?;
        let value = bytes;
        let answer = self.link.read(Request::Set { key, value, ttl }).await;
        self.noted(bytes.len(), answer)?;
        self.ask_time_if_due();
        Ok(())
    }

    pub(crate) async fn apply(&self, key: &[u8], verb: &Verb<'_>) -> Result<bool, Error> {
        let time = match verb {
            // It follows a read in the same operation.
            Verb::RemoveIfSame(_) => self.link.rest_of_operation(),
            _ => self.link.operation(),
        };
        if time.is_zero() {
            return Ok(false);
        }
        let size = Write::Apply(*verb).size();
        self.link.admit(size)?;
        let command = |call| script::command(call, key, verb);
        let answer = match verb {
            // Its answer means something only if it ran once.
            Verb::Swap(_) => Box::pin(self.call_once(command, time)).await,
            _ => self.call(command, time).await,
        };
        truth(self.noted(size, answer))
    }

    /// Records the outcome of sending a value of this size.
    fn noted<A>(&self, size: usize, answer: Result<A, Error>) -> Result<A, Error> {
        let mut answers = [answer];
        self.link.note_sent(&[size], &mut answers);
        let [answer] = answers;
        answer
    }

    pub(crate) async fn place(&self, key: &[u8], verb: &Placing) -> Result<Found, Error> {
        let command = |call| script::placing_command(call, key, verb);
        placed(self.call(command, self.link.operation()).await)
    }

    /// Performs the tick on a namespace's tag clock and returns the clock. Creates a missing clock.
    pub(crate) async fn clock(&self, key: &[u8], tick: Tick) -> Result<u64, Error> {
        if tick == Tick::Read
            && let Found::Entry(clock) = self.get(key).await?
            && let Some(clock) = recent_clock(&clock, self.time.now_micros())
        {
            return Ok(clock);
        }
        let command = |call| script::clock_command(call, key, tick);
        match self.call(command, self.link.operation()).await? {
            Value::BulkString(clock) => decimal(&clock).ok_or_else(unexpected_answer),
            _ => Err(unexpected_answer()),
        }
    }

    /// Calls a script within `time`, and sends its body if the server does not know it.
    async fn call(&self, command: impl Fn(Call) -> Cmd, time: Duration) -> Result<Value, Error> {
        let began = Instant::now();
        match self.link.send_within(&command(Call::Digest), time).await {
            Err(error) if is_unknown_script(&error) => {
                let left = time.saturating_sub(began.elapsed());
                self.link.send_within(&command(Call::Body), left).await
            }
            answer => answer,
        }
    }

    /// Like [`call`](Self::call), for a command that is never sent again after a lost answer.
    async fn call_once(
        &self,
        command: impl Fn(Call) -> Cmd,
        time: Duration,
    ) -> Result<Value, Error> {
        let began = Instant::now();
        match self.link.send_once(&command(Call::Digest), time).await {
            Err(error) if is_unknown_script(&error) => {
                let left = time.saturating_sub(began.elapsed());
                self.link.send_once(&command(Call::Body), left).await
            }
            answer => answer,
        }
    }

    pub(crate) async fn write_each(
        &self,
        keys: &[&[u8]],
        writes: &[Write<'_>],
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        let sizes: Vec<_> = writes.iter().map(Write::size).collect();
        match sizes.iter().all(|size| self.link.admit(*size).is_ok()) {
            true => self.write_all(keys, writes, &sizes).await,
            false => self.write_admitted(keys, writes, &sizes).await,
        }
    }

    async fn write_all(
        &self,
        keys: &[&[u8]],
        writes: &[Write<'_>],
        sizes: &[usize],
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        let command = |call, at: usize| match &writes[at] {
            Write::Set { bytes, ttl } => set_command(keys[at], bytes, *ttl),
            Write::Apply(verb) => script::command(call, keys[at], verb),
        };
        let size = |at: usize| keys[at].len() + writes[at].size();
        let answers = match is_each_there_once(keys) {
            true => self.call_many(keys.len(), size, command).await,
            false => self.call_in_turn(keys, size, command).await,
        };
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                // No outcome is known.
                let mut failed: Vec<Result<Value, Error>> =
                    sizes.iter().map(|_| Err(error.clone())).collect();
                self.link.note_sent(sizes, &mut failed);
                return match error.kind() {
                    ErrorKind::TooLarge => Ok(failed.into_iter().map(truth).collect()),
                    _ => Err(error),
                };
            }
        };
        self.link.note_sent(sizes, &mut answers);
        if writes
            .iter()
            .any(|write| matches!(write, Write::Set { .. }))
        {
            self.ask_time_if_due();
        }
        let answers = answers.into_iter().zip(writes);
        Ok(answers
            .map(|(answer, write)| match write {
                Write::Set { .. } => answer.map(|_| true),
                Write::Apply(_) => truth(answer),
            })
            .collect())
    }

    /// Writes the values that the server accepts. A larger one is an error of its own, and costs
    /// nobody's connection.
    async fn write_admitted(
        &self,
        keys: &[&[u8]],
        writes: &[Write<'_>],
        sizes: &[usize],
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        let refusals: Vec<_> = sizes
            .iter()
            .map(|size| self.link.admit(*size).err())
            .collect();
        let admitted = || (0..keys.len()).filter(|at| refusals[*at].is_none());
        let admitted_keys: Vec<_> = admitted().map(|at| keys[at]).collect();
        let admitted_writes: Vec<_> = admitted().map(|at| writes[at]).collect();
        let admitted_sizes: Vec<_> = admitted().map(|at| sizes[at]).collect();
        let answers = match admitted_keys.is_empty() {
            true => Vec::new(),
            false => {
                let written = self.write_all(&admitted_keys, &admitted_writes, &admitted_sizes);
                match written.await {
                    Ok(answers) => answers,
                    Err(error) => admitted_keys.iter().map(|_| Err(error.clone())).collect(),
                }
            }
        };
        let mut answers = answers.into_iter();
        let each = refusals.into_iter().map(|refusal| match refusal {
            Some(error) => Err(error),
            None => answers.next().unwrap_or_else(|| Err(unexpected_answer())),
        });
        Ok(each.collect())
    }

    pub(crate) async fn place_many(
        &self,
        keys: &[&[u8]],
        verbs: &[Placing],
    ) -> Result<Vec<Result<Found, Error>>, Error> {
        let command = |call, at: usize| script::placing_command(call, keys[at], &verbs[at]);
        let size = |at: usize| keys[at].len();
        let answers = self.call_many(keys.len(), size, command).await?;
        Ok(answers.into_iter().map(placed).collect())
    }

    pub(crate) async fn decide<Q: Question>(
        &self,
        key: &[u8],
        question: &Q,
    ) -> Result<Q::Answer, Error> {
        let command = |call| question.command(call, key);
        let answer = self.call(command, self.link.operation()).await?;
        question::answer(question, answer)
    }

    pub(crate) async fn decide_each<Q: Question>(
        &self,
        keys: &[&[u8]],
        questions: &[Q],
    ) -> Result<Vec<Result<Q::Answer, Error>>, Error> {
        let command = |call, at: usize| questions[at].command(call, keys[at]);
        let size = |at: usize| keys[at].len();
        let answers = match is_each_there_once(keys) {
            true => self.call_many(keys.len(), size, command).await?,
            false => self.call_in_turn(keys, size, command).await?,
        };
        let answers = answers.into_iter().zip(questions);
        Ok(answers
            .map(|(answer, one)| question::answer(one, answer?))
            .collect())
    }

    /// Sends `count` commands, each by its position, in any order.
    async fn call_many(
        &self,
        count: usize,
        size: impl Fn(usize) -> usize,
        command: impl Fn(Call, usize) -> Cmd,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let command = &command;
        if self.link.is_cluster() {
            let time = self.link.operation();
            let one = |at| alone(self.call(move |call| command(call, at), time));
            in_order(0..count, COMMANDS_UNDER_WAY, one).await
        } else {
            self.call_chunks(chunks(count, size), CHUNKS_UNDER_WAY, command)
                .await
        }
    }

    /// The same for keys that occur more than once, whose commands run in order. Sending an unknown
    /// script again would lose the order, so for such keys its body is sent at once.
    async fn call_in_turn(
        &self,
        keys: &[&[u8]],
        size: impl Fn(usize) -> usize,
        command: impl Fn(Call, usize) -> Cmd,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let (command, turns) = (&command, &by_key(keys));
        if self.link.is_cluster() {
            let turn = |turn: usize| self.call_turn(&turns[turn], command);
            let mut answers = in_order(0..turns.len(), COMMANDS_UNDER_WAY, turn).await?;
            answers.sort_unstable_by_key(|(at, _)| *at);
            Ok(answers.into_iter().map(|(_, answer)| answer).collect())
        } else {
            let mut again = vec![false; keys.len()];
            let several = turns.iter().filter(|turn| turn.len() > 1);
            several.flatten().for_each(|at| again[*at] = true);
            let command = |call, at: usize| match again[at] {
                true => command(Call::Body, at),
                false => command(call, at),
            };
            self.call_chunks(chunks(keys.len(), size), 1, &command)
                .await
        }
    }

    /// Sends commands one after another, within the time of one operation.
    async fn call_turn(
        &self,
        turn: &[usize],
        command: &impl Fn(Call, usize) -> Cmd,
    ) -> Result<Vec<(usize, Result<Value, Error>)>, Error> {
        let (began, time) = (Instant::now(), self.link.operation());
        let mut answers = Vec::with_capacity(turn.len());
        for at in turn.iter().copied() {
            let left = time.saturating_sub(began.elapsed());
            let answer = self.call(|call| command(call, at), left).await;
            answers.push((at, answer));
        }
        Ok(answers)
    }

    /// An error of a chunk is the error of each of its commands, and of no others. An outer error
    /// means that no chunk was answered.
    async fn call_chunks(
        &self,
        chunks: impl Iterator<Item = Range<usize>>,
        under_way: usize,
        command: &impl Fn(Call, usize) -> Cmd,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let call = |chunk: Range<usize>| async move {
            (chunk.len(), self.call_chunk(chunk, command).await)
        };
        let called = stream::iter(chunks.map(call)).buffered(under_way);
        let called: Vec<_> = called.collect().await;
        let silence = called.iter().find_map(|(_, chunk)| chunk.as_ref().err());
        if let Some(error) = silence.filter(|_| called.iter().all(|(_, chunk)| chunk.is_err())) {
            return Err(error.clone());
        }
        let spread = |(count, chunk): (usize, Result<Vec<_>, Error>)| {
            chunk.unwrap_or_else(|error| vec![Err(error); count])
        };
        Ok(called.into_iter().flat_map(spread).collect())
    }

    async fn call_chunk(
        &self,
        chunk: Range<usize>,
        command: &impl Fn(Call, usize) -> Cmd,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let (began, time) = (Instant::now(), self.link.operation());
        let left = || time.saturating_sub(began.elapsed());
        let start = chunk.start;
        let digests = chunk.map(|at| command(Call::Digest, at));
        let mut answers = self.pipelined(digests, time).await?;
        loop {
            let unknown = answers
                .iter()
                .enumerate()
                .filter(|(_, answer)| matches!(answer, Err(error) if is_unknown_script(error)));
            let unknown: Vec<usize> = unknown.map(|(at, _)| at).collect();
            let Some((first, others)) = unknown.split_first() else {
                return Ok(answers);
            };
            // The first command sends the body. The others are found by the digest again, unless
            // they call another script.
            let body = command(Call::Body, start + first);
            answers[*first] = self.link.send_within(&body, left()).await;
            if others.is_empty() {
                return Ok(answers);
            }
            let digests = others.iter().map(|at| command(Call::Digest, start + at));
            match self.pipelined(digests, left()).await {
                Ok(again) => others
                    .iter()
                    .zip(again)
                    .for_each(|(at, answer)| answers[*at] = answer),
                Err(error) => others
                    .iter()
                    .for_each(|at| answers[*at] = Err(error.clone())),
            }
        }
    }

    async fn pipelined(
        &self,
        commands: impl ExactSizeIterator<Item = Cmd>,
        left: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let count = commands.len();
        let mut pipeline = Pipeline::with_capacity(count);
        for command in commands {
            pipeline.add_command(command);
        }
        self.link.send_all(&pipeline, count, left).await
    }

    /// Queries the server's time in the background, if that is due.
    fn ask_time_if_due(&self) {
        if !self.time.is_due() {
            return;
        }
        let (link, time) = (self.link.clone(), self.time.clone());
        self.background.spawn(async move {
            let sent = time.sent();
            match link.send(&time_command()).await.and_then(time_of) {
                Ok(answer) => time.learn(sent, answer),
                Err(error) => {
                    tracing::debug!("the server's time could not be queried again: {error}")
                }
            }
        });
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

fn command(name: &[u8], key: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
}

fn head_command(key: &[u8]) -> Cmd {
    let mut command = redis::cmd("GETRANGE");
    command.arg(key).arg(0).arg(HEAD - 1);
    command
}

/// Reads no more of an entry than is certainly sent, and one byte more to show that there is more.
fn bounded_command(key: &[u8]) -> Cmd {
    let mut command = redis::cmd("GETRANGE");
    command.arg(key).arg(0).arg(CAREFUL);
    command
}

/// The result of [`bounded_command`], which reads a missing key as an empty string.
fn bounded(found: Found) -> Result<Found, Error> {
    match found {
        Found::Entry(bytes) if bytes.is_empty() => Ok(Found::Nothing),
        Found::Entry(bytes) if bytes.len() as u64 > CAREFUL => Err(limits::too_large_to_read()),
        found => Ok(found),
    }
}

fn set_command(key: &[u8], value: &[u8], ttl: Option<u64>) -> Cmd {
    Request::Set { key, value, ttl }.command().into_owned()
}

fn found(answer: Result<Value, Error>) -> Result<Found, Error> {
    read(answer.map(Reply::from))
}

/// The entries in the answer to a bulk read of so many keys.
fn entries(answer: Reply, count: usize) -> Result<Vec<Found>, Error> {
    let entry = |item: Option<Bytes>| item.map_or(Found::Nothing, Found::Entry);
    let entries: Vec<_> = match answer {
        Reply::Array(items) => items.into_iter().map(entry).collect(),
        Reply::Other(Value::Array(values)) => {
            let found = values.into_iter().map(|value| found(Ok(value)));
            found.collect::<Result<_, _>>()?
        }
        _ => return Err(unexpected_answer()),
    };
    match entries.len() == count {
        true => Ok(entries),
        false => Err(unexpected_answer()),
    }
}

fn read(answer: Result<Reply, Error>) -> Result<Found, Error> {
    match answer {
        Ok(Reply::Bytes(bytes)) => Ok(Found::Entry(bytes)),
        Ok(Reply::Nil) => Ok(Found::Nothing),
        Ok(_) => Err(unexpected_answer()),
        Err(error) if has_code(&error, "WRONGTYPE") => Ok(Found::Foreign),
        Err(error) => Err(error),
    }
}

/// The entry as a placing verb leaves it. Nil stands for an entry of a foreign type.
fn placed(answer: Result<Value, Error>) -> Result<Found, Error> {
    match answer {
        Ok(Value::Nil) => Ok(Found::Foreign),
        Ok(Value::Int(0)) => Ok(Found::Nothing),
        answer => found(answer),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn truth(answer: Result<Value, Error>) -> Result<bool, Error> {
    match answer? {
        Value::Int(number) => Ok(number != 0),
        _ => Err(unexpected_answer()),
    }
}

fn is_unknown_script(error: &Error) -> bool {
    has_code(error, "NOSCRIPT")
}

fn has_code(error: &Error, code: &str) -> bool {
    error.kind() == ErrorKind::Server && error.server_code() == Some(code)
}

/// Runs `f` on each input, `under_way` at a time, and concatenates the answers.
///
/// The callers pass positions and not slices. With a closure over borrowed arguments across an
/// `await`, the future would be `Send` for no lifetime that the compiler can name.
async fn in_order<I, T, F>(
    inputs: impl Iterator<Item = I>,
    under_way: usize,
    f: impl Fn(I) -> F,
) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<Vec<T>, Error>>,
{
    stream::iter(inputs.map(f))
        .buffered(under_way)
        .try_concat()
        .await
}

/// The answer to a command of one key, in the form of a chunk's answers.
async fn alone<T>(
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<Vec<Result<T, Error>>, Error> {
    Ok(vec![answer.await])
}

/// Splits the positions `0..count` into chunks of at most [`CHUNK`], and of at most [`CHUNK_BYTES`]
/// or a single larger one.
fn chunks(count: usize, size: impl Fn(usize) -> usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = (start..count).take(CHUNK).take_while(|at| {
            bytes += size(*at);
            bytes <= CHUNK_BYTES
        });
        let end = count.min(start + fitting.count().max(1));
        let chunk = start..end;
        start = end;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn is_each_there_once(keys: &[&[u8]]) -> bool {
    let mut seen = HashSet::with_capacity(keys.len());
    keys.iter().all(|key| seen.insert(*key))
}

/// The positions of each key, in order.
fn by_key(keys: &[&[u8]]) -> Vec<Vec<usize>> {
    let mut known = HashMap::new();
    let mut turns: Vec<Vec<usize>> = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let turn = *known.entry(*key).or_insert(turns.len());
        match turns.get_mut(turn) {
            Some(turn) => turn.push(at),
            None => turns.push(vec![at]),
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_by_number_and_by_size() {
        let sizes = |items: &[usize]| -> Vec<usize> {
            let chunks = chunks(items.len(), |at| items[at]);
            chunks.map(|chunk| chunk.len()).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[1; 2500]), [1000, 1000, 500]);
        assert_eq!(sizes(&[CHUNK_BYTES + 1, 1, CHUNK_BYTES - 1, 1]), [1, 2, 1]);
    }
}
