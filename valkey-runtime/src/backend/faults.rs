//! Fault injection between a store and its entries.
//!
//! The seam is [`Gateway`](crate::backend::gateway::Gateway), through which every request goes. The
//! code above it (loads, guards, the outbox) treats an injected failure like a server's own. Below
//! it is any backend.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::backend::write::Write;
use crate::base::error::{Error, ErrorKind};
use crate::base::lock::lock;
use crate::protocol::transition::{Becomes, Placing, Verb};
use crate::schema::cached_type::CachedType;

/// Injects faults into a store, on any backend. Returned by
/// [`Store::faults`](crate::Store::faults).
///
/// A fault strikes a [request](Request): one step of a verb, such as a look, a lease or a deletion.
/// A bulk verb is one request, and fails as a whole. A store also sends requests by itself, such as
/// a repeated deletion. So a test that means a certain request says so ([`Fault::on`],
/// [`Fault::at`]). If several faults match a request, the first injected one strikes.
pub struct Faults {
    armed: Mutex<Vec<Armed>>,
    /// The number of faults, readable without the lock.
    count: AtomicUsize,
    down: watch::Sender<bool>,
    /// Whether requests to the in-process store yield.
    yielding: AtomicBool,
}

struct Armed {
    fault: Fault,
    /// The number of times that it still strikes; none for always.
    left: Option<usize>,
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Request {
    /// Looks at entries: all reads, and the first step of loads. Also scans and pings.
    Read,
    /// Stores: a `set`, a loaded or written-through value, a `touch`.
    Store,
    /// Invalidates: `del`, `mark_stale`, tags, `purge`; also removes corrupt entries and delivers
    /// the outbox.
    Delete,
    /// Requests, renews or gives back a load's lease.
    Lease,
    /// Places, renews or removes a writer's guard.
    Guard,
    /// Checks, peeks at or resets a rate limit.
    Limit,
    /// Adds to, reads or resets a counter.
    Count,
    /// Takes, renews or releases a lock.
    Lock,
}

impl Request {
    pub(crate) fn of(write: &Write<'_>) -> Self {
        match write {
            Write::Set { .. } => Request::Store,
            Write::Apply(verb) => Self::of_verb(verb),
        }
    }

    pub(crate) fn of_verb(verb: &Verb<'_>) -> Self {
        match verb {
            Verb::SetIfAbsent(..)
            | Verb::SetIfPresent(..)
            | Verb::SetOnlyCopy { .. }
            | Verb::Touch(_)
            | Verb::Migrate { .. }
            | Verb::Fill { .. }
            | Verb::Confirm { .. }
            | Verb::StoreThrough { .. } => Request::Store,
            Verb::Swap(swap) if swap.becomes != Becomes::Removed => Request::Store,
            Verb::Swap(_)
            | Verb::Delete(_)
            | Verb::DeleteOnlyCopy
            | Verb::MarkStale { .. }
            | Verb::Raise(_)
            | Verb::RemoveIfSame(_) => Request::Delete,
            Verb::RenewLease { .. } | Verb::Discard(_) | Verb::Release { .. } => Request::Lease,
            Verb::RenewGuard { .. } | Verb::Leave { .. } => Request::Guard,
        }
    }

    pub(crate) fn of_placing(verb: &Placing) -> Self {
        match verb {
            Placing::Lease { .. } => Request::Lease,
            Placing::Enter { .. } => Request::Guard,
            Placing::Extend { .. } => Request::Store,
        }
    }

    /// One request of this kind for each key.
    pub(crate) fn each<K: AsRef<[u8]>>(
        self,
        keys: &[K],
    ) -> impl Iterator<Item = (Self, &[u8])> + Clone {
        keys.iter().map(move |key| (self, key.as_ref()))
    }
}

/// A fault, and the requests that it strikes. By default it strikes all of them.
///
/// ```
/// use valkey_runtime::testing::{Fault, Request};
/// use valkey_runtime::{ErrorKind, Store};
///
/// let store = Store::memory();
/// store.faults().fail_next(Fault::error(ErrorKind::OutOfMemory).on(Request::Store));
/// store.faults().fail_next(Fault::lost_reply().at("user:42"));
/// assert_eq!(store.faults().pending(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    what: What,
    on: Option<Request>,
    at: Option<At>,
}

#[derive(Clone, Debug)]
enum What {
    Fails(ErrorKind),
    LosesReply,
    Waits(Arc<watch::Sender<Stage>>),
    Down,
}

