//! The rights that docs/operations/running.md lists are enough for all that a store does, each is
//! needed, and a missing one is reported.

use std::slice;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use valkey_runtime::counter::Counter;
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::lock::Lock;
use valkey_runtime::{Builder, Cached, Error, ErrorKind, Invalidation, SetOptions, Store, Ttl};
use valkey_tests::Server;
use valkey_tests::example::steady_on;
use valkey_tests::resp::Value;

use crate::log::Log;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "user",
    ttl = "5m",
    ttl_absent = "1m",
    alias = "email",
    retry_after = "1s",
    stale_if_error = "1h"
)]
struct User {
    #[cached(key)]
    id: u64,
    email: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "doc", ttl = "never", tag = "org:{org}", clear)]
struct Doc {
    #[cached(key)]
    id: u64,
    org: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "session", ttl = "1m", sliding, max_age = "1h")]
struct Session {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "flag", ttl = "never")]
struct Flag {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "blob", ttl = "5m")]
struct Blob {
    #[cached(key)]
    id: u64,
    text: String,
}

fn user(id: u64) -> User {
    let email = format!("{id}@example.org");
    User { id, email }
}

/// The rights that docs/operations/running.md lists, for a store with the namespace `app`, and
/// without one.
fn rights() -> Vec<String> {
    let page = include_str!("../../../docs/operations/running.md");
    let (_, block) = page
        .split_once("```text\nACL SETUSER app on")
        .expect("the page has the user");
    let (block, _) = block.split_once("```").expect("the page has the user");
    let words = block
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let words = words.flat_map(str::split_whitespace).map(str::to_owned);
    words.filter(|word| word != "\\").collect()
}

const OF_TYPES: [&str; 11] = [
    "~user:*",
    "~doc:*",
    "~session:*",
    "~:user:*",
    "~::clock",
    "~::tag:*",
    "~::type:*",
    "~::limit:*",
    "~::count:*",
    "~::lock:*",
    "~::rights",
];

const PASSWORD: &str = ">secret";

fn set_user<'a>(server: &Server, rights: impl Iterator<Item = &'a str>) {
    server.command(&["ACL", "DELUSER", "app"]);
    server.command(&["ACL", "LOG", "RESET"]);
    let command = ["ACL", "SETUSER", "app", "on", PASSWORD, "resetchannels"];
    let command: Vec<_> = command.into_iter().chain(rights).collect();
    assert_eq!(server.command(&command), Value::Simple("OK".into()));
}

/// Gives the user the rights that the page lists, on these keys.
fn set_listed(server: &Server, keys: &[&str], without: Option<&str>) {
    let rights = rights();
    let rights = rights.iter().map(String::as_str);
    let rights = rights.filter(|right| right.starts_with('+') && Some(*right) != without);
    set_user(server, rights.chain(keys.iter().copied()));
}

/// A store of the user.
fn builder(server: &Server) -> Builder {
    let url = format!("valkey://app:secret@127.0.0.1:{}", server.port());
    // A silence is not what this is about.
    Store::builder()
        .url(&url)
        .command_timeout(Duration::from_secs(10))
}

async fn connect(server: &Server, namespace: Option<&str>) -> Store {
    let builder = match namespace {
        None => builder(server),
        Some(namespace) => builder(server).namespace(namespace),
    };
    builder.connect().await.unwrap()
}

