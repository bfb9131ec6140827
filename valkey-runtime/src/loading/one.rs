//! Loading one key.

use std::any::TypeId;
use std::future::Future;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::TypeLoads;
use super::call::{Call, Seen};
use super::driver::{Driver, Queue, Ready};
use super::sight::Sight;
use crate::entry::{Origin, Source};
use crate::options::{LoadMode, LoadOptions};
use crate::store::{Inner, Store};
use crate::tags::Place;
use crate::verbs::{Meta, Raw};
use crate::{Cached, IntoLoaded, Ttl, codec};

/// See [`Cached::get_or_load_with`]. `with_ttl`: the origin is to say how long the value will still live. The loader is given
/// the entry that it is to refresh, if there is one.
pub(crate) async fn get_or_load<T, L, E, F, Fut>(
    store: &Store,
    place: Place,
    options: LoadOptions,
    queue: Queue<E>,
    with_ttl: bool,
    load: F,
) -> Result<Option<(T, Origin)>, E>
where
    T: Cached,
    L: IntoLoaded<T>,
    F: FnOnce(Option<Raw>) -> Fut,
    Fut: Future<Output = Result<L, E>>,
{
    let meta = const { &Meta::of::<T>() };
    let inner = store.inner();
    let call = Call::new(place.key.as_slice().into(), inner.loads.moment());
    let loads = || inner.loads.of(TypeId::of::<T>(), meta);
    match options.mode {
        LoadMode::Bypass => return inner.load_beside(load).await,
        LoadMode::Fresh => {
            let fresh = async {
                let mut driver = Driver::fresh(store, loads(), call, place.epochs, meta).await;
                driver.load(options.ttl, queue, load).await
            };
            return Box::pin(fresh).await;
        }
        LoadMode::Normal | LoadMode::OnlyIfCached => {}
    }
    let sight = match inner.first(&place, with_ttl, meta).await {
        First::Hit(value, raw, left) => {
            if inner.is_due(&raw, meta) {
                loads().cannot_outlive::<T>();
            }
            return Ok(Some((value, raw.origin(Source::Server, left, inner))));
        }
        First::Absent => return Ok(None),
        First::Miss(_) if options.mode == LoadMode::OnlyIfCached => return Ok(None),
        First::Miss(sight) => sight,
    };
    // Boxed, so that the future of a hit is small: a load costs more than an allocation.
    let mut driver = Driver::start(store, loads(), call, place.epochs, meta, sight);
    let load = async move {
        match driver.until_load().await {
            Ready::Answer(answer) => Ok(answer),
            Ready::Load => {
                if driver.may_be_overtaken() {
                    driver.loads.cannot_outlive::<T>();
                }
                driver.load(options.ttl, queue, load).await
            }
        }
    };
    Box::pin(load).await
}

/// See [`Cached::get_or_refresh`].
pub(crate) async fn get_or_refresh<T, L, E, F, Fut>(
    store: &Store,
    place: Place,
    load: F,
) -> Result<Option<(T, Origin)>, E>
where
    T: Cached,
    L: IntoLoaded<T> + Send + 'static,
    E: Send + 'static,
    F: FnOnce(Option<Raw>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<L, E>> + Send + 'static,
{
    let meta = const { &Meta::of::<T>() };
    let inner = store.inner();
    let call = Call::new(place.key.as_slice().into(), inner.loads.moment());
    let loads = || inner.loads.of(TypeId::of::<T>(), meta);
    let sight = match inner.first(&place, false, meta).await {
        First::Hit(value, raw, left) => {
            if inner.is_due(&raw, meta)
                && let Some(driver) =
                    Driver::refreshing(store, loads(), call, place.epochs, meta, &raw)
            {
                inner.background.spawn_load(driver.refresh(load));
            }
            return Ok(Some((value, raw.origin(Source::Server, left, inner))));
        }
        First::Absent => return Ok(None),
        First::Miss(sight) => sight,
    };
    let mut driver = Driver::start(store, loads(), call, place.epochs, meta, sight);
    let load = async move {
        match driver.until_load().await {
            Ready::Answer(answer) => Ok(answer),
            Ready::Load => match driver.overtaking() {
                Some((value, kept)) => {
                    let longest = driver.load_timeout();
                    let (sender, loaded) = oneshot::channel();
                    let outliving = async move {
                        if let Some(given) = driver.load_in_time(load).await {
                            // Nobody may wait any more, which is what this is for.
                            let _ = sender.send(given);
                        }
                    };
                    inner.background.spawn_load(outliving);
                    // Where it could not begin, or did not end, there is the stale value all the same.
                    if let Ok(Ok(loaded)) = timeout(longest, loaded).await {
                        return loaded;
                    }
                    inner.counters.stale();
                    Ok(Some((value, kept.origin(Source::Stale, None, inner))))
                }
                None => driver.load(None, None, load).await,
            },
        }
    };
    Box::pin(load).await
}

/// What the first look at the server gave.
enum First<T> {
    Hit(T, Raw, Option<Ttl>),
    Absent,
    Miss(Sight),
}

impl Inner {
    /// The first look: a hit, and what follows from one that is not about loading, are dealt with.
    async fn first<T: Cached>(&self, place: &Place, with_ttl: bool, meta: &Meta) -> First<T> {
        let key = &*place.key;
        let (mut sight, left) = match with_ttl {
            true => self.look_with_ttl(place, meta).await,
            false => (self.look(place, meta).await, None),
        };
        match sight {
            Sight::Value(raw) => match codec::read(raw.payload()) {
                Ok(value) => {
                    self.counters.hit();
                    self.slide(key, &raw, meta);
                    return First::Hit(value, raw, left);
                }
                Err(why) => sight = Sight::Other(self.reject(key, &raw, &why, meta).await),
            },
            Sight::Other(Seen::Absent) => {
                self.counters.absence();
                return First::Absent;
            }
            Sight::Kept(..) | Sight::Other(_) => {}
        }
        self.counters.miss();
        First::Miss(sight)
    }

    /// Whether a value is to be refreshed, since most of its life is over and nobody else is about to.
    fn is_due(&self, raw: &Raw, meta: &Meta) -> bool {
        let percent = u64::from(meta.policy.refresh_ahead_percent);
        let Some(timing) = raw.header.timing.filter(|_| percent > 0) else {
            return false;
        };
        let life = timing.until.saturating_sub((raw.header.stamp >> 12) / 1000);
        let now = self.now_millis();
        now >= timing.until - life / 100 * (100 - percent) && !timing.claim.is_live(now)
    }

    /// Loads, and leaves everything else alone.
    async fn load_beside<T, L, E, F, Fut>(&self, load: F) -> Result<Option<(T, Origin)>, E>
    where
        L: IntoLoaded<T>,
        F: FnOnce(Option<Raw>) -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        self.counters.load();
        let origin = Origin {
            source: Source::Loaded,
            stamp: self.stamp(),
            expires: None,
        };
        let loaded = load(None).await?.into_loaded();
        Ok(loaded.value.map(|value| (value, origin)))
    }
}

impl TypeLoads {
    /// Says, once, that what the type asks for can't be had of loaders that borrow.
    fn cannot_outlive<T: Cached>(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                prefix = T::PREFIX,
                "`refresh_ahead` and `load_timeout` are for loads that outlive their calls: `get_or_refresh`"
            );
        }
    }
}
