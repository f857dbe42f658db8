//! Opens the connection to the broker: TCP, then TLS 1.3 where the URL asks for it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::options::{BrokerUrl, OptionsError, TlsOptions, TransportOptions};
use super::stream::Socket;

/// What a TLS handshake agreed on, in the names of the IANA registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// Protocol version, `TLSv1_3`.
    pub version: String,
    /// Key exchange group, e.g. `X25519MLKEM768`.
    pub group: String,
    /// Cipher suite, e.g. `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

pub(super) struct Dialer {
    url: BrokerUrl,
    allow_plaintext: bool,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    pub(super) fn new(options: &TransportOptions) -> Result<Self, OptionsError> {
        let tls = match (&options.tls, options.url.is_tls()) {
            (Some(tls), true) => {
                let name = tls.server_name.as_deref().unwrap_or(options.url.host()).to_owned();
                let name = ServerName::try_from(name).map_err(|_| {
                    OptionsError::Tls("the server name is neither a DNS name nor an address".into())
                })?;
                Some((TlsConnector::from(Arc::new(client_config(tls)?)), name))
            }
            _ => None,
        };
        Ok(Self { url: options.url.clone(), allow_plaintext: options.allow_plaintext, tls })
    }

    pub(super) async fn dial(&self) -> io::Result<(Box<dyn Socket>, Option<TlsInfo>)> {
        let stream = self.connect().await?;
        // Small packets in both directions: Nagle's algorithm would add a round trip to each.
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else {
            return Ok((Box::new(stream), None));
        };
        let stream = connector.connect(name.clone(), stream).await?;
        let session = stream.get_ref().1;
        let info = TlsInfo {
            version: session.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown").to_owned(),
            group: session
                .negotiated_key_exchange_group()
                .map_or_else(|| "unknown".to_owned(), |group| format!("{:?}", group.name())),
            cipher: session
                .negotiated_cipher_suite()
                .map_or_else(|| "unknown".to_owned(), |suite| format!("{:?}", suite.suite())),
        };
        Ok((Box::new(stream), Some(info)))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the broker's name has no address");
        for address in tokio::net::lookup_host((self.url.host(), self.url.port())).await? {
            if self.tls.is_none() && !self.allow_plaintext && !address.ip().is_loopback() {
                last = plaintext_refused(address);
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn plaintext_refused(address: SocketAddr) -> io::Error {
    let refusal = OptionsError::PlaintextRefused { host: address.ip().to_string() };
    io::Error::new(io::ErrorKind::PermissionDenied, refusal)
}

fn client_config(options: &TlsOptions) -> Result<rustls::ClientConfig, OptionsError> {
    let fail = |error: rustls::Error| OptionsError::Tls(error.to_string());
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    let mut roots = RootCertStore::empty();
    for file in &options.ca_files {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(fail)?;
        }
    }
    if roots.is_empty() {
        return Err(OptionsError::Tls("no CA certificate given".into()));
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(fail)?
        .with_root_certificates(roots);
    let Some(identity) = &options.client_identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(&identity.certificate_file)?;
    let key =
        PrivateKeyDer::from_pem_file(&identity.key_file).map_err(|e| pem_error(&identity.key_file, &e))?;
    builder.with_client_auth_cert(chain, key).map_err(fail)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, OptionsError> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().map_err(|e| pem_error(file, &e))?;
    if certificates.is_empty() {
        return Err(OptionsError::Tls(format!("{}: no certificate in this PEM file", file.display())));
    }
    Ok(certificates)
}

fn pem_error(file: &Path, error: &rustls::pki_types::pem::Error) -> OptionsError {
    OptionsError::Tls(format!("{}: {error}", file.display()))
}
