//! Translates failures of the client and of the server into our [`Error`].
//!
//! A server quotes the arguments of an unknown command, and an argument may be a value: such text
//! is cut. The password is cut from all text, however it is quoted.

#[cfg(feature = "tls")]
use std::{error::Error as _, io, sync::Arc};

use std::time::Duration;

use redis::{RedisError, ServerErrorKind};

use crate::base::error::{Error, ErrorKind};
use crate::base::secret::Secret;

/// The replacement for the password.
const CUT: &str = "***";
/// The shortest password that is cut out of a text. A shorter one could be read from the places
/// that it was cut from.
const SHORT: usize = 4;

/// Translates errors of the client, and knows the text that they must not show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(Option<Secret>);

impl Words {
    pub(crate) fn without(secret: Option<Secret>) -> Self {
        Self(secret.filter(|secret| !secret.reveal().is_empty()))
    }

    /// `deadline` is the time that the error of a timeout names.
    pub(crate) fn of(&self, error: RedisError, deadline: Duration) -> Error {
        if error.is_timeout() {
            return timed_out(deadline);
        }
        let kind = kind_of(&error);
        let text = match (error.code(), error.detail()) {
            // The server's own text. The client's text quotes the code.
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        let quotes = without_arguments(&text).unwrap_or(&text);
        let message = self.cut_from(quotes).unwrap_or_else(|| quotes.to_owned());
        Error::new(kind, message).with_server_code(error.code())
    }

    /// Translates an error of the handshake of a connection.
    pub(crate) fn of_handshake(&self, error: RedisError, deadline: Duration) -> Error {
        let closed = error.is_connection_dropped() && !error.is_connection_refusal();
        let old = is_without_resp3(&error);
        let error = self.of(error, deadline);
        if old {
            let text = "the server does not speak RESP3, the protocol of Valkey and of Redis since 6.0. Connect to such a \
                        server, and not through a proxy that speaks only RESP2";
            return Error::config(format!("{text}: {error}"));
        }
        match closed {
            true => error.context(
                "the connection was closed during the handshake; the server or a proxy may not speak RESP3",
            ),
            false => error,
        }
    }

    /// The text without the password; `None` if the text does not contain it.
    fn cut_from(&self, text: &str) -> Option<String> {
        let secret = self.0.as_ref()?.reveal();
        let escaped = [
            secret.to_owned(),
            secret.escape_debug().to_string(),
            secret.escape_default().to_string(),
        ];
        if !escaped.iter().any(|form| text.contains(form)) {
            return None;
        }
        if secret.len() < SHORT {
            return Some("the server's text contains the password and is omitted".to_owned());
        }
        let cut = |text: String, form: &String| text.replace(form.as_str(), CUT);
        Some(escaped.iter().fold(text.to_owned(), cut))
    }
}

/// The state of a server, as its answer shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The server is the right one.
    Here,
    /// Another server is the right one: this one is a replica, or takes no writes.
    Elsewhere,
    /// The server is loading its data.
    Loading,
}

impl Word {
    pub(crate) fn of(error: &RedisError) -> Self {
        match kind_of(error) {
            ErrorKind::ReadOnly => Word::Elsewhere,
            ErrorKind::Loading => Word::Loading,
            _ if error.kind() == redis::ErrorKind::Server(ServerErrorKind::MasterDown) => {
                Word::Elsewhere
            }
            _ => Word::Here,
        }
    }
}

pub(crate) fn timed_out(deadline: Duration) -> Error {
    let text = match deadline.is_zero() {
        true => "earlier commands of the operation took all of its time".to_owned(),
        false => format!("no answer within {deadline:?}"),
    };
    Error::new(ErrorKind::Timeout, text)
}

/// The error for an answer of a type that the command is not documented to have.
pub(crate) fn unexpected_answer() -> Error {
    Error::new(
        ErrorKind::Server,
        "the server's answer does not have the type that the command documents",
    )
}

