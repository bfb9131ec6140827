//! Verbs over tags: reading, storing and invalidating.

use crate::core::failures::Failures;
use crate::core::inner::view;
use crate::key::tag::{SPACE, Tag, TagWriter};
pub(crate) mod fill;
pub(crate) mod invalidate;
pub(crate) mod read;

view! {
    /// Names the epochs of tags, and reads their clock.
    Epochs
}

impl<'a> Epochs<'a> {
    /// The tags of an entry, given by their epochs' keys.
    pub(crate) fn tags_of(self, epochs: Vec<Vec<u8>>) -> TagWriter<'a> {
        TagWriter {
            namespace: &self.0.namespace,
            epochs,
        }
    }

    /// The key of the epoch with this name in an entry.
    pub(crate) fn epoch_named(self, name: &str) -> Vec<u8> {
        [&*self.namespace, SPACE, name].concat().into_bytes()
    }

    /// The key of a tag's epoch.
    pub(crate) fn epoch_of(self, tag: &Tag) -> Vec<u8> {
        let mut epoch = self.tag_writer().begin("tag:");
        epoch.text(tag.as_str());
        epoch.into_bytes()
    }

    pub(crate) fn tag_writer(self) -> TagWriter<'a> {
        TagWriter::new(&self.0.namespace)
    }

    /// The clock before a load begins. If it can't be read, the load is not stored, and the failure
    /// is counted.
    pub(crate) async fn clock(self) -> Option<u64> {
        match self.gateway.clock().await {
            Ok(clock) => Some(clock),
            Err(error) => {
                Failures(self.0).log_failure(
                    error.during("get_or_load"),
                    "the tag clock could not be read",
                );
                None
            }
        }
    }
}
