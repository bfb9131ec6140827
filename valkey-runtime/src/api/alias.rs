//! Other keys of a value: the key of a user by its e-mail.
//!
//! An *alias entry* holds nothing but a key, and lies under `[namespace:]:prefix:name:value`: like a key of a type whose
//! prefix is empty, and no type's is. So no key of a type is one of an alias, and what lists or counts a type's keys does not
//! meet them.
//!
//! To the rest of the runtime an alias entry is a value of a type of its own, [`By`], with leases and conditional fills like any
//! other. But nothing invalidates it: it may name a key whose value is another by now. So the value is read under its own
//! key, as ever, and its field compared; what does not match is as if the entry were not there.

use std::future::Future;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::handle::Handle;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::options::LoadOptions;
use crate::core::store::Store;
use crate::key::part::{KeyPart, OwnKey};
use crate::key::tag::Place;
use crate::key::writer::KeyWriter;
use crate::schema::cached_type::CachedType;
use crate::schema::guarding::BestEffort;
use crate::schema::keys::KeyOf;
use crate::schema::loaded::IntoLoaded;
use crate::schema::loaded::Loaded;
use crate::schema::policy::Policy;
use crate::verbs::loading;
use crate::verbs::loading::driver::Limits;

/// A type whose values are found by this field too. `#[cached(alias = "…")]` implements it, for each alias with its number.
#[doc(hidden)]
pub trait Aliased<const NUMBER: usize>:
    CachedType<OwnedKey: OwnKey<Owned: Serialize + DeserializeOwned>>
{
    /// The field's name.
    const NAME: &'static str;

    type Field: AliasField;

    fn field(&self) -> &Self::Field;

    /// Writes what is looked up, and what values are compared by.
    fn write(value: AliasRef<'_, Self::Field>, out: &mut KeyWriter) {
        <<Self::Field as AliasField>::Part as KeyPart>::write(value, out);
    }
}

/// A field that values can be found by: what can be part of a key, or an `Option` of it. `None` is found by nothing.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a `{Self}` can be neither an alias nor part of a tag",
    label = "can't be part of a key",
    note = "an alias, and what stands in a tag, is of a type that can be part of a key, or an `Option` of one",
    note = "a newtype of yours: add `#[derive(KeyPart)]` to it",
    note = "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string"
)]
pub trait AliasField: 'static {
    type Part: KeyPart;

    fn part(&self) -> Option<<Self::Part as KeyPart>::Ref<'_>>;
}

/// What a look-up by such a field takes.
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

/// What an alias entry holds: the key of a `T`.
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
    const POLICY: Policy = policy(T::POLICY);
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = AliasKey<T, NUMBER>;
    type Key<'k> = AliasRef<'k, T::Field>;
}

/// As the type has it, but for what it wants of its values: an alias entry is no more than a hint, and a look-up that finds
/// nothing is not remembered.
const fn policy(of: Policy) -> Policy {
    Policy {
        on_corrupt: of.on_corrupt,
        keep_corrupt: of.keep_corrupt,
        ttl_env: of.ttl_env,
        jitter_percent: of.jitter_percent,
        max_loads: of.max_loads,
        load_deadline_millis: of.load_deadline_millis,
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

/// What `get_by_…` does.
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

/// What `get_or_load_by_…` does.
#[doc(hidden)]
pub fn get_or_load_by<'s, T, const NUMBER: usize, L, E, K, Finding, F, Fut>(
    store: &'s Store,
    value: AliasRef<'_, T::Field>,
    mut find_key: K,
    mut load: F,
) -> impl Future<Output = Result<Option<T>, E>> + Send + use<'s, T, NUMBER, L, E, K, Finding, F, Fut>
where
    T: Aliased<NUMBER>,
    L: IntoLoaded<T> + Send,
    E: Send,
    K: FnMut() -> Finding + Send,
    Finding: Future<Output = Result<Option<KeyOf<T>>, E>> + Send,
    F: FnMut(KeyOf<T>) -> Fut + Send,
    Fut: Future<Output = Result<L, E>> + Send,
{
    let aliases: Handle<'s, By<T, NUMBER>> = store.of();
    let alias = aliases.bytes(value);
    async move {
        // What is there, or is looked up by another, may be from before the value changed. So where it leads to no value of
        // this alias the key is looked up once more, by this call alone, and what that leads to is the answer.
        for options in [LoadOptions::new(), LoadOptions::new().fresh()] {
            let find = |_| {
                let finding = find_key();
                async { Ok(found::<T, NUMBER>(finding.await?)) }
            };
            let looked_up = loading::get_or_load(
                store,
                alias.clone().into(),
                options,
                Limits::NONE,
                false,
                find,
            )
            .await?;
            let Some((By(key), _)) = looked_up else {
                return Ok(None);
            };
            let key = T::OwnedKey::of_owned(&key);
            let load = || load(T::OwnedKey::own(key));
            let value = store.of::<T>().get_or_load(key, load).await?;
            if let Some(value) = value.filter(|value| is_of(value, &alias, aliases)) {
                return Ok(Some(value));
            }
        }
        tracing::debug!(
            "db.collection.name" = T::PREFIX,
            alias = T::NAME,
            "the key that was found is of no such value: if the database takes several for one, `alias(with = …)` has to"
        );
        Ok(None)
    }
}

/// That there is no key is for those who asked before this look-up began. A value that gets this alias invalidates no entry of it,
/// so a later caller may know of a value that this look-up came too early for.
fn found<T: Aliased<NUMBER>, const NUMBER: usize>(key: Option<KeyOf<T>>) -> Loaded<By<T, NUMBER>> {
    key.map_or_else(Loaded::absent_by_then, |key| Loaded::value(By(key)))
}

/// Whether this is a value of the alias with these bytes.
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
    fn what_a_type_wants_of_its_values_it_does_not_of_its_aliases() {
        let both = Policy::new()
            .on_corrupt(OnCorrupt::Error)
            .keep_corrupt()
            .ttl_env("USER_TTL")
            .jitter_percent(7)
            .max_loads(3)
            .load_deadline_millis(1234);
        let of_values = both
            .show_keys()
            .hold_millis(1)
            .ttl_absent_millis(1)
            .stale_if_error_millis(1)
            .retry_after_millis(1)
            .refresh_ahead_percent(1)
            .load_timeout_millis(1)
            .sliding(1);
        assert_eq!(policy(of_values), both);
    }
}
