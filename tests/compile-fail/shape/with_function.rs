use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(time.as_secs())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(layout = "compact")]
struct Job {
    #[cached(key)]
    id: u64,
    #[serde(with = "seconds")]
    timeout: std::time::Duration,
}

fn main() {}
