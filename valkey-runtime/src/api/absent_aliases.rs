//! The end of the absences of aliases, after a write that created a value with them.

use std::future::Future;

use crate::api::handle::Handle;
use crate::base::error::Result;
use crate::key::aliases::{Alias, AliasKeys};
use crate::schema::cached_type::CachedType;
use crate::verbs::delete::Remover;

impl<'s, T: CachedType> Handle<'s, T> {
    /// The keys of the alias entries that may record the absence of this value.
    pub(crate) fn alias_keys(&self, value: &T) -> Vec<Vec<u8>> {
        if !T::ALIAS_ABSENCES {
            return Vec::new();
        }
        let mut out = AliasKeys {
            namespace: &self.store.inner().namespace,
            keys: Vec::new(),
        };
        value.write_aliases(&mut out);
        out.keys
    }

    /// Ends the absences of these aliases, after a write elsewhere has created a value with them.
    /// No look-up that began before is then stored.
    ///
    /// # Errors
    /// If the server did not confirm it. It is then delivered later.
    pub fn del_aliases<I>(
        self,
        aliases: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, T, I>
    where
        I: IntoIterator<Item = Alias<T>>,
    {
        let inner = self.store.inner();
        let aliases = aliases.into_iter();
        let keys: Vec<_> = aliases
            .map(|alias| alias.key_in(&inner.namespace))
            .collect();
        async move { Remover(inner).end_absences(&keys, self.of()).await }
    }
}
