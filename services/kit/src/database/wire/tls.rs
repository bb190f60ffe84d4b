//! TLS to PostgreSQL. `sslmode`, `sslrootcert`, `sslcert` and `sslkey` have the same meaning as in the driver.
//!
//! | `sslmode` | TLS | the server's certificate |
//! |---|---|---|
//! | `disable`, `allow` | no | |
//! | `prefer` | if the server supports it | not checked |
//! | `require` | yes | not checked |
//! | `verify-ca` | yes | must be signed by a known authority |
//! | `verify-full` | yes | must also contain the host name |
//!
//! The known authorities are Mozilla's, and those of `sslrootcert`.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use sqlx::postgres::PgSslMode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::Stream;
use crate::database::login::{Certificate, Login};

/// The stream itself, or TLS over it.
pub(super) async fn secured<S: Stream + 'static>(mut stream: S, login: &Login) -> Result<Box<dyn Stream>, sqlx::Error> {
    let must = match login.options.get_ssl_mode() {
        PgSslMode::Allow | PgSslMode::Disable => return Ok(Box::new(stream)),
        PgSslMode::Prefer => false,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => true,
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match (stream.read_u8().await?, must) {
        (b'S', _) => {}
        (b'N', false) => return Ok(Box::new(stream)),
        (b'N', true) => return Err(sqlx::Error::Tls("server does not support TLS".into())),
        _ => return Err(sqlx::Error::Protocol("the server sent an unexpected answer to the TLS request".to_owned())),
    }
    let config = config(login).await?;
    let name = ServerName::try_from(login.host().to_owned()).map_err(tls)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

async fn config(login: &Login) -> Result<ClientConfig, sqlx::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.map_err(tls)?;
    let config = match login.options.get_ssl_mode() {
        PgSslMode::VerifyFull => config.with_root_certificates(authorities(login).await?),
        mode => {
            let authorities = match mode {
                PgSslMode::VerifyCa => {
                    let known = Arc::new(authorities(login).await?);
                    let verifier = WebPkiServerVerifier::builder_with_provider(known, provider.clone());
                    Some(verifier.build().map_err(tls)?)
                }
                _ => None,
            };
            config.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { authorities, provider }))
        }
    };
    match (&login.certificates, &login.key) {
        (Some(certificates), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&pem(key).await?);
            let key = key.map_err(|error| sqlx::Error::Configuration(format!("sslkey: {error}").into()))?;
            config.with_client_auth_cert(parsed(&pem(certificates).await?)?, key).map_err(tls)
        }
        (None, None) => Ok(config.with_no_client_auth()),
        _ => Err(sqlx::Error::Configuration("user auth key and certs must be given together".into())),
    }
}

async fn authorities(login: &Login) -> Result<RootCertStore, sqlx::Error> {
    let mut known = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(more) = &login.root_certificates {
        for certificate in parsed(&pem(more).await?)? {
            known.add(certificate).map_err(tls)?;
        }
    }
    Ok(known)
}

async fn pem(certificate: &Certificate) -> Result<Vec<u8>, sqlx::Error> {
    match certificate {
        Certificate::File(path) => Ok(tokio::fs::read(path).await?),
        Certificate::Text(text) => Ok(text.clone().into_bytes()),
    }
}

fn parsed(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, sqlx::Error> {
    CertificateDer::pem_slice_iter(pem).map(|certificate| certificate.map_err(tls)).collect()
}

fn tls(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Tls(error.into())
}

/// Checks less of a certificate than `verify-full`: but the server must always prove that it owns it.
#[derive(Debug)]
struct Lenient {
    /// Accepts certificates of known authorities; `None`: any certificate is accepted.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // The host name is not checked.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
