//! TLS by rustls: the platform's authorities or a file of our own, and client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate;
use crate::config::{Address, ConfigError, TlsConfig};
use crate::error::{Fault, FaultKind};

/// Ready to encrypt connections.
pub(super) struct Tls {
    config: TlsConfig,
    current: Mutex<Current>,
    /// The name to check certificates against, when it is not the host's.
    name: Option<ServerName<'static>>,
}

/// What was made of the files.
struct Current {
    connector: TlsConnector,
    /// How the files were of which it was made.
    seen: Stamps,
    /// How files were that could not be used, when the log was last told so.
    warned: Option<Stamps>,
}

/// When each file was changed, and its length; `None` for one that is not there.
type Stamps = Vec<Option<(SystemTime, u64)>>;

impl Tls {
    /// Reads the files that `config` names.
    pub(super) fn new(config: &TlsConfig) -> Result<Self, ConfigError> {
        // Taken before they are read: what changes meanwhile is read again.
        let seen = stamps(config);
        let connector = connector(config)?;
        let name = config
            .server_name
            .clone()
            .map(ServerName::try_from)
            .transpose();
        let name = name.map_err(|_| {
            ConfigError::new(
                "tls_server_name",
                "it is not a name that a certificate can carry",
                "give the host name or IP address in the server's certificate",
            )
        })?;
        Ok(Self {
            config: config.clone(),
            current: Mutex::new(Current {
                connector,
                seen,
                warned: None,
            }),
            name,
        })
    }

    /// What encrypts the next connection. Files that have changed are read again, because certificates are renewed
    /// while connections live on; while the new ones cannot be used (one of a pair is there already), it goes on with
    /// the old ones, and the next connection reads the files again: a right to read that is granted later changes neither
    /// a file's time nor its length.
    pub(super) fn connector(&self) -> TlsConnector {
        let seen = stamps(&self.config);
        let mut current = self.current.lock();
        if current.seen == seen {
            current.warned = None;
        } else {
            match connector(&self.config) {
                Ok(renewed) => {
                    current.connector = renewed;
                    current.seen = seen;
                    current.warned = None;
                }
                Err(error) if current.warned.as_ref() != Some(&seen) => {
                    tracing::warn!(
                        target: "redkit::connection",
                        %error, "TLS files have changed and cannot be used; going on with the old ones"
                    );
                    current.warned = Some(seen);
                }
                Err(_) => {}
            }
        }
        current.connector.clone()
    }

    /// Encrypts a connection.
    #[cfg_attr(
        not(feature = "native"),
        expect(dead_code, reason = "fred encrypts by itself")
    )]
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        address: &Address,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(address.host.clone()).map_err(|error| {
                let message = format!(
                    "`{}` is not a name that a certificate can carry; set `tls_server_name`",
                    address.host
                );
                Fault::new(FaultKind::Tls, message).with_source(error)
            })?,
        };
        let connecting = self.connector().connect(name, stream);
        connecting.await.map_err(|error| {
            let fix = certificate::remedy(&error.to_string())
                .unwrap_or("the port may not speak TLS: write redis:// for a plain connection");
            Fault::new(
                FaultKind::Tls,
                format!("TLS handshake with {address} failed: {error}; {fix}"),
            )
            .with_source(error)
        })
    }
}

/// Makes what encrypts of the files that `config` names. The client's own are looked at first: while they cannot be used, each
/// connection comes here, and the platform's store of authorities is large.
fn connector(config: &TlsConfig) -> Result<TlsConnector, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = match (&config.client_cert_file, &config.client_key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates("tls_client_cert_file", cert)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unreadable("tls_client_key_file", key, &error))?;
            let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
                ConfigError::new(
                    "tls_client_key_file",
                    format!("certificate and key cannot be used together: {error}"),
                    "give the key that belongs to `tls_client_cert_file`",
                )
            })?;
            Some(SingleCertAndKey::from(pair))
        }
        _ => None,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            ConfigError::new(
                "tls",
                error.to_string(),
                "this build of rustls cannot do TLS",
            )
        })?
        .with_root_certificates(roots(config)?);
    let rustls = match own {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(pair)),
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(rustls)))
}

fn stamps(config: &TlsConfig) -> Stamps {
    let files = [
        &config.ca_file,
        &config.client_cert_file,
        &config.client_key_file,
    ];
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let named = files.into_iter().flatten();
    named.map(stamp).collect()
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for certificate in certificates("tls_ca_file", path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unreadable("tls_ca_file", path, &error))?;
            }
        }
        None => {
            // A platform's store holds the odd certificate that rustls does not take.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(ConfigError::new(
            "tls_ca_file",
            "no certificate authority is known",
            "install the platform's CA certificates, or name a PEM file",
        ));
    }
    Ok(roots)
}

fn certificates(
    field: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(field, path, &error))?;
    if all.is_empty() {
        return Err(ConfigError::new(
            field,
            format!("{} holds no certificate", path.display()),
            "name a PEM file with CERTIFICATE blocks",
        ));
    }
    Ok(all)
}

fn unreadable(field: &'static str, path: &Path, error: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::new(
        field,
        format!("{} cannot be read: {error}", path.display()),
        "name a readable PEM file",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The certificate of an authority, as PEM.
    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn files_that_could_not_be_used_are_read_again_though_their_stamps_stay() {
        let name = format!("redkit-tls-{}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        let put = |pem: &[u8], at: SystemTime| {
            std::fs::write(&path, pem).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at).unwrap();
        };
        let at = SystemTime::now();
        let old = authority();
        put(old.as_bytes(), at);
        let config = TlsConfig {
            ca_file: Some(path.clone()),
            ..TlsConfig::default()
        };
        let tls = Tls::new(&config).unwrap();
        let connector = || Arc::clone(tls.connector().config());
        let first = connector();
        assert!(Arc::ptr_eq(&first, &connector()), "nothing has changed");

        let renewed = authority();
        let later = at + std::time::Duration::from_secs(60);
        put(&vec![b'x'; renewed.len()], later);
        let warned = || tls.current.lock().warned.is_some();
        assert!(Arc::ptr_eq(&first, &connector()), "it goes on");
        assert!(warned());
        put(old.as_bytes(), at);
        assert!(Arc::ptr_eq(&first, &connector()), "it is back");
        assert!(!warned(), "the next time is told anew");
        put(&vec![b'x'; renewed.len()], later);
        assert!(Arc::ptr_eq(&first, &connector()), "it goes on");
        put(renewed.as_bytes(), later);
        let second = connector();
        assert!(!Arc::ptr_eq(&first, &second), "the renewed file is used");
        assert!(Arc::ptr_eq(&second, &connector()), "nothing has changed");
        std::fs::remove_file(path).unwrap();
    }
}
