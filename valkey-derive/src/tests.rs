//! The output of the macros, as text. The package `valkey-tests` checks how messages look in place,
//! and whether the output compiles and works.

use proc_macro2::TokenStream;
use syn::DeriveInput;

/// The implementations as `rustfmt` would format them, and the error messages before them.
fn expanded(derive: impl Fn(DeriveInput) -> TokenStream, source: &str) -> (String, Vec<String>) {
    let input: DeriveInput = syn::parse_str(source).unwrap();
    let mut file: syn::File = syn::parse2(derive(input)).unwrap();
    let messages = file.items.iter().filter_map(message).collect();
    file.items.retain(|item| message(item).is_none());
    (prettyplease::unparse(&file), messages)
}

fn message(item: &syn::Item) -> Option<String> {
    let syn::Item::Macro(item) = item else {
        return None;
    };
    assert!(item.mac.path.segments.last().unwrap().ident == "compile_error");
    Some(item.mac.parse_body::<syn::LitStr>().unwrap().value())
}

fn cached(source: &str) -> String {
    let (code, messages) = expanded(crate::cached, source);
    assert!(messages.is_empty(), "{messages:?}");
    without_registration(code)
}

/// The output of `cached` without the last item of a type without parameters.
fn without_registration(code: String) -> String {
    match code.split_once("    __rt::inventory::submit! {\n") {
        Some((before, rest)) => {
            let (_, after) = rest.split_once("\n    }\n").unwrap();
            format!("{before}{after}")
        }
        None => code,
    }
}

pub(crate) fn mistakes(source: &str) -> Vec<String> {
    expanded(crate::cached, source).1
}

/// The messages for a function with these arguments of `cached_fn`.
fn mistakes_of_function(arguments: &str, function: &str) -> Vec<String> {
    let tokens = crate::function::cached_fn(arguments.parse().unwrap(), function.parse().unwrap());
    let file: syn::File = syn::parse2(tokens).unwrap();
    file.items.iter().filter_map(message).collect()
}

#[test]
fn each_slip_in_a_function_has_one_message() {
    let with = |arguments| {
        let function =
            "async fn f(store: &Store, #[context] db: &Db, id: u32) -> Result<u8, E> { Ok(1) }";
        mistakes_of_function(arguments, function)
    };
    let of = |function| mistakes_of_function("ttl = \"5m\"", function);
    for none in [
        "",
        "ttl = \"1h\", tag = \"all:{id}\", clear",
        "near = \"5s\"",
        "store = db.store",
    ] {
        assert_eq!(with(none), Vec::<String>::new(), "{none}");
    }
    for (messages, begins) in [
        (
            with("tll = \"5m\""),
            "unknown attribute `tll`: did you mean `ttl`?",
        ),
        (
            with("key = u32"),
            "`key` is not expected on a cached function",
        ),
        (with("alias = \"id\""), "a cached function has no aliases"),
        (
            with("layout = \"compact\""),
            "this is for cached types only",
        ),
        (with("ttl = 300"), "a TTL is a string"),
        (
            with("ttl_absent = \"5s\""),
            "`ttl_absent` is the time for which `None` is cached",
        ),
        (
            with("tag = \"of:{ids}\""),
            "there is no parameter `ids`: did you mean `id`?",
        ),
        (with("tag = \"of:{db}\""), "`db` is not part of the key"),
        (with("tags"), "a cached function sets no tags when it loads"),
        (
            with("validate"),
            "write the function that validates a result",
        ),
        (
            with("load_timeout = \"1s\""),
            "`load_timeout` needs `stale_if_error`",
        ),
        (
            of("fn f(store: &Store) -> u8 { 1 }"),
            "a cached function is async",
        ),
        (
            of("async fn f(id: u8) -> u8 { 1 }"),
            "a cached function needs the store",
        ),
        (
            of("async fn f(store: &Store) { }"),
            "a cached function returns the value",
        ),
        (
            of("async fn f(store: &Store) -> &'static str { \"\" }"),
            "a cached value owns its data",
        ),
        (
            of("async fn f(store: &Store) -> io::Result<Cow<'_, str>> { x }"),
            "a cached value owns its data",
        ),
        (
            of("async fn f(store: &Store) -> DbResult { x }"),
            "the type of the value is not named",
        ),
        (
            of("async fn f<T>(store: &Store, id: u8) -> u8 { 1 }"),
            "a cached function has no parameter `T`",
        ),
        (
            of("async unsafe fn f(store: &Store) -> u8 { 1 }"),
            "a cached function is safe",
        ),
        (
            of("async fn f(&self, store: &Store) -> u8 { 1 }"),
            "a method can't be a cached function",
        ),
        (
            of("async fn f(store: &Store, id: &mut u8) -> u8 { 1 }"),
            "a mutable reference can't be part of the key",
        ),
        (
            of("async fn f(store: &Store, id: &[u8]) -> u8 { 1 }"),
            "a slice can't be part of the key",
        ),
        (
            of("async fn f(store: &Store, id: impl Id) -> u8 { 1 }"),
            "an `impl Trait` can't be part of the key",
        ),
        (
            of("async fn f(store: &Store, id: Id<'_>) -> u8 { 1 }"),
            "a part of the key has a type without lifetimes",
        ),
        (
            of("async fn f(store: &Store, (a, b): (u8, u8)) -> u8 { 1 }"),
            "a part of the key needs a name",
        ),
        (
            of("async fn f(store: &Store, id: f64) -> u8 { 1 }"),
            "floats are not keys",
        ),
        (
            of("async fn f(store: &Store, #[context] #[key] id: u8) -> u8 { 1 }"),
            "a parameter is context or part of the key",
        ),
        (
            of("async fn f(store: &Store, #[key(hash_tga)] id: u8) -> u8 { 1 }"),
            "unknown attribute `hash_tga`",
        ),
        (
            of(
                "async fn f(store: &Store, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) -> u8 { 1 }",
            ),
            "a key has at most 6 parts",
        ),
    ] {
        let [message] = messages.as_slice() else {
            panic!("one message that begins `{begins}`, not {messages:?}");
        };
        assert!(message.starts_with(begins), "{message}");
    }
}

