//! The snippets of `docs/guides/consistency.md`, with their surroundings: a database that keeps no
//! rows.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Cached;
use crate::core::store::Store;
use crate::schema::guarding::UpdateError;
use crate::testing::port::ClosedPort;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

async fn user(store: &Store, db: &Db, id: u64) -> Result<Option<User>, DbError> {
    User::get_or_load(store, id, || db.find_user(id)).await
}

async fn rename(store: &Store, db: &Db, id: u64, name: &str) -> Result<(), DbError> {
    User::update(store, id, || db.rename_user(id, name)).await
}

async fn rename_in_transaction(store: &Store, db: &Db, id: u64, name: &str) -> Result<(), Failed> {
    let guard = store.of::<User>().update(id).guard().await?;
    let mut tx = db.begin().await?;
    tx.rename_user(id, name).await?;
    if !guard.still_held().await? {
        tx.rollback().await?;
        guard.abandon().await?;
        return Err(Failed::GuardLost);
    }
    tx.commit().await?;
    if let Err(error) = guard.release().await {
        tracing::warn!("committed; the deletion of the entry is queued: {error}");
    }
    Ok(())
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "price", ttl = "5m", hold = "500ms")]
struct Price {
    #[cached(key)]
    article: u64,
    cents: u64,
}

async fn join(store: &Store, db: &Db, user: u64, teams: &[u64]) -> Result<(), DbError> {
    Team::update_many(store, teams, || {
        User::update(store, user, || db.join(user, teams))
    })
    .await
}

async fn save(store: &Store, db: &Db, user: &User) -> Result<(), DbError> {
    User::write_through(store, user, || db.save(user)).await
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "member", ttl = "5m", ttl_absent = "30s")]
struct Member {
    #[cached(key)]
    id: u64,
    #[cached(alias(ttl_absent = "30s"))]
    email: String,
}

async fn register(store: &Store, db: &Db, email: &str) -> Result<u64, DbError> {
    let members = store.of::<Member>();
    let create = members.create([Member::email_alias(email)]);
    let id = create.run(|| db.insert_member(email)).await?;
    if let Err(error) = members.del(id).await {
        tracing::warn!("registered; the deletion of an absence is queued: {error}");
    }
    Ok(id)
}

async fn take_name(
    store: &Store,
    db: &Db,
    id: u64,
    name: &str,
) -> Result<(), UpdateError<DbError>> {
    let update = store.of::<User>().update(id).strict();
    let update = update.unwritten_if(|error: &DbError| matches!(error, DbError::NameTaken));
    update.run(|| db.rename_user(id, name)).await
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "balance", ttl = "1m", strict)]
struct Balance {
    #[cached(key)]
    account: u64,
    cents: i64,
}

async fn pay(store: &Store, db: &Db, account: u64, cents: i64) -> Result<(), Failed> {
    match Balance::update(store, account, || db.pay(account, cents)).await {
        Ok(()) => Ok(()),
        Err(UpdateError::Write(error)) => Err(Failed::Db(error)),
        Err(_) => Err(Failed::TryLater),
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "order", ttl = "5m")]
struct Order {
    #[cached(key)]
    id: u64,
    customer: u64,
    lines: Vec<String>,
}

async fn order(store: &Store, db: &Db, id: u64) -> Result<Option<Order>, DbError> {
    Order::get_or_load(store, id, async || {
        let mut tx = db.begin().await?;
        let Some(customer) = tx.customer_of_order(id).await? else {
            return Ok(None);
        };
        let lines = tx.lines_of_order(id).await?;
        Ok::<_, DbError>(Some(Order {
            id,
            customer,
            lines,
        }))
    })
    .await
}

async fn add_line(store: &Store, db: &Db, order: u64, line: &str) -> Result<(), DbError> {
    Order::update(store, order, || db.add_line(order, line)).await
}

async fn drain(store: &Store) {
    let until = Instant::now() + Duration::from_secs(5);
    while store.undelivered() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.close().await;
}

#[derive(Serialize, Deserialize, Cached)]
struct Team {
    #[cached(key)]
    id: u64,
}

struct Db;
struct Transaction;

#[derive(Debug, PartialEq)]
enum DbError {
    NameTaken,
    Gone,
}

#[derive(Debug)]
enum Failed {
    Db(DbError),
    Cache(crate::base::error::Error),
    GuardLost,
    TryLater,
}

impl From<DbError> for Failed {
    fn from(error: DbError) -> Self {
        Failed::Db(error)
    }
}

impl From<crate::base::error::Error> for Failed {
    fn from(error: crate::base::error::Error) -> Self {
        Failed::Cache(error)
    }
}

impl Db {
    async fn find_user(&self, id: u64) -> Result<Option<User>, DbError> {
        let name = "Ada".into();
        Ok(Some(User { id, name }))
    }

    async fn rename_user(&self, _: u64, name: &str) -> Result<(), DbError> {
        match name {
            "taken" => Err(DbError::NameTaken),
            "gone" => Err(DbError::Gone),
            _ => Ok(()),
        }
    }

    async fn insert_member(&self, _: &str) -> Result<u64, DbError> {
        Ok(5)
    }

