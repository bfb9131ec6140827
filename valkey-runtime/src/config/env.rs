//! The settings in the environment. An empty variable counts as unset.

use std::fmt::Display;
use std::str::FromStr;

use crate::backend::target::Host;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::base::variables::Variables;
use crate::config::{Builder, Endpoint, host_mistake, url};
#[cfg(feature = "encrypt")]
use crate::value::keys::EncryptionKeys;

/// A variable of the process's environment. A value that is not Unicode is malformed, and not
/// unset.
pub(crate) fn of_process(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// `None` if no server is named.
pub(crate) fn read(variables: Variables) -> Result<Option<Builder>> {
    let get = |name: &str| match variables(name) {
        Some(value) if !value.is_empty() => has_no_margin(name, value).map(Some),
        _ => Ok(None),
    };
    let switch = |name: &str| Ok::<_, Error>(get(name)?.map(|value| truth(name, &value)));
    let mut builder = Builder {
        variables: variables.clone(),
        ..Builder::new()
    };

    builder.username = get("VALKEY_USERNAME")?;
    builder.password = get("VALKEY_PASSWORD")?.map(Secret::new);
    builder.database = get("VALKEY_DB")?
        .map(|value| number::<u32>("VALKEY_DB", &value, u32::MAX))
        .transpose()?
        .map(Into::into);
    builder.namespace = get("VALKEY_NAMESPACE")?;
    builder.tls = switch("VALKEY_TLS")?.transpose()?;
    builder.cluster = switch("VALKEY_CLUSTER")?.unwrap_or(Ok(false))?;
    builder.lazy = switch("VALKEY_LAZY")?.unwrap_or(Ok(false))?;
    builder.enabled = match get("VALKEY_CACHE")?.as_deref() {
        None | Some("on") => true,
        Some("off") => false,
        Some(_) => {
            return Err(Error::config(
                "VALKEY_CACHE is neither `on` nor `off`: write one of them, or unset it",
            ));
        }
    };
    if let Some(path) = get("VALKEY_TLS_CA")? {
        builder = builder.tls_ca_file(path);
    }
    builder = match (get("VALKEY_TLS_CERT")?, get("VALKEY_TLS_KEY")?) {
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

    #[cfg(feature = "encrypt")]
    if let Some(keys) = get("VALKEY_ENCRYPTION_KEYS")? {
        let keys = keys.parse::<EncryptionKeys>();
        builder =
            builder.encryption_keys(keys.map_err(|error| error.context("VALKEY_ENCRYPTION_KEYS"))?);
    }

    if let Some(url) = get("VALKEY_URL")? {
        let said = url::parse(&url).map_err(|error| error.context("VALKEY_URL"))?;
        builder.said_by_url(said);
        return Ok(Some(builder));
    }
    let Some(host) = get("VALKEY_HOST")? else {
        return Ok(None);
    };
    if let Some(mistake) = host_mistake(&host) {
        return Err(Error::config(format!("VALKEY_HOST {mistake}")));
    }
    let port = get("VALKEY_PORT")?.map_or(Ok(url::DEFAULT_PORT), |value| port(&value))?;
    builder.endpoint = Some(Endpoint::Hosts(vec![Host { name: host, port }]));
    Ok(Some(builder))
}

/// Rejects white space at an end of a variable. Usually it is the line break of the file that the
/// variable was read from.
fn has_no_margin(name: &str, value: String) -> Result<String> {
    if value.trim() == value {
        return Ok(value);
    }
    let but = match name {
        "VALKEY_PASSWORD" => {
            "; if the password has it, write the password percent-encoded in VALKEY_URL, a line break as `%0A`"
        }
        _ => "",
    };
    Err(Error::config(format!(
        "{name} begins or ends with white space, such as a line break: remove it{but}"
    )))
}

/// The error if a server must be named, and is not.
pub(crate) fn unset() -> Error {
    Error::config(
        "neither VALKEY_URL nor VALKEY_HOST is set: write VALKEY_URL=valkey://host:6379 (or `memory:` for an in-process \
         store), or VALKEY_HOST and VALKEY_PORT",
    )
}

// No value is quoted: a misplaced value may be a password.

fn number<N: FromStr>(name: &str, value: &str, most: impl Display) -> Result<N> {
    value
        .parse()
        .map_err(|_| Error::config(format!("{name} is not a number from 0 to {most}")))
}

fn port(value: &str) -> Result<u16> {
    if value.contains("://") {
        return Err(Error::config(
            "VALKEY_PORT is a URL and not a number; Kubernetes sets it so for a service named `valkey`: set VALKEY_PORT to the \
             number, as in VALKEY_PORT=6379, or set VALKEY_URL, or write `enableServiceLinks: false` in the pod's spec",
        ));
    }
    number("VALKEY_PORT", value, u16::MAX)
}

fn truth(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::config(format!(
            "{name} is neither `true` nor `false`: write one of them, or unset it"
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
    fn variables_are_those_of_the_process() {
        let of_cargo = of_process("CARGO_PKG_NAME");
        assert_eq!(of_cargo, std::env::var("CARGO_PKG_NAME").ok());
        assert!(of_cargo.is_none_or(|name| name == "valkey-runtime"));
        assert!(of_process("PATH").is_some_and(|path| !path.is_empty()));
        assert_eq!(of_process("VALKEY_A_NAME_THAT_NOBODY_SETS"), None);
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
    fn the_url_takes_precedence_over_variables() {
        let of = |variables: &[(&'static str, &'static str)]| {
            let builder = builder(variables).unwrap();
            let password = builder
                .password
                .map(|password| password.reveal().to_owned());
            (builder.username, password, builder.namespace)
        };
        let (url, some) = (
            |url| ("VALKEY_URL", url),
            |text: &str| Some(text.to_owned()),
        );
        let variables = [
            ("VALKEY_USERNAME", "bob"),
            ("VALKEY_PASSWORD", "variable"),
            ("VALKEY_NAMESPACE", "staging"),
        ];
        let with = |first| -> Vec<_> { [url(first)].into_iter().chain(variables).collect() };
        assert_eq!(
            of(&with("valkey://ada:url@h?namespace=live")),
            (some("ada"), some("url"), some("live"))
        );
        assert_eq!(
            of(&with("valkey://h")),
            (some("bob"), some("variable"), some("staging"))
        );
        assert_eq!(
            of(&with("valkey://ada@h")),
            (some("ada"), some("variable"), some("staging"))
        );
    }

    #[test]
    fn mistakes_name_the_variable_and_say_what_to_write() {
        let margin = "begins or ends with white space, such as a line break: remove it";
        let truth = "is neither `true` nor `false`: write one of them, or unset it";
        let h = ("VALKEY_HOST", "h");
        for (variables, says) in [
            (
                &[h, ("VALKEY_PORT", "x")][..],
                "VALKEY_PORT is not a number from 0 to 65535".to_owned(),
            ),
            (
                &[h, ("VALKEY_PORT", "65536")],
                "VALKEY_PORT is not a number from 0 to 65535".to_owned(),
            ),
            (
                &[h, ("VALKEY_PORT", "0")],
                "the port of the host \"h\" is 0: write the port of the server, usually 6379".to_owned(),
            ),
            (
                &[h, ("VALKEY_PORT", "tcp://10.0.0.7:6379")],
                "VALKEY_PORT is a URL and not a number; Kubernetes sets it so for a service named `valkey`: set VALKEY_PORT \
                 to the number, as in VALKEY_PORT=6379, or set VALKEY_URL, or write `enableServiceLinks: false` in the \
                 pod's spec"
                    .to_owned(),
            ),
            (
                &[h, ("VALKEY_DB", "-1")],
                "VALKEY_DB is not a number from 0 to 4294967295".to_owned(),
            ),
            (&[h, ("VALKEY_TLS", "yes")], format!("VALKEY_TLS {truth}")),
            (&[h, ("VALKEY_CLUSTER", "1")], format!("VALKEY_CLUSTER {truth}")),
            (&[h, ("VALKEY_LAZY", "TRUE")], format!("VALKEY_LAZY {truth}")),
            (
                &[h, ("VALKEY_CACHE", "false")],
                "VALKEY_CACHE is neither `on` nor `off`: write one of them, or unset it".to_owned(),
            ),
            (
                &[h, ("VALKEY_TLS_CERT", "c")],
                "VALKEY_TLS_CERT is set, but VALKEY_TLS_KEY is not".to_owned(),
            ),
            (
                &[h, ("VALKEY_TLS_KEY", "k")],
                "VALKEY_TLS_KEY is set, but VALKEY_TLS_CERT is not".to_owned(),
            ),
            (
                &[("VALKEY_URL", "valkey://ada:hun/ter@h")],
                "VALKEY_URL: the URL has an `@` after its first `/`, `?` or `#`: percent-encode these in a password, `/` \
                 as `%2F`, `?` as `%3F`, `#` as `%23`, or set the password with VALKEY_PASSWORD or `password` of the \
                 builder; in a namespace write `@` as `%40`"
                    .to_owned(),
            ),
            (
                &[("VALKEY_URL", "valkey://h"), ("VALKEY_TLS", "true")],
                "TLS (VALKEY_TLS, or `tls` of the builder) is true, which contradicts the URL: its scheme is `valkeys` \
                 with TLS and `valkey` without"
                    .to_owned(),
            ),
            (
                &[h, ("VALKEY_NAMESPACE", "a:b")],
                "the namespace \"a:b\" holds white space, a colon, a brace, a glob or a control character".to_owned(),
            ),
            (
                &[h, ("VALKEY_USERNAME", "ada")],
                "the user name has no password: set VALKEY_PASSWORD, or `password` of the builder, or write \
                 `user:password@host` in the URL; for a password without a user name, write `:password@host`"
                    .to_owned(),
            ),
            // White space at the ends of any variable.
            (&[h, ("VALKEY_PORT", "6379\n")], format!("VALKEY_PORT {margin}")),
            (&[h, ("VALKEY_DB", " 1")], format!("VALKEY_DB {margin}")),
            (&[h, ("VALKEY_TLS", "false\n")], format!("VALKEY_TLS {margin}")),
            (&[h, ("VALKEY_CACHE", "on ")], format!("VALKEY_CACHE {margin}")),
            (&[h, ("VALKEY_LAZY", "true\r")], format!("VALKEY_LAZY {margin}")),
            (&[h, ("VALKEY_CLUSTER", "\ttrue")], format!("VALKEY_CLUSTER {margin}")),
            (&[h, ("VALKEY_NAMESPACE", "app\n")], format!("VALKEY_NAMESPACE {margin}")),
            (&[h, ("VALKEY_USERNAME", "default\n")], format!("VALKEY_USERNAME {margin}")),
            (&[h, ("VALKEY_TLS_CA", "ca.pem\n")], format!("VALKEY_TLS_CA {margin}")),
            (&[h, ("VALKEY_TLS_CERT", "c\n")], format!("VALKEY_TLS_CERT {margin}")),
            (&[h, ("VALKEY_TLS_KEY", "k\n")], format!("VALKEY_TLS_KEY {margin}")),
            (&[("VALKEY_HOST", "h\n")], format!("VALKEY_HOST {margin}")),
            (&[("VALKEY_URL", "  ")], format!("VALKEY_URL {margin}")),
            (&[("VALKEY_URL", "valkey://:hunter2@h ")], format!("VALKEY_URL {margin}")),
            (
                &[h, ("VALKEY_PASSWORD", "hunter2\n")],
                format!(
                    "VALKEY_PASSWORD {margin}; if the password has it, write the password percent-encoded in VALKEY_URL, a \
                     line break as `%0A`"
                ),
            ),
        ] {
            let text = refused(variables);
            assert_eq!(text, format!("config: {says}"), "{variables:?}");
        }
        // Inside, it belongs to the password.
        let spaced = builder(&[h, ("VALKEY_PASSWORD", "two words\tmore")]).unwrap();
        assert_eq!(spaced.password.unwrap().reveal(), "two words\tmore");
    }

    #[test]
    fn no_value_is_quoted_wherever_it_was_put_by_mistake() {
        for name in [
            "VALKEY_URL",
            "VALKEY_PORT",
            "VALKEY_DB",
            "VALKEY_TLS",
            "VALKEY_CACHE",
            "VALKEY_LAZY",
            "VALKEY_CLUSTER",
            "VALKEY_HOST",
        ] {
            for value in ["hunter2:@", "x://ada:hunter2@h", "hunter2@h", "hunter2 "] {
                let text = refused(&[("VALKEY_HOST", "h"), (name, value)]);
                assert!(!text.contains("hunter2"), "{name}={value}: {text}");
                assert!(text.contains(name), "{name}={value}: {text}");
            }
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
