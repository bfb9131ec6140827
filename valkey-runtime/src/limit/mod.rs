//! Rate limiting: how much each client, user or address may take in a time.
//!
//! [`rule`] has the algorithms, as pure functions; the in-process store runs them, and one script repeats them in the server, by
//! the server's clock. [`refusals`] answers for the server where the answer is known. The state of a limit for a key is one
//! string, `[namespace:]::limit:NAME:KEY`, beside the keys of the tags: no type's, so that no scan or purge meets it and nobody's
//! copies depend on it.

pub(crate) mod key;

use crate::core::refusals;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Result;
use crate::base::error::{Error, ErrorKind};
use crate::core::store::Inner;
use crate::core::store::Store;
use crate::key::tag::SPACE;
use crate::key::writer::KeyWriter;
use crate::observe::answer::{About, Ending, Tells, Told};
use crate::observe::trace::traced;

pub(crate) use crate::key::limit_key::LimitKey;
use crate::protocol::rate::Rule;
use crate::protocol::rate::within;
use crate::protocol::rate::{Act, Ask, Verdict};

/// A limit on how much each key (a client, a user, an address) may take in a time.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::{RateLimiter, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// // 100 in 15 minutes: one each nine seconds, and up to 20 at once.
/// let limiter = RateLimiter::builder("api")
///     .quota(100, Duration::from_secs(15 * 60))
///     .burst(20)
///     .build()?;
///
/// let decision = limiter.check(&store, "203.0.113.7").await?;
/// assert!(decision.is_allowed());
/// assert_eq!((decision.limit(), decision.remaining()), (20, 19));
/// assert_eq!(decision.reset(), Duration::from_secs(9));
/// # Ok(())
/// # }
/// ```
///
/// A check is one script on one key, so one round trip, and exact under any concurrency: of all processes together, no more is
/// let through than the limit says. Time is the server's. The state of a key vanishes once it would say nothing any more.
///
/// | algorithm | lets through | a state is |
/// |---|---|---|
/// | GCRA (the default) | the burst at once, then one each period ÷ quota | a level, and when it was |
/// | [`sliding_window`](RateLimiterBuilder::sliding_window) | about the quota in any period | two counts |
/// | [`fixed_window`](RateLimiterBuilder::fixed_window) | the quota in each period of the clock, so up to twice that around its end | a count |
///
/// GCRA is the generic cell rate algorithm of ITU-T I.371, in its form as a continuous-state leaky bucket: what is taken fills a
/// bucket as large as the burst, which drains at the rate of the quota; what would make it run over is refused, and fills
/// nothing. The sliding window is an estimate from two fixed ones: the count of the one before is weighted by the part of it
/// that a period from now backwards still covers.
///
/// # A server that does not answer
///
/// By default a request is then let through, and [`fail_closed`](RateLimiterBuilder::fail_closed) refuses it; both are logged and
/// [counted](crate::observe::stats::Stats::rate_limit_failures), and the decision [says so](Decision::failure). That goes for whatever hinders
/// the answer: an open [breaker](Store::breaker), which costs microseconds; a store that was closed; and a server at its memory
/// limit, which goes on counting keys that it has, and takes no new ones. A store that is [switched off](Store::set_enabled)
/// caches nothing, and limits all the same.
///
/// # A key that is refused again and again
///
/// A key that was refused is refused without asking the server until the time to retry, but for no longer than a second. A
/// [`reset`](Self::reset) by this store is seen at once, but for checks that are under way; one by another process within that
/// second.
///
/// # What is not exact
///
/// A request that got no answer may have been counted, and one that the client sends again (a cluster's does, after a lost
/// connection) is counted twice: more is refused then, never more let through. More is let through where the server loses what
/// it had: evicted states, a failover to a replica that lags behind, a flush. A state of more than ten seconds ahead of the server's
/// time is damaged, and is as none; so where that time is set back further, a burst more is let through.
///
/// A name has one rule: two limiters of the same name, algorithm and namespace count together, in this process and in others. Where
/// a release changes a rule, what was taken before is taken over as if it were under the new one, at most a whole burst of it.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    name: Arc<str>,
    quota: u32,
    period: Duration,
    rule: Rule,
    closed: bool,
}

