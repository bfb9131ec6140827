use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(key = u64)]
enum Shape {
    Circle,
    Square,
}

async fn use_it(store: &Store) -> valkey_runtime::Result<()> {
    Shape::Circle.set_at(store, 7).await?;
    let _: Option<Shape> = Shape::get(store, 7).await?;
    Ok(())
}

fn main() {}
