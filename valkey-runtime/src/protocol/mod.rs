//! The rules, without I/O: the format of entries, the effect of each command on them, and the
//! decisions of a process.

pub(crate) mod breaker;
pub(crate) mod call;
pub(crate) mod count;
pub(crate) mod coverage;
pub(crate) mod envelope;
pub(crate) mod flights;
pub(crate) mod found;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod modify;
pub(crate) mod only_copy;
pub(crate) mod outbox;
pub(crate) mod rate;
pub(crate) mod scope;
pub(crate) mod settle;
pub(crate) mod share;
pub(crate) mod transition;
pub(crate) mod turns;
pub(crate) mod versions;
