//! Entity tags, and what a client knows by them (RFC 9110, sections 8.8.3 and 13.1).

use http::header::{HeaderMap, IF_NONE_MATCH};
use xxhash_rust::xxh3::xxh3_128;

/// The opaque part of a tag of this content: 32 hexadecimal digits.
pub(crate) fn of_content(content: &[u8]) -> String {
    format!("{:032x}", xxh3_128(content))
}

/// Whether `If-None-Match` has this opaque tag, by the weak comparison, or is `*`.
pub(crate) fn is_known(tag: &str, request: &HeaderMap) -> bool {
    let lines = request.get_all(IF_NONE_MATCH).iter();
    let mut lines = lines.filter_map(|line| line.to_str().ok());
    lines.any(|line| line.trim() == "*" || tags(line).any(|known| known == tag))
}

/// The opaque part of a field `ETag`, weak or strong.
pub(crate) fn opaque(field: &str) -> Option<&str> {
    let tag = field.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
    (!tag.contains('"')).then_some(tag)
}

/// The opaque parts of the tags in a list.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    // A tag may contain a comma, but no quotation mark: each tag is the text between two of them.
    list.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_weak_or_strong() {
        for (field, tag) in [
            ("\"a\"", Some("a")),
            (" W/\"a,b\" ", Some("a,b")),
            ("\"\"", Some("")),
            ("a", None),
            ("\"", None),
            ("\"a\"b\"", None),
        ] {
            assert_eq!(opaque(field), tag, "{field}");
        }
    }

    #[test]
    fn equal_content_has_an_equal_tag() {
        assert_eq!(of_content(b"a"), of_content(b"a"));
        assert_ne!(of_content(b"a"), of_content(b"b"));
        assert_eq!(of_content(b"").len(), 32);
    }
}