/// Builds a [`RateLimiter`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct RateLimiterBuilder {
    name: String,
    quota: Option<(u32, Duration)>,
    burst: Option<u32>,
    algorithm: Algorithm,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Gcra,
    Fixed,
    Sliding,
}

/// What is asked of one limit for one key: an item of [`RateLimiter::check_all`].
#[derive(Clone, Debug)]
#[must_use = "it is asked by `RateLimiter::check_all`"]
pub struct LimitRequest<'l> {
    limiter: &'l RateLimiter,
    /// Without the namespace.
    key: Vec<u8>,
    cost: u32,
}

/// What a limit says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it says whether the request is allowed"]
pub struct Decision {
    name: Arc<str>,
    limit: u64,
    verdict: Verdict,
    failure: Option<ErrorKind>,
}

impl RateLimiter {
    /// A limiter of that name. GCRA, unless another algorithm is asked for.
    pub fn builder(name: impl Into<String>) -> RateLimiterBuilder {
        RateLimiterBuilder {
            name: name.into(),
            quota: None,
            burst: None,
            algorithm: Algorithm::Gcra,
            closed: false,
        }
    }

    /// The name, which is part of its keys in the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// So much in a period, as it was built.
    pub fn quota(&self) -> (u32, Duration) {
        (self.quota, self.period)
    }

    /// Asks for one, which is counted if it is allowed.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n), which for a cost of 1 has none: that the store does not answer is
    /// [said in the decision](Decision::failure).
    pub fn check(
        &self,
        store: &Store,
        key: impl LimitKey,
    ) -> impl Future<Output = Result<Decision>> + Send {
        self.check_n(store, key, 1)
    }

    /// As [`check`](Self::check), for a request that costs so much. All of it is counted, or nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use valkey_runtime::{ErrorKind, RateLimiter, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let limiter = RateLimiter::builder("export").quota(10, Duration::from_secs(10)).build()?;
    /// assert!(limiter.check_n(&store, 42, 7).await?.is_allowed());
    /// let decision = limiter.check_n(&store, 42, 4).await?;
    /// assert!(!decision.is_allowed());
    /// assert!(decision.retry_after() <= Duration::from_secs(1));
    /// let error = limiter.check_n(&store, 42, 11).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of kind [`Config`](ErrorKind::Config) for a cost of 0, or above the [limit](Decision::limit): it could never be allowed.
    pub fn check_n(
        &self,
        store: &Store,
        key: impl LimitKey,
        cost: u32,
    ) -> impl Future<Output = Result<Decision>> + Send {
        let inner = store.inner();
        let key = self.key(&inner.namespace, &key);
        async move {
            let span = inner.span("check", None, About::Key(&key));
            traced!(span, self.take(inner, key, cost), Ending::of)
        }
    }

