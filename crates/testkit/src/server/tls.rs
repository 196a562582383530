//! [`Tls`]: a certificate authority and a server certificate, made for one server.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::Error;

/// A server's certificates: a certificate authority of its own, and under it a server certificate
/// for `localhost` and `127.0.0.1`, and one for a client.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    /// The file with the authority's certificate, PEM.
    pub ca_file: PathBuf,
    /// The file with the server's certificate, PEM.
    pub certificate_file: PathBuf,
    /// The file with the server's private key, PEM.
    pub key_file: PathBuf,
    /// The file with a client's certificate, PEM.
    pub client_certificate_file: PathBuf,
    /// The file with the client's private key, PEM.
    pub client_key_file: PathBuf,
}

impl Tls {
    /// Makes them; the server's is over since the year 2000 if it `has_expired`.
    pub(super) fn make(folder: &Path, has_expired: bool) -> Result<Self, Error> {
        let made = generate(has_expired).map_err(|error| Error::Io {
            what: "making certificates",
            source: std::io::Error::other(error),
        })?;
        let tls = Self {
            ca_file: folder.join("ca.pem"),
            certificate_file: folder.join("server.pem"),
            key_file: folder.join("server.key"),
            client_certificate_file: folder.join("client.pem"),
            client_key_file: folder.join("client.key"),
            ca_pem: made.ca,
        };
        for (file, content) in [
            (&tls.ca_file, &tls.ca_pem),
            (&tls.certificate_file, &made.certificate),
            (&tls.key_file, &made.key),
            (&tls.client_certificate_file, &made.client_certificate),
            (&tls.client_key_file, &made.client_key),
        ] {
            std::fs::write(file, content).map_err(Error::io("writing certificates"))?;
        }
        Ok(tls)
    }
}

struct Pems {
    ca: String,
    certificate: String,
    key: String,
    client_certificate: String,
    client_key: String,
}

fn generate(has_expired: bool) -> Result<Pems, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name
        .push(DnType::CommonName, "redkit test authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server
        .distinguished_name
        .push(DnType::CommonName, "redkit test server");
    if has_expired {
        server.not_before = date_time_ymd(1999, 1, 1);
        server.not_after = date_time_ymd(2000, 1, 1);
    }
    let certificate = server.signed_by(&key, &issuer)?.pem();

    let client_key = KeyPair::generate()?;
    let mut client = CertificateParams::new(Vec::new())?;
    client
        .distinguished_name
        .push(DnType::CommonName, "redkit test client");
    let client_certificate = client.signed_by(&client_key, &issuer)?.pem();
    Ok(Pems {
        ca: ca_pem,
        certificate,
        key: key.serialize_pem(),
        client_certificate,
        client_key: client_key.serialize_pem(),
    })
}
