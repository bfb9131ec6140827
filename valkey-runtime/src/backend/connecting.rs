//! Connecting, and staying connected.

use crate::backend::limits;
use crate::backend::link::{Connector, Down, Ends, Shared, Wire, time_command, time_of};
use crate::backend::rights;
use crate::backend::seams::{Deadlines, Lapse, after};
use crate::backend::wire::{Reply, Request};
use crate::base::error::{Error, ErrorKind};
use crate::base::lock::lock;
use crate::base::runtime;
use crate::base::tasks::{BEAT, Claim, MOMENT};
use crate::base::warnings::{Detail, Topic};
use crate::protocol::breaker::{Advice, Breaker, BreakerState};
use futures_util::FutureExt;
use redis::{Pipeline, Value};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::runtime::Id;
use tokio::sync::watch;
use tokio::time::Instant;

type Watch = watch::Receiver<Breaker<Wire, Arc<Down>>>;

impl Shared {
    pub(crate) fn next_task(&self) -> u64 {
        self.task.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Ensures that an attempt to connect runs, and waits for its end, at most until `until`.
    pub(crate) async fn see_to_connecting(self: &Arc<Self>, claim: Claim, until: Instant) {
        let attempt = async {
            let mut watch = self.breaker.subscribe();
            self.replace_if_dead(claim, &mut watch).await;
            // An error means that the link is gone.
            let _ = watch
                .wait_for(|breaker| breaker.state() != BreakerState::HalfOpen)
                .await;
        };
        // After that, the command is refused, as it would have been.
        let _ = tokio::time::timeout_at(until, attempt).await;
    }

    /// Waits until there is a connection, or until commands are refused.
    pub(crate) async fn connected(self: &Arc<Self>) -> Result<(Wire, u64), Arc<Down>> {
        let mut watch = self.breaker.subscribe();
        loop {
            match watch.borrow_and_update().advice() {
                Advice::Send(wire, generation) => return Ok((wire.clone(), generation)),
                Advice::Refuse(down) => return Err(down.clone()),
                Advice::Wait => {}
            }
            // Repeated after each change: the task that connects dies with the runtime in which it
            // was spawned.
            self.step(Breaker::start);
            match tokio::time::timeout(BEAT, watch.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Down::new(Error::closed())),
                Err(_) => {
                    if let Some(claim) = self.claim() {
                        self.replace_if_dead(claim, &mut watch).await;
                    }
                }
            }
        }
    }

    /// Starts another task that connects, unless the current one gives a sign of life within a
    /// moment. If the whole process stood still, that task is as late as this caller.
    async fn replace_if_dead(self: &Arc<Self>, claim: Claim, watch: &mut Watch) {
        let changed = tokio::time::timeout(MOMENT, watch.changed()).await.is_ok();
        if !changed && !self.pulse.lives(claim) {
            self.take_over();
        }
    }

    /// Adds the name of the node, in a cluster.
    pub(crate) fn named(&self, error: Error) -> Error {
        match &self.node {
            Some(node) => error.context(node),
            None => error,
        }
    }

    /// Adds an explanation if a lost connection was made in another runtime: it ends with that
    /// runtime.
    pub(crate) fn of_another_runtime(&self, generation: u64, error: Error) -> Error {
        let home = *lock(&self.home);
        match (home, runtime::current()) {
            (Some((made, home)), Some(here)) if made == generation && home != here => error.context(
                "the connection was made in another tokio runtime and ends with it (set a lasting one with `Builder::runtime`)",
            ),
            _ => error,
        }
    }

    /// Adds the commands that the user may not run, if the server does not name them.
    pub(crate) fn naming(&self, error: Error) -> Error {
        let denied = lock(&self.denied);
        match error.to_string().contains("to run the '") || denied.is_empty() {
            true => error,
            false => {
                let names = denied.join(", ");
                error.context(format_args!("the user may not run {names}"))
            }
        }
    }

    pub(crate) fn answered(self: &Arc<Self>, generation: u64) {
        if self.listens.load(Ordering::Relaxed) {
            self.step(|breaker| breaker.answered(generation));
        }
    }

    /// Like [`attempt`](Self::attempt), but fails in a runtime without I/O, where tokio panics.
    pub(crate) async fn attempt_here(self: &Arc<Self>) -> Result<(u64, Wire), Error> {
        runtime::fit()?;
        let here = runtime::current();
        if here.is_some_and(|here| lock(&self.without_io).contains(&here)) {
            return Err(runtime::without_io());
        }
        let attempt = AssertUnwindSafe(self.attempt()).catch_unwind().await;
        let attempt = attempt.unwrap_or_else(|_| {
            lock(&self.without_io).extend(here);
            Err(runtime::without_io())
        });
        if let Ok((generation, _)) = &attempt {
            *lock(&self.home) = here.map(|here| (*generation, here));
        }
        attempt
    }

