//! Generated code gives no warning, however strict a crate is.

#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    unused_lifetimes,
    single_use_lifetimes,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    trivial_casts,
    trivial_numeric_casts,
    missing_debug_implementations,
    non_local_definitions,
    unsafe_code,
    unit_bindings,
    variant_size_differences
)]

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, CachedType, Invalid, KeyPart};

/// A number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, KeyPart)]
pub struct OrgId(u64);

/// With parts of each kind.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "member", version = 2, ttl_env = "MEMBER_TTL")]
pub struct Member {
    #[cached(key(hash_tag))]
    org: OrgId,
    #[cached(key(with = "ToString::to_string"))]
    address: std::net::IpAddr,
}

/// With all that can be said of values that grow old.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(
    stale_if_error = "1h",
    retry_after = "5s",
    refresh_ahead = "80%",
    load_timeout = "200ms",
    sliding,
    max_age = "7d"
)]
pub struct Rates(#[cached(key)] u64);

/// With a near cache.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(near = "5s")]
pub struct Near(#[cached(key)] u64);

/// With all that can be said of a near cache.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(
    ttl = "1h",
    sliding,
    max_age = "7d",
    near(ttl = "1m", max_bytes = "1MiB", stale = "1d", get_stale)
)]
pub struct Nearest(#[cached(key)] u64);

/// With rules that a trait has.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(validate)]
pub struct Validated(#[cached(key)] u64);

impl validator::Validate for Validated {
    fn validate(&self) -> Result<(), validator::ValidationErrors> {
        Ok(())
    }
}

/// With rules that a function has.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(validate = check)]
pub struct Checked(#[cached(key)] u64);

fn check(_: &Checked) -> Result<(), Invalid> {
    Ok(())
}

/// With tags of each kind, of which nobody invalidates any.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(tag = "all", tag = "org:{org}", tag = "team:{org}:{team}:{number}", tags = more, clear, hold = "1s")]
pub struct Tagged {
    #[cached(key)]
    org: OrgId,
    #[cached(key(with = "ToString::to_string"))]
    address: std::net::IpAddr,
    team: Option<String>,
    number: u64,
}

fn more(of: &Tagged) -> [&str; 0] {
    let _ = of;
    []
}

/// With those that its loaders say.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(key = u64, tags)]
pub struct Loose(u64);

/// With aliases, by which nobody looks up anything.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
pub struct Account {
    #[cached(key)]
    id: u64,
    email: Option<String>,
    #[cached(alias(with = "str::trim"))]
    name: String,
    #[cached(alias)]
    org: OrgId,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
struct Private {
    #[cached(key)]
    id: u64,
    email: String,
}

/// With parameters.
#[derive(Debug, Serialize, Deserialize, Cached)]
pub struct Page<T, const N: i128> {
    items: Vec<T>,
}

fn main() {
    #[derive(Debug, Serialize, Deserialize, Cached)]
    struct Local {
        #[cached(key)]
        id: OrgId,
    }

    assert_eq!(Member::PREFIX, "member");
    assert_eq!(Page::<Local, -1>::PREFIX, "page<local,-1>");
    let _ = (OrgId(1), Local { id: OrgId(1) }.id.0);
}
