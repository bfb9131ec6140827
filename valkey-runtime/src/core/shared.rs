//! The result of a load that several callers share.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A value that one caller loaded or found, and others get.
#[derive(Clone)]
pub(crate) enum Shared {
    /// The bytes as they are stored.
    Bytes(Bytes),
    /// A copy of a value that can't be stored, with the stamp of its load.
    Value(Arc<dyn Any + Send + Sync>, u64),
}

impl Shared {
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Shared::Bytes(bytes) => Some(bytes),
            Shared::Value(..) => None,
        }
    }
}

impl From<Bytes> for Shared {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Shared::Bytes(one), Shared::Bytes(other)) => one == other,
            (Shared::Value(one, _), Shared::Value(other, _)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Shared {}

/// Shows no value.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shared::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Shared::Value(..) => f.write_str("a value"),
        }
    }
}