#[derive(Clone, Debug)]
enum At {
    Key(String),
    Prefix(&'static str),
}

impl Fault {
    /// The request fails with an error of this kind, and is not carried out.
    ///
    /// # Panics
    /// If no server causes this kind: for kinds about values, the configuration or closed stores.
    #[track_caller]
    pub fn error(kind: ErrorKind) -> Self {
        let of_a_server = !matches!(
            kind,
            ErrorKind::Encode
                | ErrorKind::TooLarge
                | ErrorKind::Invalid
                | ErrorKind::Corrupt
                | ErrorKind::Config
                | ErrorKind::Closed
                | ErrorKind::Unreadable
                | ErrorKind::Disabled
        );
        assert!(of_a_server, "no request fails with an error of kind {kind}");
        Self::new(What::Fails(kind))
    }

    /// The request is carried out, but its answer is lost: an error of kind
    /// [`Timeout`](ErrorKind::Timeout).
    pub fn lost_reply() -> Self {
        Self::new(What::LosesReply)
    }

    fn new(what: What) -> Self {
        let (on, at) = (None, None);
        Self { what, on, at }
    }

    /// Strikes only requests of this kind.
    pub fn on(mut self, request: Request) -> Self {
        self.on = Some(request);
        self
    }

    /// Strikes only requests for this key, without the store's namespace: `user:42`. A bulk request
    /// matches by any of its keys.
    pub fn at(mut self, key: impl Into<String>) -> Self {
        self.at = Some(At::Key(key.into()));
        self
    }

    /// Strikes only requests for keys of this type.
    pub fn of<T: CachedType>(mut self) -> Self {
        self.at = Some(At::Prefix(T::PREFIX));
        self
    }

    fn strikes(&self, namespace: &str, request: Request, key: &[u8]) -> bool {
        let own = key.strip_prefix(namespace.as_bytes()).unwrap_or(key);
        let here = match &self.at {
            None => true,
            Some(At::Key(wanted)) => wanted.as_bytes() == own,
            Some(At::Prefix(prefix)) => {
                let parts = own.strip_prefix(prefix.as_bytes());
                parts.is_some_and(|parts| parts.is_empty() || parts.starts_with(b":"))
            }
        };
        here && self.on.is_none_or(|wanted| wanted == request)
    }

