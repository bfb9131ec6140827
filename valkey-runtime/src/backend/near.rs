//! The near cache's side of a store: whether copies may be made, and whether a copy is valid.

use crate::backend::following::{Followed, Following, Noted};
use crate::backend::gateway::Gateway;
use crate::backend::marks::{Change, Depends, Marks};
use crate::base::error::Error;

impl Gateway {
    /// Call it before a read whose answer may become a copy. `None` while changes of keys with this
    /// prefix are not reported. The first call asks for them.
    pub(crate) fn note(&self, prefix: &str, followed: &Followed) -> Option<Noted> {
        let following = match self.following.get() {
            Some(following) => following,
            None => self.begin_to_follow()?,
        };
        let marks = self.backend.hub().marks();
        let noted = Noted {
            since: marks.last(),
            sent: self.backend.clock_micros(),
        };
        // After the number was taken: if a connection is lost in between, its gap is later.
        let covers = following.covers(prefix, &self.namespace, followed);
        covers.then_some(noted)
    }

    #[cold]
    fn begin_to_follow(&self) -> Option<&Following> {
        match self.backend.follow() {
            Ok(interest) => {
                let new = || Following::new(interest, &self.namespace);
                Some(self.following.get_or_init(new))
            }
            Err(error) => {
                let error: Error = error.context("changes can't be followed for the near cache");
                tracing::debug!("{error}");
                None
            }
        }
    }

    /// The dependence of a copy on its key and on the epochs of its tags.
    pub(crate) fn depends(&self, key: &[u8], epochs: &[Vec<u8>]) -> Depends {
        Depends::new(self.backend.hub().marks(), key, epochs)
    }

    /// Whether none of a copy's keys has changed, as far as is known. Changes may have been missed.
    pub(crate) fn is_unchanged(&self, since: Change, depends: &Depends) -> bool {
        self.backend.hub().marks().unchanged(since, depends)
    }

    /// Whether a copy is what a read would have returned, as far as is known: none of its keys has
    /// changed, no change was missed, and nothing is undelivered.
    pub(crate) fn is_current(&self, since: Change, depends: &Depends) -> bool {
        self.is_clear() && {
            let marks: &Marks = self.backend.hub().marks();
            marks.without_gap(since) && marks.unchanged(since, depends)
        }
    }
}
