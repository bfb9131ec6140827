//! The loading verbs of one key.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout_at;
use tracing::Span;

use crate::base::counters::Count;
use crate::base::ttl::Ttl;
use crate::core::caller::{Polled, Running, Within};
use crate::core::entry::{Origin, Source};
use crate::core::meta::Meta;
use crate::core::options::{LoadMode, LoadOptions};
use crate::core::store::{Inner, Store};
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::{row, source, traced};
use crate::protocol::call::Seen;
use crate::protocol::flights::Moment;
use crate::schema::cached_type::CachedType;
use crate::schema::loaded::IntoLoaded;
use crate::value::codec;
use crate::verbs::loading::driver::{Answers, Driver, Failed, Limits, Loader, Ready, Wanted, once};
use crate::verbs::loading::many::loaded;
use crate::verbs::loading::run::run_loader;
use crate::verbs::loading::sight::Sight;
use crate::verbs::raw::Raw;

/// A value, and where it came from.
type Answer<T> = Option<(T, Origin)>;

/// See [`Cached::get_or_load_with`]. `with_ttl`: the origin is to say how long the value will still live. The loader is given
/// the entry that it is to refresh, if there is one.
pub(crate) async fn get_or_load<T, L, E, F, Fut>(
    store: &Store,
    place: Place,
    options: LoadOptions,
    limits: Limits<E>,
    with_ttl: bool,
    load: F,
) -> Result<Answer<T>, E>
where
    T: CachedType,
    L: IntoLoaded<T>,
    E: Send,
    F: FnOnce(Option<Raw>) -> Fut + Send,
    Fut: Future<Output = Result<L, E>> + Send,
{
    let (inner, of) = (store.inner(), store.inner().types.of::<T>());
    let span = inner.span("get_or_load", Some(of), About::Key(&place.key));
    let asked = Asked {
        place,
        options,
        limits,
        with_ttl,
    };
    traced!(span, loaded_or_found(store, of, &asked, load), |given| {
        Ending::of_foreign(given)
            .with_rows(row(given))
            .telling(source(given))
    })
}

/// What is asked for. It is borrowed, so that the futures of a hit hold it once.
struct Asked<E> {
    place: Place,
    options: LoadOptions,
    limits: Limits<E>,
    with_ttl: bool,
}

async fn loaded_or_found<T, L, E, F, Fut>(
    store: &Store,
    of: &Arc<Type>,
    asked: &Asked<E>,
    load: F,
) -> Result<Answer<T>, E>
where
    T: CachedType,
    L: IntoLoaded<T>,
    E: Send,
    F: FnOnce(Option<Raw>) -> Fut + Send,
    Fut: Future<Output = Result<L, E>> + Send,
{
    let Asked {
        place,
        options,
        limits,
        with_ttl,
    } = asked;
    let inner = store.inner();
    let began = inner.moments.moment();
    match options.mode {
        LoadMode::Bypass => return Box::pin(load_beside(inner, of, once(load))).await,
        LoadMode::Fresh => {
            let mut driver = Driver::new(store, of, true);
            driver.add_fresh(0, place.clone(), began);
            return one_of(loaded(driver, vec![None], *options, *limits, once(load))).await;
        }
        LoadMode::Normal | LoadMode::OnlyIfCached => {}
    }
    // Boxed, as it is most of the future, which is moved several times on its way to where it is polled.
    let sight = match Box::pin(inner.first(place, *with_ttl, of)).await {
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
    let mut driver = Driver::new(store, of, false);
    driver.add(0, place.clone(), began, sight);
    if driver.may_any_be_overtaken() {
        of.cannot_outlive();
    }
    one_of(loaded(driver, vec![None], *options, *limits, once(load))).await
}

async fn one_of<T, E>(
    loading: impl Future<Output = Result<Answers<T>, E>>,
) -> Result<Answer<T>, E> {
    Ok(first(loading.await?))
}

fn first<T>(answers: Answers<T>) -> Answer<T> {
    let given = answers.into_iter().next().flatten()?;
    Some((given.value, given.origin))
}

/// See [`Cached::get_or_refresh`].
pub(crate) async fn get_or_refresh<T, L, E, F, Fut>(
    store: &Store,
    place: Place,
    load: F,
) -> Result<Answer<T>, E>
where
    T: CachedType,
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
) -> Result<Answer<T>, E>
where
    T: CachedType,
    L: IntoLoaded<T> + Send + 'static,
    E: Send + 'static,
    F: FnOnce(Option<Raw>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<L, E>> + Send + 'static,
{
    let inner = store.inner();
    let began = inner.moments.moment();
    let sight = match Box::pin(inner.first(&place, false, of)).await {
        First::Hit(value, raw, left) => {
            if inner.is_due(&raw, of.meta()) {
                refresh(store, of, place, began, &raw, once(load));
            }
            return Ok(Some((value, raw.origin(Source::Server, left, inner))));
        }
        First::Absent => return Ok(None),
        First::Miss(sight) => sight,
    };
    let mut driver = Driver::new(store, of, false);
    driver.add(0, place, began, sight);
    loaded_or_overtaken(inner, of, driver, once(load)).await
}

/// Loads in the background what the caller has, if nobody else does.
fn refresh<T: CachedType, E: Send + 'static>(
    store: &Store,
    of: &Arc<Type>,
    place: Place,
    began: Moment,
    raw: &Raw,
    mut load: Loader<'static, T, E>,
) {
    let mut driver = Driver::new(store, of, false);
    if driver.add_refresh(place, began, raw) {
        let (caller, cause) = (driver.caller(), Span::current());
        let work = Box::pin(async move { driver.refresh(cause, &mut load).await });
        let background = &store.inner().background;
        background.spawn_load(Polled::new(caller, work));
    }
}

