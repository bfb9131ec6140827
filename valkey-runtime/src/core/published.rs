//! The counts that were published last.

use crate::base::lock::lock;
use std::collections::HashMap;
use std::sync::Mutex;

/// The last published value of each counter: by its name, the type, and the value of its other
/// label, if it has them.
#[derive(Default)]
pub(crate) struct Published(Mutex<HashMap<(&'static str, String, &'static str), u64>>);

impl Published {
    /// The increase since the last publication.
    pub(crate) fn since(&self, name: &'static str, of: &str, label: &'static str, now: u64) -> u64 {
        let mut published = lock(&self.0);
        let last = published.entry((name, of.to_owned(), label)).or_default();
        // Another call may have published a later snapshot meanwhile.
        let more = now.saturating_sub(*last);
        *last += more;
        more
    }
}
