//! A web application that keeps its sessions in Valkey.
//!
//! ```sh
//! cargo run -p sessions                             # in this process
//! VALKEY_HOST=127.0.0.1 cargo run -p sessions       # on a Valkey server: several of these share the sessions
//! ```

#![allow(clippy::print_stdout, reason = "output is what this program is for")]

use std::error::Error;

use sessions::{ValkeySessions, app};
use tokio::net::TcpListener;
use valkey_runtime::{Builder, Store};

/// The largest session: it is read with each request.
const LARGEST: usize = 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let builder = match Builder::from_env_if_set()? {
        Some(server) => server,
        None => Store::builder().memory(),
    };
    let store = builder.max_size(LARGEST).open().await?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    println!(
        "http://{}, with sessions in {}",
        listener.local_addr()?,
        store.location()
    );

    axum::serve(listener, app(ValkeySessions::new(store.clone())))
        .with_graceful_shutdown(async {
            // An error means that this platform has no such signal: then only a kill ends the
            // program.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending().await
            }
        })
        .await?;
    store.close().await;
    Ok(())
}
