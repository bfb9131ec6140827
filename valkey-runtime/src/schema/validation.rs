//! Checks the rules of a type, and reports broken ones by field and rule, without any part of the
//! value.
//!
//! The rules are those of garde or validator, or a function of the application. Their results
//! become an [`Invalid`]. Messages and map keys are dropped, since they may quote the value. A rule
//! is a `'static` text, and a field is named as in the type.

use crate::base::invalid::Invalid;
use crate::schema::rules::{Rules, Verdict};
#[cfg(feature = "garde")]
pub(crate) mod by_garde;
#[cfg(feature = "validator")]
pub(crate) mod by_validator;

impl<T> Verdict<T> for Result<(), Invalid> {
    /// A function of the application may call garde.
    #[cfg(feature = "garde")]
    fn of(check: impl FnOnce() -> Self) -> Self {
        by_garde::naming_rules(check)
    }

    fn judge(self, _: &[&'static str]) -> Result<(), Invalid> {
        self
    }
}

/// The traits among which the compiler chooses.
pub mod validators {
    use super::{Invalid, Rules};

    #[cfg(all(feature = "garde", feature = "validator"))]
    pub use super::both::ByBoth;
    #[cfg(feature = "garde")]
    pub use crate::schema::validation::by_garde::ByGarde;
    #[cfg(feature = "validator")]
    pub use crate::schema::validation::by_validator::ByValidator;

    /// The fallback, whose error says that a validator is missing.
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

/// No type implements it. It carries the compiler's message.
#[cfg_attr(
    not(any(feature = "garde", feature = "validator")),
    diagnostic::on_unimplemented(
        message = "`{Self}` has no rules to validate it by",
        label = "needs the feature `garde` or `validator` of `valkey-runtime`",
        note = "enable the feature of the crate whose `Validate` is derived for `{Self}`",
        note = "or name a function, from `&{Self}` to `Result<(), Invalid>`: `#[cached(validate = path::to::function)]`"
    )
)]
#[cfg_attr(
    any(feature = "garde", feature = "validator"),
    diagnostic::on_unimplemented(
        message = "`{Self}` has no rules to validate it by",
        label = "`{Self}` implements neither garde's `Validate` (with a `Context` that is `Default`) nor validator's",
        note = "derive `garde::Validate` or `validator::Validate` for it, and enable that feature of `valkey-runtime`",
        note = "or name a function, from `&{Self}` to `Result<(), Invalid>`: `#[cached(validate = path::to::function)]`"
    )
)]
pub trait HasRules {
    fn never(&self) -> Result<(), Invalid>;
}

#[cfg(all(feature = "garde", feature = "validator"))]
mod both {
    use super::{Invalid, Rules};

    /// Rejects a type with rules of both crates, which must name one of them.
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

    /// No type implements it. It carries the compiler's message.
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
    use crate::base::invalid::MOST;

    #[test]
    fn an_error_names_each_field_and_broken_rule() {
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
