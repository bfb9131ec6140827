use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    degrees: f64,
    #[cached(key)]
    name: String,
}

async fn use_it(store: &Store, user: User) -> valkey_runtime::Result<()> {
    user.set(store).await?;
    User::set_many(store, [&user]).await?;
    let _: Option<User> = User::get(store, (1.5, "Ada")).await?;
    let _: Vec<Option<User>> = User::get_many(store, [(1.5, "Ada")]).await?;
    let _: bool = store.of::<User>().del((1.5, "Ada")).await?;
    let _ = valkey_runtime::Keyed::cache_key(&user);
    Ok(())
}

fn main() {}
