//! The loading verb of one key.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use crate::base::counters::Count;
use crate::base::ttl::Ttl;
use crate::core::caller::{Running, Within};
use crate::core::entry::{Origin, Source};
use crate::core::inner::{Inner, view};
use crate::core::meta::Meta;
use crate::core::options::{LoadMode, LoadOptions};
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::Tracer;
use crate::observe::trace::{row, source, traced};
use crate::protocol::call::Seen;
use crate::protocol::flights::Moment;
use crate::schema::cached_type::CachedType;
use crate::schema::loaded::Loaded;
use crate::value::codec;
use crate::verbs::loading::driver::{Answers, CHUNK, Driver, Given};
use crate::verbs::loading::loader::{Limits, Wanted};
use crate::verbs::loading::run::run_loader;
use crate::verbs::loading::sight::Looker;
use crate::verbs::loading::sight::Sight;
use crate::verbs::loading::work::{Loads, Work, loaded, refresh};
use crate::verbs::raw::Raw;
use crate::verbs::touch::Toucher;

/// A value and its origin.
pub(crate) type Answer<T> = Option<(T, Origin)>;

/// Reads the value under a key, or loads it. `loader` is called only when a load begins, so that a
/// hit allocates nothing for it.
pub(crate) async fn get_or_load<'l, T, E>(
    store: &Store,
    place: Place,
    options: LoadOptions,
    limits: Limits<E>,
    loader: impl FnOnce() -> Loads<'l, T, E> + Send,
) -> Result<Answer<T>, E>
where
    T: CachedType,
    E: Send + 'l,
{
    let (inner, of) = (store.inner(), store.inner().types.of::<T>());
    let span = Tracer(inner).span("get_or_load", Some(of), About::Key(&place.key));
    let asked = Asked {
        place,
        options,
        limits,
    };
    traced!(span, loaded_or_found(store, of, &asked, loader), |given| {
        Ending::of_foreign(given)
            .with_rows(row(given))
            .telling(source(given))
    })
}

/// The request of a call. It is borrowed, so that the futures of a hit hold it once.
struct Asked<E> {
    place: Place,
    options: LoadOptions,
    limits: Limits<E>,
}

async fn loaded_or_found<'l, T, E>(
    store: &Store,
    of: &Arc<Type>,
    asked: &Asked<E>,
    loader: impl FnOnce() -> Loads<'l, T, E> + Send,
) -> Result<Answer<T>, E>
where
    T: CachedType,
    E: Send + 'l,
{
    let Asked { place, options, .. } = asked;
    let inner = store.inner();
    let began = inner.moments.moment();
    if options.mode == LoadMode::Bypass {
        let answers = vec![None];
        return Ok(first(
            Box::pin(load_beside(inner, of, answers, loader())).await?,
        ));
    }
    let sight = match options.mode {
        LoadMode::Normal => {
            match FirstLook(inner).first(place, options.with_ttl, of).await {
                First::Hit(value, raw, left) => {
                    let after = T::__refresh_after_millis(&value);
                    if FirstLook(inner).is_due(&raw, of.meta(), after) {
                        match options.in_background {
                            true => {
                                let due = vec![(0, place.clone(), raw.clone())];
                                refresh(store, of, due, began, options.ttl, loader());
                            }
                            false => of.cannot_outlive(),
                        }
                    }
                    return Ok(Some((value, raw.origin(Source::Cached, left, inner))));
                }
                First::Absent if !options.needs_value => return Ok(None),
                // A cached "not found" is no answer for this call: its loaded value replaces it.
                First::Absent => None,
                First::Miss(sight) => Some(sight),
            }
        }
        LoadMode::Fresh | LoadMode::Bypass => None,
    };
    Ok(first(
        begun(store, of, asked, began, sight, loader()).await?,
    ))
}

