//! The settings in the URL of a server. An error never quotes the URL: it may contain a password.

use percent_encoding::percent_decode_str;
use url::{Host as UrlHost, Url};

use crate::backend::target::Host;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::config::Endpoint;

pub(crate) const DEFAULT_PORT: u16 = 6379;

const FORMS: &str = "write `valkey://[user:password@]host[:port][/database]`, `valkeys://…` for TLS, \
                     `valkey+cluster://host:port,host:port/`, `unix:/path/to/socket` or `memory:`";

/// The message for an `@` after the first `/`, `?` or `#`.
const UNENCODED: &str = "the URL has an `@` after its first `/`, `?` or `#`: percent-encode these in a password, `/` as \
                         `%2F`, `?` as `%3F`, `#` as `%23`, or set the password with VALKEY_PASSWORD or `password` of the \
                         builder; in a namespace write `@` as `%40`";

/// The settings in a URL. A setting that it leaves open is `None`.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) endpoint: Endpoint,
    pub(crate) cluster: bool,
    pub(crate) tls: Option<bool>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<i64>,
    pub(crate) namespace: Option<String>,
}

pub(crate) fn parse(text: &str) -> Result<Said> {
    has_no_stray_characters(text)?;
    let (scheme, rest) = text
        .split_once(':')
        .ok_or_else(|| Error::config(format!("not a URL: {FORMS}")))?;
    let (tls, cluster) = match &*scheme.to_ascii_lowercase() {
        "valkey" | "redis" => (false, false),
        "valkeys" | "rediss" => (true, false),
        "valkey+cluster" | "redis+cluster" => (false, true),
        "valkeys+cluster" | "rediss+cluster" => (true, true),
        "unix" | "valkey+unix" | "redis+unix" => {
            return local(rest, |path| Endpoint::Unix(path.into()));
        }
        "memory" => return local(rest, |_| Endpoint::Memory),
        _ => {
            return Err(Error::config(format!(
                "the URL has an unknown scheme: {FORMS}"
            )));
        }
    };
    // Several hosts are not a URL. Each of them with the rest is one.
    let rest = rest
        .strip_prefix("//")
        .ok_or_else(|| Error::config(format!("the URL has no host: {FORMS}")))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // All text before an `@` is user and password. So the password has ended too early, and the
    // rest of it is in the path.
    if path.contains('@') {
        return Err(Error::config(UNENCODED));
    }
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let urls = hosts
        .split(',')
        .map(|host| Url::parse(&format!("valkey://{user}{host}{path}")).map_err(malformed))
        .collect::<Result<Vec<_>>>()?;
    if urls.len() > 1 && !cluster {
        return Err(Error::config(
            "the URL has several hosts: for a cluster write `valkey+cluster://…`",
        ));
    }
    let hosts = urls.iter().map(host_of).collect::<Result<Vec<_>>>()?;
    let url = urls
        .first()
        .ok_or_else(|| Error::config(format!("the URL has no host: {FORMS}")))?;
    let mut said = Said {
        endpoint: Endpoint::Hosts(hosts),
        cluster,
        tls: Some(tls),
        username: Some(url.username())
            .filter(|name| !name.is_empty())
            .map(decoded)
            .transpose()?,
        password: url.password().map(decoded).transpose()?.map(Secret::new),
        database: match url.path().trim_start_matches('/') {
            "" => None,
            number => Some(database(number)?),
        },
        namespace: None,
    };
    said.query(url)?;
    Ok(said)
}

/// Rejects characters that the parser of URLs would drop: line breaks and tabs anywhere, and other
/// control characters and blanks at the end.
fn has_no_stray_characters(text: &str) -> Result<()> {
    if text.trim() != text {
        return Err(Error::config(
            "the URL begins or ends with white space, such as a line break: remove it",
        ));
    }
    if text.contains(char::is_control) {
        return Err(Error::config(
            "the URL contains a line break, a tab or another control character: remove it, or percent-encode it in a \
             password, a line break as `%0A`, a tab as `%09`",
        ));
    }
    if text.starts_with(['"', '\'']) {
        return Err(Error::config("the URL is in quotation marks: remove them"));
    }
    Ok(())
}

