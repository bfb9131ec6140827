//! Aliases: other fields by which a value is found, such as the e-mail of a user.
//!
//! An *alias entry* holds nothing but a key. It is stored under `[namespace:]:prefix:name:value`:
//! like a key of a type with an empty prefix, which no type has. So keys of types and of aliases
//! never collide, and a scan or count of a type's keys skips its aliases.
//!
//! To the rest of the runtime an alias entry is a value of a type of its own, [`By`], with leases
//! and conditional fills. But nothing invalidates it: its key may lead to a value that has another
//! alias by now. So the value is read under its own key, and its field is compared. If it does not
//! match, the alias entry counts as missing.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::choices::{InBackground, InCall, Limit, Output, Value};
use crate::api::handle::{Handle, key_bytes};
use crate::api::load::{Load, Settings};
use crate::base::error::Result;
use crate::base::lock::lock;
use crate::base::ttl::Ttl;
use crate::core::store::Store;
use crate::key::aliases::{Alias, AliasKeys};
use crate::key::part::{KeyPart, OwnKey};
use crate::key::tag::Place;
use crate::key::writer::KeyWriter;
use crate::protocol::versions::Versions;
use crate::schema::cached_type::{CachedType, OldEntry};
use crate::schema::guarding::BestEffort;
use crate::schema::keys::KeyOf;
use crate::schema::loaded::IntoLoaded;
use crate::schema::loaded::Loaded;
use crate::schema::policy::Policy;
use crate::schema::unmigrated::Unmigrated;
use crate::verbs::loading;
use crate::verbs::loading::loader::{Loader, once};
use crate::verbs::loading::work::{Background, Loads};

/// A type with an alias. `#[cached(alias = "…")]` implements it for each alias, with its number.
#[doc(hidden)]
pub trait Aliased<const NUMBER: usize>:
    CachedType<OwnedKey: OwnKey<Owned: Serialize + DeserializeOwned>>
{
    /// The field's name.
    const NAME: &'static str;

    /// The time for which it is cached that no value has an alias.
    const TTL_ABSENT: Option<Duration> = None;

    type Field: AliasField;

    fn field(&self) -> &Self::Field;

    /// Writes the alias into a key. The same bytes are looked up and compared.
    fn write(value: AliasRef<'_, Self::Field>, out: &mut KeyWriter) {
        <<Self::Field as AliasField>::Part as KeyPart>::write(value, out);
    }
}

/// A field that can be an alias: a type that can be part of a key, or an `Option` of one. `None` is
/// found by no look-up.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a `{Self}` can be neither an alias nor part of a tag",
    label = "can't be part of a key",
    note = "an alias, and a field in a tag, has a type that can be part of a key, or an `Option` of one",
    note = "a newtype of yours: add `#[derive(KeyPart)]` to it",
    note = "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string"
)]
pub trait AliasField: 'static {
    type Part: KeyPart;

    fn part(&self) -> Option<<Self::Part as KeyPart>::Ref<'_>>;
}

/// The argument of a look-up by such a field.
#[doc(hidden)]
pub type AliasRef<'r, F> = <<F as AliasField>::Part as KeyPart>::Ref<'r>;

#[diagnostic::do_not_recommend]
impl<P: KeyPart> AliasField for P {
    type Part = P;

    fn part(&self) -> Option<P::Ref<'_>> {
        Some(self.key_ref())
    }
}

#[diagnostic::do_not_recommend]
impl<P: KeyPart> AliasField for Option<P> {
    type Part = P;

    fn part(&self) -> Option<P::Ref<'_>> {
        self.as_ref().map(P::key_ref)
    }
}

/// The value of an alias entry: the key of a `T`.
struct By<T: Aliased<NUMBER>, const NUMBER: usize>(KeyOf<T>);

impl<T: Aliased<NUMBER>, const NUMBER: usize> Serialize for By<T, NUMBER> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Aliased<NUMBER>, const NUMBER: usize> Deserialize<'de> for By<T, NUMBER> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        KeyOf::<T>::deserialize(deserializer).map(Self)
    }
}

