//! Loads of a type: one builder for one key, many keys and look-ups by an alias.
//!
//! The choices are types. So a senseless combination does not compile, and the type of the answer
//! follows from the choices.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::api::choices::{
    Bypass, Choices, EachOf, EndsWithCall, Fresh, InBackground, InCall, Keeps, Limit, Limited,
    MayOutlive, Normal, Output, Stored, Unchosen, Unlimited, Untouched, Value, WithEntry,
};
use crate::api::handle::{Handle, key_bytes};
use crate::base::lock::lock;
use crate::base::ttl::Ttl;
use crate::core::entry::Origin;
use crate::core::options::{LoadMode, LoadOptions};
use crate::core::store::Store;
use crate::key::part::{KeyFrom, OwnKey};
use crate::key::tag::Place;
use crate::schema::cached_type::CachedType;
use crate::schema::keys::KeyOf;
use crate::schema::loaded::{IntoLoaded, IntoRow, Loaded, Stale};
use crate::value::codec;
use crate::verbs::loading;
use crate::verbs::loading::driver::Answers;
use crate::verbs::loading::loader::{Found, many, once};
use crate::verbs::loading::work::{Background, Loads};
use crate::verbs::raw::Raw;

/// A load of one key. See [`Handle::load`].
#[derive(Debug)]
pub struct One(pub(crate) Place);

/// A load of many keys. See [`Handle::load_many`].
pub struct Many<T: CachedType<OwnedKey: OwnKey>>(Asked<T>);

/// A load that has not begun, and its choices. From [`Handle::load`], [`Handle::load_many`], or the
/// method `load_by_…` of a type with an alias.
///
/// Each method makes one choice, and they can be combined:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// # #[derive(Serialize, Deserialize, Cached, Debug)]
/// # struct User { #[cached(key)] id: u64, name: String }
/// # #[derive(Clone)]
/// # struct Db;
/// # impl Db {
/// #     async fn find(&self, id: u64) -> Result<Option<User>, std::io::Error> {
/// #         Ok(Some(User { id, name: "Ada".into() }))
/// #     }
/// # }
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (store, db) = (Store::memory(), Db);
/// let users = store.of::<User>();
/// let load = users.load(42).fresh().timeout(Duration::from_secs(2)).entry();
/// let user = load.run(|| db.find(42)).await?.expect("it was loaded");
/// println!("{}, stored for {:?}", user.name, user.expires_in());
///
/// // The loader owns what it uses, so the load may go on after the call has returned.
/// let user = users.load(42).in_background().run(move || async move { db.find(42).await });
/// assert_eq!(user.await?.unwrap().name, "Ada");
/// # Ok(())
/// # }
/// ```
///
/// | choice | default | effect |
/// |---|---|---|
/// | [`fresh`](Self::fresh) | a cached value is the answer | ignores a cached value, loads and stores |
/// | [`bypass`](Self::bypass) | | loads, and neither reads nor changes the cache |
/// | [`ttl`](Self::ttl) | the type's TTL | the TTL of the loaded value |
/// | [`timeout`](Self::timeout) | none | ends a loader that runs for longer (hard timeout) |
/// | [`queue_timeout`](Self::queue_timeout) | none | ends the wait for a turn to load |
/// | [`in_background`](Self::in_background) | the load ends with its call | refresh-ahead, and a soft timeout (`load_timeout`) |
/// | [`entry`](Self::entry) | the value | the value with its age, source and remaining TTL |
///
/// The only error is the loader's own, or with a timeout [`LoadError`](crate::LoadError). If the
/// cache is down, slow or full, the loader's value is returned, and the failure is logged and
/// counted.
#[must_use = "nothing is loaded before `run`"]
pub struct Load<'s, T: CachedType, K, M = Normal, O = Value, X = Unlimited, B = InCall> {
    pub(crate) handle: Handle<'s, T>,
    pub(crate) keys: K,
    mode: LoadMode,
    ttl: Option<Ttl>,
    timeout: Option<Duration>,
    queue_timeout: Option<Duration>,
    choices: Choices<M, O, X, B>,
}

