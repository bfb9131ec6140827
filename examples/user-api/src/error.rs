//! The errors of handlers, and their responses.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use valkey_runtime::UpdateError;
use valkey_runtime::http::limit_headers;
use valkey_runtime::limit::Decision;

/// The result of a handler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a request failed.
#[derive(Debug)]
pub enum Error {
    /// There is no such row.
    NotFound,
    /// Another user has this e-mail.
    EmailTaken,
    /// The user's organisation does not exist.
    NoSuchOrg,
    /// The body breaks a rule: the field, and the rule.
    Invalid(garde::Report),
    /// The password is wrong, or no user has this e-mail.
    WrongPassword,
    /// A limit was reached.
    TooMany(Decision),
    /// Nothing was written, and the same request may succeed.
    TryAgain,
    /// The database failed.
    Database(sqlx::Error),
    /// The cache was used wrongly: its outages are no errors.
    Cache(valkey_runtime::Error),
}

impl Error {
    /// Whether nothing was written, for sure: a guard then ends at once.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Error::NotFound | Error::EmailTaken | Error::NoSuchOrg)
    }

    fn status(&self) -> StatusCode {
        match self {
            Error::NotFound => StatusCode::NOT_FOUND,
            Error::EmailTaken => StatusCode::CONFLICT,
            Error::NoSuchOrg | Error::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::WrongPassword => StatusCode::UNAUTHORIZED,
            Error::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Error::TryAgain => StatusCode::SERVICE_UNAVAILABLE,
            Error::Database(_) | Error::Cache(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn message(&self) -> String {
        match self {
            Error::NotFound => "there is no such row".into(),
            Error::EmailTaken => "another user has this e-mail".into(),
            Error::NoSuchOrg => "there is no such organisation".into(),
            Error::Invalid(report) => report.to_string().trim_end().into(),
            Error::WrongPassword => "wrong e-mail or password".into(),
            Error::TooMany(_) => "too many requests".into(),
            Error::TryAgain => "nothing was changed; try again".into(),
            // Internal errors are only logged.
            Error::Database(_) | Error::Cache(_) => "something went wrong".into(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match &self {
            Error::Database(error) => tracing::error!(%error, "the database failed"),
            Error::Cache(error) => tracing::error!(%error, "the cache was used wrongly"),
            _ => {}
        }
        let body = Json(json!({ "error": self.message() }));
        let mut response = (self.status(), body).into_response();
        if let Error::TooMany(decision) = &self {
            response.headers_mut().extend(limit_headers([decision]));
        }
        response
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(database) if database.is_unique_violation() => Error::EmailTaken,
            Some(database) if database.is_foreign_key_violation() => Error::NoSuchOrg,
            _ => Error::Database(error),
        }
    }
}

impl From<valkey_runtime::Error> for Error {
    fn from(error: valkey_runtime::Error) -> Self {
        Error::Cache(error)
    }
}

impl From<UpdateError<Error>> for Error {
    fn from(error: UpdateError<Error>) -> Self {
        match error {
            UpdateError::Write(error) => error,
            UpdateError::Refused(error) => Error::Cache(error),
            _ => Error::TryAgain,
        }
    }
}

/// For use after a commit: an invalidation that the cache did not confirm is kept and retried, and
/// is no reason to fail.
pub(crate) fn or_later<T>(invalidated: valkey_runtime::Result<T>) {
    if let Err(error) = invalidated {
        tracing::warn!(%error, "committed; the invalidation is delivered later");
    }
}