    /// What [`check`](Self::check) would say, without counting anything. It is always asked of the server.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn peek(
        &self,
        store: &Store,
        key: impl LimitKey,
    ) -> impl Future<Output = Result<Decision>> + Send {
        let inner = store.inner();
        let key = self.key(&inner.namespace, &key);
        async move {
            let answer = self.ask_for(inner, "peek", &key, Act::Look).await;
            Ok(self.judged(inner, "peek", &key, answer))
        }
    }

    /// Has the key begin anew, as if it had taken nothing.
    ///
    /// # Errors
    /// When the store did not answer.
    pub fn reset(
        &self,
        store: &Store,
        key: impl LimitKey,
    ) -> impl Future<Output = Result<()>> + Send {
        let inner = store.inner();
        let key = self.key(&inner.namespace, &key);
        async move {
            let answer = self.ask_for(inner, "reset", &key, Act::Reset).await;
            inner.refusals.forget(&key);
            match answer {
                Ok(_) => Ok(()),
                Err(error) => Err(inner.failed(self.at(inner, "reset", &key, error))),
            }
        }
    }

    /// What takes nothing.
    async fn ask_for(
        &self,
        inner: &Inner,
        operation: &'static str,
        key: &[u8],
        act: Act,
    ) -> Result<Verdict> {
        let span = inner.span(operation, None, About::Key(key));
        let ask = self.ask(act, 1);
        traced!(span, inner.gateway.limit(key, &ask), Ending::of)
    }

    /// What one is asked for by [`check_all`](Self::check_all), at a cost of 1.
    pub fn request(&self, key: impl LimitKey) -> LimitRequest<'_> {
        LimitRequest {
            limiter: self,
            key: self.key("", &key),
            cost: 1,
        }
    }

    fn key(&self, namespace: &str, key: &dyn LimitKey) -> Vec<u8> {
        let mut out = KeyWriter::bare(namespace.len() + self.name.len() + 48);
        out.text(namespace);
        out.text(SPACE);
        out.text("limit:");
        out.part(&self.name);
        key.write_key(&mut out);
        out.into_bytes()
    }

    fn ask(&self, act: Act, cost: u32) -> Ask {
        Ask {
            rule: self.rule,
            act,
            cost: cost.into(),
        }
    }

    async fn take(&self, inner: &Inner, key: Vec<u8>, cost: u32) -> Result<Decision> {
        self.checked(cost)?;
        let sent = inner.gateway.backend().clock_micros();
        let decision = match self.refused_before(inner, &key, cost, sent) {
            Some(decision) => decision,
            None => {
                let answer = inner.gateway.limit(&key, &self.ask(Act::Take, cost)).await;
                self.answered(inner, &key, cost, answer, sent)
            }
        };
        if decision.is_refusal() {
            inner.counters.rate_limited();
        }
        Ok(decision)
    }

    fn checked(&self, cost: u32) -> Result<()> {
        within("the cost", cost)?;
        let (limit, name) = (self.rule.limit(), &self.name);
        if u64::from(cost) > limit {
            let message = format!("a cost of {cost} is above the limit {name}, which is {limit}");
            return Err(Error::config(message));
        }
        Ok(())
    }

    /// The decision where it is known to be a refusal.
    fn refused_before(&self, inner: &Inner, key: &[u8], cost: u32, now: u64) -> Option<Decision> {
        let verdict = inner.refusals.of(key, cost.into(), now)?;
        inner.counters.rate_limited_locally();
        Some(self.decision(verdict))
    }

    /// The decision of a server that was asked at that time. A refusal is remembered.
    fn answered(
        &self,
        inner: &Inner,
        key: &[u8],
        cost: u32,
        answer: Result<Verdict>,
        sent: u64,
    ) -> Decision {
        if let Ok(verdict) = answer
            && !verdict.allowed
        {
            let now = inner.gateway.backend().clock_micros();
            inner.refusals.add(key, cost.into(), verdict, sent, now);
        }
        self.judged(inner, "check", key, answer)
    }

    fn judged(
        &self,
        inner: &Inner,
        operation: &'static str,
        key: &[u8],
        answer: Result<Verdict>,
    ) -> Decision {
        match answer {
            Ok(verdict) => self.decision(verdict),
            Err(error) => self.without_answer(inner, self.at(inner, operation, key, error)),
        }
    }

    /// Says in which operation and at which key it happened. The name of the limit stands for a type.
    fn at(&self, inner: &Inner, operation: &'static str, key: &[u8], error: Error) -> Error {
        let keys = inner.types.keys().of_type(&self.name, false, false);
        error.at(operation, keys.told(key))
    }

    /// Asks several limits at once, in one round trip. The request is allowed if all of them allow it; the decision is that of
    /// the limit with the longest time to retry, or else of that with the least remaining.
    ///
    /// ```
    /// # use std::{net::Ipv4Addr, time::Duration};
    /// use valkey_runtime::{RateLimiter, Store};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let minute = Duration::from_secs(60);
    /// let by_address = RateLimiter::builder("address").quota(300, minute).build()?;
    /// let by_user = RateLimiter::builder("user").quota(100, minute).build()?;
    ///
    /// let address = Ipv4Addr::new(203, 0, 113, 7);
    /// let asked = [by_address.request(address), by_user.request(42)];
    /// let decision = RateLimiter::check_all(&store, &asked).await?;
    /// assert!(decision.is_allowed());
    /// assert_eq!((decision.name(), decision.remaining()), ("user", 99));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Each limit decides by itself, as their keys may be on different nodes: a request that one refuses may have been counted by
    /// the others. Where one is known to refuse, none is asked.
    ///
    /// # Errors
    /// Of kind [`Config`](ErrorKind::Config) for a cost of 0, or above its limit, and where nothing is asked.
    pub async fn check_all(store: &Store, asked: &[LimitRequest<'_>]) -> Result<Decision> {
        for LimitRequest { limiter, cost, .. } in asked {
            limiter.checked(*cost)?;
        }
        let decisions = decisions(store.inner(), asked).await;
        let tightest = decisions.into_iter().min_by_key(|one| {
            let Verdict {
                allowed,
                remaining,
                retry_after,
                ..
            } = one.verdict;
            (allowed, Reverse(retry_after), remaining)
        });
        tightest.ok_or_else(|| Error::config("no limit is asked"))
    }

    fn decision(&self, verdict: Verdict) -> Decision {
        Decision {
            name: self.name.clone(),
            limit: self.rule.limit(),
            verdict,
            failure: None,
        }
    }

    fn without_answer(&self, inner: &Inner, error: Error) -> Decision {
        let (kind, limit) = (error.kind(), self.rule.limit());
        inner.counters.rate_limit_failure();
        let what = match self.closed {
            true => "a request is refused, since its limit is not known",
            false => "a request is let through, since its limit is not known",
        };
        inner.log_failure(error, what);
        Decision {
            failure: Some(kind),
            ..self.decision(Verdict {
                allowed: !self.closed,
                remaining: if self.closed { 0 } else { limit },
                reset: 0,
                retry_after: if self.closed { refusals::LONGEST } else { 0 },
                more_after: if self.closed { refusals::LONGEST } else { 0 },
            })
        }
    }
}