/// Parses a URL without a host: all of it is a path.
fn local(rest: &str, endpoint: impl Fn(String) -> Endpoint) -> Result<Said> {
    let url = Url::parse(&format!("unix:{rest}")).map_err(malformed)?;
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(Error::config(
            "the URL of a Unix socket has a host: write `unix:/path`",
        ));
    }
    let path = decoded(url.path())?;
    let endpoint = endpoint(path.clone());
    match &endpoint {
        Endpoint::Unix(_) if !path.starts_with('/') => {
            return Err(Error::config(
                "the path of a Unix socket is not absolute: write `unix:/path`",
            ));
        }
        Endpoint::Memory if !path.is_empty() => {
            return Err(Error::config(
                "the URL of the in-process store has a path: write `memory:`",
            ));
        }
        _ => {}
    }
    let (cluster, tls) = (false, None);
    let mut said = Said {
        endpoint,
        cluster,
        tls,
        username: None,
        password: None,
        database: None,
        namespace: None,
    };
    said.query(&url)?;
    Ok(said)
}

impl Said {
    fn query(&mut self, url: &Url) -> Result<()> {
        if url.fragment().is_some() {
            return Err(Error::config(
                "the URL has a fragment: write a `#` in a password as `%23`",
            ));
        }
        let unix = matches!(self.endpoint, Endpoint::Unix(_));
        for (name, value) in url.query_pairs() {
            match &*name {
                "namespace" => self.namespace = Some(value.into_owned()),
                "db" if unix => self.database = Some(database(&value)?),
                "user" if unix => self.username = Some(value.into_owned()),
                "pass" if unix => self.password = Some(Secret::new(value.into_owned())),
                _ => return Err(unknown(&name, unix)),
            }
        }
        Ok(())
    }
}

/// The error of an unknown parameter, which is not quoted: it may be a part of a password.
fn unknown(name: &str, unix: bool) -> Error {
    let (known, instead) = match unix {
        true => (
            "`db`, `user`, `pass` and `namespace`",
            match name {
                "database" => "write `db=0`",
                "username" => "write `user=…`",
                "password" => "write `pass=…`",
                _ => "remove it; in a password write `&` as `%26`, `+` as `%2B`, `%` as `%25`",
            },
        ),
        false => (
            "`namespace`",
            match name {
                "db" | "database" => "the number of the database is the path, as in `host:6379/0`",
                "user" | "username" | "pass" | "password" => {
                    "write user and password before the host: `user:password@host`, or `:password@host`"
                }
                _ => "remove it",
            },
        ),
    };
    Error::config(format!(
        "the URL has an unknown parameter (known: {known}): {instead}"
    ))
}

fn malformed(error: url::ParseError) -> Error {
    Error::config(format!("malformed URL ({error}): {FORMS}"))
}

fn host_of(url: &Url) -> Result<Host> {
    let name = match url.host() {
        Some(UrlHost::Domain(name)) => decoded(name)?,
        Some(UrlHost::Ipv4(address)) => address.to_string(),
        Some(UrlHost::Ipv6(address)) => address.to_string(),
        None => String::new(),
    };
    if name.is_empty() {
        return Err(Error::config(format!("the URL has no host: {FORMS}")));
    }
    Ok(Host {
        name,
        port: url.port().unwrap_or(DEFAULT_PORT),
    })
}

fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into)
        .map_err(|_| Error::config("a part of the URL is not UTF-8 after decoding"))
}

