//! Detects whether a cached type can be cloned.
//!
//! [`Cached`](crate::Cached) does not require `Clone`, and the derive can't see whether a type has
//! it. So it calls `try_clone` through a reference. The compiler chooses the implementation that
//! needs fewer references, if it applies.

/// The value to clone.
pub struct Cloning<'v, T>(pub &'v T);

/// The implementations, of which the compiler chooses the first that applies.
pub mod clones {
    use super::Cloning;

    /// For types that can be cloned.
    pub trait ByClone<T> {
        /// A copy.
        fn try_clone(&self) -> Option<T>;
    }

    impl<T: Clone> ByClone<T> for Cloning<'_, T> {
        fn try_clone(&self) -> Option<T> {
            Some(self.0.clone())
        }
    }

    /// For all other types.
    pub trait ByNothing<T> {
        /// Returns `None`.
        fn try_clone(&self) -> Option<T>;
    }

    impl<T> ByNothing<T> for &Cloning<'_, T> {
        fn try_clone(&self) -> Option<T> {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cloning;
    use super::clones::*;

    #[derive(Clone, Debug, PartialEq)]
    struct With(u8);

    #[derive(Debug, PartialEq)]
    struct Without;

    #[test]
    #[expect(
        clippy::needless_borrow,
        reason = "the reference distinguishes the two ways"
    )]
    fn a_type_is_cloned_if_it_can_be() {
        assert_eq!((&Cloning(&With(7))).try_clone(), Some(With(7)));
        assert_eq!((&Cloning(&Without)).try_clone(), None);
    }
}
