use valkey_runtime::KeyPart;

#[derive(KeyPart)]
enum Locale {
    En,
    De,
}

fn main() {}
