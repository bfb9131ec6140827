//! TLS by rustls: the certificates that are trusted and shown.

use crate::backend::tls::TlsConfig;
use redis::{RedisError, RedisResult};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::Arc;

/// The settings of the client library's own connections.
pub(crate) fn certificates(tls: &TlsConfig) -> redis::TlsCertificates {
    // The client library takes the default provider of the process, and panics without one.
    install_provider();
    redis::TlsCertificates {
        client_tls: tls
            .client
            .as_ref()
            .map(|(client_cert, client_key)| redis::ClientTlsConfig {
                client_cert: client_cert.clone(),
                client_key: client_key.clone(),
            }),
        root_cert: tls.authorities.clone(),
    }
}

/// The settings of the store's connections.
pub(crate) fn client_config(tls: &TlsConfig) -> RedisResult<Arc<ClientConfig>> {
    install_provider();
    let builder = ClientConfig::builder().with_root_certificates(roots(tls)?);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
            let chain = chain.map_err(|error| wrong("the client's certificate", error))?;
            let key = PrivateKeyDer::from_pem_slice(key);
            let key = key.map_err(|error| wrong("the client's key", error))?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| wrong("the client's certificate", error))?
        }
    };
    Ok(Arc::new(config))
}

/// The authorities that are given, or else those of the system.
fn roots(tls: &TlsConfig) -> RedisResult<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &tls.authorities {
        Some(given) => {
            for certificate in CertificateDer::pem_slice_iter(given) {
                let certificate = certificate.map_err(|error| wrong("an authority", error))?;
                let added = roots.add(certificate);
                added.map_err(|error| wrong("an authority", error))?;
            }
        }
        None => {
            let mut found = rustls_native_certs::load_native_certs();
            if let Some(error) = found.errors.pop().filter(|_| found.certs.is_empty()) {
                return Err(wrong("the authorities of the system", error));
            }
            roots.add_parsable_certificates(found.certs);
        }
    }
    Ok(roots)
}

fn install_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was quicker.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn wrong(what: &'static str, error: impl fmt::Display) -> RedisError {
    let kind = redis::ErrorKind::InvalidClientConfig;
    (kind, "TLS can't use", format!("{what}: {error}")).into()
}
