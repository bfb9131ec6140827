//! Cached functions: the calls that `#[cached_fn]` emits.
//!
//! The result of a function is the value of a cached type of its own, whose key is the arguments.
//! So a call is a load of that type, and everything about loads holds for it. This module converts
//! between the function's result and that type's values.

use std::convert::Infallible;
use std::future::Future;

use futures_util::FutureExt;

use crate::api::choices::{InBackground, Normal, Unlimited, Value};
use crate::api::load::{Load, One};
use crate::base::error::Result;
use crate::core::store::Store;
use crate::schema::cached_type::CachedType;

/// The cached type of a function's results. `#[cached_fn]` implements it.
#[doc(hidden)]
pub trait Function: CachedType {
    /// The function's result: without its `Result`, and without its `Option`.
    type Value;

    fn of(value: Self::Value) -> Self;

    fn into_value(self) -> Self::Value;
}

/// A parameter of a cached function whose body may go on after the call.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be copied for a load in the background",
    label = "not `Clone`",
    note = "with `refresh_ahead` or `load_timeout` the body may go on after its call, so it gets copies of what the call \
            borrows: derive `Clone`, or put it in an `Arc`"
)]
pub trait Copied {
    type Copy: Send + Sync + 'static;

    fn copied(&self) -> Self::Copy;

    fn lent(copy: &Self::Copy) -> &Self;
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Copied for T {
    type Copy = T;

    fn copied(&self) -> T {
        self.clone()
    }

    fn lent(copy: &T) -> &T {
        copy
    }
}

#[diagnostic::do_not_recommend]
impl Copied for str {
    type Copy = String;

    fn copied(&self) -> String {
        self.to_owned()
    }

    fn lent(copy: &String) -> &str {
        copy
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Copied for [T] {
    type Copy = Vec<T>;

    fn copied(&self) -> Vec<T> {
        self.to_vec()
    }

    fn lent(copy: &Vec<T>) -> &[T] {
        copy
    }
}

/// A copy of a borrowed parameter.
#[doc(hidden)]
pub fn owned<T: Copied + ?Sized>(borrowed: &T) -> T::Copy {
    borrowed.copied()
}

/// The parameter again, borrowed from its copy.
#[doc(hidden)]
pub fn lent<T: Copied + ?Sized>(copy: &T::Copy) -> &T {
    T::lent(copy)
}

type InCall<'s, F> = Load<'s, F, One>;
type Outliving<'s, F> = Load<'s, F, One, Normal, Value, Unlimited, InBackground>;

/// A call of a function. If it is fresh, a cached value is ignored.
#[doc(hidden)]
pub fn begin<'s, F: Function>(store: &'s Store, fresh: bool, key: F::Key<'_>) -> InCall<'s, F> {
    let load = store.of::<F>().load(key);
    match fresh {
        true => load.made_fresh(),
        false => load,
    }
}

/// The cached value.
#[doc(hidden)]
pub fn get<'s, F: Function>(
    store: &'s Store,
    key: F::Key<'_>,
) -> impl Future<Output = Result<Option<F::Value>>> + Send + use<'s, F> {
    let found = store.of::<F>().get(key);
    found.map(|found| Ok(found?.map(F::into_value)))
}

/// The call of a function that returns `Result<T, E>`.
#[doc(hidden)]
pub fn result<'s, F, E, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = Result<F::Value, E>> + Send + use<'s, F, E, B, Fut>
where
    F: Function,
    E: Send,
    B: FnOnce() -> Fut + Send,
    Fut: Future<Output = Result<F::Value, E>> + Send,
{
    let loaded = load.run(move || body().map(|result| result.map(F::of)));
    loaded.map(|loaded| loaded.map(F::into_value))
}

/// The call of a function that returns `Result<Option<T>, E>`.
#[doc(hidden)]
pub fn optional_result<'s, F, E, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = Result<Option<F::Value>, E>> + Send + use<'s, F, E, B, Fut>
where
    F: Function,
    E: Send,
    B: FnOnce() -> Fut + Send,
    Fut: Future<Output = Result<Option<F::Value>, E>> + Send,
{
    let loaded = load.run(move || body().map(|result| result.map(|value| value.map(F::of))));
    loaded.map(|loaded| loaded.map(|value| value.map(F::into_value)))
}

/// The call of a function that returns `T`.
#[doc(hidden)]
pub fn value<'s, F, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = F::Value> + Send + use<'s, F, B, Fut>
where
    F: Function,
    B: FnOnce() -> Fut + Send,
    Fut: Future<Output = F::Value> + Send,
{
    result(load, move || body().map(Ok)).map(certain)
}

/// The call of a function that returns `Option<T>`.
#[doc(hidden)]
pub fn optional_value<'s, F, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = Option<F::Value>> + Send + use<'s, F, B, Fut>
where
    F: Function,
    B: FnOnce() -> Fut + Send,
    Fut: Future<Output = Option<F::Value>> + Send,
{
    optional_result(load, move || body().map(Ok)).map(certain)
}

/// As [`result`], for a body that may go on after the call.
#[doc(hidden)]
pub fn result_in_background<'s, F, E, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = Result<F::Value, E>> + Send + use<'s, F, E, B, Fut>
where
    F: Function,
    E: Send + 'static,
    B: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<F::Value, E>> + Send + 'static,
{
    let load: Outliving<'s, F> = load.in_background();
    let loaded = load.run(move || body().map(|result| result.map(F::of)));
    loaded.map(|loaded| loaded.map(F::into_value))
}

/// As [`optional_result`], for a body that may go on after the call.
#[doc(hidden)]
pub fn optional_result_in_background<'s, F, E, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = Result<Option<F::Value>, E>> + Send + use<'s, F, E, B, Fut>
where
    F: Function,
    E: Send + 'static,
    B: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<F::Value>, E>> + Send + 'static,
{
    let load: Outliving<'s, F> = load.in_background();
    let loaded = load.run(move || body().map(|result| result.map(|value| value.map(F::of))));
    loaded.map(|loaded| loaded.map(|value| value.map(F::into_value)))
}

/// As [`value`], for a body that may go on after the call.
#[doc(hidden)]
pub fn value_in_background<'s, F, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = F::Value> + Send + use<'s, F, B, Fut>
where
    F: Function,
    B: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = F::Value> + Send + 'static,
{
    result_in_background(load, move || body().map(Ok)).map(certain)
}

/// As [`optional_value`], for a body that may go on after the call.
#[doc(hidden)]
pub fn optional_value_in_background<'s, F, B, Fut>(
    load: InCall<'s, F>,
    body: B,
) -> impl Future<Output = Option<F::Value>> + Send + use<'s, F, B, Fut>
where
    F: Function,
    B: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Option<F::Value>> + Send + 'static,
{
    optional_result_in_background(load, move || body().map(Ok)).map(certain)
}

fn certain<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
