//! The near cache's side of a store: whether copies may be made, and whether a copy is valid.

use std::fmt;
use std::sync::OnceLock;

use crate::backend::gateway::Gateway;
use crate::backend::marks::{Change, Marks, Place};
use crate::backend::tracker::Interest;
use crate::base::error::Error;
use crate::key::tag::SPACE;

/// Keeps the marks complete.
pub(crate) struct Following {
    /// The in-process store needs none.
    interest: Option<Interest>,
}

/// A read that is about to be sent, and whose answer may become a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) since: Change,
    /// By the process's clock, in microseconds.
    pub(crate) sent: u64,
}

/// The keys on which a copy depends.
#[derive(Debug)]
pub(crate) struct Depends {
    key: Place,
    /// The epochs of its tags.
    epochs: Box<[Place]>,
}

impl Depends {
    fn new(marks: &Marks, key: &[u8], epochs: &[Vec<u8>]) -> Self {
        let epochs = epochs.iter().map(|epoch| marks.place_of(epoch));
        Self {
            key: marks.place_of(key),
            epochs: epochs.collect(),
        }
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        std::iter::once(self.key).chain(self.epochs.iter().copied())
    }
}

/// The number of a type's prefix among those that are tracked, once it is.
pub(crate) type Followed = OnceLock<usize>;

impl Following {
    /// Also asks for the changes of tags and types.
    fn new(interest: Option<Interest>, namespace: &str) -> Self {
        if let Some(interest) = &interest {
            for epochs in ["tag:", "type:"] {
                interest.track([namespace, SPACE, epochs].concat().as_bytes());
            }
        }
        Self { interest }
    }

    /// Whether all changes of keys with this prefix are reported, or a server refuses to report any.
    /// Asks for them, if nobody has yet.
    fn covers(&self, prefix: &str, namespace: &str, followed: &Followed) -> bool {
        let Some(interest) = &self.interest else {
            return true;
        };
        let prefix = || [namespace, prefix].concat();
        let number = followed.get_or_init(|| interest.track(prefix().as_bytes()));
        if interest.tracked().covers(*number) {
            return true;
        }
        interest.renew();
        interest.is_refused()
    }
}

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
        self.backend
            .hub()
            .marks()
            .unchanged(since, depends.places())
    }

    /// Whether a copy is what a read would have returned, as far as is known: none of its keys has
    /// changed, no change was missed, and nothing is undelivered.
    pub(crate) fn is_current(&self, since: Change, depends: &Depends) -> bool {
        self.is_clear() && {
            let marks: &Marks = self.backend.hub().marks();
            marks.without_gap(since) && marks.unchanged(since, depends.places())
        }
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tracked = self.interest.as_ref().map(Interest::tracked);
        f.debug_struct("Following")
            .field("tracked", &tracked)
            .finish()
    }
}
