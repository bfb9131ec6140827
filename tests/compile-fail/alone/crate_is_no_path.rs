use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(crate = "not a path")]
struct User {
    #[cached(key)]
    id: u64,
}

async fn use_it(store: &Store, user: User) -> valkey_runtime::Result<()> {
    user.set(store).await?;
    User::set_many(store, [&user]).await?;
    let _: Option<User> = User::get(store, 42).await?;
    let _: Vec<Option<User>> = User::get_many(store, [42]).await?;
    let _: bool = store.of::<User>().del(42).await?;
    let _ = valkey_runtime::Keyed::cache_key(&user);
    Ok(())
}

fn main() {}
