//! Generated code takes no name for granted: nothing of the prelude is in scope here.

#![no_implicit_prelude]

use ::serde::{Deserialize, Serialize};
use ::valkey_runtime::{Cached, KeyPart, Shape};

#[derive(::std::clone::Clone, Serialize, Deserialize, KeyPart)]
struct UserId(::std::string::String);

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl_env = "USER_TTL", on_corrupt = "error")]
struct User {
    #[cached(key(hash_tag))]
    org: u64,
    #[cached(key)]
    id: UserId,
    #[cached(key(with = "shown"))]
    address: ::std::net::IpAddr,
}

fn shown(address: &::std::net::IpAddr) -> ::std::string::String {
    ::std::string::ToString::to_string(address)
}

#[derive(Serialize, Deserialize, Shape)]
enum Role {
    Guest,
    Member { since: u32 },
    Both(u8, u8),
}

#[derive(Serialize, Deserialize, Cached, Shape)]
#[cached(layout = "compact")]
struct Compact {
    #[cached(key)]
    id: u64,
    role: Role,
    #[shape(recursive)]
    next: ::std::option::Option<::std::boxed::Box<Compact>>,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
struct Account {
    #[cached(key)]
    id: UserId,
    email: ::std::option::Option<::std::string::String>,
    #[cached(alias(with = "doubled"))]
    number: u64,
}

fn doubled(number: u64) -> u64 {
    number * 2
}

#[derive(Serialize, Deserialize, Cached)]
struct Page<T, const N: usize> {
    items: ::std::vec::Vec<T>,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(validate)]
struct Validated(u64);

impl ::validator::Validate for Validated {
    fn validate(&self) -> ::std::result::Result<(), ::validator::ValidationErrors> {
        ::std::result::Result::Ok(())
    }
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(validate = check)]
struct Checked(u64);

fn check(_: &Checked) -> ::std::result::Result<(), ::valkey_runtime::Invalid> {
    ::std::result::Result::Ok(())
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(key = (u64, UserId), ttl = "never", keep_corrupt)]
struct Apart;

fn main() {
    ::std::assert_eq!(<Page<User, 3> as ::valkey_runtime::CachedType>::PREFIX, "page<user,3>");
}
