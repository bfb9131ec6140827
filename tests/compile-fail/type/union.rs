use valkey_runtime::Cached;

#[derive(Cached)]
union Bits {
    int: u32,
    float: f32,
}

fn main() {}
