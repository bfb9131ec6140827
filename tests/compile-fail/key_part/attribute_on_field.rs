use valkey_runtime::KeyPart;

#[derive(KeyPart)]
struct UserId(#[cached(key)] u64);

fn main() {}
