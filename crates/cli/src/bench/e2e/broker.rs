//! The brokers between the two ends, each outside the process's own runtime.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pqc_iiot_mqtt::broker::EmbeddedBroker;
use pqc_iiot_mqtt::transport::TransportOptions;
use tempfile::TempDir;

use super::super::BenchError;

/// How long Mosquitto may take to accept connections.
const PATIENCE: Duration = Duration::from_secs(5);
/// Debian installs it where an ordinary user's PATH does not lead.
const DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Via {
    /// `rumqttd`, in threads of its own.
    Embedded,
    /// Mosquitto, in a process of its own.
    Mosquitto,
}

impl Via {
    pub(in crate::bench) const ALL: [Self; 2] = [Self::Embedded, Self::Mosquitto];
}

/// A broker that accepts connections on loopback.
pub(in crate::bench) struct Broker {
    address: SocketAddr,
    _process: Option<Mosquitto>,
}

impl Broker {
    /// `None` if it is not installed.
    pub(in crate::bench) fn start(via: Via) -> Result<Option<Self>, BenchError> {
        let failed = |why: &dyn std::fmt::Display| BenchError::EndToEnd {
            what: "a broker does not start",
            why: why.to_string(),
        };
        match via {
            Via::Embedded => {
                let broker = EmbeddedBroker::start(None).map_err(|error| failed(&error))?;
                Ok(Some(Self { address: broker.v5(), _process: None }))
            }
            Via::Mosquitto => {
                let Some(program) = program() else { return Ok(None) };
                let process = Mosquitto::start(&program).map_err(|error| failed(&error))?;
                Ok(Some(Self { address: process.address, _process: Some(process) }))
            }
        }
    }

    /// Every end connects with these: MQTT 5, plain TCP on loopback, the defaults otherwise.
    pub(in crate::bench) fn options(&self, client_id: &str) -> Result<TransportOptions, BenchError> {
        let url = format!("mqtt://{}", self.address).parse();
        let url = url.map_err(|_| BenchError::Setup("a broker's address"))?;
        Ok(TransportOptions::new(url, client_id))
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
    directories.map(|directory| directory.join("mosquitto")).find(|file| file.is_file())
}

/// A child process, killed on drop.
struct Mosquitto {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Mosquitto {
    fn start(program: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let configuration = directory.path().join("mosquitto.conf");
        let port = address.port();
        writeln!(
            File::create(&configuration)?,
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true"
        )?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut mosquitto = Self { child, address, _directory: directory };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(mosquitto);
            }
            if let Some(status) = mosquitto.child.try_wait()? {
                return Err(io::Error::other(format!("Mosquitto ended with {status}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::other("Mosquitto does not accept connections"))
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
