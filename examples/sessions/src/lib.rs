//! Sessions of a web application in Valkey.

mod app;
mod store;

pub use app::app;
pub use store::{ValkeySessions, failed, key, life};
