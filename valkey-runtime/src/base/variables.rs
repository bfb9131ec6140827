//! Environment variables, or a test's substitute for them.

use std::sync::Arc;

/// A look-up of environment variables by name. Tests pass their own.
pub(crate) type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