    /// Connects once, and learns the server's time.
    pub(crate) async fn attempt(self: &Arc<Self>) -> Result<(u64, Wire), Error> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let Deadlines {
            connect, command, ..
        } = self.deadlines;
        let wire = match &self.connector {
            Connector::Node(dialer) => {
                let ends = Ends(Arc::downgrade(self), generation);
                let connected = dialer.dial(connect, command, ends).await;
                let told = |error| self.words.of_handshake(error, connect);
                Wire::Node(connected.map_err(told)?)
            }
            Connector::Cluster(cluster) => {
                let discovered = Box::pin(cluster.discover(after(connect)));
                discovered.await?;
                Wire::Cluster(cluster.clone())
            }
        };
        if self.node.is_some() {
            return Ok((generation, wire));
        }
        let here = runtime::fit()?;
        let (sent, ask) = (self.seams.time.sent(), time_command());
        let answer = match &wire {
            Wire::Node(node) => {
                let answer = node
                    .send(&Request::from(&ask), here)
                    .await
                    .and_then(Reply::extract_error);
                answer.map(Reply::into_value).map_err(Lapse::Said)
            }
            Wire::Cluster(cluster) => cluster.send(&ask, after(command)).await,
        };
        let told = |lapse| match lapse {
            Lapse::Said(error) => self.words.of(error, command),
            Lapse::Lost(error)
            | Lapse::Silent(error)
            | Lapse::Refused(error)
            | Lapse::Failed(error) => error,
        };
        match answer.map_err(told).and_then(time_of) {
            Ok(time) => self.seams.time.learn(sent, time),
            Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) => {
                return Err(error);
            }
            // This is reported together with all other missing rights.
            Err(error) if error.kind() == ErrorKind::Auth => {}
            Err(error) => self.warn("the server does not report its time", Some(&error)),
        }
        self.ask_around(&wire, here).await;
        Ok((generation, wire))
    }

    /// Learns which commands the user may not run, and how large a value may be. The server is used
    /// even if it does not say.
    pub(crate) async fn ask_around(&self, wire: &Wire, here: Id) {
        let command = self.deadlines.command;
        let [by_body, by_digest] = rights::commands(&self.namespace);
        let commands = [by_body, by_digest, limits::command()];
        let mut answers = Vec::with_capacity(commands.len());
        match wire {
            Wire::Node(node) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                commands.iter().for_each(|command| {
                    pipeline.add_command(command.clone());
                });
                match node.send_all(&pipeline, 0, here).await {
                    Ok(values) => answers.extend(values.into_iter().map(|value| {
                        let answer = value.extract_error();
                        answer.map_err(|error| self.words.of(error, command))
                    })),
                    Err(_) => return,
                }
            }
            // Each command goes to any node.
            Wire::Cluster(cluster) => {
                for one in &commands {
                    let answer = Box::pin(cluster.send(one, after(command))).await;
                    answers.push(answer.map_err(|lapse| match lapse {
                        Lapse::Said(error) => self.words.of(error, command),
                        Lapse::Lost(error)
                        | Lapse::Silent(error)
                        | Lapse::Refused(error)
                        | Lapse::Failed(error) => error,
                    }));
                }
            }
        }
        let Ok([by_body, by_digest, limits]) = <[_; 3]>::try_from(answers) else {
            return;
        };
        self.limits.learn(&limits.unwrap_or(Value::Nil));
        self.tell_denied(rights::denied(&[by_body, by_digest]));
    }

    pub(crate) fn tell_denied(&self, denied: Vec<String>) {
        let mut known = lock(&self.denied);
        if *known != denied && !denied.is_empty() {
            let names = denied.join(", ");
            tracing::error!(
                "error.type" = ErrorKind::Auth.as_str(),
                "the user may not run {names}: operations that need them fail, such as storing loads, guarding writes, \
                 deletions and limits. docs/operations/running.md lists the commands that a user needs"
            );
        }
        *known = denied;
    }

    /// Shows that the task that connects is alive, unless another has taken its place.
    pub(crate) fn beat(&self, task: u64) {
        if self.task.load(Ordering::Relaxed) == task {
            self.pulse.beat(self.seams.time.sent());
        }
    }

    pub(crate) fn can_connect_here(&self) -> bool {
        let is_without = |here| lock(&self.without_io).contains(&here);
        runtime::has_timers() && !runtime::current().is_some_and(is_without)
    }

    pub(crate) fn warn(&self, what: &'static str, error: Option<&Error>) {
        let (of, kind) = (None, error.map(Error::kind));
        self.seams
            .warnings
            .warn(Topic { of, what, kind }, || match (error, &self.node) {
                (Some(error), _) => Detail::text(error),
                (None, Some(node)) => Detail::text(node),
                (None, None) => Detail::default(),
            });
    }
}
