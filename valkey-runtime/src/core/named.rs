//! The keys and the errors of what has a name and no type: a counter, a lock.
//!
//! A key is `[namespace:]::KIND:NAME:KEY`, beside the keys of the tags. It belongs to no type: no
//! scan or purge finds it, and no near cache depends on it.

use std::sync::Arc;

use crate::base::error::{Error, ErrorKind, Result};
use crate::core::failures::Failures;
use crate::core::inner::Inner;
use crate::key::part::KeyPart;
use crate::key::tag::SPACE;
use crate::key::writer::KeyWriter;

#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// With a colon at its end.
    pub(crate) kind: &'static str,
    pub(crate) name: Arc<str>,
}

impl Named {
    /// The key, with the namespace.
    pub(crate) fn key<K: KeyPart>(&self, namespace: &str, key: K::Ref<'_>) -> Vec<u8> {
        let mut out = KeyWriter::bare(namespace.len() + self.name.len() + 48);
        out.text(namespace);
        out.text(SPACE);
        out.text(self.kind);
        out.part(&self.name);
        K::write(key, &mut out);
        out.into_bytes()
    }

    /// Counts a failure, and returns it with the operation and the key. The name stands for a type.
    pub(crate) fn failed(
        &self,
        inner: &Inner,
        operation: &'static str,
        key: &[u8],
        error: Error,
    ) -> Error {
        let keys = inner.types.keys().of_type(&self.name, false, false);
        Failures(inner).failed(error.at(operation, keys.told(key)))
    }

    /// The error of a key that holds something else.
    pub(crate) fn foreign(what: &str) -> Error {
        let message = format!(
            "the key holds something else than {what}: it was left as it is; choose another name, or delete the key by hand"
        );
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// An error while the store is switched off. A miss would be an answer of a cache, and a count or a
/// lock has no such answer.
pub(crate) fn switched_on(inner: &Inner) -> Result<()> {
    match inner.is_enabled() {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Disabled,
            "the store is switched off, and counters and locks have no other place: switch it on by `Store::set_enabled`",
        )),
    }
}
