//! What the client and the server say of a failure, as an [`Error`] of ours.
//!
//! A server quotes the arguments of a command that it does not know, and an argument may be a value: such text is cut.

#[cfg(feature = "tls")]
use std::{error::Error as _, io, sync::Arc};

use std::time::Duration;

use redis::{RedisError, ServerErrorKind};

use crate::{Error, ErrorKind};

/// Translates an error of the client. `deadline` is what a time-out is told with.
pub(super) fn from_redis(error: RedisError, deadline: Duration) -> Error {
    if error.is_timeout() {
        return timed_out(deadline);
    }
    let kind = kind_of(&error);
    let text = match (error.code(), error.detail()) {
        // As the server said it; the client's own text quotes the code.
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    match without_arguments(&text) {
        Some(cut) => Error::new(kind, cut),
        None => Error::new(kind, text).with_source(error),
    }
}

pub(super) fn timed_out(deadline: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {deadline:?}"))
}

/// A server that answers, but not what the command is documented to answer.
pub(super) fn unexpected_answer() -> Error {
    Error::new(
        ErrorKind::Server,
        "the server answered with another type of value than the command has",
    )
}

fn kind_of(error: &RedisError) -> ErrorKind {
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => ErrorKind::Auth,
        redis::ErrorKind::InvalidClientConfig => ErrorKind::Config,
        _ if is_wrong_setting(error) => ErrorKind::Config,
        redis::ErrorKind::Io if is_tls(error) => ErrorKind::Tls,
        redis::ErrorKind::Io
        | redis::ErrorKind::ClusterConnectionNotFound
        | redis::ErrorKind::Parse => ErrorKind::Connection,
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
            Some("NOAUTH" | "WRONGPASS") => ErrorKind::Auth,
            Some("MISCONF" | "NOREPLICAS") => ErrorKind::ReadOnly,
            Some("BUSY") => ErrorKind::Unavailable,
            _ => ErrorKind::Server,
        },
    }
}

/// What a server says to settings that can't be right for it. It has no code for these.
fn is_wrong_setting(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    said.contains("DB index is out of range") || said.contains("cluster support disabled")
}

/// Whether the failure is the TLS library's: what it says travels inside an I/O error.
#[cfg(feature = "tls")]
fn is_tls(error: &RedisError) -> bool {
    // The client hands out its shared pointer as the source, not what it points to.
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

    fn answered(code: &str, detail: &str) -> Error {
        let error = redis::make_extension_error(code.to_owned(), Some(detail.to_owned()));
        from_redis(error, Duration::from_millis(500))
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
}
