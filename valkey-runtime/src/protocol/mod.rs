//! The rules, without input or output: what lies in the server, what each command makes of it, and what a process decides.

pub(crate) mod breaker;
pub(crate) mod call;
pub(crate) mod coverage;
pub(crate) mod envelope;
pub(crate) mod flights;
pub(crate) mod found;
pub(crate) mod lease;
pub(crate) mod outbox;
pub(crate) mod rate;
pub(crate) mod scope;
pub(crate) mod settle;
pub(crate) mod share;
pub(crate) mod transition;
pub(crate) mod turns;