/// The decisions of the server, in order; or that of the one limit that is known to refuse. The costs are in their bounds.
pub(crate) async fn decisions(inner: &Inner, asked: &[LimitRequest<'_>]) -> Vec<Decision> {
    let keys: Vec<_> = asked.iter().map(|request| request.key(inner)).collect();
    let ending = |all: &Vec<Decision>| Ending::of(&Ok(all.iter().all(Decision::is_allowed)));
    let span = inner.span("check_all", None, About::Keys(&keys));
    let decisions = traced!(span, decided(inner, asked, &keys), ending);
    if decisions.iter().any(Decision::is_refusal) {
        inner.counters.rate_limited();
    }
    decisions
}

async fn decided(inner: &Inner, asked: &[LimitRequest<'_>], keys: &[Vec<u8>]) -> Vec<Decision> {
    let sent = inner.gateway.backend().clock_micros();
    let known = asked.iter().zip(keys).find_map(|(request, key)| {
        let LimitRequest { limiter, cost, .. } = request;
        limiter.refused_before(inner, key, *cost, sent)
    });
    if let Some(decision) = known {
        return vec![decision];
    }
    let asks: Vec<_> = asked
        .iter()
        .map(|request| request.limiter.ask(Act::Take, request.cost))
        .collect();
    let slices: Vec<_> = keys.iter().map(Vec::as_slice).collect();
    let answers = match inner.gateway.limit_many(&slices, &asks).await {
        Ok(answers) => answers,
        Err(error) => vec![Err(error); asked.len()],
    };
    let items = asked.iter().zip(keys).zip(answers);
    let decisions = items.map(|((request, key), answer)| {
        let LimitRequest { limiter, cost, .. } = request;
        limiter.answered(inner, key, *cost, answer, sent)
    });
    decisions.collect()
}

#[cfg(feature = "tower")]
impl<'l> LimitRequest<'l> {
    /// One that was written before: what [`into_key`](Self::into_key) gave of this limiter.
    pub(crate) fn written(limiter: &'l RateLimiter, key: Vec<u8>) -> Self {
        let cost = 1;
        Self { limiter, key, cost }
    }

    pub(crate) fn into_key(self) -> Vec<u8> {
        self.key
    }
}

impl LimitRequest<'_> {
    /// What it costs.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    fn key(&self, inner: &Inner) -> Vec<u8> {
        [inner.namespace.as_bytes(), &self.key].concat()
    }
}

