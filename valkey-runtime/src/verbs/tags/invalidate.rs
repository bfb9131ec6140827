//! Invalidation of tags: the clock is advanced, then the epoch is raised.

use std::future::Future;
use std::time::Duration;

use crate::base::error::Error;
use crate::base::error::Result;
use crate::core::failures::Failures;
use crate::core::inner::view;
use crate::core::store::Store;
use crate::key::tag::{Tag, TagWriter};
use crate::observe::answer::{About, Ending};
use crate::observe::trace::Tracer;
use crate::observe::trace::traced;
use crate::protocol::envelope::epoch::LONGEST_SPREAD;
use crate::protocol::lease::{LEASE_LIFE, LONGEST_LOAD, millis};
use crate::protocol::transition::{Hold, Raise, Verb};
use crate::verbs::tags::Epochs;

impl Tag {
    /// Invalidates all entries with this tag, of any type. See [`Store::invalidate_tag`].
    ///
    /// # Errors
    /// As [`Store::invalidate_tag`].
    pub async fn invalidate(&self, store: &Store) -> Result<()> {
        store.invalidate_tag(self).await
    }

    /// Makes all entries with this tag stale. See [`Store::mark_tag_stale`].
    ///
    /// # Errors
    /// As [`Store::mark_tag_stale`].
    pub async fn mark_stale(&self, store: &Store) -> Result<()> {
        store.mark_tag_stale(self).await
    }

    /// Makes the entries stale one after the other, over this time. See
    /// [`Store::mark_tag_stale_over`].
    ///
    /// # Errors
    /// As [`Store::mark_tag_stale_over`].
    pub async fn mark_stale_over(&self, store: &Store, time: Duration) -> Result<()> {
        store.mark_tag_stale_over(self, time).await
    }
}

/// The effect of an invalidation on entries.
#[derive(Clone, Copy)]
pub(crate) enum Invalidation {
    Dead,
    /// Stale, spread over this number of milliseconds.
    Due(u64),
}

impl Invalidation {
    /// The command for an epoch, after the clock was advanced.
    pub(crate) fn verb(self, clock: u64, hold_millis: u32, token: u64) -> Verb<'static> {
        match (self, hold_millis) {
            (Invalidation::Due(over), _) => Verb::Raise(Raise {
                clock,
                over: Some(over),
            }),
            (Invalidation::Dead, 0) => Verb::Raise(Raise { clock, over: None }),
            // A load may begin before the end of the hold, and end after it.
            (Invalidation::Dead, hold) => Verb::Delete(Some(Hold {
                token,
                life: hold_of_tags(hold.into()),
                ours: true,
            })),
        }
    }
}

