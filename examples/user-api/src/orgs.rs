//! Organisations and their users.

use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use garde::Validate;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::sqlite::SqlitePool;
use valkey_runtime::http::ResponsePolicy;
use valkey_runtime::{Cached, Store, Tag};

use crate::users::User;
use crate::valid::Valid;
use crate::{App, Error, Result};

/// Users on a page.
const PAGE: u32 = 20;

/// An organisation.
#[derive(Debug, Serialize, Deserialize, FromRow, Cached)]
#[cached(prefix = "org", ttl = "1h")]
pub(crate) struct Org {
    #[cached(key)]
    id: i64,
    code: String,
    name: String,
}

/// The ids of the users on a page of an organisation. The number of pages is unknown, so a change
/// of its users invalidates all pages by their tag.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "5m", tag = "members:{org_id}")]
pub(crate) struct Page {
    #[cached(key)]
    org_id: i64,
    #[cached(key)]
    number: u32,
    users: Vec<i64>,
}

#[derive(Debug, Deserialize, Validate)]
pub(crate) struct Rename {
    #[garde(length(chars, min = 1, max = 100))]
    name: String,
}

#[derive(Deserialize)]
pub(crate) struct Paging {
    #[serde(default)]
    page: u32,
}

/// `GET /orgs/{id}`
pub(crate) async fn show(
    State(store): State<Store>,
    State(orgs): State<Orgs>,
    Path(id): Path<i64>,
) -> Result<Json<Org>> {
    let org = Org::get_or_load(&store, id, || orgs.find(id)).await?;
    org.map(Json).ok_or(Error::NotFound)
}

/// `PUT /orgs/{id}`: its users show its name, so they are invalidated with it, all at once.
pub(crate) async fn rename(
    State(store): State<Store>,
    State(orgs): State<Orgs>,
    Path(id): Path<i64>,
    Valid(Rename { name }): Valid<Rename>,
) -> Result<Json<Org>> {
    let org = store
        .of::<Org>()
        .update(id)
        .unwritten_if(Error::is_refusal)
        .invalidating([User::cache_tags().org(id)])
        .run(|| orgs.rename(id, &name))
        .await?;
    Ok(Json(org))
}

/// `GET /orgs/{id}/users?page=…`: the ids of the page are one entry, and each user is another. The
/// response is cached too. A change of a user invalidates the responses of its organisation, and no
/// page of ids.
pub(crate) async fn users(
    State(App {
        store, users, orgs, ..
    }): State<App>,
    Path(id): Path<i64>,
    Query(Paging { page }): Query<Paging>,
) -> Result<(Extension<ResponsePolicy>, Json<Vec<User>>)> {
    let page = Page::get_or_load(&store, (id, page), || orgs.page(id, page)).await?;
    let ids = page.ok_or(Error::NotFound)?.users;
    let users = User::get_or_load_many(&store, &ids, |missing| users.find_many(missing)).await?;
    // Users that left since the page was loaded are dropped.
    let members = users.into_iter().flatten().filter(|user| user.org_id == id);
    let policy = ResponsePolicy::new().tags([
        Page::cache_tags().members(id),
        User::cache_tags().org(id),
        shown(id),
    ]);
    Ok((Extension(policy), Json(members.collect())))
}

/// The tag of what shows users of an organisation: a change of one of them invalidates it.
pub(crate) fn shown(org: i64) -> Tag {
    format!("shown:{org}").into()
}

/// The rows.
#[derive(Clone)]
pub(crate) struct Orgs {
    db: SqlitePool,
}

impl Orgs {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    async fn find(&self, id: i64) -> Result<Option<Org>> {
        let query = "SELECT id, code, name FROM orgs WHERE id = ?";
        Ok(sqlx::query_as(query)
            .bind(id)
            .fetch_optional(&self.db)
            .await?)
    }

    async fn rename(&self, id: i64, name: &str) -> Result<Org> {
        let query = "UPDATE orgs SET name = ? WHERE id = ? RETURNING id, code, name";
        let org = sqlx::query_as(query)
            .bind(name)
            .bind(id)
            .fetch_optional(&self.db);
        org.await?.ok_or(Error::NotFound)
    }

    /// `None` if the organisation does not exist.
    async fn page(&self, org_id: i64, number: u32) -> Result<Option<Page>> {
        let query = "SELECT id FROM users WHERE org_id = ? ORDER BY id LIMIT ? OFFSET ?";
        let users: Vec<i64> = sqlx::query_scalar(query)
            .bind(org_id)
            .bind(PAGE)
            .bind(i64::from(PAGE) * i64::from(number))
            .fetch_all(&self.db)
            .await?;
        if users.is_empty() && self.find(org_id).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(Page {
            org_id,
            number,
            users,
        }))
    }
}
