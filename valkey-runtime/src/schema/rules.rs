//! The results of validation rules.

use crate::base::invalid::Invalid;

/// The name of a rule that has none, or whose name might quote the value.
#[cfg(any(feature = "garde", feature = "validator"))]
pub(crate) const CUSTOM: &str = "custom";

/// A result that a validating function of `T` may return.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a function that validates a `{T}` returns `Result<(), Invalid>`, not `{Self}`",
    label = "this function returns a `{Self}`",
    note = "with the feature `garde` or `validator` of `valkey-runtime` it may also return the result of their `Validate`"
)]
pub trait Verdict<T> {
    /// Checks a value.
    fn of(check: impl FnOnce() -> Self) -> Self
    where
        Self: Sized,
    {
        check()
    }

    /// Converts the result. `fields` are the names of the type's own fields.
    fn judge(self, fields: &[&'static str]) -> Result<(), Invalid>;
}

/// Runs the check and converts its result. While it runs, garde's messages are the names of the
/// rules.
pub fn validated<T, V: Verdict<T>>(
    _: &T,
    fields: &[&'static str],
    check: impl FnOnce() -> V,
) -> Result<(), Invalid> {
    V::of(check).judge(fields)
}

/// A value whose `#[cached(validate)]` names no function. The traits of its type decide: the macro
/// writes `(&&&Rules(self)).check(…)`, and the compiler chooses the first trait in `validators`
/// with an implementation for that many references.
pub struct Rules<'v, T>(pub &'v T);
