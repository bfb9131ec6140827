use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, KeyPart};

#[derive(KeyPart, Clone)]
struct UserId(u64);

mod number {
    use super::UserId;

    pub(super) fn serialize<S: serde::Serializer>(id: &UserId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(id.0)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<UserId, D::Error> {
        serde::Deserialize::deserialize(from).map(UserId)
    }
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
struct User {
    #[cached(key)]
    #[serde(with = "number")]
    id: UserId,
    email: String,
}

fn main() {}
