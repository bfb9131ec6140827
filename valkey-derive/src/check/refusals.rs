//! Each error message with its exact text, and the outermost values that are accepted.

mod table;

use crate::tests::{mistakes, mistakes_of_newtype};
use table::{ARGUMENTS, NEWTYPES, TYPES};

/// The messages for these arguments above the type.
fn above(arguments: &str) -> Vec<String> {
    mistakes(&format!(
        "#[cached({arguments})] struct User {{ #[cached(key)] id: u64, name: String }}"
    ))
}

fn is_taken(source: &str) {
    assert_eq!(mistakes(source), [""; 0], "{source}");
}

#[test]
fn of_values() {
    for (messages, slips) in ARGUMENTS {
        for arguments in *slips {
            assert_eq!(above(arguments), *messages, "{arguments}");
        }
    }
}

#[test]
fn of_values_there_are_bounds() {
    for arguments in [
        "prefix = \"user.v2-x_y/z@ä\"",
        "ttl = \"1ms\"",
        "ttl = \"36500d\"",
        "ttl = \"never\"",
        "ttl = \"90\"",
        "ttl = \"1d1h1m1s1ms\"",
        "version = 1",
        "version = 65535",
        "layout = \"named\"",
        "layout = \"compact\"",
        "lock = \"09afbc02\"",
        "lock = \"00000000\", layout = \"compact\"",
        "ttl_env = \"_\"",
        "ttl_env = \"a\"",
        "ttl_env = \"Z_9\"",
        "jitter = \"0%\"",
        "jitter = \"50%\"",
        "ttl_absent = \"1ms\"",
        "stale_if_error = \"36500d\"",
        "stale_if_error = \"1s\", retry_after = \"1ms\"",
        "stale_if_error = \"1s\", retry_after = \"24h\"",
        "refresh_ahead = \"80%\", retry_after = \"1m\"",
        "refresh_ahead = \"1%\"",
        "refresh_ahead = \"99%\"",
        "stale_if_error = \"1s\", load_timeout = \"1ms\"",
        "sliding, max_age = \"5m\"",
        "sliding, ttl = \"1h\", max_age = \"1h\"",
        "hold = \"1ms\"",
        "hold = \"24h\"",
        "max_loads = 1",
        "max_loads = 65535",
        "near = \"1ms\"",
        "near = \"5m\"",
        "ttl = \"5s\", near = \"5s\"",
        "ttl = \"7d\", near = \"24h\"",
        "ttl = \"never\", near = \"1d\"",
        "near(ttl = \"90\")",
        "near(ttl = \"5s\",)",
        "near(ttl = \"5s\", max_bytes = \"1KiB\")",
        "near(ttl = \"5s\", max_bytes = \"1024\")",
        "near(ttl = \"5s\", max_bytes = 1024)",
        "near(ttl = \"5s\", max_bytes = 1_048_576)",
        "near(ttl = \"5s\", max_bytes = \"64 GiB\")",
        "near(ttl = \"5s\", stale = \"5001ms\")",
        "near(ttl = \"5s\", stale = \"36500d\", get_stale)",
        "near(get_stale, stale = \"1h\", max_bytes = \"1MiB\", ttl = \"5s\")",
        "near = \"5s\", sliding, max_age = \"7d\", refresh_ahead = \"80%\", stale_if_error = \"1h\"",
        "near = \"5s\", strict, clear, tag = \"a:{id}\", alias = \"name\"",
        "compress = \"zstd\"",
        "compress = \"lz4\", compress_above = 0",
        "compress = \"lz4\", compress_above = 4294967295",
        "only_copy, ttl = \"never\", near = \"5s\", validate, show_keys, compress = \"lz4\", encrypt",
        "only_copy, ttl = \"1h\", ttl_env = \"A\", sliding, max_age = \"1h\", layout = \"compact\"",
        "only_copy, ttl = \"1h\", version = 65535, migrate_from = UserV65534",
        "only_copy, ttl = \"1h\", version = 3, oldest_version = 3",
        "on_corrupt = \"miss\"",
        "on_corrupt = \"error\"",
        "ttl = \"never\", ttl_absent = \"1s\", jitter = \"1%\", hold = \"1s\"",
        "crate = \"a::b\"",
        "show_keys, keep_corrupt, strict, clear, validate, tags",
        "alias = \"name\", tag = \"id:{id}\", tag = \"of:{name}\"",
    ] {
        assert_eq!(above(arguments), [""; 0], "{arguments}");
    }
}

#[test]
fn of_types() {
    for (messages, slips) in TYPES {
        for source in *slips {
            assert_eq!(mistakes(source), *messages, "{source}");
        }
    }
}

#[test]
fn of_types_there_are_bounds() {
    for source in [
        "struct User;",
        "struct U(#[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u8, \
         #[cached(key)] u8);",
        "struct U(#[cached(key(hash_tag))] u8, #[cached(key)] u8);",
        "#[cached(key = (u64, (u8, String)))] struct U;",
        "#[cached(key = id)] struct U;",
        "struct U<T> { #[cached(key)] id: u64, of: Vec<T> }",
        "struct U { #[cached(key)] #[serde(default)] id: u64, #[serde(skip)] n: f64, f: f32 }",
        "struct U { #[serde(skip)] text: &'static str, #[serde(with = \"x\")] other: &'static str }",
        "struct U { #[cached(key)] id: u64, #[cached(alias)] r#ref: Option<String> }",
        "#[cached(alias = \"ref\", tag = \"t:{ref}\")] struct U { #[cached(key)] id: u64, r#ref: String }",
        "#[cached(tag = \"type\")] struct U { #[cached(key)] id: u64 }",
        "#[cached(tag = \"org:{ id }\")] struct U { #[cached(key)] id: u64 }",
        "#[cached(tag = \"a:{id}\", tag = \"b:{id}\")] struct U { #[cached(key)] id: u64 }",
        "#[cached(tag = \"a:{id}\")] struct U { #[cached(key)] #[serde(default)] id: u64 }",
    ] {
        is_taken(source);
    }
}

#[test]
fn of_newtypes() {
    for (messages, slips) in NEWTYPES {
        for source in *slips {
            assert_eq!(mistakes_of_newtype(source), *messages, "{source}");
        }
    }
    for source in [
        "struct Id(u64);",
        "struct Id<T> { raw: String, of: PhantomData<T> }",
        "#[cached(crate = \"cache\")] struct Id(u64);",
    ] {
        assert_eq!(mistakes_of_newtype(source), [""; 0], "{source}");
    }
}