impl Store {
    /// Invalidates all entries with this tag, of any type and in any number, in two round trips. A
    /// read that begins after this call returns none of them, and no value loaded before the call.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// use valkey_runtime::{Cached, Store};
    ///
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(tag = "org:{org_id}")]
    /// struct User {
    ///     #[cached(key)]
    ///     id: u64,
    ///     org_id: u64,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// User { id: 1, org_id: 42 }.set(&store).await?;
    /// User { id: 2, org_id: 7 }.set(&store).await?;
    /// store.invalidate_tag("org:42").await?;
    /// assert!(User::get(&store, 1).await?.is_none());
    /// assert!(User::get(&store, 2).await?.is_some());
    ///
    /// // The same where the type is known, and checked.
    /// User::cache_tags().org(7).invalidate(&store).await?;
    /// assert!(User::get(&store, 2).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the server did not confirm it. The invalidation is then kept and delivered when the
    /// server is back. Until then this store reads nothing under the tag, but other processes may.
    pub fn invalidate_tag<N: Into<Tag>>(
        &self,
        tag: N,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, N> {
        self.invalidate_tags([tag])
    }

    /// As [`invalidate_tag`](Self::invalidate_tag), for several tags: also in two round trips.
    ///
    /// # Errors
    /// As [`invalidate_tag`](Self::invalidate_tag).
    pub fn invalidate_tags<I>(
        &self,
        tags: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, I>
    where
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        self.invalidation("invalidate_tag", tags, Invalidation::Dead)
    }

    /// Makes all entries with this tag stale, without deleting them. If a type keeps stale values
    /// (`stale_if_error`), they are returned when their loader fails; other reads miss. A load that
    /// began before this call is not stored.
    ///
    /// # Errors
    /// As [`invalidate_tag`](Self::invalidate_tag). A later delivery is a hard invalidation.
    pub fn mark_tag_stale<N: Into<Tag>>(
        &self,
        tag: N,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, N> {
        self.invalidation("mark_tag_stale", [tag], Invalidation::Due(0))
    }

    /// As [`mark_tag_stale`](Self::mark_tag_stale), but spread over this time. Each entry becomes
    /// stale at a moment of its own, so that a million entries are not missed at once. Entries that
    /// an earlier, unfinished call has not reached yet become stale at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use valkey_runtime::Store;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// store.mark_tag_stale_over("catalog", Duration::from_secs(30)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`mark_tag_stale`](Self::mark_tag_stale).
    pub fn mark_tag_stale_over<N: Into<Tag>>(
        &self,
        tag: N,
        time: Duration,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, N> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let over = millis.min(LONGEST_SPREAD);
        self.invalidation("mark_tag_stale", [tag], Invalidation::Due(over))
    }

    fn invalidation<I>(
        &self,
        operation: &'static str,
        tags: I,
        what: Invalidation,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, I>
    where
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        let (mut writer, mut hold) = (Epochs(self.inner()).tag_writer(), 0);
        for tag in tags {
            let tag = tag.into();
            hold = tag.hold_millis.max(hold);
            writer.extend([tag]);
        }
        let epochs = writer.into_epochs();
        async move {
            Invalidator(self.inner())
                .invalidate(operation, &epochs, hold, what)
                .await
        }
    }

    /// See [`Handle::clear`](crate::Handle::clear).
    pub(crate) async fn clear(&self, prefix: &str, hold_millis: u32) -> Result<()> {
        let mut writer: TagWriter<'_> = Epochs(self.inner()).tag_writer();
        writer.of_type(prefix);
        let epochs = writer.into_epochs();
        let inner = self.inner();
        Invalidator(inner)
            .invalidate("clear", &epochs, hold_millis, Invalidation::Dead)
            .await
    }
}

view! {
    /// Invalidates tags.
    Invalidator
}

impl<'a> Invalidator<'a> {
    async fn invalidate(
        self,
        operation: &'static str,
        epochs: &[Vec<u8>],
        hold_millis: u32,
        what: Invalidation,
    ) -> Result<()> {
        if epochs.is_empty() {
            return Ok(());
        }
        let token = self.random.next_u64();
        let verb = |clock| what.verb(clock, hold_millis, token);
        let span = Tracer(self.0).span(operation, None, About::Keys(epochs));
        let raised = traced!(
            span,
            self.gateway.raise(epochs, verb),
            |raised| match raised {
                Ok(answers) => Ending::of_each(answers),
                Err(_) => Ending::of(raised),
            }
        );
        let raised = raised.and_then(|answers| answers.into_iter().collect::<Result<Vec<_>>>());
        raised
            .map(drop)
            .map_err(|error: Error| Failures(self.0).failed(error.during(operation)))
    }
}

/// The life of a guard at a tag, for loaders that may read old rows for `hold` milliseconds. A load
/// that begins within that time may end, and be stored, later.
pub(crate) fn hold_of_tags(hold: u64) -> u64 {
    match hold {
        0 => 0,
        // The longest time of a stored load, and the life of its lease.
        hold => hold + millis(LONGEST_LOAD + LEASE_LIFE),
    }
}
