//! TTLs from environment variables, each read once a store.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::base::variables::Variables;

/// The values of the variables of all types used so far. Types without `ttl_env` have none.
pub(crate) struct Overrides {
    variables: Variables,
    known: RwLock<HashMap<&'static str, Result<Option<Ttl>>>>,
}

impl Overrides {
    pub(crate) fn new(variables: Variables) -> Self {
        Self {
            variables,
            known: RwLock::default(),
        }
    }

    /// The TTL in the variable; `None` if it is unset or empty.
    pub(crate) fn ttl(&self, variable: &'static str) -> Result<Option<Ttl>> {
        if let Some(known) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(variable)
        {
            return known.clone();
        }
        let said = read(&self.variables, variable);
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(variable, said.clone());
        said
    }
}

/// The TTL in the variable now.
pub(crate) fn read(variables: &Variables, variable: &str) -> Result<Option<Ttl>> {
    match variables(variable).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => value
            .parse()
            .map(Some)
            .map_err(|why| Error::config(format!("{variable}={value:?} is {why}"))),
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overrides")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}
