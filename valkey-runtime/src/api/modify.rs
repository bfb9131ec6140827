//! Changing a value that was read, by a closure. [`crate::verbs::modify`] has all that does not
//! depend on the type.

use std::any::type_name;
use std::future::Future;

use crate::api::handle::Handle;
use crate::base::error::Result;
use crate::core::entry::Stamp;
use crate::core::modify_options::ModifyOptions;
use crate::key::tag::Place;
use crate::observe::answer::{About, Ending, Told};
use crate::observe::trace::{Tracer, traced};
use crate::schema::cached_type::CachedType;
use crate::schema::change::{Change, IntoChange, ModifyError};
use crate::value::codec;
use crate::verbs::delete::Remover;
use crate::verbs::modify::{Modifier, Modifying, Outcome, Sight, Stop};

impl<'s, T: CachedType> Handle<'s, T> {
    /// Reads the value under `key`, changes it by a closure, and stores what that returns, unless
    /// another caller has changed the value in between. Then it begins again: it reads again and
    /// calls the closure again. So no change of another caller is lost, in any process.
    ///
    /// The closure gets the value as [`get`](Self::get) would return it from the server, or `None`.
    /// It returns the new value, an `Option` of which `None` deletes, a [`Change`], or a `Result`
    /// of one of these. It may be called several times, so it should do nothing but compute. It
    /// runs between two requests and must not block.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// struct Cart {
    ///     #[cached(key)]
    ///     id: u64,
    ///     articles: Vec<u32>,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let carts = store.of::<Cart>();
    /// let add = |article| carts.modify(1, move |cart: Option<Cart>| {
    ///     let mut cart = cart.unwrap_or_else(|| Cart { id: 1, articles: vec![] });
    ///     cart.articles.push(article);
    ///     cart
    /// });
    /// tokio::try_join!(add(7), add(8))?;
    /// assert_eq!(carts.get(1).await?.unwrap().articles.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The call returns what is under the key afterwards. The value's TTL begins again, as with a
    /// `set`: see [`modify_with`](Self::modify_with). Callers of one process take turns at a key.
    ///
    /// If the call is dropped, its change may or may not be made, as with a `set`. Nothing else is
    /// left behind.
    ///
    /// # Errors
    /// - [`ModifyError::Change`]: the closure's own error. Nothing was changed.
    /// - [`ModifyError::Store`]: the server could not be asked, or the value not stored. Nothing
    ///   was changed. This includes an entry of a newer version, and one that can't be read here.
    /// - [`ModifyError::Contended`]: others changed the value each time, for 5 seconds.
    /// - [`ModifyError::Unknown`]: an answer was lost, and the entry does not show whether the
    ///   change was made.
    pub fn modify<C, F>(
        self,
        key: T::Key<'_>,
        change: F,
    ) -> impl Future<Output = Result<C::Given<T>, ModifyError<C::Error>>> + Send + use<'s, T, C, F>
    where
        C: IntoChange<T>,
        F: FnMut(Option<T>) -> C + Send,
    {
        self.modify_with(key, ModifyOptions::new(), change)
    }

    /// The same as [`modify`](Self::modify), with a TTL for the new value, or bounds on the
    /// attempts.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// use std::time::Duration;
    /// use valkey_runtime::ModifyOptions;
    ///
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct Attempts { #[cached(key)] email: String, number: u32 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// // The first attempt begins a time that the others do not extend.
    /// let keep = ModifyOptions::new().keep_ttl().within(Duration::from_secs(1));
    /// let counted = store.of::<Attempts>().modify_with("ada@example.org", keep, |before| Attempts {
    ///     email: "ada@example.org".into(),
    ///     number: before.map_or(0, |before: Attempts| before.number) + 1,
    /// });
    /// assert_eq!(counted.await?.number, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The same as [`modify`](Self::modify).
    pub fn modify_with<C, F>(
        self,
        key: T::Key<'_>,
        options: ModifyOptions,
        change: F,
    ) -> impl Future<Output = Result<C::Given<T>, ModifyError<C::Error>>> + Send + use<'s, T, C, F>
    where
        C: IntoChange<T>,
        F: FnMut(Option<T>) -> C + Send,
    {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("modify", Some(of), About::Key(&place.key));
            let modified = traced!(span, self.modified(&place, options, change), ending);
            modified.map(|(value, _)| C::given(value))
        }
    }

