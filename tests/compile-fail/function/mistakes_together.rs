use valkey_runtime::cached_fn;

#[cached_fn(tll = "5m", tag = "of:{ids}", validate)]
fn names(id: u32) -> Vec<String> {
    vec![id.to_string()]
}

fn main() {}
