//! Rate limiting: a limit on the requests of each client, user or address in a period.
//!
//! The algorithms are pure functions. The in-process store runs
//! them, and one script repeats them in the server, by the server's clock. A process repeats a
//! known refusal without a command to the server. The state of a limit for a key is one string,
//! `[namespace:]::limit:NAME:KEY`, beside the keys of the tags. It belongs to no type: no scan or
//! purge finds it, and no near cache depends on it.

pub(crate) mod key;

pub use key::{Hashed, Subnet};

use crate::core::failures::Failures;
use crate::core::refusals;
use crate::observe::trace::Tracer;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Result;
use crate::base::error::{Error, ErrorKind};
use crate::core::inner::Inner;
use crate::core::store::Store;
use crate::key::tag::SPACE;
use crate::key::writer::KeyWriter;
use crate::observe::answer::{About, Ending, Tells, Told};
use crate::observe::trace::traced;

pub use crate::key::limit_key::LimitKey;
use crate::protocol::rate::Rule;
use crate::protocol::rate::within;
use crate::protocol::rate::{Act, Ask, Verdict};

/// A rate limit: how much each key (a client, a user, an address) may take in a period.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::limit::RateLimiter;
/// use valkey_runtime::Store;
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
/// A check is one script on one key, and so one round trip. It is exact under any concurrency: all
/// processes together never get more than it allows. The server's clock is used. The state of a key
/// expires when the key has its full limit again.
///
/// | algorithm | allows | state |
/// |---|---|---|
/// | GCRA (the default) | the burst at once, then one each period ÷ quota | a level, and its time |
/// | [`sliding_window`](RateLimiterBuilder::sliding_window) | about the quota in any period | two counts |
/// | [`fixed_window`](RateLimiterBuilder::fixed_window) | the quota in each period of the clock, so up to twice the quota around a boundary | a count |
///
/// GCRA is the generic cell rate algorithm of ITU-T I.371, in its form as a continuous-state leaky
/// bucket. The bucket is as large as the burst and drains at the rate of the quota. A request fills
/// it by its cost; a request that would overflow it is refused and fills nothing. The sliding
/// window is an estimate from two fixed windows. The count of the previous one is weighted by the
/// part of it that the last period still covers.
///
/// # A server that does not answer
///
/// By default a request is then allowed, and [`fail_closed`](RateLimiterBuilder::fail_closed)
/// refuses it. Both are logged and [counted](crate::observe::stats::Stats::rate_limit_failures),
/// and the decision [has the error](Decision::failure). This holds for every cause: an open
/// [breaker](Store::breaker), which costs microseconds; a closed store; and a server at its memory
/// limit. The latter still counts existing keys and accepts no new ones. A store that is [switched
/// off](Store::set_enabled) caches nothing, but still limits.
///
/// # A key that is refused again and again
///
/// After a refusal, this store refuses requests for the key of at least that cost without a command
/// to the server. It does so until the time to retry, for at most a second. A
/// [`reset`](Self::reset) by this store takes effect at once, except for checks in progress. A
/// reset by another process takes effect within that second.
///
/// # Accuracy
///
/// A request without an answer may have been counted. A request that the client sends again, as a
/// cluster client does after a lost connection, is counted twice. Both refuse more and never allow
/// more. More is allowed if the server loses state: by eviction, a flush, or a failover to a
/// replica that lags. A state more than ten seconds ahead of the server's time counts as damaged
/// and is ignored. If the server's time is set back further, one more burst is allowed.
///
/// A name has one rule: two limiters of the same name, algorithm and namespace count together, in
/// this process and in others. If a release changes a rule, the counts so far are kept under the
/// new rule, up to a whole burst of it.
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

/// A request to one limit for one key: an item of [`RateLimiter::check_all`].
#[derive(Clone, Debug)]
#[must_use = "it is asked by `RateLimiter::check_all`"]
pub struct LimitRequest<'l> {
    limiter: &'l RateLimiter,
    /// Without the namespace.
    key: Vec<u8>,
    cost: u32,
}

/// The decision of a limit on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it says whether the request is allowed"]
pub struct Decision {
    name: Arc<str>,
    quota: u32,
    period: Duration,
    limit: u64,
    verdict: Verdict,
    failure: Option<ErrorKind>,
}

