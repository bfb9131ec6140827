//! The snippets of the pages for users compile: they are tests of documentation.

/// The snippets of the pages compile.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/guides/loading.md")]
struct LoadingPage;

/// So do those of this one.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/guides/tags.md")]
struct TagsPage;

#[cfg(all(doctest, feature = "derive", feature = "metrics"))]
#[doc = include_str!("../../docs/operations/telemetry.md")]
struct TelemetryPage;

#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/guides/invalidations.md")]
struct InvalidationsPage;

#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/operations/running.md")]
struct OperationsPage;
