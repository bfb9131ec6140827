//! The application: who you are, and how often you have been here.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_sessions::session::Error;
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};

/// `GET /`, `POST /visit`, `POST /login/{name}` and `POST /logout`.
///
/// The cookie has no date: it lasts as long as the browser runs, and the store decides how long it
/// is valid. With `Expiry::OnInactivity` the date is set when a session is changed, and reads do
/// not move it, neither here nor in the browser. (With `with_always_save` each request saves the
/// session that it has read: of two concurrent requests, one undoes the changes of the other.)
pub fn app(sessions: impl SessionStore + Clone) -> Router {
    let sessions = SessionManagerLayer::new(sessions).with_expiry(Expiry::OnSessionEnd);
    Router::new()
        .route("/", get(show))
        .route("/visit", post(visit))
        .route("/login/{name}", post(login))
        .route("/logout", post(logout))
        .layer(sessions)
}

async fn show(session: Session) -> Result<String, Failed> {
    let name: Option<String> = session.get("name").await?;
    let visits: u32 = session.get("visits").await?.unwrap_or(0);
    let name = name.as_deref().unwrap_or("stranger");
    Ok(format!("Hello, {name}. Visits: {visits}\n"))
}

async fn visit(session: Session) -> Result<String, Failed> {
    let visits: u32 = session.get("visits").await?.unwrap_or(0);
    session.insert("visits", visits + 1).await?;
    show(session).await
}

async fn login(session: Session, Path(name): Path<String>) -> Result<String, Failed> {
    // A new id, so that nobody is logged in under an id that an attacker knows.
    session.cycle_id().await?;
    session.insert("name", name).await?;
    show(session).await
}

async fn logout(session: Session) -> Result<&'static str, Failed> {
    session.flush().await?;
    Ok("Bye.\n")
}

/// The session could not be read or written. The visitor sees only that; the details are logged.
struct Failed(Error);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        eprintln!("error: {}", self.0);
        (StatusCode::SERVICE_UNAVAILABLE, "Try again later.\n").into_response()
    }
}
