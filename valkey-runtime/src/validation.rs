//! Whether a value keeps the rules of its type, and what is said of one that does not: fields and rules, and nothing of the
//! value itself.
//!
//! The rules are garde's, validator's, or a function of the application's. What they say of a value becomes an [`Invalid`].
//! Their messages are not passed on, since they may quote the value, and neither are keys of maps in it: a rule is a `'static`
//! text, and a field is named by what the type says.

use std::borrow::Cow;
use std::fmt;

#[cfg(feature = "garde")]
mod by_garde;
#[cfg(feature = "validator")]
mod by_validator;
#[cfg(feature = "garde")]
mod path;

/// So many are named; the others are counted.
const MOST: usize = 16;

/// A rule that has no name, or one that may quote the value.
#[cfg(any(feature = "garde", feature = "validator"))]
const CUSTOM: &str = "custom";

/// What rules a value breaks. A function for `#[cached(validate = path::to::function)]` gives it.
///
/// It names fields and rules by texts of the program, so that nothing of a value gets into an error or a log line.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, ErrorKind, Invalid, Store};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// #[cached(prefix = "user", validate = check)]
/// struct User {
///     #[cached(key)]
///     id: u64,
///     email: String,
/// }
///
/// fn check(user: &User) -> Result<(), Invalid> {
///     match user.email.contains('@') {
///         true => Ok(()),
///         false => Err(Invalid::new("email", "has no @")),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let store = Store::memory();
/// let error = User { id: 1, email: "ada".into() }.set(&store).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// assert!(error.to_string().ends_with(": invalid: `email`: has no @"));
/// let broken = &error.invalid().unwrap().violations()[0];
/// assert_eq!((broken.field(), broken.rule()), ("email", "has no @"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    violations: Vec<Violation>,
    /// With those that are not named.
    count: usize,
}

/// A rule that a value breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    field: Cow<'static, str>,
    rule: &'static str,
}

impl Invalid {
    /// This field breaks this rule. A field that is empty stands for the value as a whole.
    pub fn new(field: &'static str, rule: &'static str) -> Self {
        Self::none().and(field, rule)
    }

    /// So does this one.
    #[must_use]
    pub fn and(mut self, field: &'static str, rule: &'static str) -> Self {
        self.add(|| (field.into(), rule));
        self
    }

    /// The rules that are broken: the first 16 of them.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How many rules are broken in all.
    pub fn count(&self) -> usize {
        self.count
    }

    fn none() -> Self {
        Self {
            violations: Vec::new(),
            count: 0,
        }
    }

    fn add(&mut self, violation: impl FnOnce() -> (Cow<'static, str>, &'static str)) {
        self.count += 1;
        if self.violations.len() < MOST {
            let (field, rule) = violation();
            self.violations.push(Violation { field, rule });
        }
    }
}

impl Violation {
    /// Where the field is in the value: `email`, `addresses[2].street`. Empty for the value as a whole.
    ///
    /// What is within a map is not named, nor what serde writes under another name than the program; `…` stands for it:
    /// `labels.…`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The name of the rule: `length`, `range`, `email`. Of validator's it is the code. A rule of garde's that is a function of the
    /// application's is `custom`.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.field {
            "" => f.write_str(self.rule),
            field => write!(f, "`{field}`: {}", self.rule),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, violation) in self.violations.iter().enumerate() {
            let comma = if at > 0 { "; " } else { "" };
            write!(f, "{comma}{violation}")?;
        }
        match self.count - self.violations.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Invalid {}

