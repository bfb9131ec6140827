//! Rules of validator.
//!
//! Its errors name each rule by a code, and also contain the value. Codes and field names are
//! static texts of the program, unless they are built at run time: then they may contain data.

use std::borrow::Cow;

use validator::{Validate, ValidationErrors, ValidationErrorsKind};

use crate::base::invalid::Invalid;
use crate::schema::rules::{CUSTOM, Rules, Verdict, validated};

#[doc(hidden)]
pub trait ByValidator {
    fn check(&self, fields: &[&'static str]) -> Result<(), Invalid>;
}

impl<T: Validate> ByValidator for &Rules<'_, T> {
    fn check(&self, fields: &[&'static str]) -> Result<(), Invalid> {
        validated(self.0, fields, || self.0.validate())
    }
}

impl<T> Verdict<T> for Result<(), ValidationErrors> {
    fn judge(self, _: &[&'static str]) -> Result<(), Invalid> {
        self.map_err(|errors| {
            let mut invalid = Invalid::none();
            add(&errors, "", &mut invalid);
            invalid
        })
    }
}

/// validator's name for the value as a whole.
const WHOLE: &str = "__all__";

/// Adds the errors in the order of their names, since they have no order.
fn add(errors: &ValidationErrors, within: &str, invalid: &mut Invalid) {
    let mut fields: Vec<_> = errors.errors().iter().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    for (name, errors) in fields {
        let path = || match (name, within) {
            (Cow::Borrowed(WHOLE), within) => within.to_owned(),
            (Cow::Borrowed(name), "") => (*name).to_owned(),
            (Cow::Borrowed(name), within) => format!("{within}.{name}"),
            (Cow::Owned(_), "") => "…".to_owned(),
            (Cow::Owned(_), within) => format!("{within}.…"),
        };
        match errors {
            ValidationErrorsKind::Struct(errors) => add(errors, &path(), invalid),
            ValidationErrorsKind::List(list) => {
                for (at, errors) in list {
                    add(errors, &format!("{}[{at}]", path()), invalid);
                }
            }
            ValidationErrorsKind::Field(errors) => {
                for error in errors {
                    let rule = match error.code {
                        Cow::Borrowed(code) => code,
                        Cow::Owned(_) => CUSTOM,
                    };
                    invalid.add(|| (path().into(), rule));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use validator::ValidationError;

    use super::*;
    use crate::base::invalid::Violation;

    #[derive(Validate)]
    #[validate(schema(function = "as_a_whole", skip_on_field_errors = false))]
    struct Sample {
        #[validate(length(min = 9), custom(function = "quoting"))]
        name: String,
        #[validate(nested)]
        homes: Vec<Home>,
        #[validate(nested)]
        by_name: HashMap<String, Home>,
        #[validate(nested)]
        home: Home,
    }

    #[derive(Clone, Validate)]
    struct Home {
        #[validate(length(min = 9, code = "too short", message = "a street has nine letters"))]
        street: String,
    }

    fn quoting(value: &str) -> Result<(), ValidationError> {
        let mut error = ValidationError::new("quoting");
        error.code = format!("no {value}").into();
        Err(error.with_message(format!("`{value}` is refused").into()))
    }

    fn as_a_whole(_: &Sample) -> Result<(), ValidationError> {
        Err(ValidationError::new("as a whole"))
    }

    fn broken(secret: &str) -> (Vec<(String, &'static str)>, String) {
        let home = Home {
            street: secret.into(),
        };
        let good = Home {
            street: "123456789".into(),
        };
        let sample = Sample {
            name: secret.into(),
            homes: vec![good, home.clone()],
            by_name: HashMap::from([(secret.into(), home.clone())]),
            home,
        };
        let invalid = validated(&sample, &[], || sample.validate()).unwrap_err();
        let named = |broken: &Violation| (broken.field().to_owned(), broken.rule());
        let named = invalid.violations().iter().map(named).collect();
        (named, format!("{invalid} {invalid:?}"))
    }

    #[test]
    fn fields_and_codes_are_named_and_nothing_of_the_value() {
        let expected = [
            ("", "as a whole"),
            ("by_name[0].street", "too short"),
            ("home.street", "too short"),
            ("homes[1].street", "too short"),
            ("name", "length"),
            ("name", "custom"),
        ];
        let expected = expected.map(|(field, rule)| (field.to_owned(), rule));
        let (named, text) = broken("hunter2");
        assert_eq!(named, expected);
        assert!(!text.contains("hunter"), "{text}");
        for secret in ["", "name", "length", "[0]", "a.b"] {
            assert_eq!(broken(secret).0, expected, "{secret}");
        }
    }

    #[test]
    fn names_that_somebody_made_are_not_passed_on() {
        let mut errors = ValidationErrors::new();
        let broken = ValidationErrorsKind::Field(vec![ValidationError::new("range")]);
        let name = Cow::Owned("hunter2".to_owned());
        errors.errors_mut().insert(name, broken);
        let invalid = Verdict::<Sample>::judge(Err(errors), &[]).unwrap_err();
        assert_eq!(invalid.to_string(), "`…`: range");
    }
}