impl<'s, T: CachedType> Handle<'s, T> {
    /// Begins a load of the value under a key: see [`Load`].
    pub fn load(self, key: T::Key<'_>) -> Load<'s, T, One> {
        const { T::POLICY.can_load() };
        Load::new(self, One(self.place(key)))
    }

    /// Begins a load of the values under many keys: see [`Load`]. A key may occur several times.
    ///
    /// The loader takes the missing keys, at most 1,000 at a time, and returns rows: values whose
    /// key is one of their fields, or pairs of key and value. A key without a row has no value. If
    /// another call of this process is loading a key, this call waits for it. If another process is
    /// loading a key, this call loads it too and does not store it.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug, PartialEq)]
    /// # struct User { #[cached(key)] id: u64, name: String }
    /// # #[derive(Debug)]
    /// # struct DbError;
    /// # struct Db;
    /// # impl Db {
    /// #     async fn find_all(&self, ids: Vec<u64>) -> Result<Vec<User>, DbError> {
    /// #         Ok(ids.into_iter().filter(|id| id % 2 == 1).map(|id| User { id, name: "Ada".into() }).collect())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), DbError> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let load = store.of::<User>().load_many([1, 2, 3]).entry();
    /// let users = load.run(|missing| db.find_all(missing)).await?;
    /// assert!(users[0].is_some() && users[1].is_none() && users[2].is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_many<I>(self, keys: I) -> Load<'s, T, Many<T>>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item> + OwnKey,
    {
        const { T::POLICY.can_load() };
        Load::new(self, Many(Asked::new(self, keys)))
    }
}

impl<'s, T: CachedType, K> Load<'s, T, K> {
    pub(crate) fn new(handle: Handle<'s, T>, keys: K) -> Self {
        Self {
            handle,
            keys,
            mode: LoadMode::Normal,
            ttl: None,
            timeout: None,
            queue_timeout: None,
            choices: PhantomData,
        }
    }
}

impl<'s, T: CachedType, K, M, O, X, B> Load<'s, T, K, M, O, X, B> {
    fn chosen<N, P, Y, C>(self) -> Load<'s, T, K, N, P, Y, C> {
        let Self {
            handle,
            keys,
            mode,
            ttl,
            timeout,
            queue_timeout,
            choices: _,
        } = self;
        Load {
            handle,
            keys,
            mode,
            ttl,
            timeout,
            queue_timeout,
            choices: PhantomData,
        }
    }

    /// Ignores a cached value: always loads, and stores the result. It does not join an earlier
    /// load, whose result is then not stored.
    pub fn fresh(mut self) -> Load<'s, T, K, Fresh, O, X, B>
    where
        M: Unchosen,
    {
        self.mode = LoadMode::Fresh;
        self.chosen()
    }

    /// As [`fresh`](Self::fresh), where a value decides and not the type.
    pub(crate) fn made_fresh(mut self) -> Self {
        self.mode = LoadMode::Fresh;
        self
    }

    /// Loads, and neither reads nor changes the cache. The load is counted and timed.
    pub fn bypass(mut self) -> Load<'s, T, K, Bypass, O, X, InCall>
    where
        M: Untouched,
        B: EndsWithCall,
    {
        self.mode = LoadMode::Bypass;
        self.chosen()
    }

    /// Sets the TTL of the loaded value, in place of the type's. A TTL from the loader takes
    /// precedence.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Load<'s, T, K, M::Kept, O, X, B>
    where
        M: Keeps + Stored,
    {
        self.ttl = Some(ttl.into());
        self.chosen()
    }

