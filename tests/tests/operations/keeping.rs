//! A server that may lose entries of which it has the only copy: the store says so, once.

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

use crate::log::Log;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "30d", only_copy)]
struct Cart {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "draft", ttl = "never", only_copy)]
struct Draft {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "1h")]
struct Page {
    #[cached(key)]
    id: u64,
}

const WARNING: &str = "the server has the only copy of this type's values, and may lose them";

/// The warnings after each type was used three times, in the order of the types' names.
async fn warned(store: &Store) -> Vec<String> {
    let log = Log::default();
    let _taken = log.takes();
    for id in 0..3 {
        Page { id }.set(store).await.unwrap();
        Cart { id }.set(store).await.unwrap();
        Draft::get(store, id).await.unwrap();
        store.settled().await;
    }
    let mut lines = log.lines("WARN");
    lines.retain(|line| line.contains(WARNING));
    lines.sort_by_key(|line| line.contains("\"draft\""));
    lines
}

#[tokio::test]
async fn a_server_that_may_lose_entries_is_named_once_for_each_type() {
    let server = Server::builder()
        .setting("maxmemory", "100mb")
        .setting("maxmemory-policy", "volatile-lru");
    let server = server.start();
    let store = server.store().await;
    let lines = warned(&store).await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for (line, name) in lines.iter().zip(["cart", "draft"]) {
        assert!(line.contains(&format!("\"{name}\"")), "{line}");
        assert!(line.contains(&server.addr().to_string()), "{line}");
        assert!(line.contains("it writes nothing to disk"), "{line}");
        assert!(line.contains("it has no replica"), "{line}");
        assert!(line.contains("docs/guides/only-copy.md"), "{line}");
    }
    let evicts = "`maxmemory-policy volatile-lru`";
    assert!(lines[0].contains(evicts), "{}", lines[0]);
    assert!(!lines[1].contains(evicts), "it never expires: {}", lines[1]);
}

/// Its replicas are unknown, as is its disk.
#[tokio::test]
async fn a_user_without_rights_to_ask_is_no_reason_for_a_warning() {
    let server = Server::plain();
    server.cli(&[
        "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-config", "-info",
    ]);
    let url = format!("valkey://app:secret@127.0.0.1:{}", server.port());
    let store = Store::connect(&url).await.unwrap();
    assert_eq!(warned(&store).await, [""; 0]);

    // Without `CONFIG`, the warning has the rest.
    server.cli(&["ACL", "SETUSER", "app", "+info"]);
    let store = Store::connect(&url).await.unwrap();
    let lines = warned(&store).await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("it has no replica"), "{}", lines[0]);
    assert!(!lines[0].contains("disk"), "{}", lines[0]);
}

#[tokio::test]
async fn each_primary_of_a_cluster_is_asked() {
    let cluster = Server::cluster();
    let store = cluster.store_builder().connect().await.unwrap();
    let lines = warned(&store).await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for node in cluster.nodes() {
        let name = format!(":{}: ", node.port());
        assert!(lines[0].contains(&name), "{}", lines[0]);
    }
}

#[tokio::test]
async fn a_store_in_this_process_has_no_server_to_ask() {
    assert_eq!(warned(&Store::memory()).await, [""; 0]);
}
