use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key, with = "ToString::to_string")]
    address: std::net::IpAddr,
}

async fn use_it(store: &Store, user: User) -> valkey_runtime::Result<()> {
    user.set(store).await?;
    User::set_many(store, [&user]).await?;
    let _: Option<User> = User::get(store, &std::net::Ipv4Addr::LOCALHOST.into()).await?;
    let _: Vec<Option<User>> =
        User::get_many(store, [&std::net::Ipv4Addr::LOCALHOST.into()]).await?;
    let _: bool = store
        .of::<User>()
        .del(&std::net::Ipv4Addr::LOCALHOST.into())
        .await?;
    let _ = valkey_runtime::Keyed::cache_key(&user);
    Ok(())
}

fn main() {}
