//! The guides: the pages of the repository's `docs`, for users and for operators.

/// Loading from slow and failing databases.
#[doc = include_str!("../guides/guides/loading.md")]
pub mod loading {}

/// Invalidation by tags.
#[doc = include_str!("../guides/guides/tags.md")]
pub mod tags {}

/// A stream of changes, for near caches of an application.
#[doc = include_str!("../guides/guides/invalidations.md")]
pub mod invalidations {}

/// The guarantees, the races and the recipes.
#[cfg(not(doctest))]
#[doc = include_str!("../guides/guides/consistency.md")]
pub mod consistency {}

/// Tests of a service with a cache.
#[cfg(not(doctest))]
#[doc = include_str!("../guides/guides/testing.md")]
pub mod testing {}

/// A TypeScript service with a hand-written cache, translated section by section.
#[cfg(not(doctest))]
#[doc = include_str!("../guides/guides/from-express.md")]
pub mod from_express {}

/// Running it: ACL rights, server limits, runtimes, writes in an outage.
#[doc = include_str!("../guides/operations/running.md")]
pub mod running {}

/// Statistics, spans and metrics.
#[cfg(any(not(doctest), feature = "metrics"))]
#[doc = include_str!("../guides/operations/telemetry.md")]
pub mod telemetry {}

/// The terms, in one table.
#[cfg(not(doctest))]
#[doc = include_str!("../guides/glossary.md")]
pub mod glossary {}
