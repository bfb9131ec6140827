//! Logins, limited per e-mail.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier};
use axum::Json;
use axum::extract::State;
use garde::Validate;
use serde::Deserialize;
use valkey_runtime::Cached;

use crate::users::User;
use crate::valid::Valid;
use crate::{App, Error, Result};

/// The hash to compare if no user has the e-mail: so the refusal takes as long as for a user that
/// exists.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$kSc4njkseACeHpHE4xF+AA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[derive(Deserialize, Validate)]
pub(crate) struct Credentials {
    #[garde(email, length(max = 254))]
    email: String,
    #[garde(length(max = 1000))]
    password: String,
}

/// `POST /login`: an e-mail over its limit is refused before any look-up.
pub(crate) async fn login(
    State(App {
        store,
        users,
        limits,
        ..
    }): State<App>,
    Valid(Credentials { email, password }): Valid<Credentials>,
) -> Result<Json<User>> {
    let account = email.to_ascii_lowercase();
    let decision = limits.login.check(&store, &account).await?;
    if !decision.is_allowed() {
        return Err(Error::TooMany(decision));
    }
    let (id, hash) = users.credentials(&email).await?.unwrap_or_default();
    let hash = hash.unwrap_or_else(|| NOBODY.into());
    if !verified(password, hash).await {
        return Err(Error::WrongPassword);
    }
    // The right password resets the limit.
    limits.login.reset(&store, &account).await.ok();
    let user = User::get_or_load(&store, id, || users.find(id)).await?;
    user.map(Json).ok_or(Error::WrongPassword)
}

/// Slow on purpose, so it runs on a thread where nobody waits.
async fn verified(password: String, hash: String) -> bool {
    let verify = move || {
        let hash = PasswordHash::new(&hash)?;
        Argon2::default().verify_password(password.as_bytes(), &hash)
    };
    matches!(tokio::task::spawn_blocking(verify).await, Ok(Ok(())))
}
