//! The store as tower-sessions uses it, in this process and on a server; what it does where that is
//! down; and the application.

mod app;
mod browser;
mod middleware;
mod store;
mod upgrade;

use std::sync::LazyLock;
use std::time::Duration;

use sessions::ValkeySessions;
use valkey_runtime::Store;
use valkey_tests::Server;

static SERVER: LazyLock<Server> = LazyLock::new(Server::plain);

/// Sessions in this process, and on a server.
async fn both() -> [ValkeySessions; 2] {
    [Store::memory(), connect(&SERVER).await].map(ValkeySessions::new)
}

async fn connect(server: &Server) -> Store {
    // However busy the machine is.
    let builder = Store::builder().url(&server.url());
    let builder = builder.command_timeout(Duration::from_secs(30));
    builder.connect().await.expect("a server")
}
