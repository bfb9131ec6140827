//! The cached types of this program, as far as the linker knows them.
//!
//! The derive registers each type that has no parameters, with its place in the source. When a
//! store opens, types that must not share a prefix are found, though neither has been used. A
//! generic type and a type implemented by hand are not registered: they are compared when they are
//! first used.

use std::fmt;
use std::sync::LazyLock;

use crate::protocol::versions::Versions;

/// A type with `#[derive(Cached)]`, and its place in the source. Only generated code needs it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registered {
    prefix: &'static str,
    versions: Versions,
    ttl_env: Option<&'static str>,
    name: fn() -> &'static str,
    file: &'static str,
    line: u32,
}

inventory::collect!(Registered);

impl Registered {
    /// The type of this name, whose derive is at this place. It is not a type parameter: a type
    /// whose key is refused would cause a second error here.
    pub const fn new(
        name: fn() -> &'static str,
        prefix: &'static str,
        versions: Versions,
        ttl_env: Option<&'static str>,
        file: &'static str,
        line: u32,
    ) -> Self {
        Self {
            prefix,
            versions,
            ttl_env,
            name,
            file,
            line,
        }
    }

    /// The variable that overrides its TTL.
    pub(crate) fn ttl_env(&self) -> Option<&'static str> {
        self.ttl_env
    }
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}:{})", (self.name)(), self.file, self.line)
    }
}

/// All registered types, in no order.
pub(crate) fn types() -> impl Iterator<Item = &'static Registered> {
    inventory::iter::<Registered>()
}

/// Whether the type of this name is registered.
pub(crate) fn has(name: &str) -> bool {
    types().any(|registered| (registered.name)() == name)
}

/// One text for each two registered types with one prefix that are not in one chain of migrations.
pub(crate) fn conflicts() -> &'static [String] {
    static CONFLICTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut all: Vec<_> = types().collect();
        all.sort_by_key(|of| (of.prefix, of.versions.own(), of.file, of.line));
        let mut found = Vec::new();
        for (at, one) in all.iter().enumerate() {
            let others = all[at + 1..].iter();
            for other in others.take_while(|other| other.prefix == one.prefix) {
                if !share_a_chain(one.versions, other.versions) {
                    found.push(conflict(one.prefix, one, other));
                }
            }
        }
        found
    });
    &CONFLICTS
}

/// Whether one of two types with the same prefix migrates from the other.
pub(crate) fn share_a_chain(one: Versions, other: Versions) -> bool {
    one.migrates(other.own()) || other.migrates(one.own())
}

/// The text about two types that share a prefix and no chain.
pub(crate) fn conflict(prefix: &str, one: impl fmt::Display, other: impl fmt::Display) -> String {
    format!(
        "{one} and {other} have the same prefix {prefix:?}, and neither migrates from the other: \
         they read and overwrite each other's entries. Write another `prefix`, or `migrate_from`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_shared_from_either_end() {
        const FIRST: Versions = Versions::of(1);
        const SECOND: Versions = Versions::of(2).after(&FIRST);
        assert!(share_a_chain(FIRST, SECOND) && share_a_chain(SECOND, FIRST));
        assert!(!share_a_chain(FIRST, FIRST));
        assert!(!share_a_chain(Versions::of(3), SECOND));
    }
}
