//! Running a loader, and releasing its lease.

use crate::base::counters::Count;
use crate::base::warnings::Detail;
use crate::core::caller::{Panic, Running};
use crate::core::store::Store;
use crate::core::types::Type;
use crate::observe::answer::Ending;
use crate::observe::trace::traced;
use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::flights::Moment;
use crate::protocol::transition::Verb;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Span;

/// A request for a lease: the moment of its sending, and its token.
pub(crate) type Request = (Moment, u64);

/// Releases a lease in the background. If that fails, the lease expires by itself. A claimed value
/// is not claimed again for `pause` milliseconds.
pub(crate) fn give_back(store: &Store, of: &Arc<Type>, key: Vec<u8>, lease: Lease, pause: u64) {
    let background = &store.inner().background;
    let (store, of) = (store.clone(), of.clone());
    background.spawn(async move {
        if let Err(error) = store
            .inner()
            .gateway
            .apply(&key, &Verb::Release { lease, pause })
            .await
        {
            of.log_failure_at("get_or_load", &key, error, "a lease could not be released");
        }
    });
}

/// Runs a loader for `keys` keys, whose call was `queued` for a time. The load is counted and
/// timed, and has a span of its own. Also returns the longest time for which one poll kept the
/// thread.
pub(crate) async fn run_loader<R, E, F>(
    of: &Type,
    keys: usize,
    beside: Option<&Span>,
    queued: Duration,
    work: Running<F>,
) -> (Result<Result<R, E>, Panic>, Duration)
where
    F: Future<Output = Result<R, E>> + Unpin,
{
    of.counters().count(Count::Load);
    let _timed = Timed {
        of,
        began: Instant::now(),
    };
    let span = of.load_span(keys, beside, queued);
    traced!(span, work, |(loaded, _)| match loaded {
        Ok(loaded) => Ending::of_foreign(loaded),
        Err(_) => Ending::panicked(),
    })
}

/// Records the duration of a load when it is dropped, however the load ends.
pub(crate) struct Timed<'t> {
    of: &'t Type,
    began: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.of.loaded(self.began.elapsed());
    }
}

impl Type {
    /// Counts and logs stalled loads: their callers were not polled, or blocked their threads.
    pub(crate) fn stalled(&self, how_many: usize) {
        if how_many == 0 {
            return;
        }
        self.counters().add(Count::StalledLoad, how_many);
        self.warn("loads are stalled and lose their turns", None, || {
            Detail::text(format_args!(
                "their futures are not polled, or block their threads: poll them, or spawn them as tasks"
            ))
        });
    }
}
