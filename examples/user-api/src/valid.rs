//! A valid JSON body.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use garde::Validate;
use serde::de::DeserializeOwned;

use crate::Error;

/// Extracts a body, and answers 422 with the fields and rules that it breaks.
pub(crate) struct Valid<T>(pub(crate) T);

impl<S: Send + Sync, T> FromRequest<S> for Valid<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Json::<T>::from_request(request, state).await;
        let Json(body) = body.map_err(IntoResponse::into_response)?;
        body.validate()
            .map_err(|report| Error::Invalid(report).into_response())?;
        Ok(Self(body))
    }
}
