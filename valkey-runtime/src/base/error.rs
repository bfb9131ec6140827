//! Errors, by kind.
//!
//! An error names the operation, the key and the cause, and never holds a password or a
//! payload. The codec's message about a refused value is cut so that it can't quote the value (see
//! [`crate::value::codec`]).

use std::fmt;

use crate::base::invalid::Invalid;

/// The result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a verb failed. Programs decide by its [`kind`](Error::kind).
///
/// ```
/// use valkey_runtime::{ErrorKind, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = Store::builder().url("valkey://user:secret@127.0.0.1:1").require_server();
/// let error = store.connect().await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Connection);
/// assert!(error.is_transient());
/// assert!(!format!("{error} {error:?}").contains("secret"));
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    operation: Option<&'static str>,
    key: Told,
    refused: bool,
    /// Whether the error is about the runtime of the call.
    of_runtime: bool,
    /// The generation of the connection that was closed.
    closed: Option<u64>,
    invalid: Option<Invalid>,
    /// The code of the server's error, such as `WRONGTYPE`.
    server_code: Option<Box<str>>,
}

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server could not be reached, or the connection broke. A write may or may not have been
    /// carried out.
    Connection,
    /// No answer within the deadline. A write may or may not have been carried out.
    Timeout,
    /// The TLS handshake failed: a certificate of another authority, another host's name, or no TLS
    /// on the other side.
    Tls,
    /// Wrong user or password, or no permission for the command or the key.
    Auth,
    /// The server is loading its data set and does not answer yet.
    Loading,
    /// The server is a replica, or does not take writes at the moment.
    ReadOnly,
    /// The server is at its memory limit and refused to store.
    OutOfMemory,
    /// The server, or the part of the cluster that has the key, can't answer at the moment: failing
    /// over, moving the key, busy with a script.
    Unavailable,
    /// Another error from the server.
    Server,
    /// The value can't be encoded.
    Encode,
    /// The value is over the size limit.
    TooLarge,
    /// The value breaks rules of its type: see [`Error::invalid`].
    Invalid,
    /// The entry is not one of this type: it has no envelope, bytes are missing or too many, or the
    /// type refuses it.
    Corrupt,
    /// The configuration, an option or an environment variable is wrong. This includes a server
    /// that does not speak RESP3, and a cluster that announces addresses which can't be reached.
    Config,
    /// The store was [closed](crate::core::store::Store::close).
    Closed,
    /// The entry is intact, and this process can't read it: it has another version, or is encrypted
    /// with another key. Only a type with `#[cached(only_copy)]` has this error. The entry stays.
    Unreadable,
    /// The store is [switched off](crate::core::store::Store::set_enabled), and nothing else could
    /// answer: for a type with `#[cached(only_copy)]`, a change of a value, a counter, or a lock.
    Disabled,
}

impl ErrorKind {
    /// All kinds, in the order in which they are counted.
    pub(crate) const ALL: [ErrorKind; 17] = [
        ErrorKind::Connection,
        ErrorKind::Timeout,
        ErrorKind::Tls,
        ErrorKind::Auth,
        ErrorKind::Loading,
        ErrorKind::ReadOnly,
        ErrorKind::OutOfMemory,
        ErrorKind::Unavailable,
        ErrorKind::Server,
        ErrorKind::Encode,
        ErrorKind::TooLarge,
        ErrorKind::Invalid,
        ErrorKind::Corrupt,
        ErrorKind::Config,
        ErrorKind::Closed,
        ErrorKind::Unreadable,
        ErrorKind::Disabled,
    ];

    /// A stable name for programs: the attribute `error.type` of spans and the label of counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Connection => "connection",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Tls => "tls",
            ErrorKind::Auth => "auth",
            ErrorKind::Loading => "loading",
            ErrorKind::ReadOnly => "read_only",
            ErrorKind::OutOfMemory => "out_of_memory",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Server => "server",
            ErrorKind::Encode => "encode",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Config => "config",
            ErrorKind::Closed => "closed",
            ErrorKind::Unreadable => "unreadable",
            ErrorKind::Disabled => "disabled",
        }
    }
}

/// The name in the text of an error: with spaces.
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::ReadOnly => "read-only",
            ErrorKind::OutOfMemory => "out of memory",
            ErrorKind::TooLarge => "too large",
            kind => kind.as_str(),
        })
    }
}