impl<T: Aliased<NUMBER>, const NUMBER: usize> CachedType for By<T, NUMBER> {
    const PREFIX: &'static str = "";
    const ALIAS_OF: Option<(&'static str, &'static str)> = Some((T::PREFIX, T::NAME));
    const TTL: Ttl = T::TTL;
    const VERSION: u16 = T::VERSION;
    const VERSIONS: Versions = T::VERSIONS;
    const POLICY: Policy = match T::TTL_ABSENT {
        None => policy(T::POLICY),
        Some(ttl) => policy(T::POLICY).ttl_absent(ttl),
    };
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = AliasKey<T, NUMBER>;
    type Key<'k> = AliasRef<'k, T::Field>;

    /// All types of a chain have the same key.
    fn __migrate<E: OldEntry>(entry: &E) -> Result<Self, Unmigrated> {
        entry.value()
    }
}

/// The policy of alias entries: the type's, without the options that concern its values. An alias
/// entry is only a hint. A "not found" result is cached only with a `ttl_absent` of the alias.
const fn policy(of: Policy) -> Policy {
    Policy {
        on_corrupt: of.on_corrupt,
        keep_corrupt: of.keep_corrupt,
        ttl_env: of.ttl_env,
        jitter_percent: of.jitter_percent,
        max_loads: of.max_loads,
        load_deadline_millis: of.load_deadline_millis,
        near_millis: of.near_millis,
        near_max_bytes: of.near_max_bytes,
        ..Policy::new()
    }
}

/// The key of an alias entry.
struct AliasKey<T, const NUMBER: usize>(PhantomData<fn() -> T>);

impl<T: Aliased<NUMBER>, const NUMBER: usize> KeyPart for AliasKey<T, NUMBER> {
    type Ref<'k> = AliasRef<'k, T::Field>;

    fn key_ref(&self) -> Self::Ref<'_> {
        unreachable!("nobody owns the key of an alias entry")
    }

    fn write(value: Self::Ref<'_>, out: &mut KeyWriter) {
        out.part(T::PREFIX);
        out.part(T::NAME);
        T::write(value, out);
    }
}

/// The body of `…_alias`.
#[doc(hidden)]
pub fn alias<T: Aliased<NUMBER>, const NUMBER: usize>(value: AliasRef<'_, T::Field>) -> Alias<T> {
    Alias::new(key_bytes::<By<T, NUMBER>>("", value))
}

/// Adds the key of an alias of this value, if it has one.
#[doc(hidden)]
pub fn write_alias<T: Aliased<NUMBER>, const NUMBER: usize>(value: &T, out: &mut AliasKeys<'_>) {
    if let Some(own) = value.field().part() {
        out.keys
            .push(key_bytes::<By<T, NUMBER>>(out.namespace, own));
    }
}

/// The body of `get_by_…`.
#[doc(hidden)]
pub fn get_by<'s, T: Aliased<NUMBER>, const NUMBER: usize>(
    store: &'s Store,
    value: AliasRef<'_, T::Field>,
) -> impl Future<Output = Result<Option<T>>> + Send + use<'s, T, NUMBER> {
    let aliases: Handle<'s, By<T, NUMBER>> = store.of();
    let alias = Place::from(aliases.bytes(value));
    async move {
        let Some(By(key)) = aliases.get_place(&alias).await? else {
            return Ok(None);
        };
        let found = store.of::<T>().get(T::OwnedKey::of_owned(&key)).await?;
        Ok(found.filter(|found| is_of(found, &alias.key, aliases)))
    }
}

/// A load of a value by one of its aliases. See [`Load`].
pub struct ByAlias<T, const NUMBER: usize> {
    /// The key of the alias entry.
    alias: Vec<u8>,
    of: PhantomData<fn() -> T>,
}

impl<T, const NUMBER: usize> fmt::Debug for ByAlias<T, NUMBER> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An alias may be a secret: an e-mail address, a token.
        f.debug_struct("ByAlias").finish_non_exhaustive()
    }
}

/// The body of `load_by_…`.
#[doc(hidden)]
pub fn load_by<'s, T: Aliased<NUMBER>, const NUMBER: usize>(
    store: &'s Store,
    value: AliasRef<'_, T::Field>,
) -> Load<'s, T, ByAlias<T, NUMBER>> {
    let alias = store.of::<By<T, NUMBER>>().bytes(value);
    let of = PhantomData;
    Load::new(store.of(), ByAlias { alias, of })
}

