//! Contenders that are tasks reading from a store.

use std::pin::Pin;

use crate::{KEYS, Rounds, timed};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Makes that many reads (second argument), starting with that key (first argument).
type Contender = Box<dyn Fn(u64, u64) -> Work>;

/// A contender that reads keys in turn from a store that can be cloned.
pub fn contender<S, F, Fut>(store: &S, read: F) -> Contender
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, u64) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let store = store.clone();
    Box::new(move |first, count| {
        let store = store.clone();
        Box::pin(async move {
            for id in first..first + count {
                read(store.clone(), id % KEYS).await;
            }
        })
    })
}

/// Lets each contender make that many reads in that many tasks, for that many rounds, and prints
/// the comparison.
pub async fn race(
    title: &str,
    names: &[&'static str],
    contenders: &[Contender],
    (tasks, reads, rounds): (u64, u64, usize),
) {
    let mut table = Rounds::new(names);
    for round in 0..rounds {
        for at in table.order(round) {
            let ((), time) = timed(run(&contenders[at], tasks, reads)).await;
            let reads = usize::try_from(reads).expect("reads are few");
            table.add(at, reads, time);
        }
    }
    table.print(title);
}

async fn run(contender: &Contender, tasks: u64, reads: u64) {
    let each = reads / tasks;
    let running: Vec<_> = (0..tasks)
        .map(|task| tokio::spawn(contender(task * each, each)))
        .collect();
    for task in running {
        task.await.expect("a contender does not panic");
    }
}

/// A type with that name and these attributes, of about 200 bytes as MessagePack.
#[macro_export]
macro_rules! user {
    ($(#[$meta:meta])* $vis:vis $name:ident: $($attribute:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
        #[cached($($attribute)*)]
        $vis struct $name {
            #[cached(key)]
            id: u64,
            name: String,
            email: String,
            city: String,
            created: i64,
            active: bool,
            tags: Vec<String>,
        }

        impl $name {
            fn new(id: u64) -> Self {
                Self {
                    id,
                    name: "Augusta Ada King, Countess of Lovelace".into(),
                    email: "ada.lovelace@analytical-engine.example".into(),
                    city: "London, Marylebone".into(),
                    created: 1_767_225_600,
                    active: true,
                    tags: vec!["mathematics".into(), "poetry".into(), "engines".into()],
                }
            }

            /// A value of about 8 KiB.
            #[allow(dead_code, reason = "most benches have small values alone")]
            fn large(id: u64) -> Self {
                let tags = (0..128).map(|at| format!("{at:>62}")).collect();
                Self { tags, ..Self::new(id) }
            }

            #[allow(dead_code, reason = "some contenders fill the store themselves")]
            async fn fill(store: &Store) {
                for id in 0..$crate::KEYS {
                    Self::new(id).set(store).await.unwrap();
                }
            }
        }
    };
}
