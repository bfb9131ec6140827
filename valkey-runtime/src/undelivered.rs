//! Deletions that could not be delivered: kept, and delivered when the server is back. Always as a deletion, never as a
//! store, so that a late one can do no harm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::backend::Backend;
use crate::store::Inner;
use crate::transition::Verb;

/// The most keys that are kept.
const MOST: usize = 10_000;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Undelivered(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Each with the number of the request that asked for it last.
    keys: HashMap<Vec<u8>, u64>,
    requests: u64,
    /// Whether a task is at work on them.
    delivering: bool,
}

impl Undelivered {
    fn with<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        // A panic under this lock leaves the set whole.
        step(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn len(&self) -> usize {
        self.with(|state| state.keys.len())
    }
}

/// Keeps the key, and sees to it that it is delivered.
pub(crate) fn queue(inner: &Arc<Inner>, key: Vec<u8>) {
    let (kept, start) = inner.undelivered.with(|state| {
        let kept = state.keys.len() < MOST || state.keys.contains_key(&key);
        if kept {
            state.requests += 1;
            state.keys.insert(key, state.requests);
        }
        (kept, !std::mem::replace(&mut state.delivering, true))
    });
    if !kept {
        inner.counters.lost_deletion();
        tracing::error!(
            "more than {MOST} deletions wait for the server: one is lost, and its entry lives until its TTL"
        );
    }
    if start {
        let give_back = GiveBack(Arc::downgrade(inner));
        // Outside of a runtime, as where a guard is dropped at the end of a program, nothing can be sent any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(deliver(Arc::downgrade(inner), give_back));
        }
    }
}

/// Says that no task is at work any more, where it ends with its runtime: the next deletion starts another.
struct GiveBack(Weak<Inner>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.undelivered.with(|state| state.delivering = false);
        }
    }
}

async fn deliver(inner: Weak<Inner>, _give_back: GiveBack) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        let (keys, requests): (Vec<_>, Vec<_>) = inner
            .undelivered
            .with(|state| state.keys.clone().into_iter().unzip());
        let failed = round(&inner.backend, &inner.undelivered, &keys, &requests).await;
        let done = inner.undelivered.with(|state| {
            state.delivering = !state.keys.is_empty();
            !state.delivering
        });
        if done {
            return;
        }
        pause = if failed {
            (pause * 2).min(LONGEST_PAUSE)
        } else {
            FIRST_PAUSE
        };
    }
}

/// Delivers what it can. True if something failed.
async fn round(
    backend: &Backend,
    undelivered: &Undelivered,
    keys: &[Vec<u8>],
    requests: &[u64],
) -> bool {
    match backend.apply_many(keys, &Verb::Delete(None)).await {
        Ok(answers) => {
            let failed = answers.iter().any(Result::is_err);
            undelivered.with(|state| {
                for ((key, request), answer) in keys.iter().zip(requests).zip(answers) {
                    // Asked for again meanwhile, it may be for what was stored after it was carried out.
                    if answer.is_ok() && state.keys.get(key) == Some(request) {
                        state.keys.remove(key);
                    }
                }
            });
            failed
        }
        Err(error) => {
            tracing::debug!(
                "{} deletions still wait for the server: {error}",
                keys.len()
            );
            true
        }
    }
}
