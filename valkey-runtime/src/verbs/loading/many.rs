//! The loading verb of many keys.

use std::sync::Arc;

use crate::base::counters::Count;
use crate::core::entry::Source;
use crate::core::options::{LoadMode, LoadOptions};
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::observe::answer::{About, Ending, Told};
use crate::observe::trace::Tracer;
use crate::observe::trace::traced;
use crate::protocol::call::Seen;
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::loading::driver::{Answers, Driver, Given};
use crate::verbs::loading::loader::Limits;
use crate::verbs::loading::one::FirstLook;
use crate::verbs::loading::one::load_beside;
use crate::verbs::loading::sight::Looker;
use crate::verbs::loading::sight::Sight;
use crate::verbs::loading::work::{Loads, loaded, refresh};
use crate::verbs::touch::Toucher;

/// Reads the values under distinct keys, and loads the missing ones. The loader takes positions in
/// `places`, and returns positions and values.
pub(crate) async fn get_or_load_many<'l, T, E>(
    store: &Store,
    places: Vec<Place>,
    options: LoadOptions,
    limits: Limits<E>,
    load: Loads<'l, T, E>,
) -> Result<Answers<T>, E>
where
    T: CachedType,
    E: Send + 'l,
{
    let (inner, of) = (store.inner(), store.inner().types.of::<T>());
    let span = Tracer(inner).span("get_or_load_many", Some(of), About::Places(&places));
    let loading = loaded_or_found(store, of, places, options, limits, load);
    traced!(span, loading, |answers| {
        let given = given(answers);
        let told = Told::Count(given.unwrap_or(0) as u64);
        Ending::of_foreign(answers).with_rows(given).telling(told)
    })
}

/// The number of values.
fn given<T, E>(answers: &Result<Answers<T>, E>) -> Option<usize> {
    Some(answers.as_ref().ok()?.iter().flatten().count())
}

async fn loaded_or_found<'l, T, E>(
    store: &Store,
    of: &Arc<Type>,
    places: Vec<Place>,
    options: LoadOptions,
    limits: Limits<E>,
    mut load: Loads<'l, T, E>,
) -> Result<Answers<T>, E>
where
    T: CachedType,
    E: Send + 'l,
{
    let inner = store.inner();
    let mut answers: Answers<T> = places.iter().map(|_| None).collect();
    let mut driver = Driver::new(store, of, options);
    let began = inner.moments.moment();
    match options.mode {
        LoadMode::Normal => {}
        LoadMode::Bypass => return Box::pin(load_beside(inner, of, answers, load)).await,
        LoadMode::Fresh => {
            for (at, place) in places.into_iter().enumerate() {
                driver.add_fresh(at, place, began);
            }
            return loaded(driver, answers, limits, load).await;
        }
    }
    let sights = Looker(inner).look_each(&places, options.with_ttl, of).await;
    let mut due = Vec::new();
    for (at, (place, (sight, left))) in places.into_iter().zip(sights).enumerate() {
        let key = &*place.key;
        let sight = match sight {
            Sight::Value(entry) => match codec::read(entry.payload()) {
                Ok(value) => {
                    of.counters().hit(entry.bytes().len());
                    Toucher(inner).slide(key, &entry, of);
                    let after = T::__refresh_after_millis(&value);
                    if FirstLook(inner).is_due(&entry, of.meta(), after) {
                        due.push((at, place, entry.clone()));
                    }
                    answers[at] = Some(Given {
                        value,
                        origin: entry.origin(Source::Cached, left, inner),
                        entry: Some(entry),
                    });
                    continue;
                }
                Err(why) => Sight::Other(Looker(inner).reject(key, &entry, &why, of).await),
            },
            Sight::Other(Seen::Absent) => {
                of.counters().count(Count::Absence);
                continue;
            }
            sight => sight,
        };
        of.counters().count(Count::Miss);
        driver.add(at, place, began, sight);
    }
    if !due.is_empty() {
        match load.another() {
            Some(another) => refresh(store, of, due, began, options.ttl, another),
            None => of.cannot_outlive(),
        }
    }
    if !options.in_background && driver.may_any_be_overtaken() {
        of.cannot_outlive();
    }
    match driver.is_needed() {
        true => loaded(driver, answers, limits, load).await,
        false => Ok(answers),
    }
}