    /// Ends a loader that runs for longer than this (hard timeout). The call then fails with
    /// [`LoadError::Deadline`](crate::LoadError::Deadline), unless a stale value may be served
    /// (`stale_if_error`). The next caller loads again.
    pub fn timeout(mut self, timeout: Duration) -> Load<'s, T, K, M, O, Limited, B> {
        self.timeout = Some(timeout);
        self.chosen()
    }

    /// Ends the wait for a turn to load, if the type's `max_loads` are running. The call then fails
    /// with [`LoadError::Queue`](crate::LoadError::Queue).
    pub fn queue_timeout(mut self, longest: Duration) -> Load<'s, T, K, M, O, Limited, B> {
        self.queue_timeout = Some(longest);
        self.chosen()
    }

    /// Lets the load continue after the call has returned. The loader must own all it uses. It is
    /// for types with `refresh_ahead` or `load_timeout`.
    ///
    /// With `refresh_ahead = "80%"`, the first hit after four fifths of a value's life starts a
    /// load in the background. It starts once, whatever the number of callers and processes.
    ///
    /// With `load_timeout = "200ms"` (soft timeout), a caller waits that long for a load, and then
    /// returns the stale value if there is one (`stale_if_error`). The load continues until the
    /// shorter of `load_deadline` and 10 s, and ends with [`Store::close`](crate::Store::close). A
    /// call for many keys returns stale values only if each key that it waits for has one.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(ttl = "1m", refresh_ahead = "80%", stale_if_error = "1h", load_timeout = "200ms")]
    /// struct Price {
    ///     #[cached(key)]
    ///     article: u32,
    ///     cents: u64,
    /// }
    ///
    /// # #[derive(Debug)]
    /// # struct DbError;
    /// # #[derive(Clone)]
    /// # struct Db;
    /// # impl Db {
    /// #     async fn find_price(&self, article: u32) -> Result<Option<Price>, DbError> {
    /// #         Ok(Some(Price { article, cents: 990 }))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), DbError> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let db = db.clone();
    /// let load = store.of::<Price>().load(7).in_background();
    /// let price = load.run(move || async move { db.find_price(7).await }).await?;
    /// assert_eq!(price.unwrap().cents, 990);
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_background(self) -> Load<'s, T, K, M, O, X, InBackground>
    where
        M: MayOutlive,
    {
        self.chosen()
    }

    /// Returns the value with its age, source and remaining TTL: see [`Entry`](crate::Entry). For
    /// many keys it costs one command per key in place of one for all.
    pub fn entry(self) -> Load<'s, T, K, M, WithEntry, X, B> {
        self.chosen()
    }
}

impl<'s, T: CachedType, K, M, O: Output, X: Limit, B> Load<'s, T, K, M, O, X, B> {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            mode: self.mode,
            ttl: self.ttl,
            timeout: self.timeout,
            queue_timeout: self.queue_timeout,
        }
    }
}

impl<T: CachedType, M, O: Output, X: Limit, B> Load<'_, T, One, M, O, X, B> {
    async fn answer<'l, L: IntoLoaded<T>, E: Send>(
        self,
        in_background: bool,
        loads: impl FnOnce() -> Loads<'l, T, X::Error<E>> + Send,
    ) -> Result<L::Given<O::Of<T>>, X::Error<E>>
    where
        X::Error<E>: 'l,
    {
        let (settings, store, One(place)) = (self.settings(), self.handle.store, self.keys);
        let options = settings.options::<O, L, T>(in_background);
        let limits = X::limits(settings.queue_timeout);
        let found = loading::get_or_load(store, place, options, limits, loads).await?;
        let found = found.map(|(value, origin)| O::of(value, origin, store.inner()));
        Ok(L::given(found))
    }
}

impl<'s, T: CachedType, M, O: Output, X: Limit> Load<'s, T, One, M, O, X, InCall> {
    /// Reads the value; on a miss, calls the loader and stores its result.
    ///
    /// The loader returns an `Option`, a value, or a [`Loaded`], which sets how the value is
    /// stored. If the loader always has a value (`Result<T, E>`), the call returns a value and no
    /// `Option`.
    ///
    /// # Errors
    /// The loader's, or with a timeout [`LoadError`](crate::LoadError).
    pub fn run<L, E, F, Fut>(
        self,
        load: F,
    ) -> impl Future<Output = Result<L::Given<O::Of<T>>, X::Error<E>>>
    + Send
    + use<'s, T, M, O, X, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        self.revalidate(move |_| load())
    }

    /// The same as [`run`](Self::run), and passes the stale value to the loader, if there is one.
    /// The loader may answer that it is unchanged: see [`Stale`].
    ///
    /// # Errors
    /// The same as [`run`](Self::run).
    pub fn revalidate<L, E, F, Fut>(
        self,
        load: F,
    ) -> impl Future<Output = Result<L::Given<O::Of<T>>, X::Error<E>>>
    + Send
    + use<'s, T, M, O, X, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        F: FnOnce(Option<Stale<T>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let timeout = self.timeout;
        let load = move |raw| X::within(timeout, load(stale(raw)));
        async move {
            let loads = move || Loads::InCall(once(load));
            self.answer::<L, E>(false, loads).await
        }
    }
}

