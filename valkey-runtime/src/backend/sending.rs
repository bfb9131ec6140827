//! Sending commands over a link.

use crate::backend::failure::{timed_out, unexpected_answer};
use crate::backend::link::{Connector, Link, Passage, Wire, in_time};
use crate::backend::seams::{Lapse, after};
use crate::backend::target::Host;
use crate::backend::wire::{Reply, Request};
use crate::base::error::Error;
use crate::base::runtime;
use crate::protocol::breaker::Advice;
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};
use std::time::Duration;

/// A command with this much less than its whole time has its whole time: timers are no more exact.
const TICK: Duration = Duration::from_millis(1);

impl Link {
    pub(crate) fn send<'s>(
        &'s self,
        command: &'s Cmd,
    ) -> impl Future<Output = Result<Value, Error>> + Send + 's {
        self.send_within(command, Duration::MAX)
    }

    /// `left` is the remaining time of the operation that the command belongs to.
    pub(crate) async fn send_within(&self, command: &Cmd, left: Duration) -> Result<Value, Error> {
        let answer = self.raw(command, left).await;
        answer.map_err(|lapse| self.told(lapse))
    }

    /// Like [`send`](Self::send), with an answer that shares the receive buffer.
    pub(crate) async fn read(&self, request: Request<'_>) -> Result<Reply, Error> {
        let answer = self.reply(&request, Duration::MAX).await;
        answer.map_err(|lapse| self.told(lapse))
    }

    /// Like [`send_within`](Self::send_within), but on a cluster too the command is sent once: an
    /// answer that is lost, or that comes from a node which has lost the key meanwhile, is an
    /// error.
    pub(crate) async fn send_once(&self, command: &Cmd, left: Duration) -> Result<Value, Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(left).await.map_err(told)?;
        let Wire::Cluster(cluster) = &passage.wire else {
            return self.send_within(command, left).await;
        };
        let answer = cluster.send_once(command, passage.end()).await;
        let answer = self.0.noted_of_cluster(&passage, cluster, answer);
        answer.map_err(told)
    }

    /// Like [`send_within`](Self::send_within), with a server's error left as it is.
    pub(crate) async fn raw(&self, command: &Cmd, left: Duration) -> Result<Value, Lapse> {
        self.reply(&command.into(), left)
            .await
            .map(Reply::into_value)
    }

    /// All but the way of most commands is boxed, so that their future is small.
    async fn reply(&self, request: &Request<'_>, left: Duration) -> Result<Reply, Lapse> {
        let passage = self.passage(left).await?;
        match &passage.wire {
            Wire::Node(node) => {
                let answer = match passage.until {
                    None => node.send(request, passage.here).await,
                    Some(until) => Box::pin(in_time(until, node.send_untimed(request))).await,
                };
                self.0
                    .noted(&passage, answer.and_then(Reply::extract_error))
            }
            Wire::Cluster(cluster) => {
                let sent = async {
                    let command = request.command();
                    cluster.send(&command, passage.end()).await
                };
                let answer = Box::pin(sent).await;
                let answer = self.0.noted_of_cluster(&passage, cluster, answer);
                answer.map(Reply::from)
            }
        }
    }

    /// Sends a command after `ASKING`: the node does not own the slot of the key yet, but the key
    /// may have moved to it already.
    pub(crate) async fn raw_asking(&self, command: &Cmd, left: Duration) -> Result<Value, Lapse> {
        let passage = self.passage(left).await?;
        let Wire::Node(node) = &passage.wire else {
            return Err(Lapse::Failed(unexpected_answer()));
        };
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ASKING").add_command(command.clone());
        let sent = Box::pin(node.send_all_untimed(&pipeline, 1));
        let answers = in_time(passage.end(), sent).await;
        let answers = self.0.noted(&passage, answers)?;
        let answer = answers.into_iter().next();
        let answer = answer.ok_or_else(|| Lapse::Failed(unexpected_answer()))?;
        self.0.noted(&passage, answer.extract_error())
    }

    /// Sends a command to exactly this node of a cluster. Also returns the generation of the
    /// connection: an answer that came by one connection means nothing to the server behind
    /// another.
    pub(crate) async fn send_to(
        &self,
        node: Option<&Host>,
        command: Cmd,
    ) -> Result<(Value, u64), Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(Duration::MAX).await.map_err(told)?;
        let generation = passage.generation;
        let answer = match (&passage.wire, node) {
            (Wire::Cluster(cluster), Some(node)) => {
                let answer = cluster.send_to(node, &command, passage.end()).await;
                self.0.noted_of_cluster(&passage, cluster, answer)
            }
            _ => self.raw(&command, Duration::MAX).await,
        };
        Ok((answer.map_err(told)?, generation))
    }

    /// Sends a command to all primaries of a cluster.
    pub(crate) async fn send_to_primaries(
        &self,
        command: Cmd,
    ) -> Result<Vec<(Host, Value)>, Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(Duration::MAX).await.map_err(told)?;
        let Wire::Cluster(cluster) = &passage.wire else {
            return Ok(Vec::new());
        };
        let answers = cluster.send_to_primaries(&command, passage.end()).await;
        let answers = self.0.noted_of_cluster(&passage, cluster, answers);
        answers.map_err(told)
    }

    /// Asks the nodes of a cluster for the owners of the slots.
    pub(crate) async fn learn_nodes(&self) -> Result<(), Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(Duration::MAX).await.map_err(told)?;
        let Wire::Cluster(cluster) = &passage.wire else {
            return Ok(());
        };
        let learnt = cluster.learn(passage.end()).await;
        let learnt = self.0.noted_of_cluster(&passage, cluster, learnt);
        learnt.map_err(told)
    }

    /// Returns one answer a command, in order. An outer error means that no outcome is known.
    pub(crate) async fn send_all(
        &self,
        pipeline: &Pipeline,
        count: usize,
        left: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let told = |lapse| self.told(lapse);
        let passage = self.passage(left).await.map_err(told)?;
        let node = match &passage.wire {
            Wire::Node(node) => node,
            Wire::Cluster(cluster) => {
                let end = passage.end();
                let sent = pipeline
                    .cmd_iter()
                    .map(|command| cluster.send(command, end));
                let answers = join_all(sent).await.into_iter();
                let noted = answers.map(|answer| {
                    let answer = self.0.noted_of_cluster(&passage, cluster, answer);
                    answer.map_err(told)
                });
                return Ok(noted.collect());
            }
        };
        let answers = match passage.until {
            None => node.send_all(pipeline, 0, passage.here).await,
            Some(until) => in_time(until, Box::pin(node.send_all_untimed(pipeline, 0))).await,
        };
        let answers = self.0.noted(&passage, answers).map_err(told)?;
        if answers.len() != count {
            return Err(unexpected_answer());
        }
        let noted = answers.into_iter().map(|answer| {
            let answer = self.0.noted(&passage, answer.extract_error());
            answer.map_err(told)
        });
        Ok(noted.collect())
    }

    /// Converts a lapse into an error.
    pub(crate) fn told(&self, lapse: Lapse) -> Error {
        match lapse {
            Lapse::Said(error) => {
                let strays = error.redirect_node().is_some();
                match self.0.connector {
                    Connector::Node(_) if strays && self.0.node.is_none() => Error::config(
                        "the server is a node of a cluster, and the key is on another node: write `valkey+cluster://`, or set \
                         VALKEY_CLUSTER=true",
                    ),
                    _ => {
                        let error = self.0.words.of(error, self.0.deadlines.command);
                        self.0.naming(error)
                    }
                }
            }
            Lapse::Lost(error)
            | Lapse::Silent(error)
            | Lapse::Refused(error)
            | Lapse::Failed(error) => error,
        }
    }

    /// Waits for a connection, for no longer than a command may take.
    pub(crate) async fn passage(&self, left: Duration) -> Result<Passage, Lapse> {
        let command = self.0.deadlines.command;
        let limit = left.min(command);
        let here = runtime::fit().map_err(Lapse::Failed)?;
        let refused = match self.0.breaker.borrow().advice() {
            Advice::Send(wire, generation) => {
                return Ok(Passage {
                    generation,
                    wire: wire.clone(),
                    limit,
                    until: (limit.saturating_add(TICK) < command).then(|| after(limit)),
                    here,
                });
            }
            Advice::Refuse(down) => Some(down.clone()),
            Advice::Wait => None,
        };
        let until = after(limit);
        if let Some(down) = refused {
            let Some(claim) = self.0.claim() else {
                self.0.seams.counters.refused();
                return Err(Lapse::Refused(down.refusal.clone()));
            };
            // It is time to connect, and nobody does. This caller sees to it, and waits for the
            // outcome.
            Box::pin(self.0.see_to_connecting(claim, until)).await;
        }
        match Box::pin(tokio::time::timeout_at(until, self.0.connected())).await {
            Ok(Ok((wire, generation))) => Ok(Passage {
                generation,
                wire,
                limit,
                until: Some(until),
                here,
            }),
            Ok(Err(down)) => {
                self.0.seams.counters.refused();
                Err(Lapse::Refused(down.refusal.clone()))
            }
            Err(_) => {
                let error = self.0.named(timed_out(limit).context("still connecting"));
                self.0.unanswered(None, &error);
                Err(Lapse::Silent(error))
            }
        }
    }
}
