//! Extending the life of entries.

use crate::base::error::Result;
use crate::core::inner::view;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::envelope::seal;
use crate::protocol::found::Found;
use crate::protocol::transition::{Touch, Verb};
use crate::verbs::extend_all;
use crate::verbs::lifetimes::Lifetimes;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::raw::Raw;
use crate::verbs::tags::fill::TagAdmission;
use crate::verbs::tags::read::TagReader;
use crate::verbs::{apply, own_header};
use std::sync::Arc;

view! {
    /// Extends the life of entries.
    Toucher
}

impl<'a> Toucher<'a> {
    pub(crate) async fn touch(self, place: &Place, of: &Type) -> Result<bool> {
        let meta = of.meta();
        let key = &*place.key;
        let ttl = Lifetimes(self.0)
            .ttl_of(meta, None)
            .map_err(|error| of.failed_at("touch", key, error))?;
        if !self.is_enabled() {
            let fail = |error| of.failed_at("touch", key, error);
            OnlyCopies(self.0).is_on(meta).map_err(fail)?;
            return Ok(false);
        }
        if meta.tagged {
            let fail = |error| of.failed_at("touch", key, error);
            let found = TagReader(self.0).read(place, meta).await.map_err(fail)?;
            let (Found::Entry(bytes), Some(header)) = (&found, own_header(self.0, &found, meta))
            else {
                return Ok(false);
            };
            let life = ttl.map(|ttl| ttl.saturating_add(meta.policy.stale_if_error_millis));
            let (epochs, extend) = TagAdmission(self.0).extensions(bytes, header, life);
            extend_all(&self.gateway, &epochs, extend)
                .await
                .map_err(fail)?;
        }
        let verb = Verb::Touch(Touch {
            versions: meta.versions,
            shape: meta.shape,
            key: seal::of_key(key),
            ttl,
            keep: meta.policy.stale_if_error_millis,
            max_age: meta.max_age(),
            seen: None,
        });
        let touched = apply(self.0, "touch", key, &verb, of).await?;
        if !touched && meta.policy.only_copy {
            let fail = |error| of.failed_at("touch", key, error);
            let found = self.gateway.head(key).await.map_err(fail)?;
            OnlyCopies(self.0).is_nothing(&found, meta).map_err(fail)?;
        }
        Ok(touched)
    }

    /// Extends the life of a sliding entry after a hit, in the background. It does so only after an
    /// eighth of the life, so that most hits cause no write.
    pub(crate) fn slide(self, key: &[u8], entry: &Raw, of: &Arc<Type>) {
        let meta = of.meta();
        let header = &entry.header;
        let (Some(timing), Some(max_age)) = (header.timing, meta.max_age()) else {
            return;
        };
        let Ok(Some(ttl)) = Lifetimes(self.0).life_of(meta, None) else {
            return;
        };
        let now = self.now_millis();
        let reachable = meta.ceiling(header.stamp, now + ttl);
        let left = timing.until.saturating_sub(now);
        if left >= ttl - ttl / 8 || reachable <= timing.until {
            return;
        }
        let verb = Verb::Touch(Touch {
            versions: meta.versions,
            shape: meta.shape,
            key: header.key,
            ttl: Some(ttl),
            keep: meta.policy.stale_if_error_millis,
            max_age: Some(max_age),
            seen: Some((header.stamp, timing.until)),
        });
        let life = ttl.saturating_add(meta.policy.stale_if_error_millis);
        let (epochs, extend) = TagAdmission(self.0).extensions(&entry.bytes, *header, Some(life));
        let (backend, of, key) = (self.gateway.clone(), of.clone(), key.to_vec());
        self.background.spawn(async move {
            let extended = match extend_all(&backend, &epochs, extend).await {
                Ok(()) => backend.apply(&key, &verb).await,
                Err(error) => Err(error),
            };
            if let Err(error) = extended {
                of.log_failure_at(
                    "touch",
                    &key,
                    error,
                    "the life of an entry could not be extended",
                );
            }
        });
    }
}