impl RateLimiter {
    /// Builds a limiter of that name. The default algorithm is GCRA.
    pub fn builder(name: impl Into<String>) -> RateLimiterBuilder {
        RateLimiterBuilder {
            name: name.into(),
            quota: None,
            burst: None,
            algorithm: Algorithm::Gcra,
            closed: false,
        }
    }

    /// The name, which is part of the limiter's keys in the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The quota and its period, as given to the builder.
    pub fn quota(&self) -> (u32, Duration) {
        (self.quota, self.period)
    }

    /// Requests one unit, which is counted if it is allowed.
    ///
    /// # Errors
    /// As [`check_n`](Self::check_n), which has none for a cost of 1. If the store does not answer,
    /// [the decision has the error](Decision::failure).
    pub fn check(
        &self,
        store: &Store,
        key: impl LimitKey,
    ) -> impl Future<Output = Result<Decision>> + Send {
        self.check_n(store, key, 1)
    }

    /// As [`check`](Self::check), for a request of that cost. Either the whole cost is counted, or
    /// nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use valkey_runtime::limit::RateLimiter;
    /// # use valkey_runtime::{ErrorKind, Store};
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
    /// [`Config`](ErrorKind::Config) for a cost of 0, or above the [limit](Decision::limit), which
    /// could never be allowed.
    pub fn check_n(
        &self,
        store: &Store,
        key: impl LimitKey,
        cost: u32,
    ) -> impl Future<Output = Result<Decision>> + Send {
        let inner = store.inner();
        let key = self.key(&inner.namespace, &key);
        async move {
            let span = Tracer(inner).span("check", None, About::Key(&key));
            traced!(span, self.take(inner, key, cost), Ending::of)
        }
    }

    /// The decision that [`check`](Self::check) would give, without counting anything. It always
    /// queries the server.
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

