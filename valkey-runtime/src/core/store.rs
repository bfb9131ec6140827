//! A store: the state that all its types share, behind an `Arc`.

use crate::backend::gateway::Gateway;
use crate::base::clock::Random;
use crate::base::counters::Counters;
use crate::base::shown_keys::ShownKeys;
use crate::core::inner::{Inner, Settings};
use crate::core::loads::Moments;
use crate::core::refusals::Refusals;
use crate::core::ttl_env::Overrides;
use crate::core::types::Types;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
            read_back_every,
            newer_wins,
            encryption,
            accepts_plaintext,
            check_types,
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
                newer_wins,
                keys: encryption,
                accepts_plaintext,
                enabled: AtomicBool::new(enabled),
                random,
                counters,
                overrides: Overrides::new(variables),
                moments: Moments::default(),
                types: Types::new(
                    ShownKeys::new(keys),
                    warnings.clone(),
                    read_back_every,
                    &name,
                    check_types,
                ),
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