    /// Runs a request with this fault.
    pub(crate) async fn around<T>(
        self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match self.what {
            What::Fails(kind) => Err(Error::new(kind, "injected by a test")),
            What::Down => {
                let error = Error::new(ErrorKind::Connection, "a test has taken the store down");
                Err(error.refused())
            }
            What::LosesReply => {
                request.await?;
                let lost = "a test dropped the answer; the request was carried out";
                Err(Error::new(ErrorKind::Timeout, lost))
            }
            What::Waits(stage) => {
                stage.send_if_modified(|stage| {
                    let reached = *stage == Stage::Armed;
                    if reached {
                        *stage = Stage::Reached;
                    }
                    reached
                });
                // An error would mean that nobody can release it, but the sender is here.
                let _ = stage
                    .subscribe()
                    .wait_for(|stage| *stage == Stage::Released)
                    .await;
                request.await
            }
        }
    }
}

impl From<ErrorKind> for Fault {
    /// The same as [`Fault::error`].
    #[track_caller]
    fn from(kind: ErrorKind) -> Self {
        Self::error(kind)
    }
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            armed: Mutex::default(),
            count: AtomicUsize::new(0),
            down: watch::Sender::new(false),
            yielding: AtomicBool::new(true),
        }
    }

    /// Makes the next matching request fail.
    #[track_caller]
    pub fn fail_next(&self, fault: impl Into<Fault>) {
        self.arm(fault.into(), Some(1));
    }

    /// Makes the next `times` matching requests fail.
    #[track_caller]
    pub fn fail_times(&self, times: usize, fault: impl Into<Fault>) {
        if times > 0 {
            self.arm(fault.into(), Some(times));
        }
    }

    /// Makes all matching requests fail, until [`recover`](Self::recover).
    #[track_caller]
    pub fn fail_all(&self, fault: impl Into<Fault>) {
        self.arm(fault.into(), None);
    }

    /// Simulates a server that is down, until [`recover`](Self::recover). Every request fails at
    /// once with an error of kind [`Connection`](ErrorKind::Connection) that [is
    /// refused](crate::base::error::Error::is_refused), and the [breaker](crate::Store::breaker) is
    /// open.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// store.faults().take_down();
    /// assert!(store.ping().await.unwrap_err().is_refused());
    ///
    /// // The database is there still.
    /// let find_user = async || Ok::<_, std::io::Error>(Some(User { id: 42 }));
    /// assert!(User::get_or_load(&store, 42, find_user).await.unwrap().is_some());
    /// store.faults().recover();
    /// store.ping().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_down(&self) {
        let mut armed = self.armed();
        armed.retain(|armed| !armed.fault.is_outage());
        // Before all others: nothing reaches a server that is down.
        let (fault, left) = (Fault::new(What::Down), None);
        armed.insert(0, Armed { fault, left });
        self.count.store(armed.len(), Ordering::SeqCst);
        drop(armed);
        self.down.send_replace(true);
    }

    /// Removes all faults, including those that have not struck yet. Held requests stay held.
    /// Undelivered deletions are delivered.
    pub fn recover(&self) {
        let mut armed = self.armed();
        armed.retain(|armed| matches!(armed.fault.what, What::Waits(_)));
        self.count.store(armed.len(), Ordering::SeqCst);
        drop(armed);
        self.down.send_replace(false);
    }

    /// Holds the next request of this kind until it is released. So a test can make something else
    /// happen in between, without a guessed pause.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # use valkey_runtime::testing::Request;
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let held = store.faults().hold_next(Request::Store);
    /// let load = tokio::spawn({
    ///     let store = store.clone();
    ///     async move { User::get_or_load(&store, 42, async || Ok::<_, ()>(Some(User { id: 42 }))).await }
    /// });
    /// held.reached().await; // the row is loaded, and is about to be stored
    /// User::del(&store, 42).await?;
    /// held.release();
    /// assert!(load.await.unwrap().unwrap().is_some());
    /// assert!(User::get(&store, 42).await?.is_none(), "what is older than the deletion is not stored");
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_next(&self, request: Request) -> Held {
        let stage = Arc::new(watch::Sender::new(Stage::Armed));
        let fault = Fault::new(What::Waits(stage.clone())).on(request);
        self.arm(fault, Some(1));
        Held(stage)
    }

    /// Sets whether each request to an in-process store lets other tasks run first, as a request to
    /// a server does. By default it does, so a test finds what can happen between a read and the
    /// write that depends on it. If it is off, the in-process store answers all requests at once.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Result, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// struct Views {
    ///     #[cached(key)]
    ///     page: u64,
    ///     number: u64,
    /// }
    ///
    /// // Two that count at once: this is wrong, and one of the two is lost.
    /// async fn count(store: &Store) -> Result<()> {
    ///     let before = Views::get(store, 1).await?.map_or(0, |views| views.number);
    ///     Views { page: 1, number: before + 1 }.set(store).await
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let store = Store::memory();
    /// tokio::try_join!(count(&store), count(&store))?;
    /// assert_eq!(Views::get(&store, 1).await?.unwrap().number, 1);
    ///
    /// store.faults().set_yielding(false);
    /// tokio::try_join!(count(&store), count(&store))?;
    /// assert_eq!(Views::get(&store, 1).await?.unwrap().number, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_yielding(&self, on: bool) {
        self.yielding.store(on, Ordering::Relaxed);
    }

    pub(crate) fn are_to_yield(&self) -> bool {
        self.yielding.load(Ordering::Relaxed)
    }

    /// Returns how many times the injected faults have still to strike: 0 once a test has seen all
    /// of them. Faults that last until [`recover`](Self::recover) do not count.
    pub fn pending(&self) -> usize {
        self.armed().iter().filter_map(|armed| armed.left).sum()
    }

    fn arm(&self, fault: Fault, left: Option<usize>) {
        let mut armed = self.armed();
        armed.push(Armed { fault, left });
        self.count.store(armed.len(), Ordering::SeqCst);
    }

    /// The fault that strikes this request, if any.
    #[inline]
    pub(crate) fn next<'k, R>(&self, namespace: &str, requests: impl Fn() -> R) -> Option<Fault>
    where
        R: IntoIterator<Item = (Request, &'k [u8])>,
    {
        match self.count.load(Ordering::Relaxed) {
            0 => None,
            _ => self.struck(namespace, requests),
        }
    }

    #[cold]
    fn struck<'k, R>(&self, namespace: &str, requests: impl Fn() -> R) -> Option<Fault>
    where
        R: IntoIterator<Item = (Request, &'k [u8])>,
    {
        let mut armed = self.armed();
        let at = armed.iter().position(|armed| {
            let mut requests = requests().into_iter();
            requests.any(|(request, key)| armed.fault.strikes(namespace, request, key))
        })?;
        let fault = armed[at].fault.clone();
        if let Some(left) = &mut armed[at].left {
            *left -= 1;
            if *left == 0 {
                armed.remove(at);
            }
        }
        self.count.store(armed.len(), Ordering::SeqCst);
        Some(fault)
    }

    pub(crate) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// Returns once the server is up, or the store is dropped. The future keeps nothing alive.
    pub(crate) fn up(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut down = self.down.subscribe();
        async move {
            // An error means that the store is gone.
            let _ = down.wait_for(|down| !down).await;
        }
    }

    fn armed(&self) -> MutexGuard<'_, Vec<Armed>> {
        lock(&self.armed)
    }
}