pub(crate) fn kind_of(error: &RedisError) -> ErrorKind {
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => ErrorKind::Auth,
        redis::ErrorKind::InvalidClientConfig | redis::ErrorKind::RESP3NotSupported => {
            ErrorKind::Config
        }
        _ if is_wrong_setting(error) => ErrorKind::Config,
        _ if is_denied_in_script(error) || is_denied_database(error) => ErrorKind::Auth,
        _ if is_too_large(error) => ErrorKind::TooLarge,
        redis::ErrorKind::Io if is_tls(error) => ErrorKind::Tls,
        redis::ErrorKind::Io
        | redis::ErrorKind::ClusterConnectionNotFound
        | redis::ErrorKind::Parse => ErrorKind::Connection,
        // The client's own errors: there was no answer, or its parts do not fit together.
        redis::ErrorKind::Client | redis::ErrorKind::UnexpectedReturnType => ErrorKind::Unavailable,
        redis::ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading => ErrorKind::Loading,
            ServerErrorKind::ReadOnly => ErrorKind::ReadOnly,
            ServerErrorKind::NoPerm => ErrorKind::Auth,
            ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask => ErrorKind::Unavailable,
            _ => ErrorKind::Server,
        },
        _ => match error.code() {
            Some("OOM") => ErrorKind::OutOfMemory,
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => ErrorKind::Auth,
            Some("MISCONF" | "NOREPLICAS") => ErrorKind::ReadOnly,
            Some("BUSY") => ErrorKind::Unavailable,
            _ => ErrorKind::Server,
        },
    }
}

/// Whether the server rejects a setting that can't be right for it. It has no code for this.
fn is_wrong_setting(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    said.contains("DB index is out of range") || said.contains("cluster support disabled")
}

/// Whether a script runs a command that the user may not run. A server answers this with the code
/// `ERR`, and Redis 7.0 does not name the command.
fn is_denied_in_script(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    said.contains("ACL failure in script") || said.contains("user executing the script can't")
}

/// Whether the user may not select the database. The client reports this with the server's text and
/// without its code.
fn is_denied_database(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    said.contains("has no permissions to run the 'select'")
}

/// Whether an argument exceeds `proto-max-bulk-len`. The server also closes the connection.
fn is_too_large(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    said.contains("invalid bulk length")
}

/// Whether a server rejects the handshake as unknown. The texts differ between servers and proxies,
/// but all of them name the command or the protocol.
fn is_without_resp3(error: &RedisError) -> bool {
    if error.kind() == redis::ErrorKind::RESP3NotSupported || error.code() == Some("NOPROTO") {
        return true;
    }
    let said = error.detail().unwrap_or_default().to_ascii_lowercase();
    error.code().is_some() && kind_of(error) == ErrorKind::Server && said.contains("hello")
}

/// Whether the failure is the TLS library's, whose error is inside an I/O error.
#[cfg(feature = "tls")]
fn is_tls(error: &RedisError) -> bool {
    // The source is the client's shared pointer, and not the error inside it.
    let shared = error
        .source()
        .and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let io = shared.and_then(|shared| shared.downcast_ref::<io::Error>());
    io.and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(not(feature = "tls"))]
fn is_tls(_: &RedisError) -> bool {
    false
}

