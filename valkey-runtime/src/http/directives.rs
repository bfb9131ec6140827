//! The field `Cache-Control` of requests and responses, as far as the cache of responses needs it
//! (RFC 9111, section 5.2, and RFC 5861).
//!
//! It is read with caution: a line that can't be read counts as `no-store`, a directive with fields
//! (`private="set-cookie"`) as the one without them, and of two times the shorter one counts.

use http::header::{CACHE_CONTROL, HeaderMap, PRAGMA};

/// The greatest number of seconds that has to be understood (RFC 9111, section 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// The directives of a message. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
}

impl Directives {
    /// The directives of a response.
    pub(crate) fn of_response(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            found.read(line.as_bytes());
        }
        found
    }

    /// The directives of a request. `Pragma: no-cache` counts if there is no `Cache-Control` (RFC
    /// 9111, section 5.4).
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut found = Self::of_response(headers);
        if !headers.contains_key(CACHE_CONTROL) {
            let mut pragma = headers.get_all(PRAGMA).iter();
            found.no_cache = pragma.any(|line| line.as_bytes().eq_ignore_ascii_case(b"no-cache"));
        }
        found
    }

    /// Whether a stored response must have a certain age for this request.
    pub(crate) fn bounds_age(&self) -> bool {
        self.no_cache || self.max_age.is_some() || self.min_fresh.is_some()
    }

    /// Whether the request takes a response of this age that is fresh for another time, in seconds.
    pub(crate) fn takes(&self, age: u64, fresh: u64) -> bool {
        !self.no_cache
            && self.max_age.is_none_or(|most| age <= most)
            && self.min_fresh.is_none_or(|least| fresh >= least)
    }

    fn read(&mut self, line: &[u8]) {
        let mut rest = line;
        while !rest.is_empty() {
            let Some(end) = end_of_directive(rest) else {
                self.no_store = true;
                return;
            };
            let (directive, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let equals = directive.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(at) => (&directive[..at], Some(&directive[at + 1..])),
                None => (directive, None),
            };
            self.add(name.trim_ascii(), value.map(<[u8]>::trim_ascii));
        }
    }

    fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let shorter = |before: Option<u64>| {
            // A time that can't be read is none: the response is stale (section 4.2.1).
            let time = value.and_then(seconds).unwrap_or(0);
            Some(before.map_or(time, |before| before.min(time)))
        };
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("private") {
            self.private = true;
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            self.max_age = shorter(self.max_age);
        } else if is("s-maxage") {
            self.s_maxage = shorter(self.s_maxage);
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate = shorter(self.stale_while_revalidate);
        } else if is("min-fresh") {
            let time = value.and_then(seconds).unwrap_or(MOST_SECONDS);
            self.min_fresh = Some(self.min_fresh.map_or(time, |before| before.max(time)));
        }
    }
}

/// The position of the comma that ends the first directive, or the length of the line. `None` if a
/// quotation mark has no end.
fn end_of_directive(line: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return Some(at),
            _ => {}
        }
    }
    (!quoted).then_some(line.len())
}