impl Fault {
    fn is_outage(&self) -> bool {
        matches!(self.what, What::Down)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let armed = self.armed();
        f.debug_list()
            .entries(armed.iter().map(|armed| &armed.fault))
            .finish()
    }
}

/// A request that [`Faults::hold_next`] holds or will hold. Dropping this releases it.
#[derive(Debug)]
#[must_use = "a request is released when this is dropped"]
pub struct Held(Arc<watch::Sender<Stage>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Armed,
    Reached,
    Released,
}

impl Held {
    /// Returns once a request is held here.
    pub async fn reached(&self) {
        // An error would mean that the sender is gone, but it is here.
        let _ = self
            .0
            .subscribe()
            .wait_for(|stage| *stage != Stage::Armed)
            .await;
    }

    /// Lets the request go on.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_replace(Stage::Released);
    }
}

#[cfg(all(test, feature = "derive"))]
mod tests {
    use crate::Cached;
    use crate::Store;
    use std::panic::catch_unwind;

    use futures_util::FutureExt;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::core::options::SetOptions;
    use crate::limit::RateLimiter;

    #[derive(Debug, Serialize, Deserialize, Cached)]
    #[cached(prefix = "user", tag = "users")]
    struct User {
        #[cached(key)]
        id: u64,
    }

    /// A singleton, whose key is its prefix.
    #[derive(Debug, Serialize, Deserialize, Cached)]
    #[cached(prefix = "us")]
    struct Only {}

    fn key(text: &str) -> Vec<u8> {
        format!("shop:{text}").into_bytes()
    }

    /// The fault that strikes first.
    fn next(faults: &Faults, request: Request, at: &str) -> Option<What> {
        let key = key(at);
        let fault = faults.next("shop:", || [(request, key.as_slice())]);
        fault.map(|fault| fault.what)
    }

    #[tokio::test]
    async fn a_store_that_is_down_is_down_for_what_was_to_fail_otherwise() {
        let store = Store::memory();
        let faults = store.faults();
        faults.fail_next(ErrorKind::OutOfMemory);
        faults.fail_all(ErrorKind::Timeout);
        let held = faults.hold_next(Request::Read);
        for _ in 0..2 {
            faults.take_down();
            let error = store.ping().await.unwrap_err();
            assert!(error.is_refused(), "{error}");
            assert_eq!(error.kind(), ErrorKind::Connection);
        }
        // A request that failed otherwise would have used up its fault, and a held one would wait.
        assert_eq!(faults.pending(), 2);
        assert!(faults.is_down());
        faults.recover();
        assert!(!faults.is_down());
        assert_eq!(faults.pending(), 1, "the one that is held");
        drop(held);
    }

    #[tokio::test]
    async fn a_request_that_is_held_waits_beyond_a_recovery() {
        let store = Store::memory();
        let held = store.faults().hold_next(Request::Read);
        store.faults().recover();
        let mut ping = Box::pin(store.ping());
        let mut reached = Box::pin(held.reached());
        assert!((&mut reached).now_or_never().is_none(), "nothing waits yet");
        while (&mut reached).now_or_never().is_none() {
            assert!((&mut ping).now_or_never().is_none(), "it is not held");
        }
        drop(reached);
        store.faults().recover();
        assert!(
            (&mut ping).now_or_never().is_none(),
            "it is released by none but the test"
        );
        held.release();
        ping.await.unwrap();
    }

