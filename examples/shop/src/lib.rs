//! The parts of a shop. Each module shows one kind of data.

pub mod carts;
pub mod database;
pub mod products;
pub mod sessions;
pub mod views;
