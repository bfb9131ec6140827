use valkey_runtime::KeyPart;

#[derive(KeyPart)]
struct Address(std::net::IpAddr);

fn main() {}