    #[test]
    fn faults_strike_in_order_and_as_often_as_they_were_to() {
        let faults = Faults::new();
        faults.fail_times(0, ErrorKind::Auth);
        assert!(next(&faults, Request::Read, "user:1").is_none());
        faults.fail_times(2, Fault::error(ErrorKind::Timeout).on(Request::Store));
        faults.fail_all(ErrorKind::Auth);
        assert_eq!(faults.pending(), 2, "what lasts is not counted");
        let fails = |request| match next(&faults, request, "user:1") {
            Some(What::Fails(kind)) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(fails(Request::Read), ErrorKind::Auth);
        assert_eq!(fails(Request::Store), ErrorKind::Timeout);
        assert_eq!(faults.pending(), 1);
        assert_eq!(fails(Request::Store), ErrorKind::Timeout);
        assert_eq!(faults.pending(), 0);
        for _ in 0..3 {
            assert_eq!(fails(Request::Store), ErrorKind::Auth);
        }
        faults.recover();
        assert!(next(&faults, Request::Store, "user:1").is_none());
    }

    #[test]
    fn a_fault_strikes_requests_of_its_kind_at_its_key_or_type() {
        let fault = || Fault::lost_reply();
        for (fault, at, strikes) in [
            (fault(), "user:1", true),
            (fault().at("user:1"), "user:1", true),
            (fault().at("user:1"), "user:11", false),
            (fault().at("user:1"), "shop:user:1", false),
            (fault().at("shop:user:1"), "user:1", false),
            (fault().of::<User>(), "user:1", true),
            (fault().of::<User>(), "user", true),
            (fault().of::<User>(), "user-group:1", false),
            (fault().of::<User>(), "use:1", false),
            (fault().of::<Only>(), "us", true),
            (fault().of::<Only>(), "user:1", false),
            (fault().of::<User>().on(Request::Read), "user:1", true),
            (fault().on(Request::Store), "user:1", false),
            (fault().at("user:2").on(Request::Read), "user:1", false),
        ] {
            let struck = fault.strikes("shop:", Request::Read, &key(at));
            assert_eq!(struck, strikes, "{fault:?} {at}");
        }
        assert!(fault().at("user:1").strikes("", Request::Read, b"user:1"));
    }

    #[test]
    fn no_server_gives_an_error_about_a_value_or_the_store() {
        let given = ErrorKind::ALL
            .into_iter()
            .filter(|kind| catch_unwind(|| Fault::error(*kind)).is_ok());
        let given: Vec<_> = given.collect();
        assert_eq!(
            given,
            [
                ErrorKind::Connection,
                ErrorKind::Timeout,
                ErrorKind::Tls,
                ErrorKind::Auth,
                ErrorKind::Loading,
                ErrorKind::ReadOnly,
                ErrorKind::OutOfMemory,
                ErrorKind::Unavailable,
                ErrorKind::Server,
            ]
        );
    }

    /// Each verb sends a request of the kind that `docs/guides/testing.md` names.
    #[tokio::test]
    async fn each_verb_sends_what_it_says() {
        let store = Store::memory();
        let limiter = RateLimiter::builder("l")
            .quota(9, std::time::Duration::from_secs(9))
            .build()
            .unwrap();
        macro_rules! sends {
            ($($request:ident: $verb:expr;)*) => { $(
                User { id: 1 }.set(&store).await.unwrap();
                let fault = Fault::error(ErrorKind::Unavailable).on(Request::$request);
                store.faults().fail_next(fault);
                // Whether it fails depends on the verb.
                let _ = $verb.await;
                let struck = store.faults().pending() == 0;
                assert!(struck, "{} by {}", stringify!($request), stringify!($verb));
                store.settled().await;
            )* };
        }
        let load = async || Err::<User, _>("no row");
        sends! {
            Read: User::get(&store, 1);
            Read: User::exists(&store, 1);
            Read: store.of::<User>().ttl(1);
            Read: User::get_or_load(&store, 1, load);
            Read: store.ping();
            Store: User { id: 1 }.set(&store);
            Store: User { id: 1 }.set_with(&store, SetOptions::new().if_absent());
            Store: User::touch(&store, 1);
            Store: User::get_or_load(&store, 2, async || Ok::<_, ()>(User { id: 2 }));
            Delete: User::del(&store, 1);
            Delete: store.of::<User>().mark_stale(1);
            Delete: store.invalidate_tag("users");
            Lease: User::get_or_load(&store, 3, load);
            Guard: User::update(&store, 1, async || Ok::<_, ()>(()));
            Guard: store.of::<User>().update(1).guard();
            Limit: limiter.check(&store, 1);
            Limit: limiter.peek(&store, 1);
            Limit: limiter.reset(&store, 1);
        }
    }
}
