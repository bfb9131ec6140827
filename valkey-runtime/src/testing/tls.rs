//! Certificates for one TLS server, new for each server.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// The credentials for a client of a TLS server, and others that the server must refuse. The paths
/// are PEM files, which exist as long as the server.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authority that signed the server's certificate and [`cert`](Self::cert).
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// The private key of [`cert`](Self::cert).
    pub key: PathBuf,
    /// Another authority, which the server does not trust.
    pub foreign_ca: PathBuf,
    /// A client certificate of that other authority.
    pub foreign_cert: PathBuf,
    /// The private key of [`foreign_cert`](Self::foreign_cert).
    pub foreign_key: PathBuf,
    /// The only ACL user; the default user is off.
    pub user: String,
    /// The password of [`user`](Self::user). In a URL it needs no escaping.
    pub password: String,
    pub(crate) server_cert: PathBuf,
    pub(crate) server_key: PathBuf,
}

impl Tls {
    /// Writes the certificates of a server with these `names` into `folder`.
    pub(crate) fn issue(folder: &Path, names: &[&str]) -> Self {
        let ca = authority("valkey_runtime::testing");
        let foreign_ca = authority("valkey_runtime::testing, the other one");
        let (server_cert, server_key) =
            leaf(&ca, names, ExtendedKeyUsagePurpose::ServerAuth).save(folder, "server");
        let (cert, key) =
            leaf(&ca, &["client"], ExtendedKeyUsagePurpose::ClientAuth).save(folder, "client");
        let (foreign_cert, foreign_key) = leaf(
            &foreign_ca,
            &["client"],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
        .save(folder, "foreign-client");
        Self {
            ca: save(folder, "ca.pem", &ca.pem()),
            cert,
            key,
            foreign_ca: save(folder, "foreign-ca.pem", &foreign_ca.pem()),
            foreign_cert,
            foreign_key,
            user: "app".into(),
            password: "correct-horse-battery-staple".into(),
            server_cert,
            server_key,
        }
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, new_key()).expect("an authority can sign itself")
}

/// A certificate and its key, in PEM.
struct Leaf {
    cert: String,
    key: String,
}

fn leaf(authority: &Authority, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Leaf {
    let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
    let mut params = CertificateParams::new(names).expect("the names are host names");
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = new_key();
    let cert = params
        .signed_by(&key, authority)
        .expect("an authority can sign");
    Leaf {
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

impl Leaf {
    fn save(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        (
            save(folder, &format!("{name}.pem"), &self.cert),
            save(folder, &format!("{name}.key"), &self.key),
        )
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

fn save(folder: &Path, name: &str, pem: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, pem).expect("a file can be written in the server's folder");
    path
}
