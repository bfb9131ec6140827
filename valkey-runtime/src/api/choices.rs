//! The choices of a load as types: each is a name without a value, and traits say which
//! combinations are allowed.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use crate::core::entry::{Entry, Origin};
use crate::core::inner::Inner;
use crate::core::options::LoadError;
use crate::key::tag::Place;
use crate::schema::cached_type::CachedType;
use crate::verbs::loading::loader::Limits;

/// Returns a cached value.
#[derive(Debug)]
pub enum Normal {}

/// The same as [`Normal`], with a TTL for this call.
#[derive(Debug)]
pub enum Timed {}

/// Ignores a cached value, loads and stores.
#[derive(Debug)]
pub enum Fresh {}

/// Loads, and neither reads nor changes the cache.
#[derive(Debug)]
pub enum Bypass {}

/// The answer is the value.
#[derive(Debug)]
pub enum Value {}

/// The answer is the value with its metadata: an [`Entry`].
#[derive(Debug)]
pub enum WithEntry {}

/// The call ends when its loader does, and fails with the loader's error.
#[derive(Debug)]
pub enum Unlimited {}

/// The call has time limits, and fails with a [`LoadError`].
#[derive(Debug)]
pub enum Limited {}

/// The load ends with its call.
#[derive(Debug)]
pub enum InCall {}

/// The load may go on after its call.
#[derive(Debug)]
pub enum InBackground {}

/// Loads that are neither `fresh` nor `bypass` yet.
#[diagnostic::on_unimplemented(
    message = "this load is `fresh` or `bypass` already",
    note = "`fresh` loads and stores, `bypass` loads and stores nothing: choose one of them"
)]
pub trait Unchosen {}

impl Unchosen for Normal {}
impl Unchosen for Timed {}

/// Loads without a choice about storing.
#[diagnostic::on_unimplemented(
    message = "`bypass` stores nothing, so it can't be combined with `fresh` or `ttl`",
    note = "remove `bypass`, or the other choice"
)]
pub trait Untouched {}

impl Untouched for Normal {}

/// Loads whose result is stored.
#[diagnostic::on_unimplemented(
    message = "a load with `bypass` stores nothing, so it has no TTL",
    note = "remove `ttl`, or use `fresh` in place of `bypass`"
)]
pub trait Stored {}

impl Stored for Normal {}
impl Stored for Timed {}
impl Stored for Fresh {}

/// A load, and the type of the same load with a TTL.
pub trait Keeps {
    /// The load with a TTL.
    type Kept;
}

impl Keeps for Bypass {
    type Kept = Bypass;
}

impl Keeps for Normal {
    type Kept = Timed;
}

impl Keeps for Timed {
    type Kept = Timed;
}

impl Keeps for Fresh {
    type Kept = Fresh;
}

/// Loads that may go on after their calls.
#[diagnostic::on_unimplemented(
    message = "a load with `bypass` has no value to refresh or to return early, so it is not one `in_background`",
    note = "remove `in_background`, or spawn the call as a task"
)]
pub trait MayOutlive {}

impl MayOutlive for Normal {}
impl MayOutlive for Timed {}
impl MayOutlive for Fresh {}

/// Loads that end with their calls.
#[diagnostic::on_unimplemented(
    message = "a load `in_background` has no `bypass`: there would be no value to refresh or to return early",
    note = "remove `bypass`, or `in_background`"
)]
pub trait EndsWithCall {}

impl EndsWithCall for InCall {}

/// The answer of a call.
pub trait Output: 'static {
    /// The answer for a value.
    type Of<T: Send>: Send;

    #[doc(hidden)]
    const WITH_TTL: bool;

    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn of<T: CachedType>(value: T, origin: Origin, inner: &Inner) -> Self::Of<T>;
}

impl Output for Value {
    type Of<T: Send> = T;
    const WITH_TTL: bool = false;

    #[allow(private_interfaces)]
    fn of<T: CachedType>(value: T, _: Origin, _: &Inner) -> T {
        value
    }
}

impl Output for WithEntry {
    type Of<T: Send> = Entry<T>;
    const WITH_TTL: bool = true;

    #[allow(private_interfaces)]
    fn of<T: CachedType>(value: T, origin: Origin, inner: &Inner) -> Entry<T> {
        origin.entry(value, T::VERSION, inner.gateway.now_micros())
    }
}

/// The errors of a call.
pub trait Limit: 'static {
    /// The error of a call whose loader fails with `E`.
    type Error<E: Send>: Send;

    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn limits<E: Send>(queue: Option<Duration>) -> Limits<Self::Error<E>>;

    #[doc(hidden)]
    fn within<R: Send, E: Send, W: Future<Output = Result<R, E>> + Send>(
        timeout: Option<Duration>,
        work: W,
    ) -> impl Future<Output = Result<R, Self::Error<E>>> + Send;
}

impl Limit for Unlimited {
    type Error<E: Send> = E;

    #[allow(private_interfaces)]
    fn limits<E: Send>(_: Option<Duration>) -> Limits<E> {
        Limits::NONE
    }

    fn within<R: Send, E: Send, W: Future<Output = Result<R, E>> + Send>(
        _: Option<Duration>,
        work: W,
    ) -> impl Future<Output = Result<R, E>> + Send {
        work
    }
}

impl Limit for Limited {
    type Error<E: Send> = LoadError<E>;

    #[allow(private_interfaces)]
    fn limits<E: Send>(queue: Option<Duration>) -> Limits<LoadError<E>> {
        Limits {
            queue: queue.map(|longest| (longest, (|| LoadError::Queue) as fn() -> LoadError<E>)),
            late: Some(|| LoadError::Deadline),
        }
    }

    async fn within<R: Send, E: Send, W: Future<Output = Result<R, E>> + Send>(
        timeout: Option<Duration>,
        work: W,
    ) -> Result<R, LoadError<E>> {
        match timeout {
            None => work.await.map_err(LoadError::Load),
            Some(timeout) => match tokio::time::timeout(timeout, work).await {
                Ok(loaded) => loaded.map_err(LoadError::Load),
                Err(_) => Err(LoadError::Deadline),
            },
        }
    }
}

/// The write deletes the cached value.
#[derive(Debug)]
pub struct Invalidate;

/// The write caches the written value.
#[derive(Debug)]
pub struct Through<'v, T> {
    pub(crate) value: &'v T,
    pub(crate) place: Place,
}

/// The choices of a load together.
pub(crate) type Choices<M, O, X, B> = PhantomData<fn() -> (M, O, X, B)>;

/// The answers of a bulk load, in the order of its keys.
pub type EachOf<O, T> = Vec<Option<<O as Output>::Of<T>>>;

/// Whether an error of a write is certain to mean that nothing was written.
pub trait Unwritten<E>: Send {
    #[doc(hidden)]
    fn is_sure(&self, error: &E) -> bool;
}

/// No error is certain to mean that nothing was written.
#[derive(Clone, Copy, Debug)]
pub struct NeverSure;

/// The errors for which this function returns `true`.
#[derive(Clone, Copy, Debug)]
pub struct SureIf<F>(pub(crate) F);

impl<E> Unwritten<E> for NeverSure {
    fn is_sure(&self, _: &E) -> bool {
        false
    }
}

impl<E, F: Fn(&E) -> bool + Send> Unwritten<E> for SureIf<F> {
    fn is_sure(&self, error: &E) -> bool {
        (self.0)(error)
    }
}