impl<'s, T, const NUMBER: usize, M, O, X> Load<'s, T, ByAlias<T, NUMBER>, M, O, X, InCall>
where
    T: Aliased<NUMBER>,
    O: Output,
    X: Limit,
{
    /// Loads the value of this alias. If its key is not cached, `find_key` looks it up. If the
    /// value under that key is not cached, `load` loads it. Both may be called twice.
    ///
    /// # Errors
    /// Those of `find_key` and of `load`, or with a timeout [`LoadError`](crate::LoadError).
    pub fn run<L, E, K, Finding, F, Fut>(
        self,
        find_key: K,
        load: F,
    ) -> impl Future<Output = Result<Option<O::Of<T>>, X::Error<E>>>
    + Send
    + use<'s, T, NUMBER, M, O, X, L, E, K, Finding, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        K: FnMut() -> Finding + Send,
        Finding: Future<Output = Result<Option<KeyOf<T>>, E>> + Send,
        F: FnMut(KeyOf<T>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let (settings, store) = (self.settings(), self.handle.store);
        let alias = self.keys.alias;
        async move {
            let (timeout, in_background) = (settings.timeout, false);
            let (find_key, load) = (Arc::new(Mutex::new(find_key)), Arc::new(Mutex::new(load)));
            let find = || Loads::InCall(finding::<T, NUMBER, X, _, _, _>(&find_key, timeout));
            let load = |key| Loads::InCall(loading_of::<T, X, _, _, _, _>(&load, key, timeout));
            look_up::<T, NUMBER, O, X, E>(store, alias, settings, in_background, find, load).await
        }
    }
}

impl<'s, T, const NUMBER: usize, M, O, X> Load<'s, T, ByAlias<T, NUMBER>, M, O, X, InBackground>
where
    T: Aliased<NUMBER>,
    O: Output,
    X: Limit,
{
    /// Loads the value of this alias. If its key is not cached, `find_key` looks it up. If the
    /// value under that key is not cached, `load` loads it. Both may be called twice, and must own
    /// all they use.
    ///
    /// # Errors
    /// Those of `find_key` and of `load`, or with a timeout [`LoadError`](crate::LoadError).
    pub fn run<L, E, K, Finding, F, Fut>(
        self,
        find_key: K,
        load: F,
    ) -> impl Future<Output = Result<Option<O::Of<T>>, X::Error<E>>>
    + Send
    + use<'s, T, NUMBER, M, O, X, L, E, K, Finding, F, Fut>
    where
        L: IntoLoaded<T> + Send + 'static,
        E: Send + 'static,
        X::Error<E>: 'static,
        K: FnMut() -> Finding + Send + 'static,
        Finding: Future<Output = Result<Option<KeyOf<T>>, E>> + Send + 'static,
        F: FnMut(KeyOf<T>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let (settings, store) = (self.settings(), self.handle.store);
        let alias = self.keys.alias;
        async move {
            let (timeout, in_background) = (settings.timeout, true);
            let (find_key, load) = (Arc::new(Mutex::new(find_key)), Arc::new(Mutex::new(load)));
            let find = || {
                Loads::InBackground(Background::new(finding::<T, NUMBER, X, _, _, _>(
                    &find_key, timeout,
                )))
            };
            let load = |key| {
                Loads::InBackground(Background::new(loading_of::<T, X, _, _, _, _>(
                    &load, key, timeout,
                )))
            };
            look_up::<T, NUMBER, O, X, E>(store, alias, settings, in_background, find, load).await
        }
    }
}

/// The loader of an alias entry. A look-up may call `find_key` twice, so it is shared.
fn finding<'l, T, const NUMBER: usize, X, E, K, Finding>(
    find_key: &Arc<Mutex<K>>,
    timeout: Option<Duration>,
) -> Loader<'l, By<T, NUMBER>, X::Error<E>>
where
    T: Aliased<NUMBER>,
    X: Limit,
    E: Send + 'l,
    K: FnMut() -> Finding + Send + 'l,
    Finding: Future<Output = Result<Option<KeyOf<T>>, E>> + Send + 'l,
{
    let find_key = find_key.clone();
    once(move |_| {
        let finding = lock(&find_key)();
        X::within(
            timeout,
            async move { Ok(found::<T, NUMBER>(finding.await?)) },
        )
    })
}

