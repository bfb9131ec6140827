//! A cached type: its key, its policy, its tags, and its validation.

pub(crate) mod cached_type;
pub(crate) mod change;
pub(crate) mod cloning;
pub(crate) mod guarding;
pub(crate) mod invalidation;
pub(crate) mod keys;
pub(crate) mod loaded;
pub(crate) mod migration;
pub(crate) mod only_copy;
pub(crate) mod policy;
pub(crate) mod prefix;
pub(crate) mod registry;
pub(crate) mod rules;
pub(crate) mod shape;
pub(crate) mod unmigrated;
pub(crate) mod validation;
