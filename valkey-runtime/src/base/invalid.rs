//! A value that breaks validation rules: the fields and the rules.

use std::borrow::Cow;
use std::fmt;

/// The number of violations that are kept. Further ones are only counted.
pub(crate) const MOST: usize = 16;

/// The rules that a value breaks. A function for `#[cached(validate = path::to::function)]` returns
/// it.
///
/// Fields and rules are named by texts of the program, so no part of a value gets into an error or
/// a log line.
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
    /// Includes those that are not kept.
    count: usize,
}

/// A broken rule, and its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    field: Cow<'static, str>,
    rule: &'static str,
}

impl Invalid {
    /// Reports that `field` breaks `rule`. An empty field stands for the value as a whole.
    pub fn new(field: &'static str, rule: &'static str) -> Self {
        Self::none().and(field, rule)
    }

    /// Adds another broken rule.
    #[must_use]
    pub fn and(mut self, field: &'static str, rule: &'static str) -> Self {
        self.add(|| (field.into(), rule));
        self
    }

    /// The broken rules: the first 16.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The number of all broken rules.
    pub fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn none() -> Self {
        Self {
            violations: Vec::new(),
            count: 0,
        }
    }

    pub(crate) fn add(&mut self, violation: impl FnOnce() -> (Cow<'static, str>, &'static str)) {
        self.count += 1;
        if self.violations.len() < MOST {
            let (field, rule) = violation();
            self.violations.push(Violation { field, rule });
        }
    }
}

impl Violation {
    /// The path of the field in the value: `email`, `addresses[2].street`. Empty for the value as a
    /// whole.
    ///
    /// Parts inside a map are not named, nor are fields that serde writes under another name than
    /// the program's. `…` stands for them: `labels.…`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The name of the rule: `length`, `range`, `email`. For validator it is the code. A garde rule
    /// that is a function of the application is `custom`.
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
