use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(near(stale = "1h", get_stale))]
struct User {
    #[cached(key)]
    id: u64,
}

async fn use_it(store: &Store, user: User) -> valkey_runtime::Result<()> {
    user.set(store).await?;
    let _: Option<User> = User::get(store, 42).await?;
    let _: bool = store.of::<User>().del(42).await?;
    let _ = valkey_runtime::Keyed::cache_key(&user);
    Ok(())
}

fn main() {}