/// A number of seconds, with or without quotation marks (section 5.2). Digits alone are one.
fn seconds(value: &[u8]) -> Option<u64> {
    let bare = value.strip_prefix(b"\"");
    let digits = match bare {
        Some(bare) => bare.strip_suffix(b"\"")?,
        None => value,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    Some(
        digits
            .parse()
            .map_or(MOST_SECONDS, |it: u64| it.min(MOST_SECONDS)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn directives(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        Directives::of_response(&headers)
    }

    #[test]
    fn a_field_is_read_as_its_rfc_says() {
        let none = Directives::default();
        for (lines, expected) in [
            (&[][..], none.clone()),
            (&["", " , ,"], none.clone()),
            (
                &["Max-Age=60, PUBLIC"],
                Directives {
                    max_age: Some(60),
                    public: true,
                    ..none.clone()
                },
            ),
            (
                &["max-age=\"60\"", "s-maxage = 5 ,must-revalidate"],
                Directives {
                    max_age: Some(60),
                    s_maxage: Some(5),
                    must_revalidate: true,
                    ..none.clone()
                },
            ),
            (
                &["private=\"set-cookie, max-age=1\", x=\"a\\\"b,no-store\""],
                Directives {
                    private: true,
                    ..none.clone()
                },
            ),
            (
                &["no-cache=\"set-cookie\", proxy-revalidate, only-if-cached"],
                Directives {
                    no_cache: true,
                    proxy_revalidate: true,
                    only_if_cached: true,
                    ..none.clone()
                },
            ),
            (
                &["max-age=60, stale-while-revalidate=30, community=\"UCI\""],
                Directives {
                    max_age: Some(60),
                    stale_while_revalidate: Some(30),
                    ..none.clone()
                },
            ),
            (
                &["min-fresh=7, no-store"],
                Directives {
                    min_fresh: Some(7),
                    no_store: true,
                    ..none.clone()
                },
            ),
        ] {
            assert_eq!(directives(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_cant_be_read_is_stale_or_not_stored() {
        for line in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age=x",
        ] {
            assert_eq!(directives(&[line]).max_age, Some(0), "{line}");
        }
        let of = |line: &str| directives(&[line]).max_age;
        assert_eq!(of("max-age=60, max-age=5"), Some(5), "the shorter one");
        assert_eq!(of("max-age=99999999999999999999999"), Some(MOST_SECONDS));
        assert!(directives(&["max-age=60, x=\"private"]).no_store);
        assert!(directives(&["x=\"\\\""]).no_store);
    }

    #[test]
    fn pragma_counts_without_cache_control() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("No-Cache"));
        assert!(Directives::of_request(&headers).no_cache);
        assert!(!Directives::of_response(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        assert!(!Directives::of_request(&headers).no_cache);
    }

    #[test]
    fn a_request_takes_what_is_young_and_fresh_enough() {
        for (line, age, fresh, takes) in [
            ("", 100, 0, true),
            ("no-cache", 0, 100, false),
            ("max-age=10", 10, 0, true),
            ("max-age=10", 11, 100, false),
            ("min-fresh=5", 100, 5, true),
            ("min-fresh=5", 0, 4, false),
        ] {
            assert_eq!(directives(&[line]).takes(age, fresh), takes, "{line}");
        }
    }

    const NAMES: [&str; 10] = [
        "no-store",
        "no-cache",
        "private",
        "public",
        "must-revalidate",
        "max-age=7",
        "s-maxage=\"7\"",
        "stale-while-revalidate=7",
        "x=\"a,\\\"private\"",
        "foo",
    ];

    proptest! {
        /// No line makes the reader fail, and a field in two lines is the field in one.
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut found = Directives::default();
            found.read(&bytes);
        }

        #[test]
        fn order_case_and_lines_do_not_matter(
            chosen in proptest::sample::subsequence(&NAMES[..], 0..NAMES.len()),
            upper: bool,
            split: bool,
        ) {
            let mut turned: Vec<&str> = chosen.clone();
            turned.reverse();
            let one = chosen.join(",");
            let written = |text: &str| if upper { text.to_uppercase() } else { text.to_owned() };
            let other: Vec<String> = match split {
                true => turned.iter().map(|it| written(it)).collect(),
                false => vec![written(&turned.join(" , "))],
            };
            let other: Vec<&str> = other.iter().map(String::as_str).collect();
            prop_assert_eq!(directives(&[&one]), directives(&other));
            let found = directives(&[&one]);
            prop_assert_eq!(found.private, chosen.contains(&"private"));
            prop_assert_eq!(found.no_store, chosen.contains(&"no-store"));
            prop_assert_eq!(found.max_age, chosen.contains(&"max-age=7").then_some(7));
        }
    }
}
