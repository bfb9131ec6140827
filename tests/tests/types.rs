//! Mistakes between the cached types of a program, which are found when a store opens. The types
//! are those of this binary, so it has no other test.

use serde::{Deserialize, Serialize};
use valkey_runtime::{Builder, Cached, ErrorKind, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct User {
    #[cached(key)]
    id: u64,
}

/// It migrates from the first one.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, migrate_from = User)]
struct Second {
    #[cached(key)]
    id: u64,
}

impl From<User> for Second {
    fn from(User { id }: User) -> Self {
        Self { id }
    }
}

/// It shares a prefix by accident.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 3)]
struct Stranger {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl_env = "TEAM_TTL")]
struct Team {
    #[cached(key)]
    id: u64,
}

fn builder() -> Builder {
    Store::builder().memory()
}

#[tokio::test]
async fn types_that_share_a_prefix_by_accident_keep_a_store_from_opening() {
    let error = builder().check_types(true).connect().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    for of in [
        "`types::User` (",
        "`types::Second` (",
        "`types::Stranger` (",
    ] {
        assert!(text.contains(of), "{text}");
    }
    let places = text.matches("types.rs:").count();
    assert_eq!(places, 4, "two mistakes with two places: {text}");
    assert_eq!(
        text.matches("the same prefix \"user\"").count(),
        2,
        "{text}"
    );
    // In a program of tests they are not checked, unless it asks for that.
    builder().connect().await.unwrap();
}

#[tokio::test]
async fn a_malformed_ttl_is_found_with_its_type_and_place() {
    let variables = |name: &str| match name {
        "TEAM_TTL" => Some("soon".to_owned()),
        "VALKEY_URL" => Some("redis://127.0.0.1:6379".to_owned()),
        _ => None,
    };
    let builder = Builder::from_variables(variables).unwrap().memory();
    let error = builder.check_types(true).connect().await.err().unwrap();
    let text = error.to_string();
    for part in ["TEAM_TTL=\"soon\"", "`types::Team` (", "types.rs:"] {
        assert!(text.contains(part), "{text}");
    }
}
