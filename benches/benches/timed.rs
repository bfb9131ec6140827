//! The cost of a hit of a type with all options: freshness in the header, sliding expiration,
//! refresh-ahead, stale values. It is compared with a hit of a plain type. Both have the same value
//! of about 200 bytes, read by `get_or_load`; the former also by `get_or_refresh`.
//!
//! ```text
//! cargo bench -p benches --bench timed
//! ```

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use benches::{contender, race};
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

benches::user!(Plain: prefix = "plain", ttl = "1h");
benches::user!(Everything: prefix = "timed", ttl = "1h", ttl_absent = "1m", sliding, max_age = "1d", stale_if_error = "1d",
    refresh_ahead = "80%", load_timeout = "1s");

#[tokio::main]
async fn main() {
    let server = Server::plain();
    let store = Store::connect(&server.url()).await.unwrap();
    Plain::fill(&store).await;
    Everything::fill(&store).await;
    let contenders = [
        contender(&store, |store, id| async move {
            let load = async || Err::<Plain, _>("it is there");
            assert!(Plain::get_or_load(&store, id, load).await.unwrap().active);
        }),
        contender(&store, |store, id| async move {
            let load = async || Err::<Everything, _>("it is there");
            assert!(
                Everything::get_or_load(&store, id, load)
                    .await
                    .unwrap()
                    .active
            );
        }),
        contender(&store, |store, id| async move {
            let load = |_| async { Err::<Everything, _>("it is there") };
            assert!(
                store
                    .of::<Everything>()
                    .load(id)
                    .in_background()
                    .revalidate(load)
                    .await
                    .unwrap()
                    .active
            );
        }),
    ];
    let names = [
        "get_or_load of a plain type",
        "get_or_load with everything on",
        "load in_background with everything on",
    ];
    for (tasks, reads) in [(1, 2_000), (64, 12_800)] {
        let title = format!("hits with {tasks} task(s)");
        race(&title, &names, &contenders, (tasks, reads, 61)).await;
    }
    let stats = store.stats();
    assert_eq!((stats.loads(), stats.background_running()), (0, 0));
}