/// The key of an error, as far as the store shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Returned by [`Error::key`].
    pub(crate) key: Option<Box<str>>,
    /// Shown in the text.
    pub(crate) shown: Option<Box<str>>,
}

/// The longest key in a message, in bytes; a longer one is cut.
const LONGEST_KEY: usize = 256;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            key: Told::default(),
            refused: false,
            of_runtime: false,
            closed: None,
            invalid: None,
            server_code: None,
        }))
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// The runtime of the call can't use a server.
    pub(crate) fn of_runtime(message: impl Into<String>) -> Self {
        let mut error = Self::config(message);
        error.0.of_runtime = true;
        error
    }

    /// Whether the store's configuration is wrong, so that no later call will succeed.
    pub(crate) fn is_lasting(&self) -> bool {
        self.kind() == ErrorKind::Config && !self.0.of_runtime
    }

    /// Whether the server is away for now, and the configuration may be right.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Connection
                | ErrorKind::Timeout
                | ErrorKind::Unavailable
                | ErrorKind::Loading
        )
    }

    /// Names the connection that was closed during this command.
    pub(crate) fn with_closed(mut self, generation: u64) -> Self {
        self.0.closed = Some(generation);
        self
    }

    /// The connection that was closed during this command.
    pub(crate) fn closed_connection(&self) -> Option<u64> {
        self.0.closed
    }

    pub(crate) fn breaking(rules: Invalid) -> Self {
        let mut error = Self::new(ErrorKind::Invalid, rules.to_string());
        error.0.invalid = Some(rules);
        error
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the store was closed")
    }

    pub(crate) fn with_server_code(mut self, code: Option<&str>) -> Self {
        self.0.server_code = code.map(Into::into);
        self
    }

    /// The code of the server's error, if it has one.
    pub(crate) fn server_code(&self) -> Option<&str> {
        self.0.server_code.as_deref()
    }

    /// Adds the operation and the key, as far as the store shows its keys. A value that was set
    /// before, further inside, stays.
    pub(crate) fn at(mut self, operation: &'static str, key: Told) -> Self {
        self.0.operation.get_or_insert(operation);
        if self.0.key == Told::default() {
            self.0.key = key;
        }
        self
    }

    /// Adds the operation, if there is no single key.
    pub(crate) fn during(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Prepends to the message.
    pub(crate) fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// Marks this as the error of a command that was not sent, because of this failure.
    pub(crate) fn refused(mut self) -> Self {
        self.0.refused = true;
        let why = match self.kind() {
            ErrorKind::Auth => {
                "the command was not sent, because the server refused the store's user or password (connecting is retried \
                 with the same ones: allow them again, or open a store with new ones)"
            }
            ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Unavailable => {
                "the command was not sent, because the server did not answer before"
            }
            _ => "the command was not sent, because connecting to the server failed before",
        };
        self.context(why)
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key at which the error happened, as the server has it, for use by programs. A key may be
    /// a secret, such as a session token. So the text of the error, in `Display` and `Debug`, shows
    /// the type and a hash instead. [`KeyTracing`](crate::base::shown_keys::KeyTracing) shows more,
    /// or less.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, ErrorKind, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(prefix = "session")]
    /// struct Session {
    ///     #[cached(key)]
    ///     token: String,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// # store.close().await;
    /// let error = Session::get(&store, "2557123d").await.err().unwrap();
    /// assert!(error.to_string().starts_with("get session#"));
    /// assert!(!format!("{error} {error:?}").contains("2557123d"));
    /// assert_eq!(error.key(), Some("session:2557123d"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key(&self) -> Option<&str> {
        self.0.key.key.as_deref()
    }

    /// The key as it may be shown.
    pub(crate) fn shown_key(&self) -> Option<&str> {
        self.0.key.shown.as_deref()
    }

    /// The verb that failed.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The broken rules of the value, for an error of kind [`Invalid`](ErrorKind::Invalid).
    pub fn invalid(&self) -> Option<&Invalid> {
        self.0.invalid.as_ref()
    }

    /// Whether the command was not sent at all, because the store's
    /// [breaker](crate::protocol::breaker::BreakerState) was open: nothing was carried out. The
    /// kind is that of the failure that opened the breaker.
    pub fn is_refused(&self) -> bool {
        self.0.refused
    }

    /// Whether the same call may succeed later without a change by hand.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Connection
                | ErrorKind::Timeout
                | ErrorKind::Loading
                | ErrorKind::ReadOnly
                | ErrorKind::OutOfMemory
                | ErrorKind::Unavailable
        )
    }
}

