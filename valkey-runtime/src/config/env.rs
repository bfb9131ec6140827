//! What the environment says. An empty variable counts as unset.

use super::{Builder, Endpoint, Secret, Variables, url};
use crate::backend::Host;
use crate::{Error, Result};

/// What the process's environment says of a variable. What is not Unicode is malformed, not unset.
pub(super) fn of_process(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// `None` where no server is named.
pub(super) fn read(variables: Variables) -> Result<Option<Builder>> {
    let get = |name: &str| variables(name).filter(|value| !value.is_empty());
    let mut builder = Builder {
        variables: variables.clone(),
        ..Builder::new()
    };

    builder.username = get("VALKEY_USERNAME");
    builder.password = get("VALKEY_PASSWORD").map(Secret::new);
    builder.database = get("VALKEY_DB")
        .map(|value| number::<u32>("VALKEY_DB", &value))
        .transpose()?
        .map(Into::into);
    builder.namespace = get("VALKEY_NAMESPACE");
    builder.tls = get("VALKEY_TLS")
        .map(|value| truth("VALKEY_TLS", &value))
        .transpose()?;
    builder.cluster =
        get("VALKEY_CLUSTER").map_or(Ok(false), |value| truth("VALKEY_CLUSTER", &value))?;
    builder.lazy = get("VALKEY_LAZY").map_or(Ok(false), |value| truth("VALKEY_LAZY", &value))?;
    builder.enabled = match get("VALKEY_CACHE").as_deref() {
        None | Some("on") => true,
        Some("off") => false,
        Some(other) => {
            return Err(Error::config(format!(
                "VALKEY_CACHE={other:?} is neither `on` nor `off`"
            )));
        }
    };
    if let Some(path) = get("VALKEY_TLS_CA") {
        builder = builder.tls_ca_file(path);
    }
    builder = match (get("VALKEY_TLS_CERT"), get("VALKEY_TLS_KEY")) {
        (Some(certificate), Some(key)) => builder.tls_client_files(certificate, key),
        (None, None) => builder,
        (Some(_), None) => {
            return Err(Error::config(
                "VALKEY_TLS_CERT is set, but VALKEY_TLS_KEY is not",
            ));
        }
        (None, Some(_)) => {
            return Err(Error::config(
                "VALKEY_TLS_KEY is set, but VALKEY_TLS_CERT is not",
            ));
        }
    };

    if let Some(url) = get("VALKEY_URL") {
        let said = url::parse(&url).map_err(|error| error.context("VALKEY_URL"))?;
        builder.said_by_url(said);
        return Ok(Some(builder));
    }
    let Some(host) = get("VALKEY_HOST") else {
        return Ok(None);
    };
    let port =
        get("VALKEY_PORT").map_or(Ok(url::DEFAULT_PORT), |value| number("VALKEY_PORT", &value))?;
    builder.endpoint = Some(Endpoint::Hosts(vec![Host { name: host, port }]));
    Ok(Some(builder))
}

/// What to say where a server has to be named, and is not.
pub(super) fn unset() -> Error {
    Error::config(
        "neither VALKEY_URL nor VALKEY_HOST is set: write VALKEY_URL=valkey://host:6379 (or memory: for none), or \
         VALKEY_HOST and VALKEY_PORT",
    )
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N> {
    value
        .parse()
        .map_err(|_| Error::config(format!("{name}={value:?} is not a number of its range")))
}

fn truth(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::config(format!(
            "{name}={value:?} is neither `true` nor `false`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn builder(variables: &[(&'static str, &'static str)]) -> Result<Builder> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Builder::from_variables(move |name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn refused(variables: &[(&'static str, &'static str)]) -> String {
        match builder(variables).and_then(Builder::connect_lazy) {
            Ok(_) => panic!("{variables:?} is accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn host_and_port() {
        let builder = builder(&[
            ("VALKEY_HOST", "h"),
            ("VALKEY_DB", "2"),
            ("VALKEY_LAZY", "true"),
        ])
        .unwrap();
        assert_eq!(
            builder.endpoint,
            Some(Endpoint::Hosts(vec![Host {
                name: "h".into(),
                port: 6379
            }]))
        );
        assert_eq!((builder.database, builder.lazy), (Some(2), true));
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let text = refused(&[("VALKEY_URL", ""), ("VALKEY_HOST", "")]);
        assert!(
            text.contains("VALKEY_URL") && text.contains("VALKEY_HOST"),
            "{text}"
        );
        assert!(
            builder(&[
                ("VALKEY_HOST", "h"),
                ("VALKEY_PORT", ""),
                ("VALKEY_TLS", "")
            ])
            .is_ok()
        );
    }

    #[test]
    fn the_url_wins_and_the_rest_fills_in() {
        let builder = builder(&[
            ("VALKEY_URL", "valkey://ada:x@h:1/3"),
            ("VALKEY_HOST", "other"),
            ("VALKEY_DB", "5"),
            ("VALKEY_NAMESPACE", "staging"),
        ])
        .unwrap();
        assert_eq!(
            builder.endpoint,
            Some(Endpoint::Hosts(vec![Host {
                name: "h".into(),
                port: 1
            }]))
        );
        assert_eq!(
            (builder.database, builder.namespace.as_deref()),
            (Some(3), Some("staging"))
        );
    }

    #[test]
    fn mistakes_name_the_variable() {
        for (variables, named) in [
            (
                &[("VALKEY_HOST", "h"), ("VALKEY_PORT", "x")][..],
                "VALKEY_PORT",
            ),
            (
                &[("VALKEY_HOST", "h"), ("VALKEY_PORT", "65536")],
                "VALKEY_PORT",
            ),
            (&[("VALKEY_HOST", "h"), ("VALKEY_DB", "-1")], "VALKEY_DB"),
            (&[("VALKEY_HOST", "h"), ("VALKEY_TLS", "yes")], "VALKEY_TLS"),
            (
                &[("VALKEY_HOST", "h"), ("VALKEY_CLUSTER", "1")],
                "VALKEY_CLUSTER",
            ),
            (
                &[("VALKEY_HOST", "h"), ("VALKEY_LAZY", "TRUE")],
                "VALKEY_LAZY",
            ),
            (
                &[("VALKEY_HOST", "h"), ("VALKEY_TLS_CERT", "c")],
                "VALKEY_TLS_KEY",
            ),
            (
                &[("VALKEY_HOST", "h"), ("VALKEY_TLS_KEY", "k")],
                "VALKEY_TLS_CERT",
            ),
            (&[("VALKEY_URL", "http://h")], "VALKEY_URL"),
            (
                &[("VALKEY_URL", "valkey://h"), ("VALKEY_TLS", "true")],
                "VALKEY_TLS",
            ),
            (
                &[("VALKEY_HOST", "h"), ("VALKEY_NAMESPACE", "a:b")],
                "namespace",
            ),
        ] {
            let text = refused(variables);
            assert!(text.contains(named), "{variables:?}: {text}");
        }
    }

    #[test]
    fn certificates_without_tls_are_refused() {
        let text = refused(&[("VALKEY_HOST", "h"), ("VALKEY_TLS_CA", "/nowhere")]);
        assert!(text.contains("TLS"), "{text}");
        let text = refused(&[
            ("VALKEY_HOST", "h"),
            ("VALKEY_TLS", "true"),
            ("VALKEY_TLS_CA", "/nowhere"),
        ]);
        assert!(text.contains("/nowhere"), "{text}");
    }

    #[test]
    fn debug_shows_no_password() {
        let builder = builder(&[("VALKEY_URL", "valkey://ada:hunter2@h")]).unwrap();
        assert!(!format!("{builder:?}").contains("hunter2"));
    }
}