/// What a function that validates may give, of a value of type `T`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a function that validates a `{T}` gives `Result<(), Invalid>`, not `{Self}`",
    label = "this function gives a `{Self}`",
    note = "it may also give what `Validate` of garde or validator gives, with that feature of `valkey-runtime`"
)]
pub trait Verdict<T> {
    /// `fields` are the names of the type's own.
    fn judge(self, value: &T, fields: &[&'static str]) -> Result<(), Invalid>;
}

impl<T> Verdict<T> for Result<(), Invalid> {
    fn judge(self, _: &T, _: &[&'static str]) -> Result<(), Invalid> {
        self
    }
}

/// What the check comes to. Whatever rules of garde's it applies say their names, and not what they say to people.
pub fn validated<T, V: Verdict<T>>(
    value: &T,
    fields: &[&'static str],
    check: impl FnOnce() -> V,
) -> Result<(), Invalid> {
    #[cfg(feature = "garde")]
    let verdict = by_garde::naming_rules(check);
    #[cfg(not(feature = "garde"))]
    let verdict = check();
    verdict.judge(value, fields)
}

/// A value of which `#[cached(validate)]` does not say what it is validated by. That is found by what its type implements: the
/// macro writes `(&&&Rules(self)).check(…)`, and the compiler takes the first of the traits in [`validators`] that has an
/// implementation for as many references.
pub struct Rules<'v, T>(pub &'v T);

/// The traits of which one is taken.
pub mod validators {
    use super::{Invalid, Rules};

    #[cfg(all(feature = "garde", feature = "validator"))]
    pub use super::both::ByBoth;
    #[cfg(feature = "garde")]
    pub use super::by_garde::ByGarde;
    #[cfg(feature = "validator")]
    pub use super::by_validator::ByValidator;

    /// The last resort, which says what is missing.
    #[doc(hidden)]
    pub trait ByNothing<T> {
        fn check(&self, fields: &[&'static str]) -> Result<(), Invalid>
        where
            T: super::HasRules;
    }

    impl<T> ByNothing<T> for Rules<'_, T> {
        fn check(&self, _: &[&'static str]) -> Result<(), Invalid>
        where
            T: super::HasRules,
        {
            self.0.never()
        }
    }
}

/// No type implements it.
#[cfg_attr(
    not(any(feature = "garde", feature = "validator")),
    diagnostic::on_unimplemented(
        message = "there is nothing to validate `{Self}` by",
        label = "needs the feature `garde` or `validator` of `valkey-runtime`",
        note = "turn on the feature of the one whose `Validate` is derived for `{Self}`",
        note = "or name a function, from `&{Self}` to `Result<(), Invalid>`: `#[cached(validate = path::to::function)]`"
    )
)]
#[cfg_attr(
    any(feature = "garde", feature = "validator"),
    diagnostic::on_unimplemented(
        message = "there is nothing to validate `{Self}` by",
        label = "`{Self}` has no `Validate` of garde's (with a `Context` that is `Default`) or validator's",
        note = "derive `garde::Validate` or `validator::Validate` for it, with that feature of `valkey-runtime`",
        note = "or name a function, from `&{Self}` to `Result<(), Invalid>`: `#[cached(validate = path::to::function)]`"
    )
)]
pub trait HasRules {
    fn never(&self) -> Result<(), Invalid>;
}

#[cfg(all(feature = "garde", feature = "validator"))]
mod both {
    use super::{Invalid, Rules};

    /// A type with rules of both kinds has to say which.
    #[doc(hidden)]
    pub trait ByBoth<T> {
        fn check(&self, fields: &[&'static str]) -> Result<(), Invalid>
        where
            T: RulesOfOneKind;
    }

    impl<T: garde::Validate + validator::Validate> ByBoth<T> for &&Rules<'_, T> {
        fn check(&self, _: &[&'static str]) -> Result<(), Invalid>
        where
            T: RulesOfOneKind,
        {
            self.0.never()
        }
    }

    /// No type implements it.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can be validated by garde and by validator",
        label = "which of the two?",
        note = "write `#[cached(validate = garde::Validate::validate)]` or `#[cached(validate = validator::Validate::validate)]`"
    )]
    pub trait RulesOfOneKind {
        fn never(&self) -> Result<(), Invalid>;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_is_named_by_field_and_rule() {
        let invalid = Invalid::new("email", "has no @").and("", "two names");
        assert_eq!(invalid.to_string(), "`email`: has no @; two names");
        assert_eq!(invalid.count(), 2);
    }

    #[test]
    fn no_more_is_named_than_a_person_reads() {
        let invalid = (0..100).fold(Invalid::none(), |invalid, _| invalid.and("a", "b"));
        assert_eq!((invalid.violations().len(), invalid.count()), (MOST, 100));
        assert!(invalid.to_string().ends_with("; `a`: b; and 84 more"));
    }
}