fn database(text: &str) -> Result<i64> {
    let number = text.parse::<u32>();
    number
        .map(Into::into)
        .map_err(|_| Error::config("the database in the URL is not a number: write `/0`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(said: &Said) -> String {
        match &said.endpoint {
            Endpoint::Hosts(hosts) => hosts
                .iter()
                .map(Host::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn servers() {
        let said = parse("valkey://cache.example/3?namespace=staging").unwrap();
        assert_eq!(
            (hosts(&said).as_str(), said.database, said.tls),
            ("cache.example:6379", Some(3), Some(false))
        );
        assert_eq!(said.namespace.as_deref(), Some("staging"));
        for (url, tls) in [
            ("redis://h", false),
            ("valkeys://h", true),
            ("rediss://h", true),
            ("VALKEYS://h", true),
        ] {
            assert_eq!(parse(url).unwrap().tls, Some(tls), "{url}");
        }
        let said = parse("valkeys://ada:p%40ss%23@[::1]:7000").unwrap();
        assert_eq!(hosts(&said), "[::1]:7000");
        assert_eq!(
            (
                said.username.as_deref(),
                said.password.as_ref().map(Secret::reveal)
            ),
            (Some("ada"), Some("p@ss#"))
        );
        let said = parse("valkey://:secret@h").unwrap();
        assert_eq!(
            (said.username, said.password.as_ref().map(Secret::reveal)),
            (None, Some("secret"))
        );
    }

    #[test]
    fn clusters() {
        let said = parse("valkey+cluster://ada:x@h1:7000,h2,[::1]:7002/").unwrap();
        assert!(said.cluster);
        assert_eq!(hosts(&said), "h1:7000 h2:6379 [::1]:7002");
        assert_eq!(said.username.as_deref(), Some("ada"));
        assert_eq!(parse("rediss+cluster://h").unwrap().tls, Some(true));
    }

    #[test]
    fn sockets_and_memory() {
        let said = parse("unix:/run/my%20valkey.sock?db=2&user=ada&pass=x").unwrap();
        assert_eq!(said.endpoint, Endpoint::Unix("/run/my valkey.sock".into()));
        assert_eq!(
            (said.database, said.username.as_deref()),
            (Some(2), Some("ada"))
        );
        assert_eq!(
            parse("unix:///run/v.sock").unwrap().endpoint,
            Endpoint::Unix("/run/v.sock".into())
        );
        assert_eq!(parse("memory:").unwrap().endpoint, Endpoint::Memory);
        assert_eq!(
            parse("memory:?namespace=a").unwrap().namespace.as_deref(),
            Some("a")
        );
    }

    #[test]
    fn a_malformed_url_is_refused_without_being_quoted() {
        for (url, says) in [
            ("", "not a URL: write `valkey://"),
            ("hunter2", "not a URL: write `valkey://"),
            ("http://hunter2@h", "the URL has an unknown scheme: write"),
            ("valkey:hunter2", "the URL has no host: write"),
            ("valkey://", "the URL has no host: write"),
            ("valkey://ada:hunter2@", "malformed URL (empty host): write"),
            ("valkey://ada:hunter2@h:port", "(invalid port number)"),
            ("valkey://ada:hunter2@h:99999", "(invalid port number)"),
            (
                "valkey://ada:hunter2@h1,h2",
                "the URL has several hosts: for a cluster write `valkey+cluster://…`",
            ),
            ("valkey://ada:hunter2@h/db", "not a number: write `/0`"),
            ("valkey://ada:hunter2@h/-1", "not a number: write `/0`"),
            (
                "valkey://ada:hunter2@h/0#x",
                "a fragment: write a `#` in a password as `%23`",
            ),
            (
                "valkey://ada:hunter2@h/0?timeout=1",
                "an unknown parameter (known: `namespace`): remove it",
            ),
            ("unix:hunter2", "not absolute: write `unix:/path`"),
            ("unix://hunter2/x", "has a host: write `unix:/path`"),
            ("memory:/hunter2", "has a path: write `memory:`"),
            ("valkey://ada:%ffhunter2@h", "is not UTF-8 after decoding"),
        ] {
            assert!(refused(url).contains(says), "{url}: {}", refused(url));
        }
    }

    fn refused(url: &str) -> String {
        let error = parse(url).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::ErrorKind::Config);
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{url}: {error:?}"
        );
        error.to_string()
    }

    #[test]
    fn a_password_with_a_raw_separator_is_named_as_the_mistake() {
        for url in [
            "valkeys://:iAIT/c/hunter2=@host:6380",
            "valkey://ada:hunter2?x@host",
            "valkey://ada:hunter2#x@host",
            "valkey://ada:#hunter2@h",
            "valkey://ada:123?hunter2@host",
            "valkey://ada:?hunter2@host",
            "valkey://ada:12?namespace=hunter2@host",
            "valkey://ada:12/hunter2@host",
            "valkey://ada:12#hunter2@host",
            "valkey://:12?hunter2@host",
            "valkey://ada:1?hunter2=x@host:6379/0",
            "valkey+cluster://:hunter2/b@h1:7000,h2:7001/",
        ] {
            assert_eq!(refused(url), format!("config: {UNENCODED}"), "{url}");
        }
        assert!(UNENCODED.contains("`/` as `%2F`, `?` as `%3F`, `#` as `%23`"));
        // A password is accepted if it is encoded, or if its characters end nothing.
        for (url, password) in [
            ("valkey://:iAIT%2Fc%3F%23@host/0", "iAIT/c?#"),
            ("valkey://ada:a@b:c@host", "a@b:c"),
            ("valkey://ada:p[a]s\\s +,ä%zz@host", "p[a]s\\s +,ä%zz"),
            ("valkey+cluster://ada:a@b,c@h1:7000,h2", "a@b,c"),
            ("unix:/run/v.sock?pass=a/b@c%26%2B", "a/b@c&+"),
        ] {
            let said = parse(url).unwrap();
            assert_eq!(said.password.unwrap().reveal(), password, "{url}");
        }
        let said = parse("valkey+cluster://ada:a@b,c@h1:7000,h2").unwrap();
        assert_eq!(hosts(&said), "h1:7000 h2:6379");
    }

    #[test]
    fn white_space_control_characters_and_quotation_marks_are_refused() {
        for url in [
            " valkey://h",
            "valkey://h ",
            "valkey://h/0\n",
            "\tvalkey://h",
            " ",
            "unix:/v.sock\r\n",
        ] {
            assert_eq!(
                refused(url),
                "config: the URL begins or ends with white space, such as a line break: remove it",
                "{url:?}"
            );
        }
        for url in [
            "valkey://ada:hunter2\n@h",
            "valkey://ada:hunter\t2@h",
            "valkey://h\n:6379",
            "unix:/v\0.sock",
        ] {
            assert_eq!(
                refused(url),
                "config: the URL contains a line break, a tab or another control character: remove it, or percent-encode \
                 it in a password, a line break as `%0A`, a tab as `%09`",
                "{url:?}"
            );
        }
        for url in ["\"valkey://h\"", "'valkey://h'"] {
            assert_eq!(
                refused(url),
                "config: the URL is in quotation marks: remove them"
            );
        }
        let said = parse("valkey://ada:sec%09ret%0A@h").unwrap();
        assert_eq!(said.password.unwrap().reveal(), "sec\tret\n");
    }

    #[test]
    fn an_unknown_parameter_says_what_is_written_instead() {
        let only = "config: the URL has an unknown parameter (known:";
        for (url, says) in [
            (
                "valkey://h/0?db=1",
                "`namespace`): the number of the database is the path, as in `host:6379/0`",
            ),
            (
                "valkey+cluster://h?database=1",
                "`namespace`): the number of the database is the path, as in `host:6379/0`",
            ),
            (
                "valkey://h?password=x",
                "`namespace`): write user and password before the host: `user:password@host`, or \
                 `:password@host`",
            ),
            ("valkey://h?hunter2", "`namespace`): remove it"),
            (
                "memory:?db=1",
                "`namespace`): the number of the database is the path, as in `host:6379/0`",
            ),
            (
                "unix:/v.sock?password=hunter2",
                "`db`, `user`, `pass` and `namespace`): write `pass=…`",
            ),
            (
                "unix:/v.sock?username=ada",
                "`db`, `user`, `pass` and `namespace`): write `user=…`",
            ),
            (
                "unix:/v.sock?database=1",
                "`db`, `user`, `pass` and `namespace`): write `db=0`",
            ),
            (
                "unix:/v.sock?pass=a&hunter2",
                "`db`, `user`, `pass` and `namespace`): remove it; in a password write `&` as `%26`, `+` as `%2B`, `%` \
                 as `%25`",
            ),
        ] {
            assert_eq!(refused(url), format!("{only} {says}"), "{url}");
        }
        for url in [
            "valkey://h?user=ada",
            "valkey://h?pass=x",
            "memory:?user=ada",
            "memory:?pass=x",
        ] {
            assert!(refused(url).starts_with(only), "{url}");
        }
        assert_eq!(
            refused("unix:/v.sock?db=x"),
            "config: the database in the URL is not a number: write `/0`"
        );
    }
}
