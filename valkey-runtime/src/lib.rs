#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("lib.md")]
#![cfg_attr(feature = "garde", doc = "```")]
#![cfg_attr(not(feature = "garde"), doc = "```ignore")]
#![doc = include_str!("lib_garde.md")]
#![cfg_attr(feature = "validator", doc = "```")]
#![cfg_attr(not(feature = "validator"), doc = "```ignore")]
#![doc = include_str!("lib_validator.md")]

#[cfg(all(test, feature = "derive"))]
extern crate self as valkey_runtime;

mod api;
mod backend;
mod base;
mod config;
mod core;
pub mod counter;
#[cfg(any(doc, all(doctest, feature = "derive")))]
pub mod guides;
#[cfg(feature = "http")]
pub mod http;
mod key;
pub mod limit;
pub mod lock;
#[cfg(test)]
mod model;
mod observe;
mod protocol;
mod schema;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod value;
mod verbs;

pub use crate::api::batch::{Batch, BatchResults};
pub use crate::api::cached::Cached;
pub use crate::api::handle::Handle;
pub use crate::backend::invalidations::Invalidations;
pub use crate::base::clock::{Clock, ManualClock, Random};
pub use crate::base::error::{Error, ErrorKind, Result};
pub use crate::base::invalid::{Invalid, Violation};
pub use crate::base::shown_keys::KeyTracing;
pub use crate::base::ttl::{Ttl, TtlError};
pub use crate::config::Builder;
pub use crate::core::entry::{Entry, Source, Stamp};
pub use crate::core::modify_options::ModifyOptions;
pub use crate::core::options::{LoadError, SetOptions, UpdateReport};
pub use crate::core::store::Store;
pub use crate::key::aliases::Alias;
pub use crate::key::part::{KeyFrom, KeyPart, OwnKey};
pub use crate::key::read::{KeyReader, ReadKey};
pub use crate::key::tag::Tag;
#[doc(hidden)]
pub use crate::key::tag::TagWriter;
pub use crate::key::writer::KeyWriter;
pub use crate::observe::stats::{Stats, TypeStats};
pub use crate::protocol::breaker::BreakerState;
pub use crate::schema::cached_type::{CachedType, Keyed};
pub use crate::schema::cached_type::{Clearable, Tagged};
pub use crate::schema::change::{Change, IntoChange, ModifyError};
pub use crate::schema::guarding::{BestEffort, Guarding, Strict, UpdateError};
pub use crate::schema::invalidation::{
    InvalidatedKey, InvalidatedTag, InvalidatedType, Invalidation,
};
pub use crate::schema::keys::KeyOf;
pub use crate::schema::keys::ReadKeyOf;
pub use crate::schema::loaded::{IntoLoaded, IntoRow, Loaded, Stale};
pub use crate::schema::policy::{Compression, OnCorrupt, Policy};
pub use crate::schema::prefix::PrefixPart;
pub use crate::schema::shape::Shape;
pub use crate::schema::shape::fingerprint::Fingerprint;
#[cfg(feature = "encrypt")]
pub use crate::value::keys::EncryptionKeys;
pub use crate::value::shown::Redacted;
pub use crate::verbs::scan::{Purged, Scan, ScanOptions};
pub use crate::verbs::update::Guard;
#[cfg(feature = "derive")]
pub use valkey_derive::{Cached, KeyPart, Shape, cached_fn};

/// Loads of one key, of many keys and by an alias: the builder that [`Handle::load`] returns, and
/// its choices.
pub mod load {
    pub use crate::api::alias::ByAlias;
    pub use crate::api::choices::{
        Bypass, EachOf, EndsWithCall, Fresh, InBackground, InCall, Keeps, Limit, Limited,
        MayOutlive, Normal, Output, Stored, Timed, Unchosen, Unlimited, Untouched, Value,
        WithEntry,
    };
    pub use crate::api::load::{Load, Many, One};
}

/// Guarded writes: the builder that [`Handle::update`] returns, and its choices.
pub mod update {
    pub use crate::api::choices::{Invalidate, NeverSure, SureIf, Through, Unwritten};
    pub use crate::api::update::Update;
}

/// For generated code. Not part of the public interface: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::api::alias::{
        AliasField, AliasRef, Aliased, ByAlias, alias, get_by, load_by, write_alias,
    };
    pub use crate::api::function::{self as functions, Function};
    pub use crate::api::load::Load;
    pub use crate::key::aliases::{Alias, AliasKeys};
    pub use crate::key::limit_key::LimitKey;
    pub use crate::key::part::{HashTag, KeyPart, KeyWith, Newtype, With, WithResult};
    pub use crate::key::writer::KeyWriter;
    pub use crate::protocol::versions::Versions;
    pub use crate::schema::cached_type::OldEntry;
    pub use crate::schema::cloning::{Cloning, clones};
    pub use crate::schema::keys::ImpossibleKey;
    pub use crate::schema::migration::{migrated, versions};
    pub use crate::schema::only_copy::all_versions;
    pub use crate::schema::prefix::{Prefix, PrefixPart};
    pub use crate::schema::registry::Registered;
    pub use crate::schema::rules::{Rules, validated};
    pub use crate::schema::shape::lock::is_locked;
    pub use crate::schema::shape::{Recursive, Shape};
    pub use crate::schema::unmigrated::Unmigrated;
    pub use crate::schema::validation::validators;
    pub use crate::{
        BestEffort, CachedType, Clearable, Compression, Fingerprint, Invalid, Keyed, OnCorrupt,
        Policy, Result, Store, Strict, Tag, TagWriter, Tagged, Ttl,
    };
    pub use inventory;
    pub use serde::de::DeserializeOwned;
    pub use serde::{Deserialize, Deserializer, Serialize, Serializer};
    pub use std::default::Default;
    pub use std::future::Future;
    pub use std::marker::{PhantomData, Send, Sync};
    pub use std::module_path;
    pub use std::option::Option;
    pub use std::time::Duration;
}
