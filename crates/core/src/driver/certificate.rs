//! What a failed TLS handshake is about, by the words of rustls: who is to do what.

/// The remedy; `None` when the failure is not about certificates.
pub(super) fn remedy(said: &str) -> Option<&'static str> {
    let says = |word: &str| said.contains(word);
    // The server's words, about what we sent or did not send.
    if says("fatal alert") || says("AlertReceived") {
        return Some(if says("CertificateRequired") {
            "the server demands a client certificate: set `tls_client_cert_file` and \
             `tls_client_key_file`"
        } else if says("CertificateExpired") {
            "the client's certificate has expired: renew it (`tls_client_cert_file`)"
        } else {
            "the server may want a client certificate, or another one: check \
             `tls_client_cert_file` and `tls_client_key_file`"
        });
    }
    // Ours, about what the server sent.
    if !says("certificate") && !says("Certificate") {
        return None;
    }
    Some(if says("xpired") {
        "the server's certificate has expired: renew it at the server"
    } else if says("not valid yet") || says("NotValidYet") {
        "the server's certificate is not valid yet: check the clocks of both machines"
    } else if says("for name") || says("ForName") {
        "the certificate is another name's: check `host`, or set `tls_server_name`"
    } else if says("UnknownIssuer") {
        "nobody known here has signed it: check `tls_ca_file`"
    } else {
        "check `tls_ca_file` and `tls_server_name`"
    })
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use rustls::{AlertDescription, CertificateError, Error};

    use super::remedy;

    #[test]
    fn the_remedy_is_for_what_is_wrong() {
        let invalid = |error| Error::InvalidCertificate(error).to_string();
        let alert = |alert| Error::AlertReceived(alert).to_string();
        for (said, expected) in [
            (invalid(CertificateError::Expired), "expired"),
            (invalid(CertificateError::NotValidYet), "clocks"),
            (
                invalid(CertificateError::NotValidForName),
                "`tls_server_name`",
            ),
            (invalid(CertificateError::UnknownIssuer), "`tls_ca_file`"),
            (invalid(CertificateError::Revoked), "`tls_ca_file`"),
            (alert(AlertDescription::CertificateRequired), "demands"),
            (alert(AlertDescription::UnknownCA), "`tls_client_cert_file`"),
            (alert(AlertDescription::CertificateExpired), "renew"),
        ] {
            let remedy = remedy(&said).unwrap_or_default();
            assert!(remedy.contains(expected), "{said}: {remedy}");
        }
        // As fred has it.
        let shown = format!(
            "{:?}",
            Error::AlertReceived(AlertDescription::CertificateRequired)
        );
        assert!(
            remedy(&shown)
                .unwrap_or_default()
                .contains("`tls_client_key_file`")
        );
        assert_eq!(remedy("Connection reset by peer"), None);
    }
}
