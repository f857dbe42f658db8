//! The broker of a run.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pqc_iiot_mqtt::broker::EmbeddedBroker;

use super::{failed, process};
use crate::args::CrashBrokerArgs;
use crate::error::{CliError, ErrorKind, Result};

/// Which one, and how it is reached.
pub(super) struct Broker {
    kind: Kind,
    url: String,
}

enum Kind {
    /// `rumqttd` in a child: all in memory.
    Embedded { port: u16 },
    /// Mosquitto in a child; it saves to disk only every half an hour.
    Mosquitto { program: PathBuf, configuration: PathBuf },
    /// Somebody else's: it is never killed.
    Foreign,
}

impl Broker {
    /// By what the command line says: `embedded`, `mosquitto` or a URL.
    pub(super) fn choose(name: &str, home: &Path) -> Result<Self> {
        if name != "embedded" && name != "mosquitto" {
            return Ok(Self { kind: Kind::Foreign, url: name.to_owned() });
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| failed("find a port", error))?.port();
        let kind = if name == "embedded" { Kind::Embedded { port } } else { mosquitto(home, port)? };
        Ok(Self { kind, url: format!("mqtt://127.0.0.1:{port}") })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is ours to kill.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self.kind, Kind::Foreign)
    }

    /// What starts it.
    pub(super) fn command(&self) -> Result<Option<Command>> {
        Ok(match &self.kind {
            Kind::Foreign => None,
            Kind::Embedded { port } => {
                let mut command = super::identities::own_command("off")?;
                command.args(["bench", "crash-broker", "--port", &port.to_string()]);
                Some(command)
            }
            Kind::Mosquitto { program, configuration } => {
                let mut command = Command::new(program);
                command.arg("-c").arg(configuration).stderr(Stdio::null());
                Some(command)
            }
        })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Embedded { .. } => f.write_str("embedded"),
            Kind::Mosquitto { .. } => f.write_str("mosquitto"),
            Kind::Foreign => f.write_str(&self.url),
        }
    }
}

fn mosquitto(home: &Path, port: u16) -> Result<Kind> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&places)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|place| place.join("mosquitto"))
        .find(|path| path.is_file());
    let program = program.ok_or_else(|| {
        CliError::new(ErrorKind::Broker, "Mosquitto is not installed")
            .fix("apt-get install mosquitto, or --broker embedded")
    })?;
    let directory = home.join("mosquitto");
    let configuration = home.join("mosquitto.conf");
    // Persistence as the package's own configuration has it, with the default interval. Started as root it would else
    // become another user, who may not write here.
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {}/\n",
        directory.display()
    );
    std::fs::create_dir(&directory)
        .and_then(|()| std::fs::write(&configuration, text))
        .map_err(|error| failed("configure Mosquitto", error))?;
    Ok(Kind::Mosquitto { program, configuration })
}

/// The embedded broker in a process of its own, until it is killed.
pub(crate) fn run(args: &CrashBrokerArgs) -> Result<()> {
    process::end_with_parent();
    EmbeddedBroker::start(Some(args.port)).map_err(|error| {
        CliError::new(ErrorKind::Broker, "the embedded broker does not start").because(error)
    })?;
    loop {
        std::thread::park();
    }
}
