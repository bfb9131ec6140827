//! The settings of TLS.

use std::fmt;

/// The certificates for TLS, as PEM. Without an authority, the system's are used.
#[derive(Clone, Default)]
pub(crate) struct TlsConfig {
    pub(crate) authorities: Option<Vec<u8>>,
    /// Certificate and key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field(
                "authorities",
                &if self.authorities.is_some() {
                    "given"
                } else {
                    "the system's"
                },
            )
            .field("client_certificate", &self.client.is_some())
            .finish()
    }
}
