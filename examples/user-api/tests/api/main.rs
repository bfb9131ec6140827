//! The service, asked by HTTP: in this process with each kind of cache, and as a program of its
//! own.

mod chromium;
mod documented;
mod folder;
mod from_express;
mod page;
mod picture;
mod program;
mod random;
mod requests;
mod running;
mod stores;
