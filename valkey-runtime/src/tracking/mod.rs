//! What changes in the store is told to whoever keeps copies of it in this process.
//!
//! A backend tells a [`Hub`] the keys under which something was changed, in whatever process, and when it can't vouch that it
//! told all of them: a gap. The hub tells every subscriber, each by a bounded [`Buffer`], and waits for none. That is all that a
//! cache in the process has to know: after an item its copy is dropped, after a gap all of them are.
//!
//! The in-process store tells what it changes itself. A server is asked to tell by connections of their own
//! (`backend/tracker.rs`). [`Coverage`] is the state machine of these, without I/O: which nodes have to be tracked, whether all
//! are, and when there is a gap.

mod buffer;
mod coverage;
mod hub;
mod invalidation;

pub(crate) use buffer::Buffer;
pub(crate) use coverage::Coverage;
pub(crate) use hub::Hub;
pub use invalidation::{InvalidatedKey, InvalidatedTag, InvalidatedType, Invalidation};
