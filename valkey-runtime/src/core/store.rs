//! A store: the state that all its types share, behind an `Arc`.

use crate::backend::gateway::Gateway;
use crate::base::clock::Random;
use crate::base::counters::Counters;
use crate::base::peer::Peer;
use crate::base::shown_keys::{KeyTracing, ShownKeys};
use crate::base::tasks::Background;
use crate::base::variables::Variables;
use crate::base::warnings::Warnings;
use crate::core::loads::Moments;
#[cfg(any(test, feature = "testing"))]
use crate::core::records::Records;
use crate::core::refusals::Refusals;
use crate::core::ttl_env::Overrides;
use crate::core::types::Types;
use crate::value::codec::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The place where entries are stored: a Valkey server, a cluster, or this process. Cheap to clone;
/// clones share everything.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, Store};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct User {
///     #[cached(key)]
///     id: u64,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::memory();
/// User { id: 42 }.set(&store).await?;
/// assert!(store.of::<User>().exists(42).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) gateway: Arc<Gateway>,
    /// The text with which all keys begin: empty, or ending in `:`.
    pub(crate) namespace: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) enabled: AtomicBool,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) overrides: Overrides,
    pub(crate) moments: Moments,
    pub(crate) types: Types,
    pub(crate) warnings: Arc<Warnings>,
    /// The address of the server, as spans show it.
    pub(crate) peer: Peer,
    /// The recent refusals of rate limits.
    pub(crate) refusals: Refusals,
    #[cfg(feature = "metrics")]
    pub(crate) published: crate::core::published::Published,
    pub(crate) background: Background,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) records: Arc<Records>,
}

/// The settings of a store, beside its address.
pub(crate) struct Settings {
    /// The text with which all keys begin: empty, or ending in `:`.
    pub(crate) namespace: String,
    pub(crate) limits: Limits,
    pub(crate) enabled: bool,
    pub(crate) variables: Variables,
    pub(crate) keys: KeyTracing,
    pub(crate) peer: Peer,
    pub(crate) warnings: Arc<Warnings>,
}

impl Store {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
        settings: Settings,
    ) -> Self {
        let Settings {
            namespace,
            limits,
            enabled,
            variables,
            keys,
            peer,
            warnings,
        } = settings;
        let name = match namespace.strip_suffix(':') {
            None => gateway.backend().location().to_owned(),
            Some(namespace) => format!("{}/{namespace}", gateway.backend().location()),
        };
        Self {
            inner: Arc::new(Inner {
                background: gateway.background().clone(),
                gateway,
                namespace: namespace.into(),
                limits,
                enabled: AtomicBool::new(enabled),
                random,
                counters,
                overrides: Overrides::new(variables),
                moments: Moments::default(),
                types: Types::new(ShownKeys::new(keys), warnings.clone(), &name),
                warnings,
                peer,
                refusals: Refusals::default(),
                #[cfg(feature = "metrics")]
                published: Default::default(),
                #[cfg(any(test, feature = "testing"))]
                records: Arc::default(),
            }),
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl Inner {
    /// The limits on stored entries: the store's own, or the server's if it is known and lower.
    pub(crate) fn limits_to_store(&self) -> Limits {
        let largest = self.gateway.backend().largest();
        let largest = largest.and_then(|largest| usize::try_from(largest).ok());
        let size = largest.map_or(self.limits.size, |largest| largest.min(self.limits.size));
        Limits {
            size,
            ..self.limits
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }
}
