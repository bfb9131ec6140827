//! The versions of entries that a type reads.

/// The versions of entries that a type reads: its own, and those from which it migrates. Only
/// generated code needs it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    own: u16,
    /// Those of the type that this one migrates from.
    older: Option<&'static Versions>,
}

impl Versions {
    /// Of a type that migrates from no other.
    pub const fn of(own: u16) -> Self {
        Self { own, older: None }
    }

    /// Of a type that migrates from a type with these versions.
    pub const fn after(self, older: &'static Versions) -> Self {
        Self {
            older: Some(older),
            ..self
        }
    }

    /// Whether the type migrates from no other.
    pub(crate) const fn is_alone(self) -> bool {
        self.older.is_none()
    }

    /// Whether the type reads its own version and each earlier one, down to this one.
    pub(crate) const fn reads_each_since(self, oldest: u16) -> bool {
        let mut versions = self;
        while versions.own > oldest {
            match versions.older {
                Some(older) if older.own == versions.own - 1 => versions = *older,
                _ => return false,
            }
        }
        true
    }

    pub(crate) const fn own(self) -> u16 {
        self.own
    }

    /// Whether the type migrates from that version.
    pub(crate) fn migrates(self, version: u16) -> bool {
        self.older().any(|older| older == version)
    }

    /// The versions from which the type migrates, the latest first.
    pub(crate) fn older(self) -> impl Iterator<Item = u16> {
        std::iter::successors(self.older, |versions| versions.older).map(|versions| versions.own)
    }
}

impl From<u16> for Versions {
    fn from(own: u16) -> Self {
        Self::of(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_the_versions_of_its_types_and_no_other() {
        const FIRST: Versions = Versions::of(1);
        const THIRD: Versions = Versions::of(3).after(&FIRST);
        const FOURTH: Versions = Versions::of(4).after(&THIRD);
        let migrated: Vec<u16> = (0..6).filter(|at| FOURTH.migrates(*at)).collect();
        assert_eq!(migrated, [1, 3]);
        assert_eq!(FOURTH.older().collect::<Vec<_>>(), [3, 1]);
        assert_eq!(FOURTH.own(), 4);
        assert!(!FIRST.migrates(1));
    }

    #[test]
    fn a_chain_without_a_gap_reads_each_version() {
        const FIRST: Versions = Versions::of(1);
        const SECOND: Versions = Versions::of(2).after(&FIRST);
        const THIRD: Versions = Versions::of(3).after(&SECOND);
        const FIFTH: Versions = Versions::of(5).after(&THIRD);
        let since =
            |versions: Versions| [1, 2, 3, 5].map(|oldest| versions.reads_each_since(oldest));
        assert_eq!(since(FIRST), [true; 4]);
        assert_eq!(since(THIRD), [true; 4]);
        assert_eq!(
            since(FIFTH),
            [false, false, false, true],
            "version 4 is missing"
        );
        let alone = Versions::of(3);
        assert_eq!(since(alone), [false, false, true, true]);
    }
}