/// Loads; beside the caller where that takes longer than it waits for, since it has a value that may serve.
fn loaded_or_overtaken<'s, T, E>(
    inner: &'s Inner,
    of: &'s Arc<Type>,
    mut driver: Driver,
    mut load: Loader<'static, T, E>,
) -> Pin<Box<dyn Future<Output = Result<Answer<T>, E>> + Send + 's>>
where
    T: CachedType,
    E: Send + 'static,
{
    let (caller, beside) = (driver.caller(), driver.caller());
    let work = async move {
        let mut answers = vec![None];
        loop {
            match driver.until_load(&mut answers, &Limits::NONE).await? {
                Ready::Done => return Ok(first(answers)),
                Ready::Load => {}
            }
            let Some((value, kept)) = driver.overtaking() else {
                let loading = driver.load(&mut answers, None, &Limits::NONE, None, &mut load);
                match loading.await {
                    Ok(()) => continue,
                    Err(Failed::Loader(error)) => return Err(error),
                    Err(Failed::Late) => unreachable!("only a load without a caller ends so"),
                }
            };
            let until = driver.overtaken_at();
            let (sender, given) = oneshot::channel();
            let cause = Span::current();
            let outliving = Box::pin(async move {
                let loading =
                    driver.load(&mut answers, None, &Limits::NONE, Some(&cause), &mut load);
                let given = match loading.await {
                    Ok(()) => Ok(first(answers)),
                    Err(Failed::Loader(error)) => Err(error),
                    Err(Failed::Late) => return,
                };
                // Nobody may wait any more, which is what this is for.
                let _ = sender.send(given);
            });
            inner.background.spawn_load(Polled::new(beside, outliving));
            // Where it could not begin, or did not end, there is the stale value all the same.
            if let Ok(Ok(given)) = timeout_at(until, given).await {
                return given;
            }
            of.counters().count(Count::Stale);
            return Ok(Some((value, kept.origin(Source::Stale, None, inner))));
        }
    };
    Box::pin(Polled::new(caller, Box::pin(work)))
}

/// What the first look at the server gave.
enum First<T> {
    Hit(T, Raw, Option<Ttl>),
    Absent,
    Miss(Sight),
}

impl Inner {
    /// The first look: a hit, and what follows from one that is not about loading, are dealt with.
    async fn first<T: CachedType>(
        &self,
        place: &Place,
        with_ttl: bool,
        of: &Arc<Type>,
    ) -> First<T> {
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
async fn load_beside<T: CachedType, E>(
    inner: &Inner,
    of: &Type,
    mut load: Loader<'_, T, E>,
) -> Result<Answer<T>, E> {
    let origin = Origin {
        source: Source::Loaded,
        stamp: inner.stamp(),
        expires: None,
    };
    // It has no turn, so what it loads within is nobody's business.
    let within = Within::new(&Arc::default(), 0, Within::current());
    let wanted = vec![Wanted { at: 0, kept: None }];
    let running = Running::new(within, load(wanted));
    let (outcome, _) = run_loader(of, 1, None, Duration::ZERO, running).await;
    let loaded = match outcome {
        Ok(loaded) => loaded?,
        Err(panic) => resume_unwind(panic),
    };
    let loaded = loaded.into_iter().next().map(|(_, loaded)| loaded);
    let value = loaded.and_then(|loaded| loaded.value);
    Ok(value.map(|value| (value, origin)))
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
