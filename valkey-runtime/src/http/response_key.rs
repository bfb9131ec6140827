//! The key of a stored response, from its request.
//!
//! Two requests have one key only if they agree in everything that the key is made of: host, path,
//! query parameters, and the values of chosen header fields. The order of parameters with different
//! names does not matter. Nothing else is normalised: a service may answer differently to `/a%2fb`
//! and `/a%2Fb`.

use std::borrow::Cow;

use http::header::{HOST, HeaderMap, HeaderName};
use http::uri::Uri;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use url::form_urlencoded;
use xxhash_rust::xxh3::xxh3_128;

/// The bytes of the longest key. A request with a longer one is not cached.
const LONGEST: usize = 4096;
/// The bytes of the longest path that is written into its tag. A longer one is hashed there.
const LONGEST_IN_TAG: usize = 700;

/// The parts of a key, in this order: layer, host, path, query, header fields, variant.
pub(crate) type KeyParts = (String, String, String, String, String, String);

/// The query parameters that are part of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// `None` for all. A request with another parameter has no key.
    pub(crate) only: Option<Vec<String>>,
    /// Parameters that change no response.
    pub(crate) ignored: Vec<String>,
}

/// The key of a request, without a variant. `None` if the request has none: it has a parameter that
/// is not expected, a host that is not text, or too long a key.
pub(crate) fn key_of(
    layer: &str,
    with_host: bool,
    uri: &Uri,
    headers: &HeaderMap,
    parameters: &Parameters,
    fields: &[HeaderName],
) -> Option<KeyParts> {
    let host = match with_host {
        true => host(uri, headers)?,
        false => String::new(),
    };
    let query = query(uri.query(), parameters)?;
    let fields = values(fields, headers);
    let length = host.len() + uri.path().len() + query.len() + fields.len();
    let key = (
        layer.into(),
        host,
        uri.path().into(),
        query,
        fields,
        String::new(),
    );
    (length <= LONGEST).then_some(key)
}

/// The key of a variant: of the response for these values of the fields by which it varies.
pub(crate) fn variant(
    key: &KeyParts,
    names: &[HeaderName],
    headers: &HeaderMap,
) -> Option<KeyParts> {
    let (layer, host, path, query, fields, _) = key.clone();
    let names_in_key: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    let variant = format!("{} {}", names_in_key.join(","), values(names, headers));
    (variant.len() <= LONGEST).then_some((layer, host, path, query, fields, variant))
}

/// The name of the tag of all responses to requests for a path, whatever the rest of their keys.
/// Two spellings of one path have the same tag: so an invalidation of one is that of both.
pub(crate) fn path_tag(layer: &str, path: &str) -> String {
    let path = percent_decode_str(path).decode_utf8_lossy();
    let escaped = |text: &str| percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string();
    let layer = escaped(layer);
    match path.len() {
        // Paths that share a hash are invalidated together.
        LONGEST_IN_TAG.. => format!("response:{layer}:#{:x}", xxh3_128(path.as_bytes())),
        _ => format!("response:{layer}:{path}"),
    }
}

/// The host in lower case, with its port. That of the URI takes precedence (RFC 9112, section
/// 3.2.2). Empty without one.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str().to_ascii_lowercase());
    }
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Some(String::new()),
        (Some(host), None) => Some(host.to_str().ok()?.to_ascii_lowercase()),
        (Some(_), Some(_)) => None,
    }
}

