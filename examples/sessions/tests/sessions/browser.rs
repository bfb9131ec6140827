//! The part of a browser that handles the cookie.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{Request, StatusCode};
use tower::ServiceExt;

/// One visitor: keeps the cookie that it is given.
pub(crate) struct Browser {
    app: Router,
    /// The value of the cookie `id`.
    pub(crate) id: Option<String>,
}

/// The answer to a request.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// The header, whole.
    pub(crate) set_cookie: Option<String>,
}

impl Answer {
    /// The value of this attribute of the cookie; `Some("")` for a flag.
    #[track_caller]
    pub(crate) fn says(&self, attribute: &str) -> Option<&str> {
        let cookie = self.set_cookie.as_deref().expect("a cookie is set");
        cookie.split("; ").skip(1).find_map(|said| {
            let (name, value) = said.split_once('=').unwrap_or((said, ""));
            (name == attribute).then_some(value)
        })
    }

    /// Seconds.
    #[track_caller]
    pub(crate) fn max_age(&self) -> Option<i64> {
        self.says("Max-Age")
            .map(|seconds| seconds.parse().expect("a number"))
    }
}

impl Browser {
    pub(crate) fn new(app: Router) -> Self {
        Self { app, id: None }
    }

    pub(crate) fn with_id(app: Router, id: &str) -> Self {
        let id = Some(id.to_owned());
        Self { app, id }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path).await
    }

    pub(crate) async fn post(&mut self, path: &str) -> Answer {
        self.send("POST", path).await
    }

    async fn send(&mut self, method: &str, path: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(id) = &self.id {
            request = request.header(COOKIE, format!("id={id}"));
        }
        let request = request.body(Body::empty()).expect("a request");
        let Ok(response) = self.app.clone().oneshot(request).await;
        let set_cookie = response.headers().get(SET_COOKIE);
        let set_cookie = set_cookie.map(|value| value.to_str().expect("text").to_owned());
        if let Some(cookie) = &set_cookie {
            let value = cookie
                .split("; ")
                .next()
                .and_then(|pair| pair.strip_prefix("id="));
            let value = value.expect("the cookie is called id");
            self.id = (!value.is_empty()).then(|| value.to_owned());
        }
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await;
        let body = String::from_utf8(body.expect("a body").into()).expect("text");
        Answer {
            status,
            body,
            set_cookie,
        }
    }
}
