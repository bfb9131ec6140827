//! Verbs over tags: reading, storing and invalidating.

use crate::core::store::Inner;
use crate::key::tag::{SPACE, Tag, TagWriter};
pub(crate) mod fill;
pub(crate) mod invalidate;
pub(crate) mod read;

impl Inner {
    /// Those that an entry carries which lie under these epochs.
    pub(crate) fn tags_of(&self, epochs: Vec<Vec<u8>>) -> TagWriter<'_> {
        TagWriter {
            namespace: &self.namespace,
            epochs,
        }
    }

    /// Where the epoch lies that an entry names so.
    pub(crate) fn epoch_named(&self, name: &str) -> Vec<u8> {
        [&*self.namespace, SPACE, name].concat().into_bytes()
    }

    /// The epoch of a tag.
    pub(crate) fn epoch_of(&self, tag: &Tag) -> Vec<u8> {
        let mut epoch = self.tag_writer().begin("tag:");
        epoch.text(tag.as_str());
        epoch.into_bytes()
    }

    pub(crate) fn tag_writer(&self) -> TagWriter<'_> {
        TagWriter::new(&self.namespace)
    }

    /// The clock as it stands, before a load begins. Without it nothing is stored, and the failure is counted.
    pub(crate) async fn clock(&self) -> Option<u64> {
        match self.gateway.clock().await {
            Ok(clock) => Some(clock),
            Err(error) => {
                self.log_failure(
                    error.during("get_or_load"),
                    "the clock of the tags is not read",
                );
                None
            }
        }
    }
}