pub(crate) fn mistakes_of_newtype(source: &str) -> Vec<String> {
    expanded(crate::key_part, source).1
}

#[test]
fn user_takes_few_lines() {
    let code = cached(
        r#"
        #[cached(prefix = "user", ttl = "5m", version = 2)]
        struct User {
            #[cached(key)]
            id: u64,
            name: String,
            email: String,
        }
        "#,
    );
    let expected = "\
const _: () = {
    use ::valkey_runtime::__private as __rt;
    #[automatically_derived]
    impl __rt::CachedType for User {
        const PREFIX: &'static str = \"user\";
        const TTL: __rt::Ttl = __rt::Ttl::from_millis(300000);
        const VERSION: u16 = 2;
        type Guarding = __rt::BestEffort;
        type Tags = ();
        type OwnedKey = u64;
        type Key<'k> = <u64 as __rt::KeyPart>::Ref<'k>;
        fn __try_clone(&self) -> __rt::Option<Self> {
            use __rt::clones::*;
            (&__rt::Cloning(self)).try_clone()
        }
    }
    #[automatically_derived]
    impl __rt::Keyed for User {
        fn cache_key(&self) -> Self::Key<'_> {
            <u64 as __rt::KeyPart>::key_ref(&self.id)
        }
    }
};
";
    assert_eq!(code, expected);
    assert!(code.lines().count() <= 40);
}

#[test]
fn every_attribute_and_kind_of_key_has_its_place() {
    let code = cached(
        r#"
        #[cached(ttl = "never", ttl_env = "MEMBER_TTL", on_corrupt = "error", keep_corrupt, strict, hold = "500ms",
            max_loads = 8, crate = "facade::cache")]
        struct r#Member(
            #[cached(key(hash_tag))] OrgId,
            #[cached(key(with = "Url::as_str"))] Url,
        );
        "#,
    );
    let expected = "\
const _: () = {
    use facade::cache::__private as __rt;
    use __rt::KeyPart as __KeyPart;
    #[automatically_derived]
    impl __rt::CachedType for r#Member
    where
        OrgId: __KeyPart,
    {
        const PREFIX: &'static str = \"member\";
        const TTL: __rt::Ttl = __rt::Ttl::Never;
        const VERSION: u16 = 1;
        const POLICY: __rt::Policy = __rt::Policy::new()
            .on_corrupt(__rt::OnCorrupt::Error)
            .keep_corrupt()
            .ttl_env(\"MEMBER_TTL\")
            .hold(__rt::Duration::from_millis(500))
            .max_loads(8);
        type Guarding = __rt::Strict;
        type Tags = ();
        type OwnedKey = (__rt::HashTag<OrgId>, __rt::With<Url, Self, 1>);
        type Key<'k> = (<OrgId as __rt::KeyPart>::Ref<'k>, &'k Url);
        fn __try_clone(&self) -> __rt::Option<Self> {
            use __rt::clones::*;
            (&__rt::Cloning(self)).try_clone()
        }
    }
    #[automatically_derived]
    impl __rt::Keyed for r#Member
    where
        OrgId: __KeyPart,
    {
        fn cache_key(&self) -> Self::Key<'_> {
            (<OrgId as __rt::KeyPart>::key_ref(&self.0), &self.1)
        }
    }
    #[automatically_derived]
    impl __rt::KeyWith<Url, 1> for r#Member
    where
        OrgId: __KeyPart,
    {
        fn write(foreign: &Url, out: &mut __rt::KeyWriter) {
            __rt::WithResult::write_to(Url::as_str(foreign), out)
        }
    }
};
";
    assert_eq!(code, expected);
}

#[test]
fn the_attributes_of_stale_values_are_in_the_policy() {
    let code = cached(
        r#"
        #[cached(ttl = "1h", stale_if_error = "1d", retry_after = "1m", refresh_ahead = "99%", load_timeout = "200ms",
            load_deadline = "2m", sliding, max_age = "1h")]
        struct User(#[cached(key)] u64);
        "#,
    );
    let expected = "
        const POLICY: __rt::Policy = __rt::Policy::new()
            .stale_if_error(__rt::Duration::from_millis(86400000))
            .retry_after(__rt::Duration::from_millis(60000))
            .refresh_ahead_percent(99)
            .load_timeout(__rt::Duration::from_millis(200))
            .load_deadline(__rt::Duration::from_millis(120000))
            .sliding(__rt::Duration::from_millis(3600000));
";
    assert!(code.contains(expected), "{code}");
}

