//! Loading one key.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Span;

use super::call::{Call, Seen};
use super::driver::{Driver, Queue, Ready};
use super::run_loader;
use super::sight::Sight;
use crate::entry::{Origin, Source};
use crate::options::{LoadMode, LoadOptions};
use crate::stats::Count;
use crate::store::{Inner, Store};
use crate::tags::Place;
use crate::trace::{About, Ending, row, source, traced};
use crate::types::Type;
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
    let (inner, of) = (store.inner(), store.inner().types.of::<T>());
    let span = inner.span("get_or_load", Some(of), About::Key(&place.key));
    let loading = loaded_or_found(store, of, place, options, queue, with_ttl, load);
    traced!(span, loading, |given| Ending::of_foreign(given)
        .with_rows(row(given))
        .telling(source(given)))
}

async fn loaded_or_found<T, L, E, F, Fut>(
    store: &Store,
    of: &Arc<Type>,
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
    let inner = store.inner();
    let call = Call::new(place.key.as_slice().into(), inner.moments.moment());
    match options.mode {
        LoadMode::Bypass => return load_beside(inner, of, load).await,
        LoadMode::Fresh => {
            let fresh = async {
                let mut driver = Driver::fresh(store, of, call, place.epochs).await;
                driver.load(options.ttl, queue, load).await
            };
            return Box::pin(fresh).await;
        }
        LoadMode::Normal | LoadMode::OnlyIfCached => {}
    }
    let sight = match inner.first(&place, with_ttl, of).await {
        First::Hit(value, raw, left) => {
            if inner.is_due(&raw, of.meta()) {
                of.cannot_outlive();
            }
            return Ok(Some((value, raw.origin(Source::Server, left, inner))));
        }
        First::Absent => return Ok(None),
        First::Miss(_) if options.mode == LoadMode::OnlyIfCached => return Ok(None),
        First::Miss(sight) => sight,
    };
    // Boxed, so that the future of a hit is small: a load costs more than an allocation.
    let mut driver = Driver::start(store, of, call, place.epochs, sight);
    let load = async move {
        match driver.until_load().await {
            Ready::Answer(answer) => Ok(answer),
            Ready::Load => {
                if driver.may_be_overtaken() {
                    of.cannot_outlive();
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
    let (inner, of) = (store.inner(), store.inner().types.of::<T>());
    let span = inner.span("get_or_refresh", Some(of), About::Key(&place.key));
    let refreshing = found_or_refreshed(store, of, place, load);
    traced!(span, refreshing, |given| Ending::of_foreign(given)
        .with_rows(row(given))
        .telling(source(given)))
}

async fn found_or_refreshed<T, L, E, F, Fut>(
    store: &Store,
    of: &Arc<Type>,
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
    let inner = store.inner();
    let call = Call::new(place.key.as_slice().into(), inner.moments.moment());
    let sight = match inner.first(&place, false, of).await {
        First::Hit(value, raw, left) => {
            if inner.is_due(&raw, of.meta())
                && let Some(driver) = Driver::refreshing(store, of, call, place.epochs, &raw)
            {
                inner
                    .background
                    .spawn_load(driver.refresh(Span::current(), load));
            }
            return Ok(Some((value, raw.origin(Source::Server, left, inner))));
        }
        First::Absent => return Ok(None),
        First::Miss(sight) => sight,
    };
    let mut driver = Driver::start(store, of, call, place.epochs, sight);
    let load = async move {
        match driver.until_load().await {
            Ready::Answer(answer) => Ok(answer),
            Ready::Load => match driver.overtaking() {
                Some((value, kept)) => {
                    let longest = driver.load_timeout();
                    let (sender, loaded) = oneshot::channel();
                    let cause = Span::current();
                    let outliving = async move {
                        if let Some(given) = driver.load_in_time(&cause, load).await {
                            // Nobody may wait any more, which is what this is for.
                            let _ = sender.send(given);
                        }
                    };
                    inner.background.spawn_load(outliving);
                    // Where it could not begin, or did not end, there is the stale value all the same.
                    if let Ok(Ok(loaded)) = timeout(longest, loaded).await {
                        return loaded;
                    }
                    of.counters().count(Count::Stale);
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
    async fn first<T: Cached>(&self, place: &Place, with_ttl: bool, of: &Arc<Type>) -> First<T> {
        let key = &*place.key;
        let (mut sight, left) = match with_ttl {
            true => self.look_with_ttl(place, of).await,
            false => (self.look(place, of).await, None),
        };
        match sight {
            Sight::Value(raw) => match codec::read(raw.payload()) {
                Ok(value) => {
                    of.counters().hit(raw.bytes().len());
                    self.slide(key, &raw, of);
                    return First::Hit(value, raw, left);
                }
                Err(why) => sight = Sight::Other(self.reject(key, &raw, &why, of).await),
            },
            Sight::Other(Seen::Absent) => {
                of.counters().count(Count::Absence);
                return First::Absent;
            }
            Sight::Kept(..) | Sight::Other(_) => {}
        }
        of.counters().count(Count::Miss);
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
}

/// Loads, and leaves everything else alone.
async fn load_beside<T, L, E, F, Fut>(
    inner: &Inner,
    of: &Type,
    load: F,
) -> Result<Option<(T, Origin)>, E>
where
    L: IntoLoaded<T>,
    F: FnOnce(Option<Raw>) -> Fut,
    Fut: Future<Output = Result<L, E>>,
{
    let origin = Origin {
        source: Source::Loaded,
        stamp: inner.stamp(),
        expires: None,
    };
    let loaded = run_loader(of, 1, None, || load(None)).await?.into_loaded();
    Ok(loaded.value.map(|value| (value, origin)))
}

impl Type {
    /// Says, once, that what the type asks for can't be had of loaders that borrow.
    fn cannot_outlive(&self) {
        if !self.loads.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "db.collection.name" = self.name(),
                "`refresh_ahead` and `load_timeout` are for loads that outlive their calls: `get_or_refresh`"
            );
        }
    }
}
