//! What rules say of a value.

use crate::base::invalid::Invalid;

/// A rule that has no name, or one that may quote the value.
#[cfg(any(feature = "garde", feature = "validator"))]
pub(crate) const CUSTOM: &str = "custom";

/// What a function that validates may give, of a value of type `T`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a function that validates a `{T}` gives `Result<(), Invalid>`, not `{Self}`",
    label = "this function gives a `{Self}`",
    note = "it may also give what `Validate` of garde or validator gives, with that feature of `valkey-runtime`"
)]
pub trait Verdict<T> {
    /// Checks a value.
    fn of(check: impl FnOnce() -> Self) -> Self
    where
        Self: Sized,
    {
        check()
    }

    /// `fields` are the names of the type's own.
    fn judge(self, value: &T, fields: &[&'static str]) -> Result<(), Invalid>;
}

/// What the check comes to. Whatever rules of garde's it applies say their names, and not what they say to people.
pub fn validated<T, V: Verdict<T>>(
    value: &T,
    fields: &[&'static str],
    check: impl FnOnce() -> V,
) -> Result<(), Invalid> {
    V::of(check).judge(value, fields)
}

/// A value of which `#[cached(validate)]` does not say what it is validated by. That is found by what its type implements: the
/// macro writes `(&&&Rules(self)).check(…)`, and the compiler takes the first of the traits in `validators` that has an
/// implementation for as many references.
pub struct Rules<'v, T>(pub &'v T);
