//! Users: their type, their rows, and their handlers.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use valkey_runtime::{Cached, Store};

use crate::error::or_later;
use crate::orgs::{self, Page};
use crate::valid::Valid;
use crate::{App, Error, Result, caching};

/// A user, as in responses and in the cache. It is stored under `user:` and the id for five
/// minutes, and is also found by e-mail.
///
/// It contains its organisation's name, so it has the organisation's tag: a new name invalidates
/// all its users. A row that breaks a rule is returned and not stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow, Validate, Cached)]
#[cached(prefix = "user", ttl = "5m", tag = "org:{org_id}", validate)]
#[garde(allow_unvalidated)]
pub(crate) struct User {
    #[cached(key)]
    pub(crate) id: i64,
    pub(crate) org_id: i64,
    pub(crate) org: String,
    #[garde(length(chars, min = 1, max = 100))]
    pub(crate) name: String,
    #[garde(email, length(max = 254))]
    #[cached(alias(with = "str::to_ascii_lowercase"))]
    pub(crate) email: String,
}

/// The fields of a user that a caller may change.
#[derive(Debug, Deserialize, Validate)]
pub(crate) struct Profile {
    #[garde(length(chars, min = 1, max = 100))]
    name: String,
    #[garde(email, length(max = 254))]
    email: String,
}

/// A new user.
#[derive(Debug, Deserialize, Validate)]
pub(crate) struct NewUser {
    #[garde(skip)]
    org_id: i64,
    #[serde(flatten)]
    #[garde(dive)]
    profile: Profile,
}

#[derive(Deserialize)]
pub(crate) struct ByEmail {
    email: String,
}

/// A move from one organisation to another.
#[derive(Debug, Deserialize)]
pub(crate) struct Transfer {
    from: i64,
    to: i64,
}

/// `GET /users/{id}`: from the cache, or else from the database.
pub(crate) async fn show(
    State(store): State<Store>,
    State(users): State<Users>,
    Path(id): Path<i64>,
    request: HeaderMap,
) -> Result<Response> {
    let load = || users.find(id);
    let user = store.of::<User>().load(id).entry().run(load).await?;
    Ok(caching::answer(&user.ok_or(Error::NotFound)?, &request))
}

/// `GET /users?email=…`: the same by e-mail.
pub(crate) async fn show_by_email(
    State(store): State<Store>,
    State(users): State<Users>,
    Query(ByEmail { email }): Query<ByEmail>,
) -> Result<Json<User>> {
    let (look_up, load) = (|| users.id_by_email(&email), |id| users.find(id));
    let user = User::load_by_email(&store, &email)
        .run(look_up, load)
        .await?;
    user.map(Json).ok_or(Error::NotFound)
}

/// `POST /users`: the pages of the organisation are invalidated.
pub(crate) async fn create(
    State(store): State<Store>,
    State(users): State<Users>,
    Valid(user): Valid<NewUser>,
) -> Result<(StatusCode, Json<User>)> {
    let user = users.create(&user).await?;
    or_later(
        Page::cache_tags()
            .members(user.org_id)
            .invalidate(&store)
            .await,
    );
    Ok((StatusCode::CREATED, Json(user)))
}

/// `PUT /users/{id}`: a guarded update. Once the row is committed, no caller gets the old one, even
/// after a failure. The responses that show the user are invalidated too.
pub(crate) async fn replace(
    State(store): State<Store>,
    State(users): State<Users>,
    Path(id): Path<i64>,
    Valid(profile): Valid<Profile>,
) -> Result<Json<User>> {
    let user = store
        .of::<User>()
        .update(id)
        .unwritten_if(Error::is_refusal)
        .run(|| users.replace(id, &profile))
        .await?;
    or_later(orgs::shown(user.org_id).invalidate(&store).await);
    Ok(Json(user))
}

