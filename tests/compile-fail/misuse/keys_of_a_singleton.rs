use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct Settings {
    dark: bool,
}

async fn find(store: &Store) -> valkey_runtime::Result<Option<Settings>> {
    Settings::get(store, "settings").await
}

fn main() {}