impl<'s, T: CachedType, M, O: Output, X: Limit> Load<'s, T, One, M, O, X, InBackground> {
    /// Reads the value; on a miss, calls the loader and stores its result. The loader must own all
    /// it uses.
    ///
    /// # Errors
    /// The loader's, or with a timeout [`LoadError`](crate::LoadError).
    pub fn run<L, E, F, Fut>(
        self,
        load: F,
    ) -> impl Future<Output = Result<L::Given<O::Of<T>>, X::Error<E>>>
    + Send
    + use<'s, T, M, O, X, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send + 'static,
        E: Send + 'static,
        X::Error<E>: 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        self.revalidate(move |_| load())
    }

    /// The same as [`run`](Self::run), and passes the stale value to the loader, if there is one.
    /// The loader may answer that it is unchanged: see [`Stale`].
    ///
    /// # Errors
    /// The same as [`run`](Self::run).
    pub fn revalidate<L, E, F, Fut>(
        self,
        load: F,
    ) -> impl Future<Output = Result<L::Given<O::Of<T>>, X::Error<E>>>
    + Send
    + use<'s, T, M, O, X, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send + 'static,
        E: Send + 'static,
        X::Error<E>: 'static,
        F: FnOnce(Option<Stale<T>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let timeout = self.timeout;
        let load = move |raw| X::within(timeout, load(stale(raw)));
        async move {
            let loads = move || Loads::InBackground(Background::new(once(load)));
            self.answer::<L, E>(true, loads).await
        }
    }
}

impl<'s, T, M, O, X> Load<'s, T, Many<T>, M, O, X, InCall>
where
    T: CachedType<OwnedKey: OwnKey>,
    O: Output,
    X: Limit,
{
    /// Reads the values, and calls the loader with the missing keys. The answer is in the order of
    /// the keys.
    ///
    /// # Errors
    /// The loader's, or with a timeout [`LoadError`](crate::LoadError).
    pub fn run<I, E, F, Fut>(
        self,
        load_missing: F,
    ) -> impl Future<Output = Result<EachOf<O, T>, X::Error<E>>> + Send + use<'s, T, M, O, X, I, E, F, Fut>
    where
        I: IntoIterator<Item: IntoRow<T>>,
        E: Send,
        F: FnMut(Vec<KeyOf<T>>) -> Fut + Send,
        Fut: Future<Output = Result<I, E>> + Send,
    {
        let (settings, handle, Many(asked)) = (self.settings(), self.handle, self.keys);
        async move {
            let rows = Rows::<T, X, F>::new(handle, &asked, settings.timeout, load_missing);
            let again = rows.clone();
            let load = Loads::InCall(many(move |ats| rows.load(ats)));
            let options = settings.options_of_many::<O>(false);
            let limits = X::limits(settings.queue_timeout);
            let store = handle.store;
            // Boxed, so that the future of the call stays small.
            let loading = loading::get_or_load_many(store, asked.once, options, limits, load);
            let answers = Box::pin(loading).await?;
            in_order::<T, O, _, _, _>(store, asked.order, answers, |at| again.load(vec![at])).await
        }
    }
}

