//! Helpers for tests: a Mosquitto child process, and TLS in front of a broker. They panic with a clear message.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// A port on 127.0.0.1 that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port on loopback");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// A Mosquitto on a port of 127.0.0.1 that accepts anonymous clients of MQTT 5 and 3.1.1. Killed on drop.
pub struct Mosquitto {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Mosquitto {
    /// Starts one on a free port; `extra` lines go to its configuration file, after the listener's.
    #[must_use]
    pub fn start(extra: &[&str]) -> Self {
        Self::start_on(free_port(), extra)
    }

    /// Starts one on `port` and waits until it accepts connections.
    #[must_use]
    pub fn start_on(port: u16, extra: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("pqc-iiot-mosquitto-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("cannot create a directory for Mosquitto");
        let configuration = directory.join("mosquitto.conf");
        let mut file = std::fs::File::create(&configuration).expect("cannot write Mosquitto's configuration");
        writeln!(file, "listener {port} 127.0.0.1\nallow_anonymous true\n{}", extra.join("\n"))
            .expect("cannot write Mosquitto's configuration");
        let child = Command::new(program())
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("Mosquitto does not start ({error}): run `cargo xtask test --install`")
            });
        let mut mosquitto = Self { child, port, directory };
        mosquitto.wait_until_listening();
        mosquitto
    }

    /// The listener's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `mqtt://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address())
    }

    /// Kills it at once; nothing it held in memory survives.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_until_listening(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if TcpStream::connect_timeout(&self.address(), Duration::from_millis(200)).is_ok() {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("Mosquitto ended with {status} on port {}", self.port);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("Mosquitto does not accept connections on port {}", self.port);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn program() -> &'static str {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("mosquitto")
}

/// A certificate authority for tests, and PEM files of what it issued.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl TestCa {
    /// A new authority that writes its files into `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a leaf with its issuer's name for a certificate that signed itself.
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("key generation");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("self-signing");
        let ca = Self { issuer, directory: directory.to_owned() };
        std::fs::write(ca.ca_file(), ca.issuer.pem()).expect("cannot write the CA file");
        ca
    }

    /// PEM file of the authority's certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Issues a certificate for `name` (a DNS name or an address); returns the PEM files of certificate and key.
    #[must_use]
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("certificate name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("key generation");
        let certificate = params.signed_by(&key, &self.issuer).expect("signing");
        let files = (self.directory.join(format!("{name}.pem")), self.directory.join(format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem()).expect("cannot write a certificate");
        std::fs::write(&files.1, key.serialize_pem()).expect("cannot write a key");
        files
    }

    fn server_config(&self, client_certificates: bool) -> rustls::ServerConfig {
        let params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let key = KeyPair::generate().expect("key generation");
        let certificate = params.signed_by(&key, &self.issuer).expect("signing");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("protocol versions");
        let builder = if client_certificates {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("CA certificate");
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .expect("client verifier");
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        builder.with_single_cert(vec![certificate.der().clone()], key).expect("server certificate")
    }
}

/// A TLS listener for `localhost` and 127.0.0.1 on a free port that passes everything to `broker`. It runs on the
/// current tokio runtime for as long as that lives. With `client_certificates`, clients must show one that `ca`
/// issued.
pub async fn tls_proxy(ca: &TestCa, broker: SocketAddr, client_certificates: bool) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(ca.server_config(client_certificates)));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("TLS listener");
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (Ok(mut client), Ok(mut upstream)) =
                    (acceptor.accept(client).await, tokio::net::TcpStream::connect(broker).await)
                else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            });
        }
    });
    address
}
