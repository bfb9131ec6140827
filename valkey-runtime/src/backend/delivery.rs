//! Delivering the outbox.

#[cfg(any(test, feature = "testing"))]
use crate::backend::faults::Request;
use crate::backend::gateway::{Gateway, GiveBack, LONGEST_HELP, ask, deliver, error_at};
use crate::backend::write::Write;
use crate::base::runtime;
use crate::base::tasks::{Claim, MOMENT};
use crate::protocol::breaker::BreakerState;
use crate::protocol::outbox::{Round, Undelivered};
use crate::protocol::transition::{Hold, Verb};

impl Gateway {
    /// Ensures that a task delivers. Outside of a runtime nothing can be sent, for example when a
    /// guard is dropped at the end of a program. The next caller that finds a withheld key then
    /// starts the task.
    pub(crate) fn deliver(&self) {
        self.start_delivery(true);
    }

    /// Starts a delivery task if one is needed. With `goes_on`, a task that was started earlier is
    /// trusted to run; without it, that task is replaced.
    pub(crate) fn start_delivery(&self, goes_on: bool) {
        if let Some(number) = self.with(|undelivered| undelivered.next_delivery(goes_on)) {
            self.pulse.beat(self.backend.clock_micros());
            let front = self.me.clone();
            let task = deliver(front.clone(), number, GiveBack(Some(front), number));
            self.background.spawn_needed(task);
        }
    }

    /// A claim to take over the delivery, if it should run and shows no sign of life.
    pub(crate) fn claim(&self) -> Option<Claim> {
        if self.is_clear() || self.breaker() != BreakerState::Closed || !runtime::has_timers() {
            return None;
        }
        self.pulse.claim(self.backend.clock_micros())
    }

    /// Starts a delivery task in this runtime, in place of one without signs of life, and waits for
    /// it a little. Without the wait, a runtime that is driven only by calls like this one would
    /// never run the task.
    pub(crate) async fn see_to_delivery(&self, claim: Claim) {
        let mut rounds = self.rounds.subscribe();
        if tokio::time::timeout(MOMENT, rounds.changed()).await.is_ok() {
            return;
        }
        if !self.pulse.lives(claim) {
            self.start_delivery(false);
        }
        if self.undelivered() > 0 {
            // The request goes on in any case.
            let _ = tokio::time::timeout(LONGEST_HELP, rounds.changed()).await;
        }
    }

    /// Delivers once the breaker admits commands, until nothing is left or no remaining deletion is
    /// confirmed.
    pub(crate) async fn deliver_once(&self) {
        if self.undelivered() == 0 {
            return;
        }
        self.backend.closed().await;
        let mut in_vain = 0;
        while let Some(round) = self.with(Undelivered::next_round) {
            let tried = round.keys.len();
            in_vain = match self.send(round).await {
                true => 0,
                false => in_vain + tried,
            };
            if in_vain >= self.undelivered() {
                return;
            }
        }
    }

    /// Sends one round of deletions. True if any of them was confirmed.
    pub(crate) async fn send(&self, mut round: Round) -> bool {
        let of_tags = |(key, _): &(Box<[u8]>, u64)| self.is_epoch(key);
        if round.keys.iter().any(of_tags)
            && let Err(error) = self.advanced().await
        {
            tracing::trace!("an invalidation is still undelivered: {error}");
            round.keys.retain(|key| !of_tags(key));
        }
        let keys: Vec<_> = round.keys.iter().map(|(key, _)| &**key).collect();
        let deletions: Vec<_> = round
            .keys
            .iter()
            .map(|(key, life)| {
                let hold = Hold {
                    token: self.random.next_u64(),
                    life: *life,
                    ours: self.is_epoch(key),
                };
                Write::Apply(Verb::Delete((*life > 0).then_some(hold)))
            })
            .collect();
        let answers = ask!(
            self,
            Request::Delete.each(&keys),
            self.backend.write_each(&keys, &deletions)
        );
        let mut delivered = 0;
        for (at, key) in keys.iter().enumerate() {
            match error_at(&answers, at) {
                None => {
                    self.settle(key, Some(round.moment));
                    delivered += 1;
                }
                Some(error) => tracing::trace!("a deletion is still undelivered: {error}"),
            }
        }
        tracing::debug!(
            delivered,
            of = keys.len(),
            "deletions of the outbox were sent"
        );
        delivered > 0
    }
}