impl<'s, T, M, O, X> Load<'s, T, Many<T>, M, O, X, InBackground>
where
    T: CachedType<OwnedKey: OwnKey>,
    O: Output,
    X: Limit,
{
    /// Reads the values, and calls the loader with the missing keys. The answer is in the order of
    /// the keys. The loader must own all it uses.
    ///
    /// # Errors
    /// The loader's, or with a timeout [`LoadError`](crate::LoadError).
    pub fn run<I, E, F, Fut>(
        self,
        load_missing: F,
    ) -> impl Future<Output = Result<EachOf<O, T>, X::Error<E>>> + Send + use<'s, T, M, O, X, I, E, F, Fut>
    where
        I: IntoIterator<Item: IntoRow<T>> + 'static,
        E: Send + 'static,
        X::Error<E>: 'static,
        F: FnMut(Vec<KeyOf<T>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
    {
        let (settings, handle, Many(asked)) = (self.settings(), self.handle, self.keys);
        async move {
            let rows = Rows::<T, X, F>::new(handle, &asked, settings.timeout, load_missing);
            let again = rows.clone();
            let load = Background::new(many(move |ats| rows.load(ats)));
            let load = Loads::InBackground(load);
            let options = settings.options_of_many::<O>(true);
            let limits = X::limits(settings.queue_timeout);
            let store = handle.store;
            // Boxed, so that the future of the call stays small.
            let loading = loading::get_or_load_many(store, asked.once, options, limits, load);
            let answers = Box::pin(loading).await?;
            in_order::<T, O, _, _, _>(store, asked.order, answers, |at| again.load(vec![at])).await
        }
    }
}

/// The choices of a load that are not types.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    mode: LoadMode,
    ttl: Option<Ttl>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) queue_timeout: Option<Duration>,
}

impl Settings {
    pub(crate) fn options<O: Output, L: IntoLoaded<T>, T>(
        &self,
        in_background: bool,
    ) -> LoadOptions {
        LoadOptions {
            needs_value: L::ALWAYS,
            ..self.options_of_many::<O>(in_background)
        }
    }

    pub(crate) fn options_of_many<O: Output>(&self, in_background: bool) -> LoadOptions {
        LoadOptions {
            mode: self.mode,
            ttl: self.ttl,
            with_ttl: O::WITH_TTL,
            in_background,
            needs_value: false,
        }
    }

    /// The same settings, with a cached value ignored.
    pub(crate) fn fresh(self) -> Self {
        Self {
            mode: match self.mode {
                LoadMode::Normal | LoadMode::Fresh => LoadMode::Fresh,
                LoadMode::Bypass => LoadMode::Bypass,
            },
            ..self
        }
    }
}

/// Decodes the stale value for its loader.
fn stale<T: CachedType>(raw: Option<Raw>) -> Option<Stale<T>> {
    Some(Stale::new(codec::read(raw?.payload()).ok()?))
}

/// The keys of a bulk load.
pub(crate) struct Asked<T: CachedType<OwnedKey: OwnKey>> {
    /// Each key once.
    once: Vec<Place>,
    known: Arc<Known<T>>,
    /// For each position of the answer, the index of its key in `once`.
    order: Vec<usize>,
}

/// The keys as the loader gets them, and their positions by their bytes.
struct Known<T: CachedType<OwnedKey: OwnKey>> {
    owned: Vec<KeyOf<T>>,
    positions: HashMap<Vec<u8>, usize>,
}

impl<T: CachedType<OwnedKey: OwnKey>> Asked<T> {
    fn new<I>(handle: Handle<'_, T>, keys: I) -> Self
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        let (mut once, mut owned, mut order) = (Vec::new(), Vec::new(), Vec::new());
        let mut positions = HashMap::new();
        for item in keys {
            let key = <T::OwnedKey as KeyFrom<I::Item>>::key_from(&item);
            let place = handle.place(key);
            let at = *positions.entry(place.key.clone()).or_insert_with(|| {
                once.push(place);
                owned.push(<T::OwnedKey as OwnKey>::own(key));
                owned.len() - 1
            });
            order.push(at);
        }
        let known = Arc::new(Known { owned, positions });
        Self { once, known, order }
    }
}

/// The loader of a bulk load, by positions. The drivers that call it share it.
struct Rows<T: CachedType<OwnedKey: OwnKey>, X, F> {
    load: Arc<Mutex<F>>,
    known: Arc<Known<T>>,
    /// The store's, to encode the keys that the loader returns.
    namespace: Arc<str>,
    timeout: Option<Duration>,
    limit: PhantomData<fn() -> X>,
}