/// Begins the load. It is apart, so that the future of a hit has no room for the driver.
fn begun<'l, T, E>(
    store: &Store,
    of: &Arc<Type>,
    asked: &Asked<E>,
    began: Moment,
    sight: Option<Sight>,
    load: Loads<'l, T, E>,
) -> Work<'l, T, E>
where
    T: CachedType,
    E: Send + 'l,
{
    let mut driver = Driver::new(store, of, asked.options);
    let place = asked.place.clone();
    match sight {
        Some(sight) => driver.add(0, place, began, sight),
        None => driver.add_fresh(0, place, began),
    }
    if !asked.options.in_background && driver.may_any_be_overtaken() {
        of.cannot_outlive();
    }
    loaded(driver, vec![None], asked.limits, load)
}

fn first<T>(answers: Answers<T>) -> Answer<T> {
    let given = answers.into_iter().next().flatten()?;
    Some((given.value, given.origin))
}

/// The result of the first look at the server.
enum First<T> {
    Hit(T, Raw, Option<Ttl>),
    Absent,
    Miss(Sight),
}

view! {
    /// Looks at a key once, before there is a load.
    FirstLook
}

impl<'a> FirstLook<'a> {
    /// The first look. It counts hits and misses, and handles corrupt entries.
    async fn first<T: CachedType>(self, place: &Place, with_ttl: bool, of: &Arc<Type>) -> First<T> {
        let key = &*place.key;
        let (mut sight, left) = match with_ttl {
            // Boxed, as it is rare, so that the future of a hit is small.
            true => Box::pin(Looker(self.0).look_with_ttl(place, of)).await,
            false => (Looker(self.0).look(place, of).await, None),
        };
        match sight {
            Sight::Value(raw) => match codec::read(raw.payload()) {
                Ok(value) => {
                    of.counters().hit(raw.bytes().len());
                    Toucher(self.0).slide(key, &raw, of);
                    return First::Hit(value, raw, left);
                }
                Err(why) => sight = Sight::Other(Looker(self.0).reject(key, &raw, &why, of).await),
            },
            Sight::Other(Seen::Absent) => {
                of.counters().count(Count::Absence);
                return First::Absent;
            }
            Sight::Kept(..) | Sight::Unasked | Sight::Other(_) => {}
        }
        of.counters().count(Count::Miss);
        First::Miss(sight)
    }

    /// Whether a value must be refreshed: most of its life is over, and no other caller has claimed
    /// it. `after` is the value's own time for it, in milliseconds after its stamp.
    pub(crate) fn is_due(self, raw: &Raw, meta: &Meta, after: Option<u64>) -> bool {
        let percent = u64::from(meta.policy.refresh_ahead_percent);
        let Some(timing) = raw.header.timing.filter(|_| percent > 0) else {
            return false;
        };
        let stamp = (raw.header.stamp >> 12) / 1000;
        let life = timing.until.saturating_sub(stamp);
        let due = match after {
            None => timing.until - life / 100 * (100 - percent),
            Some(after) => stamp.saturating_add(after),
        };
        let now = self.now_millis();
        now >= due && !timing.claim.is_live(now)
    }
}

/// Loads keys, and neither reads nor changes the cache.
pub(crate) async fn load_beside<T: CachedType, E>(
    inner: &Inner,
    of: &Type,
    mut answers: Answers<T>,
    load: Loads<'_, T, E>,
) -> Result<Answers<T>, E> {
    let Loads::InCall(mut load) = load else {
        unreachable!("no load is both `bypass` and `in_background`")
    };
    let all: Vec<usize> = (0..answers.len()).collect();
    for chunk in all.chunks(CHUNK) {
        let origin = Origin {
            source: Source::Loaded,
            stamp: inner.stamp(),
            expires: None,
        };
        // This load has no turn, so the load around it does not matter.
        let within = Within::new(&Arc::default(), 0, Within::current());
        let wanted = chunk.iter().map(|at| Wanted {
            at: *at,
            kept: None,
        });
        let running = Running::new(within, load(wanted.collect()));
        let (outcome, _) = run_loader(of, chunk.len(), None, Duration::ZERO, running).await;
        let loaded: Vec<(usize, Loaded<T>)> = match outcome {
            Ok(loaded) => loaded?,
            Err(panic) => resume_unwind(panic),
        };
        for (at, loaded) in loaded {
            answers[at] = loaded.value.map(|value| Given {
                value,
                origin,
                entry: None,
            });
        }
    }
    Ok(answers)
}
