//! The work of a loading call after its first look: its driver, in the call or in the background.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::time::timeout_at;
use tracing::Span;

use crate::base::counters::Count;
use crate::base::ttl::Ttl;
use crate::core::caller::Polled;
use crate::core::entry::Source;
use crate::core::options::LoadOptions;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::flights::Moment;
use crate::schema::cached_type::CachedType;
use crate::verbs::loading::driver::{Answers, Driver, Failed, Given, Ready};
use crate::verbs::loading::loader::{Limits, Loader, shared};
use crate::verbs::raw::Raw;

/// The work of a call, boxed so that the futures around it do not grow with it.
pub(crate) type Work<'l, T, E> = Pin<Box<dyn Future<Output = Result<Answers<T>, E>> + Send + 'l>>;

/// A loader that borrows nothing.
type Owned<T, E> = Loader<'static, T, E>;
type BeginWork<T, E> = fn(Driver, Answers<T>, Limits<E>, Owned<T, E>) -> Work<'static, T, E>;
type Double<T, E> = fn(Owned<T, E>) -> [Owned<T, E>; 2];

/// A loader, and whether it may outlive its call.
pub(crate) enum Loads<'l, T, E> {
    InCall(Loader<'l, T, E>),
    InBackground(Background<T, E>),
}

/// A loader that owns all it uses. The functions rely on its errors being `'static`, which the code
/// in between need not know.
pub(crate) struct Background<T, E> {
    load: Owned<T, E>,
    work: BeginWork<T, E>,
    refresh: fn(Driver, Owned<T, E>),
    twice: Double<T, E>,
}

impl<T: CachedType, E: Send + 'static> Background<T, E> {
    pub(crate) fn new(load: Owned<T, E>) -> Self {
        Self {
            load,
            work: |driver, answers, limits, load| {
                let caller = driver.caller();
                let work = Box::pin(in_background(driver, answers, limits, load));
                Box::pin(Polled::new(caller, work))
            },
            twice: shared,
            refresh: |driver, mut load| {
                let (store, caller, cause) =
                    (driver.store.clone(), driver.caller(), Span::current());
                let work = Box::pin(async move { driver.refresh(cause, &mut load).await });
                store
                    .inner()
                    .background
                    .spawn_load(Polled::new(caller, work));
            },
        }
    }
}

impl<T, E> Loads<'_, T, E> {
    /// A second loader for another driver. `None` if the loader may not outlive its call.
    pub(crate) fn another(&mut self) -> Option<Self> {
        let Loads::InBackground(background) = self else {
            return None;
        };
        let Background {
            work,
            refresh,
            twice,
            ..
        } = *background;
        let gone: Owned<T, E> = Box::new(|_| unreachable!("it is replaced at once"));
        let [own, load] = twice(std::mem::replace(&mut background.load, gone));
        background.load = own;
        Some(Loads::InBackground(Background {
            load,
            work,
            refresh,
            twice,
        }))
    }
}

/// Loads until all answers are complete.
pub(crate) fn loaded<'l, T, E>(
    driver: Driver,
    answers: Answers<T>,
    limits: Limits<E>,
    load: Loads<'l, T, E>,
) -> Work<'l, T, E>
where
    T: CachedType,
    E: Send + 'l,
{
    match load {
        Loads::InCall(load) => {
            let caller = driver.caller();
            let work = Box::pin(in_call(driver, answers, limits, load));
            Box::pin(Polled::new(caller, work))
        }
        Loads::InBackground(Background { load, work, .. }) => work(driver, answers, limits, load),
    }
}

async fn in_call<T: CachedType, E: Send>(
    mut driver: Driver,
    mut answers: Answers<T>,
    limits: Limits<E>,
    mut load: Loader<'_, T, E>,
) -> Result<Answers<T>, E> {
    loop {
        match driver.until_load(&mut answers, &limits).await? {
            Ready::Done => return Ok(answers),
            Ready::Load => load_here(&mut driver, &mut answers, &limits, &mut load).await?,
        }
    }
}

async fn load_here<T: CachedType, E: Send>(
    driver: &mut Driver,
    answers: &mut Answers<T>,
    limits: &Limits<E>,
    load: &mut Loader<'_, T, E>,
) -> Result<(), E> {
    match driver.load(answers, limits, None, load).await {
        Ok(()) => Ok(()),
        Err(Failed::Loader(error)) => Err(error),
        Err(Failed::Late) => unreachable!("only a load without a caller ends so"),
    }
}

/// Runs a load beside its call if stale values may be served for all missing answers. The call
/// returns them after `load_timeout`.
async fn in_background<T: CachedType, E: Send + 'static>(
    mut driver: Driver,
    mut answers: Answers<T>,
    limits: Limits<E>,
    mut load: Owned<T, E>,
) -> Result<Answers<T>, E> {
    loop {
        match driver.until_load(&mut answers, &limits).await? {
            Ready::Done => return Ok(answers),
            Ready::Load => {}
        }
        let Some(stale) = driver.overtaking() else {
            load_here(&mut driver, &mut answers, &limits, &mut load).await?;
            continue;
        };
        let (until, of) = (driver.overtaken_at(), driver.of.clone());
        let store = driver.store.clone();
        let (sender, given) = oneshot::channel();
        let (beside, cause) = (driver.caller(), Span::current());
        let mut loading: Answers<T> = answers.iter().map(|_| None).collect();
        let outliving = Box::pin(async move {
            let loaded = driver
                .load(&mut loading, &limits, Some(&cause), &mut load)
                .await;
            let given = match loaded {
                Ok(()) => Ok((driver, loading, load)),
                Err(Failed::Loader(error)) => Err(error),
                Err(Failed::Late) => return,
            };
            // The call may have returned: the load outlives it.
            let _ = sender.send(given);
        });
        let background = &store.inner().background;
        background.spawn_load(Polled::new(beside, outliving));
        match timeout_at(until, given).await {
            Ok(Ok(given)) => {
                let loaded;
                (driver, loaded, load) = given?;
                for (answer, loaded) in answers.iter_mut().zip(loaded) {
                    *answer = answer.take().or(loaded);
                }
            }
            // The load has not ended yet, or could not begin.
            Ok(Err(_)) | Err(_) => {
                let is_stale = |given: &Given<T>| given.origin.source == Source::Stale;
                let number = stale.iter().filter(|(_, given)| is_stale(given)).count();
                of.counters().add(Count::Stale, number);
                for (at, given) in stale {
                    answers[at] = Some(given);
                }
                return Ok(answers);
            }
        }
    }
}

/// Refreshes cached values in the background, unless another call does.
pub(crate) fn refresh<T: CachedType, E>(
    store: &Store,
    of: &Arc<Type>,
    due: Vec<(usize, Place, Raw)>,
    began: Moment,
    ttl: Option<Ttl>,
    load: Loads<'_, T, E>,
) {
    let Loads::InBackground(Background { load, refresh, .. }) = load else {
        return of.cannot_outlive();
    };
    let options = LoadOptions {
        ttl,
        ..LoadOptions::new()
    };
    let mut driver = Driver::new(store, of, options);
    for (at, place, raw) in due {
        driver.add_refresh(at, place, began, &raw);
    }
    if driver.is_needed() {
        refresh(driver, load);
    }
}

impl Type {
    /// Logs once that options of the type need loaders that own all they use.
    pub(crate) fn cannot_outlive(&self) {
        if !self.loads.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "db.collection.name" = self.name(),
                "`refresh_ahead` and `load_timeout` need a load that may outlive its call: \
                 `store.of::<…>().load(key).in_background().run(…)`"
            );
        }
    }
}