impl<T: CachedType<OwnedKey: OwnKey>, X, F> Clone for Rows<T, X, F> {
    fn clone(&self) -> Self {
        Self {
            load: self.load.clone(),
            known: self.known.clone(),
            namespace: self.namespace.clone(),
            ..*self
        }
    }
}

impl<T: CachedType<OwnedKey: OwnKey>, X: Limit, F> Rows<T, X, F> {
    fn new(handle: Handle<'_, T>, asked: &Asked<T>, timeout: Option<Duration>, load: F) -> Self {
        Self {
            load: Arc::new(Mutex::new(load)),
            known: asked.known.clone(),
            namespace: handle.store.inner().namespace.clone(),
            timeout,
            limit: PhantomData,
        }
    }

    fn load<I, E, Fut>(
        &self,
        ats: Vec<usize>,
    ) -> impl Future<Output = Result<Found<T>, X::Error<E>>> + Send + use<T, X, F, I, E, Fut>
    where
        I: IntoIterator<Item: IntoRow<T>>,
        E: Send,
        F: FnMut(Vec<KeyOf<T>>) -> Fut + Send,
        Fut: Future<Output = Result<I, E>> + Send,
    {
        let own =
            |at: usize| <T::OwnedKey as OwnKey>::own(T::OwnedKey::of_owned(&self.known.owned[at]));
        let keys: Vec<KeyOf<T>> = ats.into_iter().map(own).collect();
        let (load, known) = (self.load.clone(), self.known.clone());
        let namespace = self.namespace.clone();
        let loading = async move {
            // Called only when it is polled, so that its panic is that of a running load. The lock
            // is held while the future is made, not while it runs.
            let loading = lock(&load)(keys);
            let rows = loading.await?.into_iter().filter_map(|row| {
                let (key, loaded) = row.into_row();
                let bytes = key_bytes::<T>(&namespace, T::OwnedKey::of_owned(&key));
                // A row of a key that was not requested has no place in the answer.
                Some((*known.positions.get(&bytes)?, loaded))
            });
            Ok(rows.collect())
        };
        X::within(self.timeout, loading)
    }
}

/// The answers in the order of the keys. A key that occurs several times has its value several
/// times.
async fn in_order<T, O, E, Load, Loading>(
    store: &Store,
    order: Vec<usize>,
    mut answers: Answers<T>,
    load: Load,
) -> Result<Vec<Option<O::Of<T>>>, E>
where
    T: CachedType,
    O: Output,
    E: Send,
    Load: Fn(usize) -> Loading + Send,
    Loading: Future<Output = Result<Vec<(usize, Loaded<T>)>, E>> + Send,
{
    let mut last = vec![0; answers.len()];
    for (position, at) in order.iter().enumerate() {
        last[*at] = position;
    }
    let mut values = Vec::with_capacity(order.len());
    for (position, at) in order.into_iter().enumerate() {
        let given: Option<(T, Origin)> = match &answers[at] {
            _ if last[at] == position => {
                answers[at].take().map(|given| (given.value, given.origin))
            }
            None => None,
            Some(given) => {
                let origin = given.origin;
                let value = match given.again() {
                    Some(value) => Some(value),
                    // A value that is neither `Clone` nor stored can't be in two places: it is
                    // loaded again. Boxed, so that this future does not grow with the loader.
                    None => Box::pin(load(at))
                        .await?
                        .pop()
                        .and_then(|(_, loaded)| loaded.value),
                };
                value.map(|value| (value, origin))
            }
        };
        let inner = store.inner();
        values.push(given.map(|(value, origin)| O::of(value, origin, inner)));
    }
    Ok(values)
}

impl<T: CachedType, K, M, O, X, B> fmt::Debug for Load<'_, T, K, M, O, X, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("prefix", &T::PREFIX)
            .field("mode", &self.mode)
            .field("ttl", &self.ttl)
            .field("timeout", &self.timeout)
            .field("queue_timeout", &self.queue_timeout)
            .finish_non_exhaustive()
    }
}

impl<T: CachedType<OwnedKey: OwnKey>> fmt::Debug for Many<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Many").field(&self.0.order.len()).finish()
    }
}
