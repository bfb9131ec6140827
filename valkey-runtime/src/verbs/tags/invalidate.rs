//! What invalidates a tag: the clock is advanced, and then the epoch raised.

use std::future::Future;
use std::time::Duration;

use crate::base::error::Error;
use crate::base::error::Result;
use crate::core::store::{Inner, Store};
use crate::key::tag::{Tag, TagWriter};
use crate::observe::answer::{About, Ending};
use crate::observe::trace::traced;
use crate::protocol::envelope::epoch::LONGEST_SPREAD;
use crate::protocol::lease::{LEASE_LIFE, LONGEST_LOAD, millis};
use crate::protocol::transition::{Hold, Raise, Verb};

impl Tag {
    /// Invalidates all entries that carry this tag, of whatever type. See [`Store::invalidate_tag`].
    ///
    /// # Errors
    /// As there.
    pub async fn invalidate(&self, store: &Store) -> Result<()> {
        store.invalidate_tag(self).await
    }

    /// Has all entries that carry this tag be fresh no more. See [`Store::mark_tag_stale`].
    ///
    /// # Errors
    /// As there.
    pub async fn mark_stale(&self, store: &Store) -> Result<()> {
        store.mark_tag_stale(self).await
    }

    /// The same one by one, over this time. See [`Store::mark_tag_stale_over`].
    ///
    /// # Errors
    /// As there.
    pub async fn mark_stale_over(&self, store: &Store, time: Duration) -> Result<()> {
        store.mark_tag_stale_over(self, time).await
    }
}

/// What is to become of entries.
#[derive(Clone, Copy)]
pub(crate) enum Invalidation {
    Dead,
    /// Not fresh any more, over so many milliseconds.
    Due(u64),
}

impl Invalidation {
    /// What is done at an epoch, once the clock is advanced.
    pub(crate) fn verb(self, clock: u64, hold_millis: u32, token: u64) -> Verb<'static> {
        match (self, hold_millis) {
            (Invalidation::Due(over), _) => Verb::Raise(Raise {
                clock,
                over: Some(over),
            }),
            (Invalidation::Dead, 0) => Verb::Raise(Raise { clock, over: None }),
            // A load may begin before the hold is over, and end after it.
            (Invalidation::Dead, hold) => Verb::Delete(Some(Hold {
                token,
                life: hold_of_tags(hold.into()),
                ours: true,
            })),
        }
    }
}

impl Store {
    /// Invalidates all entries that carry this tag, of whatever type and however many, in two round trips. A read that begins
    /// after this has returned gives none of them, and nothing that was loaded before.
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
    /// When the server did not confirm it. The invalidation is then kept and delivered when the server is back; until then this
    /// store reads nothing under the tag, and others may.
    pub fn invalidate_tag<N: Into<Tag>>(
        &self,
        tag: N,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, N> {
        self.invalidate_tags([tag])
    }

    /// As [`invalidate_tag`](Self::invalidate_tag), of several tags: in two round trips, too.
    ///
    /// # Errors
    /// As there.
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

    /// Has all entries that carry this tag be fresh no more, without taking them away. Where a type keeps values
    /// (`stale_if_error`), they are served if their loader fails; everyone else finds nothing. What is loaded already when this
    /// is called is not stored.
    ///
    /// # Errors
    /// As [`invalidate_tag`](Self::invalidate_tag). What is delivered later is an invalidation.
    pub fn mark_tag_stale<N: Into<Tag>>(
        &self,
        tag: N,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, N> {
        self.invalidation("mark_tag_stale", [tag], Invalidation::Due(0))
    }

    /// As [`mark_tag_stale`](Self::mark_tag_stale), but the entries fall due one after the other over this time, each at a moment of its
    /// own, so that a million of them are not missed at once. What an earlier call had left falls due at once.
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
    /// As there.
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
        let (mut writer, mut hold) = (self.inner().tag_writer(), 0);
        for tag in tags {
            let tag = tag.into();
            hold = tag.hold_millis.max(hold);
            writer.extend([tag]);
        }
        let epochs = writer.into_epochs();
        async move {
            self.inner()
                .invalidate(operation, &epochs, hold, what)
                .await
        }
    }

    /// See [`Handle::clear`](crate::Handle::clear).
    pub(crate) async fn clear(&self, prefix: &str, hold_millis: u32) -> Result<()> {
        let mut writer: TagWriter<'_> = self.inner().tag_writer();
        writer.of_type(prefix);
        let epochs = writer.into_epochs();
        let inner = self.inner();
        inner
            .invalidate("clear", &epochs, hold_millis, Invalidation::Dead)
            .await
    }
}

impl Inner {
    async fn invalidate(
        &self,
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
        let span = self.span(operation, None, About::Keys(epochs));
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
            .map_err(|error: Error| self.failed(error.during(operation)))
    }
}

/// How long a guard stays at a tag, where loaders may read what is old for so many milliseconds: a load that begins within that
/// time may end, and be stored, as long after.
pub(crate) fn hold_of_tags(hold: u64) -> u64 {
    match hold {
        0 => 0,
        // As long as its load may take, and its lease last.
        hold => hold + millis(LONGEST_LOAD + LEASE_LIFE),
    }
}
