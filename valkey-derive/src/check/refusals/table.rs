//! The messages for each mistake.

/// For arguments above a type: the messages, and the arguments that cause each of them.
pub(super) const ARGUMENTS: &[(&[&str], &[&str])] = &[
    (
        &[
            "`oldest_version` needs `only_copy`: a cache may lose old entries, so nothing depends on their versions; leave it out",
        ],
        &["oldest_version = 1", "version = 2, oldest_version = 2"],
    ),
    (
        &[
            r#"`only_copy` needs `ttl`: with the default of 5 minutes the data would soon be gone; write how long it is kept, as in `ttl = "30d"` or `ttl = "never"`"#,
        ],
        &["only_copy", "only_copy, version = 2, oldest_version = 2"],
    ),
    (
        &[
            "the store has the only copy of the entries of version 1: keep the struct of that version as a type of its own, write `migrate_from = UserV1` here, and implement `From` or `TryFrom` for the conversion. If no such entry exists any more, write `oldest_version = 2`",
        ],
        &[
            r#"only_copy, ttl = "1h", version = 2"#,
            r#"only_copy, ttl = "1h", version = 2, oldest_version = 1"#,
        ],
    ),
    (
        &[
            "the store has the only copy of the entries of version 6: keep the struct of that version as a type of its own, write `migrate_from = UserV6` here, and implement `From` or `TryFrom` for the conversion. If no such entry exists any more, write `oldest_version = 7`",
        ],
        &[r#"only_copy, ttl = "1h", version = 7, oldest_version = 5"#],
    ),
    (
        &["`oldest_version` is above the `version`, 1: write at most that"],
        &[r#"only_copy, ttl = "1h", oldest_version = 2"#],
    ),
    (
        &[
            "`only_copy` excludes `jitter`: such an entry lives for its whole TTL; leave out `jitter`",
        ],
        &[r#"only_copy, ttl = "1h", jitter = "0%""#],
    ),
    (
        &[
            "`only_copy` excludes `on_corrupt` and `keep_corrupt`: an entry that can't be read is always an error, and always stays; leave out `on_corrupt` and `keep_corrupt`",
        ],
        &[r#"keep_corrupt, only_copy, ttl = "1h", on_corrupt = "error""#],
    ),
    (
        &[
            "`only_copy` excludes `tag`, `tags` and `clear`: to invalidate a tag would lose the entries; leave out `tag`, `tags` and `clear`",
        ],
        &[r#"only_copy, ttl = "1h", tag = "a", tags, clear"#],
    ),
    (
        &[
            "`only_copy` excludes `alias`: a load stores an alias, and no load has these values; store a value of another type under the second key; leave out `alias`",
        ],
        &[r#"only_copy, ttl = "1h", alias = "name""#],
    ),
    (
        &[
            "`only_copy` excludes `ttl_absent`, `stale_if_error`, `retry_after`, `refresh_ahead`, `load_timeout`, `load_deadline`, `max_loads`, `strict` and `hold`: no database has the values, so nothing loads them, and a copy that is not the latest is wrong; leave out `ttl_absent`, `stale_if_error`, `retry_after`, `refresh_ahead`, `load_timeout`, `load_deadline`, `max_loads`, `strict` and `hold`",
        ],
        &[
            r#"only_copy, ttl = "1h", ttl_absent = "1s", stale_if_error = "1h", retry_after = "1s", refresh_ahead = "80%", load_timeout = "1s", load_deadline = "1s", max_loads = 1, strict, hold = "1s""#,
        ],
    ),
    (
        &[
            "`only_copy` excludes `near(stale = …)`: no database has the values, so nothing loads them, and a copy that is not the latest is wrong; leave out `near(stale = …)`",
        ],
        &[r#"only_copy, ttl = "1h", near(ttl = "5s", stale = "1h")"#],
    ),
    (
        &[
            "unknown attribute `source`: did you mean `only_copy`, for values of which the store has the only copy?",
        ],
        &[r#"source, ttl = "1h""#],
    ),
    (
        &["`migrate_from` needs a `version` above that of the older type, as in `version = 2`"],
        &[
            "migrate_from = UserV1",
            "migrate_from = old::User<u8>, prefix = \"user\"",
        ],
    ),
    (
        &["the prefix is empty: write one, or leave `prefix` out for `user`"],
        &[r#"prefix = """#],
    ),
    (
        &["write `user`: the colon is added"],
        &[r#"prefix = "user:""#],
    ),
    (
        &[
            "the prefix holds a colon, which separates the parts of a key: write `-` or `.` instead; the common beginning of all keys of a deployment is the store's namespace",
        ],
        &[r#"prefix = "a:b""#, r#"prefix = "a:b:""#, r#"prefix = ":""#],
    ),
    (
        &[
            "the prefix holds a brace: to choose the cluster slot mark a field `#[cached(key(hash_tag))]`",
        ],
        &[r#"prefix = "a{b""#, r#"prefix = "a}b""#],
    ),
    (
        &["the prefix holds a glob character, which would mislead scans"],
        &[
            r#"prefix = "a*""#,
            r#"prefix = "a?""#,
            r#"prefix = "a[""#,
            r#"prefix = "a]""#,
            r#"prefix = "a^""#,
            r#"prefix = "a\\""#,
        ],
    ),
    (
        &["the prefix holds a character that is reserved for the parameters of generic types"],
        &[
            r#"prefix = "a<b""#,
            r#"prefix = "a>b""#,
            r#"prefix = "a,b""#,
        ],
    ),
    (
        &["the prefix holds white space: write `-` instead"],
        &[r#"prefix = "a b""#, r#"prefix = "a\tb""#],
    ),
    (
        &["the prefix holds a control character"],
        &[r#"prefix = "a\u{1}b""#],
    ),
    (
        &[
            r#"a TTL of zero: an entry that expires at once is never read; write a time, as in `ttl = "5m"`, or `ttl = "never"` for entries that don't expire"#,
        ],
        &[r#"ttl = "0""#, r#"ttl = "0s""#, r#"ttl_absent = "0s""#],
    ),
    (
        &[
            r#"not a time: write numbers with the units `d`, `h`, `m`, `s`, `ms`, as in `ttl = "1h30m"`, or `ttl = "never"`"#,
        ],
        &[
            r#"ttl = """#,
            r#"ttl = "5x""#,
            r#"ttl = "5M""#,
            r#"ttl = "-5s""#,
            r#"ttl = "Never""#,
            r#"ttl_absent = "soon""#,
        ],
    ),
    (
        &[r#"longer than 100 years: write `ttl = "never"`"#],
        &[
            r#"ttl = "36500d1ms""#,
            r#"ttl = "99999999999999999999""#,
            r#"ttl_absent = "36501d""#,
        ],
    ),
    (
        &[r#"a TTL is a string: write it as in `ttl = "300s"`"#],
        &["ttl = 300"],
    ),
    (
        &[r#"a TTL is a string: write it as in `ttl = "5m"`"#],
        &["ttl = 5m", "ttl = true"],
    ),
    (
        &["unknown layout `compat`: did you mean `layout = \"compact\"`?"],
        &[r#"layout = "compat""#],
    ),
    (
        &[
            "unknown layout `json`: write `layout = \"compact\"`, or leave it out for the named layout",
        ],
        &[r#"layout = "json""#],
    ),
    (
        &[
            "a lock has eight hexadecimal digits, which the compiler tells: write `lock = \"00000000\"`, and then what it says",
        ],
        &[
            r#"lock = """#,
            r#"lock = "1234567""#,
            r#"lock = "123456789""#,
            r#"lock = "1234567g""#,
            r#"lock = "1234567A""#,
        ],
    ),
    (
        &["`lock` has the wrong form: write it as in `lock = \"00000000\"`"],
        &["lock", "lock = 7"],
    ),
    (
        &["versions begin with 1, which is also the default"],
        &["version = 0"],
    ),
    (
        &["a version is a number from 1 to 65535"],
        &["version = 65536"],
    ),
    (
        &["a version is a number: write it as in `version = 7`"],
        &[r#"version = "7""#],
    ),
    (
        &["a version is a number: write it as in `version = 2`"],
        &[r#"version = "x""#, "version = 1.5"],
    ),
    (
        &[
            r#"not a name of an environment variable: write it as in `ttl_env = "USER_CACHE_TTL"`, of letters, digits and `_`"#,
        ],
        &[
            r#"ttl_env = """#,
            r#"ttl_env = "1TTL""#,
            r#"ttl_env = "A TTL""#,
            r#"ttl_env = "A-TTL""#,
            r#"ttl_env = "ÄTTL""#,
            r#"ttl_env = "A=B""#,
        ],
    ),
    (
        &[
            r#"not a jitter: write the largest reduction of a TTL in percent, from 0 to 50, as in `jitter = "5%"`"#,
        ],
        &[
            r#"jitter = "51%""#,
            r#"jitter = "50""#,
            r#"jitter = "-1%""#,
            r#"jitter = "%""#,
            r#"jitter = "1.5%""#,
        ],
    ),
    (
        &[
            r#"an absence that never expires hides rows that are added later: write how long, as in `ttl_absent = "30s"`"#,
        ],
        &[r#"ttl_absent = "never""#],
    ),
    (
        &[
            r#"a value that is served without an end hides that its loader fails: write how long, as in `stale_if_error = "1h"`"#,
        ],
        &[
            r#"stale_if_error = "never""#,
            r#"stale_if_error = "36501d""#,
        ],
    ),
    (
        &[
            r#"not a time above zero: write how long after its TTL a value is served if the loader fails, as in `stale_if_error = "1h"`, or leave it out"#,
        ],
        &[r#"stale_if_error = "0s""#, r#"stale_if_error = "soon""#],
    ),
    (
        &[
            r#"not a time above zero and of at most a day: write the time between a failed load and the next one, as in `retry_after = "5s"`, which is also the default"#,
        ],
        &[
            r#"stale_if_error = "1h", retry_after = "0s""#,
            r#"stale_if_error = "1h", retry_after = "24h1ms""#,
            r#"stale_if_error = "1h", retry_after = "never""#,
            r#"stale_if_error = "1h", retry_after = "soon""#,
        ],
    ),
    (
        &[
            r#"not a part of a life: write the percentage of its life after which a value is reloaded, from 1 to 99, as in `refresh_ahead = "80%"`"#,
        ],
        &[
            r#"refresh_ahead = "0%""#,
            r#"refresh_ahead = "100%""#,
            r#"refresh_ahead = "80""#,
        ],
    ),
    (
        &[
            r#"a timeout of zero: to serve a stale value at once, and reload it beside the caller, write `load_timeout = "1ms"`; leave it out to wait until the load is over"#,
        ],
        &[r#"stale_if_error = "1h", load_timeout = "0ms""#],
    ),
    (
        &[
            r#"not a timeout: write how long a caller waits for a load if there is a stale value to serve, as in `load_timeout = "200ms"`, or leave it out to wait until the load is over"#,
        ],
        &[
            r#"stale_if_error = "1h", load_timeout = "never""#,
            r#"stale_if_error = "1h", load_timeout = "soon""#,
            r#"stale_if_error = "1h", load_timeout = "36501d""#,
        ],
    ),
    (
        &[
            r#"not a time above zero: write the longest life of an entry, however often it is read, as in `max_age = "7d"`"#,
        ],
        &[r#"sliding, max_age = "0s""#, r#"sliding, max_age = "soon""#],
    ),
    (
        &[
            r#"no upper limit: an entry whose invalidation was lost might never expire; write the longest life of an entry, as in `max_age = "7d"`"#,
        ],
        &[
            r#"sliding, max_age = "never""#,
            r#"sliding, max_age = "36501d""#,
        ],
    ),
    (
        &[
            r#"not a time of at most a day: write how long replicas may lag, as in `hold = "500ms"`, or leave it out"#,
        ],
        &[
            r#"hold = "0s""#,
            r#"hold = "24h1ms""#,
            r#"hold = "never""#,
            r#"hold = "soon""#,
        ],
    ),
    (
        &[
            "the largest number of concurrent loads is a number from 1 to 65535: write it as in `max_loads = 64`",
        ],
        &["max_loads = 0", "max_loads = 65536", r#"max_loads = "64""#],
    ),
    (
        &[
            r#"a time of zero: no copy would ever be used; write how long one may be used, as in `near = "5s"`, or leave out `near`"#,
        ],
        &[r#"near = "0s""#, r#"near = "0""#],
    ),
    (
        &[
            r#"a time of zero: no copy would ever be used; write how long one may be used, as in `ttl = "5s"`, or leave out `near`"#,
        ],
        &[
            r#"near(ttl = "0s")"#,
            r#"near(ttl = "0s", stale = "1ms", get_stale)"#,
        ],
    ),
    (
        &[r#"not a time: write how long a copy may be used, as in `near = "5s"`"#],
        &[r#"near = """#, r#"near = "soon""#, r#"near = "5M""#],
    ),
    (
        &[r#"not a time: write how long a copy may be used, as in `ttl = "5s"`"#],
        &[r#"near(ttl = "soon")"#],
    ),
    (
        &[
            r#"over a day: a copy whose invalidation was lost would be used for that time; write a time of at most a day, as in `near = "5s"`"#,
        ],
        &[
            r#"near = "24h1ms""#,
            r#"ttl = "7d", near = "2d""#,
            r#"near = "never""#,
            r#"near = "36501d""#,
        ],
    ),
    (
        &[
            r#"over a day: a copy whose invalidation was lost would be used for that time; write a time of at most a day, as in `ttl = "5s"`"#,
        ],
        &[r#"ttl = "7d", near(ttl = "2d", stale = "1d")"#],
    ),
    (
        &[
            r#"longer than the default, `ttl = "5m"`, but a copy can't be kept longer than its entry: write a shorter time here, or a longer `ttl` of the type"#,
        ],
        &[r#"near = "5m1ms""#, r#"near(ttl = "10m")"#],
    ),
    (
        &[
            r#"longer than `ttl = "2s"`, but a copy can't be kept longer than its entry: write a shorter time here, or a longer `ttl` of the type"#,
        ],
        &[
            r#"ttl = "2s", near = "5s""#,
            r#"near(ttl = "2001ms", stale = "1h"), ttl = "2s""#,
        ],
    ),
    (
        &[r#"`near` has the wrong form: write it as in `near = "5s"`"#],
        &[
            "near",
            "near = 5",
            "near = 5s",
            r#"near("5s")"#,
            "near(5)",
            "near = true",
        ],
    ),
    (
        &[r#"unknown compression `zst`: did you mean `zstd`?"#],
        &[r#"compress = "zst""#],
    ),
    (
        &[
            r#"unknown compression `gzip`: write `"zstd"`, which makes values smaller, or `"lz4"`, which is faster"#,
        ],
        &[
            r#"compress = "gzip""#,
            r#"compress = "gzip", compress_above = 1"#,
        ],
    ),
    (
        &[
            r#"`compress_above` needs `compress`: write the algorithm, as in `compress = "zstd"`, or leave out `compress_above`"#,
        ],
        &["compress_above = 1"],
    ),
    (
        &[
            "the size from which on values are compressed is a number of bytes, from 0 to 4294967295: write it as in `compress_above = 4096`",
        ],
        &[
            r#"compress = "zstd", compress_above = "4KiB""#,
            r#"compress = "zstd", compress_above = 4294967296"#,
        ],
    ),
    (
        &[r#"`ttl` has the wrong form: write it as in `ttl = "5s"`"#],
        &[
            "near(ttl)",
            "near(ttl = 5)",
            r#"near(ttl("5s"), stale = "1h")"#,
        ],
    ),
    (
        &[
            r#"`near` needs `ttl`, which bounds what a lost invalidation can cost: write how long a copy may be used, as in `near(ttl = "5s")`"#,
        ],
        &[
            "near()",
            r#"near(max_bytes = "64MiB")"#,
            r#"near(stale = "1h", get_stale)"#,
        ],
    ),
    (
        &[
            r#"under 1 KiB, in which hardly any copy fits: write a larger size, as in `max_bytes = "64MiB"`, which is also the default; for no near cache, leave out `near`"#,
        ],
        &[
            r#"near(ttl = "5s", max_bytes = 0)"#,
            r#"near(ttl = "5s", max_bytes = "0MiB")"#,
            r#"near(ttl = "5s", max_bytes = "1023")"#,
            r#"near(ttl = "5s", max_bytes = 1023)"#,
        ],
    ),
    (
        &[
            r#"not a size: write a number with the unit `KiB`, `MiB` or `GiB`, or a number of bytes, as in `max_bytes = "64MiB"`, which is also the default"#,
        ],
        &[
            r#"near(ttl = "5s", max_bytes = "")"#,
            r#"near(ttl = "5s", max_bytes = "much")"#,
            r#"near(ttl = "5s", max_bytes = -1)"#,
            r#"near(ttl = "5s", max_bytes = "1.5MiB")"#,
        ],
    ),
    (
        &[
            r#"not a size: the units are `KiB`, `MiB` and `GiB`; did you mean `max_bytes = "64MiB"`?"#,
        ],
        &[
            r#"near(ttl = "5s", max_bytes = "64MB")"#,
            r#"near(ttl = "5s", max_bytes = "64 m")"#,
        ],
    ),
    (
        &[
            r#"more bytes than a memory has: write a smaller size, as in `max_bytes = "64MiB"`, which is also the default"#,
        ],
        &[
            r#"near(ttl = "5s", max_bytes = "17179869184GiB")"#,
            r#"near(ttl = "5s", max_bytes = 99999999999999999999)"#,
        ],
    ),
    (
        &[r#"a size with a unit is a string: write it as in `max_bytes = "8MiB"`"#],
        &[
            r#"near(ttl = "5s", max_bytes = 8MiB)"#,
            r#"near(ttl = "5s", max_bytes = 8MB)"#,
        ],
    ),
    (
        &[r#"a size with a unit is a string: write it as in `max_bytes = "64MiB"`"#],
        &[
            r#"near(ttl = "5s", max_bytes = 1.5)"#,
            r#"near(ttl = "5s", max_bytes = true)"#,
        ],
    ),
    (
        &[r#"`max_bytes` has the wrong form: write it as in `max_bytes = "64MiB"`"#],
        &[
            r#"near(ttl = "5s", max_bytes)"#,
            r#"near(ttl = "5s", max_bytes = 64 << 20)"#,
        ],
    ),
    (
        &[
            r#"not longer than `ttl = "5s"`, up to which copies are used in any case: write a longer time, as in `stale = "1h"`, or leave out `stale`"#,
        ],
        &[
            r#"near(ttl = "5s", stale = "5s")"#,
            r#"near(ttl = "5s", stale = "1ms", get_stale)"#,
        ],
    ),
    (
        &[
            r#"not a time above zero: write up to which age copies are served while the server can't be asked, as in `stale = "1h"`, or leave it out"#,
        ],
        &[
            r#"near(ttl = "5s", stale = "0s")"#,
            r#"near(ttl = "5s", stale = "soon", get_stale)"#,
        ],
    ),
    (
        &[
            r#"a copy that is served without an end hides that the server can't be asked: write up to which age, as in `stale = "1h"`"#,
        ],
        &[
            r#"near(ttl = "5s", stale = "never")"#,
            r#"near(ttl = "5s", stale = "36501d")"#,
        ],
    ),
    (
        &[
            r#"`get_stale` needs `stale`: without it no stale copies are kept; write up to which age `get` serves them, as in `stale = "1h", get_stale`, or leave out `get_stale`"#,
        ],
        &[r#"near(ttl = "5s", get_stale)"#],
    ),
    (
        &["`get_stale` takes no value: write `get_stale` alone, or leave it out"],
        &[r#"near(ttl = "5s", stale = "1h", get_stale = true)"#],
    ),
    (
        &["unknown attribute `max_byte`: did you mean `max_bytes`?"],
        &[r#"near(ttl = "5s", max_byte = "1MiB")"#],
    ),
    (
        &["unknown attribute `tll`: did you mean `ttl`?"],
        &[r#"near(tll = "5s")"#],
    ),
    (
        &[
            "unknown attribute `size`: `ttl`, `max_bytes`, `stale` and `get_stale` are known in `near(…)`",
        ],
        &[r#"near(size = "5s")"#, r#"near(ttl = "5s", size = 5)"#],
    ),
    (
        &[
            r#"`stale_if_error` is not expected in `near(…)`: it belongs above the cached type, as in `#[cached(stale_if_error = "1h")]`"#,
        ],
        &[r#"near(ttl = "5s", stale_if_error = "1h")"#],
    ),
    (
        &[
            r#"`max_bytes` is not expected on a cached type: it belongs in the `near(…)` above the cached type, as in `#[cached(near(ttl = "5s", max_bytes = "64MiB"))]`"#,
        ],
        &[r#"near = "5s", max_bytes = "1MiB""#],
    ),
    (
        &[
            r#"`get_stale` is not expected on a cached type: it belongs in the `near(…)` above the cached type, as in `#[cached(near(ttl = "5s", stale = "1h", get_stale))]`"#,
        ],
        &[r#"near = "5s", get_stale"#],
    ),
    (
        &["`ttl` is written twice: keep one"],
        &[r#"near(ttl = "5s", ttl = "6s")"#],
    ),
    (
        &["`near` is written twice: keep one"],
        &[
            r#"near = "5s", near(ttl = "6s")"#,
            r#"near(ttl = "5s"), near = "6s""#,
        ],
    ),
    (
        &["unknown choice `eror` for corrupt entries: did you mean `error`?"],
        &[r#"on_corrupt = "eror""#],
    ),
    (
        &[r#"unknown choice `no` for corrupt entries: write `"miss"` (the default) or `"error"`"#],
        &[r#"on_corrupt = "no""#],
    ),
    (
        &[
            r#"not a path: write the path of the crate `valkey_runtime`, as in `crate = "my_facade::cache"`"#,
        ],
        &[r#"crate = "a b""#, r#"crate = """#],
    ),
    (
        &[
            r#"with `ttl = "never"` no entry expires: leave out `stale_if_error`, which depends on expiry, or write a time, as in `ttl = "5m"`"#,
        ],
        &[r#"ttl = "never", stale_if_error = "1h""#],
    ),
    (
        &[
            r#"with `ttl = "never"` no entry expires: leave out `refresh_ahead`, which depends on expiry, or write a time, as in `ttl = "5m"`"#,
        ],
        &[r#"ttl = "never", refresh_ahead = "80%""#],
    ),
    (
        &[
            r#"with `ttl = "never"` no entry expires: leave out `sliding`, which depends on expiry, or write a time, as in `ttl = "5m"`"#,
        ],
        &[r#"ttl = "never", sliding, max_age = "1h""#],
    ),
    (
        &[
            r#"with `ttl = "never"` no entry expires: leave out `stale_if_error` and `sliding`, which depend on expiry, or write a time, as in `ttl = "5m"`"#,
        ],
        &[r#"ttl = "never", stale_if_error = "1h", sliding, max_age = "1h""#],
    ),
    (
        &[
            r#"with `ttl = "never"` no entry expires: leave out `stale_if_error`, `refresh_ahead` and `sliding`, which depend on expiry, or write a time, as in `ttl = "5m"`"#,
        ],
        &[
            r#"ttl = "never", stale_if_error = "1h", refresh_ahead = "80%", sliding, max_age = "1h""#,
        ],
    ),
    (
        &[
            r#"`retry_after` needs `stale_if_error`: without it there is no stale value to serve; write how long a stale value is kept, as in `stale_if_error = "1h"`, or leave out `retry_after`"#,
        ],
        &[r#"retry_after = "5s""#],
    ),
    (
        &[
            r#"`load_timeout` needs `stale_if_error`: without it there is no stale value to serve; write how long a stale value is kept, as in `stale_if_error = "1h"`, or leave out `load_timeout`"#,
        ],
        &[
            r#"load_timeout = "1s""#,
            r#"refresh_ahead = "80%", load_timeout = "1s""#,
            r#"refresh_ahead = "80%", retry_after = "5s", load_timeout = "1s""#,
        ],
    ),
    (
        &[
            r#"`retry_after` and `load_timeout` need `stale_if_error`: without it there is no stale value to serve; write how long a stale value is kept, as in `stale_if_error = "1h"`, or leave out `retry_after` and `load_timeout`"#,
        ],
        &[r#"retry_after = "5s", load_timeout = "1s""#],
    ),
    (
        &[
            r#"`sliding` needs `max_age`: otherwise an entry whose invalidation was lost might never expire; write the longest life of an entry, as in `sliding, max_age = "7d"`"#,
        ],
        &["sliding"],
    ),
    (
        &[
            r#"`max_age` needs `sliding`: without it no entry lives longer than its `ttl`; write both, as in `sliding, max_age = "7d"`, or leave out `max_age`"#,
        ],
        &[r#"max_age = "7d""#],
    ),
    (
        &[
            r#"shorter than the default, `ttl = "5m"`, which an entry lives without any hit: write a longer `max_age`, or a shorter `ttl`"#,
        ],
        &[r#"sliding, max_age = "299999ms""#],
    ),
    (
        &[
            r#"shorter than `ttl = "1h"`, which an entry lives without any hit: write a longer `max_age`, or a shorter `ttl`"#,
        ],
        &[r#"sliding, ttl = "1h", max_age = "59m59s999ms""#],
    ),
    (
        &[
            r#"unknown attribute `stale_while_revalidate`: did you mean `refresh_ahead = "80%"`, which loads a new value while the current one is served, or `stale_if_error = "1h"` with `load_timeout = "1ms"`, which serves the value after its TTL while a new one is loaded?"#,
        ],
        &[r#"stale_while_revalidate = "1m""#],
    ),
    (
        &[
            r#"unknown attribute `swr`: did you mean `refresh_ahead = "80%"`, which loads a new value while the current one is served, or `stale_if_error = "1h"` with `load_timeout = "1ms"`, which serves the value after its TTL while a new one is loaded?"#,
        ],
        &[r#"swr = "1m""#],
    ),
    (
        &["unknown attribute `stale_if_eror`: did you mean `stale_if_error`?"],
        &[r#"stale_if_eror = "1m""#],
    ),
    (
        &[
            "`hash_tag` is not expected on a cached type: it belongs in the `key(…)` of a field, as in `#[cached(key(hash_tag))]`",
        ],
        &["hash_tag"],
    ),
    (
        &[
            r#"`with` is not expected on a cached type: it belongs in the `key(…)` of a field, as in `#[cached(key(with = "path::to::function"))]`"#,
        ],
        &[r#"with = "f""#],
    ),
    (
        &["there is no field `r#name`: write `name`, the name without `r#`"],
        &[r#"alias = "r#name""#, r#"tag = "a:{r#name}""#],
    ),
    (
        &["there is no field `nam`: did you mean `name`?"],
        &[r#"alias = "nam""#, r#"tag = "a:{nam}""#],
    ),
    (
        &[
            r#"there is no field `colour`: an alias is a second field that finds a value, as in `alias = "email"`"#,
        ],
        &[r#"alias = "colour""#],
    ),
    (
        &["the alias `name` is written twice: keep one"],
        &[r#"alias = "name", alias = "name""#],
    ),
    (
        &["this field is the key: values are found by it without an alias"],
        &[r#"alias = "id""#],
    ),
    (
        &[r#"an unmatched brace: write a field in braces, as in `tag = "org:{org_id}"`"#],
        &[
            r#"tag = "{""#,
            r#"tag = "a}""#,
            r#"tag = "a:{name""#,
            r#"tag = "a:{name}}""#,
        ],
    ),
    (
        &["there is no field `colour`: the text in braces must be one of the fields: `id`, `name`"],
        &[r#"tag = "a:{colour}""#],
    ),
    (
        &[
            r#"a tag needs a text that begins with a letter and names its function, as in `tag = "org:{org_id}"` for `tags().org(42)`"#,
        ],
        &[
            r#"tag = """#,
            r#"tag = "{id}""#,
            r#"tag = "1:{id}""#,
            r#"tag = "-""#,
        ],
    ),
    (
        &["the tag `a` is written twice: keep one"],
        &[r#"tag = "a", tag = "a""#],
    ),
    (
        &[
            "this tag and `a:{id}` have the same texts, which name their function `a`: change one of the texts",
        ],
        &[r#"tag = "a:{id}", tag = "a:{name}""#],
    ),
    (
        &[
            "the key is declared twice, here and by a field marked `#[cached(key)]`: keep `key = …` if the key is not part of the value, else the field",
        ],
        &["key = u64", "key = name"],
    ),
    (
        &[
            "`key` has the wrong form: write it as in `key = u64`, if the key is not part of the value; else mark the field that contains it `#[cached(key)]`",
            "the key is declared twice, here and by a field marked `#[cached(key)]`: keep `key = …` if the key is not part of the value, else the field",
        ],
        &["key = 5"],
    ),
    (
        &["`keep_corrupt` takes no value: write `keep_corrupt` alone, or leave it out"],
        &["keep_corrupt = true"],
    ),
    (
        &["`strict` takes no value: write `strict` alone, or leave it out"],
        &[r#"strict = "yes""#],
    ),
    (
        &[r#"`ttl` has the wrong form: write it as in `ttl = "5m"`"#],
        &["ttl"],
    ),
    (
        &[r#"`prefix` has the wrong form: write it as in `prefix = "user"`"#],
        &[r#"prefix("user")"#],
    ),
    (
        &["`ttl` is written twice: keep one"],
        &[r#"ttl = "1m", ttl = "2m""#],
    ),
];

/// For types: the messages, and the sources that cause each of them.
pub(super) const TYPES: &[(&[&str], &[&str])] = &[
    (
        &["this field can't be redacted: it has no name: use a struct with named fields"],
        &["struct U(#[cached(redact)] u64);"],
    ),
    (
        &[
            "this field can't be redacted: with `#[serde(flatten)]` its parts are written under their own names: use a field that is not flattened",
        ],
        &["struct U { #[cached(redact)] #[serde(flatten)] of: Of }"],
    ),
    (
        &[
            "this field can't be redacted: with `#[serde(into)]` above the type it is not written as a field",
        ],
        &[r#"#[serde(into = "X", from = "X")] struct U { #[cached(redact)] a: u8 }"#],
    ),
    (
        &[
            r#"no prefix can be derived from this name: write one, as in `#[cached(prefix = "user")]`"#,
        ],
        &["struct __;"],
    ),
    (
        &[r#"the prefix is empty: write one, as in `prefix = "user"`"#],
        &[r#"#[cached(prefix = "")] struct __;"#],
    ),
    (
        &[
            "an enum can't be cached by itself: put it in a struct, as in `struct CachedU { #[cached(key)] id: u64, value: U }`",
        ],
        &["enum U { A }"],
    ),
    (
        &["a union can't be cached, since serde can't read one: use a struct"],
        &["union U { a: u64 }"],
    ),
    (
        &["a cached value owns its data: use `String` instead of borrowed data"],
        &["struct U { name: &'static str }"],
    ),
    (
        &["a cached value owns its data: use `Vec<u8>` instead of borrowed data"],
        &["struct U { name: &'static [u8] }"],
    ),
    (
        &["a cached value owns its data: use `Path` instead of borrowed data"],
        &["struct U { name: &'static Path }"],
    ),
    (
        &[
            "a cached value owns its data: use a type without lifetimes (`String`, `Vec<u8>`, `Cow<'static, str>`) instead of borrowed data",
        ],
        &["struct U<'a> { name: Cow<'a, str> }"],
    ),
    (
        &["a cached value owns its data: leave out `borrow`"],
        &[
            "struct U<'a> { #[serde(borrow)] name: Text, of: PhantomData<()> }",
            "struct U { #[serde(borrow)] name: Text }",
        ],
    ),
    (
        &["a cached value owns its data: it can't have a lifetime parameter"],
        &["struct U<'a>(u64);"],
    ),
    (
        &[
            "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string",
        ],
        &[
            "struct U { #[cached(key)] id: f64 }",
            "struct U { #[cached(key)] id: (u8, f32) }",
            "#[cached(key = f64)] struct U;",
            r#"#[cached(tag = "a:{n}")] struct U { #[cached(key)] id: u64, n: f64 }"#,
        ],
    ),
    (
        &[
            "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string",
            "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string",
        ],
        &["struct U { #[cached(key)] id: (f64, f32) }"],
    ),
    (
        &["the key's type can't depend on `T`: use a type that is the same for every `T`"],
        &[
            "struct U<T> { #[cached(key)] id: T }",
            "struct U<T> { #[cached(key)] id: Vec<T> }",
            r#"struct U<T> { #[cached(key(with = "f"))] id: T }"#,
            "#[cached(key = T)] struct U<T>(T);",
        ],
    ),
    (
        &[
            r#"a key has at most 6 fields: put some of them in a struct and mark that `#[cached(key(with = "path"))]`"#,
        ],
        &[
            "struct U(#[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u8, #[cached(key)] u16);",
        ],
    ),
    (
        &[
            "a second hash tag: the server uses only the first; to place entries together by several fields, make them one field",
        ],
        &["struct U(#[cached(key(hash_tag))] u8, #[cached(key(hash_tag))] u8);"],
    ),
    (
        &[
            "the key is part of the value, but with `skip` it is lost when the value is read back: leave `skip` out, or remove the field and write `#[cached(key = u64)]` above the type",
        ],
        &["struct U { #[cached(key)] #[serde(skip)] id: u64 }"],
    ),
    (
        &[
            "the key is part of the value, but with `skip_serializing` it is lost when the value is read back: leave `skip_serializing` out, or remove the field and write `#[cached(key = u64)]` above the type",
        ],
        &["struct U { #[cached(key)] #[serde(skip_serializing)] id: u64 }"],
    ),
    (
        &[
            "the key is part of the value, but with `skip_deserializing` it is lost when the value is read back: leave `skip_deserializing` out, or remove the field and write `#[cached(key = u64)]` above the type",
        ],
        &["struct U { #[cached(key)] #[serde(skip_deserializing)] id: u64 }"],
    ),
    (
        &[
            r#"not the path of a function: write it as in `with = "path::to::function"`; a closure can't be used"#,
        ],
        &[
            r#"struct U { #[cached(key(with = "|x| x"))] id: Url }"#,
            r#"struct U { #[cached(key)] id: u64, #[cached(alias(with = "|x| x"))] name: String }"#,
        ],
    ),
    (
        &["write the owned type, `String`: look-ups borrow it"],
        &[
            "#[cached(key = &str)] struct U;",
            "#[cached(key = &'static str)] struct U;",
            "#[cached(key = str)] struct U;",
            "#[cached(key = (u64, &str))] struct U;",
        ],
    ),
    (
        &["write the owned type, `UserId`: look-ups borrow it"],
        &["#[cached(key = &UserId)] struct U;"],
    ),
    (
        &["`key = …` takes a type: to use the field `id`, mark it `#[cached(key)]`"],
        &["#[cached(key = id)] struct U { id: u64 }"],
    ),
    (
        &[
            "`key` has the wrong form: write it as in `key = u64`, if the key is not part of the value; else mark the field that contains it `#[cached(key)]`",
        ],
        &[r#"#[cached(key = "u64")] struct U { id: u64 }"#],
    ),
    (
        &[
            "a type without a key has one value, which is found without an alias: mark the field that is the key `#[cached(key)]`",
        ],
        &[r#"#[cached(alias = "name")] struct U { name: String }"#],
    ),
    (
        &["this field is the key: values are found by it without an alias"],
        &["struct U { #[cached(key, alias)] id: u64 }"],
    ),
    (
        &[
            "this field has no name for its look-ups, as in `get_by_email`: name the fields of the struct",
        ],
        &["struct U(#[cached(key)] u64, #[cached(alias)] String);"],
    ),
    (
        &[
            "values are compared by their alias, but with `skip` it is lost when a value is read back: leave `skip` out, or the alias",
        ],
        &["struct U { #[cached(key)] id: u64, #[cached(alias)] #[serde(skip)] name: String }"],
    ),
    (
        &["the alias is declared twice, here and above its field: keep one"],
        &[
            r#"#[cached(alias = "name")] struct U { #[cached(key)] id: u64, #[cached(alias)] name: String }"#,
        ],
    ),
    (
        &[
            "entries are marked by `n`, but with `skip` it is lost when a value is read back: leave `skip` out",
        ],
        &[r#"#[cached(tag = "a:{n}")] struct U { #[cached(key)] id: u64, #[serde(skip)] n: u64 }"#],
    ),
    (
        &[
            "the type of `n` can't depend on `T`: the fields in a tag have the same type for every `T`",
        ],
        &[r#"#[cached(tag = "a:{n}")] struct U<T> { #[cached(key)] id: u64, n: T }"#],
    ),
    (
        &["in a tag of a generic type a field can't have a function of its own"],
        &[
            r#"#[cached(tag = "a:{id}")] struct U<T> { #[cached(key(with = "f"))] id: Url, of: Vec<T> }"#,
        ],
    ),
    (
        &[
            "a cached value owns its data: use `String` instead of borrowed data",
            "the prefix holds white space: write `-` instead",
            r#"a TTL of zero: an entry that expires at once is never read; write a time, as in `ttl = "5m"`, or `ttl = "never"` for entries that don't expire"#,
            "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string",
        ],
        &[
            r#"#[cached(prefix = "a b", ttl = "0s")] struct U { #[cached(key)] id: f64, name: &'static str }"#,
        ],
    ),
];

/// For newtypes: the messages, and the sources that cause each of them.
pub(super) const NEWTYPES: &[(&[&str], &[&str])] = &[
    (
        &["only a struct with one field, as in `struct UserId(u64);`, can be made part of a key"],
        &[
            "struct Id;",
            "struct Id { }",
            "struct Id(PhantomData<u64>);",
            "union Id { a: u64 }",
        ],
    ),
    (
        &[
            "only a struct with one field, as in `struct UserId(u64);`, can be made part of a key: if several fields are the key, mark each of them `#[cached(key)]` in the cached type",
        ],
        &["struct Id(u64, u64);"],
    ),
    (
        &[
            r#"only a struct with one field, as in `struct UserId(u64);`, can be made part of a key: for an enum, mark the field that contains it `#[cached(key(with = "path"))]`, with a function that returns its name"#,
        ],
        &["enum Id { A }"],
    ),
    (
        &[
            "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string",
        ],
        &["struct Id(f64);"],
    ),
    (
        &[
            "a part of a key owns its data: use an owned type, such as `String`, instead of borrowed data",
        ],
        &["struct Id<'a>(&'a str);"],
    ),
    (
        &[
            r#"`prefix` is not expected on a type with `#[derive(KeyPart)]`: it belongs above the cached type, as in `#[cached(prefix = "user")]`"#,
        ],
        &[r#"#[cached(prefix = "x")] struct Id(u64);"#],
    ),
    (
        &[
            "`key` is not expected on a field of a type with `#[derive(KeyPart)]`: it belongs above a field of the cached type, as in `#[cached(key)]`",
        ],
        &["struct Id(#[cached(key)] u64);"],
    ),
    (
        &[
            r#"not a path: write the path of the crate `valkey_runtime`, as in `crate = "my_facade::cache"`"#,
        ],
        &[r#"#[cached(crate = "a b")] struct Id(u64);"#],
    ),
];
