//! Rules of garde.
//!
//! garde reports a path and a message for each broken rule, but not the rule's name. Its messages
//! come from a replaceable translation (`I18n`); this module supplies one whose messages are the
//! rules' names. Any other message comes from a function of the application and may quote the
//! value.

use std::borrow::Cow;
use std::fmt::Display;

use garde::i18n::{I18n, InvalidCreditCard, InvalidEmail, InvalidPhoneNumber, InvalidUrl, IpKind};
use garde::{Report, Validate};

use crate::base::invalid::Invalid;
use crate::schema::rules::{CUSTOM, Rules, Verdict, validated};

#[doc(hidden)]
pub trait ByGarde {
    fn check(&self, fields: &[&'static str]) -> Result<(), Invalid>;
}

impl<T> ByGarde for &Rules<'_, T>
where
    T: Validate<Context: Default>,
{
    fn check(&self, fields: &[&'static str]) -> Result<(), Invalid> {
        validated(self.0, fields, || self.0.validate())
    }
}

impl<T> Verdict<T> for Result<(), Report> {
    fn of(check: impl FnOnce() -> Self) -> Self {
        naming_rules(check)
    }

    fn judge(self, fields: &[&'static str]) -> Result<(), Invalid> {
        let Err(report) = self else {
            return Ok(());
        };
        let mut invalid = Invalid::none();
        for (at, error) in report.iter() {
            invalid.add(|| (shown(fields, &at.to_string()), rule(error.message())));
        }
        Err(invalid)
    }
}

/// Replaces the part of a path that may be data: garde writes field names and map keys in the same
/// way.
const HIDDEN: &str = "…";

/// A path as it may be shown: the field of the type itself. The derive knows the fields' names.
fn shown(fields: &[&'static str], path: &str) -> Cow<'static, str> {
    // A field of a tuple struct is written `[0]`.
    let of_tuple = path.strip_prefix('[').and_then(|path| path.split_once(']'));
    let (name, rest) =
        of_tuple.unwrap_or_else(|| path.split_at(path.find(['.', '[']).unwrap_or(path.len())));
    let name = name.strip_prefix("r#").unwrap_or(name);
    match fields.iter().find(|field| **field == name) {
        None if path.is_empty() => Cow::Borrowed(""),
        None => Cow::Borrowed(HIDDEN),
        Some(field) => match (of_tuple.is_some(), rest.is_empty()) {
            (false, true) => Cow::Borrowed(field),
            (false, false) => Cow::Owned(format!("{field}.{HIDDEN}")),
            (true, true) => Cow::Owned(format!("[{field}]")),
            (true, false) => Cow::Owned(format!("[{field}].{HIDDEN}")),
        },
    }
}

/// The rule with this name. Returns the static name and never the message.
fn rule(message: &str) -> &'static str {
    let known = RULES.into_iter().find(|rule| *rule == message);
    known.unwrap_or(CUSTOM)
}

/// Runs a function while garde's messages are the names of the rules.
pub(crate) fn naming_rules<R>(check: impl FnOnce() -> R) -> R {
    garde::i18n::with_i18n(Names, check)
}

struct Names;

/// Makes each message the name of its rule. Several messages may belong to one rule.
macro_rules! names {
    ($($method:ident($($argument:ty),*) => $rule:literal)*) => {
        const RULES: [&str; [$($rule),*].len()] = [$($rule),*];

        impl I18n for Names {
            $(
                fn $method(&self $(, _: $argument)*) -> Cow<'static, str> {
                    Cow::Borrowed($rule)
                }
            )*
        }
    };
}

names! {
    length_lower_than(usize) => "length"
    length_greater_than(usize) => "length"
    range_lower_than(&dyn Display) => "range"
    range_greater_than(&dyn Display) => "range"
    credit_card_invalid(InvalidCreditCard) => "credit_card"
    pattern_no_match(&dyn Display) => "pattern"
    contains_missing(&dyn Display) => "contains"
    url_invalid(InvalidUrl) => "url"
    prefix_missing(&dyn Display) => "prefix"
    suffix_missing(&dyn Display) => "suffix"
    phone_number_invalid(InvalidPhoneNumber) => "phone_number"
    ip_invalid(IpKind) => "ip"
    matches_field_mismatch(&dyn Display) => "matches"
    email_invalid(InvalidEmail) => "email"
    ascii_invalid() => "ascii"
    alphanumeric_invalid() => "alphanumeric"
    required_not_set() => "required"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::invalid::Violation;

    /// In each field a value that must not be shown breaks a rule.
    #[derive(Validate)]
    struct Sample {
        #[garde(length(min = 9))]
        name: String,
        #[garde(range(max = 1))]
        number: u64,
        #[garde(inner(ascii))]
        all_words: Vec<String>,
        #[garde(dive)]
        two_homes: [Home; 2],
        #[garde(dive)]
        labels: BTreeMap<String, Home>,
        #[garde(dive)]
        by_number: BTreeMap<usize, Home>,
        #[garde(dive)]
        maybe: Option<Named>,
        #[garde(custom(quoting))]
        quoted: String,
        #[garde(matches(name))]
        again: String,
        #[garde(length(max = self.number as usize))]
        bounded: String,
    }

    #[derive(Clone, Validate)]
    struct Home {
        #[garde(length(min = 9))]
        the_street: String,
        #[garde(length(min = 9))]
        post_code: String,
    }

    #[derive(Validate)]
    struct Named(#[garde(alphanumeric)] String, #[garde(dive)] Vec<Home>);

    fn quoting(value: &str, _: &()) -> garde::Result {
        Err(garde::Error::new(format!("`{value}` is refused")))
    }

    fn sample(secret: &str) -> Sample {
        let home = Home {
            the_street: secret.into(),
            post_code: "123456789".into(),
        };
        let bad = Home {
            post_code: secret.into(),
            ..home.clone()
        };
        Sample {
            name: secret.into(),
            number: 4711,
            all_words: vec!["word".into(), format!("{secret}é")],
            two_homes: [home.clone(), bad],
            labels: BTreeMap::from([(secret.into(), home.clone())]),
            by_number: BTreeMap::from([(4711, home.clone())]),
            maybe: Some(Named(format!("{secret}!"), vec![home])),
            quoted: secret.into(),
            again: "again".into(),
            bounded: secret.repeat(4711),
        }
    }

    const FIELDS: [&str; 10] = [
        "name",
        "number",
        "all_words",
        "two_homes",
        "labels",
        "by_number",
        "maybe",
        "quoted",
        "again",
        "bounded",
    ];

    fn broken(value: &Sample) -> Vec<(String, &'static str)> {
        let invalid = validated(value, &FIELDS, || value.validate()).unwrap_err();
        let named = |broken: &Violation| (broken.field().to_owned(), broken.rule());
        let mut named: Vec<_> = invalid.violations().iter().map(named).collect();
        named.sort_unstable();
        named
    }

    #[test]
    fn the_field_of_the_type_and_the_rule_are_named() {
        let expected = [
            ("again", "matches"),
            ("all_words.…", "ascii"),
            ("bounded", "length"),
            ("by_number.…", "length"),
            ("labels.…", "length"),
            ("maybe.…", "alphanumeric"),
            ("maybe.…", "length"),
            ("name", "length"),
            ("number", "range"),
            ("quoted", "custom"),
            ("two_homes.…", "length"),
            ("two_homes.…", "length"),
            ("two_homes.…", "length"),
        ];
        let expected = expected.map(|(field, rule)| (field.to_owned(), rule));
        assert_eq!(broken(&sample("hunt")), expected);
    }

    #[test]
    fn nothing_of_the_value_is_named() {
        // Also for values that look like part of a path, a rule or a field name.
        let same = broken(&sample("hunt"));
        for secret in [
            "a.b", "[0]", "x[", "é…", "r#x", ".", "length", "name", "the_stre", "",
        ] {
            let broken = broken(&sample(secret));
            let differs = broken.iter().filter(|one| !same.contains(one));
            // A message that equals the name of a rule reveals only that.
            let differs: Vec<_> = differs.filter(|(field, _)| field != "maybe.…").collect();
            assert!(differs.is_empty(), "{secret}: {differs:?}");
        }
    }

    #[test]
    fn a_path_is_shown_as_far_as_its_field() {
        let fields = &["0", "name", "type"];
        for (path, expected) in [
            ("", ""),
            ("name", "name"),
            ("r#type", "type"),
            ("name.first", "name.…"),
            ("name[3].first", "name.…"),
            ("[0]", "[0]"),
            ("[0][7]", "[0].…"),
            ("[1]", "…"),
            ("hunter2", "…"),
            ("[", "…"),
        ] {
            assert_eq!(shown(fields, path), expected, "{path}");
        }
    }

    #[test]
    fn every_rule_has_its_name() {
        #[derive(Validate)]
        struct Every {
            #[garde(
                ascii,
                ip,
                contains("x"),
                prefix("x"),
                suffix("x"),
                length(max = 1),
                alphanumeric
            )]
            text: String,
            #[garde(required)]
            optional: Option<u8>,
        }
        let every = Every {
            text: "é!".into(),
            optional: None,
        };
        let invalid = validated(&every, &["text", "optional"], || every.validate()).unwrap_err();
        let mut rules: Vec<_> = invalid.violations().iter().map(Violation::rule).collect();
        rules.sort_unstable();
        let expected = [
            "alphanumeric",
            "ascii",
            "contains",
            "ip",
            "length",
            "prefix",
            "required",
            "suffix",
        ];
        assert_eq!(rules, expected);
    }

    #[test]
    fn a_report_from_elsewhere_names_no_rule() {
        let value = sample("hunter2");
        let report = value.validate();
        let invalid = Verdict::<Sample>::judge(report, &FIELDS).unwrap_err();
        assert!(
            invalid
                .violations()
                .iter()
                .all(|broken| broken.rule() == CUSTOM)
        );
        let unknown = Verdict::<Sample>::judge(sample("hunter2").validate(), &[]).unwrap_err();
        assert!(
            unknown
                .violations()
                .iter()
                .all(|broken| broken.field() == "…")
        );
    }
}