fn without_arguments(text: &str) -> Option<&str> {
    text.find("with args beginning")
        .map(|at| text[..at].trim_end_matches([' ', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(500);

    fn said(code: &str, detail: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
    }

    fn answered(code: &str, detail: &str) -> Error {
        Words::default().of(said(code, detail), DEADLINE)
    }

    fn with_password(password: &str) -> Words {
        Words::without(Some(Secret::new(password.to_owned())))
    }

    /// All text that an error shows.
    fn all_of(error: &Error) -> String {
        format!("{error} {error:?}")
    }

    #[test]
    fn codes_have_kinds() {
        for (code, kind) in [
            ("OOM", ErrorKind::OutOfMemory),
            ("NOAUTH", ErrorKind::Auth),
            ("WRONGPASS", ErrorKind::Auth),
            ("MISCONF", ErrorKind::ReadOnly),
            ("NOREPLICAS", ErrorKind::ReadOnly),
            ("BUSY", ErrorKind::Unavailable),
            ("WRONGTYPE", ErrorKind::Server),
        ] {
            assert_eq!(answered(code, "…").kind(), kind, "{code}");
        }
    }

    /// The error in a server's line, by the client's parser.
    fn parsed(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        value.unwrap().extract_error().unwrap_err()
    }

    #[test]
    fn some_answers_say_that_another_server_is_to_be_asked() {
        for (line, word) in [
            (
                "READONLY You can't write against a read only replica.",
                Word::Elsewhere,
            ),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                Word::Elsewhere,
            ),
            ("MISCONF Errors writing to the AOF file", Word::Elsewhere),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Word::Elsewhere,
            ),
            (
                "LOADING server is loading the dataset in memory",
                Word::Loading,
            ),
            ("OOM command not allowed", Word::Here),
            ("NOSCRIPT No matching script.", Word::Here),
            ("WRONGTYPE Operation against a key", Word::Here),
            ("CLUSTERDOWN The cluster is down", Word::Here),
        ] {
            assert_eq!(Word::of(&parsed(line)), word, "{line}");
        }
    }

    #[test]
    fn errors_of_the_client_itself_are_transient() {
        for kind in [
            redis::ErrorKind::Client,
            redis::ErrorKind::UnexpectedReturnType,
        ] {
            let error = RedisError::from((kind, "Mismatch in the number of multi-slot results"));
            let error = Words::default().of(error, DEADLINE);
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.is_transient(), "{error}");
        }
    }

    #[test]
    fn a_server_without_resp3_is_named_as_such() {
        let client = (redis::ErrorKind::RESP3NotSupported, "no HELLO").into();
        for error in [
            client,
            parsed(
                "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'ada' 'hunter2'",
            ),
            parsed("ERR unsupported command 'HELLO'"),
            parsed("NOPROTO unsupported protocol version"),
            parsed("ERR syntax error in HELLO"),
            parsed("ERR invalid request: HELLO 3 AUTH ada hunter2"),
        ] {
            let error = with_password("hunter2").of_handshake(error, DEADLINE);
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(!error.is_transient());
            let all = all_of(&error);
            assert!(all.contains("RESP3") && !all.contains("hunter2"), "{all}");
        }
        for (line, kind) in [
            ("NOAUTH HELLO must be called with", ErrorKind::Auth),
            ("WRONGPASS invalid username-password pair", ErrorKind::Auth),
            (
                "NOPERM no permissions to run the 'hello' command",
                ErrorKind::Auth,
            ),
            ("ERR max number of clients reached", ErrorKind::Server),
            ("LOADING …", ErrorKind::Loading),
        ] {
            let error = Words::default().of_handshake(parsed(line), DEADLINE);
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[test]
    fn a_connection_that_is_closed_in_the_handshake_may_be_one_without_resp3() {
        let handshake = |kind| {
            let error = std::io::Error::from(kind).into();
            Words::default().of_handshake(error, DEADLINE)
        };
        let closed = handshake(std::io::ErrorKind::BrokenPipe);
        assert_eq!(closed.kind(), ErrorKind::Connection);
        assert!(closed.to_string().contains("RESP3"), "{closed}");
        let refused = handshake(std::io::ErrorKind::ConnectionRefused);
        assert!(!refused.to_string().contains("RESP3"), "{refused}");
    }

    #[test]
    fn a_script_that_runs_what_the_user_may_not_is_denied() {
        for said in [
            "ACL failure in script: User app has no permissions to run the 'time' command script: a7…, on @user_script:95.",
            "The user executing the script can't run this command or subcommand script: a7…, on @user_script:95.",
            "The user executing the script can't access at least one of the keys mentioned in the command arguments",
        ] {
            let error = answered("ERR", said);
            assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        let denied = "User app has no permissions to run the 'mget' command";
        assert_eq!(answered("NOPERM", denied).kind(), ErrorKind::Auth);
    }

    #[test]
    fn a_database_that_the_user_may_not_select_is_denied() {
        let said = "User app has no permissions to run the 'select' command";
        let kind = redis::ErrorKind::Server(ServerErrorKind::ResponseError);
        let client = "Redis server refused to switch database";
        let error = RedisError::from((kind, client, said.to_owned()));
        let error = Words::default().of_handshake(error, DEADLINE);
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }

    #[test]
    fn an_argument_that_is_too_long_is_too_large() {
        let error = answered("ERR", "Protocol error: invalid bulk length");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn arguments_are_not_quoted() {
        let error = answered(
            "ERR",
            "unknown command 'SET', with args beginning with: 'user:1' 'hunter2'",
        );
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("unknown command 'SET'"),
            "{error}"
        );
    }

    #[test]
    fn the_password_is_cut_from_whatever_text() {
        for (password, quoted) in [
            ("hunter2", "hunter2"),
            ("hun\"ter\\2", "hun\\\"ter\\\\2"),
            ("hun\"ter\\2", "hun\"ter\\2"),
            ("hünter2", "hünter2"),
            ("2", "2"),
        ] {
            let said = said(
                "ERR",
                &format!("a proxy says: AUTH ada {quoted} and {quoted}"),
            );
            let error = with_password(password).of(said, DEADLINE);
            let all = all_of(&error);
            assert!(!all.contains(quoted), "{password}: {all}");
            assert_eq!(error.kind(), ErrorKind::Server);
        }
        let kept = with_password("hunter2").of(said("ERR", "another text"), DEADLINE);
        assert!(kept.to_string().contains("another text"));
        assert_eq!(kept.server_code(), Some("ERR"));
        let none = with_password("").of(said("ERR", "another text"), DEADLINE);
        assert!(none.to_string().contains("another text"));
    }
}
