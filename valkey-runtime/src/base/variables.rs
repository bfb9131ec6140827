//! Variables of the environment, or of a test in their place.

use std::sync::Arc;

/// Environment variables by name; tests give their own.
pub(crate) type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
