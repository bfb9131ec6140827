//! The changes that a near cache is to see: which of them are asked for, and whether they are
//! reported.

use std::fmt;
use std::sync::OnceLock;

use crate::backend::marks::Change;
use crate::backend::tracker::Interest;
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

/// The number of a type's prefix among those that are tracked, once it is.
pub(crate) type Followed = OnceLock<usize>;

impl Following {
    /// Also asks for the changes of tags and types.
    pub(crate) fn new(interest: Option<Interest>, namespace: &str) -> Self {
        if let Some(interest) = &interest {
            for epochs in ["tag:", "type:"] {
                interest.track([namespace, SPACE, epochs].concat().as_bytes());
            }
        }
        Self { interest }
    }

    /// Whether all changes of keys with this prefix are reported, or a server refuses to report
    /// any. Asks for them, if nobody has yet.
    pub(crate) fn covers(&self, prefix: &str, namespace: &str, followed: &Followed) -> bool {
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

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tracked = self.interest.as_ref().map(Interest::tracked);
        f.debug_struct("Following")
            .field("tracked", &tracked)
            .finish()
    }
}