/// `DELETE /users/{id}`: a guarded update too, which also invalidates the pages of the user's
/// organisation.
pub(crate) async fn remove(
    State(store): State<Store>,
    State(users): State<Users>,
    Path(id): Path<i64>,
) -> Result<StatusCode> {
    let org = store
        .of::<User>()
        .update(id)
        .unwritten_if(Error::is_refusal)
        .run(|| users.remove(id))
        .await?;
    or_later(Page::cache_tags().members(org).invalidate(&store).await);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /users/{id}/transfer`: a transaction, so the guard is an object that outlives it. It
/// guards the user and the pages of both organisations.
pub(crate) async fn transfer(
    State(App { store, users, .. }): State<App>,
    Path(id): Path<i64>,
    Json(transfer): Json<Transfer>,
) -> Result<Json<User>> {
    let tags = [transfer.from, transfer.to].map(|org| Page::cache_tags().members(org));
    let guard = store
        .of::<User>()
        .update(id)
        .invalidating(tags)
        .guard()
        .await?;

    let mut tx = users.db.begin().await?;
    let moved = match Users::transfer(&mut tx, id, &transfer).await {
        // If the cache is down, there is no guard to lose: the transfer continues, and its
        // invalidation is delivered later.
        Ok(_) if matches!(guard.still_held().await, Ok(false)) => Err(Error::TryAgain),
        moved => moved,
    };
    match moved {
        Ok(user) => {
            tx.commit().await?;
            or_later(guard.release().await);
            Ok(Json(user))
        }
        Err(error) => {
            tx.rollback().await?;
            or_later(guard.abandon().await);
            Err(error)
        }
    }
}

/// The rows.
#[derive(Clone)]
pub(crate) struct Users {
    db: SqlitePool,
}

impl Users {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    pub(crate) async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&self.db).await?;
        Ok(())
    }

    pub(crate) async fn find(&self, id: i64) -> Result<Option<User>> {
        let query = "SELECT users.id, org_id, orgs.name AS org, users.name, email
                     FROM users JOIN orgs ON orgs.id = org_id WHERE users.id = ?";
        Ok(sqlx::query_as(query)
            .bind(id)
            .fetch_optional(&self.db)
            .await?)
    }

    pub(crate) async fn find_many(&self, ids: Vec<i64>) -> Result<Vec<(i64, User)>> {
        let query = "SELECT users.id, org_id, orgs.name AS org, users.name, email
                     FROM users JOIN orgs ON orgs.id = org_id
                     WHERE users.id IN (SELECT value FROM json_each(?))";
        let ids = serde_json::json!(ids).to_string();
        let users: Vec<User> = sqlx::query_as(query).bind(ids).fetch_all(&self.db).await?;
        Ok(users.into_iter().map(|user| (user.id, user)).collect())
    }

    async fn id_by_email(&self, email: &str) -> Result<Option<i64>> {
        let query = "SELECT id FROM users WHERE email = ?";
        Ok(sqlx::query_scalar(query)
            .bind(email)
            .fetch_optional(&self.db)
            .await?)
    }

    /// The id and the password hash of the user with this e-mail, for a login. The hash is in no
    /// cache.
    pub(crate) async fn credentials(&self, email: &str) -> Result<Option<(i64, Option<String>)>> {
        let query = "SELECT id, password FROM users WHERE email = ?";
        Ok(sqlx::query_as(query)
            .bind(email)
            .fetch_optional(&self.db)
            .await?)
    }

    async fn create(&self, NewUser { org_id, profile }: &NewUser) -> Result<User> {
        let query = "INSERT INTO users (org_id, name, email) VALUES (?, ?, ?)
                     RETURNING id, org_id, (SELECT name FROM orgs WHERE id = org_id) AS org, name, email";
        Ok(sqlx::query_as(query)
            .bind(org_id)
            .bind(&profile.name)
            .bind(&profile.email)
            .fetch_one(&self.db)
            .await?)
    }

    async fn replace(&self, id: i64, profile: &Profile) -> Result<User> {
        let query = "UPDATE users SET name = ?, email = ? WHERE id = ?
                     RETURNING id, org_id, (SELECT name FROM orgs WHERE id = org_id) AS org, name, email";
        let user = sqlx::query_as(query)
            .bind(&profile.name)
            .bind(&profile.email)
            .bind(id)
            .fetch_optional(&self.db)
            .await?;
        user.ok_or(Error::NotFound)
    }

    /// Returns the organisation of the deleted user.
    async fn remove(&self, id: i64) -> Result<i64> {
        let query = "DELETE FROM users WHERE id = ? RETURNING org_id";
        let org = sqlx::query_scalar(query).bind(id).fetch_optional(&self.db);
        org.await?.ok_or(Error::NotFound)
    }

    async fn transfer(
        tx: &mut SqliteConnection,
        id: i64,
        Transfer { from, to }: &Transfer,
    ) -> Result<User> {
        let query = "UPDATE users SET org_id = ? WHERE id = ? AND org_id = ?
                     RETURNING id, org_id, (SELECT name FROM orgs WHERE id = org_id) AS org, name, email";
        let moved = sqlx::query_as(query)
            .bind(to)
            .bind(id)
            .bind(from)
            .fetch_optional(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO transfers (user_id, from_org, to_org) VALUES (?, ?, ?)")
            .bind(id)
            .bind(from)
            .bind(to)
            .execute(tx)
            .await?;
        moved.ok_or(Error::NotFound)
    }
}
