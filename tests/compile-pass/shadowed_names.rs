//! A crate may give the names of the standard library another meaning.

#![allow(
    dead_code,
    non_camel_case_types,
    reason = "the names are there to be in the way"
)]

use serde::{Deserialize, Serialize};

mod core {}
mod std {}
mod alloc {}
mod valkey_runtime {}

struct Option;
struct Result;
struct Vec;
struct Box;
struct Some;
struct None;
struct Ok;
struct Err;
struct Policy;
struct Ttl;
struct Prefix;
trait Copy {}
trait Send {}
trait Sync {}
trait Sized {}
trait Borrow {}
trait Cached {}
trait Keyed {}
trait KeyPart {}
trait Future {}
trait FnMut {}
struct Store;
trait From {}
trait Into {}
trait Default {}

#[derive(Serialize, Deserialize, ::valkey_runtime::KeyPart)]
struct String(u64);

#[derive(Serialize, Deserialize, ::valkey_runtime::Cached)]
#[cached(prefix = "user", ttl_env = "USER_TTL", on_corrupt = "error")]
struct User {
    #[cached(key(hash_tag))]
    id: String,
    #[cached(key(with = "whole"))]
    whole: u32,
}

fn whole(number: &u32) -> u64 {
    ::std::convert::From::from(*number)
}

#[derive(Serialize, Deserialize, ::valkey_runtime::Cached)]
#[cached(alias = "store", alias = "number")]
struct Account<L, const NUMBER: usize> {
    #[cached(key)]
    id: u64,
    store: ::std::option::Option<String>,
    number: ::std::primitive::u64,
    of: L,
}

/// The names in the code for tags do not collide with those of fields.
#[derive(Serialize, Deserialize, ::valkey_runtime::Cached)]
#[cached(tag = "key:{key}", tag = "out:{out}:{tags}", tag = "type:{type}", tags = more, clear)]
struct Tagged {
    #[cached(key)]
    key: String,
    out: ::std::option::Option<::std::string::String>,
    tags: ::std::primitive::u64,
    r#type: ::std::primitive::u8,
}

fn more(of: &Tagged) -> ::std::option::Option<&str> {
    of.out.as_deref()
}

#[derive(Serialize, Deserialize, ::valkey_runtime::Cached)]
struct Grid<T, const N: usize> {
    #[cached(key)]
    id: u64,
    cell: T,
}

fn main() {
    assert_eq!(
        <Grid<User, 2> as ::valkey_runtime::CachedType>::PREFIX,
        "grid<user,2>"
    );
}