impl RateLimiterBuilder {
    /// So much in a period. The quota is from 1 to 1 000 000, the period from 1 ms to 366 days.
    pub fn quota(mut self, quota: u32, period: Duration) -> Self {
        self.quota = Some((quota, period));
        self
    }

    /// How much may be taken at once, from 1 to 1 000 000; the quota by default. For GCRA alone: a window's is its quota.
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = Some(burst);
        self
    }

    /// Counts in a window that slides, as an estimate from two that do not.
    pub fn sliding_window(mut self) -> Self {
        self.algorithm = Algorithm::Sliding;
        self
    }

    /// Counts in periods of the server's clock: a period of a minute begins with each minute.
    pub fn fixed_window(mut self) -> Self {
        self.algorithm = Algorithm::Fixed;
        self
    }

    /// Refuses what a store that does not answer says nothing of, in place of letting it through.
    pub fn fail_closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// The limiter.
    ///
    /// # Errors
    /// Of kind [`Config`](ErrorKind::Config) where a number is out of its bounds, there is no name or no quota, or a window has a
    /// burst.
    pub fn build(self) -> Result<RateLimiter> {
        let wrong =
            |message: &str| Err(Error::config(format!("limiter {:?}: {message}", self.name)));
        if self.name.is_empty() {
            return wrong("it has no name");
        }
        let Some((quota, period)) = self.quota else {
            return wrong("it has no quota");
        };
        let rule = match (self.algorithm, self.burst) {
            (Algorithm::Gcra, burst) => Rule::gcra(quota, period, burst.unwrap_or(quota)),
            (_, Some(_)) => return wrong("a window has no burst but its quota"),
            (Algorithm::Fixed, None) => Rule::fixed(quota, period),
            (Algorithm::Sliding, None) => Rule::sliding(quota, period),
        };
        let rule = rule.map_err(|error| error.context(format!("limiter {:?}", self.name)))?;
        Ok(RateLimiter {
            name: self.name.into(),
            quota,
            period,
            rule,
            closed: self.closed,
        })
    }
}

impl Tells for Decision {
    fn told(&self) -> Told {
        Told::Yes(self.is_allowed())
    }
}

impl Decision {
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        self.verdict.allowed
    }

    /// The name of the limiter that decided.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The most that may be taken at once: the burst, or the quota of a window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What may still be taken at once, after this request.
    pub fn remaining(&self) -> u64 {
        self.verdict.remaining
    }

    /// Until all of the limit is there again, if nothing is taken meanwhile.
    pub fn reset(&self) -> Duration {
        Duration::from_micros(self.verdict.reset)
    }

    /// Until the same request may be allowed, if nothing is taken meanwhile. Zero if it is.
    pub fn retry_after(&self) -> Duration {
        Duration::from_micros(self.verdict.retry_after)
    }

    /// Until more than [`remaining`](Self::remaining) may be taken at once, if nothing is taken meanwhile. Zero if that is all
    /// there is.
    pub fn more_after(&self) -> Duration {
        Duration::from_micros(self.verdict.more_after)
    }

    /// Whether the limit itself refuses.
    pub(crate) fn is_refusal(&self) -> bool {
        !self.verdict.allowed && self.failure.is_none()
    }

    /// Why the limit is not known, where the store gave no answer: the limiter then let the request through, or refused it, as it
    /// was told to. (An HTTP service answers 503 to such a refusal, where it answers 429 to others.)
    pub fn failure(&self) -> Option<ErrorKind> {
        self.failure
    }
}
