use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, KeyPart, Store};

#[derive(Serialize, Deserialize, KeyPart)]
struct Degrees(f64);

#[derive(Serialize, Deserialize, KeyPart)]
enum Locale {
    En,
    De,
}

#[derive(Serialize, Deserialize, Cached)]
struct Reading {
    #[cached(key)]
    degrees: Degrees,
    #[cached(key)]
    locale: Locale,
}

async fn use_it(store: &Store, reading: Reading) -> valkey_runtime::Result<()> {
    reading.set(store).await?;
    let _: Option<Reading> = Reading::get(store, (&Degrees(1.5), &Locale::De)).await?;
    let _: Vec<Option<Reading>> = Reading::get_many(store, [(Degrees(1.5), Locale::En)]).await?;
    Ok(())
}

fn main() {}
