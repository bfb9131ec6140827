use valkey_runtime::KeyPart;

#[derive(KeyPart)]
struct Name<'a>(&'a str);

fn main() {}
