//! Statistics, metrics and spans.

pub(crate) mod answer;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod record;
pub(crate) mod stats;
pub(crate) mod trace;