/// All answers, or the first error, with the number of errors.
pub(crate) fn all<A>(answers: Vec<Result<A>>) -> Result<Vec<A>> {
    let count = answers.len();
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    let answers: Result<_> = answers.into_iter().collect();
    answers.map_err(|error| match count {
        1 => error,
        _ => error.context(format_args!("{failed} of {count} failed")),
    })
}

/// A key as text for a message: lossy, without control characters, cut.
pub(crate) fn printable(key: &[u8]) -> String {
    let cut = &key[..key.len().min(LONGEST_KEY)];
    let mut text = String::from_utf8_lossy(cut).escape_debug().to_string();
    if cut.len() < key.len() {
        text.push('…');
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            message,
            operation,
            key,
            ..
        } = &*self.0;
        match (operation, &key.shown) {
            (Some(operation), Some(key)) => write!(f, "{operation} {key}: ")?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            _ => {}
        }
        write!(f, "{kind}: {message}")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            message,
            operation,
            key,
            refused,
            of_runtime: _,
            closed: _,
            invalid: _,
            server_code: _,
        } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("message", message)
            .field("operation", operation)
            .field("key", &key.shown)
            .field("refused", refused)
            .finish()
    }
}

/// It has no source: the text names the cause, and a report would print that twice.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(key: &str, shown: &str) -> Told {
        let some = |text: &str| Some(text.into());
        Told {
            key: some(key),
            shown: some(shown),
        }
    }

    #[test]
    fn the_message_names_operation_key_and_kind() {
        let error = Error::new(ErrorKind::Timeout, "no answer within 500ms");
        let error = error.at("get", told("user:42", "user#1f"));
        assert_eq!(
            error.to_string(),
            "get user#1f: timeout: no answer within 500ms"
        );
        assert!(!format!("{error:?}").contains("user:42"), "{error:?}");
        assert_eq!(
            (error.key(), error.shown_key(), error.operation()),
            (Some("user:42"), Some("user#1f"), Some("get"))
        );
        // The innermost operation and key stay.
        let error = error.at("set", told("user:7", "user#2e"));
        assert_eq!(
            (error.key(), error.shown_key(), error.operation()),
            (Some("user:42"), Some("user#1f"), Some("get"))
        );
    }

    #[test]
    fn a_long_or_strange_key_is_cut_and_escaped() {
        assert_eq!(printable(&[b'k'; LONGEST_KEY]), "k".repeat(LONGEST_KEY));
        let cut = "k".repeat(LONGEST_KEY) + "…";
        assert_eq!(printable(&[b'k'; LONGEST_KEY + 1]), cut);
        assert_eq!(printable(b"a\nb\xff"), "a\\nb\u{fffd}");
    }

    #[test]
    fn some_kinds_may_pass_by_themselves() {
        let transient = ErrorKind::ALL.into_iter();
        let transient = transient.filter(|kind| Error::new(*kind, "x").is_transient());
        assert_eq!(
            transient.collect::<Vec<_>>(),
            [
                ErrorKind::Connection,
                ErrorKind::Timeout,
                ErrorKind::Loading,
                ErrorKind::ReadOnly,
                ErrorKind::OutOfMemory,
                ErrorKind::Unavailable,
            ]
        );
    }

    #[test]
    fn several_failures_are_one_error_that_counts_them() {
        let failed = || Err(Error::new(ErrorKind::Timeout, "x"));
        assert_eq!(all(vec![Ok(1), Ok(2)]).unwrap(), [1, 2]);
        let alone = all::<u8>(vec![failed()]).unwrap_err();
        assert_eq!(alone.to_string(), "timeout: x");
        let two = all(vec![Ok(1), failed(), failed()]).unwrap_err();
        assert_eq!(two.to_string(), "timeout: 2 of 3 failed: x");
    }

    #[test]
    fn every_kind_is_counted_once() {
        for (at, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{kind}");
        }
    }
}
