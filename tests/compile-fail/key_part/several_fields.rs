use valkey_runtime::KeyPart;

#[derive(KeyPart)]
struct MemberId {
    org: u64,
    user: u64,
}

fn main() {}