/// All that a store does, but for what changes in it.
async fn everything(store: &Store) {
    store.ping().await.unwrap();
    user(1).set(store).await.unwrap();
    assert_eq!(User::get(store, 1).await.unwrap(), Some(user(1)));
    assert!(User::exists(store, 1).await.unwrap());
    assert!(store.of::<User>().ttl(1).await.unwrap().is_some());
    assert!(User::touch(store, 1).await.unwrap());
    let first = SetOptions::new().if_absent();
    assert!(user(2).set_with(store, first).await.unwrap());
    let again = SetOptions::new().if_present().ttl(Ttl::Never);
    assert!(user(2).set_with(store, again).await.unwrap());
    assert!(User::touch(store, 2).await.unwrap());
    User::set_many(store, &[user(3), user(4)]).await.unwrap();
    assert_eq!(
        User::get_many(store, [3, 9]).await.unwrap(),
        [Some(user(3)), None]
    );
    assert!(store.of::<User>().mark_stale(4).await.unwrap());
    assert_eq!(User::del_many(store, [3, 4]).await.unwrap(), 1);
    let results = store.batch().set(&user(5)).del::<User>(6).send().await;
    results.all().unwrap();
    Session { id: 1 }.set(store).await.unwrap();
    Session::get(store, 1).await.unwrap();

    // Loads, stored and found again.
    let loaded = User::get_or_load(store, 20, async || Ok::<_, ()>(user(20))).await;
    assert_eq!(loaded, Ok(user(20)));
    assert_eq!(User::get(store, 20).await.unwrap(), Some(user(20)));
    let absent = User::get_or_load(store, 21, async || Ok::<Option<User>, ()>(None)).await;
    assert_eq!(absent, Ok(None));
    let known = User::get_or_load(store, 21, async || Err::<Option<User>, _>(())).await;
    assert_eq!(known, Ok(None));
    let many = User::get_or_load_many(store, [22, 23], async |ids: Vec<u64>| {
        Ok::<_, ()>(ids.into_iter().map(|id| (id, user(id))).collect::<Vec<_>>())
    });
    assert_eq!(many.await.unwrap(), [Some(user(22)), Some(user(23))]);
    assert_eq!(
        User::get_many(store, [22, 23])
            .await
            .unwrap()
            .iter()
            .flatten()
            .count(),
        2
    );
    // A failed load, whose lease is given back; and a stale value that is served.
    User::get_or_load(store, 24, async || Err::<User, _>(()))
        .await
        .unwrap_err();
    User::get_or_load(store, 24, async || Ok::<_, ()>(user(24)))
        .await
        .unwrap();
    assert!(store.of::<User>().mark_stale(24).await.unwrap());
    let served = User::get_or_load(store, 24, async || Err::<User, _>(())).await;
    assert_eq!(served, Ok(user(24)));

    // By another field.
    let by_email = User::load_by_email(store, "20@example.org").run(
        async || Ok::<_, ()>(Some(20)),
        async |id| Ok(Some(user(id))),
    );
    assert_eq!(by_email.await.unwrap(), Some(user(20)));
    let found = User::get_by_email(store, "20@example.org").await.unwrap();
    assert_eq!(found, Some(user(20)));

    // Updates.
    User::update(store, 20, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    assert_eq!(User::get(store, 20).await.unwrap(), None);
    User::write_through(store, &user(25), async || Ok::<_, ()>(()))
        .await
        .unwrap();
    assert_eq!(User::get(store, 25).await.unwrap(), Some(user(25)));
    let guard = store.of::<User>().update(25).guard().await.unwrap();
    assert!(guard.is_placed() && guard.still_held().await.unwrap());
    assert!(guard.release().await.unwrap());

    // Tags.
    let doc = Doc { id: 1, org: 7 };
    let load = || Doc::get_or_load(store, 1, async || Ok::<_, ()>(Doc { id: 1, org: 7 }));
    load().await.unwrap();
    assert_eq!(Doc::get(store, 1).await.unwrap(), Some(doc.clone()));
    store.invalidate_tag("org:7").await.unwrap();
    assert_eq!(Doc::get(store, 1).await.unwrap(), None);
    load().await.unwrap();
    store
        .of::<Doc>()
        .update(2)
        .invalidating([Doc::cache_tags().org(7)])
        .run(async || Ok::<_, ()>(()))
        .await
        .unwrap();
    assert_eq!(Doc::get(store, 1).await.unwrap(), None);
    load().await.unwrap();
    assert!(Doc::touch(store, 1).await.unwrap());
    doc.set(store).await.unwrap();
    store.of::<Doc>().clear().await.unwrap();
    assert_eq!(Doc::get(store, 1).await.unwrap(), None);

    // Limits.
    let limiter = RateLimiter::builder("api").quota(2, Duration::from_secs(60));
    let limiter = limiter.build().unwrap();
    let mut allowed = Vec::new();
    for _ in 0..3 {
        let decision = limiter.check(store, "x").await.unwrap();
        assert_eq!(decision.failure(), None);
        allowed.push(decision.is_allowed());
    }
    assert_eq!(allowed, [true, true, false]);
    limiter.reset(store, "x").await.unwrap();

    // Counters and locks.
    let count = Counter::<u64>::builder("views").build().unwrap();
    let hourly = Counter::<u64>::builder("hourly").window(Duration::from_secs(3600));
    let hourly = hourly.build().unwrap();
    for counter in [&count, &hourly] {
        counter.reset(store, 1).await.unwrap();
        counter.add(store, 1, 1).await.unwrap();
        assert_eq!(counter.add(store, 1, 1).await.unwrap(), 2);
        assert_eq!(counter.get(store, 1).await.unwrap(), 2);
    }
    let lock = Lock::<u64>::builder("row").build().unwrap();
    let held = lock.lock(store, 1).await.unwrap();
    assert!(held.still_held().await.unwrap());
    assert!(lock.try_lock(store, 1).await.unwrap().is_none());
    assert!(held.release().await.unwrap());

    // All there are.
    assert!(store.of::<User>().count().await.unwrap() > 0);
    let scanned: Vec<_> = store.of::<User>().scan().try_collect().await.unwrap();
    assert!(!scanned.is_empty());
    assert!(store.of::<User>().purge().await.unwrap() > 0);
    assert_eq!(store.undelivered(), 0);
    assert_eq!(store.stats().errors_total(), 0, "{}", store.stats());
    assert_eq!(store.stats().unguarded_writes(), 0);
}

async fn receives_invalidations(store: &Store) {
    let mut changes = store.invalidations().await.unwrap();
    user(99).set(store).await.unwrap();
    let told = timeout(Duration::from_secs(30), async {
        while let Some(item) = changes.next().await {
            if matches!(item, Invalidation::Key(_)) {
                return true;
            }
        }
        false
    });
    assert!(told.await.unwrap());
}

/// A corrupt entry is removed.
async fn removes_what_is_corrupt(server: &Server, store: &Store, key: &str) {
    server.command(&["SET", key, "no entry"]);
    assert_eq!(User::get(store, 77).await.unwrap(), None);
    assert_eq!(server.cli(&["EXISTS", key]), "0");
}

/// The server's log of denied commands.
fn denials(server: &Server) -> String {
    server.cli(&["ACL", "LOG"])
}

/// The commands that it names. Each entry is a list of names and values, one a line.
fn denied_commands(server: &Server) -> Vec<String> {
    let log = denials(server);
    let lines: Vec<_> = log.lines().collect();
    let commands = lines.windows(6).filter_map(|lines| match lines {
        ["reason", "command", "context", _, "object", command] => Some((*command).to_owned()),
        _ => None,
    });
    commands.collect()
}

/// Runs a test on empty servers. Its loads have leases of a second, which is real time.
fn on_empty(servers: &[Server], test: impl AsyncFn()) {
    steady_on(&servers[0], || {
        servers.iter().for_each(Server::flush);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(test());
    });
}

#[test]
fn the_listed_rights_are_enough_with_a_namespace() {
    let server = Server::plain();
    set_listed(&server, &["~app:*"], None);
    on_empty(slice::from_ref(&server), async || {
        let log = Log::default();
        let _taken = log.takes();
        let store = connect(&server, Some("app")).await;
        everything(&store).await;
        removes_what_is_corrupt(&server, &store, "app:user:77").await;
        receives_invalidations(&store).await;
        store.purge().await.unwrap();
        assert_eq!(log.lines("ERROR"), [""; 0]);
        assert_eq!(denials(&server), "", "nothing was denied");
    });
}

#[test]
fn the_listed_rights_are_enough_without_a_namespace() {
    let server = Server::plain();
    set_listed(&server, &OF_TYPES, None);
    on_empty(slice::from_ref(&server), async || {
        let store = connect(&server, None).await;
        everything(&store).await;
        removes_what_is_corrupt(&server, &store, "user:77").await;
        assert_eq!(denials(&server), "", "nothing was denied");
    });
}

#[test]
fn the_listed_rights_are_enough_in_another_database() {
    let server = Server::plain();
    set_listed(&server, &["~app:*"], None);
    on_empty(slice::from_ref(&server), async || {
        let store = builder(&server).namespace("app").database(3);
        let store = store.connect().await.unwrap();
        everything(&store).await;
        receives_invalidations(&store).await;
        let in_database = |arguments: &[&str]| server.cli(&[&["-n", "3"][..], arguments].concat());
        in_database(&["SET", "app:user:77", "no entry"]);
        assert_eq!(User::get(&store, 77).await.unwrap(), None);
        assert_eq!(in_database(&["EXISTS", "app:user:77"]), "0");
        assert_ne!(in_database(&["DBSIZE"]), "0");
        assert_eq!(server.cli(&["DBSIZE"]), "0", "all is in the other one");
        assert_eq!(denials(&server), "", "nothing was denied");
    });
}

#[test]
fn the_listed_rights_are_enough_on_a_cluster() {
    let cluster = Server::cluster();
    for node in cluster.nodes() {
        set_listed(node, &["~app:*"], None);
    }
    on_empty(cluster.nodes(), async || {
        let store = cluster.store_builder().username("app").password("secret");
        let store = store.namespace("app").connect().await.unwrap();
        everything(&store).await;
        receives_invalidations(&store).await;
        for node in cluster.nodes() {
            assert_eq!(denials(node), "", "nothing was denied");
        }
    });
}

/// The listed rights that a store needs on a single server, and those that it needs on a cluster.
const OF_A_SERVER: [&str; 21] = [
    "+get",
    "+set",
    "+mget",
    "+getrange",
    "+pttl",
    "+scan",
    "+evalsha",
    "+eval",
    "+time",
    "+del",
    "+exists",
    "+pexpire",
    "+persist",
    "+setrange",
    "+strlen",
    "+incrby",
    "+ping",
    "+client|setinfo",
    "+client|tracking",
    "+select",
    "+config|get",
];
const OF_A_CLUSTER: [&str; 4] = ["+cluster|slots", "+cluster|nodes", "+cluster|info", "+info"];

#[test]
fn the_page_lists_the_rights_that_are_tried() {
    let mut listed = rights();
    listed.retain(|word| word.starts_with('+'));
    listed.sort_unstable();
    let mut tried: Vec<_> = OF_A_SERVER.into_iter().chain(OF_A_CLUSTER).collect();
    tried.sort_unstable();
    assert_eq!(listed, tried);
}

/// The text of an error that says that a command is denied.
fn denial(error: Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    error.to_string()
}

/// The number of the user's last connection.
fn last_connection(server: &Server) -> u64 {
    let list = server.cli(&["CLIENT", "LIST"]);
    let own = list.lines().filter(|line| line.contains(" user=app "));
    let numbers = own.filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
    let last = numbers.map(|number| number.parse().unwrap()).max();
    last.expect("a connection of the user")
}

/// Does as the user what a right is needed for. The server takes no values above 1 MiB. The error
/// names the command.
async fn use_of(right: &str, server: &Server) -> Result<(), String> {
    let builder = builder(server).namespace("app");
    let missing = |what: &str| Err(format!("'{}': {what}", &right[1..]));
    if right == "+select" {
        let store = builder.database(1).connect().await;
        return store.map(drop).map_err(denial);
    }
    let store = builder.connect().await.unwrap();
    let users = store.of::<User>();
    let used = match right {
        "+get" => User::get(&store, 1).await.map(drop),
        "+set" => user(2).set(&store).await,
        "+mget" => User::get_many(&store, [1, 2]).await.map(drop),
        "+getrange" => User::exists(&store, 1).await.map(drop),
        "+pttl" => users.ttl(1).await.map(drop),
        "+scan" => users.count().await.map(drop),
        "+evalsha" | "+time" | "+del" => User::del(&store, 1).await.map(drop),
        "+eval" => {
            server.command(&["SCRIPT", "FLUSH"]);
            User::del(&store, 1).await.map(drop)
        }
        // There is no such entry.
        "+exists" => User::touch(&store, 9).await.map(drop),
        "+pexpire" => users.mark_stale(1).await.map(drop),
        "+persist" => Flag::touch(&store, 1).await.map(drop),
        "+setrange" => User::touch(&store, 1).await.map(drop),
        "+incrby" => {
            let count = Counter::<u64>::builder("views").build().unwrap();
            count.reset(&store, 1).await.unwrap();
            count.add(&store, 1, 1).await.unwrap();
            count.add(&store, 1, 1).await.map(drop)
        }
        "+ping" => store.ping().await,
        "+client|tracking" => store.invalidations().await.map(drop),
        "+strlen" => {
            server.command(&["SET", "app:user:77", "no entry"]);
            assert_eq!(User::get(&store, 77).await.unwrap(), None);
            return match &*server.cli(&["EXISTS", "app:user:77"]) {
                "0" => Ok(()),
                _ => missing("a corrupt entry stays"),
            };
        }
        "+client|setinfo" => {
            let denied = denied_commands(server);
            return match denied.iter().any(|command| command == &right[1..]) {
                false => Ok(()),
                true => missing("the library's name is not in CLIENT LIST"),
            };
        }
        "+config|get" => {
            let before = last_connection(server);
            let text = "x".repeat(2 << 20);
            Blob { id: 1, text }.set(&store).await.unwrap_err();
            let connects_again = async {
                while User::get(&store, 1).await.is_err() {
                    tokio::task::yield_now().await;
                }
            };
            let connects_again = timeout(Duration::from_secs(60), connects_again);
            connects_again.await.expect("the store connects again");
            return match last_connection(server) == before {
                true => Ok(()),
                false => missing("a large value was sent, and closed the connection"),
            };
        }
        right => panic!("no use of {right} is known"),
    };
    used.map_err(denial)
}

#[tokio::test]
async fn each_listed_right_is_needed_on_a_server() {
    let server = Server::builder().setting("proto-max-bulk-len", "1mb");
    let server = server.start();
    let owner = server.store_in("app").await;
    for right in OF_A_SERVER {
        for without in [None, Some(right)] {
            set_listed(&server, &["~app:*"], without);
            user(1).set(&owner).await.unwrap();
            Flag { id: 1 }.set(&owner).await.unwrap();
            let used = use_of(right, &server).await;
            match without {
                None => assert_eq!(used, Ok(()), "{right}"),
                Some(_) => {
                    let why = used.expect_err(right);
                    let command = format!("'{}'", &right[1..]);
                    assert!(why.contains(&command), "{right}: {why}");
                }
            }
        }
    }
}

#[tokio::test]
async fn each_listed_right_is_needed_on_a_cluster() {
    let cluster = Server::cluster();
    for right in OF_A_CLUSTER {
        for without in [None, Some(right)] {
            for node in cluster.nodes() {
                set_listed(node, &["~app:*"], without);
            }
            let builder = cluster.store_builder().username("app").password("secret");
            let counted = async {
                let store = builder.namespace("app").connect().await?;
                let counted = store.of::<User>().count().await?;
                store.close().await;
                Ok::<_, Error>(counted)
            };
            let counted = counted.await;
            let denied: Vec<_> = cluster.nodes().iter().flat_map(denied_commands).collect();
            match without {
                None => {
                    assert_eq!(counted.unwrap(), 0);
                    assert_eq!(denied, [""; 0], "{right}");
                }
                // The store goes on without these, and knows less of the nodes.
                Some("+info" | "+cluster|info") => {
                    assert_eq!(counted.unwrap(), 0);
                    assert!(denied.iter().any(|command| command == &right[1..]));
                }
                Some(_) => {
                    let why = denial(counted.unwrap_err());
                    let command = format!("'{}'", &right[1..]);
                    assert!(why.contains(&command), "{right}: {why}");
                }
            }
        }
    }
}

/// Each right that a script needs: the first line says that it is missing, and what needs it fails
/// as `Auth` with its name.
#[tokio::test]
async fn a_right_that_is_missing_is_named_when_the_store_connects() {
    let server = Server::plain();
    for right in [
        "+eval",
        "+evalsha",
        "+time",
        "+del",
        "+exists",
        "+pexpire",
        "+setrange",
        "+strlen",
        "+incrby",
        "+set",
        "+getrange",
    ] {
        set_listed(&server, &["~app:*"], Some(right));
        server.command(&["SCRIPT", "FLUSH"]);
        let log = Log::default();
        let taken = log.takes();
        let store = connect(&server, Some("app")).await;
        let said = log.lines("ERROR");
        assert_eq!(said.len(), 1, "{right}: {said:#?}");
        let name = right[1..].to_uppercase();
        assert!(
            said[0].contains(&format!("may not run {name}")),
            "{said:#?}"
        );
        assert!(said[0].contains("docs/operations/running.md"), "{said:#?}");
        drop(taken);
        store.close().await;
    }
}

fn is_denied(error: &Error, command: &str) {
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    let text = error.to_string().to_lowercase();
    assert!(text.contains(command), "{error}");
}

#[tokio::test]
async fn without_time_every_script_fails_as_denied_and_says_so_once() {
    let server = Server::plain();
    // A careful operator may write these rights. They lack TIME.
    set_user(
        &server,
        ["~*", "+@read", "+@write", "+@scripting", "+@connection"].into_iter(),
    );
    let log = Log::default();
    let _taken = log.takes();
    let store = connect(&server, None).await;
    user(1).set(&store).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));
    is_denied(&User::del(&store, 1).await.unwrap_err(), "time");
    is_denied(&store.of::<User>().mark_stale(1).await.unwrap_err(), "time");
    is_denied(&store.invalidate_tag("x").await.unwrap_err(), "time");
    let limiter = RateLimiter::builder("api").quota(1, Duration::from_secs(60));
    let decision = limiter.build().unwrap().check(&store, "x").await.unwrap();
    assert_eq!(decision.failure(), Some(ErrorKind::Auth));
    for _ in 0..10 {
        User::get_or_load(&store, 5, async || Ok::<_, ()>(user(5)))
            .await
            .unwrap();
        User::update(&store, 5, async || Ok::<_, ()>(()))
            .await
            .unwrap();
    }
    let said = log.lines("ERROR");
    assert_eq!(said.len(), 1, "{said:#?}");
    let warned = log.lines("WARN");
    assert!(warned.len() <= 8, "a line a kind: {warned:#?}");
    assert_eq!(store.stats().unguarded_writes(), 10);

    // Once it is granted, what waited is delivered.
    assert!(store.undelivered() > 0);
    server.command(&["ACL", "SETUSER", "app", "+time"]);
    let delivered = timeout(Duration::from_secs(60), async {
        while store.undelivered() > 0 {
            User::get(&store, 1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    delivered.await.unwrap();
}
