//! The guides: the pages of the repository's `docs`, for users and for operators.
//!
//! The pages link to each other by reference. The definitions here come first, so in this reference
//! the links lead to its own pages.

/// Loading from slow and failing databases.
///
/// [README.md]: crate
/// [consistency.md]: crate::guides::consistency
/// [consistency.md#exceptions]: crate::guides::consistency#exceptions
/// [envelope.md]: crate::guides::envelope
#[doc = include_str!("../guides/guides/loading.md")]
pub mod loading {}

/// Invalidation by tags.
///
/// [README.md]: crate
/// [consistency.md]: crate::guides::consistency
#[doc = include_str!("../guides/guides/tags.md")]
pub mod tags {}

/// Two writers of a value: `modify` and conditional writes.
///
/// [README.md]: crate
#[doc = include_str!("../guides/guides/modify.md")]
pub mod modify {}

/// A cached struct changes: locks and the compact layout.
///
/// [README.md]: crate
/// [envelope.md]: crate::guides::envelope
#[doc = include_str!("../guides/guides/shapes.md")]
pub mod shapes {}

/// Functions whose results are cached.
///
/// [README.md]: crate
/// [tags.md]: crate::guides::tags
#[doc = include_str!("../guides/guides/functions.md")]
pub mod functions {}

/// A stream of changes, for near caches of an application.
///
/// [README.md]: crate
#[doc = include_str!("../guides/guides/invalidations.md")]
pub mod invalidations {}

/// Values kept in the process.
///
/// [README.md]: crate
/// [consistency.md]: crate::guides::consistency
/// [invalidations.md#a-process-that-stops]: crate::guides::invalidations#a-process-that-stops
#[doc = include_str!("../guides/guides/near.md")]
pub mod near {}

/// A cached struct that changes.
///
/// [README.md]: crate
/// [only-copy.md]: crate::guides::only_copy
#[doc = include_str!("../guides/guides/versions.md")]
pub mod versions {}

/// Data of which the store has the only copy.
///
/// [README.md]: crate
/// [versions.md]: crate::guides::versions
#[doc = include_str!("../guides/guides/only-copy.md")]
pub mod only_copy {}

/// Compression, encryption, and fields that nothing shows.
///
/// [README.md]: crate
/// [envelope.md#how-a-reader-treats-an-entry]: crate::guides::envelope#how-a-reader-treats-an-entry
/// [glossary.md]: crate::guides::glossary
#[cfg(any(not(doctest), all(feature = "zstd", feature = "encrypt")))]
#[doc = include_str!("../guides/guides/size-and-secrets.md")]
pub mod size_and_secrets {}

/// The guarantees, the races and the recipes.
///
/// [README.md]: crate
/// [envelope.md]: crate::guides::envelope
/// [envelope.md#tags-clock-and-epochs]: crate::guides::envelope#tags-clock-and-epochs
/// [versions.md#after-a-rollback]: crate::guides::versions#after-a-rollback
/// [versions.md#migrations]: crate::guides::versions#migrations
/// [loading.md]: crate::guides::loading
/// [modify.md]: crate::guides::modify
/// [near.md#what-a-near-read-may-return]: crate::guides::near#what-a-near-read-may-return
/// [only-copy.md]: crate::guides::only_copy
/// [tags.md]: crate::guides::tags
/// [tags.md#cost]: crate::guides::tags#cost
/// [tags.md#how-they-work]: crate::guides::tags#how-they-work
#[cfg(not(doctest))]
#[doc = include_str!("../guides/guides/consistency.md")]
pub mod consistency {}

/// A cache of whole responses before an HTTP service.
///
/// [README.md]: crate
/// [loading.md]: crate::guides::loading
/// [tags.md]: crate::guides::tags
#[cfg(any(not(doctest), feature = "http"))]
#[doc = include_str!("../guides/guides/responses.md")]
pub mod responses {}
/// Counters under typed keys.
///
/// [README.md]: crate
#[doc = include_str!("../guides/guides/counters.md")]
pub mod counters {}

/// Locks by lease, with fencing tokens.
///
/// [README.md]: crate
/// [consistency.md]: crate::guides::consistency
#[doc = include_str!("../guides/guides/locks.md")]
pub mod locks {}

/// Tests of a service with a cache.
///
/// [README.md]: crate
/// [modify.md]: crate::guides::modify
#[cfg(not(doctest))]
#[doc = include_str!("../guides/guides/testing.md")]
pub mod testing {}

/// A TypeScript service with a hand-written cache, translated section by section.
///
/// [consistency.md]: crate::guides::consistency
/// [telemetry.md]: crate::guides::telemetry
/// [testing.md]: crate::guides::testing
#[cfg(not(doctest))]
#[doc = include_str!("../guides/guides/from-express.md")]
pub mod from_express {}

/// Running it: ACL rights, server limits, runtimes, writes in an outage.
///
/// [invalidations.md#a-process-that-stops]: crate::guides::invalidations#a-process-that-stops
/// [size-and-secrets.md]: crate::guides::size_and_secrets
#[doc = include_str!("../guides/operations/running.md")]
pub mod running {}

/// Statistics, spans and metrics.
#[cfg(any(not(doctest), feature = "metrics"))]
#[doc = include_str!("../guides/operations/telemetry.md")]
pub mod telemetry {}

/// The terms, in one table.
///
/// [envelope.md]: crate::guides::envelope
#[cfg(not(doctest))]
#[doc = include_str!("../guides/glossary.md")]
pub mod glossary {}

/// The header and layout of an entry, to the byte.
///
/// [consistency.md]: crate::guides::consistency
/// [glossary.md]: crate::guides::glossary
/// [shapes.md]: crate::guides::shapes
/// [size-and-secrets.md]: crate::guides::size_and_secrets
/// [tags.md]: crate::guides::tags
#[cfg(not(doctest))]
#[doc = include_str!("../guides/internals/envelope.md")]
pub mod envelope {}