#[test]
fn the_choices_of_a_near_cache_are_in_the_policy_where_they_are_written() {
    let all = cached(
        r#"
        #[cached(max_loads = 8, near(ttl = "5s", max_bytes = "1MiB", stale = "1h", get_stale))]
        struct User(#[cached(key)] u64);
        "#,
    );
    let expected = "
        const POLICY: __rt::Policy = __rt::Policy::new()
            .max_loads(8)
            .near(__rt::Duration::from_millis(5000))
            .near_max_bytes(1048576)
            .near_stale(__rt::Duration::from_millis(3600000))
            .near_get_stale();
";
    assert!(all.contains(expected), "{all}");
    let short = "
        const POLICY: __rt::Policy = __rt::Policy::new()
            .near(__rt::Duration::from_millis(5000));
";
    for near in ["near = \"5s\"", "near(ttl = \"5s\")"] {
        let code = cached(&format!(
            "#[cached({near})] struct User(#[cached(key)] u64);"
        ));
        assert!(code.contains(short), "{near}: {code}");
    }
}

#[test]
fn the_size_of_entries_is_in_the_policy() {
    let code = cached(
        r#"
        #[cached(encrypt, compress = "lz4", compress_above = 4096)]
        struct User(#[cached(key)] u64);
        "#,
    );
    let expected = "
        const POLICY: __rt::Policy = __rt::Policy::new()
            .compress(__rt::Compression::Lz4)
            .compress_above(4096)
            .encrypt();
";
    assert!(code.contains(expected), "{code}");
    let code = cached("#[cached(compress = \"zstd\")] struct User(#[cached(key)] u64);");
    let zstd = "__rt::Policy::new().compress(__rt::Compression::Zstd);";
    let code = code.split_whitespace().collect::<String>();
    assert!(code.contains(&zstd.replace(' ', "")), "{code}");
}

#[test]
fn redacted_fields_are_listed_by_the_names_under_which_serde_writes_them() {
    for (source, list) in [
        (
            "struct U { #[cached(key)] id: u64, #[cached(redact)] mail: String }",
            r#"&["mail"]"#,
        ),
        (
            "struct U { #[cached(redact)] a: u8, #[cached(key, redact)] b: u8 }",
            r#"&["a", "b"]"#,
        ),
        ("struct U { #[cached(redact)] r#type: u8 }", r#"&["type"]"#),
        (
            r#"struct U { #[cached(redact)] #[serde(rename = "Mail")] mail: u8 }"#,
            r#"&["Mail"]"#,
        ),
        (
            r#"struct U { #[cached(redact)] #[serde(rename(serialize = "M", deserialize = "M"))] mail: u8 }"#,
            r#"&["M"]"#,
        ),
        (
            r#"#[serde(rename_all = "camelCase")] struct U { #[cached(redact)] first_name: u8 }"#,
            r#"&["firstName"]"#,
        ),
        (
            r#"#[serde(rename_all = "PascalCase")] struct U { #[cached(redact)] first_name: u8 }"#,
            r#"&["FirstName"]"#,
        ),
        (
            r#"#[serde(rename_all = "SCREAMING-KEBAB-CASE")] struct U { #[cached(redact)] first_name: u8 }"#,
            r#"&["FIRST-NAME"]"#,
        ),
        (
            r#"#[serde(rename_all(serialize = "kebab-case", deserialize = "kebab-case"))]
            struct U { #[cached(redact)] first_name: u8, #[serde(skip)] #[cached(redact)] b: u8 }"#,
            r#"&["first-name"]"#,
        ),
    ] {
        let code = cached(source);
        let expected = format!("const REDACTED: &'static [&'static str] = {list};");
        assert!(code.contains(&expected), "{source}: {code}");
    }
    let code = cached("struct U { #[cached(key)] id: u64 }");
    assert!(!code.contains("REDACTED"), "{code}");
}

#[test]
fn the_layout_and_the_lock_are_in_the_shape() {
    let compact = cached(
        r#"
        #[cached(version = 2, layout = "compact")]
        struct User<T> {
            #[cached(key)]
            id: u64,
            #[serde(rename = "n")]
            name: Vec<User<T>>,
        }
        "#,
    );
    let expected = "
        const SHAPE: u32 = {
            let shape = __rt::Fingerprint::structure(
                &[
                    (\"id\", <u64 as __rt::Shape>::FINGERPRINT.in_arrays()),
                    (\"n\", <Vec<__rt::Recursive> as __rt::Shape>::FINGERPRINT.in_arrays()),
                ],
            );
            shape.to_u32()
        };
";
    assert!(compact.contains(expected), "{compact}");
    let locked = cached(
        r#"
        #[cached(version = 2, lock = "24c59e02")]
        struct User(#[cached(key)] u64, #[shape(opaque = "3")] Foreign);
        "#,
    );
    let expected = "
        const SHAPE: u32 = {
            let shape = __rt::Fingerprint::tuple(
                &[<u64 as __rt::Shape>::FINGERPRINT, __rt::Fingerprint::opaque(\"3\")],
            );
            __rt::is_locked(shape, \"User\", 2, 616930818);
            0
        };
";
    assert!(locked.contains(expected), "{locked}");
    assert!(locked.contains("const _: u32 = <User as __rt::CachedType>::SHAPE;"));
}

/// After any mistake the output still passes the checks of the runtime's `Policy`. Otherwise a
/// second error would appear elsewhere.
#[test]
fn one_slip_gives_one_message() {
    for slip in [
        "stale_if_error = \"never\"",
        "stale_if_error = \"soon\", retry_after = \"5s\", load_timeout = \"1s\"",
        "stale_if_error = 3600, retry_after = \"5s\"",
        "stale_if_error, retry_after = \"5s\"",
        "stale_if_errors = \"1h\", retry_after = \"5s\"",
        "stale_if_error = \"1h\", retry_after = \"0s\"",
        "stale_if_error = \"1h\", retry_after = \"25h\"",
        "stale_if_error = \"1h\", retry_after = \"never\"",
        "stale_if_error = \"1h\", load_timeout = \"0ms\"",
        "load_deadline = \"0s\"",
        "load_deadline = \"never\"",
        "load_deadline = \"soon\"",
        "load_deadline = 30",
        "load_deadline",
        "retry_after = \"5s\"",
        "load_timeout = \"200ms\"",
        "retry_after = \"5s\", load_timeout = \"200ms\"",
        "refresh_ahead = \"0%\"",
        "refresh_ahead = \"100%\"",
        "refresh_ahead = \"80\"",
        "refresh_ahead = 80",
        "refresh_ahead",
        "sliding",
        "sliding, max_age",
        "sliding = true, max_age = \"7d\"",
        "sliding, max_age = \"0s\"",
        "sliding, max_age = \"never\"",
        "sliding, maxage = \"1h\"",
        "max_age = \"7d\"",
        "max_age = \"1s\"",
        "sliding, max_age = \"4m\"",
        "sliding, max_age = \"1h\", ttl = \"1h1ms\"",
        "sliding, max_age = \"1m\", ttl = 300",
        "sliding, max_age = \"1m\", ttl = never",
        "sliding, max_age = \"1m\", ttl = \"soon\"",
        "compress",
        "compress = 3",
        "compress = \"gzip\"",
        "compress = \"zstdd\", compress_above = 10",
        "compress_above = 10",
        "compress = \"zstd\", compress_above = \"4KiB\"",
        "compress = \"zstd\", compress_above = -1",
        "compress = \"zstd\", compress_above = 4294967296",
        "near",
        "near = 5",
        "near = \"0s\"",
        "near = \"25h\"",
        "near = \"never\"",
        "near = \"6m\"",
        "near = \"soon\", ttl = \"1s\"",
        "near = \"1h\", ttl = 300",
        "near = \"1h\", ttl = \"soon\"",
        "near()",
        "near(\"5s\")",
        "near(\"5s\", max_bytes = \"1MiB\")",
        "near(ttl = \"0s\", stale = \"1h\", get_stale)",
        "near(ttl = \"5s\", max_bytes = 0)",
        "near(ttl = \"5s\", max_bytes = 1MiB)",
        "near(ttl = \"5s\", stale = \"0s\", get_stale)",
        "near(ttl = \"5s\", stale, get_stale)",
        "near(ttl = \"5s\", stael = \"1h\", get_stale)",
        "near(ttl = \"5s\", get_stale)",
        "near(ttl = \"5s\" stale = \"1h\")",
        "near(expiry = \"5s\")",
        "neer = \"5s\"",
        "neer(ttl = \"5s\", stale = \"1h\", get_stale)",
        "ttl = \"never\", stale_if_error = \"1h\"",
        "ttl = \"never\", refresh_ahead = \"80%\"",
        "ttl = \"never\", sliding, max_age = \"7d\"",
        "ttl = \"never\", stale_if_error = \"1h\", refresh_ahead = \"80%\", sliding, max_age = \"7d\"",
    ] {
        let source = format!("#[cached({slip})] struct User(#[cached(key)] u64);");
        let (code, messages) = expanded(crate::cached, &source);
        assert_eq!(messages.len(), 1, "{slip}: {messages:?}");
        assert!(code.contains("__rt::CachedType for User"), "{slip}");
        for refused in [
            "(0)",
            "percent(100)",
            "retry_after_millis(90000000)",
            "near(__rt::Duration::from_millis(90000000))",
        ] {
            assert!(!code.contains(refused), "{slip}: {code}");
        }
    }
}

#[test]
fn a_slip_that_several_attributes_share_names_them_all() {
    let never = r#"#[cached(ttl = "never", stale_if_error = "1h", refresh_ahead = "80%", sliding, max_age = "7d")]"#;
    let no_stale_values = r#"#[cached(load_timeout = "1s", retry_after = "5s")]"#;
    assert_eq!(
        mistakes(&format!("{never} struct User;")),
        [
            "with `ttl = \"never\"` no entry expires: leave out `stale_if_error`, `refresh_ahead` and `sliding`, which \
             depend on expiry, or write a time, as in `ttl = \"5m\"`"
        ]
    );
    assert_eq!(
        mistakes(&format!("{no_stale_values} struct User;")),
        [
            "`retry_after` and `load_timeout` need `stale_if_error`: without it there is no stale value to serve; write \
             how long a stale value is kept, as in `stale_if_error = \"1h\"`, or leave out `retry_after` and `load_timeout`"
        ]
    );
}

#[test]
fn parameters_are_part_of_the_prefix_and_keep_their_bounds() {
    let code =
        cached("struct Grid<T: Copy = u8, const N: usize = 3> where T: Ord { cells: Vec<[T; N]> }");
    let expected = "\
const _: () = {
    use ::valkey_runtime::__private as __rt;
    #[automatically_derived]
    impl<T: Copy, const N: usize> __rt::CachedType for Grid<T, N>
    where
        T: Ord,
        T: __rt::PrefixPart,
        Self: __rt::Serialize + __rt::DeserializeOwned + __rt::Send + __rt::Sync
            + 'static,
    {
        const PREFIX: &'static str = const {
            &__rt::Prefix::new(\"grid\")
                .open()
                .name(<T as __rt::PrefixPart>::NAME)
                .comma()
                .number(N as i128)
                .close()
        }
            .as_str();
        const TTL: __rt::Ttl = __rt::Ttl::from_millis(300000);
        const VERSION: u16 = 1;
        type Guarding = __rt::BestEffort;
        type Tags = ();
        type OwnedKey = ();
        type Key<'k> = ();
        fn __try_clone(&self) -> __rt::Option<Self> {
            use __rt::clones::*;
            (&__rt::Cloning(self)).try_clone()
        }
    }
    #[automatically_derived]
    impl<T: Copy, const N: usize> __rt::Keyed for Grid<T, N>
    where
        T: Ord,
        T: __rt::PrefixPart,
        Self: __rt::Serialize + __rt::DeserializeOwned + __rt::Send + __rt::Sync
            + 'static,
    {
        fn cache_key(&self) -> Self::Key<'_> {}
    }
};
";
    assert_eq!(code, expected);
}

#[test]
fn a_key_that_is_not_in_the_value_makes_no_keyed_type() {
    let code = cached("#[cached(key = (u64, String))] struct Rates(Vec<u32>);");
    assert!(code.contains("type OwnedKey = (u64, String);"), "{code}");
    assert!(
        code.contains("type Key<'k> = <(u64, String) as __rt::KeyPart>::Ref<'k>;"),
        "{code}"
    );
    assert!(!code.contains("Keyed"), "{code}");
}

#[test]
fn a_newtype_is_written_as_its_field() {
    let (code, messages) = expanded(
        crate::key_part,
        "struct Id<T> { raw: u64, of: PhantomData<fn() -> T> }",
    );
    assert!(messages.is_empty(), "{messages:?}");
    let expected = "\
const _: () = {
    use ::valkey_runtime::__private as __rt;
    #[automatically_derived]
    impl<T> __rt::Newtype for Id<T>
    where
        Self: __rt::Sync + 'static,
    {
        type Field = u64;
        fn field(&self) -> &u64 {
            &self.raw
        }
        fn of_field(field: u64) -> Self {
            Self {
                raw: field,
                of: __rt::PhantomData,
            }
        }
    }
    #[automatically_derived]
    impl<T> __rt::LimitKey for Id<T>
    where
        Self: __rt::Sync + 'static,
    {
        fn write_key(&self, out: &mut __rt::KeyWriter) {
            <Self as __rt::KeyPart>::write(self, out)
        }
    }
};
";
    assert_eq!(code, expected);
}

#[test]
fn serde_attributes_are_left_to_serde() {
    cached(
        r#"
        #[serde(rename_all = "camelCase", deny_unknown_fields, bound(serialize = "T: Copy, U: Copy"))]
        #[serde]
        struct User {
            #[cached(key)]
            #[serde(rename(serialize = "skip", deserialize = "skip"), default = "skip")]
            id: u64,
            #[serde(skip, alias = "borrow")]
            name: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            email: Option<String>,
            #[serde(skip)]
            callback: Option<fn(&str) -> &str>,
        }
        "#,
    );
}

#[test]
fn fields_that_serde_would_write_but_not_read_are_mistakes() {
    let on_type = |attrs: &str, fields: &str| {
        let source =
            format!("#[serde({attrs})] struct User {{ #[cached(key)] id: u64, {fields} }}");
        mistakes(&source)
    };
    let of = |fields: &str| on_type("", fields);
    let first_words = |mistakes: Vec<String>| match mistakes.as_slice() {
        [one] => one.split(' ').take(3).collect::<Vec<_>>().join(" "),
        other => panic!("{other:?}"),
    };
    for (fields, words) in [
        (
            "#[serde(skip_serializing)] a: String",
            "with `skip_serializing` the",
        ),
        (
            "#[serde(skip_serializing, with = \"x\")] a: Option<String>",
            "with `skip_serializing` the",
        ),
        (
            "#[serde(skip_serializing_if = \"f\")] a: Vec<u8>",
            "with `skip_serializing_if` the",
        ),
        ("#[serde(rename(serialize = \"b\"))] a: u8", "the field is"),
        (
            "#[serde(rename(deserialize = \"b\"))] a: u8",
            "the field is",
        ),
        (
            "#[serde(rename(serialize = \"b\", deserialize = \"c\"))] a: u8",
            "the field is",
        ),
        (
            "#[serde(rename(serialize = \"b\"), alias = \"c\")] a: u8",
            "the field is",
        ),
    ] {
        assert_eq!(first_words(of(fields)), words, "{fields}");
        assert_eq!(on_type("into = \"Other\"", fields), [""; 0], "{fields}");
    }
    let denied = "#[serde(skip_deserializing)] a: u8";
    let renamed = "#[serde(rename(serialize = \"b\"))] a: u8";
    for (attrs, fields, words) in [
        (
            "deny_unknown_fields",
            denied,
            "with `skip_deserializing` the",
        ),
        ("rename_all = \"camelCase\"", renamed, "the field is"),
        (
            "rename_all(serialize = \"camelCase\")",
            "",
            "the fields are",
        ),
        (
            "rename_all(serialize = \"camelCase\", deserialize = \"PascalCase\")",
            "",
            "the fields are",
        ),
    ] {
        assert_eq!(
            first_words(on_type(attrs, fields)),
            words,
            "{attrs} {fields}"
        );
    }
    for fields in [
        "#[serde(skip_serializing, default)] a: String",
        "#[serde(skip_serializing, skip_deserializing)] a: String",
        "#[serde(skip)] a: String",
        "#[serde(skip_deserializing)] a: String",
        "#[serde(skip_serializing)] a: Option<String>",
        "#[serde(skip_serializing_if = \"f\")] a: std::option::Option<String>",
        "#[serde(default = \"g\", skip_serializing_if = \"f\")] a: Vec<u8>",
        "#[serde(rename(serialize = \"b\"), alias = \"b\")] a: u8",
        "#[serde(rename(deserialize = \"b\"), alias = \"a\")] a: u8",
        "#[serde(rename(serialize = \"b\", deserialize = \"b\"))] a: u8",
        "#[serde(rename = \"b\")] a: u8",
    ] {
        assert_eq!(of(fields), [""; 0], "{fields}");
    }
    for attrs in [
        "default",
        "rename_all(serialize = \"camelCase\", deserialize = \"camelCase\")",
    ] {
        let fields = match attrs {
            "default" => "#[serde(skip_serializing)] a: String",
            _ => "a: String",
        };
        assert_eq!(on_type(attrs, fields), [""; 0], "{attrs}");
    }
}

#[test]
fn attributes_that_would_move_tuple_fields_are_mistakes() {
    let of = |fields: &str| mistakes(&format!("struct User(#[cached(key)] u64, {fields});"));
    for fields in [
        "#[serde(skip_serializing_if = \"f\")] Option<u8>, u8",
        "#[serde(skip_serializing_if = \"f\", default)] Option<u8>, u8",
        "#[serde(skip_serializing, default)] u8, u8",
        "#[serde(skip_deserializing)] u8",
        "#[serde(skip_serializing_if = \"f\")] Option<u8>",
    ] {
        assert_eq!(of(fields).len(), 1, "{fields}");
    }
    for fields in [
        "u8, #[serde(skip_serializing_if = \"f\", default)] Option<u8>",
        "#[serde(skip)] u8, u8",
        "#[serde(skip_serializing, skip_deserializing)] u8, u8",
    ] {
        assert_eq!(of(fields), [""; 0], "{fields}");
    }
    let newtype =
        "#[cached(key = u64)] struct Page(#[serde(skip_serializing_if = \"f\")] Option<u8>);";
    assert_eq!(mistakes(newtype), [""; 0]);
}

/// Each of these gives at least one message, and implementations nevertheless.
#[test]
fn no_attribute_is_too_odd() {
    for odd in [
        "#[cached]",
        "#[cached = \"user\"]",
        "#[cached(,)]",
        "#[cached(prefix = \"a\",, ttl = \"1s\")]",
        "#[cached(\"user\")]",
        "#[cached(= \"user\")]",
        "#[cached(prefix = )]",
        "#[cached(prefix =, ttl = \"1s\")]",
        "#[cached(prefix = = )]",
        "#[cached(prefix[])]",
        "#[cached(prefix(\"user\"))]",
        "#[cached(prefix::x = \"user\")]",
        "#[cached(prefix = \"user\" \"other\")]",
        "#[cached(prefix = b\"user\")]",
        "#[cached(ttl = true)]",
        "#[cached(ttl = 'm')]",
        "#[cached(version = 1e9)]",
        "#[cached(version = -1)]",
        "#[cached(version = 99999999999999999999999999999999999999999)]",
        "#[cached(keep_corrupt())]",
        "#[cached(keep_corrupt = )]",
        "#[cached(key = )]",
        "#[cached(key = 5)]",
        "#[cached(key = Id<A, B)]",
        "#[cached(key = A>, B>)]",
        "#[cached(key = \"u64\")]",
        "#[cached(key())]",
        "#[cached(key(hash_tag))]",
        "#[cached(near(near))]",
        "#[cached(near(, ttl = \"5s\"))]",
        "#[cached(near[ttl = \"5s\"])]",
        "#[cached(crate = \"\")]",
        "#[cached(r#prefix = \"x\")]",
        "#[cached({})]",
        "#[cached(type)]",
        "#[cached(_)]",
        "#[cached(>, >)]",
    ] {
        let source = format!("{odd} struct User {{ id: u64 }}");
        let (code, messages) = expanded(crate::cached, &source);
        assert!(!messages.is_empty(), "{odd}");
        assert!(code.contains("__rt::CachedType for User"), "{odd}");
    }
}

#[test]
fn a_missing_comma_hides_nothing() {
    let source = r#"#[cached(keep_corrupt prefix = "user" ttl = "0s" key = (u64, u64) version = 0)] struct User {}"#;
    assert_eq!(
        mistakes(source)[..4],
        [
            "a comma is missing before `prefix`",
            "a comma is missing before `ttl`",
            "a comma is missing before `key`",
            "a comma is missing before `version`",
        ]
    );
    let (code, messages) = expanded(crate::cached, source);
    assert_eq!(messages.len(), 6, "{messages:?}");
    assert!(
        code.contains("type OwnedKey = (u64, u64);") && code.contains("keep_corrupt"),
        "{code}"
    );
}

#[test]
fn a_type_in_an_argument_may_have_commas_and_arrows() {
    let code = cached("#[cached(key = Id<fn(A) -> B, Vec<C>>, version = 7)] struct User;");
    assert!(
        code.contains("type OwnedKey = Id<fn(A) -> B, Vec<C>>;")
            && code.contains("VERSION: u16 = 7;"),
        "{code}"
    );
}

#[test]
fn a_misspelt_attribute_counts_as_what_was_meant() {
    let source = "#[cached(verison = 7)] struct User { #[cached(kei(hashtag))] id: u64 }";
    let (code, messages) = expanded(crate::cached, source);
    assert_eq!(
        messages,
        [
            "unknown attribute `verison`: did you mean `version`?",
            "unknown attribute `kei`: did you mean `key`?",
            "unknown attribute `hashtag`: did you mean `hash_tag`?",
        ]
    );
    assert!(
        code.contains("VERSION: u16 = 7;") && code.contains("OwnedKey = __rt::HashTag<u64>;"),
        "{code}"
    );
}

#[test]
fn options_that_belong_in_the_key_are_put_there() {
    for key in [
        "key, with = \"f\"",
        "with = \"f\", key",
        "key(hash_tag), with = \"f\"",
        "with = \"f\"",
    ] {
        let (code, messages) = expanded(
            crate::cached,
            &format!("struct User {{ #[cached({key})] id: Url }}"),
        );
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(code.contains("__rt::With<Url, Self, 0>"), "{code}");
    }
}

#[test]
fn macros_may_pass_types_and_literals_in() {
    let (prefix, ty): (proc_macro2::Group, proc_macro2::Group) =
        (invisible("\"user\""), invisible("f64"));
    let input = syn::parse_quote! {
        #[cached(prefix = #prefix)]
        struct User { #[cached(key)] id: #ty }
    };
    let code = crate::cached(input).to_string();
    assert!(
        code.contains("floats are not keys") && code.contains("PREFIX : & 'static str = \"user\""),
        "{code}"
    );
}

/// Tokens in the form in which `macro_rules` passes a parsed fragment.
fn invisible(text: &str) -> proc_macro2::Group {
    proc_macro2::Group::new(proc_macro2::Delimiter::None, text.parse().unwrap())
}

#[test]
fn an_alias_takes_a_trait_and_two_methods() {
    let code = cached(
        r#"
        #[cached(alias = "email")]
        pub(crate) struct User {
            #[cached(key)]
            id: u64,
            email: Option<String>,
        }
        "#,
    );
    let expected = "\
    #[automatically_derived]
    impl __rt::Aliased<0> for User {
        const NAME: &'static str = \"email\";
        type Field = Option<String>;
        fn field(&self) -> &Option<String> {
            &self.email
        }
    }
    #[allow(dead_code)]
    impl User {
        /// Reads the value with this `email`, if its key is cached: [`load_by_email`](Self::load_by_email) looks it up. `None` is a miss.
        ///
        /// # Errors
        /// As `get`.
        pub(crate) fn get_by_email<'s>(
            store: &'s __rt::Store,
            value: __rt::AliasRef<'_, Option<String>>,
        ) -> impl __rt::Future<
            Output = __rt::Result<__rt::Option<Self>>,
        > + __rt::Send + use<'s> {
            __rt::get_by::<Self, 0>(store, value)
        }
";
    assert!(code.contains(expected), "{code}");
    assert!(code.contains("pub(crate) fn load_by_email<'s>("));
    // The two methods, the field of the alias, the key, and the clone.
    assert_eq!(code.matches(" fn ").count(), 5);
}

#[test]
fn an_alias_may_be_of_any_type_of_key_and_normalised() {
    let code = cached(
        r#"
        #[cached(alias = "type")]
        struct User<T> {
            #[cached(key)]
            id: u64,
            r#type: Kind<T>,
            #[cached(alias(with = "text::lower"))]
            name: String,
            #[cached(alias)]
            number: u64,
        }
        "#,
    );
    let expected = "\
    #[automatically_derived]
    impl<T> __rt::Aliased<1> for User<T>
    where
        T: __rt::PrefixPart,
        Self: __rt::Serialize + __rt::DeserializeOwned + __rt::Send + __rt::Sync
            + 'static,
        Kind<T>: __AliasField,
    {
        const NAME: &'static str = \"name\";
        type Field = String;
        fn field(&self) -> &String {
            &self.name
        }
        fn write(value: __rt::AliasRef<'_, String>, out: &mut __rt::KeyWriter) {
            __rt::WithResult::write_to(text::lower(value), out)
        }
    }
";
    assert!(code.contains(expected), "{code}");
    for part in [
        "fn get_by_type<'s>",
        "&self.r#type",
        "use<'s, T>",
        "__rt::Aliased<2>",
        "fn get_by_number<'s>",
    ] {
        assert!(code.contains(part), "{part}: {code}");
    }
}

/// Each of these gives one message, and the look-ups nevertheless.
#[test]
fn one_slip_in_an_alias_gives_one_message() {
    for (above, of_email) in [
        (r#"alias = "mail""#, ""),
        (r#"alias = "email", alias = "email""#, ""),
        (r#"alias = "email""#, "#[cached(alias)]"),
        ("", r#"#[cached(alias = "email")]"#),
        ("", r#"#[cached(alias(with = "|x| x"))]"#),
        ("", "#[cached(alias(with = lower))]"),
        ("", r#"#[cached(alias(wth = "lower"))]"#),
        ("", r#"#[cached(alias, with = "lower")]"#),
        ("", r#"#[cached(with = "lower", alias)]"#),
        ("", "#[cached(alais)]"),
        ("", "#[cached(alias)] #[serde(skip)]"),
    ] {
        let source = format!(
            "#[cached({above})] struct User {{ #[cached(key)] id: u64, {of_email} email: String }}"
        );
        let (code, messages) = expanded(crate::cached, &source);
        assert_eq!(messages.len(), 1, "{above} {of_email}: {messages:?}");
        assert!(
            code.contains("fn get_by_email<'s>"),
            "{above} {of_email}: {code}"
        );
        assert!(
            code.contains("type OwnedKey = u64;"),
            "{above} {of_email}: {code}"
        );
    }
    for not_one in [
        r#"#[cached(alias = "colour")] struct User { #[cached(key)] id: u64, email: String }"#,
        r#"#[cached(alias)] struct User { #[cached(key)] id: u64, email: String }"#,
        r#"struct User { #[cached(key, alias)] id: u64 }"#,
        r#"struct User { #[cached(alias)] id: u64 }"#,
        r#"struct User(#[cached(key)] u64, #[cached(alias)] String);"#,
    ] {
        let messages = mistakes(not_one);
        assert_eq!(messages.len(), 1, "{not_one}: {messages:?}");
    }
}

#[test]
fn tags_of_the_key_are_written_once_and_those_of_the_value_beside_it() {
    let code = cached(
        r#"
        #[cached(tag = "org:{org}", tag = "org:{org}:team:{out}", tag = "users", tags = roles::of, clear, hold = "500ms")]
        struct User {
            #[cached(key)]
            org: u64,
            #[cached(key)]
            id: u64,
            out: Option<String>,
        }
        "#,
    );
    let of_entries = "
        const TAGGED: bool = true;
        type Tags = __Tags;
        fn write_key_tags((__key0, _): Self::Key<'_>, __tags: &mut __rt::TagWriter<'_>) {
            __tags.of_type(Self::PREFIX);
            __tags
                .tag(|__out| {
                    __out.text(\"org:\");
                    <u64 as __rt::KeyPart>::write(__key0, __out);
                });
            __tags
                .tag(|__out| {
                    __out.text(\"users\");
                });
        }
        fn write_tags(&self, __tags: &mut __rt::TagWriter<'_>) {
            Self::write_key_tags(__rt::Keyed::cache_key(self), __tags);
            if let __rt::Option::Some(out) = <Option<
                String,
            > as __rt::AliasField>::part(&self.out) {
                __tags
                    .tag(|__out| {
                        __out.text(\"org:\");
                        <u64 as __rt::KeyPart>::write(
                            <u64 as __rt::KeyPart>::key_ref(&self.org),
                            __out,
                        );
                        __out.text(\":team:\");
                        <<Option<
                            String,
                        > as __rt::AliasField>::Part as __rt::KeyPart>::write(
                            out,
                            __out,
                        );
                    });
            }
            __tags.extend(roles::of(self));
        }
";
    let beside = "
    #[automatically_derived]
    impl __rt::Tagged for User {}
    #[automatically_derived]
    impl __rt::Clearable for User {}
    #[derive(__rt::Default)]
    pub struct __Tags;
    #[allow(
        dead_code,
        private_interfaces,
        clippy::unused_self,
        clippy::trivially_copy_pass_by_ref
    )]
    impl __Tags {
        /// The tag `org:{org}`.
        pub fn org(&self, org: <u64 as __rt::KeyPart>::Ref<'_>) -> __rt::Tag {
            __rt::Tag::written(
                500,
                |__out| {
                    __out.text(\"org:\");
                    <u64 as __rt::KeyPart>::write(org, __out);
                },
            )
        }
        /// The tag `org:{org}:team:{out}`.
        pub fn org_team(
            &self,
            org: <u64 as __rt::KeyPart>::Ref<'_>,
            out: __rt::AliasRef<'_, Option<String>>,
        ) -> __rt::Tag {
            __rt::Tag::written(
                500,
                |__out| {
                    __out.text(\"org:\");
                    <u64 as __rt::KeyPart>::write(org, __out);
                    __out.text(\":team:\");
                    <<Option<
                        String,
                    > as __rt::AliasField>::Part as __rt::KeyPart>::write(out, __out);
                },
            )
        }
        /// The tag `users`.
        pub fn users(&self) -> __rt::Tag {
            __rt::Tag::written(
                500,
                |__out| {
                    __out.text(\"users\");
                },
            )
        }
    }
};
";
    assert!(code.contains(of_entries), "{code}");
    assert!(code.ends_with(beside), "{code}");
}

#[test]
fn tags_take_no_more_than_there_is_to_say() {
    for (source, parts) in [
        // Loaders set the tags.
        (
            "#[cached(tags)] struct User(#[cached(key)] u64);",
            &[
                "TAGGED: bool = true;",
                "type Tags = ();",
                "__rt::Tagged for User {}",
            ][..],
        ),
        // The key has a foreign type.
        (
            r#"#[cached(tag = "at:{0}")] struct Page(#[cached(key(with = "Url::as_str"))] Url);"#,
            &[
                "fn at(&self, __0: &Url) -> __rt::Tag",
                "<__rt::With<Url, Page, 0> as __rt::KeyPart>::write(__key0, __out);",
            ],
        ),
        // The key is not in the value. So `write_tags` itself writes the tags that contain no
        // field.
        (
            r#"#[cached(key = u64, tag = "rates")] struct Rates(u64);"#,
            &[
                "fn write_key_tags(_: Self::Key<'_>, ",
                "fn write_tags(&self, ",
            ],
        ),
    ] {
        let code = cached(source);
        for part in parts {
            assert!(code.contains(part), "{part}: {code}");
        }
        assert!(!code.contains("Clearable"), "{code}");
        let from_value = code.contains("fn write_tags");
        assert_eq!(from_value, !source.starts_with("#[cached(tags)]"), "{code}");
    }
}

#[test]
fn rules_are_found_by_the_traits_of_the_type_or_a_function() {
    let code = cached("#[cached(validate)] struct User { #[cached(key)] id: u64, r#type: String }");
    let by_traits = "
        fn cache_validate(&self) -> __rt::Result<(), __rt::Invalid> {
            use __rt::validators::*;
            (&&&__rt::Rules(self)).check(&[\"id\", \"type\"])
        }
";
    assert!(code.contains(by_traits), "{code}");
    let by_function = "
        fn cache_validate(&self) -> __rt::Result<(), __rt::Invalid> {
            __rt::validated(self, &[\"0\"], || users::check(self))
        }
";
    for function in ["users::check", "\"users::check\""] {
        let code = cached(&format!(
            "#[cached(validate = {function})] struct User(#[cached(key)] u64);"
        ));
        assert!(code.contains(by_function), "{code}");
    }
    let code = cached("struct User(#[cached(key)] u64);");
    assert!(!code.contains("validate"), "{code}");
}

#[test]
fn one_slip_in_what_validates_gives_one_message() {
    let written = "`validate` has the wrong form: write it as in `validate = path::to::function`";
    for (slip, message) in [
        ("validate(garde)", written),
        ("validate = |user| Ok(())", written),
        (
            "validate, validate",
            "`validate` is written twice: keep one",
        ),
        (
            "validates",
            "unknown attribute `validates`: did you mean `validate`?",
        ),
    ] {
        let source = format!("#[cached({slip})] struct User {{ #[cached(key)] id: u64 }}");
        assert_eq!(mistakes(&source), [message], "{slip}");
    }
}

#[test]
fn a_migration_is_two_items_and_its_chain_is_checked() {
    let code = cached("#[cached(version = 2, migrate_from = old::User)] struct User;");
    for part in [
        "const VERSIONS: __rt::Versions = __rt::versions::<old::User, Self>();",
        "__rt::migrated::<old::User, Self, E>(entry)",
        "const _: __rt::Versions = <User as __rt::CachedType>::VERSIONS;",
    ] {
        assert!(code.contains(part), "{code}");
    }
    let generic = cached(
        "#[cached(version = 2, migrate_from = Old<T>)] struct Page<T> { #[cached(key)] id: u64, of: T }",
    );
    assert!(generic.contains("__rt::versions::<Old<T>, Self>()"));
    assert!(!generic.contains("const _: __rt::Versions"));
}

#[test]
fn a_type_whose_only_copy_is_stored_is_a_choice_and_its_whole_chain_is_checked() {
    let first = cached(r#"#[cached(only_copy, ttl = "1h")] struct User;"#);
    assert!(
        first.contains("= __rt::Policy::new().only_copy(1);"),
        "{first}"
    );
    assert!(!first.contains("all_versions"), "{first}");
    let later = cached(
        r#"#[cached(only_copy, ttl = "1h", version = 4, oldest_version = 3, migrate_from = UserV3, show_keys)] struct User;"#,
    );
    for part in [
        ".show_keys().only_copy(3);",
        "const _: __rt::Versions = __rt::all_versions::<User>();",
    ] {
        assert!(later.contains(part), "{later}");
    }
    assert!(
        !later.contains("as __rt::CachedType>::VERSIONS;"),
        "{later}"
    );
}

#[test]
fn a_type_without_parameters_is_registered() {
    let registered = |source| {
        let (code, _) = expanded(crate::cached, source);
        let code = code.split_whitespace().collect::<String>();
        code.split_once("Registered::new(")
            .map(|(_, rest)| rest.to_owned())
    };
    let code = registered(
        r#"#[cached(prefix = "a", version = 3, ttl_env = "A_TTL", migrate_from = B)] struct A;"#,
    );
    let code = code.unwrap();
    for part in [
        "type_name::<A>",
        "\"a\"",
        "__rt::Versions::of(3)",
        ".after(const{&<Bas__rt::CachedType>::VERSIONS})",
        "__rt::Option::Some(\"A_TTL\")",
    ] {
        assert!(code.contains(part), "{part}: {code}");
    }
    assert_eq!(
        registered("struct Page<T> { #[cached(key)] id: u64, of: T }"),
        None
    );
}
