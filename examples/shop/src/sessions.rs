//! Sessions. Only the store has them. A session ends half an hour after its last use.

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Result, SetOptions, Store};

/// The session of a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "session", ttl = "30m", sliding, max_age = "14d", only_copy)]
pub struct Session {
    /// Random. A real shop stores a digest of it, as the example `sessions` does.
    #[cached(key)]
    pub token: String,
    /// The customer who is logged in.
    pub customer: u64,
}

/// Begins a session under this random token. An error means that nobody is logged in.
pub async fn log_in(store: &Store, token: String, customer: u64) -> Result<bool> {
    let session = Session { token, customer };
    let new = SetOptions::new().if_absent();
    session.set_with(store, new).await
}

/// The customer of a session. An outage is an error, and not a visitor who is logged out.
pub async fn customer(store: &Store, token: &str) -> Result<Option<u64>> {
    let session = Session::get(store, token).await?;
    Ok(session.map(|session| session.customer))
}

/// Ends a session; true if there was one.
pub async fn log_out(store: &Store, token: &str) -> Result<bool> {
    Session::del(store, token).await
}
