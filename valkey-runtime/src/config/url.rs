//! What the URL of a server says. An error never quotes the URL: it may hold a password.

use percent_encoding::percent_decode_str;
use url::{Host as UrlHost, Url};

use super::{Endpoint, Secret};
use crate::backend::Host;
use crate::{Error, Result};

pub(super) const DEFAULT_PORT: u16 = 6379;

const FORMS: &str = "write `valkey://[user:password@]host[:port][/database]`, `valkeys://…` for TLS, \
                     `valkey+cluster://host:port,host:port/`, `unix:/path/to/socket` or `memory:`";

/// What a URL says; what it leaves open is `None`.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) endpoint: Endpoint,
    pub(super) cluster: bool,
    pub(super) tls: Option<bool>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<i64>,
    pub(super) namespace: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Said> {
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
        _ => return Err(Error::config(format!("a URL of no known scheme: {FORMS}"))),
    };
    // Several hosts are no URL; each of them with all the rest is.
    let rest = rest
        .strip_prefix("//")
        .ok_or_else(|| Error::config(format!("a URL without a host: {FORMS}")))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let urls = hosts
        .split(',')
        .map(|host| Url::parse(&format!("valkey://{user}{host}{path}")).map_err(malformed))
        .collect::<Result<Vec<_>>>()?;
    if urls.len() > 1 && !cluster {
        return Err(Error::config(
            "a URL with several hosts: for a cluster write `valkey+cluster://…`",
        ));
    }
    let hosts = urls.iter().map(host_of).collect::<Result<Vec<_>>>()?;
    let url = urls
        .first()
        .ok_or_else(|| Error::config(format!("a URL without a host: {FORMS}")))?;
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

/// A URL without a host: all of it is a path.
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
                "a URL with a fragment: a `#` in a password is written `%23`",
            ));
        }
        let unix = matches!(self.endpoint, Endpoint::Unix(_));
        for (name, value) in url.query_pairs() {
            match &*name {
                "namespace" => self.namespace = Some(value.into_owned()),
                "db" if unix => self.database = Some(database(&value)?),
                "user" if unix => self.username = Some(value.into_owned()),
                "pass" if unix => self.password = Some(Secret::new(value.into_owned())),
                _ => {
                    let known = if unix {
                        "`db`, `user`, `pass`, `namespace`"
                    } else {
                        "`namespace`"
                    };
                    return Err(Error::config(format!(
                        "the URL's parameter {name:?} is not known, only {known}"
                    )));
                }
            }
        }
        Ok(())
    }
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
        return Err(Error::config(format!("a URL without a host: {FORMS}")));
    }
    Ok(Host {
        name,
        port: url.port().unwrap_or(DEFAULT_PORT),
    })
}

fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into)
        .map_err(|_| Error::config("a part of the URL is not UTF-8 once it is decoded"))
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
    fn what_is_wrong_is_refused_without_being_quoted() {
        for url in [
            "",
            "hunter2",
            "http://hunter2@h",
            "valkey:hunter2",
            "valkey://",
            "valkey://ada:hunter2@",
            "valkey://ada:hunter2@h:port",
            "valkey://ada:hunter2@h:99999",
            "valkey://ada:hunter2@h1,h2",
            "valkey://ada:hunter2@h/db",
            "valkey://ada:hunter2@h/-1",
            "valkey://ada:hunter2@h/0#x",
            "valkey://ada:hunter2@h/0?timeout=1",
            "valkey://ada:#hunter2@h",
            "unix:hunter2",
            "unix://hunter2/x",
            "memory:/hunter2",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Config);
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{url}: {error:?}"
            );
        }
    }
}
