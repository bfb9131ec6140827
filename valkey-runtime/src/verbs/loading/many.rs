//! The loading verb of many keys.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::base::counters::Count;
use crate::core::caller::Polled;
use crate::core::entry::Source;
use crate::core::options::{LoadMode, LoadOptions};
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::observe::answer::{About, Ending, Told};
use crate::observe::trace::traced;
use crate::protocol::call::Seen;
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::loading::driver::{Answers, Driver, Failed, Given, Limits, Loader, Ready};
use crate::verbs::loading::sight::Sight;

/// See [`Cached::get_or_load_many`]. The loader is given positions in `places`, which are all different, and gives positions
/// and values.
pub(crate) async fn get_or_load_many<'l, T, E>(
    store: &Store,
    places: Vec<Place>,
    options: LoadOptions,
    limits: Limits<E>,
    load: Loader<'l, T, E>,
) -> Result<Answers<T>, E>
where
    T: CachedType,
    E: Send + 'l,
{
    let (inner, of) = (store.inner(), store.inner().types.of::<T>());
    let span = inner.span("get_or_load_many", Some(of), About::Places(&places));
    let loading = all_loaded_or_found(store, of, places, options, limits, load);
    traced!(span, loading, |answers| {
        let given = given(answers);
        let told = Told::Count(given.unwrap_or(0) as u64);
        Ending::of_foreign(answers).with_rows(given).telling(told)
    })
}

/// How many values there are.
fn given<T, E>(answers: &Result<Answers<T>, E>) -> Option<usize> {
    Some(answers.as_ref().ok()?.iter().flatten().count())
}

async fn all_loaded_or_found<'l, T, E>(
    store: &Store,
    of: &Arc<Type>,
    places: Vec<Place>,
    options: LoadOptions,
    limits: Limits<E>,
    load: Loader<'l, T, E>,
) -> Result<Answers<T>, E>
where
    T: CachedType,
    E: Send + 'l,
{
    let inner = store.inner();
    let mut answers: Answers<T> = places.iter().map(|_| None).collect();
    let mut driver = Driver::new(store, of, options.mode == LoadMode::Fresh);
    let began = inner.moments.moment();
    if options.mode == LoadMode::Fresh {
        for (at, place) in places.into_iter().enumerate() {
            driver.add_fresh(at, place, began);
        }
        return loaded(driver, answers, options, limits, load).await;
    }
    let sights = inner.look_each(&places, of).await;
    for (at, (place, sight)) in places.into_iter().zip(sights).enumerate() {
        let key = &*place.key;
        let sight = match sight {
            Sight::Value(entry) => match codec::read(entry.payload()) {
                Ok(value) => {
                    of.counters().hit(entry.bytes().len());
                    inner.slide(key, &entry, of);
                    answers[at] = Some(Given {
                        value,
                        origin: entry.origin(Source::Server, None, inner),
                        entry: Some(entry),
                    });
                    continue;
                }
                Err(why) => Sight::Other(inner.reject(key, &entry, &why, of).await),
            },
            Sight::Other(Seen::Absent) => {
                of.counters().count(Count::Absence);
                continue;
            }
            sight => sight,
        };
        of.counters().count(Count::Miss);
        if options.mode != LoadMode::OnlyIfCached {
            driver.add(at, place, began, sight);
        }
    }
    match driver.is_needed() {
        true => loaded(driver, answers, options, limits, load).await,
        false => Ok(answers),
    }
}

/// The rest: a type of its own, so that what is around it does not grow with it.
pub(crate) fn loaded<'l, T, E>(
    mut driver: Driver,
    mut answers: Answers<T>,
    options: LoadOptions,
    limits: Limits<E>,
    mut load: Loader<'l, T, E>,
) -> Pin<Box<dyn Future<Output = Result<Answers<T>, E>> + Send + 'l>>
where
    T: CachedType,
    E: Send + 'l,
{
    let caller = driver.caller();
    let work = async move {
        loop {
            match driver.until_load(&mut answers, &limits).await? {
                Ready::Done => return Ok(answers),
                Ready::Load => {
                    let loading = driver.load(&mut answers, options.ttl, &limits, None, &mut load);
                    match loading.await {
                        Ok(()) => {}
                        Err(Failed::Loader(error)) => return Err(error),
                        Err(Failed::Late) => unreachable!("only a load without a caller ends so"),
                    }
                }
            }
        }
    };
    Box::pin(Polled::new(caller, Box::pin(work)))
}
