use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    a: u8,
    #[cached(key)]
    b: u8,
    #[cached(key)]
    c: u8,
    #[cached(key)]
    d: u8,
    #[cached(key)]
    e: u8,
    #[cached(key)]
    f: u8,
    #[cached(key)]
    g: u8,
}

async fn use_it(store: &Store, user: User) -> valkey_runtime::Result<()> {
    user.set(store).await?;
    User::set_many(store, [&user]).await?;
    let _: Option<User> = User::get(store, (1, 2, 3, 4, 5, 6, 7)).await?;
    let _: Vec<Option<User>> = User::get_many(store, [(1, 2, 3, 4, 5, 6, 7)]).await?;
    let _: bool = store.of::<User>().del((1, 2, 3, 4, 5, 6, 7)).await?;
    let _ = valkey_runtime::Keyed::cache_key(&user);
    Ok(())
}

fn main() {}