/// The parameters as they are written, in the order of their names. Those with equal names stay in
/// their order, since services take the first or the last of them.
fn query(query: Option<&str>, parameters: &Parameters) -> Option<String> {
    let Some(query) = query else {
        return Some(String::new());
    };
    let mut found: Vec<(Cow<'_, str>, &str)> = Vec::new();
    for pair in query.split('&') {
        // The name as services read it.
        let name = form_urlencoded::parse(pair.as_bytes()).next();
        let name = name.map_or(Cow::Borrowed(""), |(name, _)| name);
        let is = |known: &String| *known == name;
        if parameters.ignored.iter().any(is) {
            continue;
        }
        if let Some(only) = &parameters.only
            && !only.iter().any(is)
        {
            return None;
        }
        found.push((name, pair));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let mut written = String::with_capacity(query.len() + 1);
    for (at, (_, pair)) in found.iter().enumerate() {
        written.push(if at == 0 { '?' } else { '&' });
        written += pair;
    }
    Some(written)
}

/// The values of fields. Each value is escaped, a comma separates the lines of a field, a semicolon
/// the fields, and a missing field is a hyphen.
fn values(names: &[HeaderName], headers: &HeaderMap) -> String {
    let mut written = String::new();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            written.push(';');
        }
        let mut lines = headers.get_all(name).iter().peekable();
        if lines.peek().is_none() {
            written.push('-');
        }
        for (at, line) in lines.enumerate() {
            if at > 0 {
                written.push(',');
            }
            written.extend(percent_encode(line.as_bytes(), NON_ALPHANUMERIC));
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::{ACCEPT, ACCEPT_LANGUAGE};
    use proptest::prelude::*;

    fn only(names: &[&str]) -> Parameters {
        Parameters {
            only: Some(names.iter().map(|&name| name.to_owned()).collect()),
            ignored: vec!["utm_source".to_owned()],
        }
    }

    fn written(query_of: &str, parameters: &Parameters) -> Option<String> {
        query(Some(query_of), parameters)
    }

    #[test]
    fn the_order_of_parameters_with_different_names_does_not_matter() {
        let all = Parameters::default();
        for (one, other, same) in [
            ("a=1&b=2", "b=2&a=1", true),
            ("a=1&a=2", "a=2&a=1", false),
            ("b=0&a=1&a=2", "a=1&b=0&a=2", true),
            ("a=1&%61=2", "%61=2&a=1", false),
            ("a=1", "a=1&", false),
            ("a", "a=", false),
            ("a=1&b=2", "a=1%26b=2", false),
            ("a=+", "a=%20", false),
        ] {
            let equal = written(one, &all) == written(other, &all);
            assert_eq!(equal, same, "{one} {other}");
        }
        assert_eq!(query(None, &all).unwrap(), "");
        assert_eq!(written("b=2&a=1", &all).unwrap(), "?a=1&b=2");
    }

    #[test]
    fn a_parameter_that_is_not_expected_leaves_no_key() {
        let page = only(&["page"]);
        assert_eq!(written("page=1&utm_source=x", &page).unwrap(), "?page=1");
        assert_eq!(written("utm_source=x", &page).unwrap(), "");
        assert_eq!(written("page=1&debug=1", &page), None);
        // A name is compared as services read it.
        assert_eq!(written("p%61ge=1", &page).unwrap(), "?p%61ge=1");
    }

    #[test]
    fn hosts_paths_and_fields_make_different_keys() {
        let key = |uri: &str, fields: &[(&str, &str)]| {
            let mut request = Request::builder().uri(uri);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let names = [ACCEPT, ACCEPT_LANGUAGE];
            let all = Parameters::default();
            key_of("list", true, &parts.uri, &parts.headers, &all, &names)
        };
        let all = [
            key("/a", &[]),
            key("/a", &[("host", "one")]),
            key("/a", &[("host", "one:81")]),
            key("/a?", &[("host", "two")]),
            key("/a", &[("accept", "")]),
            key("/a", &[("accept", "-")]),
            key("/a", &[("accept", "x,y")]),
            key("/a", &[("accept", "x"), ("accept", "y")]),
            key("/a", &[("accept", "x"), ("accept-language", "y")]),
            key("/a", &[("accept-language", "x;y")]),
            key("/a/", &[]),
            key("/%61", &[]),
            key("/a?b", &[]),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert!(all.iter().all(Option::is_some));
        let upper = key("http://ONE/a", &[("host", "two")]);
        assert_eq!(upper, key("/a", &[("host", "one")]), "the URI's host");
        assert_eq!(key("/a", &[("host", "one"), ("host", "two")]), None);
        assert_eq!(key(&format!("/{}", "a".repeat(LONGEST)), &[]), None);
    }

    #[test]
    fn a_variant_has_the_values_of_its_fields() {
        let (parts, ()) = Request::builder()
            .uri("/a")
            .header(ACCEPT_LANGUAGE, "de")
            .body(())
            .unwrap()
            .into_parts();
        let all = Parameters::default();
        let key = key_of("list", true, &parts.uri, &parts.headers, &all, &[]).unwrap();
        let of = |names: &[HeaderName]| variant(&key, names, &parts.headers).unwrap().5;
        assert_eq!(of(&[ACCEPT_LANGUAGE]), "accept-language de");
        assert_eq!(
            of(&[ACCEPT, ACCEPT_LANGUAGE]),
            "accept,accept-language -;de"
        );
    }

    #[test]
    fn spellings_of_a_path_share_a_tag() {
        assert_eq!(
            path_tag("list", "/caf%c3%a9"),
            path_tag("list", "/caf\u{e9}")
        );
        assert_eq!(
            path_tag("list", "/caf%C3%A9"),
            path_tag("list", "/caf%c3%a9")
        );
        assert_ne!(path_tag("list", "/a"), path_tag("other", "/a"));
        assert_ne!(path_tag("a:b", "/c"), path_tag("a", "b:/c"));
        let long = "/".repeat(5000);
        assert!(path_tag("list", &long).len() < 100);
        assert_ne!(path_tag("list", &long), path_tag("list", &long[1..]));
    }

    proptest! {
        /// Queries have one key only if they have the same pairs, and those of each name in the
        /// same order.
        #[test]
        fn a_query_can_be_told_from_its_key(
            one in "[ab&=%61]{0,12}",
            other in "[ab&=%61]{0,12}",
        ) {
            let pairs = |query: &str| {
                let mut pairs: Vec<(String, String)> = query
                    .split('&')
                    .map(|pair| {
                        let name = form_urlencoded::parse(pair.as_bytes()).next();
                        (name.map(|it| it.0.into_owned()).unwrap_or_default(), pair.to_owned())
                    })
                    .collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs
            };
            let all = Parameters::default();
            prop_assert_eq!(
                written(&one, &all) == written(&other, &all),
                pairs(&one) == pairs(&other)
            );
        }
    }
}