    /// Deletes the value under `key` if it is still the one that was read: an
    /// [`Entry`](crate::Entry), or its [`stamp`](crate::Entry::stamp). True if it was deleted.
    /// Unlike [`del`](Self::del) it leaves leases and guards, and a type's `hold` does not apply.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct Draft { #[cached(key)] id: u64, text: String }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// # let drafts = store.of::<Draft>();
    /// # Draft { id: 1, text: "one".into() }.set(&store).await?;
    /// let read = drafts.get_entry(1).await?.unwrap();
    /// Draft { id: 1, text: "two".into() }.set(&store).await?;
    /// assert!(!drafts.del_if_unchanged(1, &read).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the server did not confirm it. Unlike a `del` it is not delivered later.
    pub fn del_if_unchanged<S>(
        self,
        key: T::Key<'_>,
        read: S,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, T, S>
    where
        S: Into<Stamp>,
    {
        let (inner, key, stamp) = (self.store.inner(), self.bytes(key), read.into());
        async move {
            let of = self.of();
            let span = Tracer(inner).span("del", Some(of), About::Key(&key));
            traced!(span, Remover(inner).del_if(&key, stamp, of), Ending::of)
        }
    }

    async fn modified<C, F>(
        self,
        place: &Place,
        options: ModifyOptions,
        mut change: F,
    ) -> Modified<T, C::Error>
    where
        C: IntoChange<T>,
        F: FnMut(Option<T>) -> C + Send,
    {
        let (inner, of) = (self.store.inner(), self.of());
        // Boxed, so that the future of a call is small: it is several round trips.
        Box::pin(async move {
            let mut modifying = Modifier(inner).begin(place, options, of).await?;
            loop {
                let sight = modifying.look().await?;
                let (sight, value) = read(&modifying, sight).await?;
                let changed = change(value).into_change().map_err(ModifyError::Change)?;
                let outcome = match &changed {
                    Change::Keep => {
                        let value = sight.value.as_ref();
                        let value = value.and_then(|raw| codec::read(raw.payload()).ok());
                        return Ok((value, Told::Nothing));
                    }
                    Change::Delete if sight.value.is_none() => {
                        return Ok((None, Told::Yes(false)));
                    }
                    Change::Delete => Outcome::Removed,
                    Change::Store(value) => {
                        let (stamp, ttl) = (modifying.stamp(&sight), modifying.ttl(&sight));
                        let sealed = self.sealed_with(place, value, ttl, stamp);
                        Outcome::Stored(sealed.map_err(|error| modifying.failed(error))?)
                    }
                };
                if modifying.make(&sight, outcome).await? {
                    return Ok(match changed {
                        Change::Store(value) => {
                            self.end_absences(&value).await?;
                            (Some(value), Told::Yes(true))
                        }
                        Change::Delete | Change::Keep => (None, Told::Yes(false)),
                    });
                }
            }
        })
        .await
    }

    /// Ends the absences of the value's aliases. The value is stored: a deletion that is not
    /// confirmed is delivered later.
    async fn end_absences<E>(&self, value: &T) -> Result<(), ModifyError<E>> {
        let aliases = self.alias_keys(value);
        if aliases.is_empty() {
            return Ok(());
        }
        let ended = Remover(self.store.inner()).end_absences(&aliases, self.of());
        ended.await.map_err(ModifyError::Unknown)
    }
}

/// The value under the key afterwards, and the deed for the records of tests.
type Modified<T, E> = Result<(Option<T>, Told), ModifyError<E>>;

/// Decodes what was read. A value that does not decode, or is invalid, is treated as its type
/// demands.
async fn read<T: CachedType>(
    modifying: &Modifying<'_>,
    sight: Sight,
) -> Result<(Sight, Option<T>), Stop> {
    let Some(raw) = &sight.value else {
        return Ok((sight, None));
    };
    match codec::read(raw.payload()) {
        Ok(value) => Ok((sight, Some(value))),
        Err(why) => {
            let sight = modifying.corrupt(Some(&raw.bytes), why).await?;
            Ok((sight, None))
        }
    }
}

fn ending<T, E>(modified: &Modified<T, E>) -> Ending {
    let failure = match modified {
        Ok((_, told)) => return Ending::default().telling(*told),
        Err(error) => error.store_error(),
    };
    Ending {
        failure: Some(failure.map_or(type_name::<E>(), |error| error.kind().as_str())),
        ..Ending::default()
    }
}

impl<E> From<Stop> for ModifyError<E> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Store(error) => Self::Store(error),
            Stop::Contended(error) => Self::Contended(error),
            Stop::Unknown(error) => Self::Unknown(error),
        }
    }
}
