//! An authority and two identities, made with this command itself, as its user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::failed;
use super::process::Role;
use crate::error::Result;

/// Peer id and data directory of either.
pub(super) const SENDER: &str = "crash-sender";
pub(super) const RECEIVER: &str = "crash-receiver";

/// Where they are.
pub(super) struct Identities {
    home: PathBuf,
    /// Of control topics and of the messages: runs on one broker stay apart.
    prefix: String,
}

/// This executable, deaf to the environment's settings.
pub(super) fn own_command(log: &str) -> Result<Command> {
    let program = std::env::current_exe().map_err(|error| failed("find this command", error))?;
    let mut command = Command::new(program);
    for name in
        ["PQC_IIOT_CONFIG", "CREDENTIALS_DIRECTORY", "PQC_IIOT_DIR", "PQC_IIOT_CA_DIR", "PQC_IIOT_BROKER"]
    {
        command.env_remove(name);
    }
    command.args(["--log", log]);
    Ok(command)
}

impl Identities {
    pub(super) fn create(home: &Path, seed: u64) -> Result<Self> {
        let prefix = format!("pqc-crash-{:x}-{seed:x}", std::process::id());
        let identities = Self { home: home.to_owned(), prefix };
        let topics = format!("{}/#", identities.topic());
        identities.make(&["ca", "init", "--dir", "ca"])?;
        for (id, action) in [(SENDER, "publish"), (RECEIVER, "subscribe")] {
            let (request, grant) = (format!("{id}/request.cbor"), format!("{action}:{topics}"));
            identities.make(&["device", "keygen", "--dir", id])?;
            identities.make(&["ca", "issue", &request, "--dir", "ca", "--grant", &grant])?;
            identities.make(&["device", "install", "--dir", id, "--anchors", "ca/anchors.cbor"])?;
        }
        Ok(identities)
    }

    fn make(&self, line: &[&str]) -> Result<()> {
        let mut command = own_command("error")?;
        let done = command.args(line).current_dir(&self.home).stdin(Stdio::null()).output();
        let what = || format!("run `pqc-iiot {}`", line.join(" "));
        let done = done.map_err(|error| failed(&what(), error))?;
        if done.status.success() {
            return Ok(());
        }
        Err(failed(&what(), String::from_utf8_lossy(&done.stderr)))
    }

    /// The data directory of an identity.
    pub(super) fn directory(&self, id: &str) -> PathBuf {
        self.home.join(id)
    }

    /// The key file of an identity.
    pub(super) fn key_file(&self, id: &str) -> PathBuf {
        self.home.join(format!("{id}.key"))
    }

    fn topic(&self) -> String {
        format!("crash/{}", self.prefix)
    }

    /// What starts the sender or the receiver.
    pub(super) fn command(&self, role: Role, url: &str, messages: u64) -> Result<Command> {
        let (name, id) = match role {
            Role::Receiver => ("crash-receiver", RECEIVER),
            _ => ("crash-sender", SENDER),
        };
        let mut command = own_command("error")?;
        command.args(["bench", name, "--messages", &messages.to_string(), "--topic", &self.topic()]);
        command.args(["--broker", url, "--prefix", &self.prefix, "--dir"]).arg(self.directory(id));
        command.args(["--client-id", &format!("{}-{id}", self.prefix)]);
        Ok(command)
    }
}
