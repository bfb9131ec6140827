//! The stream of changes, for near caches of an application.

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

/// A [`Stream`](https://docs.rs/futures-core/0.3) of the changes in a store, returned by
/// [`Store::invalidations`](crate::core::store::Store::invalidations). It ends with the store.
///
/// While a stream exists, the store has a separate connection for it; on a cluster, one to each
/// primary. All streams of a store share these connections, which close when the last stream is
/// dropped.
///
/// Up to 8192 unread items are kept. An overflow becomes a [`Gap`](Invalidation::Gap): no sender
/// waits for a stream that is not read.
#[must_use = "a stream reports changes only while it is read"]
pub struct Invalidations {
    buffer: Arc<Buffer>,
    hub: Arc<Hub>,
    /// Keeps the server's notifications coming. The in-process store needs none.
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

    /// Returns the next item, or `None` after the end of the store. A future that is dropped early,
    /// as in a `select!`, takes no item.
    pub async fn next(&mut self) -> Option<Invalidation> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Returns whether all changes are reported at present. This is false after a lost connection,
    /// until there is a new one, and after the end of the store. Make no copies meanwhile: they may
    /// be stale until the next gap.
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
