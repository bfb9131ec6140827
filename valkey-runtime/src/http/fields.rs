//! The text of header fields: strings and tokens of RFC 9651, and the fields of the draft on rate
//! limits.
//!
//! The draft is draft-ietf-httpapi-ratelimit-headers-11.

use std::fmt::{self, Write};
use std::time::Duration;

use http::HeaderValue;
use http::header::HeaderName;

use crate::limit::Decision;

pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A name as a string of RFC 9651. Printable ASCII stays, with quotation marks and backslashes
/// escaped. Other bytes are percent-encoded, as such a string can't hold them. The result is also a
/// JSON string.
pub(crate) struct Quoted<'t>(pub(crate) &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' => f.write_char(byte.into())?,
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        f.write_char('"')
    }
}

/// A name as a token if possible, else as a string.
pub(crate) struct TokenOrQuoted<'t>(pub(crate) &'t str);

impl fmt::Display for TokenOrQuoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'*';
        let bytes = self.0.as_bytes();
        let is_token = bytes.first().copied().is_some_and(begins)
            && bytes
                .iter()
                .all(|byte| is_tchar(*byte) || b":/".contains(byte));
        match is_token {
            true => f.write_str(self.0),
            false => Quoted(self.0).fmt(f),
        }
    }
}

/// A token character of RFC 9110, section 5.6.2.
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The item of a limit in `RateLimit-Policy`. The field has no form for a window with a fraction of
/// a second, so it is left out.
pub(crate) fn policy(name: &str, (quota, period): (u32, Duration)) -> String {
    let mut item = format!("{};q={quota}", Quoted(name));
    if period.subsec_nanos() == 0 {
        item += &format!(";w={}", period.as_secs());
    }
    item
}

/// The item of a decision in `RateLimit`: the units that remain, and the time until there are more.
/// So the time of a refusal is never later than its `Retry-After`, as the draft demands.
pub(crate) fn limit(decision: &Decision) -> String {
    let (name, remaining) = (Quoted(decision.name()), decision.remaining());
    format!("{name};r={remaining};t={}", seconds(decision.more_after()))
}

/// Whole seconds, rounded up, so that a client that waits for them is not too early.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The items as one field, or `None` if there are none.
pub(crate) fn list(items: impl IntoIterator<Item = impl AsRef<str>>) -> Option<HeaderValue> {
    let mut list = String::new();
    for item in items {
        if !list.is_empty() {
            list += ", ";
        }
        list += item.as_ref();
    }
    if list.is_empty() {
        return None;
    }
    // Printable ASCII is always a valid value.
    HeaderValue::try_from(list).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::RateLimiter;

    #[test]
    fn a_name_is_a_string_or_a_token() {
        for (name, string, either) in [
            ("api", r#""api""#, "api"),
            ("*a:b/c.d", r#""*a:b/c.d""#, "*a:b/c.d"),
            ("7days", r#""7days""#, r#""7days""#),
            ("", r#""""#, r#""""#),
            ("two words", r#""two words""#, r#""two words""#),
            (r#"a"b\c"#, r#""a\"b\\c""#, r#""a\"b\\c""#),
            (
                "größe\n",
                r#""gr%C3%B6%C3%9Fe%0A""#,
                r#""gr%C3%B6%C3%9Fe%0A""#,
            ),
        ] {
            assert_eq!(Quoted(name).to_string(), string);
            assert_eq!(TokenOrQuoted(name).to_string(), either);
        }
    }

    /// The examples of the draft, sections 3, 3.2 and B.2.1.
    #[test]
    fn a_policy_is_written_as_in_the_examples_of_the_draft() {
        for (name, quota, period, item) in [
            ("burst", 100, 60, r#""burst";q=100;w=60"#),
            ("daily", 1000, 86_400, r#""daily";q=1000;w=86400"#),
            ("default", 100, 10, r#""default";q=100;w=10"#),
            ("permin", 50, 60, r#""permin";q=50;w=60"#),
            ("perhr", 1000, 3600, r#""perhr";q=1000;w=3600"#),
            ("fixedwindow", 100, 60, r#""fixedwindow";q=100;w=60"#),
        ] {
            let limiter = RateLimiter::builder(name).quota(quota, Duration::from_secs(period));
            let limiter = limiter.build().unwrap();
            assert_eq!(policy(limiter.name(), limiter.quota()), item);
        }
        let short = RateLimiter::builder("short").quota(5, Duration::from_millis(1500));
        let short = short.build().unwrap();
        assert_eq!(policy(short.name(), short.quota()), r#""short";q=5"#);
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, whole) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds(Duration::from_millis(millis)), whole);
        }
    }
}
