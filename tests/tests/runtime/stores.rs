//! Stores on every backend, and raw access to their contents.

use std::sync::LazyLock;

use valkey_runtime::{Builder, Store};
use valkey_tests::resp::Value;
use valkey_tests::{Cluster, Server};

use crate::database::PATIENCE;
use crate::steady::writes_into;

pub(crate) static PLAIN: LazyLock<Server> = LazyLock::new(Server::plain);
pub(crate) static TLS: LazyLock<Server> = LazyLock::new(Server::tls);
pub(crate) static UNIX: LazyLock<Server> = LazyLock::new(Server::unix);
pub(crate) static CLUSTER: LazyLock<Cluster> = LazyLock::new(Server::cluster);

/// Gives up no command because the machine is busy. For all stores but those of tests about
/// deadlines.
pub(crate) fn patient(builder: Builder) -> Builder {
    builder.connect_timeout(PATIENCE).command_timeout(PATIENCE)
}

/// A patient store on the server of this URL.
pub(crate) async fn connect(url: &str) -> Store {
    let store = patient(Store::builder().url(url)).connect().await;
    store.unwrap_or_else(|error| panic!("{error}"))
}

/// The place of a test's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Memory,
    Plain,
    Tls,
    Unix,
    Cluster,
}

impl On {
    pub(crate) fn builder(self) -> Builder {
        patient(match self {
            On::Memory => Store::builder().memory(),
            On::Plain => PLAIN.store_builder(),
            On::Tls => TLS.store_builder(),
            On::Unix => UNIX.store_builder(),
            On::Cluster => CLUSTER.store_builder(),
        })
    }

    /// A store with a namespace of its own, so that tests share servers and no keys.
    pub(crate) async fn store(self, namespace: &str) -> Store {
        writes_into(self.nodes(), namespace);
        let store = self.builder().namespace(namespace).connect().await;
        store.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    pub(crate) fn nodes(self) -> &'static [Server] {
        match self {
            On::Memory => &[],
            On::Plain => std::slice::from_ref(&*PLAIN),
            On::Tls => std::slice::from_ref(&*TLS),
            On::Unix => std::slice::from_ref(&*UNIX),
            On::Cluster => CLUSTER.nodes(),
        }
    }

    /// As after a restart: the servers know no script.
    pub(crate) fn forget_scripts(self) {
        for node in self.nodes() {
            assert_eq!(node.cli(&["SCRIPT", "FLUSH"]), "OK");
        }
    }

    /// Gives the server that has the key a command, beside the store.
    pub(crate) fn raw<A: AsRef<[u8]>>(self, command: &[A]) -> Value {
        let moved =
            |answer: &Value| matches!(answer, Value::Error(text) if text.starts_with("MOVED"));
        let answers = self.nodes().iter().map(|node| node.command(command));
        answers
            .into_iter()
            .find(|answer| !moved(answer))
            .unwrap_or_else(|| panic!("no node of {self:?} has the key"))
    }

    /// The bytes under a key of the server.
    pub(crate) fn stored(self, key: &str) -> Vec<u8> {
        match self.raw(&["GET", key]) {
            Value::Bulk(bytes) => bytes,
            other => panic!("{key}: {other:?}"),
        }
    }
}

/// Each test of a suite, on each backend; or tests that choose their servers. All of them may go by
/// leases: see [`steady`].
///
/// [`steady`]: crate::steady::steady
macro_rules! suite {
    ($($path:ident)::+ => $($name:ident)*) => {
        suite! { @on memory Memory [$($path)::+] $($name)* }
        suite! { @on plain Plain [$($path)::+] $($name)* }
        suite! { @on tls Tls [$($path)::+] $($name)* }
        suite! { @on unix Unix [$($path)::+] $($name)* }
        suite! { @on cluster Cluster [$($path)::+] $($name)* }
    };
    (@on $module:ident $on:ident [$($path:ident)::+] $($name:ident)*) => {
        mod $module {
            use $($path)::+ as suite;

            $(
                #[test]
                fn $name() {
                    let on = crate::stores::On::$on;
                    crate::steady::steady(&|| Box::pin(suite::$name(on)));
                }
            )*
        }
    };
    (@alone [$($path:ident)::+] $($name:ident)*) => {
        mod alone {
            use $($path)::+ as suite;

            $(
                #[test]
                fn $name() {
                    crate::steady::steady(&|| Box::pin(suite::$name()));
                }
            )*
        }
    };
}