    /// Resets the key, as if it had taken nothing.
    ///
    /// # Errors
    /// Any error of the store, if it does not answer.
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
                Err(error) => Err(Failures(inner).failed(self.at(inner, "reset", &key, error))),
            }
        }
    }

    /// Sends a request that counts nothing.
    async fn ask_for(
        &self,
        inner: &Inner,
        operation: &'static str,
        key: &[u8],
        act: Act,
    ) -> Result<Verdict> {
        let span = Tracer(inner).span(operation, None, About::Key(key));
        let ask = self.ask(act, 1);
        traced!(span, inner.gateway.decide(key, &ask), Ending::of)
    }

    /// A request for [`check_all`](Self::check_all), at a cost of 1.
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
                let answer = inner.gateway.decide(&key, &self.ask(Act::Take, cost)).await;
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
            let message = format!("the cost {cost} exceeds the limit {name} of {limit}");
            return Err(Error::config(message));
        }
        Ok(())
    }

    /// The decision, if the request is known to be refused.
    fn refused_before(&self, inner: &Inner, key: &[u8], cost: u32, now: u64) -> Option<Decision> {
        let verdict = inner.refusals.of(key, cost.into(), now)?;
        inner.counters.rate_limited_locally();
        Some(self.decision(verdict))
    }

    /// The decision from the server's answer to a request sent at that time. A refusal is
    /// remembered.
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

    /// Adds the operation and the key to an error. The name of the limit stands for a type.
    fn at(&self, inner: &Inner, operation: &'static str, key: &[u8], error: Error) -> Error {
        let keys = inner.types.keys().of_type(&self.name, false, false);
        error.at(operation, keys.told(key))
    }

    /// Checks several limits at once, in one round trip. The request is allowed if all of them
    /// allow it. The decision is that of the limit with the longest time to retry, or else of the
    /// one with the least remaining.
    ///
    /// ```
    /// # use std::{net::Ipv4Addr, time::Duration};
    /// use valkey_runtime::limit::RateLimiter;
    /// use valkey_runtime::Store;
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
    /// Each limit decides by itself, as their keys may be on different nodes. A request that one
    /// limit refuses may have been counted by the others. If one limit is known to refuse, no
    /// command is sent.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) for a cost of 0, or above its limit, and if `asked` is empty.
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
        tightest.ok_or_else(|| Error::config("no limit was given to check"))
    }

    fn decision(&self, verdict: Verdict) -> Decision {
        Decision {
            name: self.name.clone(),
            quota: self.quota,
            period: self.period,
            limit: self.rule.limit(),
            verdict,
            failure: None,
        }
    }

    fn without_answer(&self, inner: &Inner, error: Error) -> Decision {
        let (kind, limit) = (error.kind(), self.rule.limit());
        inner.counters.rate_limit_failure();
        let what = match self.closed {
            true => "a request is refused, because its limit could not be checked",
            false => "a request is admitted, because its limit could not be checked",
        };
        Failures(inner).log_failure(error, what);
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

/// The decisions of the server, in order, or the decision of one limit that is known to refuse. The
/// costs are within their bounds.
pub(crate) async fn decisions(inner: &Inner, asked: &[LimitRequest<'_>]) -> Vec<Decision> {
    let keys: Vec<_> = asked.iter().map(|request| request.key(inner)).collect();
    let ending = |all: &Vec<Decision>| Ending::of(&Ok(all.iter().all(Decision::is_allowed)));
    let span = Tracer(inner).span("check_all", None, About::Keys(&keys));
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
    let answers = match inner.gateway.decide_each(&slices, &asks).await {
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

#[cfg(feature = "http")]
impl<'l> LimitRequest<'l> {
    /// A request with a key that [`into_key`](Self::into_key) of the same limiter returned.
    pub(crate) fn written(limiter: &'l RateLimiter, key: Vec<u8>) -> Self {
        let cost = 1;
        Self { limiter, key, cost }
    }

    pub(crate) fn into_key(self) -> Vec<u8> {
        self.key
    }
}

impl LimitRequest<'_> {
    /// Sets the cost.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    fn key(&self, inner: &Inner) -> Vec<u8> {
        [inner.namespace.as_bytes(), &self.key].concat()
    }
}

impl RateLimiterBuilder {
    /// Allows that many units in a period. The quota is from 1 to 1 000 000, the period from 1 ms
    /// to 366 days.
    pub fn quota(mut self, quota: u32, period: Duration) -> Self {
        self.quota = Some((quota, period));
        self
    }

    /// The units that may be taken at once, from 1 to 1 000 000; the quota by default. For GCRA
    /// only: a window has no burst other than its quota.
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = Some(burst);
        self
    }

    /// Uses a sliding window, estimated from two fixed windows.
    pub fn sliding_window(mut self) -> Self {
        self.algorithm = Algorithm::Sliding;
        self
    }

    /// Uses fixed windows of the server's clock: a period of a minute begins with each minute.
    pub fn fixed_window(mut self) -> Self {
        self.algorithm = Algorithm::Fixed;
        self
    }

    /// Refuses requests while the store does not answer, instead of allowing them.
    pub fn fail_closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// Builds the limiter.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if a number is out of bounds, if there is no name or no quota,
    /// or if a window has a burst.
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
            (_, Some(_)) => return wrong("a window has no burst other than its quota"),
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
    /// Whether the request is allowed.
    pub fn is_allowed(&self) -> bool {
        self.verdict.allowed
    }

    /// The name of the limiter that decided.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The quota of the limiter and its period.
    pub fn quota(&self) -> (u32, Duration) {
        (self.quota, self.period)
    }

    /// The most that may be taken at once: the burst, or the quota of a window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The units that may still be taken at once, after this request.
    pub fn remaining(&self) -> u64 {
        self.verdict.remaining
    }

    /// The time until the whole limit is available again, if nothing else is taken.
    pub fn reset(&self) -> Duration {
        Duration::from_micros(self.verdict.reset)
    }

    /// The time until the same request may be allowed, if nothing else is taken. Zero if it is
    /// allowed.
    pub fn retry_after(&self) -> Duration {
        Duration::from_micros(self.verdict.retry_after)
    }

    /// The time until more than [`remaining`](Self::remaining) may be taken at once, if nothing
    /// else is taken. Zero if the whole limit remains.
    pub fn more_after(&self) -> Duration {
        Duration::from_micros(self.verdict.more_after)
    }

    /// Whether the limit itself refuses, and not [`fail_closed`](RateLimiterBuilder::fail_closed).
    pub(crate) fn is_refusal(&self) -> bool {
        !self.verdict.allowed && self.failure.is_none()
    }

    /// The kind of the error that left the state of the limit unknown, if the store did not answer.
    /// The limiter then allowed or refused the request, as it was built to. (An HTTP service
    /// answers such a refusal with 503, and others with 429.)
    pub fn failure(&self) -> Option<ErrorKind> {
        self.failure
    }
}