/// The loader of the value under a key.
fn loading_of<'l, T, X, L, E, F, Fut>(
    load: &Arc<Mutex<F>>,
    key: KeyOf<T>,
    timeout: Option<Duration>,
) -> Loader<'l, T, X::Error<E>>
where
    T: CachedType<OwnedKey: OwnKey>,
    X: Limit,
    L: IntoLoaded<T> + Send + 'l,
    E: Send + 'l,
    F: FnMut(KeyOf<T>) -> Fut + Send + 'l,
    Fut: Future<Output = Result<L, E>> + Send + 'l,
{
    let load = load.clone();
    once(move |_| X::within(timeout, lock(&load)(key)))
}

async fn look_up<'l, T, const NUMBER: usize, O, X, E>(
    store: &Store,
    alias: Vec<u8>,
    settings: Settings,
    in_background: bool,
    find: impl Fn() -> Loads<'l, By<T, NUMBER>, X::Error<E>> + Send + Sync,
    load: impl Fn(KeyOf<T>) -> Loads<'l, T, X::Error<E>> + Send + Sync,
) -> Result<Option<O::Of<T>>, X::Error<E>>
where
    T: Aliased<NUMBER>,
    O: Output,
    X: Limit,
    E: Send,
    X::Error<E>: 'l,
{
    let (aliases, values) = (store.of::<By<T, NUMBER>>(), store.of::<T>());
    let limits = || X::limits::<E>(settings.queue_timeout);
    // A cached alias, or one that another call looks up, may be older than a change of the value.
    // So if it leads to no value of this alias, this call looks the key up once more by itself, and
    // the value under that key is the answer.
    for settings_of_alias in [settings, settings.fresh()] {
        let options = settings_of_alias.options_of_many::<Value>(in_background);
        let place = alias.clone().into();
        let looking = loading::get_or_load(store, place, options, limits(), &find);
        let Some((By(key), _)) = looking.await? else {
            return Ok(None);
        };
        let place = values.place(T::OwnedKey::of_owned(&key));
        let options = settings.options_of_many::<O>(in_background);
        let loading = loading::get_or_load(store, place, options, limits(), || load(key));
        if let Some((value, origin)) = loading.await?
            && is_of(&value, &alias, aliases)
        {
            return Ok(Some(O::of(value, origin, store.inner())));
        }
    }
    tracing::debug!(
        "db.collection.name" = T::PREFIX,
        alias = T::NAME,
        "the key found for an alias leads to a value with another alias: if the database treats several spellings as \
         equal, use `alias(with = …)`"
    );
    Ok(None)
}

/// With a `ttl_absent`, the writes that give a value this alias end its absence, so it is cached
/// and shared like any other. Without one they don't: a later caller may already know of a value
/// that this look-up missed, so its result is shared only with callers that came before it began.
fn found<T: Aliased<NUMBER>, const NUMBER: usize>(key: Option<KeyOf<T>>) -> Loaded<By<T, NUMBER>> {
    match (key, T::TTL_ABSENT) {
        (Some(key), _) => Loaded::value(By(key)),
        (None, None) => Loaded::absent_by_then(),
        (None, Some(_)) => Loaded::absent(),
    }
}

/// Whether the value has the alias with these bytes.
fn is_of<T: Aliased<NUMBER>, const NUMBER: usize>(
    value: &T,
    alias: &[u8],
    aliases: Handle<'_, By<T, NUMBER>>,
) -> bool {
    let own = value.field().part();
    own.is_some_and(|own| aliases.bytes(own) == alias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::policy::OnCorrupt;

    #[test]
    fn aliases_inherit_only_a_part_of_the_policy_of_their_type() {
        let both = Policy::new()
            .on_corrupt(OnCorrupt::Error)
            .keep_corrupt()
            .ttl_env("USER_TTL")
            .jitter_percent(7)
            .max_loads(3)
            .load_deadline(Duration::from_millis(1234))
            .near(Duration::from_secs(1))
            .near_max_bytes(2048);
        let of_values = both
            .show_keys()
            .hold(Duration::from_millis(1))
            .ttl_absent(Duration::from_millis(1))
            .stale_if_error(Duration::from_millis(1))
            .retry_after(Duration::from_millis(1))
            .refresh_ahead_percent(1)
            .load_timeout(Duration::from_millis(1))
            .sliding(Duration::from_millis(1))
            .near_stale(Duration::from_secs(2))
            .near_get_stale()
            .compress_above(7);
        assert_eq!(policy(of_values), both);
    }
}
