use valkey_runtime::KeyPart;

#[derive(KeyPart)]
#[cached(prefix = "user")]
struct UserId(u64);

fn main() {}
