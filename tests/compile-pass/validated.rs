//! Types whose values are validated, by whatever.

#![deny(warnings)]

use garde::Validate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, CachedType, Invalid};

/// Its own method is not hidden by what the derive adds, although both traits are in scope.
#[derive(Serialize, Deserialize, Cached, Validate)]
#[cached(prefix = "user", validate)]
struct User {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(length(max = 5))]
    r#type: String,
}

#[derive(Serialize, Deserialize, Cached, validator::Validate)]
#[cached(validate)]
struct Account {
    #[cached(key)]
    id: u64,
    #[validate(range(max = 1))]
    number: u64,
}

/// It has to have rules where its parameter has some.
#[derive(Serialize, Deserialize, Cached, Validate)]
#[serde(bound = "T: Serialize + DeserializeOwned")]
#[cached(validate)]
struct Page<T: Validate<Context = ()>>(#[garde(dive)] Vec<T>);

#[derive(Serialize, Deserialize, Cached, Validate)]
#[cached(validate)]
struct Named(#[garde(length(max = 5))] String);

/// The context of rules may be made by `Default`.
#[derive(Serialize, Deserialize, Cached, Validate)]
#[garde(context(Limits as limits))]
#[cached(validate)]
struct Limited {
    #[garde(range(max = limits.0))]
    number: u64,
}

#[derive(Default)]
struct Limits(u64);

#[derive(Serialize, Deserialize, Cached)]
#[cached(validate = "Checked::check")]
struct Checked;

impl Checked {
    fn check(&self) -> Result<(), Invalid> {
        Err(Invalid::new("", "nothing will do"))
    }
}

fn broken(value: &impl Cached) -> String {
    value.cache_validate().unwrap_err().to_string()
}

fn main() {
    let user = |name: &str| User {
        id: 1,
        r#type: name.into(),
    };
    assert!(user("Ada").validate().is_ok());
    assert!(user("Ada").cache_validate().is_ok());
    assert_eq!(broken(&user("Grace Hopper")), "`type`: length");
    assert_eq!(broken(&Account { id: 1, number: 2 }), "`number`: range");
    let page = Page(vec![user("Ada"), user("Grace Hopper")]);
    assert_eq!(broken(&page), "`[0].…`: length");
    assert_eq!(broken(&Named("Grace Hopper".into())), "`[0]`: length");
    assert_eq!(broken(&Limited { number: 1 }), "`number`: range");
    assert_eq!(broken(&Checked), "nothing will do");
}