    async fn begin(&self) -> Result<Transaction, DbError> {
        Ok(Transaction)
    }

    async fn join(&self, _: u64, _: &[u64]) -> Result<(), DbError> {
        Ok(())
    }

    async fn save(&self, _: &User) -> Result<(), DbError> {
        Ok(())
    }

    async fn pay(&self, _: u64, _: i64) -> Result<(), DbError> {
        Ok(())
    }

    async fn add_line(&self, _: u64, _: &str) -> Result<(), DbError> {
        Ok(())
    }
}

impl Transaction {
    async fn rename_user(&mut self, id: u64, name: &str) -> Result<(), DbError> {
        Db.rename_user(id, name).await
    }

    async fn customer_of_order(&mut self, id: u64) -> Result<Option<u64>, DbError> {
        Ok((id < 10).then_some(7))
    }

    async fn lines_of_order(&mut self, _: u64) -> Result<Vec<String>, DbError> {
        Ok(vec!["tea".into()])
    }

    async fn commit(self) -> Result<(), DbError> {
        Ok(())
    }

    async fn rollback(self) -> Result<(), DbError> {
        Ok(())
    }
}

/// Whether the key has a guard: then a loaded value is not stored.
async fn is_guarded(store: &Store, id: u64) -> bool {
    user(store, &Db, id).await.unwrap();
    !User::exists(store, id).await.unwrap()
}

#[tokio::test]
async fn they_do_what_the_page_says() {
    let store = &Store::memory();
    let cached = async |id| User::exists(store, id).await.unwrap();

    assert_eq!(user(store, &Db, 1).await.unwrap().unwrap().name, "Ada");
    assert!(cached(1).await);
    rename(store, &Db, 1, "Grace").await.unwrap();
    assert!(!cached(1).await && !is_guarded(store, 1).await);

    rename_in_transaction(store, &Db, 1, "Ada").await.unwrap();
    assert!(!cached(1).await && !is_guarded(store, 1).await);
    let lost = rename_in_transaction(&away(), &Db, 1, "Ada").await;
    assert!(
        matches!(&lost, Err(Failed::Cache(error)) if error.is_transient()),
        "{lost:?}"
    );

    let price = Price {
        article: 1,
        cents: 90,
    };
    Price::update(store, 1, || async { Ok::<_, ()>(()) })
        .await
        .unwrap();
    let loaded = Price::get_or_load(store, 1, async || Ok::<_, ()>(Some(price)));
    assert!(loaded.await.unwrap().is_some());
    assert!(!Price::exists(store, 1).await.unwrap(), "held");

    Team { id: 3 }.set(store).await.unwrap();
    user(store, &Db, 1).await.unwrap();
    join(store, &Db, 1, &[2, 3]).await.unwrap();
    assert!(!cached(1).await && !Team::exists(store, 3).await.unwrap());

    let grace = User {
        id: 1,
        name: "Grace".into(),
    };
    save(store, &Db, &grace).await.unwrap();
    assert_eq!(User::get(store, 1).await.unwrap(), Some(grace));

    let unknown = async || {
        let load = Member::load_by_email(store, "ada@example.org");
        let found = load.run(async || Ok::<_, ()>(None), async |_| Ok(None::<Member>));
        assert_eq!(found.await, Ok(None));
    };
    unknown().await;
    Member::get_or_load(store, 5, async || Ok::<_, ()>(None))
        .await
        .unwrap();
    assert_eq!(register(store, &Db, "ada@example.org").await.unwrap(), 5);
    let find = async || Ok::<_, ()>(Some(5));
    let load = async |id| {
        let email = "ada@example.org".into();
        Ok(Some(Member { id, email }))
    };
    let found = Member::load_by_email(store, "ada@example.org").run(find, load);
    assert_eq!(found.await.unwrap().unwrap().id, 5);

    let taken = take_name(store, &Db, 1, "taken").await;
    assert!(matches!(taken, Err(UpdateError::Write(DbError::NameTaken))));
    assert!(!is_guarded(store, 1).await);
    let gone = take_name(store, &Db, 1, "gone").await;
    assert!(matches!(gone, Err(UpdateError::Write(DbError::Gone))));
    assert!(is_guarded(store, 1).await);

    pay(store, &Db, 1, 5).await.unwrap();
    let taken = rename_in_transaction(store, &Db, 2, "taken").await;
    assert!(matches!(taken, Err(Failed::Db(DbError::NameTaken))));
    let refused = pay(&away(), &Db, 1, 5).await;
    assert!(matches!(refused, Err(Failed::TryLater)), "{refused:?}");

    assert_eq!(order(store, &Db, 10).await.unwrap(), None);
    assert_eq!(order(store, &Db, 1).await.unwrap().unwrap().customer, 7);
    add_line(store, &Db, 1, "milk").await.unwrap();
    assert!(!Order::exists(store, 1).await.unwrap());
    drain(store).await;
}

/// A store whose server does not exist.
fn away() -> Store {
    static NOBODY: LazyLock<ClosedPort> = LazyLock::new(ClosedPort::new);
    Store::connect_lazy(&NOBODY.url()).unwrap()
}
