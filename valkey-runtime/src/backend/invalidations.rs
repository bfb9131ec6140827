//! The stream of what changes, for caches that an application keeps itself.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::Stream;

use crate::backend::buffer::Buffer;
use crate::backend::hub::Hub;
use crate::backend::tracker::Interest;
use crate::schema::invalidation::Invalidation;

/// What changes in a store, from [`Store::invalidations`](crate::core::store::Store::invalidations): a
/// [`Stream`](https://docs.rs/futures-core/0.3) that ends with the store.
///
/// While one is there the store has a connection of its own for it, to each primary on a cluster. All streams of a store share
/// it, and it is closed when the last of them is dropped.
///
/// What is not read is kept, up to 8192 items. More than that are a [`Gap`](Invalidation::Gap); nobody waits for a stream that is
/// not read.
#[must_use = "what changes is told to who reads the stream"]
pub struct Invalidations {
    buffer: Arc<Buffer>,
    hub: Arc<Hub>,
    /// Keeps a server telling. The in-process store tells by itself.
    interest: Option<Interest>,
}

impl Invalidations {
    pub(crate) fn new(hub: Arc<Hub>, buffer: Arc<Buffer>, interest: Option<Interest>) -> Self {
        Self {
            buffer,
            hub,
            interest,
        }
    }

    /// The next item; `None` after the end of the store. A future that is dropped before it is done, as in a `select!`, has taken
    /// none.
    pub async fn next(&mut self) -> Option<Invalidation> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Whether all that changes is told at present. It is not after a connection was lost, until there is one again, and after
    /// the end of the store. A copy that is made meanwhile may be old until the next gap, so it is better not made.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = valkey_runtime::Store::memory();
    /// let invalidations = store.invalidations().await?;
    /// assert!(invalidations.is_live());
    /// store.close().await;
    /// assert!(!invalidations.is_live());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_live(&self) -> bool {
        match &self.interest {
            Some(interest) => interest.is_live(),
            None => !self.hub.is_over(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Invalidation>> {
        let polled = self.buffer.poll(context);
        if polled.is_pending()
            && let Some(interest) = &self.interest
        {
            interest.renew();
        }
        polled
    }
}

impl Stream for Invalidations {
    type Item = Invalidation;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Invalidation>> {
        self.poll(context)
    }
}

impl Drop for Invalidations {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.buffer);
    }
}

impl fmt::Debug for Invalidations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidations")
            .field("is_live", &self.is_live())
            .finish_non_exhaustive()
    }
}
