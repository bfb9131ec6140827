//! The loader of a call: the application's function, as the driver runs it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::lock::lock;
use crate::schema::cached_type::CachedType;
use crate::schema::loaded::{IntoLoaded, Loaded};
use crate::verbs::raw::Raw;

/// A key to load: its position among the keys of the call, and the stale value that the load may
/// replace.
pub(crate) struct Wanted {
    pub(crate) at: usize,
    pub(crate) kept: Option<Raw>,
}

/// A loader: it returns its results, each with its position. The box hides the type of its future,
/// so that the futures around it do not grow with it.
pub(crate) type Loader<'l, T, E> = Box<dyn FnMut(Vec<Wanted>) -> Loading<'l, T, E> + Send + 'l>;

/// The values that a loader found, each with its position.
pub(crate) type Found<T> = Vec<(usize, Loaded<T>)>;

pub(crate) type Loading<'l, T, E> = Pin<Box<dyn Future<Output = Result<Found<T>, E>> + Send + 'l>>;

/// A loader that runs once, for the one key of its call.
pub(crate) fn once<'l, T, L, E, F, Fut>(load: F) -> Loader<'l, T, E>
where
    T: CachedType,
    L: IntoLoaded<T>,
    F: FnOnce(Option<Raw>) -> Fut + Send + 'l,
    Fut: Future<Output = Result<L, E>> + Send + 'l,
{
    let mut load = Some(load);
    Box::new(move |wanted| {
        // A loaded key is done, so no driver runs the loader of one key twice.
        let once = load.take().zip(wanted.into_iter().next());
        Box::pin(async move {
            let Some((load, Wanted { at, kept })) = once else {
                unreachable!("the one key of a call is loaded once");
            };
            Ok(vec![(at, load(kept).await?.into_loaded())])
        })
    })
}

/// A loader of many keys, by their positions.
pub(crate) fn many<'l, T, E, F, Fut>(mut load: F) -> Loader<'l, T, E>
where
    T: CachedType,
    F: FnMut(Vec<usize>) -> Fut + Send + 'l,
    Fut: Future<Output = Result<Found<T>, E>> + Send + 'l,
{
    Box::new(move |wanted| Box::pin(load(wanted.into_iter().map(|wanted| wanted.at).collect())))
}

/// One loader for two drivers: one loads for the caller, the other refreshes in the background.
pub(crate) fn shared<T: 'static, E: 'static>(
    load: Loader<'static, T, E>,
) -> [Loader<'static, T, E>; 2] {
    let load = Arc::new(Mutex::new(load));
    let again = load.clone();
    // The lock is held while a future is made, not while it runs.
    [
        Box::new(move |wanted| lock(&load)(wanted)),
        Box::new(move |wanted| lock(&again)(wanted)),
    ]
}

/// The errors of a call with time limits. A call without them continues.
pub(crate) struct Limits<E> {
    /// The longest wait for a turn to load.
    pub(crate) queue: Option<(Duration, fn() -> E)>,
    /// The type's `load_deadline` has passed.
    pub(crate) late: Option<fn() -> E>,
}

impl<E> Clone for Limits<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Limits<E> {}

impl<E> Limits<E> {
    pub(crate) const NONE: Self = Self {
        queue: None,
        late: None,
    };
}
